//! What latency was at a limit, and whether two such points tell of a queue.

/// The part of a move of the limit by which throughput must follow to be worth it.
const GAIN: f64 = 0.2;
/// Standard errors that make a difference sure.
pub(super) const SURE: f64 = 3.0;
/// Those that make it likely, which is enough for headroom: it goes again by itself.
pub(super) const LIKELY: f64 = 2.0;
/// The part of the throughput at a higher limit below which nothing queues at a lower one.
const SHORT: f64 = 0.85;
/// The least variance of a call's latency, relative to its square, that the doubt in a mean reckons with: calls
/// that queue behind each other share what they wait, so that they differ by less than their mean is off.
const LEAST_VARIANCE: f64 = 1.0;
/// Calls that sums remember at most.
const CALLS: u32 = 8_000;

/// Latencies of calls, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) calls: u32,
    pub(super) sum: f64,
    pub(super) squares: f64,
}

impl Sums {
    pub(super) fn add(&mut self, seconds: f64) {
        self.calls += 1;
        self.sum += seconds;
        self.squares += seconds * seconds;
    }

    /// Adds these.
    pub(super) fn merge(&mut self, other: &Sums) {
        self.make_room(other.calls);
        self.calls += other.calls;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Of what is too much to remember with so many more, older calls count for less.
    pub(super) fn make_room(&mut self, calls: u32) {
        if self.calls + calls > CALLS {
            *self = Sums { calls: self.calls / 2, sum: self.sum / 2.0, squares: self.squares / 2.0 };
        }
    }

    pub(super) fn mean(&self) -> f64 {
        (self.sum / f64::from(self.calls.max(1))).max(1e-9)
    }

    /// The variance of the mean, relative to its square.
    pub(super) fn doubt(&self) -> f64 {
        let (calls, mean) = (f64::from(self.calls.max(1)), self.mean());
        (self.squares / calls / (mean * mean) - 1.0).max(0.0) / calls
    }
}

/// Where the limit stood, and what came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) limit: f64,
    pub(super) latency: f64,
    pub(super) throughput: f64,
    /// The variance of both, relative to their squares.
    pub(super) doubt: f64,
    /// The same of single windows; 0 while it is not known.
    pub(super) spread: f64,
    /// Calls of single windows.
    pub(super) calls: u32,
}

impl Point {
    pub(super) fn new(limit: f64, latencies: &Sums) -> Point {
        let latency = latencies.mean();
        // By Little's law; a count over the elapsed time would include pauses between bursts.
        let doubt = latencies.doubt().max(LEAST_VARIANCE / f64::from(latencies.calls.max(1)));
        Point { limit, latency, throughput: limit / latency, doubt, spread: 0.0, calls: latencies.calls }
    }

    /// Whether throughput went along with the limit from `other` to here, rather than staying.
    pub(super) fn follows(&self, other: &Point) -> bool {
        let (moved, followed) = (self.limit / other.limit, self.throughput / other.throughput);
        if moved < 1.0 { followed < libm::sqrt(moved) } else { followed >= libm::sqrt(moved) }
    }

    /// Whether throughput likely fell from `other` to here by enough to be worth the places.
    pub(super) fn fell_along(&self, other: &Point) -> bool {
        let moved = libm::log(self.limit / other.limit);
        let margin = GAIN * moved - libm::log(self.throughput / other.throughput);
        margin > 0.0 && margin * margin > LIKELY * LIKELY * (self.doubt + other.doubt)
    }

    /// Whether throughput was so much less than at the higher limit of `other` that places were wanting.
    pub(super) fn fell_short_of(&self, other: &Point) -> bool {
        self.throughput < other.throughput * SHORT
    }

    /// Whether throughput is surely, and by a fifth, more than it was at the higher limit of `other`.
    pub(super) fn outdoes(&self, other: &Point) -> bool {
        let more = libm::log(self.throughput / other.throughput);
        self.limit < other.limit && more > GAIN && more * more > SURE * SURE * (self.doubt + other.doubt)
    }

    /// Whether throughput was likely, but not surely, more than at the lower limit of `other`.
    pub(super) fn may_have_gained(&self, other: &Point) -> bool {
        self.gained(other, LIKELY) && !self.gained(other, SURE)
    }

    /// Whether throughput was more than at the lower limit of `other`, and not by little: by so many
    /// standard errors.
    pub(super) fn gained(&self, other: &Point, errors: f64) -> bool {
        let moved = libm::log(self.limit / other.limit);
        let followed = libm::log(self.throughput / other.throughput);
        // A longer window strays less than those of `other` did: by as much as they did by chance, by less beyond that.
        let longer = (f64::from(self.calls.max(1)) / f64::from(other.calls.max(1))).max(1.0);
        let chance = other.spread.min(1.0 / f64::from(other.calls.max(1)));
        let spread = chance / longer + (other.spread - chance) / libm::sqrt(longer);
        let doubt = self.doubt.max(spread) + other.doubt;
        followed >= GAIN * moved && followed * followed > errors * errors * doubt
    }
}
