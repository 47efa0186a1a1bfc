use std::path::Path;

use expect_test::{Expect, expect};

use super::*;

const MINIMAL: &str = r#"
[scenario]
name = "storm"
duration = "100s"
[[clients]]
name = "web"
rate = "40/s"
calls = "api"
[[service]]
name = "api"
time = { constant = "10ms" }
"#;

fn parse(source: &str) -> Result<Scenario, ConfigError> {
    Scenario::from_toml(source, Path::new("storm.toml"))
}

fn refused(source: &str, expected: Expect) {
    expected.assert_eq(&parse(source).unwrap_err().to_string());
}

#[test]
fn the_defaults_of_a_scenario() {
    let scenario = parse(MINIMAL).unwrap();
    assert_eq!((scenario.seeds, scenario.warmup), (20, Span::from_secs(10)));
    assert_eq!(scenario.configs, ["naive", "protected"]);
    assert_eq!(scenario.trigger(), None);
    assert_eq!(scenario.services[0].model.workers, None);
}

#[test]
fn the_end_leaves_time_to_come_back() {
    let event = "[[event]]\nat = \"20s\"\nfor = \"30s\"\nsurge = { clients = \"web\", factor = 2 }\n";
    let scenario = parse(&format!("{MINIMAL}{event}")).unwrap();
    let at = |second| Time::ZERO + Span::from_secs(second);
    assert_eq!((scenario.trigger(), scenario.end), (Some((at(20), at(50))), at(350)));
}

#[test]
fn an_error_shows_its_place_and_what_to_write() {
    refused(
        &MINIMAL.replace("calls = \"api\"", "calls = \"apo\""),
        expect![[r#"
        error: `calls`: there is no service `apo`
         --> storm.toml:8:9
          |
        8 | calls = "apo"
          |         ^^^^^
          |
          = help: did you mean `api`?"#]],
    );
    refused(
        &format!("{MINIMAL}wokers = 3\n"),
        expect![[r#"
        error: unknown key `wokers`
          --> storm.toml:12:1
           |
        12 | wokers = 3
           | ^^^^^^
           |
           = help: did you mean `workers`?"#]],
    );
    refused(
        &format!("{MINIMAL}[[event]]\nat = \"5s\"\nfor = \"1s\"\npause = {{ service = \"api\" }}\n"),
        expect![[r#"
            error: an event begins before the warm-up of 10s is over
             --> storm.toml:1:1
              |
            1 |
              | ^
              |
              = help: a run is measured before the event, too: let it begin later"#]],
    );
    refused(
        &format!("{MINIMAL}[[assert]]\nthat = \"godput.after > 1\"\n"),
        expect![[r#"
            error: `that`: there is no metric `godput`
              --> storm.toml:13:8
               |
            13 | that = "godput.after > 1"
               |        ^^^^^^^^^^^^^^^^^^
               |
               = help: did you mean `goodput`?"#]],
    );
    refused(
        &format!("{MINIMAL}script = [\"sleep\", \"call api\"]\n"),
        expect![[r#"
        error: the calls of `api` come back to it
         --> storm.toml:1:1
          |
        1 |
          | ^
          |
          = help: a call graph has no circles"#]],
    );
}

#[test]
fn calls_come_evenly_where_that_is_said() {
    let spaced = |spacing: &str, of: &str| MINIMAL.replace(of, &format!("{of}\nspacing = \"{spacing}\""));
    let even = parse(&spaced("even", "rate = \"40/s\"")).unwrap();
    assert_eq!(even.clients[0].arrivals, Arrivals::Even(40.0));
    refused(
        &spaced("evn", "rate = \"40/s\""),
        expect![[r#"
            error: `spacing`: the text `evn` is not `poisson` or `even`
             --> storm.toml:8:11
              |
            8 | spacing = "evn"
              |           ^^^^^
              |
              = help: did you mean `even`?"#]],
    );
}

#[test]
fn assertions_compare_sums_of_metrics() {
    let check = |text: &str| {
        let scenario = parse(&format!("{MINIMAL}[[assert]]\nthat = \"{text}\"\n")).unwrap();
        let measured = |metric: &Metric| match (metric.quantity, metric.config.as_deref()) {
            (Quantity::Goodput, None) => Some(40.0),
            (Quantity::P99, Some("naive")) => Some(0.25),
            _ => None,
        };
        scenario.assertions[0].check(&measured).0
    };
    for holds in [
        "goodput.after >= 0.95 * goodput.before",
        "goodput.web.during == 40/s",
        "(goodput.after + 10) / 2 > 24.9",
        "naive.p99.whole <= 250ms",
        "80% < 1 - 0.1",
    ] {
        assert!(check(holds), "{holds}");
    }
    // What has no data does not hold, whichever way it is compared.
    for fails in ["goodput.after < 40", "recovery.p95 < 60", "recovery.p95 >= 0", "goodput.after / 0 > 1"] {
        assert!(!check(fails), "{fails}");
    }
}

#[test]
fn a_window_is_a_part_of_the_time_with_a_name() {
    let window = |name: &str, from: &str, to: &str| {
        format!("{MINIMAL}[[window]]\nname = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\n")
    };
    let asserted = "[[assert]]\nthat = \"dip.settled >= 0.8 * goodput.web.settled\"\n";
    let scenario = parse(&format!("{}{asserted}", window("settled", "30s", "60s"))).unwrap();
    assert_eq!(scenario.windows, [Window { name: "settled".to_owned(), from: 30, to: 60 }]);
    assert!(scenario.asks_for(Quantity::Dip) && !scenario.asks_for(Quantity::Limit));
    for (name, from, to) in
        [("during", "30s", "60s"), ("a", "60s", "60s"), ("a", "5s", "60s"), ("a", "30500ms", "60s")]
    {
        assert!(parse(&window(name, from, to)).is_err(), "{name} {from} {to}");
    }
}
