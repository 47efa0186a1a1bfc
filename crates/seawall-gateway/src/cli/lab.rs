//! The arguments of `seawall lab`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use seawall_lab::scenario::SEEDS_MAX;

/// What the lab is to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum LabVerb {
    /// Play a scenario, and say whether the services come back
    #[command(before_help = "Example: seawall lab run scenarios/retry-storm.toml --seeds 20")]
    Run(PlayArgs),
}

/// What is to be played.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct PlayArgs {
    /// The scenario file
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenario: PathBuf,
    /// Play it with this config; `naive` for none, `protected` for every default. Repeat to compare
    /// several on the same arrivals [default: what the scenario names]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Vec<String>,
    /// Begin with so many seeds; more are added until the verdicts are decided, unless it is one alone
    /// [default: the scenario's, 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(SEEDS_MAX)))]
    pub(crate) seeds: Option<u32>,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the result as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// How to say what came of it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// How to say what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a terminal
    #[default]
    Text,
    /// Markdown
    Md,
    /// One JSON object
    Json,
    /// JUnit XML
    Junit,
    /// Commands of a GitHub workflow
    Github,
}
