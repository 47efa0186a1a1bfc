//! The crowd: how recent arrivals spread over tiers and cohorts.
//!
//! Each arrival weighs one and loses half of its weight in [`HALF_LIFE`]. Every [`TICK`] the weights
//! are summed up from the most important bin to the least, so that the *rank* of a request, the
//! share of arrivals that go before it, is found in constant time. Memory is constant.
//!
//! Who alone makes up much of a tier has no one rank: to pass or to drop all of it would be all or
//! nothing. Where a bin holds [`CROWDED`] times its share, its requests take ranks in turn.

use crate::request::{Cohort, Tier};
use crate::time::{Span, Time};

/// How often the sums are taken.
pub(super) const TICK: Span = Span::from_millis(20);
/// The time in which an arrival loses half of its weight.
const HALF_LIFE: Span = Span::from_secs(2);
/// Bins of a tier; a cohort's place inside its bin counts, too.
const BINS: usize = 64;
const ALL: usize = BINS * Tier::ALL.len();
/// How many times its share of a tier a bin holds when its requests take ranks in turn.
const CROWDED: f32 = 8.0;
/// The step of the turns: multiples of the golden section are spread evenly at any time.
const GOLDEN: f32 = 0.618_034;
/// The weight below which a distribution says nothing.
const LEAST: f32 = 20.0;

/// Recent arrivals by importance.
#[derive(Clone, Debug)]
pub(super) struct Crowd {
    weights: [f32; ALL],
    /// What goes before each bin, and all of it at the end; as of the last tick.
    before: [f32; ALL],
    total: f32,
    /// The last place that was given in turn, 0 to 1.
    turn: f32,
    summed: Time,
}

impl Crowd {
    pub(super) fn new() -> Crowd {
        Crowd { weights: [0.0; ALL], before: [0.0; ALL], total: 0.0, turn: 0.0, summed: Time::ZERO }
    }

    /// Whether it is time to sum up.
    pub(super) fn is_due(&self, now: Time) -> bool {
        now.since(self.summed) >= TICK
    }

    /// Sums up, and lets old arrivals fade.
    pub(super) fn sum(&mut self, now: Time) {
        let halves = now.since(self.summed).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let fade = libm::exp2(-halves) as f32;
        self.summed = now;
        self.total = 0.0;
        for (weight, before) in self.weights.iter_mut().zip(&mut self.before) {
            *weight *= fade;
            *before = self.total;
            self.total += *weight;
        }
    }

    /// Counts an arrival.
    pub(super) fn add(&mut self, tier: Tier, cohort: Cohort) {
        self.weights[place(tier, cohort).0] += 1.0;
    }

    /// The rank of a request, 0 for the most important to 1; `None` while too few have arrived.
    pub(super) fn rank(&mut self, tier: Tier, cohort: Cohort) -> Option<f64> {
        let (bin, within) = place(tier, cohort);
        let until = |bin: usize| self.before.get(bin).copied().unwrap_or(self.total);
        let (first, held) = (tier as usize * BINS, until(bin + 1) - self.before[bin]);
        let of_tier = until(first + BINS) - self.before[first];
        let within = if held > of_tier * (CROWDED / BINS as f32) {
            self.turn += GOLDEN;
            self.turn -= if self.turn >= 1.0 { 1.0 } else { 0.0 };
            self.turn
        } else {
            within
        };
        let rank = self.before[bin] + within * held;
        (self.total >= LEAST).then(|| f64::from(rank / self.total))
    }

    /// The share of arrivals that are more important than any of this tier.
    pub(super) fn before(&self, tier: Tier) -> f64 {
        f64::from(self.before[tier as usize * BINS] / self.total.max(1.0))
    }
}

/// The bin of a cohort, and where in it the cohort stands.
fn place(tier: Tier, cohort: Cohort) -> (usize, f32) {
    let place = usize::from(cohort.0) * BINS;
    (tier as usize * BINS + (place >> 16), (place & 0xffff) as f32 / 65_536.0)
}

/// The rank to go by while too few have arrived: as if all tiers and cohorts came alike.
pub(super) fn unknown(tier: Tier, cohort: Cohort) -> f64 {
    (tier as usize as f64 + f64::from(cohort.0) / 65_536.0) / Tier::ALL.len() as f64
}
