//! Who is told how an attempt went, and what comes back of what it took.

use super::flights::Flight;
use super::shared::Paid;
use super::{ONE, Parts};
use crate::backpressure::Pass;
use crate::gate::{Own, Ownership};
use crate::outcome::Outcome;
use crate::time::Time;

/// Tells everybody how an attempt went whose answer stands: its place is kept.
#[inline]
pub(super) fn tell<F: Ownership>(now: Time, flight: &mut Flight, outcome: Outcome, parts: &Parts<'_, F>) {
    let elapsed = flight.elapsed(now);
    report(now, flight.pass.take(), outcome, parts);
    parts.hosts.report(now, flight.host, &mut flight.ticket, outcome, elapsed);
}

/// Tells everybody how an attempt went whose answer, if any, does not stand.
pub(super) fn settle<F: Ownership>(now: Time, flight: Flight, outcome: Outcome, parts: &Parts<'_, F>) {
    let elapsed = flight.elapsed(now);
    report(now, flight.pass, outcome, parts);
    parts.hosts.settle(now, flight.host, flight.ticket, outcome, elapsed);
}

/// Nobody waits any more for an attempt that is under way.
pub(super) fn give_up<F: Ownership>(now: Time, flight: Flight, outcome: Outcome, parts: &Parts<'_, F>) {
    parts.shared.with(ONE, |shared| shared.ended(now, outcome, flight.elapsed(now)));
    settle(now, flight, outcome, parts);
}

/// Tells the backpressure how an attempt went.
pub(super) fn report<F: Ownership>(now: Time, pass: Option<Pass>, outcome: Outcome, parts: &Parts<'_, F>) {
    if let (Some(backpressure), Some(pass)) = (parts.backpressure, pass) {
        backpressure.with(ONE, |pressure| pressure.report(now, pass, outcome));
    }
}

/// What was paid for was never sent.
pub(super) fn refund<F: Ownership>(now: Time, paid: Option<Paid>, parts: &Parts<'_, F>) {
    if let Some(paid) = paid {
        parts.shared.with(ONE, |shared| shared.refund(now, paid));
    }
}
