//! How many may be in flight: fixed, or learned in one of three ways.

use alloc::boxed::Box;

use super::adaptive::{self, Adaptive};
use super::aimd::{self, Aimd};
use super::vegas::{self, Vegas};
use crate::outcome::Outcome;
use crate::setting::{SettingError, check};
use crate::time::{Span, Time};

/// How many may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// This many; zero counts as 1.
    Fixed(u32),
    /// More on success, less on drops.
    Aimd(aimd::Config),
    /// By the queue inside the callee that single latencies tell of.
    Vegas(vegas::Config),
    /// By the gradient of mean latency against the no-load latency, with a veto for throughput.
    Adaptive(adaptive::Config),
}

impl Ceiling {
    /// This many, if it is at least 1.
    pub fn fixed(places: u32) -> Result<Ceiling, SettingError> {
        check(places >= 1, "max", "at least 1")?;
        Ok(Ceiling::Fixed(places))
    }

    /// The most that it may ever be.
    pub fn max(&self) -> u32 {
        match self {
            Ceiling::Fixed(places) => (*places).max(1),
            Ceiling::Aimd(config) => config.max(),
            Ceiling::Vegas(config) => config.max(),
            Ceiling::Adaptive(config) => config.max(),
        }
    }
}

/// A ceiling at work.
#[derive(Debug)]
pub(super) enum Limiter {
    Fixed(u32),
    Aimd(Aimd),
    Vegas(Vegas),
    Adaptive(Box<Adaptive>),
}

impl Limiter {
    pub(super) fn new(config: Ceiling, now: Time) -> Limiter {
        match config {
            Ceiling::Fixed(places) => Limiter::Fixed(places.max(1)),
            Ceiling::Aimd(config) => Limiter::Aimd(Aimd::new(config)),
            Ceiling::Vegas(config) => Limiter::Vegas(Vegas::new(config)),
            Ceiling::Adaptive(config) => Limiter::Adaptive(Box::new(Adaptive::new(config, now))),
        }
    }

    /// New settings; what was learned stays, unless the kind is another.
    pub(super) fn configure(&mut self, config: Ceiling, now: Time) {
        match (self, config) {
            (Limiter::Aimd(aimd), Ceiling::Aimd(config)) => aimd.configure(config),
            (Limiter::Vegas(vegas), Ceiling::Vegas(config)) => vegas.configure(config),
            (Limiter::Adaptive(adaptive), Ceiling::Adaptive(config)) => adaptive.configure(config),
            (limiter, config) => *limiter = Limiter::new(config, now),
        }
    }

    /// The most that may be in flight, at least 1.
    pub(super) fn limit(&self) -> u32 {
        match self {
            Limiter::Fixed(places) => *places,
            Limiter::Aimd(aimd) => aimd.limit(),
            Limiter::Vegas(vegas) => vegas.limit(),
            Limiter::Adaptive(adaptive) => adaptive.limit(),
        }
    }

    /// Takes in a call that was sent when `in_flight` were under way, itself included.
    pub(super) fn sample(&mut self, now: Time, in_flight: u32, latency: Span, outcome: Outcome) {
        match self {
            Limiter::Fixed(_) => {}
            Limiter::Aimd(aimd) => aimd.sample(now, in_flight, latency, outcome),
            Limiter::Vegas(vegas) => vegas.sample(now, in_flight, latency, outcome),
            Limiter::Adaptive(adaptive) => adaptive.sample(now, in_flight, latency, outcome),
        }
    }

    /// Whether the limit is one that the callee is known to need; not while it is still looked for.
    pub(super) fn is_found(&self) -> bool {
        match self {
            Limiter::Adaptive(adaptive) => adaptive.is_found(),
            Limiter::Fixed(_) | Limiter::Aimd(_) | Limiter::Vegas(_) => true,
        }
    }

    /// The no-load latency, once it is known.
    pub(super) fn baseline(&self) -> Option<Span> {
        match self {
            Limiter::Fixed(_) | Limiter::Aimd(_) => None,
            Limiter::Vegas(vegas) => vegas.baseline(),
            Limiter::Adaptive(adaptive) => adaptive.baseline(),
        }
    }
}
