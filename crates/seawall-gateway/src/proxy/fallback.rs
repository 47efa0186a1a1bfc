//! The library's fallback layer around a route: a kept, a cheaper or a fixed answer.
//!
//! **Mechanics.** The layer belongs to the route and is shared by all workers, as its cache is; what
//! it asks is the worker on whose thread the request is. That one is found by the thread, and what
//! a worker makes is wrapped so that it cannot leave it.
//!
//! **Edges.** Only routes with a `fallback` pay for any of this.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use hyper::body::{Body, Frame, SizeHint};
use seawall::core::decision::Standing;
use seawall::core::fallback::store;
use seawall::core::gate::Gate;
use seawall::core::request;
use seawall::core::time::Time;
use seawall::fallback::{Cache, Dimmer, FallbackLayer};
use seawall::http::Held;
use seawall::http::fallback::{Copy, Fixed, Handlers, HttpFallback, Replayed, Resource, Settings};
use seawall::{Threads, now};
use seawall_config as config;
use send_wrapper::SendWrapper;
use tower_layer::Layer as _;
use tower_service::Service;

use super::inbound::Inbound;
use super::outbound::{Broken, Outbound};
use super::road::Route;
use super::stack::Stack;
use super::upstream::Outgoing;

/// What a worker answers by itself.
pub(super) type Plain = Held<Inbound, ()>;

type Seen = fn(Time, &Request<Outbound>) -> request::Request;

/// The fallback of one route.
pub(crate) type Layer = FallbackLayer<HttpFallback<Seen, Cheaper>, Resource, Arc<Copy>>;

thread_local! {
    /// The worker on this thread.
    static HERE: RefCell<Weak<Stack>> = const { RefCell::new(Weak::new()) };
}

/// What a request brings along through the layer.
struct Asking {
    route: Arc<Route>,
    seen: request::Request,
}

/// The layer for this chain, dimmed by the gate behind it.
pub(crate) fn layer(fallback: &config::Fallback, gate: Arc<Gate<Threads>>) -> Layer {
    let settings = Settings { unmarked: fallback.unmarked, ..Settings::default() };
    let seen: Seen = |now, request| match request.extensions().get::<Arc<Asking>>() {
        Some(asking) => asking.seen,
        None => request::Request { deadline: now, ..request::Request::new(request::Key(0)) },
    };
    let adapter = HttpFallback::new(seen, settings, Cheaper, answers(fallback));
    let cache = Cache::new(store::Config::default(), fallback.chain.window());
    FallbackLayer::new(fallback.chain.clone(), cache, Dimmer::of(gate), adapter)
}

/// The fixed answers of a fallback.
fn answers(fallback: &config::Fallback) -> Vec<Fixed> {
    let answer = |fixed: &config::Static| Fixed {
        status: fixed.status,
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, fixed.content_type.clone())]),
        body: fixed.body.clone().into(),
    };
    fallback.fixed.iter().map(answer).collect()
}

/// Asks the route's worker through the layer.
pub(super) async fn answer(
    worker: &Rc<Stack>,
    layer: &Layer,
    route: &Arc<Route>,
    seen: request::Request,
    mut request: Outgoing,
) -> Response<Payload> {
    HERE.with_borrow_mut(|here| *here = Rc::downgrade(worker));
    let asking = Asking { route: route.clone(), seen };
    request.extensions_mut().insert(Arc::new(asking));
    let Ok(mut response) = layer.layer(Worker).call(*request).await;
    let standing = response.extensions_mut().remove::<Standing>();
    route.refusals.annotate(response.headers_mut(), standing);
    response.map(|body| Payload::Replayed(Box::pin(body)))
}

/// The worker on this thread, as a service. It answers whatever was asked for with an [`Asking`].
#[derive(Clone, Copy)]
struct Worker;

type Answering = SendWrapper<Pin<Box<dyn Future<Output = Result<Response<OnThread>, Infallible>>>>>;

fn ask(request: Request<Outbound>, of: impl Fn(&Route) -> Option<Arc<Route>> + 'static) -> Answering {
    let (worker, request) = (HERE.with_borrow(Weak::upgrade), Box::new(request));
    SendWrapper::new(Box::pin(async move {
        let asking = request.extensions().get::<Arc<Asking>>().cloned();
        let response = match (worker, asking) {
            (Some(worker), Some(asking)) => {
                let route = of(&asking.route).unwrap_or_else(|| asking.route.clone());
                let deadline = asking.seen.deadline.max(now());
                let seen = request::Request { deadline, ..asking.seen };
                let (mut response, standing) = worker.pass(&route, seen, request).await;
                if let Some(standing) = standing {
                    response.extensions_mut().insert(standing);
                }
                response
            }
            // The worker has ended, and with it whoever waited for this.
            _ => super::stack::gone(),
        };
        Ok(response.map(|body| OnThread(SendWrapper::new(body))))
    }))
}

impl Service<Request<Outbound>> for Worker {
    type Response = Response<OnThread>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Outbound>) -> Answering {
        ask(request, |_| None)
    }
}

/// The cheaper upstreams of the route that is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cheaper;

impl Handlers<Request<Outbound>, Response<OnThread>, Infallible> for Cheaper {
    fn ask(
        &self,
        place: u8,
        request: Request<Outbound>,
    ) -> Option<impl Future<Output = Result<Response<OnThread>, Infallible>> + Send> {
        Some(ask(request, move |route| route.cheaper.get(usize::from(place)).cloned()))
    }
}

/// A body that stays on the thread of its worker.
pub(crate) struct OnThread(SendWrapper<Plain>);

impl Body for OnThread {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Pin::new(&mut *self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The body of an answer.
pub(crate) enum Payload {
    /// As the upstream sent it, or one of our own.
    Plain(Plain),
    /// Through the fallback.
    Replayed(Pin<Box<Replayed<OnThread>>>),
}

impl From<Plain> for Payload {
    fn from(body: Plain) -> Payload {
        Payload::Plain(body)
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Payload::Plain(body) => Pin::new(body).poll_frame(cx),
            Payload::Replayed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Plain(body) => body.is_end_stream(),
            Payload::Replayed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Plain(body) => body.size_hint(),
            Payload::Replayed(body) => body.size_hint(),
        }
    }
}
