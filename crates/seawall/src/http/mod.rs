//! HTTP: how gates see requests and responses, and what a refusal looks like on the wire.

mod body;
mod calls;
pub mod fallback;
pub mod grpc;
mod judge;
mod refusal;

use std::sync::Arc;

use ::http::{Extensions, Response};
use seawall_core::call::Stop;
use seawall_core::decision::Rejection;
use seawall_core::outcome::Outcome;
use seawall_core::request::Request;
use seawall_core::time::{Span, Time};

pub use body::{Full, Held};
pub use calls::{HttpCalls, Rider};
pub use judge::{judge, outcome, retry_after, retry_after_at};
pub use refusal::{Families, NamedQuota, Refusals};

use crate::admission::Adapter;
use crate::enter::Guard;

/// The time that a call spent between its attempts, carried in a response's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Waited(pub Span);

/// A hedge was sent for the call, carried in its response's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Hedged;

/// Why no other attempt followed the one that failed last, carried in the extensions of its answer: the real one of the
/// upstream, or the one that says that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped(pub Stop);

/// Nobody answered the call in time, carried in the extensions of the answer that says so.
#[derive(Clone, Copy, Debug)]
struct Unanswered;

/// Why a request was refused here, carried in the extensions of the answer: a layer around this one
/// can tell it from an answer of the service, and holds it against nobody.
#[derive(Clone, Copy, Debug)]
pub struct Refused(pub Rejection);

/// Sees HTTP: `of` says what the gate may know of a request. An answer that was good at its head and whose body
/// ends in an error has failed.
#[derive(Clone, Debug)]
pub struct HttpAdapter<F> {
    of: F,
    refusals: Arc<Refusals>,
    callers: Callers,
}

/// Who is answered.
#[derive(Clone, Copy, Debug)]
enum Callers {
    Http,
    Grpc,
}

impl<F> HttpAdapter<F> {
    /// Requests seen through `of`, refusals answered by `refusals`.
    pub fn new(of: F, refusals: Arc<Refusals>) -> HttpAdapter<F> {
        HttpAdapter { of, refusals, callers: Callers::Http }
    }

    /// The same for a gRPC service: a refusal is a status in the headers of an HTTP 200.
    pub fn grpc(of: F, refusals: Arc<Refusals>) -> HttpAdapter<F> {
        HttpAdapter { of, refusals, callers: Callers::Grpc }
    }
}

impl<F, B, RB, Err> Adapter<::http::Request<B>, Response<RB>, Err> for HttpAdapter<F>
where
    F: Fn(Time, &::http::Request<B>) -> Request + Clone,
{
    type Response = Response<Held<RB, Guard>>;

    fn request(&self, now: Time, request: &::http::Request<B>) -> Request {
        (self.of)(now, request)
    }

    fn outcome(&self, result: Result<&Response<RB>, &Err>) -> Outcome {
        // What did not come from the service says nothing about it.
        let is_ours = |extensions: &Extensions| {
            extensions.get::<fallback::Served>().is_some() || extensions.get::<Refused>().is_some()
        };
        match result {
            Ok(response) if is_ours(response.extensions()) => Outcome::Ignored,
            Ok(response) if response.extensions().get::<Unanswered>().is_some() => Outcome::TimedOut,
            Ok(response) => outcome(response.status(), response.headers()),
            Err(_) => Outcome::Failure,
        }
    }

    fn waited(&self, response: &Response<RB>) -> Span {
        response.extensions().get::<Waited>().map_or(Span::ZERO, |waited| waited.0)
    }

    fn hedged(&self, response: &Response<RB>) -> bool {
        response.extensions().get::<Hedged>().is_some()
    }

    fn answer(&self, mut response: Response<RB>, guard: Guard) -> Self::Response {
        self.refusals.annotate(response.headers_mut(), guard.standing());
        response.map(|body| Held::blaming(body, guard, Guard::broke))
    }

    fn refuse(&self, rejection: Rejection) -> Self::Response {
        let mut response = match self.callers {
            Callers::Http => self.refusals.response(&rejection),
            Callers::Grpc => self.refusals.grpc(&rejection),
        };
        response.extensions_mut().insert(Refused(rejection));
        response.map(Held::full)
    }
}
