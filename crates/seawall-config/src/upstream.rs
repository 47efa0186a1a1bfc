//! `[upstream.NAME]`: a service behind the gateway, the hosts it runs on, and what protects it.

use seawall_core::breaker;
use seawall_core::call;
use seawall_core::decision::Policy;
use seawall_core::eject;
use seawall_core::enforcement::Stance;
use seawall_core::gate;
use seawall_core::limit::{self, Ceiling, Discipline, adaptive, bulkhead, codel};
use seawall_core::retry::budget;
use seawall_core::time::Span;

use super::model;
use super::reader::{Field, Section};
use super::replicas::{HealthCheck, eject_in, health_in};
use super::report::Malformed;
use super::shadow;
use super::tls::{UpstreamTls, upstream_tls};
use super::units;
use super::url::Url;

/// The most hosts of an upstream.
const HOSTS_MAX: usize = 64;
/// The highest limit and the longest queue.
pub(super) const PLACES_MAX: u32 = 65_536;
/// How long making a connection may take when nothing else is said.
const CONNECT_TIMEOUT: Span = Span::from_secs(3);
/// The time in which a host comes back when nothing else is said.
const SLOW_START: Span = Span::from_secs(10);
/// The time in which traffic comes back to a host whose breaker closed.
const RAMP: Span = Span::from_secs(5);
/// How long an unused connection is kept when nothing else is said.
const IDLE_TIMEOUT: Span = Span::from_secs(60);

/// The share of slow calls that opens a breaker when nothing else is said.
const SLOW_RATE: u32 = 800_000;

/// How the hosts are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1, one exchange at a time on each connection.
    #[default]
    Http1,
    /// HTTP/2, by prior knowledge.
    H2c,
}

/// The hosts of an upstream: 1 to 64, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(Vec<Url>);

impl Hosts {
    /// Checks their number and that none is listed twice.
    pub fn new(urls: Vec<Url>) -> Result<Hosts, Malformed> {
        if !(1..=HOSTS_MAX).contains(&urls.len()) {
            return Err(Malformed::new(format!("{} hosts are not from 1 to {HOSTS_MAX}", urls.len())));
        }
        let twice = urls.iter().enumerate().find(|&(at, url)| urls[..at].contains(url));
        match twice {
            Some((_, url)) => Err(Malformed::new(format!("`{url}` is listed twice"))),
            None => Ok(Hosts(urls)),
        }
    }

    /// The text of a config for these hosts, with every default.
    pub fn config(&self) -> String {
        let hosts: Vec<String> = self.0.iter().map(|url| format!("\"{url}\"")).collect();
        format!(
            "[upstream.default]\nhosts = [{}]\n\n[route.default]\nupstream = \"default\"\n",
            hosts.join(", ")
        )
    }

    /// Each host once, in the order of the file.
    pub fn as_slice(&self) -> &[Url] {
        &self.0
    }
}

impl From<Url> for Hosts {
    fn from(url: Url) -> Hosts {
        Hosts(vec![url])
    }
}

/// A service and what protects it.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Where it runs.
    pub hosts: Hosts,
    /// How it is spoken to; default HTTP/1.1.
    pub protocol: Protocol,
    /// How long making a connection may take; default 3 s.
    pub connect_timeout: Span,
    /// How long an unused connection is kept; default 60 s.
    pub idle_timeout: Span,
    /// How its hosts are believed where TLS is spoken.
    pub tls: UpstreamTls,
    /// Whether its hosts are asked if they are well; default they are not.
    pub health: Option<HealthCheck>,
    /// Which hosts are left out for a while; `None` when turned off.
    pub eject: Option<eject::Config>,
    /// Which of breaker, ejection, retries and hedges only count; default none.
    pub shadow: Stance,
    /// The time in which a host comes back, or a new one comes up; zero for at once, default 10 s.
    pub slow_start: Span,
    /// The breaker that each host has; `None` when turned off.
    pub breaker: Option<breaker::Config>,
    /// How much may be in flight and waiting, over all routes.
    pub limit: limit::Config,
    /// How many retries its successes pay for, over all routes.
    pub budget: budget::Config,
    /// What the real service is like; read only by `check` and the lab.
    pub model: Option<model::Service>,
}

impl Upstream {
    /// These hosts, with every default.
    pub fn new(hosts: Hosts) -> Upstream {
        Upstream {
            hosts,
            protocol: Protocol::default(),
            connect_timeout: CONNECT_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            tls: UpstreamTls::default(),
            health: None,
            eject: Some(eject::Config::default()),
            shadow: Stance::default(),
            slow_start: SLOW_START,
            breaker: Some(breaker::Config::default()),
            limit: limit::Config::default(),
            budget: budget::Config::default(),
            model: None,
        }
    }

    /// The part of the front gates that all routes to it share.
    pub fn pool(&self) -> gate::Settings {
        gate::Settings { limit: Some(self.limit), ..gate::Settings::default() }
    }

    /// The back gate of one of its hosts; different seeds keep hosts from being probed in step.
    pub fn back_gate(&self, seed: u64) -> gate::Settings {
        gate::Settings { breaker: self.breaker.map(|config| config.seeded(seed)), ramp: RAMP, limit: None }
    }

    /// How its hosts share the calls.
    pub fn balance(&self) -> call::HostsConfig {
        call::HostsConfig {
            eject: self.eject,
            ejection: self.shadow.of(Policy::Eject),
            health: self.health.as_ref().map(|health| health.config),
            slow_start: self.slow_start,
            ..call::HostsConfig::default()
        }
    }

    /// Reads `[upstream.NAME]`; `None` without usable hosts, which are then reported.
    pub(super) fn read(mut section: Section<'_>) -> Option<Upstream> {
        let hosts = section.required("hosts", "[\"http://127.0.0.1:3000\"]", hosts).flatten();
        let protocol = section.value("protocol", Protocol::default(), |field| protocol(field, &hosts));
        let connect_timeout = section.value("connect_timeout", CONNECT_TIMEOUT, duration);
        let idle_timeout = section.value("idle_timeout", IDLE_TIMEOUT, duration);
        let tls = section.section("tls").map(upstream_tls).unwrap_or_default();
        let health = section.section("health").map(health_in);
        let eject = switched(&mut section, "eject", eject_in);
        let shadow = shadow::stance(&mut section, &shadow::OF_UPSTREAM);
        let slow_start = match section.field("slow_start") {
            Some(field) if field.is_off() => Span::ZERO,
            Some(field) => {
                duration(&field).map_err(|malformed| field.reject(malformed)).unwrap_or(SLOW_START)
            }
            None => SLOW_START,
        };
        let breaker = switched(&mut section, "breaker", breaker_in);
        let limit = section.section("limit").map(limit_in).unwrap_or_default();
        let budget = section.value("budget", budget::Config::default(), |field| {
            let ppm = percentage(field)?;
            budget::Config::new(ppm).map_err(|error| Malformed::new(error.to_string()))
        });
        let model = section.section("model").map(model::model_in);
        section.finish();
        Some(Upstream {
            hosts: hosts?,
            protocol,
            connect_timeout,
            idle_timeout,
            tls,
            health,
            eject,
            shadow,
            slow_start,
            breaker,
            limit,
            budget,
            model,
        })
    }
}

/// What a table sets, `false` turns off, and is there by default.
fn switched<T: Default>(
    section: &mut Section<'_>,
    key: &'static str,
    read: fn(Section<'_>) -> T,
) -> Option<T> {
    match section.field(key) {
        Some(field) if field.is_off() => None,
        Some(field) => field.section().map(read),
        None => Some(T::default()),
    }
}

/// The hosts, if each of them can be read; those that cannot are reported.
fn hosts(field: &Field<'_>) -> Result<Option<Hosts>, Malformed> {
    let items = field.items(1..=HOSTS_MAX)?;
    let mut urls: Vec<Url> = Vec::with_capacity(items.len());
    for item in &items {
        match item.parsed("a URL such as `http://127.0.0.1:3000`", Url::parse) {
            Ok(url) if urls.contains(&url) => item.reject(Malformed::new(format!("`{url}` is listed twice"))),
            Ok(url) => urls.push(url),
            Err(malformed) => item.reject(malformed),
        }
    }
    Ok((urls.len() == items.len()).then_some(Hosts(urls)))
}

/// How these hosts are spoken to: the word says whether with TLS, and so do they.
fn protocol(field: &Field<'_>, hosts: &Option<Hosts>) -> Result<Protocol, Malformed> {
    let protocols = [("http1", Protocol::Http1), ("h2c", Protocol::H2c), ("h2", Protocol::H2c)];
    let protocol = field.word(&protocols).map_err(|malformed| match field.text() {
        // The closest word by letters would be the wrong one.
        Some("http2") => malformed.help("that is `h2c` without TLS, `h2` with it"),
        _ => malformed,
    })?;
    let (is_secure, other) = match field.text() {
        Some("h2c") => (false, "h2"),
        Some("h2") => (true, "h2c"),
        _ => return Ok(protocol),
    };
    let mut hosts = hosts.iter().flat_map(Hosts::as_slice);
    match hosts.find(|host| host.is_secure() != is_secure) {
        None => Ok(protocol),
        Some(host) => {
            let with = if is_secure { "with" } else { "without" };
            let malformed = Malformed::new(format!("that is HTTP/2 {with} TLS, and a host is `{host}`"));
            Err(malformed.help(format!("write `{other}`, or another scheme in `hosts`")))
        }
    }
}

/// A duration such as `250ms`.
pub fn duration(field: &Field<'_>) -> Result<Span, Malformed> {
    field.parsed("a duration such as `250ms`", units::duration)
}

/// A percentage such as `10%`, in parts per million.
pub fn percentage(field: &Field<'_>) -> Result<u32, Malformed> {
    field.parsed("a percentage such as `10%`", units::percentage)
}

fn breaker_in(mut section: Section<'_>) -> breaker::Config {
    let default = breaker::Settings::default();
    let failure_rate_ppm =
        section.value("failure_rate", default.failure_rate_ppm, |field| match percentage(field)? {
            0 => Err(Malformed::new("`0%` would open it without any failure")),
            ppm => Ok(ppm),
        });
    let window = section.value("window", default.window, |field| match field.text() {
        Some(_) => duration(field).map(breaker::Extent::Time),
        None => field.number(1..=breaker::WINDOW_MAX).map(breaker::Extent::Calls),
    });
    let slow = section.optional("slow", duration);
    let slow_rate = section.optional("slow_rate", percentage);
    let slow = match (slow, slow_rate) {
        (Some(after), rate) => Some(breaker::Slow { after, rate_ppm: rate.unwrap_or(SLOW_RATE) }),
        (None, Some(_)) => {
            let missing = Malformed::new("`slow_rate` says nothing without `slow`");
            section.reject(missing.help("add `slow = \"1s\"`, the time from which on a call is slow"));
            None
        }
        (None, None) => None,
    };
    let most = match window {
        breaker::Extent::Calls(calls) => calls,
        breaker::Extent::Time(_) => u32::MAX,
    };
    let open = section.value("open", default.open, duration);
    let settings = breaker::Settings {
        failure_rate_ppm,
        slow,
        window,
        // A window below the default is complete when it is full.
        min_calls: section.value("min_calls", default.min_calls.min(most), |field| {
            field.number(1..=most).map_err(|malformed| malformed.help("it is at most `window`"))
        }),
        open,
        open_max: section.value("open_max", default.open_max.max(open), duration),
        probes: section.value("probes", default.probes, |field| field.number(1..=breaker::PROBES_MAX)),
        ..default
    };
    let config = breaker::Config::new(settings).unwrap_or_else(|error| {
        section.reject(Malformed::new(error.to_string()));
        breaker::Config::default()
    });
    section.finish();
    config
}

fn limit_in(mut section: Section<'_>) -> limit::Config {
    let default = limit::Config::default();
    let learned = adaptive::Settings::default();
    let is_adaptive = section.value("adaptive", true, Field::switch);
    let max = section.value("max", learned.max, |field| field.number(1..=PLACES_MAX));
    let queue = section.value("queue", default.queue, |field| field.number(0..=PLACES_MAX));
    let disciplines = [
        ("fifo", Discipline::Fifo),
        ("adaptive_lifo", Discipline::AdaptiveLifo),
        ("codel", Discipline::Codel(codel::Config::default())),
        ("by_tier", Discipline::ByTier),
    ];
    let discipline = section.value("discipline", default.discipline, |field| field.word(&disciplines));
    let bulkhead = section.section("bulkhead").map(bulkhead_in);
    section.finish();
    let ceiling = if is_adaptive {
        let settings = adaptive::Settings { initial: learned.initial.min(max), max };
        Ceiling::Adaptive(
            adaptive::Config::new(settings).expect("`max` is at least 1 and `initial` within it"),
        )
    } else {
        Ceiling::Fixed(max)
    };
    limit::Config { ceiling, queue, discipline, bulkhead }
}

fn bulkhead_in(mut section: Section<'_>) -> bulkhead::Config {
    let default = bulkhead::Settings::default();
    let settings = bulkhead::Settings {
        share_percent: section.value("share", default.share_percent, percent),
        tenants: section.value("tenants", default.tenants, |field| field.number(1..=bulkhead::TENANTS_MAX)),
    };
    section.finish();
    bulkhead::Config::new(settings).expect("each is within its range")
}

/// A whole percentage, `1%` to `100%`.
pub(super) fn percent(field: &Field<'_>) -> Result<u32, Malformed> {
    let ppm = percentage(field)?;
    let whole = (1..=100).find(|percent| percent * 10_000 == ppm);
    whole.ok_or_else(|| field.is_not("a whole percentage from `1%` to `100%`"))
}
