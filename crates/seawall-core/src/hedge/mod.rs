//! Hedging: a second attempt for the call that takes unusually long, while the first goes on.
//!
//! **Prevents** the slowest few calls from setting the pace of everything that waits for them. Where
//! a retry waits for a failure, a hedge waits for slowness; whichever attempt answers first wins.
//!
//! **Mechanics.** A hedge is sent when an attempt has been under way for a fixed delay or for a live
//! quantile of latency, up to `most` for a call, each after a further delay. With replicas of
//! independent latency, a delay at quantile q costs 1 − q more attempts. Hedges are paid for by the
//! retry budget. After Dean and Barroso, "The Tail at Scale" (2013).
//!
//! **Edges.** The quantile learns from losers too (as samples known only by a lower bound), or slow
//! hosts would look fast and the delay would sink by its own doing. Under overload a hedge is only
//! more load: none is sent while the upstream's queue stands, while more than `busy_most` of its
//! places are taken (a running mean at the times when a hedge is due), or when the budget is empty.
//! The mean over the last [`BUSY_SOON`] and that over the last [`BUSY_LONG`] must both be below: a lull of
//! a moment is no room, for the loser of a hedge may go on keeping a worker busy that nobody counts.
//! While too little is known to tell the quantile, none is sent either. Where latencies hardly differ,
//! hedges come too late to win, and each costs an attempt for nothing: after [`FUTILE_AFTER`] in a row that
//! did not answer first, one of [`FUTILE_TRIES`] that are due is sent, until one wins again. What to do
//! when an attempt fails while another is under way is the matter of [`crate::call`].

use crate::measure::ewma::Ewma;
use crate::measure::quantile::{Histogram, Quantile, Tracked};
use crate::time::Span;

/// The most hedges of one call.
pub const HEDGES_MAX: u32 = 3;

/// Over how many hedges that were due the places taken are averaged, to see an overload soon.
pub const BUSY_SOON: u32 = 20;

/// The same, to see that it is over.
pub const BUSY_LONG: u32 = 500;

/// After so many hedges in a row of which none answered first, they are futile.
pub const FUTILE_AFTER: u32 = 1_000;

/// Of how many hedges that are due one is sent while they are futile.
pub const FUTILE_TRIES: u32 = 10;

/// After how long a hedge is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    /// Always after this long.
    Delay(Span),
    /// After the latency at this quantile.
    Quantile(Quantile),
}

/// When hedges are sent. Valid by construction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    after: After,
    most: u32,
    busy_most: f64,
}

/// Why a config cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// A delay of zero would double every call.
    NoDelay,
    /// `most` is not 1 to [`HEDGES_MAX`].
    Most(u32),
    /// `busy_most` is not above 0 and at most 1.
    BusyMost,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ConfigError::NoDelay => f.write_str("`after` must be longer than zero"),
            ConfigError::Most(most) => write!(f, "`most` must be 1 to {HEDGES_MAX} hedges, not {most}"),
            ConfigError::BusyMost => f.write_str("`busy_most` must be above 0 % and at most 100 %"),
        }
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// One hedge, `after` so long, off when more than 85 % of the places are taken.
    pub fn new(after: After) -> Result<Config, ConfigError> {
        if after == After::Delay(Span::ZERO) {
            return Err(ConfigError::NoDelay);
        }
        Ok(Config { after, ..Config::default() })
    }

    /// After how long a hedge is sent.
    pub const fn when(&self) -> After {
        self.after
    }

    /// The same with up to `most` hedges for a call, 1 to [`HEDGES_MAX`].
    pub fn up_to(self, most: u32) -> Result<Config, ConfigError> {
        if !(1..=HEDGES_MAX).contains(&most) {
            return Err(ConfigError::Most(most));
        }
        Ok(Config { most, ..self })
    }

    /// The same, off when more than this share of the places is taken; above 0, at most 1.
    pub fn busy_at_most(self, share: f64) -> Result<Config, ConfigError> {
        if share > 0.0 && share <= 1.0 {
            Ok(Config { busy_most: share, ..self })
        } else {
            Err(ConfigError::BusyMost)
        }
    }
}

impl Default for Config {
    /// One hedge, at the 95th percentile, off when more than 85 % of the places are taken.
    fn default() -> Config {
        Config { after: After::Quantile(Quantile::P95), most: 1, busy_most: 0.85 }
    }
}

/// How busy an upstream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests in flight.
    pub in_flight: u32,
    /// Places in flight; 0 when there is no limit that could tell.
    pub limit: u32,
    /// Whether a queue in front of it stands.
    pub stands: bool,
}

/// Why a hedge that was due is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    /// The upstream has enough to do.
    Overload,
    /// The retry budget is empty.
    Budget,
    /// Hedges have not won for long: [`FUTILE_AFTER`].
    Futile,
    /// No host, or the client's own backpressure, let it pass.
    Refused,
    /// Hedges are in shadow.
    Shadow,
}

/// What it looks like from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// After how long a hedge is sent; `None` while that is not known.
    pub after: Option<Span>,
    /// The share of places taken, as hedges that were due found it; 0 to 1.
    pub busy: f64,
    /// Hedges sent.
    pub sent: u64,
    /// Of these, the ones that answered first.
    pub won: u64,
    /// Hedges that were due and not sent because of overload.
    pub overload: u64,
    /// … because the budget was empty.
    pub unpaid: u64,
    /// … because they had not won for long.
    pub futile: u64,
    /// … because nobody let them pass.
    pub refused: u64,
    /// … because hedges are in shadow.
    pub shadowed: u64,
}

/// When calls to one upstream are hedged.
#[derive(Debug)]
pub struct Hedge {
    config: Config,
    quantile: Option<Tracked>,
    busy_soon: Ewma,
    busy_long: Ewma,
    /// Sent since one won.
    in_vain: u32,
    /// How many more that are due are not sent while they are futile.
    skips: u32,
    counts: Snapshot,
}

impl Hedge {
    /// Nothing known, nothing sent.
    pub fn new(config: Config) -> Hedge {
        let quantile = match config.after {
            After::Delay(_) => None,
            After::Quantile(quantile) => Some(Tracked::new(quantile)),
        };
        let [busy_soon, busy_long] = [BUSY_SOON, BUSY_LONG].map(|hedges| Ewma::new(hedges, 1));
        Hedge { config, quantile, busy_soon, busy_long, in_vain: 0, skips: 0, counts: Snapshot::default() }
    }

    /// Changes the config; what is known and counted stays.
    pub fn configure(&mut self, config: Config) {
        if config.after != self.config.after {
            self.quantile = Hedge::new(config).quantile;
            self.in_vain = 0;
        }
        self.config = config;
    }

    /// How long after the latest attempt of a call its next hedge is due; `None` when no hedge will
    /// be. `sent` is how many it has had.
    pub fn after(&mut self, latencies: &Histogram, sent: u32) -> Option<Span> {
        if sent >= self.config.most {
            return None;
        }
        self.counts.after = match (self.config.after, &mut self.quantile) {
            (After::Delay(delay), _) => Some(delay),
            (After::Quantile(_), Some(tracked)) => tracked.of(latencies),
            (After::Quantile(_), None) => None,
        };
        self.counts.after
    }

    /// A hedge is due: whether the upstream can bear it, and it may win.
    pub fn admit(&mut self, load: Load) -> Result<(), Off> {
        if load.limit > 0 {
            let taken = f64::from(load.in_flight) / f64::from(load.limit);
            let taken = if load.stands { taken.max(1.0) } else { taken };
            self.busy_soon.add(taken);
            self.busy_long.add(taken);
        }
        if load.stands || self.busy() > self.config.busy_most {
            return Err(Off::Overload);
        }
        if self.in_vain >= FUTILE_AFTER && self.skips > 0 {
            self.skips -= 1;
            return Err(Off::Futile);
        }
        Ok(())
    }

    /// The share of places taken of late, or for longer if that is more.
    fn busy(&self) -> f64 {
        let [soon, long] = [&self.busy_soon, &self.busy_long].map(|mean| mean.mean().unwrap_or(0.0));
        soon.max(long)
    }

    /// A hedge was sent.
    pub fn sent(&mut self) {
        self.counts.sent += 1;
        self.in_vain = self.in_vain.saturating_add(1);
        self.skips = FUTILE_TRIES - 1;
    }

    /// A hedge answered first.
    pub fn won(&mut self) {
        self.counts.won += 1;
        self.in_vain = 0;
    }

    /// A hedge that was due is not sent.
    pub fn withheld(&mut self, why: Off) {
        match why {
            Off::Overload => self.counts.overload += 1,
            Off::Budget => self.counts.unpaid += 1,
            Off::Futile => self.counts.futile += 1,
            Off::Refused => self.counts.refused += 1,
            Off::Shadow => self.counts.shadowed += 1,
        }
    }

    /// Plain values.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { busy: self.busy(), ..self.counts }
    }
}

#[cfg(test)]
mod tests;
