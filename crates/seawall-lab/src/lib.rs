//! A deterministic simulator that runs Seawall's policies against overload and retry storms.
//!
//! A scenario is a file: clients, a service, a trigger. A [`world`] plays it once with a seed, in
//! virtual time, and runs production code where decisions are made: core's `call` in the clients,
//! core's `gate` in front of the service. [`verdict`] asks over many seeds whether the service comes
//! back when the trigger has gone, and [`report`] says so, as text or JSON.

pub mod queue;
pub mod report;
pub mod scenario;
pub mod service;
pub mod units;
pub mod verdict;
pub mod world;
