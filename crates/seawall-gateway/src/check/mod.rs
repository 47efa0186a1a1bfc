//! `seawall check`: whether a config is valid, whether its settings fit together, and whether what it
//! protects survives what happens to every service sooner or later.
//!
//! **Mechanics.** Validate, look for what the gateway would not start without, lint, then play the [standard scenarios](seawall_lab::standard), or those that are
//! named, with the user's own config. All formats are views of one [`Checked`].

mod compare;
mod composition;
pub(crate) mod ground;
mod views;
mod wiring;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use seawall_config::{Colour, Config, ConfigError};
use seawall_core::lint::{Finding, Severity};
use seawall_lab::experiment::{self, Seeds};
use seawall_lab::report::{Outcome, Report};
use seawall_lab::standard::{Family, standard};
use seawall_lab::{Case, Contender};

use crate::cli::{CheckArgs, Format};
use crate::lab::{Problem, Progress, shell, write};
use crate::tls;

/// A scenario and what came of it.
struct Played {
    /// What was assumed of services.
    family: Family,
    report: Report,
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum About {
    /// The quotas over all routes.
    Gateway,
    /// `[identity]`.
    Identity,
    Route(String),
    Upstream(String),
    /// A file that the config names.
    File(String),
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            About::Gateway => f.write_str("gateway"),
            About::Identity => f.write_str("identity"),
            About::Route(name) => write!(f, "route {name}"),
            About::Upstream(name) => write!(f, "upstream {name}"),
            About::File(name) => write!(f, "file {name}"),
        }
    }
}

/// What is to be found fault with, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    about: About,
    /// The stable name of the rule.
    rule: &'static str,
    severity: Severity,
    happens: String,
    /// What to change.
    change: String,
}

impl Found {
    /// What the lint finds of a route.
    fn of_route(name: &str, finding: Finding) -> Found {
        let Finding { rule, severity, happens, change } = finding;
        Found { about: About::Route(name.to_owned()), rule: rule.code(), severity, happens, change }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { about, rule, severity, happens, change } = self;
        write!(f, "{about}: {} [{rule}]: {happens}; {change}", severity.name())
    }
}

/// What came of a check.
struct Checked {
    /// The config's path.
    config: String,
    routes: usize,
    upstreams: usize,
    findings: Vec<Found>,
    played: Vec<Played>,
    /// What was taken for granted, in sentences, by family.
    assumptions: Vec<(Family, Vec<String>)>,
    /// What got better and what got worse since the base.
    changes: Vec<compare::Change>,
    /// The command that does it again.
    replay: String,
}

impl Checked {
    fn outcome(&self) -> Outcome {
        let lint = self.findings.iter().any(|found| found.severity == Severity::Error);
        let worse = self.changes.iter().any(|change| change.worse);
        let failed = if lint || worse { Outcome::Fails } else { Outcome::Ok };
        self.played.iter().map(|played| played.report.outcome()).fold(failed, Outcome::max)
    }
}

/// What was found, in the format that was asked for, and the code to exit with.
pub(crate) fn run(args: &CheckArgs, colour: Colour) -> Result<(String, ExitCode), Problem> {
    let path = &args.config;
    let text = Config::text(path)?;
    let config = Config::from_toml(&text, path)?;
    ground::stands(&config, &text, path)?;
    let mut checked = Checked {
        config: path.display().to_string(),
        routes: config.routes.len(),
        upstreams: config.upstreams.len(),
        findings: findings(&config),
        played: Vec::new(),
        assumptions: Vec::new(),
        changes: Vec::new(),
        replay: replay(args),
    };
    if !args.lint {
        play(args, &config, &text, &mut checked)?;
    }
    if let Some(base) = &args.compare {
        checked.changes = compare::with(base, &checked)?;
    }
    write(args.json.as_deref(), || format!("{:#}\n", views::json(&checked)))?;
    let text = match args.format {
        Format::Text => views::text(&checked, colour),
        Format::Md => views::markdown(&checked),
        Format::Json => format!("{:#}\n", views::json(&checked)),
        Format::Junit => views::junit(&checked),
        Format::Github => views::github(&checked),
    };
    Ok((text, ExitCode::from(checked.outcome().exit_code())))
}

/// What is to be found fault with, without playing anything.
fn findings(config: &Config) -> Vec<Found> {
    let fit = composition::findings(config).map(|(route, finding)| Found::of_route(route, finding));
    fit.chain(wiring::findings(config)).chain(tls::untimely(config).into_iter().map(untimely)).collect()
}

/// A certificate that nobody believes now.
fn untimely((file, what): (&Path, String)) -> Found {
    Found {
        about: About::File(file.display().to_string()),
        rule: "certificate-untimely",
        severity: Severity::Warning,
        happens: format!("{what}: whoever looks at it does not believe it"),
        change: "renew it; it is read again without a restart".to_owned(),
    }
}

/// Plays the scenarios that are named, or the standard ones.
fn play(args: &CheckArgs, config: &Config, text: &str, checked: &mut Checked) -> Result<(), Problem> {
    let mut contender = Contender::of(&checked.config, Some(text))?;
    contender.config = Some(config.clone());
    let contenders = [contender];
    for path in &args.scenario {
        let case = Case::open(path, std::slice::from_ref(&checked.config))?;
        let seeds = seeds(args, case.scenario.seeds);
        let results = {
            let progress = Progress::new(&case.scenario.name);
            experiment::run(&case.scenario, &case.contenders, seeds, &|| progress.step())
        };
        let replay = format!(
            "seawall lab run {} --config {} --seeds {} --seed {}",
            shell(&path.display().to_string()),
            shell(&checked.config),
            results.seeds.count,
            args.seed
        );
        let report = Report::new(case.scenario, results, Vec::new(), replay);
        checked.played.push(Played { family: Family::Described, report });
    }
    if !args.scenario.is_empty() {
        return Ok(());
    }
    let sets =
        standard(config, &args.config).map_err(|problem| ConfigError::unreadable(&args.config, problem))?;
    for set in sets {
        let seeds = seeds(args, 20);
        let all = {
            let progress = Progress::new(set.family.name());
            experiment::run_all(&set.scenarios, &contenders, seeds, &|| progress.step())
        };
        for (scenario, results) in set.scenarios.into_iter().zip(all) {
            let report = Report::new(scenario, results, set.assumptions.clone(), checked.replay.clone());
            checked.played.push(Played { family: set.family, report });
        }
        checked.assumptions.push((set.family, set.assumptions));
    }
    Ok(())
}

fn seeds(args: &CheckArgs, otherwise: u32) -> Seeds {
    let count = args.seeds.unwrap_or(otherwise);
    Seeds { count, first: args.seed, adds: count > 1 }
}

fn replay(args: &CheckArgs) -> String {
    let path = |path: &Path| shell(&path.display().to_string());
    let mut replay = format!("seawall check {}", path(&args.config));
    args.scenario.iter().for_each(|scenario| replay += &format!(" --scenario {}", path(scenario)));
    args.seeds.iter().for_each(|seeds| replay += &format!(" --seeds {seeds}"));
    if args.lint {
        replay += " --lint";
    } else {
        replay += &format!(" --seed {}", args.seed);
    }
    replay
}

#[cfg(test)]
mod tests;
