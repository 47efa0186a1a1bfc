//! The bounded table of buckets: 24 bytes an entry, and a hand that sweeps for places.

use hashbrown::HashTable;

use crate::measure::bucket::{Bucket, Quota};
use crate::request::Key;
use crate::time::Time;

/// Slots that the hand looks at for each newcomer to a full table.
pub const SWEEP: usize = 64;

#[derive(Debug)]
struct Entry {
    key: Key,
    bucket: Bucket,
}

/// Where an entry stands; good until the table changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(usize);

#[derive(Debug)]
pub(super) struct Table {
    entries: HashTable<Entry>,
    max: usize,
    hand: usize,
}

impl Table {
    pub(super) fn new(max: u32) -> Table {
        Table { entries: HashTable::new(), max: (max as usize).max(1), hand: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.allocation_size()
    }

    pub(super) fn find(&self, key: Key) -> Option<Place> {
        self.entries.find_bucket_index(key.0, |entry| entry.key == key).map(Place)
    }

    pub(super) fn bucket(&self, place: Place) -> Bucket {
        self.entries.get_bucket(place.0).expect("a place is used before the table changes").bucket
    }

    /// Writes the bucket of a user who has a place, or for whom room was made.
    pub(super) fn put(&mut self, key: Key, bucket: Bucket) {
        match self.entries.find_mut(key.0, |entry| entry.key == key) {
            Some(entry) => entry.bucket = bucket,
            None => {
                assert!(self.entries.len() < self.max, "room is made before a newcomer enters");
                self.entries.insert_unique(key.0, Entry { key, bucket }, |entry| entry.key.0);
            }
        }
    }

    pub(super) fn remove(&mut self, place: Place) {
        if let Ok(entry) = self.entries.get_bucket_entry(place.0) {
            entry.remove();
        }
    }

    pub(super) fn each(&mut self, mut change: impl FnMut(&mut Bucket)) {
        self.entries.iter_mut().for_each(|entry| change(&mut entry.bucket));
    }

    /// Makes room for one newcomer by letting go of users whose bucket is full. When the hand
    /// meets none, says who was nearest to full.
    pub(super) fn make_room(&mut self, quota: &Quota, now: Time) -> Result<(), Option<Place>> {
        if self.entries.len() < self.max {
            return Ok(());
        }
        let slots = self.entries.num_buckets();
        let mut nearest: Option<(u64, usize)> = None;
        for _ in 0..SWEEP.min(slots) {
            self.hand = (self.hand + 1) % slots;
            let Some(entry) = self.entries.get_bucket(self.hand) else { continue };
            if entry.bucket.is_full(quota, now) {
                self.remove(Place(self.hand));
                return Ok(());
            }
            let tokens = entry.bucket.tokens(quota, now);
            if nearest.is_none_or(|(most, _)| tokens > most) {
                nearest = Some((tokens, self.hand));
            }
        }
        Err(nearest.map(|(_, slot)| Place(slot)))
    }
}
