//! `seawall lab`: plays scenarios and says what came of it.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

use seawall_config::ConfigError;
use seawall_lab::Contender;
use seawall_lab::experiment::{self, Seeds};
use seawall_lab::report::{self, Report};
use seawall_lab::scenario::Scenario;

use crate::cli::{Format, LabVerb, PlayArgs};

/// Why a command of the lab ended early.
pub(crate) enum Problem {
    /// What was given cannot be used.
    Input(Box<ConfigError>),
    /// Something could not be written.
    Output(String),
}

impl From<ConfigError> for Problem {
    fn from(error: ConfigError) -> Problem {
        Problem::Input(Box::new(error))
    }
}

/// Does what the lab is asked for; what it found, and the code to exit with.
pub(crate) fn run(verb: &LabVerb) -> Result<(String, ExitCode), Problem> {
    match verb {
        LabVerb::Run(args) => play(args),
    }
}

/// Plays a scenario.
fn play(args: &PlayArgs) -> Result<(String, ExitCode), Problem> {
    let (scenario, named) = read(&args.scenario)?;
    let base = args.scenario.parent().unwrap_or(Path::new(""));
    let contenders: Vec<Contender> = if args.config.is_empty() {
        let named = scenario.configs.iter().map(|name| Contender::named(name, &scenario, base));
        named.collect::<Result<_, _>>()?
    } else {
        let named = args.config.iter().map(|name| Contender::named(name, &scenario, Path::new("")));
        named.collect::<Result<_, _>>()?
    };
    let count = args.seeds.unwrap_or(scenario.seeds);
    let seeds = Seeds { count, first: args.seed, adds: count > 1 };
    let results = experiment::run(&scenario, &contenders, seeds, &progress());
    done();
    let mut replay = format!("seawall lab run {named} --seeds {} --seed {}", results.seeds.count, args.seed);
    for config in &args.config {
        replay += &format!(" --config {config}");
    }
    let report = Report::new(scenario, results, Vec::new(), replay);
    write(&args.json, || format!("{:#}\n", report.json()))?;
    let text = match args.format {
        Format::Text => report::text(&report),
        Format::Md => report::markdown(&report),
        Format::Json => format!("{:#}\n", report.json()),
        Format::Junit => report::junit(std::slice::from_ref(&report)),
        Format::Github => report::github(&report),
    };
    Ok((text, ExitCode::from(report.outcome().exit_code())))
}

/// A scenario by its path, and what it is called in commands.
fn read(path: &Path) -> Result<(Scenario, String), Problem> {
    let text = seawall_config::Config::text(path)?;
    Ok((Scenario::from_toml(&text, path)?, path.display().to_string()))
}

fn write(path: &Option<std::path::PathBuf>, text: impl FnOnce() -> String) -> Result<(), Problem> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text()).map_err(|error| Problem::Output(format!("{}: {error}", path.display())))
}

/// Counts on a terminal, and not in a pipe.
fn progress() -> impl Fn() + Sync {
    let terminal = std::io::stderr().is_terminal();
    let seeds = AtomicU32::new(0);
    move || {
        let seeds = seeds.fetch_add(1, Ordering::Relaxed) + 1;
        if terminal {
            eprint!("\r{seeds} seeds ");
        }
    }
}

/// Clears what [`progress`] wrote.
fn done() {
    if std::io::stderr().is_terminal() {
        eprint!("\r              \r");
    }
}
