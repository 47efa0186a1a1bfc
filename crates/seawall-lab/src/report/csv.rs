//! The report as tables for other programs.

use std::fmt::Write as _;

use super::Report;
use crate::experiment::{ConfigResult, Flow};
use crate::scenario::{PHASES, Phase};
use crate::verdict::{Fate, Interval};

/// The files of a folder, each with its name.
pub fn files(report: &Report) -> Vec<(String, String)> {
    let mut files = vec![
        ("verdicts.csv".to_owned(), verdicts(report)),
        ("seeds.csv".to_owned(), seeds(report)),
        ("goodput.csv".to_owned(), goodput(report)),
        ("edges.csv".to_owned(), edges(report)),
    ];
    for config in &report.results.configs {
        files.push((format!("timeline-{}.csv", config.name), timeline(report, config)));
    }
    files
}

fn number(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A text as one field.
fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn verdicts(report: &Report) -> String {
    let mut text =
        "config,verdict,seeds,down,down_low,down_high,goodput_before,goodput_during,goodput_after,\
                    amplification,recovery_p50_s,recovery_p95_s\n"
            .to_owned();
    for config in &report.results.configs {
        let (verdict, Interval { estimate, low, high }) = config.verdict();
        let [before, during, after] = super::goodput(config);
        let seconds = |percent| number(config.recovery(percent).map(|seconds| seconds as f64));
        _ = writeln!(
            text,
            "{},{},{},{estimate},{low},{high},{before},{during},{after},{},{},{}",
            field(&config.name),
            verdict.name(),
            config.fates.len(),
            number(config.run.amplification(Phase::Whole)),
            seconds(50),
            seconds(95),
        );
    }
    text
}

/// A fate in a word.
pub(super) const fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Overloaded => "overloaded",
        Fate::Stable => "stable",
        Fate::SlowRecovery(_) => "slow recovery",
        Fate::Metastable => "metastable",
        Fate::Broken => "broken",
    }
}

fn seeds(report: &Report) -> String {
    let mut text = "config,seed,fate,recovery_s,goodput_after\n".to_owned();
    for config in &report.results.configs {
        for (place, (fate, after)) in config.fates.iter().zip(&config.after).enumerate() {
            let seed = report.results.seeds.first.wrapping_add(place as u64);
            let recovery = number(fate.recovery().map(|seconds| seconds as f64));
            _ = writeln!(text, "{},{seed},{},{recovery},{after}", field(&config.name), word(*fate));
        }
    }
    text
}

/// The tenth, the middle and the ninetieth of a hundred seeds, by the second.
pub(super) fn band(config: &ConfigResult, second: usize) -> [f64; 3] {
    let mut values: Vec<u32> = config.goodput.iter().map(|seed| seed[second]).collect();
    values.sort_unstable();
    let rank = |share: f64| libm::round(share * (values.len().max(1) - 1) as f64) as usize;
    [0.1, 0.5, 0.9].map(|share| values.get(rank(share)).map_or(0.0, |value| f64::from(*value)))
}

fn goodput(report: &Report) -> String {
    let mut text = "second,config,p10,median,p90\n".to_owned();
    for second in 0..report.results.phases.end as usize {
        for config in &report.results.configs {
            let [low, middle, high] = band(config, second);
            _ = writeln!(text, "{second},{},{low},{middle},{high}", field(&config.name));
        }
    }
    text
}

fn edges(report: &Report) -> String {
    let mut text = "config,from,to,phase,calls,attempts,answered,failed,refused,expired\n".to_owned();
    for config in &report.results.configs {
        for (place, (from, to)) in report.results.links.iter().enumerate() {
            for (name, phase) in PHASES {
                let Some(flow) = config.run.flow(place, phase) else { continue };
                let Flow { made, attempts, answered, failed, refused, expired } = flow;
                let to = &report.scenario.services[*to].name;
                _ = writeln!(
                    text,
                    "{},{from},{to},{name},{made},{attempts},{answered},{failed},{refused},{expired}",
                    field(&config.name)
                );
            }
        }
    }
    text
}

fn timeline(report: &Report, config: &ConfigResult) -> String {
    let mut text = "second,offered,ok,degraded,failed,throttled,shed,abandoned".to_owned();
    for service in &report.scenario.services {
        for what in ["inside", "waiting", "limit", "up", "usable"] {
            _ = write!(text, ",{}_{what}", service.name);
        }
    }
    text.push('\n');
    for (second, counts) in config.timeline.iter().enumerate() {
        let crate::Counts { offered, ok, degraded, failed, throttled, shed, abandoned } = counts;
        _ = write!(text, "{second},{offered},{ok},{degraded},{failed},{throttled},{shed},{abandoned}");
        for gauges in &config.gauges {
            // A gauge is read at the end of its second.
            let gauge = gauges.get(second).copied().unwrap_or_default();
            let crate::Gauge { inside, waiting, limit, up, usable } = gauge;
            _ = write!(text, ",{inside},{waiting},{limit},{up},{usable}");
        }
        text.push('\n');
    }
    text
}
