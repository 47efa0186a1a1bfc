//! Who is told what, when, and at what cost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::{Ready, ready};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use seawall::admission::{Adapter, End};
use seawall::call::Upstream;
use seawall::core::breaker::{self, Config, Settings};
use seawall::core::call::{Config as CallConfig, Hosts, HostsConfig, Member, Repeat, Shared};
use seawall::core::decision::Rejection;
use seawall::core::event::{Change, Event};
use seawall::core::gate::{self, Gate, Lane, Own as _};
use seawall::core::limit;
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::rng::Rng;
use seawall::core::time::{Span, Time};
use seawall::observe::{Observer, Origin, Watcher};
use seawall::{BreakerLayer, Guard, LimitLayer, Locks, Pipeline, Threads, now};
use tower::{Layer as _, Service, ServiceExt as _};

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Log {
    fn changed(&self, origin: Origin<'_>, event: &Event) {
        let host = origin.host.map(|host| format!("/{host}")).unwrap_or_default();
        self.0.lock().unwrap().push(format!("{}{host}: {}", origin.name, event.change.name()));
    }

    fn refused(&self, origin: Origin<'_>, rejection: &Rejection) {
        self.0.lock().unwrap().push(format!("{}: {}", origin.name, rejection.reason.name()));
    }
}

/// Counts, and allocates nothing.
#[derive(Default)]
struct Count(AtomicU32, AtomicU32);

impl Observer for Count {
    fn changed(&self, _: Origin<'_>, _: &Event) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn refused(&self, _: Origin<'_>, _: &Rejection) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

fn fragile() -> Config {
    Config::new(Settings { consecutive: Some(2), ..Settings::default() }).unwrap()
}

/// Answers with its request; `false` is an error.
#[derive(Clone)]
struct Echo;

impl Service<bool> for Echo {
    type Response = ();
    type Error = &'static str;
    type Future = Ready<Result<(), &'static str>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, well: bool) -> Self::Future {
        ready(if well { Ok(()) } else { Err("down") })
    }
}

#[derive(Clone)]
struct Seen;

impl Adapter<bool, (), &'static str> for Seen {
    type Response = bool;

    fn request(&self, _: Time, _: &bool) -> Request {
        Request::new(Key(1))
    }

    fn outcome(&self, result: Result<&(), &&'static str>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }

    fn end(&self, (): &()) -> End {
        End::WithResponse
    }

    fn answer(&self, (): (), _: Guard) -> bool {
        true
    }

    fn refuse(&self, _: Rejection) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_tells_of_the_change_with_the_call_that_brought_it_about() {
    let log = Arc::new(Log::default());
    let layer = BreakerLayer::new(fragile(), Seen).observed(Watcher::new("stock", log.clone()));
    let service = layer.layer(Echo);
    assert!(service.clone().oneshot(false).await.is_err());
    assert!(log.take().is_empty());
    assert!(service.clone().oneshot(false).await.is_err());
    assert_eq!(log.take(), ["stock: breaker_opened"]);
    assert!(!service.clone().oneshot(true).await.unwrap());
    assert_eq!(log.take(), ["stock: open"]);
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    for _ in 0..3 {
        assert!(service.clone().oneshot(true).await.unwrap());
    }
    assert_eq!(log.take(), ["stock: breaker_half_open", "stock: breaker_closed"]);
}

/// Asks the gate back while it is told of it.
struct Curious(Mutex<Option<Arc<Gate<Threads>>>>, Log);

impl Observer for Curious {
    fn changed(&self, origin: Origin<'_>, event: &Event) {
        let gate = self.0.lock().unwrap().clone().unwrap();
        assert_eq!(gate.snapshot(now()).breaker.unwrap().mode, breaker::Mode::Open);
        self.1.changed(origin, event);
    }
}

#[tokio::test(start_paused = true)]
async fn no_lock_is_held_while_an_observer_is_told() {
    let curious = Arc::new(Curious(Mutex::new(None), Log::default()));
    let stock = Pipeline::single(fragile()).observed(Watcher::new("stock", curious.clone()));
    *curious.0.lock().unwrap() = Some(stock.gate().clone());
    for _ in 0..2 {
        let _ = stock.call(|| ready(Err::<(), _>("down"))).await;
    }
    assert_eq!(curious.1.take(), ["stock: breaker_opened"]);
}

#[tokio::test(start_paused = true)]
async fn hosts_are_told_apart_by_name() {
    let settings = gate::Settings { breaker: Some(fragile()), ..gate::Settings::default() };
    let member = |name: &str| Member {
        name: Arc::from(name),
        gate: Arc::new(Gate::new(settings, Lane::default(), now())),
    };
    let members = vec![member("north"), member("south")];
    let hosts = Hosts::balanced(HostsConfig::in_turn(), members, now(), &mut Rng::new(1, 1));
    let unpaid = seawall::core::call::Settings { budget: None, hedge: None };
    let shared = Arc::new(Locks::own(vec![Shared::new(unpaid, now())]));
    let upstream = Arc::new(Upstream::of(hosts, shared, 7));
    let log = Arc::new(Log::default());
    let once = CallConfig { attempts: 1, ..CallConfig::default() };
    let pipeline =
        Pipeline::calls(upstream, once, Repeat::Safe).observed(Watcher::new("orders", log.clone()));
    let north_fails =
        |attempt: seawall::core::call::Attempt| ready(if attempt.host == 0 { Err("down") } else { Ok(()) });
    for _ in 0..8 {
        let _ = pipeline.call(north_fails).await;
    }
    assert_eq!(log.take(), ["orders/north: breaker_opened"]);
    for _ in 0..8 {
        let _ = pipeline.call(|_| ready(Err::<(), _>("down"))).await;
    }
    assert_eq!(log.take()[..2], ["orders/south: breaker_opened", "orders: open"]);
}

#[test]
fn observing_allocates_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let count = Arc::new(Count::default());
    let one = limit::Config { ceiling: limit::Ceiling::Fixed(1), queue: 0, ..limit::Config::default() };
    let limit = LimitLayer::new(one, Seen).observed(Watcher::new("pool", count.clone()));
    let breaker = BreakerLayer::new(fragile(), Seen).observed(Watcher::new("stock", count.clone()));
    let pool = limit.layer(Echo);
    let stock = breaker.layer(Echo);
    let _held = limit.gate().admit(now(), &Request::new(Key(1)));
    let mut cx = Context::from_waker(Waker::noop());
    let mut round = |calls: u32| {
        for _ in 0..calls {
            let mut refused = pin!(pool.clone().call(true));
            assert_eq!(refused.as_mut().poll(&mut cx), Poll::Ready(Ok(false)));
            let mut failed = pin!(stock.clone().call(false));
            assert!(failed.as_mut().poll(&mut cx).is_ready());
        }
    };
    round(5);
    let counted = allocation_counter::measure(|| round(1_000));
    assert_eq!(counted.count_total, 0, "{counted:?}");
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert_eq!(count.1.load(Ordering::Relaxed), 1_005 + 1_003);
}

/// How often a breaker was seen to open, and to let probes through.
#[derive(Default)]
struct Turns(AtomicU32, AtomicU32);

impl Observer for Turns {
    fn changed(&self, _: Origin<'_>, event: &Event) {
        match event.change {
            Change::BreakerOpened { .. } => _ = self.0.fetch_add(1, Ordering::Relaxed),
            Change::BreakerHalfOpen => _ = self.1.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
    }
}

#[test]
fn between_threads_each_change_is_told_once() {
    let open = Span::from_nanos(1);
    let settings = Settings { consecutive: Some(1), probes: 1, open, open_max: open, ..Settings::default() };
    let turns = Arc::new(Turns::default());
    let stock =
        Pipeline::single(Config::new(settings).unwrap()).observed(Watcher::new("stock", turns.clone()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut cx = Context::from_waker(Waker::noop());
                for _ in 0..2_000 {
                    let mut call = pin!(stock.call(|| ready(Err::<(), _>("down"))));
                    assert!(call.as_mut().poll(&mut cx).is_ready());
                }
            });
        }
    });
    let (opened, probing) = (turns.0.load(Ordering::Relaxed), turns.1.load(Ordering::Relaxed));
    assert!(opened > 1 && (opened == probing || opened == probing + 1), "{opened} {probing}");
}
