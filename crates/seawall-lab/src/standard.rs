//! The standard scenarios: a user's config against what happens to every service sooner or later.
//!
//! **Mechanics.** Each upstream of the config is a service, each route a population of clients that calls it.
//! What they are like stands in `[upstream.X.model]` and `[route.X.model]`. What does not stand there is
//! assumed, and said: for upstreams a [`Family`] of services, one after the other, so that a verdict does not
//! hang on one guess; for routes a load of 70 % of what their upstream can do, by clients that try again twice
//! at once.
//!
//! **Edges.** All scenarios have their trigger at the same time and end together, so that they share their
//! control. An assumed service takes at most a tenth of the shortest deadline of its routes. Clients wait
//! as long as the deadline of their route, each time.

use std::collections::BTreeMap;
use std::path::Path;

use seawall_config::model::{self, Order, Step, Users, Work};
use seawall_config::{Config, Route};
use seawall_core::call;
use seawall_core::retry::backoff::Backoff;
use seawall_core::throttle::Per;
use seawall_core::time::{Span, Time};

use crate::scenario::{Arrivals, Clients, Event, Scenario, Service, What};

/// When the trigger begins.
const BEGINS: Span = Span::from_secs(15);
/// How long it lasts.
const LASTS: Span = Span::from_secs(6);
/// The time before anything is measured.
const WARMUP: Span = Span::from_secs(10);
/// The load that is assumed, as a share of what a service can do.
const LOAD: f64 = 0.7;
/// Calls a second, where nothing says how many.
const RATE: f64 = 100.0;
/// Retries of assumed clients.
const RETRIES: u32 = 2;

/// A kind of service, assumed where the config does not describe its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Nothing is assumed of services.
    Described,
    /// Its times are exponential.
    Even,
    /// Its times have a long tail.
    Uneven,
    /// It slows down with each request inside.
    Contended,
}

impl Family {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Described => "described",
            Family::Even => "even",
            Family::Uneven => "uneven",
            Family::Contended => "contended",
        }
    }
}

/// The standard scenarios with one kind of service.
#[derive(Clone, Debug)]
pub struct Standard {
    /// What is assumed of services.
    pub family: Family,
    /// The scenarios; they share their control.
    pub scenarios: Vec<Scenario>,
    /// What was assumed, in sentences.
    pub assumptions: Vec<String>,
}

/// The standard scenarios for a config; `path` is that of its file, beside which stand those that it names.
pub fn standard(config: &Config, path: &Path) -> Result<Vec<Standard>, String> {
    let mut config = config.clone();
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let text_of = &|file: &Path| std::fs::read_to_string(base.join(file)).map_err(|error| error.to_string());
    for (name, upstream) in &mut config.upstreams {
        if let Some(model) = &mut upstream.model {
            model.load(text_of).map_err(|problem| format!("[upstream.{name}.model]: {problem}"))?;
        }
    }
    let models: BTreeMap<&str, &model::Service> = (config.upstreams.iter())
        .filter_map(|(name, upstream)| Some((name.as_str(), upstream.model.as_ref()?)))
        .collect();
    // Those without a model are called, and call nobody.
    let leaf = assumed(Family::Even, Span::from_millis(10), 1, 1.0, 1);
    let known = config
        .upstreams
        .keys()
        .map(|name| (name.as_str(), models.get(name.as_str()).copied().unwrap_or(&leaf)));
    model::check_graph(&known.collect()).map_err(|problem| problem.to_string())?;
    let families: &[Family] = match models.len() == config.upstreams.len() {
        true => &[Family::Described],
        false => &[Family::Even, Family::Uneven, Family::Contended],
    };
    Ok(families.iter().map(|family| of_family(&config, *family)).collect())
}

fn of_family(config: &Config, family: Family) -> Standard {
    let mut world = Described { config, family, assumptions: Vec::new() };
    let names: Vec<&String> = config.upstreams.keys().collect();
    let rates = world.rates();
    let services: Vec<Service> = names.iter().map(|name| world.service(name, &rates)).collect();
    let place = |name: &str| names.iter().position(|other| *other == name).unwrap_or_default();
    let clients: Vec<Clients> =
        config.routes.iter().map(|route| world.clients(route, place(&route.upstream), &rates)).collect();
    let calm = Scenario {
        name: "calm".to_owned(),
        about: String::new(),
        warmup: WARMUP,
        end: Time::ZERO,
        seeds: 20,
        network: None,
        configs: Vec::new(),
        services,
        clients,
        events: Vec::new(),
        windows: Vec::new(),
        assertions: Vec::new(),
    };
    let busiest = |one: &&usize, other: &&usize| {
        let inflow = |place: usize| rates.inflow.get(names[place].as_str()).copied().unwrap_or_default();
        inflow(**one).total_cmp(&inflow(**other))
    };
    let places: Vec<usize> = (0..names.len()).collect();
    // The first of those with the same.
    let target = places.iter().rev().max_by(busiest).copied().unwrap_or_default();
    Standard { family, scenarios: triggers(&calm, target), assumptions: world.assumptions }
}

/// What happens to the busiest upstream and to the clients.
fn triggers(calm: &Scenario, target: usize) -> Vec<Scenario> {
    let service = target;
    let all = calm.services[target].replicas;
    let at = Time::ZERO + BEGINS;
    let whole = |what: What| vec![Event { at, ends: Some(at + LASTS), what }];
    let surge = (0..calm.clients.len()).flat_map(|clients| whole(What::Surge { clients, factor: 3.0 }));
    let half = at + LASTS.scaled(0.5);
    let restart = vec![
        Event { at, ends: Some(half), what: What::Crash { service, replicas: all } },
        Event { at: half, ends: Some(at + LASTS), what: What::Capacity { service, from: 0.2, to: 1.0 } },
    ];
    let name = &calm.services[target].name;
    let scenario = |name: &str, about: String, events: Vec<Event>| {
        Scenario { name: name.to_owned(), about, events, ..calm.clone() }.extended()
    };
    vec![
        scenario("surge", "three times as many calls".to_owned(), surge.collect()),
        scenario(
            "slow",
            format!("{name} takes ten times as long"),
            whole(What::Slow { service, replicas: all, factor: 10.0 }),
        ),
        scenario(
            "errors",
            format!("{name} fails every call"),
            whole(What::Errors { service, replicas: all, share_ppm: 1_000_000 }),
        ),
        scenario(
            "lost-host",
            format!("a host of {name} is down"),
            whole(What::Crash { service, replicas: 1 }),
        ),
        scenario(
            "weak",
            format!("{name} does 40 % of what it could"),
            whole(What::Capacity { service, from: 0.4, to: 0.4 }),
        ),
        scenario("restart", format!("{name} is down, and comes back slow"), restart),
    ]
}

/// Calls a second.
struct Rates {
    /// Of each route, by its place.
    routes: Vec<f64>,
    /// That reach each upstream.
    inflow: BTreeMap<String, f64>,
}

/// A config, and what it does not say.
struct Described<'a> {
    config: &'a Config,
    family: Family,
    assumptions: Vec<String>,
}

impl Described<'_> {
    fn rates(&self) -> Rates {
        let described = |route: &Route| route.model.as_ref().map(|model| model.rate);
        let mut inflow = self.inflow(|route| described(route).unwrap_or_default());
        let routes = self.config.routes.iter().map(|route| {
            described(route).unwrap_or_else(|| {
                let shared = self
                    .config
                    .routes
                    .iter()
                    .filter(|other| other.upstream == route.upstream && other.model.is_none());
                let reached = inflow.get(&route.upstream).copied().unwrap_or_default();
                let rest = match self.capacity(&route.upstream) {
                    Some(capacity) => (LOAD * capacity - reached).max(0.05 * LOAD * capacity),
                    None => RATE,
                };
                self.within_quota(route, rest / shared.count().max(1) as f64)
            })
        });
        let routes: Vec<f64> = routes.collect();
        let mut places = self.config.routes.iter().zip(&routes);
        inflow = self.inflow(|route| {
            let found = places.find(|(other, _)| other.name == route.name);
            found.map_or(0.0, |(_, rate)| *rate)
        });
        Rates { routes, inflow }
    }

    /// A rate that the quotas leave room for: the route's own, and its part of the gateway's.
    fn within_quota(&self, route: &Route, rate: f64) -> f64 {
        let models = self.config.routes.iter().map(|route| route.model.as_ref());
        let (mut described, mut others) = (0.0, 0.0_f64);
        models.for_each(|model| match model {
            Some(model) => described += model.rate,
            None => others += 1.0,
        });
        let room = route.throttle.iter().filter_map(|throttle| {
            let quota = throttle.config.quota().rate();
            let most = LOAD * quota.count as f64 / quota.per.as_secs_f64();
            match throttle.config.per {
                Per::User => None,
                Per::Route => Some(most),
                Per::Gateway => Some((most - described).max(0.05 * most) / others.max(1.0)),
            }
        });
        room.fold(rate, f64::min).max(0.1)
    }

    /// What reaches each upstream, by routes of these rates and by the calls of others.
    fn inflow(&self, mut rate: impl FnMut(&Route) -> f64) -> BTreeMap<String, f64> {
        let mut direct: BTreeMap<String, f64> = BTreeMap::new();
        for route in &self.config.routes {
            *direct.entry(route.upstream.clone()).or_default() += rate(route);
        }
        let mut all = direct.clone();
        // The graph has no circles: a call reaches at most as deep as there are upstreams.
        let mut passed = direct;
        for _ in 0..self.config.upstreams.len() {
            let mut next: BTreeMap<String, f64> = BTreeMap::new();
            for (name, rate) in &passed {
                let model = self.config.upstreams.get(name).and_then(|upstream| upstream.model.as_ref());
                for call in model.iter().flat_map(|model| model.callees()) {
                    let made = rate * f64::from(call.times) * f64::from(call.share_ppm) / 1e6;
                    *next.entry(call.to.clone()).or_default() += made;
                }
            }
            for (name, rate) in &next {
                *all.entry(name.clone()).or_default() += rate;
            }
            passed = next;
        }
        all
    }

    fn hosts(&self, name: &str) -> u32 {
        let hosts = self.config.upstreams.get(name).map_or(1, |upstream| upstream.hosts.as_slice().len());
        u32::try_from(hosts).unwrap_or(1)
    }

    /// What all hosts of an upstream that is described can do a second.
    fn capacity(&self, name: &str) -> Option<f64> {
        let model = self.config.upstreams.get(name)?.model.as_ref()?;
        model.capacity().map(|capacity| capacity * f64::from(self.hosts(name)))
    }

    fn service(&mut self, name: &str, rates: &Rates) -> Service {
        let replicas = self.hosts(name);
        let described = self.config.upstreams.get(name).and_then(|upstream| upstream.model.clone());
        let model = described.unwrap_or_else(|| {
            let deadlines = self.config.routes.iter().filter(|route| route.upstream == name);
            let shortest = deadlines.map(|route| route.deadline).min().unwrap_or(Span::from_secs(1));
            let time = shortest.scaled(0.1).min(Span::from_millis(20));
            let inflow = rates.inflow.get(name).copied().filter(|rate| *rate > 0.0).unwrap_or(RATE);
            let model = assumed(self.family, time, replicas, inflow, 1);
            let workers = model.workers.map_or("no bound".to_owned(), |workers| format!("{workers} workers"));
            self.assumptions.push(format!(
                "[upstream.{name}] has no model: each host is taken to have {workers}, {}, at {:.0}/s in all",
                told(&model),
                inflow
            ));
            model
        });
        Service { name: name.to_owned(), replicas, model }
    }

    fn clients(&mut self, route: &Route, calls: usize, rates: &Rates) -> Clients {
        let place = self.config.routes.iter().position(|other| other.name == route.name).unwrap_or_default();
        let (rate, users, retries) = match &route.model {
            Some(load) => (load.rate, load.users, load.client_retries),
            None => {
                let rate = rates.routes[place];
                self.assumptions.push(format!(
                    "[route.{}] has no model: {rate:.0}/s by {} users, whose clients try again {RETRIES} times at once",
                    route.name,
                    Users::default().count,
                ));
                let backoff = Backoff::NONE;
                (rate, Users::default(), call::Config { attempts: RETRIES + 1, per_attempt: None, backoff })
            }
        };
        let retry = call::Config { per_attempt: retries.per_attempt.or(Some(route.deadline)), ..retries };
        Clients {
            name: route.name.clone(),
            arrivals: Arrivals::Open(rate),
            users,
            deadline: Some(route.deadline.times(u64::from(retry.attempts))),
            calls,
            route: Some(route.name.clone()),
            tiers: vec![(route.tier.default, 1_000_000)],
            retry,
            budget: None,
        }
    }
}

/// A service that does [`LOAD`] of what it can at this inflow.
fn assumed(family: Family, time: Span, replicas: u32, inflow: f64, least: u32) -> model::Service {
    let hosts = f64::from(replicas.max(1));
    let (time, slope) = match family {
        Family::Uneven => (Work::Lognormal { median: time.scaled(0.5), p99: time.scaled(7.5) }, Span::ZERO),
        // Throughput is at most one for each time that it takes longer by: twice this load.
        Family::Contended => (Work::Constant(time), Span::from_secs_f64(0.5 * hosts / inflow.max(1.0))),
        Family::Described | Family::Even => (Work::Exponential(time), Span::ZERO),
    };
    let wanted = libm::ceil(inflow / hosts * time.mean().as_secs_f64() / LOAD) as u32;
    model::Service {
        workers: (slope == Span::ZERO).then(|| wanted.max(least)),
        queue: Some(1_024),
        order: Order::Fifo,
        time,
        slope,
        failures_ppm: 0,
        script: vec![Step::Sleep],
        gc: None,
        cold: None,
        death: None,
        liveness: None,
        patience: None,
        refusal: Span::ZERO,
        optimistic: false,
    }
}

fn told(model: &model::Service) -> String {
    match &model.time {
        Work::Lognormal { median, p99 } => format!("times with a median of {median} and a p99 of {p99}"),
        Work::Constant(time) => format!("times of {time} and {} more for each request inside", model.slope),
        other => format!("exponential times of {}", other.mean()),
    }
}
