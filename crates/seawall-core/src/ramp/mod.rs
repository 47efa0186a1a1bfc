//! Ramp: everything that comes back comes back through this.
//!
//! **Prevents** the relapse: a callee that has just recovered meets cold caches, empty pools and
//! all of its traffic in the same instant, and fails again.
//!
//! **Mechanics.** A ramp passes a share of the traffic. It starts at 5 %, doubles with each
//! healthy interval up to 50 %, then adds 5 % until all passes: [`STEPS`] intervals in all. Which
//! requests pass is decided by error diffusion (a credit of `share` for each that asks, one
//! request for each whole credit), so the share is exact and needs no chance. At least one request
//! a second passes, or a quiet service would never come back. An unhealthy interval holds the
//! share, a bad one halves it.
//!
//! **Edges.** An interval in which nobody asked is neither healthy nor unhealthy: it holds. A ramp
//! that reached 100 % is over and stays so; a relapse is a new ramp, made by whoever detected it.

use crate::time::{Span, Time};

/// Intervals from the first request to all of them, when each is healthy.
pub const STEPS: u32 = 14;

const WHOLE: u32 = 1_000_000;
const START: u32 = WHOLE / 20;
const HALF: u32 = WHOLE / 2;
const AT_LEAST_EVERY: Span = Span::from_secs(1);

/// How an interval went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// As it should: the share grows.
    Healthy,
    /// Not well: the share holds.
    Unhealthy,
    /// Badly: the share is halved.
    Bad,
}

/// A share of the traffic that grows while all is well.
#[derive(Clone, Debug)]
pub struct Ramp {
    share: u32,
    credit: u32,
    interval: Span,
    next_step: Time,
    last_pass: Option<Time>,
    asked: bool,
}

impl Ramp {
    /// A ramp that takes `over` from the first request to all of them.
    pub fn new(over: Span, now: Time) -> Ramp {
        let interval = Span::from_nanos(over.as_nanos() / u64::from(STEPS)).max(Span::from_nanos(1));
        Ramp { share: START, credit: 0, interval, next_step: now + interval, last_pass: None, asked: false }
    }

    /// Whether this request passes.
    pub fn admit(&mut self, now: Time) -> bool {
        self.asked = true;
        self.credit += self.share;
        let overdue = self.last_pass.is_none_or(|last| now.since(last) >= AT_LEAST_EVERY);
        if self.credit < WHOLE && !overdue {
            return false;
        }
        self.credit = self.credit.saturating_sub(WHOLE);
        self.last_pass = Some(now);
        true
    }

    /// When the next interval ends; [`Ramp::step`] does nothing before.
    pub fn next_step(&self) -> Time {
        self.next_step
    }

    /// Ends the interval, if its time has come, and moves the share by how it went.
    pub fn step(&mut self, now: Time, health: Health) {
        if now < self.next_step {
            return;
        }
        self.next_step = now + self.interval;
        if !core::mem::take(&mut self.asked) {
            return;
        }
        self.share = match health {
            Health::Healthy if self.share < HALF => (self.share * 2).min(HALF),
            Health::Healthy => (self.share + WHOLE / 20).min(WHOLE),
            Health::Unhealthy => self.share,
            Health::Bad => (self.share / 2).max(START),
        };
    }

    /// The share that passes, 0 to 1.
    pub fn share(&self) -> f64 {
        f64::from(self.share) / f64::from(WHOLE)
    }

    /// Whether all passes: the ramp is over.
    pub fn is_over(&self) -> bool {
        self.share == WHOLE
    }
}

#[cfg(test)]
mod tests;
