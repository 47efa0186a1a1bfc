//! Queues and storms whose figures are known, from scenario files as a user would write them.

use std::path::Path;

use seawall_core::time::Span;
use seawall_lab::scenario::Scenario;
use seawall_lab::world::{self, Keep, Play};
use seawall_lab::{Outcomes, Phases};

fn scenario(source: &str) -> Scenario {
    Scenario::from_toml(source, Path::new("test.toml")).unwrap_or_else(|error| panic!("{error}"))
}

fn play(scenario: &Scenario, seed: u64) -> Outcomes {
    let phases = Phases::of(scenario);
    let play = Play { scenario, config: None, phases, release: None, keep: Keep::Sojourns };
    let outcomes = world::run(play, seed);
    assert!(outcomes.is_conserved(), "{:?}", outcomes.attempts);
    outcomes
}

/// A queue with this many workers, each of which does one piece of work a second.
fn queue(rate: &str, service: &str, seconds: u64) -> Scenario {
    scenario(&format!(
        "[scenario]\nname = \"queue\"\nduration = \"{seconds}s\"\nwarmup = \"1000s\"\n\
         [[clients]]\nname = \"all\"\nrate = \"{rate}\"\ncalls = \"q\"\n\
         [[service]]\nname = \"q\"\n{service}\n"
    ))
}

/// The mean of batch means and its standard error, over twenty batches.
fn batch_mean(samples: &[f64]) -> (f64, f64) {
    let means: Vec<f64> = samples
        .chunks_exact(samples.len() / 20)
        .map(|batch| batch.iter().sum::<f64>() / batch.len() as f64)
        .collect();
    let mean = means.iter().sum::<f64>() / means.len() as f64;
    let variance = means.iter().map(|other| (other - mean).powi(2)).sum::<f64>() / (means.len() - 1) as f64;
    (mean, (variance / means.len() as f64).sqrt())
}

fn sojourns(scenario: &Scenario) -> Vec<f64> {
    play(scenario, 11).sojourns.iter().map(|span| span.as_secs_f64()).skip(10_000).collect()
}

fn assert_within((mean, error): (f64, f64), exact: f64, what: &str) {
    assert!(error / exact <= 0.02, "{what}: the standard error {error} is above 2 % of {exact}");
    assert!((mean - exact).abs() <= 3.0 * error, "{what}: {mean} ± {error}, not {exact}");
}

#[test]
fn mm1_and_mmc_have_the_sojourn_of_theory() {
    // Erlang C: (c, λ a minute, W, calls).
    for (workers, rate, exact, seconds) in
        [(1, "30/m", 2.0, 800_000), (2, "84/m", 1.960_784_31, 800_000), (8, "336/m", 1.112_751_22, 80_000)]
    {
        let service = format!("workers = {workers}\ntime = {{ exponential = \"1s\" }}");
        let samples = sojourns(&queue(rate, &service, seconds.min(86_400)));
        assert_within(batch_mean(&samples), exact, &format!("M/M/{workers} at {rate}"));
    }
}

#[test]
fn the_mean_wait_depends_on_the_spread_of_service_times() {
    // Pollaczek and Khinchine at ρ = .8, W = 1 + ρ (1 + cv²) / (2 (1 − ρ)), in units of 10 ms.
    for (time, exact) in [
        ("{ constant = \"10ms\" }", 3.0),
        ("{ exponential = \"10ms\" }", 5.0),
        ("{ bimodal = { usual = \"5ms\", rare = \"15ms\", share = \"50%\" } }", 3.5),
    ] {
        let samples = sojourns(&queue("80/s", &format!("workers = 1\ntime = {time}"), 12_000));
        let samples: Vec<f64> = samples.iter().map(|seconds| seconds * 100.0).collect();
        assert_within(batch_mean(&samples), exact, time);
    }
}

#[test]
fn a_bounded_queue_blocks_as_theory_says() {
    // (c, K, λ, blocking), K counts those in service, in units of 10 ms.
    for (workers, places, rate, exact) in
        [(1, 5, 100, 0.166_667), (1, 10, 90, 0.050_814), (4, 20, 360, 0.016_805), (4, 4, 380, 0.291_024)]
    {
        let queued = places - workers;
        let service = format!("workers = {workers}\nqueue = {queued}\ntime = {{ exponential = \"10ms\" }}");
        let outcomes = play(&queue(&format!("{rate}/s"), &service, 5_000), 3);
        let blocked = outcomes.sum(|counts| counts.shed) as f64 / outcomes.calls() as f64;
        let what = format!("M/M/{workers}/{places}");
        assert!((blocked - exact).abs() < 0.03 * exact + 0.000_3, "{what}: {blocked}, not {exact}");
    }
}

/// The collapse spike: latency 1 s + 10 ms × concurrency, three attempts of 3 s each.
fn spike(backoff: &str) -> Scenario {
    scenario(&format!(
        "[scenario]\nname = \"spike\"\nduration = \"80s\"\nwarmup = \"10s\"\nnetwork = \"100ms\"\n\
         [[clients]]\nname = \"all\"\nrate = \"40/s\"\ncalls = \"api\"\n\
         retry = {{ attempts = 3, per_attempt = \"3s\", backoff = {backoff} }}\n\
         [[service]]\nname = \"api\"\ntime = {{ constant = \"1s\" }}\nslope = \"10ms/inflight\"\n\
         [[event]]\nat = \"20s\"\nfor = \"5s\"\nsurge = {{ clients = \"all\", factor = 2.0 }}\n"
    ))
}

fn collapses(scenario: &Scenario) -> usize {
    let collapsed = |seed: &u64| {
        let outcomes = play(scenario, *seed);
        outcomes.goodput(50, 79) < outcomes.goodput(10, 20) / 2.0
    };
    (0..20).filter(collapsed).count()
}

#[test]
fn the_collapse_spike_collapses_without_backoff_and_not_with() {
    let without = collapses(&spike("{ kind = \"none\" }"));
    // 15 of 20, 95 %: 53–89 %.
    assert!((11..=18).contains(&without), "{without} of 20 collapse without backoff");
    let with = collapses(&spike("{ kind = \"exponential\", base = \"20s\", cap = \"40s\" }"));
    // 0 of 20, 95 %: 0–16 %.
    assert!(with <= 3, "{with} of 20 collapse with backoff");
}

#[test]
fn the_same_seed_gives_the_same_fingerprint_in_debug_and_release() {
    let scenario = spike("{ kind = \"none\" }");
    let (one, two) = (play(&scenario, 7), play(&scenario, 7));
    assert_eq!(one, two);
    assert_ne!(one.fingerprint, play(&scenario, 8).fingerprint);
    assert_eq!(format!("{:016x}", one.fingerprint), "ed0efa312856eeb7", "pinned");
}

#[test]
fn lognormal_work_has_its_median_and_p99() {
    let scenario = queue("20/s", "time = { lognormal = { median = \"20ms\", p99 = \"120ms\" } }", 12_000);
    let mut samples = play(&scenario, 1).sojourns;
    samples.sort_unstable();
    let at = |share: f64| samples[(samples.len() as f64 * share) as usize];
    assert!((at(0.5).as_secs_f64() / 0.020 - 1.0).abs() < 0.02);
    assert!((at(0.99).as_secs_f64() / 0.120 - 1.0).abs() < 0.05);
    assert!(samples[0] > Span::ZERO);
}
