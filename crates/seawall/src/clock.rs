//! The clock: core's time, read from tokio, so that a paused runtime pauses the policies too.

use std::sync::OnceLock;
use std::time::Duration;

use seawall_core::time::Time;
use tokio::time::Instant;

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Now, since the first time that anybody asked.
pub fn now() -> Time {
    let since = Instant::now().saturating_duration_since(origin());
    let whole = since.as_secs().saturating_mul(1_000_000_000);
    Time::from_nanos(whole.saturating_add(u64::from(since.subsec_nanos())))
}

/// The instant at which [`now`] says `time`. Times beyond thirty years are thirty years away.
pub fn instant(time: Time) -> Instant {
    const FAR: u64 = 30 * 365 * 86_400 * 1_000_000_000;
    origin() + Duration::from_nanos(time.as_nanos().min(FAR))
}
