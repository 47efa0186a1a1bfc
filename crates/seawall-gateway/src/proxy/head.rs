//! What a parsed request no longer shows: framing that two readers could understand differently.
//!
//! **Prevents** request smuggling. The HTTP parser settles a request with both `Content-Length` and
//! `Transfer-Encoding`, and lines that end in a bare LF, silently and safely for itself; but what is
//! ambiguous was sent by someone who hopes that the next reader decides otherwise, so it is refused.
//!
//! **Mechanics.** The bytes of each head pass by here on their way to the parser; only the beginning
//! of each line is kept. Heads are numbered as requests are.
//!
//! **Edges.** Behind a body the scan pauses until the connection is idle: a head that was pipelined
//! behind a body is not seen, and the parser's own safe reading stands.

const CONTENT_LENGTH: &[u8] = b"content-length:";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";
const LINE: usize = TRANSFER_ENCODING.len();

/// A scan over the heads of one connection.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// The beginning of the current line, and how long the line is so far.
    line: [u8; LINE],
    len: usize,
    last: u8,
    started: bool,
    content_length: bool,
    transfer_encoding: bool,
    bare_line_feed: bool,
    in_body: bool,
    /// Heads that have ended.
    ended: u32,
    ambiguous: Option<u32>,
}

impl HeadScan {
    /// Takes in bytes as they arrive.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !self.in_body && !bytes.is_empty() {
            let Some(end) = memchr::memchr(b'\n', bytes) else { return self.keep(bytes) };
            self.keep(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
    }

    /// The connection is idle: what comes now is the head of request `number`.
    pub(super) fn resume(&mut self, number: u32) {
        if self.in_body {
            *self = HeadScan { ended: number, ..HeadScan::default() };
        }
    }

    /// Whether request `number` was ambiguous. Numbers count from 0 for the first request.
    pub(super) fn is_ambiguous(&self, number: u32) -> bool {
        self.ambiguous == Some(number)
    }

    /// Whether all that came was whole heads without a body.
    pub(super) fn is_between_heads(&self) -> bool {
        !self.in_body && !self.started && self.len == 0
    }

    fn keep(&mut self, bytes: &[u8]) {
        if let Some(room) = self.line.get_mut(self.len..) {
            let kept = room.len().min(bytes.len());
            room[..kept].copy_from_slice(&bytes[..kept]);
        }
        self.len += bytes.len();
        self.last = bytes.last().copied().unwrap_or(self.last);
    }

    fn end_line(&mut self) {
        let line = &self.line[..self.len.min(LINE)];
        let has_return = self.len > 0 && self.last == b'\r';
        let blank = self.len == usize::from(has_return);
        self.content_length |= starts_with(line, CONTENT_LENGTH);
        self.transfer_encoding |= starts_with(line, TRANSFER_ENCODING);
        self.bare_line_feed |= !has_return;
        self.len = 0;
        if !blank {
            self.started = true;
        } else if self.started {
            self.end_head();
        }
    }

    fn end_head(&mut self) {
        let two_lengths = self.content_length && self.transfer_encoding;
        // The first stands: the connection is closed on it.
        if (two_lengths || self.bare_line_feed) && self.ambiguous.is_none() {
            self.ambiguous = Some(self.ended);
        }
        *self = HeadScan {
            ended: self.ended.wrapping_add(1),
            ambiguous: self.ambiguous,
            in_body: self.content_length || self.transfer_encoding,
            ..HeadScan::default()
        };
    }
}

fn starts_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the first three requests are ambiguous, whole and byte by byte.
    fn ambiguous(bytes: &str) -> Vec<u32> {
        let mut whole = HeadScan::default();
        whole.feed(bytes.as_bytes());
        let mut single = HeadScan::default();
        bytes.as_bytes().chunks(1).for_each(|byte| single.feed(byte));
        let of = |scan: &HeadScan| (0..3).filter(|number| scan.is_ambiguous(*number)).collect::<Vec<_>>();
        assert_eq!(of(&whole), of(&single), "{bytes:?}");
        of(&whole)
    }

    #[test]
    fn one_length_is_clear() {
        assert!(ambiguous("GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_empty());
        assert!(ambiguous("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").is_empty());
        assert!(ambiguous("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").is_empty());
        assert!(
            ambiguous("GET / HTTP/1.1\r\nX-Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")
                .is_empty()
        );
    }

    #[test]
    fn two_lengths_are_ambiguous_in_either_order_and_any_case() {
        assert_eq!(
            ambiguous("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
            [0]
        );
        assert_eq!(
            ambiguous("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\nCONTENT-LENGTH: 5\r\n\r\n"),
            [0]
        );
    }

    #[test]
    fn a_bare_line_feed_is_ambiguous() {
        assert_eq!(ambiguous("GET / HTTP/1.1\nHost: a\r\n\r\n"), [0]);
        assert_eq!(ambiguous("GET / HTTP/1.1\r\nHost: a\r\n\n"), [0]);
    }

    #[test]
    fn pipelined_heads_are_told_apart() {
        let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let bad = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(ambiguous(&format!("{plain}{bad}")), [1]);
        assert_eq!(ambiguous(&format!("\r\n{plain}{plain}{bad}")), [2]);
    }

    #[test]
    fn a_body_is_not_taken_for_a_head() {
        let body = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n\nContent-Length: 5\r\n\r\n";
        let mut scan = HeadScan::default();
        scan.feed(body.as_bytes());
        scan.resume(1);
        scan.feed(b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n");
        assert!((0..3).all(|number| !scan.is_ambiguous(number)));
    }
}
