//! The processor's time stamp counter, asked between two readings of the clock.
//!
//! **Prevents** that the clock is most of what a policy costs: the system's takes 25 to 30 ns and holds up what the
//! processor does meanwhile; the counter takes a third, and holds up nothing.
//!
//! **Mechanics.** Each thread notes what clock and counter said at one moment, and adds what was counted since, for
//! a millisecond; then it reads the clock again. So nothing adds up: not how badly the counter's rate is known
//! (some hundred millionths), nor how the system's clock is slewed.
//!
//! **Edges.** A counter that went back, as after a suspension, is not believed. Nor is a moment between the two
//! readings that took too long, because the thread was stopped in it. Where counters of processors differ, a thread
//! that moves is wrong by a millisecond at most, for as long. The policies bear a time that goes back a little: what
//! two threads read reaches them in any order anyway. Without a counter that runs evenly the system's clock is read.

use std::cell::Cell;
use std::sync::OnceLock;

use seawall_core::time::{Span, Time};

/// How long a thread goes by the counter alone.
const COUNTED: u64 = 1_000_000;
/// What clock and counter say belongs together if no more nanoseconds than this lie around it.
const TOGETHER: u64 = 10_000;

/// What the clock said when the counter stood at `count`.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    count: u64,
    at: Time,
}

thread_local! {
    static ANCHOR: Cell<Option<Anchor>> = const { Cell::new(None) };
}

static COUNTER: OnceLock<quanta::Clock> = OnceLock::new();

/// From now on, [`now`](crate::now) goes by the processor's time stamp counter, and reads the clock once a
/// millisecond on each thread. For the whole process and for good; finding out how fast it counts takes up to
/// 200 ms, so call it where a program begins. Not in a test: a runtime that is paused does not pause the counter.
///
/// ```
/// use seawall::{now, use_time_stamp_counter};
///
/// use_time_stamp_counter();
/// let first = now();
/// assert!(now() >= first);
/// ```
pub fn use_time_stamp_counter() {
    COUNTER.get_or_init(quanta::Clock::new);
}

/// The time by the counter, if there is one to go by; `clock` reads the clock.
#[inline]
pub(super) fn read(clock: impl Fn() -> Time) -> Option<Time> {
    let counter = COUNTER.get()?;
    let (now, anchor) = counted(counter, ANCHOR.get(), clock);
    if let Some(anchor) = anchor {
        ANCHOR.set(anchor);
    }
    Some(now)
}

/// The time, and what to go by from now on, if that is something else.
#[inline]
fn counted(
    counter: &quanta::Clock,
    anchor: Option<Anchor>,
    clock: impl Fn() -> Time,
) -> (Time, Option<Option<Anchor>>) {
    let count = counter.raw();
    if let Some(anchor) = anchor
        && count >= anchor.count
    {
        let since = counter.delta_as_nanos(anchor.count, count);
        if since < COUNTED {
            return (anchor.at + Span::from_nanos(since), None);
        }
    }
    let at = clock();
    let after = counter.raw();
    let is_one_moment = after >= count && counter.delta_as_nanos(count, after) <= TOGETHER;
    (at, Some(is_one_moment.then_some(Anchor { count: after, at })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Time {
        Time::from_nanos(nanos)
    }

    /// Goes by what is noted, or notes.
    fn ask(counter: &quanta::Clock, anchor: &mut Option<Anchor>, clock: u64) -> Time {
        let (now, noted) = counted(counter, *anchor, || at(clock));
        *anchor = noted.unwrap_or(*anchor);
        now
    }

    #[test]
    fn it_counts_for_a_millisecond_and_reads_the_clock_again() {
        let (counter, count) = quanta::Clock::mock();
        let mut anchor = None;
        count.increment(7_u64);
        assert_eq!(ask(&counter, &mut anchor, 100), at(100));
        count.increment(999_999_u64);
        assert_eq!(ask(&counter, &mut anchor, 5), at(1_000_099), "the clock is not asked");
        count.increment(1_u64);
        assert_eq!(ask(&counter, &mut anchor, 5_000_000), at(5_000_000), "the clock is right");
        count.increment(40_u64);
        assert_eq!(ask(&counter, &mut anchor, 0), at(5_000_040));
    }

    #[test]
    fn a_counter_that_went_back_is_not_believed() {
        let (counter, count) = quanta::Clock::mock();
        let mut anchor = None;
        count.increment(1_000_u64);
        ask(&counter, &mut anchor, 100);
        count.decrement(900_u64);
        assert_eq!(ask(&counter, &mut anchor, 300), at(300));
        count.increment(50_u64);
        assert_eq!(ask(&counter, &mut anchor, 0), at(350), "it counts from where it stands");
    }

    #[test]
    fn a_thread_that_was_stopped_between_the_readings_notes_nothing() {
        let (counter, count) = quanta::Clock::mock();
        for (stopped, noted) in [(TOGETHER, true), (TOGETHER + 1, false)] {
            let (now, anchor) = counted(&counter, None, || {
                count.increment(stopped);
                at(100)
            });
            assert_eq!(now, at(100));
            assert_eq!(anchor.expect("it has looked").is_some(), noted, "stopped for {stopped} ns");
        }
    }
}
