//! Admission as a tower layer: a gate in front of a service.
//!
//! **Prevents** what goes wrong when limits are kept in `poll_ready`: idle clones that hold places,
//! and readiness that turns a refusal into an error of the service. Here the service is always
//! ready; admission happens in the future of the call, and so does the inner service's readiness,
//! on a clone of its own.
//!
//! **Mechanics.** An [`Adapter`] says what the gate may know of a request, how a response went, and
//! what a refusal looks like. The guard rides in the response until its body ends.
//!
//! **Edges.** Nothing is allocated for a call that is admitted or refused at once. When the inner
//! service is not ready but failed, that is a failure of the call.
//!
//! One gate with all that a route needs: two quotas for each user, of which a request takes from both
//! or from none, then shedding, then a limit that finds the capacity by itself.
//!
//! ```
//! use http::{Request, Response};
//! use seawall::admission::AdmissionLayer;
//! use seawall::core::decision::Policy;
//! use seawall::core::enforcement::Enforcement;
//! use seawall::core::gate::{Gate, Lane, Rule, Settings};
//! use seawall::core::measure::bucket::{Quota, Rate};
//! use seawall::core::request::{self, Tier};
//! use seawall::core::time::{Span, Time};
//! use seawall::core::{limit, shed, throttle};
//! use seawall::http::{Families, HttpAdapter, NamedQuota, Refusals};
//! use seawall::{Threads, UserKeys, now, seed};
//! use std::sync::Arc;
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let fast = Quota::new(Rate::per_second(50), 100).unwrap();
//! let steady = Quota::new(Rate { count: 1_000, per: Span::from_secs(3_600) }, 1_000).unwrap();
//! let rule = |quota| Arc::new(Rule::<Threads>::new(throttle::Config::per_user(quota), now()));
//!
//! let settings = Settings { limit: Some(limit::Config::default()), ..Settings::default() };
//! let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
//! let gate = Gate::new(settings, lane, now()).throttled(vec![rule(fast), rule(steady)]);
//! gate.switch().set(Policy::Shed, Enforcement::Shadow); // Decide and count, but let through.
//!
//! let keys = UserKeys::new();
//! let seen = move |now: Time, request: &Request<()>| {
//!     let field = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
//!     request::Request {
//!         tier: field("x-tier").and_then(Tier::from_name).unwrap_or_default(),
//!         deadline: now + Span::from_secs(2),
//!         ..request::Request::new(keys.key(field("x-api-key").unwrap_or_default().as_bytes()))
//!     }
//! };
//! let named = |name, quota| NamedQuota::new(name, quota).unwrap();
//! let quotas = vec![named("fast", fast), named("steady", steady)];
//! let refusals = Arc::new(Refusals::new(quotas, Families::default(), seed()));
//!
//! let layer = AdmissionLayer::new(Arc::new(gate), HttpAdapter::new(seen, refusals));
//! let orders = layer.layer(service_fn(async |_: Request<()>| {
//!     Ok::<_, std::convert::Infallible>(Response::new(String::from("order 66")))
//! }));
//! let response = orders.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(response.headers()["ratelimit"], r#""fast";r=99"#); // The tightest.
//! # });
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use seawall_core::decision::Rejection;
use seawall_core::gate::Gate;
use seawall_core::outcome::Outcome;
use seawall_core::request::Request;
use seawall_core::time::{Span, Time};
use tower_layer::Layer;
use tower_service::Service;

use crate::call::{self, CallFuture, CallLayer, Calls, Outgoing};
use crate::clock::now;
use crate::course::{Course, Readied};
use crate::enter::{Enter, Guard};
use crate::observe::{Observed, Watcher};
use crate::threads::Threads;

/// When the work of a response is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the response itself.
    WithResponse,
    /// When the guard is dropped: a body is still to come.
    WithGuard,
}

/// How a gate sees requests and responses of one kind.
pub trait Adapter<Req, Res, Err>: Clone {
    /// What comes out: an answer of the service, or a refusal.
    type Response;

    /// What the gate may know of this request.
    fn request(&self, now: Time, request: &Req) -> Request;

    /// How it went.
    fn outcome(&self, result: Result<&Res, &Err>) -> Outcome;

    /// Time that a call inside spent between its attempts; it says nothing about latency.
    fn waited(&self, response: &Res) -> Span {
        let _ = response;
        Span::ZERO
    }

    /// Whether a call inside sent a hedge: how long it took says nothing about the service either.
    fn hedged(&self, response: &Res) -> bool {
        let _ = response;
        false
    }

    /// When the work is over; with the guard if nothing else is said.
    fn end(&self, response: &Res) -> End {
        let _ = response;
        End::WithGuard
    }

    /// The answer, keeping the guard until the work is over.
    fn answer(&self, response: Res, guard: Guard) -> Self::Response;

    /// What a refused request is told.
    fn refuse(&self, rejection: Rejection) -> Self::Response;

    /// The gate has refused a request, or been told how it went: the moment to ask what changed in it.
    fn decided(&self) {}
}

/// A gate in front of every service that it wraps; they share it.
///
/// A response keeps its place under a limit until its body has ended or it is dropped. Who holds responses and
/// waits for others, as one who joins them in order, may wait for ever: drop each first, or give requests
/// a deadline.
///
/// A layer that is put in or left out, as by `tower::util::option_layer`, would have to leave the type of the
/// body as it is, and this one does not: leave it in, and turn policies off by [`Gate::switch`].
/// Whoever raises a limit of its gate by [`Gate::configure`] calls [`wake_turns`](crate::wake_turns) then.
#[derive(Clone)]
pub struct AdmissionLayer<A> {
    gate: Arc<Gate<Threads>>,
    adapter: A,
}

impl<A> AdmissionLayer<A> {
    /// Asks `gate`, seeing requests through `adapter`.
    pub fn new(gate: Arc<Gate<Threads>>, adapter: A) -> AdmissionLayer<A> {
        AdmissionLayer { gate, adapter }
    }

    /// The gate: for a snapshot, an override by hand, or another config.
    pub fn gate(&self) -> &Arc<Gate<Threads>> {
        &self.gate
    }

    /// The same, telling `watcher` what changes in the gate and who is refused.
    pub fn observed(self, watcher: Watcher) -> AdmissionLayer<Observed<A, Gate<Threads>>> {
        let adapter = Observed::new(self.adapter, watcher, self.gate.clone());
        AdmissionLayer { gate: self.gate, adapter }
    }

    /// The same in front of calls, as one layer: admitted, then called, then admitted by a host.
    /// Decides as the two layers do, and reads the clock once on the way in and once on the way out.
    pub fn around<B>(self, calls: CallLayer<B>) -> StackLayer<A, B> {
        StackLayer { admission: self, calls }
    }
}

impl<S, A: Clone> Layer<S> for AdmissionLayer<A> {
    type Service = Admission<S, A>;

    fn layer(&self, inner: S) -> Admission<S, A> {
        Admission { inner, gate: self.gate.clone(), adapter: self.adapter.clone() }
    }
}

/// A service behind a gate.
#[derive(Clone)]
pub struct Admission<S, A> {
    inner: S,
    gate: Arc<Gate<Threads>>,
    adapter: A,
}

impl<S, A, Req> Service<Req> for Admission<S, A>
where
    S: Service<Req> + Clone,
    A: Adapter<Req, S::Response, S::Error>,
{
    type Response = A::Response;
    type Error = S::Error;
    type Future = AdmissionFuture<Readied<S, Req>, A>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        AdmissionFuture::new(&self.gate, &self.adapter, Readied::new(self.inner.clone(), request))
    }
}

/// A gate in front of calls: [`AdmissionLayer::around`].
#[derive(Clone)]
pub struct StackLayer<A, B> {
    admission: AdmissionLayer<A>,
    calls: CallLayer<B>,
}

impl<S, A: Clone, B: Clone> Layer<S> for StackLayer<A, B> {
    type Service = Stack<S, A, B>;

    fn layer(&self, inner: S) -> Stack<S, A, B> {
        Stack { admission: self.admission.clone(), calls: self.calls.layer(inner) }
    }
}

/// A service whose requests are admitted by a gate and made calls.
#[derive(Clone)]
pub struct Stack<S, A, B> {
    admission: AdmissionLayer<A>,
    calls: Calls<S, B>,
}

impl<S, A, B, Req> Service<Req> for Stack<S, A, B>
where
    S: Service<Outgoing<Req>> + Clone,
    B: call::Adapter<Req, S::Response, S::Error>,
    A: Adapter<Req, B::Response, S::Error>,
{
    type Response = A::Response;
    type Error = S::Error;
    type Future = AdmissionFuture<CallFuture<S, B, Req>, A>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let AdmissionLayer { gate, adapter } = &self.admission;
        AdmissionFuture::new(gate, adapter, self.calls.call(request))
    }
}

pin_project! {
    /// The future of [`Admission`] and of [`Stack`].
    pub struct AdmissionFuture<C, A> {
        adapter: A,
        #[pin]
        door: Door,
        #[pin]
        course: C,
    }
}

pin_project! {
    /// How far a request has come.
    #[project = DoorProjection]
    enum Door {
        Closed { gate: Option<Arc<Gate<Threads>>> },
        Waits { #[pin] enter: Enter },
        Passed { guard: Option<Guard> },
    }
}

impl<C, A: Clone> AdmissionFuture<C, A> {
    #[inline]
    fn new(gate: &Arc<Gate<Threads>>, adapter: &A, course: C) -> AdmissionFuture<C, A> {
        AdmissionFuture { adapter: adapter.clone(), door: Door::Closed { gate: Some(gate.clone()) }, course }
    }
}

impl<C, A> AdmissionFuture<C, A>
where
    C: Course,
    A: Adapter<C::Request, C::Response, C::Error>,
{
    /// Passes the door, or is refused; says when, if the clock was read.
    #[inline]
    fn poll_door(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Option<Time>, Rejection>> {
        let mut this = self.project();
        let mut known = None;
        loop {
            match this.door.as_mut().project() {
                DoorProjection::Passed { .. } => return Poll::Ready(Ok(known)),
                DoorProjection::Closed { gate } => {
                    let gate = gate.take().expect("a future that was refused is not polled again");
                    let now = now();
                    let request = this.course.request().expect("kept until it is begun");
                    let request = this.adapter.request(now, request);
                    // The guard is made where it stays.
                    this.door.set(Door::Passed { guard: Some(Guard::blank(gate)) });
                    let DoorProjection::Passed { guard: Some(guard) } = this.door.as_mut().project() else {
                        unreachable!("it was just set")
                    };
                    match guard.ask(now, &request) {
                        Ok(None) => known = Some(now),
                        Ok(Some(enter)) => this.door.set(Door::Waits { enter }),
                        Err(rejection) => {
                            this.door.set(Door::Closed { gate: None });
                            return Poll::Ready(Err(rejection));
                        }
                    }
                }
                DoorProjection::Waits { enter } => {
                    let entered = ready!(enter.poll(cx));
                    this.door.set(Door::Passed { guard: Some(entered?) });
                }
            }
        }
    }
}

impl<C, A> Future for AdmissionFuture<C, A>
where
    C: Course,
    A: Adapter<C::Request, C::Response, C::Error>,
{
    type Output = Result<A::Response, C::Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let known = match ready!(self.as_mut().poll_door(cx)) {
            Ok(known) => known,
            Err(rejection) => {
                let refusal = self.adapter.refuse(rejection);
                self.adapter.decided();
                return Poll::Ready(Ok(refusal));
            }
        };
        let this = self.project();
        let (result, now) = ready!(this.course.poll_course(known, cx));
        let DoorProjection::Passed { guard: passed } = this.door.project() else {
            unreachable!("it has passed")
        };
        let guard = passed.as_mut().expect("a finished future is not polled again");
        let outcome = this.adapter.outcome(result.as_ref());
        let result = match result {
            Ok(response) => {
                let waited = this.adapter.waited(&response);
                if this.adapter.hedged(&response) {
                    guard.hedged();
                }
                match this.adapter.end(&response) {
                    End::WithResponse => guard.settle_at(now, outcome, waited),
                    End::WithGuard => guard.report_at(now, outcome, waited),
                }
                let guard = passed.take().expect("it is still there");
                Ok(this.adapter.answer(response, guard))
            }
            Err(error) => {
                guard.settle_at(now, outcome, Span::ZERO);
                *passed = None;
                Err(error)
            }
        };
        this.adapter.decided();
        Poll::Ready(result)
    }
}
