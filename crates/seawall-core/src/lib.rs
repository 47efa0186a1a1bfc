//! Resilience policies as pure state machines: time and chance are arguments.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod measure;
pub mod outcome;
pub mod request;
pub mod rng;
pub mod time;
