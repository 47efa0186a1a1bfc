//! An answer's body on its connection.
//!
//! **Prevents** HTTP/2 clients that open no window from holding places and upstream connections for as long as they
//! like: their sockets are never blocked, so that nobody who looks at these alone can tell.
//!
//! **Mechanics.** A body is asked for more when the client has taken what there was. On a connection with several
//! answers at a time it is noted when each was asked, and whether its upstream is waited for; the worker's tick
//! ([`pulse`](super::pulse)) looks at that. While a client has no window for what it was given, the rest is read
//! [ahead](Ahead): an answer that is short ends so, and holds nothing but itself.
//!
//! **Edges.** What is abandoned ends with an error once it is asked again. Ahead are read [`AHEAD_MAX`] of an answer at
//! most, and of all answers of a worker as much as its pulses allow; of the others, nothing. On HTTP/1.1 nothing is noted
//! or read ahead: there a client that takes nothing blocks the socket, which has room for what is short.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::outbound::Broken;
use super::pulse::{Busy, Pulse, STALL_TICKS, Untaken};

/// The most bytes of an answer that are read before its client takes any.
const AHEAD_MAX: usize = 32 * 1024;
/// What each part of it counts besides its bytes.
const PART_BYTES: usize = 128;

pin_project_lite::pin_project! {
    /// A response's body whose request counts as busy until it ends.
    pub(super) struct Tracked<B> {
        #[pin]
        body: Tracking<B>,
        _busy: Option<Busy>,
    }
}

pin_project_lite::pin_project! {
    #[project = Projected]
    enum Tracking<B> {
        None,
        Alone { #[pin] body: B },
        Beside { body: Rc<Beside<B>> },
    }
}

/// A body beside others of the same connection.
struct Beside<B> {
    pulse: Rc<Pulse>,
    stage: RefCell<Stage<B>>,
    /// What was read ahead.
    read: RefCell<VecDeque<Result<Frame<Bytes>, Broken>>>,
    /// How many bytes that is.
    bytes: Cell<usize>,
    /// Who reads ahead.
    reader: Cell<Option<Waker>>,
    /// Whether there is one.
    is_read_ahead: Cell<bool>,
    /// When it was asked last.
    asked: Cell<u32>,
    /// Whether it was asked and the upstream is waited for.
    waits: Cell<bool>,
}

enum Stage<B> {
    Coming(Pin<Box<B>>),
    /// All of it has been read.
    Come,
    Abandoned,
}

impl<B: Body + 'static> Tracked<B> {
    /// The body of an answer on this connection.
    #[inline]
    pub(super) fn new(body: B, busy: Busy, pulse: &Rc<Pulse>) -> Tracked<B> {
        let body = if pulse.is_multiplexed() && !body.is_end_stream() {
            Tracking::beside(body, pulse)
        } else {
            Tracking::Alone { body }
        };
        Tracked { body, _busy: Some(busy) }
    }
}

impl<B> Tracked<B> {
    /// No body, and no request.
    pub(super) fn none() -> Tracked<B> {
        Tracked { body: Tracking::None, _busy: None }
    }
}

/// Reads an answer while its client has something to take, up to the end of it.
struct Ahead<B>(Weak<Beside<B>>);

impl<B: Body<Data = Bytes, Error: Into<Broken>>> Future for Ahead<B> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.upgrade().map_or(Poll::Ready(()), |beside| beside.poll_ahead(cx))
    }
}

impl<B: Body<Data = Bytes, Error: Into<Broken>>> Beside<B> {
    /// The next part; lets go of the body behind the last.
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut stage = self.stage.borrow_mut();
        let body = match &mut *stage {
            Stage::Coming(body) => body,
            Stage::Come => return Poll::Ready(None),
            Stage::Abandoned => {
                return Poll::Ready(Some(Err("the client took nothing for too long".into())));
            }
        };
        let frame = ready!(body.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || body.is_end_stream() {
            *stage = Stage::Come;
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn poll_ahead(&self, cx: &mut Context<'_>) -> Poll<()> {
        while self.is_coming()
            && !self.waits.get()
            && self.bytes.get() < AHEAD_MAX
            && self.pulse.has_room_ahead()
        {
            let Poll::Ready(frame) = self.poll_next(cx) else { break };
            let Some(frame) = frame else { break };
            let bytes = length(&frame);
            self.bytes.set(self.bytes.get() + bytes);
            self.pulse.read_ahead(bytes);
            self.read.borrow_mut().push_back(frame);
        }
        if !self.is_coming() {
            return Poll::Ready(());
        }
        // What is dropped wakes nobody by itself.
        self.reader.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// What a part costs that was read ahead: itself, too, or those without a byte would be for nothing.
fn length(frame: &Result<Frame<Bytes>, Broken>) -> usize {
    PART_BYTES + frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len)
}

impl<B> Beside<B> {
    /// What was read ahead, first what came first.
    fn take_read(&self) -> Option<Result<Frame<Bytes>, Broken>> {
        let frame = self.read.borrow_mut().pop_front()?;
        let bytes = length(&frame);
        self.bytes.set(self.bytes.get() - bytes);
        self.pulse.took_ahead(bytes);
        Some(frame)
    }

    fn is_coming(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Coming(_))
    }

    /// Lets who reads ahead see what has changed.
    fn wake_reader(&self) {
        self.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl<B> Drop for Beside<B> {
    fn drop(&mut self) {
        self.pulse.took_ahead(self.bytes.get());
        self.wake_reader();
    }
}

impl<B: 'static> Tracking<B> {
    fn beside(body: B, pulse: &Rc<Pulse>) -> Tracking<B> {
        let body = Rc::new(Beside {
            pulse: pulse.clone(),
            stage: RefCell::new(Stage::Coming(Box::pin(body))),
            read: RefCell::default(),
            bytes: Cell::default(),
            reader: Cell::default(),
            is_read_ahead: Cell::default(),
            asked: Cell::new(pulse.now()),
            waits: Cell::new(false),
        });
        let watched: Rc<dyn Untaken> = body.clone();
        pulse.watch(Rc::downgrade(&watched));
        Tracking::Beside { body }
    }
}

impl<B> fmt::Debug for Beside<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Beside { asked, waits, .. } = self;
        f.debug_struct("Beside").field("asked", asked).field("waits", waits).finish_non_exhaustive()
    }
}

impl<B> Untaken for Beside<B> {
    fn is_abandoned(&self, now: u32) -> bool {
        if !self.waits.get() && now.wrapping_sub(self.asked.get()) >= STALL_TICKS {
            self.stage.replace(Stage::Abandoned);
            while self.take_read().is_some() {}
            self.wake_reader();
        }
        matches!(*self.stage.borrow(), Stage::Abandoned)
    }
}

impl<B> Body for Tracked<B>
where
    B: Body<Data = Bytes, Error: Into<Broken>> + 'static,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.project().body.project() {
            Projected::None => Poll::Ready(None),
            Projected::Alone { body } => body.poll_frame(cx).map_err(Into::into),
            Projected::Beside { body: beside } => {
                beside.asked.set(beside.pulse.now());
                let polled =
                    beside.take_read().map_or_else(|| beside.poll_next(cx), |read| Poll::Ready(Some(read)));
                beside.waits.set(polled.is_pending());
                if polled.is_ready() && beside.is_coming() {
                    if beside.is_read_ahead.replace(true) {
                        beside.wake_reader();
                    } else {
                        tokio::task::spawn_local(Ahead(Rc::downgrade(beside)));
                    }
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Tracking::None => true,
            Tracking::Alone { body } => body.is_end_stream(),
            Tracking::Beside { body } => {
                body.read.borrow().is_empty()
                    && match &*body.stage.borrow() {
                        Stage::Coming(body) => body.is_end_stream(),
                        Stage::Come => true,
                        Stage::Abandoned => false,
                    }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Tracking::None => SizeHint::with_exact(0),
            Tracking::Alone { body } => body.size_hint(),
            Tracking::Beside { body } => match &*body.stage.borrow() {
                Stage::Coming(coming) if body.read.borrow().is_empty() => coming.size_hint(),
                _ => SizeHint::default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

    use tokio::task::{LocalEnterGuard, LocalSet};

    use super::super::pulse::{Member, Order, Pulses};
    use super::*;

    /// A body that goes on for ever, or is waited for, until it is dropped.
    struct Endless {
        waits: bool,
        held: Rc<()>,
    }

    impl Body for Endless {
        type Data = Bytes;
        type Error = Broken;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
            if self.waits { Poll::Pending } else { Poll::Ready(Some(Ok(Frame::data("more".into())))) }
        }
    }

    /// A body that ends behind so many parts of some size; each has to be asked for twice.
    struct Parts {
        left: usize,
        size: usize,
        asked: bool,
        _held: Rc<()>,
    }

    impl Body for Parts {
        type Data = Bytes;
        type Error = Broken;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
            self.asked = !self.asked;
            if self.asked {
                return Poll::Pending;
            }
            self.left = self.left.saturating_sub(1);
            let part = vec![self.left as u8; self.size];
            Poll::Ready(Some(Ok(Frame::data(part.into()))))
        }

        fn is_end_stream(&self) -> bool {
            self.left == 0
        }
    }

    /// A connection with several answers at a time.
    struct Scene {
        _tasks: LocalEnterGuard,
        pulses: Rc<Pulses>,
        member: Member,
        held: Rc<()>,
    }

    impl Scene {
        fn new() -> Scene {
            let pulses = Rc::<Pulses>::default();
            let member = pulses.join();
            member.pulse.multiplex();
            // What is spawned is not run: the tests read ahead themselves.
            Scene { _tasks: LocalSet::new().enter(), pulses, member, held: Rc::default() }
        }

        fn answer(&self, waits: bool) -> Pin<Box<Tracked<Endless>>> {
            let pulse = &self.member.pulse;
            let body = Endless { waits, held: self.held.clone() };
            assert!(Rc::strong_count(&body.held) > 1);
            Box::pin(Tracked::new(body, pulse.begin().unwrap(), pulse))
        }

        /// The same that ends, with who reads it ahead.
        fn parts(&self, left: usize, size: usize) -> (Pin<Box<Tracked<Parts>>>, Ahead<Parts>) {
            let pulse = &self.member.pulse;
            let body = Parts { left, size, asked: false, _held: self.held.clone() };
            let tracked = Box::pin(Tracked::new(body, pulse.begin().unwrap(), pulse));
            let Tracking::Beside { body } = &tracked.body else { unreachable!("it is beside others") };
            let ahead = Ahead(Rc::downgrade(body));
            body.is_read_ahead.set(true);
            (tracked, ahead)
        }

        /// Lets so many seconds pass, in each of which these are asked; says what the connection is to do.
        fn wait(&self, ticks: u32, asked: &mut [&mut Pin<Box<Tracked<Endless>>>]) -> Order {
            let cx = &mut Context::from_waker(Waker::noop());
            for _ in 0..ticks {
                for answer in &mut *asked {
                    let _ = answer.as_mut().poll_frame(cx);
                }
                self.pulses.tick();
            }
            self.member.pulse.heed(cx)
        }

        /// How many of the answers hold what they had.
        fn holding(&self) -> usize {
            Rc::strong_count(&self.held) - 1
        }
    }

    fn ends(answer: &mut Pin<Box<Tracked<Endless>>>) -> bool {
        matches!(
            answer.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(Some(Err(_)))
        )
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn read(ahead: &mut Ahead<Parts>, times: usize) -> Poll<()> {
        let mut polled = Poll::Pending;
        for _ in 0..times {
            polled = Pin::new(&mut *ahead).poll(&mut Context::from_waker(Waker::noop()));
        }
        polled
    }

    fn take(answer: &mut Pin<Box<Tracked<Parts>>>) -> Option<usize> {
        match answer.as_mut().poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok().map(|part| part[0].into()),
            _ => None,
        }
    }

    #[test]
    fn what_is_short_is_read_ahead_to_its_end_and_holds_nothing() {
        let scene = Scene::new();
        let (mut answer, mut ahead) = scene.parts(3, 1_000);
        assert!(read(&mut ahead, 3).is_pending() && scene.holding() == 1);
        assert!(read(&mut ahead, 1).is_ready() && scene.holding() == 0);
        assert!(!answer.is_end_stream());
        assert_eq!((0..3).filter_map(|_| take(&mut answer)).collect::<Vec<_>>(), [2, 1, 0]);
        assert!(answer.is_end_stream());
    }

    #[test]
    fn what_is_long_is_read_ahead_as_far_as_there_is_room() {
        let scene = Scene::new();
        let (mut answer, mut ahead) = scene.parts(100, AHEAD_MAX / 2);
        assert!(read(&mut ahead, 9).is_pending() && scene.holding() == 1);
        assert_eq!((0..3).filter_map(|_| take(&mut answer)).collect::<Vec<_>>(), [99, 98], "then it waits");
        assert!(read(&mut ahead, 9).is_pending());
        assert_eq!(take(&mut answer), Some(97), "nobody reads what is waited for");
        assert!(read(&mut ahead, 9).is_pending());
        assert_eq!((0..2).filter_map(|_| take(&mut answer)).collect::<Vec<_>>(), [96, 95]);
    }

    #[test]
    fn parts_without_a_byte_are_not_read_for_ever() {
        let scene = Scene::new();
        let (mut answer, mut ahead) = scene.parts(usize::MAX, 0);
        assert!(read(&mut ahead, 9 * AHEAD_MAX / PART_BYTES).is_pending());
        let Tracking::Beside { body } = &answer.body else { unreachable!("it is beside others") };
        assert_eq!(body.read.borrow().len(), AHEAD_MAX / PART_BYTES);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(answer.as_mut().poll_frame(cx).is_ready());
    }

    #[test]
    fn who_reads_ahead_is_woken_when_there_is_nothing_left_to_read() {
        let scene = Scene::new();
        let (dropped, mut ahead) = scene.parts(9, 1);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = woken.clone().into();
        assert!(Pin::new(&mut ahead).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(dropped);
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(read(&mut ahead, 1).is_ready());
    }

    #[test]
    fn what_was_read_ahead_is_abandoned_too() {
        let scene = Scene::new();
        let (mut answer, mut ahead) = scene.parts(2, 1);
        assert!(read(&mut ahead, 3).is_ready() && scene.holding() == 0);
        assert_eq!(scene.wait(STALL_TICKS, &mut []), Order::End);
        assert_eq!(take(&mut answer), None);
        assert!(!answer.is_end_stream());
    }

    #[test]
    fn what_a_client_does_not_take_is_abandoned_and_holds_nothing() {
        let scene = Scene::new();
        let (mut untaken, mut taken) = (scene.answer(false), scene.answer(false));
        assert_eq!(scene.wait(STALL_TICKS - 1, &mut [&mut taken]), Order::Run);
        assert_eq!(scene.holding(), 2);
        assert_eq!(scene.wait(1, &mut [&mut taken]), Order::Run, "others go on");
        assert_eq!(scene.holding(), 1);
        assert!(ends(&mut untaken) && !ends(&mut taken));
    }

    #[test]
    fn an_upstream_that_is_waited_for_is_no_fault_of_the_client() {
        let scene = Scene::new();
        let mut waits = scene.answer(true);
        scene.wait(1, &mut [&mut waits]);
        assert_eq!(scene.wait(9 * STALL_TICKS, &mut []), Order::Run);
        assert_eq!(scene.holding(), 1);
    }

    #[test]
    fn a_connection_with_nothing_but_abandoned_answers_is_closed() {
        let scene = Scene::new();
        let (first, second) = (scene.answer(false), scene.answer(true));
        assert_eq!(scene.wait(STALL_TICKS, &mut []), Order::End);
        drop((first, second));
        let mut waits = scene.answer(true);
        scene.wait(1, &mut [&mut waits]);
        let untaken = scene.answer(false);
        assert_eq!(scene.wait(STALL_TICKS, &mut []), Order::Run, "one is still waited for");
        drop(untaken);
        assert_eq!(scene.wait(9 * STALL_TICKS, &mut []), Order::Run);
    }

    #[test]
    fn answers_that_have_ended_do_not_add_up() {
        let scene = Scene::new();
        (0..10_000).for_each(|_| drop(scene.answer(false)));
        assert_eq!(scene.holding(), 0);
        assert!(scene.member.pulse.watched() < 100);
    }
}
