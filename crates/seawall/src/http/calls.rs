//! How calls see HTTP.

use std::sync::Arc;

use ::http::{Request, Response};
use seawall_core::call::{Called, Repeat, Verdict};
use seawall_core::decision::{Policy, Reason, Rejection};
use seawall_core::outcome::Outcome;
use seawall_core::request;
use seawall_core::time::{Span, Time};

use super::body::Held;
use super::judge::{judge, outcome};
use super::refusal::Refusals;
use super::{Hedged, Refused, Stopped, Unanswered, Waited};
use crate::call::{Adapter, Ended, Judgement, Upstream};
use crate::enter::Guard;

/// Sees HTTP for a [`CallLayer`](crate::call::CallLayer): `of` says what the policies may know of a
/// request, its deadline above all.
///
/// Only what is idempotent ([`Method::is_idempotent`](::http::Method::is_idempotent)) is sent again: on
/// an error, 502, 503, 504, and on 429 with a `Retry-After`, which is obeyed. The last real answer
/// stands; when there is none, the answer is a refusal: 503, or 504 when the deadline has passed. The
/// place at the host is kept until the body has ended; when a good answer's ends in an error, the host has failed.
///
/// Bodies must be `Clone`, since attempts are copies. For one that is not, such as a stream, read it first
/// (`http_body_util::Full` is `Clone`), or write an [`Adapter`] whose `copy` returns `None`: it is sent once.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use seawall::call::{CallLayer, Outgoing, Upstream};
/// use seawall::core::call::{Config, Settings};
/// use seawall::core::gate::{self, Gate, Lane};
/// use seawall::core::request::{self, Key};
/// use seawall::core::time::{Span, Time};
/// use seawall::http::{Families, HttpCalls, Refusals};
/// use seawall::{now, seed};
/// use std::sync::Arc;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let hosts = (0..2).map(|_| Arc::new(Gate::new(gate::Settings::default(), Lane::default(), now())));
/// let upstream = Arc::new(Upstream::to(hosts.collect(), Settings::default()));
///
/// let of = |now: Time, _: &Request<Empty<Bytes>>| request::Request {
///     deadline: now + Span::from_secs(2),
///     ..request::Request::new(Key(1))
/// };
/// let refusals = Arc::new(Refusals::new(Vec::new(), Families::default(), seed()));
/// let calls = CallLayer::new(upstream, Config::default(), HttpCalls::new(of, refusals));
/// let orders = calls.layer(service_fn(async |outgoing: Outgoing<Request<Empty<Bytes>>>| {
///     // A client would send it to the host of this place.
///     let status = if outgoing.attempt.number == 1 { 503 } else { 200 };
///     let response = Response::builder().status(status).body(Empty::<Bytes>::new()).unwrap();
///     Ok::<_, std::convert::Infallible>(response)
/// }));
/// let response = orders.oneshot(Request::new(Empty::new())).await.unwrap();
/// assert_eq!(response.status(), 200);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct HttpCalls<F> {
    of: F,
    refusals: Arc<Refusals>,
}

impl<F> HttpCalls<F> {
    /// Requests seen through `of`, calls without an answer answered by `refusals`.
    pub fn new(of: F, refusals: Arc<Refusals>) -> HttpCalls<F> {
        HttpCalls { of, refusals }
    }
}

/// What rides in the body of an answer: the place at the host, and who gave the answer, if it was good.
pub struct Rider {
    _place: Option<Guard>,
    blame: Option<(Arc<Upstream>, Called)>,
}

impl Rider {
    fn broke(self) {
        if let Some((upstream, called)) = &self.blame {
            upstream.broke(*called);
        }
    }
}

impl<F, B, RB, Err> Adapter<Request<B>, Response<RB>, Err> for HttpCalls<F>
where
    F: Fn(Time, &Request<B>) -> request::Request + Clone,
    B: Clone,
{
    type Response = Response<Held<RB, Rider>>;

    fn request(&self, now: Time, request: &Request<B>) -> request::Request {
        (self.of)(now, request)
    }

    fn copy(&self, request: &Request<B>) -> Option<Request<B>> {
        // What will not be sent twice is not copied.
        request.method().is_idempotent().then(|| request.clone())
    }

    fn repeat(&self, request: &Request<B>) -> Repeat {
        if request.method().is_idempotent() { Repeat::Safe } else { Repeat::Unsafe }
    }

    fn judge(&self, result: Result<&Response<RB>, &Err>) -> Judgement {
        match result {
            Ok(response) => judge(response.status(), response.headers(), Repeat::Safe),
            Err(_) => Judgement { outcome: Outcome::Failure, repeat: Repeat::Safe },
        }
    }

    fn end(
        &self,
        upstream: &Arc<Upstream>,
        ended: Ended<Result<Response<RB>, Err>>,
    ) -> Result<Self::Response, Err> {
        let Ended { verdict, answer, guard, called, hedges, waited, .. } = ended;
        let mut response = match answer {
            Some(answer) => {
                let answer = answer?;
                let is_good = outcome(answer.status(), answer.headers()) == Outcome::Success;
                let blame = called.filter(|_| is_good).map(|called| (upstream.clone(), called));
                answer.map(|body| Held::blaming(body, Rider { _place: guard, blame }, Rider::broke))
            }
            None => {
                let rejection = match verdict {
                    Verdict::Rejected(rejection) => rejection,
                    Verdict::Answered { .. } | Verdict::Expired => {
                        Rejection::new(Policy::Deadline, Reason::Expired, Span::ZERO)
                    }
                };
                let mut response = self.refusals.response(&rejection).map(Held::full);
                // A callee that did not answer is no refusal of ours.
                match verdict {
                    Verdict::Rejected(rejection) => _ = response.extensions_mut().insert(Refused(rejection)),
                    _ => _ = response.extensions_mut().insert(Unanswered),
                }
                response
            }
        };
        if let Verdict::Answered { stop: Some(stop) } = verdict {
            response.extensions_mut().insert(Stopped(stop));
        }
        if waited > Span::ZERO {
            response.extensions_mut().insert(Waited(waited));
        }
        if hedges > 0 {
            response.extensions_mut().insert(Hedged);
        }
        Ok(response)
    }
}
