//! A throttle as a part of a gate: all its shards, under one ownership.

use super::{Own as _, Ownership};
use crate::throttle::{self, Throttle};
use crate::time::Time;

/// A throttle, whole: its shards under one ownership.
pub struct Rule<F: Ownership> {
    pub(super) config: throttle::Config,
    pub(super) shards: F::Of<Throttle>,
}

impl<F: Ownership> Rule<F> {
    /// Full buckets for everybody.
    pub fn new(config: throttle::Config, now: Time) -> Rule<F> {
        let shards = (0..config.shards()).map(|_| Throttle::new(config, now)).collect();
        Rule { config, shards: F::Of::own(shards) }
    }

    /// Another rate, burst or choice for the same users. Returns `None` when the table would be
    /// another one (its cap or whose quota it is), which takes a new rule.
    pub fn configured(&self, config: throttle::Config, now: Time) -> Option<()> {
        if (config.max_users, config.per) != (self.config.max_users, self.config.per) {
            return None;
        }
        self.shards.each(|shard| shard.configure(config, now));
        Some(())
    }

    /// Counters and sizes over all shards.
    pub fn snapshot(&self) -> throttle::Snapshot {
        let mut sum = throttle::Snapshot::default();
        self.shards.each(|shard| sum = sum.plus(shard.snapshot()));
        sum
    }
}
