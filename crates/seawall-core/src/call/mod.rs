//! The call: the course of one logical call through its attempts, said once.
//!
//! **Prevents** the many small mistakes of hand-written retry loops: attempts past the deadline,
//! retries that nobody pays for, a timer for each attempt, an answer lost because a later attempt
//! could not be made, a slow host that looks fast because nobody waited for it.
//!
//! ```text
//!          pick: host and ticket                     outcome: final
//!   Ready ───────────────────────▶ InFlight (1..4) ─────────────────▶ Finish
//!     ▲ ▲                            │ │ │   ▲
//!     │ │                            │ │ └───┘ takes long: a hedge joins; one of several fails
//!     │ └───────── Elsewhere ◀───────┘ │ the last under way did not reach its host, and there are others
//!     └─────────── Backoff ◀───────────┘ the last under way failed, may be repeated, is paid for
//! ```
//!
//! **Mechanics.** Sans-I/O: [`Call::poll`] says what to do next, the driver does it and reports
//! with [`Call::on_outcome`]. Poll again after every report and when the time of
//! [`Step::WaitUntil`] has come. Picking a host and asking its back gate happen in here, so that no
//! driver copies them; a refusal by one host's back gate tries the next and spends neither attempt
//! nor budget. A retry is paid for *before* its backoff begins, a hedge when it is due; both from
//! the same budget. An attempt that did not reach its host ([`Repeat::Unreached`]) was no load to
//! anybody: another host, not yet tried in vain, has the next at once and unpaid, so that hosts
//! that are gone cost no answers while the budget is empty. Where no other takes it, it is a retry
//! like any other. Whichever attempt answers first wins, the others are given up as superseded. A
//! failure is final only when it is the last attempt under way: a failing hedge never ends a healthy
//! first attempt, nor the other way round.
//!
//! **Edges.** Outcomes after the end are ignored. When the last attempt failed and no other may be
//! made, the driver still holds the last answer that came and returns it: a real error is worth more
//! than ours. An attempt that the call's own deadline cut short is blamed on the host only if it had
//! at least the upstream's usual time (the 95th percentile) or, while that is not known, 100 ms and a
//! quarter of the call's time: deadlines of a millisecond say nothing of a host. Only what may be
//! sent again is hedged. While a client still sends its request, no time for the answer passes
//! ([`Call::received`]).
//!
//! ```
//! use seawall_core::call::{Call, Config, Hosts, Parts, Repeat, Settings, Shared, Step, Verdict};
//! use seawall_core::enforcement::Stance;
//! use seawall_core::gate::{self, Alone, Cells, Gate, Own};
//! use seawall_core::outcome::Outcome;
//! use seawall_core::request::{Key, Request};
//! use seawall_core::rng::Rng;
//! use seawall_core::time::{Span, Time};
//! # use std::sync::Arc;
//!
//! let mut now = Time::ZERO;
//! # #[allow(clippy::arc_with_non_send_sync)]
//! let gate = Arc::new(Gate::new(gate::Settings::default(), gate::Lane::default(), now));
//! let hosts: Hosts<Alone<u64>> = Hosts::new(vec![gate]);
//! let shared = Cells::own(vec![Shared::new(Settings::default(), now)]);
//! let stance = Stance::default();
//! let parts = Parts { hosts: &hosts, shared: &shared, backpressure: None, front: None, stance };
//!
//! let request = Request { deadline: now + Span::from_secs(1), ..Request::new(Key(7)) };
//! let mut call = Call::new(Config::default(), request, Repeat::Safe, now);
//! let mut rng = Rng::new(42, 1);
//! let verdict = loop {
//!     match call.poll(now, &parts, &mut rng) {
//!         // A driver would send the request here; this host fails once and then succeeds.
//!         Step::Send(attempt) => {
//!             let outcome = if attempt.number == 1 { Outcome::Failure } else { Outcome::Success };
//!             call.on_outcome(now, attempt.lane, outcome, Repeat::Safe, &parts, &mut rng);
//!         }
//!         Step::WaitUntil(until) => now = until,
//!         Step::Cancel { .. } => {}
//!         Step::Finish(verdict) => break verdict,
//!     }
//! };
//! assert_eq!((verdict, call.attempts()), (Verdict::Answered { stop: None }, 2));
//! call.abandon(now, &parts); // The answer's body has ended: its place is given back.
//! ```

mod flights;
mod hedging;
mod hosts;
mod shared;
mod step;
mod telling;

use alloc::vec::Vec;

use crate::backpressure::Backpressure;
use crate::decision::{Policy, Rejection};
use crate::enforcement::{Enforcement, Stance};
use crate::gate::{Gate, Own, Ownership, Ticket};
use crate::outcome::Outcome;
use crate::request::{Key, Request};
use crate::retry::backoff::Backoff;
use crate::rng::Rng;
use crate::time::{Span, Time};

use flights::{Flight, Flights, Kind};
use hedging::Due;
use hosts::Avoid;
use shared::Paid;
use telling::{give_up, refund, report, settle, tell};

pub use hosts::{
    Called, Config as HostsConfig, Forced as HostForced, Happening, HostSnapshot, Hosts, Member, Probe,
    Snapshot as HostsSnapshot,
};
pub use shared::{Settings, Shared, Snapshot};
pub use step::{Attempt, Lane, Repeat, Step, Stop, Verdict};

/// The key under which parts with one shard are reached.
const ONE: Key = Key(0);

/// The most attempts of one call, without hedges.
pub const ATTEMPTS_MAX: u32 = 10;

/// The most attempts of a call that stands for somebody who never gives up, as the lab simulates them.
pub const PERSISTENT_MAX: u32 = 1_000;

/// The longest `Retry-After` that is obeyed.
pub const RETRY_AFTER_MAX: Span = Span::from_secs(300);

/// How a call is made. Nothing of it is refused; [`lint`](crate::lint) finds what is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Attempts, the first included, 1 to [`ATTEMPTS_MAX`], or up to [`PERSISTENT_MAX`] where there is no
    /// service behind it to be spared; hedges come on top. Default 3. 0 means 1, and more than that is made.
    /// All but the first, and those after a host that was not reached, are paid for, as [`Settings::budget`]
    /// says: a client that has just started has one retry every ten seconds.
    pub attempts: u32,
    /// The longest that one attempt may take, longer than zero: zero gives up every attempt when it begins.
    /// Default `None`, for as long as the call has.
    pub per_attempt: Option<Span>,
    /// The wait before a retry.
    pub backoff: Backoff,
}

impl Default for Config {
    fn default() -> Config {
        Config { attempts: 3, per_attempt: None, backoff: Backoff::default() }
    }
}

/// What a call reaches for.
pub struct Parts<'a, F: Ownership> {
    /// The hosts.
    pub hosts: &'a Hosts<F>,
    /// Budget, hedging and latencies.
    pub shared: &'a F::Of<Shared>,
    /// What holds attempts back when the callee accepts little; `None` for nothing.
    pub backpressure: Option<&'a F::Of<Backpressure>>,
    /// The gate behind which the calls are made, if its limit is the upstream's: while it is under
    /// pressure nothing is hedged.
    pub front: Option<&'a Gate<F>>,
    /// How backpressure, retries and hedges are enforced; the others are not asked here.
    pub stance: Stance,
}

#[derive(Debug)]
enum State {
    Ready,
    InFlight,
    /// A host was not reached: another has the next attempt at once.
    Elsewhere,
    Backoff {
        since: Time,
        until: Time,
        paid: Paid,
    },
    Over(Verdict),
}

/// How the next attempt follows one that failed.
enum Next {
    /// At once, on another host.
    Elsewhere,
    /// After this wait, paid for.
    After(Span, Paid),
}

/// One logical call.
#[derive(Debug)]
pub struct Call {
    config: Config,
    request: Request,
    repeat: Repeat,
    begun: Time,
    /// Until when its deadline may be put off.
    latest: Time,
    /// Attempts sent, hedges too.
    attempts: u32,
    hedges: u32,
    hedged: bool,
    last_wait: Span,
    waited: Span,
    avoid: Avoid,
    state: State,
    flights: Flights,
    due: Due,
    /// Attempts that lost and that the driver shall give up.
    losers: Vec<Lane>,
}

impl Call {
    /// A call whose deadline is that of `request`. `repeat` says whether it may be sent again
    /// after an attempt that never answered, and so whether it may be hedged.
    #[inline]
    pub fn new(config: Config, request: Request, repeat: Repeat, now: Time) -> Call {
        Call {
            config,
            request,
            repeat,
            begun: now,
            latest: Time::MAX,
            attempts: 0,
            hedges: 0,
            hedged: true,
            last_wait: Span::ZERO,
            waited: Span::ZERO,
            avoid: Avoid::default(),
            state: State::Ready,
            flights: Flights::default(),
            due: Due::Unasked,
            losers: Vec::new(),
        }
    }

    /// The same begun now, with what was not known when it was made. Before anything else is asked of it.
    #[inline]
    pub fn begin(&mut self, request: Request, repeat: Repeat, now: Time) {
        debug_assert!(self.attempts == 0, "a call is begun once");
        (self.request, self.repeat, self.begun) = (request, repeat, now);
    }

    /// It is not hedged, although other calls to its upstream are.
    pub fn unhedge(&mut self) {
        self.hedged = false;
    }

    /// Its deadline is put off until then at most, however long its client takes to send it; default without a bound.
    pub fn end_by(&mut self, latest: Time) {
        self.latest = latest;
    }

    /// At `at` the whole request had come, or it still comes and that is now: from then on its time counts, and
    /// that of the attempts under way. Say it before the first poll or outcome behind the deadline that it had.
    pub fn received(&mut self, at: Time) {
        if at <= self.begun {
            return;
        }
        let whole = self.request.deadline.since(self.begun);
        let deadline = self.request.deadline.max((at + whole).min(self.latest));
        (self.begun, self.request.deadline) = (at, deadline);
        for flight in self.flights.iter_mut() {
            flight.until = given_up_at(flight.begun.max(at), self.config.per_attempt, deadline);
        }
    }

    /// How it ended; `None` while there is still something to do.
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.state {
            State::Over(verdict) if self.losers.is_empty() => Some(verdict),
            _ => None,
        }
    }

    /// Attempts sent so far, hedges too.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How many of them were hedges.
    pub fn hedges(&self) -> u32 {
        self.hedges
    }

    /// Time spent in backoff so far.
    pub fn waited(&self) -> Span {
        self.waited
    }

    /// What to do next.
    #[inline]
    pub fn poll<F: Ownership>(&mut self, now: Time, parts: &Parts<'_, F>, rng: &mut Rng) -> Step {
        if let Some(lane) = self.losers.pop() {
            return Step::Cancel { lane };
        }
        match &self.state {
            State::Over(verdict) => Step::Finish(*verdict),
            State::Ready => self.send(now, None, parts, rng),
            State::Elsewhere => self.send_elsewhere(now, parts, rng),
            State::Backoff { until, .. } if now < *until => Step::WaitUntil(*until),
            State::Backoff { .. } => {
                let State::Backoff { since, until, paid } = self.over(Verdict::Expired) else {
                    unreachable!("matched above")
                };
                self.waited += until.since(since);
                self.send(now, Some(paid), parts, rng)
            }
            State::InFlight => match self.flights.take(|flight| flight.until <= now) {
                Some(flight) => self.time_out(now, flight, parts, rng),
                None => self.hedge_or_wait(now, parts, rng),
            },
        }
    }

    /// Takes in how the attempt in `lane` went; `repeat` says whether it may be sent again after
    /// this outcome. Ignored when that attempt is no longer under way.
    #[inline]
    pub fn on_outcome<F: Ownership>(
        &mut self,
        now: Time,
        lane: Lane,
        outcome: Outcome,
        repeat: Repeat,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) {
        if !outcome.is_failure() && !repeat.follows(outcome) {
            self.won(now, lane, outcome, parts);
        } else if let Some(flight) = self.flights.take(|flight| flight.lane == lane) {
            parts.shared.with(ONE, |shared| shared.ended(now, outcome, flight.elapsed(now)));
            self.failed(now, flight, outcome, repeat, parts, rng);
        }
    }

    /// Of its time so far, the attempt in `lane` spent so much on what says nothing of the host, such as
    /// making a connection. It counts neither as latency nor towards being slow. Say it before the outcome.
    pub fn spare(&mut self, lane: Lane, time: Span) {
        if let Some(flight) = self.flights.iter_mut().find(|flight| flight.lane == lane) {
            flight.begun += time;
            flight.ticket.spare(time);
        }
    }

    /// The attempt in `lane` could not be sent, because there is no other copy of the request.
    /// Neither host nor budget pay for it, and nothing more is sent.
    pub fn on_unsent<F: Ownership>(&mut self, now: Time, lane: Lane, parts: &Parts<'_, F>) {
        let Some(flight) = self.flights.take(|flight| flight.lane == lane) else { return };
        self.attempts -= 1;
        self.hedges -= u32::from(flight.kind == Kind::Hedge);
        (self.repeat, self.due) = (Repeat::Unsafe, Due::Never);
        report(now, flight.pass, Outcome::Ignored, parts);
        parts.hosts.settle(now, flight.host, flight.ticket, Outcome::Ignored, Span::ZERO);
        refund(now, flight.paid, parts);
        if self.flights.is_empty() {
            self.over(Verdict::Answered { stop: Some(Stop::Unsafe) });
        }
    }

    /// The ticket of the answer that stands and its host: release it when the answer's body ends.
    pub fn take_ticket(&mut self) -> Option<(usize, Ticket)> {
        self.flights.take_answer().map(|flight| (flight.host, flight.ticket))
    }

    /// Who gave the answer that stands, until its ticket is taken.
    pub fn called(&self) -> Option<Called> {
        self.flights.answer().map(|flight| Called { host: flight.host, begun: flight.begun })
    }

    /// Whether the answer that stands holds a place at its host until its body ends. Without, its
    /// ticket need not be taken.
    pub fn holds_a_place(&self) -> bool {
        self.flights.answer().is_some_and(|flight| flight.ticket.holds_a_place())
    }

    /// Whether there is nothing that [`Call::abandon`] would give back.
    pub fn holds_nothing(&self) -> bool {
        matches!(self.state, State::Ready | State::Elsewhere | State::Over(_))
            && self.flights.is_empty()
            && !self.holds_a_place()
    }

    /// The caller has gone: whatever the call holds is given back.
    pub fn abandon<F: Ownership>(&mut self, now: Time, parts: &Parts<'_, F>) {
        if let State::Backoff { paid, .. } = self.over(Verdict::Expired) {
            refund(now, Some(paid), parts);
        }
        while let Some(flight) = self.flights.take(|_| true) {
            give_up(now, flight, Outcome::Cancelled, parts);
        }
        self.losers.clear();
        self.release_standing(now, parts);
    }

    /// Sends an attempt that is needed; all but the first are `paid` for.
    #[inline]
    fn send<F: Ownership>(
        &mut self,
        now: Time,
        mut paid: Option<Paid>,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) -> Step {
        if self.request.deadline <= now {
            refund(now, paid, parts);
            return self.finish(Verdict::Expired);
        }
        match self.take_off(now, Kind::Plain, &mut paid, parts, rng) {
            Ok(host) => {
                self.state = State::InFlight;
                self.departs(now, host)
            }
            Err(rejection) if self.attempts == 0 => self.finish(Verdict::Rejected(rejection)),
            Err(rejection) => {
                refund(now, paid, parts);
                self.finish(Verdict::Answered { stop: Some(Stop::Rejected(rejection)) })
            }
        }
    }

    /// Sends an attempt whose host was not reached to another; if none takes it, it waits like any other.
    fn send_elsewhere<F: Ownership>(&mut self, now: Time, parts: &Parts<'_, F>, rng: &mut Rng) -> Step {
        if self.request.deadline <= now {
            return self.finish(Verdict::Expired);
        }
        if let Ok(host) = self.take_off(now, Kind::Plain, &mut None, parts, rng) {
            self.state = State::InFlight;
            return self.departs(now, host);
        }
        match self.next_wait(now, Outcome::Failure, parts, rng) {
            Ok((wait, paid)) => Step::WaitUntil(self.wait(now, wait, paid)),
            Err(stop) => self.finish(Verdict::Answered { stop: Some(stop) }),
        }
    }

    /// When an attempt that begins now is given up.
    #[inline]
    fn until(&self, now: Time) -> Time {
        given_up_at(now, self.config.per_attempt, self.request.deadline)
    }

    /// The attempt that has just taken off.
    #[inline]
    fn departs(&self, now: Time, host: usize) -> Step {
        let (number, deadline) = (self.attempts, self.until(now));
        Step::Send(Attempt { lane: Lane(number), number, host, deadline })
    }

    /// Takes an attempt off to a host that lets it pass, after the client's own backpressure did. Not the
    /// host of the attempt before, if there is another.
    fn take_off<F: Ownership>(
        &mut self,
        now: Time,
        kind: Kind,
        paid: &mut Option<Paid>,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) -> Result<usize, Rejection> {
        let pass = match (parts.backpressure, parts.stance.of(Policy::Backpressure)) {
            (None, _) | (_, Enforcement::Off) => None,
            (Some(backpressure), Enforcement::Shadow) => {
                Some(backpressure.with(ONE, |pressure| pressure.admit_in_shadow(now, rng)))
            }
            (Some(backpressure), Enforcement::Enforced) => {
                Some(backpressure.with(ONE, |pressure| pressure.admit(now, rng))?)
            }
        };
        let until = self.until(now);
        let (number, lane) = (self.attempts + 1, Lane(self.attempts + 1));
        let flight =
            || Flight { lane, kind, host: 0, ticket: Ticket::blank(), pass, paid: None, begun: now, until };
        let picked = self.flights.add_if(flight, |flight| {
            flight.host = parts.hosts.fill(now, &self.request, self.avoid, rng, &mut flight.ticket)?;
            flight.paid = paid.take();
            Ok(flight.host)
        });
        match picked {
            Ok(host) => {
                (self.attempts, self.avoid.last, self.due) = (number, Some(host), Due::Unasked);
                Ok(host)
            }
            Err(rejection) => {
                report(now, pass, Outcome::Ignored, parts);
                Err(rejection)
            }
        }
    }

    /// An attempt took all its time: it is blamed if that was fair.
    fn time_out<F: Ownership>(
        &mut self,
        now: Time,
        flight: Flight,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) -> Step {
        let (lane, elapsed) = (flight.lane, flight.elapsed(now));
        let whole = self.request.deadline.since(self.begun);
        let full = self.config.per_attempt.is_some_and(|span| flight.begun + span <= flight.until);
        let blamed = parts.shared.with(ONE, |shared| {
            let fair = full || shared.was_fair(elapsed, whole);
            shared.ended(now, Outcome::TimedOut, elapsed);
            fair
        });
        let outcome = if blamed { Outcome::TimedOut } else { Outcome::Ignored };
        self.failed(now, flight, outcome, self.repeat, parts, rng);
        self.release_standing(now, parts); // There is no answer whose body could keep it.
        if self.request.deadline <= now && self.flights.is_empty() {
            self.over(Verdict::Expired);
        }
        Step::Cancel { lane }
    }

    /// An attempt failed: the others go on, or the next is scheduled, or its answer stands.
    fn failed<F: Ownership>(
        &mut self,
        now: Time,
        flight: Flight,
        outcome: Outcome,
        repeat: Repeat,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) {
        if !self.flights.is_empty() {
            if !repeat.is_free() {
                (self.repeat, self.due) = (repeat, Due::Never);
            }
            return settle(now, flight, outcome, parts);
        }
        match self.next(now, outcome, repeat, parts, rng) {
            Err(stop) => {
                let lane = flight.lane;
                self.flights.add(flight);
                if let Some((flight, _)) = self.flights.stand(lane) {
                    tell(now, flight, outcome, parts);
                }
                self.over(Verdict::Answered { stop: Some(stop) });
            }
            Ok(Next::Elsewhere) => {
                self.avoid.unreached(flight.host);
                self.state = State::Elsewhere;
                settle(now, flight, outcome, parts);
            }
            Ok(Next::After(wait, paid)) => {
                self.wait(now, wait, paid);
                settle(now, flight, outcome, parts);
            }
        }
    }

    /// Waits before the next attempt. Who was not reached may be there by then.
    fn wait(&mut self, now: Time, wait: Span, paid: Paid) -> Time {
        self.avoid.forgive();
        self.last_wait = wait;
        let until = now + wait;
        self.state = State::Backoff { since: now, until, paid };
        until
    }

    /// How the next attempt follows; or why there is none.
    fn next<F: Ownership>(
        &self,
        now: Time,
        outcome: Outcome,
        repeat: Repeat,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) -> Result<Next, Stop> {
        if self.tries() >= self.config.attempts.min(PERSISTENT_MAX) {
            return Err(Stop::Attempts);
        }
        // What another attempt of this call was told holds too, unless this one was never received.
        match if self.hedges > 0 && repeat.is_free() { self.repeat } else { repeat } {
            Repeat::Safe | Repeat::Unreached | Repeat::Wanted => {}
            Repeat::Unsafe => return Err(Stop::Unsafe),
            Repeat::Unwanted => return Err(Stop::Unwanted),
            Repeat::Final => return Err(Stop::Final),
        }
        let others = parts.hosts.gates().len() > 1;
        let enforced = parts.stance.of(Policy::Retry) == Enforcement::Enforced;
        if repeat == Repeat::Unreached && others && enforced && now < self.request.deadline {
            return Ok(Next::Elsewhere);
        }
        let (wait, paid) = self.next_wait(now, outcome, parts, rng)?;
        Ok(Next::After(wait, paid))
    }

    /// The wait before the next attempt, paid for; or why there is none.
    fn next_wait<F: Ownership>(
        &self,
        now: Time,
        outcome: Outcome,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) -> Result<(Span, Paid), Stop> {
        let mut wait = self.config.backoff.wait(self.tries() - 1, self.last_wait, rng);
        if let Outcome::Overloaded { retry_after: Some(asked) } = outcome {
            wait = wait.max(asked.min(RETRY_AFTER_MAX));
        }
        if now + wait >= self.request.deadline {
            return Err(Stop::Deadline);
        }
        match parts.stance.of(Policy::Retry) {
            Enforcement::Enforced => {}
            Enforcement::Shadow => return Err(parts.shared.with(ONE, |shared| shared.retry_in_shadow(now))),
            Enforcement::Off => return Err(Stop::Unenforced),
        }
        match parts.shared.with(ONE, |shared| shared.pay(now)) {
            Some(paid) => Ok((wait, paid)),
            None => Err(Stop::Budget),
        }
    }

    /// Attempts so far that were no hedges.
    fn tries(&self) -> u32 {
        self.attempts - self.hedges
    }

    /// The attempt in this lane, if it is under way, answered: the others have lost.
    fn won<F: Ownership>(&mut self, now: Time, lane: Lane, outcome: Outcome, parts: &Parts<'_, F>) {
        let Some((flight, others)) = self.flights.stand(lane) else { return };
        if outcome == Outcome::Success {
            parts.shared.with(ONE, |shared| {
                shared.succeeded(now, flight.elapsed(now));
                if flight.kind == Kind::Hedge {
                    shared.with_hedge(|hedge| hedge.won());
                }
            });
        }
        for other in others {
            self.losers.push(other.lane);
            give_up(now, other, Outcome::Superseded, parts);
        }
        tell(now, flight, outcome, parts);
        self.over(Verdict::Answered { stop: None });
    }

    fn release_standing<F: Ownership>(&mut self, now: Time, parts: &Parts<'_, F>) {
        if let Some((host, ticket)) = self.take_ticket() {
            parts.hosts.release(now, host, ticket);
        }
    }

    fn finish(&mut self, verdict: Verdict) -> Step {
        self.over(verdict);
        Step::Finish(verdict)
    }

    /// Ends the call; returns the state before.
    fn over(&mut self, verdict: Verdict) -> State {
        core::mem::replace(&mut self.state, State::Over(verdict))
    }
}

/// When an attempt is given up whose time begins at `begun`.
#[inline]
fn given_up_at(begun: Time, longest: Option<Span>, deadline: Time) -> Time {
    longest.map_or(Time::MAX, |span| begun + span).min(deadline)
}

#[cfg(test)]
mod tests;
