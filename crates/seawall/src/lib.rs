//! Resilience for Rust services: throttle, shed, limit, break and retry as tower layers.
//!
//! The policies are [`seawall_core`]'s (here as [`core`]): pure state machines that know neither
//! clock nor runtime. This crate drives them on tokio and shares them between threads. Nothing is
//! reserved in `poll_ready`, a dropped future gives back what it held, and a refusal is a value
//! ([`Rejection`]) that *you* turn into a response, not an error of your service.
//!
//! - [`admission::AdmissionLayer`] asks a gate before each request: throttle, shed, limit, breaker,
//!   whichever parts the gate has.
//! - [`single`] has that layer for one policy each: [`ThrottleLayer`], [`ShedLayer`], [`LimitLayer`],
//!   [`BreakerLayer`].
//! - [`keyed`] has a layer with a breaker for each key: [`KeyedBreakerLayer`].
//! - [`call::CallLayer`] makes each request a call: attempts, backoff, budget, deadline.
//! - [`fallback::FallbackLayer`] answers from a cache, a cheaper handler or a fixed answer when there
//!   is no ordinary one.
//! - [`pipeline::Pipeline`] puts a gate, attempts or both around any asynchronous operation, without
//!   tower; [`enter`] and [`call::Drive`] are what it is made of.
//! - [`health`] asks the hosts of an upstream whether they are well.
//! - [`monitor`] samples CPU, memory and the runtime's lag for the guards of load shedding.
//! - [`observe`] tells an observer what changes and who is refused; with the feature `tracing` there is
//!   one that writes events.
//! - [`now`] is tokio's clock, so that a paused runtime pauses the policies. With the feature `tsc`,
//!   `use_time_stamp_counter` lets the processor count in between, which takes a third of the time.
//! - Plain values for screens and metrics: [`Gate::snapshot`](seawall_core::gate::Gate::snapshot),
//!   [`call::Upstream::snapshot`], [`fallback::FallbackLayer::counts`].
//! - [`http`] has the adapter for HTTP services and the answers for refusals.
//!
//! ```
//! use seawall::core::gate::{Gate, Lane, Settings};
//! use seawall::core::limit;
//! use seawall::core::request::{Key, Request};
//! use seawall::{Threads, enter, now};
//! use std::sync::Arc;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let ceiling = limit::Ceiling::Fixed(1);
//! let settings = Settings { limit: Some(limit::Config { ceiling, queue: 0, ..limit::Config::default() }), ..Settings::default() };
//! let gate = Arc::new(Gate::<Threads>::new(settings, Lane::default(), now()));
//!
//! let guard = enter(&gate, Request::new(Key(1))).await.expect("the first finds a place");
//! let refused = enter(&gate, Request::new(Key(1))).await.expect_err("the second does not");
//! assert_eq!(refused.reason.name(), "full");
//! drop(guard);
//! assert!(enter(&gate, Request::new(Key(1))).await.is_ok());
//! # });
//! ```

pub mod admission;
pub mod call;
mod clock;
mod course;
mod enter;
pub mod fallback;
pub mod health;
pub mod http;
mod identity;
pub mod keyed;
pub mod monitor;
pub mod observe;
pub mod pipeline;
pub mod single;
mod this_thread;
mod threads;

#[cfg(feature = "tsc")]
pub use clock::counter::use_time_stamp_counter;
pub use clock::{Pause, instant, now};
pub use enter::{Enter, Guard, enter, wake_turns};
pub use identity::{UserKeys, seed};
pub use keyed::KeyedBreakerLayer;
pub use pipeline::{CallError, Pipeline};
pub use seawall_core as core;
pub use seawall_core::decision::Rejection;
pub use single::{BreakerLayer, LimitLayer, ShedLayer, ThrottleLayer};
pub use threads::{Locks, Threads};
