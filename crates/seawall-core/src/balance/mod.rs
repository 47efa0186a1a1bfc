//! Balance: which host is asked first.
//!
//! **Prevents** a slow or failing host from getting as much as its neighbours, and, worse, a host
//! that fails fast from getting more than they do, because it always has time.
//!
//! **Mechanics.** *Power of two choices* (Mitzenmacher 2001): two hosts are drawn, the one with the
//! lower cost is asked. Two draws take the mean sojourn at nine tenths of the capacity from 10
//! service times to 2.6, and unlike "ask the least loaded" they do not send everybody to the same
//! host. The cost is `(in flight + 1) × latency`, as in Finagle's peak EWMA; the latency is a mean
//! over time that rises twice as fast as it falls. **A failure counts as slow**: as
//! [`FAILURE_COST`] times what is typical for the pool, however fast it came. Calls whose caller
//! went away, and hedges that lost, took at least as long as they took: they can raise the mean,
//! never lower it.
//!
//! **Hosts whose latencies are within a tenth of each other count as equally fast** while they have as
//! much in flight: then the one that was drawn first is asked, which is chance. Without this band, calls that
//! come one at a time, and so always find nothing in flight, go where the mean is lowest by however little:
//! of two hosts that differed by a twentieth the slower one got 1 in 4 000. Where something is in flight
//! that tells the hosts apart, the whole cost decides, so the band takes nothing from the figures below: it makes
//! none of them worse by 1 %, and where several balancers share the hosts it makes them better, because those do
//! not run after the same small difference. A band of a quarter does as well there, but with six of ten hosts ten
//! times as slow, of which five are ejected, it cost 1.7 % of the goodput over 24 seeds; a tenth cost nothing.
//!
//! *In turn* knows nothing of the hosts.
//!
//! **Measured** by `examples/balancing.rs`, mean and 99th percentile of the sojourn in service times:
//!
//! | pool | load | balancers | random | two, in flight alone | two, this cost | two, peak EWMA | probing |
//! |---|---|---|---|---|---|---|---|
//! | 100 equal hosts | .9 | 1 | 10.2, 48.3 | 2.65, 8.9 | 2.65, 8.9 | 2.69, 9.1 | 2.08, 7.5 |
//! | 100 equal hosts | .9 | 20 | 10.2, 48.3 | 5.0, 16.7 | 5.2, 17.2 | 5.9, 18.8 | 2.35, 8.7 |
//! | 1 of 10 ten times as slow | .6 | 1 | no end | 2.1, 22.0 | 1.7, 7.2 | 1.8, 7.5 | 1.9, 7.6 |
//! | 10 of 20 three times as slow | .5 | 10 | no end | 12.1, 60.9 | 4.5, 24.5 | 4.8, 27.3 | 3.2, 15.4 |
//! | 1 of 10 fails at once: failed | .6 | 1 | 10 % | 16 % | .01 % | 20 % | 56 % |
//!
//! Probing (Prequal) is better where many balancers share the hosts and each sees a part of the load. But
//! it asks every host how much it has in flight, three times for each call, and the figures let it do so
//! in no time. It is not offered: a host behind this balance speaks no such protocol. The same choice
//! between hot and cold hosts by the balancer's own calls is worse than the cost above everywhere.
//!
//! **Edges.** A host without a sample is taken for a typical one. A host that is no longer asked
//! has no samples that could clear it, so what it has above the typical halves with each half of
//! the decay time that passes without one. Whether a host may be used at all is not known here:
//! the caller says which may.

use alloc::vec::Vec;

use crate::outcome::Outcome;
use crate::rng::Rng;
use crate::setting::SettingError;
use crate::time::{Span, Time};

/// How slow a failure counts, in typical latencies.
pub const FAILURE_COST: f64 = 100.0;

/// The memory of a latency when nothing else is said.
const DECAY: Span = Span::from_secs(5);
/// How much faster than it falls a latency rises.
const RISE: f64 = 2.0;
/// What is typical, in seconds, before anybody answered.
const UNKNOWN: f64 = 1e-3;
/// Up to how many times another latency one counts as equal to it.
const BAND: f64 = 1.1;
/// Draws that may meet a host that cannot be used, before the hosts are looked through in order.
const DRAWS_MAX: u32 = 8;

/// How hosts are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    InTurn,
    PowerOfTwo { decay: Span },
}

/// A checked choice of how hosts are chosen; by default power of two with a decay of 5 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config(Kind);

impl Config {
    /// Each host in turn.
    pub const IN_TURN: Config = Config(Kind::InTurn);

    /// Power of two choices; latencies are forgotten over about `decay`, which is longer than zero.
    pub fn power_of_two(decay: Span) -> Result<Config, SettingError> {
        match decay {
            Span::ZERO => Err(SettingError { key: "decay", range: "longer than zero" }),
            decay => Ok(Config(Kind::PowerOfTwo { decay })),
        }
    }

    fn decay(&self) -> Span {
        match self.0 {
            Kind::InTurn => DECAY,
            Kind::PowerOfTwo { decay } => decay,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config(Kind::PowerOfTwo { decay: DECAY })
    }
}

/// A mean over time, in seconds; young samples weigh more.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Latency {
    mean: f64,
    at: Time,
}

impl Latency {
    fn add(&mut self, now: Time, sample: f64, decay: Span) {
        let (gap, decay) = (now.since(self.at).as_nanos_f64(), decay.as_nanos_f64());
        let decay = if sample > self.mean { decay / RISE } else { decay };
        // 1 / (1 + x) for e^-x: as good for many small gaps, and without a call.
        self.mean += gap / (gap + decay) * (sample - self.mean);
        self.at = now;
    }
}

/// What is known of one host.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    in_flight: u32,
    latency: Option<Latency>,
}

/// Plain values of one host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// Attempts under way.
    pub in_flight: u32,
    /// Its latency, failures counted as slow; `None` before the first answer.
    pub latency: Option<Span>,
}

/// Chooses hosts. They are known by their places, which the caller gives out.
#[derive(Debug)]
pub struct Balance {
    config: Config,
    turn: usize,
    typical: Option<Latency>,
    loads: Vec<Load>,
}

impl Balance {
    /// Without hosts.
    pub fn new(config: Config) -> Balance {
        Balance { config, turn: 0, typical: None, loads: Vec::new() }
    }

    /// Another way to choose; what is known of the hosts stays.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// A new host takes this place.
    pub fn join(&mut self, place: usize) {
        if self.loads.len() <= place {
            self.loads.resize(place + 1, Load::default());
        }
        self.loads[place] = Load::default();
    }

    /// Chooses among the candidates `0..count`; `place` says where a candidate is known, `None` if it
    /// cannot be used. `None` when none of them can.
    pub fn pick(
        &mut self,
        now: Time,
        count: usize,
        place: impl Fn(usize) -> Option<usize>,
        rng: &mut Rng,
    ) -> Option<usize> {
        let Kind::PowerOfTwo { decay } = self.config.0 else {
            let chosen = next(self.turn, count, |candidate| place(candidate).is_some())?;
            self.turn = chosen + 1;
            return Some(chosen);
        };
        if count == 1 {
            return place(0).map(|_| 0);
        }
        let one = draw(count, |candidate| place(candidate).is_some(), rng)?;
        let Some(other) = draw(count, |candidate| candidate != one && place(candidate).is_some(), rng) else {
            return Some(one);
        };
        let cost = |candidate: usize| place(candidate).map(|place| self.cost(now, place, decay));
        let (Some(of_one), Some(of_other)) = (cost(one), cost(other)) else { return Some(one) };
        // Which of them was drawn first is chance, so it decides between those that are close.
        Some(if of_other.is_below(of_one) { other } else { one })
    }

    /// An attempt goes to the host at this place.
    pub fn begin(&mut self, place: usize) {
        self.loads[place].in_flight += 1;
    }

    /// It did not go out after all.
    pub fn undo(&mut self, place: usize) {
        self.loads[place].in_flight = self.loads[place].in_flight.saturating_sub(1);
    }

    /// An attempt that went to the host at this place is over, so long after it began.
    #[inline]
    pub fn report(&mut self, now: Time, place: usize, outcome: Outcome, elapsed: Span) {
        self.undo(place);
        let decay = self.config.decay();
        let typical = self.typical();
        let load = &mut self.loads[place];
        let known = load.latency.map_or(typical, |latency| latency.mean);
        let elapsed = elapsed.as_secs_f64();
        let sample = match outcome {
            Outcome::Success => elapsed,
            failure if failure.is_failure() => elapsed.max(typical * FAILURE_COST),
            Outcome::Cancelled | Outcome::Superseded if elapsed > known => elapsed,
            _ => return,
        };
        if outcome == Outcome::Success {
            // A host that was always called alone is the typical one.
            let is_typical = load.latency == self.typical;
            self.typical.get_or_insert(Latency { mean: sample, at: now }).add(now, sample, decay);
            if is_typical {
                load.latency = self.typical;
                return;
            }
        }
        match &mut load.latency {
            Some(latency) => {
                latency.mean = faded(now, *latency, typical, decay);
                latency.add(now, sample, decay);
            }
            none => *none = Some(Latency { mean: sample, at: now }),
        }
    }

    /// Plain values of the host at this place.
    pub fn snapshot(&self, now: Time, place: usize) -> Snapshot {
        let Load { in_flight, latency } = self.loads[place];
        let faded = |latency| Span::from_secs_f64(faded(now, latency, self.typical(), self.config.decay()));
        Snapshot { in_flight, latency: latency.map(faded) }
    }

    /// The latency of the pool's successes; zero before the first.
    pub fn typical_latency(&self) -> Span {
        Span::from_secs_f64(self.typical.map_or(0.0, |typical| typical.mean))
    }

    fn typical(&self) -> f64 {
        self.typical.map_or(UNKNOWN, |typical| typical.mean)
    }

    fn cost(&self, now: Time, place: usize, decay: Span) -> Cost {
        let Load { in_flight, latency } = self.loads[place];
        let typical = self.typical();
        Cost { in_flight, latency: latency.map_or(typical, |latency| faded(now, latency, typical, decay)) }
    }
}

/// What asking a host costs.
#[derive(Clone, Copy)]
struct Cost {
    in_flight: u32,
    /// In seconds.
    latency: f64,
}

impl Cost {
    /// Whether it is below another one; where both have as much in flight, clearly below.
    fn is_below(self, other: Cost) -> bool {
        let band = if self.in_flight == other.in_flight { BAND } else { 1.0 };
        self.product() * band < other.product()
    }

    fn product(self) -> f64 {
        (f64::from(self.in_flight) + 1.0) * self.latency
    }
}

/// A latency after a time without samples: what is above the typical has faded.
fn faded(now: Time, latency: Latency, typical: f64, decay: Span) -> f64 {
    let idle = now.since(latency.at).minus(decay);
    if idle == Span::ZERO || latency.mean <= typical {
        return latency.mean;
    }
    let halvings = 2.0 * idle.as_secs_f64() / decay.as_secs_f64();
    typical + (latency.mean - typical) * libm::exp2(-halvings)
}

/// The first candidate from `from` on, round and round, that can be used.
pub fn next(from: usize, count: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
    (0..count).map(|step| (from + step) % count).find(|candidate| usable(*candidate))
}

/// One of the candidates that can be used, at random.
fn draw(count: usize, usable: impl Fn(usize) -> bool, rng: &mut Rng) -> Option<usize> {
    let mut drawn = 0;
    for _ in 0..DRAWS_MAX {
        drawn = rng.below(count as u64) as usize;
        if drawn < count && usable(drawn) {
            return Some(drawn);
        }
    }
    next(drawn, count, usable)
}

#[cfg(test)]
mod tests;
