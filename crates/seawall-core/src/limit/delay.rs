//! The delay that a newcomer would meet: how many stand before it, and how fast they drain.

use super::{LaneState, Limit};
use crate::time::{Span, Time};

/// The mean time, in seconds, between two that drain at full use; zero until that is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Paces {
    /// From a lane.
    own: f64,
    /// From the ceiling, if that is what the lane waits for.
    all: f64,
}

impl<W> Limit<W> {
    /// How fast the lines drain in which a newcomer to this lane would stand.
    #[inline]
    pub(super) fn paces(&self, lane: usize) -> Paces {
        let state = &self.lanes[lane];
        Paces {
            own: self.judge.held_in(lane) * state.part,
            all: if self.shares(state) { self.judge.held_in_all() * self.part } else { 0.0 },
        }
    }

    /// The mean time between two that drain at full use; zero until that is known. While the limit is still
    /// looked for it is not: the queue is then all that holds a storm back.
    #[inline]
    pub(super) fn pace(&self, paces: &Paces) -> Span {
        let pace = paces.own.max(paces.all);
        if pace > 0.0 && self.limiter.is_found() { Span::from_secs_near(pace) } else { Span::ZERO }
    }

    /// Whether this lane waits for the ceiling, which others press on too.
    #[inline]
    pub(super) fn shares(&self, lane: &LaneState) -> bool {
        self.lanes.len() > 1 && lane.has_room()
    }

    /// The delay that a newcomer to this lane would meet: those in line at the pace at which they
    /// drain, or the age of the lane's oldest when the drain has stopped.
    #[inline]
    pub(super) fn delay(&self, now: Time, lane: usize, paces: &Paces) -> Span {
        let is_served_at_once = self.queue.waiting() == 0 || self.has_room(lane);
        if is_served_at_once { Span::ZERO } else { self.delay_in_line(now, lane, paces) }
    }

    #[inline]
    fn delay_in_line(&self, now: Time, lane: usize, paces: &Paces) -> Span {
        let oldest = self.queue.oldest_in(lane);
        let age = oldest.map_or(Span::ZERO, |(_, entry)| self.judge.waited(now, entry.arrived));
        // Not at all behind none.
        let behind = |waiting: u32, pace: f64| if waiting > 0 { f64::from(waiting + 1) * pace } else { 0.0 };
        let own = behind(self.queue.waiting_in(lane), paces.own);
        // Chance makes the oldest wait longer than the pace; that is no reason to say so.
        let paced = Span::from_secs_near(own.max(behind(self.queue.waiting(), paces.all)));
        if age > paced.times(2) { age } else { paced }
    }
}
