//! The event heap: by time, then by the order in which events were scheduled.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

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
    scheduled: u64,
}

impl<E> Queue<E> {
    /// Nothing to come.
    pub(crate) fn new() -> Queue<E> {
        Queue { heap: BinaryHeap::new(), scheduled: 0 }
    }

    /// Schedules an event.
    pub(crate) fn schedule(&mut self, at: Time, event: E) {
        self.heap.push(Entry { at, number: self.scheduled, event });
        self.scheduled += 1;
    }

    /// Takes the next event, if it is not after `end`.
    pub(crate) fn next(&mut self, end: Time) -> Option<(Time, E)> {
        if self.heap.peek()?.at > end {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.event))
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
        let mut queue = Queue::new();
        for (at, name) in [(3, 'd'), (1, 'a'), (2, 'b'), (1, 'x'), (2, 'c')] {
            queue.schedule(Time::from_nanos(at), name);
        }
        let order: String =
            std::iter::from_fn(|| queue.next(Time::from_nanos(2))).map(|(_, name)| name).collect();
        assert_eq!(order, "axbc");
        assert_eq!(queue.next(Time::MAX), Some((Time::from_nanos(3), 'd')));
    }
}
