//! What an admission queue tells of itself, and a machine of its own.

use crate::time::Span;

/// How hard an admission queue is pressed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// The delay that a newcomer would meet.
    pub delay: Span,
    /// Whether a place in flight is free for the newcomer.
    pub has_room: bool,
    /// The shortest delay that anybody met in the last 100 ms.
    pub least_delay: Span,
    /// Whether more came of late than went, beyond what a burst explains.
    pub grows: bool,
    /// Whether more arrives than can drain: a standing queue, not a burst.
    pub stands: bool,
    /// The mean time between two that drain at full use; zero until that is known, and while nobody waits.
    pub pace: Span,
    /// Arrivals over what could drain in the same 1.5 s; 0 until that is known.
    pub load: f64,
}

impl Pressure {
    /// Whether nobody would wait, or had to of late, and no queue stands.
    #[inline]
    pub(crate) fn is_calm(&self) -> bool {
        let waits = self.delay > Span::ZERO || self.least_delay > Span::ZERO;
        !waits && !self.stands
    }
}

/// How the machine is doing, as far as it is known. Core reads nothing: the driver samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// The CPU in use, of what this process may use: 0 to 1.
    pub cpu: Option<f64>,
    /// The share of time in which something waited for a CPU: 0 to 1.
    pub stall: Option<f64>,
    /// The memory in use, of what this process may use: 0 to 1.
    pub memory: Option<f64>,
    /// How late the runtime was to do what was due.
    pub lag: Option<Span>,
}
