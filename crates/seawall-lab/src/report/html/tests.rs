use super::*;
use crate::Contender;
use crate::experiment::{self, Seeds};
use crate::explain::explain;
use crate::gallery::{self, Files};
use crate::map::{Cell, Map};

/// The largest page.
const BYTES_MAX: usize = 300 * 1_000;

fn page(scenario: &crate::scenario::Scenario, spoil: impl Fn(&mut Report)) -> String {
    let contenders: Vec<Contender> = scenario
        .configs
        .iter()
        .map(|name| Contender::named(name, scenario, &Files::Gallery).unwrap())
        .collect();
    let seeds = Seeds { count: 2, first: 1, adds: false };
    let results = experiment::run(scenario, &contenders, seeds, &|| {});
    let why = explain(scenario, &contenders[0], &contenders, 1);
    let cell = |place: usize| Cell { down: place as f64 / 49.0, overloaded: place == 48 };
    let rows: Vec<Vec<Cell>> =
        (0..7).map(|row| (0..7).map(|column| cell(row * 7 + column)).collect()).collect();
    let sizes = vec![0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0];
    let configs = vec![rows; contenders.len()];
    let map = Some(Map { loads: sizes.clone(), triggers: sizes, seeds: 4, configs });
    let mut report = Report::new(scenario.clone(), results, Vec::new(), "seawall lab run".to_owned());
    spoil(&mut report);
    html(&report, &Details { map, why: Some(why) })
}

/// What a browser would fetch, were it not in the page.
fn fetches(page: &str) -> Vec<&'static str> {
    let own = page.replace(uplot(), "");
    let outside = ["src=", "href=", "url(", "@import"].into_iter().filter(|sign| own.contains(sign));
    ["http://", "https://"].into_iter().filter(|sign| page.contains(sign)).chain(outside).collect()
}

#[test]
fn a_page_is_small_and_needs_nothing_else() {
    let storm = gallery::scenario("retry-amplification-chain").unwrap();
    let page = page(&storm, |_| {});
    assert!(page.len() < BYTES_MAX, "{} bytes", page.len());
    assert_eq!(fetches(&page), [""; 0]);
    let order =
        ["Verdicts", "Assertions", "Goodput", "Load × trigger", "Who calls whom", "One seed", "Assumptions"];
    let places: Vec<usize> =
        order.iter().map(|title| page.find(title).unwrap_or_else(|| panic!("{title}"))).collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn names_and_texts_of_others_are_no_markup() {
    let storm = gallery::scenario("retry-storm").unwrap();
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'";
    let page = page(&storm, |report| {
        report.scenario.name = evil.to_owned();
        report.scenario.about = evil.to_owned();
        report.scenario.services[0].name = evil.to_owned();
        report.scenario.clients[0].name = evil.to_owned();
        report.results.configs[0].name = evil.to_owned();
        report.results.links[0].0 = evil.to_owned();
        report.checks[0].text = evil.to_owned();
        report.replay = evil.to_owned();
        report.assumptions = vec![evil.to_owned()];
    });
    assert!(!page.contains("<img") && !page.contains("<script>alert"));
    assert_eq!(page.matches("<script").count(), 3);
    assert_eq!(page.matches("</script").count(), 3);
}

#[test]
fn the_page_of_the_biggest_scenario_is_small_too() {
    use std::fmt::Write as _;
    let mut text = "[scenario]\nname = \"big\"\nduration = \"200s\"\nwarmup = \"1s\"\n".to_owned();
    for place in 0..60 {
        let name = format!("a-service-with-quite-a-long-name-so-that-it-takes-room-{place:03}");
        _ = write!(text, "[[service]]\nname = \"{name}\"\nworkers = 2\ntime = \"10ms\"\n");
        _ = write!(
            text,
            "[[clients]]\nname = \"clients-of-{place:03}\"\nrate = \"1/s\"\ncalls = \"{name}\"\n"
        );
        _ = write!(text, "[[assert]]\nthat = \"goodput.clients-of-{place:03}.after >= 0\"\n");
    }
    text += "[[event]]\nat = \"100s\"\nfor = \"5s\"\nsurge = { clients = \"clients-of-000\", factor = 2 }\n";
    let scenario = crate::scenario::Scenario::from_toml(&text, std::path::Path::new("big.toml")).unwrap();
    let page = page(&scenario, |_| {});
    assert!(page.len() < BYTES_MAX, "{} bytes", page.len());
}

#[test]
fn the_vendored_script_is_the_one_that_was_checked() {
    assert!(UPLOT.starts_with("/*! https://github.com/leeoniya/uPlot (v1.6.32) */"));
}
