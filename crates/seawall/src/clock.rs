//! The clock: core's time, read from tokio, so that a paused runtime pauses the policies too.
//!
//! A request asks it a dozen times, mostly in one breath. Whoever drives many says where a [`Moment`]
//! begins and ends, for instance with each poll of a connection; within one, the clock is read once.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::time::Duration;

use seawall_core::time::Time;
use tokio::time::Instant;

/// What a thread knows of the time.
#[derive(Clone, Copy)]
enum Known {
    /// No moment has begun: the clock is read for each who asks.
    Nothing,
    /// Nobody has asked in this moment.
    Unasked,
    /// What was read in this moment.
    At(Time),
}

thread_local! {
    static KNOWN: Cell<Known> = const { Cell::new(Known::Nothing) };
}

/// A moment: until it is dropped, [`now`] says on this thread what it said first. Never hold one while
/// something is waited for; what is timed in it takes no time.
///
/// ```
/// use seawall::{Moment, now};
///
/// let moment = Moment::begin();
/// let first = now();
/// assert_eq!(now(), first);
/// drop(moment);
/// assert!(now() >= first);
/// ```
#[must_use = "it ends when it is dropped"]
pub struct Moment {
    around: Known,
    /// It is this thread's.
    _here: PhantomData<*const ()>,
}

impl Moment {
    /// Begins one, inside of another too.
    #[inline]
    pub fn begin() -> Moment {
        Moment { around: KNOWN.replace(Known::Unasked), _here: PhantomData }
    }
}

impl Drop for Moment {
    #[inline]
    fn drop(&mut self) {
        KNOWN.set(self.around);
    }
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// Now, since the first time that anybody asked.
#[inline]
pub fn now() -> Time {
    match KNOWN.get() {
        Known::At(now) => now,
        Known::Nothing => read(),
        Known::Unasked => {
            let now = read();
            KNOWN.set(Known::At(now));
            now
        }
    }
}

fn read() -> Time {
    let since = Instant::now().saturating_duration_since(origin());
    let whole = since.as_secs().saturating_mul(1_000_000_000);
    Time::from_nanos(whole.saturating_add(u64::from(since.subsec_nanos())))
}

/// The instant at which [`now`] says `time`. Times beyond thirty years are thirty years away.
pub fn instant(time: Time) -> Instant {
    const FAR: u64 = 30 * 365 * 86_400 * 1_000_000_000;
    origin() + Duration::from_nanos(time.as_nanos().min(FAR))
}
