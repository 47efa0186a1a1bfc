//! A sweep: what came of each value of a key, as text, JSON and CSV.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::formats::share;
use super::{goodput, measured, spark};
use crate::experiment::{ConfigResult, Results};
use crate::scenario::Phase;
use crate::vary::Vary;
use crate::verdict::Verdict;

/// A key and what came of each of its values.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The scenario.
    pub scenario: String,
    /// The key and its values.
    pub vary: Vary,
    /// What came of each value.
    pub results: Vec<Results>,
    /// The command that plays it again.
    pub replay: String,
}

/// The share of seeds that stays down; who fails without a trigger cannot.
fn down_or_overloaded(config: &ConfigResult) -> String {
    match config.verdict() {
        (Verdict::Overloaded, _) => "overloaded".to_owned(),
        (_, down) => share(&down),
    }
}

impl Sweep {
    /// Each config, as it came out at each value.
    fn configs(&self) -> Vec<Vec<&ConfigResult>> {
        let count = self.results.first().map_or(0, |results| results.configs.len());
        let of =
            |place: usize| self.results.iter().filter_map(|results| results.configs.get(place)).collect();
        (0..count).map(of).collect()
    }

    fn labels(&self) -> Vec<String> {
        (0..self.vary.steps()).map(|step| self.vary.label(step)).collect()
    }

    /// As text.
    pub fn text(&self) -> String {
        let labels = self.labels();
        let mut text = format!("{}: {}\n\n", self.scenario, self.vary.key());
        let configs = self.configs();
        let width = configs.iter().filter_map(|at| Some(at.first()?.name.len())).max().unwrap_or(0);
        let top = (configs.iter().flatten()).map(|config| goodput(config)[2]).fold(0.0, f64::max);
        for at in &configs {
            let name = at.first().map_or("", |config| config.name.as_str());
            let down: Vec<f64> = at.iter().map(|config| config.verdict().1.estimate).collect();
            let after: Vec<f64> = at.iter().map(|config| goodput(config)[2]).collect();
            _ = writeln!(
                text,
                "{name:width$}  stays down {}   goodput after {}",
                spark(&down, 1.0),
                spark(&after, top)
            );
        }
        let column = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(5);
        for at in &configs {
            let name = at.first().map_or("", |config| config.name.as_str());
            _ = writeln!(
                text,
                "\n{name:column$}  {:>20}  {:>9} {:>9} {:>9}  {:>9}  {:>8}",
                "stays down (95 %)", "before/s", "during/s", "after/s", "p99 after", "attempts"
            );
            for (label, config) in labels.iter().zip(at) {
                let [before, during, after] = goodput(config);
                let p99 = config.run.latency(0.99, Phase::After, None);
                let p99 = p99.map_or_else(|| "-".to_owned(), |seconds| format!("{:.0} ms", seconds * 1e3));
                let attempts = config.run.amplification(Phase::Whole).unwrap_or_default();
                _ = writeln!(
                    text,
                    "{label:>column$}  {:>20}  {before:>9.1} {during:>9.1} {after:>9.1}  {p99:>9}  {attempts:>7.2}×",
                    down_or_overloaded(config),
                );
            }
        }
        _ = writeln!(text, "\n{}", self.replay);
        text
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let points = (0..).zip(&self.results).map(|(step, results)| {
            let configs: Vec<Value> = results.configs.iter().map(measured).collect();
            json!({
                "value": self.vary.at(step),
                "label": self.vary.label(step),
                "fingerprint": format!("{:016x}", results.fingerprint),
                "configs": configs,
            })
        });
        let seeds = self.results.first().map(|results| results.seeds);
        json!({
            "schema": 1,
            "scenario": self.scenario,
            "key": self.vary.key(),
            "seeds": seeds.map(|seeds| seeds.count),
            "first_seed": seeds.map(|seeds| seeds.first),
            "points": points.collect::<Vec<Value>>(),
            "replay": self.replay,
        })
    }

    /// As a table for other programs.
    pub fn csv(&self) -> String {
        let mut text = "value,config,verdict,seeds,down,down_low,down_high,goodput_before,goodput_during,\
                        goodput_after,amplification\n"
            .to_owned();
        for (step, results) in (0..).zip(&self.results) {
            for config in &results.configs {
                let (verdict, down) = config.verdict();
                let [before, during, after] = goodput(config);
                let attempts = config.run.amplification(Phase::Whole).unwrap_or_default();
                _ = writeln!(
                    text,
                    "{},{},{},{},{},{},{},{before},{during},{after},{attempts}",
                    self.vary.at(step),
                    config.name,
                    verdict.name(),
                    config.fates.len(),
                    down.estimate,
                    down.low,
                    down.high,
                );
            }
        }
        text
    }
}
