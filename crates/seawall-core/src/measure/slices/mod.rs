//! Slices: a sliding span of time, cut into `N` parts with a value each.
//!
//! What is written into the newest part stays for at least the whole span and for at most one part
//! longer, however seldom anybody looks: parts are numbered by absolute time, so that quiet times
//! neither shorten nor lengthen their lives. Memory and work are constant.

use crate::time::{Span, Time};

/// A ring of values over a sliding span of time.
#[derive(Clone, Debug)]
pub struct Slices<T, const N: usize> {
    slots: [T; N],
    slice: Span,
    newest: u64,
    /// When the newest is over.
    until: Time,
}

impl<T: Copy + Default, const N: usize> Slices<T, N> {
    /// Empty slices over `span`; `N` is at least 2.
    pub fn new(span: Span, now: Time) -> Slices<T, N> {
        const { assert!(N >= 2, "one slice would forget everything at once") };
        let parts = N as u64 - 1;
        let slice = Span::from_nanos(span.as_nanos().div_ceil(parts).max(1));
        let newest = now.as_nanos() / slice.as_nanos();
        Slices { slots: [T::default(); N], slice, newest, until: end(newest, slice) }
    }

    /// Lets time pass: hands out each value whose time is over, oldest first.
    pub fn slide(&mut self, now: Time, mut leaves: impl FnMut(T)) {
        if now < self.until {
            return;
        }
        let number = now.as_nanos() / self.slice.as_nanos();
        let steps = number.saturating_sub(self.newest).min(N as u64);
        for step in 1..=steps {
            // One round further on is the slot of the part that leaves.
            let slot = self.slot(self.newest.saturating_add(step));
            leaves(core::mem::take(&mut self.slots[slot]));
        }
        self.newest = self.newest.max(number);
        self.until = end(self.newest, self.slice);
    }

    /// The number of the newest part.
    pub fn number(&self) -> u64 {
        self.newest
    }

    /// The part with this number; `None` when its time is over.
    pub fn at(&mut self, number: u64) -> Option<&mut T> {
        let slot = self.slot(number);
        let lives = number <= self.newest && self.newest - number < N as u64;
        lives.then(|| &mut self.slots[slot])
    }

    /// The newest part.
    pub fn newest(&mut self) -> &mut T {
        let slot = self.slot(self.newest);
        &mut self.slots[slot]
    }

    /// The numbers of all parts that live, oldest first.
    pub fn numbers(&self) -> core::ops::RangeInclusive<u64> {
        self.newest.saturating_sub(N as u64 - 1)..=self.newest
    }

    fn slot(&self, number: u64) -> usize {
        (number % N as u64) as usize
    }
}

/// When the slice of this number is over.
fn end(number: u64, slice: Span) -> Time {
    Time::ZERO + slice.times(number.saturating_add(1))
}

#[cfg(test)]
mod tests;
