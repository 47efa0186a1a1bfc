//! What a fallback keeps, whom it serves from it, and that nobody hangs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use seawall::core::fallback::{Chain, Step, store};
use seawall::core::outcome::Outcome;
use seawall::core::request::{self, Key};
use seawall::core::time::{Span, Time};
use seawall::fallback::{Cache, Dimmer, Fallback, FallbackLayer, Source};
use seawall::http::fallback::{Copy, Fixed, HttpFallback, Replayed, Resource, Served, Settings};
use seawall::http::{Families, HttpAdapter, Refusals};
use tokio::sync::Semaphore;
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _, service_fn};

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;
type Origins = BoxCloneSyncService<Request<Full<Bytes>>, Response<Body>, Infallible>;
type Of = fn(Time, &Request<Full<Bytes>>) -> request::Request;
type Seen = HttpFallback<Of, Vec<Origins>>;
type Layered = Fallback<Origins, Seen, Resource, Arc<Copy>>;

const MINUTE: &str = "max-age=60";

fn whole(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

fn ok(control: &str, text: &str) -> Response<Body> {
    let mut response = Response::new(whole(text));
    if !control.is_empty() {
        response.headers_mut().insert("cache-control", HeaderValue::from_str(control).unwrap());
    }
    response
}

fn error(status: u16) -> Response<Body> {
    let mut response = Response::new(whole("broken"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

type Script = Box<dyn Fn(u32, &HeaderMap) -> Response<Body> + Send>;

/// A service that answers as its script says, the last answer for ever, once it is let.
#[derive(Clone)]
struct Origin {
    calls: Arc<AtomicU32>,
    script: Arc<Mutex<Script>>,
    permits: Arc<Semaphore>,
}

impl Origin {
    fn new(script: impl Fn(u32, &HeaderMap) -> Response<Body> + Send + 'static) -> Origin {
        Origin {
            calls: Arc::default(),
            script: Arc::new(Mutex::new(Box::new(script))),
            permits: Arc::new(Semaphore::new(1_000_000)),
        }
    }

    /// The same, letting nobody through until it is given permits.
    fn held(self) -> Origin {
        Origin { permits: Arc::new(Semaphore::new(0)), ..self }
    }

    fn becomes(&self, script: impl Fn(u32, &HeaderMap) -> Response<Body> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn service(&self) -> Origins {
        let origin = self.clone();
        BoxCloneSyncService::new(service_fn(move |request: Request<Full<Bytes>>| {
            let origin = origin.clone();
            async move {
                let call = origin.calls.fetch_add(1, Ordering::Relaxed);
                origin.permits.acquire().await.unwrap().forget();
                let response = (origin.script.lock().unwrap())(call, request.headers());
                Ok(response)
            }
        }))
    }
}

fn of(_: Time, request: &Request<Full<Bytes>>) -> request::Request {
    let number = |name| request.headers().get(name).map(|value| value.to_str().unwrap().parse().unwrap());
    let deadline = number("deadline").map_or(Time::MAX, |millis| seawall::now() + Span::from_millis(millis));
    request::Request { deadline, ..request::Request::new(Key(number("user").unwrap_or(0))) }
}

/// A layer over an origin, and what a test asks it.
struct Bench {
    layer: FallbackLayer<Seen, Resource, Arc<Copy>>,
    service: Layered,
    dimmer: Dimmer,
}

impl Bench {
    fn new(origin: &Origin, steps: Vec<Step>) -> Bench {
        Bench::with(origin, steps, Settings::default(), vec![])
    }

    fn with(origin: &Origin, steps: Vec<Step>, settings: Settings, cheaper: Vec<Origins>) -> Bench {
        let chain = Chain::new(steps).unwrap();
        let cache = Cache::new(store::Config::default(), chain.window());
        let fixed = Fixed { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from("[]") };
        let seen = HttpFallback::new(of as Of, settings, cheaper, vec![fixed]);
        let dimmer = Dimmer::new();
        let layer = FallbackLayer::new(chain, cache, dimmer.clone(), seen);
        Bench { service: layer.layer(origin.service()), layer, dimmer }
    }

    async fn get(&self, headers: &[(&'static str, &str)]) -> Got {
        self.send(Method::GET, headers).await
    }

    async fn send(&self, method: Method, headers: &[(&'static str, &str)]) -> Got {
        got(self.service.clone().oneshot(ask(method, headers)).await.unwrap()).await
    }
}

fn ask(method: Method, headers: &[(&'static str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri("/orders?page=1").header("host", "example.org");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

/// A response, read.
#[derive(Debug)]
struct Got {
    status: u16,
    text: String,
    headers: HeaderMap,
    served: Option<Source>,
}

impl Got {
    fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn got(response: Response<Replayed<Body>>) -> Got {
    let (head, body) = response.into_parts();
    let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Got {
        status: head.status.as_u16(),
        text: String::from_utf8(text.to_vec()).unwrap(),
        headers: head.headers,
        served: head.extensions.get::<Served>().map(|served| served.0),
    }
}

fn stale() -> Vec<Step> {
    vec![Step::Stale(Span::from_secs(300))]
}

async fn pass(secs: u64) {
    tokio::time::advance(Duration::from_secs(secs)).await;
}

#[tokio::test(start_paused = true)]
async fn a_fresh_answer_is_given_without_asking_and_says_its_age() {
    let origin = Origin::new(|_, _| ok(MINUTE, "first"));
    let bench = Bench::new(&origin, stale());
    assert_eq!(bench.get(&[]).await.field("cache-status"), "seawall; fwd=miss; stored");
    pass(12).await;
    let hit = bench.get(&[]).await;
    assert_eq!((hit.status, hit.text.as_str(), hit.served), (200, "first", Some(Source::Fresh)));
    assert_eq!((hit.field("age"), hit.field("cache-status")), ("12", "seawall; hit; ttl=48"));
    assert_eq!((origin.calls(), bench.layer.counts().fresh), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_age_with_which_an_answer_arrives_counts() {
    let origin = Origin::new(|_, _| {
        let mut response = ok(MINUTE, "old");
        response.headers_mut().insert("age", HeaderValue::from_static("50"));
        response
    });
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    pass(5).await;
    assert_eq!(bench.get(&[]).await.field("age"), "55");
    pass(5).await;
    bench.get(&[]).await;
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_answered_with_what_is_kept() {
    for status in [500, 502, 503, 504] {
        let origin = Origin::new(move |call, _| if call == 0 { ok(MINUTE, "kept") } else { error(status) });
        let bench = Bench::new(&origin, stale());
        bench.get(&[]).await;
        pass(90).await;
        let got = bench.get(&[]).await;
        assert_eq!((got.status, got.text.as_str()), (200, "kept"), "{status}");
        assert_eq!((got.field("age"), got.field("cache-status")), ("90", "seawall; hit; ttl=-30"));
        assert_eq!((got.field("x-seawall-fallback"), got.field("warning")), ("stale", ""));
        assert_eq!(bench.layer.counts().degraded(), 1);
        pass(270).await;
        assert_eq!(bench.get(&[]).await.status, status, "beyond the window the error stands");
    }
}

#[tokio::test(start_paused = true)]
async fn other_statuses_are_answers_and_a_429_says_nothing_about_what_is_kept() {
    for status in [400, 404, 429, 501, 505] {
        let origin = Origin::new(move |call, _| match call {
            0 => ok(MINUTE, "kept"),
            1 => error(status),
            _ => error(503),
        });
        let bench = Bench::new(&origin, stale());
        bench.get(&[]).await;
        pass(61).await;
        assert_eq!(bench.get(&[]).await.status, status);
        let outdated = matches!(status, 400 | 404);
        assert_eq!(bench.get(&[]).await.status, if outdated { 503 } else { 200 }, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_forbids_stale_use_is_not_used_in_an_outage() {
    for control in ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate", "s-maxage=60", "no-cache"]
    {
        let control = format!("{control}, stale-if-error=1000, stale-while-revalidate=1000");
        let origin = Origin::new(move |call, _| if call == 0 { ok(&control, "kept") } else { error(503) });
        let bench = Bench::new(&origin, stale());
        bench.get(&[]).await;
        pass(61).await;
        assert_eq!(bench.get(&[]).await.status, 503);
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_may_be_shared_is_kept() {
    let cookie: &[(&str, &str)] = &[("set-cookie", "a=b")];
    let authorized: &[(&str, &str)] = &[("authorization", "Basic eA==")];
    for (control, response, request, calls) in [
        (MINUTE, &[][..], &[][..], 1),
        ("max-age=60, private", &[], &[], 2),
        ("max-age=60, private=\"x, y\"", &[], &[], 2),
        ("no-store, max-age=60", &[], &[], 2),
        ("max-age=60, no-cache=\"set-cookie\"", &[], &[], 2),
        ("", &[], &[], 2),
        ("max-age=0", &[], &[], 2),
        ("max-age=nonsense", &[], &[], 2),
        ("max-age=60, max-age=0", &[], &[], 2),
        ("max-age=99999999999999999999", &[], &[], 1),
        ("s-maxage=60, max-age=0", &[], &[], 1),
        ("ext=\"a, no-store\", max-age=60", &[], &[], 1),
        (MINUTE, cookie, &[], 2),
        (MINUTE, &[("vary", "*")], &[], 2),
        (MINUTE, &[], authorized, 2),
        ("max-age=60, public", &[], authorized, 1),
        ("s-maxage=60", &[], authorized, 1),
        (MINUTE, &[], &[("cache-control", "no-store")], 2),
        (MINUTE, &[], &[("range", "bytes=0-1")], 2),
        (
            "",
            &[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("expires", "Sun, 06 Nov 1994 08:50:37 GMT")],
            &[],
            1,
        ),
        ("", &[("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("expires", "0")], &[], 2),
    ] {
        let origin = Origin::new(move |_, _| {
            let mut answer = ok(control, "x");
            for (name, value) in response {
                answer.headers_mut().insert(*name, HeaderValue::from_static(value));
            }
            answer
        });
        let bench = Bench::new(&origin, stale());
        bench.get(request).await;
        bench.get(request).await;
        assert_eq!(origin.calls(), calls, "{control:?} {response:?} {request:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unmarked_answer_is_kept_for_errors_when_the_route_says_so_and_nobody_is_known() {
    for (request, status) in [
        (&[][..], 200),
        (&[("x-other", "a")], 200),
        (&[("cookie", "a=b")], 503),
        (&[("authorization", "x")], 503),
        (&[("x-api-key", "x")], 503),
    ] {
        let origin = Origin::new(|call, _| if call < 2 { ok("", "kept") } else { error(503) });
        let personal = vec![HeaderName::from_static("x-api-key")];
        let settings = Settings { unmarked: Some(Span::ZERO), personal, ..Settings::default() };
        let bench = Bench::with(&origin, stale(), settings, vec![]);
        bench.get(request).await;
        bench.get(request).await;
        assert_eq!(origin.calls(), 2, "it is never fresh");
        assert_eq!(bench.get(request).await.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_vary_are_kept_apart() {
    let origin = Origin::new(|_, headers| {
        let language = headers.get("accept-language").map_or("-", |value| value.to_str().unwrap());
        let mut response = ok(MINUTE, language);
        response.headers_mut().insert("vary", HeaderValue::from_static("Accept-Language, accept-encoding"));
        response
    });
    let bench = Bench::new(&origin, stale());
    for language in ["de", "en", "de", "en"] {
        assert_eq!(bench.get(&[("accept-language", language)]).await.text, language);
    }
    assert_eq!(origin.calls(), 2);
    assert_eq!(bench.get(&[]).await.text, "-");
}

#[tokio::test(start_paused = true)]
async fn get_and_head_do_not_share() {
    let origin = Origin::new(|_, _| ok(MINUTE, "x"));
    let bench = Bench::new(&origin, stale());
    bench.send(Method::HEAD, &[]).await;
    bench.get(&[]).await;
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn everybody_waits_for_one_flight() {
    let origin = Origin::new(|_, _| ok(MINUTE, "one")).held();
    let bench = Bench::new(&origin, stale());
    let asking: Vec<_> =
        (0..100).map(|_| tokio::spawn(bench.service.clone().oneshot(ask(Method::GET, &[])))).collect();
    tokio::task::yield_now().await;
    pass(1).await;
    origin.permits.add_permits(1);
    for asked in asking {
        assert_eq!(got(asked.await.unwrap().unwrap()).await.text, "one");
    }
    let counts = bench.layer.counts();
    assert_eq!((origin.calls(), counts.upstream, counts.joined), (1, 1, 99));
}

/// Of a burst for an address that nobody has asked for yet.
#[tokio::test(start_paused = true)]
async fn everybody_waits_for_the_one_flight_of_a_variant() {
    let origin = Origin::new(|_, headers| {
        let mut response = ok(MINUTE, headers["x-kind"].to_str().unwrap());
        response.headers_mut().insert("vary", HeaderValue::from_static("x-kind"));
        response
    });
    let origin = origin.held();
    let bench = Bench::new(&origin, stale());
    let asking: Vec<_> = (0..90)
        .map(|call| ["a", "b", "c"][call % 3])
        .map(|kind| {
            (kind, tokio::spawn(bench.service.clone().oneshot(ask(Method::GET, &[("x-kind", kind)]))))
        })
        .collect();
    pass(1).await;
    // The first answer says what they vary by; all others begin before the second comes.
    origin.permits.add_permits(1);
    pass(1).await;
    origin.permits.add_permits(89);
    for (kind, asked) in asking {
        assert_eq!(got(asked.await.unwrap().unwrap()).await.text, kind);
    }
    let counts = bench.layer.counts();
    assert_eq!((origin.calls(), counts.upstream, counts.joined), (3, 3, 87));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_dropped_hands_over() {
    let origin = Origin::new(|_, _| ok(MINUTE, "second")).held();
    let bench = Bench::new(&origin, stale());
    let leader = tokio::spawn(bench.service.clone().oneshot(ask(Method::GET, &[])));
    tokio::task::yield_now().await;
    let follower = tokio::spawn(bench.service.clone().oneshot(ask(Method::GET, &[])));
    tokio::task::yield_now().await;
    assert_eq!(origin.calls(), 1);
    leader.abort();
    assert!(leader.await.is_err());
    origin.permits.add_permits(1);
    assert_eq!(got(follower.await.unwrap().unwrap()).await.text, "second");
    assert_eq!((origin.calls(), bench.layer.cache().snapshot().flights), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hangs_holds_nobody_beyond_half_of_its_time_or_the_lease() {
    let origin = Origin::new(|_, _| ok(MINUTE, "late")).held();
    let bench = Bench::new(&origin, vec![Step::Stale(Span::from_secs(300)), Step::Static(0)]);
    let _leader = tokio::spawn(bench.service.clone().oneshot(ask(Method::GET, &[])));
    tokio::task::yield_now().await;
    let hurried = ask(Method::GET, &[("deadline", "2000")]);
    let hurried = tokio::spawn(bench.service.clone().oneshot(hurried));
    tokio::task::yield_now().await;
    assert_eq!(origin.calls(), 1);
    pass(1).await;
    tokio::task::yield_now().await;
    assert_eq!(origin.calls(), 2, "it has a second left to ask for itself");
    hurried.abort();
    let patient = tokio::spawn(bench.service.clone().oneshot(ask(Method::GET, &[])));
    tokio::task::yield_now().await;
    assert_eq!(origin.calls(), 2);
    pass(31).await;
    tokio::task::yield_now().await;
    assert_eq!(origin.calls(), 3, "the next leads");
    origin.permits.add_permits(2);
    assert_eq!(got(patient.await.unwrap().unwrap()).await.text, "late");
}

#[tokio::test(start_paused = true)]
async fn when_the_leaders_call_failed_the_others_fall_back_with_it() {
    let origin = Origin::new(|_, _| error(503)).held();
    let bench = Bench::new(&origin, vec![Step::Static(0)]);
    let asking: Vec<_> =
        (0..10).map(|_| tokio::spawn(bench.service.clone().oneshot(ask(Method::GET, &[])))).collect();
    tokio::task::yield_now().await;
    pass(1).await;
    origin.permits.add_permits(1);
    for asked in asking {
        assert_eq!(got(asked.await.unwrap().unwrap()).await.text, "[]");
    }
    assert_eq!((origin.calls(), bench.layer.counts().fixed), (1, 10));
}

#[tokio::test(start_paused = true)]
async fn without_anything_left_whoever_has_no_error_of_its_own_asks_for_itself() {
    let origin = Origin::new(|_, _| error(503)).held();
    let bench = Bench::new(&origin, vec![]);
    let asking: Vec<_> =
        (0..3).map(|_| tokio::spawn(bench.service.clone().oneshot(ask(Method::GET, &[])))).collect();
    tokio::task::yield_now().await;
    origin.permits.add_permits(3);
    for asked in asking {
        let got = got(asked.await.unwrap().unwrap()).await;
        assert_eq!((got.status, got.text.as_str(), got.served), (503, "broken", None));
    }
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn one_revalidates_behind_the_answer() {
    let origin = Origin::new(|call, _| ok("max-age=60, stale-while-revalidate=30", &call.to_string()));
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    pass(70).await;
    let held = Origin { permits: Arc::new(Semaphore::new(0)), ..origin.clone() };
    let bench = Bench { service: bench.layer.layer(held.service()), ..bench };
    for _ in 0..3 {
        let got = bench.get(&[]).await;
        assert_eq!((got.text.as_str(), got.served), ("0", Some(Source::Revalidating)));
        assert_eq!(got.field("cache-status"), "seawall; hit; ttl=-10");
        tokio::task::yield_now().await;
    }
    assert_eq!(origin.calls(), 2);
    held.permits.add_permits(1);
    while bench.layer.cache().snapshot().flights > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.get(&[]).await.text, "1");
    assert_eq!(bench.layer.counts().degraded(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_revalidates_behind_the_answer_of_the_dimmed_too() {
    let origin = Origin::new(|call, _| ok("max-age=60, stale-while-revalidate=30", &call.to_string()));
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    bench.dimmer.set(1.0);
    pass(70).await;
    for _ in 0..3 {
        let got = bench.get(&[]).await;
        assert_eq!((got.text.as_str(), got.served), ("0", Some(Source::Revalidating)));
    }
    tokio::task::yield_now().await;
    assert_eq!(origin.calls(), 2);
    while bench.layer.cache().snapshot().flights > 0 {
        tokio::task::yield_now().await;
    }
    let got = bench.get(&[]).await;
    assert_eq!((got.text.as_str(), got.served), ("1", Some(Source::Fresh)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_wants_a_newer_one_gets_it_and_the_kept_one_only_in_trouble() {
    let origin = Origin::new(|call, _| if call < 2 { ok(MINUTE, &call.to_string()) } else { error(503) });
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    pass(5).await;
    assert_eq!(bench.get(&[("cache-control", "max-age=5")]).await.text, "0");
    assert_eq!(bench.get(&[("cache-control", "max-age=4")]).await.text, "1");
    pass(1).await;
    assert_eq!(bench.get(&[("cache-control", "no-cache")]).await.text, "1");
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_the_answer_is_told_so() {
    let origin = Origin::new(|_, headers| {
        assert!(!headers.contains_key("if-none-match"), "what all wait for is asked whole");
        let mut response = ok(MINUTE, "tagged");
        response.headers_mut().insert("etag", HeaderValue::from_static("W/\"7\""));
        response
    });
    let bench = Bench::new(&origin, stale());
    for _ in 0..2 {
        let got = bench.get(&[("if-none-match", "\"6\", \"7\"")]).await;
        assert_eq!((got.status, got.text.as_str()), (304, ""));
    }
    assert_eq!(bench.get(&[("if-none-match", "\"8\"")]).await.text, "tagged");
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_large_streams_through_and_what_breaks_off_falls_back() {
    let chunks = |count: usize, broken: bool| {
        let chunk = Ok(http_body::Frame::data(Bytes::from(vec![b'x'; 100])));
        let chunks = (0..count).map(move |_| Ok(http_body::Frame::data(Bytes::from(vec![b'x'; 100]))));
        let end = broken.then(|| Err(std::io::Error::other("reset")));
        StreamBody::new(Chunks(std::iter::once(chunk).chain(chunks).chain(end).collect())).boxed_unsync()
    };
    let origin = Origin::new(move |call, _| {
        let mut response = ok(MINUTE, "");
        *response.body_mut() = match call {
            0 | 1 => chunks(20, false),
            2 => chunks(3, false),
            _ => chunks(3, true),
        };
        response
    });
    let settings = Settings { body_max: 1_000, ..Settings::default() };
    let bench = Bench::with(&origin, stale(), settings, vec![]);
    assert_eq!(bench.get(&[]).await.text.len(), 2_100);
    assert_eq!(bench.get(&[]).await.text.len(), 2_100);
    assert_eq!(bench.layer.adapter().too_large(), 2);
    assert_eq!(bench.get(&[]).await.text.len(), 400);
    assert_eq!((bench.get(&[]).await.text.len(), origin.calls()), (400, 3));
    pass(61).await;
    let got = bench.get(&[]).await;
    assert_eq!((got.text.len(), got.served, origin.calls()), (400, Some(Source::Stale), 4));
}

/// Two chunks, of which the second comes when this has ticked twice.
struct Slow(tokio::time::Interval, u8);

impl futures_core::Stream for Slow {
    type Item = Result<http_body::Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        if self.1 == 2 {
            return std::task::Poll::Ready(None);
        }
        self.0.poll_tick(cx).map(|_| {
            self.1 += 1;
            Some(Ok(http_body::Frame::data(Bytes::from_static(b"x"))))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_slowly_is_passed_on_after_a_second_and_not_kept() {
    let origin = Origin::new(|_, _| {
        let mut response = ok(MINUTE, "");
        let slow = Slow(tokio::time::interval(Duration::from_secs(3)), 0);
        *response.body_mut() = StreamBody::new(slow).boxed_unsync();
        response
    });
    let bench = Bench::new(&origin, stale());
    for calls in 1..3 {
        let begun = tokio::time::Instant::now();
        let response = bench.service.clone().oneshot(ask(Method::GET, &[])).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 1);
        assert_eq!((got(response).await.text.as_str(), origin.calls()), ("xx", calls));
        assert_eq!(begun.elapsed().as_secs(), 3);
    }
}

struct Chunks(std::collections::VecDeque<Result<http_body::Frame<Bytes>, std::io::Error>>);

impl futures_core::Stream for Chunks {
    type Item = Result<http_body::Frame<Bytes>, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

#[tokio::test(start_paused = true)]
async fn the_dimmer_takes_the_same_users_to_the_cheaper_handler() {
    let origin = Origin::new(|_, _| ok("", "dear"));
    let cheap = Origin::new(|_, _| ok("", "cheap"));
    let bench = Bench::with(&origin, vec![Step::Upstream(0)], Settings::default(), vec![cheap.service()]);
    let mut dimmed = BTreeSet::new();
    for level in [0.0, 0.3, 0.3, 1.0] {
        bench.dimmer.set(level);
        let mut users = BTreeSet::new();
        for user in 0..1_000_u64 {
            let got = bench.get(&[("user", &user.to_string())]).await;
            if got.text == "cheap" {
                assert_eq!(
                    (got.field("x-seawall-fallback"), got.served),
                    ("cheaper", Some(Source::Cheaper(0)))
                );
                users.insert(user);
            }
        }
        assert!((users.len() as f64 / 1_000.0 - level).abs() < 0.05, "{level}: {}", users.len());
        assert!(dimmed.is_subset(&users));
        dimmed = users;
    }
}

#[tokio::test(start_paused = true)]
async fn the_chain_goes_on_when_the_cheaper_handler_fails_too() {
    let (origin, cheap) = (Origin::new(|_, _| error(503)), Origin::new(|_, _| error(500)));
    let steps = vec![Step::Stale(Span::from_secs(1)), Step::Upstream(0), Step::Static(0)];
    let bench = Bench::with(&origin, steps, Settings::default(), vec![cheap.service()]);
    let got = bench.get(&[]).await;
    assert_eq!((got.text.as_str(), got.field("x-seawall-fallback")), ("[]", "fixed"));
    assert_eq!((origin.calls(), cheap.calls()), (1, 1));
    let bench = Bench::with(&origin, vec![Step::Upstream(0)], Settings::default(), vec![cheap.service()]);
    assert_eq!(bench.get(&[]).await.status, 503, "the first real error stands");
}

#[tokio::test(start_paused = true)]
async fn what_changes_something_never_falls_back_and_outdates_what_is_kept() {
    let origin = Origin::new(|_, _| ok(MINUTE, "x"));
    let bench = Bench::new(&origin, vec![Step::Stale(Span::from_secs(300)), Step::Static(0)]);
    bench.get(&[]).await;
    bench.send(Method::POST, &[]).await;
    bench.get(&[]).await;
    assert_eq!(origin.calls(), 3);
    origin.becomes(|_, _| error(503));
    assert_eq!(bench.send(Method::POST, &[]).await.status, 503);
    bench.get(&[]).await;
    assert_eq!(origin.calls(), 4, "a failed change outdates nothing");
}

#[tokio::test(start_paused = true)]
async fn a_change_outdates_what_its_answer_names_on_the_same_host() {
    let origin = Origin::new(|_, _| ok(MINUTE, "x"));
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    for (name, value, outdates) in [
        ("location", "/orders?page=1", true),
        ("content-location", "orders?page=1", true),
        ("location", "http://example.org/orders?page=1", true),
        ("location", "http://example.com/orders?page=1", false),
        ("location", "/orders?page=2", false),
    ] {
        origin.becomes(move |_, _| {
            let mut response = ok("", "");
            response.headers_mut().insert(name, HeaderValue::from_static(value));
            response
        });
        let mut change = ask(Method::POST, &[]);
        *change.uri_mut() = "/changes".parse().unwrap();
        bench.service.clone().oneshot(change).await.unwrap();
        origin.becomes(|_, _| ok(MINUTE, "x"));
        let before = origin.calls();
        bench.get(&[]).await;
        assert_eq!(origin.calls() - before, u32::from(outdates), "{name}: {value}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_age_that_cannot_be_read_is_as_old_as_can_be() {
    for (ages, calls) in [
        (&["0"] as &[&str], 1),
        (&["7200"], 2),
        (&["abc"], 2),
        (&["-7200"], 2),
        (&["1.5"], 2),
        (&["0, 0"], 2),
        (&["0;x=1"], 2),
        (&["0", "0"], 2),
        (&[""], 2),
    ] {
        let origin = Origin::new(move |_, _| {
            let mut response = ok("max-age=3600", "x");
            for age in ages {
                response.headers_mut().append("age", HeaderValue::from_static(age));
            }
            response
        });
        let bench = Bench::new(&origin, stale());
        bench.get(&[]).await;
        bench.get(&[]).await;
        assert_eq!(origin.calls(), calls, "{ages:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_outdates_every_variant_and_what_was_asked_for_before_it() {
    let origin = Origin::new(|_, headers| {
        let mut response = ok(MINUTE, headers.get("x-kind").map_or("-", |kind| kind.to_str().unwrap()));
        response.headers_mut().insert("vary", HeaderValue::from_static("x-kind"));
        response
    });
    let bench = Bench::new(&origin, stale());
    for kind in ["a", "b", "a", "b"] {
        bench.get(&[("x-kind", kind)]).await;
    }
    bench.send(Method::HEAD, &[("x-kind", "a")]).await;
    assert_eq!(origin.calls(), 3);
    bench.send(Method::DELETE, &[]).await;
    for kind in ["a", "b"] {
        bench.get(&[("x-kind", kind)]).await;
    }
    bench.send(Method::HEAD, &[("x-kind", "a")]).await;
    assert_eq!(origin.calls(), 7);

    let slow = origin.clone().held();
    let service = bench.layer.layer(slow.service());
    let request = ask(Method::GET, &[("x-kind", "c")]);
    let asking = tokio::spawn(service.oneshot(request));
    tokio::task::yield_now().await;
    bench.send(Method::PUT, &[]).await;
    slow.permits.add_permits(1);
    got(asking.await.unwrap().unwrap()).await;
    bench.get(&[("x-kind", "c")]).await;
    assert_eq!(origin.calls(), 10, "an answer from before the change is not kept for after it");
}

#[tokio::test(start_paused = true)]
async fn a_fallback_answer_never_counts_as_success() {
    let adapter = HttpAdapter::new(of, Arc::new(Refusals::new(vec![], Families::default(), 0)));
    let outcome = |response: &Response<Body>| {
        seawall::admission::Adapter::<Request<Full<Bytes>>, _, Infallible>::outcome(&adapter, Ok(response))
    };
    let mut response = ok("", "");
    assert_eq!(outcome(&response), Outcome::Success);
    for source in [Source::Stale, Source::Cheaper(0), Source::Fixed(0), Source::Fresh, Source::Joined] {
        response.extensions_mut().insert(Served(source));
        assert_eq!(outcome(&response), Outcome::Ignored);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_many_threads_nobody_hangs_and_no_flight_is_left() {
    let origin = Origin::new(|call, _| match call % 5 {
        0 => error(503),
        1 => ok("no-store", "private"),
        _ => ok("max-age=0, stale-while-revalidate=1", "x"),
    });
    let bench = Bench::new(&origin, vec![Step::Stale(Span::from_secs(300)), Step::Static(0)]);
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            let service = bench.service.clone();
            tokio::spawn(async move {
                for turn in 0..500_u64 {
                    let mut request = ask(Method::GET, &[("deadline", "10000")]);
                    *request.uri_mut() = format!("/{}", (task * 7 + turn) % 5).parse().unwrap();
                    let asking = tokio::spawn(service.clone().oneshot(request));
                    if turn % 7 == task % 7 {
                        asking.abort();
                        let _ = asking.await;
                    } else {
                        let status = got(asking.await.unwrap().unwrap()).await.status;
                        assert_eq!(status, 200, "there is always a fixed answer");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    while bench.layer.cache().snapshot().flights > 0 {
        tokio::task::yield_now().await;
    }
}

/// An origin whose answer has this tag and these directives, and which says 304 to who has it.
fn tagged(control: &'static str, tag: &'static str) -> Origin {
    Origin::new(move |call, headers| {
        let mut response = ok(control, &call.to_string());
        response.headers_mut().insert("etag", HeaderValue::from_static(tag));
        if headers.get("if-none-match").is_some_and(|has| has == tag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = whole("");
        }
        response
    })
}

#[tokio::test(start_paused = true)]
async fn what_is_stale_is_confirmed_and_as_good_as_new() {
    let origin = tagged("max-age=60, must-revalidate", "\"1\"");
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    for calls in 2..5 {
        pass(61).await;
        let got = bench.get(&[]).await;
        assert_eq!((got.status, got.text.as_str(), got.served), (200, "0", None));
        assert_eq!((got.field("age"), got.field("etag")), ("0", "\"1\""));
        assert_eq!(got.field("cache-status"), "seawall; fwd=stale; fwd-status=304");
        pass(59).await;
        assert_eq!(bench.get(&[]).await.field("age"), "59", "it is fresh again");
        assert_eq!(origin.calls(), calls);
    }
    origin.becomes(|_, _| error(503));
    pass(61).await;
    assert_eq!(bench.get(&[]).await.status, 503, "what must be confirmed is not used without");
    origin.becomes(
        |_, headers| if headers.contains_key("if-none-match") { not_modified(&[]) } else { error(500) },
    );
    assert_eq!(bench.get(&[]).await.text, "0", "it stayed for that");
    origin.becomes(|_, _| ok(MINUTE, "new"));
    pass(61).await;
    assert_eq!(bench.get(&[]).await.text, "new");
}

fn not_modified(fields: &[(&'static str, &'static str)]) -> Response<Body> {
    let mut response = Response::new(whole(""));
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    for (name, value) in fields {
        response.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    response
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_brings_its_fields_and_its_age() {
    let origin = Origin::new(|call, headers| {
        if call > 0 {
            assert_eq!(headers.get("if-modified-since").unwrap(), "Tue, 01 Jan 2030 00:00:00 GMT");
            return not_modified(&[("cache-control", "max-age=100"), ("age", "40"), ("x-new", "1")]);
        }
        let mut response = ok(MINUTE, "kept");
        let modified = HeaderValue::from_static("Tue, 01 Jan 2030 00:00:00 GMT");
        response.headers_mut().insert("last-modified", modified);
        response
    });
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    pass(61).await;
    let got = bench.get(&[]).await;
    assert_eq!((got.text.as_str(), got.field("age"), got.field("x-new")), ("kept", "40", "1"));
    pass(59).await;
    let hit = bench.get(&[]).await;
    assert_eq!((hit.served, hit.field("age"), hit.field("x-new")), (Some(Source::Fresh), "99", "1"));
    pass(2).await;
    bench.get(&[]).await;
    assert_eq!(origin.calls(), 3, "its age counts");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_used_unasked_is_confirmed_each_time() {
    for control in ["no-cache", "max-age=60, no-cache=\"set-cookie\"", "max-age=0, must-revalidate"] {
        let origin = tagged(control, "W/\"1\"");
        let bench = Bench::new(&origin, stale());
        for calls in 1..4 {
            let got = bench.get(&[]).await;
            assert_eq!((got.text.as_str(), origin.calls()), ("0", calls), "{control}");
        }
        origin.becomes(|_, _| error(503));
        assert_eq!(bench.get(&[("cache-control", "max-stale")]).await.status, 503);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clients_own_condition_is_met_by_what_is_confirmed() {
    let origin = tagged(MINUTE, "\"1\"");
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    for secs in [61, 0] {
        pass(secs).await;
        assert_eq!(bench.get(&[("if-none-match", "\"1\"")]).await.status, 304);
        let other = bench.get(&[("if-none-match", "\"0\""), ("cache-control", "no-cache")]).await;
        assert_eq!((other.status, other.text.as_str()), (200, "0"));
        assert_eq!(other.field("cache-status"), "seawall; fwd=request; fwd-status=304");
    }
    assert_eq!(origin.calls(), 4, "one for the stale, two for those who want it new");
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_get_what_was_confirmed() {
    let origin = tagged(MINUTE, "\"1\"").held();
    origin.permits.add_permits(1);
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    pass(61).await;
    let asking: Vec<_> =
        (0..10).map(|_| tokio::spawn(bench.service.clone().oneshot(ask(Method::GET, &[])))).collect();
    tokio::task::yield_now().await;
    origin.permits.add_permits(1);
    for asked in asking {
        assert_eq!(got(asked.await.unwrap().unwrap()).await.text, "0");
    }
    assert_eq!((origin.calls(), bench.layer.counts().joined), (2, 9));
}

#[tokio::test(start_paused = true)]
async fn what_is_used_while_revalidating_is_confirmed_behind_the_answer() {
    let origin = tagged("max-age=60, stale-while-revalidate=30", "\"1\"");
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    pass(70).await;
    assert_eq!(bench.get(&[]).await.served, Some(Source::Revalidating));
    while origin.calls() < 2 {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    pass(1).await;
    let got = bench.get(&[]).await;
    assert_eq!((got.served, got.text.as_str(), got.field("age")), (Some(Source::Fresh), "0", "1"));
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_for_one_user_is_not_for_all() {
    let origin = tagged(MINUTE, "\"1\"");
    let bench = Bench::new(&origin, stale());
    bench.get(&[]).await;
    pass(61).await;
    assert_eq!(bench.get(&[("authorization", "Basic eA==")]).await.text, "0");
    assert_eq!(bench.get(&[]).await.field("cache-status"), "seawall; fwd=stale; fwd-status=304");
    assert_eq!(bench.get(&[]).await.served, Some(Source::Fresh));
    // What may no longer be kept at all goes.
    origin.becomes(|_, headers| match headers.get("if-none-match") {
        Some(_) => not_modified(&[("cache-control", "private, max-age=60")]),
        None => ok("private", "own"),
    });
    pass(61).await;
    assert_eq!(bench.get(&[]).await.text, "0");
    assert_eq!(bench.get(&[]).await.text, "own");
}

#[tokio::test(start_paused = true)]
async fn a_request_says_which_kept_answers_it_takes() {
    for (kept, secs, asked, calls) in [
        (MINUTE, 30, "max-age=40", 1),
        (MINUTE, 30, "max-age=20", 2),
        (MINUTE, 30, "max-age=0", 2),
        (MINUTE, 30, "no-cache", 2),
        (MINUTE, 30, "no-store", 2),
        (MINUTE, 30, "min-fresh=20", 1),
        (MINUTE, 30, "min-fresh=40", 2),
        (MINUTE, 30, "min-fresh=x", 2),
        (MINUTE, 80, "max-stale=30", 1),
        (MINUTE, 80, "max-stale", 1),
        (MINUTE, 80, "max-stale=10", 2),
        (MINUTE, 80, "max-stale=x", 2),
        (MINUTE, 80, "max-stale, max-age=70", 2),
        (MINUTE, 80, "max-stale, min-fresh=1", 2),
        (MINUTE, 400, "max-stale", 2),
        ("max-age=60, must-revalidate", 80, "max-stale", 2),
        ("s-maxage=60", 80, "max-stale", 2),
        (MINUTE, 30, "only-if-cached", 1),
        (MINUTE, 80, "only-if-cached, max-stale=30", 1),
    ] {
        let origin = Origin::new(move |_, _| ok(kept, "x"));
        let bench = Bench::new(&origin, stale());
        bench.get(&[]).await;
        pass(secs).await;
        let got = bench.get(&[("cache-control", asked)]).await;
        assert_eq!((got.status, origin.calls()), (200, calls), "{kept} after {secs} s, {asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_takes_only_what_is_kept_is_told_when_there_is_nothing() {
    let origin = Origin::new(|_, _| ok(MINUTE, "x"));
    let bench = Bench::new(&origin, vec![Step::Stale(Span::from_secs(300)), Step::Static(0)]);
    bench.dimmer.set(1.0);
    let only = |more: &'static str| {
        let asked = format!("only-if-cached{more}");
        let bench = &bench;
        async move {
            let got = bench.get(&[("cache-control", &asked)]).await;
            (got.status, got.field("x-seawall-reason").to_owned())
        }
    };
    let nothing = (504, "not_kept".to_owned());
    assert_eq!(only("").await, nothing);
    bench.dimmer.set(0.0);
    bench.get(&[]).await;
    assert_eq!(only("").await, (200, String::new()));
    assert_eq!(only(", no-cache").await, nothing);
    assert_eq!(only(", min-fresh=70").await, nothing);
    pass(61).await;
    assert_eq!(only("").await, nothing, "it is stale");
    assert_eq!(only(", max-stale=5").await, (200, String::new()));
    let partial = [("cache-control", "only-if-cached"), ("range", "bytes=0-1")];
    assert_eq!(bench.get(&partial).await.status, 504);
    assert_eq!(origin.calls(), 1);
}

/// What a request gets from who sends it by itself where that will do, and whether it did.
async fn by_itself(bench: &Bench, origin: &Origin) -> (String, bool) {
    let request = ask(Method::GET, &[]);
    let (begun, answered) = match bench.service.begin(&request).alone() {
        Ok(alone) => {
            let response = origin.service().oneshot(request.clone()).await.unwrap();
            if let Some(left) = bench.layer.adapter().leaves(&request, &response) {
                bench.service.leave(alone, left);
                let body = response.into_body().collect().await.unwrap().to_bytes();
                return (String::from_utf8(body.to_vec()).unwrap(), true);
            }
            (alone.into(), Some(Ok(response)))
        }
        Err(begun) => (begun, None),
    };
    (got(bench.service.clone().go_on(request, begun, answered).await.unwrap()).await.text, false)
}

#[tokio::test(start_paused = true)]
async fn who_asks_alone_can_do_so_by_itself_and_goes_on_where_there_is_more_to_do() {
    let origin = Origin::new(|call, _| match call {
        0..=2 => ok("private", &format!("{call}")),
        3 => error(503),
        _ => ok(MINUTE, &format!("{call}")),
    });
    let bench = Bench::new(&origin, vec![Step::Static(0)]);
    // Others might have waited for the first.
    let expected =
        [("0", false, 1), ("1", true, 2), ("2", true, 3), ("[]", false, 4), ("4", false, 5), ("4", false, 5)];
    for (text, alone, calls) in expected {
        assert_eq!(by_itself(&bench, &origin).await, (text.to_owned(), alone));
        assert_eq!(origin.calls(), calls, "at {text}");
    }
    let counts = bench.layer.counts();
    assert_eq!((counts.upstream, counts.fixed, counts.fresh), (4, 1, 1));
    assert_eq!(bench.layer.cache().snapshot().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_dimmed_where_nothing_costs_less_waits_as_all_do() {
    let origin = Origin::new(|_, _| ok(MINUTE, "whole")).held();
    let bench = Bench::new(&origin, vec![Step::Stale(Span::from_secs(300)), Step::Static(0)]);
    bench.dimmer.set(1.0);
    let asking: Vec<_> =
        (0..3).map(|_| tokio::spawn(bench.service.clone().oneshot(ask(Method::GET, &[])))).collect();
    tokio::task::yield_now().await;
    assert_eq!(origin.calls(), 1);
    origin.permits.add_permits(1);
    for asked in asking {
        assert_eq!(got(asked.await.unwrap().unwrap()).await.text, "whole");
    }
}
