//! Shed: drop the least important part of an overload before the queue grows old.
//!
//! **Prevents** the standing queue: when more arrives than can be served, a queue only turns
//! every answer into a late one. Dropping a part at the door keeps the rest on time. And it
//! prevents half-served work: dropped by chance, `x` calls of one request all pass with `p^x`;
//! dropped by cohort, the same users pass everywhere.
//!
//! **Mechanics.** The queue's owner measures its [`Pressure`]. While the queue *stands* (more
//! arrives than drains, over 1.5 s), one threshold decides. Every request has a *rank*: the share of
//! recent arrivals that go before it, by tier and then by [`Cohort`]. It
//! passes when its rank is below
//!
//! ```text
//! drain / arrivals × (1 + 0.3 × (set − delay)/set + integral),    set = 0.9 × target
//! ```
//!
//! The first factor feeds forward what can be served; it is smoothed over a second, since its noise
//! would move users in and out. Once no arrival has met a delay for twice the target, more drains than was
//! counted, as when capacity has come back: the factor then grows by 15 % every 20 ms until somebody waits
//! again. The proportional part acts at once, on the delay that this very request would meet; the
//! integral, taken every 20 ms, moves the middle of it to the set point. A rank within half of the drain always passes: only the queue's own bound holds it back. Where
//! more important tiers arrive, too, or users who want no more than their share beside one who wants much
//! more, the set point of the others is lower and their slope steeper,
//! by the part `a` of the drain that the important use (`set × (1 − 1.5 a)`, `0.3 + 4 a`): what
//! they leave of the queue is room for those who may not be dropped.
//!
//! The target is never less than the time in which 12 drain, or a twelfth of the time that the request has if that
//! is less: the clock of a slow service is slower.
//!
//! A *burst* may queue; only when more comes than goes and even the luckiest request of the last 100 ms
//! waited [`HARD`] × the target is everything but `critical_plus` dropped. [`guard`]s (CPU, memory, the
//! runtime's lag) put a ceiling on the same threshold. The [`dimmer`] rises before all that.
//!
//! The steady rule holds 99 % of an M/M/8's capacity at 2 to 10 times it with a p99 of 62 ms, as a
//! cut by delay alone does, which instead lets through .55 to .65 of the whole requests that could
//! be served at four calls each; this one .94 and more. A steeper slope (1.0) gives .84: it lets the
//! queue's noise choose among cohorts.
//!
//! **Edges.** Whoever finds a place in flight free is not dropped, unless a guard says so. Until 20 requests
//! have arrived within a few seconds nobody's rank is known: then a request is dropped when the delay
//! is above its tier's share of the target, a quarter for `sheddable`, half for `sheddable_plus`, all of it for
//! `critical`, twice for `critical_plus`. A target of zero does so always, and drops, under a
//! standing queue, all that would have to wait.

mod crowd;
pub mod dimmer;
pub mod guard;

use crate::decision::{Policy, Reason, Rejection};
use crate::pressure::{Pressure, Reading};
use crate::request::{Cohort, Hour, Request, Tier};
use crate::time::{Span, Time};
use crowd::{Crowd, Rank, TICK};
use dimmer::Dimmer;
use guard::{Guard, Guards};

/// The multiple of the target at which a burst is cut, too.
pub const HARD: u64 = 4;

/// The default target for the queue delay.
pub const TARGET: Span = Span::from_millis(16);

/// The wait that is always allowed, in times between two that drain: a shorter one would take chance for an
/// overload where work is slow or workers are few.
const TARGET_DRAINS: u64 = 12;
/// That it stays below this part of the time that a request has.
const TARGET_OF_PATIENCE: u64 = 12;
/// The delay that is aimed at, as a part of the target.
const SET: f64 = 0.9;
/// How far the threshold moves for a delay of nothing, or of twice the set point.
const PROPORTIONAL: f64 = 0.3;
/// How far it moves in a second of that, and at most.
const INTEGRAL: f64 = 0.5;
const INTEGRAL_MOST: f64 = 0.3;
/// The part of the drain that always passes.
const ALWAYS: f64 = 0.5;
/// The set point and the slope of a tier, by what more important ones use of the drain.
const SET_LESS: f64 = 1.5;
const SET_LEAST: f64 = 0.25;
const STEEPER: f64 = 4.0;
/// For how many times the target nobody must have waited.
const IDLE: u64 = 2;
/// How fast, in a tick, more is taken to drain than was counted while the queue stays empty, and less once it is
/// long again.
const SPARE_RISE: f64 = 1.15;
const SPARE_FALL: f64 = 1.1;
/// The time over which small changes of the load are smoothed; larger ones count at once.
const LOAD_SPAN: Span = Span::from_secs(1);
const LOAD_JUMP: f64 = 0.2;
/// Arrivals over drain of a service that nobody calls.
const FLOW_LEAST: f64 = 1e-9;

/// A target for the queue delay, and guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The delay that `critical` requests may meet in a standing queue, at least: where 12 take longer to
    /// drain, that counts; default [`TARGET`]. Zero is meant as such.
    pub target: Span,
    /// What else may hold traffic back; default nothing.
    pub guards: Guards,
}

impl Default for Config {
    fn default() -> Config {
        Config { target: TARGET, guards: Guards::default() }
    }
}

/// Drops what a queue cannot serve in time.
#[derive(Clone, Debug)]
pub struct Shed {
    config: Config,
    /// The target at the pace of late.
    target: Span,
    crowd: Crowd,
    hour: Hour,
    /// Arrivals over drain, smoothed.
    load: f64,
    integral: f64,
    /// By how much more drains than was counted, as an empty queue shows.
    spare: f64,
    /// Arrivals over what drains by that count.
    flow: f64,
    /// When the first of those arrived who have met no delay in a queue that stands.
    idle_since: Option<Time>,
    /// Delays that arrivals met since the last tick: their sum and number.
    delays: (Span, u32),
    guard: Guard,
    dimmer: Dimmer,
    dropped: [u64; Tier::ALL.len()],
}

/// Plain values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// The target.
    pub target: Span,
    /// Requests dropped so far, by tier, most important first.
    pub dropped: [u64; Tier::ALL.len()],
    /// The share of arrivals that the guards let through, 0 to 1.
    pub guard: f64,
    /// How much less work a request should be given, 0 (none) to 1.
    pub dimmer: f64,
}

impl Shed {
    /// Nothing dropped yet.
    pub fn new(config: Config) -> Shed {
        Shed {
            config,
            target: config.target,
            crowd: Crowd::new(),
            hour: Hour::of(Time::ZERO),
            load: 0.0,
            integral: 0.0,
            spare: 1.0,
            flow: FLOW_LEAST,
            idle_since: None,
            delays: (Span::ZERO, 0),
            guard: Guard::new(),
            dimmer: Dimmer::new(),
            dropped: [0; Tier::ALL.len()],
        }
    }

    /// Lets the request pass on to the queue, or drops it.
    pub fn admit(&mut self, now: Time, request: &Request, pressure: &Pressure) -> Result<(), Rejection> {
        match self.drops(now, request, pressure) {
            None => Ok(()),
            Some(wait) => Err(refusal(wait)),
        }
    }

    /// When to ask again, if the request is dropped: a refusal is made only where it stays.
    #[inline]
    pub(crate) fn drops(&mut self, now: Time, request: &Request, pressure: &Pressure) -> Option<Span> {
        // Nearly always there is nothing to aim at.
        let is_calm = pressure.is_calm();
        if is_calm {
            self.idle_since = None;
        } else {
            self.aim(now, request.deadline, pressure);
        }
        if self.crowd.is_due(now) {
            self.tick(now, pressure);
        }
        self.delays = (self.delays.0 + pressure.delay, self.delays.1 + 1);
        let tier = request.tier;
        let cohort = request.cohort_in(now, &mut self.hour);
        self.crowd.add(tier, cohort);
        self.dimmer.observe(now, more(dimmed(pressure, self.target), self.guard.dimmed(now)));
        let hard = !is_calm && is_hard(pressure, self.target) && tier != Tier::CriticalPlus;
        let is_ranked = pressure.stands || self.guard.share() < 1.0;
        if !is_ranked && !hard {
            self.guard.count(1);
            return None;
        }
        self.drops_by_rank(now, (tier, cohort), pressure, is_ranked, hard)
    }

    /// Sets the target for a request that has until `deadline`, and notes whether the queue is idle.
    #[inline]
    fn aim(&mut self, now: Time, deadline: Time, pressure: &Pressure) {
        let target = match self.config.target {
            Span::ZERO => Span::ZERO,
            target => {
                let patience = deadline.since(now).as_nanos() / TARGET_OF_PATIENCE;
                target.max(pressure.pace.times(TARGET_DRAINS).min(Span::from_nanos(patience)))
            }
        };
        // Written only where it is another: the next lock would have to wait until it has been reckoned.
        if target != self.target {
            self.target = target;
        }
        if pressure.delay > Span::ZERO || !pressure.stands {
            self.idle_since = None;
        } else if self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
    }

    /// The same of a request that may have to be dropped.
    #[inline]
    fn drops_by_rank(
        &mut self,
        now: Time,
        (tier, cohort): (Tier, Cohort),
        pressure: &Pressure,
        is_ranked: bool,
        hard: bool,
    ) -> Option<Span> {
        let rank = is_ranked.then(|| self.crowd.rank(tier, cohort)).flatten();
        let over = pressure.stands
            && !pressure.has_room
            && match rank {
                Some(rank) if self.target > Span::ZERO => !self.is_passing(rank, pressure.delay),
                _ => pressure.delay > self.allowed(tier),
            };
        let place = rank.map_or_else(|| crowd::unknown(tier, cohort), |rank| rank.place);
        let guarded = !self.guard.passes(now, place);
        let passes = !over && !guarded && !hard;
        self.guard.count(u32::from(passes));
        if passes {
            return None;
        }
        self.dropped[tier as usize] += 1;
        let excess = pressure.delay.minus(self.allowed(tier));
        Some(excess.max(Span::from_secs(1)))
    }

    /// Takes in how the machine is doing. Whoever has guards calls this a few times a second.
    pub fn observe(&mut self, now: Time, reading: &Reading) {
        self.guard.observe(now, &self.config.guards, reading);
    }

    /// How much less work each request should be given now: 0 for none, 1 for as little as there is.
    /// It is 1 before anything is dropped for its rank.
    pub fn dimmer(&self, now: Time) -> f64 {
        self.dimmer.level(now)
    }

    /// Changes target and guards.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
        self.target = config.target;
    }

    /// Plain values.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        Snapshot {
            target: self.config.target,
            dropped: self.dropped,
            guard: self.guard.share(),
            dimmer: self.dimmer(now),
        }
    }

    fn tick(&mut self, now: Time, pressure: &Pressure) {
        self.crowd.sum(now);
        let tick = TICK.as_secs_f64();
        let (sum, count) = core::mem::take(&mut self.delays);
        let change = pressure.load - self.load;
        let smooth = change.abs() <= LOAD_JUMP * self.load;
        self.load += change * if smooth { tick / LOAD_SPAN.as_secs_f64() } else { 1.0 };
        if pressure.stands {
            let delay = sum.as_secs_f64() / f64::from(count.max(1));
            let set = (self.target.as_secs_f64() * SET).max(1e-9);
            let error = (1.0 - delay / set).max(-1.0);
            self.integral = (self.integral + INTEGRAL * error * tick).clamp(-INTEGRAL_MOST, INTEGRAL_MOST);
            let is_idle = self.idle_since.is_some_and(|since| now.since(since) >= self.target.times(IDLE));
            self.spare = if is_idle {
                (self.spare * SPARE_RISE).min(self.load)
            } else if delay > set {
                self.spare / SPARE_FALL
            } else {
                self.spare * (1.0 - tick)
            }
            .max(1.0);
        } else {
            self.integral *= 1.0 - tick;
            self.spare = 1.0;
        }
        self.flow = (self.load / self.spare).max(FLOW_LEAST);
    }

    /// Whether a request of this rank, behind a share that may not be dropped, passes at this delay.
    fn is_passing(&self, rank: Rank, delay: Span) -> bool {
        let ahead = (rank.ahead * self.flow).min(1.0);
        let set = self.target.as_nanos_f64() * SET * (1.0 - SET_LESS * ahead).max(SET_LEAST);
        let error = set - delay.as_nanos_f64();
        // Steeper only on the way down: a short delay must not lift a tier above a more important one.
        let slope = if error < 0.0 { PROPORTIONAL + STEEPER * ahead } else { PROPORTIONAL };
        // Both sides are times the set point: a comparison needs no division.
        let (place, part) = (rank.place * self.flow * set, (1.0 + self.integral) * set + slope * error);
        place <= part || place <= ALWAYS * (1.0 - ahead) * set
    }

    /// The delay that a tier may meet while ranks are unknown.
    fn allowed(&self, tier: Tier) -> Span {
        let target = self.target;
        match tier {
            Tier::CriticalPlus => target.times(2),
            Tier::Critical => target,
            Tier::SheddablePlus => target.scaled(0.5),
            Tier::Sheddable => target.scaled(0.25),
        }
    }
}

/// The refusal of who is dropped, and may ask again after so long.
pub(crate) const fn refusal(wait: Span) -> Rejection {
    Rejection::new(Policy::Shed, Reason::Shed, wait)
}

/// Whether even a burst is too old.
fn is_hard(pressure: &Pressure, target: Span) -> bool {
    pressure.grows && pressure.least_delay > target.times(HARD) && pressure.delay > target
}

/// How far the pressure asks for less work: all of it before anything is dropped.
fn dimmed(pressure: &Pressure, target: Span) -> f64 {
    if pressure.stands {
        return 1.0;
    }
    let by_delay = match pressure.least_delay {
        Span::ZERO => 0.0,
        delay => {
            let hard = target.times(HARD).as_secs_f64().max(1e-9);
            dimmer::between(hard / 2.0, hard, delay.as_secs_f64())
        }
    };
    more(by_delay, dimmer::between(dimmer::LOAD_FROM, dimmer::LOAD_FULL, pressure.load))
}

/// The larger of two numbers, which [`f64::max`] must look for even if one were none.
#[inline]
fn more(one: f64, other: f64) -> f64 {
    if one > other { one } else { other }
}

#[cfg(test)]
mod tests;
