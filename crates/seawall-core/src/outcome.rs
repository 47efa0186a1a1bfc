//! How an admitted request went, as told to the policies.

use crate::time::Span;

/// The outcome of an attempt or of a whole call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered as it should.
    Success,
    /// It failed, or answered that it failed.
    Failure,
    /// It refused for lack of capacity, perhaps saying for how long (`Retry-After`).
    Overloaded {
        /// How long it asked to be left alone.
        retry_after: Option<Span>,
    },
    /// It did not answer in the time it was given.
    TimedOut,
    /// The caller went away; says nothing about the callee, except that it took this long.
    Cancelled,
    /// Another attempt of the same call answered first.
    Superseded,
    /// The classifier says that it must not count (a local refusal, a client's own error).
    Ignored,
}

impl Outcome {
    /// Whether it speaks against the callee.
    pub const fn is_failure(self) -> bool {
        matches!(self, Outcome::Failure | Outcome::Overloaded { .. } | Outcome::TimedOut)
    }

    /// Whether it was refused by who says until when: who protects itself is neither well nor broken.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Outcome::Overloaded { retry_after: Some(_) })
    }

    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Failure => "failure",
            Outcome::Overloaded { .. } => "overloaded",
            Outcome::TimedOut => "timed_out",
            Outcome::Cancelled => "cancelled",
            Outcome::Superseded => "superseded",
            Outcome::Ignored => "ignored",
        }
    }
}
