//! Copies of requests for a shadow upstream: a new version sees real traffic, and no client sees it.
//!
//! **Mechanics.** A copy is sent when the request itself was answered, so that it costs its client no time;
//! it goes through the shadow's own gates and breakers as the first to be dropped, with one attempt and the
//! deadline of the route. It says so in `x-seawall-mirror`. The answer is read to its end and thrown away.
//!
//! **Edges.** What was refused here is not copied, nor is an upgrade, nor a body that is longer than what is
//! kept or has not come whole by then; each is counted. The shadow's limit and queue bound how many
//! copies are under way.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response, header};
use hyper::body::Body as _;
use prometheus_client::metrics::counter::Counter;
use seawall::core::request;
use seawall::now;

use super::outbound::Outbound;
use super::outgoing::Outgoing;
use super::reason;
use super::road::Route;
use super::stack::Stack;

const MIRROR: HeaderName = HeaderName::from_static("x-seawall-mirror");
/// All requests, in parts per million.
const ALL: u64 = 1_000_000;

/// What became of the copies for a shadow.
#[derive(Debug, Default)]
pub(crate) struct MirrorStats {
    /// Answered by the shadow with anything but 5xx.
    answered: Counter,
    /// Answered with 5xx, not in time, or not at all.
    failed: Counter,
    /// Held back by the shadow's limit, breaker or shedding.
    refused: Counter,
    /// Not copied.
    skipped: Counter,
}

impl MirrorStats {
    /// Each with its name.
    pub(crate) fn all(&self) -> [(&'static str, &Counter); 4] {
        [
            ("answered", &self.answered),
            ("failed", &self.failed),
            ("refused", &self.refused),
            ("skipped", &self.skipped),
        ]
    }
}

/// The mirror of a route.
pub(crate) struct Mirror {
    /// The share of requests, in parts per million.
    share: u32,
    /// The way to the shadow.
    pub(super) route: Arc<Route>,
    /// What became of the copies.
    pub(crate) stats: Arc<MirrorStats>,
    /// Requests so far.
    seen: AtomicU64,
}

impl Mirror {
    pub(super) fn new(share: u32, route: Arc<Route>, stats: Arc<MirrorStats>) -> Mirror {
        Mirror { share, route, stats, seen: AtomicU64::new(0) }
    }

    /// Whether the next request is one of those that are copied.
    pub(super) fn is_due(&self) -> bool {
        let number = self.seen.fetch_add(1, Ordering::Relaxed) % ALL;
        let part = |number: u64| number * u64::from(self.share) / ALL;
        part(number + 1) > part(number)
    }

    /// Sends a copy of what was answered like this.
    pub(super) fn send<B>(
        &self,
        worker: &Rc<Stack>,
        copied: Option<Request<Outbound>>,
        seen: request::Request,
        answer: &Response<B>,
    ) {
        let copied = copied.filter(|request| {
            reason::of(answer).is_none() && !request.headers().contains_key(header::UPGRADE)
        });
        let whole = copied.and_then(|request| {
            let body = request.body().whole()?;
            Some(request.map(|_| body))
        });
        let Some(mut request) = whole else {
            self.stats.skipped.inc();
            return;
        };
        if let Ok(name) = HeaderValue::try_from(&self.route.matching.name) {
            request.headers_mut().insert(MIRROR, name);
        }
        let (route, stats, worker) = (self.route.clone(), self.stats.clone(), worker.clone());
        let tier = route.matching.tier.default;
        let seen = request::Request { tier, plan: 0, deadline: now() + route.deadline, ..seen };
        tokio::task::spawn_local(async move {
            let (response, _) = worker.pass(&route, seen, Outgoing::new(request)).await;
            let counter = match response.status() {
                _ if reason::of(&response).is_some_and(|reason| reason != "upstream") => &stats.refused,
                status if status.is_server_error() => &stats.failed,
                _ => &stats.answered,
            };
            counter.inc();
            let mut body = pin!(response.into_body());
            let drain = async { while let Some(Ok(_)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {} };
            let _ = tokio::time::timeout(Duration::from(route.deadline), drain).await;
        });
    }
}
