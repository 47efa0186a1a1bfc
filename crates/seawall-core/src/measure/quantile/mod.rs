//! Quantiles of latencies, live: a log-linear histogram that forgets, and that learns from calls
//! whose end nobody waited for.
//!
//! **Mechanics.** From 1 µs to 73 min, each octave has 32 buckets of equal width, so that a value
//! is known to 1/32 of itself. A quantile is told by the upper edge of its bucket: at most 3.2 %
//! above the sample at that rank, never below it, so that who waits for the quantile waits for all
//! that stand on it. An update is a handful of operations. When the histogram holds twice its
//! window of samples, or a half-life has passed, all weights are halved. Memory is 8 KiB.
//!
//! **Edges.** An attempt that was given up after x is a *censored* sample: its latency is at least
//! x. To leave it out would make a slow host look fast; to count it as x would make a loser that
//! had only just begun look fast. The product-limit estimate (Kaplan and Meier, 1958) uses exactly
//! what is known: it was still under way at x. When more than the asked share is known only by a
//! lower bound, the largest of these bounds is told. Before `⌈1/(1 − q)⌉` samples, at least
//! [`SAMPLES_MIN`], nothing is told at all. No chance and no clock: the same samples give the same
//! quantiles everywhere.

use alloc::vec;
use alloc::vec::Vec;

use crate::time::{Span, Time};

/// A quantile of fewer samples is not told.
pub const SAMPLES_MIN: u32 = 20;

/// The binary logarithm of the buckets in each octave.
const SUB_BITS: u32 = 5;
const SUB: usize = 1 << SUB_BITS;
/// The octave of 2¹⁰ ns is the first, that of 2⁴¹ ns the last.
const FIRST: u32 = 10;
const OCTAVES: usize = 32;
const LOWEST: u64 = 1 << FIRST;
const HIGHEST: u64 = (1 << (FIRST as usize + OCTAVES)) - 1;

/// The weight of one fresh sample; older ones have halves, quarters, and so on.
const WHOLE: u32 = 256;

/// A share of samples, above 0 and below 1. Valid by construction.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Quantile(f64);

/// The quantile is not between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoQuantile;

impl core::fmt::Display for NoQuantile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a quantile must be above 0 and at most 0.9999")
    }
}

impl core::error::Error for NoQuantile {}

impl Quantile {
    /// The 95th percentile.
    pub const P95: Quantile = Quantile(0.95);

    /// The value below which this `share` of samples lies; above 0, at most .9999.
    pub fn new(share: f64) -> Result<Quantile, NoQuantile> {
        if share > 0.0 && share <= 0.9999 { Ok(Quantile(share)) } else { Err(NoQuantile) }
    }

    /// The share, 0 to 1.
    pub const fn share(self) -> f64 {
        self.0
    }

    /// Samples below which this quantile means nothing.
    fn samples_min(self) -> u32 {
        SAMPLES_MIN.max(libm::ceil(1.0 / (1.0 - self.0) - 1e-6) as u32)
    }
}

/// The weight in one bucket, or in one octave of them.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    exact: u32,
    censored: u32,
}

impl Bucket {
    fn all(self) -> u32 {
        self.exact + self.censored
    }
}

/// Latencies of the recent past.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<Bucket>,
    /// Weight by octave, to pass over what is empty or ended as a whole.
    octaves: [Bucket; OCTAVES],
    exact: u32,
    total: u32,
    /// At which weight everything is halved.
    full: u32,
    half_life: Span,
    /// At which time everything is halved.
    due: Time,
    /// Samples since the beginning, of both kinds.
    seen: u64,
}

impl Histogram {
    /// An empty histogram that remembers about `window` samples, 1 to 1 000 000, and half of them
    /// after `half_life` without new ones.
    pub fn new(window: u32, half_life: Span, now: Time) -> Histogram {
        let half_life = half_life.max(Span::from_nanos(1));
        Histogram {
            buckets: vec![Bucket::default(); OCTAVES * SUB],
            octaves: [Bucket::default(); OCTAVES],
            exact: 0,
            total: 0,
            full: window.clamp(1, 1_000_000) * 2 * WHOLE,
            half_life,
            due: now + half_life,
            seen: 0,
        }
    }

    /// It took so long.
    #[inline]
    pub fn add(&mut self, now: Time, latency: Span) {
        let bucket = self.make_room(now, latency);
        self.buckets[bucket].exact += WHOLE;
        self.octaves[bucket / SUB].exact += WHOLE;
        self.exact += WHOLE;
    }

    /// It was given up after so long: it would have taken at least that.
    pub fn add_censored(&mut self, now: Time, at_least: Span) {
        let bucket = self.make_room(now, at_least);
        self.buckets[bucket].censored += WHOLE;
        self.octaves[bucket / SUB].censored += WHOLE;
    }

    /// The latency at this quantile; `None` while too few samples say.
    pub fn quantile(&self, quantile: Quantile) -> Option<Span> {
        if self.exact < quantile.samples_min() * WHOLE {
            return None;
        }
        // Above what rounding can add over all buckets, below the weight of one sample in a million.
        let left = 1.0 - quantile.0 + 1e-9;
        let mut at_risk = f64::from(self.total);
        let (mut survival, mut last) = (1.0, 0);
        for (octave, all) in self.octaves.iter().enumerate().filter(|(_, octave)| octave.all() > 0) {
            // Where nothing was given up, the product over the buckets is that of the octave.
            let exact = f64::from(all.exact);
            let after = survival * (1.0 - exact / at_risk);
            if all.censored == 0 && after > left {
                (survival, at_risk) = (after, at_risk - exact);
                continue;
            }
            for (bucket, held) in self.buckets.iter().enumerate().skip(octave * SUB).take(SUB) {
                let (exact, censored) = (f64::from(held.exact), f64::from(held.censored));
                if exact + censored == 0.0 {
                    continue;
                }
                survival *= 1.0 - exact / at_risk;
                if survival <= left {
                    return Some(Span::from_nanos(lower_edge(bucket + 1) - 1));
                }
                at_risk -= exact + censored;
                last = bucket;
            }
        }
        Some(Span::from_nanos(lower_edge(last)))
    }

    /// Samples since the beginning, exact and censored.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Halves what has to be halved, counts one sample, and says in which bucket it belongs.
    #[inline]
    fn make_room(&mut self, now: Time, latency: Span) -> usize {
        if now >= self.due {
            let late = now.since(self.due).as_nanos() / self.half_life.as_nanos();
            self.halve(now, 1 + late.min(30) as u32);
        } else if self.total >= self.full {
            self.halve(now, 1);
        }
        self.seen += 1;
        self.total += WHOLE;
        bucket_of(latency)
    }

    fn halve(&mut self, now: Time, times: u32) {
        self.due = now + self.half_life;
        (self.exact, self.total) = (0, 0);
        for (octave, all) in self.octaves.iter_mut().enumerate().filter(|(_, octave)| octave.all() > 0) {
            *all = Bucket::default();
            for held in &mut self.buckets[octave * SUB..][..SUB] {
                held.exact >>= times;
                held.censored >>= times;
                all.exact += held.exact;
                all.censored += held.censored;
            }
            self.exact += all.exact;
            self.total += all.all();
        }
    }
}

fn bucket_of(latency: Span) -> usize {
    let nanos = latency.as_nanos().clamp(LOWEST, HIGHEST);
    let exponent = nanos.ilog2();
    let within = (nanos >> (exponent - SUB_BITS)) as usize & (SUB - 1);
    (exponent - FIRST) as usize * SUB + within
}

/// The smallest value of this bucket, in nanoseconds.
fn lower_edge(bucket: usize) -> u64 {
    let (octave, within) = (bucket / SUB, bucket % SUB);
    ((SUB + within) as u64) << (octave + (FIRST - SUB_BITS) as usize)
}

/// One quantile of a histogram, worked out anew only when a part of its samples may be missing in it:
/// [`Tracked::PART`] of those that are held, or [`Tracked::LEAST`] of few.
#[derive(Clone, Debug)]
pub struct Tracked {
    quantile: Quantile,
    value: Option<Span>,
    /// The count of samples from which on it is stale.
    stale: u64,
}

impl Tracked {
    /// Which part of the samples may be missing in what is told: one in so many.
    pub const PART: u64 = 32;
    /// How many may be missing at the least.
    pub const LEAST: u64 = 16;

    /// This quantile of whatever histogram it is asked about; always the same one.
    pub fn new(quantile: Quantile) -> Tracked {
        Tracked { quantile, value: None, stale: 0 }
    }

    /// The latency at the quantile.
    pub fn of(&mut self, histogram: &Histogram) -> Option<Span> {
        if histogram.seen() >= self.stale {
            self.value = histogram.quantile(self.quantile);
            let held = u64::from(histogram.total / WHOLE);
            self.stale = histogram.seen() + (held / Tracked::PART).max(Tracked::LEAST);
        }
        self.value
    }
}

#[cfg(test)]
mod tests;
