//! Ramp: everything that comes back comes back through this.
//!
//! **Prevents** the relapse: a callee that has just recovered meets cold caches, empty pools and
//! all of its traffic in the same instant, and fails again.
//!
//! **Mechanics.** A ramp passes a share of the traffic. It starts at 5 %, doubles with each
//! healthy interval up to 50 %, then adds 5 % until all passes: [`STEPS`] intervals in all. Which
//! requests pass is decided by error diffusion (a credit of `share` for each that asks, one
//! request for each whole credit), so the share is exact and needs no chance. At least one request
//! a second passes, or a quiet service would never come back. Each ramp has intervals a little
//! shorter or longer than the next one's, so that instances that begin together do not step together.
//!
//! ```text
//!   interval   failures    refused behind it   mean delay / target   share
//!   healthy    < 10 %      < 10 %              < 1                   doubled, from 50 % on + 5 %
//!   unwell     < 25 %      any                 < 2                   held
//!   bad        otherwise                                             halved, not below 5 %
//! ```
//!
//! After it stepped back it doubles up to three quarters of where it was, instead of 50 %.
//!
//! **Edges.** Only an outcome ends an interval: while nothing comes back, nothing grows. A ramp
//! that reached its top is over and stays so; a relapse is a new ramp, made by whoever detected it.

use crate::decision::{Policy, Reason, Rejection};
use crate::outcome::Outcome;
use crate::rng::Rng;
use crate::time::{Span, Time};

/// Intervals from the first request to all of them, when each is healthy.
pub const STEPS: u32 = 14;

const WHOLE: u32 = 1_000_000;
const START: u32 = WHOLE / 20;
const HALF: u32 = WHOLE / 2;
const AT_LEAST_EVERY: Span = Span::from_secs(1);
/// How far intervals spread around their mean, each way.
const JITTER: f64 = 0.1;

/// How far a delay is above its target: at 1 a ramp holds, at 2 it steps back.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Strain(f64);

impl Strain {
    /// No delay is known, or none is to count.
    pub const NONE: Strain = Strain(0.0);

    /// The strain of this delay; none without a target.
    pub fn of(delay: Span, target: Span) -> Strain {
        match target {
            Span::ZERO => Strain::NONE,
            target => Strain(delay.as_secs_f64() / target.as_secs_f64()),
        }
    }

    /// The same, but it only ever holds a ramp: the delay is in a queue that is bounded already.
    pub fn bounded(self) -> Strain {
        Strain(self.0.min(1.0))
    }
}

/// A share of the traffic that grows while all is well.
#[derive(Clone, Debug)]
pub struct Ramp {
    share: u32,
    top: u32,
    /// Up to this share it doubles.
    sound: u32,
    credit: u32,
    interval: Span,
    next_step: Time,
    last_pass: Option<Time>,
    calls: u32,
    failed: u32,
    refused: u32,
    strain: f64,
}

impl Ramp {
    /// A ramp that takes about `over` from the first request to all of them.
    pub fn new(over: Span, now: Time, rng: &mut Rng) -> Ramp {
        let spread = 1.0 + JITTER * (2.0 * rng.unit() - 1.0);
        let interval = Span::from_nanos(over.as_nanos() / u64::from(STEPS)).scaled(spread);
        let interval = interval.max(Span::from_nanos(1));
        Ramp {
            share: START,
            top: WHOLE,
            sound: HALF,
            credit: 0,
            interval,
            next_step: now + interval,
            last_pass: None,
            calls: 0,
            failed: 0,
            refused: 0,
            strain: 0.0,
        }
    }

    /// The same, but it ends at this share, in parts per million: 0 to 1 000 000.
    pub fn up_to(self, top_ppm: u32) -> Ramp {
        let top = top_ppm.min(WHOLE);
        Ramp { top, share: self.share.min(top), ..self }
    }

    /// The same, but it begins at the share that passes another, in whose place it comes.
    pub(crate) fn after(self, before: &Ramp) -> Ramp {
        Ramp { share: self.share.max(before.share), ..self }
    }

    /// Lets this request pass, or not yet.
    pub fn admit(&mut self, now: Time) -> Result<(), Rejection> {
        self.credit += self.share;
        let quiet = self.last_pass.map_or(AT_LEAST_EVERY, |last| now.since(last));
        if self.credit < WHOLE && quiet < AT_LEAST_EVERY {
            // An interval that should be over waits for an outcome, which the next that passes brings.
            let step = if now < self.next_step { self.next_step.since(now) } else { self.interval };
            let wait = step.min(AT_LEAST_EVERY.minus(quiet));
            return Err(Rejection::new(Policy::Ramp, Reason::Open, wait));
        }
        self.credit = self.credit.saturating_sub(WHOLE);
        self.last_pass = Some(now);
        Ok(())
    }

    /// Counts a request that passed and was refused behind the ramp, for want of capacity: whoever
    /// refused protects the service already, so there is nothing to step back from.
    pub fn refused(&mut self) {
        self.refused += 1;
    }

    /// Counts how a request that passed went, and moves the share when its interval ends.
    pub fn report(&mut self, now: Time, outcome: Outcome, strain: Strain) {
        if outcome.is_refusal() {
            return self.refused();
        }
        if !outcome.is_failure() && outcome != Outcome::Success {
            return;
        }
        self.calls += 1;
        self.failed += u32::from(outcome.is_failure());
        self.strain += strain.0;
        if now < self.next_step {
            return;
        }
        self.next_step = now + self.interval;
        let strain = self.strain / f64::from(self.calls);
        let refused = self.refused * 10 >= self.calls + self.refused;
        let healthy = self.failed * 10 < self.calls && strain < 1.0 && !refused;
        let unwell = self.failed * 4 < self.calls && strain < 2.0;
        if !healthy && !unwell {
            // At the least share nothing is learnt of where the most is.
            self.sound = if self.share <= START { HALF } else { self.share / 4 * 3 };
        }
        self.share = match (healthy, unwell) {
            (true, _) if self.share < self.sound => (self.share * 2).min(self.sound),
            (true, _) => self.share + WHOLE / 20,
            (false, true) => self.share,
            (false, false) => (self.share / 2).max(START),
        }
        .min(self.top);
        (self.calls, self.failed, self.refused, self.strain) = (0, 0, 0, 0.0);
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
