//! HTTP/1 to the letter, over raw sockets: what is refused, what is forwarded, and as what.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::harness::{Gateway, get, origin, origin_silent, origin_that_says};

/// What the gateway waits for in vain shows as an answer that does not come.
const WITHIN: Duration = Duration::from_secs(5);

fn before(origin: &str) -> Gateway {
    Gateway::start(&["--upstream", &format!("http://{origin}")])
}

/// Sends bytes on a connection of its own, and reads until the gateway closes it.
fn exchange(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    // The gateway may have closed already: what it said is still there.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// What is wrong, and with what.
const MALFORMED: &[(&str, &[u8])] = &[
    ("no host", b"GET / HTTP/1.1\r\n\r\n"),
    ("an empty host", b"GET / HTTP/1.1\r\nhost:\r\n\r\n"),
    ("two hosts", b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
    ("two hosts in one", b"GET / HTTP/1.1\r\nhost: a, b\r\n\r\n"),
    ("a host with a path", b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n"),
    ("a host with a port that is none", b"GET / HTTP/1.1\r\nhost: a:b\r\n\r\n"),
    ("a host with a user", b"GET / HTTP/1.1\r\nhost: u@a\r\n\r\n"),
    ("bare line feeds", b"GET / HTTP/1.1\nhost: a\n\n"),
    ("a bare line feed among others", b"GET / HTTP/1.1\r\nhost: a\nx: b\r\n\r\n"),
    ("a bare carriage return", b"GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n"),
    ("a folded line", b"GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n"),
    ("a first line that is folded", b"GET / HTTP/1.1\r\n x: a\r\nhost: a\r\n\r\n"),
    ("a space before the colon", b"GET / HTTP/1.1\r\nhost: a\r\nx : a\r\n\r\n"),
    ("a field without a colon", b"GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n"),
    ("a field without a name", b"GET / HTTP/1.1\r\nhost: a\r\n: a\r\n\r\n"),
    ("a null byte", b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n"),
    ("a null byte in the path", b"GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a name that is no token", b"GET / HTTP/1.1\r\nhost: a\r\nx[]: a\r\n\r\n"),
    ("a method that is no token", b"G(T / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("no version", b"GET /\r\nhost: a\r\n\r\n"),
    ("version 1.2", b"GET / HTTP/1.2\r\nhost: a\r\n\r\n"),
    ("version 2.0", b"GET / HTTP/2.0\r\nhost: a\r\n\r\n"),
    ("a target that is a word", b"GET a HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a target that is a host", b"GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a target of another scheme", b"GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a target with a user", b"GET http://u@a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a target with a port that is none", b"GET http://a:b/ HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("an asterisk that is no option", b"GET * HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("half a preface", b"PRI * HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("two spaces", b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a negative length", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n"),
    ("a signed length", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx"),
    ("a length that is no number", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1x\r\n\r\nx"),
    ("an endless length", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nx"),
    ("two lengths", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx"),
    ("two lengths in one", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 2\r\n\r\nxx"),
    (
        "a length and chunks",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "an unknown coding",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: x-chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunks that are not the last coding",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding besides chunks",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunks twice",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunks in two lines",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding that is hidden",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    ("chunks in 1.0", b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    (
        "a chunk of no size",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
    ),
    (
        "a chunk of endless size",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n10000000000000001\r\nx\r\n0\r\n\r\n",
    ),
    (
        "a chunk of negative size",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
    ),
    (
        "a chunk that is longer than it says",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n",
    ),
];

#[test]
fn what_cannot_be_read_as_a_request_is_counted_with_its_reason() {
    let gateway = Gateway::start(&[]);
    let said = |text: &str| exchange(&gateway, text.as_bytes());
    assert!(said("GET / HTTP/1.1\r\nno field\r\n\r\n").starts_with("HTTP/1.1 400"));
    let head = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(300));
    assert!(said(&head).starts_with("HTTP/1.1 431"));
    for reason in ["malformed", "too_large"] {
        let line = format!("seawall_unrouted_total{{reason=\"{reason}\"}} 1");
        let counted = || get(&gateway.admin, "/metrics", "").body.contains(&line);
        while !counted() {
            thread::yield_now();
        }
    }
}

#[test]
fn a_malformed_request_is_refused_and_its_connection_closed() {
    let gateway = before(&origin());
    for (what, bytes) in MALFORMED {
        let answer = exchange(&gateway, bytes);
        assert!(matches!(status(&answer), 400 | 501 | 505), "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer:?}");
        assert!(answer.contains("connection: close\r\n"), "{what}: {answer:?}");
    }
    assert_eq!(gateway.get("/", "").status, 200);
}

#[test]
fn what_follows_a_refused_request_is_not_read() {
    let gateway = before(&origin());
    let smuggled = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                    GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = exchange(&gateway, smuggled.as_bytes());
    assert!(status(&answer) == 400 && !answer.contains("smuggled"), "{answer:?}");
}

#[test]
fn what_is_ambiguous_is_refused_behind_a_body_too() {
    let gateway = before(&origin());
    let smuggled = "POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                    GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    for body in
        ["content-length: 5\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
    {
        let first = format!("POST /1 HTTP/1.1\r\nhost: a\r\n{body}");
        let answers = exchange(&gateway, format!("{first}{smuggled}").as_bytes());
        assert_eq!(status(&answers), 200, "{answers:?}");
        assert!(answers.contains("HTTP/1.1 400 ") && !answers.contains("POST /2"), "{answers:?}");
        assert!(!answers.contains("smuggled"), "{answers:?}");
    }
}

#[test]
fn what_follows_a_refused_tunnel_is_not_read() {
    let gateway = before(&origin());
    let asking = "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = exchange(&gateway, asking.as_bytes());
    assert!(status(&answer) == 405 && !answer.contains("smuggled"), "{answer:?}");
}

#[test]
fn no_other_version_of_http_is_offered_to_an_upstream() {
    let gateway = before(&origin());
    let seen = |version: &str, upgrade: &str| {
        let asking =
            format!("GET / HTTP/{version}\r\nhost: a\r\nconnection: upgrade, close\r\n{upgrade}\r\n\r\n");
        exchange(&gateway, asking.as_bytes()).to_ascii_lowercase()
    };
    for only in ["h2c", "H2C", "h2c,", ",h2c", "h2c;x", "h2c/1", "h2", "HTTP/2.0", "h2c, HTTP/2.0"] {
        let seen = seen("1.1", &format!("upgrade: {only}"));
        assert!(status(&seen) == 200 && !seen.contains("upgrade"), "{only}: {seen}");
    }
    for beside in ["upgrade: websocket, h2c", "upgrade: h2c, websocket", "upgrade: h2c\r\nupgrade: websocket"]
    {
        let seen = seen("1.1", beside);
        assert!(seen.contains("upgrade: websocket\r\n") && !seen.contains("h2c"), "{beside}: {seen}");
    }
    let older = seen("1.0", "upgrade: websocket");
    assert!(status(&older) == 200 && !older.contains("upgrade"), "{older}");
}

#[test]
fn what_is_too_large_is_told_so() {
    let gateway = before(&origin());
    let long = "x".repeat(70_000);
    let path = exchange(&gateway, format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    assert!(matches!(status(&path), 414 | 431), "{path:?}");
    let field = exchange(&gateway, format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n").as_bytes());
    assert_eq!(status(&field), 431, "{field:?}");
    let many = "x: y\r\n".repeat(1_000);
    let fields = exchange(&gateway, format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n").as_bytes());
    assert_eq!(status(&fields), 431, "{fields:?}");
    for answer in [path, field, fields] {
        assert!(answer.contains("x-seawall-reason: too_large\r\n"), "{answer:?}");
    }
}

#[test]
fn what_cannot_be_read_is_given_a_reason() {
    let gateway = before(&origin());
    let good = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for nonsense in ["G\u{1}T / HTTP/1.1\r\n\r\n", "GET / HTTP/9.9\r\nhost: a\r\n\r\n"] {
        for before in ["", good] {
            let answers = exchange(&gateway, format!("{before}{nonsense}").as_bytes());
            let last = answers.rfind("HTTP/1.1 4").map(|at| &answers[at..]);
            assert!(last.is_some_and(|last| last.contains("x-seawall-reason: malformed\r\n")), "{answers:?}");
        }
    }
}

#[test]
fn targets_and_methods_are_understood_or_refused() {
    let gateway = before(&origin());
    let close = "connection: close\r\n\r\n";
    let seen = |request: String| exchange(&gateway, request.as_bytes()).to_ascii_lowercase();
    let absolute = seen(format!("GET http://real.example:81/a?b HTTP/1.1\r\nhost: other\r\n{close}"));
    assert!(absolute.contains("get /a?b http/1.1\r\n"), "{absolute}");
    assert!(absolute.contains("host: real.example:81\r\n") && !absolute.contains("other"), "{absolute}");
    let bare = seen(format!("GET http://real.example HTTP/1.1\r\nhost: other\r\n{close}"));
    assert!(bare.contains("get / http/1.1\r\n"), "{bare}");
    let query = seen(format!("GET http://real.example?b HTTP/1.1\r\nhost: other\r\n{close}"));
    assert!(query.contains("get /?b http/1.1\r\n"), "{query}");
    let all = seen(format!("OPTIONS * HTTP/1.1\r\nhost: a\r\n{close}"));
    assert!(all.contains("options * http/1.1\r\n"), "{all}");
    let own = seen(format!("PURGE / HTTP/1.1\r\nhost: a\r\n{close}"));
    assert!(own.contains("purge / http/1.1\r\n"), "{own}");
    for refused in ["CONNECT a:443", "TRACE /"] {
        let answer = seen(format!("{refused} HTTP/1.1\r\nhost: a\r\n{close}"));
        assert!(status(&answer) == 405 && answer.contains("allow: get, head, "), "{answer}");
    }
}

#[test]
fn versions_differ_in_how_long_a_connection_lives() {
    let origin = origin();
    let gateway = before(&origin);
    let closed = exchange(&gateway, b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(status(&closed), 200, "{closed}");
    let host = format!("\r\nhost: {origin}\r\n");
    assert!(closed.contains("HTTP/1.1\r\n") && closed.contains(&host), "{closed}");
    let kept = "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    let twice = exchange(&gateway, format!("{kept}GET / HTTP/1.0\r\n\r\n").as_bytes());
    assert_eq!(twice.matches(" 200 OK").count(), 2, "{twice}");
    let pipelined = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n\
                     GET /3 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answers = exchange(&gateway, pipelined.as_bytes());
    let places = ["GET /1", "POST /2", "GET /3"].map(|line| answers.find(line));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{answers}");
}

#[test]
fn hop_by_hop_fields_end_here() {
    let gateway = before(&origin());
    let headers = "connection: close, x-named, host, X-Other\r\nx-named: 1\r\nx-other: 2\r\nx-end: 3\r\n\
                   keep-alive: timeout=1\r\nproxy-connection: keep-alive\r\nte: gzip, trailers\r\nupgrade: h2c\r\n";
    let seen = exchange(&gateway, format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n").as_bytes());
    let seen = seen.to_ascii_lowercase();
    assert!(seen.contains("x-end: 3\r\n") && seen.contains("\r\nhost: a\r\n"), "{seen}");
    assert!(seen.contains("te: trailers\r\n") && seen.contains("connection: te\r\n"), "{seen}");
    for gone in ["x-named", "x-other", "keep-alive", "proxy-connection", "gzip", "upgrade", "h2c"] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
}

#[test]
fn no_field_stands_for_another() {
    let gateway = before(&origin());
    // Servers on this machine are trusted.
    let headers = "X_Forwarded_For: 6.6.6.6\r\nx-forwarded_proto: https\r\nX-Real_IP: 6.6.6.6\r\nx_b: 1\r\n";
    let seen = exchange(
        &gateway,
        format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n").as_bytes(),
    );
    assert!(seen.contains("x_b: 1") && !seen.contains("6.6.6.6") && !seen.contains("https"), "{seen}");
}

#[test]
fn a_length_is_told_without_zeros() {
    let (origin, read) = origin_of("\r\n\r\nhello");
    let request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 005\r\nconnection: close\r\n\r\nhello";
    assert_eq!(status(&exchange(&before(&origin), request)), 204);
    let read = read.join().unwrap();
    assert!(read.contains("content-length: 5\r\n"), "{read}");
}

#[test]
fn no_request_is_taken_for_what_ends_another() {
    let gateway = Gateway::start(&[]);
    for end in ["\n", "a: b\n\r\n", "a: b\n\n"] {
        let chunks = format!("POST /1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{end}");
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        let answers = exchange(&gateway, format!("{chunks}{}{}", get("/2"), get("/3")).as_bytes());
        assert!(!answers.contains("/3") && answers.contains("400 Bad Request"), "{end:?}: {answers}");
    }
}

#[test]
fn a_client_that_has_no_more_to_say_is_answered() {
    let leave = |gateway: &Gateway| {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the connection is closed in time");
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert_eq!(status(&leave(&before(&origin()))), 200);
    assert_eq!(leave(&before(&origin_silent())), "", "who is gone for longer is not worked for");
}

#[test]
fn an_old_client_is_told_that_an_answer_ends_with_its_connection() {
    let gateway = before(&origin_that_says(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ));
    let answer = exchange(&gateway, b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let answer = answer.to_ascii_lowercase();
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(!answer.contains("keep-alive"), "{answer}");
}

#[test]
fn who_requires_an_upgrade_says_to_what() {
    let gateway = before(&origin_that_says(
        "HTTP/1.1 426 Upgrade Required\r\nupgrade: websocket\r\nconnection: upgrade\r\ncontent-length: 0\r\n\r\n",
    ));
    let answer = exchange(&gateway, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(status(&answer) == 426 && answer.contains("upgrade: websocket"), "{answer}");
}

/// An origin that reads one request in chunks to its end; says its address, and what it read.
fn origin_of_chunks() -> (String, thread::JoinHandle<String>) {
    origin_until(|text| text.contains("\r\n0\r\n") && text.ends_with("\r\n\r\n"))
}

/// An origin that reads one request up to this end; says its address, and what it read.
fn origin_of(end: &'static str) -> (String, thread::JoinHandle<String>) {
    origin_until(move |text| text.ends_with(end))
}

fn origin_until(is_whole: impl Fn(&str) -> bool + Send + 'static) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let read = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        stream.get_ref().set_read_timeout(Some(WITHIN)).unwrap();
        let mut text = String::new();
        let mut byte = [0];
        while !is_whole(&text) {
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return text;
            }
            text.push(byte[0].into());
        }
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        text.to_ascii_lowercase()
    });
    (address, read)
}

#[test]
fn a_body_reaches_the_upstream_with_any_method() {
    for method in ["GET", "HEAD", "DELETE", "POST"] {
        let (address, read) = origin_of_chunks();
        let gateway = before(&address);
        let asking = format!(
            "{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        );
        assert_eq!(status(&exchange(&gateway, asking.as_bytes())), 204, "{method}");
        let read = read.join().unwrap();
        assert!(read.ends_with("\r\n\r\n2\r\nhi\r\n0\r\n\r\n"), "{read:?}");
    }
}

#[test]
fn trailers_say_nothing_that_only_a_head_may() {
    let (address, read) = origin_of_chunks();
    let gateway = before(&address);
    let names = ["connection", "host", "x-forwarded-for", "x-forwarded-host", "forwarded", "te", "x-sum"];
    let trailers: String = names.iter().map(|name| format!("{name}: x\r\n")).collect();
    let asking = format!(
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntrailer: {}\r\ntransfer-encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\n{trailers}\r\n",
        names.join(", ")
    );
    assert_eq!(status(&exchange(&gateway, asking.as_bytes())), 204);
    let read = read.join().unwrap();
    assert!(read.ends_with("\r\n2\r\nhi\r\n0\r\nx-sum: x\r\n\r\n"), "{read:?}");
}

#[test]
fn some_answers_have_no_body() {
    for (method, said) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\nx: y\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n"),
        ("GET", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
    ] {
        let gateway = before(&origin_that_says(said));
        let asking = format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let answer = exchange(&gateway, asking.as_bytes());
        assert!(answer.ends_with("\r\n\r\n"), "{answer:?}");
        assert_eq!(answer.contains("content-length: 5\r\n"), method == "HEAD", "{answer:?}");
        assert!(!answer.contains("transfer-encoding"), "{answer:?}");
    }
}

#[test]
fn an_answer_that_makes_no_sense_is_a_502() {
    for said in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx y: z\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n",
        "",
    ] {
        let gateway = before(&origin_that_says(said));
        let answer = gateway.get("/", "");
        assert_eq!((answer.status, answer.field("x-seawall-reason")), (502, "upstream"), "{said:?}");
    }
}

#[test]
fn chunks_override_a_length_and_no_other_coding_is_lost() {
    let chunks = "\r\n3\r\nabc\r\n0\r\n\r\n";
    let fields = "content-length: 2\r\ntransfer-encoding: Chunked\r\n";
    let gateway = before(&origin_that_says(format!("HTTP/1.1 200 OK\r\n{fields}{chunks}").leak()));
    let answer = gateway.get("/", "");
    assert_eq!((answer.status, answer.field("content-length")), (200, "(none)"), "{}", answer.head);
    assert_eq!(answer.body, "3\r\nabc\r\n0\r\n\r\n");
    let codings =
        ["gzip, chunked", "gzip", "chunked, chunked", "gzip\r\ntransfer-encoding: chunked", "identity"];
    for codings in codings {
        let said = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {codings}\r\n{chunks}");
        let answer = before(&origin_that_says(said.leak())).get("/", "");
        assert_eq!((answer.status, answer.field("x-seawall-reason")), (502, "upstream"), "{codings}");
        assert_eq!(answer.field("proxy-status"), "seawall; error=http_protocol_error", "{codings}");
    }
}

#[test]
fn an_upgrade_that_nobody_offered_is_a_502() {
    for agreed in
        ["connection: upgrade\r\nupgrade: h2c\r\n", "connection: upgrade\r\n", "upgrade: websocket\r\n", ""]
    {
        let said = format!("HTTP/1.1 101 Switching Protocols\r\n{agreed}\r\n");
        let gateway = before(&origin_that_says(said.leak()));
        let asking =
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket, h2c\r\n\r\n";
        let answer = exchange(&gateway, asking.as_bytes());
        assert_eq!(status(&answer), 502, "{agreed:?}: {answer:?}");
    }
}

#[test]
fn a_body_that_breaks_off_never_looks_whole() {
    for said in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhe",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let gateway = before(&origin_that_says(said));
        let answer = exchange(&gateway, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let whole = answer.ends_with("0\r\n\r\n") || answer.ends_with("half\r\n");
        assert!(!whole, "{said:?}: {answer:?}");
    }
}

#[test]
fn trailers_reach_who_takes_them() {
    let said = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
    let gateway = before(&origin_that_says(said));
    let answer =
        exchange(&gateway, b"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\n\r\n");
    assert!(answer.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{answer:?}");
}

/// What a client is told when the upstream says this to it.
fn passed_on(method: &str, says: &'static str) -> String {
    let gateway = before(&origin_that_says(says));
    let asking = format!("{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    exchange(&gateway, asking.as_bytes()).to_ascii_lowercase()
}

#[test]
fn an_answer_has_one_length_or_none() {
    for said in ["2, 2", "2,2", "2\r\ncontent-length: 2", "2\r\ncontent-length: 2, 2"] {
        let says = format!("HTTP/1.1 200 OK\r\ncontent-length: {said}\r\n\r\nok").leak();
        for method in ["GET", "HEAD"] {
            let answer = passed_on(method, says);
            assert_eq!(status(&answer), 200, "{method}, {said}: {answer}");
            assert!(answer.contains("content-length: 2\r\n"), "{method}, {said}: {answer}");
            assert_eq!(answer.matches("content-length").count(), 1, "{method}, {said}: {answer}");
        }
    }
    for said in ["2, 3", "2,", "", "+2", "2x", "2\r\ncontent-length: 3", "99999999999999999999"] {
        let says = format!("HTTP/1.1 200 OK\r\ncontent-length: {said}\r\n\r\nok").leak();
        for method in ["GET", "HEAD"] {
            assert_eq!(status(&passed_on(method, says)), 502, "{method}, {said:?}");
        }
    }
}

#[test]
fn a_head_that_no_client_may_send_is_no_answer_either() {
    let says = |bytes| {
        let line = "x".repeat(1_000);
        let lines: String = (0..bytes / 1_000).map(|number| format!("x-{number}: {line}\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{lines}\r\nok").leak()
    };
    assert_eq!(status(&passed_on("GET", says(60_000))), 200);
    let refused = passed_on("GET", says(80_000));
    assert!(status(&refused) == 502 && refused.contains("x-seawall-reason: upstream\r\n"), "{refused}");
}
