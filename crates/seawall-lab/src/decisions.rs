//! The log of what Seawall decided in a run, for whoever compares it with another driver's.

use seawall_core::decision::{Policy, Reason};
use seawall_core::request::{Key, Tier};
use seawall_core::time::Time;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// When.
    pub at: Time,
    /// About which call, in the order in which they came to Seawall.
    pub call: u64,
    /// What.
    pub what: Decided,
}

/// What was decided, or what there was to decide about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// A call came.
    Came {
        /// Whose it is.
        user: Key,
        /// How much it matters.
        tier: Tier,
    },
    /// It was let in; at another time than it came, it had to wait.
    Admitted,
    /// It was refused at the front gate.
    Refused {
        /// By which policy.
        policy: Policy,
        /// Why.
        reason: Reason,
        /// Until when.
        until: Time,
    },
    /// An attempt was sent.
    Sent {
        /// Which, from 1.
        attempt: u32,
        /// To which host.
        host: u64,
    },
    /// It ended behind the gate.
    Ended {
        /// Whether with an answer that is no failure.
        well: bool,
        /// Hosts whose breaker let nothing in, or only probes, when it had ended.
        open: u64,
    },
}
