use proptest::prelude::*;

use super::*;

const DROP: Outcome = Outcome::Overloaded { retry_after: None };

fn aimd(initial: u32) -> Aimd {
    Aimd::new(Config::new(Settings { initial, ..Settings::default() }).unwrap())
}

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// Where a limit of `from` goes on one sample.
fn step(from: u32, in_flight: u32, outcome: Outcome) -> u32 {
    let mut aimd = aimd(from);
    aimd.sample(at(10), in_flight, Span::from_millis(1), outcome);
    aimd.limit()
}

#[test]
fn one_more_on_success_at_full_use_and_a_tenth_less_on_a_drop() {
    assert_eq!(step(20, 20, Outcome::Success), 21);
    assert_eq!(step(30, 30, DROP), 27);
    assert_eq!(step(30, 1, Outcome::TimedOut), 27, "a drop counts at any use");
    assert_eq!(step(10, 10, DROP), 9);
    assert_eq!(step(27, 27, DROP), 24);
    assert_eq!(step(1, 1, DROP), 1);
    assert_eq!(step(512, 512, Outcome::Success), 512);
}

#[test]
fn less_than_full_use_and_what_says_nothing_of_capacity_move_nothing() {
    assert_eq!(step(20, 19, Outcome::Success), 20);
    for outcome in [Outcome::Failure, Outcome::Cancelled, Outcome::Superseded, Outcome::Ignored] {
        assert_eq!(step(20, 20, outcome), 20, "{outcome:?}");
    }
}

#[test]
fn sequential_calls_never_raise_it() {
    let mut aimd = aimd(20);
    (0..1_000).for_each(|call| aimd.sample(at(call), 1, Span::from_millis(1), Outcome::Success));
    assert_eq!(aimd.limit(), 20);
}

#[test]
fn many_drops_of_one_round_trip_cut_once() {
    let mut aimd = aimd(30);
    (0..30).for_each(|call| aimd.sample(at(100 + call), 30, Span::from_millis(50), DROP));
    assert_eq!(aimd.limit(), 27);
    aimd.sample(at(150), 27, Span::from_millis(50), DROP);
    assert_eq!(aimd.limit(), 24);
}

#[test]
fn the_constructor_names_key_value_and_bound() {
    let said = |settings| Config::new(settings).unwrap_err();
    let error = said(Settings { min: 0, ..Settings::default() });
    assert_eq!(error, SettingError { key: "min", range: "1 to `max`" });
    let error = said(Settings { initial: 600, ..Settings::default() });
    assert_eq!(error, SettingError { key: "initial", range: "`min` to `max`" });
    let error = said(Settings { keep_percent: 0, ..Settings::default() });
    assert_eq!(error, SettingError { key: "keep_percent", range: "1 to 99" });
}

proptest! {
    #[test]
    fn stays_within_its_bounds(samples in prop::collection::vec((0..100_u32, 0..3_usize), 0..300)) {
        let mut aimd = Aimd::new(Config::new(Settings { initial: 8, min: 3, max: 12, keep_percent: 50 }).unwrap());
        for (call, (in_flight, kind)) in samples.into_iter().enumerate() {
            let outcome = [Outcome::Success, DROP, Outcome::TimedOut][kind];
            aimd.sample(at(call as u64), in_flight, Span::ZERO, outcome);
            prop_assert!((3..=12).contains(&aimd.limit()));
        }
    }
}
