//! Resilience policies as pure state machines: time and chance are arguments.
#![no_std]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod backpressure;
pub mod balance;
pub mod breaker;
pub mod call;
pub mod decision;
pub mod eject;
pub mod enforcement;
pub mod event;
pub mod fallback;
pub mod gate;
pub mod health;
pub mod hedge;
pub mod limit;
pub mod lint;
pub mod measure;
pub mod outcome;
pub mod own;
pub mod pressure;
pub mod ramp;
pub mod request;
pub mod retry;
pub mod rng;
pub mod setting;
pub mod shed;
pub mod stripes;
pub mod throttle;
pub mod time;
