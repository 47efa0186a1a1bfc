//! What a config leads to by its names: tables that are each valid, and do nothing or harm together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use seawall_config::model::Step;
use seawall_config::{Config, Route, Throttle, Upstream, Url, UserSource};
use seawall_core::lint::Severity;

use super::{About, Found};

/// What is to be found fault with.
pub(super) fn findings(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    identity(config, &mut found);
    for route in &config.routes {
        found.extend(mirror(route));
        let plans = plans(config, route.throttle.iter().filter(|throttle| !throttle.shared));
        found.extend(plans.map(|plans| plans.about(About::Route(route.name.clone()))));
    }
    for (name, upstream) in &config.upstreams {
        let about = || About::Upstream(name.clone());
        found.extend(leads_back(config, upstream).map(|back| back.about(about())));
        found.extend(unused(config, name).map(|unused| unused.about(about())));
    }
    found
}

/// A finding that is yet to be told where.
struct Placeless {
    rule: &'static str,
    severity: Severity,
    happens: String,
    change: String,
}

impl Placeless {
    fn about(self, about: About) -> Found {
        let Placeless { rule, severity, happens, change } = self;
        Found { about, rule, severity, happens, change }
    }
}

fn identity(config: &Config, found: &mut Vec<Found>) {
    let user = config.identity.user.iter();
    let mut behind = user.skip_while(|source| **source != UserSource::ClientIp);
    let header = |source: &UserSource| match source {
        UserSource::Header(name) => Some(name.clone()),
        UserSource::ClientIp => None,
    };
    if let Some(after) = behind.find_map(header) {
        let never = Placeless {
            rule: "identity-never-asked",
            severity: Severity::Error,
            happens: format!(
                "`header:{after}` never says who a request belongs to: `client-ip` stands before it, and every request has one"
            ),
            change: "put `client-ip` last in `user`".to_owned(),
        };
        found.push(never.about(About::Identity));
    }
    found.extend(plans(config, config.throttle.iter()).map(|plans| plans.about(About::Gateway)));
}

/// Whether one of these throttles has plans that no user can have.
fn plans<'a>(config: &Config, throttles: impl Iterator<Item = &'a Throttle>) -> Option<Placeless> {
    let mut planned = throttles.filter(|throttle| throttle.config.plans.quotas().len() > 1);
    let throttle = planned.next().filter(|_| config.identity.plan.is_none())?;
    Some(Placeless {
        rule: "plans-never-chosen",
        severity: Severity::Error,
        happens: format!(
            "the `plans` of the throttle `{}` apply to nobody: nothing says who has one",
            throttle.name
        ),
        change: "name the header that says it, as in `plan = \"header:x-plan\"` of `[identity]`".to_owned(),
    })
}

fn mirror(route: &Route) -> Option<Found> {
    let mirror = route.mirror.as_ref().filter(|mirror| route.leads_to(&mirror.upstream))?;
    let itself = Placeless {
        rule: "mirror-to-itself",
        severity: Severity::Warning,
        happens: format!(
            "the mirror sends copies to the upstream that serves the route, `{}`: it gets them on top of its load, and what a request changes is changed twice",
            mirror.upstream
        ),
        change: "name another upstream, or leave `mirror` out".to_owned(),
    };
    Some(itself.about(About::Route(route.name.clone())))
}

/// Whether a host is the gateway itself.
fn leads_back(config: &Config, upstream: &Upstream) -> Option<Placeless> {
    let is_own = |host: &&Url| config.listeners.iter().any(|listener| is_at(host, listener.address));
    let host = upstream.hosts.as_slice().iter().find(is_own)?;
    Some(Placeless {
        rule: "upstream-is-gateway",
        severity: Severity::Error,
        happens: format!(
            "`{host}` is where this gateway listens itself: a request goes round until its deadline or the connections are spent"
        ),
        change: "name the address of the service, or another one in `listen`".to_owned(),
    })
}

/// Whether whoever connects to this host on this machine reaches this listener.
fn is_at(host: &Url, listener: SocketAddr) -> bool {
    let name = host.host().trim_matches(['[', ']']);
    let addresses: Vec<IpAddr> = match name {
        "localhost" => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        name => name.parse().into_iter().collect(),
    };
    let reaches = |address: IpAddr| {
        let is_here = address.is_loopback() || address.is_unspecified();
        // One that listens on every address of IPv6 does so for IPv4.
        let is_heard = address.is_ipv4() == listener.is_ipv4() || listener.is_ipv6();
        let all = listener.ip().is_unspecified() && is_here && is_heard;
        address == listener.ip() || all || address.is_unspecified() && listener.ip().is_loopback()
    };
    host.port() == listener.port() && addresses.into_iter().any(reaches)
}

/// Whether nothing leads to the upstream of this name.
fn unused(config: &Config, name: &str) -> Option<Placeless> {
    let by_route = |route: &Route| {
        let mirror = route.mirror.as_ref().is_some_and(|mirror| mirror.upstream == name);
        route.leads_to(name) || mirror || route.fallback.upstreams.iter().any(|upstream| upstream == name)
    };
    let by_model = |upstream: &Upstream| {
        upstream.model.iter().flat_map(|model| &model.script).any(|step| match step {
            Step::Calls(calls) => calls.iter().any(|call| call.to == name),
            Step::Sleep => false,
        })
    };
    let is_used = config.routes.iter().any(by_route) || config.upstreams.values().any(by_model);
    (!is_used).then(|| Placeless {
        rule: "upstream-unused",
        severity: Severity::Advice,
        happens: "no route leads to it, not as a fallback or a mirror either: its settings protect nothing"
            .to_owned(),
        change: format!("add a route with `upstream = \"{name}\"`, or remove it"),
    })
}
