//! Backpressure: a client holds itself back from a callee that accepts little.
//!
//! **Prevents** a callee from spending its last capacity on refusing: past a certain load even a
//! cheap refusal is work, and only the client can make it free.
//!
//! **Mechanics.** Over a sliding `window` (default 2 min) it counts the attempts that were wanted,
//! those that it refused itself among them, and those that the callee accepted. An attempt is
//! refused here with the chance max(0, (requests − K·accepts)/(requests + 1)), so that about K
//! attempts are sent for each one that is accepted; K = 2 leaves a healthy callee alone until half
//! of the attempts fail. From "Handling Overload" in *Site Reliability Engineering* (Beyer et al.,
//! 2016), where it is called adaptive throttling.
//!
//! **Edges.** As published, a total outage leaves about one attempt in a window, and the return of
//! the callee is noticed minutes late. So the chance is capped (`most`, at most 90 %), and an
//! attempt passes whenever none has passed for `probe_every` (at most 1 s). Outcomes that say
//! nothing of the callee (cancelled, superseded, ignored) take their attempt back. An outcome counts
//! in the part of the window of its attempt, so that there are never more accepts than requests; when the
//! window has been changed since, it counts nowhere. In shadow ([`Backpressure::admit_in_shadow`]) what it
//! would have refused is sent and its outcome counts, so that the chance shown is that of a client that
//! does not hold itself back.

use crate::decision::{Policy, Reason, Rejection};
use crate::measure::slices::Slices;
use crate::outcome::Outcome;
use crate::rng::Rng;
use crate::setting::{SettingError, check};
use crate::time::{Span, Time};

/// Parts into which the window is cut, and one more.
const SLICES: usize = 25;

/// How early a client holds itself back, and how far. [`Backpressure::new`] takes only a checked
/// one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Attempts sent for each one accepted, before any is refused; 1 to 100, default 2.
    pub k: f64,
    /// Over how long it counts; 1 s to 1 h, default 2 min.
    pub window: Span,
    /// The highest chance of a refusal; 0 to .9, default .9.
    pub most: f64,
    /// After how long without an attempt one passes in any case; 1 ms to 1 s, default 1 s.
    pub probe_every: Span,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { k: 2.0, window: Span::from_secs(120), most: 0.9, probe_every: Span::from_secs(1) }
    }
}

/// Checked [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Config(Settings);

impl Config {
    /// Checks every setting against its range.
    pub fn new(settings: Settings) -> Result<Config, SettingError> {
        let (second, hour) = (Span::from_secs(1), Span::from_secs(3_600));
        check((1.0..=100.0).contains(&settings.k), "k", "1 to 100")?;
        check((second..=hour).contains(&settings.window), "window", "1 s to 1 h")?;
        check((0.0..=0.9).contains(&settings.most), "most", "0 to 90 %")?;
        check((Span::from_millis(1)..=second).contains(&settings.probe_every), "probe_every", "1 ms to 1 s")?;
        Ok(Config(settings))
    }
}

/// The chance with which an attempt is refused, without cap and probes.
///
/// ```
/// assert!((seawall_core::backpressure::chance(100, 40, 2.0) - 0.198_020).abs() < 1e-6);
/// ```
pub fn chance(requests: u64, accepts: u64, k: f64) -> f64 {
    let excess = requests as f64 - k * accepts as f64;
    (excess / (requests as f64 + 1.0)).max(0.0)
}

/// What was wanted and what was accepted.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u64,
    accepts: u64,
}

/// An attempt that passed. It has no `Drop`: exactly one [`Backpressure::report`] ends it.
#[derive(Clone, Copy, Debug)]
#[must_use = "an attempt that is never reported counts as one that the callee did not accept"]
pub struct Pass {
    slice: u64,
    /// Which window the part is of.
    window: u32,
}

/// What it looks like from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Attempts wanted within the window, as of the last verb.
    pub requests: u64,
    /// Of these, accepted by the callee.
    pub accepts: u64,
    /// The chance with which an attempt is refused, 0 to 1.
    pub chance: f64,
    /// Attempts refused so far.
    pub refused: u64,
    /// Attempts let through in shadow that would have been refused.
    pub shadowed: u64,
}

/// How much a callee accepts of what all calls to it want.
#[derive(Debug)]
pub struct Backpressure {
    config: Settings,
    counts: Slices<Counts, SLICES>,
    total: Counts,
    /// How often the window was changed.
    windows: u32,
    /// From when on an attempt passes in any case.
    probe: Time,
    refused: u64,
    shadowed: u64,
}

impl Backpressure {
    /// Nothing counted yet.
    pub fn new(config: Config, now: Time) -> Backpressure {
        Backpressure {
            config: config.0,
            counts: Slices::new(config.0.window, now),
            total: Counts::default(),
            windows: 0,
            probe: now,
            refused: 0,
            shadowed: 0,
        }
    }

    /// Whether an attempt may be sent.
    pub fn admit(&mut self, now: Time, rng: &mut Rng) -> Result<Pass, Rejection> {
        if self.holds_back(now, rng) {
            self.refused += 1;
            return Err(Rejection::new(Policy::Backpressure, Reason::Shed, self.probe.since(now)));
        }
        Ok(self.pass())
    }

    /// The same for an attempt that is sent in any case: counts it if it would have been refused.
    pub fn admit_in_shadow(&mut self, now: Time, rng: &mut Rng) -> Pass {
        self.shadowed += u64::from(self.holds_back(now, rng));
        self.pass()
    }

    /// Counts an attempt and says whether it should not be sent.
    fn holds_back(&mut self, now: Time, rng: &mut Rng) -> bool {
        self.slide(now);
        let chance = self.chance();
        self.total.requests += 1;
        self.counts.newest().requests += 1;
        let holds_back = now < self.probe && chance > 0.0 && rng.unit() < chance;
        if !holds_back {
            self.probe = now + self.config.probe_every;
        }
        holds_back
    }

    fn pass(&self) -> Pass {
        Pass { slice: self.counts.number(), window: self.windows }
    }

    /// How an attempt that passed went.
    pub fn report(&mut self, now: Time, pass: Pass, outcome: Outcome) {
        self.slide(now);
        if pass.window != self.windows {
            return; // It was counted in another one.
        }
        let Some(counts) = self.counts.at(pass.slice) else { return };
        match outcome {
            Outcome::Success => {
                counts.accepts += 1;
                self.total.accepts += 1;
            }
            Outcome::Failure | Outcome::Overloaded { .. } | Outcome::TimedOut => {}
            Outcome::Cancelled | Outcome::Superseded | Outcome::Ignored => {
                counts.requests -= 1;
                self.total.requests -= 1;
            }
        }
    }

    /// Changes the config; the counts stay, unless the window changes.
    pub fn configure(&mut self, config: Config, now: Time) {
        if config.0.window != self.config.window {
            self.counts = Slices::new(config.0.window, now);
            self.total = Counts::default();
            self.windows = self.windows.wrapping_add(1);
        }
        self.config = config.0;
    }

    /// Plain values.
    pub fn snapshot(&self) -> Snapshot {
        let Counts { requests, accepts } = self.total;
        let Backpressure { refused, shadowed, .. } = *self;
        Snapshot { requests, accepts, chance: self.chance(), refused, shadowed }
    }

    fn chance(&self) -> f64 {
        chance(self.total.requests, self.total.accepts, self.config.k).min(self.config.most)
    }

    fn slide(&mut self, now: Time) {
        let total = &mut self.total;
        self.counts.slide(now, |gone| {
            total.requests -= gone.requests;
            total.accepts -= gone.accepts;
        });
    }
}

#[cfg(test)]
mod tests;
