//! `[[assert]]`: what must hold, as a comparison of two sums.
//!
//! ```text
//! that     = sum ( >= | <= | > | < | == ) sum
//! sum      = product { ( + | - ) product }
//! product  = value { ( * | / ) value }
//! value    = number [ unit ] | metric | WORD | "(" sum ")"
//! metric   = [ config "." ] name { "." part }
//! ```
//!
//! Parts of a metric are a phase or a `[[window]]`, and the name of the clients or of the service. Units are
//! those of durations (in seconds), `/s` and `%`. Without a config the last one that is compared is meant. A metric that has no data (a recovery that never came) makes its assertion fail.

use std::fmt;

use seawall_config::reader::Section;
use seawall_config::report::{Malformed, quoted, suggestion};

use super::names::Names;
use super::tables;
use crate::verdict::Verdict;

/// The deepest nesting.
const DEPTH_MAX: u32 = 32;

/// What must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// As the file says it.
    pub text: String,
    /// The left side.
    pub left: Expression,
    /// How the sides compare.
    pub relation: Relation,
    /// The right side.
    pub right: Expression,
}

/// How two numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// `>=`
    AtLeast,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `<`
    Below,
    /// `==`
    Equal,
}

const RELATIONS: [(&str, Relation); 5] = [
    (">=", Relation::AtLeast),
    ("<=", Relation::AtMost),
    ("==", Relation::Equal),
    (">", Relation::Above),
    ("<", Relation::Below),
];

impl Relation {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Relation::AtLeast => left >= right,
            Relation::AtMost => left <= right,
            Relation::Above => left > right,
            Relation::Below => left < right,
            Relation::Equal => (left - right).abs() <= 1e-9 * right.abs().max(1.0),
        }
    }
}

/// A number, or how to get one.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A number.
    Number(f64),
    /// What was measured.
    Metric(Metric),
    /// Two of them together.
    Both(Box<Expression>, char, Box<Expression>),
}

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// From the end of the warm-up to the trigger.
    Before,
    /// As long as the trigger lasts.
    During,
    /// The second half of what follows.
    After,
    /// From the end of the warm-up to the end.
    Whole,
    /// A `[[window]]`, by its place.
    Window(usize),
}

impl Phase {
    /// Its place among all that is measured: windows follow the phases.
    pub(crate) fn place(self) -> usize {
        match self {
            Phase::Window(window) => PHASES.len() + window,
            phase => PHASES.iter().position(|(_, other)| *other == phase).unwrap_or_default(),
        }
    }
}

/// The phases and their names.
pub(crate) const PHASES: [(&str, Phase); 4] =
    [("before", Phase::Before), ("during", Phase::During), ("after", Phase::After), ("whole", Phase::Whole)];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Calls begun a second.
    Offered,
    /// Answers in time a second, degraded ones not among them.
    Goodput,
    /// Degraded answers in time a second.
    Degraded,
    /// Calls that failed a second.
    Failed,
    /// Calls refused for want of quota a second.
    Throttled,
    /// Calls refused for want of capacity a second.
    Shed,
    /// Calls whose client gave up a second.
    Abandoned,
    /// Half of the answers in time took at most so many seconds.
    P50,
    /// 95 % did.
    P95,
    /// 99 % did.
    P99,
    /// 99.9 % did.
    P999,
    /// Requests that reached a service, a second.
    Load,
    /// The limit of Seawall in front of a service, on average.
    Limit,
    /// Requests that a full queue or shedding refused while a worker of the service was idle, a second.
    Needless,
    /// Answers in time in the worst tenth of a second, as a rate: the mean over all seeds.
    Dip,
    /// Attempts by clients and Seawall for each call of a client.
    Amplification,
    /// The share of seeds that stay down.
    Collapse,
    /// Seconds to recovery, at the median seed.
    RecoveryP50,
    /// Seconds to recovery, at the 95th of a hundred seeds.
    RecoveryP95,
    /// The verdict.
    Verdict,
}

impl Quantity {
    const ALL: [(&str, Quantity); 20] = [
        ("offered", Quantity::Offered),
        ("goodput", Quantity::Goodput),
        ("degraded", Quantity::Degraded),
        ("failed", Quantity::Failed),
        ("throttled", Quantity::Throttled),
        ("shed", Quantity::Shed),
        ("abandoned", Quantity::Abandoned),
        ("p50", Quantity::P50),
        ("p95", Quantity::P95),
        ("p99", Quantity::P99),
        ("p999", Quantity::P999),
        ("load", Quantity::Load),
        ("limit", Quantity::Limit),
        ("needless", Quantity::Needless),
        ("dip", Quantity::Dip),
        ("amplification", Quantity::Amplification),
        ("collapse", Quantity::Collapse),
        ("recovery.p50", Quantity::RecoveryP50),
        ("recovery.p95", Quantity::RecoveryP95),
        ("verdict", Quantity::Verdict),
    ];

    /// Whether it is measured service by service.
    fn is_of_services(self) -> bool {
        matches!(self, Quantity::Load | Quantity::Limit | Quantity::Needless)
    }

    /// Whether it is measured phase by phase.
    fn has_phases(self) -> bool {
        !matches!(
            self,
            Quantity::Collapse | Quantity::RecoveryP50 | Quantity::RecoveryP95 | Quantity::Verdict
        )
    }
}

/// Something measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Under which config, by the name of its file without the ending; `None` for the last.
    pub config: Option<String>,
    /// Without the trigger.
    pub control: bool,
    /// What.
    pub quantity: Quantity,
    /// When.
    pub phase: Phase,
    /// Of which clients, or of which service for what is measured there; `None` for all.
    pub of: Option<usize>,
}

impl Assertion {
    /// Whether it asks for this.
    pub(crate) fn asks_for(&self, quantity: Quantity) -> bool {
        self.left.asks_for(quantity) || self.right.asks_for(quantity)
    }

    /// Whether it holds, and both sides; `None` where there is no data.
    pub fn check(&self, measured: &dyn Fn(&Metric) -> Option<f64>) -> (bool, Option<f64>, Option<f64>) {
        let (left, right) = (self.left.value(measured), self.right.value(measured));
        let holds = left.zip(right).is_some_and(|(left, right)| self.relation.holds(left, right));
        (holds, left, right)
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Expression {
    fn asks_for(&self, quantity: Quantity) -> bool {
        match self {
            Expression::Number(_) => false,
            Expression::Metric(metric) => metric.quantity == quantity,
            Expression::Both(left, _, right) => left.asks_for(quantity) || right.asks_for(quantity),
        }
    }

    fn value(&self, measured: &dyn Fn(&Metric) -> Option<f64>) -> Option<f64> {
        match self {
            Expression::Number(number) => Some(*number),
            Expression::Metric(metric) => measured(metric),
            Expression::Both(left, operator, right) => {
                let (left, right) = (left.value(measured)?, right.value(measured)?);
                let value = match operator {
                    '+' => left + right,
                    '-' => left - right,
                    '*' => left * right,
                    _ => left / right,
                };
                value.is_finite().then_some(value)
            }
        }
    }
}

/// The names that an assertion may use.
pub(super) struct Known<'a> {
    pub(super) services: &'a Names,
    pub(super) clients: &'a Names,
    pub(super) windows: &'a Names,
}

pub(super) fn read_all(root: &mut Section<'_>, known: &Known<'_>) -> Vec<Assertion> {
    tables(root, "assert", "that = \"goodput.after >= 0.95 * goodput.before\"", |section| {
        section.required("that", "\"goodput.after >= 0.95 * goodput.before\"", |field| {
            field.parsed("a comparison", |text| parse(text, known))
        })
    })
}

/// Parses a comparison.
fn parse(text: &str, known: &Known<'_>) -> Result<Assertion, Malformed> {
    let found = RELATIONS.iter().find_map(|(sign, relation)| Some((text.split_once(sign)?, *relation)));
    let Some(((left, right), relation)) = found else {
        let missing = Malformed::new(format!("{} compares nothing", quoted(text)));
        return Err(missing.help("write two sides and one of `>=`, `<=`, `>`, `<`, `==` between them"));
    };
    let side = |text: &str| {
        let mut parser = Parser { rest: text.trim(), depth: 0, known };
        let value = parser.sum()?;
        match parser.rest {
            "" => Ok(value),
            rest => Err(Malformed::new(format!("{} is not understood", quoted(rest)))),
        }
    };
    Ok(Assertion { text: text.to_owned(), left: side(left)?, relation, right: side(right)? })
}

struct Parser<'a> {
    rest: &'a str,
    depth: u32,
    known: &'a Known<'a>,
}

impl<'a> Parser<'a> {
    fn take(&mut self, signs: [char; 2]) -> Option<char> {
        let sign = self.rest.chars().next().filter(|next| signs.contains(next))?;
        self.rest = self.rest[1..].trim_start();
        Some(sign)
    }

    fn sum(&mut self) -> Result<Expression, Malformed> {
        let mut left = self.product()?;
        while let Some(sign) = self.take(['+', '-']) {
            left = Expression::Both(Box::new(left), sign, Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Expression, Malformed> {
        let mut left = self.value()?;
        while let Some(sign) = self.take(['*', '/']) {
            left = Expression::Both(Box::new(left), sign, Box::new(self.value()?));
        }
        Ok(left)
    }

    fn value(&mut self) -> Result<Expression, Malformed> {
        if self.take(['(', '(']).is_some() {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(Malformed::new("it is nested too deep"));
            }
            let inner = self.sum()?;
            self.take([')', ')']).ok_or_else(|| Malformed::new("a `)` is missing"))?;
            return Ok(inner);
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts_number = self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let end = if starts_number {
            self.rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest.len())
        } else {
            self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len())
        };
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let value = if starts_number { self.number(word)? } else { self.named(word)? };
        self.rest = self.rest.trim_start();
        Ok(value)
    }

    fn number(&mut self, digits: &str) -> Result<Expression, Malformed> {
        let wrong = || Malformed::new(format!("{} is not a number", quoted(digits)));
        let number: f64 = digits.parse().map_err(|_| wrong())?;
        // `/s` is no quotient, and `s` alone is a unit.
        let units =
            [("/s", 1.0), ("%", 0.01), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];
        for (unit, factor) in units {
            if let Some(rest) = self.rest.strip_prefix(unit)
                && !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.')
            {
                self.rest = rest;
                return Ok(Expression::Number(number * factor));
            }
        }
        Ok(Expression::Number(number))
    }

    fn named(&self, word: &str) -> Result<Expression, Malformed> {
        if let Some(verdict) = Verdict::ALL.iter().position(|verdict| verdict.name() == word) {
            return Ok(Expression::Number(verdict as f64));
        }
        let mut parts: Vec<&str> = word.split('.').collect();
        let known = |part: &str| Quantity::ALL.iter().any(|(name, _)| name.split('.').next() == Some(part));
        let mut metric = Metric {
            config: None,
            control: false,
            quantity: Quantity::Goodput,
            phase: Phase::Whole,
            of: None,
        };
        let begins = |part: &str| known(part) || part == "control";
        if parts.len() > 1 && !begins(parts[0]) && begins(parts[1]) {
            metric.config = Some(parts.remove(0).to_owned());
        }
        if parts.first() == Some(&"control") {
            (metric.control, _) = (true, parts.remove(0));
        }
        let longest = (1..=parts.len().min(2)).rev().find_map(|count| {
            let name = parts[..count].join(".");
            let found = Quantity::ALL.iter().find(|(known, _)| *known == name)?;
            Some((found.1, count))
        });
        let Some((quantity, count)) = longest else {
            let name = parts.first().copied().unwrap_or_default();
            let unknown = Malformed::new(format!("there is no metric {}", quoted(name)));
            return Err(unknown.help(suggestion(name, Quantity::ALL.iter().map(|(name, _)| *name))));
        };
        metric.quantity = quantity;
        self.parts(&mut metric, &parts[count..])?;
        Ok(Expression::Metric(metric))
    }

    /// The phase and whose it is.
    fn parts(&self, metric: &mut Metric, parts: &[&str]) -> Result<(), Malformed> {
        for part in parts {
            if let Some((_, phase)) = PHASES.iter().find(|(name, _)| name == part)
                && metric.quantity.has_phases()
            {
                metric.phase = *phase;
                continue;
            }
            if let Some(window) = self.known.windows.place(part)
                && metric.quantity.has_phases()
            {
                metric.phase = Phase::Window(window);
                continue;
            }
            let Known { services, clients, windows } = self.known;
            let names = if metric.quantity.is_of_services() { services } else { clients };
            match names.place(part) {
                Some(place) if metric.quantity.has_phases() && metric.quantity != Quantity::Dip => {
                    metric.of = Some(place);
                }
                _ => {
                    let unknown = Malformed::new(format!("{} is neither a phase nor a name", quoted(part)));
                    let phases = PHASES.iter().map(|(name, _)| *name);
                    let words: Vec<&str> = phases.chain(windows.iter()).chain(names.iter()).collect();
                    return Err(unknown.help(suggestion(part, words.iter().copied())));
                }
            }
        }
        Ok(())
    }
}
