//! What an admission holds, and when it gives it back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use seawall::admission::{Adapter, AdmissionLayer};
use seawall::core::decision::{Reason, Rejection};
use seawall::core::gate::{Gate, Lane, Rule, Settings};
use seawall::core::measure::bucket::{Quota, Rate};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::time::{Span, Time};
use seawall::core::{breaker, limit, shed, throttle};
use seawall::{Guard, Threads, enter, now};
use tower::{Layer as _, Service, ServiceExt as _};

fn gate(places: u32, queue: u32) -> Arc<Gate<Threads>> {
    let ceiling = limit::Ceiling::Fixed(places);
    let settings = Settings {
        limit: Some(limit::Config { ceiling, queue, ..limit::Config::default() }),
        ..Settings::default()
    };
    Arc::new(Gate::new(settings, Lane::default(), now()))
}

fn in_flight(gate: &Gate<Threads>) -> (u32, u32) {
    let limit = gate.snapshot(now()).limit.unwrap();
    (limit.in_flight, limit.waiting)
}

fn request() -> Request {
    Request::new(Key(7))
}

/// Answers are numbers; a refusal is its reason.
#[derive(Clone)]
struct Numbers;

impl Adapter<u32, u32, Infallible> for Numbers {
    type Response = Result<(u32, Guard), Reason>;

    fn request(&self, _: Time, _: &u32) -> Request {
        request()
    }

    fn outcome(&self, _: Result<&u32, &Infallible>) -> Outcome {
        Outcome::Success
    }

    fn answer(&self, response: u32, guard: Guard) -> Self::Response {
        Ok((response, guard))
    }

    fn refuse(&self, rejection: Rejection) -> Self::Response {
        Err(rejection.reason)
    }
}

/// Doubles a number at once.
#[derive(Clone)]
struct Double;

impl Service<u32> for Double {
    type Response = u32;
    type Error = Infallible;
    type Future = Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, number: u32) -> Self::Future {
        ready(Ok(number * 2))
    }
}

#[tokio::test(start_paused = true)]
async fn idle_readied_clones_hold_nothing() {
    let gate = gate(1, 0);
    let service = AdmissionLayer::new(gate.clone(), Numbers).layer(Double);
    let mut clones: Vec<_> = (0..100).map(|_| service.clone()).collect();
    for clone in &mut clones {
        clone.ready().await.unwrap();
    }
    assert_eq!(in_flight(&gate), (0, 0));
    for clone in &mut clones {
        assert!(matches!(clone.call(4).await.unwrap(), Ok((8, _))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_a_response_and_the_guard_holds_until_it_is_dropped() {
    let gate = gate(1, 0);
    let service = AdmissionLayer::new(gate.clone(), Numbers).layer(Double);
    let held = service.clone().oneshot(1).await.unwrap().unwrap();
    assert_eq!(in_flight(&gate), (1, 0));
    assert_eq!(service.clone().oneshot(1).await.unwrap().unwrap_err(), Reason::Full);
    drop(held);
    assert_eq!(in_flight(&gate), (0, 0));
    assert!(service.oneshot(1).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_woken_in_turn_and_not_polled_in_between() {
    let gate = gate(1, 8);
    let first = enter(&gate, request()).await.unwrap();
    let polls = Arc::new(AtomicU32::new(0));
    let waiting: Vec<_> = (0..3)
        .map(|number| {
            let (gate, polls) = (gate.clone(), polls.clone());
            tokio::spawn(async move {
                let mut entering = pin!(enter(&gate, request()));
                let guard = std::future::poll_fn(|cx| {
                    polls.fetch_add(1, Ordering::Relaxed);
                    entering.as_mut().poll(cx)
                });
                guard.await.map(|guard| (number, guard))
            })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(in_flight(&gate), (1, 3));
    drop(first);
    for (number, waiting) in waiting.into_iter().enumerate() {
        let (served, _guard) = waiting.await.unwrap().unwrap();
        assert_eq!(served, number);
    }
    assert_eq!(in_flight(&gate), (0, 0));
    assert!(polls.load(Ordering::Relaxed) <= 6, "{polls:?} polls for three who waited");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_woken_when_the_limit_grows_by_a_report() {
    let grows = limit::aimd::Settings { initial: 1, ..limit::aimd::Settings::default() };
    let ceiling = limit::Ceiling::Aimd(limit::aimd::Config::new(grows).unwrap());
    let settings = Settings {
        limit: Some(limit::Config { ceiling, ..limit::Config::default() }),
        ..Settings::default()
    };
    let gate = Arc::new(Gate::<Threads>::new(settings, Lane::default(), now()));
    let mut streams = enter(&gate, request()).await.unwrap();
    let waits = tokio::spawn(enter(&gate, request()));
    tokio::task::yield_now().await;
    assert_eq!(in_flight(&gate), (1, 1));
    // Its headers are out, its body is not.
    streams.report(Outcome::Success, Span::ZERO);
    tokio::task::yield_now().await;
    assert!(waits.is_finished());
    drop(streams);
}

#[tokio::test(start_paused = true)]
async fn dropped_futures_leave_nothing_behind() {
    let gate = gate(1, 8);
    drop(enter(&gate, request()));
    let first = enter(&gate, request()).await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut waits = pin!(enter(&gate, request()));
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        assert_eq!(in_flight(&gate), (1, 1));
    }
    assert_eq!(in_flight(&gate), (1, 0));
    {
        // Its turn has come, but it goes without looking.
        let mut waits = pin!(enter(&gate, request()));
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        drop(first);
        assert_eq!(in_flight(&gate), (1, 0));
    }
    assert_eq!(in_flight(&gate), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait() {
    let gate = gate(1, 8);
    let _first = enter(&gate, request()).await.unwrap();
    let deadline = now() + Span::from_millis(50);
    let refused = enter(&gate, Request { deadline, ..request() }).await.unwrap_err();
    assert_eq!(refused.reason, Reason::Expired);
    assert!(now() >= deadline);
    assert_eq!(in_flight(&gate), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn tokens_of_those_who_leave_the_queue_come_back() {
    let quota = Quota::new(Rate { count: 1, per: Span::from_secs(3_600) }, 2).unwrap();
    let rule = Rule::new(throttle::Config::per_user(quota), now());
    let gate = Arc::new(gate(1, 8).throttled(vec![Arc::new(rule)]));
    let first = enter(&gate, request()).await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..5 {
        let mut waits = pin!(enter(&gate, request()));
        assert!(waits.as_mut().poll(&mut cx).is_pending());
    }
    drop(first);
    let second = enter(&gate, request()).await.unwrap();
    assert_eq!(second.standing().unwrap().remaining, 0);
    assert_eq!(enter(&gate, request()).await.unwrap_err().reason, Reason::Throttled);
}

#[test]
fn many_threads_never_exceed_the_limit_nor_the_quota() {
    let quota = Quota::new(Rate { count: 1, per: Span::from_secs(3_600) }, 5_000).unwrap();
    let rule = Rule::new(throttle::Config::per_user(quota), now());
    let gate = Arc::new(gate(3, 64).throttled(vec![Arc::new(rule)]));
    let (inside, most, passed) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..2_000 {
                        if let Ok(guard) = enter(&gate, request()).await {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            passed.fetch_add(1, Ordering::SeqCst);
                            tokio::task::yield_now().await;
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(guard);
                        }
                    }
                });
            });
        }
    });
    assert_eq!(passed.into_inner(), 5_000);
    assert!(most.into_inner() <= 3);
    assert_eq!(in_flight(&gate), (0, 0));
}

#[test]
fn admission_allocates_nothing() {
    let quota = Quota::new(Rate::per_second(1_000), 500).unwrap();
    let rule = Rule::new(throttle::Config::per_user(quota), now());
    let settings = Settings {
        breaker: None,
        ramp: Span::ZERO,
        limit: Some(limit::Config {
            ceiling: limit::Ceiling::Fixed(8),
            queue: 0,
            ..limit::Config::default()
        }),
    };
    let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
    let front = Arc::new(Gate::<Threads>::new(settings, lane, now()).throttled(vec![Arc::new(rule)]));
    let settings = Settings { breaker: Some(breaker::Config::default()), ..Settings::default() };
    let back = Arc::new(Gate::<Threads>::new(settings, Lane::default(), now()));
    let layers = (AdmissionLayer::new(front, Inner), AdmissionLayer::new(back, Numbers));
    let service = layers.0.layer(layers.1.layer(Double));
    let mut cx = Context::from_waker(Waker::noop());
    let mut round = |calls: u32| {
        let mut refused = 0;
        for _ in 0..calls {
            let mut call = pin!(service.clone().call(3));
            match call.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(answer)) => refused += u32::from(answer.is_err()),
                Poll::Pending => panic!("nothing waits here"),
            }
        }
        refused
    };
    round(10); // The user's entry and the first samples have their places now.
    let counted = allocation_counter::measure(|| {
        let refused = round(2_000);
        assert!(refused > 1_000, "the quota refuses most: {refused}");
    });
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

#[test]
fn users_who_come_and_go_allocate_nothing() {
    let quota = Quota::new(Rate::per_second(1), 1).unwrap();
    let rule = Rule::<Threads>::new(throttle::Config::per_user(quota), Time::ZERO);
    let come = |users: std::ops::Range<u64>| {
        for user in users {
            // Whoever came a second ago is full again, and so forgotten when there is no room.
            let now = Time::ZERO + Span::from_millis(100 * user);
            let key = Key(user.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            rule.take(now, &Request::new(key)).unwrap();
        }
    };
    come(0..100_000); // The tables have grown as far as they do freely.
    let counted = allocation_counter::measure(|| come(100_000..120_000));
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

/// Sees the numbers of the inner gate.
#[derive(Clone)]
struct Inner;

type InnerAnswer = Result<(u32, Guard), Reason>;

impl Adapter<u32, InnerAnswer, Infallible> for Inner {
    type Response = Result<(InnerAnswer, Guard), Reason>;

    fn request(&self, _: Time, _: &u32) -> Request {
        request()
    }

    fn outcome(&self, _: Result<&InnerAnswer, &Infallible>) -> Outcome {
        Outcome::Success
    }

    fn answer(&self, response: InnerAnswer, guard: Guard) -> Self::Response {
        Ok((response, guard))
    }

    fn refuse(&self, rejection: Rejection) -> Self::Response {
        Err(rejection.reason)
    }
}

#[tokio::test(start_paused = true)]
async fn a_refund_returns_no_more_than_was_taken_also_after_the_report() {
    let quota = Quota::new(Rate { count: 1, per: Span::from_secs(3_600) }, 10).unwrap();
    let rule = Rule::new(throttle::Config::per_user(quota), now());
    let gate = Arc::new(gate(8, 0).throttled(vec![Arc::new(rule)]));
    let mut guard = enter(&gate, Request { cost: 6, ..request() }).await.unwrap();
    guard.refund(4);
    guard.report(Outcome::Success, Span::ZERO);
    guard.refund(u32::MAX);
    drop(guard);
    let all = enter(&gate, Request { cost: 10, ..request() }).await.unwrap();
    assert_eq!(all.standing().unwrap().remaining, 0);
    assert_eq!(enter(&gate, request()).await.unwrap_err().reason, Reason::Throttled);
}
