//! Quotas over all routes, as the gateway has them.

use std::path::Path;

use seawall_config::Config;
use seawall_lab::Phases;
use seawall_lab::scenario::Scenario;
use seawall_lab::world::{self, Keep, Play};

const TWO: &str = r#"
[scenario]
name = "two"
duration = "60s"
warmup = "5s"

[[clients]]
name = "web"
rate = "40/s"
calls = "a"
[[clients]]
name = "app"
rate = "40/s"
calls = "b"

[[service]]
name = "a"
workers = 8
time = { exponential = "5ms" }
[[service]]
name = "b"
workers = 8
time = { exponential = "5ms" }
"#;

const ROUTES: &str = r#"
[upstream.a]
hosts = ["http://a:80"]
[upstream.b]
hosts = ["http://b:80"]
[route.a]
path = "/a"
upstream = "a"
[route.b]
path = "/b"
upstream = "b"
"#;

#[test]
fn routes_of_one_gateway_share_its_quota() {
    let scenario = Scenario::from_toml(TWO, Path::new("two.toml")).unwrap_or_else(|error| panic!("{error}"));
    let text = format!("throttle = [{{ per = \"gateway\", rate = \"20/s\" }}]\n{ROUTES}");
    let config =
        Config::from_toml(&text, Path::new("seawall.toml")).unwrap_or_else(|error| panic!("{error}"));
    for seed in 1..=3 {
        let phases = Phases::of(&scenario);
        let config = Some(&config);
        let play = Play { scenario: &scenario, config, phases, release: None, keep: Keep::Counts };
        let outcomes = world::run(play, seed);
        let seconds = outcomes.populations.iter().flat_map(|population| &population.seconds);
        let passed: u32 = seconds.map(|counts| counts.ok).sum();
        // A minute's worth and a burst; a bucket that is asked so often is hardly ever full.
        assert!((1_190..=1_220).contains(&passed), "seed {seed}: {passed}");
    }
}
