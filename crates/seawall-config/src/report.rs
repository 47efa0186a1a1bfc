//! Errors with a place: what is wrong in a config file, where, and what to write instead.
//!
//! **Prevents** the "invalid config" that leaves its reader to search. Every problem points at the
//! text that caused it; all that were found are shown, in the order of the file.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use toml::de::DeTable;

use crate::reader::Section;

/// The most problems that one report shows.
const SHOWN_MAX: usize = 20;
/// The longest piece of the user's text that a message repeats, in characters.
const QUOTED_MAX: usize = 64;

/// A text that cannot be read as what it should be, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    what: String,
    help: Option<String>,
}

impl Malformed {
    /// What is wrong.
    pub fn new(what: impl Into<String>) -> Malformed {
        Malformed { what: what.into(), help: None }
    }

    /// Adds what to write instead.
    pub fn help(self, help: impl Into<String>) -> Malformed {
        Malformed { help: Some(help.into()), ..self }
    }

    /// The same, with the key that it stands under.
    pub fn under(self, key: &str) -> Malformed {
        Malformed { what: format!("{}: {}", quoted(key), self.what), ..self }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl std::error::Error for Malformed {}

/// The user's own text in backticks, cut short and safe for a terminal.
pub fn quoted(text: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().collect() } else { String::from(c) };
    let shown: String = text.chars().take(QUOTED_MAX).map(escaped).collect();
    let rest = if text.chars().nth(QUOTED_MAX).is_some() { "…" } else { "" };
    format!("`{shown}{rest}`")
}

/// The one of `words` that was most likely meant.
pub fn closest<'w>(word: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let word = word.to_lowercase();
    // Comparing takes time in proportion to the length; no key is that long.
    if word.len() > QUOTED_MAX {
        return None;
    }
    words
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word, known), known))
        .filter(|&(distance, known)| distance <= (known.len() / 3).max(1))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, known)| known)
}

/// The help for a word that is none of `words`: the closest of them, or all.
pub fn suggestion<'w>(word: &str, words: impl IntoIterator<Item = &'w str> + Clone) -> String {
    match closest(word, words.clone()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => {
            let known: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
            match known.len() {
                0 => "nothing can stand here".to_owned(),
                _ => format!("known here: {}", known.join(", ")),
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    /// Where, in bytes; `None` when the file itself is the problem.
    span: Option<Range<usize>>,
    malformed: Malformed,
}

/// Collects problems while a file is read.
#[derive(Debug, Default)]
pub struct Report(RefCell<Vec<Problem>>);

impl Report {
    /// Notes a problem at these bytes of the file.
    pub fn at(&self, span: Range<usize>, malformed: Malformed) {
        self.0.borrow_mut().push(Problem { span: Some(span), malformed });
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The error, if any problem was noted; forgets what it took.
    pub fn finish(&self, source: &str, name: &Path) -> Result<(), ConfigError> {
        let mut problems = self.0.take();
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
        Err(ConfigError { name: name.display().to_string(), source: source.to_owned(), problems })
    }
}

/// Reads the text of a TOML file: `read` takes what it knows from the root, and any other key is a
/// problem. What it returns counts only if nothing was reported; `name` is what errors call the file.
pub fn parse<T>(
    source: &str,
    name: &Path,
    read: impl FnOnce(&mut Section<'_>, &Report) -> T,
) -> Result<T, ConfigError> {
    let report = Report::default();
    let (table, errors) = DeTable::parse_recoverable(source);
    for error in &errors {
        let span = error.span().unwrap_or_default();
        report.at(span.clone(), syntax(error.message(), source, span));
    }
    if !errors.is_empty() {
        report.finish(source, name)?;
    }
    let mut root = Section::root(table.get_ref(), &report);
    let value = read(&mut root, &report);
    root.finish();
    report.finish(source, name)?;
    Ok(value)
}

/// A problem with the TOML itself, most often a text without its quotes.
fn syntax(message: &str, source: &str, span: Range<usize>) -> Malformed {
    let malformed = Malformed::new(message);
    let before = source.get(..span.start).unwrap_or_default();
    let value = before.rsplit(['\n', '=', ',', '[']).next().unwrap_or_default();
    let follows_equals = before.len() > value.len() && before[..before.len() - value.len()].ends_with('=');
    if follows_equals && !value.contains(['"', '\'']) {
        return malformed.help("texts stand in quotes, durations, rates and addresses among them");
    }
    malformed
}

/// Whether a report uses the terminal's colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Plain text, for logs and pipes.
    Never,
    /// ANSI colours, for terminals of users who did not set `NO_COLOR`.
    Always,
}

/// Why a config file was refused: everything that is wrong with it. Displays as the whole report,
/// without colours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    name: String,
    source: String,
    /// At least one.
    problems: Vec<Problem>,
}

impl ConfigError {
    /// The file could not be had at all.
    pub fn unreadable(name: &Path, why: impl fmt::Display) -> ConfigError {
        let name = name.display().to_string();
        let malformed = Malformed::new(format!("cannot read {}: {why}", quoted(&name)));
        ConfigError { name, source: String::new(), problems: vec![Problem { span: None, malformed }] }
    }

    /// The whole report.
    pub fn render(&self, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Never => Renderer::plain(),
            Colour::Always => Renderer::styled(),
        };
        let mut reports: Vec<String> = (self.problems.iter().take(SHOWN_MAX))
            .map(|problem| renderer.render(&[self.group(problem)]))
            .collect();
        let more = self.problems.len().saturating_sub(SHOWN_MAX);
        if more > 0 {
            reports.push(format!("and {more} more"));
        }
        reports.join("\n\n")
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let title = Level::ERROR.primary_title(problem.malformed.what.as_str());
        let mut group = match &problem.span {
            Some(span) => title.element(
                Snippet::source(self.source.as_str())
                    .path(self.name.as_str())
                    .annotation(AnnotationKind::Primary.span(self.within_line(span))),
            ),
            None => Group::with_title(title),
        };
        if let Some(help) = &problem.malformed.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        group
    }

    /// The part of `span` on its first line: a caret under it is enough, and a report stays short.
    fn within_line(&self, span: &Range<usize>) -> Range<usize> {
        let text = self.source.get(span.clone()).unwrap_or_default();
        let length = text.find(['\n', '\r']).unwrap_or(text.len());
        span.start..span.start + length
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Colour::Never))
    }
}

impl std::error::Error for ConfigError {}
