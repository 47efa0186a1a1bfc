//! Numbers with units, as the config writes them: `250ms`, `50/s`, `10%`.
//!
//! A number without its unit is an error, never a guess: `timeout = 5` has meant seconds to its
//! writer and milliseconds to its reader. Numbers are whole; only percentages have decimals.

use seawall_core::measure::bucket::Rate;
use seawall_core::time::Span;

use super::report::{Malformed, quoted};

/// The longest duration.
pub const DURATION_MAX: Span = Span::from_secs(86_400);
/// The highest count of a rate.
pub const RATE_COUNT_MAX: u64 = 1_000_000_000;

struct Unit {
    symbol: &'static str,
    name: &'static str,
    nanos: u64,
}

const MICROSECOND: Unit = Unit { symbol: "us", name: "microsecond", nanos: 1_000 };
const MILLISECOND: Unit = Unit { symbol: "ms", name: "millisecond", nanos: 1_000_000 };
const SECOND: Unit = Unit { symbol: "s", name: "second", nanos: 1_000_000_000 };
const MINUTE: Unit = Unit { symbol: "m", name: "minute", nanos: 60_000_000_000 };
const HOUR: Unit = Unit { symbol: "h", name: "hour", nanos: 3_600_000_000_000 };
const DAY: Unit = Unit { symbol: "d", name: "day", nanos: 86_400_000_000_000 };

const OF_DURATIONS: [Unit; 5] = [MICROSECOND, MILLISECOND, SECOND, MINUTE, HOUR];
const OF_RATES: [Unit; 4] = [SECOND, MINUTE, HOUR, DAY];

/// A duration above zero, up to [`DURATION_MAX`]: `90us`, `250ms`, `2s`, `5m`, `1h`.
pub fn duration(text: &str) -> Result<Span, Malformed> {
    let (number, symbol) = split(text, "a duration", "250ms")?;
    if symbol.is_empty() {
        return Err(
            no_unit(number).help(format!("write `{number}s`, or with another of {}", list(&OF_DURATIONS)))
        );
    }
    let unit = find(symbol, &OF_DURATIONS)
        .map_err(|malformed| corrected(malformed, symbol, &OF_DURATIONS, |unit| format!("{number}{unit}")))?;
    if number.contains('.') {
        let malformed = Malformed::new(format!("{} is not a whole number", quoted(number)));
        return Err(malformed.help("write it in a smaller unit, as in `1500ms`"));
    }
    let nanos = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit.nanos));
    match nanos.map(Span::from_nanos) {
        Some(Span::ZERO) => Err(Malformed::new(format!("{} is not above zero", quoted(text)))),
        Some(span) if span <= DURATION_MAX => Ok(span),
        _ => Err(Malformed::new(format!("{} is above the longest duration, `24h`", quoted(text)))),
    }
}

/// A rate of 1 to [`RATE_COUNT_MAX`] each second, minute, hour or day: `50/s`, `1000/h`.
pub fn rate(text: &str) -> Result<Rate, Malformed> {
    let (number, rest) = split(text, "a rate", "50/s")?;
    if rest.is_empty() {
        return Err(
            no_unit(number).help(format!("write `{number}/s`, or with another of {}", list(&OF_RATES)))
        );
    }
    let Some(symbol) = rest.strip_prefix('/') else {
        let malformed = Malformed::new(format!("{} is not a rate", quoted(text)));
        return Err(malformed.help(format!("write `{number}/s`, or with another of {}", list(&OF_RATES))));
    };
    let unit = find(symbol, &OF_RATES)
        .map_err(|malformed| corrected(malformed, symbol, &OF_RATES, |unit| format!("{number}/{unit}")))?;
    if number.contains('.') {
        let malformed = Malformed::new(format!("{} is not a whole number", quoted(number)));
        return Err(malformed.help("write it over a longer period, as in `30/m`"));
    }
    match number.parse() {
        Ok(count @ 1..=RATE_COUNT_MAX) => Ok(Rate { count, per: Span::from_nanos(unit.nanos) }),
        _ => Err(Malformed::new(format!("the count {} is not from 1 to {RATE_COUNT_MAX}", quoted(number)))),
    }
}

/// A percentage from 0 to 100 with up to four decimals, in parts per million: `10%`, `0.5%`.
pub fn percentage(text: &str) -> Result<u32, Malformed> {
    let (number, symbol) = split(text, "a percentage", "10%")?;
    if symbol.is_empty() {
        return Err(no_unit(number).help(format!("write `{number}%`")));
    }
    if symbol != "%" {
        let malformed = Malformed::new(format!("{} is not a percentage", quoted(text)));
        return Err(malformed.help(format!("write `{number}%`")));
    }
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if decimals.len() > 4 {
        return Err(Malformed::new(format!("{} has more than four decimals", quoted(text))));
    }
    format!("{whole}{decimals:0<4}")
        .parse()
        .ok()
        .filter(|&ppm| ppm <= 1_000_000)
        .ok_or_else(|| Malformed::new(format!("{} is above `100%`", quoted(text))))
}

/// A percentage, with or without its sign, as commands take it: `50%`, `50`.
pub fn percentage_or_number(text: &str) -> Result<u32, Malformed> {
    if text.ends_with('%') { percentage(text) } else { percentage(&format!("{text}%")) }
}

/// The largest size, in bytes.
const SIZE_MAX: u64 = 1 << 40;
const OF_SIZES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A size above zero, up to 1 TiB, in bytes: `64KiB`, `1MiB`.
pub fn size(text: &str) -> Result<u64, Malformed> {
    let (number, symbol) = split(text, "a size", "64KiB")?;
    if symbol.is_empty() {
        return Err(no_unit(number).help(format!("write `{number}B`, or with `KiB`, `MiB` or `GiB`")));
    }
    let Some((_, factor)) = OF_SIZES.iter().find(|(unit, _)| *unit == symbol) else {
        let malformed =
            Malformed::new(format!("{} is not one of the units `B`, `KiB`, `MiB`, `GiB`", quoted(symbol)));
        let meant = symbol.to_lowercase();
        let meant = OF_SIZES.iter().find(|(unit, _)| meant.starts_with(&unit.to_lowercase()[..1]));
        return Err(match meant {
            Some((unit, _)) => malformed.help(format!("write `{number}{unit}`")),
            None => malformed,
        });
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    bytes
        .filter(|bytes| (1..=SIZE_MAX).contains(bytes))
        .ok_or_else(|| Malformed::new(format!("{} is not a whole number from 1 B to 1 TiB", quoted(text))))
}

/// The number, with at most one point inside it, and what follows.
fn split<'t>(text: &'t str, wanted: &str, example: &str) -> Result<(&'t str, &'t str), Malformed> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let is_number = match number.split_once('.') {
        Some((whole, decimals)) => !whole.is_empty() && !decimals.is_empty() && !decimals.contains('.'),
        None => !number.is_empty(),
    };
    if is_number {
        return Ok((number, rest));
    }
    let malformed = Malformed::new(format!("{} is not {wanted}", quoted(text)));
    Err(malformed.help(format!("write a number and a unit, as in `{example}`")))
}

fn no_unit(number: &str) -> Malformed {
    Malformed::new(format!("{} has no unit", quoted(number)))
}

fn find<'u>(symbol: &str, units: &'u [Unit]) -> Result<&'u Unit, Malformed> {
    let unit = units.iter().find(|unit| unit.symbol == symbol);
    unit.ok_or_else(|| Malformed::new(format!("{} is not one of the units {}", quoted(symbol), list(units))))
}

/// Adds how to write the unit that `symbol` most likely means: `min` and ` mins` are `m`.
fn corrected(
    malformed: Malformed,
    symbol: &str,
    units: &[Unit],
    write: impl Fn(&str) -> String,
) -> Malformed {
    let word = symbol.trim().to_lowercase();
    let singular = word.trim_end_matches('s');
    let meant = units
        .iter()
        .find(|unit| unit.symbol == word)
        .or_else(|| units.iter().find(|unit| singular.len() > 1 && unit.name.starts_with(singular)));
    match meant {
        Some(unit) => malformed.help(format!("write `{}`", write(unit.symbol))),
        None => malformed,
    }
}

fn list(units: &[Unit]) -> String {
    let symbols: Vec<String> = units.iter().map(|unit| format!("`{}`", unit.symbol)).collect();
    symbols.join(", ")
}

#[cfg(test)]
mod tests;
