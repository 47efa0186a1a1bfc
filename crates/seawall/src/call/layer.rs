//! Calls as a tower layer: always ready, and each attempt readies a clone of the inner service for itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use seawall_core::call::{Attempt, Config, Repeat};
use seawall_core::request::Request;
use seawall_core::time::Time;
use tower_layer::Layer;
use tower_service::Service;

use super::Upstream;
use super::drive::{Drive, Ended, Exchange, Judgement};
use crate::clock;
use crate::course::{self, Course as _, Over, Readied};
use crate::observe::{Observed, Watcher};

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

    /// The end of the call, as a response. Where a good answer may still break off, `upstream` is told of it:
    /// [`Upstream::broke`].
    fn end(&self, upstream: &Arc<Upstream>, ended: Ended<Result<Res, Err>>) -> Result<Self::Response, Err>;
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

    #[inline]
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

    #[inline]
    fn poll_course(self: Pin<&mut Self>, mut known: Option<Time>, cx: &mut Context<'_>) -> Poll<Over<Self>> {
        let CallFutureProjection { begun, mut drive } = self.project();
        if !std::mem::replace(begun, true) {
            let now = *known.get_or_insert_with(clock::now);
            let (request, repeat) = drive.as_mut().project().exchange.see(now);
            drive.as_mut().begin(now, request, repeat);
        }
        let now = ready!(drive.as_mut().poll_known(known, cx));
        Poll::Ready((drive.end(|upstream, exchange, ended| exchange.adapter.end(upstream, ended)), now))
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

impl<S, A, Req> Copies<S, A, Req>
where
    S: Service<Outgoing<Req>> + Clone,
    A: Adapter<Req, S::Response, S::Error>,
{
    /// What the policies may know of its request, of which it makes the first copy.
    #[inline]
    fn see(&mut self, now: Time) -> (Request, Repeat) {
        let request = self.request.as_ref().expect("kept until it is sent");
        let seen = self.adapter.request(now, request);
        self.first = self.adapter.copy(request);
        (seen, if self.first.is_some() { self.adapter.repeat(request) } else { Repeat::Unsafe })
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
