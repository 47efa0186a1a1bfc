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
//!
//! ```
//! use seawall_core::retry::backoff::{Backoff, Kind};
//! use seawall_core::rng::Rng;
//! use seawall_core::time::Span;
//!
//! let (base, cap) = (Span::from_millis(50), Span::from_secs(2));
//! let backoff = Backoff::new(Kind::Exponential, base, cap).unwrap();
//! let mut rng = Rng::new(42, 1); // One for each call.
//! let waits = [0, 1, 2, 24].map(|retry| backoff.wait(retry, Span::ZERO, &mut rng).as_millis());
//! assert_eq!(waits, [50, 100, 200, 2_000]);
//! ```

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
    clamps: bool,
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
    pub const NONE: Backoff = Backoff { kind: Kind::None, base: Span::ZERO, cap: Span::ZERO, clamps: false };

    /// Waits of this kind, from `base`, never above `cap`.
    pub fn new(kind: Kind, base: Span, cap: Span) -> Result<Backoff, CapBelowBase> {
        if cap < base { Err(CapBelowBase) } else { Ok(Backoff { kind, base, cap, clamps: false }) }
    }

    /// The same, but a draw above the cap becomes the cap, as published comparisons have it: near the cap
    /// waits lose their spread.
    pub const fn clamping(self) -> Backoff {
        Backoff { clamps: true, ..self }
    }

    /// The wait before the retry that follows `retries` earlier ones; `previous` is the wait
    /// before the last of those, or zero.
    pub fn wait(&self, retries: u32, previous: Span, rng: &mut Rng) -> Span {
        let (least, most) = self.range(retries, previous);
        match self.kind {
            Kind::None | Kind::Fixed | Kind::Exponential => least,
            Kind::Equal | Kind::Full | Kind::Decorrelated | Kind::Additive => {
                rng.span(least, most + Span::from_nanos(1)).min(self.cap)
            }
        }
    }

    /// The shortest and the longest wait before the retry that follows `retries` earlier ones.
    pub fn bounds(&self, retries: u32) -> (Span, Span) {
        let longest = self.base.times(3_u64.checked_pow(retries).unwrap_or(u64::MAX)).min(self.cap);
        let (least, most) = self.range(retries, longest);
        (least, most.min(self.cap))
    }

    fn bounded(&self, most: Span) -> Span {
        if self.clamps { most } else { most.min(self.cap) }
    }

    /// What the wait is drawn from.
    fn range(&self, retries: u32, previous: Span) -> (Span, Span) {
        let grown = self.base.times(1_u64.checked_shl(retries).unwrap_or(u64::MAX)).min(self.cap);
        match self.kind {
            Kind::None => (Span::ZERO, Span::ZERO),
            Kind::Fixed => (self.base, self.base),
            Kind::Exponential => (grown, grown),
            Kind::Equal => (Span::from_nanos(grown.as_nanos() / 2), grown),
            Kind::Full => (Span::ZERO, grown),
            Kind::Decorrelated => (self.base, self.bounded(previous.max(self.base).times(3))),
            Kind::Additive => (self.base, self.bounded(self.base + grown.times(3))),
        }
    }
}

impl Default for Backoff {
    /// Full jitter from 50 ms, capped at 2 s.
    fn default() -> Backoff {
        Backoff { kind: Kind::Full, base: Span::from_millis(50), cap: Span::from_secs(2), clamps: false }
    }
}

#[cfg(test)]
mod tests;
