//! Room for the upstream connections of one worker.
//!
//! **Prevents** these from taking the descriptors of clients and probes, and those that are idle from being in the
//! way of one that is needed.
//!
//! **Mechanics.** A connection has a place until its descriptor is closed. Where none is left, the connection that has
//! been idle for longest is given up, whichever host it leads to.
//!
//! **Edges.** It is closed by its own task, which is waited for, for [`CLOSING`] at most.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::upstream::Pool;

/// How long a connection that is given up may take to close.
const CLOSING: Duration = Duration::from_millis(100);

/// Room for so many connections.
pub(crate) struct Room {
    most: usize,
    taken: Arc<Taken>,
    pools: RefCell<Vec<Weak<Pool>>>,
}

#[derive(Debug, Default)]
struct Taken {
    count: AtomicUsize,
    freed: Notify,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Taken>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_waiters();
    }
}

impl Room {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Rc<Room> {
        Rc::new(Room { most, taken: Arc::default(), pools: RefCell::default() })
    }

    /// The connections of this pool have their places here, too.
    pub(super) fn admit(&self, pool: &Rc<Pool>) {
        let mut pools = self.pools.borrow_mut();
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Rc::downgrade(pool));
    }

    /// A place, for which an idle connection may be given up; or how many are taken, by connections that are in use.
    pub(super) async fn place(&self) -> Result<Place, usize> {
        loop {
            let taken = self.taken.count.load(Ordering::Relaxed);
            if taken < self.most {
                self.taken.count.fetch_add(1, Ordering::Relaxed);
                return Ok(Place(self.taken.clone()));
            }
            if !self.give_up_idle() {
                return Err(taken);
            }
            // Its task is of this thread, and cannot have closed it yet. Where it takes long, another is given up.
            let _ = timeout(CLOSING, self.taken.freed.notified()).await;
        }
    }

    /// Has the connection closed that has been idle for longest; says whether there is one.
    fn give_up_idle(&self) -> bool {
        let pools = self.pools.borrow();
        let idle = pools.iter().filter_map(|pool| {
            let pool = pool.upgrade()?;
            Some((pool.idle_since()?, pool))
        });
        let longest = idle.min_by_key(|(since, _)| *since);
        longest.is_some_and(|(_, pool)| pool.give_up_idle())
    }
}
