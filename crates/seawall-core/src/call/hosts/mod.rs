//! The hosts of one upstream: whose turn it is, and whether its back gate lets the call pass.
//!
//! **Mechanics.** [`Hosts::pick`] asks the balance for a host and that host's back gate for a place.
//! When the gate refuses, others are asked, first by the balance's choice and then whoever is left;
//! that spends neither attempt nor budget. Whatever is picked is reported once, by
//! [`Hosts::report`] or [`Hosts::settle`], which tell the back gate, the balance and the ejection.
//!
//! A host is called unless it is ejected or unwell. Who comes back, from either or as a new host
//! among others, comes back by a ramp of its own: what it may not have yet, the others get. When every
//! other back gate refuses, a host that was ejected for being slow takes the call: slow is better than not
//! at all.
//!
//! **Alone.** A host that is the only one, and whom nobody probes, is called whatever is known of it: there
//! is nobody to be weighed against, and nobody to leave its traffic to. Only its back gate hears how its
//! calls go; the rest is a count of those under way, and costs no lock.
//!
//! **Panic**: when more than [`Config::panic_ppm`] of the hosts are out, all are used, for the few that
//! are left would drown; snapshot and events say so. In the same way ramps are passed over while what is
//! back is less than that leaves: a lone host, or a list that is all new, starts whole. The ramp
//! after a breaker, in the back gate, is never passed over.
//!
//! **Shadow and by hand.** With [`Config::ejection`] in shadow ejections are decided and counted, and the
//! host stays. [`Hosts::force`] holds a host out of the rotation, or in it, whatever is known of it,
//! until [`Hosts::reset`]. Who is held is no part of the ejection's pool, and one who is held out counts
//! neither towards panic nor is called in it.
//!
//! **Edges.** Hosts have names. [`Hosts::replaced`] makes the hosts of another list: those that stay
//! keep their state, those that are new begin anew. A value of this type never changes its list, so
//! that an index stays good for as long as a call holds on to the value, and what was picked from a
//! host that has gone settles as before. The shared state is under one short lock, which is never
//! held while a back gate is asked.

mod by_hand;
mod pool;
mod roster;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::balance;
use crate::decision::{Policy, Reason, Rejection};
use crate::eject;
use crate::enforcement::Enforcement;
use crate::event::Event;
use crate::gate::{Gate, Own, Ownership, Place, Ticket};
use crate::health::{self, Check};
use crate::limit;
use crate::outcome::Outcome;
use crate::request::{Key, Request};
use crate::rng::Rng;
use crate::time::{Span, Time};

pub use by_hand::Forced;
pub(super) use pool::Avoid;
use pool::{Pool, Search};
use roster::Seat;

/// The key under which the pool is reached.
const ONE: Key = Key(0);

/// How the hosts of one upstream share its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Which host is asked first.
    pub balance: balance::Config,
    /// Who is left out for a while; `None` for nobody. On by default.
    pub eject: Option<eject::Config>,
    /// Whether ejections hold. In shadow they are decided and counted, as if the host were out, and it
    /// stays; off is as without. Enforced by default.
    pub ejection: Enforcement,
    /// Who is asked whether it is well; `None` for nobody, the default. The driver makes the probes.
    pub health: Option<health::Config>,
    /// The time in which a host comes back; zero for at once, default 10 s.
    pub slow_start: Span,
    /// When more hosts than this are out, all are used; in parts per million, default 50 %. From
    /// 100 % on never.
    pub panic_ppm: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            balance: balance::Config::default(),
            eject: Some(eject::Config::default()),
            ejection: Enforcement::Enforced,
            health: None,
            slow_start: Span::from_secs(10),
            panic_ppm: 500_000,
        }
    }
}

impl Config {
    /// Each host in turn, whatever comes of it.
    pub fn in_turn() -> Config {
        let balance = balance::Config::IN_TURN;
        Config { balance, eject: None, slow_start: Span::ZERO, ..Config::default() }
    }
}

/// A host: its name, which is its identity, and its back gate.
pub struct Member<F: Ownership> {
    /// What keeps its state when the list changes, and what it is called in events.
    pub name: Arc<str>,
    /// Its back gate.
    pub gate: Arc<Gate<F>>,
}

impl<F: Ownership> Member<F> {
    /// Hosts named by their place in this list.
    pub fn numbered(gates: Vec<Arc<Gate<F>>>) -> Vec<Member<F>> {
        let member = |(place, gate)| Member { name: Arc::from(alloc::format!("{place}")), gate };
        gates.into_iter().enumerate().map(member).collect()
    }
}

/// Which host gave an answer, and when it was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// The host, by its place among the hosts.
    pub host: usize,
    /// When the attempt was sent.
    pub begun: Time,
}

/// The hosts behind one name, each behind its back gate.
pub struct Hosts<F: Ownership> {
    gates: Vec<Arc<Gate<F>>>,
    seats: Vec<Seat>,
    /// Nobody is to be chosen from, or left out.
    alone: bool,
    pool: Arc<F::Of<Pool>>,
}

impl<F: Ownership> Clone for Hosts<F> {
    fn clone(&self) -> Hosts<F> {
        let (gates, seats, pool) = (self.gates.clone(), self.seats.clone(), self.pool.clone());
        Hosts { gates, seats, alone: self.alone, pool }
    }
}

impl<F: Ownership> Hosts<F> {
    /// Hosts without names, by their back gates, each in turn.
    pub fn new(gates: Vec<Arc<Gate<F>>>) -> Hosts<F> {
        // Without ramps and checks nothing depends on time or chance.
        Hosts::balanced(Config::in_turn(), Member::numbered(gates), Time::ZERO, &mut Rng::new(0, 0))
    }

    /// These hosts. Of two with the same name the later one shares the state of the first.
    pub fn balanced(config: Config, members: Vec<Member<F>>, now: Time, rng: &mut Rng) -> Hosts<F> {
        Hosts::seated(Arc::new(F::Of::own(alloc::vec![Pool::new(config)])), members, now, rng)
    }

    /// Another list of hosts, perhaps with another config: those that stay keep their state.
    pub fn replaced(&self, config: Config, members: Vec<Member<F>>, now: Time, rng: &mut Rng) -> Hosts<F> {
        self.pool.with(ONE, |pool| pool.configure(now, config, rng));
        Hosts::seated(self.pool.clone(), members, now, rng)
    }

    fn seated(pool: Arc<F::Of<Pool>>, members: Vec<Member<F>>, now: Time, rng: &mut Rng) -> Hosts<F> {
        let names: Vec<&Arc<str>> = members.iter().map(|member| &member.name).collect();
        let (seats, alone) = pool.with(ONE, |pool| (pool.seat(now, &names, rng), pool.is_alone(names.len())));
        let gates = members.into_iter().map(|member| member.gate).collect();
        Hosts { gates, seats, alone, pool }
    }

    /// The names, in the order of the hosts.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.seats.iter().map(|seat| &seat.name)
    }

    /// The back gates, in the order of the hosts.
    pub fn gates(&self) -> &[Arc<Gate<F>>] {
        &self.gates
    }

    /// A host whose back gate admits the request; or the refusal that ends soonest. A host to
    /// `avoid`, because another attempt of the same call is or was there, is asked last.
    pub fn pick(
        &self,
        now: Time,
        request: &Request,
        avoid: Option<usize>,
        rng: &mut Rng,
    ) -> Result<(usize, Ticket), Rejection> {
        let mut ticket = Ticket::blank();
        let avoid = Avoid { last: avoid, unreached: 0 };
        let host = self.fill(now, request, avoid, rng, &mut ticket)?;
        Ok((host, ticket))
    }

    /// The same, making a ticket of a blank one where it stands.
    #[inline]
    pub(super) fn fill(
        &self,
        now: Time,
        request: &Request,
        avoid: Avoid,
        rng: &mut Rng,
        ticket: &mut Ticket,
    ) -> Result<usize, Rejection> {
        if self.alone {
            return match self.gates[0].fill(now, request, ticket) {
                Ok(None) => {
                    self.seats[0].begin_alone(F::stripe());
                    Ok(0)
                }
                Ok(Some(place)) => Err(self.full(now, 0, place)),
                Err(rejection) => Err(rejection),
            };
        }
        let mut search = Search::new(avoid);
        let mut soonest: Option<Rejection> = None;
        while let Some(host) = self.pool.with(ONE, |pool| pool.pick(now, &self.seats, &mut search, rng)) {
            let rejection = match self.gates[host].fill(now, request, ticket) {
                Ok(None) => return Ok(host),
                Ok(Some(place)) => self.full(now, host, place),
                Err(rejection) => rejection,
            };
            search.refused = Some((host, rejection.policy));
            if soonest.is_none_or(|soonest| rejection.retry_after < soonest.retry_after) {
                soonest = Some(rejection);
            }
        }
        Err(soonest.unwrap_or_else(|| {
            let back_in = self.pool.with(ONE, |pool| pool.back_in(now));
            Rejection::new(Policy::Balance, Reason::NoHost, back_in)
        }))
    }

    /// A back gate never waits: one that is configured to is full.
    fn full(&self, now: Time, host: usize, place: Place) -> Rejection {
        self.gates[host].leave(now, place);
        limit::full()
    }

    /// Says how an attempt at a host went and how long it took, to its back gate and to the balance;
    /// once, what follows the first report is ignored.
    #[inline]
    pub fn report(&self, now: Time, host: usize, ticket: &mut Ticket, outcome: Outcome, elapsed: Span) {
        if !ticket.is_reported() {
            self.gates[host].report(now, ticket, outcome);
            match self.alone {
                true => self.seats[0].end_alone(F::stripe()),
                false => self.pool.with(ONE, |pool| pool.report(now, &self.seats[host], outcome, elapsed)),
            }
        }
    }

    /// The answer of a call that was reported as a success broke off, and not because its client went away: the
    /// host's back gate and the ejection take it for a failure instead. To be said once, when the body ends.
    pub fn broke(&self, now: Time, called: Called) {
        self.gates[called.host].broke(now, called.begun);
        if !self.alone {
            self.pool.with(ONE, |pool| pool.broke(now, &self.seats[called.host], called.begun));
        }
    }

    /// The answer has ended: its place at the host is free. A ticket that was never reported counts
    /// as cancelled.
    pub fn release(&self, now: Time, host: usize, mut ticket: Ticket) {
        self.report(now, host, &mut ticket, Outcome::Cancelled, Span::ZERO);
        self.gates[host].release(now, ticket);
    }

    /// [`Hosts::report`] and [`Hosts::release`] in one.
    pub fn settle(&self, now: Time, host: usize, mut ticket: Ticket, outcome: Outcome, elapsed: Span) {
        self.report(now, host, &mut ticket, outcome, elapsed);
        self.release(now, host, ticket);
    }

    /// A host to probe now; ask until there is none, and on the youngest list only.
    pub fn due(&self, now: Time, rng: &mut Rng) -> Option<Probe> {
        let (host, of) = self.pool.with(ONE, |pool| pool.due(now, &self.seats, rng))?;
        Some(Probe { host, deadline: of.deadline, of })
    }

    /// When to ask again whom to probe; [`Time::MAX`] for never.
    pub fn probe_at(&self) -> Time {
        self.pool.with(ONE, |pool| pool.probe_at())
    }

    /// Says how a probe went.
    pub fn probed(&self, now: Time, probe: &Probe, check: Check, rng: &mut Rng) {
        self.pool.with(ONE, |pool| pool.probed(now, &probe.of, check, rng));
    }

    /// The next change that nobody has pulled.
    pub fn event(&self) -> Option<Happening> {
        self.pool.with(ONE, Pool::event)
    }

    /// Plain values.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        self.pool.with(ONE, |pool| pool.snapshot(now, &self.seats))
    }
}

/// A health check to be made.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The host, by its place among the hosts.
    pub host: usize,
    /// When it has failed.
    pub deadline: Time,
    of: health::Probe,
}

/// A change, and which host it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    /// The host; `None` when it is about all.
    pub host: Option<Arc<str>>,
    /// What happened, and when.
    pub event: Event,
}

/// Plain values of the hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Each host, in their order; `None` for one that is no longer listed.
    pub hosts: Vec<Option<HostSnapshot>>,
    /// How many are neither ejected nor unwell nor held out by hand.
    pub usable: u64,
    /// Whether so many are out that all are used.
    pub panics: bool,
    /// How often the cap on ejections, or a recall, spared a host.
    pub spared: u64,
    /// Whether ejections hold.
    pub ejection: Enforcement,
    /// How often a host stayed in shadow that would have been ejected.
    pub shadowed: u64,
    /// Until when nobody is ejected, because the others could not carry the load; in the past for never.
    pub held_until: Time,
}

/// Plain values of one host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostSnapshot {
    /// Its name.
    pub name: Arc<str>,
    /// What the balance knows of it.
    pub load: balance::Snapshot,
    /// What the ejection knows of it; `None` also while it is held by hand. In shadow it says until when
    /// the host would be left out.
    pub ejection: Option<eject::Snapshot>,
    /// How it is held by hand.
    pub forced: Option<Forced>,
    /// How its checks went.
    pub health: Option<health::Mode>,
    /// The share of its traffic that it gets while it comes back, 0 to 1.
    pub share: f64,
}

#[cfg(test)]
mod tests;
