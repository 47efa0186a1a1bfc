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
//! share, a bad one halves it: below a tenth of failures an interval is healthy, from a quarter on it
//! is bad.
//!
//! **Edges.** Only an outcome ends an interval: while nothing comes back, nothing grows. A ramp
//! that reached 100 % is over and stays so; a relapse is a new ramp, made by whoever detected it.

use crate::decision::{Policy, Reason, Rejection};
use crate::outcome::Outcome;
use crate::time::{Span, Time};

/// Intervals from the first request to all of them, when each is healthy.
pub const STEPS: u32 = 14;

const WHOLE: u32 = 1_000_000;
const START: u32 = WHOLE / 20;
const HALF: u32 = WHOLE / 2;
const AT_LEAST_EVERY: Span = Span::from_secs(1);

/// A share of the traffic that grows while all is well.
#[derive(Clone, Debug)]
pub struct Ramp {
    share: u32,
    credit: u32,
    interval: Span,
    next_step: Time,
    last_pass: Option<Time>,
    calls: u32,
    failed: u32,
}

impl Ramp {
    /// A ramp that takes `over` from the first request to all of them.
    pub fn new(over: Span, now: Time) -> Ramp {
        let interval = Span::from_nanos(over.as_nanos() / u64::from(STEPS)).max(Span::from_nanos(1));
        Ramp {
            share: START,
            credit: 0,
            interval,
            next_step: now + interval,
            last_pass: None,
            calls: 0,
            failed: 0,
        }
    }

    /// Lets this request pass, or not yet.
    pub fn admit(&mut self, now: Time) -> Result<(), Rejection> {
        self.credit += self.share;
        let overdue = self.last_pass.is_none_or(|last| now.since(last) >= AT_LEAST_EVERY);
        if self.credit < WHOLE && !overdue {
            return Err(Rejection::new(Policy::Ramp, Reason::Open, self.next_step.since(now)));
        }
        self.credit = self.credit.saturating_sub(WHOLE);
        self.last_pass = Some(now);
        Ok(())
    }

    /// Counts how a request that passed went, and moves the share when its interval ends.
    pub fn report(&mut self, now: Time, outcome: Outcome) {
        if !outcome.is_failure() && outcome != Outcome::Success {
            return;
        }
        self.calls += 1;
        self.failed += u32::from(outcome.is_failure());
        if now < self.next_step {
            return;
        }
        self.next_step = now + self.interval;
        self.share = match (self.failed * 10 < self.calls, self.failed * 4 < self.calls) {
            (true, _) if self.share < HALF => (self.share * 2).min(HALF),
            (true, _) => (self.share + WHOLE / 20).min(WHOLE),
            (false, true) => self.share,
            (false, false) => (self.share / 2).max(START),
        };
        (self.calls, self.failed) = (0, 0);
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
