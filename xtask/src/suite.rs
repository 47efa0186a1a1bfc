//! `cargo xtask test`: everything a change must pass, in one command, on a machine that has
//! nothing but Rust's toolchain.
//!
//! The steps run in order, the cheap ones first; the first that fails ends the run with its own
//! exit code. The last line is always `N passed, N failed, N skipped` alone: the sum of what the
//! test runners themselves report. A failed step without tests (a lint, a format) counts as one
//! failure, so that this line never says "0 failed" about a run that failed.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::ops::AddAssign;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use crate::{Result, root};

#[cfg(test)]
mod tests;

/// A program that the suite needs, and the command that installs it when it is missing.
struct Need {
    program: &'static str,
    install: &'static [&'static str],
}

const NEEDS: [Need; 4] = [
    Need { program: "cargo-fmt", install: &["rustup", "component", "add", "rustfmt"] },
    Need { program: "cargo-clippy", install: &["rustup", "component", "add", "clippy"] },
    // A part of the fuzz targets.
    Need { program: "c++", install: &["apt-get", "install", "--yes", "--no-install-recommends", "g++"] },
    // The lab's report is looked at in a browser.
    Need {
        program: "chromium",
        install: &["apt-get", "install", "--yes", "--no-install-recommends", "chromium"],
    },
];

/// How the outcome of a step is read.
enum Reading {
    /// By its exit code alone.
    ExitCode,
    /// By its exit code; its output also holds summaries of tests.
    Tests,
}

struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    reading: Reading,
}

const BEFORE_TESTS: [Step; 3] = [
    Step { name: "format", arguments: &["fmt", "--all", "--check"], reading: Reading::ExitCode },
    Step {
        name: "lints",
        arguments: &["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"],
        reading: Reading::ExitCode,
    },
    // They are no members of the workspace, and run by hand: without this nobody sees that one has gone stale.
    Step {
        name: "fuzz targets",
        arguments: &[
            "clippy",
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--target-dir",
            "target",
            "--",
            "-D",
            "warnings",
        ],
        reading: Reading::ExitCode,
    },
];

const WITH_NEXTEST: Step = Step {
    name: "tests (cargo-nextest)",
    arguments: &["nextest", "run", "--workspace", "--all-features", "--no-fail-fast", "--no-tests", "pass"],
    reading: Reading::Tests,
};

const WITH_CARGO: Step = Step {
    name: "tests (cargo test)",
    arguments: &["test", "--workspace", "--all-features", "--lib", "--bins", "--tests", "--no-fail-fast"],
    reading: Reading::Tests,
};

const AFTER_TESTS: [Step; 3] = [
    Step {
        name: "documentation tests",
        arguments: &["test", "--workspace", "--all-features", "--doc", "--no-fail-fast"],
        reading: Reading::Tests,
    },
    Step {
        name: "documentation",
        arguments: &["doc", "--workspace", "--all-features", "--no-deps"],
        reading: Reading::ExitCode,
    },
    Step {
        name: "core without features",
        arguments: &["build", "-p", "seawall-core", "--no-default-features"],
        reading: Reading::ExitCode,
    },
];

const LICENCES: Step =
    Step { name: "licences", arguments: &["deny", "check", "licenses"], reading: Reading::ExitCode };

/// Tests passed, failed and skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Runs the suite; the exit code is that of the first failing step.
pub(crate) fn run() -> Result<ExitCode> {
    let mut sum = Sum::default();
    let code = match steps(&mut sum) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            1
        }
    };
    if code != 0 && sum.failed == 0 {
        sum.failed = 1;
    }
    println!("{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    Ok(ExitCode::from(code))
}

/// Runs step after step and returns the first exit code that is not 0.
fn steps(sum: &mut Sum) -> Result<u8> {
    for need in &NEEDS {
        provide(need)?;
    }
    let tests = if answers("cargo-nextest") { WITH_NEXTEST } else { WITH_CARGO };
    for step in BEFORE_TESTS.into_iter().chain([tests]).chain(AFTER_TESTS) {
        let code = take(&step, sum)?;
        if code != 0 {
            return Ok(code);
        }
    }
    if answers("cargo-deny") {
        return take(&LICENCES, sum);
    }
    println!("==> {}: skipped, cargo-deny is not installed", LICENCES.name);
    Ok(0)
}

/// Installs what is missing.
fn provide(need: &Need) -> Result<()> {
    if answers(need.program) {
        return Ok(());
    }
    println!("==> installing {}: {}", need.program, need.install.join(" "));
    let (program, arguments) = need.install.split_first().ok_or("an empty install command")?;
    let status = Command::new(program)
        .args(arguments)
        .status()
        .map_err(|error| format!("{} is missing and {program} cannot be run: {error}", need.program))?;
    if status.success() { Ok(()) } else { Err(format!("{} could not be installed", need.program).into()) }
}

/// Whether `program` can be run at all.
fn answers(program: &str) -> bool {
    let mut command = Command::new(program);
    // The toolchain's proxies exist even where their component does not, so that only a real run tells.
    command.arg("--version").current_dir(root()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs one step, tells its name and time, adds up its tests.
fn take(step: &Step, sum: &mut Sum) -> Result<u8> {
    println!("==> {}: cargo {}", step.name, step.arguments.join(" "));
    io::stdout().flush()?;
    let began = Instant::now();
    let mut command = Command::new("cargo");
    command.args(step.arguments).current_dir(root()).env("RUSTDOCFLAGS", "-D warnings");
    let status = match step.reading {
        Reading::ExitCode => command.status()?,
        Reading::Tests => tests(&mut command, sum)?,
    };
    let seconds = began.elapsed().as_secs_f64();
    if status.success() {
        println!("==> {}: ok in {seconds:.1} s", step.name);
        return Ok(0);
    }
    println!("==> {}: FAILED in {seconds:.1} s ({status})", step.name);
    // A step ended by a signal has no code of its own.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).filter(|&code| code != 0).unwrap_or(1))
}

/// Runs a test runner, passing its output on and adding its summaries to `sum`.
fn tests(command: &mut Command, sum: &mut Sum) -> Result<ExitStatus> {
    if io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or("no output to read")?;
    let stderr = child.stderr.take().ok_or("no output to read")?;
    let other = thread::spawn(move || pass_on(stderr, io::stderr()));
    *sum += pass_on(stdout, io::stdout())?;
    *sum += other.join().map_err(|_| "the reader of the test output panicked")??;
    Ok(child.wait()?)
}

/// Copies `from` to `to` line by line; the sum of the summaries that went by.
fn pass_on(from: impl Read, mut to: impl Write) -> io::Result<Sum> {
    let mut from = BufReader::new(from);
    let mut sum = Sum::default();
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        if let Some(found) = summary(&String::from_utf8_lossy(&line)) {
            sum += found;
        }
        line.clear();
    }
    Ok(sum)
}

/// What a runner's summary line says; `None` for every other line.
///
/// `test result: ok. 5 passed; 0 failed; 1 ignored; …` is cargo's, `Summary [ 0.012s] 6 tests
/// run: 5 passed, 1 failed, 1 skipped` is nextest's.
fn summary(line: &str) -> Option<Sum> {
    let line = without_colour(line);
    let line = line.trim_start();
    let counts = if let Some(rest) = line.strip_prefix("test result: ") {
        rest.split_once(". ")?.1
    } else {
        line.strip_prefix("Summary [")?.split_once(" run: ")?.1
    };
    let mut sum = Sum::default();
    for count in counts.split([',', ';']) {
        let mut words = count.split_whitespace();
        let Some(Ok(number)) = words.next().map(str::parse::<u64>) else { continue };
        match words.next() {
            Some("passed") => sum.passed += number,
            // Nextest tells these three apart; each is a failure.
            Some("failed" | "timed" | "exec") => sum.failed += number,
            Some("skipped" | "ignored") => sum.skipped += number,
            _ => {}
        }
    }
    Some(sum)
}

/// `text` without the escape sequences that colour it.
fn without_colour(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, tail)| tail);
    }
    plain.push_str(rest);
    plain
}
