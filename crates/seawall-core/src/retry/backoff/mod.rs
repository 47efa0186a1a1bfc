//! Backoff: the wait before attempt `n`, in seven kinds.
//!
//! With `v = min(cap, base·2ⁿ)` for the n-th retry, counted from 0:
//!
//! | kind | wait |
//! |---|---|
//! | none | 0 |
//! | fixed | base, every time |
//! | exponential | v |
//! | equal | v/2 + U(0, v/2) |
//! | full | U(0, v) |
//! | decorrelated | U(base, min(cap, 3·previous)) |
//! | additive | U(base, min(cap, base + 3·v)) |
//!
//! No wait exceeds the cap, and the spread survives there, because the *range* is bounded and not
//! the draw. Jitter is drawn in nanoseconds, from the generator of the one call that waits. Kinds
//! and names follow M. Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).

use core::fmt;

use crate::rng::Rng;
use crate::time::Span;

/// How waits grow and spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// No wait.
    None,
    /// The base, every time.
    Fixed,
    /// Doubling, without spread.
    Exponential,
    /// Half of it fixed, half of it spread.
    Equal,
    /// Spread over all of it. The default: the least load for the shortest wait.
    #[default]
    Full,
    /// Spread from the base to three times the wait before.
    Decorrelated,
    /// The base, plus a spread of three times the exponential.
    Additive,
}

/// A backoff. Valid by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    kind: Kind,
    base: Span,
    cap: Span,
}

/// The cap is below the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapBelowBase;

impl fmt::Display for CapBelowBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cap of a backoff must be at least its base")
    }
}

impl core::error::Error for CapBelowBase {}

impl Backoff {
    /// No wait between attempts.
    pub const NONE: Backoff = Backoff { kind: Kind::None, base: Span::ZERO, cap: Span::ZERO };

    /// Waits of this kind, from `base`, never above `cap`.
    pub fn new(kind: Kind, base: Span, cap: Span) -> Result<Backoff, CapBelowBase> {
        if cap < base { Err(CapBelowBase) } else { Ok(Backoff { kind, base, cap }) }
    }

    /// The wait before the retry that follows `retries` earlier ones; `previous` is the wait
    /// before the last of those, or zero.
    pub fn wait(&self, retries: u32, previous: Span, rng: &mut Rng) -> Span {
        let grown = self.base.times(1_u64.checked_shl(retries).unwrap_or(u64::MAX)).min(self.cap);
        let just_above = |span: Span| span + Span::from_nanos(1);
        match self.kind {
            Kind::None => Span::ZERO,
            Kind::Fixed => self.base,
            Kind::Exponential => grown,
            Kind::Equal => {
                let half = Span::from_nanos(grown.as_nanos() / 2);
                rng.span(half, just_above(grown))
            }
            Kind::Full => rng.span(Span::ZERO, just_above(grown)),
            Kind::Decorrelated => {
                let high = previous.max(self.base).times(3).min(self.cap);
                rng.span(self.base, just_above(high))
            }
            Kind::Additive => {
                let high = (self.base + grown.times(3)).min(self.cap);
                rng.span(self.base, just_above(high))
            }
        }
    }
}

impl Default for Backoff {
    /// Full jitter from 50 ms, capped at 2 s.
    fn default() -> Backoff {
        Backoff { kind: Kind::Full, base: Span::from_millis(50), cap: Span::from_secs(2) }
    }
}

#[cfg(test)]
mod tests;
