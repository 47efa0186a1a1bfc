//! A breaker for each key: shards, tenants, methods behind one service.
//!
//! **Prevents** one breaker over all of them from making the failure of one the failure of all.
//!
//! **Mechanics.** [`Breakers`] is core's [table](seawall_core::breaker::Keyed) between threads: a
//! breaker is made when its key is first seen, and there are never more than a cap. The key is the
//! [`user`](seawall_core::request::Request::user) of the request as the adapter sees it, so that
//! whatever the adapter hashes is what has a breaker of its own. [`KeyedBreakerLayer`] asks the table before
//! each request of a service, [`Pipeline::keyed`](crate::pipeline::Pipeline::keyed) before any operation, and
//! [`Breakers::enter`] is what both are made of.
//!
//! **Edges.** A result counts for the breaker that let its call pass, in the state in which it did: when
//! that breaker has changed or was forgotten meanwhile, it counts for nothing. A pass that is dropped is
//! a call that was cancelled. An answer is judged by its head; that it breaks off later is not heard. A key comes back all at once when its breaker closes; there is no ramp. A key
//! without a place in a full table passes unguarded, and that is counted.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use seawall_core::breaker::{Config, Forced, Keyed, KeyedPass, KeyedSnapshot, Snapshot};
use seawall_core::decision::{Policy, Rejection};
use seawall_core::enforcement::{Enforcement, Switch};
use seawall_core::event::{Event, Events};
use seawall_core::gate::{Gate, Lane, Own as _, Settings};
use seawall_core::outcome::Outcome;
use seawall_core::request::Key;
use seawall_core::time::Time;
use tower_layer::Layer;
use tower_service::Service;

use crate::admission::Adapter;
use crate::clock::now;
use crate::course::{Course, Readied};
use crate::enter::Guard;
use crate::identity::seed;
use crate::observe::Watcher;
use crate::threads::{Locks, Threads};

/// The most shards of a table.
const SHARDS_MAX: u32 = 16;
/// Keys that a shard has place for at least.
const SHARD_KEYS: u32 = 256;

/// Breakers by key, shared between threads.
///
/// ```
/// use seawall::core::breaker::{Config, Forced, Settings};
/// use seawall::core::outcome::Outcome;
/// use seawall::core::request::Key;
/// use seawall::keyed::Breakers;
/// use std::sync::Arc;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let settings = Settings { consecutive: Some(2), ..Settings::default() };
/// let shards = Arc::new(Breakers::new(Config::new(settings).unwrap(), 10_000));
/// let (sick, well) = (Key(7), Key(8)); // Of `UserKeys`, as a rule.
/// for _ in 0..2 {
///     shards.enter(sick).unwrap().report(Outcome::Failure);
/// }
/// assert!(shards.enter(sick).is_err() && shards.enter(well).is_ok());
/// let table = shards.snapshot().table;
/// assert_eq!((table.keys, table.open), (2, 1));
/// shards.force(sick, Forced::Closed); // By hand.
/// assert!(shards.enter(sick).is_ok());
/// # });
/// ```
pub struct Breakers {
    shards: Locks<Shard>,
    switch: Switch,
    shadowed: AtomicU64,
    /// Set while there are events, so that those who pull in vain need no lock.
    news: AtomicBool,
}

struct Shard {
    keyed: Keyed,
    events: Events,
}

impl Breakers {
    /// No breakers yet, and never more than `max_keys`, at least 1. Without a seed of their own they are
    /// given a random one, so that instances do not probe in step.
    pub fn new(config: Config, max_keys: u32) -> Breakers {
        let seed = seed_of(config);
        let max_keys = max_keys.max(1);
        let count = (max_keys / SHARD_KEYS).clamp(1, SHARDS_MAX);
        let shard = |number: u32| Shard {
            // What does not divide goes to the first.
            keyed: Keyed::new(
                of_shard(config, seed, number),
                max_keys / count + u32::from(number < max_keys % count),
            ),
            events: Events::default(),
        };
        Breakers {
            shards: Locks::own((0..count).map(shard).collect()),
            switch: Switch::default(),
            shadowed: AtomicU64::new(0),
            news: AtomicBool::new(false),
        }
    }

    /// Asks the breaker of this key.
    pub fn enter(self: &Arc<Breakers>, key: Key) -> Result<BreakerPass, Rejection> {
        self.enter_at(now(), key)
    }

    fn enter_at(self: &Arc<Breakers>, now: Time, key: Key) -> Result<BreakerPass, Rejection> {
        let pass = match self.switch.stance().of(Policy::Breaker) {
            Enforcement::Off => None,
            enforcement => match self.on(key, |shard| shard.keyed.admit(now, key, &mut shard.events)) {
                Ok(pass) => Some(pass),
                Err(rejection) if enforcement == Enforcement::Enforced => return Err(rejection),
                Err(_) => {
                    self.shadowed.fetch_add(1, Ordering::Relaxed);
                    None
                }
            },
        };
        Ok(BreakerPass { breakers: self.clone(), key, pass })
    }

    /// Whether refusals hold, by [`Policy::Breaker`]; the other policies mean nothing here.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Overrides the breaker of a key by hand, until [`Breakers::reset`]; `None` when it has none and
    /// there is no place for one.
    pub fn force(&self, key: Key, how: Forced) -> Option<()> {
        let now = now();
        self.on(key, |shard| shard.keyed.force(now, key, how, &mut shard.events))
    }

    /// Closes the breaker of a key, if it has one, and ends an override.
    pub fn reset(&self, key: Key) {
        let now = now();
        self.on(key, |shard| shard.keyed.reset(now, key, &mut shard.events));
    }

    /// Other settings for all; states and the cap stay.
    pub fn configure(&self, config: Config) {
        let now = now();
        let (seed, mut number) = (seed_of(config), 0);
        self.shards.each(|shard| {
            shard.keyed.configure(now, of_shard(config, seed, number));
            number += 1;
        });
    }

    /// Plain values of the breaker of a key, if it has one.
    pub fn of(&self, key: Key) -> Option<Snapshot> {
        self.shards.with(key, |shard| shard.keyed.of(key))
    }

    /// Plain values of the table.
    pub fn snapshot(&self) -> BreakersSnapshot {
        let mut sum = KeyedSnapshot::default();
        self.shards.each(|shard| {
            let of = shard.keyed.snapshot();
            sum.keys += of.keys;
            sum.max_keys += of.max_keys;
            sum.open += of.open;
            sum.forgotten += of.forgotten;
            sum.unguarded += of.unguarded;
        });
        BreakersSnapshot { table: sum, shadowed: self.shadowed.load(Ordering::Relaxed) }
    }

    /// The next change that nobody has pulled. It does not say which key it is of.
    pub fn event(&self) -> Option<Event> {
        if !self.news.swap(false, Ordering::AcqRel) {
            return None;
        }
        let (mut next, mut more) = (None, false);
        self.shards.each(|shard| {
            next = next.or_else(|| shard.events.pull());
            more |= !shard.events.is_empty();
        });
        if more {
            self.news.store(true, Ordering::Release);
        }
        next
    }

    fn on<R>(&self, key: Key, verb: impl FnOnce(&mut Shard) -> R) -> R {
        self.shards.with(key, |shard| {
            let result = verb(shard);
            if !shard.events.is_empty() {
                self.news.store(true, Ordering::Release);
            }
            result
        })
    }
}

fn seed_of(config: Config) -> u64 {
    config.settings().seed.unwrap_or_else(seed)
}

/// Breakers of two shards draw other open times.
fn of_shard(config: Config, seed: u64, number: u32) -> Config {
    config.seeded(seed.wrapping_add(u64::from(number)))
}

/// Plain values of a table of breakers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakersSnapshot {
    /// The table.
    pub table: KeyedSnapshot,
    /// Calls that would have been refused, had the breakers not been in shadow.
    pub shadowed: u64,
}

/// A call that the breaker of its key let pass. Dropped without a report it counts as cancelled.
#[must_use = "dropped, it counts as cancelled"]
pub struct BreakerPass {
    breakers: Arc<Breakers>,
    key: Key,
    /// `None` when nobody was asked, or it has been reported.
    pass: Option<KeyedPass>,
}

impl BreakerPass {
    /// Says how it went.
    pub fn report(mut self, outcome: Outcome) {
        self.report_at(now(), outcome);
    }

    pub(crate) fn report_at(&mut self, now: Time, outcome: Outcome) {
        if let Some(pass) = self.pass.take() {
            self.breakers.on(self.key, |shard| shard.keyed.report(now, &pass, outcome, &mut shard.events));
        }
    }
}

impl Drop for BreakerPass {
    fn drop(&mut self) {
        if self.pass.is_some() {
            self.report_at(now(), Outcome::Cancelled);
        }
    }
}

/// Stops calling what a key stands for when that fails: 503 for this key, and nothing for the others. All
/// services that it wraps, and all clones, share the table.
///
/// ```
/// use http::{Request, Response};
/// use seawall::core::breaker::{Config, Settings};
/// use seawall::core::request;
/// use seawall::core::time::Time;
/// use seawall::http::{Families, HttpAdapter, Refusals};
/// use seawall::{KeyedBreakerLayer, UserKeys, seed};
/// use std::sync::Arc;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let keys = UserKeys::new();
/// let of = move |_: Time, request: &Request<()>| {
///     let tenant = request.headers().get("x-tenant").map_or(&b""[..], |value| value.as_bytes());
///     request::Request::new(keys.key(tenant)) // A breaker for each tenant.
/// };
/// let seen = HttpAdapter::new(of, Arc::new(Refusals::new(Vec::new(), Families::default(), seed())));
/// let settings = Settings { consecutive: Some(2), ..Settings::default() };
/// let breakers = KeyedBreakerLayer::new(Config::new(settings).unwrap(), 10_000, seen);
/// let store = breakers.layer(service_fn(async |request: Request<()>| {
///     let status = if request.headers()["x-tenant"] == "sick" { 500 } else { 200 };
///     Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(String::new()).unwrap())
/// }));
/// let of = |tenant| Request::builder().header("x-tenant", tenant).body(()).unwrap();
/// for (tenant, status) in [("sick", 500), ("sick", 500), ("sick", 503), ("well", 200)] {
///     assert_eq!(store.clone().oneshot(of(tenant)).await.unwrap().status(), status);
/// }
/// assert_eq!(breakers.breakers().snapshot().table.open, 1);
/// # });
/// ```
#[derive(Clone)]
pub struct KeyedBreakerLayer<A> {
    breakers: Arc<Breakers>,
    adapter: A,
    watcher: Option<Watcher>,
    /// Of guards that guard nothing: adapters hand one on.
    open: Arc<Gate<Threads>>,
}

impl<A> KeyedBreakerLayer<A> {
    /// At most `max_keys` breakers, at least 1, for the users that `adapter` sees.
    pub fn new(config: Config, max_keys: u32, adapter: A) -> KeyedBreakerLayer<A> {
        KeyedBreakerLayer::of(Arc::new(Breakers::new(config, max_keys)), adapter)
    }

    /// The same with a table that others share.
    pub fn of(breakers: Arc<Breakers>, adapter: A) -> KeyedBreakerLayer<A> {
        let open = Arc::new(Gate::new(Settings::default(), Lane::default(), now()));
        KeyedBreakerLayer { breakers, adapter, watcher: None, open }
    }

    /// The table: for a snapshot, an override by hand, or another config.
    pub fn breakers(&self) -> &Arc<Breakers> {
        &self.breakers
    }

    /// The same, telling `watcher` what changes in the table and who is refused.
    #[must_use]
    pub fn observed(self, watcher: Watcher) -> KeyedBreakerLayer<A> {
        KeyedBreakerLayer { watcher: Some(watcher), ..self }
    }
}

impl<S, A: Clone> Layer<S> for KeyedBreakerLayer<A> {
    type Service = KeyedBreaker<S, A>;

    fn layer(&self, inner: S) -> KeyedBreaker<S, A> {
        KeyedBreaker { inner, layer: self.clone() }
    }
}

/// A service with a breaker for each key.
#[derive(Clone)]
pub struct KeyedBreaker<S, A> {
    inner: S,
    layer: KeyedBreakerLayer<A>,
}

impl<S, A, Req> Service<Req> for KeyedBreaker<S, A>
where
    S: Service<Req> + Clone,
    A: Adapter<Req, S::Response, S::Error>,
{
    type Response = A::Response;
    type Error = S::Error;
    type Future = KeyedFuture<S, A, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let course = Readied::new(self.inner.clone(), request);
        KeyedFuture { layer: self.layer.clone(), pass: None, course }
    }
}

pin_project! {
    /// The future of [`KeyedBreaker`].
    pub struct KeyedFuture<S, A, Req>
    where
        S: Service<Req>,
    {
        layer: KeyedBreakerLayer<A>,
        pass: Option<BreakerPass>,
        #[pin]
        course: Readied<S, Req>,
    }
}

impl<S, A, Req> Future for KeyedFuture<S, A, Req>
where
    S: Service<Req>,
    A: Adapter<Req, S::Response, S::Error>,
{
    type Output = Result<A::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let KeyedBreakerLayer { breakers, adapter, watcher, open } = this.layer;
        let tell = || watcher.iter().for_each(|watcher| watcher.breakers(breakers));
        let mut known = None;
        if this.pass.is_none() {
            let now = *known.insert(now());
            let request = this.course.request().expect("kept until it is begun");
            match breakers.enter_at(now, adapter.request(now, request).user) {
                Ok(pass) => *this.pass = Some(pass),
                Err(rejection) => {
                    watcher.iter().for_each(|watcher| watcher.refused(&rejection));
                    tell();
                    adapter.decided();
                    return Poll::Ready(Ok(adapter.refuse(rejection)));
                }
            }
        }
        let (result, now) = ready!(this.course.poll_course(known, cx));
        let pass = this.pass.as_mut().expect("it has passed");
        pass.report_at(now, adapter.outcome(result.as_ref()));
        tell();
        adapter.decided();
        Poll::Ready(result.map(|response| adapter.answer(response, Guard::blank(open.clone()))))
    }
}
