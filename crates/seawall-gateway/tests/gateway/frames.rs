//! HTTP/2, frame by frame: floods end their connection and nothing else, nonsense ends its stream.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::iter;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Gateway, ask, config, origin};
use crate::paths::await_counted;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:method GET`, `:scheme http`, `:path /` of the static table.
const GET: &[u8] = &[0x82, 0x86, 0x84];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field, neither indexed nor compressed.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0x10];
    for text in [name, value] {
        // Lengths from 127 on continue in further bytes.
        match u8::try_from(text.len()) {
            Ok(short) if short < 127 => field.push(short),
            _ => {
                let rest = text.len() - 127;
                field.extend([
                    127,
                    (rest & 127) as u8 | 128,
                    (rest >> 7 & 127) as u8 | 128,
                    (rest >> 14) as u8,
                ]);
            }
        }
        field.extend(text.as_bytes());
    }
    field
}

fn get(fields: &[Vec<u8>]) -> Vec<u8> {
    [GET.to_vec(), field(":authority", "a"), fields.concat()].concat()
}

struct Client(TcpStream);

impl Client {
    fn new(gateway: &Gateway) -> Client {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        Client(stream)
    }

    /// Whether the gateway took it; it may have closed the connection.
    fn send(&mut self, frame: &[u8]) -> bool {
        self.0.write_all(frame).is_ok()
    }

    /// The next frame: its kind, flags, stream and payload; `None` at the end.
    fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }

    /// What became of a stream: its `:status`, or the code that ended the stream or the connection.
    fn fate(&mut self, stream: u32) -> Fate {
        while let Some((kind, _, of, payload)) = self.frame() {
            match kind {
                HEADERS if of == stream => return Fate::Status(status(&payload)),
                RST_STREAM if of == stream => return Fate::Reset(payload[3]),
                GOAWAY => return Fate::Gone(payload[7]),
                _ => {}
            }
        }
        Fate::Closed
    }
}

#[derive(Debug, PartialEq)]
enum Fate {
    Status(u16),
    Reset(u8),
    Gone(u8),
    Closed,
}

/// The status at the beginning of a header block: indexed, or a literal with an indexed name.
fn status(block: &[u8]) -> u16 {
    match block {
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x48 | 0x08, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
        // Three digits, compressed.
        [0x48 | 0x08, 0x83, 0x69, 0x90, ..] => 431,
        other => panic!("{other:x?}"),
    }
}

fn start() -> Gateway {
    Gateway::start(&["--upstream", &format!("http://{}", origin())])
}

fn assert_serves(gateway: &Gateway) {
    let mut client = Client::new(gateway);
    client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get(&[])));
    assert_eq!(client.fate(1), Fate::Status(200));
}

#[test]
fn a_malformed_request_ends_its_stream_or_its_connection() {
    let gateway = start();
    let block = |fields: &[Vec<u8>]| fields.concat();
    let authority = || field(":authority", "a");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no method", block(&[vec![0x86, 0x84], authority()])),
        ("no path", block(&[vec![0x82, 0x86], authority()])),
        ("no scheme", block(&[vec![0x82, 0x84], authority()])),
        ("two methods", block(&[vec![0x82], GET.to_vec(), authority()])),
        ("two paths", block(&[vec![0x84], GET.to_vec(), authority()])),
        ("an unknown pseudo field", get(&[field(":other", "x")])),
        ("a pseudo field of answers", get(&[field(":status", "200")])),
        ("a pseudo field behind others", block(&[GET.to_vec(), field("x", "y"), authority()])),
        ("an upper-case name", get(&[field("X-Upper", "x")])),
        ("connection", get(&[field("connection", "close")])),
        ("transfer-encoding", get(&[field("transfer-encoding", "chunked")])),
        ("te that is not trailers", get(&[field("te", "gzip")])),
        ("a line end in a value", get(&[field("x", "a\r\nb: c")])),
        ("a null byte in a value", get(&[field("x", "a\0b")])),
        ("an empty path", block(&[vec![0x82, 0x86], field(":path", ""), authority()])),
        ("a path with spaces", block(&[vec![0x82, 0x86], field(":path", "/a b"), authority()])),
        ("a path without its slash", block(&[vec![0x82, 0x86], field(":path", "?x"), authority()])),
        ("an asterisk that is no option", block(&[vec![0x82, 0x86], field(":path", "*"), authority()])),
        ("a user before the host", block(&[GET.to_vec(), field(":authority", "u@a")])),
        ("a port that is none", block(&[GET.to_vec(), field(":authority", "a:b")])),
        ("one length twice", get(&[field("content-length", "0"), field("content-length", "0")])),
        ("another host", get(&[field("host", "b")])),
        ("an index of no entry", get(&[vec![0xff, 0xff, 0x7f]])),
    ];
    for (what, block) in cases {
        let mut client = Client::new(&gateway);
        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
        let fate = client.fate(1);
        assert!(!matches!(fate, Fate::Status(200..400)), "{what}: {fate:?}");
    }
    assert_serves(&gateway);
}

#[test]
fn a_body_is_as_long_as_it_says() {
    let gateway = start();
    for (length, body) in [("3", "four"), ("5", "four")] {
        let mut client = Client::new(&gateway);
        let mut block = vec![0x83, 0x86, 0x84];
        block.extend(field(":authority", "a"));
        block.extend(field("content-length", length));
        // In one piece, so that no answer overtakes the body.
        let head = frame(HEADERS, END_HEADERS, 1, &block);
        client.send(&[head, frame(DATA, END_STREAM, 1, body.as_bytes())].concat());
        let fate = client.fate(1);
        assert!(
            matches!(fate, Fate::Reset(_) | Fate::Gone(_) | Fate::Status(400..500)),
            "{length}: {fate:?}"
        );
    }
    assert_serves(&gateway);
}

#[test]
fn frames_that_break_the_protocol_end_the_connection() {
    let gateway = start();
    let headers = || get(&[]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("data on no stream", frame(DATA, 0, 0, b"x")),
        ("data on an idle stream", frame(DATA, 0, 1, b"x")),
        ("a request on an even stream", frame(HEADERS, END_STREAM | END_HEADERS, 2, &headers())),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &headers())),
        (
            "another frame within a header",
            [frame(HEADERS, END_STREAM, 1, GET), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        ("a ping of the wrong size", frame(PING, 0, 0, &[0; 7])),
        ("settings of the wrong size", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("an acknowledgement with a payload", frame(SETTINGS, 1, 0, &[0; 6])),
        ("a window that overflows", frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("a window update of nothing", frame(8, 0, 0, &[0; 4])),
        ("a reset of an idle stream", frame(RST_STREAM, 0, 1, &[0; 4])),
        ("a frame that is too large", frame(DATA, 0, 1, &[0; 20_000])),
        ("a promise", frame(5, END_HEADERS, 1, &[0; 8])),
    ];
    for (what, bytes) in cases {
        let mut client = Client::new(&gateway);
        client.send(&bytes);
        let fate = client.fate(u32::MAX);
        assert!(matches!(fate, Fate::Gone(1..) | Fate::Closed), "{what}: {fate:?}");
    }
    assert_serves(&gateway);
}

#[test]
fn a_header_without_end_is_cut_off() {
    let gateway = start();
    let mut client = Client::new(&gateway);
    client.send(&frame(HEADERS, END_STREAM, 1, &get(&[])));
    let more = frame(CONTINUATION, 0, 1, &field("x", &"y".repeat(16_000)));
    // 160 MB, were it taken.
    let taken = (0..10_000).take_while(|_| client.send(&more)).count();
    assert!(taken < 9_000, "{taken}");
    assert_serves(&gateway);
}

#[test]
fn a_list_of_fields_that_is_too_long_is_told_so() {
    let gateway = start();
    let mut client = Client::new(&gateway);
    let fields: Vec<Vec<u8>> = (0..7).map(|_| field("x", &"y".repeat(10_000))).collect();
    let block = get(&fields);
    let mut parts = block.chunks(16_000).peekable();
    client.send(&frame(HEADERS, END_STREAM, 1, parts.next().unwrap()));
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() { END_HEADERS } else { 0 };
        client.send(&frame(CONTINUATION, flags, 1, part));
    }
    assert_eq!(client.fate(1), Fate::Status(431));
    assert_serves(&gateway);
}

#[test]
fn streams_that_are_reset_at_once_end_the_connection() {
    let gateway = start();
    let mut client = Client::new(&gateway);
    let mut sent = 0;
    for stream in (1..200_000).step_by(2) {
        let asking = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get(&[]));
        if !client.send(&[asking, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()) {
            break;
        }
        sent += 1;
    }
    assert!(sent < 90_000, "{sent}");
    let fate = client.fate(u32::MAX);
    assert!(matches!(fate, Fate::Gone(1..) | Fate::Closed), "{fate:?}");
    assert_serves(&gateway);
}

#[test]
fn who_asks_without_listening_is_not_listened_to() {
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[][..])] {
        let gateway = start();
        let mut client = Client::new(&gateway);
        client.0.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let many = frame(kind, 0, 0, payload).repeat(1_000);
        // The answers are not read, so at some time neither is what is sent: nothing piles up.
        let taken = (0..20_000).take_while(|_| client.send(&many)).count();
        assert!(taken < 20_000, "{kind}: {taken}");
        assert_serves(&gateway);
    }
}

#[test]
fn short_answers_hold_no_place_while_their_client_takes_none() {
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{}\"]\n[route.r]\nupstream = \"u\"\nlimit = {{ max = 1, queue = 0 }}\n",
        origin()
    );
    let gateway = Gateway::start(&[&config("window.toml", &file)]);
    let mut client = Client::new(&gateway);
    let no_window = [0, 4, 0, 0, 0, 0];
    client.send(&frame(SETTINGS, 0, 0, &no_window));
    for stream in [1, 3, 5] {
        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &get(&[])));
        assert_eq!(client.fate(stream), Fate::Status(200));
        // Its end is behind its head.
        await_counted(&gateway, "seawall_in_flight{upstream=\"u\"} 0.0");
    }
    client.send(&frame(WINDOW_UPDATE, 0, 3, &1_000_u32.to_be_bytes()));
    let data = iter::from_fn(|| client.frame()).find(|(kind, ..)| *kind == DATA).unwrap();
    assert!(data.2 == 3 && data.3.starts_with(b"GET / HTTP/1.1"), "{data:?}");
}

/// An origin that ends the first request with this frame, made for its stream, and answers all others; says its
/// address, and how many it saw.
fn origin_that_ends(first: fn(u32) -> Vec<u8>) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::<AtomicU32>::default();
    let counts = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut client, counts) = (Client(stream.unwrap()), counts.clone());
            thread::spawn(move || {
                client.0.read_exact(&mut [0; 24]).unwrap();
                client.send(&frame(SETTINGS, 0, 0, &[]));
                let mut ended = 0;
                while let Some((kind, flags, stream, _)) = client.frame() {
                    if kind == SETTINGS && flags == 0 {
                        client.send(&frame(SETTINGS, 1, 0, &[]));
                    }
                    if kind == HEADERS && counts.fetch_add(1, Ordering::SeqCst) == 0 {
                        client.send(&first(stream));
                        ended = stream;
                    }
                    if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 && stream != ended {
                        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88]));
                    }
                }
            });
        }
    });
    (address, seen)
}

#[test]
fn what_a_host_did_not_take_is_sent_again_whatever_it_is() {
    let refused: fn(u32) -> Vec<u8> = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]);
    let cancelled: fn(u32) -> Vec<u8> = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    // The last stream that was taken is none, for no cause.
    let going: fn(u32) -> Vec<u8> = |_| frame(GOAWAY, 0, 0, &[0; 8]);
    for (name, first, retry, body, fate) in [
        ("refused", refused, "", "", (200, 2)),
        ("refused-body", refused, "", "body", (200, 2)),
        ("refused-once", refused, "retry = false", "", (502, 1)),
        ("refused-long", refused, "retry = { max_body = \"2B\" }", "body", (502, 1)),
        ("going", going, "", "", (200, 2)),
        ("going-body", going, "", "body", (200, 2)),
        ("cancelled", cancelled, "", "body", (502, 1)),
    ] {
        let (address, seen) = origin_that_ends(first);
        let file = format!(
            "[upstream.u]\nhosts = [\"http://{address}\"]\nprotocol = \"h2c\"\n[route.r]\nupstream = \"u\"\n{retry}\n"
        );
        let gateway = Gateway::start(&[&config(&format!("{name}.toml"), &file)]);
        let status = ask(&gateway.address, "POST", "/", "host: a\r\n", body).status;
        assert_eq!((status, seen.load(Ordering::SeqCst)), fate, "{name}");
    }
}

#[test]
fn what_a_host_that_closes_did_not_take_another_has_unpaid() {
    let going: fn(u32) -> Vec<u8> = |_| frame(GOAWAY, 0, 0, &[0; 8]);
    let hosts = [0; 2].map(|_| format!("http://{}", origin_that_ends(going).0));
    let file = format!(
        "[upstream.u]\nhosts = {hosts:?}\nprotocol = \"h2c\"\n[route.r]\nupstream = \"u\"\n\
         retry = {{ backoff = {{ kind = \"none\" }} }}\n"
    );
    let gateway = Gateway::start(&[&config("going-both.toml", &file)]);
    // Both close, one after the other: the budget of a beginning pays for one attempt, not for two.
    assert_eq!(ask(&gateway.address, "POST", "/", "host: a\r\n", "body").status, 200);
}

#[test]
fn an_answer_that_is_reset_without_an_error_is_broken_off_all_the_same() {
    let short: fn(u32) -> Vec<u8> = |stream| {
        let head = frame(HEADERS, END_HEADERS, stream, &[0x88]);
        [head, frame(DATA, 0, stream, b"hel"), frame(RST_STREAM, 0, stream, &[0; 4])].concat()
    };
    let (address, _) = origin_that_ends(short);
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{address}\"]\nprotocol = \"h2c\"\n[route.r]\nupstream = \"u\"\n"
    );
    let gateway = Gateway::start(&[&config("reset-short.toml", &file)]);
    let mut client = TcpStream::connect(&gateway.address).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // It may end with a reset.
    let _ = client.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    assert!(!answer.contains("\r\n0\r\n"), "{answer}");
}

#[test]
fn a_connection_on_which_nothing_is_answered_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let silent = listener.accept().unwrap();
        for stream in listener.incoming() {
            let mut client = Client(stream.unwrap());
            thread::spawn(move || {
                client.0.read_exact(&mut [0; 24]).unwrap();
                client.send(&frame(SETTINGS, 0, 0, &[]));
                while let Some((kind, _, stream, _)) = client.frame() {
                    if kind == HEADERS {
                        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88]));
                    }
                }
            });
        }
        drop(silent);
    });
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{address}\"]\nprotocol = \"h2c\"\nbreaker = false\n\
         [route.r]\nupstream = \"u\"\ndeadline = \"600ms\"\nretry = false\n"
    );
    let gateway = Gateway::start(&[&config("silent.toml", &file)]);
    let mut client = BufReader::new(TcpStream::connect(&gateway.address).unwrap());
    // On one connection all are sent by one worker.
    let mut status = || {
        client.get_mut().write_all(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(client.read_line(&mut head).unwrap() > 0, "{head}");
        }
        head[9..12].to_owned()
    };
    assert_eq!([status(), status(), status()], ["504", "200", "200"]);
}

#[test]
fn a_connection_that_is_closed_in_peace_is_no_failure_of_its_host() {
    let refused: fn(u32) -> Vec<u8> = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]);
    let going: fn(u32) -> Vec<u8> = |_| frame(GOAWAY, 0, 0, &[0; 8]);
    let ailing: fn(u32) -> Vec<u8> = |_| frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 2]);
    for (name, first, status) in
        [("peace", going, 200), ("peace-refused", refused, 502), ("peace-ailing", ailing, 502)]
    {
        let (address, _) = origin_that_ends(first);
        let file = format!(
            "[upstream.u]\nhosts = [\"http://{address}\"]\nprotocol = \"h2c\"\n\
             breaker = {{ failure_rate = \"1%\", window = 9, min_calls = 1, open = \"1m\" }}\n\
             [route.r]\nupstream = \"u\"\n"
        );
        let gateway = Gateway::start(&[&config(&format!("{name}.toml"), &file)]);
        assert_eq!(ask(&gateway.address, "GET", "/", "host: a\r\n", "").status, status, "{name}");
    }
}
