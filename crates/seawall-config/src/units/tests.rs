use regex::Regex;
use seawall_core::measure::bucket::Rate;
use seawall_core::time::Span;
use serde_json::Value;

use super::{Malformed, duration, percentage, rate, size};

/// The patterns of the schema's values of this kind.
fn patterns<'a>(schema: &'a Value, kind: &str, found: &mut Vec<&'a str>) {
    let described = schema["description"].as_str().is_some_and(|text| text.starts_with(kind));
    if described && schema["type"] == "string" {
        found.push(schema["pattern"].as_str().expect(kind));
    }
    let inner: &mut dyn Iterator<Item = &Value> = match schema {
        Value::Object(object) => &mut object.values(),
        Value::Array(items) => &mut items.iter(),
        _ => return,
    };
    inner.for_each(|inner| patterns(inner, kind, found));
}

/// The one pattern that the schema has for this kind of value.
fn pattern(kind: &str) -> Regex {
    let (schema, mut found) = (serde_json::from_str(crate::SCHEMA).unwrap(), Vec::new());
    patterns(&schema, kind, &mut found);
    found.dedup();
    assert_eq!(found.len(), 1, "{kind}: {found:?}");
    Regex::new(found[0]).unwrap()
}

/// What each text is read as, or the error with its help. The schema's pattern for this kind of value takes
/// whatever is read, and none of the texts that are wrong by form, not by size.
fn check<T: PartialEq + std::fmt::Debug>(
    kind: &str,
    parse: fn(&str) -> Result<T, Malformed>,
    table: &[(&str, Result<T, &str>)],
) {
    let pattern = pattern(kind);
    for (text, expected) in table {
        let is_bounded =
            expected.as_ref().is_err_and(|help| help.contains("above the") || help.contains("not from 1"));
        assert!(pattern.is_match(text) == expected.is_ok() || is_bounded, "{pattern} {text:?}");
        let read = parse(text).map_err(|malformed| malformed.to_string());
        assert_eq!(
            read.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|help| *help),
            "{text:?}"
        );
    }
}

#[test]
fn durations() {
    check(
        "A duration such as",
        duration,
        &[
            ("90us", Ok(Span::from_micros(90))),
            ("250ms", Ok(Span::from_millis(250))),
            ("2s", Ok(Span::from_secs(2))),
            ("5m", Ok(Span::from_secs(300))),
            ("1h", Ok(Span::from_secs(3_600))),
            ("24h", Ok(Span::from_secs(86_400))),
            ("007s", Ok(Span::from_secs(7))),
            ("", Err("`` is not a duration; write a number and a unit, as in `250ms`")),
            ("soon", Err("`soon` is not a duration; write a number and a unit, as in `250ms`")),
            ("-5s", Err("`-5s` is not a duration; write a number and a unit, as in `250ms`")),
            (" 5s", Err("` 5s` is not a duration; write a number and a unit, as in `250ms`")),
            (".5s", Err("`.5s` is not a duration; write a number and a unit, as in `250ms`")),
            ("5.s", Err("`5.s` is not a duration; write a number and a unit, as in `250ms`")),
            ("1.2.3s", Err("`1.2.3s` is not a duration; write a number and a unit, as in `250ms`")),
            ("5 parsecs", Err("` parsecs` is not one of the units `us`, `ms`, `s`, `m`, `h`")),
            ("15", Err("`15` has no unit; write `15s`, or with another of `us`, `ms`, `s`, `m`, `h`")),
            ("1.5s", Err("`1.5` is not a whole number; write it in a smaller unit, as in `1500ms`")),
            ("2 s", Err("` s` is not one of the units `us`, `ms`, `s`, `m`, `h`; write `2s`")),
            ("2S", Err("`S` is not one of the units `us`, `ms`, `s`, `m`, `h`; write `2s`")),
            ("2sec", Err("`sec` is not one of the units `us`, `ms`, `s`, `m`, `h`; write `2s`")),
            ("2 minutes", Err("` minutes` is not one of the units `us`, `ms`, `s`, `m`, `h`; write `2m`")),
            ("2hours", Err("`hours` is not one of the units `us`, `ms`, `s`, `m`, `h`; write `2h`")),
            ("2millis", Err("`millis` is not one of the units `us`, `ms`, `s`, `m`, `h`; write `2ms`")),
            ("2d", Err("`d` is not one of the units `us`, `ms`, `s`, `m`, `h`")),
            ("1h30m", Err("`h30m` is not one of the units `us`, `ms`, `s`, `m`, `h`")),
            ("0s", Err("`0s` is not above zero")),
            ("25h", Err("`25h` is above the longest duration, `24h`")),
            ("99999999999999999999h", Err("`99999999999999999999h` is above the longest duration, `24h`")),
            ("18446744073709551615us", Err("`18446744073709551615us` is above the longest duration, `24h`")),
        ],
    );
}

#[test]
fn rates() {
    let per = |count, seconds| Ok(Rate { count, per: Span::from_secs(seconds) });
    check(
        "A rate such as",
        rate,
        &[
            ("50/s", per(50, 1)),
            ("100/m", per(100, 60)),
            ("1000/h", per(1_000, 3_600)),
            ("1/d", per(1, 86_400)),
            ("1000000000/s", per(1_000_000_000, 1)),
            ("", Err("`` is not a rate; write a number and a unit, as in `50/s`")),
            ("/s", Err("`/s` is not a rate; write a number and a unit, as in `50/s`")),
            ("fast", Err("`fast` is not a rate; write a number and a unit, as in `50/s`")),
            ("50", Err("`50` has no unit; write `50/s`, or with another of `s`, `m`, `h`, `d`")),
            ("50s", Err("`50s` is not a rate; write `50/s`, or with another of `s`, `m`, `h`, `d`")),
            ("50 / s", Err("`50 / s` is not a rate; write `50/s`, or with another of `s`, `m`, `h`, `d`")),
            ("50/", Err("`` is not one of the units `s`, `m`, `h`, `d`")),
            ("50/ s", Err("` s` is not one of the units `s`, `m`, `h`, `d`; write `50/s`")),
            ("50/sec", Err("`sec` is not one of the units `s`, `m`, `h`, `d`; write `50/s`")),
            ("50/min", Err("`min` is not one of the units `s`, `m`, `h`, `d`; write `50/m`")),
            ("50/ms", Err("`ms` is not one of the units `s`, `m`, `h`, `d`")),
            ("50/10s", Err("`10s` is not one of the units `s`, `m`, `h`, `d`")),
            ("0.5/s", Err("`0.5` is not a whole number; write it over a longer period, as in `30/m`")),
            ("0/s", Err("the count `0` is not from 1 to 1000000000")),
            ("1000000001/s", Err("the count `1000000001` is not from 1 to 1000000000")),
            ("99999999999999999999/s", Err("the count `99999999999999999999` is not from 1 to 1000000000")),
        ],
    );
}

#[test]
fn percentages() {
    check(
        "A percentage such as",
        percentage,
        &[
            ("0%", Ok(0)),
            ("10%", Ok(100_000)),
            ("100%", Ok(1_000_000)),
            ("0.5%", Ok(5_000)),
            ("99.9999%", Ok(999_999)),
            ("", Err("`` is not a percentage; write a number and a unit, as in `10%`")),
            ("%", Err("`%` is not a percentage; write a number and a unit, as in `10%`")),
            ("-1%", Err("`-1%` is not a percentage; write a number and a unit, as in `10%`")),
            ("10", Err("`10` has no unit; write `10%`")),
            ("10 %", Err("`10 %` is not a percentage; write `10%`")),
            ("10pc", Err("`10pc` is not a percentage; write `10%`")),
            ("101%", Err("`101%` is above `100%`")),
            ("100.0001%", Err("`100.0001%` is above `100%`")),
            ("99999999999%", Err("`99999999999%` is above `100%`")),
            ("0.00001%", Err("`0.00001%` has more than four decimals")),
        ],
    );
}

#[test]
fn sizes() {
    let malformed = "is not a whole number from 1 B to 1 TiB";
    check(
        "A size such as",
        size,
        &[
            ("1B", Ok(1)),
            ("64KiB", Ok(65_536)),
            ("1MiB", Ok(1 << 20)),
            ("1024GiB", Ok(1 << 40)),
            ("007KiB", Ok(7 << 10)),
            ("", Err("`` is not a size; write a number and a unit, as in `64KiB`")),
            ("64", Err("`64` has no unit; write `64B`, or with `KiB`, `MiB` or `GiB`")),
            ("64kb", Err("`kb` is not one of the units `B`, `KiB`, `MiB`, `GiB`; write `64KiB`")),
            ("64 KiB", Err("` KiB` is not one of the units `B`, `KiB`, `MiB`, `GiB`")),
            ("0KiB", Err(&format!("`0KiB` {malformed}"))),
            ("1.5KiB", Err(&format!("`1.5KiB` {malformed}"))),
        ],
    );
}

#[test]
fn percentiles_and_slopes() {
    let after = pattern("A percentile such as");
    assert!(["p50", "p99.9", "p9.5e1", "50ms"].iter().all(|text| after.is_match(text)));
    assert!(["p", "95", "50", "5 parsecs", "q95"].iter().all(|text| !after.is_match(text)));
    let slope = pattern("A duration for each request inside");
    assert!(["10ms", "10ms/inflight"].iter().all(|text| slope.is_match(text)));
    assert!(!slope.is_match("10ms/s"));
}
