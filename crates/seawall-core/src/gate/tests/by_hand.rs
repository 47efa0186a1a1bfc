//! A breaker that is overridden by hand, as its gate shows it.

use std::vec::Vec;

use super::*;
use crate::breaker::{Forced, Mode};

fn gate_of(ramp: Span) -> Door {
    let breaker = Some(breaker::Config::new(breaker::Settings::default()).unwrap());
    Gate::new(Settings { breaker, ramp, ..Settings::default() }, Lane::default(), at(0))
}

/// How many of a thousand calls at once pass.
fn passed(gate: &Door, now: Time, outcome: Outcome) -> usize {
    let call = |_: &i32| match gate.admit(now, &Request::new(Key(1))) {
        Admit::Ticket(ticket) => {
            gate.settle(now, ticket, outcome);
            true
        }
        _ => false,
    };
    (0..1_000).filter(call).count()
}

fn mode(gate: &Door) -> Mode {
    gate.snapshot(at(0)).breaker.unwrap().mode
}

#[test]
fn an_override_holds_until_it_is_reset() {
    let gate = gate_of(Span::ZERO);
    assert_eq!(passed(&gate, at(0), Outcome::Success), 1_000); // Calm: no lock is taken any more.
    gate.force_breaker(at(0), Forced::Open);
    assert_eq!((passed(&gate, at(100_000), Outcome::Success), mode(&gate)), (0, Mode::ForcedOpen));
    gate.force_breaker(at(100_000), Forced::Closed);
    assert_eq!((passed(&gate, at(100_000), Outcome::Failure), mode(&gate)), (1_000, Mode::ForcedClosed));
    gate.force_breaker(at(100_000), Forced::MetricsOnly);
    assert_eq!((passed(&gate, at(100_000), Outcome::Failure), mode(&gate)), (1_000, Mode::MetricsOnly));
    gate.reset_breaker(at(100_000));
    assert_eq!((passed(&gate, at(100_000), Outcome::Failure), mode(&gate)), (20, Mode::Open));
    gate.reset_breaker(at(100_000));
    assert_eq!((passed(&gate, at(100_000), Outcome::Success), mode(&gate)), (1_000, Mode::Closed));
    let changes: Vec<&str> = core::iter::from_fn(|| gate.event()).map(|event| event.change.name()).collect();
    let forced = "breaker_forced";
    assert_eq!(changes, [forced, forced, forced, "breaker_closed", "breaker_opened", "breaker_closed"]);
}

#[test]
fn what_was_refused_by_hand_comes_back_by_the_ramp() {
    for how in [None, Some(Forced::Closed), Some(Forced::MetricsOnly)] {
        let gate = gate_of(Span::from_secs(60));
        gate.force_breaker(at(0), Forced::Open);
        match how {
            Some(how) => gate.force_breaker(at(1), how),
            None => gate.reset_breaker(at(1)),
        };
        assert!((1..=100).contains(&passed(&gate, at(1), Outcome::Success)), "{how:?}");
        gate.force_breaker(at(2), Forced::Open);
        assert_eq!(passed(&gate, at(2), Outcome::Success), 0);
    }
    // What was not refused does not come back.
    let gate = gate_of(Span::from_secs(60));
    gate.reset_breaker(at(1));
    assert_eq!(passed(&gate, at(1), Outcome::Success), 1_000);
}

#[test]
fn a_gate_without_a_breaker_has_none_to_override() {
    let gate: Door = Gate::new(Settings::default(), Lane::default(), at(0));
    assert_eq!((gate.force_breaker(at(0), Forced::Open), gate.reset_breaker(at(0))), (None, None));
    assert_eq!(passed(&gate, at(0), Outcome::Success), 1_000);
}
