//! Latencies in classes: counted in a few nanoseconds, read to a fraction of a percent.

use seawall_core::time::Span;

/// The finest difference, in bits of nanoseconds: 16 ns.
const FINEST: u32 = 4;
/// Classes for each doubling, in bits: a class is at most 1.6 % wide.
const CLASSES: u32 = 6;

/// Latencies, in classes, and their sum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latencies {
    counts: Vec<u32>,
    all: u64,
    nanos: u128,
}

impl Latencies {
    pub(crate) fn add(&mut self, latency: Span) {
        let class = class_of(latency);
        if self.counts.len() <= class {
            self.counts.resize(class + 1, 0);
        }
        self.counts[class] += 1;
        self.all += 1;
        self.nanos += u128::from(latency.as_nanos());
    }

    /// Adds those of another run.
    pub fn join(&mut self, other: &Latencies) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.all += other.all;
        self.nanos += other.nanos;
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.all
    }

    /// Their exact mean, in seconds; `None` without any.
    pub fn mean(&self) -> Option<f64> {
        (self.all > 0).then(|| self.nanos as f64 / self.all as f64 * 1e-9)
    }

    /// In seconds, what this share of them took at most; within a class they are taken to be spread
    /// evenly. `None` without any.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        if self.all == 0 {
            return None;
        }
        let wanted = (share * self.all as f64).clamp(0.5, self.all as f64 - 0.5);
        let mut seen = 0.0;
        for (class, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(*count);
            if seen + count >= wanted {
                let (low, width) = bounds(class as u64);
                return Some((low + width * (wanted - seen) / count) * 1e-9);
            }
            seen += count;
        }
        None
    }
}

/// The highest bits of a latency, and how many there are below them.
fn class_of(latency: Span) -> usize {
    let finest = latency.as_nanos() >> FINEST;
    let above = (u64::BITS - finest.leading_zeros()).saturating_sub(CLASSES + 1);
    ((u64::from(above) << CLASSES) + (finest >> above)) as usize
}

/// Where a class begins, and its width, in nanoseconds.
fn bounds(class: u64) -> (f64, f64) {
    let above = (class >> CLASSES).saturating_sub(1);
    let low = (class - (above << CLASSES)) << above << FINEST;
    (low as f64, (1_u64 << above << FINEST) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_what_is_counted_in_it() {
        for nanos in (0..3_000).chain((1..52).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let class = class_of(Span::from_nanos(nanos));
            let (low, width) = bounds(class as u64);
            let held = low..low + width;
            assert!(held.contains(&(nanos as f64)), "{nanos} ns in class {class}: {held:?}");
            assert!(width <= (nanos as f64 / 63.0).max(16.0), "{nanos} ns: {width} wide");
        }
    }

    #[test]
    fn quantiles_and_the_mean_are_those_of_the_samples() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.quantile(0.5), latencies.mean()), (None, None));
        (1..=100_000).for_each(|tens| latencies.add(Span::from_micros(10 * tens)));
        for (share, exact) in [(0.5, 0.5), (0.99, 0.99), (0.001, 0.001), (1.0, 1.0)] {
            let got = latencies.quantile(share).unwrap();
            assert!((got / exact - 1.0).abs() < 0.008, "{share}: {got}");
        }
        assert!((latencies.mean().unwrap() - 0.500_005).abs() < 1e-12);
    }
}
