//! HTTP/2 connections of one worker to one host, each shared by many calls.
//!
//! **Prevents** calls from waiting, unseen by every policy, for a stream of a connection that carries as many as its
//! host allows, where another connection would take them at once.
//!
//! **Mechanics.** A call takes the first connection whose host allows it another stream (`MAX_CONCURRENT_STREAMS`);
//! where none does, one more is made. So the first carry most, and the last fall idle and are closed.
//!
//! A connection on which a call waits in vain for [`DOUBT`], and no other call has its answer meanwhile, is taken no
//! more: its host may have lost it, and TCP goes on to say that it stands. Asking by pings is not for every host
//! ([`upstream`](super::upstream)).
//!
//! **Edges.** At [`CONNECTIONS_MAX`], and for [`REST`] after another could not be made, a call waits on the connection
//! that carries fewest. What a host allows is known from its first frame on: until that is read, it counts as what the
//! connection before was allowed, and on the first connection as 100.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::Poll;

use hyper::client::conn::http2::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use seawall::core::time::{Span, Time};
use seawall::now;

use super::belled::Belled;
use super::listen::Local;
use super::outbound::Outbound;
use super::upstream::Link;

/// The most HTTP/2 connections to a host, on one worker.
const CONNECTIONS_MAX: usize = 16;
/// How long a call waits before its connection is doubted.
const DOUBT: Span = Span::from_millis(500);
/// For how long no other is made when one could not be: calls go on with what there is.
const REST: Span = Span::from_secs(1);

type Driven = Connection<Belled<TokioIo<Link>>, Outbound, Local>;

/// A connection. Whoever holds it has a stream on it.
pub(super) struct Shared {
    sender: SendRequest<Outbound>,
    /// The same in the hands of the task that drives it. It is asked, and not told, what the host allows; `None` when it
    /// has ended, since it would hold the socket open.
    driven: Rc<RefCell<Option<Driven>>>,
    /// When it was last taken.
    taken: Cell<Time>,
    /// How many calls on it were answered.
    answers: Cell<u64>,
    /// Whether it is taken no more.
    is_doubted: Cell<bool>,
}

impl Shared {
    /// What sends on it.
    pub(super) fn sender(&self) -> SendRequest<Outbound> {
        self.sender.clone()
    }

    /// A call is sent on it.
    pub(super) fn ask(self: &Rc<Shared>, now: Time) -> Asked {
        // Who holds it would count as one more stream.
        Asked { shared: Rc::downgrade(self), at: now, answers: self.answers.get() }
    }
}

/// A call that waits for its answer on a connection; to be told when it has come.
pub(super) struct Asked {
    shared: Weak<Shared>,
    at: Time,
    answers: u64,
}

impl Asked {
    /// It has come, or the connection has said otherwise.
    pub(super) fn answered(self) {
        self.shared.upgrade().iter().for_each(|shared| shared.answers.set(shared.answers.get() + 1));
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade()
            && shared.answers.get() == self.answers
            && now().since(self.at) >= DOUBT
        {
            shared.is_doubted.set(true);
        }
    }
}

/// The connections to one host.
#[derive(Default)]
pub(super) struct Connections {
    open: RefCell<Vec<Rc<Shared>>>,
    /// Until when no other is made.
    rests: Cell<Time>,
}

impl Connections {
    /// One that takes another stream, or on which it waits least where there may be no more connections.
    pub(super) fn take(&self, now: Time, idle_most: Span) -> Option<Rc<Shared>> {
        self.close_unused(now, idle_most);
        let open = self.open.borrow();
        let is_full = open.len() >= CONNECTIONS_MAX || now < self.rests.get();
        let emptiest = || if is_full { open.iter().min_by_key(|shared| streams(shared)) } else { None };
        let taken = open.iter().find(|shared| has_room(shared)).or_else(emptiest)?;
        taken.taken.set(now);
        Some(taken.clone())
    }

    /// Another could not be made: none is tried for a while where there is one already.
    pub(super) fn rest(&self, now: Time) {
        self.rests.set(now + REST);
    }

    /// How many streams the host is going to allow on another one, as far as the last tells.
    pub(super) fn expected(&self) -> Option<usize> {
        self.open.borrow().last().map(allowed).filter(|allowed| *allowed > 0)
    }

    /// Takes a connection that was made, and drives it.
    pub(super) fn add(&self, now: Time, (sender, driven): (SendRequest<Outbound>, Driven)) -> Rc<Shared> {
        let driven = Rc::new(RefCell::new(Some(driven)));
        let shared = Rc::new(Shared {
            sender,
            driven: driven.clone(),
            taken: Cell::new(now),
            answers: Cell::default(),
            is_doubted: Cell::default(),
        });
        self.open.borrow_mut().push(shared.clone());
        tokio::task::spawn_local(poll_fn(move |cx| {
            let mut driven = driven.borrow_mut();
            let ended = driven.as_mut().map_or(Poll::Ready(Ok(())), |driven| Pin::new(driven).poll(cx));
            if ended.is_ready() {
                *driven = None;
            }
            ended.map(drop)
        }));
        shared
    }

    /// Forgets what is closed or doubted, and closes what has been idle for so long, but for the first.
    fn close_unused(&self, now: Time, idle_most: Span) {
        let is_idle = |shared: &Rc<Shared>| streams(shared) == 0 && now.since(shared.taken.get()) > idle_most;
        let mut first = true;
        self.open.borrow_mut().retain(|shared| {
            let is_kept =
                !shared.sender.is_closed() && !shared.is_doubted.get() && (first || !is_idle(shared));
            first &= !is_kept;
            is_kept
        });
    }
}

/// The streams on a connection that these connections hold.
fn streams(shared: &Rc<Shared>) -> usize {
    Rc::strong_count(shared) - 1
}

/// The streams that the host allows on it.
fn allowed(shared: &Rc<Shared>) -> usize {
    shared.driven.borrow().as_ref().map_or(0, Driven::current_max_send_streams)
}

fn has_room(shared: &Rc<Shared>) -> bool {
    streams(shared) < allowed(shared)
}
