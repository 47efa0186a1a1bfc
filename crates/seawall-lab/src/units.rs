//! Durations and rates as scenario files write them: `250ms`, `40/s`.

use seawall_core::time::Span;

/// A duration: a number and one of `ns us ms s m h`.
pub fn duration(text: &str) -> Result<Span, String> {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let secs = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "" => return Err(format!("`{text}` has no unit: write `{text}s` or `{text}ms`")),
        _ => return Err(format!("`{text}` is not a duration such as `250ms`")),
    };
    match number.parse::<f64>() {
        Ok(number) if number * secs <= 1e9 => Ok(Span::from_secs_f64(number * secs)),
        _ => Err(format!("`{text}` is not a duration such as `250ms`")),
    }
}

/// A rate: a number per `s`, `m` or `h`; in events a second, above zero and at most a million.
pub fn rate(text: &str) -> Result<f64, String> {
    let Some((number, unit)) = text.split_once('/') else {
        return Err(format!("`{text}` has no unit: write `{text}/s`"));
    };
    let secs = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("`{text}` is not a rate such as `40/s`")),
    };
    match number.parse::<f64>().map(|number| number / secs) {
        Ok(rate) if rate > 0.0 && rate <= 1e6 => Ok(rate),
        _ => Err(format!("`{text}` is not a rate such as `40/s`, above 0 and at most 1000000/s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_rates() {
        assert_eq!(duration("250ms"), Ok(Span::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Span::from_millis(1_500)));
        assert_eq!(duration("5m"), Ok(Span::from_secs(300)));
        assert_eq!(rate("40/s"), Ok(40.0));
        assert_eq!(rate("3600/h"), Ok(1.0));
        for text in ["", "5", "5x", "ms", "-1s", "1e9s", "nans"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "5", "5/x", "/s", "0/s", "-1/s", "inf/s", "2000000/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
