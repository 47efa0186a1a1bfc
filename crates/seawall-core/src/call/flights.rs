//! The attempts of one call that are under way: nearly always one, and then without an allocation.

use alloc::vec::Vec;

use super::Lane;
use super::shared::Paid;
use crate::backpressure::Pass;
use crate::gate::Ticket;
use crate::time::{Span, Time};

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Because the call needs one.
    Plain,
    /// Because another takes long.
    Hedge,
}

/// An attempt under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) lane: Lane,
    pub(super) kind: Kind,
    pub(super) host: usize,
    pub(super) ticket: Ticket,
    pub(super) pass: Option<Pass>,
    pub(super) paid: Option<Paid>,
    pub(super) begun: Time,
    pub(super) until: Time,
}

impl Flight {
    /// How long it has been under way.
    pub(super) fn elapsed(&self, now: Time) -> Span {
        now.since(self.begun)
    }
}

/// The attempts under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct Flights {
    first: Option<Flight>,
    more: Vec<Flight>,
}

impl Flights {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.first.iter().chain(&self.more)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flight> {
        self.first.iter_mut().chain(&mut self.more)
    }

    pub(super) fn add(&mut self, flight: Flight) {
        match &self.first {
            None => self.first = Some(flight),
            Some(_) => self.more.push(flight),
        }
    }

    /// Takes the oldest that is so.
    pub(super) fn take(&mut self, is_it: impl Fn(&Flight) -> bool) -> Option<Flight> {
        if self.more.is_empty() {
            return self.first.take_if(|flight| is_it(flight));
        }
        let place = self.iter().position(is_it)?;
        if place > 0 {
            return Some(self.more.remove(place - 1));
        }
        let next = self.more.remove(0);
        self.first.replace(next)
    }

    /// When the first of them is overdue.
    pub(super) fn overdue_at(&self) -> Time {
        self.iter().map(|flight| flight.until).min().unwrap_or(Time::MAX)
    }
}
