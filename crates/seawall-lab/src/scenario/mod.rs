//! Scenario files: TOML becomes what a run plays, or an error with its place.
//!
//! ```toml
//! [scenario]
//! name = "retry-storm"
//! duration = "100s"
//! warmup = "10s"
//! network = "100ms"
//!
//! [clients]
//! rate = "40/s"
//! timeout = "3s"
//! retry = { attempts = 3, backoff = { kind = "none" } }
//!
//! [service]
//! time = { constant = "1s" }
//! slope = "10ms"
//!
//! [event]
//! at = "20s"
//! for = "5s"
//! surge = 2.0
//! ```

use std::fmt;

use seawall_core::call::{ATTEMPTS_MAX, Config as CallConfig};
use seawall_core::gate;
use seawall_core::limit;
use seawall_core::retry::backoff::{Backoff, Kind};
use seawall_core::retry::budget;
use seawall_core::shed;
use seawall_core::time::{Span, Time};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::service::{self, Work};
use crate::units;
use crate::world::{Play, Protection, Surge};

/// The longest run.
const DURATION_MAX: Span = Span::from_secs(24 * 3_600);
/// The least time after the trigger in which a service may come back.
const RELAPSE_LEAST: Span = Span::from_secs(60);

/// A checked scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// Time before anything is measured.
    pub warmup: Time,
    /// The trigger.
    pub surge: Surge,
    play: Play,
}

impl Scenario {
    /// Parses a file's text; `name` is what errors call it.
    pub fn from_toml(source: &str, name: &str) -> Result<Scenario, ScenarioError> {
        let error = |error: toml::de::Error| ScenarioError(format!("{name}: {error}"));
        let raw: Raw = toml::from_str(source).map_err(error)?;
        raw.checked().map_err(|problem| ScenarioError(format!("{name}: {problem}")))
    }

    /// What a run with this protection plays, with or without the trigger.
    pub fn play(&self, protection: Protection, surge: Option<Surge>) -> Play {
        Play { protection, surge, ..self.play.clone() }
    }

    /// What Seawall does by default: an adaptive limit with a short queue and shedding in front of
    /// the service, and a retry budget in the clients.
    pub fn protection() -> Protection {
        let settings = gate::Settings { limit: Some(limit::Config::default()), ..gate::Settings::default() };
        let lane = gate::Lane { shed: Some(shed::Config::default()), ..gate::Lane::default() };
        Protection { gate: Some((settings, lane)), budget: Some(budget::Config::default()), hedge: None }
    }

    /// When a run ends, in whole seconds.
    pub fn seconds(&self) -> u64 {
        self.play.end.as_nanos() / 1_000_000_000
    }
}

/// What is wrong with a scenario file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError(String);

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.trim_end())
    }
}

impl std::error::Error for ScenarioError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    scenario: RawScenario,
    clients: RawClients,
    service: RawService,
    event: RawEvent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScenario {
    name: String,
    #[serde(deserialize_with = "span")]
    duration: Span,
    #[serde(deserialize_with = "span")]
    warmup: Span,
    #[serde(default, deserialize_with = "span")]
    network: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClients {
    #[serde(deserialize_with = "rate")]
    rate: f64,
    #[serde(default, deserialize_with = "maybe_span")]
    timeout: Option<Span>,
    #[serde(default, deserialize_with = "maybe_span")]
    deadline: Option<Span>,
    #[serde(default)]
    users: Option<u64>,
    #[serde(default)]
    retry: RawRetry,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRetry {
    attempts: u32,
    backoff: RawBackoff,
}

impl Default for RawRetry {
    fn default() -> RawRetry {
        RawRetry { attempts: 1, backoff: RawBackoff::default() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawBackoff {
    kind: RawKind,
    #[serde(deserialize_with = "span")]
    base: Span,
    #[serde(deserialize_with = "span")]
    cap: Span,
}

impl Default for RawBackoff {
    fn default() -> RawBackoff {
        RawBackoff { kind: RawKind::None, base: Span::from_millis(50), cap: Span::from_secs(2) }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    None,
    Fixed,
    Exponential,
    Equal,
    Full,
    Decorrelated,
    Additive,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    workers: Option<usize>,
    queue: Option<usize>,
    time: RawWork,
    #[serde(default, deserialize_with = "span")]
    slope: Span,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum RawWork {
    Constant(#[serde(deserialize_with = "span")] Span),
    Exponential(#[serde(deserialize_with = "span")] Span),
    Lognormal {
        #[serde(deserialize_with = "span")]
        median: Span,
        #[serde(deserialize_with = "span")]
        p99: Span,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvent {
    #[serde(deserialize_with = "span")]
    at: Span,
    #[serde(rename = "for", deserialize_with = "span")]
    lasts: Span,
    surge: f64,
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    units::duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn maybe_span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
    span(deserializer).map(Some)
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    units::rate(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

impl Raw {
    fn checked(self) -> Result<Scenario, String> {
        let Raw { scenario, clients, service, event } = self;
        let RawRetry { attempts, backoff } = clients.retry;
        let check = |holds: bool, problem: &str| if holds { Ok(()) } else { Err(problem.to_owned()) };
        check((1..=ATTEMPTS_MAX).contains(&attempts), "`clients.retry.attempts` must be 1 to 10")?;
        check(scenario.warmup < event.at, "`scenario.warmup` must end before `event.at`")?;
        check(event.lasts >= Span::from_secs(1), "`event.for` must be at least 1s")?;
        check(event.surge > 1.0 && event.surge <= 1_000.0, "`event.surge` must be above 1 and at most 1000")?;
        check(service.workers != Some(0), "`service.workers` must be at least 1")?;
        check(clients.users != Some(0), "`clients.users` must be at least 1")?;
        let backoff = match backoff.kind {
            RawKind::None => Backoff::NONE,
            kind => Backoff::new(kind.core(), backoff.base, backoff.cap)
                .map_err(|error| format!("`clients.retry.backoff`: {error}"))?,
        };
        let (at, ends) = (Time::ZERO + event.at, Time::ZERO + event.at + event.lasts);
        // Long enough to see whether it comes back: 10 × the trigger, at least 60 s.
        let horizon = ends + event.lasts.times(10).max(RELAPSE_LEAST);
        let end = horizon.max(Time::ZERO + scenario.duration);
        check(end <= Time::ZERO + DURATION_MAX, "a scenario lasts 24h at most")?;
        let surge = Surge { at, end: ends, factor: event.surge };
        let play = Play {
            rate: clients.rate,
            users: clients.users.unwrap_or(10_000),
            call: CallConfig { attempts, per_attempt: clients.timeout, backoff },
            deadline: clients.deadline.unwrap_or(Span::MAX),
            network: scenario.network,
            service: service::Config {
                workers: service.workers.unwrap_or(usize::MAX),
                queue: service.queue.unwrap_or(usize::MAX),
                time: service.time.core(),
                slope: service.slope,
            },
            surge: None,
            protection: Protection::default(),
            end,
        };
        Ok(Scenario { name: scenario.name, warmup: Time::ZERO + scenario.warmup, surge, play })
    }
}

impl RawKind {
    fn core(self) -> Kind {
        match self {
            RawKind::None => Kind::None,
            RawKind::Fixed => Kind::Fixed,
            RawKind::Exponential => Kind::Exponential,
            RawKind::Equal => Kind::Equal,
            RawKind::Full => Kind::Full,
            RawKind::Decorrelated => Kind::Decorrelated,
            RawKind::Additive => Kind::Additive,
        }
    }
}

impl RawWork {
    fn core(self) -> Work {
        match self {
            RawWork::Constant(span) => Work::Constant(span),
            RawWork::Exponential(mean) => Work::Exponential(mean),
            RawWork::Lognormal { median, p99 } => Work::lognormal(median, p99),
        }
    }
}

#[cfg(test)]
mod tests;
