//! A check, as text, Markdown, JSON, JUnit and for GitHub.

use std::fmt::Write as _;

use seawall_config::Colour;
use seawall_core::lint::Severity;
use seawall_lab::report::{self, Outcome};
use seawall_lab::standard::Family;
use seawall_lab::verdict::Interval;
use serde_json::{Value, json};

use super::{About, Checked, Played};

/// What stands beside a verdict that hangs on something assumed.
fn assumed(played: &Played) -> String {
    match (played.family, played.report.assumptions.is_empty()) {
        (_, true) => String::new(),
        (Family::Described, false) => "ASSUMED".to_owned(),
        (family, false) => format!("ASSUMED {}", family.name()),
    }
}

fn share(down: &Interval) -> String {
    format!("{:.0} % ({:.0}–{:.0} %)", down.estimate * 1e2, down.low * 1e2, down.high * 1e2)
}

/// One line of the table: name, verdict, share, goodput, recovery, what was assumed.
struct Row<'a> {
    name: &'a str,
    verdict: seawall_lab::verdict::Verdict,
    down: String,
    goodput: [f64; 3],
    back: String,
    assumed: String,
}

fn rows(checked: &Checked) -> impl Iterator<Item = Row<'_>> {
    checked.played.iter().filter_map(|played| {
        let config = played.report.results.configs.last()?;
        let (verdict, down) = config.verdict();
        Some(Row {
            name: &played.report.scenario.name,
            verdict,
            down: share(&down),
            goodput: report::goodput(config),
            back: config.recovery(95).map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s")),
            assumed: assumed(played),
        })
    })
}

fn summary(checked: &Checked) -> String {
    let Checked { config, routes, upstreams, findings, .. } = checked;
    let lint = if findings.is_empty() { "; nothing to find fault with" } else { "" };
    format!("{config}: valid; {routes} routes, {upstreams} upstreams{lint}")
}

/// The outcome in a word.
fn word(checked: &Checked) -> &'static str {
    match checked.outcome() {
        Outcome::Ok => "ok",
        Outcome::Fails => "fails",
        Outcome::Inconclusive => "inconclusive",
    }
}

/// The worst first, so that a table does not hide it.
pub(super) fn text(checked: &Checked, colour: Colour) -> String {
    let mut text = String::new();
    for found in &checked.findings {
        _ = writeln!(text, "{found}");
    }
    _ = writeln!(text, "{}", summary(checked));
    let rows: Vec<Row<'_>> = rows(checked).collect();
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(8);
    if !rows.is_empty() {
        _ = writeln!(
            text,
            "\n{:width$}  {:12}  {:>18}  {:>9} {:>9} {:>9}  {:>8}",
            "", "verdict", "stays down (95 %)", "before/s", "during/s", "after/s", "back p95"
        );
    }
    for row in &rows {
        let [before, during, after] = row.goodput;
        let name = row.verdict.name();
        let verdict = report::painted(row.verdict, colour) + &" ".repeat(12_usize.saturating_sub(name.len()));
        let line = format!(
            "{:width$}  {verdict}  {:>18}  {before:>9.1} {during:>9.1} {after:>9.1}  {:>8}  {}",
            row.name, row.down, row.back, row.assumed
        );
        _ = writeln!(text, "{}", line.trim_end());
    }
    let told = checked.played.iter().filter(|played| played.family == checked.played[0].family);
    let about: Vec<String> = told
        .filter(|played| !played.report.scenario.about.contains('\n'))
        .map(|played| format!("{}: {}", played.report.scenario.name, played.report.scenario.about))
        .collect();
    if !about.is_empty() && !checked.assumptions.is_empty() {
        _ = writeln!(text, "\n{}", about.join("\n"));
    }
    for (family, assumptions) in checked.assumptions.iter().filter(|(_, sentences)| !sentences.is_empty()) {
        _ = writeln!(text);
        for sentence in assumptions {
            _ = writeln!(text, "ASSUMED {}: {sentence}", family.name());
        }
    }
    for played in &checked.played {
        for check in played.report.checks.iter().filter(|check| !check.holds) {
            _ = writeln!(text, "{}: {}", played.report.scenario.name, report::checked(check));
        }
    }
    if !checked.changes.is_empty() {
        text.push('\n');
    }
    for change in &checked.changes {
        _ = writeln!(text, "{change}");
    }
    if rows.is_empty() {
        return text;
    }
    _ = writeln!(text, "\n{}\n{}", word(checked), checked.replay);
    text
}

pub(super) fn markdown(checked: &Checked) -> String {
    let mut text = format!("### seawall check: {}\n\n{}\n", word(checked), summary(checked));
    for found in &checked.findings {
        _ = writeln!(text, "- {found}");
    }
    text += "\n| scenario | verdict | stays down (95 %) | before/s | during/s | after/s | back p95 | |\n";
    text += "|---|---|---|---|---|---|---|---|\n";
    for row in rows(checked) {
        let [before, during, after] = row.goodput;
        _ = writeln!(
            text,
            "| {} | **{}** | {} | {before:.1} | {during:.1} | {after:.1} | {} | {} |",
            row.name,
            row.verdict.name(),
            row.down,
            row.back,
            row.assumed
        );
    }
    text.push('\n');
    for (family, sentences) in &checked.assumptions {
        sentences.iter().for_each(|sentence| _ = writeln!(text, "- ASSUMED {}: {sentence}", family.name()));
    }
    checked.changes.iter().for_each(|change| _ = writeln!(text, "- {change}"));
    _ = writeln!(text, "\n`{}`", checked.replay);
    text
}

pub(super) fn json(checked: &Checked) -> Value {
    let findings = checked.findings.iter().map(|found| {
        let route = if let About::Route(name) = &found.about { Some(name) } else { None };
        json!({
            "about": found.about.to_string(),
            "route": route,
            "severity": found.severity.name(),
            "rule": found.rule,
            "happens": found.happens,
            "change": found.change,
        })
    });
    let scenarios = checked.played.iter().map(|played| {
        let mut object = played.report.json();
        object["family"] = Value::from(played.family.name());
        object["outcome"] = Value::from(match played.report.outcome() {
            Outcome::Ok => "ok",
            Outcome::Fails => "fails",
            Outcome::Inconclusive => "inconclusive",
        });
        object
    });
    let changes = checked
        .changes
        .iter()
        .map(|change| json!({ "about": change.about, "worse": change.worse, "what": change.what }));
    json!({
        "schema": 1,
        "config": checked.config,
        "outcome": word(checked),
        "findings": findings.collect::<Vec<Value>>(),
        "scenarios": scenarios.collect::<Vec<Value>>(),
        "changes": changes.collect::<Vec<Value>>(),
        "replay": checked.replay,
    })
}

/// As a JUnit file: the lint is a suite, and so is each scenario.
pub(super) fn junit(checked: &Checked) -> String {
    let reports: Vec<report::Report> = checked.played.iter().map(named).collect();
    let lint = checked.findings.iter().map(|found| {
        let failure = (found.severity == Severity::Error).then(|| found.to_string());
        (format!("{}: {}", found.about, found.rule), failure)
    });
    let changes = checked
        .changes
        .iter()
        .map(|change| (format!("compared: {}", change.about), change.worse.then(|| change.to_string())));
    let valid = std::iter::once((format!("{} is valid", checked.config), None));
    report::junit_with("check", valid.chain(lint).chain(changes), &reports)
}

/// A report whose scenario says what was assumed.
fn named(played: &Played) -> report::Report {
    let mut report = played.report.clone();
    if played.family != Family::Described {
        report.scenario.name = format!("{} ({})", report.scenario.name, played.family.name());
    }
    report
}

pub(super) fn github(checked: &Checked) -> String {
    let mut text = String::new();
    for found in &checked.findings {
        let level = match found.severity {
            Severity::Advice => "notice",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let what = report::workflow(&found.to_string());
        _ = writeln!(
            text,
            "::{level} file={},title=seawall check::{what}",
            report::workflow(&checked.config)
        );
    }
    for played in &checked.played {
        let told = report::github(&named(played));
        // The command that plays all of it again stands once, at the end.
        text.extend(told.lines().filter(|line| line.starts_with("::")).map(|line| format!("{line}\n")));
    }
    for change in &checked.changes {
        let level = if change.worse { "error" } else { "notice" };
        _ = writeln!(text, "::{level} title=seawall check::{}", report::workflow(&change.to_string()));
    }
    _ = writeln!(text, "{}", checked.replay);
    text
}
