//! Events to come: by time, then by the order in which they were scheduled.
//!
//! Most events that lie far ahead are deadlines, scheduled in the order in which they are due and over
//! before they matter. Those stand in a *line* beside the heap, which costs the same however many there
//! are; who would come before the last of the line goes to the heap. The heap orders short keys; an
//! event stays where it was put until it is due.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use seawall_core::time::Time;

/// When an event is due, and how many had been scheduled with it.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Time,
    number: u64,
}

impl Due {
    /// As one number, which is compared without a branch.
    fn order(self) -> u128 {
        u128::from(self.at.as_nanos()) << 64 | u128::from(self.number)
    }
}

/// An event that is in the heap, and its place.
#[derive(Clone, Copy, Debug)]
struct Entry {
    due: Due,
    place: u32,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due.order() == other.due.order()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    fn le(&self, other: &Self) -> bool {
        other.due.order() <= self.due.order()
    }
}

impl Ord for Entry {
    /// The earliest is the greatest: the heap hands out its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.order().cmp(&self.due.order())
    }
}

/// Events to come.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Entry>,
    /// What the heap's entries are about, and which of its places are free.
    events: Vec<E>,
    free: Vec<u32>,
    line: VecDeque<(Due, E)>,
    scheduled: u64,
}

impl<E: Copy> Queue<E> {
    /// Nothing to come.
    pub(crate) const fn new() -> Queue<E> {
        Queue {
            heap: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            line: VecDeque::new(),
            scheduled: 0,
        }
    }

    /// Schedules an event.
    pub(crate) fn schedule(&mut self, at: Time, event: E) {
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place as usize] = event;
                place
            }
            None => {
                self.events.push(event);
                u32::try_from(self.events.len() - 1).expect("memory ends before 2³² events do")
            }
        };
        let due = self.due(at);
        self.heap.push(Entry { due, place });
    }

    /// Schedules an event of a kind that is mostly scheduled in the order in which it is due.
    pub(crate) fn schedule_in_line(&mut self, at: Time, event: E) {
        if self.line.back().is_some_and(|(last, _)| last.at > at) {
            return self.schedule(at, event);
        }
        let due = self.due(at);
        self.line.push_back((due, event));
    }

    fn due(&mut self, at: Time) -> Due {
        self.scheduled += 1;
        Due { at, number: self.scheduled }
    }

    /// Takes the next event, if it is not after `end`.
    pub(crate) fn next(&mut self, end: Time) -> Option<(Time, E)> {
        let of_line = self.line.front().map(|(due, _)| *due);
        let of_heap = self.heap.peek().map(|entry| entry.due);
        let from_line = match (of_heap, of_line) {
            (Some(top), Some(first)) => first.order() < top.order(),
            (heap, _) => heap.is_none(),
        };
        let due = if from_line { of_line? } else { of_heap? };
        if due.at > end {
            return None;
        }
        if from_line {
            return self.line.pop_front().map(|(_, event)| (due.at, event));
        }
        let place = self.heap.pop()?.place;
        self.free.push(place);
        Some((due.at, self.events[place as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_out_by_time_then_in_the_order_of_scheduling() {
        let events = [(3, 'e'), (1, 'a'), (2, 'b'), (1, 'x'), (2, 'c'), (3, 'f'), (2, 'd')];
        // Whichever of them stand in the line.
        for lined in 0..1_u32 << events.len() {
            let mut queue = Queue::new();
            for (place, (at, name)) in events.into_iter().enumerate() {
                let at = Time::from_nanos(at);
                if lined >> place & 1 == 1 {
                    queue.schedule_in_line(at, name);
                } else {
                    queue.schedule(at, name);
                }
            }
            let next = || queue.next(Time::from_nanos(2)).map(|(_, name)| name);
            assert_eq!(std::iter::from_fn(next).collect::<String>(), "axbcd", "{lined:b}");
            assert_eq!(queue.next(Time::MAX), Some((Time::from_nanos(3), 'e')));
        }
    }
}
