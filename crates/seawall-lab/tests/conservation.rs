//! Nothing is lost and nothing counted twice: calls, attempts, and what goes over each link.

use std::path::Path;

use seawall_config::Config;
use seawall_lab::scenario::{Phase, Quantity, Scenario};
use seawall_lab::world::{self, Keep, Play};
use seawall_lab::{Contender, Outcomes, Phases, experiment};

/// Callers that retry and give up, services that call, lose replicas and messages.
const STORM: &str = r#"
[scenario]
name = "storm"
duration = "60s"
warmup = "5s"
network = "2ms"

[[clients]]
name = "web"
rate = "200/s"
users = { count = 50, zipf = 1.0 }
calls = "page"
deadline = "1s"
retry = { attempts = 3, per_attempt = "200ms" }

[[service]]
name = "page"
workers = 16
queue = 64
time = { exponential = "10ms" }
script = ["sleep", [{ call = "database", deadline = "300ms", retry = 2 }, "optional ads"]]

[[service]]
name = "database"
replicas = 2
workers = 2
queue = 20
time = { exponential = "15ms" }
death = { above = 20, restart = "5s" }

[[service]]
name = "ads"
workers = 4
time = { exponential = "10ms" }

[[event]]
at = "20s"
for = "10s"
crash = { service = "database", replicas = 1 }

[[event]]
at = "22s"
for = "10s"
loss = { service = "ads", share = "20%" }

[[event]]
at = "25s"
for = "5s"
surge = { clients = "web", factor = 3.0 }
"#;

/// Quotas, a short queue, and something that stands in for answers.
const CONFIG: &str = r#"
[upstream.page]
hosts = ["http://page:80"]
[upstream.database]
hosts = ["http://a:80", "http://b:80"]
[route.page]
path = "/page/*"
upstream = "page"
deadline = "1s"
throttle = [{ per = "user", rate = "10/s", burst = 20 }]
fallback = [{ status = 200, body = "[]" }]
[route.database]
path = "/database/*"
upstream = "database"
deadline = "300ms"
"#;

fn storm() -> Scenario {
    Scenario::from_toml(STORM, Path::new("storm.toml")).unwrap_or_else(|error| panic!("{error}"))
}

fn config() -> Config {
    Config::from_toml(CONFIG, Path::new("seawall.toml")).unwrap_or_else(|error| panic!("{error}"))
}

fn played(config: Option<&Config>, seed: u64) -> Outcomes {
    let scenario = storm();
    let phases = Phases::of(&scenario);
    let play = Play { scenario: &scenario, config, phases, release: None, keep: Keep::Counts };
    world::run(play, seed)
}

#[test]
fn calls_attempts_and_links_are_conserved() {
    let config = config();
    for config in [None, Some(&config)] {
        for seed in 1..=5 {
            let mut outcomes = played(config, seed);
            assert!(outcomes.is_conserved(), "seed {seed}: {:?}", outcomes.attempts);
            assert_eq!(outcomes.edges.len(), 3);
            // The links of clients carry just their calls.
            let made: u32 = outcomes.edges[0].seconds.iter().map(|passed| passed.made).sum();
            assert_eq!(u64::from(made), outcomes.calls());
            // And one that is lost is missed.
            let spoil: [fn(&mut Outcomes); 3] = [
                |outcomes| outcomes.populations[0].seconds[30].offered += 1,
                |outcomes| outcomes.attempts.sent += 1,
                |outcomes| outcomes.edges[1].seconds[30].answered += 1,
            ];
            for spoil in spoil {
                let intact = outcomes.clone();
                spoil(&mut outcomes);
                assert!(!outcomes.is_conserved());
                outcomes = intact;
            }
        }
    }
}

#[test]
fn degraded_answers_are_no_goodput() {
    let config = config();
    let outcomes = played(Some(&config), 1);
    let degraded = outcomes.sum(|counts| counts.degraded);
    assert!(degraded > 100, "{degraded}");
    assert!(outcomes.sum(|counts| counts.throttled) > 100);
    let (served, goodput) = (outcomes.served(5, 60), outcomes.goodput(5, 60));
    let apart = outcomes.rate(None, 5, 60, |counts| counts.degraded);
    assert!((served - goodput - apart).abs() < 1e-9);
}

#[test]
fn the_warm_up_is_not_measured() {
    // All that goes wrong does so in the warm-up: a service that stands still for its first seconds.
    let source = r#"
        [scenario]
        name = "cold"
        duration = "60s"
        warmup = "20s"
        [[clients]]
        name = "web"
        rate = "50/s"
        calls = "api"
        deadline = "2s"
        retry = { attempts = 3, per_attempt = "500ms", backoff = { kind = "none" } }
        [[service]]
        name = "api"
        workers = 8
        time = { exponential = "5ms" }
        [[event]]
        at = "21s"
        for = "1s"
        latency = { service = "api", add = "1us" }
    "#;
    let scenario = Scenario::from_toml(source, Path::new("cold.toml")).unwrap();
    // Only by hand can something happen so early: a file that asks for it is refused.
    let mut early = scenario.clone();
    early.events.push(seawall_lab::scenario::Event {
        at: seawall_core::time::Time::ZERO,
        ends: Some(seawall_core::time::Time::ZERO + seawall_core::time::Span::from_secs(10)),
        what: seawall_lab::scenario::What::Pause { service: 0, replicas: 1 },
    });
    let phases = Phases::of(&scenario);
    let play = Play { scenario: &early, config: None, phases, release: None, keep: Keep::Counts };
    let outcomes = world::run(play, 1);
    let whole = phases.seconds(Phase::Whole);
    assert!(outcomes.tries(0, 10) > 2.0 * outcomes.offered(0, 10));
    assert!(outcomes.tries(whole.0, whole.1) < 1.01 * outcomes.offered(whole.0, whole.1));
    assert!(outcomes.goodput(whole.0, whole.1) > 0.99 * outcomes.offered(whole.0, whole.1));
}

#[test]
fn two_configs_meet_the_same_arrivals() {
    let contenders = [
        Contender { name: "naive".to_owned(), config: None },
        Contender { name: "mine".to_owned(), config: Some(config()) },
    ];
    let seeds = experiment::Seeds { count: 4, first: 1, adds: false };
    let results = experiment::run(&storm(), &contenders, seeds, &|| {});
    let offered =
        |config: &experiment::ConfigResult| config.run.rate(Quantity::Offered, Phase::Whole, None).unwrap();
    assert!((offered(&results.configs[0]) - offered(&results.configs[1])).abs() < 1e-9);
    assert_ne!(results.configs[0].goodput, results.configs[1].goodput);
}
