//! A flow: events counted over a sliding span of time, in a ring of buckets.
//!
//! Fifteen buckets of 100 ms: a span of 1.4 to 1.5 s, long enough to average a burst out and
//! short enough to notice an overload within a second. Memory and work are constant; buckets that
//! nobody filled are cleared when the ring is next touched.

use crate::time::{Span, Time};

const BUCKETS: usize = 15;
const BUCKET: Span = Span::from_millis(100);

/// The span over which a flow is counted.
pub const SPAN: Span = Span::from_millis(100 * BUCKETS as u64);

/// Events in the last [`SPAN`].
#[derive(Clone, Debug)]
pub struct Flow {
    counts: [u32; BUCKETS],
    total: u64,
    /// The number of the newest bucket since the origin of time, where it is in the ring, and when it is over.
    newest: u64,
    slot: usize,
    until: Time,
}

impl Flow {
    /// An empty flow.
    pub fn new(now: Time) -> Flow {
        let newest = number(now);
        Flow { counts: [0; BUCKETS], total: 0, newest, slot: slot(newest), until: end(newest) }
    }

    /// Counts one event.
    #[inline]
    pub fn add(&mut self, now: Time) {
        self.slide(now);
        self.counts[self.slot] += 1;
        self.total += 1;
    }

    /// Events in the span that ends now.
    pub fn total(&mut self, now: Time) -> u64 {
        self.slide(now);
        self.total
    }

    /// Events per second over the span that ends now.
    pub fn per_second(&mut self, now: Time) -> f64 {
        self.total(now) as f64 / SPAN.as_secs_f64()
    }

    /// Events per second in the best 100 ms of the span that ends now.
    pub fn peak_per_second(&mut self, now: Time) -> f64 {
        self.slide(now);
        f64::from(self.counts.iter().copied().max().unwrap_or(0)) / BUCKET.as_secs_f64()
    }

    #[inline]
    fn slide(&mut self, now: Time) {
        // Nearly all events fall into the newest bucket.
        if now >= self.until {
            self.slide_to(number(now));
        }
    }

    fn slide_to(&mut self, number: u64) {
        let steps = (number - self.newest).min(BUCKETS as u64);
        for step in 1..=steps {
            let slot = slot(self.newest + step);
            self.total -= u64::from(self.counts[slot]);
            self.counts[slot] = 0;
        }
        if steps == BUCKETS as u64 {
            self.counts = [0; BUCKETS];
            self.total = 0;
        }
        (self.newest, self.slot, self.until) = (number, slot(number), end(number));
    }
}

/// Where the bucket of this number is in the ring.
fn slot(number: u64) -> usize {
    (number % BUCKETS as u64) as usize
}

/// When the bucket of this number is over.
fn end(number: u64) -> Time {
    Time::ZERO + BUCKET.times(number + 1)
}

fn number(now: Time) -> u64 {
    now.as_nanos() / BUCKET.as_nanos()
}

#[cfg(test)]
mod tests;
