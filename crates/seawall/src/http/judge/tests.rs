use std::time::{Duration, UNIX_EPOCH};

use ::http::HeaderName;

use super::*;

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), header::HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

fn secs(secs: u64) -> Option<Span> {
    Some(Span::from_secs(secs))
}

#[test]
fn retry_after_is_read_as_seconds_and_as_a_date() {
    // Sun, 06 Nov 1994 08:49:37 GMT.
    let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
    for (value, expect) in [
        ("0", secs(0)),
        ("7", secs(7)),
        (" 7 ", secs(7)),
        ("299", secs(299)),
        ("301", secs(300)),
        ("99999999999999999999999", secs(300)),
        ("Sun, 06 Nov 1994 08:49:42 GMT", secs(5)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", secs(0)),
        ("Sun, 06 Nov 1994 08:00:00 GMT", secs(0)),
        ("Mon, 07 Nov 1994 08:49:37 GMT", secs(300)),
        ("Sunday, 06-Nov-94 08:49:39 GMT", secs(2)),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("soon", None),
    ] {
        assert_eq!(retry_after_at(&headers(&[("retry-after", value)]), now), expect, "{value:?}");
    }
    assert_eq!(retry_after(&headers(&[])), None);
    assert_eq!(retry_after(&headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")])), secs(0));
}

#[test]
fn a_status_says_how_it_went_and_whether_another_attempt_is_worth_it() {
    let overloaded = |retry_after| Outcome::Overloaded { retry_after };
    for (status, fields, outcome, repeat) in [
        (200, &[][..], Outcome::Success, Repeat::Final),
        (404, &[], Outcome::Success, Repeat::Final),
        (500, &[], Outcome::Failure, Repeat::Final),
        (502, &[], Outcome::Failure, Repeat::Safe),
        (503, &[], overloaded(None), Repeat::Safe),
        (503, &[("retry-after", "2")], overloaded(secs(2)), Repeat::Safe),
        (504, &[], Outcome::Failure, Repeat::Safe),
        (429, &[], overloaded(None), Repeat::Final),
        (429, &[("retry-after", "2")], overloaded(secs(2)), Repeat::Safe),
        (503, &[("x-envoy-ratelimited", "true")], overloaded(None), Repeat::Unwanted),
        (429, &[("retry-after", "2"), ("x-envoy-ratelimited", "")], overloaded(secs(2)), Repeat::Unwanted),
    ] {
        let judgement = judge(StatusCode::from_u16(status).unwrap(), &headers(fields), Repeat::Safe);
        assert_eq!((judgement.outcome, judgement.repeat), (outcome, repeat), "{status} {fields:?}");
    }
    // What may not be sent twice may not, whatever the answer.
    let judgement = judge(StatusCode::BAD_GATEWAY, &headers(&[]), Repeat::Unsafe);
    assert_eq!(judgement.repeat, Repeat::Unsafe);
}

#[test]
fn a_grpc_status_in_the_headers_is_read_likewise() {
    let overloaded = |retry_after| Outcome::Overloaded { retry_after };
    for (code, push_back, outcome, repeat) in [
        ("0", None, Outcome::Success, Repeat::Final),
        ("5", None, Outcome::Success, Repeat::Final),
        ("13", None, Outcome::Failure, Repeat::Final),
        ("14", None, overloaded(None), Repeat::Safe),
        ("8", Some("250"), overloaded(Some(Span::from_millis(250))), Repeat::Safe),
        ("14", Some("-1"), overloaded(None), Repeat::Unwanted),
        ("14", Some("x"), overloaded(None), Repeat::Unwanted),
    ] {
        let mut fields = headers(&[("grpc-status", code)]);
        fields
            .extend(push_back.map(|value| headers(&[("grpc-retry-pushback-ms", value)])).unwrap_or_default());
        let judgement = judge(StatusCode::OK, &fields, Repeat::Safe);
        assert_eq!((judgement.outcome, judgement.repeat), (outcome, repeat), "{code} {push_back:?}");
    }
}
