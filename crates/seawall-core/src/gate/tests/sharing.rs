//! One throttle in the gates of several routes: a quota of the whole gateway.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::throttle::{OnFull, Per};

fn of_gateway(burst: u64) -> Arc<Rule<Alone<u64>>> {
    rule(throttle::Config { per: Per::Gateway, ..hourly(burst) })
}

/// A route before an upstream of its own, with what all share and what is its own.
fn route(shared: &Arc<Rule<Alone<u64>>>, own: u64, settings: Settings) -> Door {
    door(settings).throttled(vec![shared.clone(), rule(hourly(own))])
}

#[test]
fn routes_spend_one_quota() {
    let shared = of_gateway(10);
    let doors = [10, 10].map(|own| route(&shared, own, Settings::default()));
    let passed = (0..20).filter(|n| {
        let door = &doors[n % 2];
        match door.admit(at(0), &of(*n as u64)) {
            Admit::Ticket(ticket) => {
                door.release(at(0), ticket);
                true
            }
            Admit::Reject(rejection) => {
                let quota = rejection.standing.map(|standing| standing.quota);
                assert_eq!((rejection.policy, quota), (Policy::Throttle, Some(0)));
                false
            }
            Admit::Wait(place) => panic!("{place:?}"),
        }
    });
    assert_eq!(passed.count(), 10);
}

#[test]
fn a_users_allowance_is_over_all_routes() {
    let shared = rule(hourly(2));
    let doors = [9, 9].map(|own| route(&shared, own, Settings::default()));
    for door in &doors {
        let held = ticket(door.admit(at(0), &of(1)));
        door.release(at(0), held);
    }
    assert_eq!(refused(doors[0].admit(at(0), &of(1))).standing.unwrap().quota, 0);
    let held = ticket(doors[0].admit(at(0), &of(2)));
    assert_eq!(held.standing.unwrap().remaining, 1);
    doors[0].release(at(0), held);
}

#[test]
fn what_leaves_one_routes_queue_is_there_for_another() {
    let shared = of_gateway(3);
    let (narrow, wide) = (route(&shared, 9, limited(1, 1)), route(&shared, 9, Settings::default()));
    let held = ticket(narrow.admit(at(0), &of(1)));
    let waits = place(narrow.admit(at(0), &of(2)));
    let last = ticket(wide.admit(at(0), &of(3)));
    assert_eq!(refused(wide.admit(at(0), &of(4))).policy, Policy::Throttle);
    narrow.leave(at(0), waits);
    let again = ticket(wide.admit(at(0), &of(4)));
    assert_eq!(refused(narrow.admit(at(0), &of(5))).policy, Policy::Throttle);
    narrow.release(at(0), held);
    wide.release(at(0), last);
    wide.release(at(0), again);
}

#[test]
fn a_look_at_the_standing_changes_no_count() {
    for on_full in [OnFull::Refuse, OnFull::Share, OnFull::Evict] {
        let rule: Rule<Alone<u64>> =
            Rule::new(throttle::Config { max_users: 1, on_full, ..hourly(1) }, at(0));
        assert_eq!(rule.standing(at(0), &of(1)).map(|standing| standing.remaining), Ok(0));
        rule.take(at(0), &of(1)).unwrap();
        rule.take(at(0), &of(1)).unwrap_err();
        _ = rule.take(at(0), &of(2));
        let before = rule.snapshot();
        for user in [1, 2, 3] {
            _ = rule.standing(at(0), &of(user));
        }
        assert_eq!(rule.snapshot(), before, "{on_full:?}");
    }
}

proptest! {
    #[test]
    fn a_request_takes_of_all_or_of_none(
        burst in 1..40_u64,
        owns in [1..12_u64, 1..12_u64],
        places in 1..4_u32,
        asked in prop::collection::vec((0..2_usize, 0..3_u64, 1..4_u32, any::<bool>()), 0..80),
    ) {
        let shared = of_gateway(burst);
        let doors = owns.map(|own| route(&shared, own, limited(places, 0)));
        let (mut left, mut own_left) = (burst, owns.map(|own| [own; 3]));
        let mut held: [Vec<Ticket>; 2] = Default::default();
        for (n, user, cost, releases) in asked {
            let (own, cost_left) = (&mut own_left[n][user as usize], u64::from(cost));
            let fits = left >= cost_left && *own >= cost_left && held[n].len() < places as usize;
            match doors[n].admit(at(0), &Request { cost, ..of(user) }) {
                Admit::Ticket(ticket) => {
                    prop_assert!(fits);
                    left -= cost_left;
                    *own -= cost_left;
                    held[n].push(ticket);
                }
                Admit::Reject(_) => prop_assert!(!fits),
                Admit::Wait(place) => panic!("{place:?}"),
            }
            let standing = shared.standing(at(0), &of(0)).map(|after| after.remaining + 1);
            prop_assert_eq!(standing.unwrap_or(0), left);
            if releases && let Some(ticket) = held[n].pop() {
                doors[n].release(at(0), ticket);
            }
        }
        for (door, held) in doors.iter().zip(held) {
            held.into_iter().for_each(|ticket| door.release(at(0), ticket));
        }
    }
}
