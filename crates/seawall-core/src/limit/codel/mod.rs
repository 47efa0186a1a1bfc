//! CoDel: drop from a line that has been too old for too long, ever faster until it is not.
//!
//! ```text
//!             all of an interval above target: drop
//!   Watching ───────────────────────────────────────▶ Dropping ──┐ at t, then at
//!      ▲                                                 │  ▲    │ t + interval/√n: drop
//!      └──────────── a wait below the target ────────────┘  └────┘
//! ```
//!
//! **Prevents** a line in which everybody waits and nobody gains: a burst passes, a standing line
//! is thinned until waits are short again.
//!
//! **Mechanics.** Controlled delay (Nichols and Jacobson, 2012; RFC 8289), asked with each one who
//! leaves the line. The first drop comes when waits have been at or above `target` for a whole
//! `interval`; each next one `interval / √n` after the last, `n` being the drops so far.
//!
//! **Edges.** Coming back to dropping soon after it stopped, it goes on about where it left off.
//! Whoever owns the line does not ask about the last one in it: dropping that would serve nobody.

use crate::setting::{SettingError, check};
use crate::time::{Span, Time};

/// When a line is thinned. [`Codel::new`] takes only a checked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The wait that is always allowed; longer than zero, default 5 ms.
    pub target: Span,
    /// How long waits may be above it; at least `target`, default 100 ms.
    pub interval: Span,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { target: Span::from_millis(5), interval: Span::from_millis(100) }
    }
}

/// Checked [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config(Settings);

impl Config {
    /// Checks every setting against its range.
    pub fn new(settings: Settings) -> Result<Config, SettingError> {
        let Settings { target, interval } = settings;
        check(target > Span::ZERO, "target", "longer than zero")?;
        check(interval >= target, "interval", "at least `target`")?;
        Ok(Config(settings))
    }
}

/// Restarts of dropping within this many intervals go on where it left off.
const SOON: u64 = 16;

/// The state of one line.
#[derive(Clone, Debug)]
pub struct Codel {
    config: Settings,
    /// When waits will have been above the target for an interval.
    above_at: Option<Time>,
    is_dropping: bool,
    next: Time,
    drops: u32,
    /// What `drops` was when dropping last began.
    began_with: u32,
}

impl Codel {
    /// A line that is not too old.
    pub fn new(config: Config) -> Codel {
        Codel {
            config: config.0,
            above_at: None,
            is_dropping: false,
            next: Time::ZERO,
            drops: 0,
            began_with: 0,
        }
    }

    /// Another target or interval; what it was about goes on.
    pub fn configure(&mut self, config: Config) {
        self.config = config.0;
    }

    /// Whether the one who leaves the line now, having waited this long, must be dropped.
    pub fn drops(&mut self, now: Time, waited: Span) -> bool {
        if waited < self.config.target {
            self.above_at = None;
            self.is_dropping = false;
            return false;
        }
        let above_at = *self.above_at.get_or_insert(now + self.config.interval);
        if now < above_at {
            self.is_dropping = false;
            return false;
        }
        if !self.is_dropping {
            self.begin(now);
            return true;
        }
        if now < self.next {
            return false;
        }
        self.drops = self.drops.saturating_add(1);
        self.next = self.after(self.next);
        true
    }

    fn begin(&mut self, now: Time) {
        let last_time = self.drops - self.began_with;
        let soon = now.since(self.next) < self.config.interval.times(SOON);
        self.drops = if soon && last_time > 1 { last_time } else { 1 };
        self.began_with = self.drops;
        self.is_dropping = true;
        self.next = self.after(now);
    }

    fn after(&self, at: Time) -> Time {
        at + self.config.interval.scaled(1.0 / libm::sqrt(f64::from(self.drops)))
    }
}

#[cfg(test)]
mod tests;
