//! What the metrics say of the policies at work.

use std::thread;

use crate::harness::{Gateway, config, get, origin, origin_saying};

/// A gateway whose upstream has this origin and these lines, and whose one route has these.
fn before(name: &str, origin: &str, upstream: &str, route: &str) -> Gateway {
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{origin}\"]\n{upstream}\n[route.r]\nupstream = \"u\"\n{route}\n"
    );
    Gateway::start(&[&config(name, &file)])
}

fn metrics(gateway: &Gateway) -> String {
    get(&gateway.admin, "/metrics", "").body
}

/// The number that follows this name and these labels.
fn value(metrics: &str, of: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(of)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {of} in {metrics}")).parse().unwrap()
}

#[test]
fn what_a_throttle_in_shadow_would_have_refused_is_counted() {
    let rule = "throttle = [{ rate = \"1/h\" }]\nshadow = [\"throttle\"]";
    let gateway = before("shadowed.toml", &origin(), "", rule);
    assert!((0..5).all(|_| gateway.get("/", "").status == 200));
    let metrics = metrics(&gateway);
    assert_eq!(value(&metrics, "seawall_shadowed_total{route=\"r\",policy=\"throttle\"}"), 4.0);
    assert_eq!(value(&metrics, "seawall_shadowed_total{route=\"r\",policy=\"shed\"}"), 0.0);
    let state: serde_json::Value = serde_json::from_str(&gateway.state()).unwrap();
    let counts = serde_json::json!({ "throttle": 4, "shed": 0, "limit": 0 });
    assert_eq!(state["routes"][0]["shadowed"], counts);
}

#[test]
fn a_breaker_in_shadow_opens_and_lets_pass() {
    let breaker = "breaker = { failure_rate = \"50%\", window = 9, min_calls = 2, open = \"1m\" }\n\
                   eject = false\nshadow = [\"breaker\"]";
    let failing = origin_saying("500 Internal Server Error");
    let gateway = before("shadow-breaker.toml", &failing, breaker, "retry = false");
    assert!((0..6).all(|_| gateway.get("/", "").status == 500), "the upstream's own answer each time");
    let metrics = metrics(&gateway);
    assert_eq!(value(&metrics, "seawall_shadowed_total{upstream=\"u\",policy=\"breaker\"}"), 4.0);
    assert_eq!(
        value(&metrics, &format!("seawall_breaker_state{{upstream=\"u\",host=\"http://{failing}\"}}")),
        2.0
    );
    let state: serde_json::Value = serde_json::from_str(&gateway.state()).unwrap();
    let counts = serde_json::json!({ "breaker": 4, "eject": 0, "retry": 0, "hedge": 0 });
    assert_eq!(state["upstreams"][0]["shadowed"], counts);
}

#[test]
fn retries_in_shadow_are_counted_and_not_made() {
    let failing = origin_saying("503 Service Unavailable");
    for (name, shadow, retries, shadowed) in
        [("shadow-retry.toml", "shadow = [\"retry\"]\n", false, 1.0), ("retry.toml", "", true, 0.0)]
    {
        let upstream = format!("{shadow}budget = \"100%\"\neject = false\nbreaker = false");
        let gateway = before(name, &failing, &upstream, "retry = { attempts = 3 }");
        assert_eq!(gateway.get("/", "").status, 503);
        let metrics = metrics(&gateway);
        assert_eq!(value(&metrics, "seawall_attempts_total{route=\"r\"}") > 1.0, retries, "{name}");
        assert_eq!(
            value(&metrics, "seawall_shadowed_total{upstream=\"u\",policy=\"retry\"}"),
            shadowed,
            "{name}"
        );
    }
}

#[test]
fn an_ejection_in_shadow_leaves_nobody_out() {
    let (well, failing) = (origin(), origin_saying("500 Internal Server Error"));
    for (name, shadow) in [("shadow-eject.toml", "shadow = [\"eject\"]\n"), ("eject.toml", "")] {
        let file = format!(
            "[upstream.u]\nhosts = [\"http://{well}\", \"http://{failing}\"]\nbreaker = false\n{shadow}\
             eject = {{ consecutive = 3, at_most = \"50%\", for = \"1m\" }}\n\
             [route.r]\nupstream = \"u\"\nretry = false\n"
        );
        // Many at a time, and from the beginning as often as it takes: who has failed is hardly chosen again.
        let found = (0..20).find_map(|_| {
            let gateway = Gateway::start(&[&config(name, &file)]);
            let address = gateway.address.as_str();
            let ask = || (0..20).for_each(|_| _ = get(address, "/", ""));
            thread::scope(|scope| (0..16).for_each(|_| _ = scope.spawn(ask)));
            let metrics = metrics(&gateway);
            let is_out =
                value(&metrics, &format!("seawall_ejected{{upstream=\"u\",host=\"http://{failing}\"}}"));
            let usable = value(&metrics, "seawall_hosts_usable{upstream=\"u\"}");
            let shadowed = value(&metrics, "seawall_shadowed_total{upstream=\"u\",policy=\"eject\"}");
            (is_out + shadowed > 0.0).then_some((is_out, usable, shadowed.min(1.0)))
        });
        let expected = if shadow.is_empty() { (1.0, 1.0, 0.0) } else { (0.0, 2.0, 1.0) };
        assert_eq!(found, Some(expected), "{name}");
    }
}

#[test]
fn answers_are_spread_over_classes_of_time() {
    let gateway = before("times.toml", &origin(), "", "");
    (0..5).for_each(|_| _ = gateway.get("/", ""));
    let metrics = metrics(&gateway);
    let name = "seawall_response_seconds";
    let sum = value(&metrics, &format!("{name}_sum{{route=\"r\"}}"));
    assert!(sum > 0.0 && sum < 60.0, "{sum}");
    assert_eq!(value(&metrics, &format!("{name}_count{{route=\"r\"}}")), 5.0);
    let classes = ["0.001", "0.25", "10.0", "+Inf"];
    let counts = classes.map(|most| value(&metrics, &format!("{name}_bucket{{le=\"{most}\",route=\"r\"}}")));
    assert!(counts.is_sorted() && counts[3] == 5.0, "{counts:?}");
}

#[test]
fn fallbacks_are_counted_by_where_they_came_from() {
    let fixed = "fallback = [{ status = 200, body = \"[]\", content_type = \"application/json\" }]";
    let gateway = before("counted-fallback.toml", &origin_saying("503 Service Unavailable"), "", fixed);
    (0..3).for_each(|_| assert_eq!(gateway.get("/", "").status, 200));
    let metrics = metrics(&gateway);
    assert_eq!(value(&metrics, "seawall_fallback_total{route=\"r\",source=\"fixed\"}"), 3.0);
    assert_eq!(value(&metrics, "seawall_fallback_total{route=\"r\",source=\"stale\"}"), 0.0);
    assert_eq!(value(&metrics, "seawall_cache_entries{route=\"r\"}"), 0.0);
}
