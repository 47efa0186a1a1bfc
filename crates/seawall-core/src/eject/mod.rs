//! Eject: a host that does clearly worse than its pool is left out for a while.
//!
//! **Prevents** one faulty replica from spoiling its share of all calls, and, by its cap, the cure
//! from being worse: a host that is ejected leaves its load to the others.
//!
//! ```text
//!          fails or is slow, and the cap has room
//!   In ──────────────────────────────────────────────▶ Out
//!    ▲                                                  │
//!    └──────────── `time` × 2^(strikes − 1) ────────────┘
//! ```
//!
//! **Mechanics.** Three ways out, each against the rest of the pool, because what all hosts suffer is
//! no host's fault, and moving load between them would only drown some:
//! - *failure rate*: over `window` and at least `min_calls`, it failed at least `failure_rate` of what
//!   the others would have done well: 1 − (1 − own rate) / (1 − rate of the others);
//! - *failures in a row*: `consecutive` or more, and so many that the failure rate of the others would
//!   give such a run less than once in ten thousand;
//! - *latency*: its typical latency is `slow_times` the **median** over the hosts in service, and
//!   `slow_least` above it. Typical is the geometric mean over the youngest slices of the window that
//!   hold `min_calls`: one call that takes a hundred times as long barely moves it, a host that takes
//!   ten times as long moves it tenfold. Reviewed twenty times in a window.
//!
//! **Recall.** The cap says how many may be out; whether the rest can carry their load is only seen. When
//! hosts are out and those in service become [`DROWNING`] times as slow as before the first went, or most of
//! them fail in a row, all come back at once and nobody is ejected for `time`, then for twice as long,
//! up to `longest`, until an ejection has ended by itself again.
//!
//! Each ejection is a strike and doubles the time of the next, up to `longest`; each `window` in
//! service takes a strike back. Who comes back is handed to the ramp by whoever holds both.
//!
//! **Edges.** At most `at_most` of the hosts are out, rounded *down*, for the first as well: with one
//! host nobody is ejected. Without another host with calls there is nothing to compare with, and
//! failures alone decide. Results of calls that began before the last change of a host's state are
//! ignored. Local refusals, ignored outcomes and calls that were cut off (cancelled, superseded) are
//! never failures; what was cut off took at least as long as it took, but alone it ejects nobody. A success
//! whose answer breaks off turns into a failure, in the rate and in the row that it had ended.

mod record;

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::event::Cause;
use crate::outcome::Outcome;
use crate::setting::{SettingError, check};
use crate::time::{Span, Time};

use record::{Record, State};

/// A run of failures this unlikely, among hosts that fail like the others, is no accident.
const ACCIDENT: f64 = 1e-4;
/// Reviews of the latencies in one window.
const REVIEWS: u64 = 20;
/// How much slower than before the hosts in service are when they drown.
pub const DROWNING: u64 = 3;
/// The weight of a review in what is usual while nobody is out.
const USUAL: f64 = 0.1;
/// The most that `slow_times` may be.
pub const SLOW_TIMES_MAX: u32 = 1_000;

/// When a host is ejected and for how long. [`Eject::new`] takes only a checked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Share of failures that ejects, in parts per million, 1 to 1 000 000; default 50 %.
    pub failure_rate_ppm: u32,
    /// Failures in a row that eject, at least 1; default 5.
    pub consecutive: u32,
    /// How many times the median latency is too slow, 2 to [`SLOW_TIMES_MAX`]; default 3, `None` for
    /// never.
    pub slow_times: Option<u32>,
    /// By how much at least a slow host exceeds the median; default 10 ms.
    pub slow_least: Span,
    /// How far back calls count; longer than zero, default 10 s.
    pub window: Span,
    /// Calls below which neither rate nor latency ejects, at least 1; default 10.
    pub min_calls: u32,
    /// How long the first ejection lasts; longer than zero, default 5 s.
    pub time: Span,
    /// How long an ejection lasts at most, not shorter than `time`; default 5 min.
    pub longest: Span,
    /// Share of the hosts that may be out at a time, in parts per million, 0 to 1 000 000; default
    /// 50 %.
    pub at_most_ppm: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            failure_rate_ppm: 500_000,
            consecutive: 5,
            slow_times: Some(3),
            slow_least: Span::from_millis(10),
            window: Span::from_secs(10),
            min_calls: 10,
            time: Span::from_secs(5),
            longest: Span::from_secs(300),
            at_most_ppm: 500_000,
        }
    }
}

/// Checked [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config(Settings);

impl Config {
    /// Checks every setting against its range.
    pub fn new(settings: Settings) -> Result<Config, SettingError> {
        let ppm = 1..=1_000_000;
        check(ppm.contains(&settings.failure_rate_ppm), "failure_rate", "above 0 % and at most 100 %")?;
        check(settings.consecutive >= 1, "consecutive", "at least 1")?;
        let slow_times = settings.slow_times.is_none_or(|times| (2..=SLOW_TIMES_MAX).contains(&times));
        check(slow_times, "slow_times", "2 to 1000")?;
        check(settings.window > Span::ZERO, "window", "longer than zero")?;
        check(settings.min_calls >= 1, "min_calls", "at least 1")?;
        check(settings.time > Span::ZERO, "for", "longer than zero")?;
        check(settings.longest >= settings.time, "longest", "not shorter than `for`")?;
        check(settings.at_most_ppm <= 1_000_000, "at_most", "at most 100 %")?;
        Ok(Config(settings))
    }
}

/// A host whose state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It was ejected.
    Out {
        /// Where it is known.
        place: usize,
        /// Why.
        cause: Cause,
    },
    /// Its time is over.
    In {
        /// Where it is known.
        place: usize,
    },
    /// The others drown without it.
    Recalled {
        /// Where it is known.
        place: usize,
    },
}

/// Plain values of one host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// Until when it is left out; `None` in service.
    pub out_until: Option<Time>,
    /// Ejections that are not forgiven yet.
    pub strikes: u32,
    /// Calls in the window.
    pub calls: u32,
    /// Failures among them, 0 to 1.
    pub failure_rate: f64,
    /// Its typical latency.
    pub latency: Option<Span>,
}

/// Watches the hosts of a pool. They are known by their places, which the caller gives out.
#[derive(Debug)]
pub struct Eject {
    config: Config,
    records: Vec<Option<Record>>,
    hosts: u32,
    out: u32,
    spared: u64,
    /// The median latency while nobody is out, in nanoseconds.
    usual: Option<f64>,
    recalls: u32,
    /// Until then nobody is ejected.
    held_until: Time,
    next_review: Time,
    next_return: Time,
    turns: VecDeque<Turn>,
    /// Kept for its memory.
    latencies: Vec<u32>,
}

impl Eject {
    /// Without hosts.
    pub fn new(config: Config) -> Eject {
        Eject {
            config,
            records: Vec::new(),
            hosts: 0,
            out: 0,
            spared: 0,
            usual: None,
            recalls: 0,
            held_until: Time::ZERO,
            next_review: Time::ZERO,
            next_return: Time::MAX,
            turns: VecDeque::new(),
            latencies: Vec::new(),
        }
    }

    /// Other settings; who is out stays out until its time is over. With another window the calls
    /// are counted anew.
    pub fn configure(&mut self, config: Config) {
        if config.0.window != self.config.0.window {
            self.records.iter_mut().flatten().for_each(Record::clear);
        }
        self.config = config;
    }

    /// A new host takes this place.
    pub fn join(&mut self, now: Time, place: usize) {
        self.leave(place);
        if self.records.len() <= place {
            self.records.resize_with(place + 1, || None);
        }
        self.records[place] = Some(Record::new(now));
        self.hosts += 1;
    }

    /// The host at this place has gone.
    pub fn leave(&mut self, place: usize) {
        if let Some(record) = self.records.get_mut(place).and_then(Option::take) {
            self.hosts -= 1;
            self.out -= u32::from(record.is_out());
        }
    }

    /// Whether the host at this place is left out.
    pub fn is_out(&self, place: usize) -> bool {
        self.record(place).is_some_and(Record::is_out)
    }

    /// Whether the host at this place is left out for being slow alone: it would still answer.
    pub fn is_slow(&self, place: usize) -> bool {
        let slow = |record: &Record| matches!(record.state, State::Out { cause: Cause::Slow, .. });
        self.record(place).is_some_and(slow)
    }

    /// How many hosts are out.
    pub fn out(&self) -> u32 {
        self.out
    }

    /// Until when nobody is ejected, because the others drowned; in the past for never.
    pub fn held_until(&self) -> Time {
        self.held_until
    }

    /// How often the cap, or a recall, spared a host that would have been ejected.
    pub fn spared(&self) -> u64 {
        self.spared
    }

    /// When the next host comes back: call [`Eject::expire`] then.
    pub fn wake_at(&self) -> Time {
        self.next_return
    }

    /// Brings back the hosts whose time is over.
    pub fn expire(&mut self, now: Time) {
        if now < self.next_return {
            return;
        }
        self.next_return = Time::MAX;
        for (place, record) in self.records.iter_mut().enumerate() {
            let Some(record) = record else { continue };
            match record.state {
                State::Out { until, .. } if until <= now => {
                    record.state = State::In { since: now };
                    record.clear();
                    self.out -= 1;
                    self.recalls = 0;
                    self.turns.push_back(Turn::In { place });
                }
                State::Out { until, .. } => self.next_return = self.next_return.min(until),
                State::In { .. } => {}
            }
        }
    }

    /// Takes in how a call to the host at this place went and how long it took.
    #[inline]
    pub fn report(&mut self, now: Time, place: usize, outcome: Outcome, elapsed: Span) {
        let settings = self.config.0;
        let Some(record) = self.records.get_mut(place).and_then(Option::as_mut) else { return };
        if !record.add(now, settings.window, outcome, elapsed) {
            return;
        }
        if outcome.is_failure()
            && let Some(cause) = self.failing(now, place)
        {
            self.eject(now, place, cause);
        }
        if now >= self.next_review {
            self.next_review = now + Span::from_nanos(settings.window.as_nanos() / REVIEWS);
            self.review(now);
        }
    }

    /// Takes in that a call to the host at this place has failed which began then and was reported as a
    /// success: its answer broke off.
    pub fn broke(&mut self, now: Time, place: usize, begun: Time) {
        let window = self.config.0.window;
        let Some(record) = self.records.get_mut(place).and_then(Option::as_mut) else { return };
        if record.broke(now, window, begun)
            && let Some(cause) = self.failing(now, place)
        {
            self.eject(now, place, cause);
        }
    }

    /// Whether there is a change that nobody has pulled.
    pub fn has_turned(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The next change that nobody has pulled.
    pub fn turn(&mut self) -> Option<Turn> {
        self.turns.pop_front()
    }

    /// Plain values of the host at this place; `None` when there is none.
    pub fn snapshot(&self, now: Time, place: usize) -> Option<Snapshot> {
        let record = self.record(place)?;
        let settings = self.config.0;
        let (calls, failed) = record.calls(now, settings.window);
        Some(Snapshot {
            out_until: match record.state {
                State::Out { until, .. } => Some(until),
                State::In { .. } => None,
            },
            strikes: record.strikes,
            calls,
            failure_rate: f64::from(failed) / f64::from(calls.max(1)),
            latency: record.latency(now, settings.window, 1).map(record::span_of),
        })
    }

    fn record(&self, place: usize) -> Option<&Record> {
        self.records.get(place)?.as_ref()
    }

    /// Whether the failures of this host are its own.
    fn failing(&self, now: Time, place: usize) -> Option<Cause> {
        let settings = self.config.0;
        let record = self.record(place)?;
        let (calls, failed) = record.calls(now, settings.window);
        let by_run = record.row.failures() >= settings.consecutive;
        let least = u64::from(failed) * 1_000_000 >= u64::from(calls) * u64::from(settings.failure_rate_ppm);
        let by_rate = calls >= settings.min_calls && least;
        if !by_rate && !by_run {
            return None;
        }
        let rest = self.failure_rate_of_others(now, place);
        let rate = f64::from(failed) / f64::from(calls.max(1));
        let spoilt = f64::from(settings.failure_rate_ppm) / 1e6;
        if by_rate && rate > rest && 1.0 - rate <= (1.0 - spoilt) * (1.0 - rest) {
            return Some(Cause::FailureRate);
        }
        let chance = libm::pow(rest, f64::from(record.row.failures()));
        (by_run && chance < ACCIDENT).then_some(Cause::Consecutive)
    }

    /// The mean failure rate of the other hosts in service that have calls; 0 without any.
    fn failure_rate_of_others(&self, now: Time, place: usize) -> f64 {
        let (mut sum, mut hosts) = (0.0, 0);
        for (other, record) in self.records.iter().enumerate() {
            let Some(record) = record.as_ref().filter(|record| other != place && !record.is_out()) else {
                continue;
            };
            let (calls, failed) = record.calls(now, self.config.0.window);
            if calls > 0 {
                sum += f64::from(failed) / f64::from(calls);
                hosts += 1;
            }
        }
        sum / f64::from(hosts.max(1))
    }

    /// Ejects who is too slow for the pool, and recalls everybody if the pool drowns.
    fn review(&mut self, now: Time) {
        let settings = self.config.0;
        let latency = |record: &Record| {
            let latency = || record.latency(now, settings.window, settings.min_calls);
            (!record.is_out()).then(latency).flatten()
        };
        self.latencies.clear();
        self.latencies.extend(self.records.iter().flatten().filter_map(latency));
        if self.latencies.is_empty() {
            return;
        }
        let middle = (self.latencies.len() - 1) / 2;
        let median = record::span_of(*self.latencies.select_nth_unstable(middle).1);
        if self.drowns(median) {
            return self.recall(now);
        }
        let Some(times) = settings.slow_times else { return };
        let bound = median.times(u64::from(times)).max(median + settings.slow_least);
        for place in 0..self.records.len() {
            let slow = self.record(place).and_then(latency).is_some_and(|log| record::span_of(log) >= bound);
            if slow {
                self.eject(now, place, Cause::Slow);
            }
        }
    }

    /// Whether those in service cannot carry the load of those that are out.
    fn drowns(&mut self, median: Span) -> bool {
        let now = median.as_nanos() as f64;
        let usual = self.usual.get_or_insert(now);
        if self.out == 0 {
            *usual += USUAL * (now - *usual);
            return false;
        }
        let in_service = self.records.iter().flatten().filter(|record| !record.is_out());
        let fails = |record: &&Record| record.row.failures() >= self.config.0.consecutive;
        let failing = in_service.filter(fails).count();
        let slower = now - *usual >= self.config.0.slow_least.as_nanos() as f64;
        slower && now >= *usual * DROWNING as f64 || 2 * failing as u64 > u64::from(self.hosts - self.out)
    }

    /// Brings everybody back at once, and ejects nobody for a while.
    fn recall(&mut self, now: Time) {
        for (place, record) in self.records.iter_mut().enumerate() {
            if let Some(record) = record.as_mut().filter(|record| record.is_out()) {
                record.state = State::In { since: now };
                record.clear();
                self.turns.push_back(Turn::Recalled { place });
            }
        }
        let settings = self.config.0;
        let hold = settings.time.times(1_u64.checked_shl(self.recalls).unwrap_or(u64::MAX));
        self.recalls += u32::from(hold < settings.longest);
        self.held_until = now + hold.min(settings.longest);
        (self.out, self.next_return) = (0, Time::MAX);
    }

    /// Leaves a host out, if the cap has room.
    fn eject(&mut self, now: Time, place: usize, cause: Cause) {
        let settings = self.config.0;
        let room = u64::from(self.hosts) * u64::from(settings.at_most_ppm) / 1_000_000;
        if u64::from(self.out) >= room || now < self.held_until {
            self.spared += 1;
            return;
        }
        let Some(record) = self.records.get_mut(place).and_then(Option::as_mut) else { return };
        let until = now + record.strike(now, &settings);
        record.state = State::Out { until, cause };
        self.out += 1;
        self.next_return = self.next_return.min(until);
        self.turns.push_back(Turn::Out { place, cause });
    }
}

#[cfg(test)]
mod tests;
