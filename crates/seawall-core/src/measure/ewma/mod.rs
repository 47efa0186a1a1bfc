//! A running mean: plain over the first samples, exponential from then on.
//!
//! The warm-up keeps the first sample from weighing for ever, and the exponential part forgets.
//! The weight of sample `n` is `1/n` until that falls below `2/(window + 1)`, and never before
//! `warm_up` samples: the mean of few samples is their plain mean.

/// A running mean of `f64` samples.
#[derive(Clone, Debug)]
pub struct Ewma {
    weight: f64,
    warm_up: u32,
    /// From so many samples on each has the last weight.
    settled: u32,
    seen: u32,
    mean: f64,
}

impl Ewma {
    /// A mean over about `window` samples, plain over at least the first `warm_up`.
    pub fn new(window: u32, warm_up: u32) -> Ewma {
        let weight = 2.0 / (f64::from(window) + 1.0);
        let settled = (window / 2 + 1).max(warm_up.saturating_add(1));
        Ewma { weight, warm_up, settled, seen: 0, mean: 0.0 }
    }

    /// Adds a sample.
    pub fn add(&mut self, sample: f64) {
        self.seen = self.seen.saturating_add(1);
        self.mean += self.weight() * (sample - self.mean);
    }

    #[inline]
    fn weight(&self) -> f64 {
        if self.seen >= self.settled {
            return self.weight;
        }
        let plain = 1.0 / f64::from(self.seen);
        if self.seen <= self.warm_up { plain } else { plain.max(self.weight) }
    }

    /// Forgets everything and starts at `mean`, as if it were the mean of `samples` samples.
    pub fn restart(&mut self, mean: f64, samples: u32) {
        self.mean = mean;
        self.seen = samples;
    }

    /// The mean; `None` before the first sample.
    pub fn mean(&self) -> Option<f64> {
        (self.seen > 0).then_some(self.mean)
    }

    /// How many samples it has seen.
    pub fn seen(&self) -> u32 {
        self.seen
    }
}

#[cfg(test)]
mod tests;
