//! Blocked and let in again: by hand, and into a service whose capacity comes back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::*;
use crate::gate::block::Mode;

fn block(door: &Door, now: Time) {
    door.block(now, Arc::from("leaking memory"));
}

fn readmit(door: &Door, now: Time, over: Span) {
    door.readmit(now, 1_000_000, over, &mut Rng::new(1, 1));
}

#[test]
fn blocked_comes_before_every_other_policy_and_says_so() {
    let door = limited(1, 0);
    let door = super::door(door).throttled(vec![rule(hourly(1))]);
    block(&door, at(0));
    let rejection = refused(door.admit(at(0), &of(1)));
    assert_eq!((rejection.policy, rejection.reason), (Policy::Block, Reason::Blocked));
    assert_eq!(rejection.retry_after, ASK_AGAIN);
    assert_eq!(tokens(&door.rules()[0], at(0), 1), 1, "a blocked request spends no quota");
    let snapshot = door.snapshot(at(1)).block;
    assert_eq!((snapshot.mode, snapshot.share, snapshot.refused), (Mode::Blocked, 0.0, 1));
    assert_eq!(snapshot.why.as_deref(), Some("leaking memory"));
    assert_eq!(changes(&door), [Change::Blocked]);
}

#[test]
fn those_who_wait_are_turned_away_with_their_tokens() {
    let door = door(limited(1, 8)).throttled(vec![rule(hourly(2))]);
    let first = ticket(door.admit(at(0), &of(1)));
    let waiting = place(door.admit(at(0), &of(1)));
    let Admit::Wait(waiting) = door.claim(at(0), waiting, 7) else { panic!("the place is taken") };
    block(&door, at(1));
    door.settle(at(2), first, Outcome::Success);
    assert_eq!(due(&door), [7]);
    assert_eq!(refused(door.claim(at(2), waiting, 7)).policy, Policy::Block);
    assert_eq!(tokens(&door.rules()[0], at(2), 1), 1);
    assert_eq!(door.snapshot(at(2)).limit.unwrap().in_flight, 0);
}

#[test]
fn an_open_route_has_nothing_to_let_in() {
    let door = door(Settings::default());
    readmit(&door, at(0), ms(1_400));
    assert_eq!((changes(&door), door.snapshot(at(0)).block.mode), (vec![], Mode::Open));
}

/// A request each 10 ms for so many of them, each answered at once like this.
fn serve(door: &Door, from: u64, requests: u64, outcome: Outcome) -> usize {
    let serve = |number| match door.admit(at(from + number * 10), &of(number)) {
        Admit::Ticket(ticket) => {
            door.settle(at(from + number * 10), ticket, outcome);
            true
        }
        _ => false,
    };
    (0..requests).filter(|number| serve(*number)).count()
}

#[test]
fn the_share_grows_while_all_is_well_and_falls_on_a_relapse() {
    let door = door(Settings::default());
    block(&door, at(0));
    assert_eq!(serve(&door, 0, 100, Outcome::Success), 0);
    readmit(&door, at(1_000), ms(14_000));
    serve(&door, 1_000, 450, Outcome::Success);
    let grown = door.snapshot(at(5_500)).block.share;
    assert!(grown >= 0.4, "{grown}");
    serve(&door, 5_500, 250, Outcome::Failure);
    let fallen = door.snapshot(at(8_000)).block.share;
    assert!(fallen <= grown / 2.0, "{fallen} after {grown}");
    serve(&door, 8_000, 3_000, Outcome::Success);
    assert_eq!(door.snapshot(at(38_000)).block.mode, Mode::Open);
    assert_eq!(serve(&door, 38_000, 100, Outcome::Success), 100);
    assert_eq!(changes(&door), [Change::Blocked, Change::Admitting, Change::Admitted]);
}

#[test]
fn a_part_may_be_let_in_and_stays_a_part() {
    let door = door(Settings::default());
    block(&door, at(0));
    door.readmit(at(0), 200_000, ms(1_400), &mut Rng::new(1, 1));
    serve(&door, 0, 1_000, Outcome::Success);
    let passed = serve(&door, 10_000, 1_000, Outcome::Success);
    assert!((195..=205).contains(&passed), "{passed}");
    assert_eq!(door.snapshot(at(20_000)).block.mode, Mode::Admitting);
}

#[test]
fn another_word_goes_on_from_the_share_that_passes() {
    let door = door(Settings::default());
    let share = |millis| door.snapshot(at(millis)).block.share;
    block(&door, at(0));
    door.readmit(at(0), 500_000, ms(1_400), &mut Rng::new(1, 1));
    serve(&door, 0, 1_000, Outcome::Success);
    readmit(&door, at(10_000), ms(1_400));
    assert_eq!(share(10_000), 0.5, "more is to pass, not less");
    door.readmit(at(10_000), 200_000, ms(1_400), &mut Rng::new(1, 1));
    assert_eq!(share(10_000), 0.2);
    block(&door, at(10_000));
    readmit(&door, at(10_000), ms(1_400));
    assert_eq!(share(10_000), 0.05);
}

#[test]
fn refusals_behind_the_block_stop_the_ramp() {
    let door = door(limited(1, 0));
    let _held = ticket(door.admit(at(0), &of(1)));
    block(&door, at(0));
    readmit(&door, at(0), ms(1_400));
    serve(&door, 0, 1_000, Outcome::Success);
    assert_eq!(door.snapshot(at(10_000)).block.share, 0.05);
}

#[test]
fn what_was_admitted_before_the_last_word_reports_into_nothing() {
    let door = door(Settings::default());
    block(&door, at(0));
    readmit(&door, at(0), ms(1_400));
    let early = ticket(door.admit(at(0), &of(1)));
    block(&door, at(10));
    readmit(&door, at(20), ms(1_400));
    door.settle(at(5_000), early, Outcome::Success);
    assert_eq!(door.snapshot(at(5_000)).block.share, 0.05);
}

#[test]
fn a_block_in_shadow_only_counts_and_one_that_is_off_does_nothing() {
    let door = door(Settings::default());
    block(&door, at(0));
    door.switch().set(Policy::Block, Enforcement::Shadow);
    assert_eq!(serve(&door, 0, 10, Outcome::Success), 10);
    assert_eq!(door.snapshot(at(0)).shadowed[Policy::Block as usize], 10);
    door.switch().set(Policy::Block, Enforcement::Off);
    assert_eq!(serve(&door, 0, 10, Outcome::Success), 10);
    assert_eq!(door.snapshot(at(0)).shadowed[Policy::Block as usize], 10);
}

/// Eight workers of exponential 10 ms, whose capacity comes back linearly.
struct Recovery {
    seed: u64,
    /// Arrivals, as a share of the whole capacity.
    load: f64,
    over: Span,
}

const WORKERS: usize = 8;
const DEADLINE: Span = Span::from_millis(250);
const BLOCKED: u64 = 10_000;
const READMITTED: u64 = 40_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happens {
    Arrival,
    Done(u64),
}

impl Recovery {
    /// The share of the capacity that is there.
    fn capacity(now: Time) -> f64 {
        match now.as_nanos() as f64 / 1e6 {
            early if early < BLOCKED as f64 => 1.0,
            now => 0.2 + 0.8 * ((now - READMITTED as f64) / 20_000.0).clamp(0.0, 1.0),
        }
    }

    /// Answers in time, by the second of the arrival, as a share of the arrivals.
    fn run(&self) -> Vec<f64> {
        let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
        let settings = Settings { limit: Some(limit::Config::default()), ..Settings::default() };
        let door: Door = Gate::new(settings, lane, at(0));
        let (mut arrivals, mut work) = (Rng::new(self.seed, 1), Rng::new(self.seed, 2));
        let gap = ms(10).scaled(1.0 / (self.load * WORKERS as f64));
        let mut events = BinaryHeap::from([Reverse((at(0), Happens::Arrival))]);
        let (mut offered, mut good) = (vec![0.0_f64; 81], vec![0.0_f64; 81]);
        let (mut jobs, mut places) = (BTreeMap::new(), BTreeMap::new());
        let mut waiting = std::collections::VecDeque::new();
        let (mut busy, mut number, mut word) = (0, 0_u64, 0);
        while let Some(Reverse((now, event))) = events.pop() {
            if word == 0 && now >= at(BLOCKED) {
                (word, ()) = (1, block(&door, now));
            }
            if word == 1 && now >= at(READMITTED) {
                (word, ()) = (2, readmit(&door, now, self.over));
            }
            let mut admitted = Vec::new();
            match event {
                Happens::Arrival if now >= at(80_000) => {}
                Happens::Arrival => {
                    number += 1;
                    offered[(now.as_nanos() / 1_000_000_000) as usize] += 1.0;
                    let request = Request { deadline: now + DEADLINE, ..of(number) };
                    match door.admit(now, &request) {
                        Admit::Ticket(ticket) => admitted.push((number, now, ticket)),
                        Admit::Wait(place) => {
                            if let Admit::Wait(place) = door.claim(now, place, number) {
                                places.insert(number, (now, place));
                            }
                        }
                        Admit::Reject(_) => {}
                    }
                    events.push(Reverse((now + arrivals.exponential(gap), Happens::Arrival)));
                }
                Happens::Done(job) => {
                    busy -= 1;
                    let (since, ticket): (Time, Ticket) = jobs.remove(&job).unwrap();
                    let in_time = now.since(since) <= DEADLINE;
                    good[(since.as_nanos() / 1_000_000_000) as usize] += f64::from(u32::from(in_time));
                    door.settle(now, ticket, if in_time { Outcome::Success } else { Outcome::TimedOut });
                }
            }
            while let Some(due) = door.turn() {
                let Some((since, place)) = places.remove(&due) else { continue };
                match door.claim(now, place, due) {
                    Admit::Ticket(ticket) => admitted.push((due, since, ticket)),
                    Admit::Wait(place) => _ = places.insert(due, (since, place)),
                    Admit::Reject(_) => {}
                }
            }
            for (job, since, ticket) in admitted {
                jobs.insert(job, (since, ticket));
                waiting.push_back(job);
            }
            while busy < WORKERS && !waiting.is_empty() {
                busy += 1;
                let ends = now + work.exponential(ms(10)).scaled(1.0 / Recovery::capacity(now));
                events.push(Reverse((ends, Happens::Done(waiting.pop_front().unwrap()))));
            }
        }
        good.iter().zip(offered).map(|(good, offered)| good / offered.max(1.0)).collect()
    }
}

#[test]
fn a_service_that_comes_back_over_twenty_seconds_is_let_in_as_it_comes_without_relapse() {
    for load in [0.8, 0.9] {
        for seed in 0..4 {
            let shares = Recovery { seed, load, over: Span::from_secs(10) }.run();
            assert_eq!(shares[12..40].iter().sum::<f64>(), 0.0, "blocked");
            let back = (40..80).find(|second| shares[*second] >= 0.95).unwrap();
            // An oracle that admits exactly the capacity takes 14 and 16 s.
            assert!(back <= 65, "load {load}, seed {seed}: back after {} s", back - 40);
            let after = shares[back + 1..80].iter().copied().fold(1.0, f64::min);
            assert!(after >= 0.85, "load {load}, seed {seed}: {after} after it was back");
        }
    }
}
