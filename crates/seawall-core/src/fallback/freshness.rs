//! Freshness: how long a kept answer may be used, and for what.
//!
//! ```text
//!   age 0 ........ fresh ........ + while_revalidate ........ + if_error ........
//!     |    Fresh     |     Revalidate      |        IfError       |    Dead
//! ```
//!
//! Both stale windows begin where freshness ends, so they overlap (RFC 5861). The answer's own word
//! counts, but never for longer than the route's `stale` window; where the answer says nothing
//! about errors, that window is it. An answer that forbids stale use (RFC 9111, section 4.2.4) is
//! dead the moment that it is no longer fresh.

use crate::time::Span;

/// What an answer allows once it is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// Nothing: `must-revalidate`, `proxy-revalidate`, `no-cache`, `s-maxage`.
    Forbidden,
    /// This much, counted from the end of freshness.
    Allowed {
        /// Used while one request asks anew (`stale-while-revalidate`).
        while_revalidate: Span,
        /// Used in place of an error (`stale-if-error`); `None` when the answer does not say.
        if_error: Option<Span>,
    },
}

/// How long an answer may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The age up to which it is as good as a new one.
    pub fresh: Span,
    /// What it allows after that.
    pub stale: Stale,
}

/// What a kept answer is good for at its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// As good as a new one.
    Fresh,
    /// Good enough while one request asks anew.
    Revalidate,
    /// Better than an error.
    IfError,
    /// For nothing.
    Dead,
}

impl Freshness {
    /// Fresh for this long; once stale, good in place of an error.
    pub const fn for_span(fresh: Span) -> Freshness {
        Freshness { fresh, stale: Stale::Allowed { while_revalidate: Span::ZERO, if_error: None } }
    }

    /// What it is good for at this age, when the route allows `window` of staleness.
    ///
    /// ```
    /// use seawall_core::fallback::{Freshness, Stale, Use};
    /// use seawall_core::time::Span;
    ///
    /// // Cache-Control: max-age=600, stale-while-revalidate=30, stale-if-error=86400
    /// let stale = Stale::Allowed {
    ///     while_revalidate: Span::from_secs(30),
    ///     if_error: Some(Span::from_secs(86_400)),
    /// };
    /// let freshness = Freshness { fresh: Span::from_secs(600), stale };
    /// let window = Span::from_secs(300);
    /// assert_eq!(freshness.at(Span::from_secs(599), window), Use::Fresh);
    /// assert_eq!(freshness.at(Span::from_secs(620), window), Use::Revalidate);
    /// assert_eq!(freshness.at(Span::from_secs(800), window), Use::IfError);
    /// assert_eq!(freshness.at(Span::from_secs(901), window), Use::Dead);
    /// ```
    pub fn at(&self, age: Span, window: Span) -> Use {
        if age < self.fresh {
            return Use::Fresh;
        }
        let Stale::Allowed { while_revalidate, if_error } = self.stale else { return Use::Dead };
        let staleness = age.minus(self.fresh);
        if staleness < while_revalidate.min(window) {
            Use::Revalidate
        } else if staleness < if_error.unwrap_or(window).min(window) {
            Use::IfError
        } else {
            Use::Dead
        }
    }

    /// The age from which it is good for nothing.
    pub fn dead_at(&self, window: Span) -> Span {
        match self.stale {
            Stale::Forbidden => self.fresh,
            Stale::Allowed { while_revalidate, if_error } => {
                self.fresh + while_revalidate.max(if_error.unwrap_or(window)).min(window)
            }
        }
    }
}
