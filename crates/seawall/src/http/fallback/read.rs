//! Reading a body whole, as far as it is worth to be kept.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use http_body::{Body, Frame};
use seawall_core::time::Time;

use crate::clock::instant;

/// What reading a body came to.
pub(super) enum Read<B> {
    /// All of it, in memory of its own.
    Whole(Bytes),
    /// It is too large, or has trailers.
    Partly(VecDeque<Frame<Bytes>>, Option<Pin<Box<B>>>),
    Late(VecDeque<Frame<Bytes>>, Option<Pin<Box<B>>>),
    Broken,
}

/// Reads a body of at most so many bytes, until then.
pub(super) async fn read<B: Body<Data = Bytes>>(mut body: Pin<Box<B>>, most: u64, until: Time) -> Read<B> {
    let mut frames = VecDeque::new();
    let mut length = 0_u64;
    loop {
        let next = poll_fn(|cx| body.as_mut().poll_frame(cx));
        let frame = match tokio::time::timeout_at(instant(until), next).await {
            Err(_) => return Read::Late(frames, Some(body)),
            Ok(None) => return Read::Whole(whole(&frames)),
            Ok(Some(Err(_))) => return Read::Broken,
            Ok(Some(Ok(frame))) => frame,
        };
        length += frame.data_ref().map_or(0, |data| data.len() as u64);
        let trailers = frame.is_trailers();
        frames.push_back(frame);
        if trailers || length > most {
            return Read::Partly(frames, Some(body));
        }
    }
}

/// All of it in one piece and in memory of its own: a frame is a slice of all that was read with it, and holds that.
fn whole(frames: &VecDeque<Frame<Bytes>>) -> Bytes {
    let data = || frames.iter().filter_map(Frame::data_ref);
    let mut all = Vec::with_capacity(data().map(Bytes::len).sum());
    data().for_each(|chunk| all.extend_from_slice(chunk));
    all.into()
}
