//! The gate: the order of admission, said once.
//!
//! ```text
//! front gate, per route:           block → throttle … throttle → shed → limit (and its queue)
//! back gate, per upstream host:    breaker → ramp → limit (without a queue)
//! ```
//!
//! One type, two uses: a part that is not configured is passed through. **Check all, then take**:
//! each throttle looks whether there are tokens, lets everything behind it decide, and takes them
//! only if that agrees. So a request that is refused anywhere has taken nothing anywhere, without
//! undo; undo exists only for those who leave the queue before their turn.
//!
//! Routes to one upstream share its limit: their gates hold the same [`Shared`] part, in lanes of
//! their own.
//!
//! A [`Probe`](Traffic::Probe) is let through before any of these is asked, and says nothing to any.
//!
//! # When to call what
//!
//! [`Gate::admit`] once for each request, or [`Gate::spend`] for one that is served by what is kept. On [`Admit::Wait`], [`Gate::claim`] when polled, and
//! [`Gate::leave`] if the waiting request goes away. On [`Admit::Ticket`], [`Gate::report`] when the
//! outcome is known (at response headers) and [`Gate::release`] when the work is over (at the end of
//! the body); exactly one release for each ticket. [`Gate::broke`] if the body of a success breaks off. After any of these, and after [`Gate::configure`] and
//! [`Gate::configure_lane`], which may make room, [`Gate::turn`] until it is empty, waking each waiter, and
//! [`Gate::event`] likewise.

mod block;
mod by_hand;
mod passage;
mod rule;
mod shared;
mod taken;
mod ticket;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::breaker::{self, Front};
use crate::decision::{Policy, Reason, Rejection, Standing};
use crate::enforcement::{Enforcement, Stance, Switch};
use crate::event::Event;
use crate::limit;
use crate::outcome::Outcome;
use crate::pressure::Reading;
use crate::request::{Key, Request, Traffic};
use crate::rng::Rng;
use crate::shed;
use crate::throttle;
use crate::time::{Span, Time};

use block::{Barrier, Entry};

pub use crate::own::{Alone, Cells, Own, Ownership, shard_of};
pub use block::{ASK_AGAIN, Mode as BlockMode, Snapshot as BlockSnapshot};
use passage::{Passage, Refused};
pub use rule::Rule;
use rule::Unmet;
pub use shared::{Settings, Shared};
use taken::Taken;
use ticket::Line;
pub use ticket::{Place, Ticket};

/// The key under which parts with one shard are reached.
const ONE: Key = Key(0);

/// The lane of a route in the shared part of its upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Its bounds under the shared limit.
    pub limit: limit::Lane,
    /// Its load shedding; `None` for none. What a queue tells is that of a limit; without one, only
    /// [guards](shed::guard) drop.
    pub shed: Option<shed::Config>,
}

/// The answer to a request.
#[derive(Debug)]
pub enum Admit {
    /// It may go on.
    Ticket(Ticket),
    /// It may wait here.
    Wait(Place),
    /// It may not.
    Reject(Rejection),
}

/// Plain values of a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The block.
    pub block: BlockSnapshot,
    /// Each throttle, in the order of the config.
    pub throttles: Vec<throttle::Snapshot>,
    /// This route's shedding.
    pub shed: Option<shed::Snapshot>,
    /// The limit, shared with the other routes of the upstream.
    pub limit: Option<limit::Snapshot>,
    /// The breaker.
    pub breaker: Option<breaker::Snapshot>,
    /// The share of traffic that the ramp passes, 0 to 1.
    pub share: f64,
    /// How each policy is enforced.
    pub stance: Stance,
    /// Requests of this lane that each policy in shadow would have refused, as [`Policy::ALL`] orders them.
    pub shadowed: [u64; Policy::ALL.len()],
}

/// The order of admission for one route, or for one upstream host.
pub struct Gate<F: Ownership> {
    rules: Vec<Arc<Rule<F>>>,
    shared: Arc<F::Of<Shared<F::Waiter>>>,
    lane: usize,
    switch: Arc<Switch>,
    barrier: Arc<Barrier<F>>,
    /// Whether anybody is due.
    hint: Arc<AtomicBool>,
    /// Whether there are events.
    news: Arc<AtomicBool>,
    /// What is known of the breaker without a lock.
    front: Arc<Front>,
}

impl<F: Ownership> Gate<F> {
    /// A gate of its own: no throttles, one lane.
    pub fn new(settings: Settings, lane: Lane, now: Time) -> Gate<F> {
        let shared = Arc::new(F::Of::own(alloc::vec![Shared::new(settings, now)]));
        Gate::joining(shared, lane)
    }

    /// A gate with a new lane in the shared part of an upstream.
    pub fn joining(shared: Arc<F::Of<Shared<F::Waiter>>>, lane: Lane) -> Gate<F> {
        let (lane, hint, news, front) =
            shared.with(ONE, |shared| (shared.add_lane(lane), shared.hint(), shared.news(), shared.front()));
        let barrier = Arc::new(Barrier::new());
        Gate { rules: Vec::new(), shared, lane, switch: Arc::default(), barrier, hint, news, front }
    }

    /// The same lane behind these throttles, asked in this order. Those that several gates share must
    /// come in the same order in all of them, and before a gate's own: each is held while the next is
    /// asked.
    pub fn throttled(&self, rules: Vec<Arc<Rule<F>>>) -> Gate<F> {
        Gate {
            rules,
            shared: self.shared.clone(),
            lane: self.lane,
            switch: self.switch.clone(),
            barrier: self.barrier.clone(),
            hint: self.hint.clone(),
            news: self.news.clone(),
            front: self.front.clone(),
        }
    }

    /// The throttles, in the order in which they are asked.
    pub fn rules(&self) -> &[Arc<Rule<F>>] {
        &self.rules
    }

    /// How the policies of this gate are enforced: the override by hand.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The part that is shared with other gates.
    pub fn shared(&self) -> &Arc<F::Of<Shared<F::Waiter>>> {
        &self.shared
    }

    /// Changes the settings of the shared part; state stays. Those who wait for a place are not woken by it when
    /// a limit was raised: [`Gate::turn`] says who is next, and in the library `seawall::wake_turns` wakes them.
    pub fn configure(&self, settings: Settings, now: Time) {
        self.shared.with(ONE, |shared| shared.configure(settings, now));
    }

    /// Changes this gate's lane; state stays.
    pub fn configure_lane(&self, lane: Lane, now: Time) {
        self.on(|shared| shared.configure_lane(now, self.lane, lane));
    }

    /// Asks for admission.
    #[inline]
    pub fn admit(&self, now: Time, request: &Request) -> Admit {
        let mut ticket = Ticket::blank();
        match self.fill(now, request, &mut ticket) {
            Ok(None) => Admit::Ticket(ticket),
            Ok(Some(place)) => Admit::Wait(place),
            Err(rejection) => Admit::Reject(rejection),
        }
    }

    /// Asks for admission and, if the request may go on, makes a ticket of the blank one where it
    /// stands: it is large, and to move it costs more than to decide. Of who has to wait, or may not go
    /// on, it stays blank.
    #[inline]
    pub fn fill(
        &self,
        now: Time,
        request: &Request,
        ticket: &mut Ticket,
    ) -> Result<Option<Place>, Rejection> {
        ticket.begin();
        if request.traffic == Traffic::Probe {
            return Ok(None);
        }
        let stance = self.switch.stance();
        if self.rules.is_empty()
            && stance == Stance::default()
            && self.barrier.is_open()
            && let Some(pass) = self.front.admit(now)
        {
            ticket.pass = Some(pass);
            return Ok(None);
        }
        ticket.takes(now, request);
        let mut passage = Passage::new(ticket, stance);
        // Whoever refuses notes it in the passage.
        if let Ok(()) = self.pass_barrier(now, &mut passage) {
            let _ = self.admit_from(0, now, request, &mut passage);
        }
        let Some(rejection) = &passage.refusal else { return Ok(passage.ends(request)) };
        self.tell_barrier_refused(passage.ticket.entry, rejection);
        passage.ticket.clear();
        Err(rejection.anew())
    }

    /// Spends the quotas of a request that needs nothing behind them, because it is served by what is kept.
    /// It waits for no tokens, though it takes those that are still to come.
    pub fn spend(&self, now: Time, request: &Request) -> Result<Option<Standing>, Rejection> {
        let mut ticket = Ticket::blank();
        ticket.begin();
        if request.traffic == Traffic::Probe {
            return Ok(None);
        }
        ticket.takes(now, request);
        let mut passage = Passage::new(&mut ticket, self.switch.stance());
        passage.ends_at_throttles = true;
        let mut before = Taken::default();
        let mut asked = self.admit_from(0, now, request, &mut passage);
        while let (Ok(()), Some(Line::Tokens { rule, .. })) = (&asked, passage.line.take()) {
            self.rules[rule].leave_line();
            before = passage.ticket.taken;
            asked = self.admit_from(rule + 1, now, request, &mut passage);
        }
        let Some(rejection) = passage.refusal else { return Ok(ticket.standing) };
        before.give_back(now, u32::MAX, self.rules.iter().map(|rule| &**rule));
        Err(rejection)
    }

    #[inline]
    fn pass_barrier(&self, now: Time, passage: &mut Passage<'_>) -> Result<(), Refused> {
        if passage.stance.of(Policy::Block) == Enforcement::Off {
            return Ok(());
        }
        match self.barrier.admit(now) {
            Ok(entry) => passage.ticket.entry = entry,
            Err(rejection) => passage.overrule(rejection)?,
        }
        Ok(())
    }

    /// Stops this route's traffic, those included who wait, until [`Gate::readmit`].
    pub fn block(&self, now: Time, why: Arc<str>) {
        let change = self.barrier.block(now, why);
        self.on(|shared| shared.say(now, change));
    }

    /// Lets the traffic of a blocked route in again, up to this share (in parts per million, all is
    /// 1 000 000), in about the time `over` if all goes well.
    pub fn readmit(&self, now: Time, top_ppm: u32, over: Span, rng: &mut Rng) {
        if let Some(change) = self.barrier.readmit(now, top_ppm, over, rng) {
            self.on(|shared| shared.say(now, change));
        }
    }

    /// Asks the throttles from `first` on, then the rest. Each look nests the next.
    #[inline]
    fn admit_from(
        &self,
        first: usize,
        now: Time,
        request: &Request,
        passage: &mut Passage<'_>,
    ) -> Result<(), Refused> {
        let Some(rule) = self.rules.get(first) else { return self.admit_behind(now, request, passage) };
        let enforcement = passage.stance.of(Policy::Throttle);
        if enforcement == Enforcement::Off {
            return self.admit_from(first + 1, now, request, passage);
        }
        let asked = rule.ask(now, request, enforcement, |offer, purse| {
            match first + 1 == self.rules.len() {
                true => self.admit_behind(now, request, passage),
                false => self.admit_from(first + 1, now, request, passage),
            }?;
            passage.takes(first, offer.grant(), purse);
            Ok(())
        });
        match asked {
            Ok(()) if passage.refusal.is_some() => Err(Refused),
            Ok(()) => Ok(()),
            Err(Unmet::Late(slot, purse)) => {
                passage.ticket.standing = Some(Standing { quota: first as u8, ..slot.standing });
                passage.ticket.taken.note(first, purse, slot.mark);
                passage.line = Some(Line::Tokens { rule: first, at: slot.at });
                Ok(())
            }
            Err(Unmet::Refused(mut rejection)) => {
                if let Some(standing) = &mut rejection.standing {
                    standing.quota = first as u8;
                }
                passage.overrule(rejection)?;
                self.admit_from(first + 1, now, request, passage)
            }
            Err(Unmet::Overflow) => unreachable!("the overflow bucket takes everybody"),
        }
    }

    /// Asks what lies behind the throttles.
    fn admit_behind(&self, now: Time, request: &Request, passage: &mut Passage<'_>) -> Result<(), Refused> {
        if passage.ends_at_throttles {
            if !passage.shadowed.is_empty() {
                self.on(|shared| shared.count_shadowed(self.lane, &passage.shadowed));
            }
            return Ok(());
        }
        self.on(|shared| shared.admit(now, self.lane, request, passage))
    }

    /// "My turn?" Parks the waiter if not.
    pub fn claim(&self, now: Time, place: Place, waiter: F::Waiter) -> Admit {
        if let Err(rejection) = self.barrier.check()
            && self.switch.stance().of(Policy::Block) == Enforcement::Enforced
        {
            self.leave(now, place);
            return Admit::Reject(rejection);
        }
        let turn = match place.line {
            Line::Turn(turn) => turn,
            // Nobody needs to be woken: the time is known.
            Line::Tokens { at, .. } if now < at => return Admit::Wait(place),
            Line::Tokens { rule, .. } => return self.resume(now, place, rule, waiter),
        };
        let answer = self.on(|shared| shared.claim(now, turn, waiter));
        match answer {
            limit::Answer::Slot(slot) => Admit::Ticket(Ticket::granted(place, slot)),
            limit::Answer::Wait(turn) => Admit::Wait(Place { line: Line::Turn(turn), ..place }),
            limit::Answer::Reject(rejection) => {
                self.tell_barrier_refused(place.entry, &rejection);
                self.give_all_back(now, place);
                Admit::Reject(rejection)
            }
        }
    }

    /// The tokens of this throttle are there: the request goes on to what lies behind.
    fn resume(&self, now: Time, place: Place, rule: usize, waiter: F::Waiter) -> Admit {
        self.rules[rule].leave_line();
        if place.request.deadline <= now {
            self.give_all_back(now, place);
            return Admit::Reject(Rejection::new(Policy::Throttle, Reason::Expired, Span::ZERO));
        }
        let mut ticket = Ticket::blank();
        ticket.begin();
        ticket.takes(now, &place.request);
        (ticket.standing, ticket.entry) = (place.standing, place.entry);
        let mut passage = Passage::new(&mut ticket, self.switch.stance());
        let _ = self.admit_from(rule + 1, now, &place.request, &mut passage);
        if let Some(rejection) = passage.refusal {
            self.tell_barrier_refused(place.entry, &rejection);
            self.give_all_back(now, place);
            return Admit::Reject(rejection);
        }
        passage.ticket.taken.after(&place.taken, rule + 1);
        match passage.ends(&place.request) {
            // The driver asked in order to have its waiter parked.
            Some(next) => self.claim(now, next, waiter),
            None => Admit::Ticket(ticket),
        }
    }

    /// The request that waited here has gone: its tokens come back, its place goes to the next.
    pub fn leave(&self, now: Time, place: Place) {
        match place.line {
            Line::Turn(turn) => self.on(|shared| shared.leave(now, turn)),
            Line::Tokens { rule, .. } => self.rules[rule].leave_line(),
        }
        self.give_all_back(now, place);
    }

    /// Gives back `unused` tokens of what the request cost: it turned out cheaper than it was taken
    /// for. No more comes back in all than was taken, and none that flowed in again meanwhile.
    pub fn refund(&self, now: Time, ticket: &mut Ticket, unused: u32) {
        ticket.taken.give_back(now, unused, self.rules.iter().map(|rule| &**rule));
    }

    /// Says how an admitted request went, once; what follows the first report is ignored.
    #[inline]
    pub fn report(&self, now: Time, ticket: &mut Ticket, outcome: Outcome) {
        if core::mem::replace(&mut ticket.reported, true) {
            return;
        }
        ticket.succeeded = outcome == Outcome::Success;
        if ticket.teaches() && !self.is_counted(now, ticket, outcome) {
            self.on(|shared| shared.report(now, ticket, outcome));
        }
        self.tell_barrier(now, ticket.entry, outcome);
    }

    /// An answer broke off whose request was admitted at `begun` and reported as a success at its head: to the
    /// breaker, and the ramp behind it, it has failed. Needs no ticket; to be said once, at the end of the body.
    pub fn broke(&self, now: Time, begun: Time) {
        if self.switch.stance().of(Policy::Breaker) != Enforcement::Off {
            self.on(|shared| shared.broke(now, begun));
        }
    }

    /// The same, of the request of this ticket; says nothing unless that was reported as a success.
    pub fn broke_off(&self, now: Time, ticket: &Ticket) {
        if let Some(begun) = ticket.well_since() {
            self.broke(now, begun);
        }
    }

    /// The work is over: its place is free. A ticket that was never reported counts as cancelled.
    pub fn release(&self, now: Time, ticket: Ticket) {
        self.settle(now, ticket, Outcome::Cancelled);
    }

    /// [`Gate::report`] and [`Gate::release`] in one.
    pub fn settle(&self, now: Time, mut ticket: Ticket, outcome: Outcome) {
        self.end(now, &mut ticket, outcome);
    }

    /// [`Gate::settle`] of a ticket that stays where it is: it holds nothing any more, and whatever is
    /// said of it later is ignored.
    pub fn end(&self, now: Time, ticket: &mut Ticket, outcome: Outcome) {
        let is_reported = core::mem::replace(&mut ticket.reported, true);
        if !is_reported {
            ticket.succeeded = outcome == Outcome::Success;
            self.tell_barrier(now, ticket.entry, outcome);
        }
        let reports = !is_reported && ticket.teaches() && !self.is_counted(now, ticket, outcome);
        if !reports && ticket.slot.is_none() {
            return;
        }
        self.on(|shared| {
            if reports {
                shared.report(now, ticket, outcome);
            }
            if let Some(slot) = ticket.slot.take() {
                shared.release(now, slot);
            }
        });
    }

    /// The next waiter that became due. Costs no lock when nobody is.
    #[inline]
    pub fn turn(&self) -> Option<F::Waiter> {
        self.hint.load(Ordering::Acquire).then(|| self.shared.with(ONE, Shared::turn))?
    }

    /// The next change that nobody has pulled. Costs no lock when there is none.
    pub fn event(&self) -> Option<Event> {
        self.news.load(Ordering::Acquire).then(|| self.shared.with(ONE, Shared::event))?
    }

    /// When an open breaker next lets a probe through.
    pub fn wake_at(&self) -> Option<Time> {
        self.shared.with(ONE, |shared| shared.wake_at())
    }

    /// Takes in how the machine is doing, for every lane that sheds by it.
    pub fn observe(&self, now: Time, reading: &Reading) {
        self.shared.with(ONE, |shared| shared.observe(now, reading));
    }

    /// How much less work each request of this lane should be given now: 0 for none, 1 for as little
    /// as there is. It is 1 before this lane sheds anything.
    pub fn dimmer(&self, now: Time) -> f64 {
        self.shared.with(ONE, |shared| shared.dimmer(now, self.lane))
    }

    /// Plain values of the limit alone, without those of every throttle.
    pub fn limit(&self, now: Time) -> Option<limit::Snapshot> {
        self.shared.with(ONE, |shared| shared.limit_snapshot(now))
    }

    /// Plain values.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let throttles = self.rules.iter().map(|rule| rule.snapshot()).collect();
        let (stance, block) = (self.switch.stance(), self.barrier.snapshot());
        self.on(|shared| shared.snapshot(now, self.lane, throttles, stance, block))
    }

    /// What was let in by the block went like this.
    #[inline]
    fn tell_barrier(&self, now: Time, entry: Option<Entry>, outcome: Outcome) {
        if let Some(entry) = entry {
            self.tell_barrier_of(now, entry, outcome);
        }
    }

    #[cold]
    fn tell_barrier_of(&self, now: Time, entry: Entry, outcome: Outcome) {
        let strain = self.shared.with(ONE, |shared| shared.strain(now, self.lane));
        if let Some(change) = self.barrier.report(now, entry, outcome, strain) {
            self.on(|shared| shared.say(now, change));
        }
    }

    /// What was let in by the block was refused behind it.
    fn tell_barrier_refused(&self, entry: Option<Entry>, rejection: &Rejection) {
        if let Some(entry) = entry.filter(|_| matches!(rejection.policy, Policy::Shed | Policy::Limit)) {
            self.barrier.refused_behind(entry);
        }
    }

    /// Whether an outcome changes nothing but a count, which is then kept without a lock.
    fn is_counted(&self, now: Time, ticket: &Ticket, outcome: Outcome) -> bool {
        match (&ticket.slot, &ticket.pass) {
            (None, Some(pass)) => self.front.report(F::stripe(), now, pass, outcome),
            _ => false,
        }
    }

    /// A verb of the shared part.
    fn on<R>(&self, verb: impl FnOnce(&mut Shared<F::Waiter>) -> R) -> R {
        self.shared.with(ONE, |shared| {
            shared.hear();
            let answer = verb(shared);
            shared.tell();
            answer
        })
    }

    /// Returns what a request took that was not served.
    fn give_all_back(&self, now: Time, mut place: Place) {
        place.taken.give_back(now, u32::MAX, self.rules.iter().map(|rule| &**rule));
    }
}

#[cfg(test)]
mod tests;
