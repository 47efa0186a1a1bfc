//! Shedding, readiness and probes.

use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use seawall::admission::{Adapter, AdmissionLayer};
use seawall::core::decision::{Reason, Rejection};
use seawall::core::gate::{Gate, Lane, Settings};
use seawall::core::outcome::Outcome;
use seawall::core::pressure::Reading;
use seawall::core::request::{Key, Request, Tier, Traffic};
use seawall::core::shed::guard::{Guards, Mark};
use seawall::core::time::{Span, Time};
use seawall::core::{breaker, limit, shed};
use seawall::{Guard, Threads, enter, now};
use tokio::time::advance;
use tower::{Layer as _, Service, ServiceExt as _};

fn user() -> Request {
    Request::new(Key(7))
}

fn limited(places: u32, queue: u32) -> Settings {
    let ceiling = limit::Ceiling::Fixed(places);
    let limit = limit::Config { ceiling, queue, ..limit::Config::default() };
    Settings { limit: Some(limit), ..Settings::default() }
}

fn gate(settings: Settings, lane: Lane) -> Arc<Gate<Threads>> {
    Arc::new(Gate::new(settings, lane, now()))
}

/// A gate that holds traffic back from this share of memory on.
fn guarded(memory: u8) -> Arc<Gate<Threads>> {
    let guards = Guards { memory: Mark::percent(memory).ok(), ..Guards::default() };
    let shed = shed::Config { guards, ..shed::Config::default() };
    gate(limited(1_000, 0), Lane { shed: Some(shed), ..Lane::default() })
}

async fn fill_memory(gate: &Gate<Threads>) {
    let full = Reading { memory: Some(1.0), ..Reading::default() };
    for _ in 0..3 {
        gate.observe(now(), &full);
        advance(Duration::from_secs(1)).await;
    }
}

/// What it is given is what the gate sees; the answer is the guard, or why it was refused.
#[derive(Clone)]
struct AsGiven;

impl Adapter<Request, (), &'static str> for AsGiven {
    type Response = Result<Guard, Reason>;

    fn request(&self, _: Time, request: &Request) -> Request {
        *request
    }

    fn outcome(&self, result: Result<&(), &&'static str>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }

    fn answer(&self, (): (), guard: Guard) -> Self::Response {
        Ok(guard)
    }

    fn refuse(&self, rejection: Rejection) -> Self::Response {
        Err(rejection.reason)
    }
}

/// Fails to get ready so many times, then never again.
#[derive(Clone)]
struct Flaky(Arc<AtomicU32>);

impl Service<Request> for Flaky {
    type Response = ();
    type Error = &'static str;
    type Future = Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        let one_less = |left: u32| left.checked_sub(1);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
            Ok(_) => Poll::Ready(Err("not ready")),
            Err(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: Request) -> Self::Future {
        ready(Ok(()))
    }
}

fn flaky(failures: u32) -> Flaky {
    Flaky(Arc::new(AtomicU32::new(failures)))
}

#[tokio::test(start_paused = true)]
async fn health_checks_are_answered_however_much_is_shed() {
    let gate = guarded(80);
    let service = AdmissionLayer::new(gate.clone(), AsGiven).layer(flaky(0));
    fill_memory(&gate).await;
    for _ in 0..100 {
        assert_eq!(service.clone().oneshot(user()).await.unwrap().unwrap_err(), Reason::Shed);
        let probe = Request { traffic: Traffic::Probe, ..user() };
        assert!(service.clone().oneshot(probe).await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn the_least_important_is_shed_first() {
    let gate = guarded(80);
    fill_memory(&gate).await;
    let mut passed = Vec::new();
    for tier in Tier::ALL {
        passed.push(enter(&gate, Request { tier, ..user() }).await.is_ok());
    }
    assert_eq!(passed, [true, false, false, false]);
}

#[tokio::test(start_paused = true)]
async fn idle_readied_clones_hold_no_place_and_not_the_only_probe() {
    let breaker = breaker::Config::new(breaker::Settings {
        window: breaker::Extent::Calls(2),
        min_calls: 1,
        open: Span::from_secs(1),
        probes: 1,
        ..breaker::Settings::default()
    });
    let settings = Settings { breaker: Some(breaker.unwrap()), ..limited(1, 0) };
    let gate = gate(settings, Lane::default());
    let mut failed = enter(&gate, user()).await.unwrap();
    failed.report(Outcome::Failure, Span::ZERO);
    drop(failed);
    assert_eq!(enter(&gate, user()).await.unwrap_err().reason, Reason::Open);
    advance(Duration::from_secs(60)).await;
    let service = AdmissionLayer::new(gate, AsGiven).layer(flaky(0));
    let mut idle: Vec<_> = (0..100).map(|_| service.clone()).collect();
    for clone in &mut idle {
        clone.ready().await.unwrap();
    }
    assert!(service.oneshot(user()).await.unwrap().is_ok(), "both are for whoever calls");
}

#[tokio::test(start_paused = true)]
async fn one_error_of_readiness_fails_one_call_and_poisons_nothing() {
    let gate = gate(limited(1, 0), Lane::default());
    let service = AdmissionLayer::new(gate.clone(), AsGiven).layer(flaky(1));
    assert_eq!(service.clone().oneshot(user()).await.unwrap_err(), "not ready");
    assert_eq!(gate.snapshot(now()).limit.unwrap().in_flight, 0);
    assert!(service.oneshot(user()).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_full_gate_refuses_at_once_and_queues_no_more() {
    let gate = gate(limited(1, 4), Lane::default());
    let _held = enter(&gate, user()).await.unwrap();
    let mut waiting: Vec<_> = (0..1_000).map(|_| Box::pin(enter(&gate, user()))).collect();
    let mut cx = Context::from_waker(Waker::noop());
    let mut refused = 0;
    for entering in &mut waiting {
        if let Poll::Ready(answer) = entering.as_mut().poll(&mut cx) {
            assert_eq!(answer.unwrap_err().reason, Reason::Full);
            refused += 1;
        }
    }
    assert_eq!((refused, gate.snapshot(now()).limit.unwrap().waiting), (996, 4));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_is_polled_when_it_is_due_and_not_before() {
    let gate = gate(limited(1, 8), Lane::default());
    let held = enter(&gate, user()).await.unwrap();
    let polls = Arc::new(AtomicU32::new(0));
    let (entering, counted) = (gate.clone(), polls.clone());
    let waiting = tokio::spawn(async move {
        let mut enter = pin!(enter(&entering, user()));
        let poll = std::future::poll_fn(|cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            enter.as_mut().poll(cx)
        });
        poll.await.map(drop)
    });
    for _ in 0..300 {
        advance(Duration::from_secs(1)).await;
    }
    drop(held);
    waiting.await.unwrap().unwrap();
    assert!(polls.load(Ordering::Relaxed) <= 3, "{polls:?} polls in 300 s");
}
