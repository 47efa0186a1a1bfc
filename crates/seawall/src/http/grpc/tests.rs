use ::http::HeaderName;
use http_body::Body as _;
use seawall_core::decision::Policy;

use super::super::body::Held;
use super::super::refusal::{Families, Refusals};
use super::*;

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), value.parse().expect("a value"))
    };
    fields.iter().map(field).collect()
}

#[test]
fn push_back_is_a_wait_or_a_refusal() {
    for (value, expect) in [
        ("0", PushBack::After(Span::ZERO)),
        ("1500", PushBack::After(Span::from_millis(1_500))),
        ("2147483647", PushBack::After(Span::from_secs(300))),
        ("-1", PushBack::Never),
        ("2147483648", PushBack::Never),
        ("soon", PushBack::Never),
        ("", PushBack::Never),
    ] {
        assert_eq!(push_back(&headers(&[("grpc-retry-pushback-ms", value)])), Some(expect), "{value:?}");
    }
    assert_eq!(push_back(&headers(&[])), None);
}

#[test]
fn a_status_says_how_it_went_and_whether_another_attempt_is_worth_it() {
    let overloaded = |millis: Option<u64>| Outcome::Overloaded { retry_after: millis.map(Span::from_millis) };
    for (code, fields, outcome, repeat) in [
        (0, &[][..], Outcome::Success, Repeat::Final),
        (1, &[], Outcome::Success, Repeat::Final),
        (2, &[], Outcome::Failure, Repeat::Final),
        (4, &[], Outcome::Failure, Repeat::Final),
        (5, &[], Outcome::Success, Repeat::Final),
        (8, &[], overloaded(None), Repeat::Final),
        (8, &[("grpc-retry-pushback-ms", "250")], overloaded(Some(250)), Repeat::Safe),
        (8, &[("retry-after", "2")], overloaded(Some(2_000)), Repeat::Safe),
        (13, &[], Outcome::Failure, Repeat::Final),
        (14, &[], overloaded(None), Repeat::Safe),
        (14, &[("grpc-retry-pushback-ms", "-1")], overloaded(None), Repeat::Unwanted),
        (14, &[("grpc-retry-pushback-ms", "x"), ("retry-after", "2")], overloaded(None), Repeat::Unwanted),
        (14, &[("grpc-retry-pushback-ms", "2000000000")], overloaded(Some(300_000)), Repeat::Safe),
        (14, &[("x-envoy-ratelimited", "true")], overloaded(None), Repeat::Unwanted),
        (15, &[], Outcome::Failure, Repeat::Final),
        (99, &[], Outcome::Success, Repeat::Final),
    ] {
        let judgement = judge(code, &headers(fields), Repeat::Safe);
        assert_eq!((judgement.outcome, judgement.repeat), (outcome, repeat), "{code} {fields:?}");
    }
    assert_eq!(judge(14, &headers(&[]), Repeat::Unsafe).repeat, Repeat::Unsafe);
}

#[test]
fn a_timeout_is_read_as_it_is_written() {
    for (value, expect) in [
        ("1H", Some(Span::from_secs(3_600))),
        ("99999999H", Some(Span::MAX)),
        ("2M", Some(Span::from_secs(120))),
        ("3S", Some(Span::from_secs(3))),
        ("4m", Some(Span::from_millis(4))),
        ("5u", Some(Span::from_micros(5))),
        ("0n", Some(Span::ZERO)),
        ("123456789m", None),
        ("S", None),
        ("1s", None),
        ("-1S", None),
        ("1.5S", None),
        ("", None),
    ] {
        assert_eq!(timeout(&headers(&[("grpc-timeout", value)])), expect, "{value:?}");
    }
    assert_eq!(timeout(&headers(&[])), None);
}

#[test]
fn what_is_left_is_passed_on_and_never_more() {
    for (left, expect) in [
        (Span::ZERO, "0n"),
        (Span::from_nanos(99_999_999), "99999999n"),
        (Span::from_nanos(100_000_999), "100000u"),
        (Span::from_secs(99), "99000000u"),
        (Span::from_secs(100), "100000m"),
        (Span::from_secs(200_000), "200000S"),
        (Span::MAX, "5124095H"),
    ] {
        let value = timeout_value(left);
        assert_eq!(value, expect);
        let mut fields = HeaderMap::new();
        fields.insert("grpc-timeout", value);
        assert!(timeout(&fields).is_some_and(|read| read <= left));
    }
}

#[test]
fn a_refusal_is_trailers_only_and_says_when_to_come_back() {
    let refusals = Refusals::new(Vec::new(), Families::default(), 7);
    for (policy, reason, wait, code, least, most) in [
        (Policy::Throttle, Reason::Throttled, Span::from_millis(500), "8", 500, 550),
        (Policy::Throttle, Reason::Throttled, Span::from_micros(1_200), "8", 2, 2),
        (Policy::Throttle, Reason::Throttled, Span::MAX, "8", -1, -1),
        (Policy::Shed, Reason::Shed, Span::from_secs(1), "14", 1_000, 1_100),
        (Policy::Limit, Reason::Full, Span::from_secs(1), "14", 1_000, 1_100),
        (Policy::Breaker, Reason::Open, Span::from_secs(5), "14", 5_000, 5_500),
        (Policy::Balance, Reason::NoHost, Span::from_secs(1), "14", 1_000, 1_100),
        (Policy::Block, Reason::Blocked, Span::from_secs(60_000_000), "14", i32::MAX, i32::MAX),
        (Policy::Deadline, Reason::Expired, Span::ZERO, "4", 1, 1),
    ] {
        let response = refusals.grpc(&Rejection::new(policy, reason, wait));
        let body: Held<http_body_util::Full<bytes::Bytes>, ()> = Held::full(response.body().clone());
        assert!(body.is_end_stream());
        let field = |name: &str| response.headers()[name].to_str().expect("text");
        assert_eq!(response.status(), 200);
        assert_eq!((field("content-type"), field("grpc-status")), ("application/grpc", code));
        assert_eq!((field("x-seawall-reason"), field("x-seawall-policy")), (reason.name(), policy.name()));
        assert!(field("retry-after").parse::<u64>().expect("seconds") >= 1);
        let millis: i32 = field("grpc-retry-pushback-ms").parse().expect("milliseconds");
        assert!((least..=most).contains(&millis), "{reason:?}: {millis}");
        assert!(is_grpc(response.headers()));
    }
}
