//! `[route.NAME]`: which requests belong together, where they go, and what each may take.

use std::cmp::Reverse;

use http::HeaderName;
use seawall_core::call;
use seawall_core::limit;
use seawall_core::request::Tier;
use seawall_core::shed;
use seawall_core::time::Span;

use super::identity::{Table, header};
use super::pattern::{HostPattern, PathPattern};
use super::reader::{Field, Named, Section};
use super::report::{Malformed, quoted, suggestion};
use super::throttle::{self, Throttle};
use super::upstream::{PLACES_MAX, duration};
use super::{retry, units};

/// The time until a response must begin when nothing else is said.
const DEADLINE: Span = Span::from_secs(15);

/// How much a request matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TierRule {
    /// The header that says it, if one does; counts from trusted proxies only.
    pub(crate) header: Option<HeaderName>,
    /// What counts without a word from there; default `critical`.
    pub(crate) default: Tier,
}

/// Requests that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Its name in metrics, state and logs; unique.
    pub(crate) name: String,
    /// The hosts that it answers for; default every host.
    pub(crate) host: HostPattern,
    /// The paths that it takes; default every path.
    pub(crate) path: PathPattern,
    /// The name of its upstream, which exists.
    pub(crate) upstream: String,
    /// The time until a response must begin; default 15 s.
    pub(crate) deadline: Span,
    /// How much its requests matter.
    pub(crate) tier: TierRule,
    /// The quotas that a request spends, in the order of the file; at most 8, default none.
    pub(crate) throttle: Vec<Throttle>,
    /// Its bounds under the limit of the upstream; default none of its own.
    pub(crate) limit: limit::Lane,
    /// Its load shedding; `None` when turned off.
    pub(crate) shed: Option<shed::Config>,
    /// Its attempts and the waits between them; one attempt when turned off.
    pub(crate) retry: call::Config,
}

impl Route {
    /// Every request, to this upstream, with every default.
    pub(crate) fn new(name: &str, upstream: &str) -> Route {
        Route {
            name: name.to_owned(),
            host: HostPattern::Any,
            path: PathPattern::ALL,
            upstream: upstream.to_owned(),
            deadline: DEADLINE,
            tier: TierRule::default(),
            throttle: Vec::new(),
            limit: limit::Lane::default(),
            shed: Some(shed::Config::default()),
            retry: call::Config::default(),
        }
    }

    /// Whether a request for this host, without port, and path, without query, belongs here.
    pub(crate) fn matches(&self, host: &str, path: &str) -> bool {
        self.host.matches(host) && self.path.matches(path)
    }

    /// Reads `[route.NAME]`; what cannot be read is reported and left at its default.
    fn read(name: &str, section: &mut Section<'_>, table: Table, upstreams: &[&str]) -> Route {
        let mut route = Route::new(name, "");
        let text = "a text";
        route.path = section.value("path", route.path, |field| field.parsed(text, PathPattern::parse));
        route.host = section.value("host", route.host, |field| field.parsed(text, HostPattern::parse));
        let example = format!("\"{}\"", upstreams.first().unwrap_or(&"NAME"));
        let upstream = section.required("upstream", &example, |field| existing(field, upstreams));
        route.upstream = upstream.unwrap_or_default();
        route.deadline = section.value("deadline", route.deadline, duration);
        route.tier = section.value("tier", route.tier, tier);
        route.throttle = section.value("throttle", Vec::new(), |field| throttle::read(field, table));
        route.limit = section.section("limit").map(lane).unwrap_or_default();
        if let Some(field) = section.field("shed") {
            route.shed = if field.is_off() { None } else { field.section().map(shed_in) };
        }
        if let Some(field) = section.field("retry") {
            route.retry = retry::read(&field);
        }
        route
    }
}

/// Reads all `[route.NAME]`, the most specific first.
pub(super) fn read_all(sections: Vec<Named<'_>>, table: Table, upstreams: &[&str]) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::with_capacity(sections.len());
    for Named { name, mut section } in sections {
        let route = Route::read(name, &mut section, table, upstreams);
        if let Some(other) = routes.iter().find(|other| other.host == route.host && other.path == route.path)
        {
            let same = format!("the routes `{}` and {} take the same requests", other.name, quoted(name));
            let both = format!("both have `path = \"{}\"`, for {}", route.path, route.host);
            section.reject(Malformed::new(same).help(both));
        }
        section.finish();
        routes.push(route);
    }
    routes.sort_by_key(|route| Reverse((route.host.rank(), route.path.rank())));
    routes
}

fn existing(field: &Field<'_>, upstreams: &[&str]) -> Result<String, Malformed> {
    match field.text() {
        Some(name) if upstreams.contains(&name) => Ok(name.to_owned()),
        Some(name) => {
            let malformed = Malformed::new(format!("there is no upstream {}", quoted(name)));
            Err(malformed.help(suggestion(name, upstreams.iter().copied())))
        }
        None => Err(field.is_not("the name of an upstream")),
    }
}

/// Reads a plain tier, or the header that names it and what counts without.
fn tier(field: &Field<'_>) -> Result<TierRule, Malformed> {
    if field.text().is_some() {
        return Ok(TierRule { header: None, default: tier_name(field)? });
    }
    let Some(mut section) = field.section() else { return Ok(TierRule::default()) };
    let name = section.required("header", "\"x-tier\"", |field| field.parsed("the name of a header", header));
    let rule = TierRule { header: name, default: section.value("default", Tier::default(), tier_name) };
    section.finish();
    Ok(rule)
}

fn tier_name(field: &Field<'_>) -> Result<Tier, Malformed> {
    field.word(&Tier::ALL.map(|tier| (tier.name(), tier)))
}

fn lane(mut section: Section<'_>) -> limit::Lane {
    let none = limit::Lane::default();
    if let Some(field) = section.field("adaptive") {
        let malformed = Malformed::new("a route only bounds itself: adaptive belongs to the upstream");
        field.reject(malformed.help("move it to `limit` of `[upstream.NAME]`"));
    }
    let lane = limit::Lane {
        max: section.value("max", none.max, |field| field.number(1..=PLACES_MAX)),
        queue: section.value("queue", none.queue, |field| field.number(0..=PLACES_MAX)),
    };
    section.finish();
    lane
}

fn shed_in(mut section: Section<'_>) -> shed::Config {
    let target = section.value("queue_delay", shed::TARGET, |field| {
        field.parsed("a duration such as `16ms`", units::duration)
    });
    section.finish();
    shed::Config { target, ..shed::Config::default() }
}
