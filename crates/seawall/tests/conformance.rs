//! What well-known libraries were seen to get wrong, each line a test named after what must happen
//! instead. One module for each room of the house.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "conformance/breaker.rs"]
mod breaker;
#[path = "conformance/hedge.rs"]
mod hedge;
#[path = "conformance/hosts.rs"]
mod hosts;
#[path = "conformance/library.rs"]
mod library;
#[path = "conformance/limit.rs"]
mod limit;
#[path = "conformance/retry.rs"]
mod retry;
#[path = "conformance/shedding.rs"]
mod shedding;
#[path = "conformance/throttle.rs"]
mod throttle;
