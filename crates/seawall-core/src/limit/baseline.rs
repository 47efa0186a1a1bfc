//! The protected no-load latency: what a call takes while few others are under way.
//!
//! It is the *mean* of calls that were sent at low use, never the least: a few quick calls (a cached
//! answer, an early error) must not count for all. An overload sends no such calls, so it cannot
//! teach, and nothing is clamped in order to measure.

use crate::measure::ewma::Ewma;
use crate::time::Time;

/// The share of a limit up to which a call counts as sent without load.
pub(super) const LOW: f64 = 0.25;
/// Samples that the mean averages over.
const WINDOW: u32 = 4_000;

/// Calls without load that are needed before their mean is believed.
pub const BASELINE_LEAST: u32 = 20;

/// A protected no-load latency, in seconds.
#[derive(Clone, Debug)]
pub(super) struct Baseline {
    mean: Ewma,
    /// Only calls that were sent since then count: of those under way at any moment most are long ones.
    from: Time,
}

impl Baseline {
    pub(super) fn new() -> Baseline {
        Baseline { mean: Ewma::new(WINDOW, BASELINE_LEAST), from: Time::ZERO }
    }

    /// Takes in a successful call, if at most `low` were in flight when it was sent.
    pub(super) fn add(&mut self, sent: Time, in_flight: u32, low: f64, seconds: f64) {
        if f64::from(in_flight) <= low.max(1.0) && sent >= self.from {
            self.mean.add(seconds);
        }
    }

    /// The mean, once enough calls said it.
    pub(super) fn known(&self) -> Option<f64> {
        self.mean.mean().filter(|_| self.mean.seen() >= BASELINE_LEAST)
    }

    /// The calls that say so.
    pub(super) fn calls(&self) -> u32 {
        self.mean.seen()
    }

    /// The variance of the mean, relative to its square, if calls differ as much as exponential ones.
    pub(super) fn doubt(&self) -> f64 {
        1.0 / f64::from(self.calls().max(1))
    }

    /// Keeps what is known, as if few calls had said so: the next ones count for more.
    pub(super) fn age(&mut self) {
        if let Some(known) = self.known() {
            self.mean.restart(known, BASELINE_LEAST);
        }
    }

    /// Takes in what so many `calls` took on average that ended until `now`.
    pub(super) fn merge(&mut self, now: Time, seconds: f64, calls: u32) {
        let seen = self.mean.seen().min(WINDOW);
        let known = self.mean.mean().unwrap_or(seconds);
        let part = f64::from(calls) / f64::from(seen + calls);
        self.restart(now, known + (seconds - known) * part, seen + calls);
    }

    /// Forgets everything and starts at `seconds`, as if `calls` that ended until `now` had said so.
    pub(super) fn restart(&mut self, now: Time, seconds: f64, calls: u32) {
        self.from = now;
        self.mean.restart(seconds, calls);
    }
}
