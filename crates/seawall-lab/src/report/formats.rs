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
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for report in reports {
        let last = report.results.configs.last();
        let verdict = last.map_or("", |config| config.verdict().0.name());
        let name = last.map_or("", |config| config.name.as_str());
        let failed = report.checks.iter().filter(|check| !check.holds).count();
        let judged = usize::from(report.outcome() != Outcome::Ok && failed == 0);
        _ = writeln!(
            text,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\">",
            escaped(&report.scenario.name),
            report.checks.len() + 1,
            failed + judged,
        );
        let mut case = |name: &str, failure: Option<String>| match failure {
            None => _ = writeln!(text, "    <testcase name=\"{}\"/>", escaped(name)),
            Some(why) => {
                _ = writeln!(
                    text,
                    "    <testcase name=\"{}\"><failure message=\"{}\"/></testcase>",
                    escaped(name),
                    escaped(&why)
                );
            }
        };
        let why = || format!("{name} is {verdict}; {}", report.replay);
        case(&format!("{name} is stable"), (judged > 0).then(why));
        for check in &report.checks {
            case(&check.text, (!check.holds).then(|| format!("{}; {}", checked(check), report.replay)));
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

/// As commands of a GitHub workflow: an annotation for whatever does not hold.
pub fn github(report: &Report) -> String {
    let mut text = String::new();
    let title = &report.scenario.name;
    for check in report.checks.iter().filter(|check| !check.holds) {
        _ = writeln!(text, "::error title={title}::{}", checked(check));
    }
    if let Some(config) = report.results.configs.last() {
        let (verdict, Interval { low, high, .. }) = config.verdict();
        let level = match report.outcome() {
            Outcome::Ok => "notice",
            Outcome::Inconclusive => "warning",
            Outcome::Fails => "error",
        };
        _ = writeln!(
            text,
            "::{level} title={title}::{} is {}: stays down in {:.0} to {:.0} % of cases",
            config.name,
            verdict.name(),
            low * 1e2,
            high * 1e2,
        );
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
