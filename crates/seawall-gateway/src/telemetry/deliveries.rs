//! What a collector does not take: counted, and said now and then.
//!
//! **Prevents** a collector that is down from going unnoticed, and, as each batch fails then, from filling the log.
//!
//! **Edges.** Traces and metrics are told apart, because a collector may take only one of them. One that takes
//! and refuses by turns is said no more often than one that always refuses.

#![cfg_attr(
    not(any(feature = "otlp", test)),
    expect(dead_code, reason = "nothing is sent in a build without OTLP")
)]

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use seawall::core::time::{Span, Time};

/// How long nothing more is said of failures after the last word about them.
const QUIET: Span = Span::from_secs(60);

/// What is sent to a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    pub(crate) const ALL: [Signal; 2] = [Signal::Traces, Signal::Metrics];

    /// Its name in logs and metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
        }
    }
}

/// How the batches of each signal went.
#[derive(Debug, Default)]
pub(crate) struct Deliveries([(Counter, Mutex<Word>); Signal::ALL.len()]);

/// What was said of failures.
#[derive(Debug, Default)]
struct Word {
    last: Option<Time>,
    /// Failures since the last word.
    unsaid: u64,
    /// Whether the last word was of failures.
    stands: bool,
}

impl Word {
    /// How many failures are to be told, if any.
    fn failed(&mut self, now: Time) -> Option<u64> {
        self.unsaid += 1;
        if self.last.is_some_and(|last| now.since(last) < QUIET) {
            return None;
        }
        (self.last, self.stands) = (Some(now), true);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// How many failures had not been told, if it is to be told that it works again.
    fn succeeded(&mut self) -> Option<u64> {
        std::mem::take(&mut self.stands).then(|| std::mem::take(&mut self.unsaid))
    }
}

impl Deliveries {
    /// The collector did not take a batch.
    pub(crate) fn failed(&self, now: Time, signal: Signal, error: &dyn Display) {
        let (counter, word) = &self.0[signal as usize];
        counter.inc();
        if let Some(failures) = word.lock().unwrap_or_else(PoisonError::into_inner).failed(now) {
            tracing::warn!(failures, %error, "the collector does not take {}", signal.name());
        }
    }

    /// The collector took a batch.
    pub(crate) fn succeeded(&self, signal: Signal) {
        let (_, word) = &self.0[signal as usize];
        if let Some(failures) = word.lock().unwrap_or_else(PoisonError::into_inner).succeeded() {
            tracing::info!(failures, "the collector takes {} again", signal.name());
        }
    }

    /// Batches of this signal that were not taken.
    pub(crate) fn failures(&self, signal: Signal) -> u64 {
        self.0[signal as usize].0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Time {
        Time::ZERO + Span::from_secs(secs)
    }

    #[test]
    fn the_first_failure_is_said_and_then_one_line_a_minute() {
        let mut word = Word::default();
        assert_eq!(word.failed(at(0)), Some(1));
        assert!((1..60).all(|secs| word.failed(at(secs)).is_none()));
        assert_eq!(word.failed(at(60)), Some(60));
        assert_eq!(word.failed(at(61)), None);
        assert_eq!(word.succeeded(), Some(1));
        assert_eq!(word.succeeded(), None);
    }

    #[test]
    fn who_takes_and_refuses_by_turns_is_said_no_more_often() {
        let mut word = Word::default();
        let mut told = 0;
        for secs in 0..600 {
            told += u32::from(word.failed(at(secs)).is_some()) + u32::from(word.succeeded().is_some());
        }
        assert_eq!(told, 20);
    }

    #[test]
    fn signals_are_told_apart() {
        let deliveries = Deliveries::default();
        deliveries.failed(at(0), Signal::Metrics, &"refused");
        deliveries.succeeded(Signal::Traces);
        assert_eq!(Signal::ALL.map(|signal| deliveries.failures(signal)), [0, 1]);
    }
}
