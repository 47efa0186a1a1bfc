//! Scenarios: a TOML file becomes plain data that a run plays, or an error with its place.
//!
//! ```toml
//! [scenario]
//! name = "retry-storm"
//! duration = "100s"
//! warmup = "10s"
//!
//! [[clients]]
//! name = "web"
//! rate = "40/s"
//! users = { count = 10_000, zipf = 1.1 }
//! deadline = "3s"
//! calls = "api"
//!
//! [[service]]
//! name = "api"
//! workers = 64
//! queue = { max = 512 }
//! time = { lognormal = { median = "20ms", p99 = "120ms" } }
//!
//! [[event]]
//! at = "20s"
//! for = "5s"
//! surge = { clients = "web", factor = 2.0 }
//!
//! [[assert]]
//! that = "goodput.after >= 0.95 * goodput.before"
//! ```
//!
//! **Edges.** A scenario is checked as a whole: names that are called exist, calls form no circle, and
//! what happens begins after the warm-up. Its end is put off until there was time to see whether the
//! service comes back: ten times the trigger, at least a minute.

mod assertion;
mod clients;
mod event;
mod names;
mod window;

use std::collections::BTreeMap;
use std::path::Path;

use seawall_config::model;
use seawall_config::reader::{Field, Section, check_name};
use seawall_config::report::{Malformed, Report, parse};
use seawall_config::{ConfigError, duration};
use seawall_core::time::{Span, Time};

pub(crate) use assertion::PHASES;
pub use assertion::{Assertion, Expression, Metric, Phase, Quantity};
pub use clients::{Arrivals, Clients};
pub use event::{Event, Link, What};
pub use window::Window;

use crate::gallery::Files;
use names::Names;

/// The JSON schema of the file.
pub const SCHEMA: &str = include_str!("schema.json");

/// The longest run.
const DURATION_MAX: Span = Span::from_secs(24 * 3_600);
/// The least time after the trigger in which a service may come back.
const RECOVERY_LEAST: Span = Span::from_secs(60);
/// The most tables of each kind.
const TABLES_MAX: usize = 256;
/// The most replicas of a service.
pub const REPLICAS_MAX: u32 = 1_000;
/// The most seeds.
pub const SEEDS_MAX: u32 = 10_000;

/// The name that stands for no config at all.
pub const NAIVE: &str = "naive";
/// The name that stands for Seawall in front of every service, with every default and the deadlines of the
/// clients.
pub const PROTECTED: &str = "protected";

/// An experiment. Valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it teaches.
    pub about: String,
    /// Time before anything is measured; default 10 s.
    pub warmup: Span,
    /// When a run ends.
    pub end: Time,
    /// Seeds to begin with; default 20.
    pub seeds: u32,
    /// The delay of a message each way; `None`, the default, for none. A duration alone is the mean of an
    /// exponential one.
    pub network: Option<model::Work>,
    /// What is compared: `naive`, `protected`, or config files beside this one.
    pub configs: Vec<String>,
    /// The services.
    pub services: Vec<Service>,
    /// Who calls them.
    pub clients: Vec<Clients>,
    /// What happens.
    pub events: Vec<Event>,
    /// Parts of the time that assertions look at.
    pub windows: Vec<Window>,
    /// What must hold.
    pub assertions: Vec<Assertion>,
}

/// A service of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name; a config protects it by an upstream of the same name.
    pub name: String,
    /// How many replicas it has; default 1.
    pub replicas: u32,
    /// What it is like.
    pub model: model::Service,
}

impl Scenario {
    /// Parses a file's text; `name` is what errors call it, and the files that it names stand beside it.
    pub fn from_toml(source: &str, name: &Path) -> Result<Scenario, ConfigError> {
        let base = name.parent().unwrap_or(Path::new(""));
        Scenario::from_text(source, name, &Files::Folder(base.to_owned()))
    }

    /// The same, with the files that it names somewhere else.
    pub fn from_text(source: &str, name: &Path, files: &Files) -> Result<Scenario, ConfigError> {
        let mut scenario = parse(source, name, Scenario::read)?;
        scenario.load(files).map_err(|problem| ConfigError::unreadable(name, problem))?;
        Ok(scenario)
    }

    /// When the trigger begins and ends; `None` when nothing happens.
    pub fn trigger(&self) -> Option<(Time, Time)> {
        let begins = self.events.iter().map(|event| event.at).min()?;
        let ends = self.events.iter().map(Event::over).max()?;
        Some((begins, ends))
    }

    /// Whether an assertion asks for this.
    pub(crate) fn asks_for(&self, quantity: Quantity) -> bool {
        self.assertions.iter().any(|assertion| assertion.asks_for(quantity))
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<usize> {
        self.services.iter().position(|service| service.name == name)
    }

    /// The same, with its end late enough to see whether the services come back.
    pub fn extended(mut self) -> Scenario {
        if let Some((begins, ends)) = self.trigger() {
            let wait = ends.since(begins).times(10).max(RECOVERY_LEAST);
            self.end = self.end.max(ends + wait).min(Time::ZERO + DURATION_MAX);
        }
        // Whole seconds, as everything is counted by the second.
        self.end = Time::ZERO + Span::from_secs(self.end.since(Time::ZERO).as_secs_ceil());
        self
    }

    fn load(&mut self, files: &Files) -> Result<(), String> {
        let text_of = &|path: &Path| files.text(path);
        self.services.iter_mut().try_for_each(|service| service.model.load(text_of))?;
        self.network.iter_mut().try_for_each(|delay| delay.load(text_of))?;
        self.clients.iter_mut().try_for_each(|clients| clients.load(text_of))
    }

    fn read(root: &mut Section<'_>, report: &Report) -> Scenario {
        let services = tables(root, "service", "time = { exponential = \"10ms\" }", service);
        let names = Names::of(services.iter().map(|service| &service.name));
        let clients = tables(root, "clients", "rate = \"40/s\"", |section| clients::read(section, &names));
        let callers = Names::of(clients.iter().map(|clients| &clients.name));
        let events = event::read_all(root, &names, &callers, &services);
        let windows = window::read_all(root);
        let spans = Names::of(windows.iter().map(|window| &window.name));
        let known = assertion::Known { services: &names, clients: &callers, windows: &spans };
        let assertions = assertion::read_all(root, &known);
        let mut scenario = Scenario {
            name: String::new(),
            about: String::new(),
            warmup: Span::ZERO,
            end: Time::ZERO,
            seeds: 20,
            network: None,
            configs: vec![NAIVE.to_owned(), PROTECTED.to_owned()],
            services,
            clients,
            events,
            windows,
            assertions,
        };
        match root.section("scenario") {
            Some(section) => scenario.read_head(section),
            None => root.reject(
                Malformed::new("there is no `[scenario]`")
                    .help("add it, with `name = \"my-storm\"` and `duration = \"100s\"`"),
            ),
        }
        if report.is_empty() {
            scenario.check().unwrap_or_else(|malformed| root.reject(malformed));
        }
        scenario.extended()
    }

    fn read_head(&mut self, mut section: Section<'_>) {
        let text = |field: &Field<'_>| match field.text() {
            Some(text) => Ok(text.to_owned()),
            None => Err(field.is_not("a text")),
        };
        let name = section.required("name", "\"my-storm\"", |field| check_name(field.text().unwrap_or("")));
        self.name = name.unwrap_or_default();
        self.about = section.value("about", String::new(), text);
        self.end = Time::ZERO + section.required("duration", "\"100s\"", duration).unwrap_or_default();
        self.warmup = section.value("warmup", Span::from_secs(10), duration);
        self.seeds = section.value("seeds", 20, |field| field.number(1..=SEEDS_MAX));
        self.network = section.optional("network", |field| match field.text() {
            Some(_) => duration(field).map(model::Work::Exponential),
            None => Ok(model::work(field)),
        });
        self.network = self.network.take().filter(|delay| *delay != model::Work::Exponential(Span::ZERO));
        self.configs = section.value("config", self.configs.clone(), |field| {
            if field.text().is_some() {
                return text(field).map(|config| vec![config]);
            }
            field.items(1..=8)?.iter().map(text).collect()
        });
        section.finish();
    }

    /// What no table can see alone.
    fn check(&self) -> Result<(), Malformed> {
        if self.clients.is_empty() {
            let missing = Malformed::new("there are no clients, so that nothing happens");
            return Err(missing.help("add `[[clients]]` with `rate = \"40/s\"` and `calls = \"NAME\"`"));
        }
        let named: BTreeMap<&str, &model::Service> =
            self.services.iter().map(|service| (service.name.as_str(), &service.model)).collect();
        model::check_graph(&named)?;
        let warm = Time::ZERO + self.warmup;
        if warm >= self.end {
            return Err(Malformed::new("the warm-up takes all of the duration"));
        }
        window::check(&self.windows, self.warmup)?;
        match self.trigger() {
            Some((begins, _)) if begins <= warm => {
                Err(Malformed::new(format!("an event begins before the warm-up of {} is over", self.warmup))
                    .help("a run is measured before the event, too: let it begin later"))
            }
            Some((_, ends)) if ends > Time::ZERO + DURATION_MAX => {
                Err(Malformed::new("an event ends after the longest run, `24h`"))
            }
            _ => Ok(()),
        }
    }
}

/// The tables of `[[key]]`.
fn tables<T>(
    root: &mut Section<'_>,
    key: &'static str,
    example: &str,
    read: impl Fn(&mut Section<'_>) -> Option<T>,
) -> Vec<T> {
    let Some(field) = root.field(key) else { return Vec::new() };
    let items = field.items(1..=TABLES_MAX).unwrap_or_else(|malformed| {
        field.reject(malformed.help(format!("write `[[{key}]]`, and below it `{example}`")));
        Vec::new()
    });
    let read = items.iter().filter_map(|item| {
        let mut section = item.section()?;
        let value = read(&mut section);
        section.finish();
        value
    });
    read.collect()
}

fn name_in(section: &mut Section<'_>, example: &str) -> Option<String> {
    section.required("name", example, |field| match field.text() {
        Some(text) => check_name(text),
        None => Err(field.is_not("a name")),
    })
}

fn service(section: &mut Section<'_>) -> Option<Service> {
    let name = name_in(section, "\"api\"");
    let replicas = section.value("replicas", 1, |field| field.number(1..=REPLICAS_MAX));
    let model = model::service_in(section);
    Some(Service { name: name?, replicas, model })
}

#[cfg(test)]
mod tests;
