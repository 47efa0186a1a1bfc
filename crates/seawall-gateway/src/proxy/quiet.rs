//! A connection's task that is not woken for the end of an answer's body.
//!
//! **Prevents** that a connection to a host is polled a third time for each answer. hyper wakes its task whenever a
//! part of the body is taken, so that it sends the next; also for the last part, behind which it has nothing to send
//! and has waited for its next request before.
//!
//! **Mechanics.** The connection is polled with a waker that can be held back on its thread ([`Held`]) while a body
//! is read from it. Who reads says whether that was the end; otherwise the task is woken after all.
//!
//! **Edges.** Only what such a connection's own waker does is held back, and only in the call that takes the part: a
//! socket or a request wakes it as always. For a body whose length is not known it is never the end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

/// Whether wakers are held back, and who would have been woken.
enum Wakes {
    Pass,
    Hold(Option<Arc<Quiet>>),
}

thread_local! {
    static WAKES: Cell<Wakes> = const { Cell::new(Wakes::Pass) };
}

/// Wakes a connection's task, or waits for whether it has to.
struct Quiet {
    task: Waker,
}

impl Wake for Quiet {
    fn wake(self: Arc<Self>) {
        match WAKES.replace(Wakes::Pass) {
            Wakes::Hold(None) => WAKES.set(Wakes::Hold(Some(self))),
            wakes => {
                WAKES.set(wakes);
                self.task.wake_by_ref();
            }
        }
    }
}

/// Polls a connection with a waker that can be held back.
pub(super) async fn quietly<F: Future>(connection: F) -> F::Output {
    let mut connection = pin!(connection);
    let mut quiet: Option<(Waker, Waker)> = None;
    poll_fn(|cx| {
        let task = cx.waker();
        if !quiet.as_ref().is_some_and(|(known, _)| known.will_wake(task)) {
            quiet = Some((task.clone(), Arc::new(Quiet { task: task.clone() }).into()));
        }
        let waker = quiet.as_ref().map_or(task, |(_, waker)| waker);
        connection.as_mut().poll(&mut Context::from_waker(waker))
    })
    .await
}

/// Connections are not woken on this thread until it is dropped; then the one that would have been is.
pub(super) struct Held;

impl Held {
    /// Holds them back.
    pub(super) fn back() -> Held {
        WAKES.set(Wakes::Hold(None));
        Held
    }

    /// The one that would have been woken has nothing to do.
    pub(super) fn forget(self) {
        WAKES.set(Wakes::Hold(None));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Wakes::Hold(Some(held)) = WAKES.replace(Wakes::Pass) {
            held.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Poll;

    use super::*;

    /// A task that counts how often it is woken.
    #[derive(Default)]
    struct Task(AtomicU32);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection that shows its waker.
    fn polled(task: &Arc<Task>) -> Waker {
        let mut seen = None;
        let mut connection = Box::pin(quietly(poll_fn(|cx| {
            seen = Some(cx.waker().clone());
            Poll::<()>::Pending
        })));
        let waker = Waker::from(task.clone());
        assert!(Pin::new(&mut connection).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(connection);
        seen.expect("it was polled")
    }

    #[test]
    fn what_is_held_back_is_woken_once_unless_it_is_forgotten() {
        let (task, other) = (Arc::<Task>::default(), Arc::<Task>::default());
        let woken = || [&task, &other].map(|task| task.0.load(Ordering::Relaxed));
        let (waker, beside) = (polled(&task), polled(&other));
        waker.wake_by_ref();
        assert_eq!(woken(), [1, 0]);
        let held = Held::back();
        waker.wake_by_ref();
        assert_eq!(woken(), [1, 0]);
        // One is held back, and no more is lost than that.
        beside.wake_by_ref();
        assert_eq!(woken(), [1, 1]);
        drop(held);
        assert_eq!(woken(), [2, 1]);
        let held = Held::back();
        waker.wake_by_ref();
        held.forget();
        assert_eq!(woken(), [2, 1]);
        waker.wake_by_ref();
        assert_eq!(woken(), [3, 1]);
    }
}
