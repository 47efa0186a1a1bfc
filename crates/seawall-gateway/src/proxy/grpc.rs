//! gRPC: answers as its clients expect them, and the time that they give.
//!
//! A refusal is a Trailers-Only answer: HTTP 200 with `grpc-status` in the header. Throttled and too long are
//! RESOURCE_EXHAUSTED, an expired deadline DEADLINE_EXCEEDED, as is a body that does not come; one that breaks
//! off is INTERNAL, a method that no route takes UNIMPLEMENTED, everything else UNAVAILABLE. Where it says when to ask
//! again, it does so in `grpc-retry-pushback-ms`, which is all that gRPC's clients read.
//! `grpc-timeout` bounds the deadline, and each attempt is told what is left of it: of the client's time, which is
//! for the whole call. The route's own deadline ends where an answer begins, so it is not passed on as this.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use seawall::core::rng::mix;
use seawall::core::time::{Span, Time};
use seawall::http::grpc::push_back_value;
use seawall::now;

use super::headers::sought;
use super::reason;

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const PUSH_BACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const GRPC_KIND: &[u8] = b"application/grpc";
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Whether a request, or an answer, is gRPC's.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    sought(headers, &header::CONTENT_TYPE).is_some_and(|kind| is_kind(kind.as_bytes()))
}

/// Whether this is a type of gRPC's own messages, and not of what others have made for browsers.
fn is_kind(kind: &[u8]) -> bool {
    kind.split_at_checked(GRPC_KIND.len()).is_some_and(|(name, format)| {
        name.eq_ignore_ascii_case(GRPC_KIND) && matches!(format.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// The time that the client gives.
pub(super) fn timeout(headers: &HeaderMap) -> Option<Span> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let nanos: u64 = match unit {
        "H" => 3_600_000_000_000,
        "M" => 60_000_000_000,
        "S" => 1_000_000_000,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return None,
    };
    Some(Span::from_nanos(digits.parse::<u64>().ok()?.saturating_mul(nanos)))
}

/// In the extensions of a request: when the time that its client gives is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given(pub(super) Time);

/// Says how much time is left.
pub(super) fn give(headers: &mut HeaderMap, left: Span) {
    let (millis, micros) = (left.as_nanos() / 1_000_000, left.as_nanos() / 1_000);
    let text = match () {
        () if micros < 100_000_000 => format!("{micros}u"),
        () if millis < 100_000_000 => format!("{millis}m"),
        () => format!("{}S", (millis / 1_000).min(99_999_999)),
    };
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(TIMEOUT, value);
    }
}

/// In the extensions of an answer of our own: after how long to ask again, which `Retry-After` says in whole seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait(pub(super) Span);

/// An answer of our own, as gRPC says it; one of the upstream's is left as it is.
pub(super) fn answered<B>(response: Response<B>, empty: impl FnOnce() -> B) -> Response<B> {
    let reason = reason::of(&response).cloned();
    let code = match reason.as_ref().map(HeaderValue::as_bytes) {
        None => return response,
        _ if response.status() == StatusCode::OK => return response,
        Some(b"throttled" | b"too_large") => "8",
        Some(b"expired" | b"slow") => "4",
        Some(b"malformed") => "13",
        Some(b"no_route") => "12",
        Some(_) if response.status() == StatusCode::GATEWAY_TIMEOUT => "4",
        Some(_) => "14",
    };
    let (mut head, _) = response.into_parts();
    head.status = StatusCode::OK;
    if let Some(reason) = reason {
        head.headers.insert(MESSAGE, reason);
    }
    head.headers.insert(header::CONTENT_TYPE, GRPC);
    head.headers.insert(STATUS, HeaderValue::from_static(code));
    if let Some(Wait(wait)) = head.extensions.get() {
        // Who is refused at one time shall not come back at one.
        head.headers.insert(PUSH_BACK, push_back_value(*wait, mix(now().as_nanos())));
    }
    Response::from_parts(head, empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Span> {
        timeout(&HeaderMap::from_iter([(TIMEOUT, text.parse().unwrap())]))
    }

    #[test]
    fn what_is_made_for_browsers_is_not_grpc() {
        for own in ["application/grpc", "Application/gRPC+proto", "application/grpc;charset=utf-8"] {
            assert!(is_kind(own.as_bytes()), "{own}");
        }
        for other in
            ["application/grpc-web", "application/grpc-web+proto", "application/grpcx", "text/plain", ""]
        {
            assert!(!is_kind(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn timeouts_are_read_and_given_on() {
        assert_eq!(read("1S"), Some(Span::from_secs(1)));
        assert_eq!(read("250m"), Some(Span::from_millis(250)));
        assert_eq!(read("99999999H"), Some(Span::from_nanos(u64::MAX)));
        for wrong in ["", "S", "1", "123456789m", "1s", "-1S", "1.5S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        for span in
            [Span::from_millis(1), Span::from_secs(99), Span::from_secs(9_999), Span::from_secs(999_999)]
        {
            let mut headers = HeaderMap::new();
            give(&mut headers, span);
            assert_eq!(timeout(&headers), Some(span));
        }
    }

    #[test]
    fn only_answers_of_our_own_are_translated() {
        let answer = |status: u16, reason: Option<&str>| {
            let mut response = Response::new("body");
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(reason) = reason {
                response.headers_mut().insert(reason::REASON, reason.parse().unwrap());
            }
            let response = answered(response, || "");
            let code = response.headers().get(STATUS).map(|code| code.to_str().unwrap().to_owned());
            (response.status().as_u16(), code)
        };
        assert_eq!(answer(503, None), (503, None));
        assert_eq!(answer(429, Some("throttled")), (200, Some("8".to_owned())));
        assert_eq!(answer(504, Some("expired")), (200, Some("4".to_owned())));
        assert_eq!(answer(404, Some("no_route")), (200, Some("12".to_owned())));
        assert_eq!(answer(503, Some("shed")), (200, Some("14".to_owned())));
        assert_eq!(answer(502, Some("upstream")), (200, Some("14".to_owned())));
    }
}
