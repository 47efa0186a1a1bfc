//! Calls over HTTP: what is sent again, what is answered, and what is held until when.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::{pending, ready};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use seawall::admission::AdmissionLayer;
use seawall::call::{CallLayer, Outgoing, Upstream};
use seawall::core::call::{Config, Settings as CallSettings, Shared, Stop};
use seawall::core::decision::Rejection;
use seawall::core::event::Event;
use seawall::core::gate::{Gate, Lane, Own as _, Settings};
use seawall::core::request::{self, Key};
use seawall::core::time::{Span, Time};
use seawall::core::{breaker, limit};
use seawall::http::{Families, Held, HttpAdapter, HttpCalls, Refusals, Refused, Stopped, Waited};
use seawall::observe::{Observer, Origin, Watcher};
use seawall::{BreakerLayer, Threads};
use seawall::{Locks, now};
use tower::util::BoxCloneService;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

type Ask = Request<Full<Bytes>>;
type Answer = Response<Full<Bytes>>;
type Sent = Arc<Mutex<Vec<Ask>>>;

fn of(now: Time, _: &Ask) -> request::Request {
    request::Request { deadline: now + Span::from_secs(5), ..request::Request::new(Key(1)) }
}

type Layer = CallLayer<HttpCalls<fn(Time, &Ask) -> request::Request>>;

/// Calls to one host of eight places with a breaker, and its back gate.
fn calls() -> (Layer, Arc<Gate<Threads>>) {
    let ceiling = limit::Ceiling::Fixed(8);
    let fragile = breaker::Settings { consecutive: Some(4), ..breaker::Settings::default() };
    let settings = Settings {
        breaker: Some(breaker::Config::new(fragile).unwrap()),
        limit: Some(limit::Config { ceiling, queue: 0, ..limit::Config::default() }),
        ..Settings::default()
    };
    let host = Arc::new(Gate::new(settings, Lane::default(), now()));
    let unpaid = CallSettings { budget: None, hedge: None };
    let shared = Arc::new(Locks::own(vec![Shared::new(unpaid, now())]));
    let upstream = Arc::new(Upstream::new(vec![host.clone()], shared, 7));
    let refusals = Arc::new(Refusals::new(Vec::new(), Families::default(), 7));
    (CallLayer::new(upstream, Config::default(), HttpCalls::new(of as fn(Time, &Ask) -> _, refusals)), host)
}

/// Answers with these statuses in turn, and the last for ever; `0` is an error.
fn host(statuses: &'static [u16]) -> (BoxCloneService<Outgoing<Ask>, Answer, &'static str>, Sent) {
    let sent = Sent::default();
    let all = sent.clone();
    let service = service_fn(move |outgoing: Outgoing<Ask>| {
        let mut sent = sent.lock().unwrap();
        let status = statuses[sent.len().min(statuses.len() - 1)];
        sent.push(outgoing.request);
        let answer = || Response::builder().status(status).body(Full::from("whole")).unwrap();
        ready(if status == 0 { Err("connection reset") } else { Ok(answer()) })
    });
    (BoxCloneService::new(service), all)
}

fn ask(method: Method) -> Ask {
    Request::builder()
        .method(method)
        .uri("/order/66")
        .header("x-note", "kept")
        .body(Full::from("body"))
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_may_be_repeated_is_sent_again_whole() {
    let (layer, gate) = calls();
    let (host, sent) = host(&[503, 0, 200]);
    let response = layer.layer(host).oneshot(ask(Method::PUT)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.extensions().get::<Waited>().is_some_and(|waited| waited.0 > Span::ZERO));
    let sent = std::mem::take(&mut *sent.lock().unwrap());
    assert_eq!(sent.len(), 3);
    for request in sent {
        assert_eq!(
            (request.uri().path(), &request.headers()["x-note"]),
            ("/order/66", &"kept".parse().unwrap())
        );
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "body");
    }
    // The place is kept until the body has ended.
    assert_eq!(gate.limit(now()).unwrap().in_flight, 1);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "whole");
    assert_eq!(gate.limit(now()).unwrap().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_post_is_sent_once_whatever_comes_of_it() {
    for statuses in [&[503_u16, 200][..], &[0, 200]] {
        let (layer, _) = calls();
        let (host, sent) = host(statuses);
        let ended = layer.layer(host).oneshot(ask(Method::POST)).await;
        assert_eq!(ended.map(|response| response.status().as_u16()).ok(), (statuses[0] != 0).then_some(503));
        assert_eq!(sent.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_says_why_no_other_attempt_followed() {
    for (method, statuses, stop) in [
        (Method::GET, &[200_u16][..], None),
        (Method::GET, &[503, 200], None),
        (Method::GET, &[404], None),
        (Method::GET, &[503], Some(Stop::Attempts)),
        (Method::GET, &[500], Some(Stop::Final)),
        (Method::POST, &[503], Some(Stop::Unsafe)),
    ] {
        let (layer, _) = calls();
        let response = layer.layer(host(statuses).0).oneshot(ask(method)).await.unwrap();
        let stopped = response.extensions().get::<Stopped>().map(|stopped| stopped.0);
        assert_eq!(stopped, stop, "{statuses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_real_answer_stands_and_a_refusal_says_so() {
    let (layer, _) = calls();
    let (host, sent) = host(&[503]);
    let service = layer.layer(host);
    let real = service.clone().oneshot(ask(Method::GET)).await.unwrap();
    assert_eq!((real.status().as_u16(), real.extensions().get::<Refused>().is_none()), (503, true));
    // One more failure opens the breaker; then the answer is ours.
    assert_eq!(service.clone().oneshot(ask(Method::GET)).await.unwrap().status(), 503);
    assert_eq!(sent.lock().unwrap().len(), 4);
    let ours = service.oneshot(ask(Method::GET)).await.unwrap();
    assert_eq!(
        (ours.status().as_u16(), &ours.headers()["x-seawall-reason"]),
        (503, &"open".parse().unwrap())
    );
    assert!(ours.extensions().get::<Refused>().is_some());
    assert_eq!(sent.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_answers_is_a_504() {
    let (layer, gate) = calls();
    let service = layer.layer(service_fn(|_: Outgoing<Ask>| pending::<Result<Answer, &'static str>>()));
    let response = service.oneshot(ask(Method::GET)).await.unwrap();
    assert_eq!(response.status(), 504);
    assert_eq!(response.headers()["x-seawall-reason"], "expired");
    assert_eq!(gate.limit(now()).unwrap().in_flight, 0);
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn changed(&self, origin: Origin<'_>, event: &Event) {
        let host = origin.host.unwrap_or("all");
        self.0.lock().unwrap().push(format!("{}/{host}: {}", origin.name, event.change.name()));
    }

    fn refused(&self, origin: Origin<'_>, rejection: &Rejection) {
        self.0.lock().unwrap().push(format!("{}: {}", origin.name, rejection.reason.name()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_around_calls_learns_that_nobody_answers() {
    let ceiling = limit::Ceiling::Aimd(limit::aimd::Config::default());
    let settings = Settings {
        limit: Some(limit::Config { ceiling, ..limit::Config::default() }),
        ..Settings::default()
    };
    let front = Arc::new(Gate::new(settings, Lane::default(), now()));
    let refusals = Arc::new(Refusals::new(Vec::new(), Families::default(), 7));
    let admission = AdmissionLayer::new(front.clone(), HttpAdapter::new(of, refusals));
    let silent = service_fn(|_: Outgoing<Ask>| pending::<Result<Answer, &'static str>>());
    let response = admission.layer(calls().0.layer(silent)).oneshot(ask(Method::GET)).await.unwrap();
    assert_eq!(response.status(), 504);
    assert_eq!(front.limit(now()).unwrap().limit, 18, "a tenth of 20 less, as after any call that timed out");
}

#[tokio::test(start_paused = true)]
async fn an_observed_layer_tells_of_its_hosts_and_of_calls_that_none_would_take() {
    let (layer, _) = calls();
    let (host, _) = host(&[503]);
    let log = Arc::new(Log::default());
    let service = layer.observed(Watcher::new("orders", log.clone())).layer(host);
    for _ in 0..3 {
        assert_eq!(service.clone().oneshot(ask(Method::GET)).await.unwrap().status(), 503);
    }
    // The second call opens the breaker, which then refuses its next attempt, and the third call.
    assert_eq!(*log.0.lock().unwrap(), ["orders/0: breaker_opened", "orders: open", "orders: open"]);
}

/// A body that begins, and breaks off.
#[derive(Clone, Default)]
struct Breaking(bool);

impl Body for Breaking {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let begun = std::mem::replace(&mut self.0, true);
        Poll::Ready(Some(if begun { Err("reset") } else { Ok(Frame::data(Bytes::from("four"))) }))
    }
}

/// What four requests are answered, reading each answer until it breaks off, and the status of a fifth.
async fn after_four<S, G, E>(service: S) -> u16
where
    S: Service<Ask, Response = Response<Held<Breaking, G>>, Error = E> + Clone,
    E: std::fmt::Debug,
{
    for call in 0..4 {
        let response = service.clone().oneshot(ask(Method::GET)).await.unwrap();
        assert_eq!(response.status(), 200, "call {call}");
        assert!(response.into_body().collect().await.is_err());
    }
    service.oneshot(ask(Method::GET)).await.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn a_host_that_breaks_off_its_answers_is_called_no_more() {
    let (layer, gate) = calls();
    let service = service_fn(|_: Outgoing<Ask>| ready(Ok::<_, &str>(Response::new(Breaking::default()))));
    assert_eq!(after_four(layer.layer(service)).await, 503);
    assert_eq!(gate.limit(now()).unwrap().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_breaks_off_its_answers_is_called_no_more() {
    let fragile = breaker::Settings { consecutive: Some(4), ..breaker::Settings::default() };
    let refusals = Arc::new(Refusals::new(Vec::new(), Families::default(), 7));
    let layer = BreakerLayer::new(breaker::Config::new(fragile).unwrap(), HttpAdapter::new(of, refusals));
    let service = service_fn(|_: Ask| ready(Ok::<_, &str>(Response::new(Breaking::default()))));
    assert_eq!(after_four(layer.layer(service)).await, 503);
}

#[tokio::test(start_paused = true)]
async fn a_bad_answer_that_breaks_off_has_failed_once() {
    let (layer, gate) = calls();
    let answer = || Response::builder().status(500).body(Breaking::default()).unwrap();
    let service = layer.layer(service_fn(move |_: Outgoing<Ask>| ready(Ok::<_, &str>(answer()))));
    for _ in 0..3 {
        let response = service.clone().oneshot(ask(Method::GET)).await.unwrap();
        assert!(response.into_body().collect().await.is_err());
    }
    assert_eq!(gate.snapshot(now()).breaker.unwrap().mode, breaker::Mode::Closed);
}
