//! What a request took from the throttles of its gate, so that it can be given back.

use super::{Ownership, Rule};
use crate::request::{Key, Request};
use crate::throttle::{Mark, Purse, Refund};
use crate::time::Time;

/// Throttles of a gate whose marks are kept. Of those beyond, what flowed in since the taking does
/// not come back, though the bucket may have been far from full.
const MARKED: usize = 4;

/// Tokens taken from the throttles of one gate, a bit for each throttle.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    user: Key,
    cost: u32,
    plan: u8,
    /// The first throttle that was asked at `then`, after a wait for tokens. Those before count as
    /// asked `at` first, which returns no more than is right.
    resumed: u8,
    own: u16,
    overflow: u16,
    /// Of its cost, what has not been given back.
    kept: u32,
    at: Time,
    then: Time,
    marks: [Mark; MARKED],
}

impl Taken {
    /// Nothing yet, by this request.
    #[inline]
    pub(super) fn begin(&mut self, now: Time, request: &Request) {
        (self.user, self.cost, self.plan) = (request.user, request.cost, request.plan);
        (self.at, self.then) = (now, now);
        self.kept = request.cost.max(1);
    }

    /// Nothing after all.
    #[inline]
    pub(super) fn clear(&mut self) {
        (self.resumed, self.own, self.overflow, self.kept) = (0, 0, 0, 0);
    }

    /// Notes what was taken from the throttle of this index.
    pub(super) fn note(&mut self, index: usize, purse: Purse, mark: Mark) {
        match purse {
            Purse::Own => self.own |= bit(index),
            Purse::Overflow => self.overflow |= bit(index),
        }
        if let Some(place) = self.marks.get_mut(index) {
            *place = mark;
        }
    }

    /// Adds what was taken from the first throttles, before those from `resumed` on were asked.
    pub(super) fn after(&mut self, before: &Taken, resumed: usize) {
        self.own |= before.own;
        self.overflow |= before.overflow;
        let marked = resumed.min(MARKED);
        self.marks[..marked].copy_from_slice(&before.marks[..marked]);
        self.at = before.at;
        self.resumed = self.resumed.max(u8::try_from(resumed).unwrap_or(u8::MAX));
    }

    /// Gives back so many tokens, or what is left of them, to each throttle.
    pub(super) fn give_back<'a, F: Ownership + 'a>(
        &mut self,
        now: Time,
        tokens: u32,
        rules: impl Iterator<Item = &'a Rule<F>>,
    ) {
        let tokens = tokens.min(self.kept);
        self.kept -= tokens;
        if tokens == 0 || self.own | self.overflow == 0 {
            return;
        }
        let request = Request { cost: self.cost, plan: self.plan, ..Request::new(self.user) };
        for (index, rule) in rules.enumerate() {
            let purse = match bit(index) {
                bit if self.own & bit != 0 => Purse::Own,
                bit if self.overflow & bit != 0 => Purse::Overflow,
                _ => continue,
            };
            let taken = if index < usize::from(self.resumed) { self.at } else { self.then };
            let mark = self.marks.get(index).copied();
            rule.give_back(now, &request, purse, Refund { tokens, taken, mark });
        }
    }
}

/// The bit of a throttle, by its place among those of the gate.
fn bit(index: usize) -> u16 {
    1_u16.checked_shl(index as u32).unwrap_or(0)
}
