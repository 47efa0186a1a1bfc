//! A call that nobody has answered: when it is hedged, and whether the upstream can bear that.

use super::flights::Kind;
use super::step::{Repeat, Step};
use super::telling::refund;
use super::{Call, ONE, Parts};
use crate::decision::Policy;
use crate::enforcement::Enforcement;
use crate::gate::{Own, Ownership};
use crate::hedge::{Load, Off};
use crate::limit;
use crate::rng::Rng;
use crate::time::Time;

/// When the next hedge is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Not asked yet: most calls are answered before anybody has to know.
    Unasked,
    At(Time),
    Never,
}

impl Call {
    /// Nobody has answered and nobody is overdue: a hedge, if it is time for one.
    pub(super) fn hedge_or_wait<F: Ownership>(
        &mut self,
        now: Time,
        parts: &Parts<'_, F>,
        rng: &mut Rng,
    ) -> Step {
        if self.due == Due::Unasked {
            self.due = self.next_hedge(parts);
        }
        let wake = match self.due {
            Due::At(due) if due <= now => {
                self.due = Due::Never;
                match self.hedge(now, parts, rng) {
                    Ok(step) => return step,
                    Err(off) => {
                        parts.shared.with(ONE, |shared| shared.with_hedge(|hedge| hedge.withheld(off)));
                        Time::MAX
                    }
                }
            }
            Due::At(due) => due,
            Due::Unasked | Due::Never => Time::MAX,
        };
        Step::WaitUntil(wake.min(self.flights.overdue_at()))
    }

    fn next_hedge<F: Ownership>(&self, parts: &Parts<'_, F>) -> Due {
        let latest = self.flights.iter().map(|flight| flight.begun).max();
        let is_off = parts.stance.of(Policy::Hedge) == Enforcement::Off;
        match latest.filter(|_| self.hedged && !is_off && self.repeat == Repeat::Safe) {
            Some(latest) => match parts.shared.with(ONE, |shared| shared.hedge_after(self.hedges)) {
                Some(after) => Due::At(latest + after),
                None => Due::Never,
            },
            None => Due::Never,
        }
    }

    fn hedge<F: Ownership>(&mut self, now: Time, parts: &Parts<'_, F>, rng: &mut Rng) -> Result<Step, Off> {
        let load = load(now, parts);
        let mut paid = Some(parts.shared.with(ONE, |shared| shared.hedge(now, load))?);
        if parts.stance.of(Policy::Hedge) == Enforcement::Shadow {
            refund(now, paid, parts);
            return Err(Off::Shadow);
        }
        match self.take_off(now, Kind::Hedge, &mut paid, parts, rng) {
            Ok(host) => {
                parts.shared.with(ONE, |shared| shared.with_hedge(|hedge| hedge.sent()));
                self.hedges += 1;
                Ok(self.departs(now, host))
            }
            Err(_) => {
                refund(now, paid, parts);
                Err(Off::Refused)
            }
        }
    }
}

/// How busy the upstream is, as the limits in front of it know.
fn load<F: Ownership>(now: Time, parts: &Parts<'_, F>) -> Load {
    let add = |load: Load, limit: limit::Snapshot| Load {
        in_flight: load.in_flight.saturating_add(limit.in_flight),
        limit: load.limit.saturating_add(limit.limit),
        stands: load.stands || limit.stands,
    };
    let hosts = parts.hosts.gates().iter().filter_map(|gate| gate.limit(now)).fold(Load::default(), add);
    let Some(front) = parts.front.and_then(|front| front.limit(now)) else { return hosts };
    let front = add(Load::default(), front);
    let share = |load: Load| f64::from(load.in_flight) / f64::from(load.limit.max(1));
    let busier = if share(front) > share(hosts) { front } else { hosts };
    Load { stands: front.stands || hosts.stands, ..busier }
}
