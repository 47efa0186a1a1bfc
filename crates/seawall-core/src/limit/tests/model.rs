//! Random courses against a slow and simple model of the same rules.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Arrive { lane: usize, tier: Tier, life: u64 },
    Claim(usize),
    Leave(usize),
    Release(usize),
    Pass(u64),
    Ceiling(u32),
    Bound { lane: usize, max: u32, queue: u32 },
}

fn op() -> impl Strategy<Value = Op> {
    let tier = (0..4_usize).prop_map(|tier| Tier::ALL[tier]);
    prop_oneof![
        8 => (0..2_usize, tier, 0..200_u64).prop_map(|(lane, tier, life)| Op::Arrive { lane, tier, life }),
        3 => any::<usize>().prop_map(Op::Claim),
        2 => any::<usize>().prop_map(Op::Leave),
        4 => any::<usize>().prop_map(Op::Release),
        3 => (0..20_u64).prop_map(Op::Pass),
        1 => (0..5_u32).prop_map(Op::Ceiling),
        1 => (0..2_usize, 0..4_u32, 0..5_u32).prop_map(|(lane, max, queue)| Op::Bound { lane, max, queue }),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waiting,
    Granted,
    Refused(Reason),
}

/// One who joined the line, in the order of arrival.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    id: u64,
    lane: usize,
    tier: Tier,
    deadline: Time,
    fate: Fate,
}

/// What depends on the pace.
#[derive(Clone, Copy)]
struct ByPace {
    late: bool,
    room: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Slot,
    Wait,
    No(Reason),
}

#[derive(Debug)]
struct Model {
    limit: u32,
    queue: usize,
    lanes: Vec<(Lane, u32)>,
    line: Vec<Waiter>,
    next: u64,
    due: Vec<u64>,
}

impl Model {
    fn in_flight(&self) -> u32 {
        self.lanes.iter().map(|(_, in_flight)| in_flight).sum()
    }

    fn below_bound(&self, lane: usize) -> bool {
        self.lanes[lane].1 < self.lanes[lane].0.max
    }

    fn room(&self, lane: usize) -> bool {
        self.in_flight() < self.limit && self.below_bound(lane)
    }

    fn waiting(&self, lanes: &[usize]) -> usize {
        let waits = |waiter: &&Waiter| waiter.fate == Fate::Waiting && lanes.contains(&waiter.lane);
        self.line.iter().filter(waits).count()
    }

    fn lane_queue_room(&self, lane: usize) -> bool {
        let other = 1 - lane;
        let bounds = self.lanes[lane].0;
        let shared = self.below_bound(lane) && self.below_bound(other) && self.waiting(&[other]) > 0;
        let share = if shared { self.limit * 3 } else { self.limit * 6 };
        let allowed = bounds.queue.min(6 * self.limit.min(bounds.max)).min(share);
        (self.waiting(&[lane]) as u32) < allowed
    }

    fn set(&mut self, id: u64, fate: Fate) {
        let waiter = self.line.iter_mut().find(|waiter| waiter.id == id).unwrap();
        waiter.fate = fate;
        self.due.push(id);
    }

    fn join(&mut self, lane: usize, tier: Tier, deadline: Time) -> Told {
        self.line.push(Waiter { id: self.next, lane, tier, deadline, fate: Fate::Waiting });
        Told::Wait
    }

    /// The pace is the limit's own: it says whether a place in line would be late, and whether so many who
    /// wait already leave one by pace alone.
    fn admit(&mut self, now: Time, lane: usize, tier: Tier, deadline: Time, pace: ByPace) -> Told {
        if deadline <= now {
            return Told::No(Reason::Expired);
        }
        if self.room(lane) {
            self.lanes[lane].1 += 1;
            return Told::Slot;
        }
        if pace.late {
            return Told::No(Reason::Full);
        }
        let lane_room = self.lane_queue_room(lane) || pace.room;
        if lane_room && self.waiting(&[0, 1]) < self.queue {
            return self.join(lane, tier, deadline);
        }
        let may = |waiter: &&Waiter| {
            waiter.fate == Fate::Waiting && waiter.tier > tier && (lane_room || waiter.lane == lane)
        };
        match self.line.iter().filter(may).max_by_key(|waiter| (waiter.tier, waiter.id)) {
            Some(victim) => {
                self.set(victim.id, Fate::Refused(Reason::Full));
                self.join(lane, tier, deadline)
            }
            None => Told::No(Reason::Full),
        }
    }

    fn grant(&mut self, now: Time) {
        loop {
            let ready = |waiter: &&Waiter| waiter.fate == Fate::Waiting && self.room(waiter.lane);
            let Some(Waiter { id, lane, deadline, .. }) = self.line.iter().find(ready).copied() else {
                return;
            };
            if deadline <= now {
                self.set(id, Fate::Refused(Reason::Expired));
            } else {
                self.lanes[lane].1 += 1;
                self.set(id, Fate::Granted);
            }
        }
    }

    fn leave(&mut self, now: Time, id: u64) {
        let at = self.line.iter().position(|waiter| waiter.id == id).unwrap();
        let waiter = self.line.remove(at);
        if waiter.fate == Fate::Granted {
            self.lanes[waiter.lane].1 -= 1;
        }
        self.grant(now);
    }

    fn claim(&mut self, now: Time, id: u64) -> Told {
        let waiter = *self.line.iter().find(|waiter| waiter.id == id).unwrap();
        let late = waiter.deadline <= now;
        match waiter.fate {
            Fate::Waiting if !late => return Told::Wait,
            Fate::Granted if !late => {
                self.line.retain(|waiter| waiter.id != id);
                return Told::Slot;
            }
            _ => {}
        }
        self.leave(now, id);
        Told::No(match waiter.fate {
            Fate::Refused(reason) => reason,
            Fate::Waiting | Fate::Granted => Reason::Expired,
        })
    }
}

/// The limit and its model, side by side.
struct Pair {
    limit: Limit<u64>,
    model: Model,
    now: Time,
    turns: Vec<(u64, Turn)>,
    slots: Vec<Slot>,
}

impl Pair {
    fn new() -> Pair {
        let lanes = [Lane { max: 2, queue: 3 }, Lane::default()];
        let mut limit = bare(3, 5);
        lanes.iter().for_each(|lane| _ = limit.add_lane(*lane));
        let lanes = lanes.map(|lane| (lane, 0)).to_vec();
        let model = Model { limit: 3, queue: 5, lanes, line: vec![], next: 0, due: vec![] };
        Pair { limit, model, now: at(0), turns: vec![], slots: vec![] }
    }

    /// Keeps what a verb handed out, and says what it was.
    fn keep(&mut self, id: u64, answer: Answer) -> Told {
        match answer {
            Answer::Slot(slot) => {
                self.slots.push(slot);
                Told::Slot
            }
            Answer::Wait(turn) => {
                self.turns.push((id, turn));
                Told::Wait
            }
            Answer::Reject(rejection) => Told::No(rejection.reason),
        }
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Arrive { lane, tier, life } => {
                let request = Request { tier, deadline: self.now + ms(life), ..request() };
                self.model.next += 1;
                let id = self.model.next;
                let pace = ByPace {
                    late: self.limit.is_too_late(
                        self.now,
                        lane,
                        request.deadline,
                        self.limit.delay(self.now, lane, &self.limit.paces(lane)),
                    ),
                    room: self.limit.lane_queue_has_room(self.now, lane, &request),
                };
                let mut answer = self.limit.admit(self.now, lane, &request);
                if let Answer::Wait(turn) = answer {
                    answer = self.limit.claim(self.now, turn, id);
                }
                let expected = self.model.admit(self.now, lane, tier, request.deadline, pace);
                assert_eq!(self.keep(id, answer), expected);
            }
            Op::Claim(index) if !self.turns.is_empty() => {
                let (id, turn) = self.turns.remove(index % self.turns.len());
                let answer = self.limit.claim(self.now, turn, id);
                assert_eq!(self.keep(id, answer), self.model.claim(self.now, id));
            }
            Op::Leave(index) if !self.turns.is_empty() => {
                let (id, turn) = self.turns.remove(index % self.turns.len());
                self.limit.leave(self.now, turn);
                self.model.leave(self.now, id);
            }
            Op::Release(index) if !self.slots.is_empty() => {
                let slot = self.slots.remove(index % self.slots.len());
                // Held so long that a line is bounded by the limit alone, not by BURST_DELAY.
                self.now = self.now.max(slot.since + ms(60));
                self.model.lanes[slot.lane as usize].1 -= 1;
                self.limit.release(self.now, slot);
                self.model.grant(self.now);
            }
            Op::Claim(_) | Op::Leave(_) | Op::Release(_) => {}
            Op::Pass(millis) => self.now += ms(millis),
            Op::Ceiling(places) => {
                self.model.limit = places.max(1);
                self.limit.configure(
                    Config { ceiling: Ceiling::Fixed(places), queue: 5, ..Config::default() },
                    self.now,
                );
                self.model.grant(self.now);
            }
            Op::Bound { lane, max, queue } => {
                self.model.lanes[lane].0 = Lane { max, queue };
                self.limit.configure_lane(self.now, lane, Lane { max, queue });
                self.model.grant(self.now);
            }
        }
        assert_eq!(due(&mut self.limit), core::mem::take(&mut self.model.due));
        self.check();
    }

    fn check(&self) {
        let snapshot = self.limit.snapshot(self.now);
        assert_eq!(snapshot.in_flight, self.model.in_flight());
        assert_eq!(snapshot.waiting as usize, self.model.waiting(&[0, 1]));
        for lane in 0..2 {
            assert!(
                !self.model.room(lane) || self.model.waiting(&[lane]) == 0,
                "waits although there is room"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn decides_as_the_model_and_leaks_nothing(ops in prop::collection::vec(op(), 1..80)) {
        let mut pair = Pair::new();
        for op in &ops {
            let before = pair.limit.snapshot(pair.now);
            pair.step(op);
            let after = pair.limit.snapshot(pair.now);
            prop_assert!(after.in_flight <= after.limit.max(before.in_flight), "{before:?} {after:?}");
        }
        while !pair.slots.is_empty() || !pair.turns.is_empty() {
            pair.step(&Op::Leave(0));
            pair.step(&Op::Release(0));
        }
        let end = pair.limit.snapshot(pair.now);
        prop_assert_eq!((end.in_flight, end.waiting), (0, 0));
    }
}
