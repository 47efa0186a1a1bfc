use seawall_core::measure::bucket::Rate;
use seawall_core::time::Span;

use super::{Malformed, duration, percentage, rate};

/// What each text is read as, or the error with its help.
fn check<T: PartialEq + std::fmt::Debug>(
    parse: fn(&str) -> Result<T, Malformed>,
    table: &[(&str, Result<T, &str>)],
) {
    for (text, expected) in table {
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
