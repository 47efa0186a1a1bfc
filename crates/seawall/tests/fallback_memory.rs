//! What a fallback keeps of an answer is its own, and weighs what it takes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use seawall::core::fallback::{Chain, Step, store};
use seawall::core::request::{self, Key};
use seawall::core::time::{Span, Time};
use seawall::fallback::{Cache, Dimmer, FallbackLayer};
use seawall::http::fallback::{Copy, HttpFallback, Resource, Settings};
use tower::{Layer as _, ServiceExt as _, service_fn};

type Of = fn(Time, &Request<Full<Bytes>>) -> request::Request;
type Layer = FallbackLayer<HttpFallback<Of, ()>, Resource, Arc<Copy>>;

/// As much as a connection reads at a time.
const READ: usize = 8 << 10;

/// What a connection has read, which lives as long as any slice of it.
struct Reading(Arc<[u8]>);

impl AsRef<[u8]> for Reading {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What connections read, by their slices.
#[derive(Clone, Default)]
struct Readings(Arc<Mutex<Vec<Weak<[u8]>>>>);

impl Readings {
    /// This text, as a slice of what was read with it.
    fn slice(&self, text: &str) -> Bytes {
        let mut read = text.as_bytes().to_vec();
        read.resize(READ.max(text.len()), 0);
        let read = Arc::from(read);
        self.0.lock().unwrap().push(Arc::downgrade(&read));
        Bytes::from_owner(Reading(read)).slice(..text.len())
    }

    fn value(&self, text: &str) -> HeaderValue {
        HeaderValue::from_maybe_shared(self.slice(text)).unwrap()
    }

    fn held(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|read| read.strong_count() > 0).count()
    }
}

type Fields = [(&'static str, &'static str)];

fn layer() -> Layer {
    let chain = Chain::new(vec![Step::Stale(Span::from_secs(300))]).unwrap();
    let cache = Cache::new(store::Config::default(), chain.window());
    let of = |_: Time, _: &Request<Full<Bytes>>| request::Request::new(Key(1));
    let seen = HttpFallback::new(of as Of, Settings::default(), (), vec![]);
    FallbackLayer::new(chain, cache, Dimmer::new(), seen)
}

/// Asks an origin, and reads the answer to its end. The answer has these fields and this body, all of them slices of
/// what was read; it is 304 without a body to who has it.
async fn ask(
    layer: &Layer,
    request: Request<Full<Bytes>>,
    readings: &Readings,
    fields: &Fields,
    body: &str,
) -> (StatusCode, Bytes) {
    let (readings, fields, body) = (readings.clone(), fields.to_vec(), body.to_owned());
    let origin = service_fn(move |request: Request<Full<Bytes>>| {
        let has_it = request.headers().contains_key("if-none-match");
        let mut response =
            Response::new(Full::new(if has_it { Bytes::new() } else { readings.slice(&body) }));
        if has_it {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        for (name, value) in &fields {
            response.headers_mut().append(*name, readings.value(value));
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let response = layer.layer(origin).oneshot(request).await.unwrap();
    (response.status(), response.into_body().collect().await.unwrap().to_bytes())
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "example.org").body(Full::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_holds_nothing_that_a_connection_has_read() {
    let (layer, readings) = (layer(), Readings::default());
    let fields = [("cache-control", "max-age=60"), ("vary", "accept"), ("etag", "\"1\"")];
    let request = || {
        let mut request = get("/");
        request.headers_mut().insert("accept", readings.value("text/plain"));
        request
    };
    for _ in 0..2 {
        // Anew or confirmed, then from the cache.
        for _ in 0..2 {
            let (status, body) = ask(&layer, request(), &readings, &fields, "kept").await;
            assert_eq!((status, &body[..]), (StatusCode::OK, &b"kept"[..]));
            drop(body);
            assert_eq!(readings.held(), 0);
        }
        tokio::time::advance(std::time::Duration::from_secs(61)).await;
    }
    // One for each request, four for the answer, three for what confirmed it.
    assert_eq!(readings.0.lock().unwrap().len(), 4 + 4 + 3);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_is_remembered_without_what_a_connection_has_read() {
    let (layer, readings) = (layer(), Readings::default());
    for control in ["max-age=60", "no-store"] {
        for accept in ["text/plain", "text/html"] {
            let mut request = get("/");
            let accept = format!("{accept};{control}");
            request.headers_mut().insert("accept", readings.value(&accept));
            let fields = [("cache-control", control), ("vary", "accept")];
            ask(&layer, request, &readings, &fields, "text").await;
            assert_eq!(readings.held(), 0, "{control}");
        }
    }
}

/// How many bytes of the heap a cache takes that is full of such answers, for each one that it counts.
fn taken_for_counted(fields: &Fields, body: &str) -> f64 {
    const ANSWERS: u32 = 100;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let (runtime, layer, readings) = (runtime.unwrap(), layer(), Readings::default());
    let fill = || {
        for number in 0..ANSWERS {
            // Anew, then from the cache.
            for _ in 0..2 {
                let request = get(&format!("/orders/{number}"));
                runtime.block_on(ask(&layer, request, &readings, fields, body));
            }
            readings.0.lock().unwrap().retain(|read| read.strong_count() > 0);
        }
    };
    let taken = allocation_counter::measure(fill).bytes_current as f64;
    let snapshot = layer.cache().snapshot();
    assert_eq!(snapshot.entries, u64::from(ANSWERS));
    taken / snapshot.bytes as f64
}

#[test]
fn what_is_kept_weighs_what_it_takes() {
    let marked = ("cache-control", "max-age=60");
    let few = [marked];
    let usual = [marked, ("content-type", "text/plain"), ("content-length", "10"), ("date", "today")];
    let custom = [marked, ("x-one", "1"), ("x-two", "2"), ("x-three", "3"), ("x-four", "4"), ("x-five", "5")];
    let repeated: Vec<_> = std::iter::once(marked).chain((0..50).map(|_| ("link", "<a>"))).collect();
    for fields in [&few[..], &usual, &custom, &repeated] {
        for body in ["", "ten bytes.", &"a".repeat(10_000)] {
            let ratio = taken_for_counted(fields, body);
            assert!(
                (0.5..=1.1).contains(&ratio),
                "{ratio} for {} fields, {} bytes",
                fields.len(),
                body.len()
            );
        }
    }
}
