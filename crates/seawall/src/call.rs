//! Calls on tokio: attempts, backoff, hedges, budget and deadline around a service or a closure.
//!
//! **Mechanics.** [`Drive`] does what [`seawall_core::call::Call`] says: it sends, waits, gives up
//! and finishes, and decides nothing. Several attempts may be under way at once; those that lose are
//! dropped. [`CallLayer`] is the same as a tower layer: always ready, and each attempt readies a
//! clone of the inner service for itself.
//!
//! **Edges.** When the driving future is dropped, the attempts under way are settled as cancelled and
//! a retry that was paid for but never sent is refunded. The answer of a failed attempt is kept
//! until another attempt answers, so that the last real error is never lost. A timer is armed only
//! when an attempt does not answer at once; memory is allocated only for a hedge.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use seawall_core::backpressure::{self, Backpressure};
use seawall_core::call::{
    Attempt, Call, Config, Hosts, HostsConfig, HostsSnapshot, Lane, Member, Parts, Repeat, Settings, Shared,
    Snapshot, Step, Stop, Verdict,
};
use seawall_core::decision::Rejection;
use seawall_core::gate::{Gate, Own as _};
use seawall_core::outcome::Outcome;
use seawall_core::request::{Key, Request};
use seawall_core::rng::Rng;
use seawall_core::time::{Span, Time};
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use crate::clock::{self, instant, now};
use crate::course::{self, Course as _, Over, Readied};
use crate::enter::Guard;
use crate::identity::seed;
use crate::observe::{Observed, Watcher};
use crate::threads::{Locks, Threads};

/// The stream of chance of the hosts; calls have those from zero on.
const HOSTS: u64 = u64::MAX;

/// The key under which parts with one shard are reached.
const ONE: Key = Key(0);

/// What calls to one upstream share: its hosts, its retry budget, and what is known of it.
pub struct Upstream {
    hosts: Hosts<Threads>,
    shared: Arc<Locks<Shared>>,
    backpressure: Option<Arc<Locks<Backpressure>>>,
    front: Option<Arc<Gate<Threads>>>,
    seed: u64,
    calls: AtomicU64,
}

impl Upstream {
    /// These hosts by their back gates, with a budget and hedging of their own and a random seed.
    pub fn to(gates: Vec<Arc<Gate<Threads>>>, settings: Settings) -> Upstream {
        Upstream::new(gates, Arc::new(Locks::own(vec![Shared::new(settings, now())])), seed())
    }

    /// These hosts by their back gates, retries and hedges as `shared` says. `seed` makes the jitter
    /// of this process differ from that of others: draw it at random, outside of tests.
    pub fn new(gates: Vec<Arc<Gate<Threads>>>, shared: Arc<Locks<Shared>>, seed: u64) -> Upstream {
        let (members, mut rng) = (Member::numbered(gates), Rng::new(seed, HOSTS));
        Upstream::of(Hosts::balanced(HostsConfig::default(), members, now(), &mut rng), shared, seed)
    }

    /// The same with hosts of the caller's making, perhaps known from before.
    pub fn of(hosts: Hosts<Threads>, shared: Arc<Locks<Shared>>, seed: u64) -> Upstream {
        Upstream { hosts, shared, backpressure: None, front: None, seed, calls: AtomicU64::new(0) }
    }

    /// The same, held back when the upstream accepts little.
    pub fn with_backpressure(self, backpressure: Arc<Locks<Backpressure>>) -> Upstream {
        Upstream { backpressure: Some(backpressure), ..self }
    }

    /// The same, with the stream of chance of its first call numbered so; those after it count on. For
    /// whoever compares it with another driver of the same calls.
    pub fn numbered_from(self, first: u64) -> Upstream {
        Upstream { calls: AtomicU64::new(first), ..self }
    }

    /// The same behind a gate whose limit is the upstream's: nothing is hedged while it is under
    /// pressure.
    pub fn behind(self, front: Arc<Gate<Threads>>) -> Upstream {
        Upstream { front: Some(front), ..self }
    }

    /// Its hosts.
    pub fn hosts(&self) -> &Hosts<Threads> {
        &self.hosts
    }

    /// Plain values.
    pub fn snapshot(&self, now: Time) -> UpstreamSnapshot {
        let backpressure = self.backpressure.as_ref();
        UpstreamSnapshot {
            hosts: self.hosts.snapshot(now),
            calls: self.shared.with(ONE, |shared| shared.snapshot()),
            backpressure: backpressure.map(|held| held.with(ONE, |held| held.snapshot())),
        }
    }

    fn parts(&self) -> Parts<'_, Threads> {
        Parts {
            hosts: &self.hosts,
            shared: &self.shared,
            backpressure: self.backpressure.as_deref(),
            front: self.front.as_deref(),
        }
    }

    fn rng(&self) -> Rng {
        Rng::new(self.seed, self.calls.fetch_add(1, Ordering::Relaxed))
    }
}

/// Plain values of an upstream. Those of a back gate are [`Gate::snapshot`]'s.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSnapshot {
    /// Its hosts, how each does, and whether they panic.
    pub hosts: HostsSnapshot,
    /// Its budget, hedging and usual latency.
    pub calls: Snapshot,
    /// What its clients hold back; `None` when they do not.
    pub backpressure: Option<backpressure::Snapshot>,
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
    /// Attempts sent, hedges too.
    pub attempts: u32,
    /// How many of them were hedges.
    pub hedges: u32,
    /// Time spent between them.
    pub waited: Span,
}

impl<T> Ended<T> {
    /// The refusal that ended it, or that stood in the way of another attempt.
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.verdict {
            Verdict::Rejected(rejection) | Verdict::Answered { stop: Some(Stop::Rejected(rejection)) } => {
                Some(rejection)
            }
            Verdict::Answered { .. } | Verdict::Expired => None,
        }
    }
}

/// A call and what it gives back when it is dropped.
struct Course {
    call: Call,
    upstream: Arc<Upstream>,
    rng: Rng,
}

impl Course {
    #[inline]
    fn begin(&mut self, now: Time, request: Request, repeat: Repeat) {
        self.rng = self.upstream.rng();
        self.call.begin(request, repeat, now);
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        if !self.call.holds_nothing() {
            self.call.abandon(now(), &self.upstream.parts());
        }
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

    /// How much of the attempt's time says nothing of its host, such as making a connection: it counts
    /// neither as latency nor towards being slow.
    fn spared(&self, _answer: &Self::Answer) -> Span {
        Span::ZERO
    }

    /// Whether there is something left to make an attempt of. A retry is asked for only after a
    /// judgement that allows it, a hedge at any time.
    fn can_send(&self) -> bool {
        true
    }
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
        answer: Option<X::Answer>,
        armed: Time,
        #[pin]
        flights: Flights<X::Attempt>,
        #[pin]
        sleep: Option<Sleep>,
    }
}

pin_project! {
    /// The attempts under way: one in place, hedges on the heap.
    struct Flights<A> {
        lane: Option<Lane>,
        #[pin]
        first: Option<A>,
        more: Vec<(Lane, Pin<Box<A>>)>,
    }
}

impl<A: Future> Flights<A> {
    fn add(self: Pin<&mut Self>, lane: Lane, attempt: A) {
        let mut this = self.project();
        if this.lane.is_none() {
            *this.lane = Some(lane);
            this.first.set(Some(attempt));
        } else {
            this.more.push((lane, Box::pin(attempt)));
        }
    }

    fn drop_lane(self: Pin<&mut Self>, lane: Lane) {
        let mut this = self.project();
        if *this.lane == Some(lane) {
            *this.lane = None;
            this.first.set(None);
        } else {
            this.more.retain(|(other, _)| *other != lane);
        }
    }

    /// The first that has an answer; it is dropped.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<(Lane, A::Output)> {
        let this = self.as_mut().project();
        let first = match (*this.lane, this.first.as_pin_mut()) {
            (Some(lane), Some(attempt)) => match attempt.poll(cx) {
                Poll::Ready(answer) => Some((lane, answer)),
                Poll::Pending => None,
            },
            _ => None,
        };
        let mut more = this.more.iter_mut();
        let ended = first.or_else(|| {
            more.find_map(|(lane, attempt)| match attempt.as_mut().poll(cx) {
                Poll::Ready(answer) => Some((*lane, answer)),
                Poll::Pending => None,
            })
        })?;
        self.drop_lane(ended.0);
        Some(ended)
    }
}

impl<X: Exchange> Drive<X> {
    /// A call through `upstream`, to be over at the deadline of `request`. `repeat` says whether it
    /// may be sent again after an attempt that never answered, and so whether it may be hedged.
    pub fn new(
        upstream: Arc<Upstream>,
        config: Config,
        request: Request,
        repeat: Repeat,
        exchange: X,
    ) -> Drive<X> {
        let mut drive = Drive::unbegun(upstream, config, exchange);
        drive.course.begin(now(), request, repeat);
        drive
    }

    /// A call of which only its parts are known.
    #[inline]
    fn unbegun(upstream: Arc<Upstream>, config: Config, exchange: X) -> Drive<X> {
        let call = Call::new(config, Request::new(Key(0)), Repeat::Unsafe, Time::ZERO);
        let course = Course { call, upstream, rng: Rng::new(0, 0) };
        let flights = Flights { lane: None, first: None, more: Vec::new() };
        Drive { course, exchange, answer: None, armed: Time::MAX, flights, sleep: None }
    }

    /// The same, not hedged although other calls to its upstream are.
    pub fn unhedged(mut self) -> Drive<X> {
        self.unhedge();
        self
    }

    /// The same where it stands: it is large.
    pub fn unhedge(&mut self) {
        self.course.call.unhedge();
    }

    /// Takes in the answer of an attempt, if one is there; says when that was.
    fn hear(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Time> {
        let this = self.project();
        let (lane, answer) = this.flights.poll(cx)?;
        let now = now();
        let Judgement { outcome, repeat } = this.exchange.judge(&answer);
        let spared = this.exchange.spared(&answer);
        *this.answer = Some(answer);
        let Course { call, upstream, rng } = this.course;
        if spared > Span::ZERO {
            call.spare(lane, spared);
        }
        call.on_outcome(now, lane, outcome, repeat, &upstream.parts(), rng);
        Some(now)
    }

    /// Sends an attempt, if there is something left to send.
    fn send(self: Pin<&mut Self>, now: Time, attempt: Attempt) {
        let this = self.project();
        if this.exchange.can_send() {
            this.flights.add(attempt.lane, this.exchange.send(attempt));
        } else {
            let Course { call, upstream, .. } = this.course;
            call.on_unsent(now, attempt.lane, &upstream.parts());
        }
    }

    /// Goes on until something has to be waited for, or the call is over; `known` is the time if it was
    /// just read. Says when it was over; [`Drive::end`] says how.
    fn poll_known(mut self: Pin<&mut Self>, known: Option<Time>, cx: &mut Context<'_>) -> Poll<Time> {
        let mut now = known.unwrap_or_else(clock::now);
        // Whether all attempts under way know whom to wake.
        let mut heard = false;
        loop {
            let this = self.as_mut().project();
            let Course { call, upstream, rng } = this.course;
            match call.poll(now, &upstream.parts(), rng) {
                Step::Send(attempt) => {
                    self.as_mut().send(now, attempt);
                    // Most answer at once or not for long: ask before a timer is armed.
                    let answered = self.as_mut().hear(cx);
                    (heard, now) = (answered.is_none(), answered.unwrap_or(now));
                    if self.course.call.verdict().is_some() {
                        return Poll::Ready(now);
                    }
                }
                Step::Cancel { lane } => this.flights.drop_lane(lane),
                Step::Finish(_) => return Poll::Ready(now),
                Step::WaitUntil(until) => {
                    if !heard {
                        let answered = self.as_mut().hear(cx);
                        (heard, now) = (answered.is_none(), answered.unwrap_or(now));
                        continue;
                    }
                    let mut sleep = this.sleep;
                    if sleep.is_none() {
                        sleep.set(Some(tokio::time::sleep_until(instant(until))));
                    }
                    let mut sleep = sleep.as_pin_mut().expect("armed above");
                    if *this.armed != until {
                        *this.armed = until;
                        sleep.as_mut().reset(instant(until));
                    }
                    ready!(sleep.poll(cx));
                    now = clock::now();
                }
            }
        }
    }

    /// How the call, which is over, ended.
    #[inline]
    fn end(self: Pin<&mut Self>) -> Ended<X::Answer> {
        let this = self.project();
        let Course { call, upstream, .. } = this.course;
        let verdict = match call.verdict().expect("it is over") {
            // Written anew: of what was written a moment ago, a copy of the whole would have to wait.
            Verdict::Answered { stop: None } => Verdict::Answered { stop: None },
            verdict => *verdict,
        };
        let (attempts, hedges, waited) = (call.attempts(), call.hedges(), call.waited());
        let answer = this.answer.take();
        // What holds no place has been reported, and there is nothing more to do for it.
        if !call.holds_a_place() {
            return Ended { verdict, answer, guard: None, attempts, hedges, waited };
        }
        let held = call.take_ticket();
        let guard = held.map(|(host, ticket)| Guard::new(upstream.hosts.gates()[host].clone(), ticket));
        Ended { verdict, answer, guard, attempts, hedges, waited }
    }
}

impl<X: Exchange> Future for Drive<X> {
    type Output = Ended<X::Answer>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.as_mut().poll_known(None, cx));
        Poll::Ready(self.end())
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

    /// Whether sending it twice is harmless even if the first was received. What cannot be copied
    /// is never sent twice, whatever is said here.
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

    /// The same, telling `watcher` what changes in the upstream's hosts, and which calls found none
    /// that would take them.
    pub fn observed(self, watcher: Watcher) -> CallLayer<Observed<A, Upstream>> {
        let adapter = Observed::new(self.adapter, watcher, self.upstream.clone());
        CallLayer { upstream: self.upstream, config: self.config, adapter }
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
        let (service, adapter) = (self.inner.clone(), adapter.clone());
        let exchange = Copies { service, adapter, first: None, request: Some(request) };
        CallFuture { begun: false, drive: Drive::unbegun(upstream.clone(), *config, exchange) }
    }
}

pin_project! {
    /// The future of [`Calls`].
    #[project = CallFutureProjection]
    pub struct CallFuture<S, A, Req>
    where
        S: Service<Outgoing<Req>>,
        S: Clone,
        A: Adapter<Req, S::Response, S::Error>,
    {
        begun: bool,
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
        self.poll_course(None, cx).map(|(result, _)| result)
    }
}

impl<S, A, Req> course::Course for CallFuture<S, A, Req>
where
    S: Service<Outgoing<Req>> + Clone,
    A: Adapter<Req, S::Response, S::Error>,
{
    type Request = Req;
    type Response = A::Response;
    type Error = S::Error;

    fn request(&self) -> Option<&Req> {
        if self.begun { None } else { self.drive.exchange.request.as_ref() }
    }

    fn poll_course(self: Pin<&mut Self>, mut known: Option<Time>, cx: &mut Context<'_>) -> Poll<Over<Self>> {
        let CallFutureProjection { begun, mut drive } = self.project();
        if !std::mem::replace(begun, true) {
            let now = *known.get_or_insert_with(clock::now);
            drive.as_mut().begin(now);
        }
        let now = ready!(drive.as_mut().poll_known(known, cx));
        let ended = drive.as_mut().end();
        Poll::Ready((drive.project().exchange.adapter.end(ended), now))
    }
}

/// Sends copies of a request, and the request itself when it cannot be copied.
#[doc(hidden)]
pub struct Copies<S, A, Req> {
    service: S,
    adapter: A,
    /// The copy that is sent first.
    first: Option<Req>,
    request: Option<Req>,
}

impl<S, A, Req> Drive<Copies<S, A, Req>>
where
    S: Service<Outgoing<Req>> + Clone,
    A: Adapter<Req, S::Response, S::Error>,
{
    /// Makes a call of the request that it holds.
    #[inline]
    fn begin(self: Pin<&mut Self>, now: Time) {
        let this = self.project();
        let Copies { adapter, first, request, .. } = this.exchange;
        let request = request.as_ref().expect("kept until it is sent");
        let seen = adapter.request(now, request);
        *first = adapter.copy(request);
        let repeat = if first.is_some() { adapter.repeat(request) } else { Repeat::Unsafe };
        this.course.begin(now, seen, repeat);
    }
}

impl<S, A, Req> Exchange for Copies<S, A, Req>
where
    S: Service<Outgoing<Req>> + Clone,
    A: Adapter<Req, S::Response, S::Error>,
{
    type Answer = Result<S::Response, S::Error>;
    type Attempt = Readied<S, Outgoing<Req>>;

    fn send(&mut self, attempt: Attempt) -> Self::Attempt {
        let copy = || self.request.as_ref().and_then(|request| self.adapter.copy(request));
        let request = self.first.take().or_else(copy).or_else(|| self.request.take());
        let request = request.expect("only what can be sent is asked for");
        Readied::new(self.service.clone(), Outgoing { request, attempt })
    }

    fn judge(&mut self, answer: &Self::Answer) -> Judgement {
        let judgement = self.adapter.judge(answer.as_ref());
        let repeat = if self.request.is_some() { judgement.repeat } else { Repeat::Unsafe };
        Judgement { repeat, ..judgement }
    }

    fn can_send(&self) -> bool {
        self.request.is_some()
    }
}
