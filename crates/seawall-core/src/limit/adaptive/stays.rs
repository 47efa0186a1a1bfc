//! What latency was at the limits at which the ceiling stood of late.
//!
//! One window says little about throughput. A stay adds up all windows at about the same limit, so
//! that also a limit that creeps down, a place at a time, is told when throughput goes along.

use super::point::{LIKELY, Point, SURE, Sums};

/// Limits that are kept in mind.
const STAYS: usize = 6;
/// Limits this close (as a ratio) are the same.
const CLOSE: f64 = 0.04;
/// Windows after which a stay is forgotten.
const REMEMBERED: u32 = 200;
/// Windows without which a stay says nothing.
const WINDOWS: u32 = 3;
/// Standard errors by which a window must differ for the callee to be another.
const OTHER: f64 = 5.0;

#[derive(Clone, Copy, Debug)]
struct Stay {
    limit: f64,
    latencies: Sums,
    /// The means of its windows.
    windows: Sums,
    /// The window in which it was last there.
    last: u32,
}

impl Stay {
    fn point(&self) -> Point {
        let point = Point::new(self.limit, &self.latencies);
        // Calls of one window share what befell them, so that windows may differ by more than chance.
        if self.windows.calls < WINDOWS {
            return Point { doubt: f64::INFINITY, ..point };
        }
        let spread = self.windows.doubt() * f64::from(self.windows.calls);
        Point { doubt: self.windows.doubt().max(point.doubt), spread, ..point }
    }

    fn is_close(&self, limit: f64) -> bool {
        (limit / self.limit - 1.0).abs() < CLOSE
    }
}

/// The late stays.
#[derive(Clone, Debug, Default)]
pub(super) struct Stays {
    stays: [Option<Stay>; STAYS],
    window: u32,
}

impl Stays {
    /// Takes in a window at this limit.
    pub(super) fn add(&mut self, limit: f64, latencies: &Sums) {
        self.window += 1;
        let window = self.window;
        for stay in &mut self.stays {
            stay.take_if(|stay| window - stay.last > REMEMBERED);
        }
        let mut windows = Sums::default();
        windows.add(latencies.mean());
        let fresh = Stay { limit, latencies: *latencies, windows, last: window };
        let known = self.stays.iter_mut().flatten().find(|stay| stay.is_close(limit));
        if let Some(stay) = known {
            let apart = latencies.mean() / stay.latencies.mean() - 1.0;
            let doubt = latencies.doubt() + stay.latencies.doubt();
            if apart * apart <= OTHER * OTHER * doubt {
                stay.latencies.merge(latencies);
                stay.windows.add(latencies.mean());
                stay.last = window;
                return;
            }
            // The callee is another than it was: what is known of the other limits is as old.
            self.stays = [None; STAYS];
        }
        let oldest = self.stays.iter_mut().min_by_key(|stay| stay.map_or(0, |stay| stay.last));
        *oldest.expect("there are some") = Some(fresh);
    }

    /// What is known of the limit at which it stood last.
    pub(super) fn here(&self) -> Option<Point> {
        let last = self.stays.iter().flatten().max_by_key(|stay| stay.last)?;
        Some(last.point()).filter(|point| point.doubt.is_finite())
    }

    /// The highest limit from which throughput surely fell along to the last: a callee that is full
    /// would have served as much.
    pub(super) fn fell_from(&self) -> Option<f64> {
        let low = self.here()?;
        let fell = |high: &Point| {
            let moved = libm::log(low.limit / high.limit);
            let followed = libm::log(low.throughput / high.throughput);
            let margin = moved / 2.0 - followed;
            margin > 0.0 && margin * margin > SURE * SURE * (low.doubt + high.doubt)
        };
        self.above(&low).filter(fell).map(|high| high.limit).max_by(f64::total_cmp)
    }

    /// Whether throughput was likely more at a higher limit than at the last.
    pub(super) fn is_wanting(&self) -> bool {
        self.here().is_some_and(|low| self.above(&low).any(|high| high.gained(&low, LIKELY)))
    }

    fn above(&self, low: &Point) -> impl Iterator<Item = Point> {
        let least = low.limit * (1.0 + CLOSE);
        self.stays.iter().flatten().map(Stay::point).filter(move |point| point.limit > least)
    }
}
