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

use crate::clock::now;
use crate::enter::{Enter, Guard, enter};
use crate::threads::Threads;

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

    /// The answer, keeping the guard until the work is over.
    fn answer(&self, response: Res, guard: Guard) -> Self::Response;

    /// What a refused request is told.
    fn refuse(&self, rejection: Rejection) -> Self::Response;
}

/// A gate in front of every service that it wraps; they share it.
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
    type Future = AdmissionFuture<S, A, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let seen = self.adapter.request(now(), &request);
        AdmissionFuture {
            state: State::Entering { enter: enter(&self.gate, seen) },
            pending: Some((self.inner.clone(), request)),
            adapter: self.adapter.clone(),
        }
    }
}

pin_project! {
    /// The future of [`Admission`].
    pub struct AdmissionFuture<S, A, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future>,
        pending: Option<(S, Req)>,
        adapter: A,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Entering { #[pin] enter: Enter },
        Readying { guard: Option<Guard> },
        Calling { #[pin] call: F, guard: Option<Guard> },
    }
}

impl<S, A, Req> Future for AdmissionFuture<S, A, Req>
where
    S: Service<Req>,
    A: Adapter<Req, S::Response, S::Error>,
{
    type Output = Result<A::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProjection::Entering { enter } => match ready!(enter.poll(cx)) {
                    Ok(guard) => this.state.set(State::Readying { guard: Some(guard) }),
                    Err(rejection) => return Poll::Ready(Ok(this.adapter.refuse(rejection))),
                },
                StateProjection::Readying { guard } => {
                    let (service, _) = this.pending.as_mut().expect("kept until it is called");
                    let readied = ready!(service.poll_ready(cx));
                    let mut guard = guard.take();
                    if let Err(error) = readied {
                        if let Some(guard) = &mut guard {
                            guard.report(this.adapter.outcome(Err(&error)), Span::ZERO);
                        }
                        return Poll::Ready(Err(error));
                    }
                    let (mut service, request) = this.pending.take().expect("kept until now");
                    this.state.set(State::Calling { call: service.call(request), guard });
                }
                StateProjection::Calling { call, guard } => {
                    let result = ready!(call.poll(cx));
                    let mut guard = guard.take().expect("a finished future is not polled again");
                    let waited = result.as_ref().map_or(Span::ZERO, |response| this.adapter.waited(response));
                    guard.report(this.adapter.outcome(result.as_ref()), waited);
                    return Poll::Ready(result.map(|response| this.adapter.answer(response, guard)));
                }
            }
        }
    }
}
