//! The bounded table of levels: 16 bytes a slot, open addressing, and a hand that sweeps for places.
//!
//! A level of zero is a vacant slot, because a bucket that is full needs none. Probes run from
//! slot to slot, four to a cache line; at most four in five slots are taken. The table grows by a
//! half, so that a user costs 20 to 30 bytes, and leaves behind those whose bucket is full.

use alloc::vec;
use alloc::vec::Vec;

use crate::measure::bucket::{Level, Ticks};
use crate::request::Key;

/// Slots that the hand looks at for each newcomer to a full table.
pub const SWEEP: usize = 64;

/// Slots that a table has at least, unless its cap needs fewer: a kilobyte.
const SLOTS_LEAST: usize = 64;

/// Slots up to which a table grows before it sends anybody away, idle or not: 16 kilobytes. In less,
/// where users come and go, sending them away and letting them in again would be most of the work.
const SLOTS_FREELY: usize = 1_024;

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: Key,
    level: Level,
}

const VACANT: Slot = Slot { key: Key(0), level: Level(0) };

impl Slot {
    fn is_vacant(&self) -> bool {
        self.level == Level(0)
    }
}

/// Where an entry stands; good until the table changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

/// A place for a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is one.
    Free,
    /// That of a user whose bucket is full.
    Idle(Place),
    /// None; this user is the nearest to full of those seen.
    Nearest(Place),
}

#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    users: usize,
    max: usize,
    hand: usize,
}

/// The slot at which the search for a key begins. Shards go by the bits above.
const fn home(key: Key, slots: usize) -> usize {
    (((key.0 & 0xffff_ffff) * slots as u64) >> 32) as usize
}

/// Slots in which so many users find a place.
const fn slots_for(users: usize) -> usize {
    users + users / 4 + 1
}

impl Table {
    pub(super) fn new(max: u32) -> Table {
        let max = (max as usize).max(1);
        Table { slots: vec![VACANT; slots_for(max).min(SLOTS_LEAST)], users: 0, max, hand: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.users
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<Place> {
        let mut at = home(key, self.slots.len());
        loop {
            let slot = self.slots.get(at)?;
            if slot.is_vacant() {
                return None;
            }
            if slot.key == key {
                return Some(Place(at));
            }
            at = self.next(at);
        }
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    pub(super) fn level(&self, place: Place) -> Level {
        self.slots[place.0].level
    }

    pub(super) fn set(&mut self, place: Place, level: Level) {
        debug_assert!(level != Level(0), "no token is taken for nothing");
        self.slots[place.0].level = level;
    }

    /// Adds a newcomer for whom there is room.
    pub(super) fn insert(&mut self, key: Key, level: Level, now: Ticks) -> Level {
        debug_assert!(self.find(key).is_none() && level != Level(0));
        assert!(self.users < self.max, "room is made before a newcomer enters");
        let mut forgotten = Level(0);
        if slots_for(self.users + 1) > self.slots.len() {
            forgotten = self.grow(now);
        }
        self.put(Slot { key, level });
        forgotten
    }

    fn put(&mut self, slot: Slot) {
        let mut at = home(slot.key, self.slots.len());
        while !self.slots[at].is_vacant() {
            at = self.next(at);
        }
        self.slots[at] = slot;
        self.users += 1;
    }

    /// Leaves behind those whose bucket is full, and grows if that made too little room or the table
    /// is small. Returns the latest level left behind.
    fn grow(&mut self, now: Ticks) -> Level {
        let active = self.slots.iter().filter(|slot| !slot.level.is_full(now)).count();
        let idle = self.slots.iter().map(|slot| slot.level).filter(|level| level.is_full(now)).max();
        // Four in five taken is the bound; what stays at two in five does not have to grow soon.
        if self.slots.len() >= SLOTS_FREELY && (active + 1) * 5 <= self.slots.len() * 2 {
            self.forget_full(now);
        } else {
            let slots = (self.slots.len() * 3 / 2).min(slots_for(self.max));
            self.rebuild(slots, |level| if level.is_full(now) { Level(0) } else { level });
        }
        idle.unwrap_or(Level(0))
    }

    /// Forgets those whose bucket is full, without another table: from a vacant slot on, each one is taken out, and
    /// who stays is put back, no further from its home.
    fn forget_full(&mut self, now: Ticks) {
        let slots = self.slots.len();
        let vacant = self.slots.iter().position(Slot::is_vacant).expect("no table is taken whole");
        for at in (vacant..slots).chain(0..vacant) {
            let slot = core::mem::replace(&mut self.slots[at], VACANT);
            if slot.is_vacant() {
                continue;
            }
            self.users -= 1;
            if !slot.level.is_full(now) {
                self.put(slot);
            }
        }
    }

    /// Changes each level; those that become zero are forgotten.
    pub(super) fn each(&mut self, change: impl FnMut(Level) -> Level) {
        self.rebuild(self.slots.len(), change);
    }

    fn rebuild(&mut self, slots: usize, mut change: impl FnMut(Level) -> Level) {
        let old = core::mem::replace(&mut self.slots, vec![VACANT; slots]);
        (self.users, self.hand) = (0, 0);
        for slot in old.into_iter().filter(|slot| !slot.is_vacant()) {
            let changed = Slot { level: change(slot.level), ..slot };
            if !changed.is_vacant() {
                self.put(changed);
            }
        }
    }

    /// Forgets an entry, and moves those up who stand behind it for want of a better place.
    pub(super) fn remove(&mut self, place: Place) {
        let slots = self.slots.len();
        let (mut hole, mut at) = (place.0, place.0);
        loop {
            at = self.next(at);
            let slot = self.slots[at];
            if slot.is_vacant() {
                break;
            }
            let from_home = (at + slots - home(slot.key, slots)) % slots;
            let from_hole = (at + slots - hole) % slots;
            if from_home >= from_hole {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = VACANT;
        self.users -= 1;
    }

    /// Looks for room for a newcomer, at most [`SWEEP`] slots far.
    pub(super) fn room(&mut self, now: Ticks) -> Room {
        if self.users < self.max {
            return Room::Free;
        }
        let mut nearest: Option<(Level, usize)> = None;
        // Beyond the sweep only until it met anybody at all: most slots are taken.
        for seen in 0..self.slots.len() {
            if seen >= SWEEP && nearest.is_some() {
                break;
            }
            self.hand = self.next(self.hand);
            let slot = &self.slots[self.hand];
            if slot.is_vacant() {
                continue;
            }
            if slot.level.is_full(now) {
                return Room::Idle(Place(self.hand));
            }
            if nearest.is_none_or(|(least, _)| slot.level < least) {
                nearest = Some((slot.level, self.hand));
            }
        }
        let (_, at) = nearest.expect("a full table holds somebody");
        Room::Nearest(Place(at))
    }
}

#[cfg(test)]
mod tests;
