//! The adaptive ceiling: how many may be in flight, learned from latency and throughput.
//!
//! **Prevents** two opposite failures of a limit that learns: to take the overload for normal and
//! let everything in, and to shrink until it is the bottleneck itself.
//!
//! **Mechanics.** A callee with `n` workers answers in its *no-load latency* while at most `n`
//! calls are in flight; beyond that, calls queue inside it and latency grows in proportion. So
//! `limit × no-load latency / latency at full use` points at `n`, from above and from below.
//!
//! - The no-load latency is the *mean* of successful calls that were sent while few others were in
//!   flight (a quarter of the limit at most). An overload sends no such calls, so it cannot teach.
//! - Latency at full use is the mean over a window of calls that were sent with the limit reached.
//!   Less use moves nothing: a limit that is not reached is not wrong.
//! - The target is [`HEADROOM`] above what the two say, so that a callee that gained workers is
//!   found out step by step; a step is at most [`STEP_UP`] up and [`STEP_DOWN`] down, halfway.
//! - Throughput has a *veto*, because a no-load latency can stop being true. If the limit was cut
//!   and throughput fell along with it, the callee may be slow and not full; if the limit grew and
//!   throughput did not follow, it may have been full before. Either suspicion is checked by going
//!   back to where the limit came from for one window: only if throughput answers as suspected is
//!   the no-load latency moved. One window in [`CHECK_EVERY`] checks for the second case unasked.
//! - At the start, and only then, the limit *climbs* by half of itself for each window at full use,
//!   as long as throughput follows: a callee whose latency grows gently with its load is found at
//!   its best and not at its quietest.
//! - With no no-load latency at all (started under overload) the limit is halved, window by window,
//!   until throughput falls: that finds it.
//!
//! **Edges.** Failures teach nothing (a refused connection is quick); a call that timed out counts
//! with the time it took; answers that say "overloaded" cut the limit by a tenth, once a window.
//! The gradient follows Netflix's concurrency-limits (2018), the protected baseline and the vetoes
//! answer its known failure, learning the overload as normal.

use super::SettingError;
use super::baseline::{BASELINE_LEAST, Baseline};
use crate::outcome::Outcome;
use crate::time::{Span, Time};

/// How far above the estimate the limit stands.
pub const HEADROOM: f64 = 1.12;
/// The largest step up.
pub const STEP_UP: f64 = 1.3;
/// The largest step down.
pub const STEP_DOWN: f64 = 0.7;

/// Samples after which a window may end, and the time after which fewer do. A window that settles
/// the no-load latency is longer: its error stays for long.
const WINDOW: u32 = 200;
const WINDOW_CHECK: u32 = 600;
const WINDOW_CLIMB: u32 = 50;
const WINDOW_FEW: u32 = 20;
const WINDOW_LEAST: Span = Span::from_millis(50);
const WINDOW_LONG: Span = Span::from_secs(2);

/// The step of the climb at the start.
pub const CLIMB: f64 = 1.5;

/// Windows after which the limit is lowered for one, to see whether throughput needs it.
pub const CHECK_EVERY: u32 = 200;
/// How far it is lowered then.
const CHECK_DOWN: f64 = 0.7;

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
        SettingError::check("max", settings.max, 1..=u32::MAX, "at least 1")?;
        SettingError::check("initial", settings.initial, 1..=settings.max, "1 to `max`")?;
        Ok(Config(settings))
    }
}

/// A window of calls that were sent at full use.
#[derive(Clone, Copy, Debug)]
struct Full {
    start: Time,
    calls: u32,
    sum: f64,
    overloaded: bool,
}

/// Where the limit stood, and what came of it.
#[derive(Clone, Copy, Debug)]
struct Point {
    limit: f64,
    latency: f64,
    throughput: f64,
}

/// A suspicion that is being checked at another limit; holds the point that raised it.
#[derive(Clone, Copy, Debug)]
enum Suspicion {
    /// Cut, and throughput fell along: slow, not full?
    Slow(Point),
    /// Throughput may not need a limit this high: full already below it?
    Full(Point),
}

/// An adaptive ceiling.
#[derive(Clone, Debug)]
pub struct Adaptive {
    config: Settings,
    limit: f64,
    baseline: Baseline,
    window: Full,
    /// The point from which the limit has been going down, or up.
    anchor: Option<Point>,
    suspicion: Option<Suspicion>,
    unchecked: u32,
    climbs: bool,
}

impl Adaptive {
    /// A ceiling at `config.initial`.
    pub fn new(config: Config, now: Time) -> Adaptive {
        Adaptive {
            config: config.0,
            limit: f64::from(config.0.initial),
            baseline: Baseline::new(),
            window: Full { start: now, calls: 0, sum: 0.0, overloaded: false },
            anchor: None,
            suspicion: None,
            unchecked: 0,
            climbs: true,
        }
    }

    /// The most that may be in flight.
    pub fn limit(&self) -> u32 {
        (libm::round(self.limit) as u32).clamp(1, self.config.max)
    }

    /// The no-load latency, once it is known.
    pub fn baseline(&self) -> Option<Span> {
        self.baseline.known().map(Span::from_secs_f64)
    }

    /// New bounds; what was learned stays.
    pub fn configure(&mut self, config: Config) {
        self.config = config.0;
        self.limit = self.limit.clamp(1.0, f64::from(config.0.max));
    }

    /// Takes in a call that was sent when `in_flight` were under way, itself included.
    pub fn sample(&mut self, now: Time, in_flight: u32, latency: Span, outcome: Outcome) {
        let seconds = latency.as_secs_f64();
        match outcome {
            Outcome::Success | Outcome::TimedOut => {}
            Outcome::Overloaded { .. } => return self.window.overloaded = true,
            _ => return,
        }
        if outcome == Outcome::Success {
            self.baseline.add(in_flight, self.limit, seconds);
        }
        // What was sent before the window began was sent under another limit.
        if in_flight < self.limit() || now - latency < self.window.start {
            return;
        }
        self.window.calls += 1;
        self.window.sum += seconds;
        let elapsed = now.since(self.window.start);
        let settles = self.suspicion.is_some() || self.baseline.known().is_none();
        let wanted = match (settles, self.climbs) {
            (true, _) => WINDOW_CHECK,
            (false, true) => WINDOW_CLIMB,
            (false, false) => WINDOW,
        };
        let enough = self.window.calls >= wanted && elapsed >= WINDOW_LEAST;
        if enough || (self.window.calls >= WINDOW_FEW && elapsed >= WINDOW_LONG) {
            self.end_window(now);
        }
    }

    fn end_window(&mut self, now: Time) {
        let calls = f64::from(self.window.calls);
        let latency = self.window.sum / calls;
        // By Little's law; a count over the elapsed time would include pauses between bursts.
        let here = Point { limit: self.limit, latency, throughput: self.limit / latency.max(1e-9) };
        let target = match (self.baseline.known(), self.suspicion.take()) {
            (None, _) => self.search(here),
            (Some(baseline), None) => self.follow(here, baseline),
            (Some(_), Some(Suspicion::Slow(low))) => self.check_slow(here, low),
            (Some(baseline), Some(Suspicion::Full(high))) => self.check_full(here, high, baseline),
        };
        let target = if self.window.overloaded {
            self.climbs = false;
            self.anchor = None;
            target.min(self.limit * 0.9)
        } else {
            target
        };
        self.limit = target.clamp(1.0, f64::from(self.config.max));
        self.window = Full { start: now, calls: 0, sum: 0.0, overloaded: false };
    }

    /// Without a baseline: halve until throughput falls.
    fn search(&mut self, here: Point) -> f64 {
        let best = *self.anchor.get_or_insert(here);
        let fell = here.throughput < best.throughput * 0.8;
        if fell || here.limit <= 1.0 {
            self.anchor = None;
            self.baseline.restart(here.latency, BASELINE_LEAST);
            return best.throughput * here.latency * HEADROOM;
        }
        self.anchor = Some(Point { throughput: best.throughput.max(here.throughput), ..best });
        here.limit / 2.0
    }

    /// With a baseline: go where it points, unless throughput contradicts.
    fn follow(&mut self, here: Point, baseline: f64) -> f64 {
        let first = self.anchor.is_none();
        let anchor = *self.anchor.get_or_insert(here);
        let (moved, followed) = (here.limit / anchor.limit, here.throughput / anchor.throughput);
        if self.climbs {
            self.climbs = first || followed >= libm::pow(moved, 0.4);
            self.anchor = self.climbs.then_some(here);
            return if self.climbs { here.limit * CLIMB } else { anchor.limit };
        }
        if moved <= STEP_DOWN && followed < libm::sqrt(moved) {
            self.suspicion = Some(Suspicion::Slow(here));
            return anchor.limit;
        }
        if moved >= STEP_UP && followed < libm::pow(moved, 0.4) {
            self.suspicion = Some(Suspicion::Full(here));
            return anchor.limit;
        }
        self.unchecked += 1;
        if self.unchecked >= CHECK_EVERY {
            self.suspicion = Some(Suspicion::Full(here));
            return here.limit * CHECK_DOWN;
        }
        let target = here.limit * (baseline / here.latency * HEADROOM).clamp(STEP_DOWN, STEP_UP);
        let turned = (target > here.limit) != (here.limit >= anchor.limit);
        if turned || (moved - 1.0).abs() < 0.05 {
            self.anchor = Some(here);
        }
        (here.limit + target) / 2.0
    }

    /// Back at the higher limit: does throughput rise again? Then the callee was slow, not full.
    fn check_slow(&mut self, here: Point, low: Point) -> f64 {
        self.anchor = None;
        if here.throughput / low.throughput < libm::sqrt(here.limit / low.limit) {
            return low.limit;
        }
        self.baseline.restart(low.latency, BASELINE_LEAST * 5);
        (here.throughput * low.latency * HEADROOM).min(here.limit * STEP_UP)
    }

    /// Back at a lower limit: is throughput kept? Then the callee is full here already.
    fn check_full(&mut self, here: Point, high: Point, baseline: f64) -> f64 {
        self.anchor = None;
        self.unchecked = 0;
        let kept = here.throughput / high.throughput > libm::sqrt(here.limit / high.limit);
        if kept && here.latency < baseline * 0.85 {
            self.baseline.restart(here.latency, BASELINE_LEAST * 5);
            return here.limit;
        }
        high.limit
    }
}

#[cfg(test)]
mod tests;
