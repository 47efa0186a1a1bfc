//! An answer's body on its way to the client, bounded in time.
//!
//! **Prevents** an upstream that falls silent from holding its place for ever, and answers that go on for
//! hours from using up the places of those that end.
//!
//! **Mechanics.** An answer that goes on for longer than its route's deadline is a stream, an event stream
//! and an agreed upgrade are from the beginning: it gives back its place under the limit and takes one of
//! the route's streams. Its host counts it to its end. An upstream that sends nothing for too long is cut
//! off.
//!
//! **Edges.** With no stream left, an upgrade or event stream is refused, and an answer that has become one
//! keeps the place that it has. An answer becomes a stream also where its client is slow to take it. A client that
//! takes nothing is not the upstream's fault: the clock of its silence runs only while the upstream is waited for.
//! No timer is made for an answer that is there at once. An answer that its upstream breaks off was a success at its
//! head: its host is told, and the route counts it as bad. So is one whose trailers say that it failed, as gRPC's do.
//! Over HTTP/2 a host may say behind an answer that it wants no more of the request; where there is no more, or the
//! answer is shorter than it said, that has broken it off.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use prometheus_client::metrics::counter::Counter;
use seawall::call::Upstream;
use seawall::core::call::Called;
use seawall::core::outcome::Outcome;
use seawall::core::time::Span;
use seawall::{Guard, instant};
use tokio::time::{Instant, Sleep};

use super::headers;
use super::outbound::{Answering, Arrival, Broken};
use super::quiet;
use super::road::Route;
use super::upstream::Lease;

/// The streams of a route.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: AtomicU32,
    /// Answers whose upstream fell silent.
    pub(crate) cut: Counter,
    /// Answers that were good at their heads, and that their upstream broke off.
    pub(crate) broken: Counter,
    /// Answers that were bad although their status was not: that were broken off, or whose gRPC status was a
    /// failure. Without those that a fallback read first, which may have answered otherwise.
    pub(crate) spoilt: Counter,
}

impl Streams {
    /// How many are open.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// One more, if there are fewer than `most`.
    pub(super) fn take(self: &Arc<Self>, most: u32) -> Option<Stream> {
        let stream = Stream(self.clone());
        (self.open.fetch_add(1, Ordering::Relaxed) < most).then_some(stream)
    }
}

/// One of the streams of a route, until it is dropped.
#[derive(Debug)]
pub(super) struct Stream(Arc<Streams>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether an answer is known to go on for long.
pub(super) fn is_stream(status: StatusCode, headers: &HeaderMap) -> bool {
    let kind = || headers.get(header::CONTENT_TYPE);
    status == StatusCode::SWITCHING_PROTOCOLS
        || kind().is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

/// What rides along until the body ends. Guards are large, and in boxes because they go through many hands.
pub(crate) struct Riders {
    pub(super) _connection: Lease,
    pub(super) _back: Option<Box<Guard>>,
    /// The place under the limit, or as a stream.
    pub(super) _place: Option<Place>,
    /// What lets the request's body rest meanwhile.
    pub(super) answering: Option<Answering>,
    /// Who hears if it fails after its head; `None` when it did already.
    pub(super) blame: Option<Blame>,
}

/// The host that an answer is from.
pub(super) struct Blame {
    upstream: Arc<Upstream>,
    called: Called,
    /// Whether a fallback reads it first.
    is_kept: bool,
}

impl Blame {
    /// For an answer on this route, of the host that was called.
    pub(super) fn new(route: &Route, called: Called) -> Blame {
        Blame { upstream: route.upstream.clone(), called, is_kept: route.fallback.is_some() }
    }
}

/// What an answer holds while it goes on.
pub(super) enum Place {
    /// A place under the limit.
    Limit(Box<Guard>),
    /// One of the route's streams.
    Stream(#[expect(dead_code, reason = "it is held")] Stream),
}

impl Place {
    /// Waits for the call that has this place. When the route's deadline is over and its client still streams, it
    /// becomes one of the route's streams.
    pub(super) async fn outlasted<C>(
        &mut self,
        route: &Route,
        arrival: &Arrival,
        mut call: Pin<&mut C>,
    ) -> C::Output
    where
        C: Future,
    {
        let bounds = route.bounds();
        if let Ok(ended) = tokio::time::timeout(bounds.long, &mut call).await {
            return ended;
        }
        if arrival.is_open()
            && let Some(stream) = route.stats.streams.take(bounds.streams)
            && let Place::Limit(mut front) = std::mem::replace(self, Place::Stream(stream))
        {
            // How long people stream says nothing of the service.
            front.report(Outcome::Ignored, Span::ZERO);
        }
        call.await
    }
}

/// How long it may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How long the upstream may send nothing.
    pub(super) idle: Duration,
    /// From when on it is a stream.
    pub(super) long: Duration,
    /// The most streams.
    pub(super) streams: u32,
}

/// An upstream is waited for.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Since when nothing has come; `None` while something does.
    silent_since: Option<Instant>,
}

/// How long an answer has gone on.
#[derive(Clone, Copy, Debug)]
enum Age {
    /// It has only begun.
    New,
    /// It becomes a stream then.
    Young(Instant),
    /// It is a stream, or could not become one.
    Long,
}

/// How it is known that a body has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// The parser sees to it.
    Framed,
    /// On a stream of HTTP/2, whose parser takes a reset without an error for it.
    Marked {
        /// Whether the request has a body, for which the reset may be meant.
        uploads: bool,
    },
}

/// The body of an answer. In a box, because it goes through many hands before it is read.
pub(crate) struct Inbound(Box<Coming>);

/// A body that comes from an upstream.
struct Coming {
    body: Incoming,
    riders: Option<Riders>,
    ends: Ends,
    bounds: Bounds,
    streams: Arc<Streams>,
    age: Age,
    alarm: Option<Alarm>,
}

impl Inbound {
    #[inline]
    pub(super) fn new(
        (body, ends): (Incoming, Ends),
        riders: Riders,
        bounds: Bounds,
        streams: Arc<Streams>,
    ) -> Inbound {
        let place = Box::new_uninit();
        let coming = Coming { body, riders: Some(riders), ends, bounds, streams, age: Age::New, alarm: None };
        Inbound(Box::write(place, coming))
    }
}

impl Coming {
    /// Whether its end is none.
    fn is_short(&self) -> bool {
        let Ends::Marked { uploads } = self.ends else { return false };
        let is_less = || self.body.size_hint().exact().is_some_and(|left| left > 0);
        !self.body.is_end_stream() && (!uploads || is_less())
    }

    /// It ended before it was whole.
    #[cold]
    fn broke(&mut self) {
        if self.failed() {
            self.streams.broken.inc();
        }
        self.riders = None;
    }

    /// Its trailers have come, and may have a gRPC status.
    #[cold]
    fn ended(&mut self, trailers: &HeaderMap) {
        if seawall::http::outcome(StatusCode::OK, trailers).is_failure() {
            self.failed();
        }
    }

    /// It was a success at its head, and is none; whether its host is to be blamed for that.
    fn failed(&mut self) -> bool {
        let Some(Riders { answering, blame, .. }) = &mut self.riders else { return false };
        // A client that breaks off what it sends takes the upstream's connection with it.
        let is_clients = answering.as_ref().is_some_and(|answering| answering.known().is_some());
        let Some(blame) = blame.take().filter(|_| !is_clients) else { return false };
        self.streams.spoilt.inc_by(u64::from(!blame.is_kept));
        blame.upstream.broke(blame.called);
        true
    }

    /// It goes on: makes it a stream when it is time, and says when it will be.
    fn ages(&mut self, now: Instant) -> Option<Instant> {
        match self.age {
            Age::New => self.age = Age::Young(now + self.bounds.long),
            Age::Young(long_at) if now >= long_at => {
                self.age = Age::Long;
                if let (Some(riders), Some(stream)) =
                    (&mut self.riders, self.streams.take(self.bounds.streams))
                {
                    riders._place = Some(Place::Stream(stream));
                }
            }
            Age::Young(_) | Age::Long => {}
        }
        match self.age {
            Age::Young(long_at) => Some(long_at),
            Age::New | Age::Long => None,
        }
    }

    /// Nothing has come: ready when the upstream is waited for no longer.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let (now, idle) = (Instant::now(), self.bounds.idle);
            let long_at = self.ages(now);
            let answering = self.riders.as_ref().and_then(|riders| riders.answering.as_ref());
            let streamed_at = answering.and_then(Answering::streamed_at);
            let alarm = self.alarm.get_or_insert_with(|| Alarm {
                sleep: Box::pin(tokio::time::sleep_until(now)),
                silent_since: None,
            });
            let silent_since = *alarm.silent_since.get_or_insert(now);
            // A call is not silent while its client streams.
            let ends_at = streamed_at.map_or(silent_since, |at| silent_since.max(instant(at))) + idle;
            if now >= ends_at {
                return Poll::Ready(());
            }
            let next = long_at.map_or(ends_at, |long_at| long_at.min(ends_at));
            if alarm.sleep.deadline() != next {
                alarm.sleep.as_mut().reset(next);
            }
            ready!(alarm.sleep.as_mut().poll(cx));
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let coming = &mut *self.0;
        let held = quiet::Held::back();
        let mut polled = Pin::new(&mut coming.body).poll_frame(cx);
        if coming.body.is_end_stream() {
            held.forget();
        } else {
            drop(held);
        }
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::strip_trailers(trailers);
                    coming.ended(trailers);
                }
                coming.alarm.iter_mut().for_each(|alarm| alarm.silent_since = None);
                if !coming.body.is_end_stream() {
                    coming.ages(Instant::now());
                }
            }
            Poll::Ready(Some(Err(_))) => coming.broke(),
            Poll::Ready(None) if coming.is_short() => {
                coming.broke();
                return Poll::Ready(Some(Err("the upstream broke off its answer".into())));
            }
            Poll::Ready(None) => coming.riders = None,
            Poll::Pending => {
                ready!(coming.wait(cx));
                coming.riders = None;
                coming.streams.cut.inc();
                return Poll::Ready(Some(Err("the upstream sent nothing for too long".into())));
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.0.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.body.size_hint()
    }
}
