//! The words between a call and its driver: what to do next, and how it ended.

use crate::decision::Rejection;
use crate::outcome::Outcome;
use crate::time::Time;

/// Whether it may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It may be: doing it twice is harmless.
    Safe,
    /// It may be, for it never came to its host, which takes no connections or is just closing them: another host
    /// may have it at once and unpaid, as after a refusal by a back gate. Where no other takes it, as
    /// [`Repeat::Safe`]. With [`Outcome::Ignored`] its host is not blamed.
    Unreached,
    /// It must not be: doing it twice could do harm.
    Unsafe,
    /// It must not be: the callee asked for no other attempt (gRPC push-back, `x-envoy-ratelimited`).
    Unwanted,
    /// It shall be, although it was no failure of the host: who asks wants another answer than this one. It is
    /// paid for like any other, and this one stands where none follows.
    Wanted,
    /// It need not be: another attempt would fare no better (most 4xx and 500).
    Final,
}

impl Repeat {
    /// Whether it may or shall be sent again.
    pub(super) const fn is_free(self) -> bool {
        matches!(self, Repeat::Safe | Repeat::Unreached | Repeat::Wanted)
    }

    /// Whether another attempt follows although this outcome is no failure of its host.
    pub(super) fn follows(self, outcome: Outcome) -> bool {
        self == Repeat::Wanted || (self == Repeat::Unreached && outcome == Outcome::Ignored)
    }
}

/// Names an attempt under way, for outcomes and tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane(pub(super) u32);

/// What the driver shall do.
#[derive(Debug)]
pub enum Step {
    /// Send the request to this host, beside whatever is under way.
    Send(Attempt),
    /// Nothing, until then; or until an outcome is known.
    WaitUntil(Time),
    /// Give up the attempt in this lane: nobody waits for its answer any more.
    Cancel {
        /// The lane of the attempt.
        lane: Lane,
    },
    /// The call is over.
    Finish(Verdict),
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its name.
    pub lane: Lane,
    /// Its number, from 1; hedges count too.
    pub number: u32,
    /// The host, by its place among the hosts.
    pub host: usize,
    /// When it is given up.
    pub deadline: Time,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The last answer (or error) that the driver holds stands; if it is a failure, why no attempt
    /// followed. A driver that holds none, because every attempt timed out, says so itself.
    Answered {
        /// Why no other attempt was made; `None` when none was needed.
        stop: Option<Stop>,
    },
    /// It was refused before any attempt.
    Rejected(Rejection),
    /// The deadline passed without an answer.
    Expired,
}

/// Why a failed attempt was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All attempts are used up.
    Attempts,
    /// The retry budget is empty.
    Budget,
    /// Retries are in shadow, or off.
    Unenforced,
    /// Sending it twice could do harm.
    Unsafe,
    /// The callee asked for no other attempt.
    Unwanted,
    /// Another attempt would fare no better.
    Final,
    /// The wait would outlast the deadline.
    Deadline,
    /// No host's back gate, or the client's own backpressure, let it pass: the policy says which.
    Rejected(Rejection),
}

impl Stop {
    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Stop::Attempts => "attempts",
            Stop::Budget => "budget",
            Stop::Unenforced => "unenforced",
            Stop::Unsafe => "unsafe",
            Stop::Unwanted => "unwanted",
            Stop::Final => "final",
            Stop::Deadline => "deadline",
            Stop::Rejected(_) => "rejected",
        }
    }
}
