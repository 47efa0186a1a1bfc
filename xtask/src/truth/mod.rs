//! `cargo xtask truth`: what is known about queues, retries and storms, and what the lab says of it.
//!
//! Every figure comes from a scenario as a user would write it, played by the lab's own world. A row
//! holds when the mean over seeds is within three standard errors of what is known, and the standard
//! error within 1 % of it; seeds are added until it is. Three standard errors are missed by chance once
//! in 370 rows: whoever misses is measured again, with four times as many seeds of its own, and has to
//! hold then.
//!
//! A debug build of a simulator is slow, so the command makes an optimised one of itself and runs that.

mod backoff;
mod call_graphs;
mod drawn;
mod policies;
mod queues;
mod reference;
mod retries;
mod storms;
mod table;

use std::path::Path;
use std::process::{Command, ExitCode};

use self::table::Table;
use crate::{Result, root};

#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask truth --fast")]
pub(crate) struct Args {
    /// Only what takes a second or two, as the tests do
    #[arg(long)]
    fast: bool,
    /// Only rows whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run this build, whatever it is
    #[arg(long, hide = true)]
    here: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !args.here && cfg!(debug_assertions) {
        return optimised();
    }
    let mut table = Table::new(args.only.clone(), args.fast, args.seed);
    all(&mut table);
    println!("{} ok, {} failed", table.ok, table.failed);
    Ok(if table.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn all(table: &mut Table) {
    queues::rows(table);
    policies::rows(table);
    retries::rows(table);
    call_graphs::rows(table);
    backoff::rows(table);
    storms::rows(table);
}

/// The same command, by an optimised build.
fn optimised() -> Result<ExitCode> {
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--release", "--package", "xtask"])
        .current_dir(root())
        .status()?;
    if !built.success() {
        return Err(format!("xtask does not build: {built}").into());
    }
    let this = std::env::current_exe()?;
    let target = this.parent().and_then(Path::parent).ok_or("this program lies in no target folder")?;
    let status = Command::new(target.join("release/xtask")).args(std::env::args_os().skip(1)).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_part_of_the_truth_holds() {
        let mut table = Table::new(None, true, 1);
        all(&mut table);
        assert_eq!(table.failed, 0, "see the rows above");
        assert!(table.ok > 50, "only {} rows", table.ok);
    }
}
