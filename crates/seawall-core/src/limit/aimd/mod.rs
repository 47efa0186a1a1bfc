//! AIMD: one more while all goes well, a tenth less when something was dropped.
//!
//! **Prevents** overload of a callee that says when it is full, or that lets calls time out.
//!
//! **Mechanics.** Additive increase, multiplicative decrease (Chiu and Jain, 1989): a success at
//! full use adds one, a drop (an "overloaded" answer or a timeout) keeps `keep_percent` of the
//! limit, rounded down.
//!
//! **Edges.** Only a call that was sent with the limit reached lets it grow, so it grows by about
//! one for each time that a call takes, and not at all while the limit is not needed. Calls that
//! were sent before the last cut tell of the limit before it: of the drops of one round trip only
//! the first cuts. Latency alone teaches it nothing: for a callee that queues without a word, take
//! [`adaptive`](super::adaptive).

use crate::outcome::Outcome;
use crate::setting::{SettingError, check};
use crate::time::{Span, Time};

/// How an AIMD ceiling moves. [`Aimd::new`] takes only a checked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where it starts, `min` to `max`; default 20.
    pub initial: u32,
    /// Below which it never goes, 1 to `max`; default 1.
    pub min: u32,
    /// Above which it never goes; default 512.
    pub max: u32,
    /// What is left of it after a drop, 1 to 99 percent; default 90.
    pub keep_percent: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { initial: 20, min: 1, max: 512, keep_percent: 90 }
    }
}

/// Checked [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config(Settings);

impl Config {
    /// Checks every setting against its range.
    ///
    /// ```
    /// use seawall_core::limit::aimd;
    ///
    /// let error = aimd::Config::new(aimd::Settings { keep_percent: 100, ..aimd::Settings::default() });
    /// assert_eq!(error.unwrap_err().to_string(), "`keep_percent` must be 1 to 99");
    /// ```
    pub fn new(settings: Settings) -> Result<Config, SettingError> {
        let Settings { initial, min, max, keep_percent } = settings;
        check((1..=max).contains(&min), "min", "1 to `max`")?;
        check((min..=max).contains(&initial), "initial", "`min` to `max`")?;
        check((1..=99).contains(&keep_percent), "keep_percent", "1 to 99")?;
        Ok(Config(settings))
    }

    /// Above which the limit never goes.
    pub fn max(&self) -> u32 {
        self.0.max
    }
}

/// An AIMD ceiling.
#[derive(Clone, Debug)]
pub struct Aimd {
    config: Settings,
    limit: u32,
    cut_at: Time,
}

impl Aimd {
    /// A ceiling at `initial`.
    pub fn new(config: Config) -> Aimd {
        Aimd { config: config.0, limit: config.0.initial, cut_at: Time::ZERO }
    }

    /// The most that may be in flight.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// New settings; the limit stays, within the new bounds.
    pub fn configure(&mut self, config: Config) {
        self.config = config.0;
        self.limit = self.limit.clamp(self.config.min, self.config.max);
    }

    /// Takes in a call that was sent when `in_flight` were under way, itself included.
    pub fn sample(&mut self, now: Time, in_flight: u32, latency: Span, outcome: Outcome) {
        match outcome {
            Outcome::Success if in_flight >= self.limit => {
                self.limit = self.limit.saturating_add(1).min(self.config.max);
            }
            Outcome::Overloaded { .. } | Outcome::TimedOut if now - latency >= self.cut_at => {
                let kept = u64::from(self.limit) * u64::from(self.config.keep_percent) / 100;
                self.limit = (kept as u32).max(self.config.min);
                self.cut_at = now;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
