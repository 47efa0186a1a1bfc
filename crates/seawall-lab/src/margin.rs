//! The margin: how big a trigger must be until a config no longer comes back.
//!
//! **Mechanics.** The trigger is scaled: the factor of a surge or a slow replica, the share of errors or of
//! lost messages, the delay, what is missing of the capacity; what has no size but lasts (a crash, a pause,
//! a partition, a block) is scaled in its length. A size breaks a config when half of the seeds or more stay
//! down. From the scenario's own size it goes up or down by doubling until it is on the other side, then
//! halves what lies between, on a logarithmic scale.
//!
//! **Edges.** What stays down at a size need not stay down at each greater one; the answer is the boundary
//! that was found. A config that comes back from [`SCALE_MAX`] times the trigger has no margin to be found.

use rayon::prelude::*;
use seawall_core::time::Span;

use crate::contender::Contender;
use crate::experiment::{Seeds, control, play};
use crate::outcomes::Outcomes;
use crate::scenario::{Event, Scenario, What};
use crate::verdict::{Fate, Interval, wilson};
use crate::world::Keep;

/// The biggest trigger that is tried, in times of the scenario's own.
pub const SCALE_MAX: f64 = 8.0;
/// The smallest.
pub const SCALE_LEAST: f64 = 1.0 / 16.0;
/// How often the interval is halved: to within 4 %.
const HALVINGS: u32 = 4;

/// How much a config survives.
#[derive(Clone, Debug, PartialEq)]
pub struct Margin {
    /// The config.
    pub name: String,
    /// The biggest trigger that it comes back from; `None` when it does from none that was tried.
    pub holds: Option<f64>,
    /// The smallest that it does not come back from; `None` when it does from all.
    pub breaks: Option<f64>,
    /// Whether it fails without any trigger.
    pub overloaded: bool,
    /// Each size that was tried, in the order of sizes, and the share of seeds that stayed down.
    pub tried: Vec<(f64, Interval)>,
}

/// A scenario with its trigger so many times as big; `None` when nothing of it has a size.
pub fn scaled(scenario: &Scenario, scale: f64) -> Option<Scenario> {
    let mut changed = scenario.clone();
    let sizable = changed.events.iter_mut().filter_map(|event| resize(event, scale)).count();
    (sizable > 0).then(|| changed.extended())
}

fn resize(event: &mut Event, scale: f64) -> Option<()> {
    let share = |ppm: &mut u32| *ppm = libm::round((f64::from(*ppm) * scale).min(1e6)) as u32;
    let missing = |share: &mut f64| *share = (1.0 - (1.0 - *share) * scale).clamp(0.001, 1.0);
    match &mut event.what {
        What::Surge { factor, .. } | What::Slow { factor, .. } => *factor = 1.0 + (*factor - 1.0) * scale,
        What::Errors { share_ppm, .. } | What::Loss { share_ppm, .. } => share(share_ppm),
        What::Capacity { from, to, .. } => {
            missing(from);
            missing(to);
        }
        What::Latency { add, .. } => *add = add.scaled(scale),
        What::Crash { .. } | What::Pause { .. } | What::Partition { .. } | What::Block { .. } => {
            let lasts = event.ends?.since(event.at).scaled(scale).max(Span::from_millis(1));
            event.ends = Some(event.at + lasts);
        }
        What::Flush { .. } | What::Scale { .. } | What::Workers { .. } => return None,
    }
    Some(())
}

/// The margin of a config; `None` when the trigger has no size. `on_progress` is told of each seed.
pub fn margin(
    scenario: &Scenario,
    contender: &Contender,
    seeds: Seeds,
    on_progress: &(dyn Fn() + Sync),
) -> Option<Margin> {
    let mut search = Search { scenario, contender, seeds, controls: Vec::new(), tried: Vec::new() };
    let mut margin = Margin {
        name: contender.name.clone(),
        holds: None,
        breaks: None,
        overloaded: false,
        tried: Vec::new(),
    };
    let mut scale = 1.0;
    loop {
        match search.breaks(scale, on_progress)? {
            Judged::Overloaded => {
                margin.overloaded = true;
                return Some(margin);
            }
            Judged::Breaks => margin.breaks = Some(scale),
            Judged::Holds => margin.holds = Some(scale),
        }
        scale = match (margin.holds, margin.breaks) {
            (Some(_), Some(_)) => break,
            (Some(_), None) if scale < SCALE_MAX => scale * 2.0,
            (None, Some(_)) if scale > SCALE_LEAST => scale / 2.0,
            _ => break,
        };
    }
    if let (Some(mut holds), Some(mut breaks)) = (margin.holds, margin.breaks) {
        for _ in 0..HALVINGS {
            let middle = libm::sqrt(holds * breaks);
            match search.breaks(middle, on_progress)? {
                Judged::Holds => holds = middle,
                Judged::Breaks | Judged::Overloaded => breaks = middle,
            }
        }
        (margin.holds, margin.breaks) = (Some(holds), Some(breaks));
    }
    search.tried.sort_by(|one, other| one.0.total_cmp(&other.0));
    margin.tried = search.tried;
    Some(margin)
}

enum Judged {
    Overloaded,
    Holds,
    Breaks,
}

struct Search<'a> {
    scenario: &'a Scenario,
    contender: &'a Contender,
    seeds: Seeds,
    /// The control of each seed, as long as the runs take the same time.
    controls: Vec<Outcomes>,
    tried: Vec<(f64, Interval)>,
}

impl Search<'_> {
    fn breaks(&mut self, scale: f64, on_progress: &(dyn Fn() + Sync)) -> Option<Judged> {
        let scenario = scaled(self.scenario, scale)?;
        let config = self.contender.config.as_ref();
        let count = u64::from(self.seeds.count.max(1));
        let seeds: Vec<u64> = (0..count).map(|seed| self.seeds.first.wrapping_add(seed)).collect();
        let seconds = scenario.end.as_nanos() / 1_000_000_000;
        if self.controls.first().is_none_or(|control| control.tries.len() as u64 != seconds + 1) {
            self.controls = seeds.par_iter().map(|seed| control(&scenario, config, *seed)).collect();
        }
        let fates: Vec<Fate> = (seeds.par_iter().zip(&self.controls))
            .map(|(seed, control)| {
                let fate = play(&scenario, config, Keep::Counts, *seed, control).fate;
                on_progress();
                fate
            })
            .collect();
        let down = fates.iter().filter(|fate| fate.is_down()).count() as u32;
        let share = wilson(down, self.seeds.count.max(1));
        self.tried.push((scale, share));
        let overloaded = fates.iter().filter(|fate| **fate == Fate::Overloaded).count();
        Some(match share.estimate {
            _ if overloaded * 2 > fates.len() => Judged::Overloaded,
            share if share >= 0.5 => Judged::Breaks,
            _ => Judged::Holds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery;

    #[test]
    fn a_trigger_is_scaled_in_its_size_or_in_its_length() {
        let storm = gallery::scenario("retry-storm").unwrap();
        let factor = |scale| match scaled(&storm, scale).unwrap().events[0].what {
            What::Surge { factor, .. } => factor,
            _ => unreachable!(),
        };
        assert_eq!([0.5, 1.0, 3.0].map(factor), [1.5, 2.0, 4.0]);
        let cascade = gallery::scenario("overload-cascade").unwrap();
        let longer = scaled(&cascade, 3.0).unwrap();
        let (begins, ends) = longer.trigger().unwrap();
        assert_eq!(ends.since(begins), Span::from_secs(30));
        assert!(longer.end > cascade.end, "there is time to come back");
        let flushed = gallery::scenario("metastable-cache").unwrap();
        assert_eq!(scaled(&flushed, 2.0), None);
    }

    #[test]
    fn the_margin_lies_between_what_holds_and_what_breaks() {
        let storm = gallery::scenario("retry-storm").unwrap();
        let seeds = Seeds { count: 5, first: 1, adds: false };
        let found = margin(&storm, &Contender::naive(), seeds, &|| {}).unwrap();
        let (holds, breaks) = (found.holds.unwrap(), found.breaks.unwrap());
        assert!(holds < breaks && breaks / holds < 1.1, "{found:?}");
        assert!((0.25..2.0).contains(&breaks), "{found:?}");
        let share = |scale: f64| found.tried.iter().find(|(tried, _)| *tried == scale).unwrap().1.estimate;
        assert!(share(holds) < 0.5 && share(breaks) >= 0.5);
    }
}
