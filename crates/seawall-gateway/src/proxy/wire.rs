//! The client's socket, seen by the [`Pulse`] of its connection.
//!
//! **Edges.** A client that closes its side behind a request may be gone, or may have no more to say: the two look
//! the same. It has [`LAST_WORDS`] to get its answer; after that its work is given up.

use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::dialling;
use super::greeting::{Secure, Stream};
use super::listen::Refusal;
use super::pulse::Pulse;

/// What every HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long an answer may take whose client has closed its side.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// How many bytes are read at once of what nobody wants.
const DISCARDED_AT_ONCE: usize = 16 * 1024;

/// A socket some of whose bytes may have been looked at already.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    /// What was looked at; it is read again by the parser.
    seen: BytesMut,
    pulse: Rc<Pulse>,
    /// Since the client closed its side behind a request: until its work is given up.
    closing: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(stream: Stream, pulse: Rc<Pulse>) -> Wire {
        Wire { stream, seen: BytesMut::new(), pulse, closing: None }
    }

    /// The same with what a parser has read and not used.
    pub(super) fn unread(mut self, read: &[u8]) -> Wire {
        // Copied: it stands in a buffer that shall go.
        self.seen.extend_from_slice(read);
        self
    }

    /// Looks until it is certain whether the client speaks HTTP/2 with prior knowledge.
    pub(super) fn poll_is_h2(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.seen.len() < PREFACE.len() && PREFACE.starts_with(&self.seen) {
            if ready!(self.poll_look(cx))? == 0 {
                return Poll::Ready(Ok(false));
            }
        }
        Poll::Ready(Ok(self.seen.starts_with(PREFACE)))
    }

    /// Waits until there is something to read; says whether that is more than the end.
    pub(super) fn poll_wakes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if !self.seen.is_empty() {
            return Poll::Ready(Ok(true));
        }
        // What is written last may not be on its way yet.
        let _ = Pin::new(&mut self.stream).poll_flush(cx)?;
        self.poll_look(cx).map_ok(|read| read > 0)
    }

    /// Looks at some more bytes, and says at how many.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [0; PREFACE.len()];
        let mut buf = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        self.pulse.read(buf.filled());
        self.seen.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// Reads past what still comes, until there is no more of it or none is `left` of what may come.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        let socket = self.stream.socket();
        let mut room = [0; DISCARDED_AT_ONCE];
        while *left > 0 && ready!(socket.poll_read_ready(cx)).is_ok() {
            match socket.try_read(&mut room) {
                Ok(read) if read > 0 => {
                    *left = left.saturating_sub(read);
                    self.pulse.heard();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => break,
            }
        }
        Poll::Ready(())
    }

    /// Whether TLS is spoken, and which.
    pub(super) fn secure(&self) -> Option<Secure> {
        self.stream.secure()
    }

    /// Has the client asked now and then whether it is there.
    pub(super) fn keep_alive(&self) {
        dialling::keep_alive(self.stream.socket());
    }

    /// Writes a last word if the socket takes it at once.
    pub(super) fn try_say(&self, word: &[u8]) {
        if let Stream::Plain(stream) = &self.stream {
            let _ = stream.try_write(word);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let was_seen = !this.seen.is_empty();
        if was_seen {
            let part = this.seen.split_to(this.seen.len().min(buf.remaining()));
            buf.put_slice(&part);
        }
        if let Some(closing) = &mut this.closing {
            return closing.as_mut().poll(cx).map(Ok);
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let read = &buf.filled()[before..];
        this.pulse.read(read);
        if !was_seen && read.is_empty() && matches!(polled, Poll::Ready(Ok(()))) && this.pulse.is_answering()
        {
            let closing = this.closing.insert(Box::pin(tokio::time::sleep(LAST_WORDS)));
            return closing.as_mut().poll(cx).map(Ok);
        }
        // What follows is read along if it is there: a head that comes in parts has the parser make more room.
        if was_seen { Poll::Ready(Ok(())) } else { polled }
    }
}

/// The most bytes that are copied together to be sent as one: one `send` costs less than one `writev`.
const TOGETHER_MAX: usize = 2_048;

thread_local! {
    /// Where that is done: a place of its own would be made anew for each.
    static TOGETHER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(TOGETHER_MAX));
}

/// Sends what lies in several places: as one piece where it is small, or lies in one place after all.
pub(super) fn poll_send<S: AsyncWrite>(
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
    bufs: &[io::IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
    match (filled.next(), filled.next()) {
        (first, None) => return stream.poll_write(cx, first.map_or(&[], |first| first)),
        _ if bufs.iter().map(|buf| buf.len()).sum::<usize>() > TOGETHER_MAX => {
            return stream.poll_write_vectored(cx, bufs);
        }
        _ => {}
    }
    TOGETHER.with_borrow_mut(|together| {
        together.clear();
        bufs.iter().for_each(|buf| together.extend_from_slice(buf));
        stream.poll_write(cx, together)
    })
}

/// What the parser says by itself of a head that it cannot read, with the reason that every refusal gives.
fn explained(answer: &[u8]) -> Option<(Refusal, Vec<u8>)> {
    let (status, reason) = match answer.get(..13)? {
        b"HTTP/1.1 400 " => (StatusCode::BAD_REQUEST, "malformed"),
        b"HTTP/1.1 414 " => (StatusCode::URI_TOO_LONG, "too_large"),
        b"HTTP/1.1 431 " => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large"),
        _ => return None,
    };
    let (line, fields) = answer.split_at(memchr::memchr(b'\r', answer)?);
    // In this order, and before anything else, nobody else says so.
    let is_parsers = fields.starts_with(b"\r\nconnection: close\r\ncontent-length: 0\r\ndate: ");
    is_parsers.then(|| {
        let explained = [line, b"\r\nx-seawall-reason: ", reason.as_bytes(), fields].concat();
        (Refusal { status, reason }, explained)
    })
}

impl Wire {
    /// Writes, once it is known where from.
    fn poll_answer(mut self: Pin<&mut Self>, cx: &mut Context<'_>, answer: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let stream = Pin::new(&mut this.stream);
        match explained(answer) {
            None => stream.poll_write(cx, answer),
            // The last of its connection: what the socket does not take of it at once is lost.
            Some((refusal, explained)) => {
                this.pulse.refuse(refusal);
                stream.poll_write(cx, &explained).map_ok(|_| answer.len())
            }
        }
    }

    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &polled {
            Poll::Ready(Ok(taken)) => self.pulse.wrote(Some(*taken)),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.pulse.wrote(None),
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.as_mut().poll_answer(cx, buf);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        let polled = match (filled.next(), filled.next()) {
            (Some(only), None) => self.as_mut().poll_answer(cx, only),
            _ => poll_send(Pin::new(&mut self.stream), cx, bufs),
        };
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::super::pulse::Pulses;
    use super::*;

    #[tokio::test]
    async fn what_was_read_and_not_used_is_read_again_before_what_follows() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let member = Rc::<Pulses>::default().join();
        let mut wire = Wire::new(Stream::Plain(stream), member.pulse.clone());
        assert!(wire.poll_wakes(&mut Context::from_waker(Waker::noop())).is_pending());
        wire = wire.unread(b"GET / HT");
        assert!(poll_fn(|cx| wire.poll_wakes(cx)).await.unwrap());
        client.write_all(b"TP/1.1\r\n").await.unwrap();
        let mut read = [0; 16];
        wire.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"GET / HTTP/1.1\r\n");
    }

    #[test]
    fn only_what_the_parser_says_is_explained() {
        let explained = |answer: &str| {
            explained(answer.as_bytes())
                .map(|(refusal, text)| (refusal.status, refusal.reason, String::from_utf8(text).unwrap()))
        };
        let fields = "connection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        let said = |status: &str| format!("HTTP/1.1 {status}\r\n{fields}");
        for (status, reason) in [("400 Bad Request", "malformed"), ("431 Too Large", "too_large")] {
            let wanted = format!("HTTP/1.1 {status}\r\nx-seawall-reason: {reason}\r\n{fields}");
            let code = status[..3].parse().unwrap();
            assert_eq!(explained(&said(status)), Some((code, reason, wanted)));
        }
        for other in ["200 OK", "404 Not Found", "400 Bad Request\r\nx-from: origin"] {
            assert_eq!(explained(&said(other)), None, "{other}");
        }
        assert_eq!(explained("HTTP/1.1 400"), None);
        assert_eq!(explained("HTTP/1.1 400 Bad Request\r\ndate: now\r\nconnection: close\r\n\r\n"), None);
    }
}
