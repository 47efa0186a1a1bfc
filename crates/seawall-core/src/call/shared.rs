//! What calls to one upstream share, besides its hosts: the budget, hedging, and what is known of
//! its latency. One part under one short lock.

use super::step::Stop;
use crate::hedge::{self, Hedge, Load, Off};
use crate::measure::quantile::{Histogram, Quantile, Tracked};
use crate::outcome::Outcome;
use crate::retry::budget::{self, Budget, Payment};
use crate::time::{Span, Time};

/// About how many latencies are remembered.
const LATENCIES: u32 = 1_024;

/// In which time half of the latencies is forgotten when few are learnt.
const HALF_LIFE: Span = Span::from_secs(60);

/// An attempt that had this long was given a fair chance, when no usual latency is known.
const FAIR_UNKNOWN: Span = Span::from_millis(100);

/// What calls to one upstream share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// What pays for retries and hedges; `None` for attempts without a budget, as only a naive
    /// client in the lab makes them. 10 % by default: a client that has just started has one retry every
    /// [`FLOOR_EVERY`](budget::FLOOR_EVERY), until successes have earned more.
    pub budget: Option<budget::Config>,
    /// Whether slow calls are hedged; off by default.
    pub hedge: Option<hedge::Config>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { budget: Some(budget::Config::default()), hedge: None }
    }
}

/// An attempt that may be sent; by a payment if there is a budget.
#[derive(Debug)]
pub(super) struct Paid(Option<Payment>);

/// Plain values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The budget.
    pub budget: Option<budget::Snapshot>,
    /// Hedging.
    pub hedge: Option<hedge::Snapshot>,
    /// The 95th percentile of latency, when it is known.
    pub usual: Option<Span>,
    /// Retries that would have been made and paid for, were they not in shadow.
    pub shadowed: u64,
}

/// The budget, hedging, and what is known of latency.
#[derive(Debug)]
pub struct Shared {
    budget: Option<Budget>,
    hedge: Option<Hedge>,
    latencies: Histogram,
    usual: Tracked,
    shadowed: u64,
}

impl Shared {
    /// Nothing earned, nothing known.
    pub fn new(settings: Settings, now: Time) -> Shared {
        Shared {
            budget: settings.budget.map(|config| Budget::new(config, now)),
            hedge: settings.hedge.map(Hedge::new),
            latencies: Histogram::new(LATENCIES, HALF_LIFE, now),
            usual: Tracked::new(Quantile::P95),
            shadowed: 0,
        }
    }

    /// Changes the settings; what was earned and is known stays.
    pub fn configure(&mut self, settings: Settings, now: Time) {
        match (&mut self.budget, settings.budget) {
            (Some(budget), Some(config)) => budget.configure(config, now),
            (budget, config) => *budget = config.map(|config| Budget::new(config, now)),
        }
        match (&mut self.hedge, settings.hedge) {
            (Some(hedge), Some(config)) => hedge.configure(config),
            (hedge, config) => *hedge = config.map(Hedge::new),
        }
    }

    /// Plain values.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            budget: self.budget.as_ref().map(Budget::snapshot),
            hedge: self.hedge.as_ref().map(Hedge::snapshot),
            usual: self.latencies.quantile(Quantile::P95),
            shadowed: self.shadowed,
        }
    }

    /// A call succeeded, by an attempt that took so long.
    #[inline]
    pub(super) fn succeeded(&mut self, now: Time, elapsed: Span) {
        self.latencies.add(now, elapsed);
        self.deposit(now);
    }

    pub(super) fn deposit(&mut self, now: Time) {
        if let Some(budget) = &mut self.budget {
            budget.deposit(now);
        }
    }

    /// An attempt that was no success ended after so long: perhaps a success would have come later.
    pub(super) fn ended(&mut self, now: Time, outcome: Outcome, elapsed: Span) {
        match outcome {
            Outcome::Failure | Outcome::TimedOut | Outcome::Cancelled | Outcome::Superseded => {
                self.latencies.add_censored(now, elapsed);
            }
            // Refusals are quick whatever answers are.
            Outcome::Success | Outcome::Overloaded { .. } | Outcome::Ignored => {}
        }
    }

    /// Whether who did not answer in `elapsed`, of the `whole` time that the call had, had a fair
    /// chance to.
    pub(super) fn was_fair(&mut self, elapsed: Span, whole: Span) -> bool {
        match self.usual.of(&self.latencies) {
            Some(usual) => elapsed >= usual,
            None => elapsed >= FAIR_UNKNOWN && elapsed.times(4) >= whole,
        }
    }

    /// Pays for an attempt, or does not.
    pub(super) fn pay(&mut self, now: Time) -> Option<Paid> {
        match &mut self.budget {
            Some(budget) => budget.withdraw(now).map(|payment| Paid(Some(payment))),
            None => Some(Paid(None)),
        }
    }

    /// Why a retry is not made that is only to be counted.
    pub(super) fn retry_in_shadow(&mut self, now: Time) -> Stop {
        let Some(paid) = self.pay(now) else { return Stop::Budget };
        self.refund(now, paid);
        self.shadowed += 1;
        Stop::Unenforced
    }

    /// What was paid for was never sent.
    pub(super) fn refund(&mut self, now: Time, paid: Paid) {
        if let (Some(budget), Paid(Some(payment))) = (&mut self.budget, paid) {
            budget.refund(now, payment);
        }
    }

    /// How long after its latest attempt the next hedge of a call is due that has had `sent`.
    pub(super) fn hedge_after(&mut self, sent: u32) -> Option<Span> {
        self.hedge.as_mut()?.after(&self.latencies, sent)
    }

    /// A hedge is due: pays for it, or says why not.
    pub(super) fn hedge(&mut self, now: Time, load: Load) -> Result<Paid, Off> {
        self.hedge.as_mut().ok_or(Off::Overload)?.admit(load)?;
        self.pay(now).ok_or(Off::Budget)
    }

    /// What came of a hedge that was due or sent.
    pub(super) fn with_hedge(&mut self, tell: impl FnOnce(&mut Hedge)) {
        if let Some(hedge) = &mut self.hedge {
            tell(hedge);
        }
    }
}
