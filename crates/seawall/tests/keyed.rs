//! A breaker for each key as layer and pipeline, on a paused clock.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use seawall::core::breaker::{Config, Forced, Mode, Settings};
use seawall::core::decision::{Policy, Reason, Rejection};
use seawall::core::enforcement::Enforcement;
use seawall::core::event::Event;
use seawall::core::outcome::Outcome;
use seawall::core::request::{self, Key};
use seawall::core::time::{Span, Time};
use seawall::http::{Families, HttpAdapter, Refusals, Refused};
use seawall::keyed::Breakers;
use seawall::observe::{Observer, Origin, Watcher};
use seawall::pipeline::CallError;
use seawall::{KeyedBreakerLayer, Pipeline};
use tower::{Layer, ServiceExt, service_fn};

/// Two failures in a row open for five seconds; one probe closes.
fn config() -> Config {
    Config::new(Settings { consecutive: Some(2), probes: 1, ..Settings::default() }).unwrap()
}

fn breakers(max_keys: u32) -> Arc<Breakers> {
    Arc::new(Breakers::new(config(), max_keys))
}

fn fail(breakers: &Arc<Breakers>, key: u64) {
    for _ in 0..2 {
        breakers.enter(Key(key)).unwrap().report(Outcome::Failure);
    }
}

fn mode(breakers: &Breakers, key: u64) -> Mode {
    breakers.of(Key(key)).unwrap().mode
}

async fn pass_time(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

/// Notes changes and refusals.
#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Observer for Log {
    fn changed(&self, origin: Origin<'_>, event: &Event) {
        self.0.lock().unwrap().push(format!("{} {}", origin.name, event.change.name()));
    }

    fn refused(&self, origin: Origin<'_>, rejection: &Rejection) {
        self.0.lock().unwrap().push(format!("{} refused: {}", origin.name, rejection.reason.name()));
    }
}

type Of = fn(Time, &Request<()>) -> request::Request;

fn layer(log: &Arc<Log>) -> KeyedBreakerLayer<HttpAdapter<Of>> {
    let of: Of = |_, request| {
        let key = request.headers()["x-key"].to_str().unwrap().parse().unwrap();
        request::Request::new(Key(key))
    };
    let seen = HttpAdapter::new(of, Arc::new(Refusals::new(Vec::new(), Families::default(), 7)));
    KeyedBreakerLayer::new(config(), 1_000, seen).observed(Watcher::new("tenants", log.clone()))
}

/// What comes of a request of this key that a service would answer with this status.
async fn status(layer: &KeyedBreakerLayer<HttpAdapter<Of>>, key: u64, status: u16) -> Response<()> {
    let inner = service_fn(async |request: Request<()>| {
        let status = request.headers()["x-status"].to_str().unwrap();
        Ok::<_, std::convert::Infallible>(Response::builder().status(status).body(String::new()).unwrap())
    });
    let request = Request::builder().header("x-key", key).header("x-status", status).body(()).unwrap();
    layer.layer(inner).oneshot(request).await.unwrap().map(drop)
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_one_key_is_no_failure_of_another() {
    let log = Arc::new(Log::default());
    let layer = layer(&log);
    for (key, answer, expected) in [(1, 500, 500), (2, 200, 200), (1, 500, 500), (1, 200, 503), (2, 200, 200)]
    {
        assert_eq!(status(&layer, key, answer).await.status(), expected, "key {key}");
    }
    assert_eq!(*log.0.lock().unwrap(), ["tenants breaker_opened", "tenants refused: open"]);
    assert_eq!((mode(layer.breakers(), 1), mode(layer.breakers(), 2)), (Mode::Open, Mode::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_by_whom_and_until_when_and_its_time_lets_a_probe_through() {
    let layer = layer(&Arc::default());
    for _ in 0..2 {
        status(&layer, 1, 500).await;
    }
    let refused = status(&layer, 1, 200).await;
    let Refused(rejection) = refused.extensions().get().unwrap();
    assert_eq!((rejection.policy, rejection.reason), (Policy::Breaker, Reason::Open));
    assert!((5..=6).contains(&rejection.retry_after.as_nanos().div_ceil(1_000_000_000)), "{rejection}");
    pass_time(6).await;
    assert_eq!(status(&layer, 1, 200).await.status(), 200);
    assert_eq!(mode(layer.breakers(), 1), Mode::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_result_from_before_the_breaker_opened_counts_for_nothing() {
    let breakers = breakers(10);
    let (early, late) = (breakers.enter(Key(1)).unwrap(), breakers.enter(Key(1)).unwrap());
    fail(&breakers, 1);
    pass_time(6).await;
    let probe = breakers.enter(Key(1)).unwrap();
    early.report(Outcome::Failure);
    assert_eq!(mode(&breakers, 1), Mode::HalfOpen);
    probe.report(Outcome::Success);
    late.report(Outcome::Failure);
    assert_eq!((mode(&breakers, 1), breakers.of(Key(1)).unwrap().failure_rate), (Mode::Closed, 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_is_dropped_gives_its_probe_back() {
    let breakers = breakers(10);
    fail(&breakers, 1);
    pass_time(6).await;
    let probe = breakers.enter(Key(1)).unwrap();
    assert!(breakers.enter(Key(1)).is_err(), "there is one probe");
    drop(probe);
    assert!(breakers.enter(Key(1)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_breakers_than_the_cap() {
    for cap in [1, 3, 1_000, 4_099] {
        let breakers = breakers(cap);
        assert_eq!(breakers.snapshot().table.max_keys, u64::from(cap));
        for number in 0..2 * u64::from(cap) + 2_000 {
            drop(breakers.enter(Key(seawall::core::rng::mix(number))));
        }
        assert_eq!(breakers.snapshot().table.keys, u64::from(cap));
    }
}

#[tokio::test(start_paused = true)]
async fn in_shadow_it_counts_and_lets_through_and_off_it_is_not_asked() {
    let breakers = breakers(10);
    breakers.switch().set(Policy::Breaker, Enforcement::Shadow);
    fail(&breakers, 1);
    breakers.enter(Key(1)).unwrap().report(Outcome::Success);
    assert_eq!((mode(&breakers, 1), breakers.snapshot().shadowed), (Mode::Open, 1));
    breakers.switch().set(Policy::Breaker, Enforcement::Off);
    assert!(breakers.enter(Key(1)).is_ok() && breakers.enter(Key(2)).is_ok());
    assert_eq!((breakers.snapshot().table.keys, breakers.snapshot().shadowed), (1, 1));
    breakers.switch().set(Policy::Breaker, Enforcement::Enforced);
    assert!(breakers.enter(Key(1)).is_err());
}

#[tokio::test(start_paused = true)]
async fn by_hand_one_key_is_held_open_and_let_go() {
    let breakers = breakers(10);
    breakers.force(Key(1), Forced::Open).unwrap();
    assert!(breakers.enter(Key(1)).is_err() && breakers.enter(Key(2)).is_ok());
    pass_time(3_600).await;
    assert!(breakers.enter(Key(1)).is_err());
    breakers.reset(Key(1));
    assert!(breakers.enter(Key(1)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn other_settings_hold_for_the_breakers_that_are_there() {
    let breakers = breakers(10);
    breakers.enter(Key(1)).unwrap().report(Outcome::Success);
    breakers.configure(Config::new(Settings { consecutive: Some(3), ..Settings::default() }).unwrap());
    fail(&breakers, 1);
    assert_eq!(mode(&breakers, 1), Mode::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_by_key_drops_what_outlives_its_deadline_and_holds_it_against_the_key() {
    let shards = Pipeline::keyed(breakers(10)).within(Span::from_secs(1));
    let request = || request::Request::new(Key(1));
    for _ in 0..2 {
        let late = shards.call_for(request(), std::future::pending::<Result<(), ()>>).await;
        assert!(matches!(late, Err(CallError::TimedOut { .. })));
    }
    assert_eq!(mode(shards.breakers(), 1), Mode::Open);
    let refused = shards.call_for(request(), || async { Ok::<(), ()>(()) }).await;
    assert!(matches!(refused, Err(CallError::Rejected(rejection)) if rejection.reason == Reason::Open));
}
