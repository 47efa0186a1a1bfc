//! A request as the access log tells it in JSON: an object on a line of its own, told when its answer is over.
//!
//! **Edges.** Whatever a client or an upstream sends is cut at a length, and no control character of it
//! reaches the log as it is: a line is one line, and does nothing to a terminal. Every object has every name; what is
//! not known is `null`.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::{HeaderMap, HeaderName, Request, StatusCode, Version, header};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::super::greeting::Secure;
use super::super::outbound::Outbound;
use super::Answered;
use crate::logs;

/// The longest path, in bytes.
const PATH_MAX: usize = 1_024;
/// The longest of all other texts, in bytes.
const TEXT_MAX: usize = 256;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What becomes of a request on its way; in its extensions where somebody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    bytes: AtomicU64,
    attempts: AtomicU32,
    micros: AtomicU64,
    asked: Mutex<Asked>,
}

/// Who was asked last, and why an attempt failed last.
#[derive(Clone, Debug, Default)]
struct Asked {
    upstream: Option<String>,
    host: Option<String>,
    cause: Option<String>,
}

/// An attempt that goes on: adds its time when it is dropped.
pub(crate) struct Trying {
    trail: Arc<Trail>,
    begun: Instant,
}

impl Drop for Trying {
    fn drop(&mut self) {
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.trail.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Trail {
    fn asked(&self, note: impl FnOnce(&mut Asked)) {
        note(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// So many bytes of its body have come.
    pub(crate) fn came(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// It is to be answered by this upstream.
    pub(crate) fn leads_to(&self, upstream: &str) {
        self.asked(|asked| asked.upstream = Some(upstream.to_owned()));
    }

    /// It is sent to this host.
    pub(crate) fn tries(self: &Arc<Trail>, host: &str) -> Trying {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.asked(|asked| asked.host = Some(host.to_owned()));
        Trying { trail: self.clone(), begun: Instant::now() }
    }

    /// A host did not answer, for this cause.
    pub(crate) fn failed(&self, cause: String) {
        self.asked(|asked| asked.cause = Some(cause));
    }
}

/// What is known of a request when it comes.
pub(crate) struct Record {
    time: String,
    began: Instant,
    client: IpAddr,
    method: Option<String>,
    host: Option<String>,
    path: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
    trace_id: Option<String>,
    protocol: Option<&'static str>,
    tls: Option<&'static str>,
    trail: Arc<Trail>,
}

impl Record {
    /// A request has come from this client.
    pub(super) fn of<B>(client: IpAddr, request: &Request<B>) -> Record {
        let field = |name| field(request.headers(), &name);
        let authority = request.uri().authority().map(|authority| bounded(authority.as_str(), TEXT_MAX));
        Record {
            method: Some(bounded(request.method().as_str(), TEXT_MAX)),
            host: authority.or_else(|| field(header::HOST)),
            path: Some(bounded(request.uri().path(), PATH_MAX)),
            user_agent: field(header::USER_AGENT),
            request_id: field(REQUEST_ID),
            protocol: Some(match request.version() {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            }),
            tls: request.extensions().get::<Secure>().map(|secure| secure.0),
            ..Record::unread(client)
        }
    }

    /// Something has come from this client that cannot be read as a request.
    pub(super) fn unread(client: IpAddr) -> Record {
        let mut time = String::new();
        // Writing to a string cannot fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        Record {
            time,
            began: Instant::now(),
            client,
            method: None,
            host: None,
            path: None,
            user_agent: None,
            request_id: None,
            trace_id: None,
            protocol: None,
            tls: None,
            trail: Arc::default(),
        }
    }

    /// It is sent on its way like this.
    pub(super) fn follow(&mut self, request: &mut Request<Outbound>) {
        let parent = field(request.headers(), &TRACEPARENT);
        self.trace_id = parent.and_then(|parent| Some(parent.split('-').nth(1)?.to_owned()));
        request.body_mut().count(&self.trail);
        request.extensions_mut().insert(self.trail.clone());
    }

    /// It is answered like this; told when what this returns is dropped.
    pub(super) fn answered(self: Box<Record>, answered: &Answered<'_>) -> Line {
        let own = |text: Option<&str>| text.map(|text| bounded(text, TEXT_MAX));
        Line {
            record: self,
            route: own(answered.route),
            status: answered.status,
            reason: own(answered.reason),
            policy: own(answered.policy),
            source: answered.source,
            bytes: 0,
            is_broken: false,
        }
    }
}

/// An answer that is on its way.
pub(crate) struct Line {
    record: Box<Record>,
    route: Option<String>,
    status: StatusCode,
    reason: Option<String>,
    policy: Option<String>,
    source: Option<&'static str>,
    bytes: u64,
    is_broken: bool,
}

impl Line {
    /// So many bytes of its body were passed on.
    pub(crate) fn went(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Its body broke off, or was cut off because its upstream fell silent.
    pub(crate) fn broke(&mut self) {
        self.is_broken = true;
    }

    fn text(&self) -> String {
        let Record { trail, .. } = &*self.record;
        let asked = trail.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Asked { upstream, host, cause } = asked;
        let attempts = trail.attempts.load(Ordering::Relaxed);
        let upstream_ms = trail.micros.load(Ordering::Relaxed) as f64 / 1e3;
        let ms = self.record.began.elapsed().as_micros() as f64 / 1e3;
        let mut object = Object::default();
        object.text("time", Some(&self.record.time));
        object.text("client", Some(&self.record.client.to_string()));
        object.text("method", self.record.method.as_deref());
        object.text("host", self.record.host.as_deref());
        object.text("path", self.record.path.as_deref());
        object.text("route", self.route.as_deref());
        object.text("upstream", upstream.as_deref());
        object.text("upstream_host", host.as_deref());
        object.number("status", Some(self.status.as_u16()));
        object.text("reason", self.reason.as_deref());
        object.text("cause", cause.map(|cause| bounded(&cause, TEXT_MAX)).as_deref());
        object.text("policy", self.policy.as_deref());
        object.number("attempts", Some(attempts));
        object.text("fallback", self.source);
        object.number("bytes_in", Some(trail.bytes.load(Ordering::Relaxed)));
        object.number("bytes_out", Some(self.bytes));
        object.flag("broken", self.is_broken);
        object.number("ms", Some(ms));
        object.number("upstream_ms", (attempts > 0).then_some(upstream_ms));
        object.text("user_agent", self.record.user_agent.as_deref());
        object.text("request_id", self.record.request_id.as_deref());
        object.text("trace_id", self.record.trace_id.as_deref());
        object.text("protocol", self.record.protocol);
        object.text("tls", self.record.tls);
        object.line()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        logs::line(&self.text());
    }
}

/// The first value of a field, cut to its length.
fn field(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.as_bytes();
    // A character is four bytes at most, and what is cut is cut once more.
    let value = &value[..value.len().min(TEXT_MAX + 4)];
    Some(bounded(&String::from_utf8_lossy(value), TEXT_MAX))
}

/// A text of at most so many bytes; one that was cut ends in `…`.
fn bounded(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// A JSON object that is written name by name.
#[derive(Default)]
struct Object(String);

impl Object {
    fn name(&mut self, name: &str) {
        let before = if self.0.is_empty() { '{' } else { ',' };
        _ = write!(self.0, "{before}\"{name}\":");
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        self.name(name);
        let Some(value) = value else { return self.0.push_str("null") };
        self.0.push('"');
        for character in value.chars() {
            match character {
                '"' | '\\' => self.0.extend(['\\', character]),
                // The last two end a line for some who read.
                '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' => {
                    _ = write!(self.0, "\\u{:04x}", u32::from(character));
                }
                other => self.0.push(other),
            }
        }
        self.0.push('"');
    }

    fn number(&mut self, name: &str, value: Option<impl Display>) {
        self.name(name);
        match value {
            Some(value) => _ = write!(self.0, "{value}"),
            None => self.0.push_str("null"),
        }
    }

    fn flag(&mut self, name: &str, is_so: bool) {
        self.name(name);
        _ = write!(self.0, "{is_so}");
    }

    fn line(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::Value;

    use super::*;

    fn line(request: &Request<()>) -> Line {
        let answered = Answered {
            route: Some("r"),
            status: StatusCode::OK,
            reason: None,
            policy: Some("a\u{85}b"),
            source: Some("stale"),
        };
        Box::new(Record::of(IpAddr::from([192, 0, 2, 7]), request)).answered(&answered)
    }

    #[test]
    fn nothing_that_is_sent_ends_the_line_or_speaks_to_a_terminal() {
        let mut request = Request::new(());
        request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("a\"b\\\t"));
        request
            .headers_mut()
            .insert(REQUEST_ID, HeaderValue::from_bytes(b"\xc2\x9b31m\xe2\x80\xa8\xff").unwrap());
        let text = line(&request).text();
        let (object, rest) = text.split_once('\n').unwrap();
        assert_eq!(rest, "");
        assert!(!object.chars().any(|c| c.is_control() || c == '\u{2028}'), "{object}");
        let read: Value = serde_json::from_str(object).unwrap();
        assert_eq!(read["user_agent"], "a\"b\\\t");
        assert_eq!(read["request_id"], "\u{9b}31m\u{2028}\u{fffd}");
        assert_eq!((&read["policy"], &read["reason"]), (&Value::from("a\u{85}b"), &Value::Null));
    }

    #[test]
    fn nothing_that_is_sent_makes_a_line_long() {
        let long = "\u{9b}".repeat(30_000);
        let uri = format!("http://{}/{}", "h".repeat(20_000), "p".repeat(30_000));
        let mut request = Request::builder().uri(uri).method("M".repeat(9_000).as_str()).body(()).unwrap();
        for name in [header::USER_AGENT, REQUEST_ID] {
            request.headers_mut().insert(name, HeaderValue::from_bytes(long.as_bytes()).unwrap());
        }
        let text = line(&request).text();
        assert!(text.len() < 8_000, "{}", text.len());
        let read: Value = serde_json::from_str(&text).unwrap();
        assert!(read["path"].as_str().unwrap().ends_with("p…"));
        assert!(read["user_agent"].as_str().unwrap().ends_with("\u{9b}…"), "{}", read["user_agent"]);
    }

    #[test]
    fn what_is_not_known_is_null() {
        let read: Value = serde_json::from_str(&line(&Request::new(())).text()).unwrap();
        for name in ["host", "upstream", "upstream_host", "upstream_ms", "trace_id", "tls"] {
            assert_eq!(read.get(name), Some(&Value::Null), "{name}");
        }
        assert_eq!((&read["attempts"], &read["protocol"]), (&Value::from(0), &Value::from("HTTP/1.1")));
        assert!(read["time"].as_str().unwrap().ends_with('Z'), "{read}");
    }
}
