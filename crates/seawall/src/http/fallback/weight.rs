//! What a kept answer weighs: about what it takes of the heap, of which a small one has most beside its text.

use std::mem::size_of;

use ::http::{HeaderMap, HeaderName, HeaderValue};

use super::{Copy, Resource};

/// What the allocator has beside a piece that it hands out, and the two counts of an `Arc` or what is like it.
const PIECE: usize = 16 + 16;
/// What a map of fields has of each beside its name and value: its hash, its links and its place in the index.
const LINKS: usize = 40;

/// What is kept under a key, in bytes, beside what the store has of it itself.
pub(super) fn of(key: &Resource, kept: &Copy) -> u64 {
    let varying = |(name, value): &(HeaderName, Option<HeaderValue>)| {
        size_of::<(HeaderName, Option<HeaderValue>)>()
            + name.as_str().len()
            + value.as_ref().map_or(0, |value| text(value.len()))
    };
    let key = PIECE + key.address.text.len() + key.varying.iter().map(varying).sum::<usize>();
    (key + PIECE + size_of::<Copy>() + fields(&kept.headers) + text(kept.body.len())) as u64
}

/// Text in memory of its own, which is shared once it is used.
fn text(len: usize) -> usize {
    if len == 0 { 0 } else { len + 2 * PIECE }
}

/// A map has room for more than is in it, except for what is repeated. The names of most fields are static, which
/// cannot be seen: the text of each counts.
fn fields(headers: &HeaderMap) -> usize {
    let repeated = headers.len() - headers.keys_len();
    let room = headers.capacity() + repeated;
    let texts = headers.iter().map(|(name, value)| name.as_str().len() + text(value.len()));
    room * (size_of::<(HeaderName, HeaderValue)>() + LINKS) + texts.sum::<usize>()
}
