//! Breaker: stop calling what fails or is slow, probe it, bring it back slowly.
//!
//! **Prevents** callers from waiting on a callee that cannot answer, and the callee from being
//! buried while it recovers.
//!
//! ```text
//!            a share or a row is reached          after the open time
//!   Closed ─────────────────────────────▶ Open ─────────────────────▶ HalfOpen
//!     ▲                                    ▲                            │   │
//!     │                                    └───── probes: share ≥ ──────┘   │
//!     └────────────────────────────────────────── probes: share < ──────────┘
//!
//!   any state ── force ──▶ ForcedOpen · ForcedClosed · MetricsOnly ── reset ──▶ Closed
//! ```
//!
//! **Mechanics.** Closed, it looks at a window of calls, by count or by time, and opens when at
//! least `min_calls` are there and the share of failures or of slow calls is reached, or when so many
//! failed in a row. Open, it refuses everything. Half-open, it lends out `probes` leases; when all
//! their outcomes are in, their shares decide. The open time doubles with every probing that fails
//! and with every relapse that comes sooner than the last open time had lasted, up to a cap; a tenth
//! of it is drawn at random, so that instances do not probe in step. Whoever drives it begins a ramp
//! when it closes, so that traffic comes back slowly. [`Concurrent`] shares one between threads,
//! [`Keyed`] keeps one for each key.
//!
//! **Edges.** Each transition begins an epoch, and a result that was admitted in an earlier epoch
//! is ignored: late failures from before the trip cannot reopen what has recovered. A probe is a
//! lease with a deadline: when it is cancelled or ignored its lease comes back at once, when it is
//! lost or hangs the lease comes back after `lease`, so that nothing locks the breaker. Leases
//! have counters for names; a lease that ran out and reports late counts for nothing. A call that
//! was refused by who says until when (503 with `Retry-After`) says nothing: to open on refusals would cut
//! off what the callee still serves, and of breakers in a row each would keep the one above it open. A call that
//! was given up says nothing, unless it had taken as long as a slow one by then: then it is one, or
//! callers who do not wait would never open the breaker of a callee that hangs. A timeout around the call from
//! outside, such as tokio's, and a panic are such calls: to have them count, give the call a deadline that the
//! driver knows (`Pipeline::within`), or set [`Settings::slow`]. An override by
//! hand holds in every state until it is reset, and is kept by a change of settings. A success whose answer
//! breaks off turns into a failure ([`Breaker::broke`]): in the shares, in the row that it had ended, and among the
//! probes. Probes are judged by the heads of their answers, or streams would keep the breaker from closing; as long
//! as the lease of one would go, its answer may still break off, and the probes be judged anew.

mod concurrent;
mod keyed;
mod settings;

use alloc::vec::Vec;
use core::num::NonZeroU64;

use crate::decision::{Policy, Reason, Rejection};
use crate::event::{Change, Events};
use crate::measure::row::Row;
use crate::measure::window::{Mark, Tally, Window};
use crate::outcome::Outcome;
use crate::rng::Rng;
use crate::time::{Span, Time};

pub use crate::measure::window::Extent;
pub use concurrent::{Concurrent, Front};
pub use keyed::{Keyed, KeyedPass, KeyedSnapshot};
pub use settings::{Config, PROBES_MAX, Settings, Slow, WINDOW_MAX, WINDOW_SPAN_MAX};

/// The share of the open time that is drawn on top of it.
pub const SPREAD: f64 = 0.1;
/// The most that the open time doubles.
const DOUBLINGS_MAX: u32 = 16;

/// An override by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// Everything is refused.
    Open,
    /// Everything passes and nothing is counted.
    Closed,
    /// Everything passes and is counted, and nothing opens it.
    MetricsOnly,
}

#[derive(Debug)]
enum State {
    Closed { window: Window, row: Row },
    Open { until: Time },
    HalfOpen { leases: Vec<Lease>, window: Window },
    Forced { how: Forced, window: Window },
}

#[derive(Debug)]
struct Lease {
    id: NonZeroU64,
    ends: Time,
}

/// The probes that closed a breaker.
#[derive(Debug)]
struct Proof {
    /// When they began.
    since: Time,
    window: Window,
}

/// What a breaker shows of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// Only probes pass.
    HalfOpen,
    /// Calls are refused by hand.
    ForcedOpen,
    /// Calls pass by hand, uncounted.
    ForcedClosed,
    /// Calls pass by hand, counted.
    MetricsOnly,
}

impl Mode {
    /// Its name in metrics and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Closed => "closed",
            Mode::Open => "open",
            Mode::HalfOpen => "half_open",
            Mode::ForcedOpen => "forced_open",
            Mode::ForcedClosed => "forced_closed",
            Mode::MetricsOnly => "metrics_only",
        }
    }
}

/// Plain values of a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// Its state.
    pub mode: Mode,
    /// Failures among the calls it holds, 0 to 1.
    pub failure_rate: f64,
    /// Slow calls among the calls it holds, 0 to 1.
    pub slow_rate: f64,
    /// How often it opened.
    pub opened: u64,
    /// Calls that it refused.
    pub refused: u64,
}

/// Admission by a breaker: names the epoch, and the lease of a probe.
#[derive(Debug)]
pub struct Pass {
    epoch: u64,
    lease: Option<NonZeroU64>,
    since: Time,
}

impl Pass {
    /// When the call began.
    pub(crate) fn since(&self) -> Time {
        self.since
    }

    /// So much of the call's time does not make it slow.
    pub(crate) fn spare(&mut self, time: Span) {
        self.since += time;
    }
}

/// A circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    config: Config,
    state: State,
    epoch: u64,
    /// When the epoch began.
    since: Time,
    /// Why it is closed; `None` when no probes closed it.
    proof: Option<Proof>,
    next_lease: NonZeroU64,
    rng: Rng,
    /// How often the open time has doubled, and the last one.
    doublings: u32,
    open_time: Span,
    opened: u64,
    refused: u64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(config: Config, now: Time) -> Breaker {
        Breaker {
            config,
            state: State::closed(&config, now),
            epoch: 0,
            since: now,
            proof: None,
            next_lease: NonZeroU64::MIN,
            rng: Rng::new(config.0.seed.unwrap_or(0), 0),
            doublings: 0,
            open_time: Span::ZERO,
            opened: 0,
            refused: 0,
        }
    }

    /// Lets the call pass, or refuses it.
    pub fn admit(&mut self, now: Time, events: &mut Events) -> Result<Pass, Rejection> {
        if let State::Open { until } = self.state
            && now >= until
        {
            let window = Window::new(Extent::Calls(self.config.0.probes), now);
            self.enter(now, State::HalfOpen { leases: Vec::new(), window });
            events.push(now, Change::BreakerHalfOpen);
        }
        let passed = match &mut self.state {
            State::Closed { .. } => Ok(None),
            State::Forced { how: Forced::Open, .. } => Err(self.config.0.open),
            State::Forced { .. } => Ok(None),
            State::Open { until } => Err(until.since(now)),
            State::HalfOpen { leases, window } => {
                leases.retain(|lease| lease.ends > now);
                if (leases.len() as u32) + window.tally().calls < self.config.0.probes {
                    let id = self.next_lease;
                    self.next_lease = self.next_lease.saturating_add(1);
                    leases.push(Lease { id, ends: now + self.config.0.lease });
                    Ok(Some(id))
                } else {
                    Err(leases.iter().map(|lease| lease.ends.since(now)).min().unwrap_or(self.config.0.open))
                }
            }
        };
        match passed {
            Ok(lease) => Ok(Pass { epoch: self.epoch, lease, since: now }),
            Err(wait) => {
                self.refused += 1;
                Err(Rejection::new(Policy::Breaker, Reason::Open, wait))
            }
        }
    }

    /// Takes in how an admitted call went.
    pub fn report(&mut self, now: Time, pass: &Pass, outcome: Outcome, events: &mut Events) {
        if !self.is_current(pass) {
            return;
        }
        let mark = self.mark(now, pass, outcome);
        let given_up = matches!(outcome, Outcome::Cancelled | Outcome::Superseded);
        let failed = outcome.is_failure() && !outcome.is_refusal();
        let counts = failed || outcome == Outcome::Success || given_up && mark.slow;
        let settings = self.config.0;
        match &mut self.state {
            State::Open { .. } | State::Forced { how: Forced::Open | Forced::Closed, .. } => {}
            State::Forced { window, .. } => {
                if counts {
                    window.add(now, mark);
                }
            }
            State::Closed { window, row } => {
                if !counts {
                    return;
                }
                window.add(now, mark);
                match outcome {
                    _ if mark.failed => row.fail(),
                    Outcome::Success => row.succeed(1),
                    _ => {}
                }
                if is_spent(&settings, row, window.tally()) {
                    self.trip(now, events);
                }
            }
            State::HalfOpen { leases, window } => {
                let held = leases.len();
                leases.retain(|lease| Some(lease.id) != pass.lease);
                if held == leases.len() || !counts {
                    return; // The lease had run out, or comes back unused.
                }
                window.add(now, mark);
                if window.tally().calls < settings.probes {
                    return;
                }
                if is_reached(&settings, settings.probes, window.tally()) {
                    return self.trip(now, events);
                }
                let since = self.since;
                if let State::HalfOpen { window, .. } = self.close(now, events) {
                    self.proof = Some(Proof { since, window });
                }
            }
        }
    }

    /// Takes in that a call has failed which began then and was reported as a success: its answer broke off.
    /// Of a call from before the present epoch it says nothing, but that of a probe whose lease would still go:
    /// if the probes would not have closed it so, it is open again.
    pub fn broke(&mut self, now: Time, begun: Time, events: &mut Events) {
        if begun < self.since {
            return self.disprove(now, begun, events);
        }
        let settings = self.config.0;
        match &mut self.state {
            State::Open { .. } | State::Forced { how: Forced::Open | Forced::Closed, .. } => {}
            State::Forced { window, .. } => window.fail_one(now),
            State::Closed { window, row } => {
                window.fail_one(now);
                row.break_off();
                if is_spent(&settings, row, window.tally()) {
                    self.trip(now, events);
                }
            }
            State::HalfOpen { window, .. } => {
                // A probe whose lease had run out was not counted.
                if window.tally().failed < window.tally().calls {
                    window.fail_one(now);
                }
            }
        }
    }

    /// One of the probes that closed it has failed after all.
    fn disprove(&mut self, now: Time, begun: Time, events: &mut Events) {
        let settings = self.config.0;
        let Some(Proof { since, window }) = &mut self.proof else { return };
        if begun < *since || now.since(begun) >= settings.lease {
            return;
        }
        window.fail_one(now);
        let tally = window.tally();
        if is_reached(&settings, tally.calls, tally)
            && let Some(Proof { window, .. }) = self.proof.take()
        {
            // As if it had never been closed.
            self.state = State::HalfOpen { leases: Vec::new(), window };
            self.trip(now, events);
        }
    }

    /// Takes in calls that were admitted in the present epoch and fine. A window that time has
    /// changed since must be told of them first: see [`Front`].
    fn add_fine(&mut self, calls: u32) {
        match &mut self.state {
            State::Closed { window, row } => {
                window.add_fine(calls);
                row.succeed(calls);
            }
            State::Forced { how: Forced::MetricsOnly, window } => window.add_fine(calls),
            _ => {}
        }
    }

    /// Until when fine calls pass and change nothing that the next one would meet: while it is
    /// closed, no failure came last, and enough calls are there for one more to lower the shares.
    fn calm_until(&self) -> Option<Time> {
        match &self.state {
            State::Closed { window, row }
                if row.failures() == 0 && window.tally().calls >= self.config.0.min_calls =>
            {
                Some(window.slides_at())
            }
            _ => None,
        }
    }

    /// Whether an admission belongs to the present epoch, so that its outcome counts.
    pub fn is_current(&self, pass: &Pass) -> bool {
        pass.epoch == self.epoch
    }

    /// When the present epoch began.
    pub(crate) fn since(&self) -> Time {
        self.since
    }

    /// Overrides it by hand, in whatever state it is.
    pub fn force(&mut self, now: Time, how: Forced, events: &mut Events) {
        let window = Window::new(self.config.0.window, now);
        self.enter(now, State::Forced { how, window });
        events.push(now, Change::BreakerForced { mode: self.mode().name() });
    }

    /// Closes it and forgets what was, in whatever state it is; ends an override by hand.
    pub fn reset(&mut self, now: Time, events: &mut Events) {
        (self.doublings, self.open_time) = (0, Span::ZERO);
        self.close(now, events);
    }

    /// Changes the settings. An open breaker stays open, a window of another extent starts empty, and
    /// with another number of probes the probing starts anew.
    pub fn configure(&mut self, now: Time, config: Config) {
        let (from, to) = (self.config.0, config.0);
        if matches!(self.state, State::HalfOpen { .. }) && to.probes != from.probes {
            let window = Window::new(Extent::Calls(to.probes), now);
            self.enter(now, State::HalfOpen { leases: Vec::new(), window });
        }
        if let State::Closed { window, .. } | State::Forced { window, .. } = &mut self.state
            && to.window != from.window
        {
            *window = Window::new(to.window, now);
        }
        if to.seed != from.seed {
            self.rng = Rng::new(to.seed.unwrap_or(0), 0);
        }
        self.config = config;
    }

    /// When asking again could give another answer: the end of the open time.
    pub fn wake_at(&self) -> Option<Time> {
        match self.state {
            State::Open { until } => Some(until),
            _ => None,
        }
    }

    /// Plain values.
    pub fn snapshot(&self) -> Snapshot {
        let tally = match &self.state {
            State::Closed { window, .. } | State::HalfOpen { window, .. } | State::Forced { window, .. } => {
                window.tally()
            }
            State::Open { .. } => Tally { calls: 1, failed: 1, slow: 0 },
        };
        let share = |calls: u32| f64::from(calls) / f64::from(tally.calls.max(1));
        Snapshot {
            mode: self.mode(),
            failure_rate: share(tally.failed),
            slow_rate: share(tally.slow),
            opened: self.opened,
            refused: self.refused,
        }
    }

    /// Its state, without its values.
    pub fn mode(&self) -> Mode {
        match &self.state {
            State::Closed { .. } => Mode::Closed,
            State::Open { .. } => Mode::Open,
            State::HalfOpen { .. } => Mode::HalfOpen,
            State::Forced { how: Forced::Open, .. } => Mode::ForcedOpen,
            State::Forced { how: Forced::Closed, .. } => Mode::ForcedClosed,
            State::Forced { how: Forced::MetricsOnly, .. } => Mode::MetricsOnly,
        }
    }

    fn mark(&self, now: Time, pass: &Pass, outcome: Outcome) -> Mark {
        let slow = self.config.0.slow.is_some_and(|slow| now.since(pass.since) >= slow.after);
        Mark { failed: outcome.is_failure(), slow }
    }

    /// Closes it; says in which state it was.
    fn close(&mut self, now: Time, events: &mut Events) -> State {
        let before = self.enter(now, State::closed(&self.config, now));
        events.push(now, Change::BreakerClosed);
        before
    }

    fn trip(&mut self, now: Time, events: &mut Events) {
        let failure_rate = self.snapshot().failure_rate;
        let relapsed = match &self.state {
            State::Closed { .. } => now.since(self.since) < self.open_time,
            _ => true,
        };
        self.doublings = if relapsed { (self.doublings + 1).min(DOUBLINGS_MAX) } else { 0 };
        let Settings { open, open_max, seed, .. } = self.config.0;
        self.open_time = open.times(1 << self.doublings).min(open_max);
        let drawn = if seed.is_some() { self.open_time.scaled(self.rng.unit() * SPREAD) } else { Span::ZERO };
        self.opened += 1;
        self.enter(now, State::Open { until: now + self.open_time + drawn });
        events.push(now, Change::BreakerOpened { failure_rate });
    }

    /// Begins an epoch in this state; says in which it was.
    fn enter(&mut self, now: Time, state: State) -> State {
        self.epoch += 1;
        self.since = now;
        self.proof = None;
        core::mem::replace(&mut self.state, state)
    }
}

impl State {
    fn closed(config: &Config, now: Time) -> State {
        State::Closed { window: Window::new(config.0.window, now), row: Row::default() }
    }
}

/// Whether a closed breaker opens.
fn is_spent(settings: &Settings, row: &Row, tally: Tally) -> bool {
    let in_row = settings.consecutive.is_some_and(|most| row.failures() >= most);
    in_row || is_reached(settings, settings.min_calls, tally)
}

/// Whether so many calls are there that their shares count, and one of them is reached.
fn is_reached(settings: &Settings, least: u32, tally: Tally) -> bool {
    let share = |part: u32, ppm: u32| u64::from(part) * 1_000_000 >= u64::from(tally.calls) * u64::from(ppm);
    let slow = settings.slow.is_some_and(|slow| share(tally.slow, slow.rate_ppm));
    tally.calls >= least && (share(tally.failed, settings.failure_rate_ppm) || slow)
}

#[cfg(test)]
mod tests;
