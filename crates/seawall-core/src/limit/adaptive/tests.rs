use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

use super::*;
use crate::rng::Rng;

/// A callee with workers and a line inside, driven by a source that keeps the limit full, or by
/// arrivals of a rate with a line in front.
struct Callee {
    now: Time,
    workers: usize,
    service: Span,
    busy: usize,
    line: VecDeque<(Time, u32)>,
    done: BTreeMap<(Time, u64), (Time, u32)>,
    number: u64,
    in_flight: u32,
    rng: Rng,
}

impl Callee {
    fn new(workers: usize, service_ms: u64, seed: u64) -> Callee {
        Callee {
            now: Time::ZERO,
            workers,
            service: Span::from_millis(service_ms),
            busy: 0,
            line: VecDeque::new(),
            done: BTreeMap::new(),
            number: 0,
            in_flight: 0,
            rng: Rng::new(seed, 0),
        }
    }

    fn send(&mut self) {
        self.in_flight += 1;
        self.line.push_back((self.now, self.in_flight));
        self.work();
    }

    fn work(&mut self) {
        while self.busy < self.workers
            && let Some(job) = self.line.pop_front()
        {
            self.busy += 1;
            self.number += 1;
            let ends = self.now + self.rng.exponential(self.service);
            self.done.insert((ends, self.number), job);
        }
    }

    fn next_done(&self) -> Time {
        self.done.first_key_value().map_or(Time::MAX, |((at, _), _)| *at)
    }

    fn complete(&mut self, adaptive: &mut Adaptive) {
        let ((at, _), (sent, in_flight)) = self.done.pop_first().unwrap();
        self.now = at;
        self.busy = self.busy.saturating_sub(1);
        self.in_flight -= 1;
        adaptive.sample(at, in_flight, at.since(sent), Outcome::Success);
        self.work();
    }

    /// Runs with arrivals of `rate` a second; whoever finds the limit reached waits in front.
    /// Returns the limits seen, second by second.
    fn run(&mut self, adaptive: &mut Adaptive, rate: f64, seconds: u64) -> Vec<u32> {
        let end = self.now + Span::from_secs(seconds);
        let gap = Span::from_secs_f64(1.0 / rate);
        let mut arrival = self.now + self.rng.exponential(gap);
        let (mut waiting, mut limits, mut next) = (0_u32, Vec::new(), self.now);
        while self.now < end {
            if self.next_done() <= arrival {
                self.complete(adaptive);
            } else {
                self.now = arrival;
                waiting = (waiting + 1).min(adaptive.limit() * 2);
                arrival = self.now + self.rng.exponential(gap);
            }
            while waiting > 0 && self.in_flight < adaptive.limit() {
                waiting -= 1;
                self.send();
            }
            if self.now >= next {
                limits.push(adaptive.limit());
                next += Span::from_secs(1);
            }
        }
        limits
    }
}

fn mean(limits: &[u32]) -> f64 {
    limits.iter().map(|limit| f64::from(*limit)).sum::<f64>() / limits.len() as f64
}

fn ceiling() -> Adaptive {
    Adaptive::new(Config::default(), Time::ZERO)
}

/// Whether the mean of `limits` after ten seconds is within 0 to +25 % of `truth`.
fn assert_near(limits: &[u32], truth: f64, what: &str) {
    let mean = mean(&limits[10..]);
    assert!((truth..=truth * 1.25).contains(&mean), "{what}: {mean} is not near {truth}: {limits:?}");
}

#[test]
fn finds_the_workers_at_every_load() {
    for seed in 0..3 {
        let (mut callee, mut adaptive) = (Callee::new(8, 10, seed), ceiling());
        callee.run(&mut adaptive, 400.0, 10);
        for factor in [0.9, 1.2, 2.0, 5.0, 10.0] {
            let limits = callee.run(&mut adaptive, 800.0 * factor, 40);
            assert_near(&limits, 8.0, &std::format!("seed {seed} at {factor}"));
        }
    }
}

#[test]
fn an_hour_of_saturation_teaches_nothing() {
    let (mut callee, mut adaptive) = (Callee::new(8, 10, 1), ceiling());
    callee.run(&mut adaptive, 400.0, 10);
    let limits = callee.run(&mut adaptive, 1_600.0, 3_600);
    assert_near(&limits[3_000..], 8.0, "the last ten minutes");
}

#[test]
fn started_under_overload_it_finds_the_workers_too() {
    for seed in 0..3 {
        let (mut callee, mut adaptive) = (Callee::new(8, 10, seed), ceiling());
        assert_near(&callee.run(&mut adaptive, 4_000.0, 40), 8.0, "cold");
    }
}

#[test]
fn follows_workers_that_leave_and_come() {
    let (mut callee, mut adaptive) = (Callee::new(8, 10, 2), ceiling());
    callee.run(&mut adaptive, 400.0, 10);
    callee.workers = 4;
    assert_near(&callee.run(&mut adaptive, 4_000.0, 60), 4.0, "halved");
    callee.workers = 8;
    assert_near(&callee.run(&mut adaptive, 4_000.0, 60)[20..], 8.0, "back");
}

#[test]
fn a_callee_that_became_slow_does_not_shrink_it_to_nothing() {
    for seed in 0..3 {
        let (mut callee, mut adaptive) = (Callee::new(8, 10, seed), ceiling());
        callee.run(&mut adaptive, 560.0, 20);
        callee.service = Span::from_millis(20);
        let limits = callee.run(&mut adaptive, 560.0, 60);
        let mean = mean(&limits[30..]);
        assert!((8.0..12.0).contains(&mean), "{mean}: {limits:?}");
    }
}

#[test]
fn sequential_calls_never_raise_it() {
    let mut adaptive = ceiling();
    for call in 0..10_000_u64 {
        adaptive.sample(Time::from_nanos(call * 1_000_000), 1, Span::from_micros(900), Outcome::Success);
    }
    assert_eq!(adaptive.limit(), 16);
    assert_eq!(adaptive.baseline(), Some(Span::from_micros(900)));
}

#[test]
fn quick_failures_teach_nothing_and_refusals_cut() {
    let mut adaptive = ceiling();
    let mut feed = |outcome, millis: u64, from: u64| {
        (0..400).for_each(|call| {
            let now = Time::ZERO + Span::from_millis(from + call);
            adaptive.sample(now, 16, Span::from_millis(millis), outcome);
        });
        adaptive.limit()
    };
    assert_eq!(feed(Outcome::Failure, 0, 0), 16);
    assert_eq!(feed(Outcome::Overloaded { retry_after: None }, 0, 1_000), 16);
    (0..30).for_each(|call| {
        adaptive.sample(Time::from_nanos(call), 1, Span::from_millis(10), Outcome::Success);
    });
    (0..100).for_each(|call| {
        let now = Time::ZERO + Span::from_millis(2_000 + call);
        adaptive.sample(now, 16, Span::from_millis(10), Outcome::Success);
    });
    assert_eq!(adaptive.limit(), 14, "a tenth less, though latency says more");
}

fn bounds(initial: u32, max: u32) -> Config {
    Config::new(Settings { initial, max }).unwrap()
}

#[test]
fn stays_within_its_bounds() {
    let mut adaptive = Adaptive::new(bounds(8, 8), Time::ZERO);
    assert_eq!(adaptive.limit(), 8);
    adaptive.configure(bounds(4, 4));
    assert_eq!(adaptive.limit(), 4);
    let (mut callee, mut adaptive) = (Callee::new(64, 10, 3), Adaptive::new(bounds(16, 20), Time::ZERO));
    assert!(callee.run(&mut adaptive, 9_000.0, 10).iter().all(|limit| *limit <= 20));
}

#[test]
fn the_constructor_names_key_value_and_bound() {
    let error = Config::new(Settings { initial: 900, max: 8 }).unwrap_err();
    assert_eq!(error, SettingError { key: "initial", value: 900, range: "1 to `max`" });
    let error = Config::new(Settings { initial: 1, max: 0 }).unwrap_err();
    assert_eq!(error, SettingError { key: "max", value: 0, range: "at least 1" });
}
