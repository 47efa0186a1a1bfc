//! Throttle.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use seawall::core::decision::{Policy, Reason, Rejection};
use seawall::core::gate::{Gate, Lane, Rule, Settings};
use seawall::core::limit;
use seawall::core::measure::bucket::{Quota, Rate};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::throttle::{Config, OnFull, Shape};
use seawall::core::time::{Span, Time};
use seawall::{Guard, Threads, UserKeys, enter, now};

const HOUR: Span = Span::from_secs(3_600);

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

fn per_user(rate: Rate, burst: u64) -> Config {
    Config::per_user(Quota::new(rate, burst).unwrap())
}

/// So few tokens an hour that none arrives within a test.
fn hourly(burst: u64) -> Config {
    per_user(Rate { count: 1, per: HOUR }, burst)
}

fn rule(config: Config, now: Time) -> Arc<Rule<Threads>> {
    Arc::new(Rule::new(config, now))
}

fn take(rule: &Rule<Threads>, now: Time, user: Key) -> Result<(), Rejection> {
    rule.take(now, &Request::new(user))
}

/// How many of so many requests at one instant pass.
fn pass(rule: &Rule<Threads>, now: Time, user: Key, asked: usize) -> usize {
    (0..asked).filter(|_| take(rule, now, user).is_ok()).count()
}

#[test]
fn no_window_admits_twice_the_quota_at_its_boundary() {
    let rule = rule(per_user(Rate { count: 100, per: Span::from_secs(60) }, 100), at(0));
    let before = pass(&rule, at(59_999), Key(1), 200);
    let after = pass(&rule, at(60_001), Key(1), 200);
    assert_eq!((before, after), (100, 0));
}

#[test]
fn ten_a_second_admit_ten_in_a_tenth_of_a_second() {
    let rule = rule(per_user(Rate::per_second(10), 10), at(0));
    let passed: usize = (0..100).map(|millis| pass(&rule, at(millis), Key(1), 1)).sum();
    assert_eq!(passed, 10);
}

#[test]
fn a_rate_per_second_counts_tokens_in_a_second() {
    let rule = rule(per_user(Rate::per_second(50), 1), at(0));
    let passed: usize = (0..=10_000).map(|millis| pass(&rule, at(millis), Key(1), 1)).sum();
    assert_eq!(passed, 501);
}

#[test]
fn refill_loses_nothing_to_truncation_however_often_one_asks() {
    // A third of a second has no whole number of nanoseconds.
    let rule = rule(per_user(Rate::per_second(3), 1), at(0));
    let passed: usize =
        (0..1_000_000_u64).map(|step| pass(&rule, Time::from_nanos(step * 99_991), Key(1), 1)).sum();
    let elapsed = 99_991.0 * 999_999.0 / 1e9;
    assert_eq!(passed, 1 + (elapsed * 3.0) as usize);
}

#[test]
fn memory_stays_at_the_cap_under_a_flood_of_keys() {
    for on_full in [OnFull::Refuse, OnFull::Share, OnFull::Evict] {
        let rule = rule(Config { max_users: 10_000, on_full, ..hourly(5) }, at(0));
        let keys = UserKeys::new();
        let flood = |from: u64| {
            (from..from + 100_000).for_each(|user| _ = take(&rule, at(0), keys.number(user)));
            rule.snapshot()
        };
        let [first, second] = [flood(0), flood(100_000)];
        assert!(first.users <= 10_000 && second.users <= 10_000);
        assert_eq!(first.bytes, second.bytes);
        assert!(second.bytes <= 32 * 10_000, "{}", second.bytes);
    }
}

#[test]
fn eviction_hands_nobody_a_full_bucket() {
    for on_full in [OnFull::Refuse, OnFull::Share] {
        let rule = rule(Config { max_users: 1_000, on_full, ..hourly(1) }, at(0));
        let keys = UserKeys::new();
        let held: Vec<u64> = (0..500).filter(|user| take(&rule, at(0), keys.number(*user)).is_ok()).collect();
        (1_000..100_000).for_each(|user| _ = take(&rule, at(1), keys.number(user)));
        let again = held.iter().filter(|user| take(&rule, at(2), keys.number(**user)).is_ok()).count();
        assert_eq!(again, 0, "{on_full:?}");
    }
}

#[test]
fn retry_after_is_exact_and_never_zero() {
    let rule = rule(per_user(Rate::per_second(7), 3), at(0));
    for user in 0..100 {
        let now = Time::from_nanos(user * 1_234_567);
        pass(&rule, now, Key(user), 3);
        let wait = take(&rule, now, Key(user)).unwrap_err().retry_after;
        assert!(wait > Span::ZERO);
        assert!(take(&rule, now + wait.minus(Span::from_nanos(1)), Key(user)).is_err());
        assert_eq!(take(&rule, now + wait, Key(user)), Ok(()));
    }
}

#[test]
fn a_denied_request_spends_nothing_also_of_the_other_limits() {
    let rules = vec![rule(hourly(10), at(0)), rule(hourly(3), at(0))];
    let gate: Gate<Threads> = Gate::new(Settings::default(), Lane::default(), at(0)).throttled(rules.clone());
    for _ in 0..20 {
        if let seawall::core::gate::Admit::Ticket(ticket) = gate.admit(at(0), &Request::new(Key(1))) {
            gate.settle(at(0), ticket, Outcome::Success);
        }
    }
    assert_eq!(pass(&rules[0], at(0), Key(1), 20), 7);
}

#[test]
fn limits_live_in_what_is_shared_not_in_the_connection() {
    let shared = rule(hourly(5), now());
    let gate = Arc::new(Gate::new(Settings::default(), Lane::default(), now()).throttled(vec![shared]));
    let connections: Vec<_> = (0..10).map(|_| gate.clone()).collect();
    let passed = connections
        .iter()
        .filter(|gate| {
            matches!(gate.admit(now(), &Request::new(Key(1))), seawall::core::gate::Admit::Ticket(_))
        })
        .count();
    assert_eq!(passed, 5);
}

#[test]
fn another_rate_keeps_what_is_spent() {
    let rule = rule(hourly(10), at(0));
    assert_eq!(pass(&rule, at(0), Key(1), 20), 10);
    assert_eq!(rule.configured(hourly(1_000), at(0)), Some(()));
    assert_eq!(pass(&rule, at(0), Key(1), 20), 0);
}

#[test]
fn eight_threads_take_exactly_the_burst_of_every_limit() {
    let rules = vec![rule(hourly(2_000), at(0)), rule(hourly(1_500), at(0))];
    let gate =
        Arc::new(Gate::<Threads>::new(Settings::default(), Lane::default(), at(0)).throttled(rules.clone()));
    let passed: usize = thread::scope(|scope| {
        let workers: Vec<_> = (0..8)
            .map(|worker| {
                let gate = gate.clone();
                scope.spawn(move || {
                    let ask = |turn: u64| {
                        let admit = gate.admit(at(0), &Request::new(Key((turn + worker) % 3)));
                        matches!(admit, seawall::core::gate::Admit::Ticket(_))
                    };
                    (0..3_000).filter(|turn| ask(*turn)).count()
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(passed, 3 * 1_500);
    let left: Vec<usize> = (0..3).map(|user| pass(&rules[0], at(0), Key(user), 3_000)).collect();
    assert_eq!(left, [500; 3], "nothing was taken of the first for those whom the second refused");
}

/// A gate that shapes to ten a second, behind it so many places.
fn shaping(line: u32, wait: Span, places: u32) -> (Arc<Gate<Threads>>, Arc<Rule<Threads>>) {
    let shape = Some(Shape { wait, line });
    let rule = rule(Config { shape, ..per_user(Rate::per_second(10), 1) }, now());
    let ceiling = limit::Ceiling::Fixed(places);
    let settings = Settings {
        limit: Some(limit::Config { ceiling, queue: 8, ..limit::Config::default() }),
        ..Settings::default()
    };
    (Arc::new(Gate::new(settings, Lane::default(), now()).throttled(vec![rule.clone()])), rule)
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_tokens_goes_in_order_and_no_sooner() {
    let (gate, rule) = shaping(8, Span::from_secs(1), 8);
    let begin = now();
    let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..4 {
        let (gate, sender) = (gate.clone(), sender.clone());
        let enters = async move {
            let guard = enter(&gate, Request::new(Key(1))).await;
            sender.send((number, guard.is_ok(), now().since(begin).as_millis())).unwrap();
        };
        tokio::spawn(enters);
        tokio::task::yield_now().await;
    }
    assert_eq!(rule.snapshot().waiting, 3);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(order.recv().await.unwrap());
    }
    let numbers: Vec<i32> = seen.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    for (number, entered, millis) in seen {
        let slot = 100 * number as u64;
        assert!(entered && (slot..=slot + 2).contains(&millis), "{number} at {millis}");
    }
    assert_eq!(rule.snapshot().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn the_line_for_tokens_is_bounded_in_time_and_in_number() {
    let refusals = async |line, wait, deadline| {
        let (gate, _) = shaping(line, wait, 8);
        let request = Request { deadline, ..Request::new(Key(1)) };
        let mut waiting = Vec::new();
        loop {
            let mut entering = Box::pin(enter(&gate, request));
            match tokio::time::timeout(Duration::ZERO, &mut entering).await {
                Ok(Ok(_guard)) => {}
                Ok(Err(rejection)) => break (waiting.len(), rejection),
                Err(_) => waiting.push(entering),
            }
        }
    };
    let (waiting, refused) = refusals(2, Span::from_secs(60), Time::MAX).await;
    assert_eq!((waiting, refused.reason), (2, Reason::Throttled));
    let (waiting, refused) = refusals(100, Span::from_millis(300), Time::MAX).await;
    assert_eq!((waiting, refused.reason), (3, Reason::Throttled));
    assert!(refused.retry_after <= Span::from_millis(100), "there is a slot again when one has gone");
    let (waiting, refused) = refusals(100, Span::from_secs(60), now() + Span::from_millis(250)).await;
    assert_eq!((waiting, refused.policy, refused.reason), (2, Policy::Throttle, Reason::Expired));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_line_for_tokens_gives_them_back() {
    let (gate, rule) = shaping(8, Span::from_secs(1), 8);
    let held: Guard = enter(&gate, Request::new(Key(1))).await.unwrap();
    for _ in 0..20 {
        let entering = enter(&gate, Request::new(Key(1)));
        assert!(tokio::time::timeout(Duration::ZERO, entering).await.is_err());
    }
    assert_eq!(rule.snapshot().waiting, 0);
    let begin = now();
    let _next = enter(&gate, Request::new(Key(1))).await.unwrap();
    assert!(now().since(begin) <= Span::from_millis(102), "all who left gave their slot back");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn behind_the_line_for_tokens_stands_the_line_for_a_place() {
    let (gate, _) = shaping(8, Span::from_secs(1), 1);
    let held = enter(&gate, Request::new(Key(1))).await.unwrap();
    let entering = tokio::spawn({
        let gate = gate.clone();
        async move { enter(&gate, Request::new(Key(1))).await.is_ok() }
    });
    let pause = tokio::time::timeout(Duration::from_millis(500), std::future::pending::<()>());
    assert!(pause.await.is_err() && !entering.is_finished());
    drop(held);
    assert!(entering.await.unwrap());
}

#[test]
fn what_a_request_did_not_use_comes_back() {
    let rule = rule(hourly(100), at(0));
    let gate: Gate<Threads> =
        Gate::new(Settings::default(), Lane::default(), at(0)).throttled(vec![rule.clone()]);
    let request = Request { cost: 80, ..Request::new(Key(1)) };
    let seawall::core::gate::Admit::Ticket(mut ticket) = gate.admit(at(0), &request) else { panic!() };
    gate.refund(at(10), &mut ticket, 30);
    gate.refund(at(10), &mut ticket, 1_000);
    gate.refund(at(10), &mut ticket, 1_000);
    gate.settle(at(20), ticket, Outcome::Success);
    assert_eq!(pass(&rule, at(20), Key(1), 200), 100, "no more than it cost");
}
