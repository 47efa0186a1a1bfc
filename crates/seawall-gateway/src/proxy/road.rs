//! The road: what a config means at run time, and the state that outlives it.
//!
//! **Prevents** a reload from being an amnesty. State is keyed by what it is about (a route's
//! quota, an upstream's limit, a host's breaker), outside the config: a new config finds it,
//! rescales it and goes on. What the new config no longer names is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};
use ipnet::IpNet;
use seawall::call::Upstream;
use seawall::core::call::{self, HostSnapshot, Hosts, HostsConfig, HostsSnapshot, Member};
use seawall::core::enforcement::Enforcement;
use seawall::core::event::{Change, Event};
use seawall::core::gate::{Gate, Lane, Own as _, Rule, Shared};
use seawall::core::pressure::Reading;
use seawall::core::request::Key;
use seawall::core::rng::Rng;
use seawall::core::shed::guard::Guards;
use seawall::core::time::Time;
use seawall::http::{Families, NamedQuota, Refusals};
use seawall::{Locks, Threads, UserKeys, now, wake_turns};
use serde_json::Value;
use std::task::Waker;

use super::access::AccessLog;
use super::fallback;
use super::health;
use super::mirror::{Mirror, MirrorStats};
use super::quotas::Quotas;
pub(crate) use super::route::Route;
use super::route::Shares;
use super::upstream::Target;
use crate::telemetry::{Deliveries, Reloads, RouteStats, Unrouted};
use crate::tls::{self, Secure, Stamps};
use seawall_config::{self as config, Config, LogFormat, NormalPath, Question, UserSource};
use tokio_rustls::rustls::ClientConfig;

/// A config at work. Requests hold on to the road that they began on.
pub(crate) struct Road {
    /// The routes, the most specific first.
    pub(crate) routes: Vec<Arc<Route>>,
    /// The upstreams, by name.
    pub(crate) upstreams: BTreeMap<String, UpstreamView>,
    /// The quotas over all routes, by name, in the order in which they are asked.
    pub(crate) throttles: Vec<(String, Arc<Rule<Threads>>)>,
    /// Where a user's identity is found.
    pub(crate) identity: Vec<UserSource>,
    /// The header that names a user's plan.
    pub(crate) plan: Option<HeaderName>,
    /// Whose word about clients and tiers counts.
    pub(crate) trusted: Vec<IpNet>,
    /// Hashes identities.
    pub(crate) keys: UserKeys,
    /// Whether Envoy's request fields count.
    pub(crate) envoy: bool,
    /// Whether upstreams are told in `Forwarded`, too, where a request came from.
    pub(crate) forwarded: bool,
    /// What is logged of requests; `None` for nothing.
    pub(crate) log: Option<AccessLog>,
    /// Counts requests that no route takes.
    pub(crate) unrouted: Arc<Unrouted>,
    /// How reloads went.
    pub(crate) reloads: Arc<Reloads>,
    /// How the collector takes what it is sent, if there is one.
    pub(crate) deliveries: Option<Arc<Deliveries>>,
    seed: u64,
}

impl Road {
    /// Asks the hosts of its upstreams whether they are well, where the config says so: futures
    /// that never end, for as long as this road is in force.
    pub(crate) fn health_checks(&self) -> Vec<impl Future<Output = ()> + Send + use<>> {
        let watch = |upstream: &UpstreamView| {
            let question = upstream.question.clone()?;
            let rng = Rng::new(self.seed, now().as_nanos());
            Some(health::watch(upstream.balanced.clone(), upstream.targets.clone(), question, rng))
        };
        self.upstreams.values().filter_map(watch).collect()
    }

    /// The route for this host, perhaps with a port, and this path, as they were sent.
    pub(crate) fn route(
        &self,
        host: &str,
        path: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<&Arc<Route>> {
        let digits = host.bytes().rev().take_while(u8::is_ascii_digit).count();
        let bare = host[..host.len() - digits].strip_suffix(':').unwrap_or(host);
        // The dot at the end of a whole name is a matter of spelling.
        let bare = bare.strip_suffix('.').unwrap_or(bare);
        let path = NormalPath::of(path);
        self.routes.iter().find(|route| route.matching.matches(bare, &path, method, headers))
    }

    /// Some way to this upstream: they share its limit.
    pub(crate) fn way_to(&self, upstream: &str) -> Option<&Route> {
        self.routes.iter().flat_map(|route| route.ways()).find(|way| way.matching.upstream == upstream)
    }

    /// What makes the chance of this process its own.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether somebody wants to know how the machine is doing.
    pub(crate) fn has_guards(&self) -> bool {
        let guards =
            |route: &Arc<Route>| route.matching.shed.is_some_and(|shed| shed.guards != Guards::default());
        self.routes.iter().any(guards)
    }

    /// Takes in how the machine is doing.
    pub(crate) fn observe(&self, now: Time, reading: &Reading) {
        for name in self.upstreams.keys() {
            if let Some(route) = self.way_to(name) {
                route.gate.observe(now, reading);
            }
        }
    }

    /// The events that nobody has seen, with the name of what they are about. Not those of blocks: the gate, which
    /// routes share, does not know of which route.
    pub(crate) fn events(&self) -> Vec<(String, Event)> {
        let mut events = Vec::new();
        for (name, upstream) in &self.upstreams {
            let route = self.way_to(name);
            while let Some(event) = route.and_then(|route| route.gate.event()) {
                if !matches!(event.change, Change::Blocked | Change::Admitting | Change::Admitted) {
                    events.push((name.clone(), event));
                }
            }
            for (host, gate) in &upstream.hosts {
                while let Some(event) = gate.event() {
                    events.push((format!("{name} {host}"), event));
                }
            }
            while let Some(happening) = upstream.balanced.event() {
                let about = match happening.host {
                    Some(host) => format!("{name} {host}"),
                    None => name.clone(),
                };
                events.push((about, happening.event));
            }
        }
        events
    }
}

/// An upstream, to be looked at.
pub(crate) struct UpstreamView {
    /// Its hosts and their back gates.
    pub(crate) hosts: Vec<(String, Arc<Gate<Threads>>)>,
    balanced: Hosts<Threads>,
    shared: Arc<Locks<call::Shared>>,
    targets: Arc<[Target]>,
    question: Option<Question>,
}

impl UpstreamView {
    /// Plain values of how its hosts share the calls.
    pub(crate) fn balanced(&self, now: Time) -> HostsSnapshot {
        self.balanced.snapshot(now)
    }

    /// Whether this one of them is left out for how its calls went.
    pub(crate) fn is_out(balanced: &HostsSnapshot, host: &HostSnapshot) -> bool {
        let is_enforced = balanced.ejection == Enforcement::Enforced;
        is_enforced && host.ejection.is_some_and(|of| of.out_until.is_some())
    }

    /// Plain values of its retry budget and its hedges.
    pub(crate) fn calls(&self) -> call::Snapshot {
        self.shared.with(Key(0), |shared| shared.snapshot())
    }
}

type Pool = Arc<Locks<Shared<Waker>>>;

/// What the routes of a config are made of.
#[derive(Clone, Copy)]
struct Making<'a> {
    upstreams: &'a BTreeMap<String, UpstreamView>,
    calls: &'a HashMap<&'a str, Arc<Upstream>>,
    families: Families,
    /// The fields that say who is asking.
    personal: &'a [HeaderName],
    /// Whether the log wants to know what becomes of requests on their way.
    is_told: bool,
    /// Whether upstreams are told how much time is left.
    tells_time: bool,
    now: Time,
}

/// What the TLS of an upstream is made of, but for the files.
type MadeOf = (config::UpstreamTls, config::Protocol);

/// State that outlives a config, by what it is about.
pub(crate) struct Kept {
    keys: UserKeys,
    seed: u64,
    quotas: Quotas,
    /// By upstream.
    pools: HashMap<String, Pool>,
    /// By upstream and route.
    lanes: HashMap<(String, String), Gate<Threads>>,
    /// By upstream and host.
    hosts: HashMap<(String, String), Arc<Gate<Threads>>>,
    /// By upstream.
    balances: HashMap<String, Hosts<Threads>>,
    /// By upstream.
    shared: HashMap<String, Arc<Locks<call::Shared>>>,
    /// By upstream, with what they were made of.
    clients: HashMap<String, (MadeOf, Stamps, Arc<ClientConfig>)>,
    /// By route and upstream, with what they were made of.
    fallbacks: HashMap<(String, String), (config::Fallback, Vec<HeaderName>, fallback::Layer)>,
    /// By route.
    mirrors: HashMap<String, Arc<MirrorStats>>,
    /// By route.
    stats: HashMap<String, Arc<RouteStats>>,
    unrouted: Arc<Unrouted>,
    pub(crate) reloads: Arc<Reloads>,
    pub(crate) deliveries: Option<Arc<Deliveries>>,
}

impl Default for Kept {
    fn default() -> Kept {
        let keys = UserKeys::new();
        let seed = keys.key(b"jitter").0;
        Kept {
            keys,
            seed,
            quotas: Quotas::default(),
            pools: HashMap::new(),
            lanes: HashMap::new(),
            hosts: HashMap::new(),
            balances: HashMap::new(),
            shared: HashMap::new(),
            clients: HashMap::new(),
            fallbacks: HashMap::new(),
            mirrors: HashMap::new(),
            stats: HashMap::new(),
            unrouted: Arc::default(),
            reloads: Arc::default(),
            deliveries: None,
        }
    }
}

impl Kept {
    /// Which quotas would go on under this config, as JSON: `kept`, `new` and `gone`.
    pub(crate) fn quotas_compared_with(&self, config: &Config) -> Value {
        self.quotas.compared_with(config)
    }

    /// The road of a config: state that is there is kept and rescaled, what is new begins empty,
    /// what is no longer named is forgotten.
    pub(crate) fn road(&mut self, config: &Config) -> Road {
        let now = now();
        self.quotas.take_in(config, now);
        let families = Families {
            rate_limit: config.headers.rate_limit,
            legacy_rate_limit: config.headers.legacy_rate_limit,
            proxy_status: config.headers.proxy_status,
            envoy: config.headers.envoy,
        };
        let mut upstreams = BTreeMap::new();
        let mut calls = HashMap::new();
        for (name, upstream) in &config.upstreams {
            let settings = config.calls(name).unwrap_or_default();
            let view = self.upstream(name, upstream, settings, now);
            let hosts = view.balanced.clone();
            let mut calls_of = Upstream::of(hosts, view.shared.clone(), self.seed);
            calls_of.switch().replace(upstream.shadow);
            if settings.hedge.is_some() {
                // Any gate of its pool knows whether it is under pressure.
                calls_of = calls_of.behind(Arc::new(self.lane_of_nobody(name)));
            }
            calls.insert(name.as_str(), Arc::new(calls_of));
            upstreams.insert(name.clone(), view);
        }
        let log = AccessLog::new(config.log);
        let is_told = log.is_some() && config.log.format == LogFormat::Json;
        let personal = config.identity.user.iter().filter_map(|source| match source {
            UserSource::Header(name) => Some(name.clone()),
            UserSource::ClientIp => None,
        });
        let personal: Vec<HeaderName> = personal.collect();
        let making = Making {
            upstreams: &upstreams,
            calls: &calls,
            families,
            personal: &personal,
            is_told,
            tells_time: config.headers.envoy_timeout,
            now,
        };
        let routes = config.routes.iter().filter_map(|route| self.with_ways(route, &making)).collect();
        let (throttles, rules) = self.quotas.of("", &config.throttle);
        let throttles = throttles.into_iter().map(|throttle| throttle.name).zip(rules).collect();
        // A limit that was raised has room for who waits.
        self.lanes.values().for_each(wake_turns);
        self.forget_all_but(config);
        Road {
            routes,
            upstreams,
            throttles,
            identity: config.identity.user.clone(),
            plan: config.identity.plan.clone(),
            trusted: config.identity.trusted_proxies.clone(),
            keys: self.keys.clone(),
            envoy: config.headers.envoy_requests,
            forwarded: config.headers.forwarded,
            log,
            unrouted: self.unrouted.clone(),
            reloads: self.reloads.clone(),
            deliveries: self.deliveries.clone(),
            seed: self.seed,
        }
    }

    /// A route and every way that its requests may take.
    fn with_ways(&mut self, route: &config::Route, making: &Making<'_>) -> Option<Arc<Route>> {
        let shares = route.weights.iter().filter_map(|(name, weight)| {
            let share = self.route(&route.through(name), making)?;
            Some((*weight, Arc::new(share)))
        });
        let shares = Shares::new(shares.collect());
        let mirror = route.mirror.as_ref().and_then(|mirror| {
            let way = self.route(&route.mirrored(mirror), making)?;
            // What the shadow does is not what the route does.
            let way = Arc::new(Route { stats: Arc::default(), ..way });
            let stats = self.mirrors.entry(route.name.clone()).or_default().clone();
            Some(Mirror::new(mirror.share, way, stats))
        });
        let own = self.route(route, making)?;
        Some(Arc::new(Route { shares, mirror, ..own }))
    }

    fn upstream(
        &mut self,
        name: &str,
        upstream: &config::Upstream,
        calls: call::Settings,
        now: Time,
    ) -> UpstreamView {
        let settings = upstream.pool();
        match self.pools.get(name) {
            Some(pool) => pool.with(Key(0), |shared| shared.configure(settings, now)),
            None => {
                let pool = Locks::own(vec![Shared::new(settings, now)]);
                self.pools.insert(name.to_owned(), Arc::new(pool));
            }
        }
        let shared = self
            .shared
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Locks::own(vec![call::Shared::new(calls, now)])));
        shared.with(Key(0), |shared| shared.configure(calls, now));
        let shared = shared.clone();
        let hosts = upstream.hosts.as_slice().iter().map(|host| {
            let host = host.to_string();
            // Hosts, and the gateways before them, shall not be probed in step.
            let seed = self.keys.key(host.as_bytes()).0;
            let settings = upstream.back_gate(seed);
            let gate = match self.hosts.get(&(name.to_owned(), host.clone())) {
                Some(gate) => {
                    gate.configure(settings, now);
                    gate.clone()
                }
                None => {
                    let gate = Arc::new(Gate::new(settings, Lane::default(), now));
                    self.hosts.insert((name.to_owned(), host.clone()), gate.clone());
                    gate
                }
            };
            gate.switch().replace(upstream.shadow);
            (host, gate)
        });
        let hosts: Vec<_> = hosts.collect();
        let balanced = self.balanced(name, upstream.balance(), &hosts, now);
        let question = upstream.health.as_ref().map(|health| health.question.clone());
        UpstreamView { hosts, balanced, shared, targets: self.targets(name, upstream), question }
    }

    /// A lane without requests, for those who only look at the pool.
    fn lane_of_nobody(&mut self, upstream: &str) -> Gate<Threads> {
        let (pool, key) = (self.pools[upstream].clone(), (upstream.to_owned(), String::new()));
        self.lanes.entry(key).or_insert_with(|| Gate::joining(pool, Lane::default())).throttled(Vec::new())
    }

    /// The hosts to call, with what is known of those that stay.
    fn balanced(
        &mut self,
        upstream: &str,
        config: HostsConfig,
        hosts: &[(String, Arc<Gate<Threads>>)],
        now: Time,
    ) -> Hosts<Threads> {
        let rng = &mut Rng::new(self.seed, now.as_nanos());
        let member = |(name, gate): &(String, Arc<Gate<Threads>>)| Member {
            name: Arc::from(name.as_str()),
            gate: gate.clone(),
        };
        let members = hosts.iter().map(member).collect();
        let hosts = match self.balances.get(upstream) {
            Some(hosts) => hosts.replaced(config, members, now, rng),
            None => Hosts::balanced(config, members, now, rng),
        };
        self.balances.insert(upstream.to_owned(), hosts.clone());
        hosts
    }

    /// A route through its upstream, and through cheaper ones.
    fn route(&mut self, route: &config::Route, making: &Making<'_>) -> Option<Route> {
        let Making { upstreams, calls, families, personal, is_told, tells_time, now } = *making;
        let upstream = calls.get(route.upstream.as_str())?.clone();
        let targets = upstreams.get(&route.upstream)?.targets.clone();
        let cheaper = route.fallback.upstreams.iter();
        let cheaper = cheaper.filter_map(|name| self.route(&route.cheaper(name), making).map(Arc::new));
        let cheaper = cheaper.collect();
        let (throttle, rules) = self.quotas.of(&route.name, &route.throttle);
        let lane = route.lane();
        let key = (route.upstream.clone(), route.name.clone());
        let gate = match self.lanes.get(&key) {
            Some(gate) => {
                gate.configure_lane(lane, now);
                gate.throttled(rules)
            }
            None => {
                let gate = Gate::joining(self.pools[&route.upstream].clone(), lane);
                let throttled = gate.throttled(rules);
                self.lanes.insert(key, gate);
                throttled
            }
        };
        gate.switch().replace(route.shadow);
        let quotas = throttle
            .iter()
            .map(|throttle| NamedQuota::new(&throttle.name, *throttle.config.quota()))
            .collect::<Result<_, _>>()
            .expect("the config has plainer names");
        let plans = throttle.iter().map(|throttle| throttle.config.plans.quotas()[1..].to_vec()).collect();
        let gate = Arc::new(gate);
        let fallback = self.fallback(route, personal, &gate);
        Some(Route {
            gate,
            fallback,
            cheaper,
            mirror: None,
            is_told,
            tells_time,
            shares: Shares::default(),
            upstream,
            targets,
            call: route.retry,
            deadline: route.deadline,
            refusals: Refusals::new(quotas, families, self.seed).with_plans(plans),
            stats: self.stats.entry(route.name.clone()).or_default().clone(),
            tier_header: route.tier.header.clone(),
            matching: config::Route { throttle, ..route.clone() },
        })
    }

    /// The fallback of a route, with what it keeps; a new one when it is another.
    fn fallback(
        &mut self,
        route: &config::Route,
        personal: &[HeaderName],
        gate: &Arc<Gate<Threads>>,
    ) -> Option<fallback::Layer> {
        if route.fallback.is_empty() {
            return None;
        }
        let key = (route.name.clone(), route.upstream.clone());
        if let Some((config, before, layer)) = self.fallbacks.get(&key)
            && *config == route.fallback
            && before == personal
        {
            return Some(layer.clone());
        }
        let layer = fallback::layer(&route.fallback, personal.to_vec(), gate.clone());
        self.fallbacks.insert(key, (route.fallback.clone(), personal.to_vec(), layer.clone()));
        Some(layer)
    }

    /// Lanes stay: a route that comes back finds its place, and there are no more than names used.
    fn forget_all_but(&mut self, config: &Config) {
        let named = |route: &str| config.routes.iter().find(|other| other.name == route);
        self.clients.retain(|upstream, _| config.upstreams.contains_key(upstream));
        self.fallbacks.retain(|(route, upstream), _| {
            let has = |route: &config::Route| !route.fallback.is_empty() && route.leads_to(upstream);
            named(route).is_some_and(has)
        });
        self.mirrors.retain(|route, _| named(route).is_some_and(|route| route.mirror.is_some()));
        self.stats.retain(|route, _| named(route).is_some());
        self.hosts.retain(|(upstream, host), _| {
            config.upstreams.get(upstream).is_some_and(|upstream| {
                upstream.hosts.as_slice().iter().any(|other| other.to_string() == *host)
            })
        });
        self.lanes.retain(|(upstream, _), _| config.upstreams.contains_key(upstream));
        self.pools.retain(|upstream, _| config.upstreams.contains_key(upstream));
        self.balances.retain(|upstream, _| config.upstreams.contains_key(upstream));
        self.shared.retain(|upstream, _| config.upstreams.contains_key(upstream));
    }
}

impl Kept {
    /// The hosts of an upstream. What its TLS needs was there when the config was read; where it has
    /// gone since, nobody is called.
    fn targets(&mut self, name: &str, upstream: &config::Upstream) -> Arc<[Target]> {
        let hosts = upstream.hosts.as_slice();
        let config = if hosts.iter().any(config::Url::is_secure) {
            self.client(name, upstream)
        } else {
            self.clients.remove(name);
            None
        };
        let target = |host: &config::Url| {
            let name = tls::name_of(host, &upstream.tls).filter(|_| host.is_secure());
            let secure = name.zip(config.clone()).map(|(name, config)| Secure { name, config });
            // Never without TLS where that was asked for: nobody answers at no address.
            let is_reachable = secure.is_some() == host.is_secure();
            Target {
                authority: format!("{}:{}", if is_reachable { host.host() } else { "" }, host.port()),
                protocol: upstream.protocol,
                connect_timeout: upstream.connect_timeout.into(),
                idle_timeout: upstream.idle_timeout.into(),
                secure,
            }
        };
        hosts.iter().map(target).collect()
    }

    fn client(&mut self, name: &str, upstream: &config::Upstream) -> Option<Arc<ClientConfig>> {
        let wanted = (upstream.tls.clone(), upstream.protocol);
        let stamps = Stamps::of_client(&upstream.tls);
        let before = self.clients.remove(name).filter(|(made_of, ..)| *made_of == wanted);
        let made = match before {
            Some((_, read, client)) if read == stamps => Some(client),
            before => match tls::client(&upstream.tls, upstream.protocol) {
                Ok(client) => {
                    let again = before.is_some();
                    again.then(|| tracing::info!(upstream = name, "certificates read again"));
                    Some(client)
                }
                Err(error) => {
                    tracing::error!(upstream = name, %error, "certificates cannot be read");
                    before.map(|(.., client)| client)
                }
            },
        };
        let made = made?;
        self.clients.insert(name.to_owned(), (wanted, stamps, made.clone()));
        Some(made)
    }

    /// Whether files for the TLS of an upstream have changed since they were read.
    pub(crate) fn is_outdated(&self) -> bool {
        self.clients.values().any(|((tls, _), stamps, _)| *stamps != Stamps::of_client(tls))
    }
}
