//! Why a seed went as it did: the same seed again without each of its conditions.
//!
//! Failures rarely have one cause. What is taken away and leaves the failure as it was did not matter;
//! what is taken away and takes the failure with it was necessary, alone or with others. `conditions` lists
//! what can be taken away, `chain` tells what happened in which order.
//!
//! **Edges.** A run without a condition has a control of its own, without it, too: that a smaller load has
//! less goodput is no explanation. Arrivals and all other draws are those of the seed.

mod chain;
mod conditions;

use rayon::prelude::*;
use seawall_config::Config;

use crate::contender::Contender;
use crate::experiment::{control, play};
use crate::outcomes::{Outcomes, Phases};
use crate::scenario::{Phase, Scenario};
use crate::verdict::Fate;
use crate::world::Keep;

use conditions::Condition;

/// What happened at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The second.
    pub second: u64,
    /// What.
    pub what: String,
}

/// How a seed goes when something is different.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// What is different.
    pub what: String,
    /// How it goes then.
    pub fate: Fate,
    /// The share of its control's goodput that it has after the trigger.
    pub after: f64,
    /// How much of that is due to the difference.
    pub gain: f64,
}

/// Why a seed went as it did.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The config.
    pub config: String,
    /// The seed.
    pub seed: u64,
    /// How it went.
    pub fate: Fate,
    /// The share of its control's goodput that it had after the trigger.
    pub after: f64,
    /// What happened, in its order.
    pub chain: Vec<Moment>,
    /// The same seed without each condition, what matters most first.
    pub without: Vec<Alternative>,
    /// The same seed with what could have been done about it.
    pub prevented: Vec<Alternative>,
}

impl Alternative {
    /// Whether that changes how it goes: it comes back where it did not, or most of what was lost is there.
    pub fn matters(&self, fate: Fate) -> bool {
        self.gain >= 0.05 || rank(self.fate) < rank(fate)
    }
}

/// Explains how a seed goes with a config. `others` are configs that may prevent it.
pub fn explain(scenario: &Scenario, contender: &Contender, others: &[Contender], seed: u64) -> Explanation {
    let config = contender.config.as_ref();
    let (fate, control, run) = judge(scenario, config, seed, Keep::Gauges);
    let after = ratio(&control, &run, scenario);
    let retry = |conditions: Vec<Condition>| -> Vec<Alternative> {
        let mut all: Vec<Alternative> = conditions
            .into_par_iter()
            .map(|Condition { what, scenario, config: with }| {
                let (fate, control, run) = judge(&scenario, with.as_ref().or(config), seed, Keep::Counts);
                let then = ratio(&control, &run, &scenario);
                Alternative { what, fate, after: then, gain: then - after }
            })
            .collect();
        // Stable, so that what has the same effect stays in the order of the list.
        all.sort_by(|one, other| {
            (rank(one.fate), -one.after).partial_cmp(&(rank(other.fate), -other.after)).expect("no NaN")
        });
        all
    };
    Explanation {
        config: contender.name.clone(),
        seed,
        fate,
        after,
        chain: chain::chain(scenario, &control, &run),
        without: retry(conditions::removable(scenario, config)),
        prevented: retry(conditions::remedies(scenario, contender, others)),
    }
}

fn judge(scenario: &Scenario, config: Option<&Config>, seed: u64, keep: Keep) -> (Fate, Outcomes, Outcomes) {
    let control = control(scenario, config, seed);
    let played = play(scenario, config, keep, seed, &control);
    (played.fate, control, played.run)
}

/// The share of the control's goodput that a run has after the trigger.
fn ratio(control: &Outcomes, run: &Outcomes, scenario: &Scenario) -> f64 {
    let (from, to) = Phases::of(scenario).seconds(Phase::After);
    match control.served(from, to) {
        0.0 => 0.0,
        served => run.served(from, to) / served,
    }
}

/// Fates from good to bad.
fn rank(fate: Fate) -> u8 {
    match fate {
        Fate::Stable => 0,
        Fate::SlowRecovery(_) => 1,
        Fate::Metastable => 2,
        Fate::Broken => 3,
        Fate::Overloaded => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery;

    #[test]
    fn a_retry_storm_needs_its_surge_and_its_retries() {
        let storm = gallery::scenario("retry-storm").unwrap();
        let naive = Contender::naive();
        let protected = Contender::named("protected", &storm, &crate::gallery::Files::Gallery).unwrap();
        let down = (1..20)
            .find(|seed| judge(&storm, None, *seed, Keep::Counts).0 == Fate::Metastable)
            .expect("most seeds stay down");
        let why = explain(&storm, &naive, std::slice::from_ref(&protected), down);
        assert_eq!(why.fate, Fate::Metastable);
        assert!(why.after < 0.7);
        for necessary in ["the surge of web", "retries of web"] {
            let without = why.without.iter().find(|other| other.what.contains(necessary));
            let without = without.unwrap_or_else(|| panic!("{necessary}: {:?}", why.without));
            assert!(without.matters(why.fate) && !without.fate.is_down(), "{without:?}");
        }
        assert!(why.prevented.iter().any(|other| other.what.contains("protected") && !other.fate.is_down()));
        assert_eq!(why.chain.first().map(|moment| moment.second), Some(60));
        assert!(why.chain.windows(2).all(|pair| pair[0].second <= pair[1].second));
    }
}
