//! `--vary KEY=A..B:N`: a key of a scenario or a config, and the values that it takes one after the other.
//!
//! ```text
//! clients.web.rate=20..80:7            a table of `[[clients]]` by its name
//! event.surge.factor=1.5..4:6          the events that have this key
//! upstream.*.limit.max=8..64:8         all upstreams of the configs
//! ```
//!
//! **Mechanics.** The text is read as TOML, the value under the key exchanged, and the whole written again
//! for the ordinary parser, which says what it does not like. Without a unit of their own, values have that
//! of the value in the file. Durations and rates are whole numbers: they are written in the unit in which
//! they are.

use std::fmt;

use toml::{Table, Value};

use seawall_config::units;

/// The most values.
const STEPS_MAX: u32 = 50;
/// The tables of a scenario.
const OF_SCENARIO: [&str; 4] = ["scenario", "clients", "service", "event"];

/// A key and its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Vary {
    key: String,
    from: f64,
    to: f64,
    unit: Option<Unit>,
    steps: u32,
    /// As it was written.
    text: String,
}

impl fmt::Display for Vary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a value is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Number,
    Whole,
    /// In seconds.
    Duration,
    /// For each second.
    Rate,
    Percent,
}

impl Vary {
    /// Parses `KEY=A..B:N`.
    pub fn parse(text: &str) -> Result<Vary, String> {
        let shape = "write it as `clients.web.rate=20..80:7`";
        let written = text.to_owned();
        let (key, range) = text.split_once('=').ok_or_else(|| format!("there is no `=`; {shape}"))?;
        if key.split('.').any(str::is_empty) || !key.contains('.') {
            return Err(format!("`{key}` is not a key below a table; {shape}"));
        }
        let (range, steps) =
            range.rsplit_once(':').ok_or_else(|| format!("there is no number of values; {shape}"))?;
        let (from, to) = range.split_once("..").ok_or_else(|| format!("there is no `..`; {shape}"))?;
        let steps = steps.parse().ok().filter(|steps| (2..=STEPS_MAX).contains(steps));
        let steps = steps.ok_or_else(|| format!("the number of values is not from 2 to {STEPS_MAX}"))?;
        let ((from, first), (to, last)) = (quantity(from)?, quantity(to)?);
        if first.zip(last).is_some_and(|(first, last)| first != last) {
            return Err("the two ends have different units".to_owned());
        }
        Ok(Vary { key: key.to_owned(), from, to, unit: first.or(last), steps, text: written })
    }

    /// Its key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How many values it takes.
    pub const fn steps(&self) -> u32 {
        self.steps
    }

    /// Whether the key is one of the scenario, and not of the configs.
    pub fn is_of_scenario(&self) -> bool {
        OF_SCENARIO.contains(&self.key.split('.').next().unwrap_or_default())
    }

    /// A value, counted from 0, without its unit.
    pub fn at(&self, step: u32) -> f64 {
        self.from + (self.to - self.from) * f64::from(step) / f64::from(self.steps - 1)
    }

    /// The text with this value under the key.
    pub(crate) fn apply(&self, text: &str, step: u32) -> Result<String, String> {
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let parts: Vec<&str> = self.key.split('.').collect();
        let mut found = 0;
        self.set(table.get_mut(parts[0]), &parts[1..], step, &mut found)?;
        if found == 0 {
            return Err("nothing has this name".to_owned());
        }
        toml::to_string(&table).map_err(|error| error.to_string())
    }

    fn set(
        &self,
        value: Option<&mut Value>,
        parts: &[&str],
        step: u32,
        found: &mut u32,
    ) -> Result<(), String> {
        let (Some(value), Some((part, rest))) = (value, parts.split_first()) else { return Ok(()) };
        match value {
            Value::Array(items) => {
                let named = |item: &Value| item.get("name").and_then(Value::as_str) == Some(part);
                let by_name = items.iter().any(named);
                for (place, item) in items.iter_mut().enumerate() {
                    let chosen = *part == "*" || part.parse() == Ok(place) || by_name && named(item);
                    if chosen {
                        self.set(Some(item), rest, step, found)?;
                    } else if !by_name && item.get(part).is_some() {
                        // `event.surge.factor`: those that have it.
                        self.set(Some(item), parts, step, found)?;
                    }
                }
                Ok(())
            }
            Value::Table(table) if *part == "*" => {
                table.iter_mut().try_for_each(|(_, value)| self.set(Some(value), rest, step, found))
            }
            Value::Table(table) if rest.is_empty() => {
                let value = self.value(table.get(*part), step)?;
                table.insert((*part).to_owned(), value);
                *found += 1;
                Ok(())
            }
            Value::Table(table) => {
                // Below a table that exists, what is missing is one with all its defaults.
                let value = table.entry((*part).to_owned()).or_insert_with(|| Value::Table(Table::new()));
                self.set(Some(value), rest, step, found)
            }
            _ => Err(format!("`{part}` would stand in what is no table")),
        }
    }

    /// The value, written as the one that it takes the place of.
    fn value(&self, before: Option<&Value>, step: u32) -> Result<Value, String> {
        let number = self.at(step);
        let unit = self.unit.or_else(|| before.and_then(unit_of)).unwrap_or(Unit::Number);
        let whole = |number: f64| Value::Integer(libm::round(number) as i64);
        Ok(match unit {
            Unit::Whole => whole(number),
            Unit::Number if number == libm::round(number) => whole(number),
            Unit::Number => Value::Float(number),
            unit => Value::String(written(number, unit)),
        })
    }

    /// A value as people read it.
    pub fn label(&self, step: u32) -> String {
        match self.unit {
            Some(unit @ (Unit::Duration | Unit::Rate | Unit::Percent)) => written(self.at(step), unit),
            _ => format!("{}", libm::round(self.at(step) * 1e4) / 1e4),
        }
    }
}

/// A number with its unit, in the coarsest in which it is whole.
fn written(number: f64, unit: Unit) -> String {
    let whole = |number: f64| (number - libm::round(number)).abs() < 1e-6 && number >= 0.5;
    let choices: &[(f64, &str)] = match unit {
        Unit::Duration => &[(1.0, "s"), (1e3, "ms"), (1e6, "us")],
        Unit::Rate => &[(1.0, "/s"), (60.0, "/m"), (3_600.0, "/h"), (86_400.0, "/d")],
        _ => return format!("{}%", libm::round(number * 1e4) / 1e4),
    };
    let chosen = choices.iter().find(|(factor, _)| whole(number * factor));
    let (factor, symbol) = chosen.or(choices.last()).copied().unwrap_or((1.0, ""));
    format!("{}{symbol}", libm::round(number * factor))
}

fn unit_of(value: &Value) -> Option<Unit> {
    match value {
        Value::Integer(_) => Some(Unit::Whole),
        Value::Float(_) => Some(Unit::Number),
        Value::String(text) if units::percentage(text).is_ok() => Some(Unit::Percent),
        Value::String(text) if units::rate(text).is_ok() => Some(Unit::Rate),
        Value::String(text) if units::duration(text).is_ok() => Some(Unit::Duration),
        _ => None,
    }
}

/// A number and its unit, if it has one.
fn quantity(text: &str) -> Result<(f64, Option<Unit>), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, symbol) = text.split_at(end);
    let number: f64 =
        number.parse().map_err(|_| format!("`{text}` is not a number, with or without a unit"))?;
    let (factor, unit) = match symbol {
        "" => (1.0, None),
        "us" => (1e-6, Some(Unit::Duration)),
        "ms" => (1e-3, Some(Unit::Duration)),
        "s" => (1.0, Some(Unit::Duration)),
        "m" => (60.0, Some(Unit::Duration)),
        "h" => (3_600.0, Some(Unit::Duration)),
        "/s" => (1.0, Some(Unit::Rate)),
        "/m" => (1.0 / 60.0, Some(Unit::Rate)),
        "/h" => (1.0 / 3_600.0, Some(Unit::Rate)),
        "%" => (1.0, Some(Unit::Percent)),
        _ => return Err(format!("`{symbol}` is no unit of durations, rates or percentages")),
    };
    Ok((number * factor, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [[clients]]
        name = "web"
        rate = "40/s"
        [[clients]]
        name = "app"
        rate = "10/s"
        [[event]]
        at = "20s"
        surge = { clients = "web", factor = 2 }
        [upstream.api]
        hosts = []
    "#;

    fn applied(vary: &str, step: u32) -> Result<Table, String> {
        Vary::parse(vary)?.apply(TEXT, step).map(|text| text.parse().unwrap())
    }

    #[test]
    fn values_are_written_as_those_before() {
        let rate = |step| applied("clients.web.rate=20..45:3", step).unwrap()["clients"][0]["rate"].clone();
        assert_eq!([0, 1, 2].map(rate), ["20/s", "1950/m", "45/s"].map(Value::from));
        let table = applied("clients.web.rate=20..45:3", 0).unwrap();
        assert_eq!(table["clients"][1]["rate"], Value::from("10/s"));
        let table = applied("event.surge.factor=2..3:2", 1).unwrap();
        assert_eq!(table["event"][0]["surge"]["factor"], Value::from(3));
        let table = applied("event.0.at=1500ms..3s:2", 0).unwrap();
        assert_eq!(table["event"][0]["at"], Value::from("1500ms"));
        let table = applied("upstream.*.limit.max=8..64:2", 1).unwrap();
        assert_eq!(table["upstream"]["api"]["limit"]["max"], Value::from(64));
        assert_eq!(
            applied("upstream.api.budget=5%..10%:2", 0).unwrap()["upstream"]["api"]["budget"],
            "5%".into()
        );
    }

    #[test]
    fn what_cannot_be_varied_is_refused() {
        for (vary, problem) in [
            ("rate", "there is no `=`"),
            ("rate=1..2:3", "is not a key below a table"),
            ("clients.web.rate=1..2", "there is no number of values"),
            ("clients.web.rate=1..2:1", "is not from 2 to 50"),
            ("clients.web.rate=1..2x:3", "is no unit"),
            ("clients.web.rate=1s..2%:3", "different units"),
            ("clients.none.rate=1..2:3", "nothing has this name"),
            ("clients.web.rate.deep=1..2:3", "no table"),
        ] {
            let error = applied(vary, 0).unwrap_err();
            assert!(error.contains(problem), "{vary}: {error}");
        }
    }
}
