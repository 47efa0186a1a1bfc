//! A route at work, and the ways that its requests may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use seawall::Threads;
use seawall::call::Upstream;
use seawall::core::call;
use seawall::core::gate::{Gate, Snapshot};
use seawall::core::request::Tier;
use seawall::core::time::{Span, Time};
use seawall::http::Refusals;
use seawall_config as config;

use super::access::Trail;
use super::fallback;
use super::headers::sought;
use super::inbound::Bounds;
use super::mirror::Mirror;
use super::outgoing::Outgoing;
use super::upstream::Target;
use crate::telemetry::RouteStats;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A route at work.
pub(crate) struct Route {
    /// What it matches, and its name.
    pub(crate) matching: config::Route,
    /// The front gate.
    pub(crate) gate: Arc<Gate<Threads>>,
    /// What its calls go through.
    pub(crate) upstream: Arc<Upstream>,
    /// The hosts, in the order of the upstream's gates.
    pub(crate) targets: Arc<[Target]>,
    /// How its calls are made.
    pub(crate) call: call::Config,
    /// The time until a response must begin.
    pub(crate) deadline: Span,
    /// Its answers for refusals.
    pub(crate) refusals: Refusals,
    /// What stands in where there is no ordinary answer.
    pub(crate) fallback: Option<fallback::Layer>,
    /// The cheaper upstreams of the fallback, as routes of their own.
    pub(crate) cheaper: Vec<Arc<Route>>,
    /// What it counts.
    pub(crate) stats: Arc<RouteStats>,
    /// The upstream that gets copies.
    pub(crate) mirror: Option<Mirror>,
    /// The same route with each of its upstreams, where there are several.
    pub(super) shares: Shares,
    pub(super) tier_header: Option<HeaderName>,
    /// Whether the log wants to know what becomes of its requests on their way.
    pub(super) is_told: bool,
    /// Whether its upstream is told how much time is left.
    pub(super) tells_time: bool,
}

/// The upstreams of a route that share its requests.
#[derive(Default)]
pub(super) struct Shares {
    /// Each with its weight.
    routes: Vec<(u32, Arc<Route>)>,
    /// Requests so far.
    taken: AtomicU64,
}

/// Consecutive multiples of it, in parts of 2^64, are spread evenly (the golden ratio).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Shares {
    pub(super) fn new(routes: Vec<(u32, Arc<Route>)>) -> Shares {
        Shares { routes, taken: AtomicU64::new(0) }
    }

    fn next(&self) -> Option<&Arc<Route>> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let at = spread(number, self.routes.iter().map(|(weight, _)| *weight))?;
        self.routes.get(at).map(|(_, route)| route)
    }
}

/// Whose turn it is: evenly spread, so that also few requests are shared as the weights say.
fn spread(number: u64, weights: impl Iterator<Item = u32> + Clone) -> Option<usize> {
    let total: u64 = weights.clone().map(u64::from).sum();
    let mut point = ((number.wrapping_mul(SPREAD) >> 32) * total) >> 32;
    weights.map(u64::from).position(|weight| match point.checked_sub(weight) {
        Some(rest) => {
            point = rest;
            false
        }
        None => true,
    })
}

impl Route {
    /// The route with the upstream whose turn it is.
    pub(crate) fn in_turn(self: &Arc<Self>) -> &Arc<Route> {
        if self.shares.routes.is_empty() { self } else { self.shares.next().unwrap_or(self) }
    }

    /// It and those that share its requests.
    pub(crate) fn with_shares(&self) -> impl Iterator<Item = &Route> {
        let shares = self.shares.routes.iter().map(|(_, route)| &**route);
        std::iter::once(self).filter(|route| route.shares.routes.is_empty()).chain(shares)
    }

    /// Where it is noted who is asked for this request, which goes its way; `None` if nobody wants to know.
    pub(super) fn trail(&self, request: &Outgoing) -> Option<Arc<Trail>> {
        let trail = if self.is_told { request.extensions().get::<Arc<Trail>>().cloned() } else { None };
        trail.iter().for_each(|trail| trail.leads_to(&self.matching.upstream));
        trail
    }

    /// Every way from here: its own, those that share its requests, cheaper ones and the mirror.
    pub(crate) fn ways(&self) -> impl Iterator<Item = &Route> {
        let mirror = self.mirror.iter().map(|mirror| &*mirror.route);
        let cheaper = self.with_shares().flat_map(|route| &route.cheaper).map(|route| &**route);
        self.with_shares().chain(cheaper).chain(mirror)
    }

    /// How its answers are bounded in time.
    pub(super) fn bounds(&self) -> Bounds {
        let streams = &self.matching.streams;
        Bounds { idle: streams.idle.into(), long: self.deadline.into(), streams: streams.max }
    }

    /// Whether this request may be sent again, if its body can.
    pub(crate) fn may_repeat<B>(&self, request: &Request<B>) -> bool {
        let keyed = self.matching.replay.idempotency_key && request.headers().contains_key(IDEMPOTENCY_KEY);
        (keyed || request.method().is_idempotent()) && self.call.attempts > 1
    }

    /// Whether its hosts may say that they took nothing of a request, so that any may be sent again.
    pub(super) fn may_return(&self) -> bool {
        self.call.attempts > 1 && self.targets.iter().any(|host| host.protocol == config::Protocol::H2c)
    }

    /// How much a request matters; only a trusted peer may say so itself.
    pub(crate) fn tier(&self, headers: &HeaderMap, trusted: bool) -> Tier {
        let said = self.tier_header.as_ref().filter(|_| trusted).and_then(|name| sought(headers, name));
        said.and_then(|tier| Tier::from_name(tier.to_str().ok()?)).unwrap_or(self.matching.tier.default)
    }

    /// The number of the plan that a trusted peer names; 0 is what counts without.
    pub(crate) fn plan(&self, named: &HeaderValue) -> u8 {
        let plans = self.matching.plans.iter();
        let number = plans.zip(1..).find(|(name, _)| name.as_bytes() == named.as_bytes());
        number.map_or(0, |(_, number)| number)
    }

    /// Plain values of its front gate.
    pub(crate) fn snapshot(&self, now: Time) -> Snapshot {
        self.gate.snapshot(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_shared_as_the_weights_say_among_few_requests_too() {
        for (weights, requests) in
            [(&[1, 1][..], 10), (&[90, 10], 100), (&[9_999, 1], 100_000), (&[3, 0, 1], 8), (&[1; 7], 50)]
        {
            let mut counts = vec![0_u64; weights.len()];
            (0..requests).filter_map(|n| spread(n, weights.iter().copied())).for_each(|at| counts[at] += 1);
            let total: u64 = weights.iter().sum::<u32>().into();
            for (count, weight) in counts.iter().zip(weights) {
                let due = requests * u64::from(*weight) / total;
                let allowed = if *weight == 0 { 0 } else { 1 };
                assert!(count.abs_diff(due) <= allowed, "{weights:?}: {counts:?}");
            }
        }
    }
}
