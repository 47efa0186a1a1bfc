//! Seeds are played side by side; how many threads there are shows nowhere.

use std::path::Path;

use seawall_lab::Contender;
use seawall_lab::experiment::{self, Seeds};
use seawall_lab::gallery::Files;
use seawall_lab::report::Report;
use seawall_lab::scenario::Scenario;

const STORM: &str = r#"
[scenario]
name = "storm"
duration = "40s"
warmup = "5s"
network = "10ms"
[[clients]]
name = "web"
rate = "60/s"
users = 100
calls = "api"
retry = { attempts = 3, per_attempt = "1s" }
[[service]]
name = "api"
replicas = 2
workers = 4
time = { lognormal = { median = "40ms", p99 = "200ms" } }
[[event]]
at = "10s"
for = "2s"
slow = { service = "api", factor = 10.0 }
"#;

/// The report over eight seeds, as JSON, by so many threads.
fn json(threads: usize) -> String {
    let scenario = Scenario::from_toml(STORM, Path::new("storm.toml")).expect("a scenario");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| {
        let contenders = ["naive", "protected"]
            .map(|name| Contender::named(name, &scenario, &Files::Gallery).expect("a contender"));
        let seeds = Seeds { count: 8, first: 1, adds: false };
        let results = experiment::run(&scenario, &contenders, seeds, &|| {});
        Report::new(scenario.clone(), results, Vec::new(), String::new()).json().to_string()
    })
}

#[test]
fn one_thread_and_two_write_the_same_bytes() {
    let one = json(1);
    assert!(one.contains("\"fingerprint\""));
    assert_eq!(one, json(2));
}
