//! A deterministic simulator that runs Seawall's policies, and a user's own config, against overload,
//! retry storms and cascading failures.
//!
//! A [`scenario`] is a file: services that call each other, clients, what happens, what must hold. A
//! [`world`] plays it once with a seed, in virtual time, and runs production code where decisions are
//! made: core's `gate` and `call`, put together from a `seawall.toml` as the gateway does it.
//! [`verdict`] asks over many seeds whether the services come back when the trigger has gone, and
//! [`report`] says so.

mod case;
mod chance;
mod contender;
mod decisions;
pub mod experiment;
pub mod explain;
pub mod gallery;
mod latencies;
pub mod map;
pub mod margin;
mod outcomes;
mod queue;
pub mod report;
pub mod scenario;
mod slab;
pub mod standard;
mod telling;
mod vary;
pub mod verdict;
pub mod world;

pub use case::Case;
pub use contender::Contender;
pub use decisions::{Decided, Decision};
pub use latencies::Latencies;
pub use outcomes::{Attempts, Counts, Edge, Gauge, Outcomes, Passed, Phases, Population, Queueing};
pub use vary::Vary;
