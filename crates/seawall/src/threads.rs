//! Ownership for many threads: shards for what is keyed by user, one short lock for the rest.

use std::hint::spin_loop;
use std::task::Waker;
use std::thread::yield_now;
use std::time::Duration;

use parking_lot::Mutex;
use seawall_core::gate::{Own, Ownership, shard_of};
use seawall_core::request::Key;
use seawall_core::stripes::Stripe;
use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::this_thread;

/// Parts behind locks, waiters as [`Waker`]s.
#[derive(Clone, Copy, Debug)]
pub struct Threads;

impl Ownership for Threads {
    #[inline]
    fn stripe() -> Stripe {
        this_thread::stripe()
    }

    type Waiter = Waker;
    type Of<T> = Locks<T>;
}

/// A lock on a cache line of its own, so that neighbours do not slow each other down.
///
/// It is held for some nanoseconds at a time, so that taking it and giving it up are most of the
/// cost. It is given up by a plain store, without asking whether another thread sleeps. Who finds it
/// taken looks again, less and less often, which leaves the holder its cache line. Whoever that does
/// not help lines up asleep, and only the first in line keeps looking, between turns of others and,
/// when those have had many, between rests: the holder may be one whom it keeps from running.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<T> {
    part: SpinMutex<T>,
    line: Mutex<()>,
}

/// Pauses before each look at a taken lock, as powers of two; then it is time to line up. Even the
/// first is longer than the lock is held as a rule: each look costs the holder its cache line.
const PAUSES: [u32; 8] = [3, 4, 5, 6, 6, 6, 6, 6];

/// Turns that are left to others before the first in line rests.
const TURNS: u32 = 64;

/// How long it rests between looks.
const REST: Duration = Duration::from_micros(50);

/// Shards, each behind a lock.
#[derive(Debug)]
pub struct Locks<T>(Box<[Padded<T>]>);

impl<T> Padded<T> {
    /// Without poison: a policy never panics half-way through a change.
    #[inline]
    fn lock(&self) -> SpinMutexGuard<'_, T> {
        match self.part.try_lock() {
            Some(part) => part,
            None => self.wait(),
        }
    }

    #[cold]
    fn wait(&self) -> SpinMutexGuard<'_, T> {
        for pause in PAUSES {
            (0..1 << pause).for_each(|_: u32| spin_loop());
            if let Some(part) = self.look() {
                return part;
            }
        }
        let _first = self.line.lock();
        for _ in 0..TURNS {
            // The holder may be waiting for this processor.
            yield_now();
            if let Some(part) = self.look() {
                return part;
            }
        }
        loop {
            rest();
            if let Some(part) = self.look() {
                return part;
            }
        }
    }

    /// Reads before it writes: a failed try would take the cache line from the holder.
    fn look(&self) -> Option<SpinMutexGuard<'_, T>> {
        if self.part.is_locked() { None } else { self.part.try_lock() }
    }
}

#[expect(clippy::disallowed_methods, reason = "no time of anybody's: a turn that takes a little longer")]
fn rest() {
    std::thread::sleep(REST);
}

impl<T> Own<T> for Locks<T> {
    fn own(shards: Vec<T>) -> Locks<T> {
        let padded = |shard| Padded { part: SpinMutex::new(shard), line: Mutex::new(()) };
        Locks(shards.into_iter().map(padded).collect())
    }

    #[inline]
    fn with<R>(&self, key: Key, f: impl FnOnce(&mut T) -> R) -> R {
        let shard = if self.0.len() == 1 { 0 } else { shard_of(key, self.0.len()) };
        f(&mut self.0[shard].lock())
    }

    fn each(&self, mut f: impl FnMut(&mut T)) {
        self.0.iter().for_each(|shard| f(&mut shard.lock()));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn whoever_waits_long_gets_it_in_the_end() {
        let parts = Locks::own(vec![0_u64]);
        thread::scope(|scope| {
            let waiting = parts.with(Key(0), |held| {
                let waiting = [(); 3].map(|()| scope.spawn(|| parts.with(Key(0), |part| *part += 1)));
                // Until the first in line has had its turns, and rests.
                (0..100 * TURNS).for_each(|_| yield_now());
                *held += 1;
                waiting
            });
            waiting.into_iter().for_each(|thread| thread.join().unwrap());
        });
        parts.each(|part| assert_eq!(*part, 4));
    }

    #[test]
    fn one_at_a_time_changes_a_part_however_long_it_is_held() {
        const THREADS: u64 = 8;
        const TURNS: u64 = 2_000;
        let parts = Locks::own(vec![[0_u64; 2]]);
        let turn = |turn: u64| {
            parts.with(Key(0), |[before, after]| {
                *before += 1;
                // Long enough for the others to run out of looks, and line up.
                if turn.is_multiple_of(16) {
                    (0..8).for_each(|_| yield_now());
                }
                *after += 1;
                assert_eq!(before, after);
            });
        };
        thread::scope(|scope| {
            (0..THREADS).for_each(|_| _ = scope.spawn(|| (0..TURNS).for_each(turn)));
        });
        parts.each(|part| assert_eq!(*part, [THREADS * TURNS; 2]));
    }
}
