//! Flights: keys that are being fetched, each by one leader, and who waits for it.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use hashbrown::HashTable;

use crate::request::Key;
use crate::time::Time;

use super::{Answer, Config};

/// How a flight ended.
#[derive(Debug)]
pub(super) enum Ended<V> {
    /// With an answer for all.
    Filled(Answer<V>),
    /// The answer cannot be shared.
    Apart,
    /// There is none.
    Failed,
}

/// The lead of a flight, by a counter for a name: a lead that was taken over is void.
#[derive(Debug)]
pub(super) struct Lead {
    slot: u32,
    id: u64,
}

/// A seat in a flight. Its slot is not reused before all have left.
#[derive(Debug)]
pub(super) struct Seat {
    slot: u32,
    id: u64,
}

#[derive(Debug)]
struct Flight<K, V, W> {
    hash: Key,
    key: K,
    /// Who leads; `None` when the leader has gone.
    lead: Option<u64>,
    lease_ends: Time,
    ended: Option<Ended<V>>,
    seats: u32,
    /// Who is parked, in order of arrival.
    waiters: BTreeMap<u64, W>,
}

#[derive(Debug)]
pub(super) struct Flights<K, V, W> {
    index: HashTable<u32>,
    slots: Vec<Option<Flight<K, V, W>>>,
    free: Vec<u32>,
    next_id: u64,
}

impl<K: Eq + Clone, V, W> Flights<K, V, W> {
    pub(super) fn new() -> Flights<K, V, W> {
        Flights { index: HashTable::new(), slots: Vec::new(), free: Vec::new(), next_id: 0 }
    }

    pub(super) fn len(&self) -> u64 {
        self.index.len() as u64
    }

    fn at(&mut self, slot: u32) -> &mut Flight<K, V, W> {
        self.slots[slot as usize].as_mut().expect("a slot is kept while it is named")
    }

    fn find(&self, hash: Key, key: &K) -> Option<u32> {
        let is = |slot: &u32| {
            self.slots[*slot as usize].as_ref().is_some_and(|other| other.hash == hash && other.key == *key)
        };
        self.index.find(hash.0, is).copied()
    }

    fn name(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Leads a new flight, or one whose leader has gone or hangs; `None` when somebody leads or there
    /// are too many flights.
    pub(super) fn lead(&mut self, now: Time, hash: Key, key: &K, config: &Config) -> Option<Lead> {
        let id = self.name();
        let lease_ends = now + config.lease;
        if let Some(slot) = self.find(hash, key) {
            let flight = self.at(slot);
            if flight.lead.is_some() && now < flight.lease_ends {
                return None;
            }
            (flight.lead, flight.lease_ends) = (Some(id), lease_ends);
            return Some(Lead { slot, id });
        }
        if self.index.len() >= config.flights as usize {
            return None;
        }
        let (lead, waiters) = (Some(id), BTreeMap::new());
        let flight = Flight { hash, key: key.clone(), lead, lease_ends, ended: None, seats: 0, waiters };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
        };
        self.slots[slot as usize] = Some(flight);
        let slots = &self.slots;
        let rehash = |slot: &u32| slots[*slot as usize].as_ref().map_or(0, |flight| flight.hash.0);
        self.index.insert_unique(hash.0, slot, rehash);
        Some(Lead { slot, id })
    }

    /// A seat in the flight of this key, when somebody leads it and there is room.
    pub(super) fn join(&mut self, now: Time, hash: Key, key: &K, config: &Config) -> Option<Seat> {
        let slot = self.find(hash, key)?;
        let flight = self.at(slot);
        if flight.lead.is_none() || now >= flight.lease_ends || flight.seats >= config.waiting {
            return None;
        }
        flight.seats += 1;
        Some(Seat { slot, id: self.name() })
    }

    pub(super) fn lease_ends(&mut self, seat: &Seat) -> Time {
        self.at(seat.slot).lease_ends
    }

    pub(super) fn ended(&mut self, seat: &Seat) -> Option<&Ended<V>> {
        self.at(seat.slot).ended.as_ref()
    }

    pub(super) fn park(&mut self, seat: &Seat, waiter: W) {
        self.at(seat.slot).waiters.insert(seat.id, waiter);
    }

    /// Whoever sits here leads from now on, if nobody does.
    pub(super) fn take_over(&mut self, now: Time, seat: &Seat, config: &Config) -> Option<Lead> {
        let flight = self.at(seat.slot);
        if flight.lead.is_some() && now < flight.lease_ends {
            return None;
        }
        (flight.lead, flight.lease_ends) = (Some(seat.id), now + config.lease);
        flight.waiters.remove(&seat.id);
        flight.seats -= 1;
        Some(Lead { slot: seat.slot, id: seat.id })
    }

    /// Whoever sat here has gone. Returns who is to lead, if that was this one's part.
    pub(super) fn leave(&mut self, seat: Seat) -> Option<W> {
        let flight = self.at(seat.slot);
        flight.seats -= 1;
        flight.waiters.remove(&seat.id);
        self.without_leader(seat.slot)
    }

    /// The leader has gone. Returns who is to lead.
    pub(super) fn hand_over(&mut self, lead: Lead) -> Option<W> {
        if !self.is_current(&lead) {
            return None;
        }
        self.at(lead.slot).lead = None;
        self.without_leader(lead.slot)
    }

    /// The flight has landed: all who wait are due. Void when another one has taken the lead.
    pub(super) fn end(&mut self, lead: Lead, ended: Ended<V>, due: &mut VecDeque<W>) {
        if !self.is_current(&lead) {
            return;
        }
        let flight = self.at(lead.slot);
        (flight.lead, flight.ended) = (None, Some(ended));
        due.extend(core::mem::take(&mut flight.waiters).into_values());
        self.unlist(lead.slot);
        self.without_leader(lead.slot);
    }

    fn is_current(&self, lead: &Lead) -> bool {
        self.slots[lead.slot as usize].as_ref().is_some_and(|flight| flight.lead == Some(lead.id))
    }

    /// Clears a flight that nobody is in, or wakes the first who waits in one that nobody leads.
    fn without_leader(&mut self, slot: u32) -> Option<W> {
        let flight = self.at(slot);
        if flight.lead.is_some() {
            return None;
        }
        if flight.seats == 0 {
            self.unlist(slot);
            self.slots[slot as usize] = None;
            self.free.push(slot);
            return None;
        }
        flight.waiters.pop_first().map(|(_, waiter)| waiter)
    }

    fn unlist(&mut self, slot: u32) {
        let Some(flight) = &self.slots[slot as usize] else { return };
        if let Ok(found) = self.index.find_entry(flight.hash.0, |other| *other == slot) {
            found.remove();
        }
    }
}
