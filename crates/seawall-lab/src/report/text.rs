//! The report for a terminal: two sparklines and one word for each config first, the command that plays
//! it again last.

use std::fmt::Write as _;

use seawall_config::Colour;

use super::{Check, Report, goodput};
use crate::experiment::ConfigResult;
use crate::scenario::Phase;
use crate::verdict::{Interval, Verdict};

/// The width of a sparkline, in characters.
const SPARK_WIDTH: usize = 48;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Values over time in one line of characters, full height at `top`.
pub fn spark(values: &[f64], top: f64) -> String {
    let width = SPARK_WIDTH.min(values.len()).max(1);
    let mut line = String::new();
    for column in 0..width {
        let (from, to) = (column * values.len() / width, (column + 1) * values.len() / width);
        let slice = &values[from..to.max(from)];
        let mean = slice.iter().sum::<f64>() / slice.len().max(1) as f64;
        let height = (mean / top.max(1e-9) * 7.0 + 0.5).clamp(0.0, 7.0);
        line.push(BARS[height as usize]);
    }
    line
}

/// The mean over seeds of answers in time, by the second.
pub(super) fn means(config: &ConfigResult) -> Vec<f64> {
    let seconds = config.goodput.first().map_or(0, Vec::len);
    let mean = |second: usize| {
        let sum: f64 = config.goodput.iter().map(|seed| f64::from(seed[second])).sum();
        sum / config.goodput.len().max(1) as f64
    };
    (0..seconds).map(mean).collect()
}

/// A verdict's word, in the colour of a terminal.
pub fn painted(verdict: Verdict, colour: Colour) -> String {
    let code = match verdict {
        Verdict::Stable => "32",
        Verdict::Inconclusive => "33",
        Verdict::Overloaded | Verdict::Metastable | Verdict::Vulnerable => "31",
    };
    match colour {
        Colour::Always => format!("\x1b[1;{code}m{}\x1b[0m", verdict.name()),
        Colour::Never => verdict.name().to_owned(),
    }
}

/// As text.
pub fn text(report: &Report, colour: Colour) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| _ = writeln!(text, "{line}");
    let results = &report.results;
    let width = results.configs.iter().map(|config| config.name.len()).max().unwrap_or(0).max(7);
    let offered: Vec<f64> = (results.configs.first())
        .map(|config| config.timeline.iter().map(|counts| f64::from(counts.offered)).collect())
        .unwrap_or_default();
    let top = offered.iter().copied().fold(1.0, f64::max);
    line(format_args!("{:width$}  {}", "offered", spark(&offered, top)));
    for config in &results.configs {
        let sparks = spark(&means(config), top);
        let word = painted(config.verdict().0, colour);
        line(format_args!("{:width$}  {sparks}  {word}", config.name));
    }
    line(format_args!(""));
    line(format_args!(
        "{:width$}  {:>22}  {:>10} {:>10} {:>10}  {:>9} {:>9}  {:>9}",
        "", "stays down (95 %)", "before/s", "during/s", "after/s", "p99 after", "back p95", "attempts"
    ));
    for config in &results.configs {
        row(&mut line, width, config);
    }
    line(format_args!(""));
    for (place, config) in results.configs.iter().enumerate() {
        if let Some(Interval { estimate, low, high }) = report.change(place) {
            let first = &results.configs[0].name;
            line(format_args!(
                "{} serves {estimate:+.1}/s ({low:+.1} to {high:+.1}) after the trigger, against {first}, on the same arrivals",
                config.name
            ));
        }
    }
    for check in &report.checks {
        line(format_args!("{}", checked(check)));
    }
    for assumption in &report.assumptions {
        line(format_args!("ASSUMED: {assumption}"));
    }
    line(format_args!(
        "{}: {} seeds, {} events, fingerprint {:016x}; goodput is answers in time, a second",
        report.scenario.name, results.seeds.count, results.events, results.fingerprint
    ));
    line(format_args!("{}", report.replay));
    text
}

fn row(line: &mut impl FnMut(std::fmt::Arguments<'_>), width: usize, config: &ConfigResult) {
    let Interval { estimate, low, high } = config.verdict().1;
    let down = format!("{:.0} % ({:.0}–{:.0} %)", estimate * 1e2, low * 1e2, high * 1e2);
    let [before, during, after] = goodput(config);
    let p99 = config.run.latency(0.99, Phase::After, None);
    let p99 = p99.map_or_else(|| "-".to_owned(), |seconds| format!("{:.0} ms", seconds * 1e3));
    let back = config.recovery(95).map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s"));
    line(format_args!(
        "{:width$}  {down:>22}  {before:>10.1} {during:>10.1} {after:>10.1}  {p99:>9} {back:>9}  {:>8.2}×",
        config.name,
        config.run.amplification(Phase::Whole).unwrap_or_default(),
    ));
}

/// An assertion in a line.
pub fn checked(check: &Check) -> String {
    let word = if check.holds { "holds" } else { "FAILS" };
    format!("{word}  {}  ({} against {})", check.text, check.side(check.left), check.side(check.right))
}
