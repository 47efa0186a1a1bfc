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
/// By so many standard errors, added up, windows must differ to the same side for the callee to be another, not
/// counting what each may differ by.
const OTHER: f64 = 5.0;
const SLACK: f64 = 0.5;

#[derive(Clone, Copy, Debug)]
struct Stay {
    limit: f64,
    latencies: Sums,
    /// The means of its windows.
    windows: Sums,
    /// The window in which it was last there, and the calls of the shortest: of those single windows tell.
    last: u32,
    calls: u32,
    /// Windows of late in which calls took longer, and in which they took less.
    longer: Drift,
    shorter: Drift,
}

/// How far windows of late differ from those before them, all to the same side (Page's cumulative sum, 1954).
#[derive(Clone, Copy, Debug, Default)]
struct Drift {
    errors: f64,
    latencies: Sums,
}

impl Drift {
    /// Takes in a window that differs by so many standard errors, and says whether it is too much by now.
    fn add(&mut self, errors: f64, latencies: &Sums) -> bool {
        self.errors += errors - SLACK;
        if self.errors > 0.0 {
            self.latencies.merge(latencies);
        } else {
            *self = Drift::default();
        }
        self.errors > OTHER
    }
}

impl Stay {
    fn new(limit: f64, latencies: Sums, window: u32) -> Stay {
        let mut windows = Sums::default();
        windows.add(latencies.mean());
        let (longer, shorter) = (Drift::default(), Drift::default());
        Stay { limit, latencies, windows, last: window, calls: latencies.calls, longer, shorter }
    }

    /// The variance of single windows, relative to the square of their mean; 0 while it is not known.
    fn spread(&self) -> f64 {
        let windows = self.windows.calls;
        if windows < WINDOWS { 0.0 } else { self.windows.doubt() * f64::from(windows) }
    }

    /// Takes in a window, or says what calls took since the callee became another.
    fn add(&mut self, latencies: &Sums, window: u32) -> Result<(), Sums> {
        let doubt = latencies.doubt().max(self.spread()) + self.latencies.doubt();
        let apart = libm::log(latencies.mean() / self.latencies.mean());
        let errors = apart / libm::sqrt(doubt.max(1e-12));
        if self.longer.add(errors, latencies) {
            return Err(self.longer.latencies);
        }
        if self.shorter.add(-errors, latencies) {
            return Err(self.shorter.latencies);
        }
        self.latencies.merge(latencies);
        self.windows.add(latencies.mean());
        (self.last, self.calls) = (window, self.calls.min(latencies.calls));
        Ok(())
    }

    fn point(&self) -> Point {
        let point = Point::new(self.limit, &self.latencies);
        // Calls of one window share what befell them, so that windows may differ by more than chance.
        let doubt = self.windows.doubt().max(point.doubt);
        Point { doubt, spread: self.spread(), calls: self.calls, ..point }
    }

    /// The same, once enough windows say so.
    fn sure_point(&self) -> Option<Point> {
        (self.windows.calls >= WINDOWS).then(|| self.point())
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
    /// Takes in a window at this limit, and says whether the callee is still the same.
    pub(super) fn add(&mut self, limit: f64, latencies: &Sums) -> bool {
        self.window += 1;
        let window = self.window;
        for stay in &mut self.stays {
            stay.take_if(|stay| window - stay.last > REMEMBERED);
        }
        let known = self.stays.iter_mut().flatten().find(|stay| stay.is_close(limit));
        let since = match known.map(|stay| stay.add(latencies, window)) {
            Some(Ok(())) => return true,
            Some(Err(since)) => Some(since),
            None => None,
        };
        if since.is_some() {
            // What is known of the other limits is as old.
            self.stays = [None; STAYS];
        }
        let oldest = self.stays.iter_mut().min_by_key(|stay| stay.map_or(0, |stay| stay.last));
        let fresh = Stay::new(limit, since.unwrap_or(*latencies), window);
        *oldest.expect("there are some") = Some(fresh);
        since.is_none()
    }

    /// What is known of the limit at which it stood last, however little that is.
    pub(super) fn last(&self) -> Option<Point> {
        Some(self.last_stay()?.point())
    }

    fn last_stay(&self) -> Option<&Stay> {
        self.stays.iter().flatten().max_by_key(|stay| stay.last)
    }

    /// What enough windows say of the limit at which it stood last.
    fn here(&self) -> Option<Point> {
        self.last_stay()?.sure_point()
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
        self.stays.iter().flatten().filter_map(Stay::sure_point).filter(move |point| point.limit > least)
    }
}
