//! Shed: drop the least important part of an overload before the queue grows old.
//!
//! **Prevents** the standing queue: when more arrives than can be served, a queue only turns
//! every answer into a late one. Dropping a part at the door keeps the rest on time.
//!
//! **Mechanics.** The queue's owner measures its [`Pressure`]. While the queue *stands* (more
//! arrives than drains, over 1.5 s), a request is dropped when the delay that it would meet is
//! above its tier's share of the target: a quarter for `sheddable`, half for `sheddable_plus`, all
//! of it for `critical`, twice for `critical_plus`. So the least important goes first and the queue
//! that the important ones meet is short. A *burst* may queue; only when even the luckiest
//! request of the last 100 ms waited [`HARD`] × the target is everything but `critical_plus`
//! dropped, burst or not.
//!
//! **Edges.** With nothing waiting nothing is dropped. A target of zero drops, under a standing
//! queue, all that would have to wait.

use crate::decision::{Policy, Reason, Rejection};
use crate::pressure::Pressure;
use crate::request::Tier;
use crate::time::Span;

/// The multiple of the target at which a burst is cut, too.
pub const HARD: u64 = 4;

/// The default target for the queue delay.
pub const TARGET: Span = Span::from_millis(16);

/// A target for the queue delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The delay that `critical` requests may meet in a standing queue; default [`TARGET`].
    pub target: Span,
}

impl Default for Config {
    fn default() -> Config {
        Config { target: TARGET }
    }
}

/// Drops what a queue cannot serve in time.
#[derive(Clone, Debug)]
pub struct Shed {
    config: Config,
    dropped: [u64; Tier::ALL.len()],
}

/// Plain values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The target.
    pub target: Span,
    /// Requests dropped so far, by tier, most important first.
    pub dropped: [u64; Tier::ALL.len()],
}

impl Shed {
    /// Nothing dropped yet.
    pub fn new(config: Config) -> Shed {
        Shed { config, dropped: [0; Tier::ALL.len()] }
    }

    /// Lets the request pass on to the queue, or drops it.
    pub fn admit(&mut self, tier: Tier, pressure: &Pressure) -> Result<(), Rejection> {
        let over = pressure.stands && pressure.delay > self.allowed(tier);
        let hard = pressure.least_delay > self.config.target.times(HARD)
            && pressure.delay > self.config.target
            && tier != Tier::CriticalPlus;
        if !over && !hard {
            return Ok(());
        }
        self.dropped[tier as usize] += 1;
        let excess = pressure.delay.minus(self.allowed(tier));
        Err(Rejection::new(Policy::Shed, Reason::Shed, excess.max(Span::from_secs(1))))
    }

    /// Changes the target.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// Plain values.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { target: self.config.target, dropped: self.dropped }
    }

    fn allowed(&self, tier: Tier) -> Span {
        let target = self.config.target;
        match tier {
            Tier::CriticalPlus => target.times(2),
            Tier::Critical => target,
            Tier::SheddablePlus => target.scaled(0.5),
            Tier::Sheddable => target.scaled(0.25),
        }
    }
}

#[cfg(test)]
mod tests;
