//! Bodies that take longer than an answer may.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, config, origin_silent};

/// What an answer has to begin in.
const DEADLINE: Duration = Duration::from_millis(200);

/// What an origin does when it has read a body.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Answer,
    Never,
}

/// An origin that tells of each part of a body that it reads; says its address.
fn origin(then: Then) -> (String, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = channel();
    thread::spawn(move || read(BufReader::new(listener.accept().unwrap().0), then, &tell));
    (address, told)
}

fn read(mut stream: BufReader<TcpStream>, then: Then, tell: &Sender<()>) {
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
    }
    loop {
        line.clear();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
        if stream.read_exact(&mut vec![0; length + 2]).is_err() {
            return;
        }
        if length == 0 {
            break;
        }
        let _ = tell.send(());
    }
    if then == Then::Answer {
        let _ = stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    }
    // Until the gateway has had enough.
    let _ = stream.read_to_end(&mut Vec::new());
}

fn before(name: &str, origin: &str, route: &str) -> Gateway {
    let file = format!(
        "[headers]\nenvoy_requests = true\n[upstream.u]\nhosts = [\"http://{origin}\"]\n\
         [route.r]\nupstream = \"u\"\ndeadline = \"200ms\"\n{route}\n"
    );
    Gateway::start(&[&config(name, &file)])
}

/// A request whose body is to come.
fn begin(gateway: &Gateway, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Sends part after part, each when the origin has the one before, for so long or as long as it is read.
fn send_on(stream: &mut TcpStream, told: &Receiver<()>, time: Duration) {
    let (began, part) = (Instant::now(), format!("400\r\n{}\r\n", "x".repeat(1_024)));
    while began.elapsed() < time {
        if stream.write_all(part.as_bytes()).is_err() || told.recv().is_err() {
            return;
        }
    }
}

/// The first line of the answer.
fn answer(stream: TcpStream) -> String {
    let mut first = String::new();
    let _ = BufReader::new(stream).read_line(&mut first);
    first.trim_end().to_owned()
}

#[test]
fn a_body_that_comes_all_the_time_may_take_longer_than_the_answer() {
    for (name, retry) in
        [("upload.toml", "retry = false"), ("upload-kept.toml", "retry = { per_attempt = \"100ms\" }")]
    {
        let (address, told) = origin(Then::Answer);
        let gateway = before(name, &address, retry);
        let mut stream = begin(&gateway, "");
        send_on(&mut stream, &told, 3 * DEADLINE);
        stream.write_all(b"0\r\n\r\n").unwrap();
        assert_eq!(answer(stream), "HTTP/1.1 200 OK", "{retry}");
    }
}

#[test]
fn the_time_for_the_answer_begins_when_the_body_has_come() {
    let (address, told) = origin(Then::Never);
    let gateway = before("upload-late.toml", &address, "retry = false");
    let mut stream = begin(&gateway, "");
    send_on(&mut stream, &told, 2 * DEADLINE);
    let ended = Instant::now();
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(answer(stream), "HTTP/1.1 504 Gateway Timeout");
    assert!(ended.elapsed() >= DEADLINE, "{:?}", ended.elapsed());
}

#[test]
fn an_upstream_that_takes_nothing_of_a_body_is_waited_for_as_for_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let gateway = before("upload-untaken.toml", &address, "retry = false");
    let mut stream = begin(&gateway, "");
    let answering = stream.try_clone().unwrap();
    // To the end of the gateway.
    thread::spawn(move || {
        let part = format!("10000\r\n{}\r\n", "x".repeat(65_536));
        while stream.write_all(part.as_bytes()).is_ok() {}
    });
    assert_eq!(answer(answering), "HTTP/1.1 504 Gateway Timeout");
    drop(listener);
}

#[test]
fn the_time_that_a_client_gives_itself_is_for_its_body_too() {
    let (address, told) = origin(Then::Answer);
    let gateway = before("upload-own.toml", &address, "retry = false");
    let mut stream = begin(&gateway, "x-envoy-upstream-rq-timeout-ms: 300\r\n");
    send_on(&mut stream, &told, Duration::MAX);
    let first = answer(stream);
    assert!(["HTTP/1.1 504 Gateway Timeout", "HTTP/1.1 408 Request Timeout"].contains(&&*first), "{first}");
}

#[test]
fn a_client_keeps_the_pace_that_its_route_asks_for() {
    let (address, told) = origin(Then::Answer);
    let route = "retry = false\nstreams = { pace = \"1000000000/s\" }";
    let gateway = before("upload-pace.toml", &address, route);
    let mut stream = begin(&gateway, "");
    send_on(&mut stream, &told, Duration::MAX);
    assert_eq!(answer(stream), "HTTP/1.1 408 Request Timeout");
}

/// It stalls for less than a client may, and all the same sends too little.
#[test]
fn a_client_that_sends_next_to_nothing_is_given_up_when_an_answer_would_be() {
    let (address, told) = origin(Then::Answer);
    let gateway = before("upload-drip.toml", &address, "retry = false\nstreams = { stall = \"5m\" }");
    let mut stream = begin(&gateway, "");
    stream.write_all(b"1\r\nx\r\n").unwrap();
    told.recv().unwrap();
    assert_eq!(answer(stream), "HTTP/1.1 408 Request Timeout");
}

#[test]
fn a_host_is_not_slow_because_its_client_is() {
    let (address, told) = origin(Then::Answer);
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{address}\"]\n\
         breaker = {{ slow = \"100ms\", slow_rate = \"1%\", window = 9, min_calls = 1 }}\n[route.r]\nupstream = \"u\"\n"
    );
    let gateway = Gateway::start(&[&config("upload-slow.toml", &file)]);
    let mut stream = begin(&gateway, "");
    stream.write_all(b"1\r\nx\r\n").unwrap();
    told.recv().unwrap();
    // Nothing comes, and the origin says so.
    assert!(told.recv_timeout(Duration::from_millis(300)).is_err());
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(answer(stream), "HTTP/1.1 200 OK");
    assert!(gateway.state().contains("\"opened\":0,"), "{}", gateway.state());
}

/// What is said to bytes on a connection of their own, until the gateway closes it or says no more.
fn exchange(gateway: &Gateway, bytes: &str) -> String {
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    let _ = stream.write_all(bytes.as_bytes());
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn who_sends_a_body_that_is_not_read_is_told_that_this_was_the_last_answer() {
    let address = origin_silent();
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{address}\"]\n\
         [route.small]\npath = \"/small\"\nupstream = \"u\"\nmax_body = \"4B\"\n\
         [route.slow]\npath = \"/slow\"\nupstream = \"u\"\nstreams = {{ stall = \"20ms\" }}\n\
         [route.held]\npath = \"/held\"\nupstream = \"u\"\n"
    );
    let file = config("unread.toml", &file);
    let _ = std::fs::remove_file(format!("{file}.state"));
    let gateway = Gateway::start(&[&file]);
    assert!(gateway.command(&["block", "held"]).0);
    let chunks = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let long = "content-length: 100000\r\n\r\nhello";
    for (path, body, status) in [
        ("/small", "content-length: 5\r\n\r\nhello", 413),
        ("/small", chunks, 413),
        ("/slow", chunks, 408),
        ("/held", chunks, 503),
        ("/held", long, 503),
        ("/held", "expect: 100-continue\r\ncontent-length: 5\r\n\r\n", 503),
        ("/none", chunks, 404),
        ("/none", long, 404),
    ] {
        let answer = exchange(&gateway, &format!("POST {path} HTTP/1.1\r\nhost: a\r\n{body}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}, {body:?}: {answer:?}");
        assert!(answer.contains("connection: close\r\n"), "{path}, {body:?}: {answer:?}");
    }
    // What has come already is passed over.
    let post = "POST /held HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    let answers =
        exchange(&gateway, &format!("{post}GET /held HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
    assert_eq!(answers.matches("HTTP/1.1 503 ").count(), 2, "{answers:?}");
    assert_eq!(answers.matches("connection: close\r\n").count(), 1, "{answers:?}");
}

#[test]
fn who_reads_only_when_all_is_sent_gets_the_whole_answer() {
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{}\"]\n[route.r]\nupstream = \"u\"\nmax_body = \"1KiB\"\n",
        origin_silent()
    );
    let gateway = Gateway::start(&[&config("upload-unread.toml", &file)]);
    // More than the sockets at both ends hold.
    let body = "x".repeat(16_000_000);
    let framed = [
        format!("content-length: {}\r\n\r\n{body}", body.len()),
        format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
    ];
    for framed in framed.iter().cycle().take(10) {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        stream.write_all(format!("POST / HTTP/1.1\r\nhost: a\r\n{framed}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 413 "), "{answer:?}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer:?}");
    }
}
