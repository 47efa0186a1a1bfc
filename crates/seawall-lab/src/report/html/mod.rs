//! The report for a browser: one file that needs nothing else.
//!
//! In the order of what a reader asks: the verdict and why, what was asserted, how it went with each config,
//! where it breaks, who called whom, how one seed went, and what was assumed.
//!
//! **Mechanics.** All pictures are SVG, so that it can be read without scripts; with them, charts can be
//! explored. Names come from files of others: maud escapes them, and what scripts read is JSON in which nothing
//! can end its element. A policy in the page forbids whatever comes from elsewhere.
//!
//! **Edges.** Lines have at most so many points, and tables and graphs at most so many rows, however long a
//! run is: a report stays below 300 KB.

mod chart;
mod graph;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value;

use super::csv::{band, word};
use super::formats::share;
use super::{Report, goodput};
use crate::experiment::{ConfigResult, Flow};
use crate::explain::Explanation;
use crate::map::Map;
use crate::outcomes::{Counts, Gauge};
use crate::scenario::Phase;
use crate::telling;
use crate::verdict::Verdict;
use chart::{Chart, Line, Look};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const UPLOT: &str = include_str!("../../../vendor/uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("../../../vendor/uplot/uPlot.min.css");

/// What the licence of uPlot asks for.
const NOTICE: &str = "/*! uPlot 1.6.32, Copyright (c) 2022 Leon Sorokin, MIT License */\n";

/// uPlot without its first line, an address that a page of ours need not have.
fn uplot() -> &'static str {
    UPLOT.split_once('\n').map_or(UPLOT, |(_, script)| script)
}

/// The most rows of a table.
const ROWS_MAX: usize = 40;
/// The most configs and services that have charts.
const CHARTS_MAX: usize = 4;

/// What a page shows besides the report.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// Where it breaks.
    pub map: Option<Map>,
    /// Why a seed stayed down.
    pub why: Option<Explanation>,
}

/// As a page.
pub fn html(report: &Report, details: &Details) -> String {
    let configs = &report.results.configs;
    let top = configs.iter().flat_map(|config| goodput_lines(report, config)).fold(1.0, |top, line| {
        chart::binned(&line.values, chart::bin(line.values.len())).into_iter().fold(top, f64::max)
    });
    let storms: Vec<Chart> = (configs.iter().take(CHARTS_MAX).enumerate())
        .map(|(place, config)| storm(report, config, format!("storm-{place}"), top))
        .collect();
    let lives: Vec<(String, Chart)> = configs
        .iter()
        .take(2)
        .enumerate()
        .flat_map(|(place, config)| timelines(report, config, place))
        .collect();
    let data = Value::from(
        storms.iter().chain(lives.iter().map(|(_, chart)| chart)).map(Chart::data).collect::<Vec<_>>(),
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content="default-src 'none';style-src 'unsafe-inline';script-src 'unsafe-inline'";
                title { (report.scenario.name) " · Seawall" }
                style { (PreEscaped(UPLOT_STYLE)) (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (verdicts(report, details))
                    (assertions(report))
                    (storm_section(report, &storms))
                    (map_section(report, details))
                    (edges(report))
                    (timeline_section(report, &lives))
                    (assumptions(report))
                }
                script type="application/json" id="data" { (chart::embedded(&data)) }
                script { (PreEscaped(NOTICE)) (PreEscaped(uplot())) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// The figure of goodput alone, as SVG: the first and the last config.
pub fn svg(report: &Report) -> String {
    let configs = &report.results.configs;
    let mut lines = Vec::new();
    let last = configs.len().saturating_sub(1);
    for (place, colour) in [(0, "--c2"), (last, "--c1")] {
        if let Some(config) = configs.get(place).filter(|_| place == last || last > 0) {
            let mut some = goodput_lines(report, config);
            some.retain(|line| line.look != Look::Dashed);
            for line in &mut some {
                line.colour = colour;
                line.label.clone_from(&config.name);
            }
            lines.extend(some);
        }
    }
    let chart = Chart {
        id: String::new(),
        axis: "answers in time, a second",
        unit: "/s",
        alternative: alternative(report, configs),
        lines,
        shade: shade(report),
        top: None,
    };
    let svg = chart.svg(true).into_string();
    format!("{svg}\n")
}

fn alternative(report: &Report, configs: &[ConfigResult]) -> String {
    let told: Vec<String> = (configs.iter())
        .map(|config| {
            let [before, during, after] = goodput(config);
            format!(
                "{}: {before:.0} a second before, {during:.0} during and {after:.0} after the trigger",
                config.name
            )
        })
        .collect();
    format!("Goodput in {}. {}.", report.scenario.name, told.join(". "))
}

fn shade(report: &Report) -> (u64, u64) {
    let phases = report.results.phases;
    if report.scenario.events.is_empty() { (0, 0) } else { (phases.begins, phases.ends) }
}

const fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Stable => "good",
        Verdict::Inconclusive => "open",
        Verdict::Overloaded | Verdict::Metastable | Verdict::Vulnerable => "bad",
    }
}

/// A sign beside the word, for those who do not see its colour.
const fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Stable => "✓ ",
        Verdict::Inconclusive => "? ",
        Verdict::Overloaded | Verdict::Metastable | Verdict::Vulnerable => "✕ ",
    }
}

/// A verdict in sentences.
fn why(config: &ConfigResult) -> String {
    let (verdict, down) = config.verdict();
    let [before, _, after] = goodput(config);
    let seeds = config.fates.len();
    let attempts = config.run.amplification(Phase::After).unwrap_or_default();
    let seeds = if seeds == 1 { "one seed".to_owned() } else { format!("{seeds} seeds") };
    let stays = format!("It stays down in {} of {seeds}. ", share(&down));
    let served = format!(
        "After the trigger it answers {after:.1} calls a second in time; before, it was {before:.1}. "
    );
    let tries = format!("Each call takes {attempts:.2} attempts then.");
    match verdict {
        Verdict::Overloaded => {
            format!("It fails without any trigger: {before:.1} calls a second are answered in time.")
        }
        Verdict::Inconclusive => format!("{stays}{served}More seeds would tell."),
        Verdict::Stable => {
            let back = match config.recovery(95) {
                Some(0) => "It is back as soon as the trigger is over. ".to_owned(),
                Some(seconds) => format!("It is back within {seconds} s in 95 of 100 cases. "),
                None => String::new(),
            };
            format!("{stays}{back}{served}")
        }
        Verdict::Metastable | Verdict::Vulnerable => format!("{stays}{served}{tries}"),
    }
}

fn verdicts(report: &Report, details: &Details) -> Markup {
    let events = report.scenario.events.iter().take(6);
    let told: Vec<String> = events.map(|event| telling::event(&report.scenario, event)).collect();
    html! {
        header {
            h1 { (report.scenario.name) }
            p.lead { (report.scenario.about.chars().take(2_000).collect::<String>()) }
            @if !told.is_empty() { p.note { "The trigger, at " (report.results.phases.begins) " s: " (told.join("; ")) "." } }
        }
        section aria-label="Verdicts" {
            div.verdicts {
                @for (place, config) in report.results.configs.iter().enumerate() {
                    @let verdict = config.verdict().0;
                    div class={ "verdict " (class(verdict)) } {
                        h3 { (config.name) }
                        p.word { (sign(verdict)) (verdict.name()) }
                        p { (why(config)) }
                        @if let Some(change) = report.change(place) {
                            p.note {
                                "Against " (report.results.configs[0].name) ", on the same arrivals: "
                                (format!("{:+.1}/s ({:+.1} to {:+.1}, 95 %)", change.estimate, change.low, change.high))
                                " after the trigger."
                            }
                        }
                    }
                }
            }
            @if let Some(why) = &details.why { (explanation(why)) }
        }
    }
}

fn explanation(why: &Explanation) -> Markup {
    let matters: Vec<_> = why.without.iter().filter(|other| other.matters(why.fate)).take(12).collect();
    html! {
        h3 { "Why seed " (why.seed) " stays down under " (why.config) }
        ol.chain {
            @for moment in why.chain.iter().take(ROWS_MAX) {
                li { time { (moment.second) " s" } span { (moment.what) } }
            }
        }
        p { "The same seed again, each time without one of its conditions. Any of these would have been enough:" }
        table.cards {
            thead { tr { th.text { "without" } th { "goodput after, of its control" } th { "fate" } } }
            tbody {
                @for other in &matters {
                    tr {
                        td { (other.what) }
                        td data-label="goodput after" { (format!("{:.0} %", other.after * 1e2)) }
                        td data-label="fate" { (word(other.fate)) }
                    }
                }
                @if matters.is_empty() { tr { td colspan="3" { "no single one: each time it goes the same way" } } }
            }
        }
        p.note {
            "What could have been done: "
            @for (place, other) in why.prevented.iter().take(6).enumerate() {
                @if place > 0 { "; " }
                (other.what) " (" (word(other.fate)) ", " (format!("{:.0} %", other.after * 1e2)) ")"
            }
            "."
        }
    }
}

fn assertions(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Assertions" }
            @if report.checks.is_empty() { p.note { "The scenario has none." } } @else {
                table.cards {
                    thead { tr { th.text { "assertion" } th { "measured" } th { "against" } th { "" } } }
                    tbody {
                        @for check in report.checks.iter().take(ROWS_MAX) {
                            tr {
                                td { code { (check.text) } }
                                td data-label="measured" { (check.side(check.left)) }
                                td data-label="against" { (check.side(check.right)) }
                                td data-label="" {
                                    @if check.holds { span.word.good style="font-size:1rem" { "✓ holds" } }
                                    @else { span.word.bad style="font-size:1rem" { "✕ fails" } }
                                }
                            }
                        }
                    }
                }
                @if report.checks.len() > ROWS_MAX { p.note { "and " (report.checks.len() - ROWS_MAX) " more" } }
            }
        }
    }
}

/// Calls begun in the first seed, and goodput: the band of seeds and its middle.
fn goodput_lines(report: &Report, config: &ConfigResult) -> Vec<Line> {
    let seconds = report.results.phases.end as usize;
    // Chance within a second is no band.
    let smooth = 5.min(seconds.max(1));
    let mut bands = [const { Vec::new() }; 3];
    for second in 0..seconds {
        // Looking back, so that nothing seems to begin before it does.
        let from = (second + 1).saturating_sub(smooth);
        let mut sums = [0.0; 3];
        for second in from..=second {
            band(config, second).iter().zip(&mut sums).for_each(|(value, sum)| *sum += value);
        }
        bands.iter_mut().zip(sums).for_each(|(line, sum)| line.push(sum / (second + 1 - from) as f64));
    }
    let [low, middle, high] = bands;
    let offered: Vec<f64> = config.timeline.iter().map(|counts| f64::from(counts.offered)).collect();
    let smoothed = (0..offered.len()).map(|second| {
        let slice = &offered[(second + 1).saturating_sub(smooth)..=second];
        slice.iter().sum::<f64>() / slice.len() as f64
    });
    let line = |label: String, colour, values, look| Line { label, colour, values, look };
    vec![
        line("10 to 90 of 100 seeds".to_owned(), "--band", low, Look::Low),
        line("upper".to_owned(), "--band", high, Look::High),
        line("offered, first seed".to_owned(), "--grey", smoothed.collect(), Look::Dashed),
        line(format!("goodput of {}, median", config.name), "--c1", middle, Look::Plain),
    ]
}

fn storm(report: &Report, config: &ConfigResult, id: String, top: f64) -> Chart {
    Chart {
        id,
        axis: "calls a second",
        unit: "/s",
        alternative: alternative(report, std::slice::from_ref(config)),
        lines: goodput_lines(report, config),
        shade: shade(report),
        top: Some(top),
    }
}

fn storm_section(report: &Report, storms: &[Chart]) -> Markup {
    html! {
        section {
            h2 { "Goodput" }
            p.note { "Answers in time, full or degraded, on the same arrivals and the same scale." }
            div.pair {
                @for (config, chart) in report.results.configs.iter().zip(storms) {
                    @let verdict = config.verdict().0;
                    (chart.figure(&format!("{}: {}", config.name, verdict.name()), "Means of the last five seconds."))
                }
            }
        }
    }
}

fn map_section(report: &Report, details: &Details) -> Markup {
    html! {
        section {
            h2 { "Load × trigger" }
            @match &details.map {
                None => { p.note { "There is none: nothing happens in the scenario, or its calls are recorded." } },
                Some(map) => {
                    p.note {
                        "The share of " (map.seeds) (if map.seeds == 1 { " seed" } else { " seeds" })
                        " that stays down, with loads and triggers in times of the scenario's own, which has a frame. "
                        "“over”: fails without any trigger."
                    }
                    div.pair {
                        @for (config, rows) in report.results.configs.iter().zip(&map.configs).take(CHARTS_MAX) {
                            figure { h3 { (config.name) } (graph::verdicts(map, rows, &config.name)) }
                        }
                    }
                },
            }
        }
    }
}

fn edges(report: &Report) -> Markup {
    let links = &report.results.links;
    let of = |flow: &Flow, part: f64| {
        if flow.made > 0.0 { format!("{:.1} %", (part / flow.made).min(1.0) * 1e2) } else { "–".to_owned() }
    };
    html! {
        section {
            h2 { "Who calls whom" }
            p.note { "Calls a second while the trigger lasts, and the share of them that is answered. Calls are counted where they end." }
            div.pair {
                @for config in report.results.configs.iter().take(2) {
                    @if let Some(graph) = graph::calls(report, config) { figure { h3 { (config.name) } (graph) } }
                }
            }
            table.cards {
                thead {
                    tr {
                        th.text { "from → to, config" } th { "calls/s before" } th { "calls/s during" } th { "attempts per call" }
                        th { "answered" } th { "failed" } th { "refused" } th { "given up" } th { "answered after" }
                    }
                }
                tbody {
                    @for (place, (from, to)) in links.iter().enumerate().take(ROWS_MAX / report.results.configs.len().max(1)) {
                        @for config in &report.results.configs {
                            @let at = |phase| config.run.flow(place, phase).unwrap_or_default();
                            @let (before, flow, after) = (at(Phase::Before), at(Phase::During), at(Phase::After));
                            tr {
                                td { (from) " → " (report.scenario.services[*to].name) ", " (config.name) }
                                td data-label="calls/s before" { (format!("{:.1}", before.made)) }
                                td data-label="calls/s during" { (format!("{:.1}", flow.made)) }
                                td data-label="attempts per call" { (format!("{:.2}", flow.attempts / flow.made.max(1e-9))) }
                                td data-label="answered" { (of(&flow, flow.answered)) }
                                td data-label="failed" { (of(&flow, flow.failed)) }
                                td data-label="refused" { (of(&flow, flow.refused)) }
                                td data-label="given up" { (of(&flow, flow.expired)) }
                                td data-label="answered after" { (of(&after, after.answered)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

type Count = fn(&Counts) -> u32;

/// How the first seed went: where calls ended, and what the services held.
fn timelines(report: &Report, config: &ConfigResult, place: usize) -> Vec<(String, Chart)> {
    let over = |count: fn(&Counts) -> u32| {
        config.timeline.iter().map(|counts| f64::from(count(counts))).collect::<Vec<f64>>()
    };
    let kinds: [(&str, &'static str, Count); 6] = [
        ("answered", "--c1", |counts| counts.ok),
        ("degraded", "--c6", |counts| counts.degraded),
        ("given up", "--c2", |counts| counts.abandoned),
        ("failed", "--c4", |counts| counts.failed),
        ("refused, capacity", "--c5", |counts| counts.shed),
        ("refused, quota", "--c3", |counts| counts.throttled),
    ];
    let line =
        |label: &str, colour, values| Line { label: label.to_owned(), colour, values, look: Look::Plain };
    let ends = kinds.iter().map(|(label, colour, count)| line(label, *colour, over(*count)));
    let ends: Vec<Line> = ends.filter(|line| line.values.iter().any(|value| *value > 0.0)).collect();
    let mut busiest: Vec<usize> = (0..config.gauges.len()).collect();
    let most = |place: &usize| config.gauges[*place].iter().map(|gauge| gauge.inside).max().unwrap_or(0);
    busiest.sort_by_key(|place| (std::cmp::Reverse(most(place)), *place));
    let colours = ["--c1", "--c2", "--c3", "--c4"];
    let mut held = Vec::new();
    for (of, colour) in busiest.into_iter().take(CHARTS_MAX).zip(colours) {
        let name = &report.scenario.services[of].name;
        let read = |read: fn(&Gauge) -> u32| {
            config.gauges[of].iter().map(|gauge| f64::from(read(gauge))).collect::<Vec<f64>>()
        };
        held.push(line(&format!("inside {name}"), colour, read(|gauge| gauge.inside)));
        let limit = read(|gauge| gauge.limit);
        if limit.iter().any(|limit| *limit > 0.0) && held.len() < 8 {
            held.push(Line { look: Look::Dashed, ..line(&format!("limit of {name}"), colour, limit) });
        }
    }
    let seed = report.results.seeds.first;
    let chart = |kind: &str, axis, unit, alternative: String, lines| Chart {
        id: format!("{kind}-{place}"),
        axis,
        unit,
        alternative,
        lines,
        shade: shade(report),
        top: None,
    };
    let name = &config.name;
    vec![
        (
            format!("{name}: how calls ended"),
            chart(
                "ends",
                "calls a second",
                "/s",
                format!("How the calls of seed {seed} ended under {name}, by the second"),
                ends,
            ),
        ),
        (
            format!("{name}: requests in services"),
            chart(
                "held",
                "requests",
                "",
                format!("Requests in the services in seed {seed} under {name}, by the second"),
                held,
            ),
        ),
    ]
}

fn timeline_section(report: &Report, charts: &[(String, Chart)]) -> Markup {
    html! {
        section {
            h2 { "One seed: " (report.results.seeds.first) }
            div.pair { @for (title, chart) in charts { (chart.figure(title, "By the second, as it happened.")) } }
        }
    }
}

fn assumptions(report: &Report) -> Markup {
    let scenario = &report.scenario;
    html! {
        section {
            h2 { "Assumptions" }
            ul.plain {
                @for assumption in report.assumptions.iter().take(ROWS_MAX) { li { "ASSUMED: " (assumption) } }
                @for service in scenario.services.iter().take(ROWS_MAX) {
                    li {
                        (service.name) ": " (service.replicas) (if service.replicas == 1 { " replica, " } else { " replicas, " })
                        @match service.model.workers { Some(workers) => { (workers) " workers each" }, None => { "no bound of workers" } }
                        ", work of " (service.model.time.mean()) " in the mean"
                        @if service.model.slope > seawall_core::time::Span::ZERO { ", and " (service.model.slope) " more for each request inside" }
                    }
                }
                @for clients in scenario.clients.iter().take(ROWS_MAX) {
                    li {
                        (clients.name) ": up to " (clients.retry.attempts) (if clients.retry.attempts == 1 { " attempt" } else { " attempts" })
                        @if let Some(deadline) = clients.deadline { ", waits " (deadline) " in all" }
                        @if let Some(each) = clients.retry.per_attempt { ", " (each) " each time" }
                    }
                }
                li { "Measured from " (report.results.phases.warm) " s on; “after” is the second half of what follows the trigger." }
            }
            p.note {
                (report.results.seeds.count) (if report.results.seeds.count == 1 { " seed from " } else { " seeds from " }) (report.results.seeds.first) " on, " (report.results.events) " events, fingerprint "
                code { (format!("{:016x}", report.results.fingerprint)) } ". The same command gives the same page:"
            }
            code.replay { (report.replay) }
        }
    }
}

#[cfg(test)]
mod tests;
