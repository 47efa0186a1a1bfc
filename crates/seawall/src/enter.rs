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
use seawall_core::time::{Span, Time};
use tokio::time::Sleep;

use crate::clock::{instant, now};
use crate::threads::Threads;

/// Asks `gate` to admit `request`, waiting in its queue if it has one. Asks when first polled.
pub fn enter(gate: &Arc<Gate<Threads>>, request: Request) -> Enter {
    Enter { gate: Some(gate.clone()), request: Some(request), waiting: None, sleep: None }
}

pin_project! {
    /// The future of [`enter`].
    #[must_use = "futures do nothing unless polled"]
    pub struct Enter {
        gate: Option<Arc<Gate<Threads>>>,
        request: Option<Request>,
        waiting: Option<Waiting>,
        // Armed only for those who wait, and only as a backstop: whoever is due is woken.
        #[pin]
        sleep: Option<Sleep>,
    }
}

/// A place in the queue, left when dropped.
struct Waiting {
    gate: Arc<Gate<Threads>>,
    place: Option<Place>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.gate.leave(now(), place);
            wake_turns(&self.gate);
        }
    }
}

impl Future for Enter {
    type Output = Result<Guard, Rejection>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let begin = self.as_mut().project();
        if let (Some(gate), Some(request)) = (begin.gate.take(), begin.request.take()) {
            let mut guard = Guard::blank(gate);
            match guard.ask(now(), &request) {
                Ok(None) => return Poll::Ready(Ok(guard)),
                Err(rejection) => return Poll::Ready(Err(rejection)),
                Ok(Some(enter)) => self.set(enter),
            }
        }
        let mut this = self.project();
        let waiting = this.waiting.as_mut().expect("a finished future is not polled again");
        loop {
            let place = waiting.place.take().expect("kept until its turn has come");
            let admit = waiting.gate.claim(now(), place, cx.waker().clone());
            wake_turns(&waiting.gate);
            match admit {
                Admit::Ticket(ticket) => {
                    return Poll::Ready(Ok(Guard::new(waiting.gate.clone(), ticket)));
                }
                Admit::Reject(rejection) => return Poll::Ready(Err(rejection)),
                Admit::Wait(place) => {
                    let wake_at = place.wake_at();
                    waiting.place = Some(place);
                    if this.sleep.is_none() {
                        this.sleep.set(Some(tokio::time::sleep_until(instant(wake_at))));
                    }
                    // When the deadline has come: claim once more, to be told so.
                    ready!(this.sleep.as_mut().as_pin_mut().expect("armed above").poll(cx));
                    this.sleep.set(None);
                }
            }
        }
    }
}

/// Admission by a gate: a place in flight until it is dropped.
pub struct Guard {
    gate: Arc<Gate<Threads>>,
    ticket: Ticket,
}

impl Guard {
    /// The guard of a ticket that was taken from `gate`.
    pub(crate) fn new(gate: Arc<Gate<Threads>>, ticket: Ticket) -> Guard {
        Guard { gate, ticket }
    }

    /// A guard that holds nothing.
    #[inline]
    pub(crate) fn blank(gate: Arc<Gate<Threads>>) -> Guard {
        Guard { gate, ticket: Ticket::blank() }
    }

    /// Asks the gate for this blank guard. It stays blank when the request may not go on, or has to
    /// wait its turn.
    #[inline]
    pub(crate) fn ask(&mut self, now: Time, request: &Request) -> Result<Option<Enter>, Rejection> {
        let asked = self.gate.fill(now, request, &mut self.ticket);
        wake_turns(&self.gate); // A newcomer may have displaced somebody.
        let Some(place) = asked? else { return Ok(None) };
        let waiting = Some(Waiting { gate: self.gate.clone(), place: Some(place) });
        Ok(Some(Enter { gate: None, request: None, waiting, sleep: None }))
    }

    /// How the user stands with the tightest quota of the gate.
    pub fn standing(&self) -> Option<Standing> {
        self.ticket.standing
    }

    /// Gives back what the request cost too much, once its real cost is known: it was admitted at a
    /// cost that was only a guess, the most that it could be. No more comes back in all than was
    /// taken, and none that flowed in again meanwhile.
    ///
    /// ```
    /// use seawall::core::gate::{Gate, Lane, Rule, Settings};
    /// use seawall::core::measure::bucket::{Quota, Rate};
    /// use seawall::core::request::{Key, Request};
    /// use seawall::core::throttle;
    /// use seawall::{enter, now};
    /// use std::sync::Arc;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
    /// let quota = Quota::new(Rate::per_second(1), 100).unwrap();
    /// let rule = Arc::new(Rule::new(throttle::Config::per_user(quota), now()));
    /// let gate = Arc::new(Gate::new(Settings::default(), Lane::default(), now()).throttled(vec![rule]));
    ///
    /// let mut guard = enter(&gate, Request { cost: 80, ..Request::new(Key(1)) }).await.unwrap();
    /// guard.refund(80 - 25); // The query read less than feared.
    /// let next = enter(&gate, Request { cost: 75, ..Request::new(Key(1)) }).await.unwrap();
    /// assert_eq!(next.standing().unwrap().remaining, 0);
    /// # });
    /// ```
    pub fn refund(&mut self, unused: u32) {
        self.gate.refund(now(), &mut self.ticket, unused);
    }

    /// Says that a hedge was sent for it, before how it went: the time that it took teaches the limit nothing.
    pub fn hedged(&mut self) {
        self.ticket.hedged = true;
    }

    /// Says how it went: at response headers, once. `waited` is time spent between attempts.
    pub fn report(&mut self, outcome: Outcome, waited: Span) {
        self.report_at(now(), outcome, waited);
    }

    pub(crate) fn report_at(&mut self, now: Time, outcome: Outcome, waited: Span) {
        self.ticket.waited = waited;
        self.gate.report(now, &mut self.ticket, outcome);
        wake_turns(&self.gate); // The limit may have grown.
    }

    /// Says that the answer broke off, at the end of its body: to a breaker it was no success, if it was reported as
    /// one.
    pub fn broke(self) {
        self.gate.broke_off(now(), &self.ticket);
    }

    /// Says how it went, and that the work is over.
    #[inline]
    pub(crate) fn settle_at(&mut self, now: Time, outcome: Outcome, waited: Span) {
        self.ticket.waited = waited;
        self.gate.end(now, &mut self.ticket, outcome);
        wake_turns(&self.gate);
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.ticket.is_reported() || self.ticket.holds_a_place() {
            self.settle_at(now(), Outcome::Cancelled, Span::ZERO);
        }
    }
}

/// Wakes everybody whose turn it is. [`enter`] and [`Guard`] do so by themselves; whoever configures a gate
/// does so afterwards.
#[inline]
pub fn wake_turns(gate: &Gate<Threads>) {
    while let Some(waker) = gate.turn() {
        waker.wake();
    }
}
