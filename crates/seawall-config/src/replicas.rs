//! `health`, `eject` and `slow_start` of an upstream: which of its hosts are called.

use seawall_core::eject;
use seawall_core::health;

use super::pattern::PathPattern;
use super::reader::{Field, Section};
use super::report::{Malformed, quoted};
use super::upstream::{duration, percentage};

/// The path that is asked when nothing else is said.
const PATH: &str = "/healthz";

/// How a host is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A GET of this path, which 200 to 399 answer well.
    Http {
        /// The path, with a query if need be.
        path: String,
    },
    /// A connection: whoever accepts it is well.
    Tcp,
    /// `grpc.health.v1.Health/Check` of this service; empty for all of the host.
    Grpc {
        /// The service.
        service: String,
    },
}

/// Whether and when the hosts are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked; default `GET /healthz`.
    pub question: Question,
    /// How often, and how many answers count.
    pub config: health::Config,
}

/// Reads `health`.
pub(super) fn health_in(mut section: Section<'_>) -> HealthCheck {
    let kinds = [("http", 0_u8), ("tcp", 1), ("grpc", 2)];
    let kind = section.value("kind", 0, |field| field.word(&kinds));
    let question = match kind {
        0 => Question::Http { path: section.value("path", PATH.to_owned(), path) },
        1 => Question::Tcp,
        _ => Question::Grpc { service: section.value("service", String::new(), service) },
    };
    let default = health::Settings::default();
    let every = section.value("every", default.every, duration);
    let times = 1..=health::IN_A_ROW_MAX;
    let settings = health::Settings {
        every,
        // Whoever asks more often than that wants to know sooner.
        within: section.value("within", default.within.min(every), duration),
        fall: section.value("fall", default.fall, |field| field.number(times.clone())),
        rise: section.value("rise", default.rise, |field| field.number(times)),
    };
    let config = health::Config::new(settings).unwrap_or_else(|error| {
        section.reject(Malformed::new(error.to_string()));
        health::Config::default()
    });
    section.finish();
    HealthCheck { question, config }
}

fn path(field: &Field<'_>) -> Result<String, Malformed> {
    let Some(text) = field.text() else { return Err(field.is_not("a path such as `/healthz`")) };
    let path = text.split('?').next().unwrap_or_default();
    match PathPattern::parse(path)? {
        PathPattern::Exact(_) if text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(text.to_owned()),
        _ => Err(Malformed::new(format!("{} is not one path", quoted(text)))),
    }
}

fn service(field: &Field<'_>) -> Result<String, Malformed> {
    match field.text() {
        // What is longer than 127 bytes would need a length of two bytes, and is no service's name.
        Some(text) if text.len() <= 127 => Ok(text.to_owned()),
        _ => Err(field.is_not("the name of a gRPC service")),
    }
}

/// Reads `eject`.
pub(super) fn eject_in(mut section: Section<'_>) -> eject::Config {
    let default = eject::Settings::default();
    let calls = 1..=u32::MAX;
    let time = section.value("for", default.time, duration);
    let slow_times = match section.field("slow_times") {
        Some(field) if field.is_off() => None,
        Some(field) => field
            .number(2..=eject::SLOW_TIMES_MAX)
            .map_err(|malformed| field.reject(malformed))
            .ok()
            .or(default.slow_times),
        None => default.slow_times,
    };
    let settings = eject::Settings {
        failure_rate_ppm: section.value("failure_rate", default.failure_rate_ppm, percentage),
        consecutive: section.value("consecutive", default.consecutive, |field| field.number(calls.clone())),
        slow_times,
        slow_least: section.value("slow_least", default.slow_least, duration),
        window: section.value("window", default.window, duration),
        min_calls: section.value("min_calls", default.min_calls, |field| field.number(calls)),
        time,
        longest: section.value("longest", default.longest.max(time), duration),
        at_most_ppm: section.value("at_most", default.at_most_ppm, percentage),
    };
    let config = eject::Config::new(settings).unwrap_or_else(|error| {
        section.reject(Malformed::new(error.to_string()));
        eject::Config::default()
    });
    section.finish();
    config
}
