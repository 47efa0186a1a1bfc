//! What goes over the wire, byte by byte.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::harness::{Gateway, ask, config, origin};

fn before(name: &str, origin: &str, route: &str) -> Gateway {
    let file = format!("[upstream.u]\nhosts = [\"http://{origin}\"]\n[route.r]\nupstream = \"u\"\n{route}\n");
    Gateway::start(&[&config(name, &file)])
}

/// Reads a head.
fn head(stream: &mut impl std::io::BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "it ended after {head:?}");
    }
    head.to_ascii_lowercase()
}

#[test]
fn an_upgrade_becomes_a_tunnel() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let asked = head(&mut stream);
        assert!(asked.contains("upgrade: websocket") && asked.contains("connection: upgrade"), "{asked}");
        let agreed =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nfirst ";
        stream.get_mut().write_all(agreed.as_bytes()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        stream.get_mut().write_all(line.to_uppercase().as_bytes()).unwrap();
    });
    let gateway = before("tunnel.toml", &origin, "");
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    // What follows at once must not be lost either.
    let asking = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\nhello\n";
    stream.write_all(asking.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let agreed = head(&mut stream);
    assert!(agreed.starts_with("http/1.1 101") && agreed.contains("upgrade: websocket"), "{agreed}");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "first HELLO\n");
    let open = "seawall_streams{route=\"r\"} 0.0";
    while !crate::harness::get(&gateway.admin, "/metrics", "").body.contains(open) {}
}

#[test]
fn a_body_has_a_bound_with_and_without_a_length() {
    let gateway = before("body.toml", &origin(), "max_body = \"16B\"");
    let post = |headers: &str, body: &str| {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        write!(stream, "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer.get(9..12).unwrap_or_default().to_owned()
    };
    assert_eq!(post("content-length: 17", "0123456789abcdefg"), "413");
    assert_eq!(post("transfer-encoding: chunked", "11\r\n0123456789abcdefg\r\n0\r\n\r\n"), "413");
}

#[test]
fn no_host_is_blamed_for_a_body_that_its_client_broke() {
    let gateway = before("broken.toml", &origin(), "");
    for _ in 0..40 {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        write!(stream, "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nx\r\n").unwrap();
        let mut first = String::new();
        let _ = BufReader::new(stream).read_line(&mut first);
        assert!(first.starts_with("HTTP/1.1 400"), "{first:?}");
    }
    assert!(gateway.state().contains("\"failure_rate\":0.0,"), "{}", gateway.state());
    assert_eq!(gateway.get("/", "").status, 200);
}

#[test]
fn grpc_is_refused_as_grpc_and_told_what_time_is_left() {
    let rule = "throttle = [{ rate = \"1/h\" }]";
    let gateway = before("grpc.toml", &origin(), rule);
    let call = || {
        let headers = "host: a\r\ncontent-type: application/grpc\r\ngrpc-timeout: 5S\r\n";
        ask(&gateway.address, "POST", "/s/m", headers, "x")
    };
    let seen = call().body;
    let left = seen.split("grpc-timeout: ").nth(1).and_then(|rest| rest.split("u\r\n").next()).unwrap();
    assert!((1..=5_000_000).contains(&left.parse::<u64>().unwrap()), "{seen}");
    let refused = call();
    assert_eq!((refused.status, refused.field("grpc-status")), (200, "8"));
    assert_eq!(refused.field("x-seawall-reason"), "throttled");
}

#[test]
fn a_client_that_expects_to_be_asked_is_asked_only_when_it_is_admitted() {
    let gateway = before("expect.toml", &origin(), "throttle = [{ rate = \"1/h\" }]");
    let begin = || {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        let asking = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
        stream.write_all(asking.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let first = head(&mut stream);
        (stream, first)
    };
    let (mut stream, first) = begin();
    assert!(first.starts_with("http/1.1 100"), "{first}");
    stream.get_mut().write_all(b"ok").unwrap();
    assert!(head(&mut stream).starts_with("http/1.1 200"));
    assert!(begin().1.starts_with("http/1.1 429"));
}

#[test]
fn what_two_readers_could_read_in_two_ways_is_refused() {
    let gateway = before("strict.toml", &origin(), "");
    for smuggled in [
        "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "content-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        "content-length: +1\r\n\r\nx",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "x-folded: a\r\n b\r\ncontent-length: 0\r\n\r\n",
        "content-length : 1\r\n\r\nx",
        "transfer-encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        write!(stream, "POST / HTTP/1.1\r\nhost: a\r\n{smuggled}").unwrap();
        let mut first = String::new();
        let _ = BufReader::new(stream).read_line(&mut first);
        assert!(
            first.starts_with("HTTP/1.1 4") || first.starts_with("HTTP/1.1 5"),
            "{smuggled:?}: {first:?}"
        );
    }
}

#[test]
fn envoy_fields_of_trusted_clients_count() {
    let origin = crate::harness::origin_saying("503 Service Unavailable");
    let rest = format!("[headers]\nenvoy_requests = true\n[upstream.v]\nhosts = [\"http://{origin}\"]");
    let gateway = before("envoy.toml", &origin, &format!("retry.backoff.kind = \"none\"\n{rest}"));
    let seen = |headers: &str| gateway.get("/", headers).body.to_ascii_lowercase();
    assert!(seen("x-envoy-max-retries: 0\r\n").contains("x-envoy-attempt-count: 1\r\n"));
    assert!(seen("x-envoy-max-retries: 1\r\n").contains("x-envoy-attempt-count: 2\r\n"));
    let only = |words: &str| seen(&format!("x-envoy-max-retries: 1\r\nx-envoy-retry-on: {words}\r\n"));
    assert!(only("connect-failure").contains("x-envoy-attempt-count: 1\r\n"));
}

#[test]
fn what_gateways_tell_each_other_is_believed_of_nobody_else() {
    let names = [
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy-upstream-rq-per-try-timeout-ms",
        "x-envoy-retry-on",
        "x-envoy-retry-grpc-on",
        "x-envoy-max-retries",
        "x-envoy-attempt-count",
        "x-envoy-internal",
        "x-envoy-force-trace",
        "x-envoy-decorator-operation",
        "x-envoy-downstream-service-cluster",
        "x-envoy-hedge-on-per-try-timeout",
        "x-seawall-mirror",
    ];
    let fields: String = names.iter().map(|name| format!("{name}: 7\r\n")).collect();
    let said = format!("x-envoys: 7\r\n{fields}x-envoy-expected-rq-timeout-ms: 777777\r\n");
    for (obeys, trusts) in [(false, false), (true, false), (false, true)] {
        let trusted = if trusts { "127.0.0.0/8" } else { "192.0.2.0/24" };
        let rest =
            format!("[headers]\nenvoy_requests = {obeys}\n[identity]\ntrusted_proxies = [\"{trusted}\"]");
        let gateway = before(&format!("told-{obeys}-{trusts}.toml"), &origin(), &rest);
        let seen = gateway.get("/", &said).body.to_ascii_lowercase();
        assert!(seen.contains("x-envoys: 7\r\n") && !seen.contains("777777"), "{seen}");
        for name in names {
            // Its own, in place of the client's.
            let is_counted = obeys && name == "x-envoy-attempt-count";
            let (passes, line) =
                (trusts || is_counted, format!("{name}: {}\r\n", if is_counted { 1 } else { 7 }));
            assert_eq!(seen.contains(&line), passes, "{name}: {seen}");
        }
    }
}

#[test]
fn an_upstream_is_told_where_a_request_came_from() {
    let said = "forwarded: for=203.0.113.7\r\nx-forwarded-host: a.example\r\n";
    let seen = |name: &str, rest: &str| {
        let gateway = before(name, &origin(), rest);
        gateway.get("/", said).body.to_ascii_lowercase()
    };
    let trusting = seen("forwarded.toml", "[headers]\nforwarded = true");
    let line = "forwarded: for=203.0.113.7, for=127.0.0.1;proto=http;host=\"localhost\"\r\n";
    assert!(trusting.contains(line), "{trusting}");
    assert!(trusting.contains("x-forwarded-host: a.example\r\n"), "{trusting}");
    let untrusting = seen("forwarded-not.toml", "[identity]\ntrusted_proxies = []");
    assert!(!untrusting.contains("203.0.113.7"), "{untrusting}");
    assert!(untrusting.contains("x-forwarded-host: localhost\r\n"), "{untrusting}");
}
