//! Tidy: the rules of this code base that neither rustfmt nor clippy can check.
//!
//! Runs as a test over every Rust file of the workspace. Each finding names the file and line,
//! the rule, and what to do about it. The rules read text, not syntax: they rely on rustfmt's
//! layout (checked before them), look past comments and one-line strings, and err on the side of
//! silence. A multi-line raw string may hide a line from them, never accuse one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::root;

mod tests;

/// Most lines of code in a file; blank lines, comments and tests do not count.
const FILE_LINES_MAX: usize = 500;
/// Most lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// File names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 6] = ["utils", "common", "helpers", "types", "misc", "manager"];
/// Core's policies: equal rooms in a row that do not know each other.
const POLICIES: [&str; 12] = [
    "throttle",
    "shed",
    "limit",
    "breaker",
    "retry",
    "balance",
    "eject",
    "health",
    "ramp",
    "fallback",
    "hedge",
    "backpressure",
];
/// What would bring a clock, a thread or a runtime into core.
const WORLD: [&str; 5] = ["Instant::now", "SystemTime", "std::thread", "tokio", "async fn"];
/// What makes a test wait for real, or look as if it did.
const SLEEPS: [&str; 2] = ["thread::sleep", "time::sleep"];

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    line: usize,
    message: String,
}

/// Checks one file; `path` is relative to the workspace's root and uses `/`.
fn check(path: &str, text: &str) -> Vec<Finding> {
    let lines: Vec<String> = text.lines().map(code).collect();
    let mut findings = Vec::new();
    file_name(path, &mut findings);
    file_length(path, &lines, &mut findings);
    function_length(&lines, &mut findings);
    strangers(path, &lines, &mut findings);
    no_world(path, &lines, &mut findings);
    no_sleep(path, &lines, &mut findings);
    no_glob(&lines, &mut findings);
    findings.sort_by_key(|finding| finding.line);
    findings
}

fn file_name(path: &str, findings: &mut Vec<Finding>) {
    for part in path.trim_end_matches(".rs").split('/') {
        if EMPTY_NAMES.contains(&part) {
            let message = format!("name: `{part}` says nothing; name it after what it holds");
            findings.push(Finding { line: 1, message });
        }
    }
}

fn file_length(path: &str, lines: &[String], findings: &mut Vec<Finding>) {
    if is_test_file(path) || path.contains("/benches/") {
        return;
    }
    let count = lines.iter().filter(|line| !line.trim().is_empty()).count();
    if count > FILE_LINES_MAX {
        let message = format!(
            "file length: {count} lines of code, at most {FILE_LINES_MAX}; split it by responsibility, tests go to `tests.rs`"
        );
        findings.push(Finding { line: lines.len(), message });
    }
}

fn function_length(lines: &[String], findings: &mut Vec<Finding>) {
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let Some(end) = function_end(lines, start) else { continue };
        let length = end - start + 1;
        if length > FUNCTION_LINES_MAX {
            let message = format!(
                "function length: `{name}` has {length} lines, at most {FUNCTION_LINES_MAX}; give its parts names of their own"
            );
            findings.push(Finding { line: start + 1, message });
        }
    }
}

/// The name of the function that this line begins.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let qualifiers = before.split_whitespace().all(|word| {
        matches!(word, "const" | "async" | "unsafe" | "extern" | "default" | "pub")
            || word.starts_with("pub(")
            || word.starts_with('"')
    });
    let begins_a_word = before.is_empty() || before.ends_with(' ');
    let name = after.split(['(', '<']).next().unwrap_or_default();
    (qualifiers && begins_a_word && !name.is_empty()).then_some(name)
}

/// The index of the line that closes the function begun at `start`; `None` without a body.
fn function_end(lines: &[String], start: usize) -> Option<usize> {
    let indent = indentation(&lines[start]);
    let mut in_body = false;
    for (index, line) in lines.iter().enumerate().skip(start) {
        if line.trim().is_empty() {
            continue;
        }
        if in_body && indentation(line) <= indent {
            return Some(index);
        }
        if !in_body && line.ends_with('{') && (index == start || indentation(line) == indent) {
            in_body = true;
        } else if !in_body && line.ends_with([';', '}']) {
            return None;
        }
    }
    None
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn strangers(path: &str, lines: &[String], findings: &mut Vec<Finding>) {
    let Some(room) = core_path(path).map(|inside| inside.split(['/', '.']).next().unwrap_or_default()) else {
        return;
    };
    if !POLICIES.contains(&room) {
        return;
    }
    for (index, line) in lines.iter().enumerate() {
        for other in POLICIES.into_iter().filter(|&other| other != room) {
            if has_word(line, &format!("crate::{other}")) {
                let message = format!(
                    "strangers: `{room}` imports `{other}`; what both need belongs in `measure`, their order in `gate` or `call`"
                );
                findings.push(Finding { line: index + 1, message });
            }
        }
    }
}

fn no_world(path: &str, lines: &[String], findings: &mut Vec<Finding>) {
    if core_path(path).is_none() {
        return;
    }
    for (index, line) in lines.iter().enumerate() {
        for word in WORLD.into_iter().filter(|word| has_word(line, word)) {
            let message = format!(
                "no world in core: `{word}`; take `now` or `rng` as an argument and leave waiting to the driver"
            );
            findings.push(Finding { line: index + 1, message });
        }
    }
}

fn no_sleep(path: &str, lines: &[String], findings: &mut Vec<Finding>) {
    let mut in_tests = is_test_file(path);
    for (index, line) in lines.iter().enumerate() {
        // By convention the tests come last, so everything below the attribute is theirs, except
        // below a mere `mod tests;`.
        in_tests |= line.trim() == "#[cfg(test)]"
            && lines.get(index + 1).is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        for word in SLEEPS.into_iter().filter(|word| in_tests && has_word(line, word)) {
            let message =
                format!("no sleep in tests: `{word}`; pass `now` as a value, or wait for the event itself");
            findings.push(Finding { line: index + 1, message });
        }
    }
}

fn no_glob(lines: &[String], findings: &mut Vec<Finding>) {
    for (index, line) in lines.iter().enumerate() {
        let line = line.trim_start();
        let public = line.starts_with("pub use ") || (line.starts_with("pub(") && line.contains(") use "));
        if public && line.contains("::*") {
            let message =
                "no glob re-export: a reader must see where a name comes from; list the names".to_owned();
            findings.push(Finding { line: index + 1, message });
        }
    }
}

/// The path inside core's sources.
fn core_path(path: &str) -> Option<&str> {
    path.strip_prefix("crates/seawall-core/src/")
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Whether `word` stands in `line` and is not part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(in_name) && !line[at + word.len()..].starts_with(in_name))
}

/// The line without its comment and without what its strings contain.
fn code(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    let mut in_string = false;
    while let Some(c) = characters.next() {
        match c {
            '\\' if in_string => drop(characters.next()),
            // A quote as a character literal opens no string.
            '"' if in_string || !kept.ends_with('\'') => {
                in_string = !in_string;
                kept.push(c);
            }
            _ if in_string => {}
            '/' if characters.peek() == Some(&'/') => break,
            _ => kept.push(c),
        }
    }
    kept.truncate(kept.trim_end().len());
    kept
}

/// Every Rust file below `folder`, without build output and hidden folders.
fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[test]
fn the_workspace_is_tidy() {
    let mut files = Vec::new();
    rust_files(root(), &mut files).unwrap();
    files.sort();
    assert!(!files.is_empty(), "found nothing to check below {}", root().display());
    let mut report = String::new();
    for file in files {
        let path = file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        for finding in check(&path, &fs::read_to_string(&file).unwrap()) {
            report += &format!("{path}:{}: {}\n", finding.line, finding.message);
        }
    }
    assert!(report.is_empty(), "the code is not tidy:\n{report}");
}
