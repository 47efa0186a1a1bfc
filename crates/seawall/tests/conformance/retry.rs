//! Retry and backoff.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use seawall::call::{Closures, Drive, Ended, Judgement, Upstream};
use seawall::core::call::{Attempt, Config, Repeat, Settings as CallSettings, Shared, Stop, Verdict};
use seawall::core::gate::{Gate, Lane, Own as _, Settings};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::retry::backoff::{Backoff, Kind};
use seawall::core::retry::budget::{self, Budget};
use seawall::core::rng::Rng;
use seawall::core::time::{Span, Time};
use seawall::{Locks, now};

fn upstream(settings: CallSettings) -> (Arc<Upstream>, Arc<Locks<Shared>>) {
    let gate = Arc::new(Gate::new(Settings::default(), Lane::default(), now()));
    let shared = Arc::new(Locks::own(vec![Shared::new(settings, now())]));
    (Arc::new(Upstream::new(vec![gate], shared.clone(), 7)), shared)
}

fn unpaid() -> CallSettings {
    CallSettings { budget: None, ..CallSettings::default() }
}

/// A call whose attempts end as `send` says, with a deadline of a minute.
async fn call<F>(
    upstream: &Arc<Upstream>,
    config: Config,
    send: impl FnMut(Attempt) -> F,
) -> Ended<Result<&'static str, &'static str>>
where
    F: Future<Output = Result<&'static str, &'static str>>,
{
    let judge = |answer: &Result<_, _>| Judgement {
        outcome: if answer.is_ok() { Outcome::Success } else { Outcome::Failure },
        repeat: Repeat::Safe,
    };
    let request = Request { deadline: now() + Span::from_secs(60), ..Request::new(Key(1)) };
    Drive::new(upstream.clone(), config, request, Repeat::Safe, Closures { send, judge }).await
}

#[tokio::test(start_paused = true)]
async fn no_two_calls_of_a_process_draw_the_same_jitter() {
    let (upstream, _) = upstream(unpaid());
    let mut waits = HashSet::new();
    for _ in 0..200 {
        let ended = call(&upstream, Config::default(), |_| async { Err("down") }).await;
        assert_eq!(ended.attempts, 3);
        waits.insert(ended.waited);
    }
    assert_eq!(waits.len(), 200);
}

#[test]
fn jitter_is_drawn_in_nanoseconds_also_at_the_cap_and_never_above_it() {
    let cap = Span::from_secs(2);
    for kind in [Kind::Equal, Kind::Full, Kind::Decorrelated, Kind::Additive] {
        let backoff = Backoff::new(kind, Span::from_millis(50), cap).unwrap();
        let waits: HashSet<Span> =
            (0..1_000).map(|call| backoff.wait(40, cap, &mut Rng::new(1, call))).collect();
        assert_eq!(waits.len(), 1_000, "{kind:?} spreads at the cap");
        assert!(waits.iter().all(|wait| *wait <= cap), "{kind:?} keeps the cap");
        assert!(waits.iter().any(|wait| wait.as_nanos() % 1_000_000 != 0), "{kind:?} is not rounded");
    }
}

#[test]
fn the_default_delay_is_bounded_at_any_attempt() {
    for retry in [0, 1, 24, 63, 64, u32::MAX] {
        let wait = Backoff::default().wait(retry, Span::MAX, &mut Rng::new(1, 1));
        assert!(wait <= Span::from_secs(2), "{retry}: {wait}");
    }
}

#[test]
fn the_ratio_of_a_budget_is_not_rounded() {
    for percent in [1_u32, 34, 60, 99] {
        let config = budget::Config::new(percent * 10_000).unwrap().without_floor();
        let mut budget = Budget::new(config, Time::ZERO);
        let paid = |budget: &mut Budget| {
            budget.deposit(Time::ZERO);
            u32::from(budget.withdraw(Time::ZERO).is_some())
        };
        assert_eq!((0..1_000).map(|_| paid(&mut budget)).sum::<u32>(), percent * 10);
    }
}

#[test]
fn the_lifetime_of_a_budget_does_not_shrink_at_low_traffic() {
    let config = budget::Config::new(1_000_000).unwrap().without_floor();
    let at = |millis| Time::ZERO + Span::from_millis(millis);
    let mut budget = Budget::new(config, at(0));
    budget.deposit(at(0));
    assert!(budget.withdraw(at(10_000)).is_some(), "ten seconds later, and nothing in between");
    budget.deposit(at(20_000));
    assert!(budget.withdraw(at(31_001)).is_none(), "and no longer than a tenth more");
}

#[test]
fn threads_that_race_for_a_budget_take_no_more_than_it_holds() {
    let config = budget::Config::new(1_000_000).unwrap().without_floor();
    for _ in 0..50 {
        let mut budget = Budget::new(config, Time::ZERO);
        (0..37).for_each(|_| budget.deposit(Time::ZERO));
        let (budget, paid) = (Locks::own(vec![budget]), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let won = budget.with(Key(0), |budget| budget.withdraw(Time::ZERO)).is_some();
                        paid.fetch_add(u32::from(won), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(paid.into_inner(), 37);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_that_wait_in_backoff_are_counted() {
    let budget = budget::Config::default().without_floor();
    let (upstream, shared) = upstream(CallSettings { budget: Some(budget), ..CallSettings::default() });
    for _ in 0..100 {
        call(&upstream, Config::default(), |_| async { Ok("fine") }).await;
    }
    let second = Span::from_secs(1);
    let config = Config {
        attempts: 2,
        per_attempt: None,
        backoff: Backoff::new(Kind::Fixed, second, second).unwrap(),
    };
    let fail = |_| async { Err("down") };
    let mut calls = Vec::new();
    for _ in 0..50 {
        calls.push(Box::pin(call(&upstream, config, fail)));
    }
    // All of them fail before any of them retries: a hundred successes have paid for ten.
    let mut refused = 0;
    for call in &mut calls {
        let waits = tokio::time::timeout(std::time::Duration::ZERO, call.as_mut()).await;
        refused += u32::from(
            waits.is_ok_and(|ended| ended.verdict == Verdict::Answered { stop: Some(Stop::Budget) }),
        );
    }
    assert_eq!(refused, 40);
    assert_eq!(shared.with(Key(0), |shared| shared.snapshot().budget).unwrap().withdrawn, 10);
}

#[test]
fn the_floor_of_a_client_does_not_defeat_the_budget() {
    // A thousand clients of one request a second each, and nothing succeeds for 100 s.
    let mut budgets: Vec<Budget> =
        (0..1_000).map(|_| Budget::new(budget::Config::default(), Time::ZERO)).collect();
    let (mut first_tries, mut retries) = (0_u32, 0_u32);
    for second in 0..100 {
        for budget in &mut budgets {
            first_tries += 1;
            retries += u32::from(budget.withdraw(Time::ZERO + Span::from_secs(second)).is_some());
        }
    }
    assert!(f64::from(retries) / f64::from(first_tries) <= 0.1, "{retries} of {first_tries}");
}

#[tokio::test(start_paused = true)]
async fn the_last_real_error_is_returned() {
    let (upstream, _) = upstream(unpaid());
    let second = Span::from_secs(1);
    let config = Config { per_attempt: Some(second), ..Config::default() };
    // Also when later attempts never answer.
    let mut attempts = 0;
    let ended = call(&upstream, config, |_| {
        attempts += 1;
        let first = attempts == 1;
        async move { if first { Err("the real one") } else { std::future::pending().await } }
    })
    .await;
    assert_eq!(ended.answer, Some(Err("the real one")));
    assert_eq!(ended.verdict, Verdict::Answered { stop: Some(Stop::Attempts) });
}
