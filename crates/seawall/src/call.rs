//! Calls on tokio: attempts, backoff, budget and deadline around a service or a closure.
//!
//! **Mechanics.** [`Drive`] does what [`seawall_core::call::Call`] says: it sends, waits, gives up
//! and finishes, and decides nothing. [`CallLayer`] is the same as a tower layer: always ready, and
//! each attempt readies a clone of the inner service for itself.
//!
//! **Edges.** When the driving future is dropped, the attempt under way is settled as cancelled and
//! a retry that was paid for but never sent is refunded. The answer of a failed attempt is kept
//! until the next attempt is really sent, so that the last real error is never lost. A timer is
//! armed only when an attempt does not answer at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use seawall_core::call::{
    Attempt, Call, Config, Hosts, HostsConfig, Lane, Member, Parts, Repeat, Step, Verdict,
};
use seawall_core::gate::Gate;
use seawall_core::outcome::Outcome;
use seawall_core::request::Request;
use seawall_core::retry::budget::Budget;
use seawall_core::rng::Rng;
use seawall_core::time::{Span, Time};
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::clock::{instant, now};
use crate::enter::Guard;
use crate::threads::{Locks, Threads};

/// What calls to one upstream share: its hosts and its retry budget.
pub struct Upstream {
    hosts: Hosts<Threads>,
    budget: Arc<Locks<Budget>>,
    seed: u64,
    calls: AtomicU64,
}

impl Upstream {
    /// These hosts by their back gates, retries paid for by `budget`. `seed` makes the jitter of
    /// this process differ from that of others: draw it at random, outside of tests.
    pub fn new(gates: Vec<Arc<Gate<Threads>>>, budget: Arc<Locks<Budget>>, seed: u64) -> Upstream {
        Upstream::of(Hosts::balanced(HostsConfig::default(), Member::numbered(gates)), budget, seed)
    }

    /// The same with hosts of the caller's making, perhaps known from before.
    pub fn of(hosts: Hosts<Threads>, budget: Arc<Locks<Budget>>, seed: u64) -> Upstream {
        Upstream { hosts, budget, seed, calls: AtomicU64::new(0) }
    }

    /// Its hosts.
    pub fn hosts(&self) -> &Hosts<Threads> {
        &self.hosts
    }

    fn parts(&self) -> Parts<'_, Threads> {
        Parts { hosts: &self.hosts, budget: Some(&self.budget) }
    }

    fn rng(&self) -> Rng {
        Rng::new(self.seed, self.calls.fetch_add(1, Ordering::Relaxed))
    }
}

/// How an attempt went, and whether it may be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Judgement {
    /// What the host's gate and the budget are told.
    pub outcome: Outcome,
    /// Whether another attempt would be harmless.
    pub repeat: Repeat,
}

/// How a call ended.
#[derive(Debug)]
pub struct Ended<T> {
    /// The verdict.
    pub verdict: Verdict,
    /// The last answer; `None` when there was none.
    pub answer: Option<T>,
    /// The place of that answer at its host, to be kept until its body ends.
    pub guard: Option<Guard>,
    /// Attempts sent.
    pub attempts: u32,
    /// Time spent between them.
    pub waited: Span,
}

/// A call and what it gives back when it is dropped.
struct Course {
    call: Call,
    upstream: Arc<Upstream>,
    rng: Rng,
}

impl Drop for Course {
    fn drop(&mut self) {
        self.call.abandon(now(), &self.upstream.parts());
    }
}

/// What a call does to make an attempt.
pub trait Exchange {
    /// What comes back.
    type Answer;
    /// The attempt under way.
    type Attempt: Future<Output = Self::Answer>;

    /// Makes an attempt.
    fn send(&mut self, attempt: Attempt) -> Self::Attempt;

    /// Says how it went.
    fn judge(&mut self, answer: &Self::Answer) -> Judgement;
}

/// An exchange of two closures.
#[derive(Debug)]
pub struct Closures<S, J> {
    /// Makes an attempt.
    pub send: S,
    /// Says how it went.
    pub judge: J,
}

impl<S, J, F> Exchange for Closures<S, J>
where
    S: FnMut(Attempt) -> F,
    J: FnMut(&F::Output) -> Judgement,
    F: Future,
{
    type Answer = F::Output;
    type Attempt = F;

    fn send(&mut self, attempt: Attempt) -> F {
        (self.send)(attempt)
    }

    fn judge(&mut self, answer: &F::Output) -> Judgement {
        (self.judge)(answer)
    }
}

pin_project! {
    /// One call, driven to its end.
    #[must_use = "futures do nothing unless polled"]
    pub struct Drive<X: Exchange> {
        course: Course,
        exchange: X,
        lane: Option<Lane>,
        answer: Option<X::Answer>,
        armed: Time,
        #[pin]
        attempt: Option<X::Attempt>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl<X: Exchange> Drive<X> {
    /// A call through `upstream`, to be over at the deadline of `request`. `repeat` says whether it
    /// may be sent again after an attempt that never answered.
    pub fn new(
        upstream: Arc<Upstream>,
        config: Config,
        request: Request,
        repeat: Repeat,
        exchange: X,
    ) -> Drive<X> {
        let rng = upstream.rng();
        let call = Call::new(config, request, repeat, now());
        let course = Course { call, upstream, rng };
        Drive { course, exchange, lane: None, answer: None, armed: Time::MAX, attempt: None, sleep: None }
    }
}

impl<X: Exchange> Future for Drive<X> {
    type Output = Ended<X::Answer>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let Course { call, upstream, rng } = &mut *this.course;
            match call.poll(now(), &upstream.parts(), rng) {
                Step::Send(attempt) => {
                    *this.answer = None;
                    *this.lane = Some(attempt.lane);
                    this.attempt.set(Some(this.exchange.send(attempt)));
                }
                Step::Cancel { .. } => this.attempt.set(None),
                Step::Finish(verdict) => {
                    let guard = call
                        .take_ticket()
                        .map(|(host, ticket)| Guard::new(upstream.hosts.gates()[host].clone(), ticket));
                    let (attempts, waited) = (call.attempts(), call.waited());
                    return Poll::Ready(Ended {
                        verdict,
                        answer: this.answer.take(),
                        guard,
                        attempts,
                        waited,
                    });
                }
                Step::WaitUntil(until) => {
                    if let (Some(attempt), Some(lane)) = (this.attempt.as_mut().as_pin_mut(), *this.lane)
                        && let Poll::Ready(answer) = attempt.poll(cx)
                    {
                        let Judgement { outcome, repeat } = this.exchange.judge(&answer);
                        *this.answer = Some(answer);
                        this.attempt.set(None);
                        call.on_outcome(now(), lane, outcome, repeat, &upstream.parts(), rng);
                        continue;
                    }
                    if this.sleep.is_none() {
                        this.sleep.set(Some(tokio::time::sleep_until(instant(until))));
                    }
                    let mut sleep = this.sleep.as_mut().as_pin_mut().expect("armed above");
                    if *this.armed != until {
                        *this.armed = until;
                        sleep.as_mut().reset(instant(until));
                    }
                    if sleep.poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

/// How calls see requests and responses of one kind.
pub trait Adapter<Req, Res, Err>: Clone {
    /// What comes out.
    type Response;

    /// What the policies may know of this request, its deadline above all.
    fn request(&self, now: Time, request: &Req) -> Request;

    /// Another one like it; `None` when it can be sent only once.
    fn copy(&self, request: &Req) -> Option<Req>;

    /// Whether sending it twice is harmless even if the first was received.
    fn repeat(&self, request: &Req) -> Repeat;

    /// How an attempt went.
    fn judge(&self, result: Result<&Res, &Err>) -> Judgement;

    /// The end of the call, as a response.
    fn end(&self, ended: Ended<Result<Res, Err>>) -> Result<Self::Response, Err>;
}

/// A request on its way to one host.
#[derive(Clone, Debug)]
pub struct Outgoing<Req> {
    /// The request.
    pub request: Req,
    /// Which attempt it is, to which host, and until when.
    pub attempt: Attempt,
}

/// Makes each request a call through an upstream.
#[derive(Clone)]
pub struct CallLayer<A> {
    upstream: Arc<Upstream>,
    config: Config,
    adapter: A,
}

impl<A> CallLayer<A> {
    /// Calls through `upstream` as `config` says, seen through `adapter`.
    pub fn new(upstream: Arc<Upstream>, config: Config, adapter: A) -> CallLayer<A> {
        CallLayer { upstream, config, adapter }
    }
}

impl<S, A: Clone> Layer<S> for CallLayer<A> {
    type Service = Calls<S, A>;

    fn layer(&self, inner: S) -> Calls<S, A> {
        Calls { inner, layer: self.clone() }
    }
}

/// A service whose requests are calls. The inner service is told the host with each [`Outgoing`].
#[derive(Clone)]
pub struct Calls<S, A> {
    inner: S,
    layer: CallLayer<A>,
}

impl<S, A, Req> Service<Req> for Calls<S, A>
where
    S: Service<Outgoing<Req>> + Clone,
    A: Adapter<Req, S::Response, S::Error>,
{
    type Response = A::Response;
    type Error = S::Error;
    type Future = CallFuture<S, A, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let CallLayer { upstream, config, adapter } = &self.layer;
        let seen = adapter.request(now(), &request);
        let repeat = adapter.repeat(&request);
        let exchange =
            Copies { service: self.inner.clone(), adapter: adapter.clone(), request: Some(request) };
        CallFuture {
            adapter: adapter.clone(),
            drive: Drive::new(upstream.clone(), *config, seen, repeat, exchange),
        }
    }
}

pin_project! {
    /// The future of [`Calls`].
    pub struct CallFuture<S, A, Req>
    where
        S: Service<Outgoing<Req>>,
        S: Clone,
        A: Adapter<Req, S::Response, S::Error>,
    {
        adapter: A,
        #[pin]
        drive: Drive<Copies<S, A, Req>>,
    }
}

impl<S, A, Req> Future for CallFuture<S, A, Req>
where
    S: Service<Outgoing<Req>> + Clone,
    A: Adapter<Req, S::Response, S::Error>,
{
    type Output = Result<A::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.drive.poll(cx).map(|ended| this.adapter.end(ended))
    }
}

/// Sends copies of a request, and the request itself when it cannot be copied.
#[doc(hidden)]
pub struct Copies<S, A, Req> {
    service: S,
    adapter: A,
    request: Option<Req>,
}

impl<S, A, Req> Exchange for Copies<S, A, Req>
where
    S: Service<Outgoing<Req>> + Clone,
    A: Adapter<Req, S::Response, S::Error>,
{
    type Answer = Result<S::Response, S::Error>;
    type Attempt = Readied<S, Outgoing<Req>>;

    fn send(&mut self, attempt: Attempt) -> Self::Attempt {
        let copy = self.request.as_ref().and_then(|request| self.adapter.copy(request));
        let request = copy.or_else(|| self.request.take());
        let request = request.expect("what cannot be copied is judged as unsafe to repeat");
        Readied::Readying { pending: Some((self.service.clone(), Outgoing { request, attempt })) }
    }

    fn judge(&mut self, answer: &Self::Answer) -> Judgement {
        let judgement = self.adapter.judge(answer.as_ref());
        let repeat = if self.request.is_some() { judgement.repeat } else { Repeat::Unsafe };
        Judgement { repeat, ..judgement }
    }
}

pin_project! {
    /// A service that is readied, then called.
    #[doc(hidden)]
    #[project = ReadiedProjection]
    pub enum Readied<S, R>
    where
        S: Service<R>,
    {
        /// Not ready yet.
        Readying { pending: Option<(S, R)> },
        /// Called.
        Calling { #[pin] call: S::Future },
    }
}

impl<S: Service<R>, R> Future for Readied<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                ReadiedProjection::Readying { pending } => {
                    let (service, _) = pending.as_mut().expect("kept until it is called");
                    ready!(service.poll_ready(cx))?;
                    let (mut service, request) = pending.take().expect("kept until now");
                    self.set(Readied::Calling { call: service.call(request) });
                }
                ReadiedProjection::Calling { call } => return call.poll(cx),
            }
        }
    }
}
