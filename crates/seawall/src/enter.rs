//! Entering a gate: a future that waits its turn, and a guard that gives the place back.
//!
//! Both settle on drop. A future that is dropped while it waits leaves the queue, and its tokens
//! come back; a guard that is dropped without a report counts as cancelled.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use seawall_core::decision::{Rejection, Standing};
use seawall_core::gate::{Admit, Gate, Place, Ticket};
use seawall_core::outcome::Outcome;
use seawall_core::request::Request;
use seawall_core::time::Span;
use tokio::time::Sleep;

use crate::clock::{instant, now};
use crate::threads::Threads;

/// Asks `gate` to admit `request`, waiting in its queue if it has one. Asks when first polled.
pub fn enter(gate: &Arc<Gate<Threads>>, request: Request) -> Enter {
    Enter { waiting: Waiting { gate: Some(gate.clone()), place: None }, request, sleep: None }
}

pin_project! {
    /// The future of [`enter`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Enter {
        waiting: Waiting,
        request: Request,
        // Armed only for those who wait, and only as a backstop: whoever is due is woken.
        #[pin]
        sleep: Option<Sleep>,
    }
}

/// A place in the queue, left when dropped.
struct Waiting {
    gate: Option<Arc<Gate<Threads>>>,
    place: Option<Place>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let (Some(gate), Some(place)) = (self.gate.take(), self.place.take()) {
            gate.leave(now(), place);
            wake_turns(&gate);
        }
    }
}

impl Future for Enter {
    type Output = Result<Guard, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let gate = this.waiting.gate.as_ref().expect("a finished future is not polled again");
        loop {
            let now = now();
            let admit = match this.waiting.place.take() {
                None => gate.admit(now, this.request),
                Some(place) => gate.claim(now, place, cx.waker().clone()),
            };
            let (place, first) = match admit {
                Admit::Ticket(ticket) => {
                    let gate = this.waiting.gate.take().expect("taken only here");
                    return Poll::Ready(Ok(Guard { gate, ticket: Some(ticket) }));
                }
                Admit::Reject(rejection) => {
                    wake_turns(gate);
                    this.waiting.gate = None;
                    return Poll::Ready(Err(rejection));
                }
                Admit::Wait(place) => (place, this.sleep.is_none()),
            };
            let wake_at = place.wake_at();
            this.waiting.place = Some(place);
            if first {
                this.sleep.set(Some(tokio::time::sleep_until(instant(wake_at))));
                continue; // Claim at once, to park the waker.
            }
            // The deadline has come: claim once more, to be told so.
            ready!(this.sleep.as_mut().as_pin_mut().expect("armed above").poll(cx));
            this.sleep.set(Some(tokio::time::sleep_until(instant(wake_at))));
        }
    }
}

/// Admission by a gate: a place in flight until it is dropped.
pub struct Guard {
    gate: Arc<Gate<Threads>>,
    ticket: Option<Ticket>,
}

impl Guard {
    /// The guard of a ticket that was taken from `gate`.
    pub(crate) fn new(gate: Arc<Gate<Threads>>, ticket: Ticket) -> Guard {
        Guard { gate, ticket: Some(ticket) }
    }

    /// How the user stands with the tightest quota of the gate.
    pub fn standing(&self) -> Option<Standing> {
        self.ticket.as_ref()?.standing
    }

    /// Says how it went: at response headers, once. `waited` is time spent between attempts.
    pub fn report(&mut self, outcome: Outcome, waited: Span) {
        if let Some(ticket) = &mut self.ticket {
            ticket.waited = waited;
            self.gate.report(now(), ticket, outcome);
        }
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.release(now(), ticket);
            wake_turns(&self.gate);
        }
    }
}

/// Wakes everybody whose turn it is.
fn wake_turns(gate: &Gate<Threads>) {
    while let Some(waker) = gate.turn() {
        waker.wake();
    }
}
