//! What a parsed request no longer shows: framing that two readers could understand differently.
//!
//! **Prevents** request smuggling. The HTTP parser settles a request with both `Content-Length` and
//! `Transfer-Encoding`, and lines that end in a bare LF, silently and safely for itself; but what is
//! ambiguous was sent by someone who hopes that the next reader decides otherwise, so it is refused.
//!
//! **Mechanics.** The bytes of a connection pass by here on their way to the parser; only the beginning
//! of each line of a head is kept. Heads are numbered as requests are. A body is passed over as its head frames it,
//! so that a head which was pipelined behind it is seen, too.
//!
//! **Edges.** A length that is none is ambiguous. So is what follows a bare LF behind the last chunk: the parser looks
//! for CRLF there, and would pass over the next request as if it were trailers. Behind chunks that make no sense
//! nothing is looked at: the parser refuses them and reads no further.

const CONTENT_LENGTH: &[u8] = b"content-length:";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";
/// As much of a line as any length needs that could end.
const LINE: usize = 32;

/// What the next bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// Lines of a head.
    #[default]
    Head,
    /// So much of a body that has a length.
    Body(u64),
    /// The line with the size of a chunk.
    Size,
    /// So much of a chunk.
    Chunk(u64),
    /// The end of its last line.
    ChunkEnd,
    /// Lines behind the last chunk.
    Trailers,
    /// Nothing that the parser is going to read.
    Nonsense,
}

/// A scan over the heads of one connection.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    part: Part,
    /// The beginning of the current line, and how long the line is so far.
    line: [u8; LINE],
    len: usize,
    last: u8,
    started: bool,
    /// What `Content-Length` says: `None` if it is no length.
    content_length: Option<Option<u64>>,
    transfer_encoding: bool,
    bare_line_feed: bool,
    /// Whether the last head that ended has a body.
    behind_body: bool,
    /// Heads that have ended.
    ended: u32,
    ambiguous: Option<u32>,
}

impl HeadScan {
    /// Takes in bytes as they arrive.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.part {
                Part::Nonsense => return,
                Part::Body(left) => self.skip(bytes, left, Part::Body, Part::Head),
                Part::Chunk(left) => self.skip(bytes, left, Part::Chunk, Part::ChunkEnd),
                Part::Head | Part::Size | Part::ChunkEnd | Part::Trailers => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else { return self.keep(bytes) };
                    self.keep(&bytes[..end]);
                    self.end_line();
                    &bytes[end + 1..]
                }
            };
        }
    }

    /// Whether request `number` was ambiguous. Numbers count from 0 for the first request.
    pub(super) fn is_ambiguous(&self, number: u32) -> bool {
        self.ambiguous == Some(number)
    }

    /// Whether all that came was whole requests.
    pub(super) fn is_between_requests(&self) -> bool {
        self.part == Part::Head && !self.started && self.len == 0
    }

    /// Whether all that came was whole heads, the last of them without a body: whoever reads may not have got to the
    /// end of one that has come.
    pub(super) fn is_between_heads(&self) -> bool {
        self.is_between_requests() && !self.behind_body
    }

    /// Passes over what is left of a part, or as much of it as has come.
    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, part: fn(u64) -> Part, next: Part) -> &'a [u8] {
        let come = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left - come as u64;
        self.part = if left == 0 { next } else { part(left) };
        &bytes[come..]
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
        let has_return = self.len > 0 && self.last == b'\r';
        let blank = self.len == usize::from(has_return);
        match self.part {
            Part::Size => self.part = self.chunk(has_return),
            Part::ChunkEnd if blank && has_return => self.part = Part::Size,
            Part::ChunkEnd => self.part = Part::Nonsense,
            // To the parser, the line goes on.
            Part::Trailers if !has_return => {
                self.ambiguous = self.ambiguous.or(Some(self.ended));
                return self.keep(b"\n");
            }
            Part::Trailers if blank => self.part = Part::Head,
            Part::Trailers => {}
            Part::Head | Part::Body(_) | Part::Chunk(_) | Part::Nonsense => {
                self.end_head_line(has_return, blank);
            }
        }
        self.len = 0;
    }

    fn end_head_line(&mut self, has_return: bool, blank: bool) {
        let line = &self.line[..self.len.min(LINE)];
        if starts_with(line, CONTENT_LENGTH) {
            let value = line[CONTENT_LENGTH.len()..].trim_ascii();
            self.content_length = Some(number(value, 10).filter(|_| self.len <= LINE));
        }
        self.transfer_encoding |= starts_with(line, TRANSFER_ENCODING);
        self.bare_line_feed |= !has_return;
        if !blank {
            self.started = true;
        } else if self.started {
            self.end_head();
        }
    }

    fn end_head(&mut self) {
        let two_lengths = self.content_length.is_some() && self.transfer_encoding;
        let no_length = self.content_length == Some(None);
        // The first stands: the connection is closed on it.
        if (two_lengths || no_length || self.bare_line_feed) && self.ambiguous.is_none() {
            self.ambiguous = Some(self.ended);
        }
        let part = match self.content_length {
            _ if self.transfer_encoding => Part::Size,
            Some(Some(length)) if length > 0 => Part::Body(length),
            Some(_) | None => Part::Head,
        };
        *self = HeadScan {
            part,
            ended: self.ended.wrapping_add(1),
            ambiguous: self.ambiguous,
            behind_body: part != Part::Head,
            ..HeadScan::default()
        };
    }

    /// What follows the line with a chunk's size.
    fn chunk(&self, has_return: bool) -> Part {
        let line = &self.line[..self.len.min(LINE)];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        match number(&line[..digits], 16).filter(|_| has_return && digits < LINE) {
            Some(0) => Part::Trailers,
            Some(size) => Part::Chunk(size),
            None => Part::Nonsense,
        }
    }
}

fn starts_with(line: &[u8], name: &[u8]) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// What these digits say, if they are no other bytes.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let is_signed = digits.first() == Some(&b'+');
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok().filter(|_| !is_signed)
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
    fn a_head_behind_a_body_is_seen() {
        let bad = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        let post = |rest: &str| format!("POST / HTTP/1.1\r\n{rest}{bad}");
        for body in [
            "Content-Length: 5\r\n\r\nhello",
            "content-length:5 \r\n\r\n\r\n\r\n\n",
            "Content-Length: 0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n\r\n\r\n\n\r\n0a \r\n0123456789\r\n00\r\nx: y\r\n\r\n",
        ] {
            assert_eq!(ambiguous(&post(body)), [1], "{body:?}");
        }
        let long = format!("Content-Length: {}5\r\n\r\n", " ".repeat(LINE));
        for none in ["Content-Length: +5\r\n\r\n", "Content-Length: 5, 5\r\n\r\n", long.as_str()] {
            assert_eq!(ambiguous(&post(none)), [0], "{none:?}");
        }
        for nonsense in ["x\r\n", "5\n", "\r\n", "5\r\nhello!\r\n", "fffffffffffffffff\r\n"] {
            let body = format!("Transfer-Encoding: chunked\r\n\r\n{nonsense}");
            assert!(ambiguous(&post(&body)).is_empty(), "{nonsense:?}");
        }
    }

    #[test]
    fn what_follows_trailers_with_a_bare_line_feed_is_ambiguous() {
        let chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        let get = "GET / HTTP/1.1\r\n\r\n";
        for end in ["\n", "a: b\n\r\n", "a: b\n\n", "a: b\r\n\n", "a: b\nc: d\r\n\r\n"] {
            assert_eq!(ambiguous(&format!("{chunks}{end}{get}{get}")), [1], "{end:?}");
        }
        assert!(ambiguous(&format!("{chunks}a: b\r\nc: d\r\n\r\n{get}{get}")).is_empty());
    }

    #[test]
    fn a_body_is_not_taken_for_a_head() {
        let body = "POST / HTTP/1.1\r\nContent-Length: 26\r\n\r\n\nContent-Length: 5\r\n\r\n\r\n\r\n";
        assert!(ambiguous(&format!("{body}GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")).is_empty());
    }

    #[test]
    fn behind_a_body_nobody_knows_how_far_it_was_read() {
        let is_between = |bytes: &str| {
            let mut scan = HeadScan::default();
            scan.feed(bytes.as_bytes());
            scan.is_between_heads()
        };
        let (get, post) = ("GET / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx");
        assert!(is_between(get) && is_between(&format!("{post}{get}")));
        assert!(!is_between(post) && !is_between(&format!("{get}G")));
    }
}
