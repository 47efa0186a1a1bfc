//! The token bucket: a quota over time, in exact integers.
//!
//! **Prevents** one caller from taking what belongs to all, without a timer: nothing is spent on
//! callers who are away, because tokens are computed from the time that passed.
//!
//! **Mechanics.** A rate of `count` per `per` is reduced to lowest terms, so that one token is
//! `per_token` units and `per_nano` units arrive each nanosecond. Nothing is rounded: over any
//! window `t`, a bucket of size `b` and rate `r` admits at most `b + r·t`, and an idle bucket is
//! full again after exactly `b / r`. After years of idleness nothing overflows, because the time
//! is compared with the time to full before it is multiplied.
//!
//! **Edges.** Time that runs backwards adds nothing. A cost above the burst can never pass; the
//! wait is then [`Span::MAX`].

use core::fmt;

use crate::time::{Span, Time};

/// How fast tokens arrive: `count` each `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens in each period; at least 1.
    pub count: u64,
    /// The period; longer than zero.
    pub per: Span,
}

impl Rate {
    /// `count` each second.
    pub const fn per_second(count: u64) -> Rate {
        Rate { count, per: Span::from_secs(1) }
    }
}

/// What a bucket may hold and how fast it fills. Valid by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    per_token: u64,
    per_nano: u64,
    burst: u64,
}

/// Why a quota cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaError {
    /// The rate counts nothing, or its period is empty.
    EmptyRate,
    /// The burst is zero.
    EmptyBurst,
    /// The burst is above what can be counted exactly at this rate.
    BurstAbove(u64),
    /// The period, in lowest terms with the count, is longer than this: not even one token can be counted.
    PeriodAbove(Span),
    /// The rate's count, in lowest terms with its period in nanoseconds, is above this.
    RateAbove(u64),
}

/// The most units that may arrive in a nanosecond: levels are then counted for at least a second
/// from one base.
const PER_NANO_MAX: u64 = 1 << 32;

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuotaError::EmptyRate => f.write_str("a rate needs at least 1 in a period longer than zero"),
            QuotaError::EmptyBurst => f.write_str("a burst must be at least 1"),
            QuotaError::RateAbove(most) => {
                write!(
                    f,
                    "the count of a rate can be at most {most} in lowest terms (count over nanoseconds)"
                )
            }
            QuotaError::PeriodAbove(most) => {
                write!(f, "the period of a rate can be at most {most} for each that it counts")
            }
            QuotaError::BurstAbove(most) => write!(f, "the burst can be at most {most} at this rate"),
        }
    }
}

impl core::error::Error for QuotaError {}

impl Quota {
    /// A quota of `rate` with capacity `burst`, both at least 1.
    pub fn new(rate: Rate, burst: u64) -> Result<Quota, QuotaError> {
        let per = rate.per.as_nanos();
        if rate.count == 0 || per == 0 {
            return Err(QuotaError::EmptyRate);
        }
        if burst == 0 {
            return Err(QuotaError::EmptyBurst);
        }
        let divisor = gcd(rate.count, per);
        let (per_token, per_nano) = (per / divisor, rate.count / divisor);
        if per_nano > PER_NANO_MAX {
            return Err(QuotaError::RateAbove(PER_NANO_MAX));
        }
        // Half the range stays free, so that level + refill cannot overflow.
        const RANGE: u64 = u64::MAX / 2;
        if per_token > RANGE {
            return Err(QuotaError::PeriodAbove(Span::from_nanos(RANGE)));
        }
        let most = RANGE / per_token.max(per_nano);
        if burst > most {
            return Err(QuotaError::BurstAbove(most));
        }
        Ok(Quota { per_token, per_nano, burst })
    }

    /// The rate, in lowest terms.
    pub const fn rate(&self) -> Rate {
        Rate { count: self.per_nano, per: Span::from_nanos(self.per_token) }
    }

    /// The capacity in tokens.
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// The time in which an empty bucket fills.
    pub const fn time_to_full(&self) -> Span {
        Span::from_nanos(self.capacity().div_ceil(self.per_nano))
    }

    pub(crate) const fn capacity(&self) -> u64 {
        self.burst * self.per_token
    }

    /// Whether a full bucket can be counted in this unit.
    pub(crate) fn fits(&self, unit: Unit) -> bool {
        let most = (u64::MAX / 2) / self.capacity();
        unit.0 / self.per_nano <= most
    }

    /// Counted in its own unit.
    const fn gauge(&self) -> Gauge {
        Gauge::new(self, Unit::of(self))
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The unit in which levels are counted: `per_nano` of them arrive in a nanosecond.
///
/// Buckets that share one are compared with the same [`Ticks`]: whose bucket is full shows
/// without asking which quota it is filled by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit(u64);

impl Unit {
    /// How far ahead of now a level may lie: three quarters of the range. The last quarter is
    /// left for the time that passes until levels are counted from a newer base.
    const AHEAD_MAX: u64 = u64::MAX / 4 * 3;

    /// The unit of one quota.
    pub(crate) const fn of(quota: &Quota) -> Unit {
        Unit(quota.per_nano)
    }

    /// The least unit of which both are made, if it can be counted.
    pub(crate) fn with(self, quota: &Quota) -> Option<Unit> {
        self.times(quota.per_nano / gcd(self.0, quota.per_nano))
    }

    /// A part of this unit: `times` of it are one.
    pub(crate) fn times(self, times: u64) -> Option<Unit> {
        self.0.checked_mul(times).filter(|unit| *unit <= PER_NANO_MAX).map(Unit)
    }

    /// The time for which levels can be counted from one base; at least a second.
    pub(crate) const fn epoch(self) -> Span {
        Span::from_nanos((u64::MAX - Unit::AHEAD_MAX) / self.0)
    }

    /// What arrives in `span`, which is no longer than an epoch.
    pub(crate) const fn ticks(self, span: Span) -> Ticks {
        Ticks(span.as_nanos() * self.0)
    }

    /// The time in which so much arrives, rounded up.
    pub(crate) const fn span(self, ticks: u64) -> Span {
        if self.0 == 1 { Span::from_nanos(ticks) } else { Span::from_nanos(ticks.div_ceil(self.0)) }
    }
}

/// An instant in units since some base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticks(pub(crate) u64);

/// How full a bucket is, in one word: the instant at which it is full again. It is full when
/// that has come; what is missing is the time until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Level(pub(crate) u64);

impl Level {
    /// Units that are missing.
    pub(crate) const fn missing(self, now: Ticks) -> u64 {
        self.0.saturating_sub(now.0)
    }

    /// Whether forgetting it would hand nobody a token.
    pub(crate) const fn is_full(self, now: Ticks) -> bool {
        self.0 <= now.0
    }

    /// The same, counted from a base that is `elapsed` later.
    pub(crate) fn since(self, unit: Unit, elapsed: Span) -> Level {
        let passed = u128::from(elapsed.as_nanos()) * u128::from(unit.0);
        Level(u64::try_from(u128::from(self.0).saturating_sub(passed)).expect("less than it was"))
    }
}

/// A quota counted in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gauge {
    /// Units of one token.
    token: u64,
    /// Units of a full bucket.
    capacity: u64,
}

impl Gauge {
    /// This quota in its own unit or a part of it.
    pub(crate) const fn new(quota: &Quota, unit: Unit) -> Gauge {
        let parts = unit.0 / quota.per_nano;
        Gauge { token: quota.per_token * parts, capacity: quota.capacity() * parts }
    }

    /// Whole tokens that could be taken now.
    pub(crate) const fn tokens(&self, level: Level, now: Ticks) -> u64 {
        let left = self.capacity.saturating_sub(level.missing(now));
        // A division takes as long as all else: who is refused has none left.
        if left < self.token { 0 } else { left / self.token }
    }

    /// Units of `cost` tokens; `None` when a full bucket has not as many.
    pub(crate) const fn units(&self, cost: u64) -> Option<u64> {
        if cost == 1 {
            return Some(self.token);
        }
        match cost.checked_mul(self.token) {
            Some(units) if units <= self.capacity => Some(units),
            _ => None,
        }
    }

    /// The level after `units` are taken, which may be more than there are.
    pub(crate) fn after(level: Level, now: Ticks, units: u64) -> Level {
        Level(level.0.max(now.0) + units)
    }

    /// Units that must yet arrive until so many, at most a full bucket, can be taken.
    pub(crate) const fn short(&self, level: Level, now: Ticks, units: u64) -> u64 {
        level.missing(now).saturating_sub(self.capacity - units)
    }

    /// Whether taking `units` and waiting `wait` more stays within what can be counted.
    pub(crate) const fn counts(level: Level, now: Ticks, units: u64) -> bool {
        match level.missing(now).checked_add(units) {
            Some(missing) => missing <= Unit::AHEAD_MAX,
            None => false,
        }
    }

    /// What is missing of `to` when the same share of it is: counted from `now`, rounded up, as a
    /// change of quota never refills.
    pub(crate) fn rescaled(&self, level: Level, now: Ticks, to: &Gauge) -> u64 {
        let missing = u128::from(level.missing(now)) * u128::from(to.capacity);
        let missing = missing.div_ceil(u128::from(self.capacity));
        u64::try_from(missing).unwrap_or(u64::MAX).min(Unit::AHEAD_MAX)
    }
}

/// Tokens at a point in time: two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    level: Level,
    base: Time,
}

impl Bucket {
    /// A full bucket.
    pub const fn full(_: &Quota, now: Time) -> Bucket {
        Bucket { level: Level(0), base: now }
    }

    /// The same bucket, counted from `now` unless that is earlier.
    fn at(self, quota: &Quota, now: Time) -> Bucket {
        let level = self.level.since(Unit::of(quota), now.since(self.base));
        Bucket { level, base: now.max(self.base) }
    }

    /// Whole tokens that could be taken now.
    pub fn tokens(&self, quota: &Quota, now: Time) -> u64 {
        quota.gauge().tokens(self.at(quota, now).level, Ticks(0))
    }

    /// Whether forgetting this bucket would hand nobody a token.
    pub fn is_full(&self, quota: &Quota, now: Time) -> bool {
        self.at(quota, now).level.is_full(Ticks(0))
    }

    /// The exact time until `cost` tokens are there; zero when they are.
    pub fn wait(&self, quota: &Quota, now: Time, cost: u64) -> Span {
        let gauge = quota.gauge();
        let Some(units) = gauge.units(cost) else { return Span::MAX };
        Unit::of(quota).span(gauge.short(self.at(quota, now).level, Ticks(0), units))
    }

    /// Takes `cost` tokens, or takes nothing and says how long to wait.
    pub fn take(&mut self, quota: &Quota, now: Time, cost: u64) -> Result<(), Span> {
        let wait = self.wait(quota, now, cost);
        if wait > Span::ZERO {
            return Err(wait);
        }
        let Bucket { level, base } = self.at(quota, now);
        let units = quota.gauge().units(cost).expect("there is no wait for what never comes");
        *self = Bucket { level: Gauge::after(level, Ticks(0), units), base };
        Ok(())
    }

    /// Returns `cost` tokens that were taken and not used; never above the capacity.
    pub fn give_back(&mut self, quota: &Quota, now: Time, cost: u64) {
        let Bucket { level, base } = self.at(quota, now);
        let returned = quota.gauge().units(cost.min(quota.burst)).expect("no more than the burst");
        *self = Bucket { level: Level(level.0.saturating_sub(returned)), base };
    }

    /// The same share of `to` that this bucket holds of `from`: a change of quota never refills.
    pub fn rescale(&mut self, from: &Quota, to: &Quota, now: Time) {
        let Bucket { level, base } = self.at(from, now);
        *self = Bucket { level: Level(from.gauge().rescaled(level, Ticks(0), &to.gauge())), base };
    }
}

#[cfg(test)]
mod tests;
