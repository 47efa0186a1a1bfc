//! The last calls, and how many of them failed or were slow: by count, or by time.
//!
//! *By count*, it slides with every call, so ten thousand old successes cannot hide a hundred new
//! failures. *By time*, calls are kept in parts of a second and leave a part at a time; parts are
//! numbered by absolute time, so that quiet times neither shorten nor lengthen their lives. Until the
//! window is full, the shares are over what it holds.

use alloc::vec;
use alloc::vec::Vec;

use crate::time::{Span, Time};

/// Parts of a window by time that is longer than [`PARTS_MAX`] seconds.
const PARTS_MAX: u64 = 100;
/// Parts of a window by time that is shorter than two seconds.
const PARTS_SHORT: u64 = 10;

/// How far back a window reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// This many calls; at least 1.
    Calls(u32),
    /// This long; kept in parts of a second, shorter below two seconds and longer above a hundred.
    Time(Span),
}

/// How a call went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// It failed.
    pub failed: bool,
    /// It took too long.
    pub slow: bool,
}

impl Mark {
    /// Neither failed nor slow.
    pub const FINE: Mark = Mark { failed: false, slow: false };
}

/// Calls, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub calls: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that took too long.
    pub slow: u32,
}

impl Tally {
    fn add(&mut self, mark: Mark, calls: u32) {
        self.calls = self.calls.saturating_add(calls);
        self.failed = self.failed.saturating_add(calls * u32::from(mark.failed));
        self.slow = self.slow.saturating_add(calls * u32::from(mark.slow));
    }

    fn take(&mut self, other: Tally) {
        self.calls = self.calls.saturating_sub(other.calls);
        self.failed = self.failed.saturating_sub(other.failed);
        self.slow = self.slow.saturating_sub(other.slow);
    }
}

/// A sliding window of calls.
#[derive(Clone, Debug)]
pub struct Window {
    total: Tally,
    ring: Ring,
}

#[derive(Clone, Debug)]
enum Ring {
    Calls { marks: Vec<Mark>, size: u32, next: u32 },
    Time { parts: Vec<Tally>, part: Span, newest: u64 },
}

impl Window {
    /// An empty window.
    pub fn new(extent: Extent, now: Time) -> Window {
        let ring = match extent {
            Extent::Calls(size) => {
                let size = size.max(1);
                Ring::Calls { marks: vec![Mark::FINE; size as usize], size, next: 0 }
            }
            Extent::Time(span) => {
                let second = Span::from_secs(1).as_nanos();
                let whole = span.as_nanos().max(1);
                let part = if whole < 2 * second {
                    whole.div_ceil(PARTS_SHORT)
                } else {
                    whole.div_ceil(PARTS_MAX).max(second)
                };
                let parts = vec![Tally::default(); whole.div_ceil(part) as usize];
                Ring::Time { parts, part: Span::from_nanos(part), newest: now.as_nanos() / part }
            }
        };
        Window { total: Tally::default(), ring }
    }

    /// Adds a call; by count, lets the oldest go.
    pub fn add(&mut self, now: Time, mark: Mark) {
        self.slide(now);
        self.push(mark, 1);
    }

    /// Adds calls that were fine when the window was last touched.
    pub fn add_fine(&mut self, calls: u32) {
        match self.ring {
            Ring::Calls { size, .. } => (0..calls.min(size)).for_each(|_| self.push(Mark::FINE, 1)),
            Ring::Time { .. } => self.push(Mark::FINE, calls),
        }
    }

    /// One of its calls that had not failed has failed after all: the youngest. When it holds none, it is a call
    /// more.
    pub fn fail_one(&mut self, now: Time) {
        self.slide(now);
        let held = self.total.calls;
        let failed = match &mut self.ring {
            Ring::Calls { marks, size, next } => {
                let slots = (1..=held).map(|back| (*next + *size - back) % *size);
                let mut slots = slots.filter(|slot| !marks[*slot as usize].failed);
                slots.next().map(|slot| &mut marks[slot as usize].failed).map(|failed| *failed = true)
            }
            Ring::Time { parts, newest, .. } => {
                let len = parts.len() as u64;
                let mut slots = (0..len).map(|back| ((*newest % len + len - back) % len) as usize);
                let slot = slots.find(|slot| parts[*slot].failed < parts[*slot].calls);
                slot.map(|slot| parts[slot].failed += 1)
            }
        };
        match failed {
            Some(()) => self.total.failed += 1,
            None => self.push(Mark { failed: true, slow: false }, 1),
        }
    }

    /// Lets time pass: by time, lets go what is too old.
    pub fn slide(&mut self, now: Time) {
        let Ring::Time { parts, part, newest } = &mut self.ring else { return };
        let number = now.as_nanos() / part.as_nanos();
        let len = parts.len() as u64;
        for step in 1..=number.saturating_sub(*newest).min(len) {
            let slot = ((*newest + step) % len) as usize;
            self.total.take(core::mem::take(&mut parts[slot]));
        }
        *newest = number.max(*newest);
    }

    /// What it holds since it was last touched.
    pub fn tally(&self) -> Tally {
        self.total
    }

    /// When time alone takes something away; [`Time::MAX`] for never.
    pub fn slides_at(&self) -> Time {
        match &self.ring {
            Ring::Calls { .. } => Time::MAX,
            Ring::Time { part, newest, .. } => {
                Time::from_nanos(newest.saturating_add(1).saturating_mul(part.as_nanos()))
            }
        }
    }

    fn push(&mut self, mark: Mark, calls: u32) {
        match &mut self.ring {
            Ring::Calls { marks, size, next } => {
                let slot = &mut marks[*next as usize];
                if self.total.calls == *size {
                    let mut oldest = Tally::default();
                    oldest.add(*slot, 1);
                    self.total.take(oldest);
                }
                *slot = mark;
                *next = (*next + 1) % *size;
            }
            Ring::Time { parts, newest, .. } => {
                let slot = (*newest % parts.len() as u64) as usize;
                parts[slot].add(mark, calls);
            }
        }
        self.total.add(mark, calls);
    }
}

#[cfg(test)]
mod tests;
