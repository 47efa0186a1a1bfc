//! Limit: how many may be in flight, and a short bounded line for those who must wait.
//!
//! **Prevents** a callee from taking on more work than it can do at a time, where every further
//! request makes all of them slower; and an unbounded queue, in which every answer is a late one.
//!
//! **Mechanics.** A [`Ceiling`] is fixed or learned ([`adaptive`]). Several *lanes* (the routes
//! to one upstream) may share it, each with a bound and a queue of its own; whoever has waited
//! longest in a lane with room is served first. The queue tells a *burst* from a *standing* queue
//! by comparing arrivals over 1.5 s with what drained in that time, or could have at full use (the
//! limit over the mean time that a place is held): a burst may fill [`BURST`] × the limit, a standing queue is cut
//! to [`STAND`] × the limit, or to what drains in [`STAND_DELAY`] if that is more. Lanes that wait for the ceiling share that; one that waits for its own
//! bound takes nothing from the others. When a newcomer finds no place and a less important request
//! waits, that one gives way.
//!
//! **Edges.** A place in flight that becomes free is kept for the first in line, who is told and
//! comes to claim it; if that one has gone, it goes to the next. Deadlines are checked when a
//! place is granted and when it is claimed: work whose answer nobody waits for is not begun.
//! Nothing here is reserved for those who have not asked, and the ceiling may shrink while requests
//! wait.

pub mod adaptive;
mod queue;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::decision::{Policy, Reason, Rejection};
use crate::event::{Change, Events};
use crate::measure::ewma::Ewma;
use crate::measure::flow::{self, Flow};
use crate::outcome::Outcome;
use crate::pressure::Pressure;
use crate::request::Request;
use crate::time::{Span, Time};
use adaptive::Adaptive;
use queue::{Queue, State};

pub use queue::Turn;

/// The queue that a burst may fill, as a multiple of the limit.
pub const BURST: f64 = 6.0;
/// What is left of a standing queue, as a multiple of the limit.
pub const STAND: f64 = 1.5;
/// The wait that a standing queue may always reach: where work is quick, that is many in line.
pub const STAND_DELAY: Span = Span::from_millis(16);
/// Arrivals over drain above which a queue begins to stand, and below which it drains again.
const STANDING_RATIO: f64 = 1.04;
const DRAINING_RATIO: f64 = 0.98;
/// Releases that the mean time of holding a place averages over, and those it needs.
const HELD_WINDOW: u32 = 400;
const HELD_LEAST: u32 = 10;
/// The interval over which the least delay is taken.
const DELAY_INTERVAL: Span = Span::from_millis(100);

/// How many may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// This many; at least 1.
    Fixed(u32),
    /// As many as the callee can take, learned.
    Adaptive(adaptive::Config),
}

/// A ceiling and the most that may wait for a place under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many may be in flight.
    pub ceiling: Ceiling,
    /// How many may wait in all lanes together; 0 for none, default 1024.
    pub queue: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config { ceiling: Ceiling::Adaptive(adaptive::Config::default()), queue: 1_024 }
    }
}

/// The bounds of one lane under a shared ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// How many of this lane may be in flight; `u32::MAX` for as many as the ceiling allows.
    pub max: u32,
    /// How many of this lane may wait.
    pub queue: u32,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane { max: u32::MAX, queue: u32::MAX }
    }
}

#[derive(Debug)]
struct LaneState {
    config: Lane,
    in_flight: u32,
    arrivals: Flow,
    drain: Flow,
    /// How long a place in flight is held, in seconds.
    held: Ewma,
    /// Whether more arrives than drains, in this lane or in all of them together.
    stands: bool,
}

impl LaneState {
    /// Whether its own bound lets another one in.
    fn has_room(&self) -> bool {
        self.in_flight < self.config.max
    }
}

/// A place in flight.
#[derive(Debug)]
pub struct Slot {
    lane: usize,
    since: Time,
    in_flight: u32,
}

/// How an asking ended.
#[derive(Debug)]
pub enum Answer {
    /// A place in flight.
    Slot(Slot),
    /// A place in the queue.
    Wait(Turn),
    /// Neither.
    Reject(Rejection),
}

/// Plain values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// The ceiling now.
    pub limit: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests waiting.
    pub waiting: u32,
    /// Whether more arrives than drains, in all lanes together or in any.
    pub stands: bool,
    /// The delay that a newcomer would meet, in the lane where it is longest.
    pub delay: Span,
    /// The learned no-load latency.
    pub baseline: Option<Span>,
    /// Requests refused because neither place was free.
    pub full: u64,
    /// Requests whose deadline passed in the queue.
    pub expired: u64,
}

#[derive(Debug)]
enum Ceil {
    Fixed(u32),
    Adaptive(Adaptive),
}

impl Ceil {
    fn limit(&self) -> u32 {
        match self {
            Ceil::Fixed(limit) => (*limit).max(1),
            Ceil::Adaptive(adaptive) => adaptive.limit(),
        }
    }
}

/// The least delay met in the current and in the last interval.
#[derive(Debug)]
struct LeastDelay {
    since: Time,
    current: Span,
    last: Span,
}

/// A limit on concurrency, its lanes and its queue. `W` is whatever wakes the driver's waiter.
#[derive(Debug)]
pub struct Limit<W> {
    ceiling: Ceil,
    queue_max: u32,
    in_flight: u32,
    lanes: Vec<LaneState>,
    queue: Queue<W>,
    due: VecDeque<W>,
    /// How long a place in flight is held, in seconds.
    held: Ewma,
    stands: bool,
    least_delay: LeastDelay,
    full: u64,
    expired: u64,
}

impl<W> Limit<W> {
    /// A limit without lanes: add one for each route.
    pub fn new(config: Config, now: Time) -> Limit<W> {
        Limit {
            ceiling: match config.ceiling {
                Ceiling::Fixed(limit) => Ceil::Fixed(limit),
                Ceiling::Adaptive(config) => Ceil::Adaptive(Adaptive::new(config, now)),
            },
            queue_max: config.queue,
            in_flight: 0,
            lanes: Vec::new(),
            queue: Queue::new(),
            due: VecDeque::new(),
            held: Ewma::new(HELD_WINDOW, HELD_LEAST),
            stands: false,
            least_delay: LeastDelay { since: now, current: Span::MAX, last: Span::ZERO },
            full: 0,
            expired: 0,
        }
    }

    /// Adds a lane and says its number.
    pub fn add_lane(&mut self, config: Lane) -> usize {
        self.lanes.push(LaneState {
            config,
            in_flight: 0,
            arrivals: Flow::new(Time::ZERO),
            drain: Flow::new(Time::ZERO),
            held: Ewma::new(HELD_WINDOW, HELD_LEAST),
            stands: false,
        });
        self.queue.add_lane();
        self.lanes.len() - 1
    }

    /// Changes the bounds of a lane; what is in flight and in line stays.
    pub fn configure_lane(&mut self, now: Time, lane: usize, config: Lane) {
        self.lanes[lane].config = config;
        self.grant(now);
    }

    /// Changes ceiling and queue; what was learned, is in flight or in line stays.
    pub fn configure(&mut self, config: Config, now: Time) {
        self.queue_max = config.queue;
        match (&mut self.ceiling, config.ceiling) {
            (Ceil::Adaptive(adaptive), Ceiling::Adaptive(config)) => adaptive.configure(config),
            (ceiling, Ceiling::Adaptive(config)) => *ceiling = Ceil::Adaptive(Adaptive::new(config, now)),
            (ceiling, Ceiling::Fixed(limit)) => *ceiling = Ceil::Fixed(limit),
        }
        self.grant(now);
    }

    /// Counts an arrival in this lane and says how the queue stands for it.
    pub fn arrive(&mut self, now: Time, lane: usize, events: &mut Events) -> Pressure {
        self.lanes[lane].arrivals.add(now);
        self.judge(now, events);
        self.roll_least_delay(now);
        Pressure {
            delay: self.delay(now, lane),
            least_delay: self.least_delay.last.min(self.least_delay.current),
            stands: self.lanes[lane].stands,
        }
    }

    /// Asks for a place in flight, or in the queue.
    pub fn admit(&mut self, now: Time, lane: usize, request: &Request) -> Answer {
        if request.deadline <= now {
            self.expired += 1;
            return Answer::Reject(expired());
        }
        debug_assert!(!self.anyone_ready(), "every verb leaves nobody waiting who could be served");
        if self.has_room(lane) {
            self.note_delay(Span::ZERO);
            return Answer::Slot(self.occupy(now, lane));
        }
        if self.queue.waiting() < self.queue_max && self.lane_queue_has_room(lane) {
            return Answer::Wait(self.queue.join(lane, *request, now));
        }
        self.full += 1;
        let rejection = full();
        // A lane that is full makes room itself; only a full queue takes from any.
        let lanes = if self.lane_queue_has_room(lane) { 0..self.lanes.len() } else { lane..lane + 1 };
        match self.queue.last_below(lanes, request.tier) {
            Some(turn) => {
                let waiter = self.queue.settle(turn, State::Refused(rejection));
                self.due.extend(waiter);
                Answer::Wait(self.queue.join(lane, *request, now))
            }
            None => Answer::Reject(rejection),
        }
    }

    /// A place in flight whatever the limit, and the refusal that it stands for: what is in flight
    /// beyond the limit counts as if it waited.
    pub fn admit_beyond(&mut self, now: Time, lane: usize) -> (Slot, Option<Rejection>) {
        let beyond = self.in_flight.saturating_sub(self.ceiling.limit());
        let refused = !self.has_room(lane) && beyond >= self.lane_queue_places(lane).min(self.queue_max);
        (self.occupy(now, lane), refused.then(full))
    }

    /// Asks whether it is this one's turn, and parks its waiter if not.
    pub fn claim(&mut self, now: Time, turn: Turn, waiter: W) -> Answer {
        let Some(entry) = self.queue.get(turn) else { return Answer::Reject(expired()) };
        let is_refused = matches!(entry.state, State::Refused(_));
        if entry.request.deadline <= now && !is_refused {
            self.expired += 1;
            self.leave(now, turn);
            return Answer::Reject(expired());
        }
        match entry.state {
            State::Waiting => {
                entry.waiter = Some(waiter);
                Answer::Wait(turn)
            }
            State::Refused(rejection) => {
                self.queue.forget(turn);
                Answer::Reject(rejection)
            }
            State::Granted { at, in_flight } => {
                let lane = entry.lane;
                self.queue.forget(turn);
                Answer::Slot(Slot { lane, since: at, in_flight })
            }
        }
    }

    /// The one who waited here has gone; a place kept for it goes to the next.
    pub fn leave(&mut self, now: Time, turn: Turn) {
        if let Some(entry) = self.queue.forget(turn)
            && matches!(entry.state, State::Granted { .. })
        {
            self.vacate(entry.lane);
        }
        self.grant(now);
    }

    /// Takes in how an admitted call went; `waited` is time that it spent in backoff.
    pub fn report(&mut self, now: Time, slot: &Slot, outcome: Outcome, waited: Span, events: &mut Events) {
        if let Ceil::Adaptive(adaptive) = &mut self.ceiling {
            let before = adaptive.limit();
            adaptive.sample(now, slot.in_flight, now.since(slot.since).minus(waited), outcome);
            let limit = adaptive.limit();
            if limit != before {
                events.push(now, Change::LimitChanged { limit });
                self.grant(now);
            }
        }
    }

    /// Gives a place in flight back; it goes to the first in line.
    pub fn release(&mut self, now: Time, slot: Slot) {
        let held = now.since(slot.since).as_secs_f64();
        self.held.add(held);
        self.lanes[slot.lane].held.add(held);
        self.lanes[slot.lane].drain.add(now);
        self.vacate(slot.lane);
        self.grant(now);
    }

    /// Whether [`Limit::turn`] has a waiter.
    pub fn is_anyone_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// The next waiter that became due.
    pub fn turn(&mut self) -> Option<W> {
        self.due.pop_front()
    }

    /// Plain values.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        Snapshot {
            limit: self.ceiling.limit(),
            in_flight: self.in_flight,
            waiting: self.queue.waiting(),
            stands: self.stands,
            delay: (0..self.lanes.len()).map(|lane| self.delay(now, lane)).max().unwrap_or(Span::ZERO),
            baseline: match &self.ceiling {
                Ceil::Adaptive(adaptive) => adaptive.baseline(),
                Ceil::Fixed(_) => None,
            },
            full: self.full,
            expired: self.expired,
        }
    }

    fn has_room(&self, lane: usize) -> bool {
        self.in_flight < self.ceiling.limit() && self.lanes[lane].has_room()
    }

    /// Whether somebody in line could be served now, and so goes first.
    fn anyone_ready(&self) -> bool {
        (0..self.lanes.len()).any(|lane| self.has_room(lane) && self.queue.waiting_in(lane) > 0)
    }

    fn lane_queue_has_room(&self, lane: usize) -> bool {
        self.queue.waiting_in(lane) < self.lane_queue_places(lane)
    }

    /// The most that may wait in this lane, as its queue stands now.
    fn lane_queue_places(&self, lane: usize) -> u32 {
        let state = &self.lanes[lane];
        let limit = self.ceiling.limit();
        let times = if state.stands { STAND } else { BURST };
        let line = |places: u32, held: &Ewma| {
            // What drains in the wait that is always allowed, if that is more.
            let waits = STAND_DELAY.as_secs_f64() / known(held).unwrap_or(f64::INFINITY).max(1e-9);
            libm::ceil(f64::from(places) * times.max(waits * times / STAND))
        };
        let mut allowed = line(limit.min(state.config.max), &state.held);
        if state.has_room() {
            // It waits for the ceiling, in a queue that is shared with whoever else does.
            let waits = |other: usize| self.lanes[other].has_room() && self.queue.waiting_in(other) > 0;
            let others = (0..self.lanes.len()).filter(|other| *other != lane && waits(*other)).count();
            allowed = allowed.min(libm::ceil(line(limit, &self.held) / (others + 1) as f64));
        }
        state.config.queue.min(allowed as u32)
    }

    fn occupy(&mut self, now: Time, lane: usize) -> Slot {
        self.in_flight += 1;
        self.lanes[lane].in_flight += 1;
        Slot { lane, since: now, in_flight: self.in_flight }
    }

    fn vacate(&mut self, lane: usize) {
        debug_assert!(self.in_flight > 0 && self.lanes[lane].in_flight > 0);
        self.in_flight -= 1;
        self.lanes[lane].in_flight -= 1;
    }

    /// Keeps free places for those who have waited longest.
    fn grant(&mut self, now: Time) {
        while self.queue.waiting() > 0 && self.in_flight < self.ceiling.limit() {
            let lanes = (0..self.lanes.len()).filter(|lane| self.has_room(*lane));
            let Some((turn, entry)) = self.queue.first_in(lanes) else { return };
            let (lane, arrived) = (entry.lane, entry.arrived);
            let state = if entry.request.deadline <= now {
                self.expired += 1;
                State::Refused(expired())
            } else {
                self.note_delay(now.since(arrived));
                let slot = self.occupy(now, lane);
                State::Granted { at: now, in_flight: slot.in_flight }
            };
            let waiter = self.queue.settle(turn, state);
            self.due.extend(waiter);
        }
    }

    /// The delay that a newcomer to this lane would meet: those in line at the pace at which they
    /// drain, or the age of the lane's oldest when the drain has stopped.
    fn delay(&self, now: Time, lane: usize) -> Span {
        if self.queue.waiting() == 0 || self.has_room(lane) {
            return Span::ZERO;
        }
        let paced = |waiting: u32, places: u32, held: &Ewma| {
            let seconds = known(held).filter(|_| waiting > 0).unwrap_or(0.0);
            Span::from_secs_f64(f64::from(waiting + 1) * seconds / f64::from(places.max(1)))
        };
        let (state, limit) = (&self.lanes[lane], self.ceiling.limit());
        let oldest = self.queue.first_in([lane].into_iter());
        let age = oldest.map_or(Span::ZERO, |(_, entry)| now.since(entry.arrived));
        let own = paced(self.queue.waiting_in(lane), state.config.max.min(limit), &state.held);
        let all = if state.has_room() { paced(self.queue.waiting(), limit, &self.held) } else { Span::ZERO };
        age.max(own).max(all)
    }

    /// Tells a standing queue from a burst: for each lane under its own bound, and for all of them
    /// under the ceiling, on which a bounded lane presses no harder than its bound drains.
    fn judge(&mut self, now: Time, events: &mut Events) {
        let drained = |places: u32, held: &Ewma| {
            let seconds = known(held)?.max(1e-9);
            Some(f64::from(places) / seconds * flow::SPAN.as_secs_f64())
        };
        let stands = |stood: bool, arrivals: f64, places: u32, drained: Option<f64>| {
            let ratio = if stood { DRAINING_RATIO } else { STANDING_RATIO };
            drained.is_some_and(|drained| arrivals > drained * ratio + f64::from(places))
        };
        let limit = self.ceiling.limit();
        // What did drain counts, too: where work becomes slow all at once, arrivals of a moment ago
        // are held against the pace of a moment ago.
        let (mut pressing, mut all_drained) = (0.0, 0.0);
        for lane in &mut self.lanes {
            let arrivals = lane.arrivals.total(now) as f64;
            let did_drain = lane.drain.total(now) as f64;
            all_drained += did_drain;
            let drained = drained(lane.config.max, &lane.held).filter(|_| lane.config.max < limit);
            let drained = drained.map(|drained| drained.max(did_drain));
            lane.stands = stands(lane.stands, arrivals, lane.config.max, drained);
            pressing += drained.map_or(arrivals, |drained| arrivals.min(drained));
        }
        let all_stand = stands(
            self.stands,
            pressing,
            limit,
            drained(limit, &self.held).map(|could| could.max(all_drained)),
        );
        self.lanes.iter_mut().for_each(|lane| lane.stands |= all_stand);
        let any_stands = self.lanes.iter().any(|lane| lane.stands);
        if any_stands != self.stands {
            self.stands = any_stands;
            events.push(now, if any_stands { Change::QueueStands } else { Change::QueueDrains });
        }
    }

    fn note_delay(&mut self, delay: Span) {
        self.least_delay.current = self.least_delay.current.min(delay);
    }

    fn roll_least_delay(&mut self, now: Time) {
        let least = &mut self.least_delay;
        if now.since(least.since) >= DELAY_INTERVAL {
            least.last = if least.current == Span::MAX { Span::ZERO } else { least.current };
            least.current = Span::MAX;
            least.since = now;
        }
    }
}

/// The mean time that a place is held, once enough places were given back.
fn known(held: &Ewma) -> Option<f64> {
    held.mean().filter(|_| held.seen() >= HELD_LEAST)
}

/// The refusal of a limit that has neither place.
pub(crate) const fn full() -> Rejection {
    Rejection::new(Policy::Limit, Reason::Full, Span::from_secs(1))
}

fn expired() -> Rejection {
    Rejection::new(Policy::Deadline, Reason::Expired, Span::MAX)
}

#[cfg(test)]
mod tests;
