//! Fields of requests and responses: what they say is bounded, and who the client is cannot be forged.
#![no_main]
#![allow(dead_code)]

#[path = "../../crates/seawall-gateway/src/proxy/headers/mod.rs"]
mod headers;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use libfuzzer_sys::fuzz_target;
use seawall::core::fallback::{Chain, Step, store};
use seawall::core::request::{self, Key};
use seawall::core::time::{Span, Time};
use seawall::fallback::{Cache, Dimmer, FallbackLayer};
use seawall::http::fallback::{HttpFallback, NOT_KEPT, Replayed, Settings};
use seawall::http::{grpc, retry_after};
use tower_layer::Layer as _;
use tower_service::Service;

const NAMES: [&str; 14] = [
    "x-forwarded-for",
    "forwarded",
    "connection",
    "te",
    "upgrade",
    "retry-after",
    "grpc-timeout",
    "grpc-retry-pushback-ms",
    "cache-control",
    "vary",
    "age",
    "expires",
    "content-length",
    "transfer-encoding",
];

/// A line each: the number of its name, then its value.
fn fields(bytes: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        if let Some((number, value)) = line.split_first()
            && let Ok(value) = HeaderValue::from_bytes(value)
        {
            let name = NAMES[usize::from(*number) % NAMES.len()];
            fields.append(HeaderName::from_static(name), value);
        }
    }
    fields
}

fuzz_target!(|bytes: &[u8]| {
    let fields = fields(bytes);
    let client = headers::Client::at(SocketAddr::from(([203, 0, 113, 7], 50_000)));
    assert_eq!(headers::client_address(&client, &fields, &[]), client.ip());
    let everybody = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    headers::client_address(&client, &fields, &everybody);
    let mut told = fields.clone();
    headers::strip_told(&mut told, false);
    assert!(!told.contains_key("x-envoy-max-retries"));
    let mut stripped = fields.clone();
    headers::strip_hop_by_hop(&mut stripped);
    assert!(!stripped.contains_key("connection") && !stripped.contains_key("upgrade"));
    let mut framed = fields.clone();
    let is_clear = headers::strip_framing(StatusCode::OK, &mut framed).is_ok();
    assert!(!is_clear || !framed.contains_key("content-length") || !framed.contains_key("transfer-encoding"));
    let mut trailers = fields.clone();
    headers::strip_trailers(&mut trailers);
    assert!(!trailers.contains_key("x-forwarded-for") && !trailers.contains_key("te"));
    let _ = headers::upgrade(&fields);
    let _ = (retry_after(&fields), grpc::timeout(&fields), grpc::push_back(&fields));

    let response = ask(&fields);
    let is_unkept = response.headers().get("x-seawall-reason").is_some_and(|reason| reason == NOT_KEPT);
    assert!(response.status().is_success() || is_unkept, "{response:?}");
});

/// Asks three times through a fallback: what the first answer says decides whether it is kept for the next, and whether
/// the origin is asked to confirm it.
fn ask(fields: &HeaderMap) -> Response<Replayed<Full<Bytes>>> {
    let of = |now: Time, _: &Request<Full<Bytes>>| request::Request {
        deadline: now + Span::from_secs(1),
        ..request::Request::new(Key(1))
    };
    let chain = Chain::new(vec![Step::Stale(Span::from_secs(300))]).expect("one step");
    let cache = Cache::new(store::Config::default(), chain.window());
    let seen = HttpFallback::new(of, Settings::default(), (), Vec::new());
    let mut layer = FallbackLayer::new(chain, cache, Dimmer::new(), seen).layer(Origin(fields.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let mut last = None;
        for _ in 0..3 {
            let mut asking = Request::new(Full::default());
            *asking.headers_mut() = fields.clone();
            let Ok(response) = layer.call(asking).await;
            last = Some(response);
        }
        last.expect("three were asked")
    })
}

/// Answers with these fields, and by them alone to whoever has the answer already.
#[derive(Clone)]
struct Origin(HeaderMap);

impl Service<Request<Full<Bytes>>> for Origin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let mut response = Response::new(Full::new(Bytes::from_static(b"ok")));
        *response.headers_mut() = self.0.clone();
        response.headers_mut().insert(ETAG, HeaderValue::from_static("\"1\""));
        if request.headers().contains_key(IF_NONE_MATCH) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Full::default();
        }
        std::future::ready(Ok(response))
    }
}
