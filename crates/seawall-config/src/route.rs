//! `[route.NAME]`: which requests belong together, where they go, and what each may take.

use std::cmp::Reverse;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use seawall_core::call;
use seawall_core::enforcement::Stance;
use seawall_core::gate;
use seawall_core::hedge;
use seawall_core::limit;
use seawall_core::measure::bucket::Rate;
use seawall_core::measure::quantile::Quantile;
use seawall_core::request::Tier;
use seawall_core::shed;
use seawall_core::shed::guard::{Guards, Mark};
use seawall_core::time::Span;

use super::fallback::{self, Fallback};
use super::identity::{Table, header};
use super::model;
use super::path::NormalPath;
use super::pattern::{HostPattern, PathPattern};
use super::reader::{Field, Named, Section};
use super::report::{Malformed, quoted, suggestion};
use super::retry::{self, Replay};
use super::shadow;
use super::split::{self, Mirror};
use super::throttle::{self, Throttle, Throttles};
use super::units;
use super::upstream::{PLACES_MAX, duration, percent, percentage};

/// The share of answers that shall be good when nothing else is said, in parts per million.
pub const OBJECTIVE: u32 = 999_000;

/// The time until a response must begin when nothing else is said.
const DEADLINE: Span = Span::from_secs(15);

/// Headers by which a request finds its way, is framed, or belongs to one hop.
const TAKEN: [&str; 18] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// The most methods of a route.
const METHODS_MAX: usize = 16;

/// How much a request matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierRule {
    /// The header that says it, if one does; counts from trusted proxies only.
    pub header: Option<HeaderName>,
    /// What counts without a word from there; default `critical`.
    pub default: Tier,
}

/// Bounds of bodies and other streams, where the deadline of the response does not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    /// How long a client may send nothing of a body that the upstream waits for; default 30 s.
    pub stall: Span,
    /// How many bytes of a body a client must send on average, once the deadline is over that a request without a
    /// body would have; default 1000 each second.
    pub pace: Rate,
    /// How long an upstream may send nothing of a body that it began, or neither side of a gRPC call while its client
    /// streams; default 5 min.
    pub idle: Span,
    /// The most long streams and upgraded connections at a time; default 1024.
    pub max: u32,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            stall: Span::from_secs(30),
            pace: Rate::per_second(1_000),
            idle: Span::from_secs(300),
            max: 1_024,
        }
    }
}

/// What the rest of the file says that a route is read by.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    /// The table of users of each throttle.
    pub(super) table: Table,
    /// Those of the gateway.
    pub(super) throttles: &'a Throttles,
    /// The names of the upstreams.
    pub(super) upstreams: &'a [&'a str],
}

/// Requests that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name in metrics, state and logs; unique.
    pub name: String,
    /// The hosts that it answers for; default every host.
    pub host: HostPattern,
    /// The paths that it takes; default every path.
    pub path: PathPattern,
    /// The methods that it takes; empty for all, the default.
    pub methods: Vec<Method>,
    /// The headers that its requests have, with these values; default none.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The name of its upstream, which exists; of several, the heaviest.
    pub upstream: String,
    /// The upstreams that share its requests, with their weights; empty for just one.
    pub weights: Vec<(String, u32)>,
    /// The upstream that gets copies of its requests; default none.
    pub mirror: Option<Mirror>,
    /// The time until a response must begin, from when the request has come as a whole; default 15 s. Each attempt
    /// tells its host how much of it is left, in `x-envoy-expected-rq-timeout-ms`.
    pub deadline: Span,
    /// How much its requests matter.
    pub tier: TierRule,
    /// The quotas that a request spends, in the order of the file, those of the gateway first; at most 8 of
    /// each, default none.
    pub throttle: Vec<Throttle>,
    /// The names of the plans of those quotas, by their numbers from 1 on.
    pub plans: Vec<String>,
    /// Its bounds under the limit of the upstream; default none of its own.
    pub limit: limit::Lane,
    /// Its load shedding; `None` when turned off.
    pub shed: Option<shed::Config>,
    /// Its attempts and the waits between them; one attempt when turned off.
    pub retry: call::Config,
    /// Which requests may be sent again at all.
    pub replay: Replay,
    /// Whether and when slow calls are sent to another host, too; default they are not.
    pub hedge: Option<hedge::Config>,
    /// What stands in where there is no ordinary answer; default nothing.
    pub fallback: Fallback,
    /// May be allowed to fail: the first to be sacrificed, never retried; default false.
    pub optional: bool,
    /// Policies that decide and count, and let through all the same; default none.
    pub shadow: Stance,
    /// The header that tells the upstream how much less work to do, 0 to 1; default none.
    pub dimmer: Option<HeaderName>,
    /// The share of answers that shall be good, in parts per million; default 99.9 %.
    pub objective: u32,
    /// The largest body of a request, in bytes; default no bound.
    pub max_body: Option<u64>,
    /// How bodies and other streams are bounded in time.
    pub streams: Streams,
    /// Who calls it; read only by `check` and the lab.
    pub model: Option<model::Load>,
}

impl Route {
    /// Every request, to this upstream, with every default.
    pub fn new(name: &str, upstream: &str) -> Route {
        Route {
            name: name.to_owned(),
            host: HostPattern::Any,
            path: PathPattern::ALL,
            methods: Vec::new(),
            headers: Vec::new(),
            upstream: upstream.to_owned(),
            weights: Vec::new(),
            mirror: None,
            deadline: DEADLINE,
            tier: TierRule::default(),
            throttle: Vec::new(),
            plans: Vec::new(),
            limit: limit::Lane::default(),
            shed: Some(shed::Config::default()),
            retry: call::Config::default(),
            replay: Replay::default(),
            hedge: None,
            fallback: Fallback::default(),
            optional: false,
            shadow: Stance::default(),
            dimmer: None,
            objective: OBJECTIVE,
            max_body: None,
            streams: Streams::default(),
            model: None,
        }
    }

    /// Whether a request for this host, without port, and path belongs here.
    pub fn matches(&self, host: &str, path: &NormalPath<'_>, method: &Method, headers: &HeaderMap) -> bool {
        let has =
            |(name, value): &(HeaderName, HeaderValue)| headers.get_all(name).iter().any(|is| is == value);
        self.host.matches(host)
            && self.path.matches(path)
            && (self.methods.is_empty() || self.methods.contains(method))
            && self.headers.iter().all(has)
    }

    /// Its lane under the limit of its upstream.
    pub fn lane(&self) -> gate::Lane {
        gate::Lane { limit: self.limit, shed: self.shed }
    }

    /// How specific it is, after host and path.
    fn conditions(&self) -> (usize, bool) {
        (self.headers.len(), !self.methods.is_empty())
    }

    /// Whether it takes the same requests as another one.
    fn is_like(&self, other: &Route) -> bool {
        let same = (&self.host, &self.path, &self.headers) == (&other.host, &other.path, &other.headers);
        let meet =
            self.methods == other.methods || self.methods.iter().any(|method| other.methods.contains(method));
        same && meet
    }

    /// The first to be dropped, and never tried again.
    fn sacrifice(&mut self) {
        self.tier = TierRule { header: None, default: Tier::Sheddable };
        self.retry.attempts = 1;
        self.hedge = None;
    }

    /// Whether its requests may go to this upstream, cheaper ones and mirrors aside.
    pub fn leads_to(&self, upstream: &str) -> bool {
        self.upstream == upstream || self.weights.iter().any(|(name, _)| name == upstream)
    }

    /// This route with another of its upstreams.
    pub fn through(&self, upstream: &str) -> Route {
        Route { upstream: upstream.to_owned(), ..self.clone() }
    }

    /// This route as its mirror gets copies: the first to be dropped, one attempt, no quota.
    pub fn mirrored(&self, mirror: &Mirror) -> Route {
        Route { tier: TierRule { header: None, default: Tier::Sheddable }, ..self.cheaper(&mirror.upstream) }
    }

    /// This route as a cheaper upstream stands in for its own: one attempt, no quota, nothing behind.
    pub fn cheaper(&self, upstream: &str) -> Route {
        Route {
            upstream: upstream.to_owned(),
            weights: Vec::new(),
            mirror: None,
            throttle: Vec::new(),
            retry: call::Config { attempts: 1, ..self.retry },
            hedge: None,
            fallback: Fallback::default(),
            ..self.clone()
        }
    }

    /// Reads `[route.NAME]`; what cannot be read is reported and left at its default.
    fn read(name: &str, section: &mut Section<'_>, around: &Around<'_>) -> Route {
        let Around { table, throttles, upstreams } = *around;
        let mut route = Route::new(name, "");
        let text = "a text";
        route.path = section.value("path", route.path, |field| field.parsed(text, PathPattern::parse));
        route.host = section.value("host", route.host, |field| field.parsed(text, HostPattern::parse));
        route.methods = section.value("method", route.methods, methods);
        route.headers = section.tables_of_texts("headers", header_value);
        let weights = split::upstreams(section, upstreams);
        route.upstream = weights[0].0.clone();
        route.weights = if weights.len() > 1 { weights } else { Vec::new() };
        route.deadline = section.value("deadline", route.deadline, duration);
        route.tier = section.value("tier", route.tier, tier);
        let own = section.optional("throttle", |field| throttle::of_route(field, table, throttles));
        let throttles = own.unwrap_or_else(|| throttles.clone());
        (route.throttle, route.plans) = (throttles.throttles, throttles.plans);
        route.limit = section.section("limit").map(lane).unwrap_or_default();
        if let Some(field) = section.field("shed") {
            route.shed = if field.is_off() { None } else { field.section().map(shed_in) };
        }
        if let Some(field) = section.field("retry") {
            (route.retry, route.replay) = retry::read(&field);
        }
        if let Some(field) = section.field("hedge").filter(|field| !field.is_off()) {
            route.hedge = field.section().map(hedge_in);
        }
        route.fallback = section.value("fallback", route.fallback, |field| fallback::read(field, upstreams));
        route.shadow = shadow::stance(section, &shadow::OF_ROUTE);
        route.dimmer = section.optional("dimmer", |field| field.parsed("the name of a header", own_header));
        route.objective = section.value("objective", OBJECTIVE, percentage);
        route.max_body =
            section.optional("max_body", |field| field.parsed("a size such as `1MiB`", units::size));
        route.streams = section.section("streams").map(streams).unwrap_or_default();
        let mirror = section.field("mirror").filter(|field| !field.is_off());
        route.mirror = mirror.and_then(|field| split::mirror(&field, upstreams));
        route.model = section.section("model").and_then(model::load_in);
        route.optional = section.value("optional", false, Field::switch);
        if route.optional {
            route.sacrifice();
        }
        route
    }
}

/// Reads all `[route.NAME]`, the most specific first.
pub(super) fn read_all(sections: Vec<Named<'_>>, around: &Around<'_>) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::with_capacity(sections.len());
    for Named { name, mut section } in sections {
        let route = Route::read(name, &mut section, around);
        if let Some(other) = routes.iter().find(|other| other.is_like(&route)) {
            let same = format!("the routes `{}` and {} take the same requests", other.name, quoted(name));
            let both = format!("both have `path = \"{}\"`, for {}", route.path, route.host);
            section.reject(Malformed::new(same).help(both));
        }
        section.finish();
        routes.push(route);
    }
    routes.sort_by_key(|route| Reverse((route.host.rank(), route.path.rank(), route.conditions())));
    routes
}

/// One method, or several.
fn methods(field: &Field<'_>) -> Result<Vec<Method>, Malformed> {
    let wanted = "a method such as `GET`";
    let method = |field: &Field<'_>| {
        let text = field.text().filter(|text| text.bytes().all(|byte| byte.is_ascii_uppercase()));
        match text.and_then(|text| Method::from_bytes(text.as_bytes()).ok()) {
            Some(method @ (Method::CONNECT | Method::TRACE)) => {
                let refused = format!("no request with {method} reaches a route: it is answered with 405");
                Err(Malformed::new(refused).help("leave it out"))
            }
            method => method.ok_or_else(|| field.is_not(wanted)),
        }
    };
    if field.text().is_some() {
        return method(field).map(|method| vec![method]);
    }
    field.items(1..=METHODS_MAX)?.iter().map(method).collect()
}

/// The name of a header that nobody else gives a meaning to.
fn own_header(text: &str) -> Result<HeaderName, Malformed> {
    let name = header(text)?;
    if !TAKEN.contains(&name.as_str()) {
        return Ok(name);
    }
    let taken = format!("{} says where a request goes or how it is framed", quoted(text));
    Err(Malformed::new(taken).help("give it a name of its own, such as `x-dimmer`"))
}

fn header_value(name: &str, field: &Field<'_>) -> Result<(HeaderName, HeaderValue), Malformed> {
    let value = field.text().and_then(|text| HeaderValue::from_str(text).ok());
    Ok((header(name)?, value.ok_or_else(|| field.is_not("the value of a header"))?))
}

pub(super) fn existing(field: &Field<'_>, upstreams: &[&str]) -> Result<String, Malformed> {
    named(field.text().ok_or_else(|| field.is_not("the name of an upstream"))?, upstreams)
}

/// The upstream of this name.
pub(super) fn named(name: &str, upstreams: &[&str]) -> Result<String, Malformed> {
    if upstreams.contains(&name) {
        return Ok(name.to_owned());
    }
    let malformed = Malformed::new(format!("there is no upstream {}", quoted(name)));
    Err(malformed.help(suggestion(name, upstreams.iter().copied())))
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

fn streams(mut section: Section<'_>) -> Streams {
    let default = Streams::default();
    let streams = Streams {
        stall: section.value("stall", default.stall, duration),
        pace: section.value("pace", default.pace, |field| {
            field.parsed("a rate such as `1000/s`, in bytes", units::rate)
        }),
        idle: section.value("idle", default.idle, duration),
        max: section.value("max", default.max, |field| field.number(1..=PLACES_MAX)),
    };
    section.finish();
    streams
}

fn shed_in(mut section: Section<'_>) -> shed::Config {
    let target = section.value("queue_delay", shed::TARGET, |field| {
        field.parsed("a duration such as `16ms`", units::duration)
    });
    let guards = Guards {
        cpu: section.optional("cpu", mark),
        stall: section.optional("stall", mark),
        memory: section.optional("memory", mark),
        lag: None,
    };
    section.finish();
    shed::Config { target, guards }
}

/// A mark for a share of something: `1%` to `100%`.
fn mark(field: &Field<'_>) -> Result<Mark, Malformed> {
    let percent = u8::try_from(percent(field)?).expect("it is 100 at most");
    Ok(Mark::percent(percent).expect("it is 1 to 100"))
}

fn hedge_in(mut section: Section<'_>) -> hedge::Config {
    let after = section.value("after", hedge::After::Quantile(Quantile::P95), after);
    let most = section.value("most", 1, |field| field.number(1..=hedge::HEDGES_MAX));
    section.finish();
    let config = hedge::Config::new(after).expect("a duration is above zero");
    config.up_to(most).expect("the number was checked")
}

/// A delay such as `50ms`, or a percentile such as `p95`.
fn after(field: &Field<'_>) -> Result<hedge::After, Malformed> {
    let percentile = field.text().and_then(|text| text.strip_prefix('p'));
    let Some(percentile) = percentile else { return duration(field).map(hedge::After::Delay) };
    let share = percentile.parse::<f64>().ok().and_then(|percent| Quantile::new(percent / 100.0).ok());
    let wanted = "a percentile from `p50` to `p99.9`, or a duration";
    share.map(hedge::After::Quantile).ok_or_else(|| field.is_not(wanted))
}
