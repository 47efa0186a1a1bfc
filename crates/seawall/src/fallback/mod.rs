//! Fallback on tokio: a kept, a cheaper or a fixed answer where there is no ordinary one.
//!
//! **Prevents** an outage of one part from becoming an outage of the whole, and the stampede on a part
//! that has just come back.
//!
//! **Mechanics.** [`FallbackLayer`] does what [`seawall_core::fallback`] says, seen through an
//! [`Adapter`]: it looks into a [`Cache`] that all services of the layer share, asks the inner
//! service, and goes along the chain when that fails. Requests for the same key wait for one flight.
//! Where something is kept that the service can confirm, it is asked only for that.
//! A stale answer that may be used while revalidating is given at once, and a task asks anew behind
//! it. The level of a [`Dimmer`] takes a part of the users to the cheaper step before asking: a gate
//! behind the layer that comes under load asks for that before it refuses anybody.
//!
//! **Edges.** Nobody hangs: a leader whose future is dropped hands over, one that hangs loses its lease,
//! and whoever waits does so until its deadline. When nothing is left the real error is the answer;
//! whoever waited for somebody else's call and has none asks for itself. Answers that are not the
//! upstream's say so ([`Source`]), so that they never count as its success.
//!
//! HTTP has its adapter in [`crate::http::fallback`].

mod begun;
mod cache;
mod course;
mod terms;

use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use seawall_core::fallback::store::{Fill, Kept};
use seawall_core::fallback::{Chain, Trouble};
use seawall_core::gate::Gate;
use seawall_core::request::Request;
use seawall_core::time::Time;
use tower_layer::Layer;
use tower_service::Service;

use crate::threads::Threads;
pub use begun::{Alone, Begun, Left};
pub use cache::Cache;
pub use terms::Terms;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The upstream, asked for this request.
    Upstream,
    /// The upstream, asked for another request that this one waited for.
    Joined,
    /// The cache, fresh.
    Fresh,
    /// The cache, stale, while one request asks anew.
    Revalidating,
    /// The cache, stale, for want of something better or because the request takes it.
    Stale,
    /// A cheaper handler, by its place.
    Cheaper(u8),
    /// A fixed answer, by its place.
    Fixed(u8),
}

impl Source {
    /// Whether the answer is worth less than the ordinary one.
    pub const fn is_degraded(self) -> bool {
        matches!(self, Source::Stale | Source::Cheaper(_) | Source::Fixed(_))
    }

    /// Its name in headers, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Upstream => "upstream",
            Source::Joined => "joined",
            Source::Fresh => "fresh",
            Source::Revalidating => "revalidating",
            Source::Stale => "stale",
            Source::Cheaper(_) => "cheaper",
            Source::Fixed(_) => "fixed",
        }
    }
}

/// What may be done for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek<K> {
    /// Nothing: doing it twice, or not at all, would matter. What it changes is forgotten.
    Around {
        /// The key whose answer is outdated when this succeeds.
        outdates: Option<K>,
    },
    /// The chain, without the cache.
    Chain,
    /// The chain and the cache.
    Cached {
        /// Under which key its answer is kept.
        key: K,
        /// Which kept answers it takes.
        terms: Terms,
    },
}

/// For whom a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// For this request alone: as it came.
    Alone,
    /// For all who want the same: whole and unconditional.
    Shared,
}

/// What became of an answer that was looked at.
#[derive(Debug)]
pub enum Taken<K, V, R> {
    /// It can be kept, under this key.
    Keep {
        /// The key, which may say more than the one that was sought (HTTP's `Vary`).
        key: K,
        /// What to keep.
        fill: Fill<V>,
        /// The answer.
        response: R,
    },
    /// It belongs to this request alone. What was kept before is outdated.
    Apart(R),
    /// It says nothing about what is kept.
    Unrelated(R),
    /// It broke off.
    Broken,
}

impl<K, V, R> Taken<K, V, R> {
    /// The same with another response made of its own.
    pub fn map<T>(self, make: impl FnOnce(R) -> T) -> Taken<K, V, T> {
        match self {
            Taken::Keep { key, fill, response } => Taken::Keep { key, fill, response: make(response) },
            Taken::Apart(response) => Taken::Apart(make(response)),
            Taken::Unrelated(response) => Taken::Unrelated(make(response)),
            Taken::Broken => Taken::Broken,
        }
    }
}

/// What became of an answer that an adapter looked at.
pub type TakenBy<A, Req, Res, Err> = Taken<
    <A as Adapter<Req, Res, Err>>::Key,
    <A as Adapter<Req, Res, Err>>::Kept,
    <A as Adapter<Req, Res, Err>>::Response,
>;

/// How a fallback sees requests and responses of one kind.
pub trait Adapter<Req, Res, Err>: Clone {
    /// What tells kept answers apart.
    type Key: Hash + Eq + Clone;
    /// What is kept; cheap to clone.
    type Kept: Clone;
    /// What comes out.
    type Response;

    /// What the policies may know of this request, its deadline and its user above all.
    fn request(&self, now: Time, request: &Req) -> Request;

    /// What may be done for it now.
    fn seek(&self, now: Time, request: &Req) -> Seek<Self::Key>;

    /// A request that changes something succeeded with this answer: whatever else is kept of the same thing,
    /// and of what the answer names, is outdated.
    fn outdated(&self, key: &Self::Key, response: &Res) {
        let _ = (key, response);
    }

    /// Another one like it. Never asked of a request that is sent [`Seek::Around`].
    fn copy(&self, request: &Req, sending: Sending) -> Req;

    /// One that asks whether what is kept is still right, instead of for the answer; `None` when it does not
    /// say what to compare it by.
    fn confirming(&self, request: &Req, held: &Self::Kept) -> Option<Req> {
        let _ = (request, held);
        None
    }

    /// Why this is no ordinary answer; `None` when it is one.
    fn trouble(&self, result: Result<&Res, &Err>) -> Option<Trouble>;

    /// Takes an answer in, to see whether it can be kept: at once when its head says so, otherwise by
    /// reading it, until then at most. `held` is what it was asked to confirm, if it was.
    #[expect(clippy::type_complexity, reason = "the future has no name that could stand for it")]
    fn take<'a>(
        &'a self,
        request: &'a Req,
        key: &'a Self::Key,
        held: Option<Kept<Self::Kept>>,
        response: Res,
        until: Time,
    ) -> Result<TakenBy<Self, Req, Res, Err>, impl Future<Output = TakenBy<Self, Req, Res, Err>> + Send>;

    /// Asks a cheaper handler, by its place; `None` when there is none.
    fn cheaper(&self, place: u8, request: Req) -> Option<impl Future<Output = Result<Res, Err>> + Send>;

    /// A kept answer.
    fn kept(&self, request: &Req, kept: Kept<Self::Kept>, source: Source) -> Self::Response;

    /// A fixed answer, by its place; `None` when there is none.
    fn fixed(&self, request: &Req, place: u8) -> Option<Self::Response>;

    /// The answer of a service.
    fn answer(&self, response: Res, source: Source) -> Self::Response;

    /// What is told when the request takes only what is kept, and that is nothing.
    fn unkept(&self, request: &Req) -> Self::Response {
        self.lost(request, Trouble::NoAnswer)
    }

    /// What is told instead of an answer that broke off, or never came, when nothing is left.
    fn lost(&self, request: &Req, trouble: Trouble) -> Self::Response;
}

/// How much is done less, 0 (everything is done) to 1 (everybody gets the cheaper step): the share of
/// users, by their [`Cohort`](seawall_core::request::Cohort), who are taken to the cheaper step before
/// anybody else is asked.
///
/// A gate that sheds knows best: its level rises *before* it refuses anybody, and the layer around
/// it then sends it less. A level set by hand is the least; clones share it.
///
/// ```
/// use seawall::core::gate::{Gate, Lane, Settings};
/// use seawall::core::{limit, shed};
/// use seawall::fallback::Dimmer;
/// use seawall::{Threads, now};
/// use std::sync::Arc;
///
/// let settings = Settings { limit: Some(limit::Config::default()), ..Settings::default() };
/// let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
/// let gate = Arc::new(Gate::<Threads>::new(settings, lane, now()));
/// let dimmer = Dimmer::of(gate); // Of the gate that stands behind the fallback.
/// assert_eq!(dimmer.level(now()), 0.0);
/// dimmer.set(0.25); // An incident: a quarter of the users at least.
/// assert_eq!(dimmer.level(now()), 0.25);
/// ```
#[derive(Clone, Default)]
pub struct Dimmer {
    least: Arc<AtomicU64>,
    gate: Option<Arc<Gate<Threads>>>,
}

impl Dimmer {
    /// Everything is done, until another level is set.
    pub fn new() -> Dimmer {
        Dimmer::default()
    }

    /// As much less as `gate` asks for.
    pub fn of(gate: Arc<Gate<Threads>>) -> Dimmer {
        Dimmer { gate: Some(gate), ..Dimmer::default() }
    }

    /// Sets the least level; what is outside 0 to 1 counts as the nearest.
    pub fn set(&self, level: f64) {
        self.least.store(level.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
    }

    /// The level.
    pub fn level(&self, now: Time) -> f64 {
        let least = f64::from_bits(self.least.load(Ordering::Relaxed));
        self.gate.as_ref().map_or(least, |gate| gate.dimmer(now).max(least))
    }
}

impl std::fmt::Debug for Dimmer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let least = f64::from_bits(self.least.load(Ordering::Relaxed));
        f.debug_struct("Dimmer").field("least", &least).finish_non_exhaustive()
    }
}

/// Answers given, by source.
#[derive(Debug, Default)]
struct Counters([AtomicU64; 7]);

/// How many answers came from where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The upstream, asked for the request itself.
    pub upstream: u64,
    /// The upstream, asked for another one.
    pub joined: u64,
    /// The cache, fresh.
    pub fresh: u64,
    /// The cache, while one request asked anew.
    pub revalidating: u64,
    /// The cache, for want of something better.
    pub stale: u64,
    /// A cheaper handler.
    pub cheaper: u64,
    /// A fixed answer.
    pub fixed: u64,
}

impl Counts {
    /// Answers that were worth less than the ordinary one.
    pub const fn degraded(&self) -> u64 {
        self.stale + self.cheaper + self.fixed
    }
}

impl Counters {
    fn count(&self, source: Source) {
        let place = match source {
            Source::Upstream => 0,
            Source::Joined => 1,
            Source::Fresh => 2,
            Source::Revalidating => 3,
            Source::Stale => 4,
            Source::Cheaper(_) => 5,
            Source::Fixed(_) => 6,
        };
        self.0[place].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Counts {
        let [upstream, joined, fresh, revalidating, stale, cheaper, fixed] =
            [0, 1, 2, 3, 4, 5, 6].map(|place: usize| self.0[place].load(Ordering::Relaxed));
        Counts { upstream, joined, fresh, revalidating, stale, cheaper, fixed }
    }
}

/// What all services of a layer share.
struct Shared<A, K, V> {
    adapter: A,
    chain: Chain,
    cache: Cache<K, V>,
    dimmer: Dimmer,
    counters: Counters,
}

/// Goes along a chain where the services that it wraps have no ordinary answer.
pub struct FallbackLayer<A, K, V>(Arc<Shared<A, K, V>>);

impl<A, K, V> Clone for FallbackLayer<A, K, V> {
    fn clone(&self) -> FallbackLayer<A, K, V> {
        FallbackLayer(self.0.clone())
    }
}

impl<A, K, V> FallbackLayer<A, K, V>
where
    K: Hash + Eq + Clone,
    V: Clone,
{
    /// Falls back along `chain`, seeing requests through `adapter` and keeping answers in `cache`.
    pub fn new(chain: Chain, cache: Cache<K, V>, dimmer: Dimmer, adapter: A) -> FallbackLayer<A, K, V> {
        FallbackLayer(Arc::new(Shared { adapter, chain, cache, dimmer, counters: Counters::default() }))
    }

    /// How many answers came from where.
    pub fn counts(&self) -> Counts {
        self.0.counters.read()
    }

    /// How requests are seen.
    pub fn adapter(&self) -> &A {
        &self.0.adapter
    }

    /// What is kept.
    pub fn cache(&self) -> &Cache<K, V> {
        &self.0.cache
    }
}

impl<S, A, K, V> Layer<S> for FallbackLayer<A, K, V> {
    type Service = Fallback<S, A, K, V>;

    fn layer(&self, inner: S) -> Fallback<S, A, K, V> {
        Fallback { inner, shared: self.0.clone() }
    }
}

/// A service behind a fallback. Always ready; each asking readies a clone of the inner service.
pub struct Fallback<S, A, K, V> {
    inner: S,
    shared: Arc<Shared<A, K, V>>,
}

impl<S: Clone, A, K, V> Clone for Fallback<S, A, K, V> {
    fn clone(&self) -> Fallback<S, A, K, V> {
        Fallback { inner: self.inner.clone(), shared: self.shared.clone() }
    }
}

/// The parts of what [`call`](Service::call) does, for who can send a request by itself for less than a service
/// does.
impl<S, A, K, V> Fallback<S, A, K, V>
where
    K: Hash + Eq + Clone,
    V: Clone,
{
    /// Looks what is kept for this request, and whether another one is asking for the same.
    pub fn begin<Req>(&self, request: &Req) -> Begun<K, V>
    where
        S: Service<Req>,
        A: Adapter<Req, S::Response, S::Error, Key = K, Kept = V>,
    {
        Begun::new(&self.shared, request)
    }

    /// The caller has sent the request, and gives its answer, which is an ordinary one and not kept.
    pub fn leave(&self, alone: Alone<K, V>, left: Left) {
        alone.left(left);
        self.shared.counters.count(Source::Upstream);
    }

    /// Does the rest, also with an answer that the caller has and cannot [`leave`](Fallback::leave).
    #[expect(clippy::type_complexity, reason = "it is the future of the service")]
    pub fn go_on<Req>(
        self,
        request: Req,
        begun: Begun<K, V>,
        answered: Option<Result<S::Response, S::Error>>,
    ) -> Pin<Box<dyn Future<Output = Result<A::Response, S::Error>> + Send>>
    where
        S: Service<Req> + Clone + Send + Sync + 'static,
        S::Response: Send,
        S::Error: Send,
        S::Future: Send,
        A: Adapter<Req, S::Response, S::Error, Key = K, Kept = V> + Send + Sync + 'static,
        K: Send + Sync + 'static,
        V: Send + Sync + 'static,
        A::Response: Send,
        Req: Send + Sync + 'static,
    {
        let resumed = Box::new(begun::Resumed { begun, answered });
        Box::pin(course::run(self.inner, self.shared, request, Some(resumed)))
    }
}

impl<S, A, Req> Service<Req> for Fallback<S, A, A::Key, A::Kept>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Response: Send,
    S::Error: Send,
    S::Future: Send,
    A: Adapter<Req, S::Response, S::Error> + Send + Sync + 'static,
    A::Key: Send + Sync,
    A::Kept: Send + Sync,
    A::Response: Send,
    Req: Send + Sync + 'static,
{
    type Response = A::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<A::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        Box::pin(course::run(self.inner.clone(), self.shared.clone(), request, None))
    }
}
