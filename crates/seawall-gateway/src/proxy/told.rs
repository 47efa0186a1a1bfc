//! What an attempt tells its host beside the request itself: how much time is left, and its number.
//!
//! **Prevents** work for whoever has stopped waiting, at the next hop.
//!
//! **Mechanics.** `x-envoy-expected-rq-timeout-ms` is the time that is left for this attempt, in whole
//! milliseconds, in place of what the client sent; `grpc-timeout` what is left of a gRPC client's own. Both are
//! said when the connection stands, so that what making it took is not counted twice.
//!
//! **Edges.** There is at least a millisecond left: none would mean no bound.

use std::cell::RefCell;

use http::{HeaderMap, HeaderName, HeaderValue};
use seawall::core::time::Time;

use super::{envoy, grpc};

const EXPECTED: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// What an attempt tells its host.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// When it is given up, where the host is to know it.
    pub(super) until: Option<Time>,
    /// When the time that a gRPC client gives is over.
    pub(super) given: Option<grpc::Given>,
    /// Its number, where the host is to know it.
    pub(super) number: Option<u32>,
}

/// The time that was told last, in words: many requests in a row have as much.
#[derive(Debug, Default)]
pub(super) struct Words(RefCell<Option<(u64, HeaderValue)>>);

impl Words {
    fn of(&self, millis: u64) -> HeaderValue {
        match &mut *self.0.borrow_mut() {
            Some((last, words)) if *last == millis => words.clone(),
            other => other.insert((millis, HeaderValue::from(millis))).1.clone(),
        }
    }
}

impl Told {
    /// Says it in these fields.
    pub(super) fn write(&self, headers: &mut HeaderMap, words: &Words, now: Time) {
        if let Some(until) = self.until {
            let millis = until.since(now).as_nanos() / 1_000_000;
            headers.insert(EXPECTED, words.of(millis.max(1)));
        }
        if let Some(grpc::Given(until)) = self.given {
            grpc::give(headers, until.since(now));
        }
        if let Some(number) = self.number {
            envoy::count(headers, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use seawall::core::time::Span;

    use super::*;

    #[test]
    fn whole_milliseconds_are_told_and_never_none() {
        let (words, begun) = (Words::default(), Time::ZERO + Span::from_secs(9));
        let told = Told { until: Some(begun + Span::from_millis(250)), ..Told::default() };
        let mut headers = HeaderMap::from_iter([(EXPECTED, HeaderValue::from_static("9999"))]);
        for (micros, text) in
            [(0, "250"), (1, "249"), (900, "249"), (249_500, "1"), (250_000, "1"), (300_000, "1")]
        {
            told.write(&mut headers, &words, begun + Span::from_micros(micros));
            let lines: Vec<_> = headers.get_all(EXPECTED).iter().collect();
            assert_eq!(lines, [text], "{micros}");
        }
    }
}
