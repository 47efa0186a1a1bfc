//! A request's body on its way to the upstream.
//!
//! **Edges.** A body without a length is counted as it passes; what is longer than its route allows
//! breaks off. Whoever holds the [`Faults`] learns that it was the client's doing and not the upstream's.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// What was wrong with a body on the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is longer than its route allows.
    TooLong,
    /// It broke off, or its framing makes no sense.
    Broken,
}

/// Learns what is wrong with a body, once that is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<AtomicU8>);

impl Faults {
    /// What is wrong, as far as is known.
    pub(crate) fn known(&self) -> Option<Fault> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(Fault::TooLong),
            2 => Some(Fault::Broken),
            _ => None,
        }
    }

    fn note(&self, fault: Fault) {
        let word = match fault {
            Fault::TooLong => 1,
            Fault::Broken => 2,
        };
        self.0.store(word, Ordering::Relaxed);
    }
}

/// The body is longer than its route allows.
#[derive(Debug)]
struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is longer than its route allows")
    }
}

impl Error for TooLong {}

/// A request's body: the client's, or none.
#[derive(Debug, Default)]
pub(crate) struct Outbound(Option<Inner>);

#[derive(Debug)]
struct Inner {
    body: Incoming,
    /// How much may still come.
    left: u64,
    faults: Faults,
}

impl Outbound {
    /// The client's body.
    pub(crate) fn new(body: Incoming) -> Outbound {
        let some = Some(body).filter(|body| !body.is_end_stream());
        Outbound(some.map(|body| Inner { body, left: u64::MAX, faults: Faults::default() }))
    }

    /// Lets at most so many bytes pass. An error when it is known already that there are more.
    pub(crate) fn bound(&mut self, most: u64) -> Result<(), Fault> {
        match &mut self.0 {
            Some(inner) if inner.body.size_hint().lower() > most => Err(Fault::TooLong),
            Some(inner) => {
                inner.left = most;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Who learns what is wrong with it; `None` without a body.
    pub(crate) fn faults(&self) -> Option<Faults> {
        self.0.as_ref().map(|inner| inner.faults.clone())
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(Inner { body, left, faults }) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len) as u64) {
                    Some(rest) => *left = rest,
                    None => {
                        faults.note(Fault::TooLong);
                        return Poll::Ready(Some(Err(TooLong.into())));
                    }
                }
            }
            Poll::Ready(Some(Err(_))) => faults.note(Fault::Broken),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |inner| inner.body.size_hint())
    }
}
