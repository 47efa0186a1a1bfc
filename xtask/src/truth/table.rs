//! The table: what, expected, got, verdict.

use std::time::Instant;

use super::drawn::{Estimate, Experiment, Groups, Reading};

/// Standard errors within which a mean has to be.
const ERRORS: f64 = 3.0;
/// The standard error, as a share of what is expected.
const PRECISION: f64 = 0.01;
/// The relative error of what has no chance in it.
const EXACT: f64 = 1e-6;
/// Seeds to begin with, to add at a time, and at most.
const SEEDS: u64 = 16;
const SEEDS_MAX: u64 = 512;

pub(super) struct Table {
    only: Option<String>,
    pub(super) fast: bool,
    seed: u64,
    pub(super) ok: u32,
    pub(super) failed: u32,
}

/// A figure of an experiment.
pub(super) struct Figure {
    pub(super) name: String,
    pub(super) exact: f64,
    pub(super) read: Reading,
}

pub(super) fn figure(name: &str, exact: f64, read: Reading) -> Figure {
    Figure { name: name.to_owned(), exact, read }
}

impl Table {
    pub(super) fn new(only: Option<String>, fast: bool, seed: u64) -> Table {
        Table { only, fast, seed, ok: 0, failed: 0 }
    }

    /// Whether a row of this name was asked for.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    pub(super) fn section(&self, name: &str) {
        println!("{name}");
    }

    /// The first seed.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// A row.
    pub(super) fn row(&mut self, name: &str, expected: &str, got: &str, holds: bool) {
        *if holds { &mut self.ok } else { &mut self.failed } += 1;
        println!("  {name:<52} {expected:>16} {got:>26}  {}", if holds { "ok" } else { "FAILED" });
    }

    /// What has no chance in it.
    pub(super) fn exact(&mut self, name: &str, expected: f64, got: f64) {
        if self.wants(name) {
            let holds = (got - expected).abs() <= EXACT * expected.abs().max(1e-300);
            self.row(name, &number(expected), &number(got), holds);
        }
    }

    /// What must be within bounds.
    pub(super) fn within(&mut self, name: &str, bounds: std::ops::RangeInclusive<f64>, got: f64) {
        let expected = format!("{}..{}", number(*bounds.start()), number(*bounds.end()));
        self.row(name, &expected, &number(got), bounds.contains(&got));
    }

    /// Plays an experiment until each figure is known well enough, and compares.
    pub(super) fn compare(&mut self, name: &str, experiment: &Experiment, figures: Vec<Figure>) {
        if !self.wants(name) {
            return;
        }
        let begun = Instant::now();
        let (mut estimates, mut seeds) = measure(experiment, &figures, self.seed, 0);
        if figures.iter().zip(&estimates).any(|(figure, got)| !holds(figure.exact, *got)) {
            (estimates, seeds) = measure(experiment, &figures, self.seed + 1_000_000, 4 * seeds);
        }
        for (figure, got) in figures.iter().zip(estimates) {
            let cells = format!("{} ± {}", number(got.mean), number(got.error));
            let name = format!("{name} {}", figure.name);
            self.row(&name, &number(figure.exact), &cells, holds(figure.exact, got));
        }
        if !self.fast {
            eprintln!("    {seeds} seeds, {:.1} s", begun.elapsed().as_secs_f64());
        }
    }
}

fn holds(exact: f64, got: Estimate) -> bool {
    let near = (got.mean - exact).abs() <= ERRORS * got.error + EXACT * exact.abs();
    // What is next to never cannot be known to 1 % of itself.
    let rare = exact.abs() < 1e-4 && got.mean.abs() < 3e-4;
    rare || near && got.error <= PRECISION * exact.abs()
}

fn measure(experiment: &Experiment, figures: &[Figure], first: u64, least: u64) -> (Vec<Estimate>, u64) {
    let (mut groups, mut seeds) = (Groups::new(), 0);
    loop {
        let more = SEEDS.max(seeds / 2 / SEEDS * SEEDS).max(if seeds == 0 { least } else { 0 });
        groups.play(experiment, first + seeds..first + seeds + more);
        seeds += more;
        let estimates: Vec<Estimate> = figures.iter().map(|figure| groups.estimate(&figure.read)).collect();
        let known = figures
            .iter()
            .zip(&estimates)
            .all(|(figure, got)| got.error <= PRECISION * figure.exact.abs() || figure.exact.abs() < 1e-4);
        if known || seeds >= SEEDS_MAX {
            return (estimates, seeds);
        }
    }
}

/// Six digits that matter.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let digits = (5 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
