//! A request's body that is kept as it passes, so that the request can be sent again.
//!
//! **Prevents** a retry from being lost for want of a few bytes that had just been there.
//!
//! **Mechanics.** Each attempt reads through a [`Cursor`] of its own: what was read before comes from the
//! [`Recording`], what was not from the client. One attempt reads at a time; a later one takes over, and
//! the one before breaks off.
//!
//! **Edges.** A body that outgrows its bound is let go and passes on unkept: the attempt that reads it goes
//! on, another cannot begin.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::outbound::{Arrival, Broken, Live};

/// What was read of a body so far.
#[derive(Debug)]
struct Recording {
    /// What comes from the client; `None` when that has ended.
    live: Option<Live>,
    arrival: Arrival,
    hint: SizeHint,
    kept: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// How much may still be kept.
    left: u64,
    outgrown: bool,
    /// The number of the cursor that reads, and of the next one.
    reads: u64,
    next: u64,
}

/// A place in a body that is kept.
#[derive(Debug)]
pub(crate) struct Cursor {
    recording: Arc<Mutex<Recording>>,
    number: u64,
    at: usize,
    told_trailers: bool,
}

impl Cursor {
    /// At the beginning of this body, of which at most so many bytes are kept.
    pub(super) fn new(live: Live, most: u64) -> Cursor {
        let (hint, arrival) = (live.size_hint(), live.arrival());
        Cursor::at_start(Recording {
            live: Some(live),
            arrival,
            hint,
            kept: Vec::new(),
            trailers: None,
            left: most,
            outgrown: false,
            reads: 0,
            next: 0,
        })
    }

    fn at_start(recording: Recording) -> Cursor {
        Cursor { recording: Arc::new(Mutex::new(recording)), number: 0, at: 0, told_trailers: false }
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another one at the beginning. It takes over when it is first read.
    pub(super) fn again(&self) -> Cursor {
        let mut recording = self.lock();
        recording.next += 1;
        let (number, recording) = (recording.next, self.recording.clone());
        Cursor { recording, number, at: 0, told_trailers: false }
    }

    /// Takes over now: whoever reads breaks off.
    pub(super) fn claim(&self) {
        let mut recording = self.lock();
        recording.reads = recording.reads.max(self.number);
    }

    /// Whether it is longer than what is kept, so that no other attempt can begin.
    pub(super) fn is_outgrown(&self) -> bool {
        self.lock().outgrown
    }

    /// A copy of the body on its own, if all of it has come and was kept.
    pub(super) fn whole(&self) -> Option<Cursor> {
        let recording = self.lock();
        let is_whole = recording.live.is_none() && !recording.outgrown;
        let length: usize = recording.kept.iter().map(Bytes::len).sum();
        is_whole.then(|| {
            Cursor::at_start(Recording {
                live: None,
                arrival: Arrival::default(),
                hint: SizeHint::with_exact(length as u64),
                kept: recording.kept.clone(),
                trailers: recording.trailers.clone(),
                left: 0,
                outgrown: false,
                reads: 0,
                next: 0,
            })
        })
    }

    /// Who learns how it comes.
    pub(super) fn arrival(&self) -> Arrival {
        self.lock().arrival.clone()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Cursor { recording, number, at, told_trailers } = self;
        let mut recording = recording.lock().unwrap_or_else(PoisonError::into_inner);
        let Recording { live, kept, trailers, left, outgrown, reads, .. } = &mut *recording;
        if *number < *reads {
            return Poll::Ready(Some(Err("another attempt reads the body".into())));
        }
        *reads = *number;
        if !*outgrown && let Some(bytes) = kept.get(*at) {
            *at += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        if *outgrown && *at == 0 {
            return Poll::Ready(Some(Err("the body was not kept".into())));
        }
        let Some(source) = live else {
            let trailers = trailers.clone().filter(|_| !std::mem::replace(told_trailers, true));
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        let Some(frame) = ready!(Pin::new(&mut *source).poll_frame(cx)) else {
            *live = None;
            return Poll::Ready(None);
        };
        let frame = frame?;
        if let Some(bytes) = frame.data_ref() {
            *at += 1;
            match left.checked_sub(bytes.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    kept.push(bytes.clone());
                }
                None => {
                    (*left, *outgrown) = (0, true);
                    kept.clear();
                }
            }
        } else if let Some(last) = frame.trailers_ref() {
            *trailers = Some(last.clone());
            *told_trailers = true;
        }
        if source.is_end_stream() {
            *live = None;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let recording = self.lock();
        let told = self.told_trailers || recording.trailers.is_none();
        recording.live.is_none() && self.at >= recording.kept.len() && told
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        if self.at == 0 { self.lock().hint } else { SizeHint::default() }
    }
}
