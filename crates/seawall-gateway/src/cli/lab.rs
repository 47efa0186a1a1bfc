//! The arguments of `seawall lab`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use seawall_lab::Vary;
use seawall_lab::scenario::SEEDS_MAX;

/// What the lab is to do.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub(crate) enum LabVerb {
    /// Play a scenario, and say whether the services come back
    #[command(before_help = "Examples:\n  seawall lab run retry-storm --seeds 20\n  \
                             seawall lab run my-storm.toml --config seawall.toml --html report.html")]
    Run(PlayArgs),
    /// List the scenarios of the gallery, or those in a folder
    #[command(before_help = "Example: seawall lab list")]
    List {
        /// A folder with scenario files [default: the gallery]
        #[arg(value_name = "FOLDER")]
        folder: Option<PathBuf>,
    },
    /// Play a retry storm, naive and protected; needs nothing
    #[command(before_help = "Example: seawall lab demo")]
    Demo,
    /// Say why a seed went as it did, by playing it again without each of its conditions
    #[command(before_help = "Example: seawall lab explain retry-storm --seed 3")]
    Explain(ExplainArgs),
    /// Find how big a trigger must be until a config no longer comes back from it
    #[command(before_help = "Example: seawall lab margin retry-storm")]
    Margin(MarginArgs),
    /// Play a scenario with one value after the other under a key
    #[command(
        before_help = "Examples:\n  seawall lab sweep retry-storm --vary clients.web.rate=20..60:5\n  \
                             seawall lab sweep retry-storm --vary event.surge.factor=1.5..3:4 --csv sweep.csv"
    )]
    Sweep(SweepArgs),
}

/// What is to be played.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct CaseArgs {
    /// The scenario file, or a scenario of the gallery by its name
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenario: PathBuf,
    /// Play it with this config; `naive` for none, `protected` for every default and the clients' deadlines. Repeat to compare
    /// several on the same arrivals [default: what the scenario names]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Vec<String>,
}

/// How a scenario is to be played.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct PlayArgs {
    #[command(flatten)]
    pub(crate) case: CaseArgs,
    /// Begin with so many seeds; more are added until the verdicts are decided, unless it is one alone
    /// [default: the scenario's, 20]
    #[arg(long, value_name = "N", value_parser = seeds())]
    pub(crate) seeds: Option<u32>,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write a report for a browser to this file, too: one file, which needs nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Write the result as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the result as tables to this folder, too; it is made if it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) csv: Option<PathBuf>,
    /// Write the figure of the report to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// How to say what came of it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// Which seed is to be explained.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct ExplainArgs {
    /// The scenario file, or a scenario of the gallery by its name
    #[arg(value_name = "SCENARIO")]
    pub(crate) scenario: PathBuf,
    /// Explain it with this config; `naive` for none, `protected` for every default and the clients'
    /// deadlines
    /// [default: the first that the scenario names]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<String>,
    /// The seed [default: the first that stays down, of 20]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Write the result as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Whose margin is to be found.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct MarginArgs {
    #[command(flatten)]
    pub(crate) case: CaseArgs,
    /// Try each size of the trigger with so many seeds
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = seeds())]
    pub(crate) seeds: u32,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the result as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// What is to be varied.
#[derive(Clone, Debug, PartialEq, Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(crate) case: CaseArgs,
    /// A key of the scenario or of the configs, and N values from A to B, as in
    /// `clients.web.rate=20..80:7` or `upstream.*.limit.max=8..64:8`
    #[arg(long, value_name = "KEY=A..B:N", value_parser = Vary::parse)]
    pub(crate) vary: Vary,
    /// Play each value with so many seeds [default: the scenario's, 20]
    #[arg(long, value_name = "N", value_parser = seeds())]
    pub(crate) seeds: Option<u32>,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write the result as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the result as a table to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,
}

pub(super) fn seeds() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(SEEDS_MAX))
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
