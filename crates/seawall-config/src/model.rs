//! `model`: what a service is like, and who calls it.
//!
//! Nothing here changes what a gateway does. The lab reads it from `[upstream.NAME.model]` and
//! `[route.NAME.model]` to know the service that a config protects, and from the tables of a scenario,
//! which use the same words.
//!
//! **Mechanics.** A request takes a worker for as long as its script runs: `sleep` is work of the
//! service's own, of a length drawn from `time`; `call NAME` waits for another service, and steps in a
//! list of their own are made at once. Who finds no worker waits in the queue; who finds no place
//! there is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall_core::call::{self, PERSISTENT_MAX};
use seawall_core::retry::backoff::Backoff;
use seawall_core::time::Span;

use crate::reader::{Field, Section, check_name};
use crate::report::{Malformed, quoted};
use crate::upstream::{duration, percentage};
use crate::{retry, units};

/// The most workers, places in a queue or requests that a replica survives.
const PLACES_MAX: u32 = 1_000_000;
/// The most steps of a script, and calls of a step.
const STEPS_MAX: usize = 32;
/// The most calls that one step makes one after the other.
const TIMES_MAX: u32 = 100;
/// The most users.
pub const USERS_MAX: u64 = 10_000_000;
/// The most samples of an empirical distribution.
const SAMPLES_MAX: usize = 1_000_000;

/// Finds the text of a file that another names.
pub type TextOf<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

/// How long one piece of work takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Always the same: `{ constant = "10ms" }`.
    Constant(Span),
    /// Exponentially distributed, by its mean: `{ exponential = "10ms" }`.
    Exponential(Span),
    /// Lognormal: `{ lognormal = { median = "20ms", p99 = "120ms" } }`.
    Lognormal {
        /// Half take less.
        median: Span,
        /// One in a hundred takes more; above the median.
        p99: Span,
    },
    /// One time as a rule and another now and then:
    /// `{ bimodal = { usual = "10ms", rare = "1s", share = "1%" } }`.
    Bimodal {
        /// As a rule.
        usual: Span,
        /// Now and then.
        rare: Span,
        /// The share of the rare ones, in parts per million.
        share_ppm: u32,
    },
    /// Weibull: `{ weibull = { scale = "10ms", shape = 0.7 } }`; a shape below 1 has a long tail.
    Weibull {
        /// The time that 63 % stay below.
        scale: Span,
        /// 0.1 to 10.
        shape: f64,
    },
    /// Normal, and zero instead of less than that: `{ normal = { mean = "10ms", sd = "2ms" } }`.
    Normal {
        /// The mean.
        mean: Span,
        /// The standard deviation.
        sd: Span,
    },
    /// Gamma, by its mean and its squared coefficient of variation: `{ gamma = { mean = "10ms", cv2 = 4.0 } }`;
    /// a `cv2` of 1/k is Erlang's of k phases.
    Gamma {
        /// The mean.
        mean: Span,
        /// The variance over the squared mean, 0.001 to 1000.
        cv2: f64,
    },
    /// Drawn from measured times, one a line: `{ csv = "times.csv" }`.
    Empirical {
        /// Where they stand, beside the file that names it.
        file: PathBuf,
        /// The times; empty until [`Work::load`] has read them.
        times: Arc<[Span]>,
    },
}

impl Work {
    /// The mean.
    pub fn mean(&self) -> Span {
        match self {
            Work::Constant(span) | Work::Exponential(span) => *span,
            Work::Gamma { mean, .. } => *mean,
            // The mean of what is left of a normal distribution when its negative part becomes zero.
            Work::Normal { mean, sd } => {
                let (mean, sd) = (mean.as_secs_f64(), sd.as_secs_f64().max(1e-12));
                let z = mean / sd;
                let density = libm::exp(-z * z / 2.0) / libm::sqrt(core::f64::consts::TAU);
                let below = libm::erfc(-z / core::f64::consts::SQRT_2) / 2.0;
                Span::from_secs_f64(mean * below + sd * density)
            }
            Work::Lognormal { median, p99 } => {
                let sigma = libm::log(p99.as_secs_f64() / median.as_secs_f64()) / Z99;
                median.scaled(libm::exp(sigma * sigma / 2.0))
            }
            Work::Bimodal { usual, rare, share_ppm } => {
                let share = f64::from(*share_ppm) / 1e6;
                usual.scaled(1.0 - share) + rare.scaled(share)
            }
            Work::Weibull { scale, shape } => scale.scaled(libm::tgamma(1.0 + 1.0 / shape)),
            Work::Empirical { times, .. } => {
                let sum: f64 = times.iter().map(|time| time.as_secs_f64()).sum();
                Span::from_secs_f64(sum / times.len().max(1) as f64)
            }
        }
    }

    /// Reads the times of an empirical distribution; `text_of` finds the text of the file that is named.
    pub fn load(&mut self, text_of: TextOf<'_>) -> Result<(), String> {
        let Work::Empirical { file: path, times } = self else { return Ok(()) };
        let text = text_of(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut read = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            match units::duration(line.trim()) {
                Ok(time) => read.push(time),
                Err(_) if number == 0 => {} // a heading
                Err(problem) => return Err(format!("{}:{}: {problem}", path.display(), number + 1)),
            }
        }
        if !(1..=SAMPLES_MAX).contains(&read.len()) {
            return Err(format!("{}: {} times are not from 1 to {SAMPLES_MAX}", path.display(), read.len()));
        }
        *times = read.into();
        Ok(())
    }
}

/// The 99th percentile of the standard normal distribution.
pub const Z99: f64 = 2.326_347_874_040_841;

/// Who is served first of those that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The first.
    #[default]
    Fifo,
    /// The last.
    Lifo,
}

/// Pauses in which nothing goes on, such as those of a garbage collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// The mean time between two, exponential.
    pub every: Span,
    /// How long one takes.
    pub pause: Span,
}

/// How a replica is when it has just come up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cold {
    /// How many times as long its work takes at first; sinks to 1.
    pub factor: f64,
    /// Until it is warm.
    pub time: Span,
}

/// How many requests in it kill a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// It dies when it holds more.
    pub above: u32,
    /// Until it is back.
    pub restart: Span,
}

/// How an orchestrator sees to it that replicas answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// The time between two probes, which wait in the queue as others do.
    pub every: Span,
    /// A probe that takes longer has failed.
    pub timeout: Span,
    /// So many failures in a row restart the replica.
    pub fall: u32,
    /// Until it is back.
    pub restart: Span,
}

/// A call to another service.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The service.
    pub to: String,
    /// Whether the request can do without.
    pub optional: bool,
    /// How the service's own code retries where Seawall does not stand in front of the other; once
    /// without.
    pub retry: call::Config,
    /// How long it waits in all; `None` for as long as it takes.
    pub deadline: Option<Span>,
    /// How often it is made, one after the other; 1 by default.
    pub times: u32,
    /// The share of requests that make it, in parts per million.
    pub share_ppm: u32,
    /// For how long an answer is kept for its user; `None` for no cache.
    pub cache: Option<Span>,
}

/// One step of a script.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Work of its own.
    Sleep,
    /// These calls, at once; the step ends with the last.
    Calls(Vec<Call>),
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// How many requests each replica works on at a time; `None` for no bound.
    pub workers: Option<u32>,
    /// How many may wait for a worker, in each replica; `None` for no bound.
    pub queue: Option<u32>,
    /// Who of them is next.
    pub order: Order,
    /// How long one waits for a worker before it leaves; `None` for as long as it takes.
    pub patience: Option<Work>,
    /// How long a refusal for want of a place keeps a worker busy.
    pub refusal: Span,
    /// Whether a request fails when another one succeeded between the beginning and the end of its work.
    pub optimistic: bool,
    /// How long its own work takes.
    pub time: Work,
    /// How much longer for each request inside the replica.
    pub slope: Span,
    /// The share of requests that fail, in parts per million.
    pub failures_ppm: u32,
    /// What it does for a request.
    pub script: Vec<Step>,
    /// Its pauses.
    pub gc: Option<Pauses>,
    /// How it is after its start.
    pub cold: Option<Cold>,
    /// What kills it.
    pub death: Option<Death>,
    /// Who restarts it.
    pub liveness: Option<Liveness>,
}

impl Service {
    /// What a replica can do in a second at best; `None` for no bound.
    pub fn capacity(&self) -> Option<f64> {
        let sleeps = self.script.iter().filter(|step| **step == Step::Sleep).count() as f64;
        let busy = self.time.mean().as_secs_f64() * sleeps;
        self.workers.filter(|_| busy > 0.0).map(|workers| f64::from(workers) / busy)
    }

    /// The services that it calls.
    pub fn callees(&self) -> impl Iterator<Item = &Call> {
        self.script.iter().flat_map(|step| match step {
            Step::Sleep => &[][..],
            Step::Calls(calls) => calls,
        })
    }

    /// Reads the files that its distribution names.
    pub fn load(&mut self, text_of: TextOf<'_>) -> Result<(), String> {
        self.time.load(text_of)?;
        self.patience.iter_mut().try_for_each(|patience| patience.load(text_of))
    }
}

/// Who calls a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Calls a second.
    pub rate: f64,
    /// Who makes them.
    pub users: Users,
    /// How its clients retry by themselves; once by default.
    pub client_retries: call::Config,
}

/// Users and how often each is the one that calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Users {
    /// How many there are.
    pub count: u64,
    /// The exponent of Zipf's law by which they call; 0 for all alike.
    pub zipf: f64,
}

impl Default for Users {
    fn default() -> Users {
        Users { count: 10_000, zipf: 0.0 }
    }
}

/// Reads the keys of a service; the caller finishes the section.
pub fn service_in(section: &mut Section<'_>) -> Service {
    let workers = section.optional("workers", |field| field.number(1..=PLACES_MAX));
    let (queue, order, patience) = section.field("queue").map(|field| queue(&field)).unwrap_or_default();
    let time = section.required("time", "{ exponential = \"10ms\" }", |field| Ok(work(field)));
    let slope = section.value("slope", Span::ZERO, |field| {
        field.parsed("a duration for each request inside, such as `10ms/inflight`", |text| {
            units::duration(text.strip_suffix("/inflight").unwrap_or(text))
        })
    });
    let failures_ppm = section.value("failures", 0, percentage);
    let mut steps = section.value("script", vec![Step::Sleep], script);
    if let Some(calls) = section.optional("calls", |field| each(field, call_in)) {
        steps.push(Step::Calls(calls));
    }
    Service {
        workers,
        queue,
        order,
        patience,
        refusal: section.value("refusal", Span::ZERO, duration),
        optimistic: section.value("optimistic", false, Field::switch),
        time: time.unwrap_or(Work::Constant(Span::ZERO)),
        slope,
        failures_ppm,
        script: steps,
        gc: section.section("gc").and_then(pauses),
        cold: section.section("cold").and_then(cold),
        death: section.section("death").and_then(death),
        liveness: section.section("liveness").and_then(liveness),
    }
}

/// Reads `[upstream.NAME.model]`.
pub(super) fn model_in(mut section: Section<'_>) -> Service {
    let service = service_in(&mut section);
    section.finish();
    service
}

/// Reads `[route.NAME.model]`.
pub(super) fn load_in(mut section: Section<'_>) -> Option<Load> {
    let rate = section.required("rate", "\"100/s\"", rate);
    let users = section.value("users", Users::default(), users);
    let client_retries = section.field("client_retries").map_or(ONCE, |field| retry_in(&field));
    section.finish();
    Some(Load { rate: rate?, users, client_retries })
}

/// One attempt.
pub const ONCE: call::Config = call::Config { attempts: 1, per_attempt: None, backoff: Backoff::NONE };

/// Reads how something retries by itself: a table as routes have it, or a number of retries, made at once.
pub fn retry_in(field: &Field<'_>) -> call::Config {
    if field.is_table() || field.is_off() {
        return retry::read_up_to(field, PERSISTENT_MAX).0;
    }
    match field.number(0..=PERSISTENT_MAX - 1) {
        Ok(retries) => call::Config { attempts: retries + 1, ..ONCE },
        Err(malformed) => {
            field.reject(malformed.help("or a table, such as `{ attempts = 3, per_attempt = \"1s\" }`"));
            ONCE
        }
    }
}

/// A rate in calls a second.
pub fn rate(field: &Field<'_>) -> Result<f64, Malformed> {
    let rate = field.parsed("a rate such as `50/s`", units::rate)?;
    match rate.count as f64 / rate.per.as_secs_f64() {
        rate if rate <= 1e6 => Ok(rate),
        _ => Err(field.is_not("a rate of at most 1000000/s")),
    }
}

/// Users: how many, or `{ count, zipf }`.
pub fn users(field: &Field<'_>) -> Result<Users, Malformed> {
    if !field.is_table() {
        return field.count(1..=USERS_MAX).map(|count| Users { count, zipf: 0.0 });
    }
    let default = Users::default();
    let Some(mut section) = field.section() else { return Ok(default) };
    let users = Users {
        count: section.value("count", default.count, |field| field.count(1..=USERS_MAX)),
        zipf: section.value("zipf", default.zipf, |field| field.real(0.0..=10.0)),
    };
    section.finish();
    Ok(users)
}

/// Reads a distribution; what is wrong is reported.
pub fn work(field: &Field<'_>) -> Work {
    if field.text().is_some() {
        return duration(field).map(Work::Constant).unwrap_or_else(|malformed| {
            field.reject(malformed);
            Work::Constant(Span::ZERO)
        });
    }
    let Some(mut section) = field.section() else { return Work::Constant(Span::ZERO) };
    let mut found = Vec::new();
    found.extend(section.optional("constant", duration).map(Work::Constant));
    found.extend(section.optional("exponential", duration).map(Work::Exponential));
    found.extend(section.section("lognormal").and_then(lognormal));
    found.extend(section.section("bimodal").and_then(bimodal));
    found.extend(section.section("weibull").and_then(weibull));
    found.extend(section.section("normal").and_then(normal));
    found.extend(section.section("gamma").and_then(gamma));
    let file = section.optional("csv", |field| match field.text() {
        Some(text) if !text.is_empty() => Ok(PathBuf::from(text)),
        _ => Err(field.is_not("the path of a file")),
    });
    found.extend(file.map(|file| Work::Empirical { file, times: Arc::new([]) }));
    if found.len() > 1 || section.is_empty() {
        let kinds =
            "`constant`, `exponential`, `lognormal`, `bimodal`, `weibull`, `normal`, `gamma` and `csv`";
        section.reject(Malformed::new(format!("a time is one of {kinds}")));
    }
    section.finish();
    found.pop().unwrap_or(Work::Constant(Span::ZERO))
}

fn lognormal(mut section: Section<'_>) -> Option<Work> {
    let median = section.required("median", "\"20ms\"", duration);
    let p99 = section.required("p99", "\"120ms\"", duration);
    let work = median.zip(p99).filter(|(median, p99)| {
        let holds = p99 >= median;
        if !holds {
            section.reject(Malformed::new(format!("the p99, `{p99}`, is below the median, `{median}`")));
        }
        holds
    });
    section.finish();
    work.map(|(median, p99)| Work::Lognormal { median, p99 })
}

fn bimodal(mut section: Section<'_>) -> Option<Work> {
    let usual = section.required("usual", "\"10ms\"", duration);
    let rare = section.required("rare", "\"1s\"", duration);
    let share = section.required("share", "\"1%\"", percentage);
    section.finish();
    Some(Work::Bimodal { usual: usual?, rare: rare?, share_ppm: share? })
}

fn weibull(mut section: Section<'_>) -> Option<Work> {
    let scale = section.required("scale", "\"10ms\"", duration);
    let shape = section.required("shape", "0.7", |field| field.real(0.1..=10.0));
    section.finish();
    Some(Work::Weibull { scale: scale?, shape: shape? })
}

fn normal(mut section: Section<'_>) -> Option<Work> {
    let mean = section.required("mean", "\"10ms\"", duration);
    let sd = section.required("sd", "\"2ms\"", duration);
    section.finish();
    Some(Work::Normal { mean: mean?, sd: sd? })
}

fn gamma(mut section: Section<'_>) -> Option<Work> {
    let mean = section.required("mean", "\"10ms\"", duration);
    let cv2 = section.required("cv2", "4.0", |field| field.real(0.001..=1_000.0));
    section.finish();
    Some(Work::Gamma { mean: mean?, cv2: cv2? })
}

/// A bound, or `{ max, order, patience }`.
fn queue(field: &Field<'_>) -> (Option<u32>, Order, Option<Work>) {
    if !field.is_table() {
        let max = field.number(0..=PLACES_MAX).map_err(|malformed| field.reject(malformed));
        return (max.ok(), Order::Fifo, None);
    }
    let Some(mut section) = field.section() else { return (None, Order::Fifo, None) };
    let max = section.optional("max", |field| field.number(0..=PLACES_MAX));
    let orders = [("fifo", Order::Fifo), ("lifo", Order::Lifo)];
    let order = section.value("order", Order::Fifo, |field| field.word(&orders));
    let patience = section.optional("patience", |field| Ok(work(field)));
    section.finish();
    (max, order, patience)
}

fn pauses(mut section: Section<'_>) -> Option<Pauses> {
    let every = section.required("every", "\"10s\"", duration);
    let pause = section.required("pause", "\"200ms\"", duration);
    section.finish();
    Some(Pauses { every: every?, pause: pause? })
}

fn cold(mut section: Section<'_>) -> Option<Cold> {
    let factor = section.required("factor", "5.0", |field| field.real(1.0..=1_000.0));
    let time = section.required("for", "\"20s\"", duration);
    section.finish();
    Some(Cold { factor: factor?, time: time? })
}

fn death(mut section: Section<'_>) -> Option<Death> {
    let above = section.required("above", "500", |field| field.number(1..=PLACES_MAX));
    let restart = section.required("restart", "\"10s\"", duration);
    section.finish();
    Some(Death { above: above?, restart: restart? })
}

fn liveness(mut section: Section<'_>) -> Option<Liveness> {
    let every = section.value("every", Span::from_secs(5), duration);
    let timeout = section.value("timeout", Span::from_secs(1), duration);
    let fall = section.value("fall", 3, |field| field.number(1..=100));
    let restart = section.required("restart", "\"10s\"", duration);
    section.finish();
    Some(Liveness { every, timeout, fall, restart: restart? })
}

fn each<T>(field: &Field<'_>, read: fn(&Field<'_>) -> Option<T>) -> Result<Vec<T>, Malformed> {
    Ok(field.items(1..=STEPS_MAX)?.iter().filter_map(read).collect())
}

fn script(field: &Field<'_>) -> Result<Vec<Step>, Malformed> {
    each(field, |item| {
        if item.text() == Some("sleep") {
            return Some(Step::Sleep);
        }
        if item.is_list() {
            return each(item, call_in).map_err(|malformed| item.reject(malformed)).ok().map(Step::Calls);
        }
        call_in(item).map(|call| Step::Calls(vec![call]))
    })
}

/// Reads `"call NAME"`, `"optional NAME"`, a bare `"NAME"` in a list of calls, or a table with `call`.
fn call_in(field: &Field<'_>) -> Option<Call> {
    let plain = |to: String| Call {
        to,
        optional: false,
        retry: ONCE,
        deadline: None,
        times: 1,
        share_ppm: 1_000_000,
        cache: None,
    };
    let wanted =
        "`sleep`, `call NAME`, `optional NAME`, a list of calls made at once, or a table with `call`";
    if let Some(text) = field.text() {
        let (verb, name) = text.split_once(' ').unwrap_or(("call", text));
        return match (verb, check_name(name.trim())) {
            ("call", Ok(name)) => Some(plain(name)),
            ("optional", Ok(name)) => Some(Call { optional: true, ..plain(name) }),
            _ => {
                field.reject(field.is_not(wanted));
                None
            }
        };
    }
    if !field.is_table() {
        field.reject(field.is_not(wanted));
        return None;
    }
    let mut section = field.section()?;
    let to = section.required("call", "\"db\"", |field| match field.text() {
        Some(text) => check_name(text),
        None => Err(field.is_not("the name of a service")),
    });
    let call = Call {
        optional: section.value("optional", false, Field::switch),
        retry: section.field("retry").map_or(ONCE, |field| retry_in(&field)),
        deadline: section.optional("deadline", duration),
        times: section.value("times", 1, |field| field.number(1..=TIMES_MAX)),
        share_ppm: section.value("share", 1_000_000, percentage),
        cache: section.optional("cache", duration),
        ..plain(to.clone().unwrap_or_default())
    };
    section.finish();
    to.map(|_| call)
}

/// Whether every call of these services goes to one of them, and none comes back to where it began.
pub fn check_graph(services: &BTreeMap<&str, &Service>) -> Result<(), Malformed> {
    for (name, service) in services {
        for call in service.callees() {
            if !services.contains_key(call.to.as_str()) {
                let missing = format!("{} calls {}, which is no service", quoted(name), quoted(&call.to));
                return Err(Malformed::new(missing)
                    .help(crate::report::suggestion(&call.to, services.keys().copied())));
            }
        }
        let mut reached = vec![*name];
        let mut next = 0;
        while let Some(at) = reached.get(next).copied() {
            next += 1;
            for call in services.get(at).into_iter().flat_map(|service| service.callees()) {
                if call.to == *name {
                    let circle = format!("the calls of {} come back to it", quoted(name));
                    return Err(Malformed::new(circle).help("a call graph has no circles"));
                }
                if !reached.contains(&call.to.as_str()) {
                    reached.push(call.to.as_str());
                }
            }
        }
    }
    Ok(())
}
