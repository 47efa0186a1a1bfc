//! Runs of the lab: a scenario's text, a config's, and what came of many seeds.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use seawall_config::Config;
use seawall_lab::experiment::Total;
use seawall_lab::scenario::{Phase, Quantity, Scenario};
use seawall_lab::world::{self, Keep, Play};
use seawall_lab::{Outcomes, Phases};

/// Parts into which runs are divided, to know how much they differ.
const GROUPS: usize = 16;

/// A figure over independent runs, and its standard error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    pub(super) mean: f64,
    pub(super) error: f64,
}

impl Estimate {
    /// The mean of independent values.
    pub(super) fn of(values: &[f64]) -> Estimate {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let square: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        Estimate { mean, error: (square / (count - 1.0).max(1.0) / count).sqrt() }
    }
}

/// What is read from runs taken together, as the lab's JSON shows it.
pub(super) type Reading = Box<dyn Fn(&Total) -> f64>;

/// An experiment.
pub(super) struct Experiment {
    pub(super) scenario: Scenario,
    config: Option<Config>,
}

impl Experiment {
    pub(super) fn new(scenario: &str) -> Experiment {
        let read = Scenario::from_toml(scenario, Path::new("truth.toml"));
        let scenario = read.unwrap_or_else(|error| panic!("{error}\n{scenario}"));
        Experiment { scenario, config: None }
    }

    pub(super) fn with(mut self, config: &str) -> Experiment {
        let config = Config::from_toml(config, Path::new("seawall.toml"));
        self.config = Some(config.unwrap_or_else(|error| panic!("{error}")));
        self
    }

    /// Plays these seeds, side by side.
    pub(super) fn play(&self, seeds: Range<u64>) -> Vec<Outcomes> {
        seeds.into_par_iter().map(|seed| self.play_one(seed)).collect()
    }

    fn play_one(&self, seed: u64) -> Outcomes {
        let (scenario, config) = (&self.scenario, self.config.as_ref());
        let phases = Phases::of(scenario);
        let play = Play { scenario, config, phases, release: None, keep: Keep::Counts };
        let outcomes = world::run(play, seed);
        assert!(outcomes.is_conserved(), "seed {seed}: calls are lost or counted twice");
        outcomes
    }
}

/// Runs of an experiment, in groups.
pub(super) struct Groups(Vec<Total>);

impl Groups {
    pub(super) fn new() -> Groups {
        Groups(vec![Total::default(); GROUPS])
    }

    /// Plays more seeds; as many as there are groups, or a multiple of that.
    pub(super) fn play(&mut self, experiment: &Experiment, seeds: Range<u64>) {
        let phases = Phases::of(&experiment.scenario);
        for (outcomes, place) in experiment.play(seeds).iter().zip((0..GROUPS).cycle()) {
            self.0[place].add(outcomes, &phases);
        }
    }

    /// A figure over all, and its standard error by the jackknife over groups.
    pub(super) fn estimate(&self, read: &Reading) -> Estimate {
        let without = |left: Option<usize>| {
            let mut all = Total::default();
            let kept = self.0.iter().enumerate().filter(|(place, _)| Some(*place) != left);
            kept.for_each(|(_, group)| all.join(group));
            read(&all)
        };
        let parts: Vec<f64> = (0..GROUPS).map(|left| without(Some(left))).collect();
        let error = Estimate::of(&parts).error * (GROUPS - 1) as f64;
        Estimate { mean: without(None), error }
    }
}

/// A count a second, over what was offered.
pub(super) fn share(of: Quantity) -> Reading {
    Box::new(move |total| {
        let rate = |quantity| total.rate(quantity, Phase::Whole, None).unwrap_or(f64::NAN);
        rate(of) / rate(Quantity::Offered)
    })
}

/// Attempts for each call of a client.
pub(super) fn attempts() -> Reading {
    Box::new(|total| total.amplification(Phase::Whole).unwrap_or(f64::NAN))
}

/// A count a second, over `unit`.
pub(super) fn rate(of: Quantity, unit: f64) -> Reading {
    Box::new(move |total| total.rate(of, Phase::Whole, None).unwrap_or(f64::NAN) / unit)
}

/// The mean sojourn, in units of so many seconds.
pub(super) fn mean(unit: f64) -> Reading {
    Box::new(move |total| total.latencies(Phase::Whole, None).mean().unwrap_or(f64::NAN) / unit)
}

/// What this share of sojourns takes at most.
pub(super) fn quantile(share: f64, unit: f64) -> Reading {
    Box::new(move |total| total.latency(share, Phase::Whole, None).unwrap_or(f64::NAN) / unit)
}
