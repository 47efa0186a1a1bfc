//! The last `size` outcomes, and how many of them failed: a ring of bits.
//!
//! It slides with every outcome, so ten thousand old successes cannot hide a hundred new
//! failures. Until it is full, the rate is over what it holds.

use alloc::vec;
use alloc::vec::Vec;

/// A sliding count window of failures.
#[derive(Clone, Debug)]
pub struct Window {
    bits: Vec<u64>,
    size: u32,
    held: u32,
    next: u32,
    failed: u32,
}

impl Window {
    /// An empty window over the last `size` outcomes; at least 1.
    pub fn new(size: u32) -> Window {
        let size = size.max(1);
        Window { bits: vec![0; size.div_ceil(64) as usize], size, held: 0, next: 0, failed: 0 }
    }

    /// Adds one outcome and lets the oldest go.
    pub fn add(&mut self, failed: bool) {
        let (word, bit) = ((self.next / 64) as usize, 1_u64 << (self.next % 64));
        if self.held == self.size {
            self.failed -= u32::from(self.bits[word] & bit != 0);
        } else {
            self.held += 1;
        }
        self.bits[word] = if failed { self.bits[word] | bit } else { self.bits[word] & !bit };
        self.failed += u32::from(failed);
        self.next = (self.next + 1) % self.size;
    }

    /// Outcomes that it holds.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// How many of those failed.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// Forgets all outcomes.
    pub fn clear(&mut self) {
        *self = Window::new(self.size);
    }
}

#[cfg(test)]
mod tests;
