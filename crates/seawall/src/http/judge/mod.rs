//! How a response speaks of the service, and whether its request may be sent again.
//!
//! `Retry-After` is read in both of its forms, seconds and IMF-fixdate, and only on 429 and 503; a
//! date that has passed asks for no wait. `x-envoy-ratelimited` asks for no other attempt. Waits are
//! told at most [`RETRY_AFTER_MAX`] long. gRPC answers with HTTP 200 and says the rest in `grpc-status`,
//! which is here to read when the answer has no body ([`grpc`]).

use std::time::SystemTime;

use ::http::{HeaderMap, HeaderName, StatusCode, header};
use seawall_core::call::{RETRY_AFTER_MAX, Repeat};
use seawall_core::outcome::Outcome;
use seawall_core::time::Span;

use super::grpc::{self, PushBack, push_back};
use crate::call::Judgement;

const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

/// Whether a head says no more than its status. Few say more: one look at each field costs less than to look
/// for each name.
fn is_plain(headers: &HeaderMap) -> bool {
    let says_more = |name: &HeaderName| {
        matches!(name.as_str(), "grpc-status" | "grpc-retry-pushback-ms" | "x-envoy-ratelimited")
    };
    !headers.keys().any(says_more)
}

/// How a response speaks of the service: 5xx is a failure, 503 and 429 say that it is overloaded. A
/// gRPC status in the headers is read likewise.
pub fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            Outcome::Overloaded { retry_after: retry_after(headers) }
        }
        StatusCode::OK if is_plain(headers) => Outcome::Success,
        StatusCode::OK => match grpc::code(headers) {
            Some(code) => grpc::outcome(code, headers),
            None => Outcome::Success,
        },
        status if status.is_server_error() => Outcome::Failure,
        _ => Outcome::Success,
    }
}

/// How an attempt went that this response answered. `repeat` says whether its request may be sent
/// twice; a failure that another attempt would meet again, and a callee that wants no other, forbid
/// it too.
pub fn judge(status: StatusCode, headers: &HeaderMap, repeat: Repeat) -> Judgement {
    if status.is_success() && is_plain(headers) {
        return Judgement { outcome: Outcome::Success, repeat: Repeat::Final };
    }
    let worth_it = match status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => true,
        // Without a time to come back at, the next attempt would only be throttled again.
        StatusCode::TOO_MANY_REQUESTS => headers.contains_key(header::RETRY_AFTER),
        StatusCode::OK => match grpc::code(headers) {
            Some(code) => return grpc::judge(code, headers, repeat),
            None => return judged(Outcome::Success, headers, false, repeat),
        },
        _ => false,
    };
    judged(outcome(status, headers), headers, worth_it, repeat)
}

/// An outcome, and whether another attempt is allowed, worth it and wanted.
pub(super) fn judged(outcome: Outcome, headers: &HeaderMap, worth_it: bool, repeat: Repeat) -> Judgement {
    let unwanted = headers.contains_key(RATE_LIMITED) || push_back(headers) == Some(PushBack::Never);
    let repeat = match () {
        () if unwanted => Repeat::Unwanted,
        () if worth_it => repeat,
        () => Repeat::Final,
    };
    Judgement { outcome, repeat }
}

/// The delay that `Retry-After` asks for, from now.
pub fn retry_after(headers: &HeaderMap) -> Option<Span> {
    retry_after_at(headers, SystemTime::now())
}

/// The delay that `Retry-After` asks for when it is `now` by the clock on the wall.
pub fn retry_after_at(headers: &HeaderMap, now: SystemTime) -> Option<Span> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let asked = if value.bytes().all(|byte| byte.is_ascii_digit()) && !value.is_empty() {
        // More digits than fit are more than the longest wait.
        value.parse().map_or(Span::MAX, Span::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).map_or(Span::ZERO, Span::from)
    };
    Some(asked.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests;
