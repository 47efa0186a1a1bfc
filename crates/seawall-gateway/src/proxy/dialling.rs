//! How many fresh connections a host is given at a time.
//!
//! **Prevents** a burst from overrunning the host's accept queue. What does not fit there is dropped
//! by the kernel without a word, and the connection stands only after a second or three; a whole
//! burst of those looks like a host that is overloaded.
//!
//! **Mechanics.** A connection stands before the host has accepted it; only an answer on it shows that
//! it has. So a connection keeps its turn until its first answer, or for [`PROOF`] at most. The window of
//! turns begins at [`FIRST`], grows by one with each connection that stands at once, and halves when one
//! stood only at another try: then a first packet was lost. From then on it grows by one in [`GROW_EVERY`] at
//! most. Whoever waits for its turn takes a connection that becomes idle meanwhile.
//!
//! A connection that does not stand after [`AGAIN`] is tried once more beside itself, and so on up to
//! [`TRIES`]; the first that stands is taken. So a dropped packet costs that and not the kernel's second, in
//! which every place in flight could come to wait for a connection that was dropped. The delay is that of
//! RFC 8305, section 5.
//!
//! **Edges.** A connection that is refused says nothing of the queue. The window is each worker's own.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// How many are made at a time at first.
const FIRST: u32 = 2;
/// How long a connection keeps its turn without an answer: some answers take long.
pub(super) const PROOF: Duration = Duration::from_millis(50);
/// The most that are made at a time.
const WINDOW_MAX: u32 = 256;
/// How long a connection may take until it is tried once more.
const AGAIN: Duration = Duration::from_millis(250);
/// How often it is tried in all.
const TRIES: u32 = 3;
/// How often the window tries one more after it was too large.
const GROW_EVERY: Duration = Duration::from_secs(10);

/// How long a connection may be silent until its other end is asked whether it is there.
const SILENT: Duration = Duration::from_secs(60);
/// How often it is asked then, and how many times until it is gone.
const ASKED_EVERY: Duration = Duration::from_secs(10);
const ASKED: u32 = 6;
/// How long it may take nothing of what is sent.
#[cfg(target_os = "linux")]
const UNTAKEN: Duration = Duration::from_secs(120);

/// How a connection came to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stood {
    /// At the first try.
    AtOnce,
    /// At another, or never: the first packet was lost.
    Late,
}

/// Has the other end of a connection asked now and then whether it is there, when nothing else is said on it, and the
/// connection closed when that end does not take what is said.
pub(super) fn keep_alive(stream: &TcpStream) {
    let asked = TcpKeepalive::new().with_time(SILENT).with_interval(ASKED_EVERY).with_retries(ASKED);
    // What is not kept alive serves as well.
    let _ = SockRef::from(stream).set_tcp_keepalive(&asked);
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(UNTAKEN));
}

/// Whether it is this process, and not the host, that lacks what a connection takes.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| exhausted.contains(&error))
}

/// Makes a connection, however long it takes.
pub(super) async fn connect(authority: &str) -> io::Result<(TcpStream, Stood)> {
    first_to_stand(|| TcpStream::connect(authority)).await
}

/// The first of several tries, each begun [`AGAIN`] after the one before.
async fn first_to_stand<T, F: Future<Output = io::Result<T>>>(
    attempt: impl Fn() -> F,
) -> io::Result<(T, Stood)> {
    let mut first = pin!(attempt());
    if let Ok(made) = timeout(AGAIN, &mut first).await {
        return made.map(|made| (made, Stood::AtOnce));
    }
    let later = async {
        for _ in 2..TRIES {
            if let Ok(made) = timeout(AGAIN, attempt()).await {
                return made;
            }
        }
        attempt().await
    };
    tokio::select! {
        made = &mut first => made.map(|made| (made, Stood::AtOnce)),
        made = later => made.map(|made| (made, Stood::Late)),
    }
}

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

    /// A connection stood like this.
    pub(super) fn stood(&self, stood: Stood, now: Instant) {
        let window = self.window.get();
        if stood == Stood::Late {
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
        let (dialling, now) = (Rc::new(Dialling::default()), Instant::now());
        let turns: Vec<_> = std::iter::from_fn(|| dialling.turn()).collect();
        assert_eq!(turns.len(), 2);
        drop(turns);
        (0..6).for_each(|_| dialling.stood(Stood::AtOnce, now));
        let turns: Vec<_> = std::iter::from_fn(|| dialling.turn()).collect();
        assert_eq!(turns.len(), 8);
        dialling.stood(Stood::Late, now);
        dialling.stood(Stood::AtOnce, now);
        assert_eq!(dialling.window.get(), 4, "it does not grow at once");
        dialling.stood(Stood::AtOnce, now + GROW_EVERY);
        dialling.stood(Stood::AtOnce, now + GROW_EVERY);
        assert_eq!(dialling.window.get(), 5);
        (0..9).for_each(|_| dialling.stood(Stood::Late, now));
        assert_eq!(dialling.window.get(), 1, "one is always made");
    }

    /// How connecting ends where each try takes so long, in milliseconds, and when.
    async fn connecting(tries: &[u64]) -> (io::Result<Stood>, u64, usize) {
        let (began, begun) = (Instant::now(), Cell::new(0));
        let attempt = || {
            let takes = tries[begun.get()];
            begun.set(begun.get() + 1);
            async move {
                let _ = timeout(Duration::from_millis(takes), std::future::pending::<()>()).await;
                if takes == 1 { Err(io::ErrorKind::ConnectionRefused.into()) } else { Ok(()) }
            }
        };
        let made = first_to_stand(attempt).await.map(|((), stood)| stood);
        (made, began.elapsed().as_millis() as u64, begun.get())
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_packet_costs_a_quarter_of_a_second_and_a_slow_way_is_no_loss() {
        let (made, took, begun) = connecting(&[1_000, 10, 10]).await;
        assert_eq!((made.unwrap(), took, begun), (Stood::Late, 260, 2));
        let (made, took, begun) = connecting(&[300, 300, 300]).await;
        assert_eq!((made.unwrap(), took, begun), (Stood::AtOnce, 300, 2));
        let (made, took, begun) = connecting(&[9_000, 9_000, 200]).await;
        assert_eq!((made.unwrap(), took, begun), (Stood::Late, 700, 3));
        let (made, took, begun) = connecting(&[9_000, 9_000, 9_000]).await;
        assert_eq!((made.unwrap(), took, begun), (Stood::AtOnce, 9_000, 3));
        let (made, took, begun) = connecting(&[1]).await;
        assert_eq!((made.unwrap_err().kind(), took, begun), (io::ErrorKind::ConnectionRefused, 1, 1));
    }
}
