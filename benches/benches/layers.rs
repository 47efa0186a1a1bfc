//! Layers side by side over a service that does nothing: `cargo bench -p seawall-benches --bench layers [-- REPEATS]`.
//!
//! One operation is a request through all layers and its answer. Ours are throttle, shed, limit,
//! breaker, retry with its budget, and deadline; the others are what each library has of these. Once with the
//! system's clock, once with the processor's counter. Of the clock a request reads two times, on its way in and
//! on its way out, and where its driver pauses the clock while it polls, as the gateway does, one. Turns are of
//! milliseconds: a neighbour of the machine that is busy now and then spoils some of them, and not the median.

mod stack;

use std::future::{Future, Ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use seawall::admission::AdmissionLayer;
use seawall::core::gate::Ticket;
use seawall::core::limit;
use seawall::core::measure::bucket::{Quota, Rate};
use seawall::core::request::{Key, Request};
use seawall::{Pause, UserKeys, now, use_time_stamp_counter};
use seawall_benches::{Contender, Cost, compare, measure_here};
use stack::{Front, Nothing, Scene, calls, front};
use tower::{Layer as _, Service, ServiceBuilder};
use tower_resilience::bulkhead::BulkheadLayer;
use tower_resilience::circuitbreaker::CircuitBreakerLayer;
use tower_resilience::retry::RetryLayer;
use tower_resilience::timelimiter::TimeLimiterLayer;

const CALLS: u64 = 1 << 14;
const USERS: u64 = 1 << 10;

/// Not shared by counting: an adapter is cloned with each request.
static KEYS: LazyLock<UserKeys> = LazyLock::new(UserKeys::new);

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

fn drive<S: Service<u64>, P>(service: &mut S, calls: u64, pause: impl Fn() -> P) -> u64 {
    let mut context = Context::from_waker(Waker::noop());
    for call in 0..calls {
        let _pause = pause();
        assert!(matches!(service.poll_ready(&mut context), Poll::Ready(Ok(()))), "it is ready");
        let answer = pin!(service.call(call % USERS)).poll(&mut context);
        assert!(matches!(black_box(&answer), Poll::Ready(Ok(_))), "it answers at once");
    }
    calls
}

fn contender<'a, S>(name: &'static str, service: S) -> Contender<'a>
where
    S: Service<u64> + Clone + Send + Sync + 'a,
{
    driven(name, service, || ())
}

fn driven<'a, S, P>(name: &'static str, service: S, pause: impl Fn() -> P + Sync + 'a) -> Contender<'a>
where
    S: Service<u64> + Clone + Send + Sync + 'a,
{
    let mut counted = service.clone();
    drive(&mut counted, 1_000, &pause);
    let allocations = allocation_counter::measure(|| _ = drive(&mut counted, 1_000, &pause)).count_total;
    println!("{name}: {} allocations a call", allocations as f64 / 1e3);
    Contender::new(name, move || measure_here(|| drive(&mut service.clone(), CALLS, &pause)))
}

fn refusal(name: &'static str, scene: Scene) -> Contender<'static> {
    Contender::new(name, move || {
        measure_here(|| {
            for call in 0..CALLS {
                let mut ticket = Ticket::blank();
                let request = Request::new(KEYS.number(call % USERS));
                let asked = scene.gate.fill(scene.now, &request, &mut ticket);
                // Where it stands: by value, copying it would be measured too.
                black_box(&asked);
                match asked {
                    Err(_) => {}
                    Ok(Some(place)) => scene.gate.leave(scene.now, place),
                    Ok(None) => unreachable!("nobody passes"),
                }
            }
            CALLS
        })
    })
}

fn refusals(repeats: usize) {
    let users: Vec<Key> = (0..USERS).map(|user| KEYS.number(user)).collect();
    compare(
        "a refusal, `now` given",
        repeats,
        &[
            refusal("by the throttle", Scene::throttled(&users)),
            refusal("by shedding, nearly all", Scene::overloaded()),
            refusal("by a full limit", Scene::full()),
            refusal("by a full limit and its full queue", Scene::queued()),
            refusal("by an open breaker", Scene::open()),
        ],
    );
}

fn requests(title: &str, repeats: usize) {
    let plenty = Quota::new(Rate::per_second(1_000_000_000), 1_000_000_000).expect("within bounds");
    let front = front(plenty, limit::Config::default());
    let ours = AdmissionLayer::new(front, Front(|user| KEYS.number(user))).around(calls());
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
        title,
        repeats,
        &[
            Contender::new("reading the clock", || {
                measure_here(|| {
                    (0..CALLS).for_each(|_| _ = black_box(now()));
                    CALLS
                })
            }),
            contender("seawall: six policies", ours.layer(Nothing)),
            driven("seawall: the same, clock paused", ours.layer(Nothing), Pause::begin),
            contender("tower: shed, limit, timeout, retry", towers),
            contender("tower-resilience: bulkhead", bulkhead.layer(Nothing)),
            contender("tower-resilience: breaker", breaker.layer(Nothing)),
            contender(
                "tower-resilience: four layers",
                retry.layer(bulkhead.layer(breaker.layer(limiter.layer(Nothing)))),
            ),
        ],
    );
    let [clock, twice, once, towers, .., resilience] = costs[..] else {
        unreachable!("one for each contender")
    };
    println!("  tower's four over our six: {:.2}", towers.cpu / twice.cpu);
    println!("  tower-resilience's four over our six: {:.2}", resilience.cpu / twice.cpu);
    println!("  our six, in readings of the clock: {:.1}", twice.cpu / clock.cpu);
    let at_20_ns = |cost: Cost, readings: f64| cost.cpu + readings * (20.0 - clock.cpu);
    println!(
        "  our six with a clock of 20 ns: {:.0} ns, and {:.0} with the clock paused",
        at_20_ns(twice, 2.0),
        at_20_ns(once, 1.0)
    );
}

fn main() {
    let repeats = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(101);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _runtime = runtime.enter();
    requests("a request, the system's clock", repeats);
    refusals(repeats);
    use_time_stamp_counter();
    requests("a request, the processor's counter", repeats);
}
