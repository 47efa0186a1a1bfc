//! `cargo xtask counts`: instructions of the hot paths beside those that are written down.
//!
//! Valgrind counts them, so they are the same on a busy machine and on a quiet one; only another
//! toolchain or another C library changes them. Whoever makes a path dearer sees it here, and whoever
//! accepts that writes the new counts down with `--bless`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, ExitCode};

use clap::Args as Arguments;

use crate::{Result, root};

/// How far a count may be above what is written down, in percent.
const TOLERANCE: u64 = 2;
/// Operations of one benchmark: `TIMES` of `benches/benches/counts.rs`.
const TIMES: u64 = 1_000;
const FILE: &str = "benches/counts.txt";
const HEAD: &str = "\
# Instructions of one operation, by `cargo xtask counts --bless`. With another toolchain they differ.
";

#[derive(Arguments)]
pub(crate) struct Args {
    /// Write the counts down
    #[arg(long)]
    bless: bool,
}

/// Instructions by the name of what was counted.
type Counts = BTreeMap<String, u64>;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let bench = ["bench", "--quiet", "--package", "seawall-benches", "--bench", "counts"];
    let output = Command::new("cargo").args(bench).current_dir(root()).output()?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err("nothing was counted. It needs valgrind, and `cargo install --locked gungraun-runner` \
                    of the version that Cargo.toml names"
            .into());
    }
    let counted = read_output(&String::from_utf8_lossy(&output.stdout));
    let path = root().join(FILE);
    if args.bless {
        fs::write(path, write(&counted))?;
        return Ok(ExitCode::SUCCESS);
    }
    let written = read(&fs::read_to_string(path)?)?;
    let (report, is_fine) = compare(&written, &counted);
    print!("{report}");
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What gungraun prints: a line with the name, then one with its instructions.
fn read_output(output: &str) -> Counts {
    let mut counts = Counts::new();
    let mut name = String::new();
    for line in output.lines() {
        if let Some((_, title)) = line.split_once("::counts::") {
            // `benchmark`, or `benchmark case:(arguments)`.
            name = title.split(':').next().unwrap_or_default().trim().replace(' ', "::");
        } else if let Some(values) = line.trim().strip_prefix("Instructions:") {
            let value = values.split('|').next().unwrap_or_default().trim();
            if let Ok(value) = value.parse::<u64>() {
                counts.insert(name.clone(), value / TIMES);
            }
        }
    }
    counts
}

fn write(counts: &Counts) -> String {
    let mut text = HEAD.to_owned();
    for (name, count) in counts {
        let _ = writeln!(text, "{name:<40} {count:>6}"); // Writing to a string never fails.
    }
    text
}

fn read(text: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, count) = line.split_once(' ').ok_or_else(|| format!("{FILE}: `{line}` has no count"))?;
        counts.insert(name.to_owned(), count.trim().parse()?);
    }
    Ok(counts)
}

/// A line for each count, and whether none is missing or too high.
fn compare(written: &Counts, counted: &Counts) -> (String, bool) {
    let (mut report, mut is_fine) = (String::new(), true);
    let names: std::collections::BTreeSet<&String> = written.keys().chain(counted.keys()).collect();
    for name in names {
        let line = match (written.get(name), counted.get(name)) {
            (Some(before), Some(now)) => {
                let change = (*now as f64 / (*before).max(1) as f64 - 1.0) * 100.0;
                let verdict = if now * 100 > before * (100 + TOLERANCE) { "  DEARER" } else { "" };
                is_fine &= verdict.is_empty();
                format!("{name:<40} {before:>6} -> {now:>6} {change:>+7.1} %{verdict}")
            }
            (None, Some(now)) => format!("{name:<40}        -> {now:>6}  new: write it down with --bless"),
            (_, None) => {
                is_fine = false;
                format!("{name:<40} was not counted")
            }
        };
        let _ = writeln!(report, "{line}"); // Writing to a string never fails.
    }
    (report, is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
counts::counts::throttle_passes
  Instructions:                                     166992|N/A                  (*********)
  L1 Hits:                                          218161|N/A                  (*********)
counts::counts::gate_refuses shed:(Scene :: overloaded())
  Instructions:                                    1164624|1164624              (No change)
";

    #[test]
    fn what_is_written_is_what_is_read() {
        let counts = read_output(OUTPUT);
        let expected = [("throttle_passes", 166), ("gate_refuses::shed", 1_164)];
        assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)).into());
        assert_eq!(read(&write(&counts)).expect("it was just written"), counts);
    }

    #[test]
    fn what_is_dearer_or_missing_fails() {
        let counts = |count| Counts::from([("path".to_owned(), count)]);
        assert!(compare(&counts(100), &counts(102)).1);
        assert!(!compare(&counts(100), &counts(103)).1);
        assert!(!compare(&counts(100), &Counts::new()).1);
        assert!(compare(&Counts::new(), &counts(100)).1);
    }
}
