//! Who in line is served first, who gives way, and how places are shared between tenants.

use std::vec;
use std::vec::Vec;

use super::*;

fn with(discipline: Discipline, limit: u32, queue: u32) -> Limit<u64> {
    let config = Config { ceiling: Ceiling::Fixed(limit), queue, discipline, bulkhead: None };
    let mut limit = Limit::new(config, at(0));
    limit.add_lane(Lane::default());
    limit
}

/// A limit whose places are shared between tenants, each of whom may hold this share.
fn shared(limit: u32, share_percent: u32) -> Limit<u64> {
    let bulkhead = bulkhead::Config::new(bulkhead::Settings { share_percent, tenants: 100 }).unwrap();
    let mut limit = Limit::new(
        Config { ceiling: Ceiling::Fixed(limit), bulkhead: Some(bulkhead), ..Config::default() },
        at(0),
    );
    limit.add_lane(Lane::default());
    limit
}

/// One joins the line, under a number by which it is told.
fn wait(limit: &mut Limit<u64>, now: Time, number: u64, request: &Request) -> Turn {
    let waits = turn(limit.admit(now, 0, request));
    turn(limit.claim(now, waits, number))
}

/// Serves the line to its end; says in which order.
fn served(limit: &mut Limit<u64>, now: Time, mut held: Slot, turns: &BTreeMap<u64, Turn>) -> Vec<u64> {
    let mut order = Vec::new();
    loop {
        limit.release(now, held);
        let told = due(limit);
        order.extend(&told);
        let granted = told.iter().find_map(|number| match limit.claim(now, turns[number], *number) {
            Answer::Slot(slot) => Some(slot),
            Answer::Wait(_) | Answer::Reject(_) => None,
        });
        match granted {
            Some(slot) => held = slot,
            None => return order,
        }
    }
}

/// Arrivals far above what drains, so that the queue stands.
fn overload(limit: &mut Limit<u64>, from: Time) -> Time {
    let mut now = warm(limit, 0, from);
    let mut events = Events::default();
    for _ in 0..400 {
        now += Span::from_millis(3);
        limit.arrive(now, 0, &mut events);
    }
    assert!(limit.snapshot(now).stands);
    now
}

#[test]
fn adaptive_lifo_serves_the_oldest_first_until_the_queue_stands_and_then_the_newest() {
    for (stands, expected) in [(false, [0, 1, 2]), (true, [2, 1, 0])] {
        let mut limit = with(Discipline::AdaptiveLifo, 2, 8);
        let now = if stands { overload(&mut limit, at(0)) } else { at(0) };
        let held = slot(limit.admit(now, 0, &request()));
        let _other = slot(limit.admit(now, 0, &request()));
        let turns = (0..3).map(|number| (number, wait(&mut limit, now, number, &request()))).collect();
        assert_eq!(served(&mut limit, now, held, &turns), expected, "stands: {stands}");
    }
}

#[test]
fn under_adaptive_lifo_a_newcomer_to_a_full_line_takes_the_place_of_the_oldest_equal() {
    let mut limit = with(Discipline::AdaptiveLifo, 1, 2);
    let now = overload(&mut limit, at(0));
    let held = slot(limit.admit(now, 0, &request()));
    let mut turns: BTreeMap<u64, Turn> =
        (0..2).map(|number| (number, wait(&mut limit, now, number, &request()))).collect();
    assert_eq!(refused(limit.admit(now, 0, &of(Tier::Sheddable))), Reason::Full);
    turns.insert(2, wait(&mut limit, now, 2, &request()));
    assert_eq!(due(&mut limit), [0]);
    assert_eq!(refused(limit.claim(now, turns[&0], 0)), Reason::Full);
    assert_eq!(served(&mut limit, now, held, &turns), [2, 1]);
}

#[test]
fn under_adaptive_lifo_nobody_gives_way_to_a_tenant_who_holds_more() {
    let mut limit = with(Discipline::AdaptiveLifo, 1, 2);
    let bulkhead =
        Some(bulkhead::Config::new(bulkhead::Settings { share_percent: 100, tenants: 9 }).unwrap());
    let ceiling = Ceiling::Fixed(1);
    limit.configure(Config { ceiling, queue: 2, discipline: Discipline::AdaptiveLifo, bulkhead }, at(0));
    let now = overload(&mut limit, at(0));
    let user = |key| Request::new(Key(key));
    let _held = slot(limit.admit(now, 0, &user(1)));
    let (small, _) = (wait(&mut limit, now, 0, &user(2)), wait(&mut limit, now, 1, &user(1)));
    for number in 2..9 {
        wait(&mut limit, now, number, &user(1));
        assert_eq!(due(&mut limit), [number - 1], "the oldest of its own");
    }
    assert!(matches!(limit.claim(now, small, 0), Answer::Wait(_)));
}

#[test]
fn by_tier_the_most_important_are_served_first() {
    let mut limit = with(Discipline::ByTier, 1, 8);
    let held = slot(limit.admit(at(0), 0, &request()));
    let tiers = [Tier::Sheddable, Tier::Critical, Tier::SheddablePlus, Tier::Critical, Tier::CriticalPlus];
    let turns = (0..).zip(tiers).map(|(number, tier)| (number, wait(&mut limit, at(0), number, &of(tier))));
    let turns = turns.collect();
    assert_eq!(served(&mut limit, at(1), held, &turns), [4, 1, 3, 2, 0]);
}

#[test]
fn codel_thins_a_line_that_has_been_old_for_an_interval_and_spares_the_last_in_it() {
    let mut limit = with(Discipline::Codel(codel::Config::default()), 1, 8);
    let mut held = slot(limit.admit(at(0), 0, &request()));
    let turns: Vec<Turn> = (0..4).map(|number| wait(&mut limit, at(0), number, &request())).collect();
    limit.release(at(10), held);
    assert_eq!(due(&mut limit), [0], "above the target, but not for long");
    held = slot(limit.claim(at(10), turns[0], 0));
    limit.release(at(120), held);
    assert_eq!(due(&mut limit), [1, 2], "the one is dropped, the next served");
    assert_eq!(refused(limit.claim(at(120), turns[1], 1)), Reason::Shed);
    held = slot(limit.claim(at(120), turns[2], 2));
    limit.release(at(500), held);
    slot(limit.claim(at(500), turns[3], 3));
    assert_eq!(limit.snapshot(at(500)).dropped, 1);
}

#[test]
fn a_tenant_holds_no_more_than_its_share_and_others_pass_those_of_it_who_wait() {
    let mut limit = shared(4, 50);
    let user = |key| Request::new(Key(key));
    let held: Vec<Slot> = (0..2).map(|_| slot(limit.admit(at(0), 0, &user(1)))).collect();
    let waits = wait(&mut limit, at(0), 7, &user(1));
    let _others: Vec<Slot> = (0..2).map(|_| slot(limit.admit(at(0), 0, &user(2)))).collect();
    assert_eq!(limit.snapshot(at(0)).tenants, 2);
    held.into_iter().take(1).for_each(|slot| limit.release(at(1), slot));
    assert_eq!(due(&mut limit), [7]);
    slot(limit.claim(at(1), waits, 7));
}

/// The mean places of tenants who want so many each, all the time.
fn settled(capacity: u32, demands: &[f64]) -> Vec<f64> {
    let mut limit = shared(capacity, 100);
    let mut rng = Rng::new(1, 0);
    let mut slots: Vec<(usize, Slot)> = Vec::new();
    let mut turns: BTreeMap<u64, (usize, Turn)> = BTreeMap::new();
    let (mut now, mut number, mut means) = (at(0), 0, vec![0.0; demands.len()]);
    for step in 0..5_000 {
        now += ms(1);
        for (tenant, demand) in demands.iter().copied().enumerate() {
            let busy = slots.iter().filter(|(of, _)| *of == tenant).count();
            let line = turns.values().filter(|(of, _)| *of == tenant).count();
            for _ in busy + line..demand as usize {
                number += 1;
                match limit.admit(now, 0, &Request::new(Key(tenant as u64))) {
                    Answer::Slot(slot) => slots.push((tenant, slot)),
                    Answer::Wait(waits) => {
                        turns.insert(number, (tenant, turn(limit.claim(now, waits, number))));
                    }
                    Answer::Reject(_) => {}
                }
            }
        }
        if !slots.is_empty() {
            let done = rng.below(slots.len() as u64) as usize;
            let (_, slot) = slots.swap_remove(done);
            limit.release(now, slot);
        }
        for told in due(&mut limit) {
            let (tenant, waits) = turns.remove(&told).unwrap();
            if let Answer::Slot(slot) = limit.claim(now, waits, told) {
                slots.push((tenant, slot));
            }
        }
        if step >= 1_000 {
            slots.iter().for_each(|(tenant, _)| means[*tenant] += 1.0 / 4_000.0);
        }
    }
    means
}

#[test]
fn between_tenants_places_are_shared_max_min() {
    let cases: [(u32, &[f64]); 3] =
        [(9, &[1.0, 4.0, 10.0]), (13, &[2.0, 100.0, 3.0, 9.0]), (20, &[5.0, 5.0, 5.0])];
    for (capacity, demands) in cases {
        let (got, fair) = (settled(capacity, demands), bulkhead::max_min(f64::from(capacity), demands));
        for (got, fair) in got.iter().zip(&fair) {
            assert!((got - fair).abs() < 0.15 * fair, "{demands:?}: {got} of {fair}");
        }
    }
}

#[test]
fn when_the_line_is_full_the_tenant_with_the_most_makes_room() {
    let mut limit = shared(1, 100);
    let user = |key| Request::new(Key(key));
    let _held = slot(limit.admit(at(0), 0, &user(1)));
    let turns: Vec<Turn> = (0..6).map(|number| wait(&mut limit, at(0), number, &user(1))).collect();
    assert_eq!(refused(limit.admit(at(0), 0, &user(1))), Reason::Full, "not for one of its own");
    wait(&mut limit, at(0), 6, &user(2));
    assert_eq!(due(&mut limit), [5]);
    assert_eq!(refused(limit.claim(at(0), turns[5], 5)), Reason::Full);
    (7..9).for_each(|number| _ = wait(&mut limit, at(0), number, &user(2)));
    assert_eq!(refused(limit.admit(at(0), 0, &user(2))), Reason::Full, "four and three: no more to gain");
}

#[test]
fn a_bulkhead_that_comes_and_goes_leaks_nothing() {
    let mut limit = shared(2, 50);
    let config = |bulkhead| Config { ceiling: Ceiling::Fixed(2), bulkhead, ..Config::default() };
    let first = slot(limit.admit(at(0), 0, &request()));
    let waits = wait(&mut limit, at(0), 0, &request());
    limit.configure(config(None), at(1));
    assert_eq!(due(&mut limit), [0]);
    let second = slot(limit.claim(at(1), waits, 0));
    limit.configure(config(Some(bulkhead::Config::default())), at(2));
    limit.release(at(3), first);
    limit.release(at(3), second);
    let third = slot(limit.admit(at(4), 0, &request()));
    let snapshot = limit.snapshot(at(4));
    assert_eq!((snapshot.in_flight, snapshot.tenants), (1, 1));
    limit.release(at(5), third);
    assert_eq!(limit.snapshot(at(5)).tenants, 0);
}
