//! Layers side by side over a service that does nothing: `cargo bench -p seawall-benches --bench layers [-- REPEATS]`.
//!
//! One operation is a request through all layers and its answer. Ours are throttle, shed, limit,
//! breaker, retry with its budget, and deadline; the others are what each library has of these.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use seawall::admission::{self, AdmissionLayer, End};
use seawall::call::{self, CallLayer, Ended, Judgement, Outgoing, Upstream};
use seawall::core::call::{Config, Repeat, Settings as CallSettings, Shared};
use seawall::core::decision::Rejection;
use seawall::core::gate::{Admit, Gate, Lane, Own as _, Rule, Settings};
use seawall::core::measure::bucket::{Quota, Rate};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::time::{Span, Time};
use seawall::core::{breaker, limit, shed, throttle};
use seawall::{Guard, Locks, Threads, UserKeys, now};
use seawall_benches::{Contender, compare, measure};
use tower::{Layer as _, Service, ServiceBuilder};
use tower_resilience::bulkhead::BulkheadLayer;
use tower_resilience::circuitbreaker::CircuitBreakerLayer;
use tower_resilience::retry::RetryLayer;
use tower_resilience::timelimiter::TimeLimiterLayer;

const CALLS: u64 = 1 << 18;
const USERS: u64 = 1 << 10;
const DEADLINE: Span = Span::from_secs(1);

#[derive(Clone)]
struct Front(Arc<UserKeys>);

impl admission::Adapter<u64, u64, Infallible> for Front {
    type Response = Result<u64, Rejection>;

    fn request(&self, now: Time, request: &u64) -> Request {
        Request { deadline: now + DEADLINE, ..Request::new(self.0.number(*request)) }
    }

    fn outcome(&self, _: Result<&u64, &Infallible>) -> Outcome {
        Outcome::Success
    }

    fn end(&self, _: &u64) -> End {
        End::WithResponse
    }

    fn answer(&self, response: u64, _: Guard) -> Self::Response {
        Ok(response)
    }

    fn refuse(&self, rejection: Rejection) -> Self::Response {
        Err(rejection)
    }
}

#[derive(Clone)]
struct Back;

impl call::Adapter<u64, u64, Infallible> for Back {
    type Response = u64;

    fn request(&self, now: Time, request: &u64) -> Request {
        Request { deadline: now + DEADLINE, ..Request::new(Key(*request)) }
    }

    fn copy(&self, request: &u64) -> Option<u64> {
        Some(*request)
    }

    fn repeat(&self, _: &u64) -> Repeat {
        Repeat::Safe
    }

    fn judge(&self, _: Result<&u64, &Infallible>) -> Judgement {
        Judgement { outcome: Outcome::Success, repeat: Repeat::Safe }
    }

    fn end(&self, ended: Ended<Result<u64, Infallible>>) -> Result<u64, Infallible> {
        ended.answer.expect("it answers at once")
    }
}

#[derive(Clone)]
struct Nothing;

impl Service<u64> for Nothing {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

impl Service<Outgoing<u64>> for Nothing {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, outgoing: Outgoing<u64>) -> Self::Future {
        ready(Ok(outgoing.request))
    }
}

/// Retries nothing, but might.
#[derive(Clone)]
struct Never;

impl<Res, Err> tower::retry::Policy<u64, Res, Err> for Never {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, _: &mut Result<Res, Err>) -> Option<Ready<()>> {
        None
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

fn drive<S: Service<u64>>(service: &mut S, calls: u64) -> u64 {
    let mut context = Context::from_waker(Waker::noop());
    for call in 0..calls {
        assert!(matches!(service.poll_ready(&mut context), Poll::Ready(Ok(()))), "it is ready");
        let answer = pin!(service.call(call % USERS)).poll(&mut context);
        assert!(matches!(black_box(answer), Poll::Ready(Ok(_))), "it answers at once");
    }
    calls
}

fn contender<'a, S>(name: &'static str, service: S) -> Contender<'a>
where
    S: Service<u64> + Clone + Send + Sync + 'a,
{
    let mut counted = service.clone();
    drive(&mut counted, 1_000);
    let allocations = allocation_counter::measure(|| _ = drive(&mut counted, 1_000)).count_total;
    println!("{name}: {} allocations a call", allocations as f64 / 1e3);
    Contender::new(name, move || measure_here(|| drive(&mut service.clone(), CALLS)))
}

/// On this thread, where the runtime is.
fn measure_here(work: impl Fn() -> u64 + Sync) -> seawall_benches::Cost {
    let handle = tokio::runtime::Handle::current();
    measure(1, |_| {
        let _runtime = handle.enter();
        work()
    })
}

/// A front gate whose throttle has this quota and whose limit is this.
fn front(quota: Quota, limit: limit::Config) -> Arc<Gate<Threads>> {
    let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
    let settings = Settings { limit: Some(limit), ..Settings::default() };
    let rule = Arc::new(Rule::new(throttle::Config::per_user(quota), now()));
    Arc::new(Gate::new(settings, lane, now()).throttled(vec![rule]))
}

fn calls() -> CallLayer<Back> {
    let settings = Settings { breaker: Some(breaker::Config::default()), ..Settings::default() };
    let back = Arc::new(Gate::<Threads>::new(settings, Lane::default(), now()));
    let shared = Arc::new(Locks::own(vec![Shared::new(CallSettings::default(), now())]));
    CallLayer::new(Arc::new(Upstream::new(vec![back], shared, 7)), Config::default(), Back)
}

fn refusal(
    name: &'static str,
    keys: &Arc<UserKeys>,
    gate: Arc<Gate<Threads>>,
    held: Option<Admit>,
) -> Contender<'static> {
    let (now, keys) = (now(), keys.clone());
    Contender::new(name, move || {
        let _held = &held;
        measure(1, |_| {
            for call in 0..CALLS {
                let admit = gate.admit(now, &Request::new(keys.number(call % USERS)));
                assert!(matches!(black_box(&admit), Admit::Reject(_)), "nobody passes");
            }
            CALLS
        })
    })
}

fn refusals(repeats: usize, keys: &Arc<UserKeys>) {
    let roomy = limit::Config::default();
    let single = limit::Config { ceiling: limit::Ceiling::Fixed(1), queue: 0, ..limit::Config::default() };
    let plenty = Quota::new(Rate::per_second(1_000_000_000), 1_000_000_000).expect("within bounds");
    let hourly = Quota::new(Rate { count: 1, per: Span::from_secs(3_600) }, 1).expect("within bounds");
    let (throttled, full) = (front(hourly, roomy), front(plenty, single));
    let begin = now();
    for user in 0..USERS {
        if let Admit::Ticket(ticket) = throttled.admit(begin, &Request::new(keys.number(user))) {
            throttled.settle(begin, ticket, Outcome::Ignored);
        }
    }
    let held = full.admit(begin, &Request::new(Key(0)));
    compare(
        "a refusal, `now` given",
        repeats,
        &[
            refusal("by the throttle", keys, throttled, None),
            refusal("by a full limit", keys, full, Some(held)),
        ],
    );
}

fn main() {
    let repeats = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _runtime = runtime.enter();
    let keys = Arc::new(UserKeys::new());
    let plenty = Quota::new(Rate::per_second(1_000_000_000), 1_000_000_000).expect("within bounds");
    let ours =
        AdmissionLayer::new(front(plenty, limit::Config::default()), Front(keys.clone())).around(calls());
    let towers = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(64)
        .timeout(Duration::from_secs(1))
        .retry(Never)
        .service(Nothing);
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(64).build().expect("within bounds");
    let breaker = CircuitBreakerLayer::builder().build().expect("within bounds");
    let limiter = TimeLimiterLayer::builder().timeout_duration(Duration::from_secs(1)).build();
    let retry = RetryLayer::<u64, u64, _>::builder().max_attempts(3).build();
    let costs = compare(
        "a request",
        repeats,
        &[
            Contender::new("reading the clock", || {
                measure_here(|| {
                    (0..CALLS).for_each(|_| _ = black_box(now()));
                    CALLS
                })
            }),
            contender("seawall: six policies", ours.layer(Nothing)),
            contender("tower: shed, limit, timeout, retry", towers),
            contender("tower-resilience: bulkhead", bulkhead.layer(Nothing)),
            contender("tower-resilience: breaker", breaker.layer(Nothing)),
            contender(
                "tower-resilience: four layers",
                retry.layer(bulkhead.layer(breaker.layer(limiter.layer(Nothing)))),
            ),
        ],
    );
    println!("  tower's four over our six: {:.2}", costs[2].cpu / costs[1].cpu);
    println!("  tower-resilience's four over our six: {:.2}", costs[5].cpu / costs[1].cpu);
    println!("  our six, in readings of the clock: {:.1}", costs[1].cpu / costs[0].cpu);
    refusals(repeats, &keys);
}
