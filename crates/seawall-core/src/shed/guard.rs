//! Guards: what the machine says, as a ceiling on the share of traffic that passes.
//!
//! **Prevents** a service from being driven into the ground by what no queue shows: all of its CPU
//! taken, its memory near the limit at which it is killed, its event loop late.
//!
//! **Mechanics.** The driver samples a [`Reading`] a few times a second and hands it over; core
//! reads nothing. While any reading is at or above its mark, the share of traffic that passes halves
//! every [`HALVING`], beginning at what has passed since the last reading. While all are below
//! [`RELEASE`] of their marks, it doubles every [`DOUBLING`], up to all. In between it stays: that
//! is the hysteresis. What does not fit into the share is dropped by rank, the least important
//! first.
//!
//! **Edges.** Guards only: a busy CPU is no overload by itself, so the marks belong well above where
//! a healthy service runs, and queue delay stays the signal that controls. A reading that is missing
//! says nothing; when no reading came for [`STALE`], the guard lets everything pass, so that a
//! driver that stopped sampling cannot shed for ever. The share never falls below
//! [`SHARE_LEAST`].

use core::fmt;

use super::dimmer::between;
use crate::pressure::Reading;
use crate::time::{Span, Time};

/// The time in which the share halves while a reading is above its mark.
pub const HALVING: Span = Span::from_secs(1);
/// The time in which it doubles when all readings are low again.
pub const DOUBLING: Span = Span::from_secs(2);
/// The part of its mark below which a reading is low again.
pub const RELEASE: f64 = 0.9;
/// The age at which a reading says nothing any more.
pub const STALE: Span = Span::from_secs(3);
/// What always passes.
pub const SHARE_LEAST: f64 = 0.01;

/// The most time that one reading stands for.
const STEP: Span = Span::from_secs(1);

/// A mark for a share of something: 1 % to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u8);

/// A mark outside its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkError(u8);

impl fmt::Display for MarkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a mark of {} % is not from 1 % to 100 %", self.0)
    }
}

impl core::error::Error for MarkError {}

impl Mark {
    /// A mark at so many percent.
    ///
    /// ```
    /// use seawall_core::shed::guard::Mark;
    ///
    /// assert!(Mark::percent(90).is_ok());
    /// assert_eq!(Mark::percent(0).unwrap_err().to_string(), "a mark of 0 % is not from 1 % to 100 %");
    /// ```
    pub const fn percent(percent: u8) -> Result<Mark, MarkError> {
        if percent >= 1 && percent <= 100 { Ok(Mark(percent)) } else { Err(MarkError(percent)) }
    }

    /// The mark as a share, 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.0) / 100.0
    }
}

/// From where on readings hold traffic back. All are off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// The CPU in use, of what this process may use.
    pub cpu: Option<Mark>,
    /// The share of time in which something waited for a CPU.
    pub stall: Option<Mark>,
    /// The memory in use, of what this process may use.
    pub memory: Option<Mark>,
    /// How late the runtime is; at least 1 ns is counted.
    pub lag: Option<Span>,
}

impl Guards {
    /// How many are on.
    pub fn count(&self) -> u32 {
        let marks = [self.cpu, self.stall, self.memory];
        marks.iter().flatten().count() as u32 + u32::from(self.lag.is_some())
    }

    /// The highest reading, as a part of its mark.
    fn pressed(&self, reading: &Reading) -> f64 {
        let part = |value: Option<f64>, mark: Option<Mark>| {
            value.zip(mark).map(|(value, mark)| value / mark.share())
        };
        let late = |(lag, mark): (Span, Span)| lag.as_secs_f64() / mark.as_secs_f64().max(1e-9);
        [
            part(reading.cpu, self.cpu),
            part(reading.stall, self.stall),
            part(reading.memory, self.memory),
            reading.lag.zip(self.lag).map(late),
        ]
        .into_iter()
        .flatten()
        .filter(|part| part.is_finite())
        .fold(0.0, f64::max)
    }
}

/// The share of traffic that the guards let through.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    share: f64,
    /// The highest reading, as a part of its mark.
    pressed: f64,
    at: Option<Time>,
    /// Requests since the last reading, and how many of those were not dropped.
    asked: u32,
    passed: u32,
}

impl Guard {
    pub(super) fn new() -> Guard {
        Guard { share: 1.0, pressed: 0.0, at: None, asked: 0, passed: 0 }
    }

    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// How far the readings have come from where they are released to where they hold back.
    pub(super) fn dimmed(&self, now: Time) -> f64 {
        match self.is_fresh(now) {
            true if self.share < 1.0 => 1.0,
            true => between(RELEASE, 1.0, self.pressed),
            false => 0.0,
        }
    }

    /// Whether a request of this rank passes.
    pub(super) fn passes(&self, now: Time, rank: f64) -> bool {
        self.share >= 1.0 || rank <= self.share || !self.is_fresh(now)
    }

    /// Counts what became of a request, here or elsewhere.
    pub(super) fn count(&mut self, passed: u32) {
        self.asked = self.asked.saturating_add(1);
        self.passed = self.passed.saturating_add(passed);
    }

    pub(super) fn observe(&mut self, now: Time, guards: &Guards, reading: &Reading) {
        let elapsed = now.since(self.at.unwrap_or(now)).min(STEP).as_secs_f64();
        self.pressed = guards.pressed(reading);
        if !self.is_fresh(now) {
            self.share = 1.0;
        }
        if self.pressed >= 1.0 {
            let halves = elapsed / HALVING.as_secs_f64();
            let from = if self.asked > 0 { f64::from(self.passed) / f64::from(self.asked) } else { 1.0 };
            self.share = (self.share.min(from) * libm::exp2(-halves)).max(SHARE_LEAST);
        } else if self.pressed < RELEASE && self.share < 1.0 {
            self.share = (self.share * libm::exp2(elapsed / DOUBLING.as_secs_f64())).min(1.0);
        }
        self.at = Some(now);
        (self.asked, self.passed) = (0, 0);
    }

    fn is_fresh(&self, now: Time) -> bool {
        self.at.is_some_and(|at| now.since(at) <= STALE)
    }
}
