//! Calls on tokio: attempts, backoff, hedges, budget and deadline around a service or a closure.
//!
//! **Mechanics.** [`Drive`] does what [`seawall_core::call::Call`] says: it sends, waits, gives up
//! and finishes, and decides nothing. Several attempts may be under way at once; those that lose are
//! dropped. [`CallLayer`] is the same as a tower layer: always ready, and each attempt readies a
//! clone of the inner service for itself.
//!
//! **Edges.** When the driving future is dropped, the attempts under way are settled as cancelled and
//! a retry that was paid for but never sent is refunded. The answer of a failed attempt is kept
//! until another attempt answers, so that the last real error is never lost. A timer is armed only
//! when an attempt does not answer at once; memory is allocated only for a hedge.

mod drive;
mod layer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seawall_core::backpressure::{self, Backpressure};
use seawall_core::call::{
    Called, HostForced, Hosts, HostsConfig, HostsSnapshot, Member, Parts, Settings, Shared, Snapshot,
};
use seawall_core::enforcement::{Stance, Switch};
use seawall_core::gate::{Gate, Own as _};
use seawall_core::request::Key;
use seawall_core::rng::Rng;
use seawall_core::time::Time;

use crate::clock::now;
use crate::identity::seed;
use crate::this_thread;
use crate::threads::{Locks, Threads};

pub use drive::{Closures, Drive, Ended, Exchange, Judgement};
pub use layer::{Adapter, CallFuture, CallLayer, Calls, Copies, Outgoing};

/// The stream of chance of the hosts; calls have others.
const HOSTS: u64 = u64::MAX;

/// The key under which parts with one shard are reached.
const ONE: Key = Key(0);

/// What calls to one upstream share: its hosts, its retry budget, and what is known of it.
pub struct Upstream {
    hosts: Hosts<Threads>,
    shared: Arc<Locks<Shared>>,
    backpressure: Option<Arc<Locks<Backpressure>>>,
    front: Option<Arc<Gate<Threads>>>,
    switch: Switch,
    seed: u64,
    /// The stream of chance of the next call, where they are numbered.
    numbers: Option<AtomicU64>,
}

impl Upstream {
    /// These hosts by their back gates, with a budget and hedging of their own and a random seed.
    pub fn to(gates: Vec<Arc<Gate<Threads>>>, settings: Settings) -> Upstream {
        Upstream::new(gates, Arc::new(Locks::own(vec![Shared::new(settings, now())])), seed())
    }

    /// These hosts by their back gates, retries and hedges as `shared` says. `seed` makes the jitter
    /// of this process differ from that of others: draw it at random, outside of tests.
    pub fn new(gates: Vec<Arc<Gate<Threads>>>, shared: Arc<Locks<Shared>>, seed: u64) -> Upstream {
        let (members, mut rng) = (Member::numbered(gates), Rng::new(seed, HOSTS));
        Upstream::of(Hosts::balanced(HostsConfig::default(), members, now(), &mut rng), shared, seed)
    }

    /// The same with hosts of the caller's making, perhaps known from before.
    pub fn of(hosts: Hosts<Threads>, shared: Arc<Locks<Shared>>, seed: u64) -> Upstream {
        let switch = Switch::default();
        Upstream { hosts, shared, backpressure: None, front: None, switch, seed, numbers: None }
    }

    /// The same, held back when the upstream accepts little.
    pub fn with_backpressure(self, backpressure: Arc<Locks<Backpressure>>) -> Upstream {
        Upstream { backpressure: Some(backpressure), ..self }
    }

    /// The same, with the stream of chance of its first call numbered so; those after it count on. For
    /// whoever compares it with another driver of the same calls.
    pub fn numbered_from(self, first: u64) -> Upstream {
        Upstream { numbers: Some(AtomicU64::new(first)), ..self }
    }

    /// The same behind a gate whose limit is the upstream's: nothing is hedged while it is under
    /// pressure.
    pub fn behind(self, front: Arc<Gate<Threads>>) -> Upstream {
        Upstream { front: Some(front), ..self }
    }

    /// How its backpressure, retries and hedges are enforced; the other policies have theirs where they are asked.
    /// Holds for attempts from then on.
    ///
    /// ```
    /// use seawall::call::Upstream;
    /// use seawall::core::backpressure::{self, Backpressure};
    /// use seawall::core::call::Settings;
    /// use seawall::core::decision::Policy;
    /// use seawall::core::enforcement::Enforcement;
    /// use seawall::core::gate::{self, Gate, Lane, Own};
    /// use seawall::{Locks, now};
    /// use std::sync::Arc;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let host = Arc::new(Gate::new(gate::Settings::default(), Lane::default(), now()));
    /// let held = Backpressure::new(backpressure::Config::default(), now());
    /// let orders = Upstream::to(vec![host], Settings::default())
    ///     .with_backpressure(Arc::new(Locks::own(vec![held])));
    /// // Count what it would refuse, and send it.
    /// orders.switch().set(Policy::Backpressure, Enforcement::Shadow);
    /// // Retry and hedge nothing, whatever the calls are allowed.
    /// orders.switch().set(Policy::Retry, Enforcement::Off);
    /// orders.switch().set(Policy::Hedge, Enforcement::Off);
    /// assert_eq!(orders.snapshot(now()).backpressure.unwrap().shadowed, 0);
    /// # });
    /// ```
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Its hosts.
    pub fn hosts(&self) -> &Hosts<Threads> {
        &self.hosts
    }

    /// The answer of a call that was judged a success broke off, and not because its client went away: see
    /// [`Hosts::broke`]. To be said once, when the body ends.
    pub fn broke(&self, called: Called) {
        self.hosts.broke(now(), called);
    }

    /// Holds the host of this name out of the rotation, or in it, until [`Upstream::reset_host`]. `None`
    /// when there is none, and for a lone one that nobody probes: see [`Hosts::force`].
    ///
    /// ```
    /// use seawall::call::Upstream;
    /// use seawall::core::call::{HostForced, Settings};
    /// use seawall::core::gate::{self, Gate, Lane};
    /// use seawall::now;
    /// use std::sync::Arc;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let gates = (0..3).map(|_| Arc::new(Gate::new(gate::Settings::default(), Lane::default(), now())));
    /// let orders = Upstream::to(gates.collect(), Settings::default());
    /// orders.force_host("1", HostForced::Out).unwrap(); // Without names of their own they are numbered.
    /// assert_eq!(orders.snapshot(now()).hosts.usable, 2);
    /// orders.reset_host("1").unwrap();
    /// assert_eq!(orders.snapshot(now()).hosts.usable, 3);
    /// # });
    /// ```
    pub fn force_host(&self, name: &str, how: HostForced) -> Option<()> {
        let now = now();
        self.hosts.force(now, self.place_of(name)?, how, &mut self.by_hand(now))
    }

    /// Ends the override of the host of this name: it comes back by its ramp. `None` as for
    /// [`Upstream::force_host`].
    pub fn reset_host(&self, name: &str) -> Option<()> {
        let now = now();
        self.hosts.reset(now, self.place_of(name)?, &mut self.by_hand(now))
    }

    fn place_of(&self, name: &str) -> Option<usize> {
        self.hosts.names().position(|host| &**host == name)
    }

    /// Chance that is no call's.
    fn by_hand(&self, now: Time) -> Rng {
        Rng::new(self.seed ^ now.as_nanos(), HOSTS)
    }

    /// Plain values.
    pub fn snapshot(&self, now: Time) -> UpstreamSnapshot {
        let backpressure = self.backpressure.as_ref();
        UpstreamSnapshot {
            hosts: self.hosts.snapshot(now),
            calls: self.shared.with(ONE, |shared| shared.snapshot()),
            backpressure: backpressure.map(|held| held.with(ONE, |held| held.snapshot())),
            stance: self.switch.stance(),
        }
    }

    fn parts(&self) -> Parts<'_, Threads> {
        Parts {
            hosts: &self.hosts,
            shared: &self.shared,
            backpressure: self.backpressure.as_deref(),
            front: self.front.as_deref(),
            stance: self.switch.stance(),
        }
    }

    fn rng(&self) -> Rng {
        let stream = match &self.numbers {
            Some(numbers) => numbers.fetch_add(1, Ordering::Relaxed),
            None => this_thread::stream(),
        };
        Rng::new(self.seed, stream)
    }
}

/// Plain values of an upstream. Those of a back gate are [`Gate::snapshot`]'s.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSnapshot {
    /// Its hosts, how each does, and whether they panic.
    pub hosts: HostsSnapshot,
    /// Its budget, hedging and usual latency.
    pub calls: Snapshot,
    /// What its clients hold back; `None` when they do not.
    pub backpressure: Option<backpressure::Snapshot>,
    /// How backpressure, retries and hedges are enforced.
    pub stance: Stance,
}
