//! Limits and queues.

use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use seawall::admission::{Adapter, AdmissionLayer};
use seawall::core::decision::Rejection;
use seawall::core::gate::{Admit, Gate, Lane, Settings};
use seawall::core::limit::adaptive::{self, Adaptive};
use seawall::core::limit::{self, Ceiling};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::time::{Span, Time};
use seawall::{Guard, Threads, enter, now};
use tower::{Layer as _, Service, ServiceExt as _};

fn settings(places: u32, queue: u32) -> Settings {
    let limit = limit::Config { ceiling: Ceiling::Fixed(places), queue, ..limit::Config::default() };
    Settings { limit: Some(limit), ..Settings::default() }
}

fn gate(places: u32, queue: u32) -> Arc<Gate<Threads>> {
    Arc::new(Gate::new(settings(places, queue), Lane::default(), now()))
}

fn request() -> Request {
    Request::new(Key(7))
}

/// Answers whether it was let through.
#[derive(Clone)]
struct Passes;

impl Adapter<(), (), &'static str> for Passes {
    type Response = Option<Guard>;

    fn request(&self, _: Time, (): &()) -> Request {
        request()
    }

    fn outcome(&self, _: Result<&(), &&'static str>) -> Outcome {
        Outcome::Success
    }

    fn answer(&self, (): (), guard: Guard) -> Self::Response {
        Some(guard)
    }

    fn refuse(&self, _: Rejection) -> Self::Response {
        None
    }
}

/// A service that is not ready the first time, with an error.
#[derive(Clone)]
struct Stumbles(Arc<AtomicU32>);

impl Service<()> for Stumbles {
    type Response = ();
    type Error = &'static str;
    type Future = Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        let asked = self.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(if asked == 0 { Err("not now") } else { Ok(()) })
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

#[tokio::test]
async fn idle_readied_clones_hold_no_place_and_one_error_of_poll_ready_poisons_nothing() {
    let gate = gate(1, 0);
    let service = AdmissionLayer::new(gate.clone(), Passes).layer(Stumbles(Arc::default()));
    assert!(service.clone().oneshot(()).await.is_err_and(|error| error == "not now"));
    let mut idle: Vec<_> = (0..8).map(|_| service.clone()).collect();
    for clone in &mut idle {
        assert!(clone.ready().await.is_ok());
    }
    assert_eq!(gate.snapshot(now()).limit.unwrap().in_flight, 0);
    assert!(service.oneshot(()).await.unwrap().is_some());
}

#[test]
fn a_limit_that_rejects_bounds_its_line_too() {
    for (queue, most) in [(0, 0), (5, 5), (1_000_000, 6)] {
        let gate = gate(1, queue);
        let asked: Vec<Admit> = (0..10_000).map(|_| gate.admit(now(), &request())).collect();
        let waiting = asked.iter().filter(|admit| matches!(admit, Admit::Wait(_))).count();
        assert_eq!(waiting, most, "a burst may fill six times the limit, or {queue}");
    }
}

#[test]
fn a_limit_shrinks_while_requests_wait() {
    let gate = gate(4, 8);
    let mut held: Vec<_> = (0..4).map(|_| gate.admit(now(), &request())).collect();
    assert!(matches!(gate.admit(now(), &request()), Admit::Wait(_)));
    gate.configure(settings(2, 8), now());
    assert_eq!(gate.snapshot(now()).limit.unwrap().limit, 2);
    for in_flight in [3, 2, 2] {
        let Some(Admit::Ticket(ticket)) = held.pop() else { panic!("four were let through") };
        gate.settle(now(), ticket, Outcome::Success);
        assert_eq!(gate.snapshot(now()).limit.unwrap().in_flight, in_flight);
    }
}

fn learning() -> Adaptive {
    Adaptive::new(adaptive::Config::default(), Time::ZERO)
}

fn at(micros: u64) -> Time {
    Time::ZERO + Span::from_micros(micros)
}

/// A source that is always at the limit, before a callee with so many workers of 10 ms; how the
/// limit stands after so many calls.
fn saturated(adaptive: &mut Adaptive, workers: u32, calls: u64) -> u32 {
    let mut micros = 1_000_000;
    for _ in 0..calls {
        let (limit, gap) = (adaptive.limit(), 10_000 / u64::from(workers.min(adaptive.limit())));
        micros += gap;
        let latency = Span::from_micros(gap * u64::from(limit));
        adaptive.sample(at(micros), limit, latency, Outcome::Success);
    }
    adaptive.limit()
}

#[test]
fn an_adaptive_limit_does_not_grow_on_sequential_calls() {
    let mut adaptive = learning();
    let before = adaptive.limit();
    (0..10_000).for_each(|call| {
        adaptive.sample(at(call * 10_000), 1, Span::from_millis(9), Outcome::Success);
    });
    assert_eq!(adaptive.limit(), before);
}

#[test]
fn an_adaptive_limit_does_not_collapse_after_a_few_fast_samples() {
    let mut adaptive = learning();
    (0..30).for_each(|call| adaptive.sample(at(call), 1, Span::from_micros(50), Outcome::Success));
    let limit = saturated(&mut adaptive, 8, 40_000);
    assert!((8..=10).contains(&limit), "{limit}");
}

#[test]
fn an_adaptive_limit_learns_neither_the_overload_nor_its_no_load_latency_under_load() {
    let mut adaptive = learning();
    for _ in 0..20 {
        let limit = saturated(&mut adaptive, 50, 20_000);
        assert!((50..=60).contains(&limit), "{limit}");
    }
    let baseline = adaptive.baseline().unwrap().as_secs_f64();
    // The latency at the last step that throughput followed: a little may have queued there.
    assert!((0.0099..0.0110).contains(&baseline), "{baseline}");
}

#[test]
fn healthy_traffic_is_not_clamped_in_order_to_measure() {
    let mut adaptive = learning();
    for call in 0..500_000_u64 {
        let in_flight = 1 + (call % 12) as u32;
        adaptive.sample(at(call * 1_000), in_flight, Span::from_millis(10), Outcome::Success);
        assert!(adaptive.limit() >= 16);
    }
}

struct Counts(AtomicU32);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn whoever_waits_is_woken_once_when_its_turn_comes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _context = runtime.enter();
    let gate = gate(1, 8);
    let counts = Arc::new(Counts(AtomicU32::new(0)));
    let waker = Waker::from(counts.clone());
    let mut context = Context::from_waker(&waker);
    let mut first = pin!(enter(&gate, request()));
    let Poll::Ready(Ok(held)) = first.as_mut().poll(&mut context) else { panic!("there is a place") };
    let mut second = pin!(enter(&gate, request()));
    assert!(second.as_mut().poll(&mut context).is_pending());
    let before = counts.0.load(Ordering::Relaxed);
    drop(held);
    assert_eq!(counts.0.load(Ordering::Relaxed), before + 1);
    assert!(second.as_mut().poll(&mut context).is_ready());
}
