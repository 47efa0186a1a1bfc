//! The report: what came of an experiment, as text, Markdown, JSON, CSV, JUnit or for GitHub.
//!
//! All are views of one struct, and the same seeds give the same bytes.

mod csv;
mod explanation;
mod formats;
mod html;
mod margins;
mod measured;
mod sweep;
mod text;

use serde_json::{Value, json};

use crate::experiment::{ConfigResult, Results};
use crate::scenario::{Assertion, Expression, Metric, Phase, Quantity, Scenario};
use crate::verdict::{Interval, Verdict};

pub use csv::files as csv;
pub use explanation::{json as explanation_json, text as explanation};
pub use formats::{github, junit, junit_with, markdown, workflow};
pub use html::{Details, html, svg};
pub use margins::{json as margins_json, text as margins};
pub use sweep::Sweep;
pub use text::{checked, painted, spark, text};

/// A scenario and what came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario.
    pub scenario: Scenario,
    /// What came of it.
    pub results: Results,
    /// Whether each assertion holds.
    pub checks: Vec<Check>,
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// The command that plays it again.
    pub replay: String,
}

/// An assertion and what was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// The config that it speaks of, by its place.
    pub config: usize,
    /// As the file says it.
    pub text: String,
    /// Whether it holds.
    pub holds: bool,
    /// The left side; `None` without data.
    pub left: Option<f64>,
    /// The right side.
    pub right: Option<f64>,
    /// Whether its sides are verdicts, by their place among [`Verdict::ALL`].
    pub of_verdicts: bool,
}

impl Check {
    /// One of its sides in words.
    pub fn side(&self, value: Option<f64>) -> String {
        match value {
            None => "no data".to_owned(),
            Some(place) if self.of_verdicts => {
                Verdict::ALL.get(place as usize).map_or_else(String::new, |verdict| verdict.name().to_owned())
            }
            Some(value) => format!("{}", libm::round(value * 1e4) / 1e4),
        }
    }
}

/// How it went as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All assertions hold, and the last config is stable.
    Ok,
    /// The seeds do not tell.
    Inconclusive,
    /// An assertion does not hold, or the last config is not stable.
    Fails,
}

impl Outcome {
    /// The exit code of a command that ends so.
    pub const fn exit_code(self) -> u8 {
        match self {
            Outcome::Ok => 0,
            Outcome::Fails => 1,
            Outcome::Inconclusive => 3,
        }
    }
}

impl Report {
    /// The report of an experiment; `replay` is the command that plays it again.
    pub fn new(scenario: Scenario, results: Results, assumptions: Vec<String>, replay: String) -> Report {
        let last = results.configs.len().saturating_sub(1);
        let place = |metric: &Metric| match &metric.config {
            None => Some(last),
            Some(name) => results.configs.iter().position(|config| config.name == *name),
        };
        let measured = |metric: &Metric| results.configs.get(place(metric)?)?.measured(metric);
        let checks = scenario.assertions.iter().map(|assertion| {
            let (holds, left, right) = assertion.check(&measured);
            let first = first_metric(assertion);
            let config = first.and_then(place).unwrap_or(last);
            let of_verdicts = first.is_some_and(|metric| metric.quantity == Quantity::Verdict);
            Check { config, text: assertion.text.clone(), holds, left, right, of_verdicts }
        });
        let checks = checks.collect();
        Report { scenario, results, checks, assumptions, replay }
    }

    /// How it went as a whole.
    pub fn outcome(&self) -> Outcome {
        let checked = if self.checks.iter().all(|check| check.holds) { Outcome::Ok } else { Outcome::Fails };
        checked.max(self.judged())
    }

    /// What the verdict of the last config says.
    pub fn judged(&self) -> Outcome {
        match self.results.configs.last().map(|config| config.verdict().0) {
            Some(Verdict::Stable) => Outcome::Ok,
            Some(Verdict::Inconclusive) | None => Outcome::Inconclusive,
            Some(Verdict::Overloaded | Verdict::Metastable | Verdict::Vulnerable) => Outcome::Fails,
        }
    }

    /// As one JSON object.
    pub fn json(&self) -> Value {
        let configs: Vec<Value> = self
            .results
            .configs
            .iter()
            .enumerate()
            .map(|(place, config)| self.config(place, config))
            .collect();
        json!({
            "schema": 1,
            "scenario": self.scenario.name,
            "seeds": self.results.seeds.count,
            "first_seed": self.results.seeds.first,
            "fingerprint": format!("{:016x}", self.results.fingerprint),
            "configs": configs,
            "assumptions": self.assumptions,
            "replay": self.replay,
        })
    }

    fn config(&self, place: usize, config: &ConfigResult) -> Value {
        let checks = self.checks.iter().filter(|check| check.config == place).map(|check| {
            json!({ "that": check.text, "holds": check.holds, "left": check.left, "right": check.right })
        });
        let checks: Vec<Value> = checks.collect();
        let mut object = measured(config);
        object["assertions"] = Value::from(checks);
        object["measured"] = measured::phases(config);
        object["clients"] = measured::clients(&self.scenario, config);
        object["services"] = measured::services(&self.scenario, config);
        if let (Some(change), Value::Object(object)) = (self.change(place), &mut object) {
            object.insert("after_minus_first".to_owned(), interval(&change));
        }
        object
    }

    /// How much more a config serves after the trigger than the first one does, per second: the mean of
    /// the paired differences over seeds with its 95 % interval by Student's t; `None` for the first
    /// itself, and for a single seed.
    pub fn change(&self, place: usize) -> Option<Interval> {
        let (first, config) = (self.results.configs.first()?, self.results.configs.get(place)?);
        if place == 0 {
            return None;
        }
        let differences: Vec<f64> =
            config.after.iter().zip(&first.after).map(|(mine, theirs)| mine - theirs).collect();
        mean_interval(&differences)
    }
}

/// What was measured of a config, as JSON.
fn measured(config: &ConfigResult) -> Value {
    let (verdict, collapse) = config.verdict();
    let [before, during, after] = goodput(config);
    let mut share = interval(&collapse);
    share["seeds"] = Value::from(config.fates.len());
    json!({
        "name": config.name,
        "verdict": verdict.name(),
        "collapse": share,
        "goodput": { "before": before, "during": during, "after": after },
        "amplification": config.run.amplification(Phase::Whole),
        "recovery_s": { "p50": config.recovery(50), "p95": config.recovery(95) },
    })
}

fn interval(interval: &Interval) -> Value {
    let Interval { estimate, low, high } = interval;
    json!({ "estimate": estimate, "low": low, "high": high })
}

/// The mean of a sample with its 95 % interval by Student's t; `None` for less than two.
fn mean_interval(sample: &[f64]) -> Option<Interval> {
    let degrees = sample.len().checked_sub(1).filter(|degrees| *degrees > 0)?;
    let count = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / count;
    let square: f64 = sample.iter().map(|value| (value - mean) * (value - mean)).sum();
    let half = student(degrees) * libm::sqrt(square / degrees as f64 / count);
    Some(Interval { estimate: mean, low: mean - half, high: mean + half })
}

/// The quantile at 97.5 % of Student's t with so many degrees of freedom, at least 1.
fn student(degrees: usize) -> f64 {
    const EXACT: [f64; 4] = [12.706_204_736, 4.302_652_730, 3.182_446_305, 2.776_445_105];
    const Z: f64 = 1.959_963_984_540_054;
    if let Some(exact) = degrees.checked_sub(1).and_then(|place| EXACT.get(place)) {
        return *exact;
    }
    // Cornish and Fisher's expansion, within a thousandth from five degrees on.
    let (nu, z2) = (degrees as f64, Z * Z);
    let first = Z * (z2 + 1.0) / 4.0;
    let second = Z * (5.0 * z2 * z2 + 16.0 * z2 + 3.0) / 96.0;
    let third = Z * (3.0 * z2 * z2 * z2 + 19.0 * z2 * z2 + 17.0 * z2 - 15.0) / 384.0;
    Z + first / nu + second / (nu * nu) + third / (nu * nu * nu)
}

/// Answers in time a second, full or degraded, before, during and after the trigger.
pub fn goodput(config: &ConfigResult) -> [f64; 3] {
    [Phase::Before, Phase::During, Phase::After].map(|phase| {
        let rate = |quantity| config.run.rate(quantity, phase, None).unwrap_or_default();
        rate(Quantity::Goodput) + rate(Quantity::Degraded)
    })
}

fn first_metric(assertion: &Assertion) -> Option<&Metric> {
    fn of(expression: &Expression) -> Option<&Metric> {
        match expression {
            Expression::Number(_) => None,
            Expression::Metric(metric) => Some(metric),
            Expression::Both(left, _, right) => of(left).or_else(|| of(right)),
        }
    }
    of(&assertion.left).or_else(|| of(&assertion.right))
}

#[cfg(test)]
mod tests;
