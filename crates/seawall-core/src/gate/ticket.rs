//! What a gate hands out: a ticket to who may go on, a place to who may wait.

use super::block::Entry;
use super::taken::Taken;
use crate::breaker;
use crate::decision::Standing;
use crate::limit;
use crate::request::Request;
use crate::time::{Span, Time};

/// Admission to the protected part. It has no `Drop`: exactly one [`Gate::release`](super::Gate::release) ends it.
#[derive(Debug)]
#[must_use = "a ticket holds a place until it is released"]
pub struct Ticket {
    /// The tightest quota that it took from.
    pub standing: Option<Standing>,
    /// Time that the request spent waiting between attempts, which says nothing about the callee.
    pub waited: Span,
    /// Whether a hedge was sent for it. The time that it took is then not that of the work, which may go on in
    /// who lost: it teaches the limit nothing.
    pub hedged: bool,
    pub(super) slot: Option<limit::Slot>,
    pub(super) pass: Option<breaker::Pass>,
    /// How the block let it in.
    pub(super) entry: Option<Entry>,
    pub(super) reported: bool,
    /// Whether it was reported as a success.
    pub(super) succeeded: bool,
    pub(super) taken: Taken,
}

impl Ticket {
    /// One that admits nobody yet: [`Gate::fill`](super::Gate::fill) makes a ticket of it where it stands.
    #[inline]
    pub fn blank() -> Ticket {
        Ticket {
            standing: None,
            waited: Span::ZERO,
            hedged: false,
            slot: None,
            pass: None,
            entry: None,
            reported: true,
            succeeded: false,
            taken: Taken::default(),
        }
    }

    /// One of who waited at this place, in which its turn has come.
    pub(super) fn granted(place: Place, slot: limit::Slot) -> Ticket {
        let Place { standing, entry, taken, .. } = place;
        Ticket { standing, slot: Some(slot), entry, reported: false, taken, ..Ticket::blank() }
    }

    /// A blank one is begun.
    #[inline]
    pub(super) fn begin(&mut self) {
        debug_assert!(self.reported && !self.teaches(), "a ticket is filled in once");
        self.reported = false;
    }

    /// It is for this request, which may have to take tokens.
    #[inline]
    pub(super) fn takes(&mut self, now: Time, request: &Request) {
        self.taken.begin(now, request);
    }

    /// Blank again: whatever was filled in has gone back.
    #[inline]
    pub(super) fn clear(&mut self) {
        (self.standing, self.entry, self.pass, self.reported) = (None, None, None, true);
        self.taken.clear();
    }

    /// Whether any policy learns from its outcome.
    pub(super) fn teaches(&self) -> bool {
        self.slot.is_some() || self.pass.is_some()
    }

    /// When its breaker let it pass; `None` where none did, or the call was no success.
    pub(super) fn well_since(&self) -> Option<Time> {
        self.pass.as_ref().filter(|_| self.succeeded).map(breaker::Pass::since)
    }

    /// Whether it holds a place in flight, which somebody must release in time.
    pub fn holds_a_place(&self) -> bool {
        self.slot.is_some()
    }

    /// So much of its time says nothing of the callee.
    pub(crate) fn spare(&mut self, time: Span) {
        self.pass.iter_mut().for_each(|pass| pass.spare(time));
    }

    /// Whether its outcome is known: another report of it would be ignored.
    pub fn is_reported(&self) -> bool {
        self.reported
    }
}

/// A place in a line. It has no `Drop`: claim it or leave it.
#[derive(Debug)]
#[must_use = "a place is kept until it is claimed or left"]
pub struct Place {
    pub(super) line: Line,
    pub(super) request: Request,
    pub(super) standing: Option<Standing>,
    /// How the block let it in.
    pub(super) entry: Option<Entry>,
    pub(super) taken: Taken,
}

/// What a place waits for.
#[derive(Debug)]
pub(super) enum Line {
    /// A place in flight.
    Turn(limit::Turn),
    /// The tokens of the throttle of this index, which will be there at that time.
    Tokens { rule: usize, at: Time },
}

impl Place {
    /// When asking again gives another answer even if nobody is woken: the deadline, or the time
    /// at which there will be tokens. It is another time after a claim that answers with another
    /// place.
    pub fn wake_at(&self) -> Time {
        match self.line {
            Line::Turn(_) => self.request.deadline,
            Line::Tokens { at, .. } => at,
        }
    }
}
