//! How many fresh connections a host is given at a time.
//!
//! **Prevents** a burst from overrunning the host's accept queue. What does not fit there is dropped
//! by the kernel without a word, and the connection stands only after a second or three; a whole
//! burst of those looks like a host that is overloaded.
//!
//! **Mechanics.** A connection stands before the host has accepted it; only an answer on it shows that
//! it has. So a connection keeps its turn until its first answer, or for [`PROOF`] at most. The window of
//! turns begins at [`FIRST`], grows by one with each connection that stands at once, and halves when one
//! took [`DROPPED`] or longer: then a first packet was lost. From then on it grows by one in [`GROW_EVERY`] at
//! most. Whoever waits for its turn takes a connection that becomes idle meanwhile.
//!
//! **Edges.** A connection that is refused says nothing of the queue. The window is each worker's own.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How many are made at a time at first.
const FIRST: u32 = 2;
/// How long a connection keeps its turn without an answer: some answers take long.
pub(super) const PROOF: Duration = Duration::from_millis(50);
/// The most that are made at a time.
const WINDOW_MAX: u32 = 256;
/// A connection that takes this long had its first packet dropped: the kernel tries again after 1 s.
const DROPPED: Duration = Duration::from_millis(900);
/// How often the window tries one more after it was too large.
const GROW_EVERY: Duration = Duration::from_secs(10);

/// The connections to a host that are being made.
#[derive(Debug)]
pub(super) struct Dialling {
    window: Cell<u32>,
    under_way: Cell<u32>,
    waiting: Cell<u32>,
    /// When the window last changed after it had been too large.
    was_too_large: Cell<Option<Instant>>,
    free: Notify,
}

impl Default for Dialling {
    fn default() -> Dialling {
        Dialling {
            window: Cell::new(FIRST),
            under_way: Cell::default(),
            waiting: Cell::default(),
            was_too_large: Cell::default(),
            free: Notify::new(),
        }
    }
}

impl Dialling {
    /// A turn, if one is free.
    pub(super) fn turn(self: &Rc<Self>) -> Option<Turn> {
        if self.under_way.get() >= self.window.get() {
            return None;
        }
        self.under_way.set(self.under_way.get() + 1);
        Some(Turn(self.clone()))
    }

    /// Waits until it is worth asking again for a turn, or for an idle connection.
    pub(super) async fn changed(&self) {
        let _waits = Waits::new(&self.waiting);
        self.free.notified().await;
    }

    /// A turn or a connection is free.
    pub(super) fn freed(&self) {
        if self.waiting.get() > 0 {
            self.free.notify_one();
        }
    }

    /// A connection stood, or did not, after so long.
    pub(super) fn took(&self, time: Duration, now: Instant) {
        let window = self.window.get();
        if time >= DROPPED {
            self.window.set((window / 2).max(1));
            self.was_too_large.set(Some(now));
            return;
        }
        let may_grow = self.was_too_large.get().is_none_or(|changed| now - changed >= GROW_EVERY);
        if may_grow && window < WINDOW_MAX {
            self.window.set(window + 1);
            if self.was_too_large.get().is_some() {
                self.was_too_large.set(Some(now));
            }
        }
    }
}

/// One that waits, until it is dropped.
struct Waits<'a>(&'a Cell<u32>);

impl<'a> Waits<'a> {
    fn new(waiting: &'a Cell<u32>) -> Waits<'a> {
        waiting.set(waiting.get() + 1);
        Waits(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The right to make one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Rc<Dialling>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        self.0.freed();
        // The window may have grown: there is room for one more.
        self.0.freed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_with_success_and_halves_when_a_packet_was_dropped() {
        let dialling = Rc::new(Dialling::default());
        let (quick, now) = (Duration::from_millis(1), Instant::now());
        let turns: Vec<_> = std::iter::from_fn(|| dialling.turn()).collect();
        assert_eq!(turns.len(), 2);
        drop(turns);
        (0..6).for_each(|_| dialling.took(quick, now));
        let turns: Vec<_> = std::iter::from_fn(|| dialling.turn()).collect();
        assert_eq!(turns.len(), 8);
        dialling.took(Duration::from_secs(1), now);
        dialling.took(quick, now);
        assert_eq!(dialling.window.get(), 4, "it does not grow at once");
        dialling.took(quick, now + GROW_EVERY);
        dialling.took(quick, now + GROW_EVERY);
        assert_eq!(dialling.window.get(), 5);
        (0..9).for_each(|_| dialling.took(DROPPED, now));
        assert_eq!(dialling.window.get(), 1, "one is always made");
    }
}
