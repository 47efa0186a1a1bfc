//! Envoy's request fields, from trusted clients, where the config asks for them.
//!
//! `x-envoy-upstream-rq-timeout-ms` is the time that a call may take, `x-envoy-max-retries` how many
//! attempts follow the first, `x-envoy-retry-on` after what: `5xx`, `gateway-error`, `reset`,
//! `connect-failure`, `refused-stream`, `retriable-4xx`, `retriable-status-codes` (with
//! `x-envoy-retriable-status-codes`). `x-envoy-attempt-count` tells the upstream which attempt it sees.
//!
//! **Edges.** The fields end here; what an untrusted client says is not read. Words that mean nothing here are
//! passed over. No word makes a request idempotent that is not.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use seawall::core::call::{ATTEMPTS_MAX, Config};
use seawall::core::time::Span;

const TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-upstream-rq-timeout-ms");
const RETRIES: HeaderName = HeaderName::from_static("x-envoy-max-retries");
const RETRY_ON: HeaderName = HeaderName::from_static("x-envoy-retry-on");
const RETRIABLE: HeaderName = HeaderName::from_static("x-envoy-retriable-status-codes");
/// The most statuses that are read.
const STATUSES_MAX: usize = 8;
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
    /// After what another attempt is made; `None` for what is usual.
    pub(super) retry_on: Option<RetryOn>,
}

/// After what another attempt is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RetryOn {
    any_5xx: bool,
    gateway_error: bool,
    reset: bool,
    connect_failure: bool,
    refused_stream: bool,
    conflict: bool,
    statuses: [u16; STATUSES_MAX],
}

/// How an attempt failed that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// There was no connection.
    Unconnected,
    /// The host took none of it.
    Unsent,
    /// The connection ended.
    Reset,
}

impl RetryOn {
    fn read(line: &str, statuses: &str) -> RetryOn {
        let mut on = RetryOn::default();
        for word in line.split(',').map(str::trim) {
            match word {
                "5xx" => on.any_5xx = true,
                "gateway-error" => on.gateway_error = true,
                "reset" => on.reset = true,
                "connect-failure" => on.connect_failure = true,
                "refused-stream" => on.refused_stream = true,
                "retriable-4xx" => on.conflict = true,
                "retriable-status-codes" => {
                    let statuses = statuses.split(',').filter_map(|status| status.trim().parse().ok());
                    on.statuses.iter_mut().zip(statuses).for_each(|(to, status)| *to = status);
                }
                _ => {}
            }
        }
        on
    }

    /// Whether after an answer with this status.
    pub(super) fn wants_status(&self, status: StatusCode) -> bool {
        let is_gateways = matches!(status.as_u16(), 502..=504);
        (self.any_5xx && status.is_server_error())
            || (self.gateway_error && is_gateways)
            || (self.conflict && status == StatusCode::CONFLICT)
            || self.statuses.contains(&status.as_u16())
    }

    /// Whether after no answer.
    pub(super) fn wants(&self, unanswered: Unanswered) -> bool {
        self.any_5xx
            || match unanswered {
                Unanswered::Unconnected => self.connect_failure,
                Unanswered::Unsent => self.refused_stream || self.reset,
                Unanswered::Reset => self.reset,
            }
    }
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
    let (words, statuses) = (headers.remove(RETRY_ON), headers.remove(RETRIABLE));
    let text = |value: &HeaderValue| value.to_str().unwrap_or("").to_owned();
    let retry_on = words
        .filter(|_| trusted)
        .map(|words| RetryOn::read(&text(&words), &statuses.as_ref().map(text).unwrap_or_default()));
    Asked { time: time.map(|time| time.min(TIMEOUT_MAX)), retries, retry_on }
}

/// Tells the upstream which attempt this is.
pub(super) fn count(headers: &mut HeaderMap, attempt: u32) {
    headers.insert(ATTEMPT, HeaderValue::from(attempt));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_mean_what_they_mean_to_envoy() {
        let on = |line| RetryOn::read(line, "418, 429,x");
        let statuses = |line| {
            let statuses = [409, 418, 429, 500, 502, 503, 504];
            let wanted = |status: &u16| on(line).wants_status(StatusCode::from_u16(*status).unwrap());
            statuses.into_iter().filter(wanted).collect::<Vec<_>>()
        };
        assert_eq!(statuses("5xx"), [500, 502, 503, 504]);
        assert_eq!(statuses("gateway-error, nonsense"), [502, 503, 504]);
        assert_eq!(statuses("retriable-4xx,retriable-status-codes"), [409, 418, 429]);
        assert!(statuses("reset").is_empty() && on("reset").wants(Unanswered::Reset));
        assert!(!on("connect-failure").wants(Unanswered::Reset));
        assert!(on("connect-failure").wants(Unanswered::Unconnected));
        assert!(on("refused-stream").wants(Unanswered::Unsent));
    }

    #[test]
    fn only_trusted_clients_are_heard_and_nobody_hears_of_it() {
        let headers = || {
            HeaderMap::from_iter([
                (TIMEOUT, HeaderValue::from_static("250")),
                (RETRIES, HeaderValue::from_static("99")),
                (ATTEMPT, HeaderValue::from_static("7")),
                (RETRY_ON, HeaderValue::from_static("5xx")),
                (RETRIABLE, HeaderValue::from_static("418")),
            ])
        };
        let mut trusted = headers();
        let asked = take(&mut trusted, true);
        assert_eq!(asked.time, Some(Span::from_millis(250)));
        assert!(asked.retry_on.is_some());
        assert_eq!(asked.over(Config::default()).attempts, ATTEMPTS_MAX);
        let mut untrusted = headers();
        assert_eq!(take(&mut untrusted, false), Asked::default());
        assert!(trusted.is_empty() && untrusted.is_empty());
    }
}
