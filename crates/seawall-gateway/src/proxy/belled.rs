//! A connection that is asked for bytes only when it has rung.
//!
//! **Prevents** that most of what reading costs is spent on finding nothing: the task of a connection is polled for
//! other causes, too, and asks two or three times in each poll, nine times for a request that comes and an answer
//! that goes. Each question takes the runtime's lock on the socket.
//!
//! **Mechanics.** The socket wakes a bell, and the bell the task. Who had nothing is not asked again until its bell
//! rings.
//!
//! **Edges.** The bell wakes the task that asked last, also where that was told at once that there is nothing. Nobody
//! may read beside it: that would take its place as the one who is woken.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

/// What the socket wakes.
#[derive(Debug)]
struct Bell {
    /// Whether there may be something to read.
    rung: AtomicBool,
    /// Who waits for that.
    task: Mutex<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // First: whoever takes the other's place now sees it.
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        task.wake();
    }
}

/// A connection with its bell.
#[derive(Debug)]
pub(super) struct Belled<T> {
    io: T,
    bell: Arc<Bell>,
    /// The bell, as the socket knows it.
    ring: Waker,
    /// Whom the bell wakes.
    task: Waker,
}

impl<T> Belled<T> {
    /// A connection of which nothing is known.
    pub(super) fn new(io: T) -> Belled<T> {
        let task = Waker::noop();
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(task.clone()) });
        Belled { io, ring: bell.clone().into(), bell, task: task.clone() }
    }

    /// The connection, to be read by somebody else.
    pub(super) fn into_inner(self) -> T {
        self.io
    }

    /// From now on this task is woken.
    #[cold]
    fn heed(&mut self, task: &Waker) {
        self.task = task.clone();
        *self.bell.task.lock().unwrap_or_else(PoisonError::into_inner) = task.clone();
    }
}

impl<T: Read + Unpin> Read for Belled<T> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.task.will_wake(cx.waker()) {
            this.heed(cx.waker());
        }
        if !this.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // Before it is asked: it may ring at once.
        this.bell.rung.store(false, Ordering::Relaxed);
        let read = ready!(Pin::new(&mut this.io).poll_read(&mut Context::from_waker(&this.ring), buf));
        this.bell.rung.store(true, Ordering::Relaxed);
        Poll::Ready(read)
    }
}

impl<T: Write + Unpin> Write for Belled<T> {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use hyper::rt::ReadBuf;

    use super::*;

    /// Bytes that come when the test says so.
    #[derive(Debug, Default)]
    struct Source {
        bytes: Vec<u8>,
        asked: u32,
        waker: Option<Waker>,
    }

    impl Read for Source {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            mut buf: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            self.asked += 1;
            if self.bytes.is_empty() {
                self.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let part = self.bytes.len().min(buf.remaining());
            buf.put_slice(&self.bytes.drain(..part).collect::<Vec<_>>());
            Poll::Ready(Ok(()))
        }
    }

    /// A task that counts how often it is woken.
    #[derive(Debug, Default)]
    struct Task(AtomicU32);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Belled<Source> {
        /// How many bytes a task gets, up to two.
        fn read(&mut self, task: &Arc<Task>) -> Option<usize> {
            let mut room = [0; 2];
            let mut buf = ReadBuf::new(&mut room);
            let waker = Waker::from(task.clone());
            let polled = Pin::new(self).poll_read(&mut Context::from_waker(&waker), buf.unfilled());
            polled.is_ready().then(|| buf.filled().len())
        }

        fn come(&mut self, bytes: &[u8]) {
            self.io.bytes.extend_from_slice(bytes);
            self.io.waker.take().into_iter().for_each(Waker::wake);
        }
    }

    #[test]
    fn what_has_nothing_is_not_asked_again_before_it_rings() {
        let (mut belled, task) = (Belled::new(Source::default()), Arc::<Task>::default());
        assert_eq!((0..3).filter_map(|_| belled.read(&task)).count(), 0);
        assert_eq!(belled.io.asked, 1);
        belled.come(b"abc");
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        // To the end, although it rang once.
        assert_eq!([belled.read(&task), belled.read(&task), belled.read(&task)], [Some(2), Some(1), None]);
        assert_eq!(belled.read(&task), None);
        assert_eq!(belled.io.asked, 4);
    }

    #[test]
    fn who_asked_last_is_woken_even_if_the_socket_was_not_asked() {
        let (mut belled, tasks) = (Belled::new(Source::default()), [(); 2].map(|()| Arc::<Task>::default()));
        assert_eq!(tasks.each_ref().map(|task| belled.read(task)), [None, None]);
        assert_eq!(belled.io.asked, 1);
        belled.come(b"a");
        assert_eq!(tasks.each_ref().map(|task| task.0.load(Ordering::Relaxed)), [0, 1]);
        assert_eq!(belled.read(&tasks[1]), Some(1));
    }
}
