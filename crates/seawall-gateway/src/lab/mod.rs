//! `seawall lab`: plays scenarios and says what came of it.

mod progress;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use seawall_config::{Colour, Config, ConfigError};
use seawall_lab::experiment::{self, Seeds};
use seawall_lab::explain::explain;
use seawall_lab::map::map;
use seawall_lab::margin::margin;
use seawall_lab::report::{self, Details, Report, Sweep};
use seawall_lab::scenario::{PROTECTED, Scenario};
use seawall_lab::{Case, Contender, gallery};

use crate::cli::{CaseArgs, ExplainArgs, Format, LabVerb, MarginArgs, PlayArgs, SweepArgs};
pub(crate) use progress::Progress;

/// The seeds among which `explain` looks for one that stays down.
const EXPLAINED_OF: u32 = 20;
/// The scenario of the demo.
const DEMO: &str = "retry-storm";

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

/// What a command found, and the code to exit with.
type Found = Result<(String, ExitCode), Problem>;

/// Does what the lab is asked for.
pub(crate) fn run(verb: &LabVerb, colour: Colour) -> Found {
    match verb {
        LabVerb::Run(args) => play(args, colour),
        LabVerb::List { folder } => list(folder.as_deref()),
        LabVerb::Demo => demo(colour),
        LabVerb::Explain(args) => explained(args),
        LabVerb::Margin(args) => margins(args),
        LabVerb::Sweep(args) => sweep(args),
    }
}

/// Plays a scenario.
fn play(args: &PlayArgs, colour: Colour) -> Found {
    let case = open(&args.case)?;
    let count = args.seeds.unwrap_or(case.scenario.seeds);
    let seeds = Seeds { count, first: args.seed, adds: count > 1 };
    let report = played(&case, seeds, &args.case);
    if args.html.is_some() {
        let details = details(&case, &report);
        write(args.html.as_deref(), || report::html(&report, &details))?;
    }
    write(args.svg.as_deref(), || report::svg(&report))?;
    write(args.json.as_deref(), || format!("{:#}\n", report.json()))?;
    if let Some(folder) = &args.csv {
        std::fs::create_dir_all(folder).map_err(|error| unwritten(folder, &error))?;
        for (name, text) in report::csv(&report) {
            write(Some(&folder.join(name)), || text)?;
        }
    }
    let text = match args.format {
        Format::Text => report::text(&report, colour),
        Format::Md => report::markdown(&report),
        Format::Json => format!("{:#}\n", report.json()),
        Format::Junit => report::junit(std::slice::from_ref(&report)),
        Format::Github => report::github(&report),
    };
    Ok((text, ExitCode::from(report.outcome().exit_code())))
}

fn open(args: &CaseArgs) -> Result<Case, Problem> {
    Ok(Case::open(&args.scenario, &args.config)?)
}

/// What a page shows besides the report: where it breaks, and why the first seed stays down that does.
fn details(case: &Case, report: &Report) -> Details {
    let progress = Progress::new(&format!("{}: map", case.scenario.name));
    let results = &report.results;
    let down = case.contenders.iter().zip(&results.configs).find_map(|(contender, config)| {
        let place = config.fates.iter().position(|fate| fate.is_down())? as u64;
        Some((contender, results.seeds.first.wrapping_add(place)))
    });
    let why = down.map(|(contender, seed)| explain(&case.scenario, contender, &case.contenders, seed));
    Details { map: map(&case.scenario, &case.contenders, results, &|| progress.step()), why }
}

fn played(case: &Case, seeds: Seeds, args: &CaseArgs) -> Report {
    let progress = Progress::new(&case.scenario.name);
    let results = experiment::run(&case.scenario, &case.contenders, seeds, &|| progress.step());
    drop(progress);
    let replay = command("run", args, results.seeds);
    Report::new(case.scenario.clone(), results, Vec::new(), replay)
}

/// The command that plays it again.
fn command(verb: &str, args: &CaseArgs, seeds: Seeds) -> String {
    let mut command = format!("seawall lab {verb} {}", shell(&args.scenario.display().to_string()));
    args.config.iter().for_each(|config| command += &format!(" --config {}", shell(config)));
    command + &format!(" --seeds {} --seed {}", seeds.count, seeds.first)
}

/// A word of a command line, in quotes where a shell needs them.
pub(crate) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn demo(colour: Colour) -> Found {
    let args = CaseArgs { scenario: DEMO.into(), config: Vec::new() };
    let case = open(&args)?;
    let mut text = format!("{}\n\n", case.scenario.about.trim());
    let count = case.scenario.seeds;
    let report = played(&case, Seeds { count, first: 1, adds: true }, &args);
    text += &report::text(&report, colour);
    let last = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
    let more = "\nseawall lab explain retry-storm   why a seed went as it did\n\
                seawall lab list                  the other scenarios\n\
                seawall check seawall.toml        your own config\n\n";
    text.insert_str(last, more);
    Ok((text, ExitCode::from(report.outcome().exit_code())))
}

fn list(folder: Option<&Path>) -> Found {
    let mut found: Vec<(String, Result<Scenario, ConfigError>)> = Vec::new();
    match folder {
        None => {
            for name in gallery::names() {
                let case = Case::open(Path::new(&name), &[]);
                found.push((name, case.map(|case| case.scenario)));
            }
        }
        Some(folder) => {
            let unreadable = |error: std::io::Error| ConfigError::unreadable(folder, error);
            let entries = std::fs::read_dir(folder).map_err(unreadable)?;
            let mut paths = entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(unreadable)?;
            paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
            paths.sort();
            for path in paths {
                let scenario = Config::text(&path).and_then(|text| Scenario::from_toml(&text, &path));
                found.push((shell(&path.display().to_string()), scenario));
            }
        }
    }
    let width = found.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, scenario) in &found {
        let about = match scenario {
            Ok(scenario) => first_sentence(&scenario.about),
            Err(_) => "cannot be played: `seawall lab run` says why".to_owned(),
        };
        _ = writeln!(text, "{name:width$}  {about}");
    }
    if let Some((name, _)) = found.first() {
        _ = writeln!(text, "\nseawall lab run {name}");
    }
    Ok((text, ExitCode::SUCCESS))
}

fn first_sentence(about: &str) -> String {
    let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
    about.split_inclusive(['.', ';']).next().unwrap_or_default().trim_end_matches(['.', ';']).to_owned()
}

fn explained(args: &ExplainArgs) -> Found {
    let of = |config: Vec<String>| open(&CaseArgs { scenario: args.scenario.clone(), config });
    let case = of(args.config.iter().cloned().collect())?;
    let Some(contender) = case.contenders.first() else {
        return Ok((String::new(), ExitCode::SUCCESS));
    };
    let mut others = of(Vec::new())?.contenders;
    if others.iter().all(|other| other.config.is_none()) {
        others.extend(of(vec![PROTECTED.to_owned()])?.contenders);
    }
    let seed = args.seed.unwrap_or_else(|| a_seed_that_stays_down(&case.scenario, contender));
    let why = explain(&case.scenario, contender, &others, seed);
    let mut replay = format!("seawall lab explain {}", shell(&args.scenario.display().to_string()));
    args.config.iter().for_each(|config| replay += &format!(" --config {}", shell(config)));
    replay += &format!(" --seed {seed}");
    write(args.json.as_deref(), || {
        format!("{:#}\n", report::explanation_json(&why, &case.scenario.name, &replay))
    })?;
    Ok((report::explanation(&why, &replay), ExitCode::SUCCESS))
}

/// The first seed that stays down, or else the first.
fn a_seed_that_stays_down(scenario: &Scenario, contender: &Contender) -> u64 {
    let seeds = Seeds { count: EXPLAINED_OF, first: 1, adds: false };
    let progress = Progress::new(&scenario.name);
    let results = experiment::run(scenario, std::slice::from_ref(contender), seeds, &|| progress.step());
    let fates = results.configs.first().map(|config| config.fates.as_slice()).unwrap_or_default();
    (1..).zip(fates).find(|(_, fate)| fate.is_down()).map_or(1, |(seed, _)| seed)
}

fn margins(args: &MarginArgs) -> Found {
    let case = open(&args.case)?;
    let seeds = Seeds { count: args.seeds, first: args.seed, adds: false };
    let progress = Progress::new(&case.scenario.name);
    let found = case.contenders.iter().map(|contender| {
        margin(&case.scenario, contender, seeds, &|| progress.step()).ok_or_else(|| {
            let problem = "nothing that happens in it has a size or a length";
            ConfigError::unreadable(&args.case.scenario, problem)
        })
    });
    let found = found.collect::<Result<Vec<_>, _>>()?;
    drop(progress);
    let replay = command("margin", &args.case, seeds);
    write(args.json.as_deref(), || {
        let json = report::margins_json(&case.scenario, &found, args.seeds, args.seed, &replay);
        format!("{json:#}\n")
    })?;
    Ok((report::margins(&case.scenario, &found, &replay), ExitCode::SUCCESS))
}

fn sweep(args: &SweepArgs) -> Found {
    let case = open(&args.case)?;
    let seeds = Seeds { count: args.seeds.unwrap_or(case.scenario.seeds), first: args.seed, adds: false };
    // All values are read before the first is played.
    let cases = (0..args.vary.steps()).map(|step| case.with(&args.vary, step));
    let cases = cases.collect::<Result<Vec<_>, _>>()?;
    let progress = Progress::new(&case.scenario.name);
    let results = cases
        .iter()
        .map(|case| experiment::run(&case.scenario, &case.contenders, seeds, &|| progress.step()));
    let results = results.collect();
    drop(progress);
    let replay = command("sweep", &args.case, seeds) + &format!(" --vary {}", shell(&args.vary.to_string()));
    let sweep = Sweep { scenario: case.scenario.name, vary: args.vary.clone(), results, replay };
    write(args.json.as_deref(), || format!("{:#}\n", sweep.json()))?;
    write(args.csv.as_deref(), || sweep.csv())?;
    Ok((sweep.text(), ExitCode::SUCCESS))
}

/// Writes a file that was asked for.
pub(crate) fn write(path: Option<&Path>, text: impl FnOnce() -> String) -> Result<(), Problem> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, text()).map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &std::io::Error) -> Problem {
    Problem::Output(format!("{}: {error}", path.display()))
}
