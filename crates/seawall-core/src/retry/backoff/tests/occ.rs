//! The comparison of M. Brooker, "Exponential Backoff And Jitter" (2015): clients that write one row
//! under optimistic concurrency control and back off after each conflict.
//!
//! All begin at once; each reads the row's version, then writes, which succeeds if nobody wrote in
//! between, and retries until it has succeeded. Messages take |N(10, 2)| ms each way. Base 5 ms, cap
//! 2 s, and the first window is twice the base.

use std::collections::BTreeMap;
use std::vec;

use super::*;
use crate::time::Time;

const CAP: Span = Span::from_secs(2);

#[derive(Clone, Copy)]
enum Message {
    Read,
    Version(u64),
    Write(u64),
    Written(bool),
}

/// A message of |N(10, 2)| ms, by Box and Muller (1958).
fn network(rng: &mut Rng) -> Span {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - rng.unit()));
    let normal = radius * libm::cos(core::f64::consts::TAU * rng.unit());
    Span::from_secs_f64(libm::fabs(10.0 + 2.0 * normal) / 1e3)
}

/// The published comparison clamps the draw; [`Backoff`] bounds the range, so its cap is kept out of
/// the way of the decorrelated kind and applied here.
fn wait(kind: Kind, retry: u32, previous: Span, rng: &mut Rng) -> Span {
    let cap = if kind == Kind::Decorrelated { Span::MAX } else { CAP };
    let backoff = Backoff::new(kind, Span::from_millis(5), cap).unwrap();
    backoff.wait(retry, previous, rng).min(CAP)
}

/// When the last client is done, in ms, and how many writes were tried.
fn play(kind: Kind, clients: usize, seed: u64) -> (f64, f64) {
    let mut rng = Rng::new(seed, 0);
    let (mut queue, mut number) = (BTreeMap::new(), 0_u64);
    let mut send = |queue: &mut BTreeMap<_, _>, at: Time, client: usize, message: Message| {
        number += 1;
        queue.insert((at, number), (client, message));
    };
    let mut state = vec![(0_u32, Span::ZERO); clients];
    let (mut version, mut writes, mut last) = (0_u64, 0_u64, Time::ZERO);
    for client in 0..clients {
        send(&mut queue, Time::ZERO + network(&mut rng), client, Message::Read);
    }
    while let Some(((now, _), (client, message))) = queue.pop_first() {
        let there = now + network(&mut rng);
        match message {
            Message::Read => send(&mut queue, there, client, Message::Version(version)),
            Message::Version(seen) => send(&mut queue, there, client, Message::Write(seen)),
            Message::Write(seen) => {
                let succeeds = seen == version;
                version += u64::from(succeeds);
                writes += 1;
                send(&mut queue, there, client, Message::Written(succeeds));
            }
            Message::Written(true) => last = now,
            Message::Written(false) => {
                let (retry, previous) = &mut state[client];
                *retry += 1;
                *previous = wait(kind, *retry, *previous, &mut rng);
                send(&mut queue, there + *previous, client, Message::Read);
            }
        }
    }
    (last.since(Time::ZERO).as_secs_f64() * 1e3, writes as f64)
}

/// Mean and standard error.
fn mean(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let variance = samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, (variance / count).sqrt())
}

#[test]
fn occ_contention_costs_what_the_published_comparison_says() {
    // (kind, clients, time of the last, writes tried), means of 100 runs, and the standard error of
    // that time.
    for (kind, clients, time, error, calls) in [
        (Kind::Exponential, 10, 3475.86, 143.4, 50.79),
        (Kind::Decorrelated, 10, 431.02, 7.2, 37.45),
        (Kind::Equal, 10, 733.95, 20.5, 42.47),
        (Kind::Full, 10, 449.22, 8.2, 38.90),
        (Kind::None, 10, 382.20, 3.3, 51.06),
        (Kind::Exponential, 100, 63310.38, 352.9, 1850.50),
        (Kind::Decorrelated, 100, 4577.29, 67.8, 999.94),
        (Kind::Equal, 100, 6749.40, 61.9, 813.13),
        (Kind::Full, 100, 4906.35, 51.8, 795.59),
        (Kind::None, 100, 2027.02, 4.5, 2422.08),
    ] {
        let runs: Vec<(f64, f64)> = (0..100).map(|seed| play(kind, clients, seed)).collect();
        let times: Vec<f64> = runs.iter().map(|run| run.0).collect();
        let writes: Vec<f64> = runs.iter().map(|run| run.1).collect();
        let ((got_time, time_error), (got_calls, calls_error)) = (mean(&times), mean(&writes));
        let near = |got: f64, exact: f64, share: f64, error: f64| {
            (got - exact).abs() <= f64::max(share * exact, 3.0 * error)
        };
        let told =
            std::format!("{kind:?} {clients}: {got_time:.1} ms of {time}, {got_calls:.2} calls of {calls}");
        assert!(near(got_time, time, 0.03, libm::sqrt(error * error + time_error * time_error)), "{told}");
        // With ten clients the standard error of the calls itself is near 1 %.
        assert!(near(got_calls, calls, 0.01, if clients < 100 { calls_error } else { 0.0 }), "{told}");
    }
}
