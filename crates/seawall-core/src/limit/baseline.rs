//! The protected no-load latency: what a call takes while few others are under way.
//!
//! It is the *mean* of calls that were sent at low use, never the least: a few quick calls (a cached
//! answer, an early error) must not count for all. An overload sends no such calls, so it cannot
//! teach, and nothing is clamped in order to measure.

use crate::measure::ewma::Ewma;

/// The share of a limit up to which a call counts as sent without load.
pub(super) const LOW: f64 = 0.25;
/// Samples that the mean averages over.
const WINDOW: u32 = 4_000;

/// Calls without load that are needed before their mean is believed.
pub const BASELINE_LEAST: u32 = 20;

/// A protected no-load latency, in seconds.
#[derive(Clone, Debug)]
pub(super) struct Baseline(Ewma);

impl Baseline {
    pub(super) fn new() -> Baseline {
        Baseline(Ewma::new(WINDOW, BASELINE_LEAST))
    }

    /// Takes in a successful call, if at most `low` were in flight.
    pub(super) fn add(&mut self, in_flight: u32, low: f64, seconds: f64) {
        if f64::from(in_flight) <= low.max(1.0) {
            self.0.add(seconds);
        }
    }

    /// The mean, once enough calls said it.
    pub(super) fn known(&self) -> Option<f64> {
        self.0.mean().filter(|_| self.0.seen() >= BASELINE_LEAST)
    }

    /// Keeps what is known, as if few calls had said so: the next ones count for more.
    pub(super) fn doubt(&mut self) {
        if let Some(known) = self.known() {
            self.0.restart(known, BASELINE_LEAST);
        }
    }

    /// Forgets everything and starts at `seconds`, as if `calls` had said so.
    pub(super) fn restart(&mut self, seconds: f64, calls: u32) {
        self.0.restart(seconds, calls);
    }
}
