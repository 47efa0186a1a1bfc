//! Plain calls: what is told apart, what is judged, and what a dropped future gives back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::error::Error as _;
use std::future::{Future, pending, ready};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use seawall::call::{Judgement, Upstream};
use seawall::core::call::{Config, Repeat, Settings as CallSettings, Shared, Stop};
use seawall::core::decision::{Policy, Reason};
use seawall::core::gate::{Gate, Lane, Own as _, Settings};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::time::Span;
use seawall::core::{breaker, limit};
use seawall::pipeline::{Attempts, CallError, Once, Pipeline};
use seawall::{Locks, Threads, now};

fn places(most: u32) -> limit::Config {
    limit::Config { ceiling: limit::Ceiling::Fixed(most), queue: 8, ..limit::Config::default() }
}

fn limited(most: u32) -> Arc<Gate<Threads>> {
    let settings = Settings { limit: Some(places(most)), ..Settings::default() };
    Arc::new(Gate::new(settings, Lane::default(), now()))
}

fn in_flight(gate: &Gate<Threads>) -> (u32, u32) {
    let limit = gate.limit(now()).unwrap();
    (limit.in_flight, limit.waiting)
}

/// Opens when two calls failed in a row.
fn breaker() -> Pipeline<Once> {
    let settings = breaker::Settings { consecutive: Some(2), ..breaker::Settings::default() };
    Pipeline::single(breaker::Config::new(settings).unwrap())
}

/// Retries through one host of ten places.
fn retrying(repeat: Repeat) -> (Pipeline<Attempts>, Arc<Gate<Threads>>) {
    let host = limited(10);
    let settings = CallSettings { budget: None, ..CallSettings::default() };
    let shared = Arc::new(Locks::own(vec![Shared::new(settings, now())]));
    let upstream = Arc::new(Upstream::new(vec![host.clone()], shared, 7));
    (Pipeline::calls(upstream, Config::default(), repeat), host)
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_apart_from_the_operations_own_error() {
    let breaker = breaker();
    let fail = || ready(Err::<(), _>("down"));
    for _ in 0..2 {
        assert_eq!(breaker.call(fail).await, Err(CallError::Failed { error: "down", stop: None }));
    }
    let Err(CallError::Rejected(rejection)) = breaker.call(fail).await else { panic!("it is open") };
    assert_eq!((rejection.policy, rejection.reason), (Policy::Breaker, Reason::Open));
    let error = CallError::<std::fmt::Error>::Rejected(rejection);
    assert_eq!(error.to_string(), error.source().unwrap().to_string());
}

#[tokio::test(start_paused = true)]
async fn a_judge_decides_what_counts() {
    let absent = |result: &Result<(), &str>, repeat| Judgement {
        outcome: if *result == Err("not found") { Outcome::Ignored } else { Outcome::Failure },
        repeat,
    };
    let breaker = breaker().judged_by(absent);
    for _ in 0..10 {
        let failed = breaker.call(|| ready(Err("not found"))).await;
        assert_eq!(failed.unwrap_err().into_error(), Some("not found"));
    }
    assert_eq!(breaker.gate().snapshot(now()).breaker.unwrap().mode, breaker::Mode::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_operation_may_take_what_it_needs_along() {
    let pool = Pipeline::single(places(1));
    let body = String::from("moved");
    assert_eq!(pool.call(|| async move { Ok::<_, ()>(body) }).await.unwrap(), "moved");
}

#[tokio::test(start_paused = true)]
async fn an_operation_ends_with_its_deadline_and_speaks_against_the_callee() {
    let breaker = breaker().within(Span::from_secs(1));
    let began = now();
    for _ in 0..2 {
        let late = breaker.call(pending::<Result<(), ()>>).await;
        assert_eq!(late, Err(CallError::TimedOut { stop: Stop::Deadline }));
    }
    assert!(now().since(began) < Span::from_millis(2_100));
    assert!(matches!(breaker.call(pending::<Result<(), ()>>).await, Err(CallError::Rejected(_))));
}

#[tokio::test(start_paused = true)]
async fn dropped_futures_leave_nothing_behind() {
    let pool = Pipeline::single(places(1));
    let (running, waiting) = (pool.clone(), pool.clone());
    drop(pool.call(pending::<Result<(), ()>>)); // Never polled: never asked.
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut runs = pin!(running.call(pending::<Result<(), ()>>));
        assert!(runs.as_mut().poll(&mut cx).is_pending());
        assert_eq!(in_flight(pool.gate()), (1, 0));
        {
            let mut waits = pin!(waiting.call(pending::<Result<(), ()>>));
            assert!(waits.as_mut().poll(&mut cx).is_pending());
            assert_eq!(in_flight(pool.gate()), (1, 1));
        }
        assert_eq!(in_flight(pool.gate()), (1, 0));
    }
    assert_eq!(in_flight(pool.gate()), (0, 0));
    assert_eq!(pool.call(|| ready(Ok::<_, ()>(1))).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_followed_by_another_and_the_last_real_error_is_kept() {
    let (pipeline, host) = retrying(Repeat::Safe);
    let attempts = Cell::new(0);
    let down = |_| {
        attempts.set(attempts.get() + 1);
        ready(Err::<(), _>(attempts.get()))
    };
    let failed = CallError::Failed { error: 3, stop: Some(Stop::Attempts) };
    assert_eq!(pipeline.call(down).await, Err(failed));
    let second = pipeline.call(|attempt| ready(if attempt.number == 1 { Err(1) } else { Ok(2) }));
    assert_eq!(second.await, Ok(2));
    assert_eq!(in_flight(&host), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_could_do_harm_is_not_run_twice() {
    let (pipeline, _) = retrying(Repeat::Unsafe);
    let failed = pipeline.call(|_| ready(Err::<(), _>("reset"))).await;
    assert_eq!(failed, Err(CallError::Failed { error: "reset", stop: Some(Stop::Unsafe) }));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_times_out_and_gives_all_back() {
    let (pipeline, host) = retrying(Repeat::Safe);
    let front = limited(1);
    let pipeline = pipeline.behind(front.clone()).within(Span::from_secs(1));
    let late = pipeline.call(|_| pending::<Result<(), ()>>()).await;
    assert!(matches!(late, Err(CallError::TimedOut { .. })), "{late:?}");
    assert_eq!((in_flight(&front), in_flight(&host)), ((0, 0), (0, 0)));
    let dropped = tokio::time::timeout(Duration::ZERO, pipeline.call(|_| pending::<Result<(), ()>>()));
    assert!(dropped.await.is_err());
    assert_eq!((in_flight(&front), in_flight(&host)), ((0, 0), (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn the_front_gate_of_a_call_refuses_before_any_attempt() {
    let (pipeline, host) = retrying(Repeat::Safe);
    let front = limited(1);
    let pipeline = pipeline.behind(front.clone());
    let _held = seawall::enter(&front, Request::new(Key(1))).await.unwrap();
    let soon = Request { deadline: now() + Span::from_millis(5), ..Request::new(Key(1)) };
    let run = |_| -> std::future::Ready<Result<(), ()>> { panic!("it is not run") };
    let Err(CallError::Rejected(rejection)) = pipeline.call_for(soon, run).await else { panic!("no place") };
    assert_eq!((rejection.policy, rejection.reason), (Policy::Deadline, Reason::Expired));
    assert_eq!(in_flight(&host), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_error_borrows_can_be_spawned() {
    let ((calls, _), breaker) = (retrying(Repeat::Safe), breaker());
    let called = async move { calls.call(|_| ready(Err::<(), &'static str>("down"))).await };
    let called = tokio::spawn(called).await.unwrap();
    assert_eq!(called.unwrap_err().into_error(), Some("down"));
    let once = async move { breaker.call(|| ready(Err::<(), &'static str>("down"))).await };
    assert_eq!(tokio::spawn(once).await.unwrap().unwrap_err().into_error(), Some("down"));
}

#[test]
fn a_plain_call_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let breaker = breaker();
    let (calls, _) = retrying(Repeat::Safe);
    let calls = calls.behind(limited(4)).within(Span::from_secs(1));
    let mut cx = Context::from_waker(Waker::noop());
    let mut round = || {
        for _ in 0..1_000 {
            let mut plain = pin!(breaker.call(|| ready(Ok::<_, ()>(1))));
            assert_eq!(plain.as_mut().poll(&mut cx), Poll::Ready(Ok(1)));
            let mut called = pin!(calls.call(|_| ready(Ok::<_, ()>(2))));
            assert_eq!(called.as_mut().poll(&mut cx), Poll::Ready(Ok(2)));
        }
    };
    round();
    let counted = allocation_counter::measure(round);
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
