//! The retry budget: retries are paid for by successes.
//!
//! **Prevents** retry storms. A retry helps when failures are rare and independent; when the
//! callee is overloaded, each retry is one more request that it cannot serve. A budget lets the
//! first kind through and starves the second.
//!
//! **Mechanics.** Each successful call deposits `ratio` of a retry (default 10 %), each retry
//! withdraws a whole one *before* its backoff begins, so that attempts which still wait are
//! counted. With independent failures p the success rate is s = (1−p)/(1−f(1−p)) and the load
//! 1 + f·s: in a total outage nothing is left and the load falls to 1.0. Balances are integers.
//!
//! **Edges.** The balance is capped at [`BALANCE_MAX`] retries, so that hours of success cannot
//! pay for a storm. A client that calls rarely gets one retry each [`FLOOR_EVERY`] even with an
//! empty balance; that floor is too small to defeat the budget however many clients there are.

use crate::time::{Span, Time};

/// The most retries that successes can save up.
pub const BALANCE_MAX: u32 = 100;

/// An empty balance still pays for one retry in this time.
pub const FLOOR_EVERY: Span = Span::from_secs(10);

/// Parts of a retry that make a whole one.
const WHOLE: u64 = 1_000_000;

/// What a success deposits, in parts per million of a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    ratio_ppm: u32,
    floor: bool,
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

impl Config {
    /// Retries up to `ratio_ppm` parts per million of successes, with the floor.
    pub fn new(ratio_ppm: u32) -> Result<Config, RatioAboveOne> {
        if u64::from(ratio_ppm) > WHOLE { Err(RatioAboveOne) } else { Ok(Config { ratio_ppm, floor: true }) }
    }

    /// The same without the floor: an empty balance pays for nothing.
    pub const fn without_floor(self) -> Config {
        Config { floor: false, ..self }
    }
}

impl Default for Config {
    /// 10 %, with the floor.
    fn default() -> Config {
        Config { ratio_ppm: 100_000, floor: true }
    }
}

/// A balance of retries, shared by all calls to one upstream.
#[derive(Debug)]
pub struct Budget {
    config: Config,
    balance: u64,
    floor_from: Time,
    withdrawn: u64,
    refused: u64,
}

/// What a budget looks like from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Whole and partial retries that could be paid for now.
    pub balance: f64,
    /// Retries paid for so far.
    pub withdrawn: u64,
    /// Retries that could not be paid for.
    pub refused: u64,
}

impl Budget {
    /// An empty balance.
    pub fn new(config: Config, now: Time) -> Budget {
        Budget { config, balance: 0, floor_from: now, withdrawn: 0, refused: 0 }
    }

    /// A call succeeded.
    pub fn deposit(&mut self) {
        self.balance = (self.balance + u64::from(self.config.ratio_ppm)).min(u64::from(BALANCE_MAX) * WHOLE);
    }

    /// Pays for one retry, or does not.
    #[must_use]
    pub fn withdraw(&mut self, now: Time) -> bool {
        if self.balance >= WHOLE {
            self.balance -= WHOLE;
        } else if self.config.floor && now >= self.floor_from {
            self.floor_from = now + FLOOR_EVERY;
        } else {
            self.refused += 1;
            return false;
        }
        self.withdrawn += 1;
        true
    }

    /// A retry that was paid for was never sent.
    pub fn refund(&mut self) {
        self.balance = (self.balance + WHOLE).min(u64::from(BALANCE_MAX) * WHOLE);
        self.withdrawn = self.withdrawn.saturating_sub(1);
    }

    /// Changes the ratio; the balance stays.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// Plain values.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            balance: self.balance as f64 / WHOLE as f64,
            withdrawn: self.withdrawn,
            refused: self.refused,
        }
    }
}

#[cfg(test)]
mod tests;
