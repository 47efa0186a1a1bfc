//! Observe: who is told when something changes, and when a request is refused.
//!
//! **Mechanics.** A gate and its hosts note what changed in them (a breaker opened, a queue stands, a
//! limit moved, a host was ejected); refusals are values. A [`Watcher`] pulls the former, takes the
//! latter, and tells an [`Observer`] under the name of what it watches. Layers and pipelines do so by
//! themselves once they are *observed*: after each request that was refused or has ended. Whoever
//! drives gates by hand calls the watcher.
//!
//! **Edges.** An observer is called on the thread of the request that brought the change about, or of
//! the next one, without a lock held and without allocation; it must not block. Pulling costs no
//! lock while nothing changes in a gate; the pool of an upstream costs one short lock for each call.
//! What is told once is told to nobody else: a gate, and the gates that share its limit or breaker,
//! have one watcher. At most [`EVENTS_MAX`](seawall_core::event::EVENTS_MAX) changes wait; of those
//! that nobody pulls the oldest are forgotten. For values over time take snapshots.
//!
//! ```
//! use seawall::core::breaker::{Config, Settings};
//! use seawall::core::event::Event;
//! use seawall::Pipeline;
//! use seawall::observe::{Observer, Origin, Watcher};
//! use std::sync::{Arc, Mutex};
//!
//! #[derive(Default)]
//! struct Log(Mutex<Vec<String>>);
//!
//! impl Observer for Log {
//!     fn changed(&self, origin: Origin<'_>, event: &Event) {
//!         self.0.lock().unwrap().push(format!("{} {}", origin.name, event.change.name()));
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let settings = Settings { consecutive: Some(1), ..Settings::default() };
//! let log = Arc::new(Log::default());
//! let stock = Pipeline::single(Config::new(settings).unwrap()).observed(Watcher::new("stock", log.clone()));
//! let _ = stock.call(|| async { Err::<(), _>("down") }).await;
//! assert_eq!(*log.0.lock().unwrap(), ["stock breaker_opened"]);
//! # });
//! ```

#[cfg(feature = "tracing")]
mod traced;

use std::sync::Arc;

use seawall_core::call::Repeat;
use seawall_core::decision::Rejection;
use seawall_core::event::Event;
use seawall_core::gate::Gate;
use seawall_core::outcome::Outcome;
use seawall_core::request::Request;
use seawall_core::time::{Span, Time};

use crate::admission::{self, End};
use crate::call::{self, Ended, Judgement, Upstream};
use crate::enter::Guard;
use crate::keyed::Breakers;
use crate::threads::Threads;

#[cfg(feature = "tracing")]
pub use traced::Traced;

/// Where a change happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The name that the watcher was given.
    pub name: &'a str,
    /// The host, where it is one of an upstream's; `None` for a gate, or all hosts.
    pub host: Option<&'a str>,
}

/// Is told. Both do nothing unless they are written.
pub trait Observer {
    /// Something changed.
    fn changed(&self, origin: Origin<'_>, event: &Event) {
        let _ = (origin, event);
    }

    /// A request was refused.
    fn refused(&self, origin: Origin<'_>, rejection: &Rejection) {
        let _ = (origin, rejection);
    }
}

/// Tells an observer, under a name. Clones tell the same one.
#[derive(Clone)]
pub struct Watcher {
    name: Arc<str>,
    observer: Arc<dyn Observer + Send + Sync>,
}

impl Watcher {
    /// Tells `observer` of what is called `name`.
    pub fn new(name: &str, observer: Arc<dyn Observer + Send + Sync>) -> Watcher {
        Watcher { name: Arc::from(name), observer }
    }

    /// Tells what changed in this gate.
    pub fn gate(&self, gate: &Gate<Threads>) {
        self.pull(None, gate);
    }

    /// Tells what changed in this table of breakers. Which key it is of is not known.
    pub fn breakers(&self, breakers: &Breakers) {
        while let Some(event) = breakers.event() {
            self.observer.changed(Origin { name: &self.name, host: None }, &event);
        }
    }

    /// Tells what changed in the hosts of this upstream, and in their back gates.
    pub fn upstream(&self, upstream: &Upstream) {
        let hosts = upstream.hosts();
        for (name, gate) in hosts.names().zip(hosts.gates()) {
            self.pull(Some(name), gate);
        }
        while let Some(happening) = hosts.event() {
            let origin = Origin { name: &self.name, host: happening.host.as_deref() };
            self.observer.changed(origin, &happening.event);
        }
    }

    /// Tells that a request was refused.
    pub fn refused(&self, rejection: &Rejection) {
        self.observer.refused(Origin { name: &self.name, host: None }, rejection);
    }

    fn pull(&self, host: Option<&str>, gate: &Gate<Threads>) {
        while let Some(event) = gate.event() {
            self.observer.changed(Origin { name: &self.name, host }, &event);
        }
    }
}

/// Sees as its adapter does, and tells a watcher.
pub struct Observed<A, S> {
    adapter: A,
    watched: Arc<Watched<S>>,
}

struct Watched<S> {
    watcher: Watcher,
    source: Arc<S>,
}

impl<A, S> Observed<A, S> {
    pub(crate) fn new(adapter: A, watcher: Watcher, source: Arc<S>) -> Observed<A, S> {
        Observed { adapter, watched: Arc::new(Watched { watcher, source }) }
    }
}

impl<A: Clone, S> Clone for Observed<A, S> {
    fn clone(&self) -> Observed<A, S> {
        Observed { adapter: self.adapter.clone(), watched: self.watched.clone() }
    }
}

impl<A, Req, Res, Err> admission::Adapter<Req, Res, Err> for Observed<A, Gate<Threads>>
where
    A: admission::Adapter<Req, Res, Err>,
{
    type Response = A::Response;

    fn request(&self, now: Time, request: &Req) -> Request {
        self.adapter.request(now, request)
    }

    fn outcome(&self, result: Result<&Res, &Err>) -> Outcome {
        self.adapter.outcome(result)
    }

    fn waited(&self, response: &Res) -> Span {
        self.adapter.waited(response)
    }

    fn hedged(&self, response: &Res) -> bool {
        self.adapter.hedged(response)
    }

    fn end(&self, response: &Res) -> End {
        self.adapter.end(response)
    }

    fn answer(&self, response: Res, guard: Guard) -> Self::Response {
        self.adapter.answer(response, guard)
    }

    fn refuse(&self, rejection: Rejection) -> Self::Response {
        self.watched.watcher.refused(&rejection);
        self.adapter.refuse(rejection)
    }

    fn decided(&self) {
        self.watched.watcher.gate(&self.watched.source);
        self.adapter.decided();
    }
}

impl<A, Req, Res, Err> call::Adapter<Req, Res, Err> for Observed<A, Upstream>
where
    A: call::Adapter<Req, Res, Err>,
{
    type Response = A::Response;

    fn request(&self, now: Time, request: &Req) -> Request {
        self.adapter.request(now, request)
    }

    fn copy(&self, request: &Req) -> Option<Req> {
        self.adapter.copy(request)
    }

    fn repeat(&self, request: &Req) -> Repeat {
        self.adapter.repeat(request)
    }

    fn judge(&self, result: Result<&Res, &Err>) -> Judgement {
        self.adapter.judge(result)
    }

    fn end(&self, upstream: &Arc<Upstream>, ended: Ended<Result<Res, Err>>) -> Result<Self::Response, Err> {
        let Watched { watcher, source } = &*self.watched;
        watcher.upstream(source);
        if let Some(rejection) = ended.rejection() {
            watcher.refused(rejection);
        }
        self.adapter.end(upstream, ended)
    }
}
