mod disciplines;
mod model;

use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

use super::*;
use crate::request::{Key, Tier};
use crate::rng::Rng;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn request() -> Request {
    Request::new(Key(1))
}

fn until(deadline: Time) -> Request {
    Request { deadline, ..request() }
}

fn of(tier: Tier) -> Request {
    Request { tier, ..request() }
}

/// A limit without lanes.
fn bare(limit: u32, queue: u32) -> Limit<u64> {
    Limit::new(Config { ceiling: Ceiling::Fixed(limit), queue, ..Config::default() }, at(0))
}

/// A limit with one lane that bounds nothing.
fn fixed(limit: u32, queue: u32) -> Limit<u64> {
    let mut limit = bare(limit, queue);
    limit.add_lane(Lane::default());
    limit
}

fn slot(answer: Answer) -> Slot {
    match answer {
        Answer::Slot(slot) => slot,
        other => panic!("not a place in flight: {other:?}"),
    }
}

fn turn(answer: Answer) -> Turn {
    match answer {
        Answer::Wait(turn) => turn,
        other => panic!("not a place in the queue: {other:?}"),
    }
}

fn refused(answer: Answer) -> Reason {
    match answer {
        Answer::Reject(rejection) => rejection.reason,
        other => panic!("not refused: {other:?}"),
    }
}

fn due(limit: &mut Limit<u64>) -> Vec<u64> {
    core::iter::from_fn(|| limit.turn()).collect()
}

/// Sequential calls of 10 ms in this lane, so that the drain is known.
fn warm(limit: &mut Limit<u64>, lane: usize, now: Time) -> Time {
    (0..20).fold(now, |now, _| {
        let slot = slot(limit.admit(now, lane, &request()));
        limit.release(now + ms(10), slot);
        now + ms(10)
    })
}

/// What an open-loop source met.
#[derive(Debug, Default)]
struct Met {
    offered: u64,
    refused: u64,
    in_time: u64,
    latencies: Vec<Span>,
}

impl Met {
    fn refused_share(&self) -> f64 {
        self.refused as f64 / self.offered as f64
    }

    fn p99(&mut self) -> Span {
        self.latencies.sort_unstable();
        self.latencies[self.latencies.len() * 99 / 100]
    }
}

#[derive(Debug)]
struct Job {
    slot: Slot,
    arrived: Time,
}

/// Poisson arrivals → limit and its queue → 8 workers with exponential 10 ms, first in first out.
struct Storm {
    limit: Limit<u64>,
    events: Events,
    rng: Rng,
    now: Time,
    busy: usize,
    line: VecDeque<Job>,
    done: BTreeMap<(Time, u64), Job>,
    waiting: BTreeMap<u64, (Turn, Time)>,
    number: u64,
}

const WORKERS: usize = 8;
const CAPACITY: f64 = 800.0;
const DEADLINE: Span = Span::from_millis(250);

impl Storm {
    fn new(limit: Limit<u64>, seed: u64) -> Storm {
        Storm {
            limit,
            events: Events::default(),
            rng: Rng::new(seed, 0),
            now: at(0),
            busy: 0,
            line: VecDeque::new(),
            done: BTreeMap::new(),
            waiting: BTreeMap::new(),
            number: 0,
        }
    }

    fn send(&mut self, slot: Slot, arrived: Time) {
        self.line.push_back(Job { slot, arrived });
        self.work();
    }

    fn work(&mut self) {
        while self.busy < WORKERS
            && let Some(job) = self.line.pop_front()
        {
            self.busy += 1;
            self.number += 1;
            self.done.insert((self.now + self.rng.exponential(ms(10)), self.number), job);
        }
    }

    fn arrive(&mut self, lane: usize, met: &mut Met) {
        met.offered += 1;
        self.limit.arrive(self.now, lane, &mut self.events);
        match self.limit.admit(self.now, lane, &until(self.now + DEADLINE)) {
            Answer::Slot(slot) => self.send(slot, self.now),
            Answer::Wait(turn) => {
                self.number += 1;
                let Answer::Wait(turn) = self.limit.claim(self.now, turn, self.number) else { panic!() };
                self.waiting.insert(self.number, (turn, self.now));
            }
            Answer::Reject(_) => met.refused += 1,
        }
    }

    fn complete(&mut self, met: &mut Met) {
        let ((now, _), job) = self.done.pop_first().unwrap();
        self.now = now;
        self.busy -= 1;
        self.work();
        let latency = now.since(job.arrived);
        met.in_time += u64::from(latency <= DEADLINE);
        met.latencies.push(latency);
        self.limit.report(now, &job.slot, Outcome::Success, Span::ZERO, &mut self.events);
        self.limit.release(now, job.slot);
        for waiter in due(&mut self.limit) {
            let (turn, arrived) = self.waiting.remove(&waiter).unwrap();
            match self.limit.claim(now, turn, waiter) {
                Answer::Slot(slot) => self.send(slot, arrived),
                Answer::Wait(_) => panic!("told that it was its turn"),
                Answer::Reject(_) => met.refused += 1,
            }
        }
    }

    /// Arrivals at these rates, one for each lane, for `seconds`.
    fn run(&mut self, rates: &[f64], seconds: u64) -> Vec<Met> {
        let end = self.now + Span::from_secs(seconds);
        let mut met: Vec<Met> = rates.iter().map(|_| Met::default()).collect();
        let total: f64 = rates.iter().sum();
        let gap = Span::from_secs_f64(1.0 / total);
        let mut arrival = self.now + self.rng.exponential(gap);
        while self.now < end {
            if self.done.first_key_value().is_some_and(|((at, _), _)| *at <= arrival) {
                self.complete(&mut met[0]);
                continue;
            }
            self.now = arrival;
            let mut point = self.rng.unit() * total;
            let mut lane = 0;
            while lane + 1 < rates.len() && point >= rates[lane] {
                point -= rates[lane];
                lane += 1;
            }
            self.arrive(lane, &mut met[lane]);
            arrival = self.now + self.rng.exponential(gap);
        }
        met
    }
}

/// The shares refused and in time of three seeds of this load, and their worst p99.
fn storm(limit: u32, factor: f64, seconds: u64) -> (f64, f64, Span) {
    let (mut refused, mut in_time, mut p99) = (0.0, 0.0, Span::ZERO);
    for seed in 0..3 {
        let mut storm = Storm::new(fixed(limit, 1_024), seed);
        storm.run(&[CAPACITY * factor], 3);
        let mut met = storm.run(&[CAPACITY * factor], seconds).remove(0);
        refused += met.refused_share() / 3.0;
        in_time += met.in_time as f64 / seconds as f64 / CAPACITY / 3.0;
        p99 = p99.max(met.p99());
    }
    (refused, in_time, p99)
}

#[test]
fn below_capacity_a_burst_queues_and_almost_nothing_is_refused() {
    for limit in [8, 9] {
        let (refused, ..) = storm(limit, 0.9, 60);
        assert!(refused <= 0.002, "{limit}: {refused}");
    }
}

#[test]
fn above_capacity_the_standing_queue_is_cut_and_the_workers_stay_busy() {
    for (limit, slowest) in [(8, ms(66)), (9, ms(70))] {
        let (_, in_time, p99) = storm(limit, 1.2, 30);
        assert!(in_time >= 0.98 && p99 <= slowest, "{limit} at 1.2: {in_time} {p99}");
        let (_, in_time, p99) = storm(limit, 2.0, 20);
        assert!(in_time >= 0.98 && p99 <= slowest, "{limit} at 2: {in_time} {p99}");
    }
}

#[test]
fn a_standing_queue_is_told_and_so_is_its_end() {
    let mut storm = Storm::new(fixed(8, 1_024), 1);
    let changes = |storm: &mut Storm, rate, seconds| {
        storm.run(&[rate], seconds);
        core::iter::from_fn(|| storm.events.pull()).map(|event| event.change).collect::<Vec<_>>()
    };
    assert_eq!(changes(&mut storm, 400.0, 5), []);
    assert_eq!(changes(&mut storm, 2_400.0, 5), [Change::QueueStands]);
    assert!(storm.limit.snapshot(storm.now).stands);
    assert_eq!(changes(&mut storm, 400.0, 5), [Change::QueueDrains]);
    assert!(!storm.limit.snapshot(storm.now).stands);
}

#[test]
fn a_learned_ceiling_serves_those_in_line_when_it_grows() {
    let ceiling =
        Ceiling::Adaptive(adaptive::Config::new(adaptive::Settings { initial: 2, max: 64 }).unwrap());
    let mut limit = Limit::new(Config { ceiling, queue: 1_024, ..Config::default() }, at(0));
    limit.add_lane(Lane::default());
    let mut storm = Storm::new(limit, 1);
    storm.run(&[100.0], 5);
    storm.run(&[700.0], 20);
    let snapshot = storm.limit.snapshot(storm.now);
    assert!((6..=12).contains(&snapshot.limit), "{snapshot:?}");
    assert!((0.008..0.013).contains(&snapshot.baseline.unwrap().as_secs_f64()), "{snapshot:?}");
    let mut events = core::iter::from_fn(|| storm.events.pull());
    assert!(events.any(|event| matches!(event.change, Change::LimitChanged { .. })));
}

#[test]
fn a_place_or_a_place_in_line_or_neither() {
    let mut limit = fixed(2, 1);
    let first = slot(limit.admit(at(0), 0, &request()));
    let _second = slot(limit.admit(at(0), 0, &request()));
    let waits = turn(limit.admit(at(0), 0, &request()));
    assert_eq!(refused(limit.admit(at(0), 0, &request())), Reason::Full);
    let waits = turn(limit.claim(at(1), waits, 7));
    assert_eq!(due(&mut limit), []);
    limit.release(at(2), first);
    assert_eq!(due(&mut limit), [7]);
    // The place is kept: whoever comes now does not overtake.
    let later = turn(limit.admit(at(2), 0, &request()));
    slot(limit.claim(at(3), waits, 7));
    turn(limit.claim(at(3), later, 8));
    let snapshot = limit.snapshot(at(3));
    assert_eq!((snapshot.in_flight, snapshot.waiting, snapshot.full), (2, 1, 1));
}

#[test]
fn who_was_served_before_it_parked_a_waiter_finds_its_place() {
    let mut limit = fixed(1, 1);
    let held = slot(limit.admit(at(0), 0, &request()));
    let waits = turn(limit.admit(at(0), 0, &request()));
    limit.release(at(1), held);
    assert_eq!(due(&mut limit), []);
    slot(limit.claim(at(1), waits, 7));
}

#[test]
fn the_last_waiter_to_be_parked_is_told() {
    let mut limit = fixed(1, 1);
    let held = slot(limit.admit(at(0), 0, &request()));
    let waits = turn(limit.admit(at(0), 0, &request()));
    let waits = turn(limit.claim(at(0), waits, 7));
    let _waits = turn(limit.claim(at(0), waits, 8));
    limit.release(at(1), held);
    assert_eq!(due(&mut limit), [8]);
}

#[test]
fn served_in_order_of_arrival() {
    let mut limit = fixed(1, 8);
    let mut held = slot(limit.admit(at(0), 0, &request()));
    // At one instant, and important ones do not overtake: they only outstay.
    let tiers = [Tier::Sheddable, Tier::CriticalPlus, Tier::SheddablePlus, Tier::Critical];
    let mut turns: BTreeMap<u64, Turn> = BTreeMap::new();
    for (waiter, tier) in (0..).zip(tiers) {
        let waits = turn(limit.admit(at(0), 0, &of(tier)));
        turns.insert(waiter, turn(limit.claim(at(0), waits, waiter)));
    }
    for expected in 0..4 {
        limit.release(at(1), held);
        assert_eq!(due(&mut limit), [expected]);
        held = slot(limit.claim(at(1), turns[&expected], expected));
    }
}

#[test]
fn a_kept_place_whose_waiter_left_goes_to_the_next() {
    let mut limit = fixed(1, 8);
    let held = slot(limit.admit(at(0), 0, &request()));
    let turns: Vec<Turn> = (0..3)
        .map(|waiter| {
            let waits = turn(limit.admit(at(0), 0, &request()));
            turn(limit.claim(at(0), waits, waiter))
        })
        .collect();
    limit.release(at(1), held);
    assert_eq!(due(&mut limit), [0]);
    limit.leave(at(2), turns[1]);
    assert_eq!(due(&mut limit), []);
    limit.leave(at(2), turns[0]);
    assert_eq!(due(&mut limit), [2]);
    let last = slot(limit.claim(at(2), turns[2], 2));
    limit.release(at(3), last);
    let snapshot = limit.snapshot(at(3));
    assert_eq!((snapshot.in_flight, snapshot.waiting), (0, 0));
}

#[test]
fn a_deadline_is_checked_at_the_door_at_the_grant_and_at_the_claim() {
    let mut limit = fixed(1, 8);
    assert_eq!(refused(limit.admit(at(5), 0, &until(at(5)))), Reason::Expired);
    let held = slot(limit.admit(at(5), 0, &request()));
    let early = turn(limit.admit(at(5), 0, &until(at(10))));
    let asks = turn(limit.admit(at(5), 0, &until(at(15))));
    let late = turn(limit.admit(at(5), 0, &until(at(30))));
    for (waiter, waits) in (0..).zip([early, asks, late]) {
        turn(limit.claim(at(6), waits, waiter));
    }
    assert_eq!(refused(limit.claim(at(15), asks, 1)), Reason::Expired);
    limit.release(at(20), held);
    assert_eq!(due(&mut limit), [0, 2], "the first is told that it is over, the last that it may go");
    assert_eq!(refused(limit.claim(at(20), early, 0)), Reason::Expired);
    slot(limit.claim(at(20), late, 2));
    assert_eq!(limit.snapshot(at(20)).expired, 3);
}

#[test]
fn a_place_that_is_claimed_after_the_deadline_goes_to_the_next() {
    let mut limit = fixed(1, 8);
    let held = slot(limit.admit(at(0), 0, &request()));
    let slow = turn(limit.admit(at(0), 0, &until(at(10))));
    let next = turn(limit.admit(at(0), 0, &request()));
    let next = turn(limit.claim(at(0), next, 1));
    limit.release(at(9), held);
    assert_eq!(refused(limit.claim(at(10), slow, 0)), Reason::Expired);
    assert_eq!(due(&mut limit), [1]);
    slot(limit.claim(at(10), next, 1));
    let snapshot = limit.snapshot(at(10));
    assert_eq!((snapshot.in_flight, snapshot.expired), (1, 1));
}

#[test]
fn the_last_of_the_least_important_gives_way_to_a_more_important_one() {
    let mut limit = fixed(1, 3);
    let _held = slot(limit.admit(at(0), 0, &request()));
    let tiers = [Tier::Sheddable, Tier::Sheddable, Tier::SheddablePlus];
    let turns: Vec<Turn> = (0..)
        .zip(tiers)
        .map(|(waiter, tier)| {
            let waits = turn(limit.admit(at(0), 0, &of(tier)));
            turn(limit.claim(at(0), waits, waiter))
        })
        .collect();
    assert_eq!(refused(limit.admit(at(1), 0, &of(Tier::Sheddable))), Reason::Full);
    for expected in [1, 0, 2] {
        turn(limit.admit(at(1), 0, &of(Tier::Critical)));
        assert_eq!(due(&mut limit), [expected]);
        assert_eq!(refused(limit.claim(at(1), turns[expected as usize], expected)), Reason::Full);
    }
    assert_eq!(refused(limit.admit(at(1), 0, &of(Tier::Critical))), Reason::Full);
    turn(limit.admit(at(1), 0, &of(Tier::CriticalPlus)));
    assert_eq!(limit.snapshot(at(1)).waiting, 3);
}

#[test]
fn who_gave_way_and_leaves_without_asking_takes_no_place_along() {
    let mut limit = fixed(1, 1);
    let held = slot(limit.admit(at(0), 0, &request()));
    let gone = turn(limit.admit(at(0), 0, &of(Tier::Sheddable)));
    let stays = turn(limit.admit(at(0), 0, &of(Tier::Critical)));
    limit.leave(at(0), gone);
    assert_eq!(limit.snapshot(at(0)).waiting, 1);
    limit.release(at(0), held);
    slot(limit.claim(at(0), stays, 1));
    assert_eq!(limit.snapshot(at(0)).in_flight, 1);
}

#[test]
fn the_bounds_of_a_lane_hold_and_leave_the_others_alone() {
    let mut limit = bare(4, 64);
    let narrow = limit.add_lane(Lane { max: 1, queue: 2 });
    let wide = limit.add_lane(Lane::default());
    let held = slot(limit.admit(at(0), narrow, &request()));
    let waits = turn(limit.admit(at(0), narrow, &request()));
    let _waits = turn(limit.admit(at(0), narrow, &request()));
    assert_eq!(refused(limit.admit(at(0), narrow, &request())), Reason::Full);
    // Others pass those who wait for a bound of their own.
    let others: Vec<Slot> = (0..3).map(|_| slot(limit.admit(at(1), wide, &request()))).collect();
    let other = turn(limit.admit(at(1), wide, &request()));
    limit.release(at(2), held);
    slot(limit.claim(at(2), waits, 0));
    turn(limit.claim(at(2), other, 1));
    others.into_iter().for_each(|slot| limit.release(at(3), slot));
    assert_eq!(due(&mut limit), [1]);
    let snapshot = limit.snapshot(at(3));
    assert_eq!((snapshot.in_flight, snapshot.waiting), (2, 1));
}

#[test]
fn across_lanes_whoever_has_waited_longest_goes_first() {
    let mut limit = bare(1, 64);
    let lanes = [limit.add_lane(Lane::default()), limit.add_lane(Lane::default())];
    let mut held = slot(limit.admit(at(0), lanes[0], &request()));
    let mut turns = Vec::new();
    for waiter in 0..6_u64 {
        let lane = lanes[[1, 0, 0, 1, 0, 1][waiter as usize]];
        let waits = turn(limit.admit(at(waiter), lane, &request()));
        turns.push(turn(limit.claim(at(waiter), waits, waiter)));
    }
    for expected in 0..6 {
        limit.release(at(9), held);
        assert_eq!(due(&mut limit), [expected]);
        held = slot(limit.claim(at(9), turns[expected as usize], expected));
    }
}

#[test]
fn at_one_instant_too_the_first_to_come_goes_first() {
    let mut limit = bare(1, 64);
    let lanes = [limit.add_lane(Lane::default()), limit.add_lane(Lane::default())];
    let held = slot(limit.admit(at(0), lanes[0], &request()));
    for (waiter, lane) in [(0, lanes[1]), (1, lanes[0])] {
        let waits = turn(limit.admit(at(0), lane, &request()));
        turn(limit.claim(at(0), waits, waiter));
    }
    limit.release(at(1), held);
    assert_eq!(due(&mut limit), [0]);
}

#[test]
fn when_the_whole_queue_is_full_the_least_important_of_any_lane_gives_way() {
    let mut limit = bare(1, 2);
    let lanes = [limit.add_lane(Lane::default()), limit.add_lane(Lane::default())];
    let _held = slot(limit.admit(at(0), lanes[0], &request()));
    for (waiter, tier) in [(0, Tier::SheddablePlus), (1, Tier::Sheddable)] {
        let waits = turn(limit.admit(at(0), lanes[0], &of(tier)));
        turn(limit.claim(at(0), waits, waiter));
    }
    let waits = turn(limit.admit(at(0), lanes[1], &of(Tier::SheddablePlus)));
    turn(limit.claim(at(0), waits, 2));
    assert_eq!(due(&mut limit), [1]);
    turn(limit.admit(at(0), lanes[0], &of(Tier::Critical)));
    assert_eq!(due(&mut limit), [2], "of equals, the last to come");
    assert_eq!(limit.snapshot(at(0)).waiting, 2);
}

#[test]
fn when_only_its_lane_is_full_nobody_of_another_lane_gives_way() {
    let mut limit = bare(1, 64);
    let narrow = limit.add_lane(Lane { max: 1, queue: 1 });
    let wide = limit.add_lane(Lane::default());
    let _held = slot(limit.admit(at(0), narrow, &request()));
    turn(limit.admit(at(0), narrow, &of(Tier::Critical)));
    turn(limit.admit(at(0), wide, &of(Tier::Sheddable)));
    assert_eq!(refused(limit.admit(at(0), narrow, &of(Tier::Critical))), Reason::Full);
}

#[test]
fn a_full_lane_in_a_full_queue_gains_no_place_from_another() {
    let mut limit = bare(1, 2);
    let narrow = limit.add_lane(Lane { max: 1, queue: 1 });
    let wide = limit.add_lane(Lane::default());
    let _held = slot(limit.admit(at(0), wide, &request()));
    turn(limit.admit(at(0), narrow, &of(Tier::Critical)));
    turn(limit.admit(at(0), wide, &of(Tier::Sheddable)));
    assert_eq!(refused(limit.admit(at(0), narrow, &of(Tier::Critical))), Reason::Full);
    turn(limit.admit(at(0), narrow, &of(Tier::CriticalPlus)));
}

#[test]
fn a_burst_may_fill_six_times_the_limit() {
    let mut limit = fixed(2, 1_024);
    let _held: Vec<Slot> = (0..2).map(|_| slot(limit.admit(at(0), 0, &request()))).collect();
    let waiting = (0..100).filter(|_| matches!(limit.admit(at(0), 0, &request()), Answer::Wait(_))).count();
    assert_eq!(waiting, 12);
}

#[test]
fn a_flood_in_a_bounded_lane_neither_cuts_nor_delays_another() {
    let mut limit = bare(8, 1_024);
    let narrow = limit.add_lane(Lane { max: 1, queue: 64 });
    let wide = limit.add_lane(Lane::default());
    let mut now = warm(&mut limit, narrow, at(0));
    let mut events = Events::default();
    let _held = slot(limit.admit(now, narrow, &request()));
    for _ in 0..3_000 {
        now += Span::from_micros(300);
        limit.arrive(now, narrow, &mut events);
        let _ = limit.admit(now, narrow, &request());
    }
    let pressure = limit.arrive(now, narrow, &mut events);
    assert!(pressure.stands && pressure.delay >= ms(800), "{pressure:?}");
    assert!(limit.snapshot(now).stands);
    let pressure = limit.arrive(now, wide, &mut events);
    assert_eq!((pressure.stands, pressure.delay), (false, Span::ZERO));
    let admitted = (0..100).filter(|_| !matches!(limit.admit(now, wide, &request()), Answer::Reject(_)));
    assert_eq!(admitted.count(), 7 + 48);
}

#[test]
fn lanes_that_stand_together_share_one_short_queue() {
    let mut limit = bare(8, 1_024);
    (0..4).for_each(|_| _ = limit.add_lane(Lane::default()));
    let mut storm = Storm::new(limit, 1);
    let rates = [1_300.0, 200.0, 50.0, 50.0];
    storm.run(&rates, 3);
    let met = storm.run(&rates, 20);
    let (mut all, few) = (Met::default(), [met[1].refused_share(), met[2].refused_share()]);
    met.into_iter().for_each(|mut met| all.latencies.append(&mut met.latencies));
    assert!(all.p99() <= ms(66), "{:?}", all.p99());
    assert!(few[0] < 0.3 && few[1] < 0.02, "those who send little are refused little: {few:?}");
}

#[test]
fn a_ceiling_that_sank_grants_nothing_until_in_flight_is_below_it() {
    let mut limit = fixed(4, 8);
    let held: Vec<Slot> = (0..4).map(|_| slot(limit.admit(at(0), 0, &request()))).collect();
    let waits = turn(limit.admit(at(0), 0, &request()));
    let waits = turn(limit.claim(at(0), waits, 0));
    limit.configure(Config { ceiling: Ceiling::Fixed(2), queue: 8, ..Config::default() }, at(1));
    for (slot, told) in held.into_iter().zip([&[][..], &[], &[0], &[]]) {
        limit.release(at(2), slot);
        assert_eq!(due(&mut limit), told);
    }
    slot(limit.claim(at(3), waits, 0));
    assert_eq!(limit.snapshot(at(3)).in_flight, 1);
}

#[test]
fn a_ceiling_or_lane_that_rose_serves_those_in_line() {
    let mut limit = bare(1, 64);
    limit.add_lane(Lane { max: 2, queue: 8 });
    let _held = slot(limit.admit(at(0), 0, &request()));
    for waiter in 0..4 {
        let waits = turn(limit.admit(at(0), 0, &request()));
        turn(limit.claim(at(0), waits, waiter));
    }
    limit.configure(Config { ceiling: Ceiling::Fixed(8), queue: 64, ..Config::default() }, at(1));
    assert_eq!(due(&mut limit), [0]);
    limit.configure_lane(at(1), 0, Lane { max: 4, queue: 8 });
    assert_eq!(due(&mut limit), [1, 2]);
}

#[test]
fn a_ceiling_of_zero_counts_as_one() {
    slot(fixed(0, 0).admit(at(0), 0, &request()));
}

#[test]
fn a_name_that_outlived_its_place_finds_nothing() {
    let mut limit = fixed(1, 8);
    let held = slot(limit.admit(at(0), 0, &request()));
    let stale = turn(limit.admit(at(0), 0, &request()));
    limit.leave(at(0), stale);
    let reused = turn(limit.admit(at(0), 0, &request()));
    assert_eq!(refused(limit.claim(at(0), stale, 1)), Reason::Expired);
    limit.leave(at(0), stale);
    turn(limit.claim(at(0), reused, 2));
    limit.release(at(1), held);
    assert_eq!(due(&mut limit), [2]);
    limit.leave(at(1), stale);
    assert_eq!(limit.snapshot(at(1)).in_flight, 1, "the kept place is not the stale name's to give");
}

#[test]
fn the_delay_is_the_line_at_the_pace_of_the_drain_or_its_age() {
    let mut limit = fixed(1, 64);
    let now = warm(&mut limit, 0, at(0));
    let _held = slot(limit.admit(now, 0, &request()));
    assert_eq!(limit.snapshot(now).delay, Span::ZERO, "nobody waits");
    (0..3).for_each(|_| _ = turn(limit.admit(now, 0, &request())));
    assert_eq!(limit.snapshot(now).delay, ms(40));
    assert_eq!(limit.snapshot(now + ms(500)).delay, ms(500));
}

#[test]
fn the_least_delay_is_that_of_the_luckiest_in_its_interval() {
    let mut limit = fixed(1, 64);
    let mut events = Events::default();
    let mut held = slot(limit.admit(at(0), 0, &request()));
    // One is served each 30 ms, and each has waited since 0.
    let turns: Vec<Turn> = (0..6).map(|_| turn(limit.admit(at(0), 0, &request()))).collect();
    for (waits, now) in turns.into_iter().zip([50, 80, 110, 140, 170, 200]) {
        if now == 110 {
            limit.arrive(at(101), 0, &mut events);
        }
        limit.release(at(now), held);
        held = slot(limit.claim(at(now), waits, 0));
    }
    assert_eq!(limit.arrive(at(202), 0, &mut events).least_delay, ms(110));
    assert_eq!(limit.arrive(at(303), 0, &mut events).least_delay, Span::ZERO, "nobody met any");
}

#[test]
fn who_waited_while_nothing_drained_says_nothing_of_the_next() {
    let mut limit = fixed(1, 64);
    let mut events = Events::default();
    let now = warm(&mut limit, 0, at(0));
    let held = slot(limit.admit(now, 0, &request()));
    let turns: Vec<Turn> = (0..3).map(|_| turn(limit.admit(now, 0, &request()))).collect();
    let later = now + ms(1_000);
    assert_eq!(limit.arrive(later, 0, &mut events).delay, ms(1_000), "it stands still");
    limit.release(later, held);
    assert!(limit.arrive(later, 0, &mut events).delay < ms(200), "and now it does not");
    assert_eq!(limit.arrive(later, 0, &mut events).least_delay, Span::ZERO);
    turns.into_iter().for_each(|turn| limit.leave(later, turn));
}
