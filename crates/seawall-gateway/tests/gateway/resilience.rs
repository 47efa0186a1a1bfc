//! The policies as a config says them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::harness::{Gateway, ask, config, get, origin, origin_saying, origin_silent, token};
use crate::paths::await_counted;

/// A gateway whose one upstream has this origin and these lines, and whose one route has these.
fn before(name: &str, origin: &str, upstream: &str, route: &str) -> Gateway {
    let file = format!(
        "[identity]\nuser = [\"header:x-api-key\"]\nplan = \"header:x-plan\"\n\
         [upstream.u]\nhosts = [\"http://{origin}\"]\n{upstream}\n[route.r]\nupstream = \"u\"\n{route}\n"
    );
    Gateway::start(&[&config(name, &file)])
}

#[test]
fn a_host_that_is_not_well_is_not_asked() {
    let (well, unwell) = (origin(), origin_saying("503 Service Unavailable"));
    let file = config(
        "health.toml",
        &format!(
            "[upstream.u]\nhosts = [\"http://{well}\", \"http://{unwell}\"]\n\
             health = {{ every = \"20ms\", within = \"1s\" }}\n[route.r]\nupstream = \"u\"\nretry = false\n"
        ),
    );
    let gateway = Gateway::start(&[&file]);
    gateway.await_log("host_unhealthy");
    assert!((0..40).all(|_| gateway.get("/", "").status == 200));
    assert!(gateway.state().contains("\"health\":\"unwell\""));
}

#[test]
fn hosts_that_are_gone_cost_no_answer_although_nothing_is_saved_for_retries_yet() {
    let hosts = format!("\"http://{}\", \"http://127.0.0.1:1\", \"http://127.0.0.1:2\"", origin());
    let file = format!("[upstream.u]\nhosts = [{hosts}]\n[route.r]\nupstream = \"u\"\n");
    let gateway = Gateway::start(&[&config("gone.toml", &file)]);
    for _ in 0..20 {
        assert_eq!(ask(&gateway.address, "POST", "/", "host: localhost\r\n", "once").status, 200);
        assert_eq!(gateway.get("/", "").status, 200);
    }
}

#[test]
fn a_fixed_answer_stands_in_where_there_is_none() {
    let fixed = "fallback = [{ status = 200, body = \"[]\", content_type = \"application/json\" }]";
    let gateway = before("fixed.toml", &origin_saying("503 Service Unavailable"), "", fixed);
    let answer = gateway.get("/", "");
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"), "{}", answer.head);
    assert_eq!(answer.field("content-type"), "application/json");
    assert_eq!(answer.field("x-seawall-fallback"), "fixed");
}

#[test]
fn a_cheaper_upstream_stands_in() {
    let (dear, cheap) = (origin_saying("502 Bad Gateway"), origin());
    let lite = format!("[upstream.lite]\nhosts = [\"http://{cheap}\"]");
    let gateway =
        before("cheaper.toml", &dear, "", &format!("fallback = [{{ upstream = \"lite\" }}]\n{lite}"));
    let answer = gateway.get("/x", "");
    assert_eq!((answer.status, answer.field("x-seawall-fallback")), (200, "cheaper"));
    assert!(answer.body.starts_with("GET /x "), "{}", answer.body);
}

#[test]
fn a_stale_answer_outlives_its_origin() {
    let origin = crate::harness::origin_once();
    let gateway = before("stale.toml", &origin, "", "fallback = [{ stale = \"5m\", unmarked = \"1us\" }]");
    assert_eq!(gateway.get("/", "").status, 200);
    let stale = gateway.get("/", "");
    assert_eq!((stale.status, stale.field("x-seawall-fallback")), (200, "stale"), "{}", stale.head);
    assert_eq!(stale.field("ratelimit"), "(none)", "what one user has left is for nobody else");
}

#[test]
fn a_plan_that_a_trusted_peer_names_has_its_own_quota() {
    let rule = "throttle = [{ rate = \"1/h\", plans = { gold = { rate = \"3/h\", burst = 3 } } }]";
    let gateway = before("plans.toml", &origin(), "", rule);
    let statuses = |headers: &str| [(); 4].map(|()| gateway.get("/", headers).status);
    assert_eq!(statuses("x-api-key: a\r\n"), [200, 429, 429, 429]);
    assert_eq!(statuses("x-api-key: b\r\nx-plan: gold\r\n"), [200, 200, 200, 429]);
    assert_eq!(statuses("x-api-key: c\r\nx-plan: unheard\r\n"), [200, 429, 429, 429]);
}

#[test]
fn the_upstream_is_told_how_much_less_to_do() {
    let gateway = before("dimmer.toml", &origin(), "", "dimmer = \"x-dimmer\"");
    let seen = gateway.get("/", "x-dimmer: 1\r\n").body;
    assert!(seen.contains("x-dimmer: 0.00\r\n"), "{seen}");
}

#[test]
fn a_slow_call_is_hedged_to_another_host() {
    let (slow, quick) = (crate::harness::origin_silent(), origin());
    let hosts = format!("hosts = [\"http://{slow}\", \"http://{quick}\"]");
    let file = config(
        "hedge.toml",
        &format!(
            "[upstream.u]\n{hosts}\nbudget = \"100%\"\n[route.r]\nupstream = \"u\"\nhedge = {{ after = \"10ms\" }}\n"
        ),
    );
    let gateway = Gateway::start(&[&file]);
    assert!((0..20).all(|_| gateway.get("/", "").status == 200));
}

#[test]
fn routes_are_told_apart_by_method_and_header() {
    let (reads, writes, next) =
        (origin_saying("200 OK"), origin_saying("201 Created"), origin_saying("202 Accepted"));
    let file = format!(
        "[upstream.reads]\nhosts = [\"http://{reads}\"]\n[upstream.writes]\nhosts = [\"http://{writes}\"]\n\
         [upstream.next]\nhosts = [\"http://{next}\"]\n[route.reads]\nupstream = \"reads\"\n\
         [route.writes]\nupstream = \"writes\"\nmethod = [\"POST\", \"PUT\"]\n\
         [route.next]\nupstream = \"next\"\nheaders = {{ x-version = \"2\" }}\n"
    );
    let gateway = Gateway::start(&[&config("told-apart.toml", &file)]);
    let status = |method: &str, headers: &str| {
        crate::harness::ask(&gateway.address, method, "/", &format!("host: a\r\n{headers}"), "").status
    };
    assert_eq!([status("GET", ""), status("POST", ""), status("GET", "x-version: 2\r\n")], [200, 201, 202]);
    assert_eq!(status("GET", "x-version: 3\r\n"), 200);
}

#[test]
fn no_host_is_blamed_for_descriptors_that_the_gateway_lacks() {
    let breaker = "breaker = { failure_rate = \"1%\", window = 9, min_calls = 1, open = \"1m\" }\n\
                   health = { every = \"20ms\", within = \"1s\", fall = 1 }";
    let gateway = before("descriptors.toml", &origin(), breaker, "path = \"/in\"");
    let mut client = BufReader::new(TcpStream::connect(&gateway.address).unwrap());
    let mut ask = |path: &str| {
        write!(client.get_mut(), "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            assert!(client.read_line(&mut head).unwrap() > 0);
            length =
                head[from..].strip_prefix("content-length: ").map_or(length, |of| of.trim().parse().unwrap());
        }
        std::io::copy(&mut (&mut client).take(length), &mut std::io::sink()).unwrap();
        head
    };
    assert!(ask("/out").starts_with("HTTP/1.1 404"), "from now on the client is connected");
    let pid = Pid::from_raw(gateway.child.id().cast_signed());
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limited = |current| prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap().current;
    // What is open stays so, and only the numbers of the standard streams would do, which are taken. Any above may
    // come free while a check ends.
    let before = limited(Some(3));
    for _ in 0..5 {
        let head = ask("/in");
        assert!(head.starts_with("HTTP/1.1 503") && head.contains("x-seawall-reason: full\r\n"), "{head}");
    }
    limited(before);
    assert!(ask("/in").starts_with("HTTP/1.1 200"));
    let metrics = get(&gateway.admin, "/metrics", "").body;
    assert!(metrics.contains("seawall_refused_total{route=\"r\",reason=\"full\"} 5"), "{metrics}");
    assert!(metrics.contains("seawall_attempts_total{route=\"r\"} 6"), "{metrics}");
}

#[test]
fn who_waits_is_let_in_by_a_raised_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let text = |max: u32| {
        format!(
            "[upstream.u]\nhosts = [\"http://{address}\"]\nlimit = {{ adaptive = false, max = {max}, queue = 9 }}\n\
             [route.held]\nupstream = \"u\"\npath = \"/held\"\ndeadline = \"1h\"\n\
             [route.r]\nupstream = \"u\"\ndeadline = \"10s\"\nretry = false\n"
        )
    };
    let gateway = Gateway::start(&[&config("raised.toml", &text(1))]);
    let mut held = TcpStream::connect(&gateway.address).unwrap();
    held.write_all(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let _silent = listener.accept().unwrap();
    let asked = gateway.address.clone();
    let waits = thread::spawn(move || get(&asked, "/", "").status);
    while !gateway.state().contains("\"waiting\":1") {}
    let headers = format!("content-type: text/plain\r\n{}", token(&gateway));
    assert_eq!(ask(&gateway.admin, "PUT", "/api/config", &headers, &text(2)).status, 200);
    let answering = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        // An answer to nothing is none: the request must have come.
        assert!(stream.by_ref().lines().any(|line| line.unwrap().is_empty()));
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        stream
    });
    assert_eq!(waits.join().unwrap(), 200);
    drop(answering.join());
}

/// The time that an upstream was told, in milliseconds, by what it says that it was sent.
fn told(seen: &str) -> u64 {
    let mut lines = seen.lines().filter_map(|line| line.strip_prefix("x-envoy-expected-rq-timeout-ms: "));
    let millis = lines.next().unwrap_or_else(|| panic!("no time: {seen}")).parse().unwrap();
    assert_eq!(lines.next(), None, "{seen}");
    millis
}

#[test]
fn the_upstream_is_told_the_time_that_is_left() {
    let gateway = before("told.toml", &origin(), "", "deadline = \"5s\"");
    let claims = "x-envoy-expected-rq-timeout-ms: 9999999\r\nX-Envoy-Expected-Rq-Timeout-Ms: 1\r\n";
    for headers in ["", claims] {
        let millis = told(&gateway.get("/", headers).body);
        assert!((1..=5_000).contains(&millis), "{millis}");
    }
    let each = "deadline = \"1h\"\nretry = { per_attempt = \"3s\" }";
    let millis = told(&before("told-each.toml", &origin(), "", each).get("/", "").body);
    assert!((1..=3_000).contains(&millis), "{millis}");
}

#[test]
fn an_upstream_that_is_not_to_be_told_the_time_is_not() {
    let gateway = before("told-nothing.toml", &origin(), "", "[headers]\nenvoy_timeout = false");
    let seen = gateway.get("/", "").body;
    assert!(!seen.is_empty() && !seen.contains("x-envoy-expected-rq-timeout-ms"), "{seen}");
}

#[test]
fn of_two_times_that_a_client_gives_the_shorter_counts() {
    let gateway =
        before("told-both.toml", &origin(), "", "deadline = \"1m\"\n[headers]\nenvoy_requests = true");
    for (envoy, grpc, most) in [(9_000, "4S", 4_000), (2_000, "4S", 2_000), (9_000, "90S", 9_000)] {
        let headers = format!(
            "content-type: application/grpc\r\ngrpc-timeout: {grpc}\r\nx-envoy-upstream-rq-timeout-ms: {envoy}\r\n"
        );
        let millis = told(&gateway.get("/", &headers).body);
        assert!((1..=most).contains(&millis), "{envoy} and {grpc}: {millis}");
    }
}

/// An origin that answers the first request on each connection, and reads the next and closes it; says its
/// address, and the methods that it saw, in order.
fn origin_that_tires() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let sees = seen.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", ""] {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap_or(0) > 0 {}
                sees.lock().unwrap().extend(head.split(' ').next().map(str::to_owned));
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    (address, seen)
}

#[test]
fn a_connection_closed_as_the_request_arrives_costs_one_attempt() {
    let attempts = |gateway: &Gateway| {
        let metrics = get(&gateway.admin, "/metrics", "").body;
        let mut lines =
            metrics.lines().filter_map(|line| line.strip_prefix("seawall_attempts_total{route=\"r\"} "));
        lines.next().unwrap().parse::<u32>().unwrap()
    };
    for (name, retry, method, status, sent) in [
        ("tires.toml", "", "DELETE", 200, 3),
        ("tires-unsafe.toml", "", "POST", 502, 2),
        ("tires-once.toml", "retry = false", "DELETE", 502, 2),
    ] {
        let (origin, seen) = origin_that_tires();
        let gateway = before(name, &origin, "", retry);
        // On one connection, and so to one worker, which has the other one to the origin.
        let mut client = BufReader::new(TcpStream::connect(&gateway.address).unwrap());
        write!(client.get_mut(), "GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") && client.read_line(&mut answer).unwrap() > 0 {}
        client.read_exact(&mut [0; 2]).unwrap();
        write!(client.get_mut(), "{method} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        answer.clear();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
        assert_eq!(attempts(&gateway), sent, "{name}");
        let seen = seen.lock().unwrap().iter().filter(|seen| *seen == method).count();
        assert_eq!(seen, sent as usize - 1, "{name}");
    }
}

#[test]
fn a_trusted_client_has_an_answer_tried_again_that_is_no_failure() {
    let file = "retry = { attempts = 2, backoff = { kind = \"none\" } }\n[headers]\nenvoy_requests = true";
    let paid = "budget = \"100%\"";
    let (conflict, busy) = (origin_saying("409 Conflict"), origin_saying("418 I'm a teapot"));
    let (conflict, busy) =
        (before("conflict.toml", &conflict, paid, file), before("busy.toml", &busy, paid, file));
    let attempts = |gateway: &Gateway, method: &str, fields: &str| {
        let answer = ask(&gateway.address, method, "/", &format!("host: a\r\n{fields}"), "");
        answer.body.lines().find_map(|line| line.strip_prefix("x-envoy-attempt-count: ")).unwrap().to_owned()
    };
    let statuses = "x-envoy-retry-on: retriable-status-codes\r\nx-envoy-retriable-status-codes: 404, 418\r\n";
    assert_eq!(attempts(&conflict, "GET", ""), "1");
    assert_eq!(attempts(&conflict, "POST", "x-envoy-retry-on: retriable-4xx\r\n"), "1");
    assert_eq!(
        attempts(&conflict, "GET", "x-envoy-retry-on: retriable-4xx\r\n"),
        "2",
        "the last answer stands"
    );
    assert_eq!(attempts(&busy, "GET", "x-envoy-retry-on: retriable-4xx\r\n"), "1");
    assert_eq!(attempts(&busy, "GET", statuses), "2");
}

#[test]
fn one_user_leaves_places_to_others() {
    let limit = "limit = { adaptive = false, max = 4, queue = 0, bulkhead = { share = \"50%\" } }";
    let gateway = before("bulkhead.toml", &origin_silent(), limit, "shed = false");
    let begin = |user: &str| {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nhost: a\r\nx-api-key: {user}\r\n\r\n").unwrap();
        stream
    };
    let in_flight = |places: u32| {
        await_counted(&gateway, &format!("seawall_in_flight{{upstream=\"u\"}} {places}.0"));
    };
    let mut held = vec![begin("a"), begin("a")];
    in_flight(2);
    let refused = gateway.get("/", "x-api-key: a\r\n");
    assert_eq!((refused.status, refused.field("x-seawall-reason")), (503, "full"));
    held.push(begin("b"));
    in_flight(3);
}
