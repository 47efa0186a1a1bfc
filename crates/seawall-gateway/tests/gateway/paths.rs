//! The ways that a request may take: weights, mirrors, and attempts with a body.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::harness::{Answer, Gateway, ask, config, get, origin, origin_saying};

/// An origin that tells what it was sent, head and body, and answers each request as `answer` says for
/// its number.
fn telling(answer: impl Fn(usize) -> &'static str + Send + 'static) -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).unwrap_or(0) == 0 {
                    break;
                }
            }
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            if stream.read_exact(&mut body).is_err() {
                continue;
            }
            if tell.send((head, String::from_utf8(body).unwrap())).is_err() {
                return;
            }
            let answer = answer(number);
            write!(stream.get_mut(), "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .unwrap();
        }
    });
    (address, told)
}

#[test]
fn a_route_of_a_host_takes_it_however_it_is_spelt() {
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{}\"]\n[route.api]\nhost = \"api.example\"\nupstream = \"u\"\n\
         throttle = [{{ per = \"route\", rate = \"1/d\", burst = 1 }}]\n[route.other]\nupstream = \"u\"\n",
        origin()
    );
    let gateway = Gateway::start(&[&config("spelt-hosts.toml", &file)]);
    let status = |host: &str| ask(&gateway.address, "GET", "/", &format!("host: {host}\r\n"), "").status;
    assert_eq!([status("api.example"), status("other.example")], [200, 200]);
    for host in ["api.example", "API.example", "api.example:80", "api.example.", "api.example.:80"] {
        assert_eq!(status(host), 429, "{host}");
    }
}

fn put(gateway: &Gateway, headers: &str, body: &str) -> Answer {
    ask(&gateway.address, "PUT", "/", &format!("host: a\r\n{headers}"), body)
}

fn counted(gateway: &Gateway, metric: &str) -> bool {
    get(&gateway.admin, "/metrics", "").body.lines().any(|line| line == metric)
}

/// Waits until a metric is what it should be; the harness of the test run bounds the wait.
pub(crate) fn await_counted(gateway: &Gateway, metric: &str) {
    while !counted(gateway, metric) {
        thread::yield_now();
    }
}

#[test]
fn a_body_that_was_kept_is_sent_again_and_a_longer_one_is_not() {
    let (origin, told) = telling(|number| if number == 0 { "503 Unavailable" } else { "200 OK" });
    let retry = "retry = { max_body = \"8B\", backoff = { kind = \"none\" } }";
    let file = |origin: &str| {
        format!(
            "[upstream.u]\nhosts = [\"http://{origin}\"]\nbreaker = false\n[route.r]\nupstream = \"u\"\n{retry}\n"
        )
    };
    let gateway = Gateway::start(&[&config("replay.toml", &file(&origin))]);
    assert_eq!(put(&gateway, "", "12345678").status, 200);
    for _ in 0..2 {
        let (head, body) = told.recv().unwrap();
        assert!(head.contains("content-length: 8"), "{head}");
        assert_eq!(body, "12345678");
    }
    assert!(!counted(&gateway, "seawall_bodies_not_kept_total{route=\"r\"} 1"));
    let (origin, told) = telling(|_| "503 Unavailable");
    let gateway = Gateway::start(&[&config("replay-long.toml", &file(&origin))]);
    assert_eq!(put(&gateway, "", "123456789").status, 503);
    assert_eq!(told.recv().unwrap().1, "123456789");
    assert!(told.try_recv().is_err(), "once is all");
    await_counted(&gateway, "seawall_bodies_not_kept_total{route=\"r\"} 1");
}

#[test]
fn a_post_is_sent_again_only_with_a_key_and_where_the_config_says_so() {
    let retry = |more: &str| format!("retry = {{ attempts = 2, backoff = {{ kind = \"none\" }}{more} }}");
    let attempts = |name: &str, more: &str, headers: &str| {
        let (origin, told) = telling(|_| "503 Unavailable");
        let upstream =
            format!("[upstream.u]\nhosts = [\"http://{origin}\"]\nbreaker = false\nbudget = \"100%\"");
        let file = format!("{upstream}\n[route.r]\nupstream = \"u\"\n{}\n", retry(more));
        let gateway = Gateway::start(&[&config(name, &file)]);
        let headers = format!("host: a\r\n{headers}");
        assert_eq!(ask(&gateway.address, "POST", "/", &headers, "x").status, 503);
        drop(gateway);
        std::iter::from_fn(|| told.try_recv().ok()).count()
    };
    let key = "idempotency-key: \"k1\"\r\n";
    assert_eq!(attempts("post.toml", "", key), 1);
    assert_eq!(attempts("post-keyed.toml", ", idempotency_key = true", key), 2);
    assert_eq!(attempts("post-unkeyed.toml", ", idempotency_key = true", ""), 1);
}

#[test]
fn a_client_that_stops_in_its_body_is_told_so_and_no_host_is_blamed() {
    let (origin, _told) = telling(|_| "200 OK");
    let rule = "streams = { stall = \"20ms\" }";
    let file = format!("[upstream.u]\nhosts = [\"http://{origin}\"]\n[route.r]\nupstream = \"u\"\n{rule}\n");
    let gateway = Gateway::start(&[&config("stall.toml", &file)]);
    for _ in 0..30 {
        let mut stream = TcpStream::connect(&gateway.address).unwrap();
        write!(stream, "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhello").unwrap();
        let mut first = String::new();
        let _ = BufReader::new(stream).read_line(&mut first);
        assert!(first.starts_with("HTTP/1.1 408"), "{first:?}");
    }
    assert!(gateway.state().contains("\"failure_rate\":0.0,"), "{}", gateway.state());
    assert_eq!(put(&gateway, "", "whole").status, 200);
}

#[test]
fn weights_share_the_requests_of_a_route_and_a_block_stops_them_all() {
    let (old, new) = (origin_saying("200 OK"), origin_saying("201 Created"));
    let file = format!(
        "[upstream.old]\nhosts = [\"http://{old}\"]\n[upstream.new]\nhosts = [\"http://{new}\"]\n\
         [route.r]\nupstream = {{ old = 9, new = 1 }}\nthrottle = [{{ rate = \"1/h\", burst = 60 }}]\n"
    );
    let file = config("weights.toml", &file);
    let _ = std::fs::remove_file(format!("{file}.state"));
    let gateway = Gateway::start(&[&file]);
    let mut statuses: Vec<u16> = (0..50).map(|_| gateway.get("/", "").status).collect();
    statuses.sort_unstable();
    let created = statuses.iter().filter(|status| **status == 201).count();
    assert!(statuses[0] == 200 && (4..=6).contains(&created), "{statuses:?}");
    // One quota for both ways.
    assert_eq!((0..20).filter(|_| gateway.get("/", "").status == 429).count(), 10);
    for upstream in ["old", "new"] {
        let metrics = get(&gateway.admin, "/metrics", "").body;
        assert!(metrics.contains(&format!("seawall_limit{{upstream=\"{upstream}\"}}")), "{metrics}");
    }
    gateway.command(&["block", "r"]);
    assert!((0..20).all(|_| gateway.get("/", "").field("x-seawall-reason") == "blocked"));
}

#[test]
fn a_block_and_a_quota_hold_however_the_path_is_spelt() {
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{}\"]\n[route.all]\nupstream = \"u\"\n\
         [route.orders]\npath = \"/orders/*\"\nupstream = \"u\"\n\
         throttle = [{{ per = \"route\", rate = \"1/h\", burst = 7 }}]\n",
        origin()
    );
    let file = config("spelt.toml", &file);
    let _ = std::fs::remove_file(format!("{file}.state"));
    let gateway = Gateway::start(&[&file]);
    let spellings = [
        "/orders/1",
        "//orders/1",
        "/x/../orders/1",
        "/./orders/1",
        "/%6frders/1",
        "/x/%2e%2e/orders/1",
        "http://h//orders/1",
    ];
    for spelling in &spellings[..6] {
        let answer = gateway.get(spelling, "");
        assert!(
            answer.body.starts_with(&format!("GET {spelling} HTTP")),
            "sent on as it came: {}",
            answer.body
        );
    }
    let whys = |wanted: &str| {
        for spelling in spellings {
            assert_eq!(gateway.get(spelling, "").field("x-seawall-reason"), wanted, "{spelling}");
        }
    };
    assert_eq!(gateway.get(spellings[6], "").status, 200);
    whys("throttled");
    gateway.command(&["block", "orders"]);
    whys("blocked");
    assert_eq!(gateway.get("/orders%2F1", "").status, 200);
}

#[test]
fn a_mirror_gets_copies_and_no_client_notices() {
    let (shadow, told) = telling(|number| if number == 0 { "500 Oops" } else { "200 OK" });
    let file = |share: &str| {
        format!(
            "[upstream.u]\nhosts = [\"http://{}\"]\n[upstream.shadow]\nhosts = [\"http://{shadow}\"]\n\
             [route.r]\nupstream = \"u\"\nmirror = {{ upstream = \"shadow\", share = \"{share}\" }}\n\
             retry = {{ max_body = \"8B\" }}\n",
            origin()
        )
    };
    let gateway = Gateway::start(&[&config("mirror.toml", &file("100%"))]);
    let answer = ask(&gateway.address, "GET", "/path?q=1", "host: a\r\nx-own: 1\r\n", "");
    assert!(answer.status == 200 && answer.body.starts_with("GET /path?q=1"), "{}", answer.body);
    let (head, _) = told.recv().unwrap();
    assert!(head.starts_with("get /path?q=1 ") && head.contains("x-own: 1"), "{head}");
    assert!(head.contains("x-seawall-mirror: r\r\n"), "{head}");
    await_counted(&gateway, "seawall_mirrored_total{route=\"r\",result=\"failed\"} 1");
    let settled = |gateway: &Gateway| {
        let of = |result| {
            let metrics = get(&gateway.admin, "/metrics", "").body;
            let prefix = format!("seawall_mirrored_total{{route=\"r\",result=\"{result}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
            line.unwrap().parse::<u64>().unwrap()
        };
        (of("answered"), of("skipped"))
    };
    assert_eq!(put(&gateway, "", "123456789").status, 200);
    while settled(&gateway).1 == 0 {}
    assert_eq!(settled(&gateway), (0, 1), "a body that is not kept is not copied");
    // Every second one, and a shadow that is gone is nobody's trouble.
    drop(told);
    let gateway = Gateway::start(&[&config("mirror-half.toml", &file("50%"))]);
    assert!((0..20).all(|_| gateway.get("/", "").status == 200));
    let all = || {
        let metrics = get(&gateway.admin, "/metrics", "").body;
        let counts = metrics.lines().filter(|line| line.starts_with("seawall_mirrored_total{route=\"r\""));
        counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    while all() < 10 {}
    assert_eq!(all(), 10);
    assert!(gateway.state().contains("\"availability\":1.0"), "{}", gateway.state());
}
