//! Stripes: a word that many threads write and few read, as a word of each thread's own.
//!
//! **Prevents** counting from costing more than what is counted. A word that all threads write is the one
//! cache line that they fight for; and even for a thread alone a locked instruction takes as long as twenty
//! others.
//!
//! **Mechanics.** A [`Stripe`] says which word is a thread's. One that is [its own](Stripe::own) is written by that
//! thread alone, by a plain load and a plain store; those that come when all of these are taken have one
//! [in common](Stripe::common), which few others write, too, and change it by compare and swap. Nobody writes the word
//! of another: a reader remembers what it has seen, and takes what came on top of it.
//!
//! **Edges.** A thread that ends leaves its word as it is, and whoever gets the same stripe goes on from there.
//! Two threads that say at the same time that they own one stripe lose counts; that is all.

use core::sync::atomic::{AtomicU64, Ordering};

/// Words that are owned, and as many that are not.
pub const STRIPES: usize = 8;

/// Which word of several a thread writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripe(u8);

impl Stripe {
    /// This one, of [`STRIPES`], which no other living thread writes.
    pub const fn own(place: usize) -> Stripe {
        Stripe((place % STRIPES) as u8)
    }

    /// This one, of as many as there are, which others write, too.
    pub const fn common(place: usize) -> Stripe {
        Stripe((STRIPES + place % STRIPES) as u8)
    }

    /// Whether no other living thread writes it.
    pub const fn is_own(self) -> bool {
        (self.0 as usize) < STRIPES
    }
}

/// A word on a cache line of its own, and its neighbour's that comes along.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Word(AtomicU64);

/// A word of each thread's own, all zero at first.
#[derive(Debug, Default)]
pub struct Stripes {
    words: [Word; 2 * STRIPES],
    /// Which of them may be other than zero, by bits: whoever reads them all reads only these.
    used: AtomicU64,
}

impl Stripes {
    /// Changes the word of a thread, if `change` agrees; says whether it did.
    #[inline]
    pub fn update(&self, stripe: Stripe, change: impl Fn(u64) -> Option<u64>) -> bool {
        let place = usize::from(stripe.0) % (2 * STRIPES);
        let word = &self.words[place].0;
        let mut before = word.load(Ordering::Relaxed);
        if before == 0 {
            self.use_word(place);
        }
        loop {
            let Some(after) = change(before) else { return false };
            if stripe.is_own() {
                word.store(after, Ordering::Relaxed);
                return true;
            }
            match word.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) => before = other,
            }
        }
    }

    /// Notes that a word is used. Most that are zero have been used before.
    #[inline]
    fn use_word(&self, place: usize) {
        let bit = 1 << place;
        if self.used.load(Ordering::Relaxed) & bit == 0 {
            self.used.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Adds one to the word of a thread.
    #[inline]
    pub fn add_one(&self, stripe: Stripe) {
        self.update(stripe, |word| Some(word.wrapping_add(1)));
    }

    /// Takes one from the word of a thread, perhaps one that another has added to its own.
    #[inline]
    pub fn take_one(&self, stripe: Stripe) {
        self.update(stripe, |word| Some(word.wrapping_sub(1)));
    }

    /// The words that may be other than zero, and where they are.
    #[inline]
    pub fn words(&self) -> impl Iterator<Item = (usize, u64)> {
        let mut used = self.used.load(Ordering::Relaxed);
        core::iter::from_fn(move || {
            let place = (used != 0).then(|| used.trailing_zeros() as usize)?;
            used &= used - 1;
            Some((place, self.words[place].0.load(Ordering::Relaxed)))
        })
    }

    /// What was added to all words, without what was taken from any. While others write, it may have heard of
    /// what one took and not of what another added before: then it is less than nothing.
    pub fn sum(&self) -> i64 {
        self.words().fold(0, |sum, (_, word)| sum.wrapping_add(word as i64))
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_word_is_changed_only_if_that_is_wanted() {
        let stripes = Stripes::default();
        for stripe in [Stripe::own(1), Stripe::common(1)] {
            assert!(!stripes.update(stripe, |_| None));
            assert!(stripes.update(stripe, |word| Some(word + 5)));
        }
        assert_eq!(stripes.words().collect::<Vec<_>>(), [(1, 5), (STRIPES + 1, 5)]);
    }

    #[test]
    fn what_one_adds_another_may_take() {
        let stripes = Stripes::default();
        stripes.take_one(Stripe::own(7));
        assert_eq!(stripes.sum(), -1, "it has not heard of the others");
        (0..3).for_each(|_| stripes.add_one(Stripe::own(0)));
        stripes.take_one(Stripe::common(250));
        assert_eq!(stripes.sum(), 1);
    }
}
