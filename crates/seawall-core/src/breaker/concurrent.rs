//! A breaker between threads: what goes well writes nothing that others read.
//!
//! **Prevents** the breaker from becoming the one cache line that all threads fight for. While all is
//! well, nearly every call succeeds, and a success changes no decision: it only has to be *counted*.
//!
//! **Mechanics.** While the breaker is *calm* (closed, the last call did not fail, and enough calls are
//! there that one more success can only lower the shares) its epoch stands in one word that all
//! read. An admission reads that word; a success adds one to a counter of its own [stripe](Stripes).
//! Whatever else happens takes the lock, and first tells the breaker of the
//! successes that were counted since: only successes lie between, so it decides exactly as if it had
//! been told of each in its turn. By time, it is calm until its window next slides.
//!
//! **Edges.** A counter carries the epoch it counts for. Of a success that comes late either whoever counts
//! it sees that, takes the lock, and is ignored like any late result; or whoever reads the counter does. A
//! counter runs over after 2³² successes, which is told from none as long as the breaker hears of it in between.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{Breaker, Config, Forced, Pass, Snapshot};
use crate::decision::Rejection;
use crate::event::{Event, Events};
use crate::outcome::Outcome;
use crate::own::{Own, Ownership};
use crate::request::Key;
use crate::stripes::{STRIPES, Stripe, Stripes};
use crate::time::Time;

/// Where the epoch begins in a word; below it, a stripe counts.
const EPOCH: u32 = 32;
const COUNT: u64 = (1 << EPOCH) - 1;
/// The word of a breaker that is not calm.
const BUSY: u64 = u64::MAX;

/// What is known of a breaker without its lock.
#[derive(Debug)]
pub struct Front {
    /// The epoch of a calm breaker, or [`BUSY`].
    calm: AtomicU64,
    /// Until when it is calm, and from which duration on a call is slow: nanoseconds.
    until: AtomicU64,
    slow: AtomicU64,
    fine: Stripes,
    /// The words of `fine` that the breaker has been told of. Written under its lock.
    told: [AtomicU64; 2 * STRIPES],
}

impl Default for Front {
    /// Of a breaker that is not calm.
    fn default() -> Front {
        Front {
            calm: AtomicU64::new(BUSY),
            until: AtomicU64::new(0),
            slow: AtomicU64::new(u64::MAX),
            fine: Stripes::default(),
            told: Default::default(),
        }
    }
}

impl Front {
    /// Lets a call pass if the breaker is calm.
    pub fn admit(&self, now: Time) -> Option<Pass> {
        let epoch = self.calm.load(Ordering::Acquire);
        let calm = epoch != BUSY && now.as_nanos() < self.until.load(Ordering::Relaxed);
        calm.then_some(Pass { epoch, lease: None, since: now })
    }

    /// Takes in how a call went, if that changes nothing but a count.
    pub fn report(&self, stripe: Stripe, now: Time, pass: &Pass, outcome: Outcome) -> bool {
        let calm = self.calm.load(Ordering::Acquire) == pass.epoch
            && pass.lease.is_none()
            && now.as_nanos() < self.until.load(Ordering::Relaxed);
        if !calm || outcome.is_failure() {
            return false;
        }
        if outcome == Outcome::Ignored {
            return true;
        }
        if now.since(pass.since).as_nanos() >= self.slow.load(Ordering::Relaxed) {
            return false;
        }
        if outcome != Outcome::Success {
            return true;
        }
        let epoch = pass.epoch << EPOCH;
        self.fine.update(stripe, |word| match word & !COUNT {
            of if of == epoch => Some(epoch | word.wrapping_add(1) & COUNT),
            // Another thread counts here, too, and for a later epoch.
            of if (of.wrapping_sub(epoch) as i64) > 0 => None,
            _ => Some(epoch | 1),
        })
    }

    /// Tells the breaker of the successes since; under its lock, before any of its verbs.
    pub fn tell(&self, breaker: &mut Breaker) {
        let epoch = breaker.epoch << EPOCH;
        let mut fine = 0_u32;
        for (place, word) in self.fine.words().filter(|(_, word)| word & !COUNT == epoch) {
            let told = self.told[place].load(Ordering::Relaxed);
            if told != word {
                self.told[place].store(word, Ordering::Relaxed);
                let before = if told & !COUNT == epoch { told } else { 0 };
                fine = fine.saturating_add((word as u32).wrapping_sub(before as u32));
            }
        }
        if fine > 0 {
            breaker.add_fine(fine);
        }
    }

    /// Says whether the breaker is calm; under its lock, after any of its verbs.
    pub fn publish(&self, breaker: &Breaker) {
        let Some(until) = breaker.calm_until() else {
            self.calm.store(BUSY, Ordering::Release);
            return;
        };
        let slow = breaker.config.0.slow.map_or(u64::MAX, |slow| slow.after.as_nanos());
        self.slow.store(slow, Ordering::Relaxed);
        self.until.store(until.as_nanos(), Ordering::Relaxed);
        self.calm.store(breaker.epoch, Ordering::Release);
    }

    /// Says that the breaker must be asked.
    pub fn hide(&self) {
        // Who reads it often keeps it in his cache.
        if self.calm.load(Ordering::Relaxed) != BUSY {
            self.calm.store(BUSY, Ordering::Release);
        }
    }
}

/// A breaker for many threads, with its events.
pub struct Concurrent<F: Ownership> {
    front: Front,
    breaker: F::Of<(Breaker, Events)>,
}

const ONE: Key = Key(0);

impl<F: Ownership> Concurrent<F> {
    /// A closed breaker.
    pub fn new(config: Config, now: Time) -> Concurrent<F> {
        let breaker = (Breaker::new(config, now), Events::default());
        Concurrent { front: Front::default(), breaker: F::Of::own(alloc::vec![breaker]) }
    }

    /// [`Breaker::admit`].
    pub fn admit(&self, now: Time) -> Result<Pass, Rejection> {
        match self.front.admit(now) {
            Some(pass) => Ok(pass),
            None => self.on(|breaker, events| breaker.admit(now, events)),
        }
    }

    /// [`Breaker::report`].
    pub fn report(&self, now: Time, pass: &Pass, outcome: Outcome) {
        if !self.front.report(F::stripe(), now, pass, outcome) {
            self.on(|breaker, events| breaker.report(now, pass, outcome, events));
        }
    }

    /// [`Breaker::broke`].
    pub fn broke(&self, now: Time, begun: Time) {
        self.on(|breaker, events| breaker.broke(now, begun, events));
    }

    /// [`Breaker::force`].
    pub fn force(&self, now: Time, how: Forced) {
        self.on(|breaker, events| breaker.force(now, how, events));
    }

    /// [`Breaker::reset`].
    pub fn reset(&self, now: Time) {
        self.on(|breaker, events| breaker.reset(now, events));
    }

    /// [`Breaker::configure`].
    pub fn configure(&self, now: Time, config: Config) {
        self.on(|breaker, _| breaker.configure(now, config));
    }

    /// The next change that nobody has pulled.
    pub fn event(&self) -> Option<Event> {
        self.on(|_, events| events.pull())
    }

    /// [`Breaker::snapshot`].
    pub fn snapshot(&self) -> Snapshot {
        self.on(|breaker, _| breaker.snapshot())
    }

    fn on<R>(&self, verb: impl FnOnce(&mut Breaker, &mut Events) -> R) -> R {
        self.breaker.with(ONE, |(breaker, events)| {
            self.front.tell(breaker);
            let answer = verb(breaker, events);
            self.front.publish(breaker);
            answer
        })
    }
}

#[cfg(test)]
mod tests;
