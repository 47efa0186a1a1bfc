//! An observer that writes [`tracing`] events.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

use seawall_core::decision::Rejection;
use seawall_core::event::{Change, Event};
use seawall_core::time::Span;
use tracing::{debug, info, warn};

use super::{Observer, Origin};

/// Writes [`tracing`] events with the target `seawall`: what takes something out of use at `WARN`,
/// other changes at `INFO`, a limit that moves and a request that is refused at `DEBUG`.
///
/// Of refusals it can write one in so many: a service that refuses ten thousand a second would
/// otherwise spend more on saying so than on refusing. `since` counts those up to the one written.
///
/// ```
/// use seawall::core::limit;
/// use seawall::observe::{Traced, Watcher};
/// use seawall::Pipeline;
/// use std::num::NonZeroU32;
/// use std::sync::Arc;
///
/// let traced = Arc::new(Traced::one_in(NonZeroU32::new(100).unwrap()));
/// let pool = Pipeline::single(limit::Config::default()).observed(Watcher::new("pool", traced));
/// ```
#[derive(Debug)]
pub struct Traced {
    one_in: NonZeroU32,
    refused: AtomicU32,
}

impl Default for Traced {
    fn default() -> Traced {
        Traced::one_in(NonZeroU32::MIN)
    }
}

impl Traced {
    /// Writes one refusal in so many, the first included.
    pub const fn one_in(one_in: NonZeroU32) -> Traced {
        Traced { one_in, refused: AtomicU32::new(0) }
    }
}

impl Observer for Traced {
    fn changed(&self, origin: Origin<'_>, event: &Event) {
        let Origin { name, host } = origin;
        let change = event.change.name();
        match event.change {
            Change::BreakerOpened { failure_rate } => {
                warn!(target: "seawall", name, host, failure_rate, "{change}");
            }
            Change::BreakerForced { mode } | Change::HostForced { mode } => {
                warn!(target: "seawall", name, host, mode, "{change}")
            }
            Change::HostEjected { cause } => {
                warn!(target: "seawall", name, host, cause = cause.name(), "{change}");
            }
            Change::QueueStands | Change::HostUnhealthy | Change::PanicBegan | Change::Blocked => {
                warn!(target: "seawall", name, host, "{change}");
            }
            Change::LimitChanged { limit } => debug!(target: "seawall", name, host, limit, "{change}"),
            Change::BreakerHalfOpen
            | Change::BreakerClosed
            | Change::QueueDrains
            | Change::HostReturned
            | Change::HostRecalled
            | Change::HostReleased
            | Change::HostHealthy
            | Change::PanicEnded
            | Change::Admitting
            | Change::Admitted => info!(target: "seawall", name, host, "{change}"),
        }
    }

    fn refused(&self, origin: Origin<'_>, rejection: &Rejection) {
        let before = self.refused.fetch_add(1, Ordering::Relaxed);
        if !before.is_multiple_of(self.one_in.get()) {
            return;
        }
        let (policy, reason) = (rejection.policy.name(), rejection.reason.name());
        let retry_after = (rejection.retry_after != Span::MAX).then_some(rejection.retry_after.as_secs_f64());
        let since = if before == 0 { 1 } else { self.one_in.get() };
        debug!(target: "seawall", name = origin.name, policy, reason, retry_after, since, "refused");
    }
}
