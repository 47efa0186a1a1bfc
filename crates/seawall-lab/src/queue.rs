//! Events to come: by time, then by the order in which they were scheduled.
//!
//! Most events that lie far ahead are deadlines, scheduled in the order in which they are due and over
//! before they matter. Those stand in a *line* beside the heap, which costs the same however many there
//! are; who would come before the last of the line goes to the heap.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use seawall_core::time::Time;

#[derive(Debug)]
struct Entry<E> {
    at: Time,
    number: u64,
    event: E,
}

impl<E> Entry<E> {
    fn key(&self) -> (Time, u64) {
        (self.at, self.number)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// The earliest is the greatest: the heap hands out its greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// Events to come.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    line: VecDeque<Entry<E>>,
    scheduled: u64,
}

impl<E> Queue<E> {
    /// Nothing to come.
    pub(crate) fn new() -> Queue<E> {
        Queue { heap: BinaryHeap::new(), line: VecDeque::new(), scheduled: 0 }
    }

    /// Schedules an event.
    pub(crate) fn schedule(&mut self, at: Time, event: E) {
        let number = self.number();
        self.heap.push(Entry { at, number, event });
    }

    /// Schedules an event of a kind that is mostly scheduled in the order in which it is due.
    pub(crate) fn schedule_in_line(&mut self, at: Time, event: E) {
        if self.line.back().is_some_and(|last| last.at > at) {
            return self.schedule(at, event);
        }
        let number = self.number();
        self.line.push_back(Entry { at, number, event });
    }

    fn number(&mut self) -> u64 {
        self.scheduled += 1;
        self.scheduled
    }

    /// Takes the next event, if it is not after `end`.
    pub(crate) fn next(&mut self, end: Time) -> Option<(Time, E)> {
        let from_line = match (self.heap.peek(), self.line.front()) {
            (Some(top), Some(first)) => first.key() < top.key(),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let at = if from_line { self.line.front()?.at } else { self.heap.peek()?.at };
        if at > end {
            return None;
        }
        let entry = if from_line { self.line.pop_front() } else { self.heap.pop() };
        entry.map(|entry| (entry.at, entry.event))
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Queue<E> {
        Queue::new()
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
