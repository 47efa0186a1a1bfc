//! Time as a value: nanoseconds since an origin that the driver chooses.
//!
//! Nothing in this crate reads a clock. Every verb takes `now` as an argument, so that the same
//! code runs under a real clock, a paused one and a simulated one. Arithmetic saturates: a span
//! of years neither overflows nor panics.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// A point in time, in nanoseconds since the driver's origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// A length of time, in nanoseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Time {
    /// The origin.
    pub const ZERO: Time = Time(0);
    /// Later than anything that happens; "never".
    pub const MAX: Time = Time(u64::MAX);

    /// The point `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);
    /// The longest span, about 584 years.
    pub const MAX: Span = Span(u64::MAX);

    /// `nanos` nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Span {
        Span(nanos)
    }

    /// `micros` microseconds.
    pub const fn from_micros(micros: u64) -> Span {
        Span(micros.saturating_mul(1_000))
    }

    /// `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Span {
        Span(millis.saturating_mul(1_000_000))
    }

    /// `secs` seconds.
    pub const fn from_secs(secs: u64) -> Span {
        Span(secs.saturating_mul(1_000_000_000))
    }

    /// The nearest whole nanosecond to `secs`; zero when negative or not a number.
    pub fn from_secs_f64(secs: f64) -> Span {
        Span(rounded(secs * 1e9))
    }

    /// [`Span::from_secs_f64`] rounded down, which takes half as long: for what is worked out in a lock, on which others
    /// wait.
    #[inline]
    pub(crate) fn from_secs_near(secs: f64) -> Span {
        // Signed, since that is one instruction; of more than 292 years that many.
        Span((secs * 1e9) as i64 as u64)
    }

    /// Whole nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Seconds; of more than 292 years that many.
    pub fn as_secs_f64(self) -> f64 {
        self.as_nanos_f64() / 1e9
    }

    /// [`Span::as_secs_f64`] but for its last bit, by a multiplication: for what is worked out in a lock, on which
    /// others wait.
    #[inline]
    pub(crate) fn as_secs_near(self) -> f64 {
        self.as_nanos_f64() * 1e-9
    }

    /// Nanoseconds, as near as a float comes; of more than 292 years that many.
    #[inline]
    pub(crate) fn as_nanos_f64(self) -> f64 {
        // Signed, since that is one instruction.
        self.0.min(i64::MAX as u64) as i64 as f64
    }

    /// Whole seconds, rounded up: what a `Retry-After` header can say without being early.
    pub const fn as_secs_ceil(self) -> u64 {
        self.0.div_ceil(1_000_000_000)
    }

    /// This span `times` over.
    pub const fn times(self, times: u64) -> Span {
        Span(self.0.saturating_mul(times))
    }

    /// This span scaled by `factor`; zero when the factor is negative or not a number.
    pub fn scaled(self, factor: f64) -> Span {
        Span(rounded(self.0 as f64 * factor))
    }

    /// This span without `other`; zero when `other` is longer.
    pub const fn minus(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

/// The nearest whole number, halves upward; zero when negative or not a number. As `libm::round` has it, for
/// a fifth of the time.
fn rounded(value: f64) -> u64 {
    // Signed below 2⁶³, since that is one instruction. Above 2⁵³ nothing is left to be rounded.
    if value >= i64::MAX as f64 {
        return value as u64;
    }
    let whole = (value as i64).max(0);
    // Exact: what is left of a number below 2⁵³ has all its bits.
    whole as u64 + u64::from(value - whole as f64 >= 0.5)
}

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, span: Span) -> Time {
        Time(self.0.saturating_add(span.0))
    }
}

impl AddAssign<Span> for Time {
    fn add_assign(&mut self, span: Span) {
        *self = *self + span;
    }
}

impl Sub<Span> for Time {
    type Output = Time;
    fn sub(self, span: Span) -> Time {
        Time(self.0.saturating_sub(span.0))
    }
}

impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Span) {
        *self = *self + other;
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Span {
        Span(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Duration {
        Duration::from_nanos(span.0)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Duration::from_nanos(self.0).fmt(f)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&Duration::from_nanos(self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_the_nearest_nanosecond() {
        let nanos = |value: f64| rounded(value);
        assert_eq!([0.0, -0.0, -3.7, f64::NEG_INFINITY, f64::NAN].map(nanos), [0; 5]);
        assert_eq!([0.49, 0.5, 1.49, 1.5, 2.5].map(nanos), [0, 1, 1, 2, 3]);
        let whole = [2_u64.pow(52) + 1, 2_u64.pow(53), 2_u64.pow(62), 2_u64.pow(63), 2_u64.pow(63) + 2_048];
        assert_eq!(whole.map(|whole| rounded(whole as f64)), whole);
        assert_eq!([2_f64.powi(64), f64::INFINITY].map(nanos), [u64::MAX; 2]);
        assert_eq!(rounded(0.499_999_999_999_999_94), 0);
    }
}
