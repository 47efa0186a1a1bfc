//! The call layer on a paused clock: retries, hedges, deadlines, and what a dropped call gives back.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seawall::call::{Adapter, CallLayer, Calls, Ended, Judgement, Outgoing, Upstream};
use seawall::core::call::{Config, Repeat, Settings as CallSettings, Shared, Snapshot, Stop, Verdict};
use seawall::core::gate::{Gate, Lane, Own as _, Settings};
use seawall::core::hedge::{self, After};
use seawall::core::limit::{self, Ceiling};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::retry::backoff::{Backoff, Kind};
use seawall::core::retry::budget;
use seawall::core::time::{Span, Time};
use seawall::{Locks, Threads, now};
use tower::{Layer as _, Service, ServiceExt as _};

/// Requests are names; `once` can be sent only once, whatever is said of it.
#[derive(Clone)]
struct Names;

type Answer = Result<&'static str, &'static str>;
type End = (Verdict, Option<Answer>, u32, u32);

impl Adapter<&'static str, &'static str, &'static str> for Names {
    type Response = End;

    fn request(&self, now: Time, _: &&'static str) -> Request {
        Request { deadline: now + Span::from_secs(10), ..Request::new(Key(1)) }
    }

    fn copy(&self, request: &&'static str) -> Option<&'static str> {
        (*request != "once").then_some(*request)
    }

    fn repeat(&self, request: &&'static str) -> Repeat {
        if *request == "unsafe" { Repeat::Unsafe } else { Repeat::Safe }
    }

    fn judge(&self, result: Result<&&'static str, &&'static str>) -> Judgement {
        let outcome = if result.is_ok() { Outcome::Success } else { Outcome::Failure };
        let repeat = if result == Err(&"enough") { Repeat::Unwanted } else { Repeat::Safe };
        Judgement { outcome, repeat }
    }

    fn end(&self, _: &Arc<Upstream>, ended: Ended<Answer>) -> Result<End, &'static str> {
        Ok((ended.verdict, ended.answer, ended.attempts, ended.hedges))
    }
}

/// What the inner service does with each attempt in turn: after so many milliseconds, this.
type Script = Arc<Mutex<VecDeque<(u64, Answer)>>>;

struct Bench {
    upstream: Arc<Upstream>,
    gates: Vec<Arc<Gate<Threads>>>,
    shared: Arc<Locks<Shared>>,
    /// The hosts of all attempts, in order.
    sent: Arc<Mutex<Vec<usize>>>,
    /// Attempts that were dropped before they answered.
    dropped: Arc<Mutex<u32>>,
}

/// Two hosts of ten places, a budget that successes pay for one to one, and hedges after 200 ms.
async fn bench(retries: u32) -> Bench {
    let limit = Some(limit::Config { ceiling: Ceiling::Fixed(10), queue: 0, ..limit::Config::default() });
    let gate = || Arc::new(Gate::new(Settings { limit, ..Settings::default() }, Lane::default(), now()));
    let gates = vec![gate(), gate()];
    let settings = CallSettings {
        budget: Some(budget::Config::new(1_000_000).unwrap().without_floor()),
        hedge: Some(hedge::Config::new(After::Delay(Span::from_millis(200))).unwrap()),
    };
    let shared = Arc::new(Locks::own(vec![Shared::new(settings, now())]));
    let upstream = Arc::new(Upstream::new(gates.clone(), shared.clone(), 7));
    let bench = Bench { upstream, gates, shared, sent: Arc::default(), dropped: Arc::default() };
    for _ in 0..retries {
        bench.call("earn", &[(1, Ok("paid"))]).await;
    }
    bench.sent.lock().unwrap().clear();
    bench
}

impl Bench {
    fn service(
        &self,
        script: &[(u64, Answer)],
    ) -> Calls<
        impl Service<Outgoing<&'static str>, Response = &'static str, Error = &'static str> + Clone,
        Names,
    > {
        let second = Span::from_secs(1);
        let backoff = Backoff::new(Kind::Fixed, second, second).unwrap();
        let config = Config { attempts: 3, per_attempt: Some(second), backoff };
        let script: Script = Arc::new(Mutex::new(script.iter().copied().collect()));
        let (sent, dropped) = (self.sent.clone(), self.dropped.clone());
        let inner = tower::service_fn(move |outgoing: Outgoing<&'static str>| {
            sent.lock().unwrap().push(outgoing.attempt.host);
            let (millis, answer) = script.lock().unwrap().pop_front().unwrap();
            let watch = Watch { dropped: dropped.clone(), answered: false };
            async move {
                let mut watch = watch;
                let wait = tokio::time::timeout(Duration::from_millis(millis), std::future::pending::<()>());
                assert!(wait.await.is_err());
                watch.answered = true;
                answer
            }
        });
        CallLayer::new(self.upstream.clone(), config, Names).layer(inner)
    }

    async fn call(&self, request: &'static str, script: &[(u64, Answer)]) -> End {
        self.service(script).oneshot(request).await.unwrap()
    }

    fn in_flight(&self) -> u32 {
        self.gates.iter().map(|gate| gate.snapshot(now()).limit.unwrap().in_flight).sum()
    }

    fn shared(&self) -> Snapshot {
        self.shared.with(Key(0), |shared| shared.snapshot())
    }

    fn balance(&self) -> f64 {
        self.shared().budget.unwrap().balance
    }

    fn sent(&self) -> Vec<usize> {
        self.sent.lock().unwrap().clone()
    }

    fn dropped(&self) -> u32 {
        *self.dropped.lock().unwrap()
    }
}

/// Counts attempts that are dropped before they answered.
struct Watch {
    dropped: Arc<Mutex<u32>>,
    answered: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.dropped.lock().unwrap() += u32::from(!self.answered);
    }
}

const WELL: Verdict = Verdict::Answered { stop: None };

fn stopped(stop: Stop) -> Verdict {
    Verdict::Answered { stop: Some(stop) }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_retried_elsewhere_after_its_backoff() {
    let (bench, begun) = (bench(3).await, now());
    let end = bench.call("a", &[(100, Err("broken")), (50, Ok("fine"))]).await;
    assert_eq!(end, (WELL, Some(Ok("fine")), 2, 0));
    assert_eq!(now().since(begun).as_millis(), 1_150);
    let sent = bench.sent();
    assert_ne!(sent[0], sent[1]);
    assert_eq!((bench.in_flight(), bench.balance()), (0, 3.0), "one spent, one earned");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_wins_against_a_slow_attempt_which_is_dropped() {
    let (bench, begun) = (bench(3).await, now());
    let end = bench.call("a", &[(900, Ok("slow")), (50, Ok("quick"))]).await;
    assert_eq!(end, (WELL, Some(Ok("quick")), 2, 1));
    assert_eq!(now().since(begun).as_millis(), 250);
    assert_eq!((bench.dropped(), bench.in_flight()), (1, 0));
    let sent = bench.sent();
    assert_ne!(sent[0], sent[1], "the hedge goes to another host");
    let hedge = bench.shared().hedge.unwrap();
    assert_eq!((hedge.sent, hedge.won), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_attempt_may_still_win_against_its_hedge() {
    let bench = bench(3).await;
    let end = bench.call("a", &[(300, Ok("slow")), (500, Ok("slower"))]).await;
    assert_eq!(end, (WELL, Some(Ok("slow")), 2, 1));
    assert_eq!((bench.dropped(), bench.in_flight()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failing_hedge_leaves_the_healthy_attempt_alone_and_the_other_way_round() {
    let bench = bench(3).await;
    let end = bench.call("a", &[(400, Ok("healthy")), (50, Err("broken"))]).await;
    assert_eq!(end, (WELL, Some(Ok("healthy")), 2, 1));
    let end = bench.call("a", &[(220, Err("broken")), (300, Ok("healthy"))]).await;
    assert_eq!(end, (WELL, Some(Ok("healthy")), 2, 1));
    assert_eq!((bench.dropped(), bench.in_flight()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_at_its_own_deadline_and_the_next_begins() {
    let (bench, begun) = (bench(9).await, now());
    // Both the attempt and its hedge hang: 1 s, 1.2 s, a second of backoff, 30 ms.
    let end = bench.call("a", &[(9_000, Ok("late")), (9_000, Ok("late")), (30, Ok("fine"))]).await;
    assert_eq!(end, (WELL, Some(Ok("fine")), 3, 1));
    assert_eq!(now().since(begun).as_millis(), 1_200 + 1_000 + 30);
    assert_eq!((bench.dropped(), bench.in_flight()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_last_real_error_outlives_attempts_that_never_answered() {
    let bench = bench(9).await;
    let script = [(100, Err("the real one")), (9_000, Ok("late")), (9_000, Ok("late")), (9_000, Ok("late"))];
    let (verdict, answer, attempts, _) = bench.call("a", &script).await;
    assert_eq!((verdict, answer, attempts), (stopped(Stop::Attempts), Some(Err("the real one")), 4));
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_settles_every_attempt() {
    let bench = bench(3).await;
    let mut service = bench.service(&[(900, Ok("slow")), (900, Ok("slow"))]);
    let cut = tokio::time::timeout(Duration::from_millis(300), service.call("a"));
    assert!(cut.await.is_err());
    assert_eq!((bench.sent().len(), bench.dropped(), bench.in_flight()), (2, 2, 0));
    assert_eq!(bench.balance(), 2.0, "a hedge that was sent stays paid for");
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_in_backoff_gets_its_retry_back() {
    let bench = bench(3).await;
    let mut service = bench.service(&[(100, Err("broken"))]);
    let cut = tokio::time::timeout(Duration::from_millis(600), service.call("a"));
    assert!(cut.await.is_err());
    let budget = bench.shared().budget.unwrap();
    assert_eq!((budget.balance, budget.withdrawn, budget.refunded), (3.0, 1, 1));
    assert_eq!(bench.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_future_that_was_never_polled_holds_nothing() {
    let bench = bench(3).await;
    let mut service = bench.service(&[]);
    drop(service.call("a"));
    assert_eq!((bench.sent().len(), bench.in_flight(), bench.balance()), (0, 0, 3.0));
}

#[tokio::test(start_paused = true)]
async fn what_must_not_or_cannot_be_sent_twice_is_sent_once() {
    let bench = bench(3).await;
    for request in ["unsafe", "once"] {
        // Slow enough for a hedge, were it allowed.
        let (verdict, answer, attempts, _) = bench.call(request, &[(9_000, Ok("late"))]).await;
        assert_eq!((verdict, answer, attempts), (stopped(Stop::Unsafe), None, 1), "{request}");
    }
    let end = bench.call("once", &[(100, Err("broken"))]).await;
    assert_eq!(end, (stopped(Stop::Unsafe), Some(Err("broken")), 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_callee_that_wants_no_other_attempt_gets_none() {
    let bench = bench(3).await;
    let end = bench.call("a", &[(100, Err("enough"))]).await;
    assert_eq!(end, (stopped(Stop::Unwanted), Some(Err("enough")), 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_empty_budget_pays_for_neither_retry_nor_hedge() {
    let bench = bench(0).await;
    let end = bench.call("a", &[(300, Err("broken"))]).await;
    assert_eq!(end, (stopped(Stop::Budget), Some(Err("broken")), 1, 0));
    assert_eq!(bench.shared().hedge.unwrap().unpaid, 1);
}
