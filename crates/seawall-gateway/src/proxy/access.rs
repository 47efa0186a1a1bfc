//! The access log: a line for a share of the requests, and of the refusals.
//!
//! **Edges.** The query is left out: it is where secrets stand. Shares are counted, not drawn: of a share
//! of 1 % it is each hundredth request.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::{Method, StatusCode};

use seawall_config::Log;

const WHOLE: u64 = 1_000_000;

/// Which requests are logged.
#[derive(Debug)]
pub(crate) struct AccessLog {
    config: Log,
    requests: AtomicU64,
    refusals: AtomicU64,
}

/// A request that may be logged.
pub(super) struct Seen {
    began: Instant,
    client: IpAddr,
    method: Method,
    path: String,
}

impl AccessLog {
    /// As the config says; `None` when it says nothing.
    pub(crate) fn new(config: Log) -> Option<AccessLog> {
        let nothing = config == Log::default();
        (!nothing).then(|| AccessLog { config, requests: AtomicU64::new(0), refusals: AtomicU64::new(0) })
    }

    /// A request has come.
    pub(super) fn see(&self, client: IpAddr, method: &Method, path: &str) -> Seen {
        Seen { began: Instant::now(), client, method: method.clone(), path: path.to_owned() }
    }

    /// It was answered; if by Seawall itself, for this reason and by this policy.
    pub(super) fn tell(
        &self,
        seen: &Seen,
        route: Option<&str>,
        status: StatusCode,
        (reason, policy): (Option<&str>, Option<&str>),
    ) {
        if !self.is_told(reason.is_some()) {
            return;
        }
        let ms = seen.began.elapsed().as_secs_f64() * 1e3;
        let (client, method, path, status) = (seen.client, &seen.method, &seen.path, status.as_u16());
        tracing::info!(%client, %method, path, route, status, reason, policy, ms, "request");
    }

    /// Something was refused that could not be read as a request.
    pub(super) fn tell_unread(&self, client: IpAddr, status: StatusCode, reason: &str) {
        if self.is_told(true) {
            tracing::info!(%client, status = status.as_u16(), reason, "request");
        }
    }

    /// Whether the next answer is one of those that are told.
    fn is_told(&self, is_refusal: bool) -> bool {
        let refused = is_refusal && is_chosen(&self.refusals, self.config.refusals);
        refused || is_chosen(&self.requests, self.config.access)
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
