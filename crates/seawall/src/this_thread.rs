//! What is this thread's alone: its words among those of all, and its streams of chance.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use seawall_core::stripes::{STRIPES, Stripe};

/// The stripes that living threads own, by bits.
static OWNED: AtomicU64 = AtomicU64::new(0);

/// Streams of chance that each thread has before they are another's: it would draw for years.
const STREAMS: u32 = 40;

thread_local! {
    // They need no destructor, so that asking costs nothing.
    static STRIPE: Cell<Option<Stripe>> = const { Cell::new(None) };
    static STREAM: Cell<Option<u64>> = const { Cell::new(None) };
    static LEASE: Cell<Option<Lease>> = const { Cell::new(None) };
}

/// An owned stripe, given up when the thread ends.
struct Lease(usize);

impl Drop for Lease {
    fn drop(&mut self) {
        // Whatever else ends with the thread, and later, counts where others do.
        STRIPE.set(Some(Stripe::common(self.0)));
        OWNED.fetch_and(!(1 << self.0), Ordering::Release);
    }
}

/// Which words are this thread's.
#[inline]
pub(crate) fn stripe() -> Stripe {
    STRIPE.get().unwrap_or_else(|| {
        let stripe = own().unwrap_or_else(|| Stripe::common(number() as usize));
        STRIPE.set(Some(stripe));
        stripe
    })
}

/// A stream of chance that no other draws from.
#[inline]
pub(crate) fn stream() -> u64 {
    let stream = STREAM.get().unwrap_or_else(|| number() << STREAMS);
    STREAM.set(Some(stream + 1));
    stream
}

/// Another one each time.
#[cold]
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A stripe that no living thread owns, if there is one.
#[cold]
fn own() -> Option<Stripe> {
    let free = |owned: u64| {
        let place = owned.trailing_ones();
        ((place as usize) < STRIPES).then_some(owned | 1 << place)
    };
    let before = OWNED.fetch_update(Ordering::Acquire, Ordering::Relaxed, free).ok()?;
    let lease = Lease(before.trailing_ones() as usize);
    let stripe = Stripe::own(lease.0);
    // In a thread that is ending it is given up at once.
    LEASE.try_with(|place| place.set(Some(lease))).is_ok().then_some(stripe)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::thread;

    use seawall_core::stripes::Stripes;

    use super::*;

    #[test]
    fn no_two_living_threads_own_one_stripe_and_those_of_the_dead_are_free() {
        const MANY: usize = 3 * STRIPES;
        for _ in 0..5 {
            let all_here = Barrier::new(MANY);
            let stripes = thread::scope(|scope| {
                let threads = [(); MANY].map(|()| {
                    scope.spawn(|| {
                        let mine = stripe();
                        all_here.wait();
                        assert_eq!(stripe(), mine);
                        mine
                    })
                });
                threads.map(|thread| thread.join().unwrap())
            });
            let own = stripes.iter().filter(|stripe| stripe.is_own());
            let places: HashSet<String> = own.clone().map(|stripe| format!("{stripe:?}")).collect();
            assert_eq!(own.count(), places.len());
            // Other tests of this process may own some.
            assert!(!places.is_empty(), "those of the round before are free again");
        }
    }

    #[test]
    fn more_threads_than_there_are_stripes_lose_no_count() {
        const TURNS: i64 = 20_000;
        const MANY: i64 = 3 * STRIPES as i64;
        let stripes = Stripes::default();
        thread::scope(|scope| {
            let count = || (0..TURNS).for_each(|_| stripes.add_one(stripe()));
            (0..MANY).for_each(|_| _ = scope.spawn(count));
        });
        assert_eq!(stripes.sum(), MANY * TURNS);
    }

    #[test]
    fn no_stream_is_drawn_from_twice() {
        let streams = || [(); 100].map(|()| stream());
        let (here, there) = (streams(), thread::spawn(streams).join().unwrap());
        let all: HashSet<u64> = here.into_iter().chain(there).collect();
        assert_eq!(all.len(), 200);
    }
}
