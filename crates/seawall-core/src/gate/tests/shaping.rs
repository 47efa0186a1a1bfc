//! Waiting for tokens, driven by ids as the lab does.

use super::*;
use crate::throttle::Shape;

/// One token each tenth of a second, for which up to so many wait a second at most.
fn shaped(line: u32) -> Arc<Rule<Alone<u64>>> {
    let quota = Quota::new(Rate::per_second(10), 1).unwrap();
    let shape = Some(Shape { wait: ms(1_000), line });
    rule(throttle::Config { shape, ..throttle::Config::per_user(quota) })
}

#[test]
fn a_slot_is_a_time_at_which_the_request_goes_on() {
    let rules = vec![rule(hourly(9)), shaped(8), rule(hourly(2))];
    let door = door(limited(1, 1)).throttled(rules.clone());
    let first = ticket(door.admit(at(0), &of(1)));
    let waits = place(door.admit(at(0), &of(1)));
    assert_eq!((waits.wake_at(), rules[1].snapshot().waiting), (at(100), 1));
    let waits = place(door.claim(at(99), waits, 7));
    assert_eq!(tokens(&rules[2], at(99), 1), 1, "what lies behind is asked at the slot");

    // At its slot it is one for the queue of the limit, and its waiter is parked there.
    let waits = place(door.claim(at(100), waits, 7));
    assert_eq!((waits.wake_at(), rules[1].snapshot().waiting), (Time::MAX, 0));
    door.release(at(150), first);
    assert_eq!(due(&door), [7]);
    let second = ticket(door.claim(at(150), waits, 7));
    assert_eq!([0, 2].map(|index: usize| tokens(&rules[index], at(150), 1)), [7, 0]);
    door.release(at(200), second);
}

#[test]
fn who_waited_for_tokens_is_told_how_it_stands_with_those() {
    let door = door(Settings::default()).throttled(vec![rule(hourly(2)), shaped(8)]);
    door.release(at(0), ticket(door.admit(at(0), &of(1))));
    let waits = place(door.admit(at(0), &of(1)));
    // The quota before it has none left either.
    let standing = ticket(door.claim(at(100), waits, 0)).standing.unwrap();
    assert_eq!((standing.quota, standing.remaining), (1, 0));
}

#[test]
fn who_is_refused_at_its_slot_has_taken_nothing() {
    let rules = vec![shaped(8), rule(hourly(1))];
    let door = door(Settings::default()).throttled(rules.clone());
    door.release(at(0), ticket(door.admit(at(0), &of(1))));
    let waits = place(door.admit(at(0), &of(1)));
    assert_eq!(refused(door.claim(at(100), waits, 0)).standing.unwrap().quota, 1);
    let snapshot = rules[0].snapshot();
    assert_eq!((snapshot.waiting, snapshot.waited), (0, 1));
    assert_eq!(tokens(&rules[0], at(100), 1), 1);
}

#[test]
fn a_deadline_before_the_slot_is_refused_at_once() {
    let door = door(Settings::default()).throttled(vec![shaped(8)]);
    door.release(at(0), ticket(door.admit(at(0), &of(1))));
    let until = |deadline| Request { deadline, ..of(1) };
    let refusal = refused(door.admit(at(0), &until(at(100))));
    assert_eq!((refusal.policy, refusal.reason), (Policy::Throttle, Reason::Expired));
    let waits = place(door.admit(at(0), &until(at(101))));
    assert_eq!(refused(door.claim(at(101), waits, 0)).reason, Reason::Expired, "claimed too late");
}

#[test]
fn the_line_is_bounded_and_who_leaves_makes_room() {
    let rule = shaped(2);
    let door = door(Settings::default()).throttled(vec![rule.clone()]);
    for user in 1..4 {
        door.release(at(0), ticket(door.admit(at(0), &of(user))));
    }
    let [first, second] = [1, 2].map(|user| place(door.admit(at(0), &of(user))));
    let refusal = refused(door.admit(at(0), &of(3)));
    assert_eq!((refusal.reason, refusal.retry_after), (Reason::Throttled, ms(100)));
    door.leave(at(0), first);
    assert_eq!(rule.snapshot().waiting, 1);
    let third = place(door.admit(at(0), &of(3)));
    assert_eq!(third.wake_at(), at(100));
    [second, third].into_iter().for_each(|place| door.leave(at(0), place));
    assert_eq!(rule.snapshot().waiting, 0);
}

#[test]
fn in_shadow_nobody_waits() {
    let door = door(Settings::default()).throttled(vec![shaped(8)]);
    door.switch().set(Policy::Throttle, Enforcement::Shadow);
    (0..5).for_each(|_| door.release(at(0), ticket(door.admit(at(0), &of(1)))));
    assert_eq!(door.snapshot(at(0)).shadowed[Policy::Throttle as usize], 4);
}
