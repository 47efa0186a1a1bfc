//! The project's own commands: `cargo xtask test`, the suite, `cargo xtask truth`, which holds the lab to what is
//! known, and the benches `overload`, `compare`, `counts` and `storm`.

mod compare;
mod counts;
mod overload;
mod storm;
mod suite;
#[cfg(test)]
mod tidy;
mod truth;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a command that could not do its work returns; `main` prints it.
type Result<T> = std::result::Result<T, Error>;

/// Any error, to be printed.
type Error = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check format, lints, tests, documentation and licences; the last line sums the tests up
    Test,
    /// Count the instructions of the hot paths, beside those that are written down
    Counts(counts::Args),
    /// Measure what is left of a service under overload, through the gateway or without it
    Overload(overload::Args),
    /// Compare what a request costs in the gateway with nginx, HAProxy and Envoy
    Compare(compare::Args),
    /// The comparison's load at a given rate
    #[command(hide = true)]
    ComparePaced(compare::PacedArgs),
    /// Put the gateway under mixed load with faults and abuse: memory stays flat, every refusal has a reason
    Storm(storm::Args),
    /// Compare the lab with what is known of queues, retries and storms
    Truth(truth::Args),
    /// The bench's service
    #[command(hide = true)]
    OverloadOrigin(overload::origin::Args),
    /// The bench's clients
    #[command(hide = true)]
    OverloadGenerator(overload::generator::Args),
}

/// The workspace's root folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace's root")
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Test => suite::run(),
        Command::Counts(args) => counts::run(&args),
        Command::Overload(args) => overload::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Compare(args) => compare::run(&args).map(|()| ExitCode::SUCCESS),
        Command::ComparePaced(args) => compare::paced(&args).map(|()| ExitCode::SUCCESS),
        Command::Storm(args) => storm::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Truth(args) => truth::run(&args),
        Command::OverloadOrigin(args) => overload::origin::run(&args).map(|()| ExitCode::SUCCESS),
        Command::OverloadGenerator(args) => overload::generator::run(&args).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
