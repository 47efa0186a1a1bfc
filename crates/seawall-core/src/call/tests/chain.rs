//! Retries at every layer of a chain whose leaf is dead: how many attempts the leaf sees.

use super::*;

/// One layer's client of the next.
struct Layer {
    hosts: Hosts<Alone<u64>>,
    shared: Cells<Shared>,
}

/// Whether a first try pays a tenth of a retry, as the published budgets say; or only a success does.
#[derive(Clone, Copy, PartialEq)]
enum Funded {
    ByFirstTries,
    BySuccesses,
}

/// Calls through the layers; returns whether it succeeded, and counts what reaches the leaf.
fn call(layers: &[Layer], retries: u32, funded: Funded, leaf: &mut u64) -> bool {
    let Some((layer, below)) = layers.split_first() else {
        *leaf += 1;
        return false;
    };
    if funded == Funded::ByFirstTries {
        layer.shared.with(ONE, |shared| shared.deposit(at(0)));
    }
    let (parts, mut rng) = (parts(&layer.hosts, &layer.shared), Rng::new(1, 1));
    let config = Config { attempts: retries + 1, per_attempt: None, backoff: Backoff::NONE };
    let mut call_here = Call::new(config, until(1_000), Repeat::Safe, at(0));
    let verdict = loop {
        match call_here.poll(at(0), &parts, &mut rng) {
            Step::Send(attempt) => {
                let well = call(below, retries, funded, leaf);
                let outcome = if well { Outcome::Success } else { Outcome::Failure };
                call_here.on_outcome(at(0), attempt.lane, outcome, Repeat::Safe, &parts, &mut rng);
            }
            Step::Finish(verdict) => break verdict,
            Step::WaitUntil(_) | Step::Cancel { .. } => {}
        }
    };
    call_here.abandon(at(0), &parts);
    verdict == Verdict::Answered { stop: None }
}

/// Attempts that reach the leaf for each of `calls` at the top.
fn amplification(
    depth: usize,
    retries: u32,
    calls: u32,
    funded: Funded,
    shared: fn() -> Cells<Shared>,
) -> f64 {
    let layer = |_| Layer { hosts: Hosts::new(vec![open_host()]), shared: shared() };
    let layers: Vec<Layer> = (0..depth).map(layer).collect();
    let mut leaf = 0;
    (0..calls).for_each(|_| assert!(!call(&layers, retries, funded, &mut leaf)));
    leaf as f64 / f64::from(calls)
}

#[test]
fn without_budgets_every_layer_multiplies() {
    for depth in 1..=5 {
        for retries in 1..=3 {
            let exact = f64::from(retries + 1).powi(depth as i32);
            assert_eq!(amplification(depth, retries, 3, Funded::BySuccesses, unpaid), exact);
        }
    }
}

#[test]
fn a_tenth_for_each_first_try_leaves_a_power_of_eleven_tenths() {
    for depth in 1..=5 {
        let exact = 1.1_f64.powi(depth as i32);
        let got = amplification(depth, 3, 20_000, Funded::ByFirstTries, || balance(0));
        assert!((got / exact - 1.0).abs() < 0.001, "{depth}: {got}, not {exact}");
    }
}

#[test]
fn what_only_successes_pay_for_adds_nothing_to_a_dead_leaf() {
    assert_eq!(amplification(5, 3, 1_000, Funded::BySuccesses, || balance(0)), 1.0);
}
