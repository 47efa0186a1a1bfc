//! Hedging.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use seawall::call::{Closures, Drive, Ended, Judgement, Upstream};
use seawall::core::call::{Attempt, Config, Repeat, Settings as CallSettings, Shared, Snapshot, Verdict};
use seawall::core::gate::{Gate, Lane, Own as _, Settings};
use seawall::core::hedge::{self, After};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::retry::budget;
use seawall::core::time::Span;
use seawall::{Locks, now};

/// Two hosts, a budget of so many parts per million, and hedges.
fn upstream(ratio_ppm: u32, hedge: hedge::Config) -> (Arc<Upstream>, Arc<Locks<Shared>>) {
    let gate = || Arc::new(Gate::new(Settings::default(), Lane::default(), now()));
    let budget = budget::Config::new(ratio_ppm).unwrap().without_floor();
    let settings = CallSettings { budget: Some(budget), hedge: Some(hedge) };
    let shared = Arc::new(Locks::own(vec![Shared::new(settings, now())]));
    (Arc::new(Upstream::new(vec![gate(), gate()], shared.clone(), 7)), shared)
}

fn after_20_ms() -> hedge::Config {
    hedge::Config::new(After::Delay(Span::from_millis(20))).unwrap()
}

type Answer = Result<usize, &'static str>;

async fn call<F>(upstream: &Arc<Upstream>, send: impl FnMut(Attempt) -> F) -> Ended<Answer>
where
    F: Future<Output = Answer>,
{
    let judge = |answer: &Answer| Judgement {
        outcome: if answer.is_ok() { Outcome::Success } else { Outcome::Failure },
        repeat: Repeat::Safe,
    };
    let config = Config { attempts: 1, ..Config::default() };
    let request = Request { deadline: now() + Span::from_secs(60), ..Request::new(Key(1)) };
    Drive::new(upstream.clone(), config, request, Repeat::Safe, Closures { send, judge }).await
}

async fn pause(millis: u64) {
    let never = tokio::time::timeout(Duration::from_millis(millis), std::future::pending::<()>());
    assert!(never.await.is_err());
}

fn snapshot(shared: &Locks<Shared>) -> Snapshot {
    shared.with(Key(0), |shared| shared.snapshot())
}

#[tokio::test(start_paused = true)]
async fn a_failing_hedge_does_not_kill_a_healthy_primary() {
    let (upstream, shared) = upstream(1_000_000, after_20_ms());
    call(&upstream, |attempt| async move { Ok(attempt.host) }).await;
    let ended = call(&upstream, |attempt| async move {
        if attempt.number == 1 {
            pause(100).await;
            Ok(1)
        } else {
            Err("broken")
        }
    })
    .await;
    assert_eq!(snapshot(&shared).hedge.unwrap().sent, 1);
    assert_eq!((ended.verdict, ended.answer), (Verdict::Answered { stop: None }, Some(Ok(1))));
}

#[tokio::test(start_paused = true)]
async fn slow_losers_are_learnt_from_so_that_hedging_does_not_feed_itself() {
    let (upstream, shared) = upstream(1_000_000, hedge::Config::default());
    for _ in 0..100 {
        call(&upstream, |_| async {
            pause(10).await;
            Ok(0)
        })
        .await;
    }
    let at_first = snapshot(&shared).usual.unwrap();
    assert!(at_first < Span::from_millis(12), "{at_first}");
    // From now on every first attempt hangs and every hedge is quick. If only winners taught, the
    // delay would stay where it is, and every call would be hedged for ever.
    for _ in 0..300 {
        call(&upstream, |attempt| async move {
            pause(if attempt.number == 1 { 1_000 } else { 10 }).await;
            Ok(0)
        })
        .await;
    }
    let at_last = snapshot(&shared).usual.unwrap();
    assert!(at_last > at_first.times(20), "{at_first} became {at_last}");
}

#[tokio::test(start_paused = true)]
async fn hedges_are_paid_for_by_the_retry_budget() {
    let (upstream, shared) = upstream(100_000, after_20_ms());
    for _ in 0..200 {
        call(&upstream, |_| async {
            pause(30).await;
            Ok(0)
        })
        .await;
    }
    let hedge = snapshot(&shared).hedge.unwrap();
    assert_eq!((hedge.sent, hedge.sent + hedge.unpaid), (19, 200));
}
