//! The config of the gateway: `seawall.toml`, read into values that are valid.
//!
//! **Prevents** a gateway that runs with something other than what was meant: unknown keys are
//! errors, numbers carry their unit, names are looked up, and bounds are checked before anything
//! starts. What [`Config::from_toml`] returns needs no further check.
//!
//! **Mechanics.** The file is parsed into a tree that knows where each value stands; each part of
//! the config reads its table from it ([`reader`]) and fills in the defaults. Problems are
//! collected ([`report`]) and shown together. A `Config` is a plain value: two can be compared, so
//! that a reload sees what changed.
//!
//! **Edges.** A syntax error hides what comes after it, so only syntax errors are shown then.
//! State lives elsewhere, under the names that stand here.

mod address;
mod fallback;
mod identity;
pub mod model;
mod path;
mod pattern;
pub mod reader;
mod replicas;
pub mod report;
mod retry;
mod route;
mod shadow;
mod split;
mod throttle;
mod tls;
pub mod units;
mod upstream;
mod url;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use seawall_core::call;
use seawall_core::time::Span;
use serde_json::{Value, json};

use reader::{Field, Section};
use report::{Report, parse};
use route::Around;
use throttle::Throttles;

pub use address::{admin as admin_address, listen as listen_address};
pub use fallback::{Fallback, Room, Static};
pub use identity::{Identity as UserIdentity, UserSource};
pub use path::NormalPath;
pub use pattern::{HostPattern, PathPattern};
pub use replicas::{HealthCheck, Question};
pub use report::{Colour, ConfigError, Malformed};
pub use retry::Replay;
pub use route::{OBJECTIVE, Route, Streams, TierRule};
pub use split::Mirror;
pub use throttle::Throttle;
pub use tls::{Identity, Listener, ServerTls, UpstreamTls};
pub use upstream::{Hosts, Protocol, Upstream, duration, percentage};
pub use url::Url;

/// The JSON schema of the file.
pub const SCHEMA: &str = include_str!("schema.json");

/// The largest file, and the largest text of a config wherever it comes from, in bytes: 1 MiB.
pub const FILE_MAX: usize = 1 << 20;
/// The share of traces that are sampled when nothing else is said, in parts per million.
const TRACES: u32 = 10_000;
/// How often metrics are sent when nothing else is said.
const METRICS_EVERY: Span = Span::from_secs(10);
/// The longest time in which an end is announced.
const LAME_DUCK_MAX: Span = Span::from_secs(300);
/// The upstream and route that stand in when there is no file.
const DEFAULT_NAME: &str = "default";

/// What the gateway does. Valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients connect; default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// The listeners, at least one; the first is on `listen`.
    pub listeners: Vec<Listener>,
    /// Where operators connect.
    pub admin: Admin,
    /// Where blocked routes are remembered; default `seawall.toml.state`, in `$STATE_DIRECTORY` or beside the file.
    pub state: Option<PathBuf>,
    /// The socket file on which a new process takes over; default none.
    pub hand_over: Option<PathBuf>,
    /// How the process ends.
    pub drain: Drain,
    /// Who is asking.
    pub identity: identity::Identity,
    /// The quotas over all routes; at most 8, default none. Each route has them before its own.
    pub throttle: Vec<Throttle>,
    /// Which headers are added to responses.
    pub headers: Headers,
    /// What is logged of requests.
    pub log: Log,
    /// Where traces and metrics are sent; default nowhere.
    pub otlp: Option<Otlp>,
    /// The services, by name; at least one.
    pub upstreams: BTreeMap<String, Upstream>,
    /// The routes, at least one, the most specific first: the first that matches takes a request.
    pub routes: Vec<Route>,
}

/// The admin plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; default `127.0.0.1:9090`. Beyond loopback only with a token file.
    pub listen: SocketAddr,
    /// The file that holds the token; default one that the gateway makes.
    pub token_file: Option<PathBuf>,
    /// Where it answers probes without a token, if anywhere.
    pub probes: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Admin {
        Admin { listen: address::ADMIN, token_file: None, probes: None }
    }
}

/// How the process ends when it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long it serves on after it has said that it is not ready; default 5 s.
    pub lame_duck: Span,
    /// How long what is under way has from then on; default 30 s.
    pub grace: Span,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { lame_duck: Span::from_secs(5), grace: Span::from_secs(30) }
    }
}

/// Which requests are logged, in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Of all; default none.
    pub access: u32,
    /// Of those that were refused; default none.
    pub refusals: u32,
    /// What a line looks like; default text.
    pub format: LogFormat,
}

/// What a line about a request looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Names and values, as in all other lines, when the answer begins.
    #[default]
    Text,
    /// A JSON object with more of them, when the answer is over.
    Json,
}

/// The collector that gets traces and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// Where it takes OTLP over HTTP, without a path.
    pub endpoint: Url,
    /// Of the traces that begin here, this share is sampled, in parts per million; default 1 %.
    pub traces: u32,
    /// How often metrics are sent; default 10 s.
    pub metrics_every: Span,
}

/// The families of headers that Seawall adds to responses and requests, or obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// `RateLimit` and `RateLimit-Policy`; default on.
    pub rate_limit: bool,
    /// `X-RateLimit-Limit`, `-Remaining` and `-Reset`; default off.
    pub legacy_rate_limit: bool,
    /// `Proxy-Status`; default on.
    pub proxy_status: bool,
    /// `x-envoy-overloaded`; default on.
    pub envoy: bool,
    /// `x-envoy-upstream-rq-timeout-ms` and `x-envoy-max-retries` of requests from trusted clients are
    /// obeyed, `x-envoy-attempt-count` is sent; default off.
    pub envoy_requests: bool,
    /// Upstreams are told in `x-envoy-expected-rq-timeout-ms` how much time is left; default on.
    pub envoy_timeout: bool,
    /// Upstreams are told in `Forwarded`, beside `X-Forwarded-…`, where a request came from; default off.
    pub forwarded: bool,
}

impl Default for Headers {
    fn default() -> Headers {
        Headers {
            rate_limit: true,
            legacy_rate_limit: false,
            proxy_status: true,
            envoy: true,
            envoy_requests: false,
            envoy_timeout: true,
            forwarded: false,
        }
    }
}

impl Config {
    /// All requests to these hosts, with every default: what `--upstream` asks for.
    pub fn for_upstreams(hosts: Hosts) -> Config {
        Config {
            listen: address::LISTEN,
            listeners: vec![Listener::plain(address::LISTEN)],
            admin: Admin::default(),
            state: None,
            hand_over: None,
            drain: Drain::default(),
            identity: identity::Identity::default(),
            throttle: Vec::new(),
            headers: Headers::default(),
            log: Log::default(),
            otlp: None,
            upstreams: BTreeMap::from([(DEFAULT_NAME.to_owned(), Upstream::new(hosts))]),
            routes: vec![Route::new(DEFAULT_NAME, DEFAULT_NAME)],
        }
    }

    /// Reads the file at `path`, of at most 1 MiB.
    #[cfg(test)]
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        Config::from_toml(&Config::text(path)?, path)
    }

    /// The text of the file at `path`, of at most 1 MiB.
    pub fn text(path: &Path) -> Result<String, ConfigError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes))
            .map_err(|error| ConfigError::unreadable(path, error))?;
        if bytes.len() > FILE_MAX {
            return Err(ConfigError::unreadable(path, "it is larger than 1 MiB"));
        }
        String::from_utf8(bytes).map_err(|error| ConfigError::unreadable(path, error))
    }

    /// What the calls to this upstream share: its budget, and how they are hedged.
    pub fn calls(&self, name: &str) -> Option<call::Settings> {
        let hedge = self.routes.iter().filter(|route| route.upstream == name).find_map(|route| route.hedge);
        Some(call::Settings { budget: Some(self.upstreams.get(name)?.budget), hedge })
    }

    /// Which upstreams and routes were there before, as JSON: their state is kept.
    pub fn compared_with(&self, before: &Config) -> Value {
        let routes = |config: &Config| config.routes.iter().map(|route| route.name.clone()).collect();
        let upstreams = |config: &Config| config.upstreams.keys().cloned().collect();
        json!({
            "routes": compared(&routes(self), &routes(before)),
            "upstreams": compared(&upstreams(self), &upstreams(before)),
        })
    }

    /// Parses the text of a file; `name` is what errors call it.
    pub fn from_toml(source: &str, name: &Path) -> Result<Config, ConfigError> {
        parse(source, name, Config::read_root)
    }

    /// Reads the whole tree; the result counts only if nothing was reported.
    fn read_root(root: &mut Section<'_>, report: &Report) -> Config {
        let listeners = tls::listeners(root);
        let listen = listeners.first().map_or(address::LISTEN, |listener| listener.address);
        let admin = root.section("admin").map(admin_in).unwrap_or_default();
        let state = root.optional("state", file);
        let hand_over = root.optional("hand_over", file);
        let drain = root.section("drain").map(drain_in).unwrap_or_default();
        let (identity, table) = identity::read(root.section("identity"));
        let throttles =
            root.value("throttle", Throttles::default(), |field| throttle::of_gateway(field, table));
        let headers = root.section("headers").map(headers_in).unwrap_or_default();
        let log = root.section("log").map(log_in).unwrap_or_default();
        let otlp = root.section("otlp").and_then(otlp_in);
        let upstreams = root.named("upstream");
        // A name counts even if its table is wrong: routes to it are right.
        let names: Vec<&str> = upstreams.iter().map(|upstream| upstream.name).collect();
        let around = Around { table, throttles: &throttles, upstreams: &names };
        let routes = route::read_all(root.named("route"), &around);
        let upstreams = upstreams
            .into_iter()
            .filter_map(|upstream| Some((upstream.name.to_owned(), Upstream::read(upstream.section)?)))
            .collect();
        if report.is_empty() {
            // Only now: what is missing may just be misspelt.
            complete(&names, &routes).unwrap_or_else(|missing| report.at(0..0, missing));
        }
        Config {
            listen,
            listeners,
            admin,
            state,
            hand_over,
            drain,
            identity,
            throttle: throttles.throttles,
            headers,
            log,
            otlp,
            upstreams,
            routes,
        }
    }
}

fn compared(names: &BTreeSet<String>, before: &BTreeSet<String>) -> Value {
    let list = |names: &mut dyn Iterator<Item = &String>| names.cloned().collect::<Vec<_>>();
    json!({
        "kept": list(&mut names.intersection(before)),
        "new": list(&mut names.difference(before)),
        "gone": list(&mut before.difference(names)),
    })
}

/// Whether there is something to serve and a way to it.
fn complete(upstreams: &[&str], routes: &[Route]) -> Result<(), Malformed> {
    let Some(upstream) = upstreams.first() else {
        return Err(Malformed::new("there is no upstream")
            .help("add `[upstream.NAME]` with `hosts = [\"http://127.0.0.1:3000\"]`"));
    };
    if routes.is_empty() {
        return Err(Malformed::new("there is no route, so that no request would be answered")
            .help(format!("add `[route.NAME]` with `upstream = \"{upstream}\"`")));
    }
    Ok(())
}

/// What an address is called in errors.
const ADDRESS: &str = "an address such as `127.0.0.1:8080`";

fn admin_in(mut section: Section<'_>) -> Admin {
    let token_file = section.optional("token_file", file);
    let parse = if token_file.is_some() { address::listen } else { address::admin };
    let listen = section.value("listen", address::ADMIN, |field| field.parsed(ADDRESS, parse));
    let probes = section.optional("probes", |field| field.parsed(ADDRESS, address::listen));
    section.finish();
    Admin { listen, token_file, probes }
}

fn drain_in(mut section: Section<'_>) -> Drain {
    let default = Drain::default();
    let lame_duck = section.value("lame_duck", default.lame_duck, |field| {
        if field.is_off() {
            return Ok(Span::ZERO);
        }
        match upstream::duration(field)? {
            span if span <= LAME_DUCK_MAX => Ok(span),
            _ => Err(field.is_not("a duration of at most `5m`, or `false`")),
        }
    });
    let grace = section.value("grace", default.grace, upstream::duration);
    section.finish();
    Drain { lame_duck, grace }
}

fn log_in(mut section: Section<'_>) -> Log {
    let log = Log {
        access: section.value("access", 0, upstream::percentage),
        refusals: section.value("refusals", 0, upstream::percentage),
        format: section.value("format", LogFormat::default(), |field| {
            field.word(&[("text", LogFormat::Text), ("json", LogFormat::Json)])
        }),
    };
    section.finish();
    log
}

fn otlp_in(mut section: Section<'_>) -> Option<Otlp> {
    let endpoint = section.required("endpoint", "\"http://127.0.0.1:4318\"", |field| {
        let url = field.parsed("a URL such as `http://127.0.0.1:4318`", Url::parse)?;
        if url.is_secure() {
            let malformed = Malformed::new("OTLP is sent without TLS");
            return Err(malformed.help("send it to a collector on this machine, which sends it on"));
        }
        Ok(url)
    });
    let traces = section.value("traces", TRACES, upstream::percentage);
    let metrics_every = section.value("metrics_every", METRICS_EVERY, upstream::duration);
    section.finish();
    Some(Otlp { endpoint: endpoint?, traces, metrics_every })
}

/// The path of a file.
fn file(field: &Field<'_>) -> Result<PathBuf, Malformed> {
    match field.text() {
        Some(text) if !text.is_empty() => Ok(PathBuf::from(text)),
        _ => Err(field.is_not("the path of a file")),
    }
}

fn headers_in(mut section: Section<'_>) -> Headers {
    let default = Headers::default();
    let headers = Headers {
        rate_limit: section.value("rate_limit", default.rate_limit, Field::switch),
        legacy_rate_limit: section.value("legacy_rate_limit", default.legacy_rate_limit, Field::switch),
        proxy_status: section.value("proxy_status", default.proxy_status, Field::switch),
        envoy: section.value("envoy", default.envoy, Field::switch),
        envoy_requests: section.value("envoy_requests", default.envoy_requests, Field::switch),
        envoy_timeout: section.value("envoy_timeout", default.envoy_timeout, Field::switch),
        forwarded: section.value("forwarded", default.forwarded, Field::switch),
    };
    section.finish();
    headers
}

#[cfg(test)]
mod tests;
