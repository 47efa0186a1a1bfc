//! A breaker between threads: counts are exact, and half-open admits no more than its probes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use seawall::Threads;
use seawall::core::breaker::{Concurrent, Config, Extent, Mode, Settings};
use seawall::core::outcome::Outcome;
use seawall::core::time::{Span, Time};

/// More than can each have a counter of its own.
const THREADS: u32 = 20;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn breaker(window: Extent) -> Concurrent<Threads> {
    let settings = Settings { window, min_calls: 10, probes: 5, ..Settings::default() };
    Concurrent::new(Config::new(settings).unwrap(), at(0))
}

fn together(work: impl Fn(u32) + Sync) {
    let begin = Barrier::new(THREADS as usize);
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (begin, work) = (&begin, &work);
            scope.spawn(move || {
                begin.wait();
                work(number);
            });
        }
    });
}

#[test]
fn no_success_is_lost_and_none_is_counted_twice() {
    let breaker = breaker(Extent::Time(Span::from_secs(3_600)));
    together(|_| {
        for _ in 0..10_000 {
            let pass = breaker.admit(at(0)).unwrap();
            breaker.report(at(0), &pass, Outcome::Success);
        }
    });
    let pass = breaker.admit(at(0)).unwrap();
    breaker.report(at(0), &pass, Outcome::Failure);
    let rate = breaker.snapshot().failure_rate;
    let calls = f64::from(THREADS) * 10_000.0 + 1.0;
    assert!((rate - 1.0 / calls).abs() < 1e-12, "{rate}");
}

#[test]
fn failures_among_successes_count_exactly() {
    let breaker = breaker(Extent::Time(Span::from_secs(3_600)));
    together(|number| {
        for call in 0..10_000_u32 {
            let failed = (call + number).is_multiple_of(4);
            let pass = breaker.admit(at(0)).unwrap();
            breaker.report(at(0), &pass, if failed { Outcome::Failure } else { Outcome::Success });
        }
    });
    assert_eq!((breaker.snapshot().failure_rate, breaker.snapshot().mode), (0.25, Mode::Closed));
}

#[test]
fn what_was_counted_before_a_reset_counts_for_nothing() {
    let breaker = breaker(Extent::Time(Span::from_secs(3_600)));
    let succeeds = || {
        let pass = breaker.admit(at(0)).unwrap();
        breaker.report(at(0), &pass, Outcome::Success);
    };
    together(|number| {
        for call in 0..10_000 {
            succeeds();
            if number == 0 && call % 10 == 0 {
                breaker.reset(at(0));
            }
        }
    });
    breaker.reset(at(0));
    (0..99).for_each(|_| succeeds());
    let pass = breaker.admit(at(0)).unwrap();
    breaker.report(at(0), &pass, Outcome::Failure);
    assert_eq!(breaker.snapshot().failure_rate, 0.01);
}

#[test]
fn half_open_admits_just_its_probes() {
    for _ in 0..50 {
        let breaker = breaker(Extent::Calls(10));
        for _ in 0..10 {
            let pass = breaker.admit(at(0)).unwrap();
            breaker.report(at(0), &pass, Outcome::Failure);
        }
        assert_eq!(breaker.snapshot().mode, Mode::Open);
        let admitted = AtomicU32::new(0);
        together(|_| {
            for _ in 0..10 {
                if breaker.admit(at(5_000)).is_ok() {
                    admitted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        assert_eq!(admitted.into_inner(), 5);
    }
}
