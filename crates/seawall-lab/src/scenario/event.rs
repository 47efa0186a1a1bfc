//! `[[event]]`: what goes wrong, and when.

use seawall_config::reader::{Field, Section};
use seawall_config::report::Malformed;
use seawall_config::{duration, percentage};
use seawall_core::time::{Span, Time};

use super::names::Names;
use super::{REPLICAS_MAX, Service, tables};

/// The highest factor of load or time.
const FACTOR_MAX: f64 = 1_000.0;
/// The most workers of a replica.
const WORKERS_MAX: u32 = 1_000_000;

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it begins.
    pub at: Time,
    /// When it ends; `None` for never, or when it takes no time.
    pub ends: Option<Time>,
    /// What it is.
    pub what: What,
}

impl Event {
    /// When it is over: where nothing ends it, its beginning.
    pub fn over(&self) -> Time {
        let admitted = match self.what {
            What::Block { over, .. } => over,
            _ => Span::ZERO,
        };
        self.ends.unwrap_or(self.at) + admitted
    }
}

/// The messages of calls to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The service that is called.
    pub to: usize,
    /// The clients or the service that calls; `None` for all.
    pub from: Option<String>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// More calls of these clients: `surge = { clients = "web", factor = 2.0 }`.
    Surge {
        /// The clients.
        clients: usize,
        /// Times as many; above 1.
        factor: f64,
    },
    /// The first replicas are down, and what was in them is lost.
    Crash {
        /// The service.
        service: usize,
        /// How many of its replicas.
        replicas: u32,
    },
    /// Work begun in the first replicas takes longer.
    Slow {
        /// The service.
        service: usize,
        /// How many of its replicas.
        replicas: u32,
        /// Times as long.
        factor: f64,
    },
    /// The first replicas answer with failures.
    Errors {
        /// The service.
        service: usize,
        /// How many of its replicas.
        replicas: u32,
        /// The share, in parts per million.
        share_ppm: u32,
    },
    /// The first replicas stand still.
    Pause {
        /// The service.
        service: usize,
        /// How many of its replicas.
        replicas: u32,
    },
    /// All replicas do only a share of their work, which goes from one value to the other.
    Capacity {
        /// The service.
        service: usize,
        /// The share at the beginning, above 0.
        from: f64,
        /// The share at the end.
        to: f64,
    },
    /// Each replica has so many workers.
    Workers {
        /// The service.
        service: usize,
        /// How many.
        count: u32,
    },
    /// Messages are lost.
    Loss {
        /// Which.
        link: Link,
        /// The share, in parts per million.
        share_ppm: u32,
    },
    /// Messages take longer.
    Latency {
        /// Which.
        link: Link,
        /// By how much.
        add: Span,
    },
    /// No message arrives.
    Partition {
        /// Which.
        link: Link,
    },
    /// What the caches of a service hold is gone.
    Flush {
        /// The service.
        service: usize,
    },
    /// Traffic to a service is blocked by hand, and then admitted again.
    Block {
        /// The service.
        service: usize,
        /// In about which time it is admitted again; without Seawall at once.
        over: Span,
    },
    /// More replicas come up, as cold as the service says.
    Scale {
        /// The service.
        service: usize,
        /// How many more.
        add: u32,
    },
}

/// What events may name.
struct Known<'a> {
    names: &'a Names,
    callers: &'a Names,
    services: &'a [Service],
}

pub(super) fn read_all(
    root: &mut Section<'_>,
    names: &Names,
    callers: &Names,
    services: &[Service],
) -> Vec<Event> {
    let known = Known { names, callers, services };
    tables(root, "event", "surge = { clients = \"web\", factor = 2.0 }", |section| read(section, &known))
}

fn read(section: &mut Section<'_>, known: &Known<'_>) -> Option<Event> {
    let at = section.required("at", "\"20s\"", duration);
    let lasts = section.optional("for", duration);
    let mut found = Vec::new();
    for (key, read) in KINDS {
        if let Some(mut section) = section.section(key) {
            let what = read(&mut section, known);
            section.finish();
            found.push((what, key));
        }
    }
    if found.len() != 1 {
        let kinds: Vec<String> = KINDS.iter().map(|(key, _)| format!("`{key}`")).collect();
        section.reject(Malformed::new(format!("an event is one of {}", kinds.join(", "))));
    }
    let (what, key) = found.pop()?;
    let lasting = !matches!(key, "flush" | "scale");
    match lasts {
        Some(_) if !lasting => section.reject(Malformed::new(format!("`{key}` takes no time: remove `for`"))),
        None if lasting => {
            let missing = Malformed::new(format!("`{key}` has no end"));
            section.reject(missing.help("add `for = \"5s\"`"));
        }
        _ => {}
    }
    let at = Time::ZERO + at?;
    Some(Event { at, ends: lasts.map(|lasts| at + lasts), what: what? })
}

type Read = fn(&mut Section<'_>, &Known<'_>) -> Option<What>;

const KINDS: [(&str, Read); 13] = [
    ("surge", surge),
    ("crash", |section, known| {
        hit(section, known).map(|(service, replicas)| What::Crash { service, replicas })
    }),
    ("slow", |section, known| {
        let factor = section.required("factor", "10.0", |field| field.real(1.0..=FACTOR_MAX));
        let (service, replicas) = hit(section, known)?;
        Some(What::Slow { service, replicas, factor: factor? })
    }),
    ("errors", |section, known| {
        let share = section.required("share", "\"50%\"", percentage);
        let (service, replicas) = hit(section, known)?;
        Some(What::Errors { service, replicas, share_ppm: share? })
    }),
    ("pause", |section, known| {
        hit(section, known).map(|(service, replicas)| What::Pause { service, replicas })
    }),
    ("capacity", |section, known| {
        let share = |field: &Field<'_>| field.real(0.001..=1.0);
        let from = section.required("factor", "0.2", share);
        let to = section.optional("to", share);
        let service = service(section, known)?;
        Some(What::Capacity { service, from: from?, to: to.or(from)? })
    }),
    ("workers", |section, known| {
        let count = section.required("count", "4", |field| field.number(1..=WORKERS_MAX));
        Some(What::Workers { service: service(section, known)?, count: count? })
    }),
    ("loss", |section, known| {
        let share = section.required("share", "\"10%\"", percentage);
        Some(What::Loss { link: link(section, known)?, share_ppm: share? })
    }),
    ("latency", |section, known| {
        let add = section.required("add", "\"50ms\"", duration);
        Some(What::Latency { link: link(section, known)?, add: add? })
    }),
    ("partition", |section, known| Some(What::Partition { link: link(section, known)? })),
    ("flush", |section, known| service(section, known).map(|service| What::Flush { service })),
    ("block", |section, known| {
        let over = section.value("over", Span::from_secs(30), duration);
        Some(What::Block { service: service(section, known)?, over })
    }),
    ("scale", |section, known| {
        let add = section.required("add", "2", |field| field.number(1..=REPLICAS_MAX));
        let service = service(section, known)?;
        let add = add?;
        if known.services.get(service).is_some_and(|of| of.replicas + add > REPLICAS_MAX) {
            section.reject(Malformed::new(format!("that makes more than {REPLICAS_MAX} replicas")));
        }
        Some(What::Scale { service, add })
    }),
];

fn surge(section: &mut Section<'_>, known: &Known<'_>) -> Option<What> {
    let clients = section.required("clients", "\"web\"", |field| known.callers.find(field, "population"));
    let factor = section.required("factor", "2.0", |field| match field.real(1.0..=FACTOR_MAX)? {
        factor if factor > 1.0 => Ok(factor),
        _ => Err(field.is_not("above 1")),
    });
    Some(What::Surge { clients: clients?, factor: factor? })
}

fn service(section: &mut Section<'_>, known: &Known<'_>) -> Option<usize> {
    section.required("service", "\"api\"", |field| known.names.find(field, "service"))
}

/// A service and how many of its replicas; all of them by default.
fn hit(section: &mut Section<'_>, known: &Known<'_>) -> Option<(usize, u32)> {
    let service = service(section, known)?;
    let all = known.services.get(service).map_or(1, |service| service.replicas);
    let replicas = section.value("replicas", all, |field| field.number(1..=all));
    Some((service, replicas))
}

fn link(section: &mut Section<'_>, known: &Known<'_>) -> Option<Link> {
    let to = service(section, known)?;
    let from = section.optional("from", |field| {
        let known = known.names.find(field, "service").or_else(|_| known.callers.find(field, "caller"));
        known.map(|_| field.text().unwrap_or_default().to_owned())
    });
    Some(Link { to, from })
}
