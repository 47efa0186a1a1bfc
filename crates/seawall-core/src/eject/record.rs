//! What is remembered of one host: a ring of slices of the window.

use super::Settings;
use crate::event::Cause;
use crate::measure::row::Row;
use crate::outcome::Outcome;
use crate::time::{Span, Time};

/// Slices of a window.
const SLICES: usize = 10;
/// Fractional bits of a logarithm.
const FRACTION: u32 = 16;

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// In service.
    In { since: Time },
    /// Left out.
    Out { until: Time, cause: Cause },
}

/// What happened in one slice of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    calls: u32,
    failed: u32,
    /// Calls whose latency counts, those among them that were not cut off, and the sum of their
    /// logarithms.
    timed: u32,
    ended: u32,
    logs: u64,
}

/// What is remembered of one host.
#[derive(Clone, Debug)]
pub(super) struct Record {
    slices: [Slice; SLICES],
    /// The number of the youngest slice, counted from the origin of time, and when it is over.
    youngest: u64,
    until: Time,
    pub(super) row: Row,
    pub(super) state: State,
    pub(super) strikes: u32,
}

impl Record {
    pub(super) fn new(now: Time) -> Record {
        let state = State::In { since: now };
        Record {
            slices: [Slice::default(); SLICES],
            youngest: 0,
            until: Time::ZERO,
            row: Row::default(),
            state,
            strikes: 0,
        }
    }

    pub(super) fn is_out(&self) -> bool {
        matches!(self.state, State::Out { .. })
    }

    /// Forgets all calls.
    pub(super) fn clear(&mut self) {
        self.slices = [Slice::default(); SLICES];
        (self.youngest, self.until) = (0, Time::ZERO); // The window may be another one.
        self.row = Row::default();
    }

    /// Adds a call; says whether it counts.
    #[inline]
    pub(super) fn add(&mut self, now: Time, window: Span, outcome: Outcome, elapsed: Span) -> bool {
        let State::In { since } = self.state else { return false };
        if now - elapsed < since {
            return false; // It belongs to the time before.
        }
        let failed = outcome.is_failure();
        let cut_off = matches!(outcome, Outcome::Cancelled | Outcome::Superseded);
        if outcome == Outcome::Ignored {
            return false;
        }
        let slice = self.slice(now, window);
        if !failed || outcome == Outcome::TimedOut {
            slice.timed += 1;
            slice.ended += u32::from(!cut_off);
            slice.logs += u64::from(log2(elapsed));
        }
        if !cut_off {
            slice.calls += 1;
            slice.failed += u32::from(failed);
            if failed { self.row.fail() } else { self.row.succeed(1) }
        }
        true
    }

    /// A call that began then and was added as a success has failed after all; says whether it counts.
    pub(super) fn broke(&mut self, now: Time, window: Span, begun: Time) -> bool {
        let State::In { since } = self.state else { return false };
        if begun < since {
            return false;
        }
        self.slice(now, window);
        let oldest = (self.youngest + 1).saturating_sub(SLICES as u64);
        let numbers = (oldest..=self.youngest).rev().map(|number| (number % SLICES as u64) as usize);
        match numbers.into_iter().find(|slot| self.slices[*slot].failed < self.slices[*slot].calls) {
            Some(slot) => self.slices[slot].failed += 1,
            None => {
                let slice = self.slice(now, window);
                slice.calls += 1;
                slice.failed += 1;
            }
        }
        self.row.break_off();
        true
    }

    /// The slice of this time; those in between are emptied.
    #[inline]
    fn slice(&mut self, now: Time, window: Span) -> &mut Slice {
        if now >= self.until {
            self.turn_to(slice_of(now, window));
            self.until = Time::ZERO + span_of_slice(window).times(self.youngest.saturating_add(1));
        }
        &mut self.slices[(self.youngest % SLICES as u64) as usize]
    }

    fn turn_to(&mut self, number: u64) {
        let first = (self.youngest + 1).max((number + 1).saturating_sub(SLICES as u64));
        for between in first..=number {
            self.slices[(between % SLICES as u64) as usize] = Slice::default();
        }
        self.youngest = self.youngest.max(number);
    }

    /// The slices of the window, the youngest first.
    fn recent(&self, now: Time, window: Span) -> impl Iterator<Item = &Slice> {
        let oldest = (slice_of(now, window) + 1).saturating_sub(SLICES as u64);
        let reach = (self.youngest + 1).saturating_sub(oldest).min(SLICES as u64);
        (0..reach).map(|back| &self.slices[((self.youngest - back) % SLICES as u64) as usize])
    }

    /// Calls in the window, and how many of them failed.
    pub(super) fn calls(&self, now: Time, window: Span) -> (u32, u32) {
        let add = |(calls, failed), slice: &Slice| (calls + slice.calls, failed + slice.failed);
        self.recent(now, window).fold((0, 0), add)
    }

    /// The logarithm of the typical latency over the youngest slices that hold `least` calls; `None`
    /// when there are not so many.
    pub(super) fn latency(&self, now: Time, window: Span, least: u32) -> Option<u32> {
        let (mut timed, mut ended, mut logs) = (0, 0, 0);
        for slice in self.recent(now, window) {
            timed += slice.timed;
            ended += slice.ended;
            logs += slice.logs;
            if ended >= least {
                return u32::try_from(logs / u64::from(timed)).ok();
            }
        }
        None
    }

    /// Counts an ejection, and says for how long.
    pub(super) fn strike(&mut self, now: Time, settings: &Settings) -> Span {
        if let State::In { since } = self.state {
            let forgiven = now.since(since).as_nanos() / settings.window.as_nanos().max(1);
            self.strikes = self.strikes.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        }
        let time = settings.time.times(1_u64.checked_shl(self.strikes).unwrap_or(u64::MAX));
        // A strike that could not make it longer would only have to be forgiven.
        self.strikes += u32::from(self.strikes == 0 || time < settings.longest.times(2));
        time.min(settings.longest)
    }
}

fn slice_of(now: Time, window: Span) -> u64 {
    now.as_nanos() / span_of_slice(window).as_nanos()
}

fn span_of_slice(window: Span) -> Span {
    Span::from_nanos((window.as_nanos() / SLICES as u64).max(1))
}

/// The binary logarithm, with [`FRACTION`] fractional bits; between powers of two a straight line,
/// which is at most 0.09 below. Whole numbers, so that it is the same everywhere.
fn log2(span: Span) -> u32 {
    let nanos = span.as_nanos().max(1);
    let whole = 63 - nanos.leading_zeros();
    let fraction = (u128::from(nanos) << FRACTION >> whole) as u32 & ((1 << FRACTION) - 1);
    whole << FRACTION | fraction
}

/// The span of a logarithm.
pub(super) fn span_of(log: u32) -> Span {
    let fraction = u128::from(log & ((1 << FRACTION) - 1) | 1 << FRACTION);
    Span::from_nanos((fraction << (log >> FRACTION) >> FRACTION) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_change_to_a_longer_window_calls_still_leave_it() {
        let (short, long) = (Span::from_secs(1), Span::from_secs(100));
        let at = |second: u64| Time::ZERO + Span::from_secs(second);
        let mut record = Record::new(at(0));
        record.add(at(500), short, Outcome::Success, Span::ZERO);
        record.clear();
        record.add(at(500), long, Outcome::Success, Span::ZERO);
        assert_eq!(record.calls(at(590), long), (1, 0));
        assert_eq!(record.calls(at(610), long), (0, 0));
    }

    #[test]
    fn a_logarithm_and_back() {
        for nanos in [1, 2, 3, 1_000, 10_000_000, 123_456_789, u64::MAX] {
            let back = span_of(log2(Span::from_nanos(nanos))).as_nanos();
            assert!(back <= nanos && nanos - back <= nanos >> 15, "{nanos} became {back}");
        }
        assert_eq!(span_of(log2(Span::ZERO)), Span::from_nanos(1));
    }
}
