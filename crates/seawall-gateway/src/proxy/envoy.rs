//! Envoy's request fields, from trusted clients, where the config asks for them.
//!
//! `x-envoy-upstream-rq-timeout-ms` is the time that a call may take, `x-envoy-max-retries` how many
//! attempts follow the first; `x-envoy-attempt-count` tells the upstream which one it sees. The
//! fields end here; what an untrusted client says is not read.

use http::{HeaderMap, HeaderName, HeaderValue};
use seawall::core::call::{ATTEMPTS_MAX, Config};
use seawall::core::time::Span;

const TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
const RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const ATTEMPT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
/// The longest time that a client may ask for.
const TIMEOUT_MAX: Span = Span::from_secs(86_400);

/// What a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The time that its call may take.
    pub(super) time: Option<Span>,
    /// Attempts after the first.
    retries: Option<u32>,
}

impl Asked {
    /// These attempts, or as many as are asked for.
    pub(super) fn over(self, config: Config) -> Config {
        let attempts = self.retries.map(|retries| retries.saturating_add(1).min(ATTEMPTS_MAX));
        Config { attempts: attempts.unwrap_or(config.attempts), ..config }
    }
}

/// Takes the fields out, and reads them if they count.
pub(super) fn take(headers: &mut HeaderMap, trusted: bool) -> Asked {
    let mut number = |name| headers.remove(name)?.to_str().ok()?.parse::<u32>().ok().filter(|_| trusted);
    let (millis, retries) = (number(TIMEOUT), number(RETRIES));
    let time = millis.filter(|millis| *millis > 0).map(|millis| Span::from_millis(u64::from(millis)));
    headers.remove(ATTEMPT);
    Asked { time: time.map(|time| time.min(TIMEOUT_MAX)), retries }
}

/// Tells the upstream which attempt this is.
pub(super) fn count(headers: &mut HeaderMap, attempt: u32) {
    headers.insert(ATTEMPT, HeaderValue::from(attempt));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_clients_are_heard_and_nobody_hears_of_it() {
        let headers = || {
            HeaderMap::from_iter([
                (TIMEOUT, HeaderValue::from_static("250")),
                (RETRIES, HeaderValue::from_static("99")),
                (ATTEMPT, HeaderValue::from_static("7")),
            ])
        };
        let mut trusted = headers();
        let asked = take(&mut trusted, true);
        assert_eq!(asked.time, Some(Span::from_millis(250)));
        assert_eq!(asked.over(Config::default()).attempts, ATTEMPTS_MAX);
        let mut untrusted = headers();
        assert_eq!(take(&mut untrusted, false), Asked::default());
        assert!(trusted.is_empty() && untrusted.is_empty());
    }
}
