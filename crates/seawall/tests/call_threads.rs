//! Calls on many threads: nothing is leaked, and no more attempts are sent than were paid for.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use seawall::call::{Closures, Drive, Judgement, Upstream};
use seawall::core::backpressure::{self, Backpressure};
use seawall::core::call::{Attempt, Config, Repeat, Settings as CallSettings, Shared};
use seawall::core::gate::{Gate, Lane, Own as _, Settings};
use seawall::core::hedge::{self, After};
use seawall::core::limit::{self, Ceiling};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::retry::backoff::Backoff;
use seawall::core::rng::Rng;
use seawall::core::time::Span;
use seawall::{Locks, now};

const THREADS: u64 = 8;
const CALLS: u64 = 2_000;

/// Is pending a few times, then fails or not.
struct Attempts {
    polls: u64,
    well: bool,
}

impl Future for Attempts {
    type Output = bool;

    fn poll(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<bool> {
        if self.polls == 0 {
            return Poll::Ready(self.well);
        }
        self.polls -= 1;
        Poll::Pending
    }
}

#[test]
fn nothing_is_leaked_and_every_attempt_beyond_the_first_was_paid_for() {
    let limit = Some(limit::Config { ceiling: Ceiling::Fixed(3), queue: 0, ..limit::Config::default() });
    let gate = || Arc::new(Gate::new(Settings { limit, ..Settings::default() }, Lane::default(), now()));
    let gates = vec![gate(), gate(), gate()];
    let hedge = hedge::Config::new(After::Delay(Span::from_nanos(1))).unwrap().up_to(2).unwrap();
    let settings = CallSettings { hedge: Some(hedge.busy_at_most(1.0).unwrap()), ..CallSettings::default() };
    let shared = Arc::new(Locks::own(vec![Shared::new(settings, now())]));
    let pressure = Backpressure::new(backpressure::Config::default(), now());
    let pressure = Arc::new(Locks::own(vec![pressure]));
    let upstream =
        Arc::new(Upstream::new(gates.clone(), shared.clone(), 7).with_backpressure(pressure.clone()));
    let (first, more) = (AtomicU64::new(0), AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (upstream, first, more, handle) = (&upstream, &first, &more, runtime.handle());
            scope.spawn(move || {
                let _timers = handle.enter();
                (0..CALLS).for_each(|call| one(upstream, &mut Rng::new(thread, call), (first, more)));
            });
        }
    });
    let in_flight: u32 = gates.iter().map(|gate| gate.snapshot(now()).limit.unwrap().in_flight).sum();
    assert_eq!(in_flight, 0);
    let budget = shared.with(Key(0), |shared| shared.snapshot().budget).unwrap();
    assert_eq!(budget.withdrawn - budget.refunded, more.into_inner());
    let pressure = pressure.with(Key(0), |pressure| pressure.snapshot());
    assert!(first.into_inner() > CALLS && pressure.accepts <= pressure.requests, "{pressure:?}");
}

/// One call, driven for a while and then perhaps dropped.
fn one(upstream: &Arc<Upstream>, rng: &mut Rng, (first, more): (&AtomicU64, &AtomicU64)) {
    let request = Request { deadline: now() + Span::from_secs(60), ..Request::new(Key(1)) };
    let config = Config { attempts: 3, per_attempt: None, backoff: Backoff::NONE };
    let polls = 1 + rng.below(6);
    let send = |attempt: Attempt| {
        if attempt.number == 1 { first } else { more }.fetch_add(1, Ordering::Relaxed);
        Attempts { polls: rng.below(4), well: rng.below(10) < 7 }
    };
    let judge = |well: &bool| Judgement {
        outcome: if *well { Outcome::Success } else { Outcome::Failure },
        repeat: Repeat::Safe,
    };
    let exchange = Closures { send, judge };
    let mut drive = pin!(Drive::new(upstream.clone(), config, request, Repeat::Safe, exchange));
    for _ in 0..polls {
        if let Poll::Ready(ended) = drive.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return drop(ended);
        }
    }
}
