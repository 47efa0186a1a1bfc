//! Fallback: less work for a request instead of none.
//!
//! **Prevents** an outage of one part from becoming an outage of the whole: an old answer, a cheaper
//! one or a fixed one is mostly worth more than an error. And, by the dimmer, it prevents a
//! rejection: a part of the users gets the cheaper answer *before* anybody is turned away.
//!
//! ```text
//!            fresh                      ┌──────────────▶ Fresh
//!            stale, while revalidating  ├──────────────▶ Revalidate (stale now, one flight asks anew)
//!   New ────────────────────────────────┤
//!            dimmed, and a cheaper step ├──▶ Stale │ Upstream
//!            otherwise                  │        │ failed
//!                                       ▼        │
//!                                      Ask ◀─────┘
//!                                       │ failed, refused
//!                                       ▼
//!   Troubled ──▶ the first step that is left: Stale │ Upstream ⟲ │ Static
//!            └─▶ none left: Stand (the real error is the answer)
//! ```
//!
//! **Mechanics.** A [`Chain`] is a list of steps. A [`Course`] is the way of one call along it: ask it
//! what to do, do it, and ask again when that failed; no step is taken twice. What is kept lives in
//! a [`Store`], bounded in entries and bytes, with one flight for each key: whoever comes while an
//! answer is being fetched waits for that one.
//!
//! **Edges.** Only 500, 502, 503, 504 and no answer at all are errors here (RFC 5861); a client's own
//! error is its answer. Being throttled is not trouble: whoever spent the quota is told so. A static
//! answer is worth less than a real one, so the dimmer never chooses it; it stands in only when the
//! rest has failed. A fallback answer is never a success of the upstream: [`Decision::is_degraded`]
//! says which ones are to be counted apart.

mod freshness;
pub mod store;

use alloc::vec::Vec;

use crate::decision::Reason;
use crate::request::Cohort;
use crate::rng::mix;
use crate::time::Span;

pub use freshness::{Freshness, Stale, Use};
pub use store::Store;

/// The most steps of a chain.
pub const STEPS_MAX: usize = 8;

/// One way to answer a request that has no ordinary answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A kept answer, at most this long after its freshness ended.
    Stale(Span),
    /// A cheaper handler, by its place in the driver's list.
    Upstream(u8),
    /// A fixed answer, by its place in the driver's list.
    Static(u8),
}

/// Why a list of steps is no chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainError {
    /// More than [`STEPS_MAX`] steps.
    TooLong,
    /// Two steps of the kind `stale`: the second could never apply.
    StaleTwice,
    /// A step after a static one: a static answer never fails.
    AfterStatic,
}

impl core::fmt::Display for ChainError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ChainError::TooLong => write!(f, "`fallback` has at most {STEPS_MAX} steps"),
            ChainError::StaleTwice => f.write_str("`fallback` has at most one `stale` step"),
            ChainError::AfterStatic => f.write_str("a static answer must be the last step of `fallback`"),
        }
    }
}

impl core::error::Error for ChainError {}

/// Steps, in the order in which they are tried. Valid by construction; empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain(Vec<Step>);

impl Chain {
    /// These steps, in this order.
    pub fn new(steps: Vec<Step>) -> Result<Chain, ChainError> {
        let stale = steps.iter().filter(|step| matches!(step, Step::Stale(_))).count();
        let fixed = steps.iter().position(|step| matches!(step, Step::Static(_)));
        if steps.len() > STEPS_MAX {
            Err(ChainError::TooLong)
        } else if stale > 1 {
            Err(ChainError::StaleTwice)
        } else if fixed.is_some_and(|place| place + 1 < steps.len()) {
            Err(ChainError::AfterStatic)
        } else {
            Ok(Chain(steps))
        }
    }

    /// The steps.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// How long after its freshness a kept answer may be used; zero without a `stale` step.
    pub fn window(&self) -> Span {
        let window = |step: &Step| if let Step::Stale(window) = step { Some(*window) } else { None };
        self.0.iter().find_map(window).unwrap_or(Span::ZERO)
    }
}

/// Why there is no ordinary answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It answered with an error: 500, 502, 503 or 504.
    Failed,
    /// It did not answer, or not in time.
    NoAnswer,
    /// A policy refused to ask.
    Refused(Reason),
}

/// Where a call stands when the chain is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing has been asked yet.
    New,
    /// Nothing has been asked yet, and the dimmer wants less work for this one.
    Dimmed,
    /// What was tried last has failed.
    Troubled(Trouble),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answer with what is kept: it is as good as a new one.
    Fresh,
    /// Answer with what is kept, and have one flight ask anew behind it.
    Revalidate,
    /// Ask the upstream.
    Ask,
    /// Answer with what is kept, although it is stale.
    Stale,
    /// Ask this cheaper handler.
    Upstream(u8),
    /// Answer with this fixed answer.
    Static(u8),
    /// Nothing is left: the error is the answer.
    Stand,
}

impl Decision {
    /// Whether its answer is worth less than the ordinary one.
    pub const fn is_degraded(self) -> bool {
        matches!(self, Decision::Stale | Decision::Upstream(_) | Decision::Static(_))
    }

    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Decision::Fresh => "fresh",
            Decision::Revalidate => "revalidate",
            Decision::Ask => "ask",
            Decision::Stale => "stale",
            Decision::Upstream(_) => "upstream",
            Decision::Static(_) => "static",
            Decision::Stand => "stand",
        }
    }
}

/// The way of one call along a chain.
///
/// ```
/// use seawall_core::fallback::{Chain, Course, Decision, State, Step, Trouble};
/// use seawall_core::time::Span;
///
/// let steps = vec![Step::Stale(Span::from_secs(300)), Step::Upstream(0), Step::Static(0)];
/// let chain = Chain::new(steps).unwrap();
/// let mut course = Course::default();
/// assert_eq!(course.decide(&chain, None, State::New), Decision::Ask);
/// let failed = State::Troubled(Trouble::Failed);
/// assert_eq!(course.decide(&chain, None, failed), Decision::Upstream(0)); // Nothing is kept.
/// assert_eq!(course.decide(&chain, None, failed), Decision::Static(0));
/// assert_eq!(course.decide(&chain, None, failed), Decision::Stand);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// The first step that was not tried.
    next: u8,
    asked: bool,
}

impl Course {
    /// What to do, given what the kept answer is good for; `None` when none is kept.
    pub fn decide(&mut self, chain: &Chain, kept: Option<Use>, state: State) -> Decision {
        let kept = kept.filter(|kept| *kept != Use::Dead);
        match (state, kept) {
            (State::New | State::Dimmed, Some(Use::Fresh)) => Decision::Fresh,
            (State::New | State::Dimmed, Some(Use::Revalidate)) => Decision::Revalidate,
            (State::New, _) => self.ask(),
            (State::Dimmed, _) => match self.peek(chain, kept) {
                Some((next, cheaper @ (Decision::Stale | Decision::Upstream(_)))) => {
                    self.next = next;
                    cheaper
                }
                _ => self.ask(),
            },
            (State::Troubled(Trouble::Refused(Reason::Throttled)), _) => Decision::Stand,
            // A broken cheaper handler must not turn dimming into an outage.
            (State::Troubled(_), _) if !self.asked => self.ask(),
            (State::Troubled(_), _) => match self.peek(chain, kept) {
                Some((next, decision)) => {
                    self.next = next;
                    decision
                }
                None => Decision::Stand,
            },
        }
    }

    fn ask(&mut self) -> Decision {
        self.asked = true;
        Decision::Ask
    }

    /// The next step that applies, and the place after it.
    fn peek(&self, chain: &Chain, kept: Option<Use>) -> Option<(u8, Decision)> {
        let left = chain.0.iter().enumerate().skip(usize::from(self.next));
        let decide = |step: Step| match step {
            Step::Stale(_) => kept.map(|_| Decision::Stale),
            Step::Upstream(place) => Some(Decision::Upstream(place)),
            Step::Static(place) => Some(Decision::Static(place)),
        };
        left.filter_map(|(place, step)| Some((place as u8 + 1, decide(*step)?))).next()
    }
}

/// Whether an HTTP status is an error in the sense of `stale-if-error`.
pub const fn is_error(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

/// Whether a request of this cohort gets less at this level of the dimmer, 0 (nobody) to 1 (everybody).
///
/// The same users stay degraded while the level stays, at every service that has the same level, and
/// whoever is degraded at a level is degraded at every higher one.
///
/// ```
/// use seawall_core::fallback::dims;
/// use seawall_core::request::Cohort;
///
/// let dimmed = |level| (0..10_000).filter(|&cohort| dims(level, Cohort(cohort))).count();
/// assert_eq!((dimmed(0.0), dimmed(1.0)), (0, 10_000));
/// assert!(dimmed(0.3).abs_diff(3_000) < 150);
/// ```
pub fn dims(level: f64, cohort: Cohort) -> bool {
    // Mixed once more, so that the users who are degraded first are not those who are shed first.
    let place = (mix(u64::from(cohort.0) ^ 0x00d1_3e5e_ed00) >> 11) as f64 / (1_u64 << 53) as f64;
    place < level
}

#[cfg(test)]
mod tests;
