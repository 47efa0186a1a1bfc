//! The Seawall gateway: `seawall run` proxies, `seawall lab` simulates.

mod admin;
mod blocks;
mod check;
mod cli;
mod dependability;
mod descriptors;
mod handover;
mod lab;
mod logs;
mod operate;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "otlp_off.rs"]
mod otlp;
mod proxy;
mod run;
mod sample;
mod sockets;
mod telemetry;
mod tls;
mod watched;

use std::io::{IsTerminal, Write as _};
use std::process::ExitCode;

use cli::{Command, File};
use logs::Log;
use run::RunError;
use seawall_config::Colour;
use tracing_subscriber::EnvFilter;

/// Requests allocate a lot and for a short time: the system's allocator takes a tenth of what one costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for input that cannot be used.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // With its output closed there is nobody left to tell.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(BAD_INPUT));
        }
    };
    match command {
        Command::Run(args) => {
            let log = log();
            let ended = run::run(&args, colour());
            log.flush();
            match ended {
                Ok(code) => code,
                Err(RunError::Config(error)) => {
                    eprintln!("{}", error.render(colour()));
                    ExitCode::from(BAD_INPUT)
                }
                Err(RunError::System(what, error)) => {
                    eprintln!("error: {what}: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Check(args) => answer(check::run(&args, colour_of(&std::io::stdout()))),
        Command::Schema(File::Config) => say(seawall_config::SCHEMA.as_bytes()),
        Command::Schema(File::Scenario) => say(seawall_lab::scenario::SCHEMA.as_bytes()),
        Command::Completions(shell) => say(&cli::completions(shell)),
        Command::Ask { gateway, method, target } => match operate::ask(&gateway, method, &target) {
            Ok(answer) => {
                operate::warning(&answer).into_iter().for_each(|warning| eprintln!("warning: {warning}"));
                say(answer.as_bytes())
            }
            Err(problem) => {
                eprintln!("error: {problem}");
                ExitCode::FAILURE
            }
        },
        Command::Lab(verb) => answer(lab::run(&verb, colour_of(&std::io::stdout()))),
    }
}

/// Says what a check or a command of the lab found.
fn answer(found: Result<(String, ExitCode), lab::Problem>) -> ExitCode {
    match found {
        Ok((text, code)) => {
            say(text.as_bytes());
            code
        }
        Err(lab::Problem::Input(error)) => {
            eprintln!("{}", error.render(colour()));
            ExitCode::from(BAD_INPUT)
        }
        Err(lab::Problem::Output(problem)) => {
            eprintln!("error: {problem}");
            ExitCode::from(BAD_INPUT)
        }
    }
}

/// Says it on standard output; a reader that has read enough is no error.
fn say(text: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// Logs to standard error, as `RUST_LOG` says; `info` without it.
fn log() -> Log {
    let log = Log::start();
    let writer = log.clone();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(matches!(colour(), Colour::Always))
        .with_writer(move || writer.clone())
        // It would say so on standard error, which is just what cannot be written to.
        .log_internal_errors(false)
        .init();
    log
}

/// The colours of standard error.
fn colour() -> Colour {
    colour_of(&std::io::stderr())
}

/// Colours only for a terminal whose user did not opt out (<https://no-color.org>).
fn colour_of(stream: &impl IsTerminal) -> Colour {
    let opted_out = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if stream.is_terminal() && !opted_out { Colour::Always } else { Colour::Never }
}
