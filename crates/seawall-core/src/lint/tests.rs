use std::collections::BTreeSet;
use std::vec;

use expect_test::{Expect, expect};

use super::*;
use crate::retry::{backoff, budget};

fn millis(millis: u64) -> Span {
    Span::from_millis(millis)
}

/// A route on which every policy is on, in order.
fn sound() -> Composition {
    let retry = call::Config { per_attempt: Some(millis(800)), ..call::Config::default() };
    let mut sound = Composition {
        deadline: Some(millis(2_000)),
        grace: Some(millis(2_000)),
        budget_ppm: Some(100_000),
        budget_floor_ppm: 100_000,
        hedge: Some(Hedge::After(millis(300))),
        breaker: Some(breaker()),
        ramp: Span::from_secs(30),
        limit: Some(Ceiling::Fixed(10)),
        queue: 64,
        shed: Some(shed::TARGET),
        throttles: vec![quota(Scope::User, 50, 60)],
        guards: Guards { configured: 4, shadowed: 0 },
        rate: Some(40.0),
        hosts: 2,
        model: Some(Model { workers: 8, service: millis(100) }),
        ..Composition::default()
    };
    sound.retry(&retry);
    sound
}

fn breaker() -> Breaker {
    Breaker {
        failure_rate_ppm: 500_000,
        consecutive: None,
        window_calls: None,
        window: Some(Span::from_secs(10)),
        min_calls: 20,
        slow: Some(millis(500)),
        open: Span::from_secs(5),
        lease: Span::from_secs(10),
    }
}

fn quota(scope: Scope, count: u64, burst: u64) -> Quota {
    Quota { scope, count, per: Span::from_secs(1), burst }
}

/// What is found when this is changed.
fn found(change: impl FnOnce(&mut Composition)) -> Vec<Finding> {
    let mut composition = sound();
    change(&mut composition);
    check(&composition)
}

/// Fires with this text, and not one step beside it.
fn fires(change: impl FnOnce(&mut Composition), neighbour: impl FnOnce(&mut Composition), expect: Expect) {
    let text =
        |findings: &[Finding]| findings.iter().map(|finding| std::format!("{finding}\n")).collect::<String>();
    expect.assert_eq(&text(&found(change)));
    assert_eq!(text(&found(neighbour)), "");
}

fn waits(retry: &mut Composition, least: u64, most: u64) {
    let retry = retry.retry.as_mut().unwrap();
    retry.waits = vec![Wait { least: millis(least), most: millis(most) }; 2];
}

fn per_attempt(composition: &mut Composition, timeout: u64) {
    composition.retry.as_mut().unwrap().per_attempt = Some(millis(timeout));
}

fn set(composition: &mut Composition) -> &mut Breaker {
    composition.breaker.as_mut().unwrap()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert_eq!(check(&sound()), []);
}

#[test]
fn the_defaults_of_every_policy_fit_together() {
    let settings = crate::breaker::Settings::default();
    let mut defaults = Composition {
        deadline: Some(Span::from_secs(2)),
        budget_ppm: Some(100_000),
        budget_floor_ppm: 1_000_000_000_000_000 / budget::FLOOR_EVERY.as_nanos(),
        breaker: Some(Breaker {
            failure_rate_ppm: settings.failure_rate_ppm,
            consecutive: settings.consecutive,
            min_calls: settings.min_calls,
            open: settings.open,
            lease: settings.lease,
            ..Breaker::default()
        }),
        hedge: Some(Hedge::Percentile),
        rate: Some(400.0),
        model: Some(Model { workers: 8, service: millis(10) }),
        ..Composition::default()
    };
    defaults.retry(&call::Config::default());
    defaults.limit(&limit::Config::default()).lane(&limit::Lane::default()).shed(&shed::Config::default());
    assert_eq!(check(&defaults), []);
}

#[test]
fn configs_of_core_are_taken_over() {
    let mut composition = Composition::default();
    let ceiling = limit::Ceiling::Fixed(100);
    composition.limit(&limit::Config { ceiling, ..limit::Config::default() });
    composition.lane(&limit::Lane { max: 64, queue: 32 });
    assert_eq!((composition.limit, composition.queue), (Some(Ceiling::Fixed(64)), 32));
    let backoff = backoff::Backoff::new(backoff::Kind::Equal, millis(50), millis(80)).unwrap();
    let retry = Retry::of(&call::Config { backoff, ..call::Config::default() });
    let wait = |least, most| Wait { least: millis(least), most: millis(most) };
    assert_eq!((retry.attempts, retry.waits), (3, vec![wait(25, 50), wait(40, 80)]));
    let chain =
        fallback::Chain::new(vec![fallback::Step::Stale(Span::MAX), fallback::Step::Static(0)]).unwrap();
    composition.fallback(&chain);
    assert_eq!(composition.fallback, [Fallback::Stale(None), Fallback::Static]);
}

#[test]
fn codes_are_unique_and_kebab_case() {
    let codes: BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.code()).collect();
    assert_eq!(codes.len(), Rule::ALL.len());
    assert!(codes.iter().all(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
}

#[test]
fn the_worst_comes_first() {
    let findings = found(|c| {
        set(c).open = millis(100);
        c.budget_ppm = Some(0);
        c.deadline = None;
    });
    assert!(findings.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)));
    assert_eq!(findings[0].rule.key(), "deadline");
}

#[test]
fn deadline_missing() {
    fires(
        |c| c.deadline = None,
        |c| c.deadline = Some(millis(1_999)),
        expect![[r#"
        error [deadline-missing]: a call without a deadline holds its place until the upstream answers, if ever; set `deadline`, to the longest that a user waits
    "#]],
    );
}

#[test]
fn deadline_past_grace() {
    fires(
        |c| c.grace = Some(millis(1_999)),
        |c| c.grace = None,
        expect![[r#"
            warning [deadline-past-grace]: a drain cuts off what takes longer than 1.999s: the deadline is 2s; set `grace` to 2s at least, or lower the deadline
        "#]],
    );
}

#[test]
fn deadline_below_service() {
    fires(
        |c| {
            c.deadline = Some(millis(99));
            c.retry = None;
            c.hedge = None;
            c.throttles.clear();
        },
        |c| {
            c.deadline = Some(millis(150));
            c.retry = None;
            c.hedge = None;
            c.throttles.clear();
            set(c).slow = None
        },
        expect![[r#"
            error [deadline-below-service]: most calls expire: they take 100ms, the deadline is 99ms; set `deadline` to several times 100ms, such as 500ms
            warning [breaker-slow-never-counts]: no call counts as slow: after 99ms it has timed out, slow begins at 500ms; set `slow` below 99ms
        "#]],
    );
}

#[test]
fn timeout_below_service() {
    fires(
        |c| {
            per_attempt(c, 99);
            c.hedge = None;
            set(c).slow = None
        },
        |c| {
            per_attempt(c, 100);
            c.hedge = None;
            set(c).slow = None
        },
        expect![[r#"
            error [timeout-below-service]: most attempts are given up after 99ms: a call takes 100ms; raise `per_attempt` to several times 100ms, or leave it out
        "#]],
    );
}

#[test]
fn attempts_past_deadline() {
    fires(
        |c| per_attempt(c, 1_000),
        |c| per_attempt(c, 950),
        expect![[r#"
        error [attempts-past-deadline]: when attempts time out, attempt 3 would begin after 2.075s, past the deadline of 2s: 2 of 3 are made; set `per_attempt` to at most 641ms, or `attempts` to 2, or `deadline` above 2.075s
    "#]],
    );
}

#[test]
fn attempts_past_deadline_on_average() {
    fires(
        |c| {
            per_attempt(c, 950);
            waits(c, 0, 200)
        },
        |c| {
            per_attempt(c, 900);
            waits(c, 0, 198)
        },
        expect![[r#"
            warning [attempts-past-deadline]: when attempts time out, attempt 3 would begin after 2.1s, past the deadline of 2s: 2 of 3 are made; set `per_attempt` to at most 600ms, or `attempts` to 2, or `deadline` above 2.1s
        "#]],
    );
}

#[test]
fn attempts_past_deadline_by_the_backoff_alone() {
    fires(
        |c| waits(c, 2_000, 2_000),
        |c| waits(c, 199, 199),
        expect![[r#"
            error [attempts-past-deadline]: when attempts time out, attempt 2 would begin after 2.8s, past the deadline of 2s: 1 of 3 are made; shorten the backoff, or set `attempts` to 1, or `deadline` above 5.6s
            error [backoff-past-deadline]: the wait before the first retry, 2s on average, outlasts the deadline of 2s: no retry is made; set the backoff's `base` below 200ms
        "#]],
    );
}

#[test]
fn timeout_zero() {
    fires(
        |c| per_attempt(c, 0),
        |c| per_attempt(c, 600),
        expect![[r#"
        error [timeout-zero]: every attempt is given up when it begins; set `per_attempt` to several times what a call takes, or leave it out
    "#]],
    );
}

#[test]
fn attempts_out_of_range() {
    let attempts = |c: &mut Composition, attempts| {
        let retry = call::Config { attempts, ..call::Config::default() };
        (c.deadline, c.grace) = (Some(Span::from_secs(600)), None);
        c.retry(&retry);
        set(c).lease = Span::from_secs(600);
        set(c).open = Span::from_secs(600);
    };
    fires(
        |c| attempts(c, 0),
        |c| attempts(c, 1),
        expect![[r#"
        warning [attempts-out-of-range]: `attempts = 0` means 1: the first is always made; set `attempts` to 1 to 10
    "#]],
    );
    fires(
        |c| attempts(c, 11),
        |c| attempts(c, 10),
        expect![[r#"
            warning [attempts-out-of-range]: each call may ask a dead upstream 11 times; set `attempts` to 1 to 10
        "#]],
    );
}

#[test]
fn backoff_past_deadline() {
    fires(
        |c| {
            c.retry.as_mut().unwrap().per_attempt = None;
            waits(c, 2_000, 2_000)
        },
        |c| {
            c.retry.as_mut().unwrap().per_attempt = None;
            waits(c, 1_000, 1_000)
        },
        expect![[r#"
            error [backoff-past-deadline]: the wait before the first retry, 2s on average, outlasts the deadline of 2s: no retry is made; set the backoff's `base` below 200ms
        "#]],
    );
}

#[test]
fn backoff_above_timeout() {
    fires(
        |c| {
            per_attempt(c, 301);
            waits(c, 302, 302);
            set(c).slow = None
        },
        |c| {
            per_attempt(c, 301);
            waits(c, 301, 301);
            set(c).slow = None
        },
        expect![[r#"
            warning [backoff-above-timeout]: a call waits longer before a retry (302ms on average) than it gives an attempt (301ms); set the backoff's `base` to at most 301ms, or raise `per_attempt`
        "#]],
    );
}

#[test]
fn retry_without_budget() {
    fires(
        |c| {
            c.budget_ppm = None;
            c.hedge = None
        },
        |c| {
            c.budget_ppm = None;
            c.hedge = None;
            c.retry = None
        },
        expect![[r#"
            error [retry-without-budget]: in an outage the upstream gets 3 times the load, and 40/s can become 120/s against a capacity of 80/s: an overload that keeps itself going; set `budget`, such as 10 % (then it gets 1.0 times)
        "#]],
    );
}

#[test]
fn budget_zero() {
    fires(
        |c| {
            c.budget_ppm = Some(0);
            c.hedge = None
        },
        |c| {
            c.budget_ppm = Some(1);
            c.hedge = None
        },
        expect![[r#"
            warning [budget-zero]: `attempts = 3` has no effect: a budget of 0 % pays for no retry; set `budget` to 10 %, or `attempts` to 1
        "#]],
    );
}

#[test]
fn budget_floor() {
    fires(
        |c| c.budget_floor_ppm = 10_000_000,
        |c| c.budget_floor_ppm = 100_000,
        expect![[r#"
        error [budget-floor]: the floor of 10/s defeats the budget: in an outage a client of 1/s sends 3 times its load; set the floor to at most 0.1/s for each client
    "#]],
    );
}

#[test]
fn retry_layers() {
    fires(
        |c| c.retrying_layers = 3,
        |c| c.retrying_layers = 1,
        expect![[r#"
        warning [retry-layers]: 3 layers retry: with a dead leaf up to 27 times the load while the budgets last, 1.331 after; let one layer retry, the one next to the failure, and set `attempts` to 1 in the others
    "#]],
    );
}

#[test]
fn retry_layers_without_a_budget() {
    fires(
        |c| {
            c.retrying_layers = 5;
            c.budget_ppm = None;
            c.hedge = None;
            c.rate = None
        },
        |c| {
            c.retrying_layers = 5;
            c.retry.as_mut().unwrap().attempts = 1
        },
        expect![[r#"
            error [retry-without-budget]: in an outage the upstream gets 3 times the load; set `budget`, such as 10 % (then it gets 1.0 times)
            error [retry-layers]: 5 layers retry: a dead leaf gets 243 times the load; let one layer retry, the one next to the failure, and set `attempts` to 1 in the others
        "#]],
    );
}

#[test]
fn hedge_past_deadline() {
    fires(
        |c| {
            c.retry = None;
            c.hedge = Some(Hedge::After(millis(2_000)))
        },
        |c| {
            c.retry = None;
            c.hedge = Some(Hedge::After(millis(1_999)))
        },
        expect![[r#"
            error [hedge-past-deadline]: no call is hedged: it would be after 2s, the deadline is 2s; set `hedge.after` below 2s, best to "p95"
        "#]],
    );
}

#[test]
fn hedge_past_timeout() {
    fires(
        |c| c.hedge = Some(Hedge::After(millis(800))),
        |c| c.hedge = Some(Hedge::After(millis(799))),
        expect![[r#"
            warning [hedge-past-timeout]: no call is hedged: an attempt is given up after 800ms, a hedge waits 800ms; set `hedge.after` below 800ms, best to "p95"
        "#]],
    );
}

#[test]
fn hedge_without_budget() {
    fires(
        |c| {
            c.retry = None;
            c.budget_ppm = None;
            c.hedge = Some(Hedge::Percentile)
        },
        |c| c.hedge = Some(Hedge::Percentile),
        expect![[r#"
            error [hedge-without-budget]: when the upstream is slow every call is sent twice, which makes it slower; set `budget`, such as 10 %, which hedges share with retries
        "#]],
    );
}

#[test]
fn hedge_too_early() {
    fires(
        |c| c.hedge = Some(Hedge::After(millis(100))),
        |c| c.hedge = Some(Hedge::After(millis(231))),
        expect![[r#"
            warning [hedge-too-early]: about 37 % of the calls are still under way after 100ms, and the budget of 10 % is spent on ordinary ones; set `hedge.after` to at least 230ms, best to "p95"
        "#]],
    );
}

#[test]
fn breaker_min_calls_above_window() {
    fires(
        |c| {
            set(c).window = None;
            set(c).window_calls = Some(10);
            set(c).min_calls = 11
        },
        |c| {
            set(c).window = None;
            set(c).window_calls = Some(10);
            set(c).min_calls = 10
        },
        expect![[r#"
            error [breaker-min-calls-above-window]: the breaker never opens: it needs 11 calls and its window holds 10; set `min_calls` to at most 10
        "#]],
    );
}

#[test]
fn breaker_too_few_calls() {
    fires(
        |c| c.rate = Some(3.9),
        |c| c.rate = Some(4.0),
        expect![[r#"
        error [breaker-too-few-calls]: the breaker never opens: at 3.9/s a host sees about 19.5 calls in 10s, it needs 20; set `min_calls` to at most 9, or `window` to at least 21s
    "#]],
    );
}

#[test]
fn a_breaker_that_opens_on_a_row_of_failures_opens() {
    fires(
        |c| {
            set(c).consecutive = Some(5);
            c.rate = Some(3.9);
        },
        |c| {
            set(c).consecutive = Some(5);
            set(c).failure_rate_ppm = 1_000_000;
        },
        expect![[r#"
        warning [breaker-too-few-calls]: only a row of 5 failures opens the breaker: at 3.9/s a host sees about 19.5 calls in 10s, it needs 20; set `min_calls` to at most 9, or `window` to at least 21s
    "#]],
    );
}

#[test]
fn breaker_total_failure() {
    fires(
        |c| set(c).failure_rate_ppm = 1_000_000,
        |c| set(c).failure_rate_ppm = 999_999,
        expect![[r#"
        warning [breaker-total-failure]: one success in the window keeps the breaker closed, whatever else fails; set `failure_rate` to 50 %
    "#]],
    );
}

#[test]
fn breaker_single_failure() {
    let by_count = |c: &mut Composition, rate| {
        let breaker = set(c);
        (breaker.window, breaker.window_calls, breaker.failure_rate_ppm) = (None, Some(100), rate);
    };
    fires(
        |c| by_count(c, 10_000),
        |c| by_count(c, 10_001),
        expect![[r#"
        warning [breaker-single-failure]: one failure opens the breaker: among the 100 calls of its window it is 1 %, the rate is 1 %; set `failure_rate` to several times that, such as 50 %
    "#]],
    );
    // 200 calls at each host.
    fires(
        |c| set(c).failure_rate_ppm = 50,
        |c| set(c).failure_rate_ppm = 5_001,
        expect![[r#"
        warning [breaker-single-failure]: one failure opens the breaker: among the 200 calls of its window it is 0.5 %, the rate is 0.005 %; set `failure_rate` to several times that, such as 50 %
    "#]],
    );
}

#[test]
fn breaker_slow_never_counts() {
    fires(
        |c| set(c).slow = Some(millis(800)),
        |c| set(c).slow = Some(millis(799)),
        expect![[r#"
        warning [breaker-slow-never-counts]: no call counts as slow: after 800ms it has timed out, slow begins at 800ms; set `slow` below 800ms
    "#]],
    );
}

#[test]
fn breaker_open_below_timeout() {
    fires(
        |c| set(c).open = millis(799),
        |c| set(c).open = millis(800),
        expect![[r#"
        advice [breaker-open-below-timeout]: probes are sent 799ms after the trip, while calls from before it may hold the host for 800ms; set `open` to at least 800ms, or let calls time out sooner
    "#]],
    );
}

#[test]
fn breaker_lease_below_timeout() {
    fires(
        |c| set(c).lease = millis(799),
        |c| set(c).lease = millis(800),
        expect![[r#"
        advice [breaker-lease-below-timeout]: a probe is replaced after 799ms and may run for 800ms: a slow host gets more probes than configured; let calls time out within 799ms, or, in Rust, set `lease` to at least 800ms
    "#]],
    );
}

#[test]
fn ramp_outlasts_open() {
    fires(
        |c| c.ramp = Span::from_secs(301),
        |c| c.ramp = Span::from_secs(300),
        expect![[r#"
        warning [ramp-outlasts-open]: a failure that opens the breaker for 5s costs a part of the traffic for another 301s; set the ramp to at most 300s
    "#]],
    );
}

#[test]
fn ramp_too_quick() {
    fires(
        |c| c.ramp = millis(1_399),
        |c| c.ramp = millis(1_400),
        expect![[r#"
        warning [ramp-too-quick]: the ramp takes a step each 99.928571ms and a call takes 100ms: the share grows before it was seen to be borne; set the ramp to at least 4.2s
    "#]],
    );
}

#[test]
fn queue_past_deadline() {
    fires(
        |c| {
            c.shed = None;
            c.queue = 81
        },
        |c| {
            c.shed = None;
            c.queue = 80
        },
        expect![[r#"
            error [queue-past-deadline]: under overload the queue of 81 is full: whoever joins its end waits 1.0125s of a deadline of 2s, and is answered too late; set `queue` to at most 80 (half of what drains in a deadline), or turn `shed` on
        "#]],
    );
}

#[test]
fn queue_past_deadline_that_is_shed_too_late() {
    let late = |c: &mut Composition, target| (c.queue, c.shed) = (81, Some(millis(target)));
    fires(
        |c| late(c, 2_000),
        |c| late(c, 999),
        expect![[r#"
        error [queue-past-deadline]: under overload the queue of 81 is full: whoever joins its end waits 1.0125s of a deadline of 2s, and is answered too late; set `queue` to at most 80 (half of what drains in a deadline), or lower `queue_delay`
        error [shed-past-deadline]: a request may wait 2s in the queue (twice that if it is `critical_plus`) of a deadline of 2s: it is answered too late before anything is shed; set `queue_delay` to at most 200ms
    "#]],
    );
}

#[test]
fn limit_past_deadline() {
    fires(
        |c| c.limit = Some(Ceiling::Fixed(89)),
        |c| c.limit = Some(Ceiling::Fixed(88)),
        expect![[r#"
        error [limit-past-deadline]: a limit of 89 lets 81 calls queue inside an upstream of 8 workers: whoever joins its end waits 1.0125s of a deadline of 2s, and is answered too late; set `max` to about 9 and let the rest wait in `queue`, or set `adaptive`
    "#]],
    );
}

#[test]
fn limit_below_workers() {
    fires(
        |c| c.limit = Some(Ceiling::Fixed(7)),
        |c| c.limit = Some(Ceiling::Adaptive(8)),
        expect![[r#"
        warning [limit-below-workers]: 1 of 8 workers stay idle while others are refused; set `max` to at least 8
    "#]],
    );
}

#[test]
fn limit_below_load() {
    fires(
        |c| c.limit = Some(Ceiling::Fixed(3)),
        |c| c.limit = Some(Ceiling::Fixed(8)),
        expect![[r#"
        error [limit-below-load]: 40/s of 100ms each keep 4 calls in flight; a limit of 3 refuses the rest at every load; set `max` to at least 6
    "#]],
    );
}

#[test]
fn shed_past_deadline() {
    fires(
        |c| c.shed = Some(millis(2_000)),
        |c| c.shed = Some(millis(999)),
        expect![[r#"
        error [shed-past-deadline]: a request may wait 2s in the queue (twice that if it is `critical_plus`) of a deadline of 2s: it is answered too late before anything is shed; set `queue_delay` to at most 200ms
    "#]],
    );
}

#[test]
fn shed_late_for_some() {
    fires(
        |c| c.shed = Some(millis(1_000)),
        |c| c.shed = Some(millis(16)),
        expect![[r#"
        warning [shed-past-deadline]: a request may wait 1s in the queue (twice that if it is `critical_plus`) of a deadline of 2s: it is answered too late before anything is shed; set `queue_delay` to at most 200ms
    "#]],
    );
}

#[test]
fn shed_without_queue() {
    let guards = |c: &mut Composition, lag| {
        c.limit = None;
        c.shed(&shed::Config {
            guards: shed::guard::Guards { lag, ..Default::default() },
            ..Default::default()
        });
    };
    fires(
        |c| guards(c, None),
        |c| guards(c, Some(millis(100))),
        expect![[r#"
        error [shed-without-queue]: nothing is ever shed: there is neither a limit, whose queue could be long, nor a guard; set `limit`, or a guard of `shed`, such as `cpu`
    "#]],
    );
}

#[test]
fn burst_above_limit() {
    fires(
        |c| c.throttles[0].burst = 75,
        |c| c.throttles[0].burst = 74,
        expect![[r#"
        warning [burst-above-limit]: a burst of 75 within the quota does not fit: 10 in flight and 64 waiting, the rest is refused as full; set `burst` to at most 74, so that the rest is told its quota, or make room
    "#]],
    );
}

#[test]
fn burst_below_cost() {
    fires(
        |c| c.cost = 61,
        |c| c.cost = 60,
        expect![[r#"
        error [burst-below-cost]: a request of cost 61 can never pass a quota of burst 60; set `burst` to at least 61
    "#]],
    );
}

#[test]
fn quota_never_binds() {
    fires(
        |c| c.throttles.push(quota(Scope::User, 60, 60)),
        |c| c.throttles.push(quota(Scope::User, 60, 59)),
        expect![[r#"
            warning [quota-never-binds]: the quota of 60/s with burst 60 never refuses: 50/s with burst 60 is always spent first; remove it, or set the other's `burst` above 60 so that each limits something of its own
        "#]],
    );
}

#[test]
fn quota_that_comes_twice() {
    fires(
        |c| c.throttles.push(c.throttles[0]),
        |c| c.throttles.push(quota(Scope::User, 49, 61)),
        expect![[r#"
            warning [quota-never-binds]: the quota of 50/s with burst 60 never refuses: 50/s with burst 60 is always spent first; remove it, or set the other's `burst` above 60 so that each limits something of its own
        "#]],
    );
}

#[test]
fn quota_of_the_route_binds_first() {
    fires(
        |c| c.throttles.push(quota(Scope::Route, 50, 60)),
        |c| c.throttles.push(quota(Scope::Route, 100, 70)),
        expect![[r#"
            warning [quota-never-binds]: one user alone may spend the route's quota of 50/s with burst 60: the user's own of 50/s with burst 60 never refuses; set the user's own to a part of the route's quota
        "#]],
    );
}

#[test]
fn quota_of_the_gateway_binds_first() {
    fires(
        |c| c.throttles.push(quota(Scope::Gateway, 50, 60)),
        |c| c.throttles.push(quota(Scope::Gateway, 100, 70)),
        expect![[r#"
            warning [quota-never-binds]: one user alone may spend the quota of all routes of 50/s with burst 60: the user's own of 50/s with burst 60 never refuses; set the user's own to a part of the quota of all routes
        "#]],
    );
    fires(
        |c| c.throttles.push(quota(Scope::Everywhere, 40, 60)),
        |c| c.throttles.push(quota(Scope::Everywhere, 60, 70)),
        expect![[r#"
            warning [quota-never-binds]: one route alone may spend a user's quota over all routes of 40/s with burst 60: the route's own for each user of 50/s with burst 60 never refuses; set the route's own for each user to a part of a user's quota over all routes
        "#]],
    );
    fires(
        |c| c.throttles = vec![quota(Scope::Gateway, 50, 60), quota(Scope::Route, 50, 60)],
        |c| c.throttles = vec![quota(Scope::Gateway, 50, 60), quota(Scope::Route, 40, 60)],
        expect![[r#"
            warning [quota-never-binds]: one route alone may spend the quota of all routes of 50/s with burst 60: the route's own of 50/s with burst 60 never refuses; set the route's own to a part of the quota of all routes
        "#]],
    );
}

#[test]
fn stale_unbounded() {
    fires(
        |c| c.fallback = vec![Fallback::Stale(None)],
        |c| c.fallback = vec![Fallback::Stale(Some(millis(1)))],
        expect![[r#"
            warning [stale-unbounded]: an outage is hidden for as long as answers are kept: users see data of any age; set `stale` to the oldest that is still worth more than an error, such as 5m
        "#]],
    );
}

#[test]
fn fallback_to_itself() {
    fires(
        |c| c.fallback = vec![Fallback::SameUpstream],
        |c| c.fallback = vec![Fallback::Upstream, Fallback::Static],
        expect![[r#"
            error [fallback-to-itself]: the fallback asks the upstream that has just failed: a retry that no budget pays for; name another upstream, or raise `attempts`
        "#]],
    );
}

#[test]
fn shadow_everything() {
    fires(
        |c| c.guards.shadowed = 4,
        |c| c.guards.shadowed = 3,
        expect![[r#"
        warning [shadow-everything]: nothing protects this route: every policy decides and counts, but lets through; take at least `limit` and `shed` out of `shadow` once their counts look right
    "#]],
    );
}

#[test]
fn a_hedge_with_one_host() {
    fires(
        |c| {
            c.hosts = 1;
            c.rate = None;
        },
        |c| c.rate = None,
        expect![[r#"
            advice [hedge-alone]: there is one host: what is slow there is sent there again, unless several stand behind its name; add a host, or leave `hedge` out
        "#]],
    );
}
