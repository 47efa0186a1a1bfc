//! Burst or standing queue: how long a line may be, and the delay that a newcomer meets.
//!
//! Arrivals over 1.5 s are compared with what drained in that time, or *could* have at full use (the
//! limit over the mean time that a place is held), whichever is more. Those still inside do not count as
//! undrained while they are no more than drain in [`BURST_DELAY`]: so clients who each wait for an answer
//! before they ask again are no overload; to refuse one of those only makes it ask again at once. A burst may
//! fill [`BURST`] × the limit, or what drains in [`BURST_DELAY`], or as much as chance makes wait for even a
//! single place if half of its deadline is enough for that, whichever is the most; a standing queue is cut to
//! [`STAND`] × the limit, or to what drains in [`STAND_DELAY`]. Where little drains in 1.5 s, arrivals must be
//! more than chance explains at nine tenths of the capacity.
//!
//! When nothing drained for a while though somebody waited, and then does again, those inside have been there
//! for long, which says nothing of how long a newcomer will be: times are counted from there
//! ([`Judge::waited`]).

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
/// The wait that a burst may always reach.
pub const BURST_DELAY: Span = Span::from_millis(128);
/// Arrivals beyond nine tenths of the drain that chance explains, in standard deviations.
const CHANCE_DEVIATIONS: f64 = 3.3;
/// Arrivals over drain above which a queue begins to stand.
const STANDING_RATIO: f64 = 1.04;
/// Arrivals over drain below which it drains again, and over what could drain: further below, since that is
/// a guess from few hundred calls.
const DRAINING_RATIO: f64 = 0.98;
const IDLING_RATIO: f64 = 0.93;
/// Without any release for so long, and for so many times as long as a place is held, the drain stands still.
const STILL: Span = Span::from_millis(100);
const STILL_TIMES: f64 = 2.0;

/// Whether somebody waits for a place that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Somebody does.
    ByOthers,
    /// Nobody does.
    ByNone,
}
/// Releases that the mean time of holding a place averages over, and those it needs.
const HELD_WINDOW: u32 = 400;
const HELD_LEAST: u32 = 10;
/// How long a judgement holds, and for how many arrivals, or for which part of those it weighs if that is more:
/// hardly anything of what it weighs has changed by then.
const JUDGE_EVERY: Span = Span::from_millis(1);
const JUDGE_ARRIVALS: u64 = 8;
const JUDGE_PART: u64 = 256;
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
    /// The best pace of late, a second, when it was last judged.
    pace: f64,
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
    /// Whether the queue stands for any lane, and for all of them together.
    stands: bool,
    all_stand: bool,
    pace: f64,
    /// Whether more came of late than went, beyond what a burst explains.
    grows: bool,
    least_delay: LeastDelay,
    /// The last release, and the first after the drain had stood still.
    drained: Time,
    resumed: Time,
    /// When to judge again, and after how many more arrivals.
    due: Time,
    due_after: u64,
}

impl Judge {
    pub(super) fn new(now: Time) -> Judge {
        Judge {
            lanes: Vec::new(),
            held: Ewma::new(HELD_WINDOW, HELD_LEAST),
            stands: false,
            all_stand: false,
            pace: 0.0,
            grows: false,
            least_delay: LeastDelay { since: now, current: Span::MAX, last: Span::ZERO },
            drained: now,
            resumed: now,
            due: now,
            due_after: JUDGE_ARRIVALS,
        }
    }

    pub(super) fn add_lane(&mut self) {
        self.lanes.push(Course {
            arrivals: Flow::new(Time::ZERO),
            drain: Flow::new(Time::ZERO),
            held: Ewma::new(HELD_WINDOW, HELD_LEAST),
            stands: false,
            load: 0.0,
            pace: 0.0,
        });
    }

    /// Counts an arrival.
    #[inline]
    pub(super) fn arrive(&mut self, now: Time, lane: usize) {
        self.lanes[lane].arrivals.add(now);
        let least = &mut self.least_delay;
        if now.since(least.since) >= DELAY_INTERVAL {
            least.last = if least.current == Span::MAX { Span::ZERO } else { least.current };
            least.current = Span::MAX;
            least.since = now;
        }
    }

    /// Counts a place that was given back and held since then, and whether it is `wanted` by who waits.
    #[inline]
    pub(super) fn drain(&mut self, now: Time, lane: usize, since: Time, wanted: Wanted) {
        if wanted == Wanted::ByOthers && self.stood_still(now, since) {
            self.resumed = now;
        }
        self.drained = now;
        let held = self.waited(now, since).as_secs_near();
        self.held.add(held);
        self.lanes[lane].held.add(held);
        self.lanes[lane].drain.add(now);
    }

    /// Whether nothing drained for so long before this place was given back that the drain had stopped.
    #[inline(never)]
    fn stood_still(&self, now: Time, since: Time) -> bool {
        let silence = now.since(self.drained.max(since));
        silence >= STILL && known(&self.held).is_some_and(|held| silence.as_secs_f64() >= held * STILL_TIMES)
    }

    /// How long it is since then, without what went before the drain stood still.
    pub(super) fn waited(&self, now: Time, since: Time) -> Span {
        now.since(since.max(self.resumed))
    }

    /// Takes in the delay that somebody met.
    pub(super) fn note_delay(&mut self, delay: Span) {
        self.least_delay.current = self.least_delay.current.min(delay);
    }

    /// The shortest delay that anybody met in the last interval.
    pub(super) fn least_delay(&self) -> Span {
        self.least_delay.last.min(self.least_delay.current)
    }

    /// Whether the queue stands for this lane, and arrivals over drain: in this lane or in all of them together, 0
    /// until that is known.
    #[inline]
    pub(super) fn burden_of(&self, lane: usize) -> (bool, f64) {
        let course = &self.lanes[lane];
        (course.stands, course.load)
    }

    /// Whether the queue stands for this lane.
    pub(super) fn stands_in(&self, lane: usize) -> bool {
        self.lanes[lane].stands
    }

    /// Whether more came of late than went, beyond what a burst explains.
    pub(super) fn grows(&self) -> bool {
        self.grows
    }

    /// Whether the queue stands for any lane.
    pub(super) fn stands(&self) -> bool {
        self.stands
    }

    /// How many may wait for places of this lane.
    pub(super) fn line_in(&self, lane: usize, places: u32) -> f64 {
        let course = &self.lanes[lane];
        line(places, &course.held, course.pace, course.stands)
    }

    /// How many may wait for places of all lanes, if the queue stands for `lane` as it does.
    pub(super) fn line_of_all(&self, lane: usize, places: u32) -> f64 {
        line(places, &self.held, self.pace, self.lanes[lane].stands)
    }

    /// How long a place of this lane is held, in seconds; zero until that is known.
    pub(super) fn held_in(&self, lane: usize) -> f64 {
        known(&self.lanes[lane].held).unwrap_or(0.0)
    }

    /// The same for places of all lanes.
    pub(super) fn held_in_all(&self) -> f64 {
        known(&self.held).unwrap_or(0.0)
    }

    /// Whether, with this arrival, it is time to judge again.
    #[inline]
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        self.due_after -= 1;
        now >= self.due || self.due_after == 0
    }

    /// Judges each lane under its own bound, with so many inside, and all of them under the ceiling, on
    /// which a bounded lane presses no harder than its bound drains.
    pub(super) fn judge<'a>(
        &mut self,
        now: Time,
        limit: u32,
        lanes: impl Iterator<Item = (&'a Lane, u32)>,
        events: &mut Events,
    ) {
        let could_drain = |places: u32, held: &Ewma| {
            let seconds = known(held)?.max(1e-9);
            Some(f64::from(places) / seconds * flow::SPAN.as_secs_f64())
        };
        let (mut all, mut weighed) = (Count::default(), 0);
        for (lane, (bounds, inside)) in self.lanes.iter_mut().zip(lanes) {
            let arrivals = lane.arrivals.total(now);
            weighed += arrivals;
            let count = Count {
                arrivals: arrivals as f64,
                drained: lane.drain.total(now) as f64,
                inside: f64::from(inside),
                pace: lane.drain.peak_per_second(now),
            };
            let could = could_drain(bounds.max, &lane.held).filter(|_| bounds.max < limit);
            lane.stands = could.is_some_and(|could| count.stands(lane.stands, could, bounds.max));
            lane.load = could.map_or(0.0, |could| count.load(could));
            lane.pace = count.pace;
            all.arrivals +=
                could.map_or(count.arrivals, |could| count.arrivals.min(could.max(count.drained)));
            all.drained += count.drained;
            all.inside += count.inside;
            all.pace += count.pace;
        }
        (self.due, self.due_after) = (now + JUDGE_EVERY, (weighed / JUDGE_PART).max(JUDGE_ARRIVALS));
        self.pace = all.pace;
        self.grows = all.grows();
        let could = could_drain(limit, &self.held);
        self.all_stand = could.is_some_and(|could| all.stands(self.all_stand, could, limit));
        let load = could.map_or(0.0, |could| all.load(could));
        for lane in &mut self.lanes {
            lane.stands |= self.all_stand;
            lane.load = lane.load.max(load);
        }
        let any_stands = self.lanes.iter().any(|lane| lane.stands);
        if any_stands != self.stands {
            self.stands = any_stands;
            events.push(now, if any_stands { Change::QueueStands } else { Change::QueueDrains });
        }
    }
}

/// What came and went in a while.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    arrivals: f64,
    drained: f64,
    /// Who is inside now.
    inside: f64,
    /// The best pace in it, a second.
    pace: f64,
}

impl Count {
    /// Whether a queue stands that `stood` or not, where so many could drain. What did drain counts, too:
    /// where work becomes slow all at once, arrivals of a moment ago are held against the pace of a moment
    /// ago.
    fn stands(&self, stood: bool, could: f64, places: u32) -> bool {
        let places = f64::from(places);
        if stood {
            return self.arrivals > (self.drained * DRAINING_RATIO).max(could * IDLING_RATIO) + places;
        }
        let drains = self.drained.max(could);
        let allowed = drains * STANDING_RATIO + places.max(self.burst());
        self.arrivals > allowed.max(0.9 * drains + CHANCE_DEVIATIONS * libm::sqrt(drains))
    }

    /// Those inside, with the one who is about to come in, as far as they are a burst.
    fn burst(&self) -> f64 {
        self.inside.min(self.pace * BURST_DELAY.as_secs_f64()) + 1.0
    }

    fn grows(&self) -> bool {
        self.arrivals > self.drained + self.burst()
    }

    fn load(&self, could: f64) -> f64 {
        self.arrivals / could.max(self.drained).max(1.0)
    }
}

fn line(places: u32, held: &Ewma, pace: f64, stands: bool) -> f64 {
    let (times, delay) = if stands { (STAND, STAND_DELAY) } else { (BURST, BURST_DELAY) };
    let (places, delay) = (f64::from(places), delay.as_secs_f64());
    // What drains in the wait that is always allowed, if that is more. Behind a limit that was just cut,
    // and after the drain stood still, it drains as it did at best.
    let waits = delay / known(held).unwrap_or(f64::INFINITY).max(1e-9);
    let drains = if stands { 0.0 } else { delay * pace };
    ceil((places * times.max(waits)).max(drains))
}

/// The next whole number, of what is not negative and can be counted.
pub(super) fn ceil(value: f64) -> f64 {
    // Signed, since that is one instruction.
    let whole = value as i64 as f64;
    if whole < value { whole + 1.0 } else { whole }
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

/// The mean time that a place is held, once enough places were given back.
fn known(held: &Ewma) -> Option<f64> {
    held.mean().filter(|_| held.seen() >= HELD_LEAST)
}
