//! A body whose beginning was read already.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// What was read of a body, then the rest of it.
    #[derive(Debug)]
    pub struct Replayed<B> {
        read: VecDeque<Frame<Bytes>>,
        #[pin]
        rest: Option<B>,
        boxed: Option<Pin<Box<B>>>,
    }
}

impl<B> Replayed<B> {
    /// A body of which nothing was read.
    pub(super) fn untouched(body: B) -> Replayed<B> {
        Replayed { read: VecDeque::new(), rest: Some(body), boxed: None }
    }

    /// A whole body.
    pub(super) fn whole(bytes: Bytes) -> Replayed<B> {
        let read = Some(bytes).filter(|bytes| !bytes.is_empty()).map(Frame::data).into_iter().collect();
        Replayed { read, rest: None, boxed: None }
    }

    /// What was read, then the rest.
    pub(super) fn resumed(read: VecDeque<Frame<Bytes>>, rest: Option<Pin<Box<B>>>) -> Replayed<B> {
        Replayed { read, rest: None, boxed: rest }
    }
}

impl<B: Body<Data = Bytes>> Body for Replayed<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if let Some(frame) = this.read.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match (this.rest.as_pin_mut(), this.boxed) {
            (Some(rest), _) => rest.poll_frame(cx),
            (None, Some(rest)) => rest.as_mut().poll_frame(cx),
            (None, None) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.rest.as_ref().or(self.boxed.as_deref());
        self.read.is_empty() && rest.is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.as_ref().or(self.boxed.as_deref());
        let left = rest.map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let read: u64 = self.read.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        let mut hint = SizeHint::new();
        hint.set_lower(left.lower() + read);
        if let Some(upper) = left.upper() {
            hint.set_upper(upper + read);
        }
        hint
    }
}
