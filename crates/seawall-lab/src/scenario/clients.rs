//! `[[clients]]`: a population that calls a service.

use std::path::PathBuf;
use std::sync::Arc;

use seawall_config::model::{self, Users};
use seawall_config::reader::{Field, Section};
use seawall_config::report::Malformed;
use seawall_config::{duration, percentage};
use seawall_core::call;
use seawall_core::request::Tier;
use seawall_core::retry::budget;
use seawall_core::time::{Span, Time};

use super::name_in;
use super::names::Names;

/// The most calls of a recorded trace.
const TRACE_MAX: usize = 10_000_000;
/// The most users that think and call in turn.
const CLOSED_MAX: u64 = 1_000_000;

/// When calls begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// By a Poisson process of so many a second, whatever became of those before.
    Open(f64),
    /// So many a second at even distances, as a load generator makes them.
    Even(f64),
    /// Each of so many users calls, waits for the answer, thinks, and calls again.
    Closed {
        /// How many.
        users: u64,
        /// The mean of the exponential time to think.
        think: Span,
    },
    /// As recorded.
    Trace {
        /// Where, beside the scenario.
        file: PathBuf,
        /// When, sorted; empty until it was read.
        at: Arc<[Time]>,
    },
}

/// Who calls a service, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Clients {
    /// Its name.
    pub name: String,
    /// When calls begin.
    pub arrivals: Arrivals,
    /// Who makes them.
    pub users: Users,
    /// How long a client waits in all; `None` for as long as it takes.
    pub deadline: Option<Span>,
    /// The service, by its place.
    pub calls: usize,
    /// The route of the config that takes its calls; `None` for the first to that service.
    pub route: Option<String>,
    /// How much its calls matter, with their shares in parts per million; they sum up to a whole.
    pub tiers: Vec<(Tier, u32)>,
    /// How a client retries by itself.
    pub retry: call::Config,
    /// What pays for that; `None`, the default, for nobody: it retries as often as `retry` says.
    pub budget: Option<budget::Config>,
}

impl Clients {
    pub(super) fn load(&mut self, text_of: model::TextOf<'_>) -> Result<(), String> {
        let Arrivals::Trace { file: path, at } = &mut self.arrivals else { return Ok(()) };
        let text = text_of(path).map_err(|error| format!("{}: {error}", path.display()))?;
        *at = trace(&text).map_err(|problem| format!("{}:{problem}", path.display()))?.into();
        Ok(())
    }
}

/// The times of a trace: the first column of each line, in seconds. A heading may come first.
fn trace(text: &str) -> Result<Vec<Time>, String> {
    let mut read = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let first = line.split(',').next().unwrap_or_default().trim();
        match first.parse::<f64>() {
            Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => {
                read.push(Time::ZERO + Span::from_secs_f64(seconds));
            }
            Err(_) if number == 0 => {}
            _ => return Err(format!("{}: `{first}` is not a time in seconds, from 0 to 86400", number + 1)),
        }
    }
    if !(1..=TRACE_MAX).contains(&read.len()) {
        return Err(format!(" {} calls are not from 1 to {TRACE_MAX}", read.len()));
    }
    read.sort_unstable();
    Ok(read)
}

pub(super) fn read(section: &mut Section<'_>, services: &Names) -> Option<Clients> {
    let name = name_in(section, "\"web\"");
    let calls = section.required("calls", "\"api\"", |field| services.find(field, "service"));
    let arrivals = arrivals(section);
    let clients = Clients {
        name: name?,
        arrivals: arrivals?,
        users: section.value("users", Users::default(), model::users),
        deadline: section.optional("deadline", duration),
        calls: calls.unwrap_or_default(),
        route: section.optional("route", |field| match field.text() {
            Some(text) => Ok(text.to_owned()),
            None => Err(field.is_not("the name of a route")),
        }),
        tiers: section.value("tier", vec![(Tier::default(), 1_000_000)], tiers),
        retry: section.field("retry").map_or(model::ONCE, |field| model::retry_in(&field)),
        budget: section.optional("budget", |field| {
            budget::Config::new(percentage(field)?).map_err(|error| Malformed::new(error.to_string()))
        }),
    };
    calls.map(|_| clients)
}

/// Arrivals at a rate.
type Spacing = fn(f64) -> Arrivals;

fn arrivals(section: &mut Section<'_>) -> Option<Arrivals> {
    let mut found = Vec::new();
    let rate = section.optional("rate", model::rate);
    let kinds: [(&str, Spacing); 2] = [("poisson", Arrivals::Open), ("even", Arrivals::Even)];
    let spacing = section.optional("spacing", |field| field.word(&kinds));
    if rate.is_none() && spacing.is_some() {
        section.reject(Malformed::new(
            "`spacing` is that of calls at a `rate`, which these clients do not have",
        ));
    }
    found.extend(rate.map(spacing.unwrap_or(Arrivals::Open)));
    if let Some(mut closed) = section.section("closed") {
        let users = closed.required("users", "100", |field| field.count(1..=CLOSED_MAX));
        let think = closed.required("think", "\"1s\"", duration);
        closed.finish();
        found.extend(users.zip(think).map(|(users, think)| Arrivals::Closed { users, think }));
    }
    let file = section.optional("trace", |field| match field.text() {
        Some(text) if !text.is_empty() => Ok(PathBuf::from(text)),
        _ => Err(field.is_not("the path of a file")),
    });
    found.extend(file.map(|file| Arrivals::Trace { file, at: Arc::new([]) }));
    if found.len() != 1 {
        let one = Malformed::new("clients have one of `rate`, `closed` and `trace`");
        section.reject(one.help("write `rate = \"40/s\"` for calls that come whatever became of others"));
    }
    found.pop()
}

/// One tier, or shares of several.
fn tiers(field: &Field<'_>) -> Result<Vec<(Tier, u32)>, Malformed> {
    let names = Tier::ALL.map(|tier| (tier.name(), tier));
    if field.text().is_some() {
        return field.word(&names).map(|tier| vec![(tier, 1_000_000)]);
    }
    let Some(mut section) = field.section() else { return Ok(vec![(Tier::default(), 1_000_000)]) };
    let mut shares = Vec::new();
    for (name, tier) in names {
        shares.extend(section.optional(name, percentage).map(|share| (tier, share)));
    }
    section.finish();
    match shares.iter().map(|(_, share)| share).sum::<u32>() {
        1_000_000 => Ok(shares),
        sum => Err(Malformed::new(format!("the shares sum up to {} %, not 100 %", f64::from(sum) / 1e4))),
    }
}
