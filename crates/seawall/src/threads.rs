//! Ownership for many threads: shards for what is keyed by user, one short lock for the rest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use seawall_core::gate::{Own, Ownership, shard_of};
use seawall_core::request::Key;

/// Parts behind locks, waiters as [`Waker`]s.
#[derive(Clone, Copy, Debug)]
pub struct Threads;

impl Ownership for Threads {
    fn stripe() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        MINE.with(|mine| *mine)
    }

    type Waiter = Waker;
    type Of<T> = Locks<T>;
}

/// A lock on a cache line of its own, so that neighbours do not slow each other down.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(Mutex<T>);

/// Shards, each behind a lock.
#[derive(Debug)]
pub struct Locks<T>(Box<[Padded<T>]>);

impl<T> Padded<T> {
    /// Without poison: a policy never panics half-way through a change.
    #[inline]
    fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock()
    }
}

impl<T> Own<T> for Locks<T> {
    fn own(shards: Vec<T>) -> Locks<T> {
        Locks(shards.into_iter().map(|shard| Padded(Mutex::new(shard))).collect())
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
