//! Vegas: let a few calls queue inside the callee, and no more.
//!
//! **Prevents** overload of a callee whose latency is steady while it is not full: the excess over
//! the no-load latency tells how many calls queue inside it.
//!
//! **Mechanics.** After TCP Vegas (Brakmo and Peterson, 1995) in the form of Netflix's
//! concurrency-limits (2018). The queue inside is `limit × (1 − no-load latency / latency)`, rounded
//! up. With `log` the decimal logarithm of the limit, rounded down and at least 1: no more than
//! `log` in it raises the limit by `beta × log`, fewer than `alpha × log` by `log`; more than
//! `beta × log`, or a drop, lowers it by `log`.
//!
//! **Edges.** It grows only at full use. The no-load latency is the mean of calls that were sent
//! with a quarter of the limit in flight at most; until there are [`BASELINE_LEAST`] of those it
//! is the least latency seen, as in the original. It judges by single calls: where the work itself
//! varies much, take [`adaptive`](super::adaptive), which averages.

use super::baseline::{Baseline, LOW};
use crate::outcome::Outcome;
use crate::setting::{SettingError, check};
use crate::time::{Span, Time};

pub use super::baseline::BASELINE_LEAST;

/// How a Vegas ceiling moves. [`Vegas::new`] takes only a checked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it starts, 1 to `max`; default 20.
    pub initial: u32,
    /// Above which it never goes; default 512.
    pub max: u32,
    /// The queue below which it grows, in units of the logarithm, 1 to `beta`; default 3.
    pub alpha: u32,
    /// The queue above which it shrinks, in units of the logarithm, up to 100; default 6.
    pub beta: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { initial: 20, max: 512, alpha: 3, beta: 6 }
    }
}

/// Checked [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config(Settings);

impl Config {
    /// Checks every setting against its range.
    pub fn new(settings: Settings) -> Result<Config, SettingError> {
        let Settings { initial, max, alpha, beta } = settings;
        check((1..=max).contains(&initial), "initial", "1 to `max`")?;
        check((1..=100).contains(&beta), "beta", "1 to 100")?;
        check((1..=beta).contains(&alpha), "alpha", "1 to `beta`")?;
        Ok(Config(settings))
    }

    /// Above which the limit never goes.
    pub fn max(&self) -> u32 {
        self.0.max
    }
}

/// A Vegas ceiling.
#[derive(Clone, Debug)]
pub struct Vegas {
    config: Settings,
    limit: u32,
    baseline: Baseline,
    /// The least latency, until the no-load latency is known.
    least: Option<f64>,
    cut_at: Time,
}

impl Vegas {
    /// A ceiling at `initial`.
    pub fn new(config: Config) -> Vegas {
        Vegas {
            config: config.0,
            limit: config.0.initial,
            baseline: Baseline::new(),
            least: None,
            cut_at: Time::ZERO,
        }
    }

    /// The most that may be in flight.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The no-load latency, or what stands for it.
    pub fn baseline(&self) -> Option<Span> {
        self.baseline.known().or(self.least).map(Span::from_secs_f64)
    }

    /// New settings; what was learned stays.
    pub fn configure(&mut self, config: Config) {
        self.config = config.0;
        self.limit = self.limit.clamp(1, self.config.max);
    }

    /// Takes in a call that was sent when `in_flight` were under way, itself included.
    pub fn sample(&mut self, now: Time, in_flight: u32, latency: Span, outcome: Outcome) {
        let log = libm::log10(f64::from(self.limit)).max(1.0) as u32;
        match outcome {
            Outcome::Success => {
                let seconds = latency.as_secs_f64();
                self.baseline.add(now - latency, in_flight, f64::from(self.limit) * LOW, seconds);
                if in_flight >= self.limit {
                    self.judge(seconds, log);
                } else if self.least.is_none_or(|least| seconds < least) {
                    self.least = Some(seconds);
                }
            }
            // Calls sent before the last cut tell of the limit before it.
            Outcome::Overloaded { .. } | Outcome::TimedOut if now - latency >= self.cut_at => {
                self.limit = self.limit.saturating_sub(log).max(1);
                self.cut_at = now;
            }
            _ => {}
        }
    }

    /// Moves by the queue inside the callee that this latency tells of.
    fn judge(&mut self, seconds: f64, log: u32) {
        let no_load = match (self.baseline.known(), self.least) {
            (Some(known), _) => known,
            (None, Some(least)) if seconds >= least => least,
            (None, _) => return self.least = Some(seconds),
        };
        let inside = libm::ceil(f64::from(self.limit) * (1.0 - no_load / seconds.max(1e-9)));
        let (alpha, beta) = (self.config.alpha * log, self.config.beta * log);
        let moved = if inside <= f64::from(log) {
            self.limit.saturating_add(beta)
        } else if inside < f64::from(alpha) {
            self.limit.saturating_add(log)
        } else if inside > f64::from(beta) {
            self.limit.saturating_sub(log)
        } else {
            self.limit
        };
        self.limit = moved.clamp(1, self.config.max);
    }
}

#[cfg(test)]
mod tests;
