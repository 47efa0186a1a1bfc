//! What a route keeps, over real connections.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;

use crate::harness::{Answer, Gateway, config, get, origin, origin_that_says};

/// An origin whose one answer must be confirmed each time; its body is a number that grows when it is sent whole.
fn confirming() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = |head: &str, whole: usize| {
        let fields = "cache-control: no-cache\r\netag: \"a\"";
        if head.contains("if-none-match: \"a\"\r\n") {
            return format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\nx-confirmed: yes\r\n\r\n");
        }
        format!("HTTP/1.1 200 OK\r\n{fields}\r\ncontent-length: 1\r\n\r\n{whole}")
    };
    thread::spawn(move || {
        let mut whole = 0;
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap_or(0) > 0 {}
            let text = answer(&head.to_ascii_lowercase(), whole);
            whole += usize::from(text.contains("200 OK"));
            // One request for each connection, so that one thread serves all.
            let text = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            if stream.get_mut().write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    });
    address
}

#[test]
fn what_is_larger_than_a_route_keeps_is_passed_on_and_counted() {
    let says = "HTTP/1.1 200 OK\r\nconnection: close\r\ncache-control: max-age=60\r\ncontent-length: 20\r\n\r\n\
                twenty bytes of text";
    for (bound, hits, too_large) in [("max_body = \"19B\"", 0, 3), ("max_body = \"20B\"", 2, 0)] {
        let file = format!(
            "[upstream.u]\nhosts = [\"http://{}\"]\n[route.r]\nupstream = \"u\"\nfallback = [{{ stale = \"5m\", {bound} }}]\n",
            origin_that_says(says)
        );
        let gateway = Gateway::start(&[&config("cache-room.toml", &file)]);
        let got: Vec<_> = (0..3).map(|_| gateway.get("/", "")).collect();
        assert!(got.iter().all(|answer| answer.body == "twenty bytes of text"));
        let is_hit = |answer: &&Answer| answer.field("cache-status").starts_with("seawall; hit");
        assert_eq!(got.iter().filter(is_hit).count(), hits, "{bound}");
        let metrics = get(&gateway.admin, "/metrics", "").body;
        let counted = format!("seawall_cache_too_large_total{{route=\"r\"}} {too_large}");
        assert!(metrics.contains(&counted), "{metrics}");
    }
}

#[test]
fn a_kept_answer_is_confirmed_and_not_sent_again() {
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{}\"]\n[route.r]\nupstream = \"u\"\nfallback = [{{ stale = \"5m\" }}]\n\
         throttle = [{{ rate = \"1/h\", burst = 50 }}]\n",
        confirming()
    );
    let gateway = Gateway::start(&[&config("cache.toml", &file)]);
    let first = gateway.get("/", "");
    assert_eq!((first.status, first.body.as_str()), (200, "0"), "{}", first.head);
    for left in (45..49).rev() {
        let got = gateway.get("/", "");
        assert_eq!((got.status, got.body.as_str()), (200, "0"), "{}", got.head);
        assert_eq!(got.field("x-confirmed"), "yes");
        assert_eq!(got.field("cache-status"), "seawall; fwd=stale; fwd-status=304");
        assert_eq!(got.field("ratelimit"), format!("\"user\";r={left}"), "what this request took");
    }
    let has = gateway.get("/", "if-none-match: \"a\"\r\n");
    assert_eq!((has.status, has.body.as_str()), (304, ""));
    assert_eq!(gateway.get("/", "if-none-match: \"b\"\r\n").body, "0");
}

#[test]
fn who_takes_only_what_is_kept_is_told_so_and_spoils_nothing() {
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{}\"]\n[route.r]\nupstream = \"u\"\nfallback = [{{ stale = \"5m\" }}]\n",
        confirming()
    );
    let gateway = Gateway::start(&[&config("only-kept.toml", &file)]);
    let nothing = gateway.get("/", "cache-control: only-if-cached\r\n");
    assert_eq!((nothing.status, nothing.field("x-seawall-reason")), (504, "not_kept"));
    let state = gateway.state();
    assert!(state.contains("\"availability\":1.0") && state.contains("\"attempts\":0"), "{state}");
}

#[test]
fn what_is_kept_spends_the_quota() {
    let origin = origin_that_says(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncache-control: max-age=60\r\ncontent-length: 2\r\n\r\nok",
    );
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{origin}\"]\n[route.r]\nupstream = \"u\"\n\
         fallback = [{{ stale = \"5m\" }}]\nthrottle = [{{ rate = \"1/h\", burst = 3 }}]\n"
    );
    let gateway = Gateway::start(&[&config("kept-quota.toml", &file)]);
    for left in (0..3).rev() {
        let got = gateway.get("/", "");
        assert_eq!((got.status, got.body.as_str()), (200, "ok"), "{}", got.head);
        assert!(got.field("ratelimit").starts_with(&format!("\"user\";r={left}")), "{}", got.head);
    }
    let refused = gateway.get("/", "");
    assert_eq!((refused.status, refused.field("x-seawall-reason")), (429, "throttled"));
    let state = gateway.state();
    assert!(state.contains("\"attempts\":1"), "{state}");
}

#[test]
fn an_answer_that_breaks_off_while_it_is_read_to_be_kept_is_a_failure_that_says_so() {
    let origin = origin_that_says(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncache-control: max-age=60\r\ncontent-length: 9\r\n\r\nok",
    );
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{origin}\"]\n[route.r]\nupstream = \"u\"\nfallback = [{{ stale = \"5m\" }}]\n"
    );
    let gateway = Gateway::start(&[&config("kept-broken.toml", &file)]);
    let got = gateway.get("/", "");
    assert_eq!((got.status, got.field("x-seawall-reason")), (502, "upstream"), "{}", got.head);
    assert!(!got.field("retry-after").is_empty() && got.body.contains("\"status\":502"), "{}", got.body);
    let metrics = get(&gateway.admin, "/metrics", "").body;
    assert!(metrics.contains("seawall_availability{route=\"r\"} 0.0"), "it is bad once: {metrics}");
}

#[test]
fn what_is_unmarked_is_not_kept_of_who_is_known_by_a_header() {
    let file = format!(
        "[identity]\nuser = [\"header:x-api-key\"]\n[upstream.u]\nhosts = [\"http://{}\"]\n[route.r]\n\
         upstream = \"u\"\nfallback = [{{ stale = \"5m\", unmarked = \"1m\" }}]\n",
        origin()
    );
    let gateway = Gateway::start(&[&config("personal.toml", &file)]);
    // The origin says what it was sent.
    for user in ["alice", "bob"] {
        let answer = gateway.get("/me", &format!("x-api-key: {user}\r\n"));
        assert!(answer.body.contains(user), "{}", answer.body);
    }
    gateway.get("/", "");
    assert!(
        gateway.get("/", "").field("cache-status").contains("hit"),
        "of those whom nothing tells apart it is"
    );
}
