//! `/api/events`: what changes inside the gates, as server-sent events.
//!
//! **Edges.** At most [`READERS_MAX`] read at a time. A reader that does not keep up misses events: nobody
//! waits for it, and at most [`AHEAD_MAX`] wait for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use seawall::core::event::Event;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::blocks::Notice;

const READERS_MAX: usize = 64;
const AHEAD_MAX: usize = 256;

/// Those who read events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readers(Arc<Mutex<Vec<mpsc::Sender<Bytes>>>>);

impl Readers {
    /// One more, if there is room.
    pub(super) fn join(&self) -> Option<Events> {
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| !reader.is_closed());
        if readers.len() >= READERS_MAX {
            return None;
        }
        let (reader, events) = mpsc::channel(AHEAD_MAX);
        let _ = reader.try_send(Bytes::from_static(b": listening\n\n"));
        readers.push(reader);
        Some(Events(events))
    }

    /// Tells everybody what happened inside a gate.
    pub(crate) fn tell(&self, about: &str, event: &Event) {
        let change = event.change;
        self.send(
            change.name(),
            || json!({ "about": about, "change": change.name(), "detail": format!("{change:?}") }),
        );
    }

    /// Tells everybody how a route is blocked or let in.
    pub(crate) fn notice(&self, notice: &Notice) {
        let Notice { route, change, percent, who, why } = notice;
        self.send(change.name(), || {
            json!({
                "about": route, "change": change.name(), "detail": format!("{change:?}"),
                "route": route, "percent": percent, "who": who.name(), "why": why.as_deref(),
            })
        });
    }

    fn send(&self, name: &str, data: impl FnOnce() -> Value) {
        let mut readers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.is_empty() {
            return;
        }
        let text = Bytes::from(format!("event: {name}\ndata: {}\n\n", data()));
        readers.retain(|reader| {
            !matches!(reader.try_send(text.clone()), Err(mpsc::error::TrySendError::Closed(_)))
        });
    }
}

/// The events of one reader, as a body without an end.
pub(super) struct Events(mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}
