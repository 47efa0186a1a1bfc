//! What the gateway counts, and how it is shown: as JSON here, to Prometheus in [`metrics`].
//!
//! Counters live with their route and survive a reload; all else is read from the policies' own snapshots when
//! somebody asks.

mod deliveries;
mod metrics;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use seawall::core::decision::{Policy, Reason};
use seawall::core::gate::BlockSnapshot;
use seawall::core::throttle;
use seawall::core::time::{Span, Time};
use seawall::now;
use serde_json::{Value, json};

use crate::dependability::{Answers, Outages};
use crate::proxy::inbound::Streams;
use crate::proxy::road::{Road, Route, UpstreamView};

pub(crate) use deliveries::Deliveries;
#[cfg(feature = "otlp")]
pub(crate) use deliveries::Signal;
pub(crate) use metrics::metrics;

/// What a route counts.
#[derive(Debug, Default)]
pub(crate) struct RouteStats {
    /// Requests that matched it.
    pub(crate) requests: Counter,
    /// Attempts sent to its upstream.
    pub(crate) attempts: Counter,
    /// Calls that ended without an answer of the upstream's own.
    pub(crate) upstream_failed: Counter,
    /// Bodies that were too long to be kept, so that their requests could not be sent again.
    pub(crate) bodies_not_kept: Counter,
    /// Requests that took only what was kept, and nothing was: they were answered as they asked.
    pub(crate) unkept: Counter,
    /// Upgraded connections, and calls that go on for long.
    pub(crate) streams: Arc<Streams>,
    answered: [Counter; 5],
    times: Times,
    refused: [Counter; Reason::ALL.len()],
    outages: Mutex<Outages>,
}

impl RouteStats {
    /// Counts an answer by the class of its status, and by how long after the request its head was there.
    pub(crate) fn answered(&self, status: StatusCode, time: Span) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.answered[class].inc();
        self.times.add(time);
    }

    /// What it answered, as far as that speaks of its dependability.
    fn answers(&self) -> Answers {
        let all: u64 = self.answered.iter().map(Counter::get).sum();
        let (throttled, unkept) = (self.refused[Reason::Throttled as usize].get(), self.unkept.get());
        let all = all.saturating_sub(throttled + unkept);
        let bad = self.answered[4].get().saturating_sub(unkept) + self.streams.spoilt.get();
        Answers { all, bad }
    }

    fn outages(&self) -> Outages {
        *self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A second has passed.
    pub(crate) fn second(&self, now: Time) {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner).observe(now, self.answers());
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, reason: Reason) {
        self.refused[reason as usize].inc();
    }
}

/// Upper bounds of the classes of [`Times`], in microseconds; above the last is one more.
const TIMES: [u32; 13] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// How long answers took.
#[derive(Debug, Default)]
struct Times {
    classes: [AtomicU64; TIMES.len() + 1],
    nanos: AtomicU64,
}

impl Times {
    fn add(&self, time: Span) {
        let class = TIMES.partition_point(|bound| u64::from(*bound) * 1_000 < time.as_nanos());
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(time.as_nanos(), Ordering::Relaxed);
    }

    /// Each class with its upper bound in microseconds, of which the last has none, and the nanoseconds of all.
    fn read(&self) -> (impl Iterator<Item = (Option<u32>, u64)>, u64) {
        let bounds = TIMES.into_iter().map(Some).chain([None]);
        let counts = self.classes.iter().map(|count| count.load(Ordering::Relaxed));
        (bounds.zip(counts), self.nanos.load(Ordering::Relaxed))
    }
}

/// How the last reload ended, and when one was last good.
#[derive(Debug)]
pub(crate) struct Reloads {
    failed: AtomicBool,
    /// In seconds since 1970.
    good_at: AtomicU64,
}

impl Default for Reloads {
    fn default() -> Reloads {
        Reloads { failed: AtomicBool::new(false), good_at: AtomicU64::new(seconds()) }
    }
}

impl Reloads {
    /// A config was put in force.
    pub(crate) fn succeeded(&self) {
        self.failed.store(false, Ordering::Relaxed);
        self.good_at.store(seconds(), Ordering::Relaxed);
    }

    /// A file was refused.
    pub(crate) fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Requests that no route took, by why.
#[derive(Debug, Default)]
pub(crate) struct Unrouted([Counter; UNROUTED.len()]);

/// Why no route takes a request.
const UNROUTED: [&str; 5] = ["no_route", "malformed", "method", "too_large", "slow"];

impl Unrouted {
    /// Counts one.
    pub(crate) fn inc(&self, reason: &str) {
        let counters = UNROUTED.iter().zip(&self.0);
        counters.filter(|(name, _)| **name == reason).for_each(|(_, counter)| _ = counter.inc());
    }
}

/// The state of a road, as JSON.
pub(crate) fn state(road: &Road) -> Value {
    let routes = road.routes.iter().map(|route| {
        let snapshot = route.snapshot(now());
        let refused: serde_json::Map<String, Value> = Reason::ALL
            .into_iter()
            .map(|reason| (reason.name().to_owned(), route.stats.refused[reason as usize].get().into()))
            .collect();
        json!({
            "name": route.matching.name,
            "upstream": route.matching.upstream,
            "block": block(&snapshot.block),
            "dependability": dependability(route),
            "requests": route.stats.requests.get(),
            "attempts": route.stats.attempts.get(),
            "refused": refused,
            "shadowed": counts(shadowed_by_route(route, now())),
            "throttles": own_throttles(route).map(|(name, of)| throttle(name, &of)).collect::<Vec<_>>(),
            "shed": snapshot.shed.map(|shed| json!({
                "target_ms": millis(shed.target), "dropped": shed.dropped,
            })),
            "limit": snapshot.limit.map(|limit| json!({
                "limit": limit.limit, "in_flight": limit.in_flight, "waiting": limit.waiting,
                "queue_stands": limit.stands, "queue_delay_ms": millis(limit.delay),
                "no_load_latency_ms": limit.baseline.map(millis), "full": limit.full, "expired": limit.expired,
            })),
        })
    });
    let upstreams = road.upstreams.iter().map(|(name, upstream)| {
        let balanced = upstream.balanced(now());
        let hosts = upstream.hosts.iter().zip(&balanced.hosts).map(|((host, gate), known)| {
            let snapshot = gate.snapshot(now());
            let known = known.as_ref();
            json!({
                "host": host,
                "share": snapshot.share * known.map_or(1.0, |known| known.share),
                "in_flight": known.map(|known| known.load.in_flight),
                "ejected": known.is_some_and(|known| UpstreamView::is_out(&balanced, known)),
                "health": known.and_then(|known| known.health).map(|mode| mode.name()),
                "breaker": snapshot.breaker.map(|breaker| json!({
                    "state": breaker.mode.name(), "failure_rate": breaker.failure_rate,
                    "opened": breaker.opened, "refused": breaker.refused,
                })),
            })
        });
        let budget = upstream.calls().budget.unwrap_or_default();
        json!({
            "name": name,
            "hosts": hosts.collect::<Vec<_>>(),
            "usable_hosts": balanced.usable,
            "panic": balanced.panics,
            "shadowed": counts(shadowed_by_upstream(upstream, now())),
            "budget": { "balance": budget.balance, "retries": budget.withdrawn, "refunded": budget.refunded, "refused": budget.refused },
        })
    });
    let throttles = road.throttles.iter().map(|(name, rule)| throttle(name, &rule.snapshot()));
    json!({
        "routes": routes.collect::<Vec<_>>(),
        "upstreams": upstreams.collect::<Vec<_>>(),
        "throttles": throttles.collect::<Vec<_>>(),
    })
}

/// What the policies of a route would have refused that are in shadow.
fn shadowed_by_route(route: &Route, now: Time) -> [(Policy, u64); 3] {
    let gates: Vec<_> = route.with_shares().map(|way| way.snapshot(now)).collect();
    [Policy::Throttle, Policy::Shed, Policy::Limit]
        .map(|policy| (policy, gates.iter().map(|gate| gate.shadowed[policy as usize]).sum()))
}

/// What the policies of an upstream would have done that are in shadow.
fn shadowed_by_upstream(upstream: &UpstreamView, now: Time) -> [(Policy, u64); 4] {
    let calls = upstream.calls();
    let gates = upstream.hosts.iter().map(|(_, gate)| gate.snapshot(now));
    [
        (Policy::Breaker, gates.map(|gate| gate.shadowed[Policy::Breaker as usize]).sum()),
        (Policy::Eject, upstream.balanced(now).shadowed),
        (Policy::Retry, calls.shadowed),
        (Policy::Hedge, calls.hedge.unwrap_or_default().shadowed),
    ]
}

/// Counts by policy, as JSON.
fn counts<const N: usize>(of: [(Policy, u64); N]) -> serde_json::Map<String, Value> {
    of.into_iter().map(|(policy, count)| (policy.name().to_owned(), count.into())).collect()
}

fn dependability(route: &Route) -> Value {
    let (answers, outages) = (route.stats.answers(), route.stats.outages());
    json!({
        "availability": answers.availability(),
        "objective": f64::from(route.matching.objective) / 1e6,
        "error_budget_left": answers.budget_left(route.matching.objective),
        "down": outages.is_down(),
        "outages": outages.over,
        "time_to_recover_s": outages.mean().map(|mean| mean.as_secs_f64()),
        "last_outage_s": (outages.over > 0).then(|| outages.last.as_secs_f64()),
    })
}

/// A block, as JSON.
pub(crate) fn block(block: &BlockSnapshot) -> Value {
    json!({ "state": block.mode.name(), "share": block.share, "why": block.why.as_deref(), "refused": block.refused })
}

/// The throttles that are a route's own, by name.
fn own_throttles(route: &Route) -> impl Iterator<Item = (&str, throttle::Snapshot)> {
    let throttles = route.matching.throttle.iter().zip(route.gate.rules());
    let own = throttles.filter(|(throttle, _)| !throttle.shared);
    own.map(|(throttle, rule)| (throttle.name.as_str(), rule.snapshot()))
}

fn throttle(name: &str, of: &throttle::Snapshot) -> Value {
    json!({
        "name": name, "users": of.users, "max_users": of.max_users, "throttled": of.throttled,
        "refused": of.refused, "shared": of.shared, "evicted": of.evicted, "bytes": of.bytes,
    })
}

fn millis(span: Span) -> f64 {
    span.as_secs_f64() * 1e3
}
