//! Layers, pipelines and HTTP: what only shows where a policy meets a service.

use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use seawall::call::Upstream;
use seawall::core::breaker::{self, Mode, Slow};
use seawall::core::call::{
    Attempt, Config, Hosts, HostsConfig, Member, Repeat, Settings as CallSettings, Shared, Stop,
};
use seawall::core::decision::{Policy, Reason, Rejection};
use seawall::core::gate::{Gate, Lane, Own as _, Settings};
use seawall::core::limit;
use seawall::core::measure::bucket::{Quota, Rate};
use seawall::core::request;
use seawall::core::retry::backoff::{Backoff, Kind};
use seawall::core::rng::Rng;
use seawall::core::throttle;
use seawall::core::time::{Span, Time};
use seawall::http::{Families, HttpAdapter, NamedQuota, Refusals, grpc};
use seawall::pipeline::{Attempts, CallError, Pipeline};
use seawall::{BreakerLayer, LimitLayer, Locks, Threads, ThrottleLayer, UserKeys, now};
use tower::{Layer as _, ServiceExt as _, service_fn};

type Body = http_body_util::Full<bytes::Bytes>;

/// This many an hour for each user.
fn hourly(burst: u64) -> Quota {
    Quota::new(Rate { count: burst, per: Span::from_secs(3_600) }, burst).unwrap()
}

fn refusals(quota: Option<Quota>) -> Arc<Refusals> {
    let named = |quota| NamedQuota::new("user", quota).unwrap();
    Arc::new(Refusals::new(quota.map(named).into_iter().collect(), Families::default(), 7))
}

/// Users by the header `x-api-key`; those without one are one user.
fn seen<B: 'static>(
    quota: Option<Quota>,
) -> HttpAdapter<impl Fn(Time, &Request<B>) -> request::Request + Clone> {
    let keys = UserKeys::new();
    let of = move |_: Time, request: &Request<B>| {
        let user = request.headers().get("x-api-key").map_or(&b""[..], |key| key.as_bytes());
        request::Request::new(keys.key(user))
    };
    HttpAdapter::new(of, refusals(quota))
}

fn with_key(key: &str) -> Request<Body> {
    Request::builder().header("x-api-key", key).body(Body::default()).unwrap()
}

async fn hello(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("hello")))
}

/// A while of the paused clock.
async fn pause(millis: u64) {
    let _ = tokio::time::timeout(Duration::from_millis(millis), pending::<()>()).await;
}

fn fragile(settings: breaker::Settings) -> breaker::Config {
    let window = breaker::Extent::Calls(20);
    breaker::Config::new(breaker::Settings { window, min_calls: 5, ..settings }).unwrap()
}

#[test]
fn an_ipv6_user_is_a_whole_network() {
    let keys = UserKeys::new();
    let of = |last: u32| keys.address(format!("2001:db8:1:2::{last:x}").parse().unwrap());
    assert!((0..1_000).all(|last| of(last) == of(0)));
    assert_ne!(of(0), keys.address("2001:db8:1:3::".parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_is_answered_and_counted() {
    let quota = hourly(2);
    let layer = ThrottleLayer::new(throttle::Config::per_user(quota), seen(Some(quota)));
    let service = layer.layer(service_fn(hello));
    for status in [200, 200, 429, 429] {
        let response = service.clone().oneshot(Request::new(Body::default())).await.unwrap();
        assert_eq!(response.status(), status);
    }
    assert_eq!(service.oneshot(with_key("known")).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_service_for_each_connection_shares_the_quota_of_the_layer() {
    let quota = hourly(5);
    let layer = ThrottleLayer::new(throttle::Config::per_user(quota), seen(Some(quota)));
    let mut passed = 0;
    for _ in 0..10 {
        let connection = layer.clone().layer(service_fn(hello));
        passed += u32::from(connection.oneshot(with_key("one")).await.unwrap().status() == 200);
    }
    assert_eq!(passed, 5);
}

#[tokio::test(start_paused = true)]
async fn another_quota_for_a_running_layer_keeps_what_is_spent() {
    let quota = hourly(5);
    let layer = ThrottleLayer::new(throttle::Config::per_user(quota), seen(Some(quota)));
    let service = layer.layer(service_fn(hello));
    let ask = async || service.clone().oneshot(with_key("one")).await.unwrap().status().as_u16();
    for _ in 0..5 {
        assert_eq!(ask().await, 200);
    }
    for _ in 0..3 {
        let larger = throttle::Config::per_user(hourly(10));
        assert_eq!(layer.gate().rules()[0].configured(larger, now()), Some(()));
        assert_eq!(ask().await, 429);
    }
}

#[test]
fn no_refusal_says_to_come_back_in_no_time() {
    let quota = hourly(5);
    for wait in [Span::ZERO, Span::from_nanos(1), Span::from_millis(999)] {
        for reason in Reason::ALL {
            let rejection = Rejection::new(Policy::Throttle, reason, wait);
            let (http, grpc) = (refusals(Some(quota)).response(&rejection), refusals(None).grpc(&rejection));
            for headers in [http.headers(), grpc.headers()] {
                assert_ne!(headers["retry-after"], "0");
            }
            assert_ne!(grpc.headers()["grpc-retry-pushback-ms"], "0");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_their_caller_dropped_for_being_late_open_the_breaker() {
    let slow = Some(Slow { after: Span::from_secs(1), rate_ppm: 500_000 });
    let stock = Pipeline::single(fragile(breaker::Settings { slow, ..breaker::Settings::default() }));
    for _ in 0..5 {
        let hangs = stock.call(pending::<Result<(), ()>>);
        assert!(tokio::time::timeout(Duration::from_secs(2), hangs).await.is_err());
    }
    assert_eq!(stock.gate().snapshot(now()).breaker.unwrap().mode, Mode::Open);
}

#[tokio::test(start_paused = true)]
async fn calls_that_ran_into_their_deadline_open_the_breaker() {
    let stock = Pipeline::single(fragile(breaker::Settings::default())).within(Span::from_secs(1));
    for _ in 0..5 {
        assert!(matches!(stock.call(pending::<Result<(), ()>>).await, Err(CallError::TimedOut { .. })));
    }
    assert_eq!(stock.gate().snapshot(now()).breaker.unwrap().mode, Mode::Open);
}

#[tokio::test(start_paused = true)]
async fn breakers_of_two_instances_do_not_probe_in_step() {
    let mut wakes = Vec::new();
    for _ in 0..50 {
        let stock = Pipeline::single(fragile(breaker::Settings::default()));
        for _ in 0..5 {
            let _ = stock.call(|| ready(Err::<(), ()>(()))).await;
        }
        wakes.push(stock.gate().wake_at().unwrap());
    }
    wakes.sort();
    wakes.dedup();
    assert_eq!(wakes.len(), 50);
}

#[test]
fn probes_that_threads_drop_finish_and_lose_at_once_are_all_given_back() {
    let settings = breaker::Settings { open: Span::from_nanos(1), probes: 3, ..breaker::Settings::default() };
    let stock = Pipeline::single(fragile(settings));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime().block_on(async {
        for _ in 0..5 {
            let _ = stock.call(|| ready(Err::<(), ()>(()))).await;
        }
    });
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let stock = &stock;
            scope.spawn(move || {
                runtime().block_on(async {
                    for call in 0..500 {
                        let answer = async {
                            match (call + thread) % 3 {
                                0 => Ok(()),
                                1 => Err(()),
                                _ => pending().await,
                            }
                        };
                        let _ = tokio::time::timeout(Duration::ZERO, stock.call(|| answer)).await;
                    }
                });
            });
        }
    });
    // Whatever was left behind, it comes back as soon as the service does.
    runtime().block_on(async {
        let well = async || while stock.call(|| ready(Ok::<_, ()>(()))).await.is_err() {};
        for _ in 0..20 {
            well().await;
        }
    });
    assert_eq!(stock.gate().snapshot(now()).breaker.unwrap().mode, Mode::Closed);
}

#[tokio::test(start_paused = true)]
async fn refusals_of_a_layer_are_not_held_against_the_service_by_the_one_around_it() {
    let none = limit::Config { ceiling: limit::Ceiling::Fixed(1), queue: 0, ..limit::Config::default() };
    let limit = LimitLayer::new(none, seen(None));
    let breaker = BreakerLayer::new(fragile(breaker::Settings::default()), seen(None));
    let service = breaker.layer(limit.layer(service_fn(hello)));
    let held = service.clone().oneshot(with_key("one")).await.unwrap();
    for _ in 0..50 {
        let full = service.clone().oneshot(with_key("one")).await.unwrap();
        assert_eq!(
            (full.status(), &full.headers()["x-seawall-reason"]),
            (StatusCode::SERVICE_UNAVAILABLE, &"full".parse().unwrap())
        );
    }
    assert_eq!(breaker.gate().snapshot(now()).breaker.unwrap().mode, Mode::Closed);
    drop(held);
}

/// Calls to these hosts, in turn, each behind a breaker of its own, with retries that nobody has to
/// pay for.
fn calls(hosts: u64, config: Config, repeat: Repeat) -> Pipeline<Attempts> {
    seeded(hosts, config, repeat, 7)
}

fn seeded(hosts: u64, config: Config, repeat: Repeat, seed: u64) -> Pipeline<Attempts> {
    let breaker = Some(fragile(breaker::Settings::default()));
    let member = |host: u64| Member::<Threads> {
        name: Arc::from(host.to_string()),
        gate: Arc::new(Gate::new(Settings { breaker, ..Settings::default() }, Lane::default(), now())),
    };
    let hosts = (0..hosts).map(member).collect();
    let hosts = Hosts::balanced(HostsConfig::in_turn(), hosts, now(), &mut Rng::new(seed, 1));
    let unpaid = CallSettings { budget: None, hedge: None };
    let shared = Arc::new(Locks::own(vec![Shared::new(unpaid, now())]));
    Pipeline::calls(Arc::new(Upstream::of(hosts, shared, seed)), config, repeat)
}

#[tokio::test(start_paused = true)]
async fn the_outage_of_one_host_is_no_outage_of_the_service() {
    let calls = calls(4, Config::default(), Repeat::Safe);
    let first_is_down = |attempt: Attempt| ready(if attempt.host == 0 { Err("down") } else { Ok(()) });
    for _ in 0..100 {
        assert_eq!(calls.call(first_is_down).await, Ok(()));
    }
    let modes =
        calls.upstream().hosts().gates().iter().map(|gate| gate.snapshot(now()).breaker.unwrap().mode);
    assert_eq!(modes.collect::<Vec<_>>(), [Mode::Open, Mode::Closed, Mode::Closed, Mode::Closed]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_has_what_is_left_of_the_deadline_and_the_next_hop_is_told() {
    let second = Span::from_secs(1);
    let config = Config {
        attempts: 3,
        per_attempt: None,
        backoff: Backoff::new(Kind::Fixed, second, second).unwrap(),
    };
    let calls = calls(1, config, Repeat::Safe).within(Span::from_secs(5));
    let began = now();
    let mut told = Vec::new();
    let failed = calls
        .call(|attempt| {
            told.push(grpc::timeout_value(attempt.deadline.since(now())).to_str().unwrap().to_owned());
            assert_eq!(attempt.deadline, began + Span::from_secs(5));
            async {
                pause(500).await;
                Err::<(), _>("down")
            }
        })
        .await;
    assert!(failed.is_err());
    // Half a second of work and one of waiting, each time, and a little that the timer is late.
    let seconds = |value: &String| value.trim_end_matches('u').parse::<f64>().unwrap() / 1e6;
    let left: Vec<f64> = told.iter().map(seconds).collect();
    for (left, most) in left.iter().zip([5.0, 3.5, 2.0]) {
        assert!((most - 0.1..=most).contains(left), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_do_harm_twice_is_sent_once() {
    let calls = calls(2, Config::default(), Repeat::Unsafe);
    let sent = AtomicU32::new(0);
    let post = |_| {
        sent.fetch_add(1, Ordering::Relaxed);
        ready(Err::<(), _>("connection reset"))
    };
    let failed = CallError::Failed { error: "connection reset", stop: Some(Stop::Unsafe) };
    assert_eq!(calls.call(post).await, Err(failed));
    assert_eq!(sent.into_inner(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_real_error_outlives_our_own_refusal() {
    // The breaker opens with the first failure, and refuses the second attempt.
    let breaker = breaker::Settings { consecutive: Some(1), ..breaker::Settings::default() };
    let settings = Settings { breaker: Some(fragile(breaker)), ..Settings::default() };
    let host = Arc::new(Gate::new(settings, Lane::default(), now()));
    let unpaid = CallSettings { budget: None, hedge: None };
    let shared = Arc::new(Locks::own(vec![Shared::new(unpaid, now())]));
    let upstream = Arc::new(Upstream::new(vec![host], shared, 7));
    let calls = Pipeline::calls(upstream, Config::default(), Repeat::Safe);
    let Err(CallError::Failed { error, stop }) = calls.call(|_| ready(Err::<(), _>("disk full"))).await
    else {
        panic!("it failed by itself");
    };
    assert_eq!(error, "disk full");
    assert!(matches!(stop, Some(Stop::Rejected(rejection)) if rejection.reason == Reason::Open));
}

#[tokio::test(start_paused = true)]
async fn two_processes_do_not_wait_in_step() {
    let waits = async |seed| {
        let (calls, began) = (seeded(1, Config::default(), Repeat::Safe, seed), now());
        let mut sent = Vec::new();
        let fail = |_| {
            sent.push(now().since(began));
            ready(Err::<(), _>("down"))
        };
        assert!(calls.call(fail).await.is_err());
        sent
    };
    assert_ne!(waits(1).await, waits(2).await);
}
