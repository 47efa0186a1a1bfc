//! The lint: whether the settings of a route and its upstream fit together.

use seawall_core::decision::Policy;
use seawall_core::enforcement::Enforcement;
use seawall_core::fallback::Step;
use seawall_core::lint::{self, Breaker, Composition, Finding, Guards, Hedge, Quota, Scope, Severity};
use seawall_core::throttle::Per;
use seawall_core::{breaker, hedge};

use seawall_config::{Config, Route, Throttle, Upstream};

/// What is to be found fault with, by route. What concerns the quotas of the gateway alone is told once, and
/// advice about what stands nowhere in the file is not given.
pub(super) fn findings(config: &Config) -> impl Iterator<Item = (&str, Finding)> {
    let throttles = config.throttle.iter().map(plain_quota).collect();
    let of_gateway = lint::check(&Composition { throttles, ..Composition::default() });
    let routes = config.routes.iter().enumerate();
    let found = routes.filter_map(move |(place, route)| {
        let upstream = config.upstreams.get(&route.upstream)?;
        let mut found = lint::check(&composition(config, route, upstream));
        found.retain(|finding| place == 0 || !of_gateway.contains(finding));
        let unwritten = of_defaults(upstream);
        found.retain(|finding| finding.severity > Severity::Advice || !unwritten.contains(finding));
        Some(found.into_iter().map(|finding| (route.name.as_str(), finding)))
    });
    found.flatten()
}

/// What is found of a route and an upstream for these hosts when nothing else is written.
fn of_defaults(upstream: &Upstream) -> Vec<Finding> {
    let config = Config::for_upstreams(upstream.hosts.clone());
    let bare =
        (config.routes.first()).and_then(|route| Some((route, config.upstreams.get(&route.upstream)?)));
    bare.map(|(route, upstream)| lint::check(&composition(&config, route, upstream))).unwrap_or_default()
}

/// A route and its upstream in plain numbers.
fn composition(config: &Config, route: &Route, upstream: &Upstream) -> Composition {
    let shadowed = Policy::ALL.into_iter().filter(|policy| route.shadow.of(*policy) == Enforcement::Shadow);
    let shadowed = u32::try_from(shadowed.count()).expect("there are few policies");
    let mut plain = Composition {
        deadline: Some(route.deadline),
        grace: Some(config.drain.grace),
        budget_ppm: Some(upstream.budget.ratio_ppm()),
        retrying_layers: 1,
        hedge: route.hedge.map(|config| match config.when() {
            hedge::After::Delay(delay) => Hedge::After(delay),
            hedge::After::Quantile(_) => Hedge::Percentile,
        }),
        breaker: upstream.breaker.as_ref().map(plain_breaker),
        throttles: route.throttle.iter().map(plain_quota).collect(),
        cost: 1,
        guards: Guards {
            configured: u32::from(route.shed.is_some()) + u32::from(!route.throttle.is_empty()) + 1,
            shadowed,
        },
        hosts: u32::try_from(upstream.hosts.as_slice().len()).unwrap_or(u32::MAX),
        ..Composition::default()
    };
    if route.retry.attempts > 1 {
        plain.retry(&route.retry);
    }
    plain.limit(&upstream.limit).lane(&route.limit).fallback(&route.fallback.chain);
    let asks_itself = |step: &Step| match step {
        Step::Upstream(place) if route.weights.is_empty() => {
            route.fallback.upstreams.get(usize::from(*place)) == Some(&route.upstream)
        }
        _ => false,
    };
    for (step, plain) in route.fallback.chain.steps().iter().zip(&mut plain.fallback) {
        if asks_itself(step) {
            *plain = lint::Fallback::SameUpstream;
        }
    }
    if let Some(shed) = &route.shed {
        plain.shed(shed);
    }
    plain
}

fn plain_breaker(config: &breaker::Config) -> Breaker {
    let settings = config.settings();
    let (window_calls, window) = match settings.window {
        breaker::Extent::Calls(calls) => (Some(calls), None),
        breaker::Extent::Time(span) => (None, Some(span)),
    };
    Breaker {
        failure_rate_ppm: settings.failure_rate_ppm,
        consecutive: settings.consecutive,
        window_calls,
        window,
        min_calls: settings.min_calls,
        slow: settings.slow.map(|slow| slow.after),
        open: settings.open,
        lease: settings.lease,
    }
}

fn plain_quota(throttle: &Throttle) -> Quota {
    let quota = throttle.config.quota();
    let scope = match (throttle.config.per, throttle.shared) {
        (Per::User, false) => Scope::User,
        (Per::User, true) => Scope::Everywhere,
        (Per::Route, _) => Scope::Route,
        (Per::Gateway, _) => Scope::Gateway,
    };
    Quota { scope, count: quota.rate().count, per: quota.rate().per, burst: quota.burst() }
}
