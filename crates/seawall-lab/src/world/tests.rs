use super::*;
use crate::service::Work;
use seawall_core::retry::backoff::{Backoff, Kind};

/// A queue with this many servers at a service rate of one a second, without a trigger.
fn markov(rate: f64, servers: usize, queue: usize, calls: f64) -> Play {
    Play {
        rate,
        users: 1_000,
        call: CallConfig { attempts: 1, per_attempt: None, backoff: Backoff::NONE },
        deadline: Span::MAX,
        network: Span::ZERO,
        service: ServiceConfig {
            workers: servers,
            queue,
            time: Work::Exponential(Span::from_secs(1)),
            slope: Span::ZERO,
        },
        surge: None,
        protection: Protection::default(),
        end: Time::ZERO + Span::from_secs_f64(calls / rate),
    }
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

fn sojourns(play: &Play) -> Vec<f64> {
    let outcomes = run_with_sojourns(play, 11);
    assert!(outcomes.is_conserved());
    outcomes.sojourns.iter().map(|span| span.as_secs_f64()).skip(10_000).collect()
}

fn assert_within(got: (f64, f64), exact: f64, what: &str) {
    let (mean, error) = got;
    assert!(error / exact <= 0.01, "{what}: the standard error {error} is above 1 % of {exact}");
    assert!((mean - exact).abs() <= 3.0 * error, "{what}: {mean} ± {error}, not {exact}");
}

fn percentile(samples: &mut [f64], p: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[(samples.len() as f64 * p) as usize]
}

#[test]
fn mm1_has_the_sojourn_of_theory() {
    for (rho, calls) in [(0.5, 600_000.0), (0.8, 3_000_000.0)] {
        let mut samples = sojourns(&markov(rho, 1, usize::MAX, calls));
        assert_within(batch_mean(&samples), 1.0 / (1.0 - rho), &format!("M/M/1 {rho}"));
        // P(T > t) = e^(-(1-ρ)t)
        let p50 = percentile(&mut samples, 0.5) * (1.0 - rho) / std::f64::consts::LN_2;
        assert!((p50 - 1.0).abs() < 0.03, "median at {rho}: {p50} of theory");
    }
}

#[test]
fn mmc_has_the_sojourn_of_erlang_c() {
    // Rows of the closed forms: (c, λ, W).
    for (servers, rate, exact, calls) in [
        (2, 1.4, 1.960_784_31, 1_500_000.0),
        (8, 5.6, 1.112_751_22, 600_000.0),
        (16, 11.2, 1.027_015_79, 400_000.0),
    ] {
        let samples = sojourns(&markov(rate, servers, usize::MAX, calls));
        assert_within(batch_mean(&samples), exact, &format!("M/M/{servers} at {rate}"));
    }
}

#[test]
fn a_bounded_queue_blocks_as_theory_says() {
    // (c, K, λ, blocking), K counts those in service.
    for (servers, places, rate, exact) in
        [(1, 5, 1.0, 0.166_667), (1, 10, 0.9, 0.050_814), (4, 20, 3.6, 0.016_805), (4, 4, 3.8, 0.291_024)]
    {
        let play = markov(rate, servers, places - servers, 1_500_000.0);
        let outcomes = run(&play, 3);
        assert!(outcomes.is_conserved());
        let offered: u64 = outcomes.offered.iter().map(|count| u64::from(*count)).sum();
        let blocked = outcomes.shed as f64 / offered as f64;
        assert!(
            (blocked - exact).abs() < 0.03 * exact + 0.000_3,
            "M/M/{servers}/{places}: {blocked}, not {exact}"
        );
    }
}

#[test]
fn constant_work_halves_the_wait() {
    let mut play = markov(0.8, 1, usize::MAX, 1_500_000.0);
    play.service.time = Work::Constant(Span::from_secs(1));
    assert_within(batch_mean(&sojourns(&play)), 3.0, "M/D/1 at .8");
}

#[test]
fn lognormal_work_has_its_median_and_p99() {
    let mut play = markov(0.001, 1, usize::MAX, 200_000.0);
    play.service.time = Work::lognormal(Span::from_millis(20), Span::from_millis(120));
    let mut samples = sojourns(&play);
    assert!((percentile(&mut samples, 0.5) / 0.020 - 1.0).abs() < 0.02);
    assert!((percentile(&mut samples, 0.99) / 0.120 - 1.0).abs() < 0.05);
}

/// The collapse spike: latency 1 s + 10 ms × concurrency, three attempts of 3 s each.
fn spike(backoff: Backoff) -> Play {
    let mut play = markov(40.0, usize::MAX, usize::MAX, 40.0 * 80.0);
    play.call = CallConfig { attempts: 3, per_attempt: Some(Span::from_secs(3)), backoff };
    play.network = Span::from_millis(100);
    play.service.time = Work::Constant(Span::from_secs(1));
    play.service.slope = Span::from_millis(10);
    let at = |second| Time::ZERO + Span::from_secs(second);
    play.surge = Some(Surge { at: at(20), end: at(25), factor: 2.0 });
    play
}

fn collapses(play: &Play) -> usize {
    let collapsed = |seed: &u64| {
        let outcomes = run(play, *seed);
        assert!(outcomes.is_conserved());
        outcomes.goodput(50, 79) < outcomes.goodput(10, 20) / 2.0
    };
    (0..20).filter(collapsed).count()
}

#[test]
fn the_collapse_spike_collapses_without_backoff_and_not_with() {
    let without = collapses(&spike(Backoff::NONE));
    // 15 of 20, 95 %: 53–89 %.
    assert!((11..=18).contains(&without), "{without} of 20 collapse without backoff");
    let backoff = Backoff::new(Kind::Full, Span::from_secs(20), Span::from_secs(40)).unwrap();
    // 0 of 20, 95 %: 0–16 %.
    let with = collapses(&spike(backoff));
    assert!(with <= 3, "{with} of 20 collapse with backoff");
}

#[test]
fn the_same_seed_gives_the_same_fingerprint_in_debug_and_release() {
    let play = spike(Backoff::NONE);
    let (one, two) = (run(&play, 7), run(&play, 7));
    assert_eq!(one, two);
    assert_ne!(one.fingerprint, run(&play, 8).fingerprint);
    assert_eq!(format!("{:016x}", one.fingerprint), "261300f207d41181", "pinned");
}

/// Eight workers of exponential 10 ms, deadline 250 ms, protected and not told the capacity: first
/// half of the capacity for 10 s, then `factor` times it for a minute.
fn overload(factor: f64, seed: u64) -> Outcomes {
    let mut play = markov(400.0, 8, usize::MAX, 400.0 * 73.0);
    play.service.time = Work::Exponential(Span::from_millis(10));
    play.deadline = Span::from_millis(250);
    let at = |second| Time::ZERO + Span::from_secs(second);
    play.surge = Some(Surge { at: at(10), end: at(73), factor: factor * 2.0 });
    play.protection = crate::scenario::Scenario::protection();
    play.end = at(73);
    run_with_sojourns(&play, seed)
}

#[test]
fn the_default_protection_keeps_goodput_at_every_load() {
    for seed in 0..3 {
        let calm = overload(0.9, seed);
        assert!(calm.is_conserved());
        let offered: u32 = calm.offered.iter().sum();
        let refused = (calm.shed + calm.abandoned) as f64 / f64::from(offered);
        assert!(refused <= 0.01, "seed {seed} at 0.9: {refused} refused");
        for factor in [1.2, 2.0, 5.0, 10.0] {
            let outcomes = overload(factor, seed);
            let goodput = outcomes.goodput(13, 73) / 800.0;
            assert!(goodput >= 0.95, "seed {seed} at {factor}: {goodput} of the capacity");
            let mut late: Vec<f64> =
                outcomes.sojourns[4_000..].iter().map(|span| span.as_secs_f64()).collect();
            let p99 = percentile(&mut late, 0.99);
            assert!(factor < 2.0 || p99 <= 0.1, "seed {seed} at {factor}: p99 is {p99}");
        }
    }
}

#[test]
fn when_one_call_in_a_hundred_is_slow_hedges_cut_the_tail_for_little_load() {
    let (usual, rare) = (Span::from_millis(10), Span::from_secs(1));
    // A hundred workers at 40 % of what they can do; work that nobody waits for is done all the same.
    let mut play = markov(0.4 * 100.0 / 0.0199, 100, usize::MAX, 200_000.0);
    play.service.time = Work::Mixed { usual, rare, share: 0.01 };
    let plain = run_with_sojourns(&play, 5);
    play.protection.budget = Some(budget::Config::default());
    play.protection.hedge = Some(hedge::Config::default());
    let hedged = run_with_sojourns(&play, 5);
    assert!(plain.is_conserved() && hedged.is_conserved());
    let tail = |outcomes: &Outcomes| {
        let mut samples: Vec<f64> = outcomes.sojourns.iter().map(|span| span.as_secs_f64()).collect();
        percentile(&mut samples, 0.999)
    };
    let (before, with) = (tail(&plain), tail(&hedged));
    assert!(with <= 0.1 * before, "p99.9 {before} becomes {with}");
    let load = hedged.attempts as f64 / plain.attempts as f64;
    assert!(load <= 1.06, "{load} times the attempts");
}
