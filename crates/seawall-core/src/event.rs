//! What changed inside a gate, pulled by the driver after any verb.

use alloc::collections::VecDeque;

use crate::time::Time;

/// Why a host was ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Too many of its calls failed.
    FailureRate,
    /// Too many failed one after the other.
    Consecutive,
    /// It is too slow for its pool.
    Slow,
}

impl Cause {
    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Cause::FailureRate => "failure_rate",
            Cause::Consecutive => "consecutive",
            Cause::Slow => "slow",
        }
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// A breaker opened, at this share of failures.
    BreakerOpened {
        /// Failures among the calls it held, 0 to 1.
        failure_rate: f64,
    },
    /// A breaker lets probes through.
    BreakerHalfOpen,
    /// A breaker closed; traffic comes back by its ramp.
    BreakerClosed,
    /// A breaker was overridden by hand.
    BreakerForced {
        /// The name of the state that it was put in.
        mode: &'static str,
    },
    /// The concurrency limit moved.
    LimitChanged {
        /// The new limit, in requests in flight.
        limit: u32,
    },
    /// Arrivals exceed the drain: the queue stands.
    QueueStands,
    /// The queue drains again.
    QueueDrains,
    /// A host does worse than its pool and is left out.
    HostEjected {
        /// Why.
        cause: Cause,
    },
    /// The time of an ejected host is over, or hosts are not ejected any more; traffic comes back by its ramp.
    HostReturned,
    /// An ejected host is back at once, because the others cannot carry its load.
    HostRecalled,
    /// A host is held out of the rotation, or in it, by hand.
    HostForced {
        /// The name of how it is held.
        mode: &'static str,
    },
    /// A host is not held by hand any more; from being held out, traffic comes back by its ramp.
    HostReleased,
    /// A host fails its health checks.
    HostUnhealthy,
    /// A host passes its health checks again, or is not checked any more; traffic comes back by its ramp.
    HostHealthy,
    /// So many hosts are out that all are used.
    PanicBegan,
    /// Enough hosts are back.
    PanicEnded,
    /// A route is stopped by hand.
    Blocked,
    /// A blocked route is let in again, slowly.
    Admitting,
    /// All of its traffic passes again.
    Admitted,
}

impl Change {
    /// Its name in logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Change::BreakerOpened { .. } => "breaker_opened",
            Change::BreakerHalfOpen => "breaker_half_open",
            Change::BreakerClosed => "breaker_closed",
            Change::BreakerForced { .. } => "breaker_forced",
            Change::LimitChanged { .. } => "limit_changed",
            Change::QueueStands => "queue_stands",
            Change::QueueDrains => "queue_drains",
            Change::HostEjected { .. } => "host_ejected",
            Change::HostReturned => "host_returned",
            Change::HostRecalled => "host_recalled",
            Change::HostForced { .. } => "host_forced",
            Change::HostReleased => "host_released",
            Change::HostUnhealthy => "host_unhealthy",
            Change::HostHealthy => "host_healthy",
            Change::PanicBegan => "panic_began",
            Change::PanicEnded => "panic_ended",
            Change::Blocked => "blocked",
            Change::Admitting => "admitting",
            Change::Admitted => "admitted",
        }
    }
}

/// A change, and when it happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: Time,
    /// What.
    pub change: Change,
}

/// The most events that wait to be pulled; then the oldest is forgotten.
pub const EVENTS_MAX: usize = 64;

/// Events that wait to be pulled.
#[derive(Debug, Default)]
pub struct Events(VecDeque<Event>);

impl Events {
    /// Adds one.
    pub fn push(&mut self, at: Time, change: Change) {
        if self.0.len() == EVENTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Event { at, change });
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the oldest.
    pub fn pull(&mut self) -> Option<Event> {
        self.0.pop_front()
    }
}
