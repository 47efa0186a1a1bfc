//! The access log in JSON: an object for each answer that is over.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::harness::{Gateway, ask, config, origin, origin_saying, origin_that_says};

/// The next line of the log that is an object.
pub(crate) fn told(gateway: &Gateway) -> Value {
    let mut lines = gateway.log.iter();
    let line = lines.find(|line| line.starts_with('{')).unwrap();
    serde_json::from_str(&line).unwrap()
}

/// A gateway that logs all of its answers, whose upstream has this origin and whose one route has these lines.
fn logging(name: &str, origin: &str, route: &str) -> Gateway {
    let file = format!(
        "[log]\naccess = \"100%\"\nformat = \"json\"\n[upstream.u]\nhosts = [\"http://{origin}\"]\neject = false\n\
         [upstream.lite]\nhosts = [\"http://{}\"]\n[route.r]\npath = \"/r/*\"\nupstream = \"u\"\n{route}\n",
        crate::harness::origin()
    );
    Gateway::start(&[&config(name, &file)])
}

#[test]
fn everything_about_a_request_is_told() {
    let origin = origin();
    let gateway = logging("access.toml", &origin, "");
    let headers = "host: a.example\r\nuser-agent: curl/8\r\nx-request-id: id-7\r\nx-forwarded-for: 192.0.2.7\r\n\
                   traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let answer = ask(&gateway.address, "POST", "/r/x?secret=1", headers, "twelve bytes");
    let read = told(&gateway);
    let texts = [
        ("client", "192.0.2.7"),
        ("method", "POST"),
        ("host", "a.example"),
        ("path", "/r/x"),
        ("route", "r"),
        ("upstream", "u"),
        ("upstream_host", &origin),
        ("user_agent", "curl/8"),
        ("request_id", "id-7"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("protocol", "HTTP/1.1"),
    ];
    for (name, text) in texts {
        assert_eq!(read[name], text, "{read}");
    }
    let numbers = [("status", 200), ("attempts", 1), ("bytes_in", 12), ("bytes_out", answer.body.len())];
    for (name, number) in numbers {
        assert_eq!(read[name], number, "{name} of {read}");
    }
    for name in ["reason", "policy", "fallback", "tls"] {
        assert!(read[name].is_null(), "{name} of {read}");
    }
    assert_eq!(read["broken"], false, "{read}");
    let millis = |name: &str| read[name].as_f64().unwrap();
    assert!(millis("upstream_ms") > 0.0 && millis("upstream_ms") <= millis("ms"), "{read}");
}

#[test]
fn what_stands_in_and_what_was_tried_before_is_told() {
    let retry = "retry = { attempts = 3, backoff = { kind = \"none\" } }";
    let failing = origin_saying("503 Service Unavailable");
    let fixed = format!("{retry}\nfallback = [{{ status = 200, body = \"[]\" }}]");
    let gateway = logging("access-fixed.toml", &failing, &fixed);
    assert_eq!(gateway.get("/r/", "").body, "[]");
    let read = told(&gateway);
    assert_eq!((&read["fallback"], &read["upstream"]), (&Value::from("fixed"), &Value::from("u")), "{read}");
    assert!(read["attempts"].as_u64() > Some(0) && read["bytes_out"] == 2, "{read}");
    let cheaper = format!("{retry}\nfallback = [{{ upstream = \"lite\" }}]");
    let gateway = logging("access-cheaper.toml", &failing, &cheaper);
    assert_eq!(gateway.get("/r/", "").status, 200);
    let read = told(&gateway);
    assert_eq!(
        (&read["fallback"], &read["upstream"]),
        (&Value::from("cheaper"), &Value::from("lite")),
        "{read}"
    );
    assert_ne!(read["upstream_host"], failing.as_str());
}

#[test]
fn what_no_upstream_saw_is_told_too() {
    let gateway = logging("access-refused.toml", &origin(), "throttle = [{ rate = \"1/h\" }]");
    assert_eq!([gateway.get("/r/", "").status, gateway.get("/r/", "").status], [200, 429]);
    assert_eq!(told(&gateway)["status"], 200);
    let read = told(&gateway);
    let (reason, policy) = (&read["reason"], &read["policy"]);
    assert_eq!((reason, policy), (&Value::from("throttled"), &Value::from("user")), "{read}");
    assert!(read["attempts"] == 0 && read["upstream"].is_null() && read["upstream_ms"].is_null(), "{read}");
    assert_eq!(gateway.get("/none", "").status, 404);
    let read = told(&gateway);
    assert!(read["status"] == 404 && read["reason"] == "no_route" && read["route"].is_null(), "{read}");
}

#[test]
fn what_cannot_be_read_as_a_request_is_told_too() {
    let gateway = logging("access-unread.toml", &origin(), "");
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nno field\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let read = told(&gateway);
    assert_eq!((&read["client"], &read["status"]), (&"127.0.0.1".into(), &400.into()), "{read}");
    assert_eq!((&read["reason"], &read["method"]), (&"malformed".into(), &Value::Null), "{read}");
}

#[test]
fn a_line_is_one_line_whatever_is_sent() {
    let gateway = logging("access-injection.toml", &origin(), "");
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    stream.write_all(b"GET /r/%0a%0d{\"a\":1} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n").unwrap();
    stream.write_all(b"user-agent: \xc2\x9b31m\xe2\x80\xa8\"}\\\t\xff\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    let line = gateway.log.iter().find(|line| line.starts_with('{')).unwrap();
    assert!(!line.chars().any(|c| c.is_control() || c == '\u{2028}'), "{line}");
    let read: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(read["user_agent"], "\u{9b}31m\u{2028}\"}\\\t\u{fffd}");
}

#[test]
fn an_answer_that_its_upstream_breaks_off_is_told_as_broken() {
    let breaking = origin_that_says("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nfour");
    let gateway = logging("access-broken.toml", &breaking, "");
    assert!(gateway.get("/r/", "").body.ends_with("four"));
    let read = told(&gateway);
    assert_eq!((&read["status"], &read["bytes_out"]), (&200.into(), &4.into()), "{read}");
    assert_eq!(read["broken"], true, "{read}");
}

#[test]
fn only_the_share_that_was_asked_for_is_told() {
    let file = format!(
        "[log]\nrefusals = \"100%\"\nformat = \"json\"\n[upstream.u]\nhosts = [\"http://{}\"]\n[route.r]\nupstream = \"u\"\n\
         throttle = [{{ rate = \"1/h\", burst = 3 }}]\n",
        origin()
    );
    let gateway = Gateway::start(&[&config("access-share.toml", &file)]);
    let statuses: Vec<u16> = (0..4).map(|_| gateway.get("/", "").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(told(&gateway)["status"], 429, "and none before");
}
