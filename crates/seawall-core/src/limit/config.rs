//! What a limit is told: its ceiling, its queue, and who goes first.

use super::{Ceiling, adaptive, bulkhead, codel};

/// Who in line is served first, and who gives way. Whoever is told apart by lane, bulkhead or tier
/// stays so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discipline {
    /// Whoever has waited longest.
    #[default]
    Fifo,
    /// Whoever has waited longest; while the queue stands, whoever came last. A newcomer to a full
    /// line takes the place of whoever has waited longest, with a bulkhead among those whose tenant holds
    /// no less than its own. Under overload some are then served in time, where first in, first out would
    /// serve all of them late.
    AdaptiveLifo,
    /// Whoever has waited longest, but the line is thinned while waits are long.
    Codel(codel::Config),
    /// The most important tier first, and in it whoever has waited longest.
    ByTier,
}

/// A ceiling, the most that may wait for a place under it, and who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many may be in flight.
    pub ceiling: Ceiling,
    /// How many may wait in all lanes together; 0 for none, default 1024. It is a bound and no promise: a
    /// burst may fill a few times the limit, and a line that stands is cut to less ([`BURST`](super::BURST),
    /// [`STAND`](super::STAND)), since who waits longer is served too late. Nothing turns that off: where every
    /// one of so many must wait, put a semaphore, such as tokio's, in the place of a limit.
    pub queue: u32,
    /// Who in line is served first.
    pub discipline: Discipline,
    /// How places are shared between tenants; `None` for first come, first served.
    pub bulkhead: Option<bulkhead::Config>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            ceiling: Ceiling::Adaptive(adaptive::Config::default()),
            queue: 1_024,
            discipline: Discipline::Fifo,
            bulkhead: None,
        }
    }
}

/// The bounds of one lane under a shared ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// How many of this lane may be in flight; `u32::MAX` for as many as the ceiling allows.
    pub max: u32,
    /// How many of this lane may wait.
    pub queue: u32,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane { max: u32::MAX, queue: u32::MAX }
    }
}

impl Discipline {
    pub(super) fn codel(self) -> codel::Config {
        match self {
            Discipline::Codel(config) => config,
            Discipline::Fifo | Discipline::AdaptiveLifo | Discipline::ByTier => codel::Config::default(),
        }
    }
}
