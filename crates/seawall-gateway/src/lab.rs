//! `seawall lab run`: plays a scenario file and prints what came of it.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};

use seawall_lab::report::{self, Options};
use seawall_lab::scenario::Scenario;

use crate::cli::LabRunArgs;

/// Plays the scenario; an error says what is wrong with the input.
pub(crate) fn run(args: &LabRunArgs) -> Result<ExitCode, String> {
    let file = args.scenario.display().to_string();
    let source = std::fs::read_to_string(&args.scenario).map_err(|error| format!("{file}: {error}"))?;
    let scenario = Scenario::from_toml(&source, &file).map_err(|error| error.to_string())?;
    let terminal = std::io::stderr().is_terminal();
    let done = AtomicU32::new(0);
    let progress = |seeds: u32| {
        let done = done.fetch_add(seeds, Ordering::Relaxed) + seeds;
        if terminal {
            eprint!("\r{done} seeds ");
        }
    };
    let options = Options { seeds: args.seeds, first_seed: args.seed };
    let report = report::run(&scenario, options, &progress);
    if terminal {
        eprint!("\r            \r");
    }
    if let Some(path) = &args.json {
        std::fs::write(path, report.json()).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    match std::io::stdout().write_all(report.text(&file).as_bytes()) {
        // A reader that has read enough is no error.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(format!("standard output: {error}"));
        }
        _ => {}
    }
    Ok(ExitCode::from(report.exit_code()))
}
