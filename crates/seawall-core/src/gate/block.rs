//! Block: a route's traffic stopped by hand, and let in again slowly.
//!
//! **Prevents** the second outage: when only taking a service down helps, the way back is the dangerous
//! part, for it meets cold caches, an old backlog and all of its traffic in one instant.
//!
//! ```text
//!              block                     admit                    all passes
//!   Open ─────────────────▶ Blocked ─────────────────▶ Admitting ───────────▶ Open
//!                              ▲                          │
//!                              └────────── block ─────────┘
//! ```
//!
//! **Mechanics.** Blocked, everything is refused. Admitting, a ramp passes a growing share, and its guard
//! stops it on a relapse: failures and a late queue hold the share, and halve it when they are many;
//! refusals for want of capacity by whoever stands behind hold it. So the share follows the capacity as that comes
//! back. The ramp may end below all of the traffic; then it stays there until the next word. A word to let in
//! more goes on from the share that passes, one to let in less takes back what is above that.
//!
//! **Edges.** What was admitted before the last word reports into nothing. Nobody who was refused is let in
//! later: there is no backlog. A block has no end of its own, so a refusal says [`ASK_AGAIN`].

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use super::ONE;
use crate::decision::{Policy, Reason, Rejection};
use crate::event::Change;
use crate::outcome::Outcome;
use crate::own::{Own, Ownership};
use crate::ramp::{Ramp, Strain};
use crate::rng::Rng;
use crate::time::{Span, Time};

/// When to ask a blocked route again.
pub const ASK_AGAIN: Span = Span::from_secs(30);

/// What a block shows of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does nothing.
    Open,
    /// Nothing passes.
    Blocked,
    /// A share passes.
    Admitting,
}

impl Mode {
    /// Its name in metrics and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Open => "open",
            Mode::Blocked => "blocked",
            Mode::Admitting => "admitting",
        }
    }
}

/// Plain values.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Its state.
    pub mode: Mode,
    /// Why it is blocked, or was.
    pub why: Option<Arc<str>>,
    /// Since when it is in this state.
    pub since: Time,
    /// The share of the traffic that passes, 0 to 1.
    pub share: f64,
    /// Requests that it refused.
    pub refused: u64,
}

#[derive(Debug)]
enum State {
    Open,
    Blocked,
    Admitting(Ramp),
}

/// The state of a block.
#[derive(Debug)]
pub(super) struct Block {
    state: State,
    why: Option<Arc<str>>,
    since: Time,
    /// Counts the words, so that late reports are known.
    word: u32,
    refused: u64,
}

impl Block {
    fn admit(&mut self, now: Time) -> Result<Option<Entry>, Rejection> {
        let refusal = match &mut self.state {
            State::Open => return Ok(None),
            State::Blocked => ASK_AGAIN,
            State::Admitting(ramp) => match ramp.admit(now) {
                Ok(()) => return Ok(Some(Entry(self.word))),
                Err(rejection) => rejection.retry_after,
            },
        };
        self.refused += 1;
        Err(Rejection::new(Policy::Block, Reason::Blocked, refusal))
    }

    fn report(&mut self, now: Time, entry: Entry, outcome: Outcome, strain: Strain) -> Option<Change> {
        let State::Admitting(ramp) = &mut self.state else { return None };
        if entry != Entry(self.word) {
            return None;
        }
        ramp.report(now, outcome, strain);
        if !ramp.is_over() {
            return None;
        }
        (self.state, self.since) = (State::Open, now);
        Some(Change::Admitted)
    }

    fn refused_behind(&mut self, entry: Entry) {
        if let State::Admitting(ramp) = &mut self.state
            && entry == Entry(self.word)
        {
            ramp.refused();
        }
    }

    fn enter(&mut self, now: Time, state: State) {
        self.state = state;
        self.since = now;
        self.word = self.word.wrapping_add(1);
    }

    fn snapshot(&self) -> Snapshot {
        let (mode, share) = match &self.state {
            State::Open => (Mode::Open, 1.0),
            State::Blocked => (Mode::Blocked, 0.0),
            State::Admitting(ramp) => (Mode::Admitting, ramp.share()),
        };
        Snapshot { mode, why: self.why.clone(), since: self.since, share, refused: self.refused }
    }
}

/// Admission by a block that lets in a share: names the word under which it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u32);

/// The block at the very front of a gate. An open one costs a look at a flag.
pub(super) struct Barrier<F: Ownership> {
    engaged: AtomicBool,
    block: F::Of<Block>,
}

impl<F: Ownership> Barrier<F> {
    /// An open one.
    pub(super) fn new() -> Barrier<F> {
        let block = Block { state: State::Open, why: None, since: Time::ZERO, word: 0, refused: 0 };
        Barrier { engaged: AtomicBool::new(false), block: F::Of::own(alloc::vec![block]) }
    }

    pub(super) fn block(&self, now: Time, why: Arc<str>) -> Change {
        self.block.with(ONE, |block| {
            block.why = Some(why);
            block.enter(now, State::Blocked);
            self.engaged.store(true, Ordering::Release);
        });
        Change::Blocked
    }

    /// Lets traffic in again. An open block has nothing to let in.
    pub(super) fn readmit(&self, now: Time, top_ppm: u32, over: Span, rng: &mut Rng) -> Option<Change> {
        self.block.with(ONE, |block| {
            let ramp = Ramp::new(over, now, rng);
            let ramp = match &block.state {
                State::Open => return None,
                State::Blocked => ramp,
                State::Admitting(before) => ramp.after(before),
            };
            block.enter(now, State::Admitting(ramp.up_to(top_ppm)));
            Some(Change::Admitting)
        })
    }

    /// Whether it does nothing.
    pub(super) fn is_open(&self) -> bool {
        !self.engaged.load(Ordering::Acquire)
    }

    /// Whether a request may go on.
    #[inline]
    pub(super) fn admit(&self, now: Time) -> Result<Option<Entry>, Rejection> {
        match self.engaged.load(Ordering::Acquire) {
            true => self.block.with(ONE, |block| block.admit(now)),
            false => Ok(None),
        }
    }

    /// Whether who waits behind it must go after all.
    pub(super) fn check(&self) -> Result<(), Rejection> {
        let blocked = || self.block.with(ONE, |block| matches!(block.state, State::Blocked));
        match self.engaged.load(Ordering::Acquire) && blocked() {
            true => Err(Rejection::new(Policy::Block, Reason::Blocked, ASK_AGAIN)),
            false => Ok(()),
        }
    }

    pub(super) fn report(&self, now: Time, entry: Entry, outcome: Outcome, strain: Strain) -> Option<Change> {
        self.block.with(ONE, |block| {
            let change = block.report(now, entry, outcome, strain);
            if change.is_some() {
                self.engaged.store(false, Ordering::Release);
            }
            change
        })
    }

    /// What it let in was refused behind it for want of capacity.
    pub(super) fn refused_behind(&self, entry: Entry) {
        self.block.with(ONE, |block| block.refused_behind(entry));
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        self.block.with(ONE, |block| block.snapshot())
    }
}
