//! What a policy decides: pass, wait, or a refusal that says why and until when.

use crate::time::Span;

/// The policy that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// A route stopped by hand, and its slow return.
    Block,
    /// A quota of requests over time.
    Throttle,
    /// Load shedding on queue delay.
    Shed,
    /// A limit on concurrency and its queue.
    Limit,
    /// A circuit breaker.
    Breaker,
    /// The slow return of traffic.
    Ramp,
    /// The choice of a host.
    Balance,
    /// A client holding itself back.
    Backpressure,
    /// The deadline of the call.
    Deadline,
    /// Another attempt after one that failed.
    Retry,
    /// Another attempt beside one that takes long.
    Hedge,
    /// The leaving out of a host.
    Eject,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Policy; 12] = [
        Policy::Block,
        Policy::Throttle,
        Policy::Shed,
        Policy::Limit,
        Policy::Breaker,
        Policy::Ramp,
        Policy::Balance,
        Policy::Backpressure,
        Policy::Deadline,
        Policy::Retry,
        Policy::Hedge,
        Policy::Eject,
    ];

    /// Its name in config files, headers and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Block => "block",
            Policy::Throttle => "throttle",
            Policy::Shed => "shed",
            Policy::Limit => "limit",
            Policy::Breaker => "breaker",
            Policy::Ramp => "ramp",
            Policy::Balance => "balance",
            Policy::Backpressure => "backpressure",
            Policy::Deadline => "deadline",
            Policy::Retry => "retry",
            Policy::Hedge => "hedge",
            Policy::Eject => "eject",
        }
    }
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// This user's quota is spent.
    Throttled,
    /// Dropped to keep the queue short.
    Shed,
    /// No place in flight and none in the queue.
    Full,
    /// The circuit is open, probing, or coming back slowly.
    Open,
    /// The deadline passed, or would pass before an answer.
    Expired,
    /// There is no host to send it to.
    NoHost,
    /// The route is blocked, or is let in again slowly.
    Blocked,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 7] = [
        Reason::Throttled,
        Reason::Shed,
        Reason::Full,
        Reason::Open,
        Reason::Expired,
        Reason::NoHost,
        Reason::Blocked,
    ];

    /// Its name in headers, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Throttled => "throttled",
            Reason::Shed => "shed",
            Reason::Full => "full",
            Reason::Open => "open",
            Reason::Expired => "expired",
            Reason::NoHost => "no_host",
            Reason::Blocked => "blocked",
        }
    }
}

/// How a user stands with one of the quotas of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which quota, by its place in the gate's config.
    pub quota: u8,
    /// The plan of the user, as the request has it; a throttle without that one goes by its default.
    pub plan: u8,
    /// Whole tokens left after this decision.
    pub remaining: u64,
    /// The time until the next token; zero while some are left.
    pub reset: Span,
}

/// A refusal. It took nothing from any policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Which policy refused.
    pub policy: Policy,
    /// Why.
    pub reason: Reason,
    /// When asking again could succeed; [`Span::MAX`] for never.
    pub retry_after: Span,
    /// The quota that is spent, when a throttle refused.
    pub standing: Option<Standing>,
}

impl Rejection {
    /// A refusal by a policy other than a throttle.
    pub const fn new(policy: Policy, reason: Reason, retry_after: Span) -> Rejection {
        Rejection { policy, reason, retry_after, standing: None }
    }

    /// The same, written anew part by part: of what was written a moment ago, a copy of the whole would have
    /// to wait until all of it has reached the cache.
    #[inline]
    pub(crate) fn anew(&self) -> Rejection {
        match self.standing {
            None => Rejection::new(self.policy, self.reason, self.retry_after),
            Some(_) => self.whole(),
        }
    }

    /// Not inlined: the copy would be made in either case.
    #[inline(never)]
    fn whole(&self) -> Rejection {
        *self
    }
}

impl core::fmt::Display for Rejection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "refused by {}: {}", self.policy.name(), self.reason.name())?;
        match (self.policy, self.retry_after) {
            (Policy::Throttle, Span::MAX) => f.write_str(" for ever, as it costs more than the burst"),
            (_, Span::MAX) => Ok(()),
            (_, wait) => write!(f, ", ask again in {wait}"),
        }
    }
}

impl core::error::Error for Rejection {}
