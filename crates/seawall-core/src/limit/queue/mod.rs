//! The waiting room of a limit: bounded, in order of arrival, by lane and tier.
//!
//! Each lane (a route) has one line for each tier. Lines are linked through a slab of places, so
//! that leaving from the middle costs as little as leaving from the front, and nobody who leaves
//! keeps a place occupied. A place is named by its slot and a counter; a name that outlived its
//! place finds nothing.

use alloc::vec::Vec;
use core::iter::successors;
use core::ops::Range;

use super::bulkhead::Tenant;
use crate::decision::Rejection;
use crate::request::{Request, Tier};
use crate::time::Time;

const NONE: u32 = u32::MAX;
/// Places whose memory an empty queue keeps, so that a short line never allocates.
const KEPT: usize = 64;
const TIERS: usize = Tier::ALL.len();

/// The name of a place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    slot: u32,
    /// By order of arrival.
    pub(super) id: u64,
}

/// An end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Where the oldest stands.
    First,
    /// Where the newest stands.
    Last,
}

/// What became of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Still in line.
    Waiting,
    /// A place in flight is kept for it.
    Granted {
        /// When.
        at: Time,
        /// In flight, itself included, when it was granted.
        in_flight: u32,
    },
    /// It will not get one.
    Refused(Rejection),
}

#[derive(Debug)]
pub(super) struct Entry<W> {
    id: u64,
    pub(super) state: State,
    pub(super) lane: usize,
    pub(super) tenant: Option<Tenant>,
    pub(super) request: Request,
    pub(super) arrived: Time,
    pub(super) waiter: Option<W>,
    earlier: u32,
    later: u32,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    first: u32,
    last: u32,
    len: u32,
}

const EMPTY: Line = Line { first: NONE, last: NONE, len: 0 };

/// The lines of a lane, by tier.
#[derive(Clone, Copy, Debug)]
struct Lines {
    tiers: [Line; TIERS],
    /// Those in which anybody waits, by bits: nearly always few do.
    taken: u8,
    waiting: u32,
}

impl Lines {
    const EMPTY: Lines = Lines { tiers: [EMPTY; TIERS], taken: 0, waiting: 0 };

    /// The lines in which somebody waits.
    #[inline]
    fn taken(&self) -> impl Iterator<Item = &Line> {
        let mut taken = self.taken;
        core::iter::from_fn(move || {
            let tier = (taken != 0).then(|| taken.trailing_zeros() as usize)?;
            taken &= taken - 1;
            self.tiers.get(tier)
        })
    }
}

/// The queue of one limit.
#[derive(Debug)]
pub(super) struct Queue<W> {
    slots: Vec<Option<Entry<W>>>,
    free: Vec<u32>,
    lines: Vec<Lines>,
    next_id: u64,
    waiting: u32,
}

impl<W> Queue<W> {
    pub(super) fn new() -> Queue<W> {
        Queue { slots: Vec::new(), free: Vec::new(), lines: Vec::new(), next_id: 0, waiting: 0 }
    }

    pub(super) fn add_lane(&mut self) {
        self.lines.push(Lines::EMPTY);
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting
    }

    pub(super) fn waiting_in(&self, lane: usize) -> u32 {
        self.lines[lane].waiting
    }

    /// Joins the end of the line of its lane and tier.
    pub(super) fn join(&mut self, lane: usize, tenant: Option<Tenant>, request: Request, now: Time) -> Turn {
        let id = self.next_id;
        self.next_id += 1;
        let tier = request.tier as usize;
        let earlier = self.lines[lane].tiers[tier].last;
        let entry = Entry {
            id,
            state: State::Waiting,
            lane,
            tenant,
            request,
            arrived: now,
            waiter: None,
            earlier,
            later: NONE,
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
        };
        self.slots[slot as usize] = Some(entry);
        match earlier {
            NONE => self.lines[lane].tiers[tier].first = slot,
            earlier => self.at(earlier).later = slot,
        }
        let lines = &mut self.lines[lane];
        lines.tiers[tier].last = slot;
        lines.tiers[tier].len += 1;
        lines.taken |= 1 << tier;
        lines.waiting += 1;
        self.waiting += 1;
        Turn { slot, id }
    }

    pub(super) fn get(&mut self, turn: Turn) -> Option<&mut Entry<W>> {
        self.slots.get_mut(turn.slot as usize)?.as_mut().filter(|entry| entry.id == turn.id)
    }

    /// Forgets a place, whatever became of it.
    pub(super) fn forget(&mut self, turn: Turn) -> Option<Entry<W>> {
        self.get(turn)?;
        self.unlink(turn.slot);
        self.free.push(turn.slot);
        let entry = self.slots[turn.slot as usize].take();
        if self.free.len() == self.slots.len() {
            self.free.clear();
            self.free.shrink_to(KEPT);
            self.slots.clear();
            self.slots.shrink_to(KEPT);
        }
        entry
    }

    /// Those at this end of each line of these lanes.
    pub(super) fn ends_in(
        &self,
        lanes: impl Iterator<Item = usize>,
        end: End,
    ) -> impl Iterator<Item = (Turn, &Entry<W>)> {
        let ends = move |line: &Line| if end == End::First { line.first } else { line.last };
        lanes.flat_map(|lane| &self.lines[lane].tiers).map(ends).filter_map(|slot| self.named(slot))
    }

    /// All who wait in these lanes.
    pub(super) fn all_in(
        &self,
        lanes: impl Iterator<Item = usize>,
    ) -> impl Iterator<Item = (Turn, &Entry<W>)> {
        let later = |(_, entry): &(Turn, &Entry<W>)| self.named(entry.later);
        self.ends_in(lanes, End::First).flat_map(move |first| successors(Some(first), later))
    }

    /// The one who waits the longest in this lane.
    pub(super) fn oldest_in(&self, lane: usize) -> Option<(Turn, &Entry<W>)> {
        let firsts = self.lines[lane].taken().filter_map(|line| self.named(line.first));
        firsts.min_by_key(|(turn, _)| turn.id)
    }

    /// The last to come among the least important of these lanes, if less important than `tier`.
    #[inline]
    pub(super) fn last_below(&self, lanes: Range<usize>, tier: Tier) -> Option<Turn> {
        let lanes = &self.lines[lanes];
        let taken = lanes.iter().fold(0, |taken, lines| taken | lines.taken);
        let least =
            taken.checked_ilog2().map(|least| least as usize).filter(|least| *least > tier as usize)?;
        let lasts = lanes.iter().filter_map(|lines| self.named(lines.tiers[least].last));
        lasts.map(|(turn, _)| turn).max_by_key(|turn| turn.id)
    }

    /// Takes a place out of its line and settles its fate; hands out its waiter.
    pub(super) fn settle(&mut self, turn: Turn, state: State) -> Option<W> {
        self.get(turn)?;
        self.unlink(turn.slot);
        let entry = self.get(turn)?;
        entry.state = state;
        entry.waiter.take()
    }

    fn named(&self, slot: u32) -> Option<(Turn, &Entry<W>)> {
        let entry = self.slots.get(slot as usize)?.as_ref()?;
        Some((Turn { slot, id: entry.id }, entry))
    }

    fn at(&mut self, slot: u32) -> &mut Entry<W> {
        self.slots[slot as usize].as_mut().expect("links point at occupied slots")
    }

    fn unlink(&mut self, slot: u32) {
        let entry = self.at(slot);
        if entry.state != State::Waiting {
            return;
        }
        let (lane, tier) = (entry.lane, entry.request.tier as usize);
        let (earlier, later) = (entry.earlier, entry.later);
        match earlier {
            NONE => self.lines[lane].tiers[tier].first = later,
            earlier => self.at(earlier).later = later,
        }
        match later {
            NONE => self.lines[lane].tiers[tier].last = earlier,
            later => self.at(later).earlier = earlier,
        }
        let lines = &mut self.lines[lane];
        lines.tiers[tier].len -= 1;
        if lines.tiers[tier].len == 0 {
            lines.taken &= !(1 << tier);
        }
        lines.waiting -= 1;
        self.waiting -= 1;
    }
}

#[cfg(test)]
mod tests;
