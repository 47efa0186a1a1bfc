//! `--compare`: what got better and what got worse since an earlier check.
//!
//! **Edges.** A verdict that is another one counts, and so does goodput during or after the trigger that
//! differs by more than [`NOISE`] of what there was before it. Scenarios that only one of the two has are told,
//! and are neither better nor worse.

use std::fmt;
use std::path::Path;

use seawall_config::ConfigError;
use seawall_core::lint::Severity;
use seawall_lab::report;
use seawall_lab::verdict::Verdict;
use serde_json::Value;

use super::Checked;
use crate::lab::Problem;

/// The share of goodput by which two checks of the same may differ.
const NOISE: f64 = 0.05;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The scenario, or what a finding is about.
    pub(super) about: String,
    pub(super) worse: bool,
    pub(super) what: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.worse { "worse" } else { "better" };
        write!(f, "{word}: {}: {}", self.about, self.what)
    }
}

/// Verdicts from good to bad.
fn rank(verdict: Verdict) -> usize {
    let order = [
        Verdict::Stable,
        Verdict::Inconclusive,
        Verdict::Vulnerable,
        Verdict::Metastable,
        Verdict::Overloaded,
    ];
    order.iter().position(|other| *other == verdict).unwrap_or(order.len())
}

/// What changed since the check that was written to this file.
pub(super) fn with(base: &Path, checked: &Checked) -> Result<Vec<Change>, Problem> {
    let refused = |problem: String| ConfigError::unreadable(base, problem);
    let text = std::fs::read_to_string(base).map_err(|error| refused(error.to_string()))?;
    let base: Value = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    if base["schema"] != 1 || !base["scenarios"].is_array() {
        let wanted = "it is not what `seawall check --json` writes";
        return Err(refused(wanted.to_owned()).into());
    }
    let mut changes = of_findings(&base, checked);
    for played in &checked.played {
        let name = played.report.scenario.name.as_str();
        let family = played.family.name();
        let same = |other: &&Value| other["scenario"] == name && other["family"] == family;
        let before = base["scenarios"].as_array().and_then(|all| all.iter().find(same));
        let Some(config) = played.report.results.configs.last() else { continue };
        if let Some(before) = before.and_then(|before| before["configs"].as_array()?.last()) {
            let about = format!("{name} ({family})");
            changes.extend(of_config(&about, before, config));
        }
    }
    Ok(changes)
}

fn of_config(about: &str, before: &Value, config: &seawall_lab::experiment::ConfigResult) -> Vec<Change> {
    let change = |worse: bool, what: String| Change { about: about.to_owned(), worse, what };
    let mut changes = Vec::new();
    let now = config.verdict().0;
    let then = Verdict::ALL.into_iter().find(|verdict| before["verdict"] == verdict.name());
    if let Some(then) = then.filter(|then| *then != now) {
        changes.push(change(rank(now) > rank(then), format!("{}, was {}", now.name(), then.name())));
    }
    let [usual, during, after] = report::goodput(config);
    for (phase, now) in [("during", during), ("after", after)] {
        let Some(then) = before["goodput"][phase].as_f64() else { continue };
        let usual = usual.max(before["goodput"]["before"].as_f64().unwrap_or_default());
        if (now - then).abs() > NOISE * usual {
            let what = format!("goodput {phase} the trigger is {now:.1}/s, was {then:.1}/s");
            changes.push(change(now < then, what));
        }
    }
    changes
}

fn of_findings(base: &Value, checked: &Checked) -> Vec<Change> {
    let known = base["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut changes = Vec::new();
    for found in &checked.findings {
        let about = found.about.to_string();
        let same = |other: &Value| other["about"] == about && other["rule"] == found.rule;
        if found.severity > Severity::Advice && !known.iter().any(same) {
            let what = format!("[{}] is new", found.rule);
            changes.push(Change { about, worse: true, what });
        }
    }
    for gone in known.iter().filter(|known| known["severity"] != Severity::Advice.name()) {
        let (Some(about), Some(rule)) = (gone["about"].as_str(), gone["rule"].as_str()) else { continue };
        if !checked.findings.iter().any(|found| found.about.to_string() == about && found.rule == rule) {
            let what = format!("[{rule}] is gone");
            changes.push(Change { about: about.to_owned(), worse: false, what });
        }
    }
    changes
}
