//! Breaker: stop calling what fails, probe it, bring it back slowly.
//!
//! **Prevents** callers from waiting on a callee that cannot answer, and the callee from being
//! buried while it recovers.
//!
//! ```text
//!            rate ≥ threshold                     after `open`
//!   Closed ───────────────────▶ Open ─────────────────────────────▶ HalfOpen
//!     ▲                          ▲                                   │    │
//!     │                          └───── probes: rate ≥ threshold ────┘    │
//!     └───────────────────────────────── probes: rate < threshold ────────┘
//! ```
//!
//! **Mechanics.** Closed, it keeps the last `window` outcomes and opens when at least `min_calls`
//! are there and the share of failures reaches `failure_rate`. Open, it refuses everything for
//! `open`. Half-open, it lends out `probes` leases; when all their outcomes are in, their share of
//! failures decides. The gate begins a ramp when it closes, so that traffic comes back slowly.
//!
//! **Edges.** Each transition begins an epoch, and a result that was admitted in an earlier epoch
//! is ignored: late failures from before the trip cannot reopen what has recovered. A probe is a
//! lease with a deadline: when it is cancelled or ignored its lease comes back at once, when it is
//! lost or hangs the lease comes back after `lease`, so that nothing locks the breaker. Leases
//! have counters for names; a lease that ran out and reports late counts for nothing.

use alloc::vec::Vec;

use crate::decision::{Policy, Reason, Rejection};
use crate::event::{Change, Events};
use crate::measure::window::Window;
use crate::outcome::Outcome;
use crate::time::{Span, Time};

/// The most probes at a time.
pub const PROBES_MAX: u32 = 100;

/// The largest window.
pub const WINDOW_MAX: u32 = 10_000;

/// When a breaker opens and how it comes back. [`Breaker::new`] takes only a checked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Share of failures that opens it, in parts per million, 1 to 1 000 000; default 50 %.
    pub failure_rate_ppm: u32,
    /// Outcomes that it remembers, 1 to [`WINDOW_MAX`]; default 100.
    pub window: u32,
    /// Outcomes below which it never opens, 1 to `window`; default 20.
    pub min_calls: u32,
    /// How long it refuses; longer than zero, default 5 s.
    pub open: Span,
    /// Probes whose outcomes decide, 1 to [`PROBES_MAX`]; default 3.
    pub probes: u32,
    /// How long a probe may take before its lease is lent again; longer than zero, default 10 s.
    pub lease: Span,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            failure_rate_ppm: 500_000,
            window: 100,
            min_calls: 20,
            open: Span::from_secs(5),
            probes: 3,
            lease: Span::from_secs(10),
        }
    }
}

/// Checked [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config(Settings);

/// Which setting is out of its range, and the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The setting.
    pub key: &'static str,
    /// What it may be.
    pub range: &'static str,
}

impl core::fmt::Display for SettingError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "`{}` must be {}", self.key, self.range)
    }
}

impl core::error::Error for SettingError {}

impl Config {
    /// Checks every setting against its range.
    pub fn new(settings: Settings) -> Result<Config, SettingError> {
        let check = |holds: bool, key, range| if holds { Ok(()) } else { Err(SettingError { key, range }) };
        check(
            (1..=1_000_000).contains(&settings.failure_rate_ppm),
            "failure_rate",
            "above 0 % and at most 100 %",
        )?;
        check((1..=WINDOW_MAX).contains(&settings.window), "window", "1 to 10 000 calls")?;
        check((1..=settings.window).contains(&settings.min_calls), "min_calls", "1 to `window`")?;
        check(settings.open > Span::ZERO, "open", "longer than zero")?;
        check((1..=PROBES_MAX).contains(&settings.probes), "probes", "1 to 100")?;
        check(settings.lease > Span::ZERO, "lease", "longer than zero")?;
        Ok(Config(settings))
    }
}

#[derive(Debug)]
enum State {
    Closed { window: Window },
    Open { until: Time },
    HalfOpen { leases: Vec<Lease>, window: Window },
}

#[derive(Debug)]
struct Lease {
    id: u64,
    ends: Time,
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
}

impl Mode {
    /// Its name in metrics and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Closed => "closed",
            Mode::Open => "open",
            Mode::HalfOpen => "half_open",
        }
    }
}

/// Plain values of a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// Its state.
    pub mode: Mode,
    /// Failures among the outcomes it holds, 0 to 1.
    pub failure_rate: f64,
    /// How often it opened.
    pub opened: u64,
    /// Calls that it refused.
    pub refused: u64,
}

/// Admission by a breaker: names the epoch, and the lease of a probe.
#[derive(Debug)]
pub struct Pass {
    epoch: u64,
    lease: Option<u64>,
}

/// A circuit breaker.
#[derive(Debug)]
pub struct Breaker {
    config: Config,
    state: State,
    epoch: u64,
    next_lease: u64,
    opened: u64,
    refused: u64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(config: Config) -> Breaker {
        let window = Window::new(config.0.window);
        Breaker { config, state: State::Closed { window }, epoch: 0, next_lease: 0, opened: 0, refused: 0 }
    }

    /// Lets the call pass, or refuses it.
    pub fn admit(&mut self, now: Time, events: &mut Events) -> Result<Pass, Rejection> {
        if let State::Open { until } = self.state
            && now >= until
        {
            let window = Window::new(self.config.0.probes);
            self.enter(State::HalfOpen { leases: Vec::new(), window });
            events.push(now, Change::BreakerHalfOpen);
        }
        let passed = match &mut self.state {
            State::Closed { .. } => Ok(None),
            State::Open { until } => Err(until.since(now)),
            State::HalfOpen { leases, window } => {
                leases.retain(|lease| lease.ends > now);
                if leases.len() as u32 + window.held() < self.config.0.probes {
                    let id = self.next_lease;
                    self.next_lease += 1;
                    leases.push(Lease { id, ends: now + self.config.0.lease });
                    Ok(Some(id))
                } else {
                    Err(leases.iter().map(|lease| lease.ends.since(now)).min().unwrap_or(self.config.0.open))
                }
            }
        };
        match passed {
            Ok(lease) => Ok(Pass { epoch: self.epoch, lease }),
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
        let settings = self.config.0;
        let counts = outcome.is_failure() || outcome == Outcome::Success;
        let failed = outcome.is_failure();
        match &mut self.state {
            State::Open { .. } => {}
            State::Closed { window } => {
                if !counts {
                    return;
                }
                window.add(failed);
                if window.held() >= settings.min_calls && reached(window, settings.failure_rate_ppm) {
                    self.trip(now, events);
                }
            }
            State::HalfOpen { leases, window } => {
                let held = leases.len();
                leases.retain(|lease| Some(lease.id) != pass.lease);
                if held == leases.len() || !counts {
                    return; // The lease had run out, or comes back unused.
                }
                window.add(failed);
                if window.held() < settings.probes {
                    return;
                }
                if reached(window, settings.failure_rate_ppm) {
                    return self.trip(now, events);
                }
                self.enter(State::Closed { window: Window::new(settings.window) });
                events.push(now, Change::BreakerClosed);
            }
        }
    }

    /// Whether an admission belongs to the present epoch, so that its outcome counts.
    pub fn is_current(&self, pass: &Pass) -> bool {
        pass.epoch == self.epoch
    }

    /// Changes the settings. An open breaker stays open, a window of another size starts empty, and
    /// with another number of probes the probing starts anew.
    pub fn configure(&mut self, config: Config) {
        if matches!(self.state, State::HalfOpen { .. }) && config.0.probes != self.config.0.probes {
            self.enter(State::HalfOpen { leases: Vec::new(), window: Window::new(config.0.probes) });
        }
        if let State::Closed { window } = &mut self.state
            && config.0.window != self.config.0.window
        {
            *window = Window::new(config.0.window);
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
        let rate = |window: &Window| f64::from(window.failed()) / f64::from(window.held().max(1));
        let (mode, failure_rate) = match &self.state {
            State::Closed { window } => (Mode::Closed, rate(window)),
            State::Open { .. } => (Mode::Open, 1.0),
            State::HalfOpen { window, .. } => (Mode::HalfOpen, rate(window)),
        };
        Snapshot { mode, failure_rate, opened: self.opened, refused: self.refused }
    }

    fn trip(&mut self, now: Time, events: &mut Events) {
        let failure_rate = self.snapshot().failure_rate;
        self.opened += 1;
        self.enter(State::Open { until: now + self.config.0.open });
        events.push(now, Change::BreakerOpened { failure_rate });
    }

    fn enter(&mut self, state: State) {
        self.epoch += 1;
        self.state = state;
    }
}

fn reached(window: &Window, failure_rate_ppm: u32) -> bool {
    u64::from(window.failed()) * 1_000_000 >= u64::from(window.held()) * u64::from(failure_rate_ppm)
}

#[cfg(test)]
mod tests;
