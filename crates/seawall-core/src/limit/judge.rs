//! Burst or standing queue: how long a line may be, and the delay that a newcomer meets.
//!
//! Arrivals over 1.5 s are compared with what drained in that time, or *could* have at full use (the
//! limit over the mean time that a place is held), whichever is more. A burst may fill [`BURST`] ×
//! the limit, or as much as chance makes wait for even a single place, if half of its deadline is enough
//! for that; a standing queue is cut to [`STAND`] × the limit, or to what drains in
//! [`STAND_DELAY`] if that is more. Where little drains in 1.5 s, arrivals must be more than chance explains
//! at nine tenths of the capacity.

use alloc::vec::Vec;

use super::config::Lane;
use crate::event::{Change, Events};
use crate::measure::ewma::Ewma;
use crate::measure::flow::{self, Flow};
use crate::time::{Span, Time};

/// The queue that a burst may fill, as a multiple of the limit.
pub const BURST: f64 = 6.0;
/// What is left of a standing queue, as a multiple of the limit.
pub const STAND: f64 = 1.5;
/// The wait that a standing queue may always reach: where work is quick, that is many in line.
pub const STAND_DELAY: Span = Span::from_millis(16);
/// The queue that chance makes at nine tenths of the capacity, with however few places: a longer one is
/// needed for less than one request in 200 (M/M/1).
const CHANCE_MOST: u32 = 32;
/// Arrivals beyond nine tenths of the drain that chance explains, in standard deviations.
const CHANCE_DEVIATIONS: f64 = 3.3;
/// Arrivals over drain above which a queue begins to stand, and below which it drains again.
const STANDING_RATIO: f64 = 1.04;
const DRAINING_RATIO: f64 = 0.98;
/// Releases that the mean time of holding a place averages over, and those it needs.
const HELD_WINDOW: u32 = 400;
const HELD_LEAST: u32 = 10;
/// How long a judgement holds, and for how many arrivals: hardly anything of what it weighs has
/// changed by then.
const JUDGE_EVERY: Span = Span::from_millis(1);
const JUDGE_ARRIVALS: u32 = 8;
/// The interval over which the least delay is taken.
const DELAY_INTERVAL: Span = Span::from_millis(100);

/// What comes, what goes, and how long it stays.
#[derive(Debug)]
struct Course {
    arrivals: Flow,
    drain: Flow,
    /// How long a place in flight is held, in seconds.
    held: Ewma,
    /// Whether more arrives than drains, in this lane or in all of them together.
    stands: bool,
    /// Arrivals over drain, in this lane or in all of them together, whichever is more.
    load: f64,
}

/// The least delay met in the current and in the last interval.
#[derive(Debug)]
struct LeastDelay {
    since: Time,
    current: Span,
    last: Span,
}

/// Tells a standing queue from a burst, by lane and for all lanes together.
#[derive(Debug)]
pub(super) struct Judge {
    lanes: Vec<Course>,
    held: Ewma,
    stands: bool,
    least_delay: LeastDelay,
    /// When to judge again, and after how many arrivals.
    due: Time,
    unjudged: u32,
}

impl Judge {
    pub(super) fn new(now: Time) -> Judge {
        Judge {
            lanes: Vec::new(),
            held: Ewma::new(HELD_WINDOW, HELD_LEAST),
            stands: false,
            least_delay: LeastDelay { since: now, current: Span::MAX, last: Span::ZERO },
            due: now,
            unjudged: 0,
        }
    }

    pub(super) fn add_lane(&mut self) {
        self.lanes.push(Course {
            arrivals: Flow::new(Time::ZERO),
            drain: Flow::new(Time::ZERO),
            held: Ewma::new(HELD_WINDOW, HELD_LEAST),
            stands: false,
            load: 0.0,
        });
    }

    /// Counts an arrival.
    pub(super) fn arrive(&mut self, now: Time, lane: usize) {
        self.lanes[lane].arrivals.add(now);
        let least = &mut self.least_delay;
        if now.since(least.since) >= DELAY_INTERVAL {
            least.last = if least.current == Span::MAX { Span::ZERO } else { least.current };
            least.current = Span::MAX;
            least.since = now;
        }
    }

    /// Counts a place that was given back after this time.
    pub(super) fn drain(&mut self, now: Time, lane: usize, held: Span) {
        let held = held.as_secs_f64();
        self.held.add(held);
        self.lanes[lane].held.add(held);
        self.lanes[lane].drain.add(now);
    }

    /// Takes in the delay that somebody met.
    pub(super) fn note_delay(&mut self, delay: Span) {
        self.least_delay.current = self.least_delay.current.min(delay);
    }

    /// The shortest delay that anybody met in the last interval.
    pub(super) fn least_delay(&self) -> Span {
        self.least_delay.last.min(self.least_delay.current)
    }

    /// Whether the queue stands for this lane.
    pub(super) fn stands_in(&self, lane: usize) -> bool {
        self.lanes[lane].stands
    }

    /// Arrivals over drain, in this lane or in all of them together; 0 until that is known.
    pub(super) fn load_in(&self, lane: usize) -> f64 {
        self.lanes[lane].load
    }

    /// Whether the queue stands for any lane.
    pub(super) fn stands(&self) -> bool {
        self.stands
    }

    /// How many may wait for places of this lane.
    pub(super) fn line_in(&self, lane: usize, places: u32) -> f64 {
        line(places, &self.lanes[lane].held, self.lanes[lane].stands)
    }

    /// How many may wait for places of all lanes, if the queue stands for `lane` as it does.
    pub(super) fn line_of_all(&self, lane: usize, places: u32) -> f64 {
        line(places, &self.held, self.lanes[lane].stands)
    }

    /// The mean time between two that give back one of so many places of this lane at full use; zero
    /// until that is known.
    pub(super) fn pace_in(&self, lane: usize, places: u32) -> Span {
        wait(0, places, &self.lanes[lane].held)
    }

    /// The same for places of all lanes.
    pub(super) fn pace_of_all(&self, places: u32) -> Span {
        wait(0, places, &self.held)
    }

    /// How long a newcomer waits behind so many for places of this lane; not at all behind none.
    pub(super) fn wait_in(&self, lane: usize, waiting: u32, places: u32) -> Span {
        if waiting > 0 { wait(waiting, places, &self.lanes[lane].held) } else { Span::ZERO }
    }

    /// The same for places of all lanes.
    pub(super) fn wait_of_all(&self, waiting: u32, places: u32) -> Span {
        if waiting > 0 { wait(waiting, places, &self.held) } else { Span::ZERO }
    }

    /// Judges each lane under its own bound, and all of them under the ceiling, on which a bounded
    /// lane presses no harder than its bound drains.
    pub(super) fn judge<'a>(
        &mut self,
        now: Time,
        limit: u32,
        bounds: impl Iterator<Item = &'a Lane>,
        events: &mut Events,
    ) {
        self.unjudged += 1;
        if now < self.due && self.unjudged < JUDGE_ARRIVALS {
            return;
        }
        (self.due, self.unjudged) = (now + JUDGE_EVERY, 0);
        let drained = |places: u32, held: &Ewma| {
            let seconds = known(held)?.max(1e-9);
            Some(f64::from(places) / seconds * flow::SPAN.as_secs_f64())
        };
        let stands = |stood: bool, arrivals: f64, places: u32, drained: Option<f64>| {
            drained.is_some_and(|drained| match stood {
                true => arrivals > drained * DRAINING_RATIO + f64::from(places),
                false => arrivals > (drained * STANDING_RATIO + f64::from(places)).max(by_chance(drained)),
            })
        };
        // What did drain counts, too: where work becomes slow all at once, arrivals of a moment ago
        // are held against the pace of a moment ago.
        let (mut pressing, mut all_drained) = (0.0, 0.0);
        for (lane, bounds) in self.lanes.iter_mut().zip(bounds) {
            let arrivals = lane.arrivals.total(now) as f64;
            let did_drain = lane.drain.total(now) as f64;
            all_drained += did_drain;
            let drained = drained(bounds.max, &lane.held).filter(|_| bounds.max < limit);
            let drained = drained.map(|drained| drained.max(did_drain));
            lane.stands = stands(lane.stands, arrivals, bounds.max, drained);
            lane.load = drained.map_or(0.0, |drained| arrivals / drained.max(1.0));
            pressing += drained.map_or(arrivals, |drained| arrivals.min(drained));
        }
        let could = drained(limit, &self.held).map(|could| could.max(all_drained));
        let all_stand = stands(self.stands, pressing, limit, could);
        let load = could.map_or(0.0, |could| pressing / could.max(1.0));
        for lane in &mut self.lanes {
            lane.stands |= all_stand;
            lane.load = lane.load.max(load);
        }
        let any_stands = self.lanes.iter().any(|lane| lane.stands);
        if any_stands != self.stands {
            self.stands = any_stands;
            events.push(now, if any_stands { Change::QueueStands } else { Change::QueueDrains });
        }
    }
}

/// As many arrivals as chance explains at nine tenths of this drain: where little drains, that is much more
/// than drains on average.
fn by_chance(drained: f64) -> f64 {
    0.9 * drained + CHANCE_DEVIATIONS * libm::sqrt(drained)
}

fn line(places: u32, held: &Ewma, stands: bool) -> f64 {
    let times = if stands { STAND } else { BURST };
    // What drains in the wait that is always allowed, if that is more.
    let waits = STAND_DELAY.as_secs_f64() / known(held).unwrap_or(f64::INFINITY).max(1e-9);
    libm::ceil(f64::from(places) * times.max(waits * times / STAND))
}

/// How many may wait because of chance alone, whatever the limit: what drains in half of the time that a
/// newcomer has, up to [`CHANCE_MOST`].
pub(super) fn places_for_chance(pace: Span, patience: Span) -> u32 {
    if pace == Span::ZERO {
        return 0;
    }
    let drained = patience.as_nanos() / 2 / pace.as_nanos();
    u32::try_from(drained).unwrap_or(u32::MAX).min(CHANCE_MOST)
}

fn wait(waiting: u32, places: u32, held: &Ewma) -> Span {
    let seconds = known(held).unwrap_or(0.0);
    Span::from_secs_f64(f64::from(waiting + 1) * seconds / f64::from(places.max(1)))
}

/// The mean time that a place is held, once enough places were given back.
fn known(held: &Ewma) -> Option<f64> {
    held.mean().filter(|_| held.seen() >= HELD_LEAST)
}
