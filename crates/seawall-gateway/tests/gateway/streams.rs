//! Answers that go on, and connections that became something else: bounded, and not under the limit.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::harness::{Gateway, config, get};

/// An origin whose answers begin and do not end: event streams, agreed upgrades, bodies without a length, and at
/// `/large` one that is as quick as it is taken; and, at `/`, one that ends.
fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).unwrap_or(0) == 0 {
                    break;
                }
            }
            let answer = match head.split(' ').nth(1).unwrap_or("") {
                "/events" => "200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n",
                "/socket" => "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
                "/long" | "/large" => "200 OK\r\n\r\nbegun",
                _ => "200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
            };
            let _ = write!(stream.get_mut(), "HTTP/1.1 {answer}");
            if head.starts_with("GET /large ") {
                thread::spawn(move || while stream.get_mut().write_all(&[b'x'; 65_536]).is_ok() {});
            } else {
                open.push(stream);
            }
        }
    });
    address
}

pub(crate) fn before(name: &str, upstream: &str, route: &str) -> Gateway {
    let text = format!(
        "[upstream.u]\nhosts = [\"http://{}\"]\n{upstream}\n[route.r]\nupstream = \"u\"\n{route}\n",
        endless()
    );
    Gateway::start(&[&config(name, &text)])
}

/// Asks, and reads the first line of the answer. The connection stays open with what is returned.
pub(crate) fn begin(gateway: &Gateway, path: &str) -> (String, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    let upgrade = if path == "/socket" { "connection: upgrade\r\nupgrade: websocket\r\n" } else { "" };
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n").unwrap();
    let (mut stream, mut first) = (BufReader::new(stream), String::new());
    stream.read_line(&mut first).unwrap();
    (first.trim_end().to_owned(), stream)
}

/// Whether so many streams are open.
fn has_streams(gateway: &Gateway, streams: u32) -> bool {
    let line = format!("seawall_streams{{route=\"r\"}} {streams}.0");
    get(&gateway.admin, "/metrics", "").body.contains(&line)
}

fn await_streams(gateway: &Gateway, streams: u32) {
    while !has_streams(gateway, streams) {
        thread::yield_now();
    }
}

#[test]
fn streams_are_not_under_the_limit_and_have_their_own() {
    for path in ["/events", "/socket"] {
        let name = format!("streams{}.toml", path.replace('/', "-"));
        let limit = "limit = { adaptive = false, max = 1, queue = 0 }";
        let gateway = before(&name, limit, "streams = { max = 2 }\nretry = false");
        let (one, first) = begin(&gateway, path);
        let (two, second) = begin(&gateway, path);
        assert!(["200 OK", "101 Switching Protocols"].iter().any(|good| one.ends_with(good)), "{one}");
        assert_eq!(one, two);
        await_streams(&gateway, 2);
        assert_eq!(gateway.get("/", "").status, 200, "what ends has its place");
        let (refused, mut rest) = begin(&gateway, path);
        assert_eq!(refused, "HTTP/1.1 503 Service Unavailable");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            rest.read_line(&mut head).unwrap();
        }
        assert!(head.contains("x-seawall-reason: full"), "{head}");
        drop((first, second));
        if path == "/events" {
            await_streams(&gateway, 0);
            assert_eq!(begin(&gateway, path).0, one);
        }
    }
}

#[test]
fn an_answer_that_a_slow_client_draws_out_gives_its_place_back() {
    let limit = "limit = { adaptive = false, max = 1, queue = 0 }";
    let gateway = before("streams-slow.toml", limit, "deadline = \"100ms\"\nretry = false");
    let (status, mut large) = begin(&gateway, "/large");
    assert_eq!(status, "HTTP/1.1 200 OK");
    while !has_streams(&gateway, 1) {
        large.read_exact(&mut [0; 65_536]).unwrap();
    }
    assert_eq!(gateway.get("/", "").status, 200);
}

#[test]
fn an_answer_that_outlasts_the_deadline_gives_its_place_back() {
    let limit = "limit = { adaptive = false, max = 1, queue = 0 }";
    let gateway = before("streams-long.toml", limit, "deadline = \"50ms\"\nretry = false");
    let (first, _held) = begin(&gateway, "/long");
    assert_eq!(first, "HTTP/1.1 200 OK");
    await_streams(&gateway, 1);
    assert_eq!(gateway.get("/", "").status, 200);
}

#[test]
fn an_upstream_that_falls_silent_is_cut_off() {
    let gateway = before("streams-idle.toml", "", "streams = { idle = \"20ms\" }");
    let (first, mut rest) = begin(&gateway, "/long");
    assert_eq!(first, "HTTP/1.1 200 OK");
    let mut text = String::new();
    let ended = rest.read_to_string(&mut text);
    assert!(text.contains("begun") && !text.ends_with("0\r\n\r\n"), "it does not look whole: {text:?}");
    drop(ended);
    assert!(get(&gateway.admin, "/metrics", "").body.contains("seawall_streams_cut_total{route=\"r\"} 1"));
}

/// The timers of the established connections between these ports, as the kernel numbers them; 2 asks whether the
/// other end is there.
fn timers(of: impl Fn(u16, u16) -> bool) -> Vec<String> {
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap(), 16).unwrap();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = lines.filter(|line| line[3] == "01" && of(port(line[1]), port(line[2])));
    ours.map(|line| line[5][..2].to_owned()).collect()
}

#[test]
#[cfg(target_os = "linux")]
fn both_ends_of_a_tunnel_are_asked_whether_they_are_there() {
    let origin = endless();
    let text = format!("[upstream.u]\nhosts = [\"http://{origin}\"]\n[route.r]\nupstream = \"u\"\n");
    let gateway = Gateway::start(&[&config("vanished.toml", &text)]);
    let (first, stream) = begin(&gateway, "/socket");
    assert!(first.contains("101"), "{first}");
    let client = stream.get_ref().local_addr().unwrap().port();
    let port = |address: &str| address.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let (public, upstream) = (port(&gateway.address), port(&origin));
    while timers(|local, remote| (local, remote) == (public, client)) != ["02"] {}
    assert_eq!(timers(|_, remote| remote == upstream), ["02"]);
}
