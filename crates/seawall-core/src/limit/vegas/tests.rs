use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const DROP: Outcome = Outcome::Overloaded { retry_after: None };

fn vegas(initial: u32) -> Vegas {
    Vegas::new(Config::new(Settings { initial, ..Settings::default() }).unwrap())
}

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// The limits after each of these calls, (latency in ms, in flight), from a limit of `initial`.
fn course(initial: u32, calls: &[(u64, u32)]) -> Vec<u32> {
    let mut vegas = vegas(initial);
    let take = |(number, (latency, in_flight)): (usize, &(u64, u32))| {
        let now = at(1_000 * (number as u64 + 1));
        vegas.sample(now, *in_flight, Span::from_millis(*latency), Outcome::Success);
        vegas.limit()
    };
    calls.iter().enumerate().map(take).collect()
}

#[test]
fn grows_and_shrinks_by_the_queue_inside_the_callee() {
    assert_eq!(course(10, &[(10, 10), (10, 11)]), [10, 16]);
    assert_eq!(course(10, &[(10, 10), (50, 11)]), [10, 9]);
    assert_eq!(course(10, &[(10, 10), (14, 14)]), [10, 10], "between alpha and beta");
    assert_eq!(course(10, &[(10, 10), (12, 10)]), [10, 11], "two inside, of three that may be");
    // The logarithm of 100 is 2: alpha 6, beta 12.
    assert_eq!(
        course(100, &[(10, 100), (10, 100), (12, 112), (10, 5), (100, 112)]),
        [100, 112, 110, 110, 108]
    );
}

#[test]
fn without_load_latency_is_the_mean_once_enough_calls_say_it() {
    let mut vegas = vegas(10);
    (0..BASELINE_LEAST).for_each(|call| {
        let latency = if call % 2 == 0 { 5 } else { 15 };
        vegas.sample(at(u64::from(call)), 1, Span::from_millis(latency), Outcome::Success);
    });
    assert_eq!(vegas.baseline(), Some(Span::from_millis(10)), "a few quick calls do not count for all");
    vegas.sample(at(1_000), 10, Span::from_millis(10), Outcome::Success);
    assert_eq!(vegas.limit(), 16);
}

#[test]
fn sequential_calls_never_raise_it() {
    let mut vegas = vegas(20);
    (0..1_000).for_each(|call| vegas.sample(at(call), 1, Span::from_millis(1), Outcome::Success));
    assert_eq!(vegas.limit(), 20);
}

#[test]
fn a_drop_lowers_it_once_for_each_round_trip() {
    let mut vegas = vegas(10);
    (0..10).for_each(|call| vegas.sample(at(100 + call), 10, Span::from_millis(50), DROP));
    assert_eq!(vegas.limit(), 9);
    vegas.sample(at(200), 9, Span::from_millis(50), Outcome::TimedOut);
    assert_eq!(vegas.limit(), 8);
    vegas.sample(at(300), 9, Span::ZERO, Outcome::Failure);
    assert_eq!(vegas.limit(), 8);
}

#[test]
fn the_constructor_names_key_value_and_bound() {
    let said = |settings| Config::new(settings).unwrap_err();
    let error = said(Settings { initial: 0, ..Settings::default() });
    assert_eq!(error, SettingError { key: "initial", range: "1 to `max`" });
    let error = said(Settings { alpha: 7, ..Settings::default() });
    assert_eq!(error, SettingError { key: "alpha", range: "1 to `beta`" });
    let error = said(Settings { beta: 101, ..Settings::default() });
    assert_eq!(error, SettingError { key: "beta", range: "1 to 100" });
}

proptest! {
    #[test]
    fn stays_within_its_bounds(calls in prop::collection::vec((0..50_u64, 0..40_u32, 0..3_usize), 0..300)) {
        let mut vegas = Vegas::new(Config::new(Settings { initial: 8, max: 20, ..Settings::default() }).unwrap());
        for (call, (latency, in_flight, kind)) in calls.into_iter().enumerate() {
            let outcome = [Outcome::Success, Outcome::TimedOut, DROP][kind];
            vegas.sample(at(call as u64 * 10), in_flight, Span::from_millis(latency), outcome);
            prop_assert!((1..=20).contains(&vegas.limit()));
        }
    }
}
