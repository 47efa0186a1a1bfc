//! gRPC: how a status speaks of the callee, how long a call has, and what a refusal looks like.
//!
//! | reason | code |
//! |---|---|
//! | throttled | 8, RESOURCE_EXHAUSTED |
//! | shed, full, open, no_host, blocked | 14, UNAVAILABLE |
//! | expired | 4, DEADLINE_EXCEEDED |
//!
//! A refusal is HTTP 200 and Trailers-Only: the status is in the headers, and there is no body. It asks
//! for a wait in `grpc-retry-pushback-ms` (exact, jittered by up to a tenth; negative when asking again
//! can never help) and, for those who read only that, in `Retry-After`.
//!
//! Of a callee, UNAVAILABLE and RESOURCE_EXHAUSTED speak of overload, DEADLINE_EXCEEDED, INTERNAL,
//! UNKNOWN and DATA_LOSS of a failure; everything else is the client's own affair. UNAVAILABLE is worth
//! another attempt; RESOURCE_EXHAUSTED is if the callee says when. A callee's push-back is obeyed up to
//! [`RETRY_AFTER_MAX`]; a negative or unparsable one forbids another attempt.
//!
//! **Edges.** A layer sees headers alone. A status that comes in the trailers of a body, after an answer
//! has begun, is seen by whoever calls the client: judge there, with [`judge`].
//!
//! ```
//! use seawall::call::Judgement;
//! use seawall::core::call::Repeat;
//! use seawall::http::grpc;
//! use tonic::{Response, Status};
//!
//! /// For `Pipeline::judged_by`.
//! fn by_status<T>(result: &Result<Response<T>, Status>, repeat: Repeat) -> Judgement {
//!     match result {
//!         Ok(response) => grpc::judge(grpc::OK, response.metadata().as_ref(), repeat),
//!         Err(status) => grpc::judge(status.code() as i32, status.metadata().as_ref(), repeat),
//!     }
//! }
//!
//! let mut status = Status::unavailable("restarting");
//! status.metadata_mut().insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
//! assert_eq!(by_status::<()>(&Err(status), Repeat::Safe).repeat, Repeat::Unwanted);
//! ```

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderMap, HeaderName, HeaderValue};
use seawall_core::call::{RETRY_AFTER_MAX, Repeat};
use seawall_core::decision::{Reason, Rejection};
use seawall_core::outcome::Outcome;
use seawall_core::time::Span;

use super::judge::{judged, retry_after};
use crate::call::Judgement;

/// All is well.
pub const OK: i32 = 0;
const UNKNOWN: i32 = 2;
const DEADLINE_EXCEEDED: i32 = 4;
const RESOURCE_EXHAUSTED: i32 = 8;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;
const DATA_LOSS: i32 = 15;

const GRPC: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const PUSH_BACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The units of `grpc-timeout`, finest first, in nanoseconds.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// The most digits of a `grpc-timeout`.
const DIGITS_MAX: usize = 8;

/// Whether this is a gRPC request or answer.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC.as_bytes()))
}

/// What a gRPC callee asks for in `grpc-retry-pushback-ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushBack {
    /// To be left alone for so long.
    After(Span),
    /// No other attempt.
    Never,
}

/// What a gRPC callee asks for; `None` when it does not say.
pub fn push_back(headers: &HeaderMap) -> Option<PushBack> {
    let value = headers.get(PUSH_BACK)?;
    let millis = value.to_str().ok().and_then(|text| text.trim().parse::<i32>().ok());
    Some(match millis.map(u64::try_from) {
        Some(Ok(millis)) => PushBack::After(Span::from_millis(millis).min(RETRY_AFTER_MAX)),
        Some(Err(_)) | None => PushBack::Never,
    })
}

/// How this status speaks of the callee. `headers` are those that it came with, or trailers.
pub fn outcome(code: i32, headers: &HeaderMap) -> Outcome {
    match code {
        RESOURCE_EXHAUSTED | UNAVAILABLE => {
            let retry_after = match push_back(headers) {
                Some(PushBack::After(wait)) => Some(wait),
                Some(PushBack::Never) => None,
                None => retry_after(headers),
            };
            Outcome::Overloaded { retry_after }
        }
        UNKNOWN | DEADLINE_EXCEEDED | INTERNAL | DATA_LOSS => Outcome::Failure,
        _ => Outcome::Success,
    }
}

/// How an attempt went that ended with this status. `repeat` says whether its request may be sent
/// twice.
pub fn judge(code: i32, headers: &HeaderMap, repeat: Repeat) -> Judgement {
    let outcome = outcome(code, headers);
    let worth_it = match (code, outcome) {
        (UNAVAILABLE, _) => true,
        // Without a time to come back at, the next attempt would only be throttled again.
        (RESOURCE_EXHAUSTED, Outcome::Overloaded { retry_after }) => retry_after.is_some(),
        _ => false,
    };
    judged(outcome, headers, worth_it, repeat)
}

/// The status in the headers of an answer without a body; `None` when it comes later.
pub(super) fn code(headers: &HeaderMap) -> Option<i32> {
    let code = headers.get(STATUS)?.to_str().ok().and_then(|text| text.parse().ok());
    Some(code.unwrap_or(UNKNOWN))
}

/// How long the caller waits, by `grpc-timeout`; `None` when it does not say, or not as it should.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use seawall::core::time::Span;
/// use seawall::http::grpc::{timeout, timeout_value};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("grpc-timeout", HeaderValue::from_static("250m"));
/// assert_eq!(timeout(&headers), Some(Span::from_millis(250)));
/// // Pass on what is left of it.
/// assert_eq!(timeout_value(Span::from_millis(200)), "200000u");
/// ```
pub fn timeout(headers: &HeaderMap) -> Option<Span> {
    let (unit, digits) = headers.get(TIMEOUT)?.as_bytes().split_last()?;
    let (_, nanos) = UNITS.into_iter().find(|(name, _)| name == unit)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some(Span::from_nanos(count.saturating_mul(nanos)))
}

/// A `grpc-timeout` of this span, rounded down: nobody shall wait for longer than is left.
pub fn timeout_value(left: Span) -> HeaderValue {
    const COUNT_MAX: u64 = 10_u64.pow(DIGITS_MAX as u32) - 1;
    let nanos = left.as_nanos();
    let fitting = UNITS.into_iter().find(|(_, unit)| nanos / unit <= COUNT_MAX);
    let (name, unit) = fitting.unwrap_or(UNITS[UNITS.len() - 1]);
    let text = format!("{}{}", (nanos / unit).min(COUNT_MAX), char::from(name));
    HeaderValue::try_from(text).expect("digits and a letter")
}

/// Says in the headers of a refusal what it is, and when to ask again. `draw` spreads that.
pub(super) fn say(headers: &mut HeaderMap, rejection: &Rejection, draw: u64) {
    let (code, message) = match rejection.reason {
        Reason::Throttled => (RESOURCE_EXHAUSTED, "quota exceeded"),
        Reason::Shed | Reason::Full => (UNAVAILABLE, "overloaded"),
        Reason::Open | Reason::NoHost | Reason::Blocked => (UNAVAILABLE, "service unavailable"),
        Reason::Expired => (DEADLINE_EXCEEDED, "deadline passed"),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert(STATUS, HeaderValue::from(code));
    headers.insert(MESSAGE, HeaderValue::from_static(message));
    headers.insert(PUSH_BACK, push_back_value(rejection.retry_after, draw));
}

/// A `grpc-retry-pushback-ms` of this span, rounded up, at least 1, and by up to a tenth more, as `draw` says;
/// `-1` for [`Span::MAX`]: asking again can never help.
///
/// ```
/// use seawall::core::time::Span;
/// use seawall::http::grpc::push_back_value;
///
/// assert_eq!(push_back_value(Span::from_micros(1_500), 0), "2");
/// assert_eq!(push_back_value(Span::MAX, 0), "-1");
/// ```
pub fn push_back_value(wait: Span, draw: u64) -> HeaderValue {
    if wait == Span::MAX {
        return HeaderValue::from_static("-1");
    }
    let least = wait.as_nanos().div_ceil(1_000_000).max(1);
    let millis = least + draw % (least / 10 + 1);
    HeaderValue::from(i32::try_from(millis).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests;
