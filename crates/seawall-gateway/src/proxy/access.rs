//! The access log: a line for a share of the requests, and of the refusals.
//!
//! **Mechanics.** A line of text is written when the head of the answer is there, and says as much as is known then. In JSON
//! it is written when the answer is over: what became of the request on its way stands in its [`Trail`].
//!
//! **Edges.** The query is left out: it is where secrets stand. Shares are counted, not drawn: of a share
//! of 1 % it is each hundredth request.

mod record;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{Method, Request, StatusCode};
use seawall_config::{Log, LogFormat};

use super::outbound::Outbound;
use record::Record;
pub(crate) use record::{Line, Trail};

const WHOLE: u64 = 1_000_000;

/// Which requests are logged.
#[derive(Debug)]
pub(crate) struct AccessLog {
    config: Log,
    requests: AtomicU64,
    refusals: AtomicU64,
}

/// A request that may be logged.
pub(super) enum Seen {
    Text { began: Instant, client: IpAddr, method: Method, path: String },
    Json(Box<Record>),
}

/// How a request was answered.
pub(super) struct Answered<'a> {
    pub(super) route: Option<&'a str>,
    pub(super) status: StatusCode,
    /// Why Seawall answered itself, if it did, and by which policy.
    pub(super) reason: Option<&'a str>,
    pub(super) policy: Option<&'a str>,
    /// What stood in for the upstream.
    pub(super) source: Option<&'static str>,
}

impl AccessLog {
    /// As the config says; `None` when it says nothing.
    pub(crate) fn new(config: Log) -> Option<AccessLog> {
        let nothing = (config.access, config.refusals) == (0, 0);
        (!nothing).then(|| AccessLog { config, requests: AtomicU64::new(0), refusals: AtomicU64::new(0) })
    }

    /// A request has come.
    pub(super) fn see<B>(&self, client: IpAddr, request: &Request<B>) -> Seen {
        match self.config.format {
            LogFormat::Text => {
                let (method, path) = (request.method().clone(), request.uri().path().to_owned());
                Seen::Text { began: Instant::now(), client, method, path }
            }
            LogFormat::Json => Seen::Json(Box::new(Record::of(client, request))),
        }
    }

    /// It was answered. What comes back is told when the answer is over.
    pub(super) fn tell(&self, seen: Seen, answered: &Answered<'_>) -> Option<Line> {
        if !self.is_told(answered.reason.is_some()) {
            return None;
        }
        match seen {
            Seen::Text { began, client, method, path } => {
                let ms = began.elapsed().as_secs_f64() * 1e3;
                let Answered { route, status, reason, policy, .. } = *answered;
                let status = status.as_u16();
                tracing::info!(%client, %method, path, route, status, reason, policy, ms, "request");
                None
            }
            Seen::Json(record) => tracing::enabled!(tracing::Level::INFO).then(|| record.answered(answered)),
        }
    }

    /// Something was refused that could not be read as a request.
    pub(super) fn tell_unread(&self, client: IpAddr, status: StatusCode, reason: &str) {
        if !self.is_told(true) {
            return;
        }
        match self.config.format {
            LogFormat::Text => tracing::info!(%client, status = status.as_u16(), reason, "request"),
            LogFormat::Json if tracing::enabled!(tracing::Level::INFO) => {
                let reason = Some(reason);
                let answered = Answered { route: None, status, reason, policy: None, source: None };
                drop(Box::new(Record::unread(client)).answered(&answered));
            }
            LogFormat::Json => {}
        }
    }

    /// Whether the next answer is one of those that are told.
    fn is_told(&self, is_refusal: bool) -> bool {
        let refused = is_refusal && is_chosen(&self.refusals, self.config.refusals);
        refused || is_chosen(&self.requests, self.config.access)
    }
}

impl Seen {
    /// It is sent on its way like this.
    pub(super) fn follow(&mut self, request: &mut Request<Outbound>) {
        if let Seen::Json(record) = self {
            record.follow(request);
        }
    }
}

/// Whether the next of these is one of so many parts per million.
fn is_chosen(count: &AtomicU64, ppm: u32) -> bool {
    let number = count.fetch_add(1, Ordering::Relaxed) % WHOLE;
    let part = |number: u64| number * u64::from(ppm) / WHOLE;
    part(number + 1) > part(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact() {
        for (ppm, expected) in [(0, 0), (10_000, 10), (500_000, 500), (1_000_000, 1_000)] {
            let count = AtomicU64::new(0);
            assert_eq!((0..1_000).filter(|_| is_chosen(&count, ppm)).count(), expected);
        }
    }
}
