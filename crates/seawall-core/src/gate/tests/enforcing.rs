//! Shadow and override by hand: what would have been refused is counted and let through.

use super::*;
use crate::enforcement::Enforcement::{Enforced, Off, Shadow};

/// Admits under this enforcement of `policy`; says whether it passed and what was counted.
fn check(door: &Door, now: Time, policy: Policy, enforcement: Enforcement) -> (bool, u64) {
    let before = door.snapshot(now).shadowed[policy as usize];
    door.switch().set(policy, enforcement);
    let admit = door.admit(now, &of(1));
    let passed = matches!(admit, Admit::Ticket(_));
    if let Admit::Ticket(ticket) = admit {
        door.settle(now, ticket, Outcome::Success);
    }
    (passed, door.snapshot(now).shadowed[policy as usize] - before)
}

#[test]
fn a_spent_quota_in_shadow_is_counted_and_takes_nothing() {
    let rules = [rule(hourly(1)), rule(hourly(5))];
    let door = door(Settings::default()).throttled(rules.to_vec());
    assert_eq!(check(&door, at(0), Policy::Throttle, Enforced), (true, 0));
    assert_eq!(check(&door, at(0), Policy::Throttle, Enforced), (false, 0));
    assert_eq!(check(&door, at(0), Policy::Throttle, Shadow), (true, 1));
    assert_eq!((tokens(&rules[0], at(0), 1), tokens(&rules[1], at(0), 1)), (0, 3));
    assert_eq!(check(&door, at(0), Policy::Throttle, Off), (true, 0));
    assert_eq!(tokens(&rules[1], at(0), 1), 3, "a throttle that is off is not asked");
    assert_eq!(check(&door, at(0), Policy::Throttle, Enforced), (false, 0));
}

#[test]
fn who_leaves_the_queue_gets_back_no_more_than_was_taken() {
    let rules = [rule(hourly(1)), rule(hourly(5))];
    let door = door(limited(1, 4)).throttled(rules.to_vec());
    door.switch().set(Policy::Throttle, Shadow);
    let held = ticket(door.admit(at(0), &of(1)));
    let waiting = place(door.admit(at(0), &of(1)));
    door.leave(at(0), waiting);
    assert_eq!((tokens(&rules[0], at(0), 1), tokens(&rules[1], at(0), 1)), (0, 4));
    door.release(at(0), held);
}

#[test]
fn a_limit_in_shadow_counts_those_beyond_its_queue() {
    let door = door(limited(1, 2));
    door.switch().set(Policy::Limit, Shadow);
    let tickets: Vec<Ticket> = (0..5).map(|_| ticket(door.admit(at(0), &of(1)))).collect();
    let snapshot = door.snapshot(at(0));
    assert_eq!((snapshot.limit.unwrap().in_flight, snapshot.shadowed[Policy::Limit as usize]), (5, 2));
    door.switch().set(Policy::Limit, Enforced);
    let waiting = place(door.admit(at(0), &of(1)));
    for ticket in tickets {
        door.release(at(0), ticket);
    }
    door.release(at(0), ticket(door.claim(at(0), waiting, 1)));
    assert_eq!(door.snapshot(at(0)).limit.unwrap().in_flight, 0);
}

#[test]
fn an_open_breaker_in_shadow_lets_pass_and_is_not_closed_by_it() {
    let door = door(broken());
    break_open(&door, at(0));
    assert_eq!(check(&door, at(1), Policy::Breaker, Enforced), (false, 0));
    assert_eq!(check(&door, at(1), Policy::Breaker, Shadow), (true, 1));
    assert_eq!(check(&door, at(1), Policy::Breaker, Off), (true, 0));
    assert_eq!(mode(&door, at(1)), breaker::Mode::Open);
    door.switch().set(Policy::Breaker, Enforced);
    for _ in 0..2 {
        door.settle(at(1_000), ticket(door.admit(at(1_000), &of(1))), Outcome::Success);
    }
    assert_eq!(mode(&door, at(1_000)), breaker::Mode::Closed);
}

#[test]
fn a_ramp_in_shadow_holds_nobody_back() {
    let door = door(Settings { ramp: Span::from_secs(60), ..broken() });
    break_open(&door, at(0));
    for _ in 0..2 {
        door.settle(at(1_000), ticket(door.admit(at(1_000), &of(1))), Outcome::Success);
    }
    let passed =
        |enforcement| (0..20).filter(|_| check(&door, at(1_001), Policy::Ramp, enforcement).0).count();
    assert!(passed(Enforced) <= 2);
    assert_eq!(passed(Shadow), 20);
}

#[test]
fn a_ramp_holds_nobody_back_whom_its_breaker_would_let_pass() {
    for (policy, enforcement) in [(Policy::Breaker, Shadow), (Policy::Breaker, Off), (Policy::Ramp, Off)] {
        let door = door(Settings { ramp: Span::from_secs(60), ..broken() });
        break_open(&door, at(0));
        for _ in 0..2 {
            door.settle(at(1_000), ticket(door.admit(at(1_000), &of(1))), Outcome::Success);
        }
        assert!(door.snapshot(at(1_000)).share < 1.0);
        let passed = (0..20).filter(|_| check(&door, at(1_001), policy, enforcement).0).count();
        assert_eq!(passed, 20, "{policy:?} {enforcement:?}");
        let counted = door.snapshot(at(1_001)).shadowed[Policy::Ramp as usize];
        assert_eq!(counted > 0, enforcement == Shadow, "{counted} by {policy:?} {enforcement:?}");
    }
}

#[test]
fn who_waits_for_a_limit_goes_before_others_are_let_through_beyond_it() {
    for enforcement in [Shadow, Off] {
        let door = door(limited(1, 4));
        let held = ticket(door.admit(at(0), &of(1)));
        let waiting = [0, 1].map(|waiter| {
            let place = place(door.admit(at(0), &of(1)));
            let Admit::Wait(place) = door.claim(at(0), place, waiter) else { panic!("there is no place") };
            place
        });
        door.switch().set(Policy::Limit, enforcement);
        let beyond = ticket(door.admit(at(1), &of(1)));
        assert_eq!([door.turn(), door.turn(), door.turn()], [Some(0), Some(1), None]);
        let went = waiting.map(|place| ticket(door.claim(at(1), place, 9)));
        assert_eq!(door.snapshot(at(1)).limit.unwrap().in_flight, 4);
        went.into_iter().chain([held, beyond]).for_each(|ticket| door.release(at(2), ticket));
        assert_eq!(door.snapshot(at(2)).limit.unwrap().in_flight, 0);
    }
}

#[test]
fn shedding_in_shadow_leaves_the_request_to_the_limit() {
    let lane = Lane {
        shed: Some(shed::Config { target: Span::ZERO, ..shed::Config::default() }),
        ..Lane::default()
    };
    let door: Door = Gate::new(limited(1, 1), lane, at(0));
    // So many arrivals at a slow drain that the queue stands.
    for call in 0..20 {
        door.release(at(100 * call + 100), ticket(door.admit(at(100 * call), &of(1))));
    }
    let now = at(2_000);
    let _held = ticket(door.admit(now, &of(1)));
    (0..1_000).for_each(|_| _ = door.admit(now, &of(1)));
    let reasons = [Enforced, Shadow, Off].map(|enforcement| {
        door.switch().set(Policy::Shed, enforcement);
        refused(door.admit(now, &of(1))).reason
    });
    assert_eq!(reasons, [Reason::Shed, Reason::Full, Reason::Full]);
    assert_eq!(door.snapshot(now).shadowed[Policy::Shed as usize], 1);
}
