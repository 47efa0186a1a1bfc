//! The hosts of one upstream: whose turn it is, and whether its back gate lets the call pass.
//!
//! **Mechanics.** [`Hosts::pick`] asks the balance for a host and that host's back gate for a place.
//! When the gate refuses, others are asked, first by the balance's choice and then whoever is left;
//! that spends neither attempt nor budget. Whatever is picked is reported once, by
//! [`Hosts::report`] or [`Hosts::settle`], which tell the back gate *and* the balance.
//!
//! **Edges.** Hosts have names. [`Hosts::replaced`] makes the hosts of another list: those that stay
//! keep their state, those that are new begin anew. A value of this type never changes its list, so
//! that an index stays good for as long as a call holds on to the value, and what was picked from a
//! host that has gone settles as before. The shared state is under one short lock, which is never
//! held while a back gate is asked.

mod pool;

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::balance;
use crate::decision::{Policy, Reason, Rejection};
use crate::gate::{Admit, Gate, Own, Ownership, Ticket};
use crate::limit;
use crate::outcome::Outcome;
use crate::request::{Key, Request};
use crate::rng::Rng;
use crate::time::{Span, Time};

use pool::{Pool, Search, Seat};

/// The key under which the pool is reached.
const ONE: Key = Key(0);

/// How the hosts of one upstream share its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Which host is asked first.
    pub balance: balance::Config,
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

/// The hosts behind one name, each behind its back gate.
pub struct Hosts<F: Ownership> {
    gates: Vec<Arc<Gate<F>>>,
    seats: Vec<Seat>,
    pool: Arc<F::Of<Pool>>,
}

impl<F: Ownership> Clone for Hosts<F> {
    fn clone(&self) -> Hosts<F> {
        Hosts { gates: self.gates.clone(), seats: self.seats.clone(), pool: self.pool.clone() }
    }
}

impl<F: Ownership> Hosts<F> {
    /// Hosts without names, by their back gates, each in turn.
    pub fn new(gates: Vec<Arc<Gate<F>>>) -> Hosts<F> {
        let config = Config { balance: balance::Config::IN_TURN };
        Hosts::balanced(config, Member::numbered(gates))
    }

    /// These hosts. Of two with the same name the later one shares the state of the first.
    pub fn balanced(config: Config, members: Vec<Member<F>>) -> Hosts<F> {
        Hosts::seated(Arc::new(F::Of::own(alloc::vec![Pool::new(config)])), members)
    }

    /// Another list of hosts, perhaps with another config: those that stay keep their state.
    pub fn replaced(&self, config: Config, members: Vec<Member<F>>) -> Hosts<F> {
        self.pool.with(ONE, |pool| pool.configure(config));
        Hosts::seated(self.pool.clone(), members)
    }

    fn seated(pool: Arc<F::Of<Pool>>, members: Vec<Member<F>>) -> Hosts<F> {
        let names: Vec<&Arc<str>> = members.iter().map(|member| &member.name).collect();
        let seats = pool.with(ONE, |pool| pool.seat(&names));
        let gates = members.into_iter().map(|member| member.gate).collect();
        Hosts { gates, seats, pool }
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
        let mut search = Search::new(avoid);
        let mut soonest: Option<Rejection> = None;
        while let Some(host) = self.pool.with(ONE, |pool| pool.pick(now, &self.seats, &mut search, rng)) {
            let rejection = match self.gates[host].admit(now, request) {
                Admit::Ticket(ticket) => return Ok((host, ticket)),
                Admit::Reject(rejection) => rejection,
                // A back gate never waits; one that is configured to is full.
                Admit::Wait(place) => {
                    self.gates[host].leave(now, place);
                    limit::full()
                }
            };
            if soonest.is_none_or(|soonest| rejection.retry_after < soonest.retry_after) {
                soonest = Some(rejection);
            }
        }
        Err(soonest.unwrap_or(Rejection::new(Policy::Balance, Reason::NoHost, Span::MAX)))
    }

    /// Says how an attempt at a host went and how long it took, to its back gate and to the balance;
    /// once, what follows the first report is ignored.
    pub fn report(&self, now: Time, host: usize, ticket: &mut Ticket, outcome: Outcome, elapsed: Span) {
        if !ticket.is_reported() {
            self.gates[host].report(now, ticket, outcome, Span::ZERO);
            self.pool.with(ONE, |pool| pool.report(now, &self.seats[host], outcome, elapsed));
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

    /// Plain values of each host, in their order.
    pub fn snapshot(&self, now: Time) -> Vec<Snapshot> {
        self.pool.with(ONE, |pool| self.seats.iter().map(|seat| pool.snapshot(now, seat)).collect())
    }
}

/// Plain values of one host.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Its name.
    pub name: Arc<str>,
    /// What the balance knows of it; `None` once it is no longer listed.
    pub load: Option<balance::Snapshot>,
}

#[cfg(test)]
mod tests;
