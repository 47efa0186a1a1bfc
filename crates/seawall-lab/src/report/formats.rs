//! The report for other readers: a merge request, a test runner, a workflow.

use std::fmt::Write as _;

use super::text::checked;
use super::{Outcome, Report, goodput};
use crate::scenario::Phase;
use crate::verdict::Interval;

/// As a Markdown table.
pub fn markdown(report: &Report) -> String {
    let mut text = format!("### {}\n\n", report.scenario.name);
    text += "| config | verdict | stays down (95 %) | before/s | during/s | after/s | attempts |\n";
    text += "|---|---|---|---|---|---|---|\n";
    for config in &report.results.configs {
        let (verdict, Interval { estimate, low, high }) = config.verdict();
        let [before, during, after] = goodput(config);
        _ = writeln!(
            text,
            "| {} | **{}** | {:.0} % ({:.0}–{:.0} %) | {before:.1} | {during:.1} | {after:.1} | {:.2}× |",
            config.name,
            verdict.name(),
            estimate * 1e2,
            low * 1e2,
            high * 1e2,
            config.run.amplification(Phase::Whole).unwrap_or_default(),
        );
    }
    text.push('\n');
    for check in &report.checks {
        _ = writeln!(text, "- {}", checked(check));
    }
    for assumption in &report.assumptions {
        _ = writeln!(text, "- ASSUMED: {assumption}");
    }
    _ = writeln!(text, "\n`{}`", report.replay);
    text
}

/// As a JUnit file: a case for each assertion, and one for the verdict of the last config.
pub fn junit(reports: &[Report]) -> String {
    junit_with("", std::iter::empty(), reports)
}

/// A case, and why it failed, if it did.
type Case = (String, Option<String>);

/// The same, with a suite of other cases first, unless it has none.
pub fn junit_with(suite: &str, cases: impl Iterator<Item = Case>, reports: &[Report]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    text += &suite_of(suite, &cases.collect::<Vec<_>>());
    for report in reports {
        let last = report.results.configs.last();
        let verdict = last.map_or("", |config| config.verdict().0.name());
        let name = last.map_or("", |config| config.name.as_str());
        let judged = report.judged() != Outcome::Ok;
        let why = || format!("{name} is {verdict}; {}", report.replay);
        let mut cases = vec![(format!("{name} is stable"), judged.then(why))];
        let checks = report.checks.iter().map(|check| {
            let why = || format!("{}; {}", checked(check), report.replay);
            (check.text.clone(), (!check.holds).then(why))
        });
        cases.extend(checks);
        text += &suite_of(&report.scenario.name, &cases);
    }
    text + "</testsuites>\n"
}

fn suite_of(name: &str, cases: &[Case]) -> String {
    if cases.is_empty() {
        return String::new();
    }
    let failures = cases.iter().filter(|(_, failure)| failure.is_some()).count();
    let name = escaped(name);
    let mut text =
        format!("  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{failures}\">\n", cases.len());
    for (case, failure) in cases {
        let case = escaped(case);
        match failure {
            None => _ = writeln!(text, "    <testcase classname=\"{name}\" name=\"{case}\"/>"),
            Some(why) => {
                _ = writeln!(
                    text,
                    "    <testcase classname=\"{name}\" name=\"{case}\"><failure message=\"{}\"/></testcase>",
                    escaped(why)
                );
            }
        }
    }
    text + "  </testsuite>\n"
}

/// A text as the value of a command of a GitHub workflow.
pub fn workflow(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As commands of a GitHub workflow: an annotation for whatever does not hold.
pub fn github(report: &Report) -> String {
    let mut text = String::new();
    let title = &report.scenario.name;
    for check in report.checks.iter().filter(|check| !check.holds) {
        _ = writeln!(text, "::error title={title}::{}", workflow(&checked(check)));
    }
    if let Some(config) = report.results.configs.last() {
        let (verdict, Interval { low, high, .. }) = config.verdict();
        let level = match report.judged() {
            Outcome::Ok => "notice",
            Outcome::Inconclusive => "warning",
            Outcome::Fails => "error",
        };
        _ = writeln!(
            text,
            "::{level} title={title}::{} is {}: stays down in {:.0} to {:.0} %25 of cases",
            config.name,
            verdict.name(),
            low * 1e2,
            high * 1e2,
        );
    }
    _ = writeln!(text, "{}", report.replay);
    text
}

/// A share of seeds with its interval.
pub(super) fn share(interval: &Interval) -> String {
    let Interval { estimate, low, high } = interval;
    format!("{:.0} % ({:.0}–{:.0} %)", estimate * 1e2, low * 1e2, high * 1e2)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
