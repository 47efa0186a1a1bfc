use std::collections::BTreeSet;

use http_body_util::BodyExt as _;
use seawall_core::decision::Policy;
use seawall_core::measure::bucket::Rate;

use super::*;

fn refusals(families: Families) -> Refusals {
    let hourly = Quota::new(Rate { count: 1, per: Span::from_secs(3_600) }, 100).unwrap();
    let quick = Quota::new(Rate::per_second(50), 100).unwrap();
    let named = |name, quota| NamedQuota::new(name, quota).unwrap();
    Refusals::new(vec![named("user", quick), named("user-2", hourly)], families, 7)
}

fn throttled() -> Rejection {
    let standing = Standing { quota: 1, plan: 0, remaining: 0, reset: Span::from_secs(3_600) };
    let rejection = Rejection::new(Policy::Throttle, Reason::Throttled, standing.reset);
    Rejection { standing: Some(standing), ..rejection }
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("(none)", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_throttled_request_is_told_all_about_its_quota() {
    let families = Families { rate_limit: true, legacy_rate_limit: true, proxy_status: true, envoy: true };
    let response = refusals(families).response(&throttled());
    assert_eq!(response.status(), 429);
    let headers = response.headers().clone();
    let seconds: u64 = field(&headers, "retry-after").parse().unwrap();
    assert!((3_600..=3_960).contains(&seconds));
    assert_eq!(field(&headers, "ratelimit"), format!("\"user-2\";r=0;t={seconds}"));
    assert_eq!(field(&headers, "ratelimit-policy"), "\"user\";q=100;w=2, \"user-2\";q=100;w=360000");
    assert_eq!(field(&headers, "x-ratelimit-limit"), "100");
    assert_eq!(field(&headers, "x-ratelimit-remaining"), "0");
    assert_eq!(field(&headers, "x-ratelimit-reset"), seconds.to_string());
    assert_eq!(field(&headers, "x-seawall-reason"), "throttled");
    assert_eq!(field(&headers, "x-seawall-policy"), "user-2");
    assert_eq!(field(&headers, "proxy-status"), "seawall; error=http_request_denied");
    assert_eq!(field(&headers, "x-envoy-overloaded"), "(none)");
    assert_eq!(field(&headers, "content-type"), "application/problem+json");
    let body = http_body_util::Full::new(response.into_body().take().unwrap());
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!(
        body,
        format!(
            "{{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\
             \"title\":\"Quota exceeded\",\"status\":429,\"reason\":\"throttled\",\"policy\":\"user-2\",\
             \"retry_after\":{seconds},\"violated-policies\":[\"user-2\"]}}\n"
        )
    );
}

#[test]
fn a_name_that_no_field_can_hold_is_refused() {
    let quota = Quota::new(Rate::per_second(50), 100).unwrap();
    let error = |name| NamedQuota::new(name, quota).err().map(|error| error.key);
    for name in ["", "a\"b", "a\\b", "für-alle", "a\nb", "a\tb", "a\u{7f}"] {
        assert_eq!(error(name), Some("name"), "{name:?}");
    }
    for name in ["user", "user-2", "each user, an hour", "~!"] {
        assert_eq!(error(name), None, "{name:?}");
    }
}

#[test]
fn who_stands_worst_with_a_quota_without_a_name_is_told_of_none() {
    let standing = Some(Standing { quota: 2, plan: 0, remaining: 0, reset: Span::from_secs(1) });
    let response = refusals(Families::default()).response(&Rejection { standing, ..throttled() });
    assert_eq!(field(response.headers(), "x-seawall-policy"), "throttle");
    assert_eq!(field(response.headers(), "ratelimit"), "(none)");
    assert_eq!(field(response.headers(), "ratelimit-policy"), "(none)");
}

#[test]
fn every_reason_has_its_status() {
    let refusals = refusals(Families::default());
    let statuses: Vec<(&str, u16)> = Reason::ALL
        .into_iter()
        .map(|reason| {
            let rejection = Rejection::new(Policy::Limit, reason, Span::from_millis(10));
            let response = refusals.response(&rejection);
            assert!(field(response.headers(), "retry-after").parse::<u64>().unwrap() >= 1);
            (reason.name(), response.status().as_u16())
        })
        .collect();
    assert_eq!(
        statuses,
        [
            ("throttled", 429),
            ("shed", 503),
            ("full", 503),
            ("open", 503),
            ("expired", 504),
            ("no_host", 503),
            ("blocked", 503)
        ]
    );
}

#[test]
fn retry_after_is_spread() {
    let refusals = refusals(Families::default());
    let rejection = Rejection::new(Policy::Shed, Reason::Shed, Span::from_secs(30));
    let told: BTreeSet<u64> = (0..100)
        .map(|_| field(refusals.response(&rejection).headers(), "retry-after").parse().unwrap())
        .collect();
    assert_eq!(told, BTreeSet::from([30, 31, 32, 33]));
}

#[test]
fn an_admitted_request_sees_what_is_left_beside_the_origins_own_fields() {
    let mut headers = HeaderMap::new();
    headers.insert("ratelimit", HeaderValue::from_static("\"origin\";r=3;t=9"));
    let standing = Standing { quota: 0, plan: 0, remaining: 41, reset: Span::ZERO };
    refusals(Families::default()).annotate(&mut headers, Some(standing));
    let fields: Vec<_> = headers.get_all("ratelimit").iter().map(|field| field.to_str().unwrap()).collect();
    assert_eq!(fields, ["\"origin\";r=3;t=9", "\"user\";r=41"]);
}

#[test]
fn families_can_be_turned_off() {
    let families =
        Families { rate_limit: false, legacy_rate_limit: false, proxy_status: false, envoy: false };
    let response = refusals(families).response(&throttled());
    let mut names: Vec<_> = response.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "retry-after", "x-seawall-policy", "x-seawall-reason"]);
}

#[test]
fn who_has_a_plan_is_told_of_its_quotas() {
    let quota = |burst: u64| Quota::new(Rate::per_second(1), burst).unwrap();
    let named = |name, burst| NamedQuota::new(name, quota(burst)).unwrap();
    let families = Families { legacy_rate_limit: true, ..Families::default() };
    let refusals = Refusals::new(vec![named("user", 3), named("all", 9)], families, 7)
        .with_plans(vec![vec![quota(60), quota(600)], vec![]]);
    for (plan, burst) in [(0, 3), (1, 60), (2, 600), (3, 3)] {
        let mut headers = HeaderMap::new();
        refusals.annotate(&mut headers, Some(Standing { quota: 0, plan, remaining: 2, reset: Span::ZERO }));
        let policy = format!("\"user\";q={burst};w={burst}, \"all\";q=9;w=9");
        assert_eq!(headers["ratelimit-policy"], policy, "plan {plan}");
        assert_eq!(headers["x-ratelimit-limit"], burst.to_string());
    }
}
