//! The command line: raw arguments become checked ones.
//!
//! **Prevents** a gateway that starts with half of what was asked: addresses, URLs and counts are
//! parsed here, and what contradicts itself is refused before anything runs. clap's errors exit
//! with 2, its help with 0.

mod lab;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::operate::Gateway;
use seawall_config::{self as config, Config, Hosts, Malformed, Url, admin_address, listen_address, units};

pub(crate) use lab::{CaseArgs, ExplainArgs, Format, LabVerb, MarginArgs, PlayArgs, SweepArgs};

/// What is to be done, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// Run the gateway.
    Run(RunArgs),
    /// Say whether a config is valid, its settings fit together, and what it protects survives.
    Check(CheckArgs),
    /// Print the JSON schema of a file.
    Schema(File),
    /// Print completions for this shell.
    Completions(Shell),
    /// Say a word to a gateway that runs.
    Ask {
        /// Which one.
        gateway: Gateway,
        /// The method.
        method: &'static str,
        /// Path and query.
        target: String,
    },
    /// Play a scenario in the lab.
    Lab(LabVerb),
}

/// How the gateway is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunArgs {
    /// What it stands in front of.
    pub(crate) target: Target,
    /// Addresses that win over the config's, also after a reload.
    pub(crate) addresses: Addresses,
}

/// What the gateway stands in front of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// What this config file says.
    File(PathBuf),
    /// These hosts, with every default.
    Upstreams(Hosts),
    /// The embedded sample service.
    Sample,
}

/// Addresses from the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct Addresses {
    /// Listen here for clients; port 0 takes a free one [default: the config's, 127.0.0.1:8080
    /// without]
    #[arg(long, value_name = "ADDR", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Listen here for operators, on loopback [default: the config's, 127.0.0.1:9090 without]
    #[arg(long, value_name = "ADDR", value_parser = admin_address)]
    pub(crate) admin: Option<SocketAddr>,
}

impl Addresses {
    /// The config with these addresses in place of its own.
    pub(crate) fn over(&self, mut config: Config) -> Config {
        config.listen = self.listen.unwrap_or(config.listen);
        if let Some(first) = config.listeners.first_mut() {
            first.address = config.listen;
        }
        config.admin.listen = self.admin.unwrap_or(config.admin.listen);
        config
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "seawall",
    version,
    about = "Keeps services standing when parts of them fail, and gets them back afterwards.",
    before_help = "Example: seawall run --upstream http://127.0.0.1:3000",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the gateway: a reverse proxy that protects what is behind it
    #[command(
        before_help = "Examples:\n  seawall run                                     before a sample service\n  \
                       seawall run --upstream http://127.0.0.1:3000    before your own\n  \
                       seawall run seawall.toml                        as a file says"
    )]
    Run(RawRun),
    /// Say whether a config is valid, whether its settings fit together, and whether what it protects
    /// survives; exits with 0 when it does, 1 when not, 2 when the config is wrong, 3 when the seeds do not tell
    #[command(before_help = "Examples:\n  seawall check seawall.toml\n  \
                             seawall check seawall.toml --scenario my-storm.toml --format junit\n  \
                             seawall check seawall.toml --compare base.json")]
    Check(CheckArgs),
    /// Print the JSON schema of the config, or of scenario files
    #[command(before_help = "Examples:\n  seawall schema > seawall.schema.json\n  \
                             seawall schema scenario > scenario.schema.json")]
    Schema {
        /// Of which file
        #[arg(value_name = "FILE", value_enum, default_value_t)]
        file: File,
    },
    /// Print completions for a shell
    #[command(before_help = "Example: seawall completions bash > /etc/bash_completion.d/seawall")]
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
    /// Stop a route's traffic, until it is let in again; only its `fallback` still answers
    #[command(before_help = "Example: seawall block orders")]
    Block(BlockArgs),
    /// Let a blocked route in again, slowly: its share grows only as long as it goes well
    #[command(before_help = "Examples:\n  seawall admit orders\n  seawall admit orders 50% --over 5m")]
    Admit(AdmitArgs),
    /// Play scenarios in the simulator
    #[command(before_help = "Example: seawall lab demo", arg_required_else_help = true)]
    Lab {
        #[command(subcommand)]
        verb: LabVerb,
    },
}

/// What is to be checked, and how.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct CheckArgs {
    /// The config file
    #[arg(value_name = "CONFIG")]
    pub(crate) config: PathBuf,
    /// Play this scenario, by its file or its name in the gallery, instead of the standard ones; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "lint")]
    pub(crate) scenario: Vec<PathBuf>,
    /// Begin with so many seeds; more are added until the verdicts are decided, unless it is one alone
    /// [default: 20]
    #[arg(long, value_name = "N", value_parser = lab::seeds(), conflicts_with = "lint")]
    pub(crate) seeds: Option<u32>,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Only validate and lint, and play nothing
    #[arg(long)]
    pub(crate) lint: bool,
    /// Say what got better or worse since the check that was written to this file by `--json`; worse exits
    /// with 1
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    /// Write the result as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// How to say what came of it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// The files that have a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum File {
    /// `seawall.toml`
    #[default]
    Config,
    /// What the lab plays
    Scenario,
}

#[derive(Debug, Args)]
struct BlockArgs {
    /// The name of the route
    #[arg(value_name = "ROUTE", value_parser = route)]
    route: String,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Debug, Args)]
struct AdmitArgs {
    /// The name of the route
    #[arg(value_name = "ROUTE", value_parser = route)]
    route: String,
    /// Up to this share of its traffic
    #[arg(value_name = "PERCENT", default_value = "100%", value_parser = percent)]
    percent: String,
    /// In this time at least
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = time)]
    over: String,
    #[command(flatten)]
    gateway: Gateway,
}

fn route(text: &str) -> Result<String, Malformed> {
    config::reader::check_name(text)
}

fn percent(text: &str) -> Result<String, Malformed> {
    match units::percentage_or_number(text)? {
        0 => Err(Malformed::new("`0%` is a block: use `seawall block`")),
        _ => Ok(text.trim_end_matches('%').to_owned()),
    }
}

fn time(text: &str) -> Result<String, Malformed> {
    units::duration(text).map(|_| text.to_owned())
}

#[derive(Debug, Args)]
struct RawRun {
    /// The config file
    #[arg(value_name = "CONFIG", conflicts_with = "upstream")]
    config: Option<PathBuf>,
    /// Stand in front of this host with every default; repeat for several hosts of one service
    #[arg(long, value_name = "URL", value_parser = Url::parse)]
    upstream: Vec<Url>,
    #[command(flatten)]
    addresses: Addresses,
}

/// Parses and checks the arguments, the program's name first. An error also stands for a request
/// for help; clap prints it and knows its exit code.
pub(crate) fn parse<A>(arguments: impl IntoIterator<Item = A>) -> Result<Command, clap::Error>
where
    A: Into<OsString> + Clone,
{
    match Cli::try_parse_from(arguments)?.verb {
        Verb::Run(raw) => Ok(Command::Run(raw.checked()?)),
        Verb::Check(args) => Ok(Command::Check(args)),
        Verb::Schema { file } => Ok(Command::Schema(file)),
        Verb::Completions { shell } => Ok(Command::Completions(shell)),
        Verb::Block(BlockArgs { route, gateway }) => {
            Ok(Command::Ask { gateway, method: "PUT", target: format!("/api/block/{route}") })
        }
        Verb::Admit(AdmitArgs { route, percent, over, gateway }) => {
            let target = format!("/api/block/{route}?percent={percent}&over={over}");
            Ok(Command::Ask { gateway, method: "DELETE", target })
        }
        Verb::Lab { verb } => Ok(Command::Lab(verb)),
    }
}

/// The completions for this shell.
pub(crate) fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "seawall", &mut script);
    script
}

impl RawRun {
    fn checked(self) -> Result<RunArgs, clap::Error> {
        let target = match self.config {
            Some(path) => Target::File(path),
            None if self.upstream.is_empty() => Target::Sample,
            None => Target::Upstreams(Hosts::new(self.upstream).map_err(|malformed| {
                Cli::command().error(ErrorKind::ValueValidation, format!("--upstream: {malformed}"))
            })?),
        };
        Ok(RunArgs { target, addresses: self.addresses })
    }
}

#[cfg(test)]
mod tests;
