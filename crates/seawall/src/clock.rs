//! The clock: core's time, read from tokio, so that a paused runtime pauses the policies too.
//!
//! A request asks it a dozen times, mostly in one breath. Whoever drives many says where a [`Pause`]
//! begins and ends, for instance with each poll of a connection; within one, the clock is read once. With the
//! feature `tsc`, the processor can be asked to count between two readings ([`counter`]).

#[cfg(feature = "tsc")]
pub(crate) mod counter;

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;
use std::time::Duration;

use seawall_core::time::Time;
use tokio::time::Instant;

/// What a thread knows of the time.
#[derive(Clone, Copy)]
enum Known {
    /// No pause has begun: the clock is read for each who asks.
    Nothing,
    /// Nobody has asked in this pause.
    Unasked,
    /// What was read in this pause.
    At(Time),
}

thread_local! {
    static KNOWN: Cell<Known> = const { Cell::new(Known::Nothing) };
}

/// A pause of the clock: until it is dropped, [`now`] says on this thread what it said first. Never hold one while
/// something is waited for; what is timed in it takes no time.
///
/// ```
/// use seawall::{Pause, now};
///
/// let pause = Pause::begin();
/// let first = now();
/// assert_eq!(now(), first);
/// drop(pause);
/// assert!(now() >= first);
/// ```
#[must_use = "it ends when it is dropped"]
pub struct Pause {
    around: Known,
    /// It is this thread's.
    _here: PhantomData<*const ()>,
}

impl Pause {
    /// Begins one, inside of another too.
    #[inline]
    pub fn begin() -> Pause {
        Pause { around: KNOWN.replace(Known::Unasked), _here: PhantomData }
    }
}

impl Drop for Pause {
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
    #[cfg(feature = "tsc")]
    if let Some(now) = counter::read(tokios) {
        return now;
    }
    tokios()
}

/// What tokio's clock says.
fn tokios() -> Time {
    let since = Instant::now().saturating_duration_since(origin());
    let whole = since.as_secs().saturating_mul(1_000_000_000);
    Time::from_nanos(whole.saturating_add(u64::from(since.subsec_nanos())))
}

/// The instant at which [`now`] says `time`. Times beyond thirty years are thirty years away.
pub fn instant(time: Time) -> Instant {
    const FAR: u64 = 30 * 365 * 86_400 * 1_000_000_000;
    origin() + Duration::from_nanos(time.as_nanos().min(FAR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_in_a_pause_ends_alone() {
        let outer = Pause::begin();
        let first = now();
        let inner = Pause::begin();
        assert_eq!(now(), now());
        drop(inner);
        assert_eq!(now(), first);
        drop(outer);
        assert!(matches!(KNOWN.get(), Known::Nothing));
    }
}
