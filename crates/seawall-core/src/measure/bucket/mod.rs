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
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuotaError::EmptyRate => f.write_str("a rate needs at least 1 in a period longer than zero"),
            QuotaError::EmptyBurst => f.write_str("a burst must be at least 1"),
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
        // Half the range stays free, so that level + refill cannot overflow.
        let most = (u64::MAX / 2) / per_token.max(per_nano);
        if burst > most {
            return Err(QuotaError::BurstAbove(most));
        }
        Ok(Quota { per_token, per_nano, burst })
    }

    /// The capacity in tokens.
    pub const fn burst(&self) -> u64 {
        self.burst
    }

    /// The time in which an empty bucket fills.
    pub const fn time_to_full(&self) -> Span {
        Span::from_nanos(self.capacity().div_ceil(self.per_nano))
    }

    const fn capacity(&self) -> u64 {
        self.burst * self.per_token
    }
}

const fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Tokens at a point in time: two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    level: u64,
    at: Time,
}

impl Bucket {
    /// A full bucket.
    pub const fn full(quota: &Quota, now: Time) -> Bucket {
        Bucket { level: quota.capacity(), at: now }
    }

    const fn level(&self, quota: &Quota, now: Time) -> u64 {
        let capacity = quota.capacity();
        let missing = capacity.saturating_sub(self.level);
        let elapsed = now.since(self.at).as_nanos();
        if elapsed >= missing.div_ceil(quota.per_nano) {
            capacity
        } else {
            self.level + elapsed * quota.per_nano
        }
    }

    /// Whole tokens that could be taken now.
    pub const fn tokens(&self, quota: &Quota, now: Time) -> u64 {
        self.level(quota, now) / quota.per_token
    }

    /// Whether forgetting this bucket would hand nobody a token.
    pub const fn is_full(&self, quota: &Quota, now: Time) -> bool {
        self.level(quota, now) == quota.capacity()
    }

    /// The exact time until `cost` tokens are there; zero when they are.
    pub const fn wait(&self, quota: &Quota, now: Time, cost: u64) -> Span {
        if cost > quota.burst {
            return Span::MAX;
        }
        let missing = (cost * quota.per_token).saturating_sub(self.level(quota, now));
        Span::from_nanos(missing.div_ceil(quota.per_nano))
    }

    /// Takes `cost` tokens, or takes nothing and says how long to wait.
    pub fn take(&mut self, quota: &Quota, now: Time, cost: u64) -> Result<(), Span> {
        let wait = self.wait(quota, now, cost);
        if wait > Span::ZERO {
            return Err(wait);
        }
        *self = Bucket { level: self.level(quota, now) - cost * quota.per_token, at: now.max(self.at) };
        Ok(())
    }

    /// Returns `cost` tokens that were taken and not used; never above the capacity.
    pub fn give_back(&mut self, quota: &Quota, now: Time, cost: u64) {
        let returned = cost.min(quota.burst) * quota.per_token;
        let level = (self.level(quota, now) + returned).min(quota.capacity());
        *self = Bucket { level, at: now.max(self.at) };
    }

    /// The same share of `to` that this bucket holds of `from`: a change of quota never refills.
    pub fn rescale(&mut self, from: &Quota, to: &Quota, now: Time) {
        let level = u128::from(self.level(from, now)) * u128::from(to.capacity());
        let level = level / u128::from(from.capacity());
        // At most `to.capacity()`, because the level is at most `from.capacity()`.
        *self = Bucket { level: level as u64, at: now.max(self.at) };
    }
}

#[cfg(test)]
mod tests;
