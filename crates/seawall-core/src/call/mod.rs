//! The call: the course of one logical call through its attempts, said once.
//!
//! **Prevents** the many small mistakes of hand-written retry loops: attempts past the deadline,
//! retries that nobody pays for, a timer for each attempt, an answer lost because a later attempt
//! could not be made.
//!
//! ```text
//!          pick: host and ticket            outcome: final
//!   Ready ───────────────────────▶ InFlight ─────────────▶ Finish
//!     ▲                              │
//!     └────────── Backoff ◀──────────┘ outcome: failed, may be repeated, paid for
//! ```
//!
//! **Mechanics.** Sans-I/O: [`Call::poll`] says what to do next, the driver does it and reports
//! with [`Call::on_outcome`]. Poll again after every report and when the time of
//! [`Step::WaitUntil`] has come. Picking a host and asking its back gate happen in here, so that no
//! driver copies them; a refusal by one host's back gate tries the next and spends neither attempt
//! nor budget. A retry is paid for *before* its backoff begins.
//!
//! **Edges.** Outcomes after the end are ignored. When the last attempt failed and no other may be
//! made, the driver still holds that attempt's answer and returns it: a real error is worth more
//! than ours. An attempt that the call's own deadline cut short after less than a quarter of the
//! whole time is not blamed on the host.

mod hosts;

use crate::decision::Rejection;
use crate::gate::{Own, Ownership, Ticket};
use crate::outcome::Outcome;
use crate::request::{Key, Request};
use crate::retry::backoff::Backoff;
use crate::retry::budget::Budget;
use crate::rng::Rng;
use crate::time::{Span, Time};

pub use hosts::{Config as HostsConfig, Hosts, Member, Snapshot as HostSnapshot};

/// The most attempts of one call.
pub const ATTEMPTS_MAX: u32 = 10;

/// The longest `Retry-After` that is obeyed.
pub const RETRY_AFTER_MAX: Span = Span::from_secs(300);

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Attempts, the first included, 1 to [`ATTEMPTS_MAX`]; default 3.
    pub attempts: u32,
    /// The longest that one attempt may take; `None` for as long as the call has.
    pub per_attempt: Option<Span>,
    /// The wait before a retry.
    pub backoff: Backoff,
}

impl Default for Config {
    fn default() -> Config {
        Config { attempts: 3, per_attempt: None, backoff: Backoff::default() }
    }
}

/// Whether doing it twice is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It may be sent again.
    Safe,
    /// It must not.
    Unsafe,
}

/// Names an attempt under way, for outcomes and tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lane(u32);

/// What the driver shall do.
#[derive(Debug)]
pub enum Step {
    /// Send the request to this host.
    Send(Attempt),
    /// Nothing, until then; or until an outcome is known.
    WaitUntil(Time),
    /// Give up the attempt in this lane: nobody waits for its answer any more.
    Cancel {
        /// The lane of the attempt.
        lane: Lane,
    },
    /// The call is over.
    Finish(Verdict),
}

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its name.
    pub lane: Lane,
    /// Its number, from 1.
    pub number: u32,
    /// The host, by its place among the hosts.
    pub host: usize,
    /// When it is given up.
    pub deadline: Time,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The last answer (or error) that the driver holds stands; if it is a failure, why no attempt
    /// followed. A driver that holds none, because every attempt timed out, says so itself.
    Answered {
        /// Why no other attempt was made; `None` when none was needed.
        stop: Option<Stop>,
    },
    /// It was refused before any attempt.
    Rejected(Rejection),
    /// The deadline passed without an answer.
    Expired,
}

/// Why a failed attempt was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// All attempts are used up.
    Attempts,
    /// The retry budget is empty.
    Budget,
    /// Sending it twice could do harm.
    Unsafe,
    /// The wait would outlast the deadline.
    Deadline,
    /// No host's back gate let it pass.
    Rejected(Rejection),
}

/// What calls to one upstream share.
pub struct Parts<'a, F: Ownership> {
    /// Its hosts.
    pub hosts: &'a Hosts<F>,
    /// What pays for retries; `None` for retries without a budget, as only a naive client in the
    /// lab makes them.
    pub budget: Option<&'a F::Of<Budget>>,
}

#[derive(Debug)]
enum State {
    Ready,
    InFlight { host: usize, ticket: Ticket, begun: Time, until: Time },
    Backoff { since: Time, until: Time },
    Over(Verdict),
}

/// One logical call.
#[derive(Debug)]
pub struct Call {
    config: Config,
    request: Request,
    repeat: Repeat,
    begun: Time,
    attempts: u32,
    last_wait: Span,
    waited: Span,
    state: State,
    /// The host and ticket of the answer that stands, until its body ends.
    standing: Option<(usize, Ticket)>,
}

impl Call {
    /// A call whose deadline is that of `request`. `repeat` says whether it may be sent again
    /// after an attempt that never answered.
    pub fn new(config: Config, request: Request, repeat: Repeat, now: Time) -> Call {
        Call {
            config,
            request,
            repeat,
            begun: now,
            attempts: 0,
            last_wait: Span::ZERO,
            waited: Span::ZERO,
            state: State::Ready,
            standing: None,
        }
    }

    /// Attempts sent so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Time spent in backoff so far.
    pub fn waited(&self) -> Span {
        self.waited
    }

    /// What to do next.
    pub fn poll<F: Ownership>(&mut self, now: Time, parts: &Parts<'_, F>, rng: &mut Rng) -> Step {
        match &self.state {
            State::Over(verdict) => Step::Finish(*verdict),
            State::Ready => self.send(now, parts, rng),
            State::Backoff { since, until } if now >= *until => {
                self.waited += until.since(*since);
                self.state = State::Ready;
                self.send(now, parts, rng)
            }
            State::Backoff { until, .. } => Step::WaitUntil(*until),
            State::InFlight { until, .. } if now < *until => Step::WaitUntil(*until),
            State::InFlight { begun, .. } => {
                let lane = Lane(self.attempts);
                let whole = self.request.deadline.since(self.begun);
                let cut_short =
                    now >= self.request.deadline && now.since(*begun).times(4) < whole && self.attempts > 1;
                let outcome = if cut_short { Outcome::Ignored } else { Outcome::TimedOut };
                self.attempt_failed(now, outcome, self.repeat, parts, rng);
                self.release_standing(now, parts); // There is no answer whose body could keep it.
                if self.request.deadline <= now {
                    self.state = State::Over(Verdict::Expired);
                }
                Step::Cancel { lane }
            }
        }
    }

    /// Takes in how the attempt in `lane` went; `repeat` says whether it may be sent again after
    /// this outcome. Ignored when that attempt is no longer under way.
    pub fn on_outcome<F: Ownership>(
        &mut self,
        now: Time,
        lane: Lane,
        outcome: Outcome,
        repeat: Repeat,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) {
        if lane != Lane(self.attempts) || !matches!(self.state, State::InFlight { .. }) {
            return;
        }
        if outcome == Outcome::Success
            && let Some(budget) = parts.budget
        {
            budget.with(Key(0), Budget::deposit);
        }
        if outcome.is_failure() {
            self.attempt_failed(now, outcome, repeat, parts, rng);
        } else {
            self.stand(now, outcome, None, parts);
        }
    }

    /// The ticket of the answer that stands and its host: release it when the answer's body ends.
    pub fn take_ticket(&mut self) -> Option<(usize, Ticket)> {
        self.standing.take()
    }

    /// The caller has gone: whatever the call holds is given back.
    pub fn abandon<F: Ownership>(&mut self, now: Time, parts: &Parts<'_, F>) {
        match core::mem::replace(&mut self.state, State::Over(Verdict::Expired)) {
            State::InFlight { host, ticket, begun, .. } => {
                parts.hosts.settle(now, host, ticket, Outcome::Cancelled, now.since(begun));
            }
            State::Backoff { .. } => self.refund(parts),
            State::Ready | State::Over(_) => {}
        }
        self.release_standing(now, parts);
    }

    fn release_standing<F: Ownership>(&mut self, now: Time, parts: &Parts<'_, F>) {
        if let Some((host, ticket)) = self.standing.take() {
            parts.hosts.release(now, host, ticket);
        }
    }

    fn send<F: Ownership>(&mut self, now: Time, parts: &Parts<'_, F>, rng: &mut Rng) -> Step {
        if self.request.deadline <= now {
            if self.attempts > 0 {
                self.refund(parts);
            }
            return self.finish(Verdict::Expired);
        }
        match parts.hosts.pick(now, &self.request, None, rng) {
            Ok((host, ticket)) => {
                self.attempts += 1;
                let longest = self.config.per_attempt.map_or(Time::MAX, |span| now + span);
                let until = longest.min(self.request.deadline);
                self.state = State::InFlight { host, ticket, begun: now, until };
                Step::Send(Attempt {
                    lane: Lane(self.attempts),
                    number: self.attempts,
                    host,
                    deadline: until,
                })
            }
            Err(rejection) if self.attempts == 0 => self.finish(Verdict::Rejected(rejection)),
            Err(rejection) => {
                self.refund(parts);
                self.finish(Verdict::Answered { stop: Some(Stop::Rejected(rejection)) })
            }
        }
    }

    fn finish(&mut self, verdict: Verdict) -> Step {
        self.state = State::Over(verdict);
        Step::Finish(verdict)
    }

    /// The attempt under way failed: schedules the next, or lets its answer stand.
    fn attempt_failed<F: Ownership>(
        &mut self,
        now: Time,
        outcome: Outcome,
        repeat: Repeat,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) {
        match self.next_wait(now, outcome, repeat, parts, rng) {
            Err(stop) => self.stand(now, outcome, Some(stop), parts),
            Ok(wait) => {
                let backoff = State::Backoff { since: now, until: now + wait };
                if let State::InFlight { host, ticket, begun, .. } =
                    core::mem::replace(&mut self.state, backoff)
                {
                    parts.hosts.settle(now, host, ticket, outcome, now.since(begun));
                }
                self.last_wait = wait;
            }
        }
    }

    /// The wait before the next attempt, paid for; or why there is none.
    fn next_wait<F: Ownership>(
        &self,
        now: Time,
        outcome: Outcome,
        repeat: Repeat,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) -> Result<Span, Stop> {
        if self.attempts >= self.config.attempts.min(ATTEMPTS_MAX) {
            return Err(Stop::Attempts);
        }
        if repeat == Repeat::Unsafe {
            return Err(Stop::Unsafe);
        }
        let mut wait = self.config.backoff.wait(self.attempts - 1, self.last_wait, rng);
        if let Outcome::Overloaded { retry_after: Some(asked) } = outcome {
            wait = wait.max(asked.min(RETRY_AFTER_MAX));
        }
        if now + wait >= self.request.deadline {
            return Err(Stop::Deadline);
        }
        match parts.budget {
            Some(budget) if !budget.with(Key(0), |budget| budget.withdraw(now)) => Err(Stop::Budget),
            _ => Ok(wait),
        }
    }

    /// The answer of the attempt under way stands.
    fn stand<F: Ownership>(&mut self, now: Time, outcome: Outcome, stop: Option<Stop>, parts: &Parts<'_, F>) {
        let over = State::Over(Verdict::Answered { stop });
        if let State::InFlight { host, mut ticket, begun, .. } = core::mem::replace(&mut self.state, over) {
            parts.hosts.report(now, host, &mut ticket, outcome, now.since(begun));
            self.standing = Some((host, ticket));
        }
    }

    fn refund<F: Ownership>(&self, parts: &Parts<'_, F>) {
        if let Some(budget) = parts.budget {
            budget.with(Key(0), Budget::refund);
        }
    }
}

#[cfg(test)]
mod tests;
