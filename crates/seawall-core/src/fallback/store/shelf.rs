//! The shelf: entries in a list from newest to oldest, evicted by SIEVE.

use alloc::vec::Vec;

use hashbrown::HashTable;

use crate::request::Key;

use super::Config;

const NONE: u32 = u32::MAX;
/// What an entry weighs in the shelf's own memory, on top of what the driver counts.
const ENTRY_BYTES: u64 = 128;

#[derive(Debug)]
struct Entry<K, T> {
    hash: Key,
    key: K,
    value: T,
    bytes: u64,
    used: bool,
    newer: u32,
    older: u32,
}

#[derive(Debug)]
pub(super) struct Shelf<K, T> {
    index: HashTable<u32>,
    slots: Vec<Option<Entry<K, T>>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
    hand: u32,
    bytes: u64,
}

impl<K: Eq, T> Shelf<K, T> {
    pub(super) fn new() -> Shelf<K, T> {
        Shelf {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            hand: NONE,
            bytes: 0,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.index.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn at(&mut self, slot: u32) -> &mut Entry<K, T> {
        self.slots[slot as usize].as_mut().expect("indexed slots are taken")
    }

    fn find(&self, hash: Key, key: &K) -> Option<u32> {
        let is = |slot: &u32| {
            self.slots[*slot as usize].as_ref().is_some_and(|entry| entry.hash == hash && entry.key == *key)
        };
        self.index.find(hash.0, is).copied()
    }

    /// The entry of this key, marked as used.
    pub(super) fn get(&mut self, hash: Key, key: &K) -> Option<&T> {
        let slot = self.find(hash, key)?;
        let entry = self.at(slot);
        entry.used = true;
        Some(&entry.value)
    }

    /// Puts an entry in front, making room; returns how many others went. What is too large for the
    /// whole shelf is not put, and what stood in its place goes.
    pub(super) fn put(&mut self, hash: Key, key: K, value: T, bytes: u64, config: &Config) -> u64 {
        let bytes = bytes.saturating_add(ENTRY_BYTES);
        if let Some(slot) = self.find(hash, &key) {
            let rest = self.bytes - self.at(slot).bytes;
            if rest.saturating_add(bytes) <= config.bytes {
                self.renew(slot, value, bytes);
                return 0;
            }
            self.take(slot);
        }
        if bytes > config.bytes {
            return 0;
        }
        let mut evicted = 0;
        while self.index.len() >= config.entries.clamp(1, 1 << 31) as usize
            || self.bytes + bytes > config.bytes
        {
            self.evict();
            evicted += 1;
        }
        let entry = Entry { hash, key, value, bytes, used: false, newer: NONE, older: NONE };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
        };
        self.slots[slot as usize] = Some(entry);
        self.link(slot);
        self.bytes += bytes;
        let slots = &self.slots;
        let rehash = |slot: &u32| slots[*slot as usize].as_ref().map_or(0, |entry| entry.hash.0);
        self.index.insert_unique(hash.0, slot, rehash);
        evicted
    }

    /// Puts another value in the place of an entry, which comes in front, as if it had been put anew.
    fn renew(&mut self, slot: u32, value: T, bytes: u64) {
        self.unlink(slot);
        let entry = self.at(slot);
        (entry.value, entry.used) = (value, false);
        let before = core::mem::replace(&mut entry.bytes, bytes);
        self.bytes = self.bytes - before + bytes;
        self.link(slot);
    }

    /// Takes the entry of this key away.
    pub(super) fn remove(&mut self, hash: Key, key: &K) {
        if let Some(slot) = self.find(hash, key) {
            self.take(slot);
        }
    }

    /// The hand spares what was used since it came by, once, and takes the first that was not.
    fn evict(&mut self) {
        let mut slot = if self.hand == NONE { self.oldest } else { self.hand };
        while core::mem::take(&mut self.at(slot).used) {
            slot = match self.at(slot).newer {
                NONE => self.oldest,
                newer => newer,
            };
        }
        self.hand = slot;
        self.take(slot);
    }

    fn take(&mut self, slot: u32) {
        self.unlink(slot);
        let entry = self.slots[slot as usize].take().expect("only taken slots are taken out");
        self.bytes -= entry.bytes;
        self.free.push(slot);
        if let Ok(found) = self.index.find_entry(entry.hash.0, |other| *other == slot) {
            found.remove();
        }
    }

    /// Puts an entry in front of all.
    fn link(&mut self, slot: u32) {
        let newest = core::mem::replace(&mut self.newest, slot);
        let entry = self.at(slot);
        (entry.newer, entry.older) = (NONE, newest);
        match newest {
            NONE => self.oldest = slot,
            newest => self.at(newest).newer = slot,
        }
    }

    /// Takes an entry out of the order.
    fn unlink(&mut self, slot: u32) {
        let entry = self.at(slot);
        let (newer, older) = (entry.newer, entry.older);
        match newer {
            NONE => self.newest = older,
            newer => self.at(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.at(older).newer = newer,
        }
        if self.hand == slot {
            self.hand = newer;
        }
    }
}
