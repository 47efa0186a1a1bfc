//! The adaptive ceiling: how many may be in flight, learned from latency and throughput.
//!
//! ```text
//!   Settling
//!      │ one window
//!      ▼                 throughput stops following
//!   Climbing ─────────────────────────────────────▶ Following ◀──────────────┐
//!      │ no no-load latency                          │     │ due, or grew    │
//!      ▼                                  cut, and   │     │ for nothing     │ measured
//!   Searching ──────────────┐      throughput fell   │     ▼                 │
//!              throughput   │            along; due  │   Measuring ──────────┘
//!              fell         └────────────────────┐   ▼     ▲ ▲
//!                                                │ Returning │
//!                                                └───────────┘ throughput rose again; it climbs
//!                                                              if no call took longer
//! ```
//!
//! **Prevents** two opposite failures of a limit that learns: to take the overload for normal and
//! let everything in, and to shrink until it is the bottleneck itself.
//!
//! **Mechanics.** A callee with `n` workers answers in its *no-load latency* while at most `n`
//! calls are in flight; beyond that, calls queue inside it and latency grows in proportion. So
//! `limit × no-load latency / latency at full use` points at `n`, from above and from below.
//!
//! - The no-load latency is the *mean* of successful calls that were sent while few others were in
//!   flight: well below the limit once that was found, and below what throughput followed to while it climbs.
//!   An overload sends no such calls, so it cannot teach. How many are few is not known before; so, once it is,
//!   those from before are gone through again (`early.rs`).
//! - Latency at full use is the mean over windows of calls that were sent with the limit reached.
//!   Less use moves nothing: a limit that is not reached is not wrong. All calls that end in a
//!   window count, once the calls from before a change of the limit are over: to count only those
//!   that begin and end in it would leave out the long ones; and the first window (*Settling*) is thrown away,
//!   since of calls that begin together the short ones end first. Windows at about the same limit add up
//!   (`stays.rs`), until by Page's cumulative sum they say that the callee is another than it was.
//! - *Following*, it goes [`HEADROOM`] above what the two say, and by no less than [`PLACE`], so that a callee
//!   that gained workers is found out step by step; but where a whole place would be more than a fifth, to just what
//!   they say. The step is shortened by how much of it may be chance: by
//!   `d² / (d² + (3e)²)`, with `d` its size and `e` the standard error of the mean latency, over
//!   all windows at that limit or as many as pointed the same way.
//! - Throughput has a *veto*, because a no-load latency can stop being true: the callee became slow,
//!   or calls spend time on the way that keeps no worker busy, or each request slows the others a
//!   little. If the limit was cut and throughput fell along with it (or likely by a fifth of the cut;
//!   or surely, by all windows of late at either limit), the callee may be slow and not
//!   full: *Returning*, it goes back to where it came from for one window. If throughput rises again
//!   without any call taking longer, nothing queues there: it climbs on, and what calls take there counts for the
//!   no-load latency. If it rises by less, or if the limit grew and throughput did not follow, the no-load
//!   latency is not what it was:
//!   *Measuring*, it goes below the point where throughput begins to fall, where nothing queues
//!   inside, and takes the latency there, or sees that what was known holds; if throughput is more there,
//!   the callee has become quicker since, and it goes back up. It does the first unasked, which refuses nobody, after
//!   [`CHECK_FIRST`] windows, and ever less often while it finds nothing and the callee became no quicker, but
//!   soon where hardly anything queues (the no-load latency may be too low to show any headroom), and the second
//!   every [`MEASURE_EVERY`].
//! - Time on the way also makes the flow uneven: workers run dry while answers and requests travel.
//!   While throughput was likely more at a higher limit of late, the headroom grows, up to
//!   [`HEADROOM_MOST`].
//! - At the start, and where nothing was found to queue, the limit *climbs* by half of itself for each window at
//!   full use, as long as throughput follows: a callee whose latency grows gently with its load is found at
//!   its best and not at its quietest.
//!   If no call was sent with few others in flight until then, the latency there is taken for the no-load one.
//!   What few calls said is measured soon after.
//! - With no no-load latency at all (started under overload) it *searches*: it halves, window by
//!   window, until throughput falls, and climbs once it has measured.
//!
//! **Edges.** After [`SILENCE`] the callee may be another: new calls outweigh what was known of the
//! no-load latency, and no check is due for a while. Failures teach nothing (a refused connection is quick); a call that timed out counts
//! with the time it took; answers that say "overloaded" cut the limit by a tenth, once a window.
//! For work quicker than [`FINEST`] the limit stays as if it took that long: what a loaded machine
//! adds to so short a time is no queue. The gradient follows Netflix's concurrency-limits (2018);
//! the protected baseline and the vetoes answer its known failure, learning the overload as normal.

mod early;
mod point;
mod stays;

use super::baseline::{BASELINE_LEAST, Baseline, LOW};
use crate::outcome::Outcome;
use crate::setting::{SettingError, check};
use crate::time::{Span, Time};
use early::Early;
use point::{Point, SURE, Sums};
use stays::Stays;

/// How far above the estimate the limit stands, and what rounding to whole places may cost.
pub const HEADROOM: f64 = 1.08;
const ROUNDING: f64 = 0.25;
/// How many places above the estimate it stands at least, so that rounding leaves one of them: without it the
/// callee could gain workers unseen.
pub const PLACE: f64 = 0.85;
/// How far above the estimate the places stand at most, unless throughput wants more.
const MOST: f64 = 1.2;
/// What calls take at the limit, over the no-load latency, if hardly anything queues there.
const QUIET: f64 = 1.045;
/// How far at most, and how fast that comes and goes in a window, while throughput wants more.
pub const HEADROOM_MOST: f64 = 1.5;
const HEADROOM_RISE: f64 = 0.12;
const HEADROOM_FALL: f64 = 0.01;
/// Below this it never goes, unless `max` is lower: among one, two and three places a step is half of all, and
/// one too few costs half of what the callee could do.
pub const LIMIT_LEAST: f64 = 3.0;
/// The largest step up.
pub const STEP_UP: f64 = 1.3;
/// The largest step down.
pub const STEP_DOWN: f64 = 0.7;
/// The step of the climb at the start.
pub const CLIMB: f64 = 1.5;
/// The shortest work that is told apart.
pub const FINEST: Span = Span::from_millis(3);
/// How much longer calls must take for their differences to be told.
const COARSE: f64 = 1.5;
/// Windows after which the limit is raised for one, to see whether throughput wants more: so many
/// at first, and twice as many each time that it does not, up to the second.
pub const CHECK_FIRST: u32 = 50;
/// The least windows between two doubts, and before a check where hardly anything queues.
const CHECK_LEAST: u32 = 5;
const CHECK_QUIET: u32 = 20;
/// The most windows between two checks.
pub const CHECK_EVERY: u32 = 400;
/// Windows after which the no-load latency is measured anew.
pub const MEASURE_EVERY: u32 = 16_000;

/// Samples after which a window ends, and for each place of the limit. One that settles a doubt is
/// longer: it ends soon if throughput did not rise, and late if it likely did but not surely.
const WINDOW: u32 = 200;
const WINDOW_PLACE: u32 = 4;
const WINDOW_LONG: u32 = 1_000;
const WINDOW_LONG_PLACE: u32 = 20;
/// Windows that pointed the same way and count together, at most.
const STREAK: u32 = 10;
/// A window is no shorter than this; with this few samples it ends after that time, and ten times
/// the latency if it is not at the start: there a slow callee would refuse calls for long.
const LEAST: Span = Span::from_millis(50);
const FEW: u32 = 20;
const FEW_CLIMBING: u32 = 50;
const PATIENCE: Span = Span::from_secs(2);
const PATIENCE_LONG: Span = Span::from_secs(5);
/// After a change of the limit by more than this, calls from before it are waited out for so many
/// times the latency.
const SMALL: f64 = 0.05;
const SETTLE: f64 = 3.0;
/// How far the limit must have gone for throughput to be asked.
const CUT: f64 = 0.65;
const GROWN: f64 = 1.5;
/// How far it is raised to see whether throughput wants more.
const RAISED: f64 = 1.3;
/// After so long without an answer the callee may be another: what calls took before counts for little.
pub const SILENCE: Span = Span::from_secs(10);
/// No-load latencies that are no further apart are the same.
const SAME: f64 = 0.15;
/// The variance of a mean, relative to its square, up to which it is known well, and from which it is known barely.
const WELL_KNOWN: f64 = 0.001_5;
const BARELY_KNOWN: f64 = 0.01;
/// The share of a limit that was found, and of one that throughput followed to, up to which a call counts as
/// sent without load.
const LOW_FOUND: f64 = 0.67;
const LOW_FOLLOWED: f64 = 0.85;
/// How far below a limit the no-load latency is measured.
const BELOW: f64 = 0.65;

/// Bounds of an adaptive ceiling. [`Adaptive::new`] takes only checked ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it starts, 1 to `max`; default 16.
    pub initial: u32,
    /// Above which it never goes, at least 1; default 512.
    pub max: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { initial: 16, max: 512 }
    }
}

/// Checked [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config(Settings);

impl Config {
    /// Checks every setting against its range.
    pub fn new(settings: Settings) -> Result<Config, SettingError> {
        check(settings.max >= 1, "max", "at least 1")?;
        check((1..=settings.max).contains(&settings.initial), "initial", "1 to `max`")?;
        Ok(Config(settings))
    }

    /// Above which the limit never goes.
    pub fn max(&self) -> u32 {
        self.0.max
    }
}

/// A window of calls that were sent at full use.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Calls that end earlier do not count.
    from: Time,
    latencies: Sums,
    overloaded: bool,
}

impl Window {
    fn new(from: Time) -> Window {
        Window { from, latencies: Sums::default(), overloaded: false }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Waiting until long calls end as often as short ones.
    Settling,
    /// From the last step, if there was one, after so many that throughput followed.
    Climbing(Option<Point>, u32),
    /// Halving; holds the best so far.
    Searching(Option<Point>),
    /// Going where latency points; holds the point from which it has been going down, or up.
    Following(Option<Point>),
    /// Up again, to compare with this point.
    Returning(Point),
    /// Below this point.
    Measuring(Point),
}

/// An adaptive ceiling.
#[derive(Clone, Debug)]
pub struct Adaptive {
    config: Settings,
    limit: f64,
    /// The limit in whole places; every request asks for it.
    places: u32,
    baseline: Baseline,
    /// What calls took before it was found; `None` once that is learned.
    early: Option<Early>,
    window: Window,
    state: State,
    unchecked: u32,
    /// Windows after which a check is due, and whether it follows on this one.
    check_after: u32,
    is_check: bool,
    unmeasured: u32,
    /// Windows in a row that pointed the same way.
    streak: u32,
    has_climbed: bool,
    headroom: f64,
    stays: Stays,
    /// When a call last ended.
    heard: Time,
}

impl Adaptive {
    /// A ceiling at `initial`.
    pub fn new(config: Config, now: Time) -> Adaptive {
        Adaptive {
            config: config.0,
            limit: f64::from(config.0.initial),
            places: config.0.initial,
            baseline: Baseline::new(),
            early: Some(Early::default()),
            window: Window::new(now),
            state: State::Settling,
            unchecked: 0,
            check_after: CHECK_FIRST,
            is_check: false,
            unmeasured: 0,
            streak: 0,
            has_climbed: false,
            headroom: HEADROOM,
            stays: Stays::default(),
            heard: now,
        }
    }

    /// The most that may be in flight.
    pub fn limit(&self) -> u32 {
        self.places
    }

    /// Whether it was once found where throughput stops following.
    pub fn is_found(&self) -> bool {
        self.has_climbed
    }

    /// The no-load latency, once it is known.
    pub fn baseline(&self) -> Option<Span> {
        self.baseline.known().map(Span::from_secs_f64)
    }

    /// New bounds; what was learned stays.
    pub fn configure(&mut self, config: Config) {
        self.config = config.0;
        self.stand_at(self.limit);
    }

    fn stand_at(&mut self, limit: f64) {
        self.limit = limit.clamp(self.least(), f64::from(self.config.max));
        self.places = libm::round(self.limit) as u32;
    }

    fn least(&self) -> f64 {
        LIMIT_LEAST.min(f64::from(self.config.max))
    }

    /// Takes in a call that was sent when `in_flight` were under way, itself included.
    #[inline]
    pub fn sample(&mut self, now: Time, in_flight: u32, latency: Span, outcome: Outcome) {
        let seconds = latency.as_secs_near();
        if now.since(self.heard) >= SILENCE {
            self.baseline.age();
            self.checked();
            if let Some(early) = &mut self.early {
                *early = Early::default();
            }
        }
        self.heard = now;
        match outcome {
            Outcome::Success => {
                self.baseline.add(now - latency, in_flight, self.low(), seconds);
                if let Some(early) = &mut self.early {
                    early.add(in_flight, seconds);
                }
            }
            Outcome::TimedOut => {}
            Outcome::Overloaded { .. } => return self.window.overloaded = true,
            _ => return,
        }
        // What was sent under a limit a little lower counts: to count only what was sent since it rose
        // would leave out the long ones.
        let full = f64::from(in_flight) >= f64::from(self.limit()) * (1.0 - SMALL);
        if full && now >= self.window.from {
            self.sample_at_full_use(now, seconds);
        }
    }

    /// Of the calls at less than full use, which are most of them, all this would be set up in vain.
    #[inline(never)]
    fn sample_at_full_use(&mut self, now: Time, seconds: f64) {
        self.window.latencies.add(seconds);
        let elapsed = now.since(self.window.from);
        let calls = self.window.latencies.calls;
        let (few, patience) = self.patience();
        if (calls >= self.wanted() && elapsed >= LEAST) || (calls >= few && elapsed >= patience) {
            self.end_window(now);
        }
    }

    /// The calls in flight up to which one counts as sent without load.
    fn low(&self) -> f64 {
        match self.state {
            State::Climbing(Some(before), 1..) => before.limit * LOW_FOLLOWED,
            State::Returning(low) => low.limit * LOW_FOUND,
            _ => self.limit * if self.has_climbed { LOW_FOUND } else { LOW },
        }
    }

    /// Whether the window settles no doubt.
    fn is_short(&self) -> bool {
        match self.state {
            State::Settling | State::Climbing(..) => true,
            State::Following(_) => !self.is_check,
            State::Measuring(high) => self.here().outdoes(&high),
            State::Searching(_) | State::Returning(_) => false,
        }
    }

    /// The samples that make do for a window after so long.
    fn patience(&self) -> (u32, Span) {
        let latencies = Span::from_secs_f64(self.window.latencies.mean() * 10.0);
        match self.state {
            State::Settling => (FEW, PATIENCE),
            State::Climbing(..) => (FEW_CLIMBING, PATIENCE),
            _ if self.is_short() => (FEW, PATIENCE.max(latencies)),
            _ => (FEW, PATIENCE_LONG.max(latencies)),
        }
    }

    /// The samples that make a window.
    fn wanted(&self) -> u32 {
        let (least, for_each) = match self.state {
            // What this one says is kept for long.
            State::Measuring(high) if self.here().fell_short_of(&high) => {
                (WINDOW_LONG * 2, WINDOW_LONG_PLACE * 2)
            }
            State::Returning(low) if !self.here().gained(&low, 0.0) => (WINDOW * 2, WINDOW_PLACE * 2),
            State::Returning(low) if self.here().may_have_gained(&low) => {
                (WINDOW_LONG * 4, WINDOW_LONG_PLACE * 4)
            }
            _ if self.is_short() => (WINDOW, WINDOW_PLACE),
            _ => (WINDOW_LONG, WINDOW_LONG_PLACE),
        };
        least.max(self.limit().saturating_mul(for_each))
    }

    /// What this window says so far.
    fn here(&self) -> Point {
        Point::new(f64::from(self.limit()), &self.window.latencies)
    }

    fn end_window(&mut self, now: Time) {
        let here = self.here();
        let known = self.stays.last();
        let is_same = match self.state {
            State::Climbing(..) | State::Following(_) | State::Returning(_) => {
                self.stays.add(here.limit, &self.window.latencies)
            }
            _ => {
                self.stays = Stays::default();
                true
            }
        };
        let is_settling = matches!(self.state, State::Settling);
        let mut target = match (self.baseline.known(), self.state) {
            (_, State::Settling) => {
                self.state = State::Climbing(None, 0);
                here.limit
            }
            (_, State::Measuring(high)) => self.measure(here, high),
            (_, State::Returning(low)) => self.compare(here, low),
            (_, State::Climbing(before, followed)) => self.climb(here, before, followed),
            (None, State::Searching(best)) => self.search(here, best),
            (None, _) => self.search(here, None),
            (Some(baseline), State::Following(anchor)) => {
                let anchor = if is_same { anchor } else { None };
                self.follow(here, anchor, baseline)
            }
            (Some(baseline), State::Searching(_)) => self.follow(here, None, baseline),
        };
        if !is_same && let State::Following(_) = self.state {
            // The callee before says nothing of whether throughput falls along from here, or wants more.
            self.state = State::Following(self.stays.last());
            self.checked();
            if known.is_some_and(|known| here.latency < known.latency) {
                self.check_after = CHECK_FIRST;
            }
        }
        if self.window.overloaded {
            self.state = State::Following(None);
            target = target.min(self.limit * 0.9);
        }
        let before = self.limit;
        self.stand_at(target);
        let is_small = (self.limit / before - 1.0).abs() <= SMALL;
        let settle = match (is_small, is_settling) {
            (false, _) => SETTLE,
            (true, true) => 1.0,
            (true, false) => 0.0,
        };
        let settled = Span::from_secs_f64(here.latency * settle);
        self.window = Window::new(now + settled);
    }

    fn climb(&mut self, here: Point, before: Option<Point>, followed: u32) -> f64 {
        match before {
            Some(before) if !here.follows(&before) => {
                self.state = State::Following(None);
                self.has_climbed = true;
                if followed > 0 && self.baseline.known().is_none() {
                    // Up to there throughput followed, perhaps by chance.
                    self.baseline.restart(self.heard, before.latency, BASELINE_LEAST);
                }
                before.limit
            }
            _ => {
                self.state = State::Climbing(Some(here), followed + u32::from(before.is_some()));
                here.limit * CLIMB
            }
        }
    }

    fn search(&mut self, here: Point, best: Option<Point>) -> f64 {
        let best = best.unwrap_or(here);
        if here.limit <= self.least() || here.throughput < best.throughput * 0.8 {
            self.state = State::Measuring(best);
            return here.limit;
        }
        let better = here.throughput > best.throughput;
        self.state = State::Searching(Some(if better { here } else { best }));
        here.limit / 2.0
    }

    /// Goes where latency points, unless throughput contradicts.
    fn follow(&mut self, here: Point, anchor: Option<Point>, baseline: f64) -> f64 {
        let known = self.stays.last().unwrap_or(here);
        let anchor = anchor.unwrap_or(known);
        self.unmeasured += 1;
        self.unchecked += 1;
        if self.unmeasured == CHECK_LEAST
            && let Some(early) = self.early.take()
        {
            self.recall(&early);
        }
        let is_coarse = here.latency > FINEST.as_secs_f64() * COARSE;
        if is_coarse && let Some(limit) = self.doubt(here, known, anchor) {
            return limit;
        }
        let estimate = known.limit * baseline.max(FINEST.as_secs_f64()) / known.latency;
        let target = (estimate * self.headroom + ROUNDING).max(estimate + PLACE);
        // Of few workers a fifth is less than a place.
        let is_beyond = self.headroom < MOST && libm::round(target) > estimate * MOST;
        let target = if is_beyond { libm::floor(estimate * MOST).max(estimate) } else { target };
        let step = (target / self.limit).clamp(STEP_DOWN, STEP_UP) - 1.0;
        let turned = (step > 0.0) != (here.limit >= anchor.limit);
        self.streak = if turned { 1 } else { (self.streak + 1).min(STREAK) };
        let doubt = (self.window.latencies.doubt() / f64::from(self.streak)).min(known.doubt);
        let size = step * step;
        self.state = State::Following(Some(if turned { known } else { anchor }));
        let is_quiet = known.latency < baseline * QUIET;
        let check_after = if is_quiet { CHECK_QUIET.min(self.check_after) } else { self.check_after };
        self.is_check = is_coarse && self.unchecked >= check_after;
        self.limit * (1.0 + step * size / (size + 9.0 * doubt).max(1e-12))
    }

    /// Learns from the calls before it was found, if more of them were without load than it knew then, and is to
    /// measure what few calls said.
    fn recall(&mut self, early: &Early) {
        let early = early.up_to(self.limit * LOW_FOUND);
        if early.calls > self.baseline.calls() {
            self.baseline.restart(self.heard, early.mean(), early.calls);
        }
        if self.baseline.doubt() > BARELY_KNOWN {
            self.unmeasured = MEASURE_EVERY;
        }
    }

    /// Where to go if throughput contradicts latency, or has not been asked for long.
    fn doubt(&mut self, here: Point, known: Point, anchor: Point) -> Option<f64> {
        let moved = here.limit / anchor.limit;
        if moved <= CUT && (here.follows(&anchor) || known.fell_along(&anchor)) {
            self.state = State::Returning(known);
            return Some(anchor.limit);
        }
        if self.unchecked > CHECK_LEAST
            && let Some(high) = self.stays.fell_from()
        {
            self.state = State::Returning(known);
            return Some(high.max(libm::ceil(here.limit * RAISED)));
        }
        self.headroom += match self.stays.is_wanting() {
            true => (HEADROOM_MOST - self.headroom) * HEADROOM_RISE,
            false => (HEADROOM - self.headroom) * HEADROOM_FALL,
        };
        if (moved >= GROWN && !here.follows(&anchor)) || self.unmeasured >= MEASURE_EVERY {
            let from = if anchor.fell_short_of(&here) { anchor.limit / BELOW } else { anchor.limit };
            return Some(self.go_below(here.limit.min(from), here));
        }
        if self.is_check {
            self.state = State::Returning(known);
            return Some(libm::ceil(here.limit * RAISED));
        }
        None
    }

    /// At a higher limit: does throughput rise? Then the callee is slow, or has become more, but is not full.
    fn compare(&mut self, here: Point, low: Point) -> f64 {
        self.checked();
        if !here.gained(&low, SURE) {
            self.check_after = (self.check_after * 2).min(CHECK_EVERY);
            self.state = State::Following(None);
            return low.limit;
        }
        self.check_after = CHECK_FIRST;
        if low.doubt > WELL_KNOWN {
            return self.go_below(here.limit, here);
        }
        let is_no_longer = here.latency <= low.latency && here.latency > low.latency * (1.0 - SAME);
        if is_no_longer || self.is_confirmed(here) {
            self.learn(here);
            self.state = State::Climbing(Some(here), 1);
            return here.limit * CLIMB;
        }
        if here.follows(&low) {
            return self.go_below(low.limit / BELOW, here);
        }
        // Hardly anything queued at the lower limit. To go there and look would refuse some; but so small a rise may
        // be chance, and weighs no more than its calls.
        self.baseline.merge(self.heard, low.latency, WINDOW_LONG);
        self.state = State::Following(None);
        (here.throughput * low.latency * self.headroom + ROUNDING).clamp(low.limit, here.limit * STEP_UP)
    }

    fn checked(&mut self) {
        (self.unchecked, self.is_check) = (0, false);
    }

    /// Whether calls take as long here as the no-load latency that is known.
    fn is_confirmed(&self, here: Point) -> bool {
        self.baseline
            .known()
            .is_some_and(|known| here.latency < known * QUIET && known < here.latency * QUIET)
    }

    /// Measures the no-load latency below this limit.
    fn go_below(&mut self, limit: f64, high: Point) -> f64 {
        self.state = State::Measuring(high);
        libm::floor(limit * BELOW + 1e-9).max(self.least())
    }

    /// Nothing queued inside in this window.
    fn learn(&mut self, here: Point) {
        self.early = None;
        match self.baseline.known() {
            Some(known) if (here.latency / known - 1.0).abs() < SAME => {
                self.baseline.merge(self.heard, here.latency, here.calls);
            }
            _ => self.baseline.restart(self.heard, here.latency, here.calls),
        }
    }

    /// At a lower limit: has throughput fallen? Then nothing queues inside the callee.
    fn measure(&mut self, here: Point, high: Point) -> f64 {
        if here.outdoes(&high) {
            // The callee has become quicker since, and is not full at all. Some of these calls were sent before that.
            self.unmeasured = 0;
            self.checked();
            self.baseline.restart(self.heard, here.latency, BASELINE_LEAST);
            self.early = None;
            self.state = State::Following(None);
            return high.limit;
        }
        let is_lower = here.limit > self.least() && here.limit < high.limit;
        if is_lower && !here.fell_short_of(&high) && !self.is_confirmed(here) {
            return self.go_below(here.limit, high);
        }
        self.unmeasured = 0;
        self.checked();
        self.learn(here);
        self.state = if self.has_climbed { State::Following(None) } else { State::Climbing(None, 0) };
        (high.throughput * here.latency * self.headroom + ROUNDING).min(high.limit * STEP_UP)
    }
}

#[cfg(test)]
mod tests;
