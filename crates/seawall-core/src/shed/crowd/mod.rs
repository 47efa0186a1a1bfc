//! The crowd: how recent arrivals spread over tiers and cohorts.
//!
//! Each arrival weighs one and loses half of its weight in [`HALF_LIFE`]. Every [`TICK`] the weights
//! are summed up from the most important bin to the least, so that the *rank* of a request, the
//! share of arrivals that go before it, is found in constant time. Memory is constant.
//!
//! **Shares.** Cohorts pass or are dropped as a whole, so who alone makes up much of a tier would get all or
//! nothing, at the cost of all others. Where a bin is *crowded*, it holds [`CROWDED`] times its share, its
//! requests take levels in turn from 0 to its weight. Up to what an ordinary bin holds they rank among the
//! ordinary ones; what is above that comes after all of those, the lowest level first. So those who want little
//! get it, and the crowded share what is left: max-min fairness.

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
    /// Who makes up most of each bin, if one cohort does, and by how much it outweighs the others of the bin.
    most: [(u16, f32); ALL],
    /// The weights as of the last tick.
    held: [f32; ALL],
    /// What goes before each ordinary bin; as of the last tick.
    before: [f32; ALL],
    tiers: [Within; Tier::ALL.len()],
    total: f32,
    /// The share of one arrival.
    share: f32,
    /// The last place that was given in turn, 0 to 1.
    turn: f32,
    summed: Time,
}

/// Where a request stands among recent arrivals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rank {
    /// The share of arrivals that go before it: 0 for the most important, to 1.
    pub(super) place: f64,
    /// The share of arrivals that may not be dropped in its stead: those of more important tiers, and for what is
    /// above the level of the crowded all that is ordinary.
    pub(super) ahead: f64,
}

/// A tier, as of the last tick.
#[derive(Clone, Copy, Debug, Default)]
struct Within {
    /// What goes before all of it.
    begins: f32,
    /// What goes before the levels of crowded bins above `fair`.
    lifted: f32,
    /// The level up to which the crowded rank among the ordinary.
    fair: f32,
    /// The weight above which a bin is crowded.
    crowded: f32,
    /// By how much what is ordinary is stretched to make room for that.
    stretch: f32,
}

impl Within {
    /// A tier of these bins that begins there.
    fn of(held: &[f32], begins: f32) -> Within {
        let all: f32 = held.iter().sum();
        let crowded = all * (CROWDED / BINS as f32);
        let ordinary: f32 = held.iter().filter(|weight| **weight <= crowded).sum();
        let fair = ordinary / BINS as f32;
        let lifted = ordinary + below(held, crowded, fair);
        let stretch = if ordinary > 0.0 { lifted / ordinary } else { 1.0 };
        Within { begins, lifted: begins + lifted, fair, crowded, stretch }
    }
}

/// What crowded bins hold below a level.
fn below(held: &[f32], crowded: f32, level: f32) -> f32 {
    held.iter().filter(|weight| **weight > crowded).map(|weight| weight.min(level)).sum()
}

impl Crowd {
    pub(super) fn new() -> Crowd {
        Crowd {
            weights: [0.0; ALL],
            most: [(0, 0.0); ALL],
            held: [0.0; ALL],
            before: [0.0; ALL],
            tiers: [Within::default(); Tier::ALL.len()],
            total: 0.0,
            share: 0.0,
            turn: 0.0,
            summed: Time::ZERO,
        }
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
        self.weights.iter_mut().for_each(|weight| *weight *= fade);
        self.most.iter_mut().for_each(|(_, lead)| *lead *= fade);
        self.held = self.weights;
        self.total = 0.0;
        let bins = self.held.chunks_exact(BINS).zip(self.before.chunks_exact_mut(BINS));
        for (tier, (held, before)) in self.tiers.iter_mut().zip(bins) {
            *tier = Within::of(held, self.total);
            let mut position = tier.begins;
            for (held, before) in held.iter().zip(before) {
                *before = position;
                position += if *held > tier.crowded { 0.0 } else { held * tier.stretch };
                self.total += held;
            }
        }
        self.share = 1.0 / self.total;
    }

    /// Counts an arrival.
    pub(super) fn add(&mut self, tier: Tier, cohort: Cohort) {
        let bin = place(tier, cohort).0;
        self.weights[bin] += 1.0;
        let (most, lead) = &mut self.most[bin];
        if *most == cohort.0 {
            *lead += 1.0;
        } else if *lead >= 1.0 {
            *lead -= 1.0;
        } else {
            (*most, *lead) = (cohort.0, 1.0);
        }
    }

    /// The rank of a request; `None` while too few have arrived.
    #[inline]
    pub(super) fn rank(&mut self, tier: Tier, cohort: Cohort) -> Option<Rank> {
        let (bin, within) = place(tier, cohort);
        let (held, tier) = (self.held[bin], self.tiers[tier as usize]);
        // Who only happens to share its bin is ordinary.
        let (place, ahead) = if held > tier.crowded && self.most[bin].0 == cohort.0 {
            self.turn += GOLDEN;
            self.turn -= if self.turn >= 1.0 { 1.0 } else { 0.0 };
            let level = self.turn * held;
            let ahead = if level < tier.fair { tier.begins } else { tier.lifted };
            (self.crowded(bin, level, &tier), ahead)
        } else {
            (self.before[bin] + within * held * tier.stretch, tier.begins)
        };
        let share = |place: f32| f64::from(place * self.share);
        (self.total >= LEAST).then(|| Rank { place: share(place), ahead: share(ahead) })
    }

    /// What goes before a level of a crowded bin.
    fn crowded(&self, bin: usize, level: f32, tier: &Within) -> f32 {
        if level < tier.fair {
            return tier.begins + level / tier.fair * (tier.lifted - tier.begins);
        }
        let held = &self.held[bin / BINS * BINS..][..BINS];
        let among = |level| below(held, tier.crowded, level);
        tier.lifted + among(level) - among(tier.fair)
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

#[cfg(test)]
mod tests;
