//! The hosts of one upstream: whose turn it is, and whether its back gate lets the call pass.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::balance::RoundRobin;
use crate::decision::{Policy, Reason, Rejection};
use crate::gate::{Admit, Gate, Own, Ownership, Ticket};
use crate::limit;
use crate::request::{Key, Request};
use crate::time::{Span, Time};

/// The hosts behind one name, each behind its back gate.
pub struct Hosts<F: Ownership> {
    gates: Vec<Arc<Gate<F>>>,
    balance: F::Of<RoundRobin>,
}

impl<F: Ownership> Hosts<F> {
    /// These hosts, by their back gates, in this order.
    pub fn new(gates: Vec<Arc<Gate<F>>>) -> Hosts<F> {
        Hosts { gates, balance: F::Of::own(alloc::vec![RoundRobin::default()]) }
    }

    /// The back gates, in the order of the hosts.
    pub fn gates(&self) -> &[Arc<Gate<F>>] {
        &self.gates
    }

    /// The next host whose back gate admits the request; or the refusal that ends soonest.
    pub fn pick(&self, now: Time, request: &Request) -> Result<(usize, Ticket), Rejection> {
        let first = self.balance.with(Key(0), |balance| balance.next(self.gates.len()));
        let mut soonest = Rejection::new(Policy::Balance, Reason::NoHost, Span::MAX);
        for step in 0..self.gates.len() {
            let host = (first + step) % self.gates.len();
            let gate = &self.gates[host];
            let rejection = match gate.admit(now, request) {
                Admit::Ticket(ticket) => return Ok((host, ticket)),
                Admit::Reject(rejection) => rejection,
                // A back gate never waits; one that is configured to is full.
                Admit::Wait(place) => {
                    gate.leave(now, place);
                    limit::full()
                }
            };
            if step == 0 || rejection.retry_after < soonest.retry_after {
                soonest = rejection;
            }
        }
        Err(soonest)
    }
}
