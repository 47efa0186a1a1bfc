//! What happened in a run, in its order.

use super::Moment;
use crate::outcomes::{Counts, Gauge, Outcomes, Phases};
use crate::scenario::{Phase, Scenario};
use crate::telling::{self, short};
use crate::verdict::recovery;

/// Seconds over which a run is looked at, so that chance is no event.
const WINDOW: u64 = 5;

type Count = fn(&Counts) -> u32;

/// A run beside its control, second by second.
struct Look<'a> {
    scenario: &'a Scenario,
    control: &'a Outcomes,
    run: &'a Outcomes,
    phases: Phases,
    moments: Vec<Moment>,
}

/// What happened in a run.
pub(super) fn chain(scenario: &Scenario, control: &Outcomes, run: &Outcomes) -> Vec<Moment> {
    let mut look = Look { scenario, control, run, phases: Phases::of(scenario), moments: Vec::new() };
    for event in &scenario.events {
        look.at(event.at.as_nanos() / 1_000_000_000, format!("{} begins", telling::event(scenario, event)));
        if let Some(ends) = event.ends {
            look.at(
                ends.as_nanos() / 1_000_000_000,
                format!("it is over: {}", telling::event(scenario, event)),
            );
        }
    }
    look.clients();
    (0..scenario.services.len()).for_each(|place| look.service(place));
    look.end();
    look.moments.sort_by_key(|moment| moment.second);
    look.moments
}

impl Look<'_> {
    fn at(&mut self, second: u64, what: String) {
        self.moments.push(Moment { second, what });
    }

    /// The first second from the trigger on from which a window satisfies this.
    fn first(&self, holds: impl Fn(u64, u64) -> bool) -> Option<u64> {
        let last = self.phases.end.saturating_sub(WINDOW);
        (self.phases.begins..=last).find(|from| holds(*from, from + WINDOW))
    }

    fn clients(&mut self) {
        let (run, control) = (self.run, self.control);
        let below = |from, to| run.served(from, to) < 0.95 * control.served(from, to);
        if let Some(second) = self.first(below) {
            let (now, then) = (run.served(second, second + WINDOW), control.served(second, second + WINDOW));
            self.at(
                second,
                format!("goodput falls: {}/s, {}/s without the trigger", short(now), short(then)),
            );
        }
        let per_call = |from, to| run.tries(from, to) / run.offered(from, to).max(1e-9);
        let (from, to) = self.phases.seconds(Phase::Before);
        let usual = per_call(from, to);
        if let Some(second) = self.first(|from, to| per_call(from, to) > 1.3 * usual.max(1.0)) {
            let most = (self.phases.begins..=self.phases.end - WINDOW)
                .map(|from| per_call(from, from + WINDOW))
                .fold(0.0, f64::max);
            let what = format!(
                "retries add to the load: {} attempts for each call before, up to {}",
                short(usual),
                short(most)
            );
            self.at(second, what);
        }
        let kinds: [(&str, Count); 4] = [
            ("clients give up", |counts| counts.abandoned),
            ("calls fail", |counts| counts.failed),
            ("calls are refused for want of capacity", |counts| counts.shed),
            ("calls are refused for want of quota", |counts| counts.throttled),
        ];
        for (what, count) in kinds {
            let many = |from, to| {
                let (now, usual) = (run.rate(None, from, to, count), control.rate(None, from, to, count));
                now > usual + 0.02 * run.offered(from, to)
            };
            if let Some(second) = self.first(many) {
                let worst = (self.phases.begins..=self.phases.end - WINDOW)
                    .map(|from| run.rate(None, from, from + WINDOW, count))
                    .fold(0.0, f64::max);
                self.at(second, format!("{what}: up to {}/s", short(worst)));
            }
        }
    }

    fn service(&mut self, place: usize) {
        let name = self.scenario.services[place].name.clone();
        let Some(gauges) = self.run.gauges.get(place).filter(|gauges| !gauges.is_empty()) else { return };
        let gauges = gauges.clone();
        // The first gauge is read at the end of the first second.
        let from = |second: u64| gauges.get(second.saturating_sub(1) as usize..).unwrap_or_default();
        let (begins, warm) = (self.phases.begins, self.phases.warm);
        let before = &gauges[(warm as usize).min(gauges.len())..(begins as usize).min(gauges.len())];
        let mean = |read: fn(&Gauge) -> u32| {
            before.iter().map(|gauge| f64::from(read(gauge))).sum::<f64>() / before.len().max(1) as f64
        };
        let after = from(begins);
        let when = |index: usize| begins + index as u64;
        for (what, read) in [
            ("holds", (|gauge| gauge.inside) as fn(&Gauge) -> u32),
            ("has waiting in front of it", |gauge| gauge.waiting),
        ] {
            let usual = mean(read);
            let most = after.iter().map(read).max().unwrap_or(0);
            if f64::from(most) < 3.0 * usual + 10.0 {
                continue;
            }
            let threshold = usual + (f64::from(most) - usual) / 2.0;
            if let Some(index) = after.iter().position(|gauge| f64::from(read(gauge)) >= threshold) {
                let now = read(&after[index]);
                let what = format!("{name} {what} {now} requests, {} before; up to {most}", short(usual));
                self.at(when(index), what);
            }
        }
        let all = before.last().map_or(0, |gauge| gauge.up);
        if let Some(index) = after.iter().position(|gauge| gauge.up < all) {
            let least = after.iter().map(|gauge| gauge.up).min().unwrap_or(0);
            self.at(when(index), format!("replicas of {name} are down: {least} of {all} are left at worst"));
        }
        if let Some(index) = after.iter().position(|gauge| gauge.usable < gauge.up) {
            let usable = after[index].usable;
            self.at(when(index), format!("Seawall leaves hosts of {name} out: it calls {usable}"));
        }
    }

    fn end(&mut self) {
        let Phases { ends, end, .. } = self.phases;
        match recovery(self.control, self.run, ends, end) {
            Some(0) => self.at(ends, "goodput is back as soon as the trigger is over".to_owned()),
            Some(seconds) => {
                self.at(ends + seconds, format!("goodput is back, {seconds} s after the trigger"));
            }
            None => {
                let from = end.saturating_sub(2 * WINDOW);
                let share = self.run.served(from, end) / self.control.served(from, end).max(1e-9);
                let what = format!(
                    "still down, {} s after the trigger: {} % of the goodput without it",
                    end - ends,
                    short(share * 1e2)
                );
                self.at(end, what);
            }
        }
    }
}
