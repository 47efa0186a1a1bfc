//! The dimmer: how much less work each request should be given, before any is dropped.
//!
//! **Prevents** refusals that cheaper work would have made needless: a cached answer, a shorter
//! list, a less precise algorithm.
//!
//! **Mechanics.** A level from 0 (full work) to 1 (as little as there is), to be read as the share of
//! requests that get less, or as how much less each gets. It rises at once with whatever is about
//! to make the shedding begin: arrivals over drain from [`LOAD_FROM`] to [`LOAD_FULL`], the least
//! delay from half of the hard drop's to that, a guard's reading from its release to its mark. It
//! halves in [`HALF_LIFE`] when they have gone, so that work does not flicker. The dimmer is
//! proportional to the load itself, so it settles where the lighter work just fits.
//!
//! **Edges.** A service that cannot do less ignores it, and nothing else changes.
//! After Klein et al., *Brownout* (ICSE 2014).

use crate::time::{Span, Time};

/// Arrivals over drain at which it begins to rise.
pub const LOAD_FROM: f64 = 0.95;
/// Arrivals over drain at which it is 1: a queue stands no sooner.
pub const LOAD_FULL: f64 = 1.04;
/// The time in which it halves when nothing holds it up.
pub const HALF_LIFE: Span = Span::from_secs(2);

/// Below this it is nothing.
const NOTHING: f64 = 0.01;

/// A level that rises at once and falls slowly.
#[derive(Clone, Debug)]
pub(super) struct Dimmer {
    level: f64,
    at: Time,
}

impl Dimmer {
    pub(super) fn new() -> Dimmer {
        Dimmer { level: 0.0, at: Time::ZERO }
    }

    /// Rises to `wanted`, if that is above where it has fallen to.
    pub(super) fn observe(&mut self, now: Time, wanted: f64) {
        // What it falls by is worked out only when somebody asks.
        if wanted > 0.0 && (wanted >= self.level || wanted > self.level(now)) {
            self.level = wanted;
            self.at = now;
        }
    }

    pub(super) fn level(&self, now: Time) -> f64 {
        if self.level == 0.0 {
            return 0.0;
        }
        let halves = now.since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let level = self.level * libm::exp2(-halves);
        if level < NOTHING { 0.0 } else { level }
    }
}

/// How far `value` has come from `low` (0) to `high` (1).
pub(super) fn between(low: f64, high: f64, value: f64) -> f64 {
    if value <= low { 0.0 } else { ((value - low) / (high - low)).min(1.0) }
}
