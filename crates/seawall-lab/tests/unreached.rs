//! Replicas at which nobody listens.

use std::path::Path;

use seawall_config::Config;
use seawall_lab::Phases;
use seawall_lab::scenario::Scenario;
use seawall_lab::world::{self, Keep, Play};

const TWO_OF_THREE_GONE: &str = r#"
[scenario]
name = "gone"
duration = "60s"
warmup = "5s"

[[clients]]
name = "web"
rate = "5/s"
calls = "api"

[[service]]
name = "api"
replicas = 3
workers = 8
time = "5ms"

[[event]]
at = "10s"
for = "40s"
crash = { service = "api", replicas = 2 }
"#;

const NOTHING_SAVED_FOR_RETRIES: &str = r#"
[upstream.api]
hosts = ["http://a:80", "http://b:80", "http://c:80"]
eject = false
budget = "0%"
[route.api]
path = "/*"
upstream = "api"
"#;

#[test]
fn what_did_not_reach_a_replica_goes_to_another_as_it_does_in_production() {
    let read = |text| Scenario::from_toml(text, Path::new("gone.toml"));
    let scenario = read(TWO_OF_THREE_GONE).unwrap_or_else(|error| panic!("{error}"));
    let config = Config::from_toml(NOTHING_SAVED_FOR_RETRIES, Path::new("seawall.toml"))
        .unwrap_or_else(|error| panic!("{error}"));
    for seed in 1..=3 {
        let (phases, config) = (Phases::of(&scenario), Some(&config));
        let play = Play { scenario: &scenario, config, phases, release: None, keep: Keep::Counts };
        let outcomes = world::run(play, seed);
        let seconds = || outcomes.populations.iter().flat_map(|population| &population.seconds);
        let failed: u32 = seconds().map(|counts| counts.failed + counts.shed + counts.abandoned).sum();
        let ok: u32 = seconds().map(|counts| counts.ok).sum();
        assert!(failed == 0 && ok > 200, "seed {seed}: {failed} of {ok} failed");
    }
}
