//! The metrics of a road, in the text format of Prometheus.
//!
//! Labels are names from the config and words of a fixed vocabulary, never anything that a client sends.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};
use seawall::core::breaker::Mode;
use seawall::core::decision::Reason;
use seawall::core::health;
use seawall::core::throttle;
use seawall::core::time::Time;
use seawall::now;

use super::deliveries::Signal;
use super::{Times, UNROUTED, own_throttles, shadowed_by_route, shadowed_by_upstream};
use crate::proxy::fallback;
use crate::proxy::road::{Road, Route, UpstreamView};

type Labels = Vec<(&'static str, String)>;
type Floats = Gauge<f64, AtomicU64>;

/// The metrics of a road, in the text format of Prometheus.
pub(crate) fn metrics(road: &Road) -> String {
    let (mut registry, now) = (Registry::with_prefix("seawall"), now());
    traffic(&mut registry, road);
    response_times(&mut registry, road);
    refusals(&mut registry, road, now);
    attempts(&mut registry, road);
    stand_ins(&mut registry, road, now);
    throttles(&mut registry, road);
    limits(&mut registry, road, now);
    hosts(&mut registry, road, now);
    dependability(&mut registry, road);
    reloads(&mut registry, road);
    deliveries(&mut registry, road);
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

fn set(family: &Family<Labels, Counter>, labels: Labels, value: u64) {
    family.get_or_create(&labels).inc_by(value);
}

fn show(family: &Family<Labels, Floats>, labels: &Labels, value: f64) {
    family.get_or_create(labels).set(value);
}

fn of_route(route: &Route) -> Labels {
    vec![("route", route.matching.name.clone())]
}

fn of_upstream(name: &str) -> Labels {
    vec![("upstream", name.to_owned())]
}

fn with(mut labels: Labels, name: &'static str, value: &str) -> Labels {
    labels.push((name, value.to_owned()));
    labels
}

fn traffic(registry: &mut Registry, road: &Road) {
    let requests = family(registry, "requests", "Requests that matched a route");
    let unrouted = family(registry, "unrouted", "Requests that no route took, by reason");
    let responses = family(registry, "responses", "Responses, by class of status");
    let streams = family(registry, "streams", "Upgraded connections, and calls that go on for long");
    let cut = family(registry, "streams_cut", "Answers whose upstream fell silent");
    let broken = family(registry, "answers_broken", "Good answers that their upstream broke off");
    let not_kept = family(registry, "bodies_not_kept", "Bodies too long to be sent again");
    let mirrored = family(registry, "mirrored", "Requests that a mirror was to get, by what became of it");
    for (reason, counter) in UNROUTED.iter().zip(&road.unrouted.0) {
        set(&unrouted, vec![("reason", (*reason).to_owned())], counter.get());
    }
    for route in &road.routes {
        let stats = &route.stats;
        set(&requests, of_route(route), stats.requests.get());
        for (class, counter) in stats.answered.iter().enumerate() {
            set(&responses, with(of_route(route), "status", &format!("{}xx", class + 1)), counter.get());
        }
        show(&streams, &of_route(route), f64::from(stats.streams.open()));
        set(&cut, of_route(route), stats.streams.cut.get());
        set(&broken, of_route(route), stats.streams.broken.get());
        set(&not_kept, of_route(route), stats.bodies_not_kept.get());
        for (result, counter) in route.mirror.iter().flat_map(|mirror| mirror.stats.all()) {
            set(&mirrored, with(of_route(route), "result", result), counter.get());
        }
    }
}

/// How long the answers of each route took, as they stood when somebody asked.
#[derive(Debug)]
struct ResponseTimes(Vec<(Labels, Spread)>);

/// Answers by class of time, with the upper bound of each in seconds, and the seconds that they took together.
#[derive(Debug)]
struct Spread {
    classes: Vec<(f64, u64)>,
    seconds: f64,
}

impl Spread {
    fn of(times: &Times) -> Spread {
        let (classes, nanos) = times.read();
        let classes = classes
            .map(|(bound, count)| (bound.map_or(f64::INFINITY, |micros| f64::from(micros) / 1e6), count));
        Spread { classes: classes.collect(), seconds: nanos as f64 / 1e9 }
    }
}

impl Collector for ResponseTimes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Time from a request to the head of its answer";
        let mut metric = encoder.encode_descriptor("response_seconds", help, None, MetricType::Histogram)?;
        for (labels, Spread { classes, seconds }) in &self.0 {
            let count = classes.iter().map(|(_, count)| count).sum();
            metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(*seconds, count, classes, None)?;
        }
        Ok(())
    }
}

fn response_times(registry: &mut Registry, road: &Road) {
    let routes = road.routes.iter().map(|route| (of_route(route), Spread::of(&route.stats.times)));
    registry.register_collector(Box::new(ResponseTimes(routes.collect())));
}

fn refusals(registry: &mut Registry, road: &Road, now: Time) {
    let refused = family(registry, "refused", "Requests refused by a policy, by reason");
    let shadowed = family(registry, "shadowed", "What a policy in shadow would have done, and let through");
    let passes = family(registry, "block_share", "The share of traffic that a route's block passes");
    for route in &road.routes {
        for reason in Reason::ALL {
            let count = route.stats.refused[reason as usize].get();
            set(&refused, with(of_route(route), "reason", reason.name()), count);
        }
        for (policy, count) in shadowed_by_route(route, now) {
            set(&shadowed, with(of_route(route), "policy", policy.name()), count);
        }
        show(&passes, &of_route(route), route.snapshot(now).block.share);
    }
    for (name, upstream) in &road.upstreams {
        for (policy, count) in shadowed_by_upstream(upstream, now) {
            set(&shadowed, with(of_upstream(name), "policy", policy.name()), count);
        }
    }
}

fn attempts(registry: &mut Registry, road: &Road) {
    let attempts = family(registry, "attempts", "Attempts sent upstream");
    let failed = family(registry, "upstream_failed", "Calls without an answer of the upstream's own");
    let retries = family(registry, "retries", "Retries that the budget paid for");
    let refunded = family(registry, "retries_refunded", "Of these, retries that were never sent");
    let unpaid = family(registry, "retries_unpaid", "Retries that the budget did not pay for");
    let hedges = family(registry, "hedges", "Hedges that were due, by what became of them");
    for route in &road.routes {
        set(&attempts, of_route(route), route.stats.attempts.get());
        set(&failed, of_route(route), route.stats.upstream_failed.get());
    }
    for (name, upstream) in &road.upstreams {
        let calls = upstream.calls();
        let budget = calls.budget.unwrap_or_default();
        set(&retries, of_upstream(name), budget.withdrawn);
        set(&refunded, of_upstream(name), budget.refunded);
        set(&unpaid, of_upstream(name), budget.refused);
        let Some(of) = calls.hedge else { continue };
        let results = [
            ("won", of.won),
            ("lost", of.sent.saturating_sub(of.won)),
            ("overload", of.overload),
            ("unpaid", of.unpaid),
            ("futile", of.futile),
            ("refused", of.refused),
        ];
        for (result, count) in results {
            set(&hedges, with(of_upstream(name), "result", result), count);
        }
    }
}

/// What is answered where there is no ordinary answer, and what makes it less needed.
fn stand_ins(registry: &mut Registry, road: &Road, now: Time) {
    let fallback =
        family(registry, "fallback", "Answers that a route's fallback gave, by where they came from");
    let entries = family(registry, "cache_entries", "Answers that a route's fallback keeps");
    let bytes = family(registry, "cache_bytes", "Bytes of what a route's fallback keeps");
    let too_large = family(registry, "cache_too_large", "Answers too large for a route's fallback to keep");
    let dimmer = family(registry, "dimmer", "How much less work each request of a route should be given");
    for route in &road.routes {
        show(&dimmer, &of_route(route), route.gate.dimmer(now));
        let layers: Vec<_> = route.with_shares().filter_map(|way| way.fallback.as_ref()).collect();
        if layers.is_empty() {
            continue;
        }
        let counts: Vec<_> = layers.iter().map(|layer| layer.counts()).collect();
        let sum = |of: fn(&seawall::fallback::Counts) -> u64| counts.iter().map(of).sum::<u64>();
        let sources = [
            ("joined", sum(|counts| counts.joined)),
            ("fresh", sum(|counts| counts.fresh)),
            ("revalidating", sum(|counts| counts.revalidating)),
            ("stale", sum(|counts| counts.stale)),
            ("cheaper", sum(|counts| counts.cheaper)),
            ("fixed", sum(|counts| counts.fixed)),
        ];
        for (source, count) in sources {
            set(&fallback, with(of_route(route), "source", source), count);
        }
        let kept: Vec<_> = layers.iter().map(|layer| layer.cache().snapshot()).collect();
        show(&entries, &of_route(route), kept.iter().map(|kept| kept.entries as f64).sum());
        show(&bytes, &of_route(route), kept.iter().map(|kept| kept.bytes as f64).sum());
        set(&too_large, of_route(route), layers.iter().map(|layer| fallback::too_large(layer)).sum());
    }
}

fn throttles(registry: &mut Registry, road: &Road) {
    let evicted = family(registry, "throttle_evicted", "Users displaced before their bucket was full");
    let shared = family(registry, "throttle_shared", "Decisions made on the shared overflow bucket");
    let users = family(registry, "throttle_users", "Users remembered by a throttle");
    let bytes = family(registry, "throttle_bytes", "Bytes of a throttle's table");
    for (labels, of) in tables(road) {
        show(&users, &labels, of.users as f64);
        show(&bytes, &labels, of.bytes as f64);
        set(&evicted, labels.clone(), of.evicted);
        set(&shared, labels, of.shared);
    }
}

/// Every throttle once, with its labels: that of its route, if it is of one, and its own.
fn tables(road: &Road) -> impl Iterator<Item = (Labels, throttle::Snapshot)> {
    let own = road.routes.iter().flat_map(|route| {
        own_throttles(route).map(move |(name, of)| (with(of_route(route), "throttle", name), of))
    });
    let over_all = road.throttles.iter();
    own.chain(over_all.map(|(name, rule)| (vec![("throttle", name.clone())], rule.snapshot())))
}

fn limits(registry: &mut Registry, road: &Road, now: Time) {
    let limit = family(registry, "limit", "Requests that may be in flight to an upstream");
    let in_flight = family(registry, "in_flight", "Requests in flight to an upstream");
    let waiting = family(registry, "waiting", "Requests waiting for a place in flight");
    let delay = family(registry, "queue_delay_seconds", "The delay that a newcomer would meet");
    for name in road.upstreams.keys() {
        let Some(of) = road.way_to(name).and_then(|way| way.snapshot(now).limit) else { continue };
        let labels = of_upstream(name);
        show(&limit, &labels, f64::from(of.limit));
        show(&in_flight, &labels, f64::from(of.in_flight));
        show(&waiting, &labels, f64::from(of.waiting));
        show(&delay, &labels, of.delay.as_secs_f64());
    }
}

fn hosts(registry: &mut Registry, road: &Road, now: Time) {
    let breaker = family(registry, "breaker_state", "0 closed, 1 half-open, 2 open");
    let share = family(registry, "ramp_share", "The share of traffic that the ramp passes");
    let ejected = family(registry, "ejected", "1 while a host is left out for how its calls went");
    let unwell = family(registry, "unwell", "1 while a host fails its health checks");
    let usable = family(registry, "hosts_usable", "Hosts that are neither ejected nor unwell nor held out");
    let panic = family(registry, "panic", "1 while so many hosts are out that all are used");
    for (name, upstream) in &road.upstreams {
        let balanced = upstream.balanced(now);
        show(&usable, &of_upstream(name), balanced.usable as f64);
        show(&panic, &of_upstream(name), flag(balanced.panics));
        for ((host, gate), known) in upstream.hosts.iter().zip(&balanced.hosts) {
            let labels = with(of_upstream(name), "host", host);
            let snapshot = gate.snapshot(now);
            show(&share, &labels, snapshot.share);
            if let Some(of) = snapshot.breaker {
                show(&breaker, &labels, state(of.mode));
            }
            let Some(known) = known else { continue };
            show(&ejected, &labels, flag(UpstreamView::is_out(&balanced, known)));
            if let Some(mode) = known.health {
                show(&unwell, &labels, flag(mode == health::Mode::Unwell));
            }
        }
    }
}

fn reloads(registry: &mut Registry, road: &Road) {
    let (ok, at) = (Floats::default(), Floats::default());
    ok.set(flag(!road.reloads.failed.load(Ordering::Relaxed)));
    at.set(road.reloads.good_at.load(Ordering::Relaxed) as f64);
    registry.register("config_reload_ok", "0 while the last config that was read was refused", ok);
    let help = "When a config was last put in force, in seconds since 1970";
    registry.register("config_reload_seconds", help, at);
}

fn deliveries(registry: &mut Registry, road: &Road) {
    let Some(deliveries) = &road.deliveries else { return };
    let failures = family(registry, "otlp_failures", "Batches that the collector did not take");
    for signal in Signal::ALL {
        set(&failures, vec![("signal", signal.name().to_owned())], deliveries.failures(signal));
    }
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

fn state(mode: Mode) -> f64 {
    match mode {
        Mode::Closed | Mode::ForcedClosed | Mode::MetricsOnly => 0.0,
        Mode::HalfOpen => 1.0,
        Mode::Open | Mode::ForcedOpen => 2.0,
    }
}

fn dependability(registry: &mut Registry, road: &Road) {
    let available =
        family(registry, "availability", "The share of answers that were good, throttled ones aside");
    let budget =
        family(registry, "error_budget_left", "What is left of the bad answers that the objective allows");
    let down = family(registry, "down", "1 while most answers are bad");
    let recovery = family(registry, "time_to_recover_seconds", "The mean time that outages took");
    for route in &road.routes {
        let (answers, outages) = (route.stats.answers(), route.stats.outages());
        let labels = of_route(route);
        show(&available, &labels, answers.availability());
        show(&budget, &labels, answers.budget_left(route.matching.objective));
        show(&down, &labels, flag(outages.is_down()));
        if let Some(mean) = outages.mean() {
            show(&recovery, &labels, mean.as_secs_f64());
        }
    }
}
