//! One policy alone: its config makes a gate, and the gate makes a layer.
//!
//! [`ThrottleLayer`], [`ShedLayer`], [`LimitLayer`] and [`BreakerLayer`] are one layer with four
//! configs: an [`AdmissionLayer`] whose gate has one part. Where several policies are wanted, one gate
//! with all of them is better than several layers: it checks all before it takes from any.
//!
//! Every layer of a kind is made alike, and shows its [`gate`](SingleLayer::gate) for a snapshot or
//! an override by hand.

use std::marker::PhantomData;
use std::sync::Arc;

use seawall_core::gate::{Gate, Lane, Rule, Settings};
use seawall_core::time::{Span, Time};
use seawall_core::{breaker, limit, shed, throttle};
use tower_layer::Layer;

use crate::admission::{Admission, AdmissionLayer};
use crate::clock::now;
use crate::identity::seed;
use crate::observe::{Observed, Watcher};
use crate::threads::Threads;

/// The time in which traffic comes back after the breaker of a [`BreakerLayer`] has closed.
pub const RAMP: Span = Span::from_secs(5);

/// The config of a policy, as all that a gate has.
pub trait Part {
    /// A gate of this part alone.
    fn gate(self, now: Time) -> Gate<Threads>;
}

impl Part for throttle::Config {
    fn gate(self, now: Time) -> Gate<Threads> {
        let rule = Arc::new(Rule::new(self, now));
        Gate::new(Settings::default(), Lane::default(), now).throttled(vec![rule])
    }
}

/// The queue whose delay is judged is that of a limit, so there is one: the default, which finds
/// the capacity by itself.
impl Part for shed::Config {
    fn gate(self, now: Time) -> Gate<Threads> {
        let settings = Settings { limit: Some(limit::Config::default()), ..Settings::default() };
        Gate::new(settings, Lane { shed: Some(self), ..Lane::default() }, now)
    }
}

impl Part for limit::Config {
    fn gate(self, now: Time) -> Gate<Threads> {
        Gate::new(Settings { limit: Some(self), ..Settings::default() }, Lane::default(), now)
    }
}

/// Traffic comes back by a ramp of [`RAMP`]. Without a seed of its own it is given a random one, so
/// that instances do not probe in step.
impl Part for breaker::Config {
    fn gate(self, now: Time) -> Gate<Threads> {
        let seeded = self.seeded(self.settings().seed.unwrap_or_else(seed));
        let settings = Settings { breaker: Some(seeded), ramp: RAMP, ..Settings::default() };
        Gate::new(settings, Lane::default(), now)
    }
}

/// An [`AdmissionLayer`] whose gate has one part. The services that it wraps share the gate, and so
/// does every clone of the layer. What [`AdmissionLayer`] says of places, of leaving it out and of another
/// config holds for it, too.
#[derive(Clone)]
pub struct SingleLayer<P, A> {
    admission: AdmissionLayer<A>,
    part: PhantomData<fn() -> P>,
}

/// Holds each user to a quota: 429 and the exact wait. Make one and clone it: with a layer for each
/// connection, each connection would have a quota of its own.
///
/// ```
/// use http::{Request, Response};
/// use seawall::core::measure::bucket::{Quota, Rate};
/// use seawall::core::request::{self, Key};
/// use seawall::core::throttle;
/// use seawall::core::time::{Span, Time};
/// use seawall::http::{Families, HttpAdapter, NamedQuota, Refusals};
/// use seawall::ThrottleLayer;
/// use std::sync::Arc;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let quota = Quota::new(Rate { count: 60, per: Span::from_secs(60) }, 2).unwrap();
/// let named = NamedQuota::new("user", quota).unwrap();
/// let of = |_: Time, _: &Request<()>| request::Request::new(Key(1));
/// let seen = HttpAdapter::new(of, Arc::new(Refusals::new(vec![named], Families::default(), 7)));
///
/// let throttle = ThrottleLayer::new(throttle::Config::per_user(quota), seen);
/// let hello = service_fn(async |_: Request<()>| {
///     Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
/// });
/// let hello = throttle.layer(hello);
/// for status in [200, 200, 429] {
///     assert_eq!(hello.clone().oneshot(Request::new(())).await.unwrap().status(), status);
/// }
/// assert_eq!(throttle.gate().snapshot(seawall::now()).throttles[0].throttled, 1);
/// # });
/// ```
pub type ThrottleLayer<A> = SingleLayer<throttle::Config, A>;

/// Drops the least important part of what a service cannot serve in time: 503. Judges the queue of
/// a limit of its own, which finds the capacity by itself.
///
/// ```
/// use http::{Request, Response};
/// use seawall::core::shed::{self, guard::{Guards, Mark}};
/// use seawall::core::pressure::Reading;
/// use seawall::ShedLayer;
/// use seawall::core::request::{self, Key};
/// use seawall::core::time::Time;
/// use seawall::http::{Families, HttpAdapter, Refusals};
/// use std::sync::Arc;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let of = |_: Time, _: &Request<()>| request::Request::new(Key(1));
/// let seen = HttpAdapter::new(of, Arc::new(Refusals::new(Vec::new(), Families::default(), 7)));
/// let guards = Guards { memory: Some(Mark::percent(90).unwrap()), ..Guards::default() };
/// let shed = ShedLayer::new(shed::Config { guards, ..shed::Config::default() }, seen);
/// let hello = service_fn(async |_: Request<()>| {
///     Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
/// });
/// let hello = shed.layer(hello);
/// // `seawall::monitor` takes such readings.
/// shed.gate().observe(seawall::now(), &Reading { memory: Some(1.0), ..Reading::default() });
/// assert_eq!(hello.oneshot(Request::new(())).await.unwrap().status(), 200);
/// // Nothing is shed yet, but every request should be given less work.
/// assert!(shed.gate().dimmer(seawall::now()) > 0.9);
/// # });
/// ```
pub type ShedLayer<A> = SingleLayer<shed::Config, A>;

/// Bounds how many are in flight, and how many wait for that: 503. A response keeps its place until it is
/// dropped, so do not hold some while others wait.
///
/// ```
/// use http::{Request, Response};
/// use seawall::core::limit::{self, Ceiling};
/// use seawall::LimitLayer;
/// use seawall::core::request::{self, Key};
/// use seawall::core::time::Time;
/// use seawall::http::{Families, HttpAdapter, Refusals};
/// use std::sync::Arc;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let of = |_: Time, _: &Request<()>| request::Request::new(Key(1));
/// let seen = HttpAdapter::new(of, Arc::new(Refusals::new(Vec::new(), Families::default(), 7)));
/// let one = limit::Config { ceiling: Ceiling::Fixed(1), queue: 0, ..limit::Config::default() };
/// let limit = LimitLayer::new(one, seen);
/// let hello = service_fn(async |_: Request<()>| {
///     Ok::<_, std::convert::Infallible>(Response::new(String::from("hello")))
/// });
/// let hello = limit.layer(hello);
/// let first = hello.clone().oneshot(Request::new(())).await.unwrap();
/// // The place is kept until the body of the response has ended.
/// assert_eq!(limit.gate().limit(seawall::now()).unwrap().in_flight, 1);
/// assert_eq!(hello.clone().oneshot(Request::new(())).await.unwrap().status(), 503);
/// drop(first);
/// assert_eq!(hello.oneshot(Request::new(())).await.unwrap().status(), 200);
/// # });
/// ```
pub type LimitLayer<A> = SingleLayer<limit::Config, A>;

/// Stops calling a service that fails, probes it, and lets its traffic come back slowly: 503. One
/// service has one breaker: a layer around a client of many hosts would make an outage of one of
/// them an outage of all, which a [`CallLayer`](crate::call::CallLayer) does not; nor does a
/// [`KeyedBreakerLayer`](crate::keyed::KeyedBreakerLayer), for shards or tenants behind one service.
///
/// ```
/// use http::{Request, Response};
/// use seawall::core::breaker::{Config, Settings};
/// use seawall::core::decision::Policy;
/// use seawall::core::enforcement::Enforcement;
/// use seawall::BreakerLayer;
/// use seawall::core::request::{self, Key};
/// use seawall::core::time::Time;
/// use seawall::http::{Families, HttpAdapter, Refusals};
/// use std::sync::Arc;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let of = |_: Time, _: &Request<()>| request::Request::new(Key(1));
/// let seen = HttpAdapter::new(of, Arc::new(Refusals::new(Vec::new(), Families::default(), 7)));
/// let settings = Settings { consecutive: Some(2), ..Settings::default() };
/// let breaker = BreakerLayer::new(Config::new(settings).unwrap(), seen);
/// let down = breaker.layer(service_fn(async |_: Request<()>| {
///     let response = Response::builder().status(500).body(String::new()).unwrap();
///     Ok::<_, std::convert::Infallible>(response)
/// }));
/// for status in [500, 500, 503] {
///     assert_eq!(down.clone().oneshot(Request::new(())).await.unwrap().status(), status);
/// }
/// breaker.gate().switch().set(Policy::Breaker, Enforcement::Off); // By hand.
/// assert_eq!(down.oneshot(Request::new(())).await.unwrap().status(), 500);
/// # });
/// ```
pub type BreakerLayer<A> = SingleLayer<breaker::Config, A>;

impl<P: Part, A> SingleLayer<P, A> {
    /// A gate of this part, seeing requests through `adapter`.
    pub fn new(part: P, adapter: A) -> SingleLayer<P, A> {
        let gate = Arc::new(part.gate(now()));
        SingleLayer { admission: AdmissionLayer::new(gate, adapter), part: PhantomData }
    }
}

impl<P, A> SingleLayer<P, A> {
    /// The gate: for a snapshot, an override by hand, or another config.
    pub fn gate(&self) -> &Arc<Gate<Threads>> {
        self.admission.gate()
    }

    /// The same, telling `watcher` what changes in the gate and who is refused.
    pub fn observed(self, watcher: Watcher) -> SingleLayer<P, Observed<A, Gate<Threads>>> {
        SingleLayer { admission: self.admission.observed(watcher), part: PhantomData }
    }

    /// The same as an ordinary admission.
    pub fn into_admission(self) -> AdmissionLayer<A> {
        self.admission
    }
}

impl<S, P, A: Clone> Layer<S> for SingleLayer<P, A> {
    type Service = Admission<S, A>;

    fn layer(&self, inner: S) -> Admission<S, A> {
        self.admission.layer(inner)
    }
}
