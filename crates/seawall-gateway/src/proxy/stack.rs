//! The road, top to bottom: classify → front gate → call { pick host → back gate → send } → settle.
//!
//! Every decision on it is the library's: the front gate admits, the call makes its attempts, the
//! back gates guard the hosts. What is done here is HTTP: who is asking, what is sent, what comes
//! back, and which answer stands for which refusal. The guards ride in the response's body and are
//! released when it has ended.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Extensions, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use seawall::call::{Drive, Ended};
use seawall::core::call::{Called, Repeat, Verdict};
use seawall::core::decision::{Policy, Reason, Rejection, Standing};
use seawall::core::hedge::HEDGES_MAX;
use seawall::core::outcome::Outcome;
use seawall::core::request::{self, Key};
use seawall::core::time;
use seawall::http::fallback::Served;
use seawall::http::{Full, Held};
use seawall::{Guard, enter, now};

use super::access::{self, AccessLog, Answered};
use super::envoy;
use super::fallback::{self, Payload, Plain};
use super::fitness::{self, Fit, Unfit};
use super::greeting::Secure;
use super::grpc;
use super::headers::{self, Client, Hop, Scheme};
use super::inbound::{self, Blame, Ends, Inbound, Place, Riders};
use super::listen::{Handler, Refusal};
use super::outbound::{Answering, Arrival, Fault, Outbound, Patience, is_left};
use super::outgoing::{Outgoing, copy, rewrite};
use super::pools::Pools;
use super::reason::{self, REASON};
use super::road::{Road, Route};
use super::sending::{Sending, known, outcome, waited};
use super::upstream::{self, Answer, Failure, FailureKind, Pool, Target};
use crate::otlp::{Span, Tracer};
use seawall_config::UserSource;

/// How long before the end of a client's own time its body is given up that has not come: then it is not the upstream
/// that is late.
const LAST_WORD: time::Span = time::Span::from_millis(5);

/// Of who finds no connection, or too many streams, though the limit let it in.
const FULL: Rejection = Rejection::new(Policy::Limit, Reason::Full, time::Span::from_secs(1));
const CLOSE: HeaderValue = HeaderValue::from_static("close");
/// The usual methods, for those who ask for one that is not offered; others pass as well.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// One worker's view of the road.
pub(crate) struct Stack {
    road: RefCell<Cache<Arc<ArcSwap<Road>>, Arc<Road>>>,
    pools: RefCell<Pools>,
    tracer: Option<Tracer>,
}

impl Stack {
    /// A worker of this road, which may have so many connections to upstreams.
    pub(crate) fn new(road: Arc<ArcSwap<Road>>, most: usize, tracer: Option<Tracer>) -> Stack {
        Stack { road: RefCell::new(Cache::new(road)), pools: RefCell::new(Pools::new(most)), tracer }
    }

    /// Its connections to one of these hosts.
    pub(super) fn pool(&self, targets: &Arc<[Target]>, host: usize) -> Rc<Pool> {
        self.pools.borrow_mut().of(targets, host)
    }

    /// Finds the route of a request and makes it what the upstream shall see, or answers it here.
    fn begin(&self, client: &Client, mut request: Request<Incoming>) -> Result<Begun, Astray> {
        let road = self.road.borrow_mut().load().clone();
        let (parent, tells) = found(&road, &request).map_err(|unfit| {
            road.unrouted.inc(unfit.reason);
            if let Some(log) = &road.log {
                let line = line(log, &road, client, &request);
                let (status, reason) = (unfit.status, Some(unfit.reason));
                let answered = Answered { route: None, status, reason, policy: None, source: None };
                let told = log.tell(line, &answered);
                told.into_iter().for_each(|mut line| line.went(unfit.text.len()));
            }
            let (body, headers) = (request.body(), request.headers());
            let is_left = is_left(body) || !body.is_end_stream() && headers::expects(headers);
            Astray { unfit, is_grpc: grpc::is_grpc(headers), is_left }
        })?;
        let route = parent.in_turn();
        route.stats.requests.inc();
        let trusted = client.is_trusted(&road.trusted);
        let is_grpc = grpc::is_grpc(request.headers());
        let at = now();
        let asked = road.envoy.then(|| envoy::take(request.headers_mut(), trusted));
        let mut time = asked.and_then(|asked| asked.time).unwrap_or(route.deadline);
        if is_grpc && let Some(given) = grpc::timeout(request.headers()) {
            request.extensions_mut().insert(grpc::Given(at + given));
            time = given.min(time);
        }
        let seen = request::Request {
            tier: route.tier(request.headers(), trusted),
            deadline: at + time,
            plan: plan(&road, route, request.headers(), trusted),
            ..request::Request::new(user(&road, client, request.headers()))
        };
        let mut line = road.log.as_ref().map(|log| line(log, &road, client, &request));
        if tells {
            headers::strip_told(request.headers_mut(), trusted);
        }
        let is_secure = request.extensions().get::<Secure>().is_some();
        let scheme = if is_secure { Scheme::Https } else { Scheme::Http };
        let hop = Hop { client, trusted, scheme, says_forwarded: road.forwarded };
        let version = request.version();
        let mut request = request.map(Outbound::new);
        rewrite(&mut request, version, &hop);
        if let Some(asked) = asked {
            request.extensions_mut().insert(asked);
        }
        let span = self.tracer.as_ref().map(|tracer| begin(tracer, &mut request, route));
        line.iter_mut().for_each(|line| line.follow(&mut request));
        let mirrored = parent.mirror.as_ref().filter(|mirror| mirror.is_due());
        if let Err(fault) = bound(route, &seen, &mut request, mirrored.is_some()) {
            request.body().arrival().iter().for_each(|arrival| arrival.note(fault));
        }
        let copied = mirrored.map(|_| (parent.clone(), copy(&request)));
        let route = route.clone();
        let is_watched = line.is_some() || span.is_some() || copied.is_some();
        // Not in a closure: that would carry what few have.
        let watched = if is_watched { Some(Box::new(Watched { road, line, span, copied })) } else { None };
        let arrival = request.body().arrival();
        Ok(Begun { route, at, seen, request: Outgoing::new(request), arrival, is_grpc, watched })
    }

    async fn answer(self: Rc<Self>, begun: Result<Begun, Astray>) -> Response<Payload> {
        let Begun { route, at, seen, request, arrival, is_grpc, watched } = match begun {
            Ok(begun) => begun,
            Err(astray) => return astray.answer(),
        };
        let fallback = route.fallback.as_ref().filter(|_| !headers::upgrades(request.headers()));
        let mut response = match fallback {
            _ if known(arrival.as_ref()).is_some() => gone().map(Payload::Plain),
            None => {
                let (mut response, standing) = self.pass(&route, seen, request).await;
                route.refusals.annotate(response.headers_mut(), standing);
                response.map(Payload::Plain)
            }
            Some(layer) => fallback::answer(&self, layer, &route, seen, request).await,
        };
        if let Some(fault) = known(arrival.as_ref()) {
            response = unfit_answer(unfit(fault));
        }
        if arrival.is_some_and(|arrival| arrival.is_left()) && reason::of(&response).is_some() {
            response.headers_mut().insert(header::CONNECTION, CLOSE);
        }
        route.stats.answered(response.status(), now().since(at));
        if let Some(watched) = watched {
            response = watched.tell(&self, &route, seen, response);
        }
        if is_grpc {
            response = grpc::answered(response, || Payload::Plain(Held::full(Full::default())));
        }
        response
    }

    /// Through the front gate and on to the upstream. Says how the user stands, which is for this
    /// answer alone.
    pub(super) async fn pass(
        self: &Rc<Self>,
        route: &Arc<Route>,
        mut seen: request::Request,
        mut request: Outgoing,
    ) -> (Response<Plain>, Option<Standing>) {
        let (kept, arrival) = (request.body().kept(), request.body().arrival());
        if let Some(arrival) = &arrival {
            // Not the first upstream may be asked, and the body have come meanwhile.
            let deadline = arrival.received(now()) + route.deadline;
            seen.deadline = seen.deadline.max(deadline.min(given(request.extensions(), &seen)));
        }
        let front = match enter(&route.gate, seen).await {
            Ok(front) => Box::new(front),
            Err(rejection) => {
                let mut refused = refuse(route, &rejection);
                if grpc::is_grpc(request.headers()) {
                    refused.extensions_mut().insert(grpc::Wait(rejection.retry_after));
                }
                return (refused, None);
            }
        };
        let standing = front.standing();
        let mut held = Place::Limit(front);
        if let Some(header) = &route.matching.dimmer
            && let Some(request) = request.written()
        {
            dim(request.headers_mut(), header, route);
        }
        // In a box, because it is large: whoever waits for this would be. Made there, because most of it is
        // yet to be set.
        let place = Box::new_uninit();
        let is_stream = arrival.is_some() && grpc::is_grpc(request.headers());
        let mut call = Box::into_pin(Box::write(place, self.call(route, seen, request.roomy())));
        let mut ended = match &arrival {
            // In a box, because few are.
            Some(arrival) if is_stream => Box::pin(held.outlasted(route, arrival, call.as_mut())).await,
            Some(_) | None => call.await,
        };
        if kept.is_some_and(|kept| kept.is_outgrown()) {
            route.stats.bodies_not_kept.inc();
        }
        (settled(route, held, &mut ended, arrival.as_ref()), standing)
    }

    /// The call that a request makes.
    #[inline]
    fn call(self: &Rc<Self>, route: &Arc<Route>, seen: request::Request, sent: Outgoing) -> Drive<Sending> {
        let may_repeat = route.may_repeat(&sent) && sent.body().is_repeatable();
        let repeat = if may_repeat { Repeat::Safe } else { Repeat::Unsafe };
        let arrival = sent.body().arrival();
        // Two attempts at a time cannot read one body.
        let may_hedge = route.matching.hedge.is_some() && arrival.is_none();
        let asked = sent.extensions().get::<envoy::Asked>().copied();
        let config = asked.map_or(route.call, |asked| asked.over(route.call));
        let latest = arrival.as_ref().map(|_| given(sent.extensions(), &seen));
        let sending = Sending {
            counts: asked.is_some(),
            retry_on: asked.and_then(|asked| asked.retry_on),
            given: sent.extensions().get::<grpc::Given>().copied(),
            trail: route.trail(&sent),
            arrival,
            unsent: true,
            waited: time::Span::ZERO,
            worker: self.clone(),
            route: route.clone(),
            request: Some(sent),
            repeat,
            attempts: config.attempts + route.matching.hedge.map_or(0, |_| HEDGES_MAX),
        };
        let mut drive = Drive::new(route.upstream.clone(), config, seen, repeat, sending);
        if !may_hedge {
            drive.unhedge();
        }
        latest.into_iter().for_each(|latest| drive.end_by(latest));
        drive
    }
}

impl Handler for Stack {
    type Body = Payload;

    fn refused(&self, client: &Client, Refusal { status, reason }: Refusal) {
        let road = self.road.borrow_mut().load().clone();
        road.unrouted.inc(reason);
        road.log.iter().for_each(|log| log.tell_unread(client.ip(), status, reason));
    }

    /// What can be done at once is: what is done by a future is carried by it.
    fn handle(
        self: Rc<Self>,
        client: Client,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Payload>> + 'static {
        let begun = self.begin(&client, request);
        self.answer(begun)
    }
}

/// A request that is on its road.
struct Begun {
    route: Arc<Route>,
    at: time::Time,
    seen: request::Request,
    request: Outgoing,
    arrival: Option<Arrival>,
    is_grpc: bool,
    /// In a box, because few are.
    watched: Option<Box<Watched>>,
}

/// A request without a route.
struct Astray {
    unfit: Unfit,
    is_grpc: bool,
    /// Whether its body is not going to be read.
    is_left: bool,
}

impl Astray {
    fn answer(self) -> Response<Payload> {
        let mut response = unfit_answer(self.unfit);
        if self.is_left {
            response.headers_mut().insert(header::CONNECTION, CLOSE);
        }
        // What makes no sense is not gRPC either, whatever it calls itself.
        if self.is_grpc && self.unfit == Unfit::NO_ROUTE {
            response = grpc::answered(response, || Payload::Plain(Held::full(Full::default())));
        }
        response
    }
}

/// Who else is told how a request was answered.
struct Watched {
    road: Arc<Road>,
    /// What the log says of the request.
    line: Option<access::Seen>,
    span: Option<Span>,
    /// The route with the mirror that gets this copy.
    copied: Option<(Arc<Route>, Option<Request<Outbound>>)>,
}

impl Watched {
    fn tell(
        self,
        worker: &Rc<Stack>,
        route: &Route,
        seen: request::Request,
        response: Response<Payload>,
    ) -> Response<Payload> {
        let status = response.status();
        if let Some((parent, copied)) = self.copied
            && let Some(mirror) = &parent.mirror
        {
            mirror.send(worker, copied, seen, &response);
        }
        let reason = reason::of(&response).and_then(|reason| reason.to_str().ok());
        if let Some(span) = self.span {
            span.end(status, reason);
        }
        let told = self.road.log.as_ref().zip(self.line).and_then(|(log, line)| {
            let policy = response.headers().get("x-seawall-policy").filter(|_| reason.is_some());
            let policy = policy.and_then(|policy| policy.to_str().ok());
            let source = response.extensions().get::<Served>().map(|served| served.0.name());
            log.tell(line, &Answered { route: Some(&route.matching.name), status, reason, policy, source })
        });
        match told {
            Some(line) => response.map(|body| Payload::told(body, line)),
            None => response,
        }
    }
}

/// The answer to a call that is over. How it ended is looked at where it is, for it is large.
fn settled(
    route: &Route,
    mut place: Place,
    ended: &mut Ended<Answer>,
    arrival: Option<&Arrival>,
) -> Response<Plain> {
    route.stats.attempts.inc_by(u64::from(ended.attempts));
    let connecting = match &ended.answer {
        Some(Ok(answered)) => answered.connection.connecting().into(),
        _ => time::Span::ZERO,
    };
    let is_gone = known(arrival).is_some();
    if let Place::Limit(front) = &mut place {
        if is_gone {
            front.report(Outcome::Ignored, ended.waited);
        } else {
            if ended.hedges > 0 {
                front.hedged();
            }
            front.report(outcome(ended), ended.waited + connecting + waited(arrival));
        }
    }
    if is_gone {
        return gone();
    }
    match (&ended.verdict, ended.answer.take()) {
        (Verdict::Rejected(rejection), _) => refuse_behind(route, rejection),
        (Verdict::Answered { .. }, Some(Ok(answered))) => {
            let answering = arrival.map(Arrival::answering);
            streamed(route, place, (ended.guard.take().map(Box::new), ended.called), answered, answering)
        }
        (Verdict::Answered { .. }, Some(Err(failure))) => broken(route, &failure),
        (Verdict::Expired | Verdict::Answered { .. }, _) => {
            refuse_behind(route, &Rejection::new(Policy::Deadline, Reason::Expired, time::Span::from_secs(1)))
        }
    }
}

/// The route of a request, and whether it has fields that gateways tell each other; or why there is none.
fn found<'a>(road: &'a Road, request: &Request<Incoming>) -> Result<(&'a Arc<Route>, bool), Unfit> {
    let Fit { host, tells } = fitness::check(request)?;
    let found = road.route(host, request.uri().path(), request.method(), request.headers());
    Ok((found.ok_or(Unfit::NO_ROUTE)?, tells))
}

/// What the log says of a request: of its client, who a trusted proxy says it is.
fn line(log: &AccessLog, road: &Road, client: &Client, request: &Request<Incoming>) -> access::Seen {
    let address = headers::client_address(client, request.headers(), &road.trusted);
    log.see(address, request)
}

/// Begins the span of a request.
fn begin(tracer: &Tracer, request: &mut Request<Outbound>, route: &Route) -> Span {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    tracer.begin(request.headers_mut(), &method, &path, &route.matching.name)
}

/// Bounds a body in size and time, and keeps it as it passes if it may have to be sent again, or is copied.
fn bound(
    route: &Route,
    seen: &request::Request,
    request: &mut Request<Outbound>,
    is_copied: bool,
) -> Result<(), Fault> {
    if request.body().is_none() {
        return Ok(());
    }
    let streams = &route.matching.streams;
    let latest = given(request.extensions(), seen) - LAST_WORD;
    let (pace, until) = (streams.pace, seen.deadline);
    let patience = if grpc::is_grpc(request.headers()) {
        Patience { stall: streams.idle, until: time::Time::MAX, pace, latest, rest: Some(streams.idle) }
    } else {
        Patience { stall: streams.stall, until, pace, latest, rest: None }
    };
    request.body_mut().bound(route.matching.max_body, patience)?;
    let may_repeat = route.may_repeat(request);
    if is_copied || may_repeat || route.may_return() {
        let fits = request.body_mut().keep(route.matching.replay.max_body);
        route.stats.bodies_not_kept.inc_by(u64::from(may_repeat && !fits));
    }
    Ok(())
}

/// When the time is over that the client itself gives: its body, too, has to come in that.
fn given(extensions: &Extensions, seen: &request::Request) -> time::Time {
    let is_asked = extensions.get::<envoy::Asked>().is_some_and(|asked| asked.time.is_some());
    match extensions.get::<grpc::Given>() {
        _ if is_asked => seen.deadline,
        Some(grpc::Given(until)) => *until,
        None => time::Time::MAX,
    }
}

/// Who is asking: the first source that is present.
fn user(road: &Road, client: &Client, headers: &HeaderMap) -> Key {
    for source in &road.identity {
        match source {
            UserSource::Header(name) => {
                if let Some(value) = headers::sought(headers, name) {
                    return road.keys.key(value.as_bytes());
                }
            }
            UserSource::ClientIp => break,
        }
    }
    road.keys.address(headers::client_address(client, headers, &road.trusted))
}

/// Tells the upstream how much less work to do, 0 to 1.
fn dim(headers: &mut HeaderMap, header: &HeaderName, route: &Route) {
    let level = route.gate.dimmer(now());
    if let Ok(level) = HeaderValue::try_from(format!("{level:.2}")) {
        headers.insert(header, level);
    }
}

/// Which plan the user has; only a trusted peer may say so.
fn plan(road: &Road, route: &Route, headers: &HeaderMap, trusted: bool) -> u8 {
    match &road.plan {
        Some(name) if trusted => headers::sought(headers, name).map_or(0, |named| route.plan(named)),
        Some(_) | None => 0,
    }
}

pub(super) fn refuse(route: &Route, rejection: &Rejection) -> Response<Plain> {
    route.stats.refused(rejection.reason);
    route.refusals.response(rejection).map(Held::full)
}

/// The refusal of who came past the front gate, and may be asked by gRPC: of those there are few.
fn refuse_behind(route: &Route, rejection: &Rejection) -> Response<Plain> {
    let mut response = refuse(route, rejection);
    response.extensions_mut().insert(grpc::Wait(rejection.retry_after));
    response
}

/// An answer of the upstream, with what it holds until its body has ended.
fn streamed(
    route: &Route,
    place: Place,
    (back, called): (Option<Box<Guard>>, Option<Called>),
    answered: Box<upstream::Answered>,
    answering: Option<Answering>,
) -> Response<Plain> {
    let upstream::Answered { mut response, connection, outcome } = *answered;
    let called = called.filter(|_| outcome.get() == Outcome::Success);
    let blame = called.map(|called| Blame::new(route, called));
    let (bounds, streams) = (route.bounds(), &route.stats.streams);
    if response.status() == StatusCode::OK && outcome.get().is_failure() && route.fallback.is_none() {
        streams.spoilt.inc();
    }
    let is_upgrade = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    // Who says that an upgrade is required says to what.
    let is_offer = response.status() == StatusCode::UPGRADE_REQUIRED;
    let agreed = if is_upgrade || is_offer { headers::upgrade(response.headers()) } else { None };
    let mut place = Some(place);
    if inbound::is_stream(response.status(), response.headers()) {
        let Some(stream) = streams.take(bounds.streams) else {
            return refuse_behind(route, &FULL);
        };
        place = if is_upgrade {
            // The tunnel takes it over: the answer itself has no body.
            response.extensions_mut().insert(Arc::new(stream));
            None
        } else {
            Some(Place::Stream(stream))
        };
    }
    let ends = match response.version() {
        Version::HTTP_2 => Ends::Marked { uploads: answering.is_some() },
        _ => Ends::Framed,
    };
    let mut response = response.map(|body| {
        let riders = Riders { _connection: connection, _back: back, _place: place, answering, blame };
        Held::new(Inbound::new((body, ends), riders, bounds, streams.clone()), ())
    });
    headers::strip_hop_by_hop(response.headers_mut());
    reason::disown(&mut response);
    if let Some(protocol) = agreed {
        headers::set_upgrade(response.headers_mut(), protocol);
    }
    *response.version_mut() = Version::HTTP_11;
    response
}

/// The upstream failed without an answer of its own.
fn broken(route: &Route, failure: &Failure) -> Response<Plain> {
    let (status, title) = match failure.kind {
        FailureKind::Exhausted => return refuse_behind(route, &FULL),
        FailureKind::ConnectTimeout => {
            (StatusCode::GATEWAY_TIMEOUT, "The upstream cannot be reached in time")
        }
        FailureKind::Untrusted => (StatusCode::BAD_GATEWAY, "The upstream's certificate is not believed"),
        FailureKind::Refused | FailureKind::Unreachable => {
            (StatusCode::BAD_GATEWAY, "The upstream cannot be reached")
        }
        FailureKind::Broken | FailureKind::Invalid => {
            (StatusCode::BAD_GATEWAY, "The upstream broke off its answer")
        }
    };
    route.stats.upstream_failed.inc();
    let mut response = route.refusals.upstream_failed(status, title, failure.kind.token()).map(Held::full);
    response.extensions_mut().insert(grpc::Wait(time::Span::from_secs(1)));
    response
}

/// An answer that nobody is going to see.
pub(super) fn gone() -> Response<Plain> {
    let mut response = Response::new(Held::full(Full::default()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// What a body makes of its request that is the client's own fault.
fn unfit(fault: Fault) -> Unfit {
    match fault {
        Fault::TooLong => Unfit::TOO_LARGE,
        Fault::Slow => Unfit::SLOW,
        Fault::Broken => Unfit::BROKEN,
    }
}

fn unfit_answer(Unfit { status, reason, text }: Unfit) -> Response<Payload> {
    let mut response = Response::new(Payload::Plain(Held::full(Full::new(text.into()))));
    *response.status_mut() = status;
    response.headers_mut().insert(REASON, HeaderValue::from_static(reason));
    if matches!(
        status,
        StatusCode::BAD_REQUEST
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::REQUEST_TIMEOUT
    ) {
        // Whoever sends this may mean what follows otherwise, too: for the other end of a tunnel. And what is left
        // of a body is not read.
        response.headers_mut().insert(header::CONNECTION, CLOSE);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, METHODS);
    }
    response
}
