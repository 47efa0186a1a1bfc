//! A breaker for each key, in a table that never outgrows its cap.
//!
//! **Prevents** one breaker over many shards, tenants or methods from making the failure of one of
//! them the failure of all.
//!
//! **Mechanics.** A breaker is made when its key is first seen. When the table is full, a newcomer
//! takes the place of one that is closed and holds no failure, because forgetting that one changes no
//! decision; a hand sweeps the table for such places, sixteen for each newcomer. If there is none,
//! the one with the lowest share of failures among the closed ones goes.
//!
//! **Edges.** Breakers that are open, half-open or overridden by hand are never forgotten. When the
//! hand meets nothing else, the newcomer passes unguarded, and that is counted: a breaker that is not
//! there must not refuse. A pass names its breaker; when that was forgotten, its result counts for
//! nothing.

use alloc::vec::Vec;

use hashbrown::HashTable;

use super::{Breaker, Config, Forced, Mode, Pass, Snapshot};
use crate::decision::Rejection;
use crate::event::Events;
use crate::outcome::Outcome;
use crate::request::Key;
use crate::time::Time;

/// Breakers that the hand looks at for each newcomer to a full table.
const SWEEP: usize = 16;

/// Admission by the breaker of a key.
#[derive(Debug)]
pub struct KeyedPass {
    key: Key,
    /// Which of the breakers that this key has had; `None` when it has none.
    made: Option<(u64, Pass)>,
}

/// Plain values of a table of breakers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyedSnapshot {
    /// Keys that have a breaker.
    pub keys: u64,
    /// The most that can.
    pub max_keys: u64,
    /// Breakers that are open or half-open.
    pub open: u64,
    /// Breakers that were forgotten though they held a failure.
    pub forgotten: u64,
    /// Calls that passed because there was no place for their breaker.
    pub unguarded: u64,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    made: u64,
    breaker: Breaker,
}

/// Breakers by key.
#[derive(Debug)]
pub struct Keyed {
    config: Config,
    max_keys: u32,
    slots: Vec<Entry>,
    /// Where the breaker of a key stands in `slots`.
    index: HashTable<u32>,
    hand: usize,
    next: u64,
    counts: KeyedSnapshot,
}

impl Keyed {
    /// No breakers yet, and never more than `max_keys`, at least 1.
    pub fn new(config: Config, max_keys: u32) -> Keyed {
        Keyed {
            config,
            max_keys: max_keys.max(1),
            slots: Vec::new(),
            index: HashTable::new(),
            hand: 0,
            next: 0,
            counts: KeyedSnapshot::default(),
        }
    }

    /// Lets the call of this key pass, or refuses it.
    pub fn admit(&mut self, now: Time, key: Key, events: &mut Events) -> Result<KeyedPass, Rejection> {
        let Some(slot) = self.find(key).or_else(|| self.make(now, key)) else {
            self.counts.unguarded += 1;
            return Ok(KeyedPass { key, made: None });
        };
        let entry = &mut self.slots[slot];
        let pass = entry.breaker.admit(now, events)?;
        Ok(KeyedPass { key, made: Some((entry.made, pass)) })
    }

    /// Takes in how an admitted call went.
    pub fn report(&mut self, now: Time, pass: &KeyedPass, outcome: Outcome, events: &mut Events) {
        if let (Some(slot), Some((made, pass_of))) = (self.find(pass.key), &pass.made)
            && self.slots[slot].made == *made
        {
            self.slots[slot].breaker.report(now, pass_of, outcome, events);
        }
    }

    /// Overrides the breaker of a key by hand; says whether there is one, or place for one.
    pub fn force(&mut self, now: Time, key: Key, how: Forced, events: &mut Events) -> Option<()> {
        let slot = self.find(key).or_else(|| self.make(now, key))?;
        self.slots[slot].breaker.force(now, how, events);
        Some(())
    }

    /// Closes the breaker of a key, if there is one.
    pub fn reset(&mut self, now: Time, key: Key, events: &mut Events) {
        if let Some(slot) = self.find(key) {
            self.slots[slot].breaker.reset(now, events);
        }
    }

    /// Changes the settings of all. The cap stays; it is set when the table is made.
    pub fn configure(&mut self, now: Time, config: Config) {
        self.config = config;
        for entry in &mut self.slots {
            entry.breaker.configure(now, seeded(config, entry.made));
        }
    }

    /// Plain values of one breaker.
    pub fn of(&self, key: Key) -> Option<Snapshot> {
        self.find(key).map(|slot| self.slots[slot].breaker.snapshot())
    }

    /// Plain values of the table.
    pub fn snapshot(&self) -> KeyedSnapshot {
        let is_open = |entry: &&Entry| matches!(entry.breaker.mode(), Mode::Open | Mode::HalfOpen);
        KeyedSnapshot {
            keys: self.slots.len() as u64,
            max_keys: u64::from(self.max_keys),
            open: self.slots.iter().filter(is_open).count() as u64,
            ..self.counts
        }
    }

    fn find(&self, key: Key) -> Option<usize> {
        let slots = &self.slots;
        self.index.find(key.0, |slot| slots[*slot as usize].key == key).map(|slot| *slot as usize)
    }

    fn make(&mut self, now: Time, key: Key) -> Option<usize> {
        let made = self.next;
        let entry = Entry { key, made, breaker: Breaker::new(seeded(self.config, made), now) };
        let slot = if (self.slots.len() as u32) < self.max_keys {
            self.slots.push(entry);
            self.slots.len() - 1
        } else {
            let slot = self.make_room()?;
            let old = self.slots[slot].key;
            if let Ok(place) = self.index.find_entry(old.0, |other| *other as usize == slot) {
                place.remove();
            }
            self.slots[slot] = entry;
            slot
        };
        self.next += 1;
        let slots = &self.slots;
        self.index.insert_unique(key.0, slot as u32, |slot| slots[*slot as usize].key.0);
        Some(slot)
    }

    /// Whose place a newcomer may take.
    fn make_room(&mut self) -> Option<usize> {
        let mut least: Option<(f64, usize)> = None;
        for _ in 0..SWEEP.min(self.slots.len()) {
            self.hand = (self.hand + 1) % self.slots.len();
            let of = self.slots[self.hand].breaker.snapshot();
            if of.mode != Mode::Closed {
                continue;
            }
            if of.failure_rate == 0.0 && of.slow_rate == 0.0 {
                return Some(self.hand);
            }
            if least.is_none_or(|(rate, _)| of.failure_rate < rate) {
                least = Some((of.failure_rate, self.hand));
            }
        }
        self.counts.forgotten += u64::from(least.is_some());
        least.map(|(_, slot)| slot)
    }
}

/// Each breaker draws its own open times.
fn seeded(config: Config, made: u64) -> Config {
    match config.0.seed {
        Some(seed) => config.seeded(crate::rng::mix(seed ^ crate::rng::mix(made))),
        None => config,
    }
}

#[cfg(test)]
mod tests;
