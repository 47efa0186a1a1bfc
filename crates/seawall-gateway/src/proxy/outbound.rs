//! A request's body on its way to the upstream.
//!
//! **Edges.** A body without a length is counted as it passes; what is longer than its route allows
//! breaks off. So does one whose client sends nothing for too long while the upstream waits for it.
//! Whoever holds the [`Arrival`] learns that it was the client's doing and not the upstream's. While the
//! answer goes on nobody waits for the body: what goes both ways may rest, and the answer's silence bounds it.
//!
//! No time for the answer passes while the client is waited for, but while the upstream takes nothing of what is
//! there. So that nobody holds a place with a few bytes now and then, a client is given up that does not keep its
//! route's pace, from the time on at which a request without a body would be over.
//!
//! What a gRPC client sends is a *stream*, which may come at any pace and pause: until its end, no time for the
//! answer passes, unless nothing comes for as long as a stream may be silent. Nor is the answer silent meanwhile.

use std::error::Error;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use seawall::core::measure::bucket::Rate;
use seawall::core::time::{Span, Time};
use seawall::{instant, now};
use tokio::time::Sleep;

use super::access::Trail;
use super::headers::{self, HEADER_BYTES_MAX};
use super::replay::Cursor;

/// Why a body ended early.
pub(crate) type Broken = Box<dyn Error + Send + Sync>;

/// What was wrong with a body on the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is longer than its route allows.
    TooLong,
    /// It broke off, or its framing makes no sense.
    Broken,
    /// It did not come in time.
    Slow,
}

/// Learns how a body comes: what is wrong with it, once that is known, and since when nothing is owed of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival(Arc<Learnt>);

#[derive(Debug, Default)]
struct Learnt {
    word: AtomicU8,
    /// When a part of it came last or, while the client is waited for, until when it is; in nanoseconds.
    owed_until: AtomicU64,
    /// How long its client was waited for, in nanoseconds.
    waited: AtomicU64,
    /// How much is still to come at most, in bytes.
    left: AtomicU64,
    /// When a part of it came last or was last asked for, in nanoseconds, if it is a stream; zero otherwise.
    streamed_at: AtomicU64,
}

/// Nothing is wrong, and the answer goes on.
const ANSWERING: u8 = 4;
/// Nothing was wrong, and the answer is over.
const ANSWERED: u8 = 5;

/// While it is held, the answer to a request goes on.
#[derive(Debug)]
pub(super) struct Answering(Arrival);

impl Answering {
    /// What is wrong with the request's body, as far as is known.
    pub(super) fn known(&self) -> Option<Fault> {
        self.0.known()
    }

    /// When a part of the request's body came last or was last asked for; `None` unless it is a stream.
    pub(super) fn streamed_at(&self) -> Option<Time> {
        self.0.streamed_at()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.turn(ANSWERING, ANSWERED);
    }
}

impl Arrival {
    /// The answer has begun.
    pub(super) fn answering(&self) -> Answering {
        self.turn(0, ANSWERING);
        Answering(self.clone())
    }

    /// What is wrong already stays.
    fn turn(&self, from: u8, to: u8) {
        let _ = self.0.word.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn is_answering(&self) -> bool {
        self.0.word.load(Ordering::Relaxed) == ANSWERING
    }

    /// Whether there is more of it to come than is read in vain: a connection on which nobody wants it is closed.
    pub(super) fn is_left(&self) -> bool {
        self.0.left.load(Ordering::Relaxed) > UNREAD_MAX
    }

    /// When a part of it came last or was last asked for; `None` unless it is a stream, and goes out.
    fn streamed_at(&self) -> Option<Time> {
        let nanos = self.0.streamed_at.load(Ordering::Relaxed);
        (nanos > 0).then(|| Time::from_nanos(nanos))
    }

    /// Whether it is a stream that goes out, and has not ended.
    pub(super) fn is_open(&self) -> bool {
        self.streamed_at().is_some() && self.0.left.load(Ordering::Relaxed) > 0
    }

    /// A part of it has come, and how much is left; nothing is owed of it for so long.
    fn came(&self, now: Time, left: u64, rest: Option<Span>) {
        self.leave(left);
        let rests = rest.filter(|_| left > 0).unwrap_or(Span::ZERO);
        self.owe(now + rests);
        if rest.is_some() {
            self.stream(now);
        }
    }

    fn stream(&self, now: Time) {
        self.0.streamed_at.store(now.as_nanos(), Ordering::Relaxed);
    }

    /// Its client waits to be asked for it.
    pub(super) fn withheld(&self) {
        self.leave(u64::MAX);
    }

    /// What is left of it.
    fn leave(&self, left: u64) {
        self.0.left.store(left, Ordering::Relaxed);
    }

    /// How long its client was waited for so far, which says nothing of the host.
    pub(super) fn waited(&self) -> Span {
        Span::from_nanos(self.0.waited.load(Ordering::Relaxed))
    }

    /// Nothing of it is owed any longer than until then.
    fn owe(&self, until: Time) {
        self.0.owed_until.store(until.as_nanos(), Ordering::Relaxed);
    }

    /// Since when its client has not been waited for: `now` while it is.
    pub(super) fn received(&self, now: Time) -> Time {
        now.min(Time::from_nanos(self.0.owed_until.load(Ordering::Relaxed)))
    }

    /// What is wrong, as far as is known.
    pub(crate) fn known(&self) -> Option<Fault> {
        match self.0.word.load(Ordering::Relaxed) {
            1 => Some(Fault::TooLong),
            2 => Some(Fault::Broken),
            3 => Some(Fault::Slow),
            _ => None,
        }
    }

    /// This is wrong.
    pub(super) fn note(&self, fault: Fault) {
        let word = match fault {
            Fault::TooLong => 1,
            Fault::Broken => 2,
            Fault::Slow => 3,
        };
        self.0.word.store(word, Ordering::Relaxed);
    }
}

/// How long a client may keep an upstream waiting for a body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the next part of it.
    pub(crate) stall: Span,
    /// For all of it, if it is sent at less than `pace`.
    pub(crate) until: Time,
    /// How many bytes must come on average.
    pub(crate) pace: Rate,
    /// For all of it, however it is sent.
    pub(crate) latest: Time,
    /// How long the upstream may leave what has come, or wait for the next part of it, before the time for its
    /// answer goes on: of a stream. `None` for what is a body as others.
    pub(crate) rest: Option<Span>,
}

impl Patience {
    /// Until when the next part is waited for after so many bytes.
    fn ends(&self, now: Time, came: u64) -> Time {
        let nanos = u128::from(self.pace.per.as_nanos()) * u128::from(came) / u128::from(self.pace.count);
        let earned = Span::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        (now + self.stall).min(self.until + earned).min(self.latest)
    }
}

/// The most of a body that the HTTP/1 server reads in vain, to keep a connection: what is in its buffer already.
const UNREAD_MAX: u64 = HEADER_BYTES_MAX as u64;

/// How much of this body is still to come at most. It says its end itself if it has no length.
fn left(body: &Incoming) -> u64 {
    if body.is_end_stream() { 0 } else { body.size_hint().upper().unwrap_or(u64::MAX) }
}

/// Whether there is more of this body to come than is read in vain.
pub(super) fn is_left(body: &Incoming) -> bool {
    left(body) > UNREAD_MAX
}

/// A body as it comes from the client.
#[derive(Debug)]
pub(crate) struct Live {
    body: Incoming,
    came: u64,
    /// How much may come.
    most: u64,
    arrival: Arrival,
    patience: Option<Patience>,
    waits: Option<Waits>,
    /// Where it is noted how much has come, if somebody wants to know.
    trail: Option<Arc<Trail>>,
}

/// The upstream waits for the client.
#[derive(Debug)]
struct Waits {
    over: Pin<Box<Sleep>>,
    /// Since when; the clock is kept while it does not run.
    since: Option<Time>,
}

impl Live {
    pub(super) fn arrival(&self) -> Arrival {
        self.arrival.clone()
    }

    /// Nothing has come: ready when nobody waits for it any longer.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(patience) = self.patience else { return Poll::Pending };
        let waits = self.waits.get_or_insert_with(|| {
            let over = Box::pin(tokio::time::sleep_until(instant(Time::ZERO)));
            Waits { over, since: None }
        });
        if waits.since.is_none() {
            let now = now();
            let ends = patience.ends(now, self.came);
            waits.since = Some(now);
            waits.over.as_mut().reset(instant(ends));
            self.arrival.owe(ends);
            if patience.rest.is_some() {
                self.arrival.stream(now);
            }
        }
        loop {
            ready!(waits.over.as_mut().poll(cx));
            if !self.arrival.is_answering() {
                return Poll::Ready(());
            }
            waits.over.as_mut().reset(instant(now() + patience.stall));
        }
    }
}

impl Body for Live {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut polled = Pin::new(&mut self.body).poll_frame(cx);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                frame.trailers_mut().into_iter().for_each(headers::strip_trailers);
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.trail.iter().for_each(|trail| trail.came(length));
                self.came += length as u64;
                if self.came > self.most {
                    self.arrival.note(Fault::TooLong);
                    return Poll::Ready(Some(Err("the body is longer than its route allows".into())));
                }
            }
            Poll::Ready(Some(Err(_))) => self.arrival.note(Fault::Broken),
            Poll::Ready(None) => {}
            Poll::Pending => {
                return self.wait(cx).map(|()| {
                    self.arrival.note(Fault::Slow);
                    Some(Err("the body does not come".into()))
                });
            }
        }
        let now = now();
        if let Some(since) = self.waits.as_mut().and_then(|waits| waits.since.take()) {
            self.arrival.0.waited.fetch_add(now.since(since).as_nanos(), Ordering::Relaxed);
        }
        let left = if matches!(polled, Poll::Ready(None)) { 0 } else { left(&self.body) };
        self.arrival.came(now, left, self.patience.and_then(|patience| patience.rest));
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body: the client's, or none.
#[derive(Debug, Default)]
pub(crate) enum Outbound {
    /// There is none.
    #[default]
    Nothing,
    /// It passes once. In a box: most requests have none, and would be larger for it.
    Passing(Box<Live>),
    /// It is kept as it passes.
    Kept(Cursor),
}

impl Outbound {
    /// The client's body.
    pub(crate) fn new(body: Incoming) -> Outbound {
        if body.is_end_stream() {
            return Outbound::Nothing;
        }
        let (came, most, arrival) = (0, u64::MAX, Arrival::default());
        arrival.leave(left(&body));
        let live = Live { body, came, most, arrival, patience: None, waits: None, trail: None };
        Outbound::Passing(Box::new(live))
    }

    /// Has it noted there how much of it comes.
    pub(super) fn count(&mut self, trail: &Arc<Trail>) {
        if let Outbound::Passing(live) = self {
            live.trail = Some(trail.clone());
        }
    }

    /// Lets at most so many bytes pass, and in this time. An error when it is known already that there are
    /// more.
    pub(crate) fn bound(&mut self, most: Option<u64>, patience: Patience) -> Result<(), Fault> {
        let Outbound::Passing(live) = self else { return Ok(()) };
        live.patience = Some(patience);
        live.most = most.unwrap_or(u64::MAX);
        if live.body.size_hint().lower() > live.most { Err(Fault::TooLong) } else { Ok(()) }
    }

    /// Keeps it as it passes, up to so many bytes; whether it may fit.
    pub(crate) fn keep(&mut self, most: u64) -> bool {
        match std::mem::take(self) {
            Outbound::Passing(live) if live.size_hint().lower() <= most => {
                *self = Outbound::Kept(Cursor::new(*live, most));
                true
            }
            other => {
                *self = other;
                !matches!(self, Outbound::Passing(_))
            }
        }
    }

    /// It from the beginning, for another attempt; `None` if it passes once.
    pub(crate) fn again(&self) -> Option<Outbound> {
        match self {
            Outbound::Nothing => Some(Outbound::Nothing),
            Outbound::Passing(_) => None,
            Outbound::Kept(cursor) => Some(Outbound::Kept(cursor.again())),
        }
    }

    /// What is kept of it, to be asked later whether all of it was; `None` if nothing is to be.
    pub(crate) fn kept(&self) -> Option<Cursor> {
        match self {
            Outbound::Nothing | Outbound::Passing(_) => None,
            Outbound::Kept(cursor) => Some(cursor.again()),
        }
    }

    /// All of it on its own; `None` if it passes once, is too long, or has not come.
    pub(crate) fn whole(&self) -> Option<Outbound> {
        match self {
            Outbound::Nothing => Some(Outbound::Nothing),
            Outbound::Passing(_) => None,
            Outbound::Kept(cursor) => cursor.whole().map(Outbound::Kept),
        }
    }

    /// Whoever reads what is kept breaks off: another one is going to.
    pub(crate) fn claim(&self) {
        if let Outbound::Kept(cursor) = self {
            cursor.again().claim();
        }
    }

    /// Whether another attempt can have it from the beginning.
    pub(crate) fn is_repeatable(&self) -> bool {
        match self {
            Outbound::Nothing => true,
            Outbound::Passing(_) => false,
            Outbound::Kept(cursor) => !cursor.is_outgrown(),
        }
    }

    /// Who learns what is wrong with it; `None` without a body.
    pub(crate) fn arrival(&self) -> Option<Arrival> {
        match self {
            Outbound::Nothing => None,
            Outbound::Passing(live) => Some(live.arrival()),
            Outbound::Kept(cursor) => Some(cursor.arrival()),
        }
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Outbound::Nothing)
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Outbound::Nothing => Poll::Ready(None),
            Outbound::Passing(live) => Pin::new(&mut **live).poll_frame(cx),
            Outbound::Kept(cursor) => cursor.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outbound::Nothing => true,
            Outbound::Passing(live) => live.is_end_stream(),
            Outbound::Kept(cursor) => cursor.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outbound::Nothing => SizeHint::with_exact(0),
            Outbound::Passing(live) => live.size_hint(),
            Outbound::Kept(cursor) => cursor.size_hint(),
        }
    }
}
