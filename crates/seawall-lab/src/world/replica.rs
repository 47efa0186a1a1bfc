//! A replica: workers, a queue in front of them, and what may be wrong with it.

use std::collections::VecDeque;

use seawall_config::model::{Cold, Order};
use seawall_core::time::{Span, Time};

use crate::slab::Id;

/// One replica of a service.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) up: bool,
    /// How often it has come up, so that a restart of long ago does not count.
    pub(super) epoch: u32,
    /// When it came up cold; `None` when it has been warm from the beginning.
    came_up: Option<Time>,
    busy: u32,
    /// Workers times nanoseconds of work, up to the time beside it.
    worked: u128,
    worked_until: Time,
    waiting: VecDeque<Id>,
    /// Work that refusals took, which whoever is begun next waits for.
    pub(super) owed: Span,
    /// How long it has stood still in all, to the end of the current pause.
    pub(super) stalled: Span,
    stalled_until: Time,
    /// How many times as long work takes.
    pub(super) slow: f64,
    pub(super) errors_ppm: u32,
    /// Failed probes in a row.
    pub(super) fails: u32,
}

/// Where an arriving request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Worker,
    Queue,
    None,
}

impl Replica {
    /// A replica that is up and warm; its work is measured from then on.
    pub(super) fn warm(measured_from: Time) -> Replica {
        Replica {
            up: true,
            epoch: 0,
            came_up: None,
            busy: 0,
            worked: 0,
            worked_until: measured_from,
            waiting: VecDeque::new(),
            owed: Span::ZERO,
            stalled: Span::ZERO,
            stalled_until: Time::ZERO,
            slow: 1.0,
            errors_ppm: 0,
            fails: 0,
        }
    }

    /// Requests in it, at work or waiting.
    pub(super) fn inside(&self) -> u32 {
        self.busy + self.waiting.len() as u32
    }

    pub(super) fn busy(&self) -> u32 {
        self.busy
    }

    /// Counts the work done until now.
    fn measure(&mut self, now: Time) {
        if now > self.worked_until {
            let nanos = now.since(self.worked_until).as_nanos();
            self.worked += u128::from(nanos) * u128::from(self.busy);
            self.worked_until = now;
        }
    }

    /// The time that its workers were busy, summed over them, in seconds.
    pub(super) fn busy_s(&mut self, now: Time) -> f64 {
        self.measure(now);
        self.worked as f64 * 1e-9
    }

    /// Finds room for a request.
    pub(super) fn room(&mut self, now: Time, workers: u32, queue: u32, id: Id) -> Room {
        if self.busy < workers {
            self.measure(now);
            self.busy += 1;
            Room::Worker
        } else if (self.waiting.len() as u64) < u64::from(queue) {
            self.waiting.push_back(id);
            Room::Queue
        } else {
            Room::None
        }
    }

    /// One of those that wait goes away; says whether it was there.
    pub(super) fn leave(&mut self, id: Id) -> bool {
        let place = self.waiting.iter().position(|other| *other == id);
        place.is_some_and(|place| self.waiting.remove(place).is_some())
    }

    /// A worker is done; says who is next, and has the worker.
    pub(super) fn next(&mut self, now: Time, order: Order, workers: u32) -> Option<Id> {
        let next = if self.busy > workers { None } else { self.first(order) };
        if next.is_none() {
            self.measure(now);
            self.busy -= 1;
        }
        next
    }

    /// There may be a worker more: says who of those that wait has it.
    pub(super) fn another(&mut self, now: Time, order: Order, workers: u32) -> Option<Id> {
        let next = if self.busy < workers { self.first(order) } else { None };
        if next.is_some() {
            self.measure(now);
            self.busy += 1;
        }
        next
    }

    fn first(&mut self, order: Order) -> Option<Id> {
        match order {
            Order::Fifo => self.waiting.pop_front(),
            Order::Lifo => self.waiting.pop_back(),
        }
    }

    /// Stands still for so long.
    pub(super) fn stall(&mut self, now: Time, pause: Span) {
        let until = now + pause;
        self.stalled += until.since(self.stalled_until.max(now));
        self.stalled_until = self.stalled_until.max(until);
    }

    /// How long work that begins now waits for the end of a pause.
    pub(super) fn standstill(&self, now: Time) -> Span {
        self.stalled_until.since(now)
    }

    /// Falls down; what was in it is lost.
    pub(super) fn fall(&mut self, now: Time) {
        self.measure(now);
        *self = Replica {
            up: false,
            epoch: self.epoch + 1,
            slow: self.slow,
            errors_ppm: self.errors_ppm,
            worked: self.worked,
            ..Replica::warm(self.worked_until)
        };
    }

    /// Comes up.
    pub(super) fn rise(&mut self, now: Time) {
        self.up = true;
        self.came_up = Some(now);
    }

    /// How many times as long work that begins now takes.
    pub(super) fn slowness(&self, now: Time, cold: Option<Cold>) -> f64 {
        let (Some(cold), Some(came_up)) = (cold, self.came_up) else { return self.slow };
        let warm = now.since(came_up).as_secs_f64() / cold.time.as_secs_f64();
        self.slow * (cold.factor - (cold.factor - 1.0) * warm.min(1.0))
    }
}
