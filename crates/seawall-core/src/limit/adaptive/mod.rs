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
//! - Two *vetoes* by throughput correct a no-load latency that is no longer true. If the limit was
//!   cut and throughput fell along with it, the callee was not queueing: it has become slow, its
//!   latency at the lower limit *is* the no-load latency, and the limit goes back up. If the limit
//!   grew and throughput did not follow, the no-load latency was too high: it is lowered and the
//!   limit goes back down.
//! - With no no-load latency at all (started under overload) the limit is halved, window by window,
//!   until throughput falls: that finds it.
//!
//! **Edges.** Failures teach nothing (a refused connection is quick); a call that timed out counts
//! with the time it took; answers that say "overloaded" cut the limit by a tenth, once a window.
//! The gradient follows Netflix's concurrency-limits (2018), the protected baseline and the vetoes
//! answer its known failure, learning the overload as normal.

use crate::measure::ewma::Ewma;
use crate::outcome::Outcome;
use crate::time::{Span, Time};

/// How far above the estimate the limit stands.
pub const HEADROOM: f64 = 1.1;
/// The largest step up.
pub const STEP_UP: f64 = 1.3;
/// The largest step down.
pub const STEP_DOWN: f64 = 0.7;

/// Samples after which a window may end, and the time after which fewer do.
const WINDOW: u32 = 200;
const WINDOW_FEW: u32 = 20;
const WINDOW_LEAST: Span = Span::from_millis(50);
const WINDOW_LONG: Span = Span::from_secs(2);

/// The share of the limit up to which a call counts as sent without load.
const LOW: f64 = 0.25;
/// Samples that the no-load latency averages over, and those it needs before it is believed.
const BASELINE_WINDOW: u32 = 1_000;
const BASELINE_LEAST: u32 = 20;

/// Bounds of an adaptive ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where it starts, 1 to `max`; default 16.
    pub initial: u32,
    /// Above which it never goes, at least 1; default 512.
    pub max: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config { initial: 16, max: 512 }
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

/// An adaptive ceiling.
#[derive(Clone, Debug)]
pub struct Adaptive {
    config: Config,
    limit: f64,
    baseline: Ewma,
    window: Full,
    /// The point from which the limit has been going down, or up.
    anchor: Option<Point>,
}

impl Adaptive {
    /// A ceiling at `config.initial`.
    pub fn new(config: Config, now: Time) -> Adaptive {
        let limit = f64::from(config.initial.clamp(1, config.max.max(1)));
        Adaptive {
            config,
            limit,
            baseline: Ewma::new(BASELINE_WINDOW, BASELINE_LEAST),
            window: Full { start: now, calls: 0, sum: 0.0, overloaded: false },
            anchor: None,
        }
    }

    /// The most that may be in flight.
    pub fn limit(&self) -> u32 {
        (libm::round(self.limit) as u32).clamp(1, self.config.max.max(1))
    }

    /// The no-load latency, once it is known.
    pub fn baseline(&self) -> Option<Span> {
        self.known_baseline().map(Span::from_secs_f64)
    }

    /// New bounds; what was learned stays.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
        self.limit = self.limit.clamp(1.0, f64::from(config.max.max(1)));
    }

    /// Takes in a call that was sent when `in_flight` were under way, itself included.
    pub fn sample(&mut self, now: Time, in_flight: u32, latency: Span, outcome: Outcome) {
        let seconds = latency.as_secs_f64();
        match outcome {
            Outcome::Success | Outcome::TimedOut => {}
            Outcome::Overloaded { .. } => return self.window.overloaded = true,
            _ => return,
        }
        if f64::from(in_flight) <= (self.limit * LOW).max(1.0) && outcome == Outcome::Success {
            self.baseline.add(seconds);
        }
        if in_flight < self.limit() {
            return;
        }
        if self.window.calls == 0 {
            self.window.start = now;
        }
        self.window.calls += 1;
        self.window.sum += seconds;
        let elapsed = now.since(self.window.start);
        let enough = self.window.calls >= WINDOW && elapsed >= WINDOW_LEAST;
        if enough || (self.window.calls >= WINDOW_FEW && elapsed >= WINDOW_LONG) {
            self.end_window(now);
        }
    }

    fn known_baseline(&self) -> Option<f64> {
        self.baseline.mean().filter(|_| self.baseline.seen() >= BASELINE_LEAST)
    }

    fn end_window(&mut self, now: Time) {
        let calls = f64::from(self.window.calls);
        let latency = self.window.sum / calls;
        // By Little's law; a count over the elapsed time would include pauses between bursts.
        let here = Point { limit: self.limit, latency, throughput: self.limit / latency.max(1e-9) };
        let target = match self.known_baseline() {
            None => self.search(here),
            Some(baseline) => self.follow(here, baseline),
        };
        let target = if self.window.overloaded { target.min(self.limit * 0.9) } else { target };
        self.limit = target.clamp(1.0, f64::from(self.config.max.max(1)));
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
        let anchor = *self.anchor.get_or_insert(here);
        let (moved, followed) = (here.limit / anchor.limit, here.throughput / anchor.throughput);
        if moved <= 0.65 && followed < libm::pow(moved, 0.7) {
            // Cut, and throughput fell along: the callee is slow, not full.
            self.baseline.restart(here.latency, BASELINE_LEAST * 5);
            self.anchor = None;
            return anchor.throughput * here.latency * HEADROOM;
        }
        if moved >= STEP_UP && followed < libm::pow(moved, 0.4) {
            // Grown, and throughput did not follow: the callee was full before.
            self.baseline.restart(anchor.latency.min(baseline), BASELINE_LEAST * 5);
            self.anchor = None;
            return anchor.limit;
        }
        let target = here.limit * (baseline / here.latency * HEADROOM).clamp(STEP_DOWN, STEP_UP);
        let turned = (target > here.limit) != (here.limit >= anchor.limit);
        if turned || here.limit == anchor.limit {
            self.anchor = Some(here);
        }
        (here.limit + target) / 2.0
    }
}

#[cfg(test)]
mod tests;
