//! Probes pass whatever is full, spent, open or shedding, and say nothing to any of it.

use super::*;

fn probe() -> Request {
    Request { traffic: Traffic::Probe, ..of(1) }
}

#[test]
fn a_probe_passes_every_policy_and_takes_nothing() {
    let rule = rule(hourly(1));
    let settings = Settings { breaker: Some(fragile()), ..limited(1, 0) };
    let door = door(settings).throttled(vec![rule.clone()]);
    let _held = ticket(door.admit(at(0), &of(1)));
    assert_eq!(refused(door.admit(at(0), &of(1))).reason, Reason::Throttled);
    for _ in 0..1_000 {
        let probe = ticket(door.admit(at(0), &probe()));
        assert_eq!(door.snapshot(at(0)).limit.unwrap().in_flight, 1);
        door.settle(at(0), probe, Outcome::Failure);
    }
    assert_eq!(door.snapshot(at(0)).breaker.unwrap().mode, breaker::Mode::Closed);
    assert_eq!(tokens(&rule, at(0), 1), 0);
}

#[test]
fn a_probe_passes_an_open_circuit() {
    let door = door(broken());
    for _ in 0..2 {
        let failed = ticket(door.admit(at(0), &of(1)));
        door.settle(at(0), failed, Outcome::Failure);
    }
    assert_eq!(refused(door.admit(at(1), &of(1))).reason, Reason::Open);
    let probe = ticket(door.admit(at(1), &probe()));
    door.settle(at(1), probe, Outcome::Success);
    assert_eq!(refused(door.admit(at(1), &of(1))).reason, Reason::Open, "it is nobody's lease");
}

#[test]
fn every_lane_that_sheds_takes_in_how_the_machine_is() {
    let guards = shed::guard::Guards {
        memory: Some(shed::guard::Mark::percent(80).unwrap()),
        ..shed::guard::Guards::default()
    };
    let lane = Lane { shed: Some(shed::Config { guards, ..shed::Config::default() }), ..Lane::default() };
    let door: Door = Gate::new(limited(1_000, 0), lane, at(0));
    let other: Door = Gate::joining(door.shared().clone(), lane);
    let unshed: Door = Gate::joining(door.shared().clone(), Lane::default());
    let full = Reading { memory: Some(0.9), ..Reading::default() };
    for second in 0..4 {
        door.observe(at(1_000 * second), &full);
    }
    let now = at(3_000);
    let share = |door: &Door| door.snapshot(now).shed.map(|shed| shed.guard);
    assert_eq!([share(&door), share(&other), share(&unshed)], [Some(0.125), Some(0.125), None]);
    assert_eq!(refused(other.admit(now, &of(1))).reason, Reason::Shed);
    assert_eq!((other.dimmer(now), unshed.dimmer(now)), (1.0, 0.0));
    let _passes = ticket(unshed.admit(now, &of(1)));
}
