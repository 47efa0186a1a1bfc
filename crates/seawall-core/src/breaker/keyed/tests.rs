use std::vec::Vec;

use super::super::{Extent, Settings};
use super::*;
use crate::rng::mix;
use crate::time::Span;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn key(number: u64) -> Key {
    Key(mix(number))
}

struct Bench {
    keyed: Keyed,
    events: Events,
}

impl Bench {
    fn new(max_keys: u32) -> Bench {
        let settings = Settings { window: Extent::Calls(4), min_calls: 2, ..Settings::default() };
        Bench { keyed: Keyed::new(Config::new(settings).unwrap(), max_keys), events: Events::default() }
    }

    fn call(&mut self, now: Time, number: u64, outcome: Outcome) -> bool {
        match self.keyed.admit(now, key(number), &mut self.events) {
            Ok(pass) => {
                self.keyed.report(now, &pass, outcome, &mut self.events);
                true
            }
            Err(_) => false,
        }
    }
}

#[test]
fn the_failure_of_one_shard_is_not_the_failure_of_all() {
    let mut bench = Bench::new(100);
    (0..2).for_each(|_| assert!(bench.call(at(0), 1, Outcome::Failure)));
    let passed: Vec<u64> = (0..4).filter(|number| bench.call(at(1), *number, Outcome::Success)).collect();
    assert_eq!(passed, [0, 2, 3]);
    assert_eq!(bench.keyed.snapshot().open, 1);
}

#[test]
fn a_flood_of_keys_forgets_no_open_breaker_and_never_outgrows_the_cap() {
    let mut bench = Bench::new(64);
    (0..2).for_each(|_| assert!(bench.call(at(0), 1, Outcome::Failure)));
    (1_000..100_000).for_each(|number| assert!(bench.call(at(1), number, Outcome::Success)));
    assert!(!bench.call(at(1), 1, Outcome::Success));
    let snapshot = bench.keyed.snapshot();
    assert_eq!((snapshot.keys, snapshot.open, snapshot.forgotten), (64, 1, 0));
}

#[test]
fn where_all_are_open_a_newcomer_passes_unguarded() {
    let mut bench = Bench::new(4);
    for number in 0..4 {
        (0..2).for_each(|_| assert!(bench.call(at(0), number, Outcome::Failure)));
    }
    (0..5).for_each(|_| assert!(bench.call(at(1), 9, Outcome::Failure)));
    assert_eq!((bench.keyed.snapshot().unguarded, bench.keyed.snapshot().open), (5, 4));
}

#[test]
fn the_result_of_a_forgotten_breaker_counts_for_nothing() {
    let mut bench = Bench::new(1);
    let late = bench.keyed.admit(at(0), key(1), &mut bench.events).unwrap();
    assert!(bench.call(at(0), 2, Outcome::Success));
    assert!(bench.call(at(0), 1, Outcome::Success));
    (0..2).for_each(|_| bench.keyed.report(at(0), &late, Outcome::Failure, &mut bench.events));
    assert_eq!(bench.keyed.of(key(1)).unwrap().failure_rate, 0.0);
}

#[test]
fn an_override_by_hand_holds_for_its_key() {
    let mut bench = Bench::new(2);
    bench.keyed.force(at(0), key(1), Forced::Open, &mut bench.events).unwrap();
    (0..10).for_each(|number| _ = bench.call(at(0), 100 + number, Outcome::Success));
    assert!(!bench.call(at(0), 1, Outcome::Success));
    bench.keyed.reset(at(0), key(1), &mut bench.events);
    assert!(bench.call(at(0), 1, Outcome::Success));
}
