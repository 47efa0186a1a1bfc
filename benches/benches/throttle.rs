//! Keyed throttles side by side: `cargo bench -p seawall-benches --bench throttle [-- REPEATS]`.
//!
//! At the rate [`FULL`] every bucket is full again at once, and a contender that forgets such users has
//! a smaller table than one that keeps them. At [`OWING`] none is, and all keep everybody.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use governor::clock::{Clock, DefaultClock, FakeRelativeClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota as PeerQuota, RateLimiter};
use quick_cache::sync::Cache;
use seawall::core::gate::Rule;
use seawall::core::measure::bucket::{Bucket, Quota, Rate};
use seawall::core::request::{Key, Request};
use seawall::core::throttle::{Config, OnFull};
use seawall::core::time::{Span, Time};
use seawall::{Threads, UserKeys};
use seawall_benches::{Contender, Cost, compare, measure};

/// So many tokens that hardly anybody is denied, as in the peers' own benches.
const BURST: u32 = 1_000_000_000;
/// Tokens of a user in a second, where all are full again at once.
const FULL: u32 = BURST;
/// The same, where nobody is full again while the bench runs.
const OWING: u32 = 1;
/// Users that bounded contenders may remember.
const CAP: u32 = 1_250_000;

thread_local! {
    /// The time as this thread last read it.
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// The clocks that the peers use, from one origin.
struct Clocks {
    origin: Instant,
    quanta: quanta::Clock,
    quanta_origin: quanta::Instant,
}

impl Clocks {
    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// As a stack gives it to its layers: read now and then, here at each sixteenth operation, which
    /// leaves a sixteenth of a reading in the figure.
    fn given(&self, turn: u64) -> Time {
        if turn.is_multiple_of(16) {
            NOW.set(self.quanta().as_nanos());
        }
        Time::from_nanos(NOW.get())
    }

    fn quanta(&self) -> Time {
        Time::from_nanos(self.quanta.now().duration_since(self.quanta_origin).as_nanos() as u64)
    }
}

/// What contenders have in common.
struct Case<'a, U> {
    title: &'static str,
    threads: usize,
    rate: u32,
    users: &'a [U],
}

impl<U> Case<'_, U> {
    fn quota(&self) -> Quota {
        Quota::new(Rate::per_second(u64::from(self.rate)), u64::from(BURST)).expect("within bounds")
    }

    fn peer_quota(&self) -> PeerQuota {
        let [rate, burst] = [self.rate, BURST].map(|count| NonZeroU32::new(count).expect("not zero"));
        PeerQuota::per_second(rate).allow_burst(burst)
    }
}

impl<U: Sync> Case<'_, U> {
    /// Runs `check` for each of the users in order, from another place in each thread.
    fn run(&self, check: impl Fn(&U, u64) -> bool + Sync) -> Cost {
        measure(self.threads, |thread| {
            let (later, first) = self.users.split_at(thread * self.users.len() / self.threads);
            let in_order = first.iter().chain(later).zip(0_u64..);
            let passed = in_order.filter(|(user, turn)| check(user, *turn)).count();
            black_box(passed);
            self.users.len() as u64
        })
    }
}

fn seawall<'a, U: Sync>(
    name: &'static str,
    case: &'a Case<'a, U>,
    read: impl Fn(u64) -> Time + Sync + 'a,
    key: impl Fn(&UserKeys, &U) -> Key + Sync + 'a,
) -> Contender<'a> {
    let config = Config { max_users: CAP, ..Config::per_user(case.quota()) };
    let rule = Rule::<Threads>::new(config, Time::ZERO);
    let keys = UserKeys::new();
    Contender::new(name, move || {
        case.run(|user, turn| rule.take(read(turn), &Request::new(key(&keys, user))).is_ok())
    })
}

fn governor<'a, S, C>(name: &'static str, case: &'a Case<'a, u64>, hasher: S, clock: C) -> Contender<'a>
where
    S: BuildHasher + Clone + Send + Sync + 'a,
    C: Clock + Send + Sync + 'a,
    C::Instant: Send + Sync,
{
    type Limiter<S, C> =
        RateLimiter<u64, DashMapStateStore<u64, S>, C, NoOpMiddleware<<C as Clock>::Instant>>;
    let limiter: Limiter<S, C> =
        RateLimiter::new(case.peer_quota(), DashMapStateStore::with_hasher(hasher), clock);
    Contender::new(name, move || case.run(|user, _| limiter.check_key(user).is_ok()))
}

fn quick<'a>(clocks: &'a Clocks, case: &'a Case<'a, u64>) -> Contender<'a> {
    let cache: Cache<u64, Arc<Mutex<Bucket>>> = Cache::new(CAP as usize);
    let quota = case.quota();
    Contender::new("quick_cache + bucket, quanta", move || {
        case.run(|user, _| {
            let now = clocks.quanta();
            let full = || Ok::<_, ()>(Arc::new(Mutex::new(Bucket::full(&quota, now))));
            let bucket = cache.get_or_insert_with(user, full).expect("making a bucket cannot fail");
            bucket.lock().expect("nobody panics").take(&quota, now, 1).is_ok()
        })
    })
}

/// Draws by Zipf's law with exponent 1, ranks scattered over the numbers.
fn zipf(users: u64, draws: usize) -> Vec<u64> {
    let mut sum = 0.0;
    let weights = (1..=users).map(|rank| {
        sum += 1.0 / rank as f64;
        sum
    });
    let weights: Vec<f64> = weights.collect();
    let sum = weights.last().copied().expect("at least one user");
    let mut state = 1_u64;
    let draw = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (state >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        (weights.partition_point(|weight| *weight < at) as u64 * 7_919) % users
    };
    (0..draws).map(draw).collect()
}

fn numbers(clocks: &Clocks, repeats: usize, case: &Case<'_, u64>) {
    let given = |turn: u64| clocks.given(turn);
    let key = |keys: &UserKeys, user: &u64| keys.number(*user);
    let costs = compare(
        case.title,
        repeats,
        &[
            seawall("seawall, now given", case, given, key),
            seawall("seawall, quanta", case, |_| clocks.quanta(), key),
            seawall("seawall, std Instant", case, |_| Time::from_nanos(clocks.now()), key),
            governor(
                "governor ahash, now given",
                case,
                ahash::RandomState::new(),
                FakeRelativeClock::default(),
            ),
            governor("governor ahash, quanta", case, ahash::RandomState::new(), DefaultClock::default()),
            governor("governor, quanta", case, std::hash::RandomState::new(), DefaultClock::default()),
            quick(clocks, case),
        ],
    );
    let over = |peer: usize, own: usize| costs[peer].cpu / costs[own].cpu;
    println!(
        "  governor ahash over seawall: {:.2} now given to the stack, {:.2} both given, {:.2} both quanta; quick_cache {:.2}",
        over(4, 0),
        over(3, 0),
        over(4, 1),
        over(6, 1)
    );
}

/// Requests bring their keys along: in memory in the order of arrival.
fn text(clocks: &Clocks, repeats: usize, &Case { title, threads, rate, users }: &Case<'_, u64>) {
    let names: Vec<String> = users.iter().map(|user| format!("customer-{user:07}")).collect();
    let case = &Case { title, threads, rate, users: &names };
    let given = |turn: u64| clocks.given(turn);
    let key = |keys: &UserKeys, name: &String| keys.key(name.as_bytes());
    let limiter: RateLimiter<String, DashMapStateStore<String>, DefaultClock> =
        RateLimiter::dashmap(case.peer_quota());
    let peer = Contender::new("governor, String keys, quanta", || {
        case.run(|name, _| limiter.check_key(name).is_ok())
    });
    let costs = compare(
        case.title,
        repeats,
        &[
            seawall("seawall, text keys, now given", case, given, key),
            seawall("seawall, text keys, quanta", case, |_| clocks.quanta(), key),
            peer,
        ],
    );
    println!(
        "  governor over seawall: {:.2} now given to the stack, {:.2} both quanta",
        costs[2].cpu / costs[0].cpu,
        costs[2].cpu / costs[1].cpu
    );
}

/// What a user costs at five million, and a flood of twenty million at a cap of one.
fn memory() {
    let hourly = Quota::new(Rate { count: 1, per: Span::from_secs(3_600) }, 1).expect("within bounds");
    let rule = |max_users, on_full| {
        Rule::<Threads>::new(Config { max_users, on_full, ..Config::per_user(hourly) }, Time::ZERO)
    };
    let keys = UserKeys::new();
    let roomy = rule(8_000_000, OnFull::Refuse);
    (0..5_000_000).for_each(|user| _ = roomy.take(Time::ZERO, &Request::new(keys.number(user))));
    let snapshot = roomy.snapshot();
    println!("{} users: {:.1} bytes each", snapshot.users, snapshot.bytes as f64 / snapshot.users as f64);
    drop(roomy);
    for on_full in [OnFull::Refuse, OnFull::Share] {
        let capped = rule(1_000_000, on_full);
        let ask = |user: u64| capped.take(Time::ZERO, &Request::new(keys.number(user))).is_ok();
        let throttled: Vec<u64> = (0..500_000).filter(|user| ask(*user)).collect();
        let begin = Instant::now();
        (500_000..20_000_000).for_each(|user| _ = ask(user));
        let each = begin.elapsed().as_nanos() as f64 / 19_500_000.0;
        let early = throttled.iter().filter(|user| ask(**user)).count();
        let snapshot = capped.snapshot();
        println!(
            "20 M users at a cap of 1 M, {on_full:?}: {} remembered, {:.1} MiB, {each:.0} ns each; of {} throttled users {early} got a token early",
            snapshot.users,
            snapshot.bytes as f64 / f64::from(1 << 20),
            throttled.len()
        );
    }
}

fn main() {
    let repeats = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let quanta = quanta::Clock::new();
    let clocks = Clocks { origin: Instant::now(), quanta_origin: quanta.now(), quanta };
    memory();
    let thousand: Vec<u64> = (0..1 << 20).map(|turn| turn * 379 % 1_000).collect();
    let one = vec![7; 1 << 20];
    let million = zipf(1_000_000, 1 << 21);
    for (title, threads, rate, users) in [
        ("1 key, 1 thread", 1, FULL, &one),
        ("1 key, 2 threads", 2, FULL, &one),
        ("1 k keys, 1 thread", 1, FULL, &thousand),
        ("1 k keys, 2 threads", 2, FULL, &thousand),
        ("1 M keys, zipf, 1 thread", 1, FULL, &million),
        ("1 M keys, zipf, 2 threads", 2, FULL, &million),
        ("1 M keys, zipf, all remembered, 1 thread", 1, OWING, &million),
        ("1 M keys, zipf, all remembered, 2 threads", 2, OWING, &million),
    ] {
        numbers(&clocks, repeats, &Case { title, threads, rate, users });
    }
    for (title, threads, rate) in [
        ("1 M text keys, zipf, 1 thread", 1, FULL),
        ("1 M text keys, zipf, 2 threads", 2, FULL),
        ("1 M text keys, zipf, all remembered, 1 thread", 1, OWING),
        ("1 M text keys, zipf, all remembered, 2 threads", 2, OWING),
    ] {
        text(&clocks, repeats, &Case { title, threads, rate, users: &million });
    }
}
