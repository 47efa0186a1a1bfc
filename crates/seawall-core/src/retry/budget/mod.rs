//! The retry budget: retries and hedges are paid for by successes.
//!
//! **Prevents** retry storms. A second attempt helps when failures are rare and independent; when
//! the callee is overloaded, each is one more request that it cannot serve. A budget lets the
//! first kind through and starves the second.
//!
//! **Mechanics.** Each successful call deposits `ratio` of an attempt (default 10 %), each retry or
//! hedge withdraws a whole one. A retry withdraws *before* its backoff begins, so that attempts
//! which still wait are counted; looking and taking are one verb, so that nobody comes in between.
//! With independent failures p the success rate is s = (1−p)/(1−f(1−p)) and the load 1 + f·s: in a
//! total outage nothing is left and the load falls to 1.0. Balances are integers.
//!
//! A deposit lives for `lifetime` (default 10 s) and at most a tenth longer, also when there is
//! next to no traffic: what was earned before an outage began cannot feed a storm long after. The
//! oldest deposits are spent first.
//!
//! **Edges.** The balance is capped at [`BALANCE_MAX`] attempts, so that a burst of success cannot
//! pay for a storm. A client that calls rarely gets one attempt each [`FLOOR_EVERY`] even with an
//! empty balance; that floor is too small to defeat the budget however many clients there are. What
//! was paid for and never sent is refunded to where it came from: to the deposit while that lives,
//! or to the floor.
//!
//! ```
//! use seawall_core::retry::budget::{Budget, Config};
//! use seawall_core::time::Time;
//!
//! let now = Time::ZERO;
//! let mut budget = Budget::new(Config::default().without_floor(), now);
//! (0..10).for_each(|_| budget.deposit(now)); // Ten successes ...
//! assert!(budget.withdraw(now).is_some()); // ... pay for one retry,
//! assert!(budget.withdraw(now).is_none()); // and not for two.
//! ```

use crate::measure::slices::Slices;
use crate::time::{Span, Time};

/// The most attempts that successes can save up.
pub const BALANCE_MAX: u32 = 100;

/// An empty balance still pays for one attempt in this time.
pub const FLOOR_EVERY: Span = Span::from_secs(10);

/// The shortest life of a deposit.
pub const LIFETIME_MIN: Span = Span::from_secs(1);

/// The longest life of a deposit.
pub const LIFETIME_MAX: Span = Span::from_secs(3_600);

/// Parts of an attempt that make a whole one.
const WHOLE: u64 = 1_000_000;

/// Parts into which the lifetime is cut, and one more.
const SLICES: usize = 11;

/// What a success deposits, in parts per million of an attempt, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    ratio_ppm: u32,
    floor: bool,
    lifetime: Span,
}

/// The ratio is above 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatioAboveOne;

impl core::fmt::Display for RatioAboveOne {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a retry budget can be at most 100 % of successes")
    }
}

impl core::error::Error for RatioAboveOne {}

/// The lifetime is below [`LIFETIME_MIN`] or above [`LIFETIME_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifetimeOutOfRange(pub Span);

impl core::fmt::Display for LifetimeOutOfRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the lifetime of deposits must be 1 s to 1 h, not {}", self.0)
    }
}

impl core::error::Error for LifetimeOutOfRange {}

impl Config {
    /// Attempts up to `ratio_ppm` parts per million of successes, with the floor, for 10 s.
    pub fn new(ratio_ppm: u32) -> Result<Config, RatioAboveOne> {
        if u64::from(ratio_ppm) > WHOLE {
            return Err(RatioAboveOne);
        }
        Ok(Config { ratio_ppm, ..Config::default() })
    }

    /// What a success pays for, in parts per million of a retry.
    pub const fn ratio_ppm(&self) -> u32 {
        self.ratio_ppm
    }

    /// The same without the floor: an empty balance pays for nothing.
    pub const fn without_floor(self) -> Config {
        Config { floor: false, ..self }
    }

    /// The same, with deposits that live for `lifetime`, [`LIFETIME_MIN`] to [`LIFETIME_MAX`].
    pub fn lasting(self, lifetime: Span) -> Result<Config, LifetimeOutOfRange> {
        if !(LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime) {
            return Err(LifetimeOutOfRange(lifetime));
        }
        Ok(Config { lifetime, ..self })
    }
}

impl Default for Config {
    /// 10 %, for 10 s, with the floor.
    fn default() -> Config {
        Config { ratio_ppm: 100_000, floor: true, lifetime: Span::from_secs(10) }
    }
}

/// A balance of attempts, shared by all calls to one upstream.
#[derive(Debug)]
pub struct Budget {
    config: Config,
    deposits: Slices<u64, SLICES>,
    balance: u64,
    floor_from: Time,
    withdrawn: u64,
    refunded: u64,
    refused: u64,
}

/// One attempt, paid for. Spent by forgetting it; [`Budget::refund`] takes it back.
#[derive(Debug)]
#[must_use = "an attempt that is paid for is sent or refunded"]
pub struct Payment {
    /// The part of the lifetime from which the last of it came; `None` for the floor.
    slice: Option<u64>,
}

/// What a budget looks like from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Whole and partial attempts that could be paid for when it was last used.
    pub balance: f64,
    /// Attempts paid for so far; never falls.
    pub withdrawn: u64,
    /// Of these, attempts that were never sent; never falls.
    pub refunded: u64,
    /// Attempts that could not be paid for; never falls.
    pub refused: u64,
}

impl Budget {
    /// An empty balance.
    pub fn new(config: Config, now: Time) -> Budget {
        Budget {
            config,
            deposits: Slices::new(config.lifetime, now),
            balance: 0,
            floor_from: now,
            withdrawn: 0,
            refunded: 0,
            refused: 0,
        }
    }

    /// A call succeeded.
    pub fn deposit(&mut self, now: Time) {
        self.expire(now);
        let room = u64::from(BALANCE_MAX) * WHOLE - self.balance;
        let parts = u64::from(self.config.ratio_ppm).min(room);
        self.balance += parts;
        *self.deposits.newest() += parts;
    }

    /// Pays for one attempt, or does not.
    pub fn withdraw(&mut self, now: Time) -> Option<Payment> {
        self.expire(now);
        let payment = if self.balance >= WHOLE {
            self.take()
        } else if self.config.floor && now >= self.floor_from {
            self.floor_from = now + FLOOR_EVERY;
            Payment { slice: None }
        } else {
            self.refused += 1;
            return None;
        };
        self.withdrawn += 1;
        Some(payment)
    }

    /// An attempt that was paid for was never sent.
    pub fn refund(&mut self, now: Time, payment: Payment) {
        self.expire(now);
        self.refunded += 1;
        let Some(slice) = payment.slice else {
            self.floor_from = now;
            return;
        };
        let room = u64::from(BALANCE_MAX) * WHOLE - self.balance;
        if let Some(deposit) = self.deposits.at(slice) {
            let parts = WHOLE.min(room);
            *deposit += parts;
            self.balance += parts;
        }
    }

    /// Changes the config; the balance stays.
    pub fn configure(&mut self, config: Config, now: Time) {
        if config.lifetime != self.config.lifetime {
            self.expire(now);
            self.deposits = Slices::new(config.lifetime, now);
            *self.deposits.newest() = self.balance;
        }
        self.config = config;
    }

    /// Plain values.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            balance: self.balance as f64 / WHOLE as f64,
            withdrawn: self.withdrawn,
            refunded: self.refunded,
            refused: self.refused,
        }
    }

    fn expire(&mut self, now: Time) {
        let balance = &mut self.balance;
        self.deposits.slide(now, |expired| *balance -= expired);
    }

    /// Takes a whole attempt from the oldest deposits.
    fn take(&mut self) -> Payment {
        let (mut missing, mut last) = (WHOLE, self.deposits.number());
        for number in self.deposits.numbers() {
            let Some(deposit) = self.deposits.at(number) else { continue };
            let taken = missing.min(*deposit);
            *deposit -= taken;
            missing -= taken;
            if missing == 0 {
                last = number;
                break;
            }
        }
        self.balance -= WHOLE;
        Payment { slice: Some(last) }
    }
}

#[cfg(test)]
mod tests;
