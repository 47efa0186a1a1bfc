//! Resilience policies as pure state machines: time and chance are arguments.
#![no_std]
extern crate alloc;

pub mod outcome;
pub mod request;
pub mod rng;
pub mod time;
