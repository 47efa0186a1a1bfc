//! Bodies: one that holds something until it ends, and a small whole one.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// A small whole body.
#[derive(Clone, Debug, Default)]
pub struct Full(Option<Bytes>);

impl Full {
    /// These bytes; none at all when empty.
    pub fn new(bytes: Bytes) -> Full {
        Full(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.0.take()
    }

    fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }
}

impl From<Bytes> for Full {
    fn from(bytes: Bytes) -> Full {
        Full::new(bytes)
    }
}

pin_project! {
    /// A body that keeps `G` until it has ended, failed or been dropped; or one of our own.
    #[derive(Debug)]
    pub struct Held<B, G> {
        #[pin]
        inner: Option<B>,
        full: Full,
        guard: Option<G>,
        broke: fn(G),
    }
}

impl<B, G> Held<B, G> {
    /// `inner`, and `guard` until its end.
    pub fn new(inner: B, guard: G) -> Held<B, G> {
        Held::blaming(inner, guard, drop)
    }

    /// The same, but what happens to the guard when `inner` breaks off.
    pub fn blaming(inner: B, guard: G, broke: fn(G)) -> Held<B, G> {
        Held { inner: Some(inner), full: Full::default(), guard: Some(guard), broke }
    }

    /// A small whole body that holds nothing.
    pub fn full(body: Full) -> Held<B, G> {
        Held { inner: None, full: body, guard: None, broke: drop }
    }
}

impl<B, G> Body for Held<B, G>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(this.full.take().map(|bytes| Ok(Frame::data(bytes))));
        };
        let polled = inner.poll_frame(cx);
        match &polled {
            Poll::Ready(None) => *this.guard = None,
            Poll::Ready(Some(Err(_))) => this.guard.take().into_iter().for_each(*this.broke),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().map_or(self.full.len() == 0, Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(self.full.len()), Body::size_hint)
    }
}
