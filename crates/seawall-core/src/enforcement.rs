//! Enforcement: whether a policy's refusals hold, and the override by hand.
//!
//! **Prevents** two leaps of faith: to switch a policy on without having seen what it would refuse,
//! and to have no way around one that refuses wrongly.
//!
//! **Mechanics.** Every policy of a gate has one [`Enforcement`]. *Enforced*, its refusals hold. In
//! *shadow*, it decides and counts as always, and what it would have refused is let through; it
//! takes nothing for those. *Off*, it is not asked. A set of them is one word, read without a lock,
//! so that an operator can change it under full load. What is in no gate has its own: backpressure, retries and
//! hedges of an upstream obey the stance among the parts of its calls, ejection the config of its hosts. A retry
//! or hedge in shadow is counted where one is due and the budget would pay, and is not sent; no host is asked.
//!
//! **Edges.** A policy in shadow goes on learning from what it let through, which is more than it
//! would have met: a limit in shadow sees more in flight than itself. A change holds for
//! requests that are admitted after it; what waits in a queue keeps its place, and goes at the latest
//! when a limit that is not enforced any more lets a newcomer pass. The ramp after a breaker is enforced
//! no more than the breaker.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::decision::Policy;

/// Whether the refusals of a policy hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforcement {
    /// They do.
    #[default]
    Enforced,
    /// They are counted, and the request is let through.
    Shadow,
    /// It is not asked.
    Off,
}

impl Enforcement {
    /// Its name in config files, metrics and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Enforcement::Enforced => "enforced",
            Enforcement::Shadow => "shadow",
            Enforcement::Off => "off",
        }
    }
}

/// The enforcement of each policy: plain values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stance(u32);

impl Stance {
    /// The same with another enforcement of one policy.
    #[must_use]
    pub const fn with(self, policy: Policy, enforcement: Enforcement) -> Stance {
        let at = BITS * policy as u32;
        Stance((self.0 & !(MASK << at)) | ((enforcement as u32) << at))
    }

    /// The enforcement of this policy.
    pub const fn of(self, policy: Policy) -> Enforcement {
        match (self.0 >> (BITS * policy as u32)) & MASK {
            0 => Enforcement::Enforced,
            1 => Enforcement::Shadow,
            _ => Enforcement::Off,
        }
    }
}

const BITS: u32 = 2;
const MASK: u32 = 0b11;

/// A [`Stance`] that can be changed while others read it.
#[derive(Debug, Default)]
pub struct Switch(AtomicU32);

impl Switch {
    /// At this stance.
    pub const fn new(stance: Stance) -> Switch {
        Switch(AtomicU32::new(stance.0))
    }

    /// The stance now.
    pub fn stance(&self) -> Stance {
        Stance(self.0.load(Ordering::Relaxed))
    }

    /// Changes one policy; the others stay.
    pub fn set(&self, policy: Policy, enforcement: Enforcement) {
        let change = |word| Some(Stance(word).with(policy, enforcement).0);
        // The closure never says `None`.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// Changes all.
    pub fn replace(&self, stance: Stance) {
        self.0.store(stance.0, Ordering::Relaxed);
    }
}

/// A set of policies, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policies(u16);

impl Policies {
    /// Adds one.
    pub const fn add(&mut self, policy: Policy) {
        self.0 |= 1 << policy as u16;
    }

    /// Whether it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are in it.
    pub fn iter(self) -> impl Iterator<Item = Policy> {
        Policy::ALL.into_iter().filter(move |policy| self.0 & (1 << *policy as u16) != 0)
    }
}

#[cfg(test)]
mod tests;
