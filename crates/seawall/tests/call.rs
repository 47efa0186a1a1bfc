//! Calls on a paused clock: attempts, budget, deadline, and what a dropped call gives back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use seawall::call::{Closures, Drive, Ended, Judgement, Upstream};
use seawall::core::call::{Attempt, Config, Repeat, Settings as CallSettings, Shared, Stop, Verdict};
use seawall::core::gate::{Gate, Lane, Own as _, Settings};
use seawall::core::limit::{self, Ceiling};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::retry::backoff::{Backoff, Kind};
use seawall::core::retry::budget;
use seawall::core::time::Span;
use seawall::{Locks, Threads, now};

/// An upstream of one host with ten places, and a budget that so many successes have each paid a
/// retry into.
async fn upstream(retries: u32) -> (Arc<Upstream>, Arc<Gate<Threads>>, Arc<Locks<Shared>>) {
    let settings = Settings {
        limit: Some(limit::Config { ceiling: Ceiling::Fixed(10), queue: 0, ..limit::Config::default() }),
        ..Settings::default()
    };
    let gate = Arc::new(Gate::new(settings, Lane::default(), now()));
    let budget = budget::Config::new(1_000_000).unwrap().without_floor();
    let settings = CallSettings { budget: Some(budget), ..CallSettings::default() };
    let shared = Arc::new(Locks::own(vec![Shared::new(settings, now())]));
    let upstream = Arc::new(Upstream::new(vec![gate.clone()], shared.clone(), 7));
    for _ in 0..retries {
        call(&upstream, &[(1, true)]).await;
    }
    (upstream, gate, shared)
}

fn config() -> Config {
    let second = Span::from_secs(1);
    Config {
        attempts: 3,
        per_attempt: Some(second),
        backoff: Backoff::new(Kind::Fixed, second, second).unwrap(),
    }
}

/// Calls with these answers, one for each attempt: after so many milliseconds, well or not.
async fn call(upstream: &Arc<Upstream>, script: &[(u64, bool)]) -> Ended<Result<u64, u64>> {
    let script = RefCell::new(script.iter());
    let exchange = Closures {
        send: |_: Attempt| {
            let &(millis, well) = script.borrow_mut().next().unwrap();
            async move {
                tokio::time::timeout(Duration::from_millis(millis), std::future::pending::<()>())
                    .await
                    .unwrap_err();
                if well { Ok(millis) } else { Err(millis) }
            }
        },
        judge: |answer: &Result<u64, u64>| Judgement {
            outcome: if answer.is_ok() { Outcome::Success } else { Outcome::Failure },
            repeat: Repeat::Safe,
        },
    };
    let request = Request { deadline: now() + Span::from_secs(10), ..Request::new(Key(1)) };
    Drive::new(upstream.clone(), config(), request, Repeat::Safe, exchange).await
}

fn in_flight(gate: &Gate<Threads>) -> u32 {
    gate.snapshot(now()).limit.unwrap().in_flight
}

#[tokio::test(start_paused = true)]
async fn retries_after_its_backoff_and_holds_the_place_of_the_answer() {
    let (upstream, gate, _) = upstream(5).await;
    let begun = now();
    let ended = call(&upstream, &[(100, false), (2_000, true), (50, true)]).await;
    // 100 ms, 1 s of backoff, a timeout of 1 s, 1 s of backoff, 50 ms.
    let took = now().since(begun).as_millis();
    assert!((3_149..=3_150).contains(&took), "{took}: timers count in milliseconds");
    assert_eq!((ended.attempts, ended.waited), (3, Span::from_secs(2)));
    assert_eq!((ended.verdict, ended.answer), (Verdict::Answered { stop: None }, Some(Ok(50))));
    assert_eq!(in_flight(&gate), 1);
    drop(ended.guard);
    assert_eq!(in_flight(&gate), 0);
}

#[tokio::test(start_paused = true)]
async fn with_an_empty_budget_the_real_error_is_returned() {
    let (upstream, gate, _) = upstream(0).await;
    let ended = call(&upstream, &[(100, false)]).await;
    assert_eq!(ended.verdict, Verdict::Answered { stop: Some(Stop::Budget) });
    assert_eq!(ended.answer, Some(Err(100)));
    drop(ended.guard);
    assert_eq!(in_flight(&gate), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_gives_back_its_place_and_its_retry() {
    let (upstream, gate, shared) = upstream(1).await;
    let balance = || shared.with(Key(0), |shared| shared.snapshot().budget.unwrap().balance);
    let script = [(100, false), (100, true)];
    for cut_after in [50, 600] {
        let cut = tokio::time::timeout(Duration::from_millis(cut_after), call(&upstream, &script));
        assert!(cut.await.is_err());
        assert_eq!((in_flight(&gate), balance()), (0, 1.0), "cut after {cut_after} ms");
    }
}
