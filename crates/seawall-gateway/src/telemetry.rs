//! What the gateway counts, and how it is shown: Prometheus text and JSON.
//!
//! Labels are names from the config and words of a fixed vocabulary, never anything that a client
//! sends. Counters live with their route and survive a reload; gauges are read from the policies'
//! own snapshots when somebody asks.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};
use seawall::core::breaker::Mode;
use seawall::core::decision::Reason;
use seawall::core::enforcement::Enforcement;
use seawall::core::gate::BlockSnapshot;
use seawall::core::throttle;
use seawall::core::time::Time;
use seawall::now;
use serde_json::{Value, json};

use crate::dependability::{Answers, Outages};
use crate::proxy::inbound::Streams;
use crate::proxy::road::{Road, Route};

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
    /// Answers that go on, and upgraded connections.
    pub(crate) streams: Arc<Streams>,
    answered: [Counter; 5],
    refused: [Counter; Reason::ALL.len()],
    outages: Mutex<Outages>,
}

impl RouteStats {
    /// Counts an answer by the class of its status.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.answered[class].inc();
    }

    /// What it answered, as far as that speaks of its dependability.
    fn answers(&self) -> Answers {
        let all: u64 = self.answered.iter().map(Counter::get).sum();
        let (throttled, unkept) = (self.refused[Reason::Throttled as usize].get(), self.unkept.get());
        let bad = self.answered[4].get().saturating_sub(unkept);
        Answers { all: all.saturating_sub(throttled + unkept), bad }
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

/// Requests that no route took, by why.
#[derive(Debug, Default)]
pub(crate) struct Unrouted([Counter; UNROUTED.len()]);

/// Why no route takes a request.
const UNROUTED: [&str; 4] = ["no_route", "malformed", "method", "too_large"];

impl Unrouted {
    /// Counts one.
    pub(crate) fn inc(&self, reason: &str) {
        let counters = UNROUTED.iter().zip(&self.0);
        counters.filter(|(name, _)| **name == reason).for_each(|(_, counter)| _ = counter.inc());
    }
}

type Labels = Vec<(&'static str, String)>;
type Floats = Gauge<f64, AtomicU64>;

/// The metrics of a road, in the text format of Prometheus.
pub(crate) fn metrics(road: &Road) -> String {
    let mut registry = Registry::with_prefix("seawall");
    counters(&mut registry, road);
    gauges(&mut registry, road);
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode(&mut text, &registry);
    text
}

/// A metric with labels, known to the registry.
fn family<M>(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, M>
where
    Family<Labels, M>: Metric + Default + Clone,
{
    let family = Family::default();
    registry.register(name, help, Family::clone(&family));
    family
}

fn counters(registry: &mut Registry, road: &Road) {
    let family = family::<Counter>;
    let requests = family(registry, "requests", "Requests that matched a route");
    let unrouted = family(registry, "unrouted", "Requests that no route took, by reason");
    let responses = family(registry, "responses", "Responses, by class of status");
    let refused = family(registry, "refused", "Requests refused by a policy, by reason");
    let attempts = family(registry, "attempts", "Attempts sent upstream");
    let failed = family(registry, "upstream_failed", "Calls without an answer of the upstream's own");
    let retries = family(registry, "retries", "Retries that the budget paid for");
    let refunded = family(registry, "retries_refunded", "Of these, retries that were never sent");
    let cut = family(registry, "streams_cut", "Answers whose upstream fell silent");
    let not_kept = family(registry, "bodies_not_kept", "Bodies too long to be sent again");
    let mirrored = family(registry, "mirrored", "Requests that a mirror was to get, by what became of it");
    let evicted = family(registry, "throttle_evicted", "Users displaced before their bucket was full");
    let shared = family(registry, "throttle_shared", "Decisions made on the shared overflow bucket");
    let set = |family: &Family<Labels, Counter>, labels: Labels, value: u64| {
        family.get_or_create(&labels).inc_by(value);
    };
    for (reason, counter) in UNROUTED.iter().zip(&road.unrouted.0) {
        set(&unrouted, vec![("reason", (*reason).to_owned())], counter.get());
    }
    for route in &road.routes {
        let name = || ("route", route.matching.name.clone());
        let stats = &route.stats;
        set(&requests, vec![name()], stats.requests.get());
        set(&attempts, vec![name()], stats.attempts.get());
        set(&failed, vec![name()], stats.upstream_failed.get());
        set(&cut, vec![name()], stats.streams.cut.get());
        set(&not_kept, vec![name()], stats.bodies_not_kept.get());
        for (result, counter) in route.mirror.iter().flat_map(|mirror| mirror.stats.all()) {
            set(&mirrored, vec![name(), ("result", result.to_owned())], counter.get());
        }
        for (class, counter) in stats.answered.iter().enumerate() {
            set(&responses, vec![name(), ("status", format!("{}xx", class + 1))], counter.get());
        }
        for reason in Reason::ALL {
            let counter = &stats.refused[reason as usize];
            set(&refused, vec![name(), ("reason", reason.name().to_owned())], counter.get());
        }
    }
    for (labels, of) in tables(road) {
        set(&evicted, labels.clone(), of.evicted);
        set(&shared, labels, of.shared);
    }
    for (name, upstream) in &road.upstreams {
        let (budget, labels) = (upstream.budget(), || vec![("upstream", name.clone())]);
        set(&retries, labels(), budget.withdrawn);
        set(&refunded, labels(), budget.refunded);
    }
}

fn gauges(registry: &mut Registry, road: &Road) {
    let family = family::<Floats>;
    let limit = family(registry, "limit", "Requests that may be in flight to an upstream");
    let in_flight = family(registry, "in_flight", "Requests in flight to an upstream");
    let waiting = family(registry, "waiting", "Requests waiting for a place in flight");
    let streams = family(registry, "streams", "Answers that go on, and upgraded connections");
    let delay = family(registry, "queue_delay_seconds", "The delay that a newcomer would meet");
    let breaker = family(registry, "breaker_state", "0 closed, 1 half-open, 2 open");
    let share = family(registry, "ramp_share", "The share of traffic that the ramp passes");
    let available =
        family(registry, "availability", "The share of answers that were good, throttled ones aside");
    let budget =
        family(registry, "error_budget_left", "What is left of the bad answers that the objective allows");
    let down = family(registry, "down", "1 while most answers are bad");
    let recovery = family(registry, "time_to_recover_seconds", "The mean time that outages took");
    let passes = family(registry, "block_share", "The share of traffic that a route's block passes");
    let users = family(registry, "throttle_users", "Users remembered by a throttle");
    let bytes = family(registry, "throttle_bytes", "Bytes of a throttle's table");
    for route in &road.routes {
        let snapshot = route.snapshot(now());
        let labels = vec![("route", route.matching.name.clone())];
        streams.get_or_create(&labels).set(f64::from(route.stats.streams.open()));
        passes.get_or_create(&labels).set(snapshot.block.share);
        let (answers, outages) = (route.stats.answers(), route.stats.outages());
        available.get_or_create(&labels).set(answers.availability());
        budget.get_or_create(&labels).set(answers.budget_left(route.matching.objective));
        down.get_or_create(&labels).set(f64::from(u8::from(outages.is_down())));
        if let Some(mean) = outages.mean() {
            recovery.get_or_create(&labels).set(mean.as_secs_f64());
        }
    }
    for (labels, of) in tables(road) {
        users.get_or_create(&labels).set(of.users as f64);
        bytes.get_or_create(&labels).set(of.bytes as f64);
    }
    for (name, upstream) in &road.upstreams {
        if let Some(of) = road.way_to(name).and_then(|way| way.snapshot(now()).limit) {
            let labels = vec![("upstream", name.clone())];
            limit.get_or_create(&labels).set(f64::from(of.limit));
            in_flight.get_or_create(&labels).set(f64::from(of.in_flight));
            waiting.get_or_create(&labels).set(f64::from(of.waiting));
            delay.get_or_create(&labels).set(of.delay.as_secs_f64());
        }
        for (host, gate) in &upstream.hosts {
            let snapshot = gate.snapshot(now());
            let labels = vec![("upstream", name.clone()), ("host", host.clone())];
            share.get_or_create(&labels).set(snapshot.share);
            if let Some(of) = snapshot.breaker {
                let state = match of.mode {
                    Mode::Closed | Mode::ForcedClosed | Mode::MetricsOnly => 0.0,
                    Mode::HalfOpen => 1.0,
                    Mode::Open | Mode::ForcedOpen => 2.0,
                };
                breaker.get_or_create(&labels).set(state);
            }
        }
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
        let ejects = balanced.ejection == Enforcement::Enforced;
        let hosts = upstream.hosts.iter().zip(&balanced.hosts).map(|((host, gate), known)| {
            let snapshot = gate.snapshot(now());
            let known = known.as_ref();
            json!({
                "host": host,
                "share": snapshot.share * known.map_or(1.0, |known| known.share),
                "in_flight": known.map(|known| known.load.in_flight),
                "ejected": ejects && known.is_some_and(|known| known.ejection.is_some_and(|of| of.out_until.is_some())),
                "health": known.and_then(|known| known.health).map(|mode| mode.name()),
                "breaker": snapshot.breaker.map(|breaker| json!({
                    "state": breaker.mode.name(), "failure_rate": breaker.failure_rate,
                    "opened": breaker.opened, "refused": breaker.refused,
                })),
            })
        });
        let budget = upstream.budget();
        json!({
            "name": name,
            "hosts": hosts.collect::<Vec<_>>(),
            "usable_hosts": balanced.usable,
            "panic": balanced.panics,
            "ejections_in_shadow": balanced.shadowed,
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

/// Every throttle once, with its labels: that of its route, if it is of one, and its own.
fn tables(road: &Road) -> impl Iterator<Item = (Labels, throttle::Snapshot)> {
    let own = road.routes.iter().flat_map(|route| {
        let labels = |name: &str| vec![("route", route.matching.name.clone()), ("throttle", name.to_owned())];
        own_throttles(route).map(move |(name, of)| (labels(name), of))
    });
    let over_all = road.throttles.iter();
    own.chain(over_all.map(|(name, rule)| (vec![("throttle", name.clone())], rule.snapshot())))
}

fn throttle(name: &str, of: &throttle::Snapshot) -> Value {
    json!({
        "name": name, "users": of.users, "max_users": of.max_users, "throttled": of.throttled,
        "refused": of.refused, "shared": of.shared, "evicted": of.evicted, "bytes": of.bytes,
    })
}

fn millis(span: seawall::core::time::Span) -> f64 {
    span.as_secs_f64() * 1e3
}
