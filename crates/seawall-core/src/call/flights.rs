//! The attempts of one call that are under way, and then the one whose answer stands: nearly always
//! the same one, in the same place, and without an allocation.

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
    /// The first is over, and its answer stands: none is under way.
    stands: bool,
    more: Vec<Flight>,
}

impl Flights {
    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() || self.stands
    }

    /// The one whose answer stands.
    pub(super) fn answer(&self) -> Option<&Flight> {
        self.first.as_ref().filter(|_| self.stands)
    }

    /// Those under way.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Flight> {
        self.first.iter().filter(|_| !self.stands).chain(&self.more)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flight> {
        let stands = self.stands;
        self.first.iter_mut().filter(move |_| !stands).chain(&mut self.more)
    }

    #[inline]
    pub(super) fn add(&mut self, flight: Flight) {
        match &self.first {
            None => self.first = Some(flight),
            Some(_) => self.more.push(flight),
        }
    }

    /// Adds one where it stays, for it is large, if `board` agrees.
    #[inline]
    pub(super) fn add_if<T, E>(
        &mut self,
        flight: impl FnOnce() -> Flight,
        board: impl FnOnce(&mut Flight) -> Result<T, E>,
    ) -> Result<T, E> {
        let is_first = self.first.is_none();
        let place = match is_first {
            true => self.first.insert(flight()),
            false => {
                self.more.push(flight());
                self.more.last_mut().expect("it was just added")
            }
        };
        let boarded = board(place);
        if boarded.is_err() {
            if is_first { self.first = None } else { _ = self.more.pop() }
        }
        boarded
    }

    /// The answer of the one in this lane stands, and the others have to go; `None` when it is not
    /// under way.
    #[inline]
    pub(super) fn stand(&mut self, lane: Lane) -> Option<(&mut Flight, Vec<Flight>)> {
        let place = self.iter().position(|flight| flight.lane == lane)?;
        if place > 0 {
            let flight = self.more.remove(place - 1);
            let first = self.first.replace(flight);
            self.more.splice(0..0, first);
        }
        self.stands = true;
        Some((self.first.as_mut()?, core::mem::take(&mut self.more)))
    }

    /// Takes the one whose answer stands.
    pub(super) fn take_answer(&mut self) -> Option<Flight> {
        self.first.take_if(|_| core::mem::take(&mut self.stands))
    }

    /// Takes the oldest under way that is so.
    pub(super) fn take(&mut self, is_it: impl Fn(&Flight) -> bool) -> Option<Flight> {
        if self.more.is_empty() {
            return self.first.take_if(|flight| !self.stands && is_it(flight));
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
