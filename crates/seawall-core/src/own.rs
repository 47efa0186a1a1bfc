//! How the parts of a gate are owned: alone, or shared between threads.
//!
//! Policies take `&mut self`; a gate takes `&self` and reaches its parts through this. The lab and
//! tests own them alone ([`Alone`]); the library shards what is keyed by user and puts one short
//! lock around the rest.

use alloc::vec::Vec;
use core::cell::RefCell;

use crate::request::Key;
use crate::stripes::Stripe;

/// A part, or shards of it.
pub trait Own<T> {
    /// Takes the shards, at least one.
    fn own(shards: Vec<T>) -> Self;

    /// Runs `f` on the shard of `key`. `f` must not come back to the same part.
    fn with<R>(&self, key: Key, f: impl FnOnce(&mut T) -> R) -> R;

    /// Runs `f` on each shard in turn.
    fn each(&self, f: impl FnMut(&mut T));
}

/// A way of owning, and what wakes its waiters.
pub trait Ownership {
    /// Which word is this thread's, where each has its own.
    fn stripe() -> Stripe;

    /// What the driver parks in a queue: an id in the lab, a `Waker` on tokio.
    type Waiter;
    /// The owner of a part.
    type Of<T>: Own<T>;
}

/// Which of `shards` a key belongs to. The table inside a shard uses the other bits.
pub const fn shard_of(key: Key, shards: usize) -> usize {
    ((((key.0 >> 16) & 0xffff_ffff) * shards as u64) >> 32) as usize
}

/// Single-threaded ownership with waiters of type `W`.
#[derive(Debug)]
pub struct Alone<W>(core::marker::PhantomData<W>);

impl<W> Ownership for Alone<W> {
    fn stripe() -> Stripe {
        Stripe::own(0)
    }

    type Waiter = W;
    type Of<T> = Cells<T>;
}

/// Shards in cells, for one thread.
#[derive(Debug)]
pub struct Cells<T>(Vec<RefCell<T>>);

impl<T> Own<T> for Cells<T> {
    fn own(shards: Vec<T>) -> Cells<T> {
        Cells(shards.into_iter().map(RefCell::new).collect())
    }

    fn with<R>(&self, key: Key, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0[shard_of(key, self.0.len())].borrow_mut())
    }

    fn each(&self, mut f: impl FnMut(&mut T)) {
        self.0.iter().for_each(|shard| f(&mut shard.borrow_mut()));
    }
}
