//! Degradation before rejection: a gate under load asks for less work, and the fallback around it
//! gives it less.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use seawall::admission::AdmissionLayer;
use seawall::core::fallback::{Chain, Step, dims, store};
use seawall::core::gate::{Gate, Lane, Settings};
use seawall::core::request::{self, Cohort, Key};
use seawall::core::rng::mix;
use seawall::core::time::{Span, Time};
use seawall::core::{limit, shed};
use seawall::fallback::{Cache, Counts, Dimmer, FallbackLayer};
use seawall::http::fallback::{HttpFallback, Settings as HttpSettings};
use seawall::http::{Families, Full, Held, HttpAdapter, Refusals};
use seawall::{Guard, Threads, now};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _, service_fn};

type Body = http_body_util::Full<Bytes>;
type Answer = Response<Held<Body, Guard>>;

/// The user is in the path, and a cohort of its own with it.
fn of(_: Time, request: &Request<Body>) -> request::Request {
    let user = Key(mix(request.uri().path()[1..].parse().unwrap()));
    request::Request { cohort: Some(Cohort((user.0 >> 48) as u16)), ..request::Request::new(user) }
}

fn gate() -> Arc<Gate<Threads>> {
    let ceiling = limit::Ceiling::Fixed(8);
    let limit = limit::Config { ceiling, queue: 200, ..limit::Config::default() };
    let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
    Arc::new(Gate::new(Settings { limit: Some(limit), ..Settings::default() }, lane, now()))
}

/// A while of the paused clock.
async fn pause(millis: u64) {
    let _ = tokio::time::timeout(Duration::from_millis(millis), pending::<()>()).await;
}

/// Load rises to a fifth above what the service can do and stays there. Returns who was answered
/// from where, and how many the gate refused.
async fn overload(gate: Arc<Gate<Threads>>, dimmer: Dimmer) -> (Counts, u64) {
    let refusals = Arc::new(Refusals::new(Vec::new(), Families::default(), 7));
    let admission = AdmissionLayer::new(gate.clone(), HttpAdapter::new(of, refusals));
    let service = admission.layer(service_fn(async |_: Request<Body>| {
        pause(20).await;
        Ok::<_, Infallible>(Response::new(Body::from("whole")))
    }));
    let cheap = service_fn(async |_: Request<Body>| {
        Ok::<_, Infallible>(Answer::new(Held::full(Full::new("less".into()))))
    });
    let chain = Chain::new(vec![Step::Upstream(0)]).unwrap();
    let cache = Cache::new(store::Config::default(), Span::ZERO);
    let cheaper = vec![BoxCloneSyncService::new(cheap)];
    let seen = HttpFallback::new(of, HttpSettings::default(), cheaper, Vec::new());
    let layer = FallbackLayer::new(chain, cache, dimmer, seen);
    let service = layer.layer(service);
    // Eight places of 20 ms and a tick of the timer each: about 380 a second.
    let mut debt = 0.0;
    for millis in 0..20_000_u32 {
        pause(1).await;
        debt += 0.38 * (0.5 + 0.7 * f64::from(millis.min(10_000)) / 10_000.0);
        while debt >= 1.0 {
            debt -= 1.0;
            let request = Request::builder().uri(format!("/{millis}")).body(Body::default()).unwrap();
            tokio::spawn(service.clone().oneshot(request));
        }
    }
    let snapshot = gate.snapshot(now());
    (layer.counts(), snapshot.shed.unwrap().dropped.iter().sum())
}

#[tokio::test(start_paused = true)]
async fn a_gate_under_load_has_less_work_done_before_it_refuses_anybody() {
    let (blind, refused) = overload(gate(), Dimmer::new()).await;
    assert!(refused > 100, "{refused} refused: {blind:?}");
    let gate = gate();
    let (seeing, refused) = overload(gate.clone(), Dimmer::of(gate)).await;
    assert_eq!(refused, 0, "{seeing:?}");
    assert!(seeing.cheaper > 100 && seeing.upstream > 3 * seeing.cheaper, "{seeing:?}");
}

#[tokio::test(start_paused = true)]
async fn the_cohort_decides_who_gets_less_not_the_key() {
    let chain = Chain::new(vec![Step::Upstream(0)]).unwrap();
    let cache = Cache::new(store::Config::default(), Span::ZERO);
    let by_header = |_: Time, request: &Request<Body>| {
        let number = |at: usize| request.uri().path().split('/').nth(at).unwrap().parse().unwrap();
        let cohort = Some(Cohort(number(2) as u16));
        request::Request { cohort, ..request::Request::new(Key(number(1))) }
    };
    let answer = |text: &'static str| {
        let answer =
            move |_: Request<Body>| std::future::ready(Ok::<_, Infallible>(Response::new(Body::from(text))));
        BoxCloneSyncService::new(service_fn(answer))
    };
    let dimmer = Dimmer::new();
    dimmer.set(0.5);
    let seen = HttpFallback::new(by_header, HttpSettings::default(), vec![answer("less")], Vec::new());
    let layer = FallbackLayer::new(chain, cache, dimmer, seen);
    for cohort in 0..100 {
        for user in 0..3 {
            let request = Request::builder().uri(format!("/{user}/{cohort}")).body(Body::default()).unwrap();
            let response = layer.layer(answer("whole")).oneshot(request).await.unwrap();
            let cheaper = response.headers().contains_key("x-seawall-fallback");
            assert_eq!(cheaper, dims(0.5, Cohort(cohort)));
        }
    }
}
