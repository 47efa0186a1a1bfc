//! The library's fallback layer around a route: a kept, a cheaper or a fixed answer.
//!
//! **Mechanics.** The layer belongs to the route and is shared by all workers, as its cache is; what
//! it asks is the worker on whose thread the request is. That one is found by the thread, and what
//! a worker makes is wrapped so that it cannot leave it. A request that nobody else waits for is sent as without a
//! fallback, and goes on in the layer when its answer is not an ordinary one. The request is shared between the layer, which may
//! go on with it, and the attempts: asking copies no header.
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
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use seawall::Threads;
use seawall::core::decision::Standing;
use seawall::core::fallback::Trouble;
use seawall::core::fallback::store::{self, Kept};
use seawall::core::gate::Gate;
use seawall::core::request;
use seawall::core::time::Time;
use seawall::fallback::{Adapter, Cache, Dimmer, FallbackLayer, Seek, Sending, Source, TakenBy};
use seawall::http::Held;
use seawall::http::fallback::{Copy, Fixed, HttpFallback, NOT_KEPT, Replayed, Resource, Served, Settings};
use seawall::now;
use seawall_config as config;
use send_wrapper::SendWrapper;
use tower_layer::Layer as _;
use tower_service::Service;

use super::access::Line;
use super::inbound::Inbound;
use super::outbound::{Broken, Outbound};
use super::outgoing::Outgoing;
use super::reason;
use super::road::Route;
use super::stack::Stack;

/// What a worker answers by itself.
pub(super) type Plain = Held<Inbound, ()>;

/// The fallback of one route.
pub(crate) type Layer = FallbackLayer<Seeing, Resource, Arc<Copy>>;

type Seen = fn(Time, &Request<Outbound>) -> request::Request;

thread_local! {
    /// The worker on this thread.
    static HERE: RefCell<Weak<Stack>> = const { RefCell::new(Weak::new()) };
}

/// A request of a route.
#[derive(Clone)]
pub(crate) struct Asking {
    request: Outgoing,
    route: Arc<Route>,
    seen: request::Request,
}

/// Sees what is asked as HTTP, and shares it instead of copying it.
#[derive(Clone)]
pub(crate) struct Seeing(HttpFallback<Seen, ()>);

/// The layer for this chain, dimmed by the gate behind it. These fields say who is asking.
pub(crate) fn layer(
    fallback: &config::Fallback,
    personal: Vec<HeaderName>,
    gate: Arc<Gate<Threads>>,
) -> Layer {
    let config::Room { body, bytes, entries } = fallback.room;
    let settings = Settings { body_max: body, unmarked: fallback.unmarked, personal, addresses: entries };
    // Never asked: what the policies may know comes along.
    let seen: Seen = |_, _| request::Request::new(request::Key(0));
    let adapter = Seeing(HttpFallback::new(seen, settings, (), answers(fallback)));
    let bounds = store::Config { entries, bytes, ..store::Config::default() };
    let cache = Cache::new(bounds, fallback.chain.window());
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
    request: Outgoing,
) -> Response<Payload> {
    let fallback = layer.layer(Worker);
    let asking = Asking { request: request.roomy(), route: route.clone(), seen };
    let alone = match fallback.begin(&asking).alone() {
        Ok(alone) => alone,
        Err(begun) => {
            HERE.with_borrow_mut(|here| *here = Rc::downgrade(worker));
            return replied(route, &seen, fallback.go_on(asking, begun, None).await);
        }
    };
    // As most are, and for them nothing has to be wrapped.
    let (mut response, standing) = worker.pass(route, seen, asking.request.clone()).await;
    if let Some(left) = layer.adapter().0.leaves(&asking.request, &response) {
        fallback.leave(alone, left);
        route.refusals.annotate(response.headers_mut(), standing);
        return response.map(Payload::Plain);
    }
    HERE.with_borrow_mut(|here| *here = Rc::downgrade(worker));
    let passed = Ok(Passed::new(response, standing));
    replied(route, &seen, fallback.go_on(asking, alone.into(), Some(passed)).await)
}

/// Answers that a layer was to keep and that were too large.
pub(crate) fn too_large(layer: &Layer) -> u64 {
    layer.adapter().0.too_large()
}

/// What comes out of the layer. What is kept needs no place, but it spends the quotas.
fn replied(
    route: &Route,
    seen: &request::Request,
    replied: Result<Replied, Infallible>,
) -> Response<Payload> {
    let Ok(Replied { mut response, mut standing, lost }) = replied;
    if let Some(trouble @ (Trouble::NoAnswer | Trouble::Failed)) = lost {
        return broken(route, seen, trouble).map(Payload::Plain);
    }
    if let Some(Served(Source::Fresh | Source::Joined | Source::Revalidating)) = response.extensions().get() {
        match route.gate.spend(now(), seen) {
            Ok(spent) => standing = spent,
            Err(rejection) => return super::stack::refuse(route, &rejection).map(Payload::Plain),
        }
    }
    // Only a timeout can be for want of something kept.
    if response.status() == StatusCode::GATEWAY_TIMEOUT
        && reason::of(&response).is_some_and(|reason| reason == NOT_KEPT)
    {
        route.stats.unkept.inc();
    }
    route.refusals.annotate(response.headers_mut(), standing);
    response.map(Payload::Replayed)
}

/// The answer where one came and did not come whole, or none came in time.
fn broken(route: &Route, seen: &request::Request, trouble: Trouble) -> Response<Plain> {
    let is_late = trouble == Trouble::NoAnswer && seen.deadline <= now();
    let (status, title, error) = match is_late {
        true => (StatusCode::GATEWAY_TIMEOUT, "Deadline passed", "http_response_timeout"),
        false => (StatusCode::BAD_GATEWAY, "The upstream broke off its answer", "http_response_incomplete"),
    };
    route.stats.upstream_failed.inc();
    route.refusals.upstream_failed(status, title, error).map(Held::full)
}

/// The worker on this thread, as a service.
#[derive(Clone, Copy)]
struct Worker;

/// What a worker answers, and how the user stands, which is for this answer alone.
pub(crate) struct Passed {
    response: Response<OnThread>,
    standing: Option<Standing>,
}

/// The same after the fallback.
pub(crate) struct Replied {
    response: Response<Replayed<OnThread>>,
    standing: Option<Standing>,
    /// Why there is no answer at all.
    lost: Option<Trouble>,
}

impl Passed {
    fn new(response: Response<Plain>, standing: Option<Standing>) -> Passed {
        Passed { response: response.map(|body| OnThread(SendWrapper::new(body))), standing }
    }
}

impl From<Response<Replayed<OnThread>>> for Replied {
    fn from(response: Response<Replayed<OnThread>>) -> Replied {
        Replied { response, standing: None, lost: None }
    }
}

type Answered = Result<Passed, Infallible>;
type Answering = SendWrapper<Pin<Box<dyn Future<Output = Answered>>>>;

fn ask(asking: Asking) -> Answering {
    let worker = HERE.with_borrow(Weak::upgrade);
    SendWrapper::new(Box::pin(async move {
        // Without one, the worker has ended, and with it whoever waited for this.
        let Some(worker) = worker else { return Ok(Passed::new(super::stack::gone(), None)) };
        let Asking { request, route, seen } = asking;
        let (response, standing) = worker.pass(&route, seen, request).await;
        Ok(Passed::new(response, standing))
    }))
}

impl Service<Asking> for Worker {
    type Response = Passed;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, asking: Asking) -> Answering {
        ask(asking)
    }
}

impl Seeing {
    /// The same for the request alone.
    fn http(
        &self,
    ) -> &impl Adapter<
        Request<Outbound>,
        Response<OnThread>,
        Infallible,
        Key = Resource,
        Kept = Arc<Copy>,
        Response = Response<Replayed<OnThread>>,
    > {
        &self.0
    }
}

impl Adapter<Asking, Passed, Infallible> for Seeing {
    type Key = Resource;
    type Kept = Arc<Copy>;
    type Response = Replied;

    fn request(&self, _: Time, asking: &Asking) -> request::Request {
        asking.seen
    }

    fn seek(&self, now: Time, asking: &Asking) -> Seek<Resource> {
        self.http().seek(now, &asking.request)
    }

    fn outdated(&self, key: &Resource, passed: &Passed) {
        self.http().outdated(key, &passed.response);
    }

    fn copy(&self, asking: &Asking, sending: Sending) -> Asking {
        let conditions = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];
        let is_conditional = || conditions.iter().any(|name| asking.request.headers().contains_key(name));
        if sending == Sending::Shared && is_conditional() {
            let request = Outgoing::new(self.http().copy(&asking.request, sending)).roomy();
            return Asking { request, ..asking.clone() };
        }
        asking.clone()
    }

    fn confirming(&self, asking: &Asking, held: &Arc<Copy>) -> Option<Asking> {
        let request = Outgoing::new(self.http().confirming(&asking.request, held)?).roomy();
        Some(Asking { request, ..asking.clone() })
    }

    fn trouble(&self, result: Result<&Passed, &Infallible>) -> Option<Trouble> {
        self.http().trouble(result.map(|passed| &passed.response))
    }

    fn take<'a>(
        &'a self,
        asking: &'a Asking,
        key: &'a Resource,
        held: Option<Kept<Arc<Copy>>>,
        passed: Passed,
        until: Time,
    ) -> Result<
        TakenBy<Self, Asking, Passed, Infallible>,
        impl Future<Output = TakenBy<Self, Asking, Passed, Infallible>> + Send,
    > {
        let Passed { response, standing } = passed;
        let replied = move |response| Replied { response, standing, lost: None };
        match self.http().take(&asking.request, key, held, response, until) {
            Ok(taken) => Ok(taken.map(replied)),
            Err(reading) => Err(async move { reading.await.map(replied) }),
        }
    }

    fn cheaper(&self, place: u8, asking: Asking) -> Option<impl Future<Output = Answered> + Send> {
        let route = asking.route.cheaper.get(usize::from(place))?.clone();
        Some(ask(Asking { route, ..asking }))
    }

    fn kept(&self, asking: &Asking, kept: Kept<Arc<Copy>>, source: Source) -> Self::Response {
        self.http().kept(&asking.request, kept, source).into()
    }

    fn fixed(&self, asking: &Asking, place: u8) -> Option<Self::Response> {
        self.http().fixed(&asking.request, place).map(Replied::from)
    }

    fn answer(&self, passed: Passed, source: Source) -> Self::Response {
        let Passed { response, standing } = passed;
        Replied { response: self.http().answer(response, source), standing, lost: None }
    }

    fn unkept(&self, asking: &Asking) -> Self::Response {
        self.http().unkept(&asking.request).into()
    }

    fn lost(&self, asking: &Asking, trouble: Trouble) -> Self::Response {
        let response = self.http().lost(&asking.request, trouble);
        Replied { response, standing: None, lost: Some(trouble) }
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
    Replayed(Replayed<OnThread>),
    /// One that the log tells of when it is over. In a box, because few are.
    Told(Box<(Payload, Line)>),
}

impl Payload {
    /// A body of which this is told when it is over.
    pub(super) fn told(body: Payload, line: Line) -> Payload {
        Payload::Told(Box::new((body, line)))
    }
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
            Payload::Replayed(body) => Pin::new(body).poll_frame(cx),
            Payload::Told(told) => {
                let (body, line) = &mut **told;
                let polled = Pin::new(body).poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => line.went(frame.data_ref().map_or(0, Bytes::len)),
                    Poll::Ready(Some(Err(_))) => line.broke(),
                    Poll::Ready(None) | Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Payload::Plain(body) => body.is_end_stream(),
            Payload::Replayed(body) => body.is_end_stream(),
            Payload::Told(told) => told.0.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Payload::Plain(body) => body.size_hint(),
            Payload::Replayed(body) => body.size_hint(),
            Payload::Told(told) => told.0.size_hint(),
        }
    }
}
