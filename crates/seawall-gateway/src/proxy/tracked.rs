//! An answer's body on its connection.
//!
//! **Prevents** HTTP/2 clients that open no window from holding places and upstream connections for as long as they
//! like: their sockets are never blocked, so that nobody who looks at these alone can tell.
//!
//! **Mechanics.** A body is asked for more when the client has taken what there was. On a connection with several
//! answers at a time it is noted when each was asked, and whether its upstream is waited for; the worker's tick
//! ([`pulse`](super::pulse)) looks at that.
//!
//! **Edges.** What is abandoned ends with an error once it is asked again. On HTTP/1.1 nothing is noted: there a
//! client that takes nothing blocks the socket.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::outbound::Broken;
use super::pulse::{Busy, Pulse, STALL_TICKS, Untaken};

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
    /// `None` when it is abandoned.
    body: RefCell<Option<Pin<Box<B>>>>,
    /// When it was asked last.
    asked: Cell<u32>,
    /// Whether the upstream is waited for.
    waits: Cell<bool>,
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

impl<B: 'static> Tracking<B> {
    fn beside(body: B, pulse: &Rc<Pulse>) -> Tracking<B> {
        let body = Rc::new(Beside {
            pulse: pulse.clone(),
            body: RefCell::new(Some(Box::pin(body))),
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
            *self.body.borrow_mut() = None;
        }
        self.body.borrow().is_none()
    }
}

impl<B> Body for Tracked<B>
where
    B: Body<Data = Bytes, Error: Into<Broken>>,
{
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.project().body.project() {
            Projected::None => Poll::Ready(None),
            Projected::Alone { body } => body.poll_frame(cx).map_err(Into::into),
            Projected::Beside { body: beside } => {
                let mut body = beside.body.borrow_mut();
                let Some(body) = &mut *body else {
                    return Poll::Ready(Some(Err("the client took nothing for too long".into())));
                };
                let polled = body.as_mut().poll_frame(cx);
                beside.asked.set(beside.pulse.now());
                beside.waits.set(polled.is_pending());
                polled.map_err(Into::into)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Tracking::None => true,
            Tracking::Alone { body } => body.is_end_stream(),
            Tracking::Beside { body } => body.body.borrow().as_ref().is_some_and(|body| body.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Tracking::None => SizeHint::with_exact(0),
            Tracking::Alone { body } => body.size_hint(),
            Tracking::Beside { body } => {
                body.body.borrow().as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

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

    /// A connection with several answers at a time.
    struct Scene {
        pulses: Rc<Pulses>,
        member: Member,
        held: Rc<()>,
    }

    impl Scene {
        fn new() -> Scene {
            let pulses = Rc::<Pulses>::default();
            let member = pulses.join();
            member.pulse.multiplex();
            Scene { pulses, member, held: Rc::default() }
        }

        fn answer(&self, waits: bool) -> Pin<Box<Tracked<Endless>>> {
            let pulse = &self.member.pulse;
            let body = Endless { waits, held: self.held.clone() };
            assert!(Rc::strong_count(&body.held) > 1);
            Box::pin(Tracked::new(body, pulse.begin().unwrap(), pulse))
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
