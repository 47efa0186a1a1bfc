//! Fallback for HTTP: a cache that many share, as RFC 9111 and RFC 5861 have it, and fixed answers.
//!
//! **Mechanics.** Answers to GET and HEAD are kept when they say how long they are fresh, or when the
//! route says so for those that do not ([`Settings::unmarked`]). The key is method, scheme, authority, path,
//! query, and the fields that `Vary` names. An answer is read whole before it is passed on, so that a
//! slow client does not hold up those who wait for it; what is larger than [`Settings::body_max`]
//! streams through and is not kept. A kept answer carries `Age` and `Cache-Status` (RFC 9211).
//!
//! What is kept with an `ETag` or `Last-Modified` is not fetched again when its freshness has ended: the
//! upstream is asked whether it is still right, and a 304 makes it as good as new. It stays for that,
//! until its room is needed, also when it may no longer be used. A request says which kept answers it
//! takes by `max-age`, `min-fresh`, `max-stale`, `no-cache` and `only-if-cached`, for which the answer is 504
//! when none is there.
//!
//! **Edges.** Never kept: `private`, `no-store`, `no-cache` without an `ETag` or `Last-Modified`, answers with
//! `Set-Cookie`, with `Vary: *` or with trailers, and answers to requests with `Authorization` unless
//! they are `public` or have an `s-maxage`. `must-revalidate`, `proxy-revalidate`, `no-cache` and `s-maxage`
//! forbid stale use, in an outage too, and whatever the request takes. A request with `Range` or `If-Match`
//! goes around the cache; one with `If-None-Match` or `If-Modified-Since` is compared with what is kept. A
//! confirmation is believed, but its `ETag` and what it says of the body's form are not taken over. Only safe methods without a body fall back at all:
//! a fixed answer to a POST would say that something was done. What such a request changes is
//! forgotten, and with it what `Location` and `Content-Location` of its answer name on the same host. An answer
//! whose `Age` cannot be read is as old as can be. Of two schemes on one host, as `X-Forwarded-Proto` says, each has its
//! own answers.
//!
//! ```
//! use seawall::core::fallback::{Chain, Step, store};
//! use seawall::core::request::{self, Key};
//! use seawall::core::time::{Span, Time};
//! use seawall::fallback::{Cache, Dimmer, FallbackLayer};
//! use seawall::http::fallback::{Fixed, HttpFallback, Settings};
//! # use http::{HeaderMap, Request, Response, StatusCode};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let chain = Chain::new(vec![Step::Stale(Span::from_secs(300)), Step::Static(0)]).unwrap();
//! let fixed = Fixed { status: StatusCode::OK, headers: HeaderMap::new(), body: "[]".into() };
//! let of = |_: Time, _: &Request<http_body_util::Full<bytes::Bytes>>| request::Request::new(Key(1));
//! let seen = HttpFallback::new(of, Settings::default(), (), vec![fixed]);
//! let cache = Cache::new(store::Config::default(), chain.window());
//! let layer = FallbackLayer::new(chain, cache, Dimmer::new(), seen);
//!
//! let orders = layer.layer(service_fn(async |_request| {
//!     let mut response = Response::new(http_body_util::Full::new(bytes::Bytes::new()));
//!     *response.status_mut() = StatusCode::BAD_GATEWAY;
//!     Ok::<_, std::convert::Infallible>(response)
//! }));
//! let response = orders.oneshot(Request::default()).await.unwrap();
//! assert_eq!(response.status(), StatusCode::OK);
//! assert_eq!(response.headers()["x-seawall-fallback"], "fixed");
//! # });
//! ```

mod address;
mod body;
mod control;
mod read;
mod validate;
mod weight;

use std::future::{Future, poll_fn};
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ::http::header::{AGE, CONTENT_LENGTH, CONTENT_LOCATION, IF_MODIFIED_SINCE, IF_NONE_MATCH, LOCATION};
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use bytes::Bytes;
use http_body::{Body, Frame};
use seawall_core::fallback::Freshness;
use seawall_core::fallback::store::{self, Fill, Kept};
use seawall_core::fallback::{Store, Trouble, Use, is_error};
use seawall_core::gate::Own as _;
use seawall_core::request;
use seawall_core::request::Key;
use seawall_core::time::{Span, Time};
use tower_service::Service;

pub use body::Replayed;

use crate::clock::now;
use crate::fallback::{Adapter, Left, Seek, Sending, Source, Taken, Terms};
use crate::identity::UserKeys;
use crate::threads::Locks;
use address::Address;
use control::Control;
use read::{Read, read};
use validate::{conditional, kept_fields, owned};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const FALLBACK: HeaderName = HeaderName::from_static("x-seawall-fallback");
const REASON: HeaderName = HeaderName::from_static("x-seawall-reason");
/// In `x-seawall-reason`: the request takes only what is kept (`only-if-cached`), and that is nothing.
pub const NOT_KEPT: &str = "not_kept";
/// Consecutive multiples of it, in parts of 2^64, are far apart (the golden ratio).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// How long the head of an answer waits for its body, which is kept only as a whole.
const READING: Span = Span::from_secs(1);

/// What is kept, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The largest body that is kept, in bytes; default 256 KiB.
    pub body_max: u64,
    /// How long a 200 is fresh that says nothing about it, where the request has neither
    /// `Authorization` nor `Cookie` nor any of `personal`; zero keeps it for errors alone. Default `None`: it is
    /// not kept.
    pub unmarked: Option<Span>,
    /// The fields that say who is asking, besides those two; default none.
    pub personal: Vec<HeaderName>,
    /// The most addresses whose `Vary` is remembered; default 10 000.
    pub addresses: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { body_max: 256 << 10, unmarked: None, personal: Vec::new(), addresses: 10_000 }
    }
}

/// A fixed answer.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, such as `Content-Type`.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// Where an answer came from, in the extensions of a response that is not the upstream's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served(pub Source);

/// What tells answers apart: method, authority, path, query and the fields that vary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    address: Arc<Address>,
    method: Method,
    varying: Box<[(HeaderName, Option<HeaderValue>)]>,
    /// Changes of the address that are known: what was kept before the last one is out of reach, and
    /// the first that the store evicts.
    changes: u64,
}

/// What is known of an address.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The fields that tell its answers apart.
    names: Arc<[HeaderName]>,
    changes: u64,
}

impl Resource {
    fn new<B>(request: &Request<B>, address: Arc<Address>, known: &Known) -> Resource {
        let field = |name: &HeaderName| (name.clone(), joined(request.headers(), name));
        let varying = match &*known.names {
            [] => Box::default(),
            names => names.iter().map(field).collect(),
        };
        Resource { address, method: request.method().clone(), varying, changes: known.changes }
    }
}

/// Mostly a single number: the hash of the address has a secret, and a changed address is as good as another.
/// What few addresses have several of costs no more than a comparison, such as methods.
impl Hash for Resource {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.address.hash.0.wrapping_add(self.changes.wrapping_mul(SPREAD)));
        if !self.varying.is_empty() {
            self.varying.hash(state);
        }
    }
}

/// All values of a field as one, as a list field means it, in memory of its own.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if headers.get_all(name).iter().count() == 1 {
        return Some(owned(first));
    }
    let all: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&all.join(&b", "[..])).ok()
}

/// What became of an answer.
type TakenIn<RB> = Taken<Resource, Arc<Copy>, Response<Replayed<RB>>>;

/// An answer that is being read.
type Reading<'a, RB> = Pin<Box<dyn Future<Output = TakenIn<RB>> + Send + 'a>>;

/// A kept answer, whole, in memory of its own.
#[derive(Debug)]
pub struct Copy {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// Cheaper handlers, by their place.
pub trait Handlers<Req, Res, Err>: Clone {
    /// Asks the one at this place; `None` when there is none.
    fn ask(&self, place: u8, request: Req) -> Option<impl Future<Output = Result<Res, Err>> + Send>;
}

impl<Req, Res: Send, Err: Send> Handlers<Req, Res, Err> for () {
    fn ask(&self, _: u8, _: Req) -> Option<impl Future<Output = Result<Res, Err>> + Send> {
        None::<std::future::Ready<Result<Res, Err>>>
    }
}

impl<Req, S> Handlers<Req, S::Response, S::Error> for Vec<S>
where
    S: Service<Req> + Clone + Send,
    S::Future: Send,
    Req: Send,
{
    fn ask(
        &self,
        place: u8,
        request: Req,
    ) -> Option<impl Future<Output = Result<S::Response, S::Error>> + Send> {
        let mut service = self.get(usize::from(place))?.clone();
        Some(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(request).await
        })
    }
}

/// Sees HTTP: `of` says what the policies may know of a request, `handlers` are the cheaper ones: a
/// vector of services, or `()` for none.
pub struct HttpFallback<F, H> {
    of: F,
    handlers: H,
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    fixed: Vec<Fixed>,
    known: Locks<Store<Arc<Address>, Known, ()>>,
    /// Whether there is anything in it: mostly nothing varies, and nothing changed.
    knows: AtomicBool,
    too_large: AtomicU64,
    keys: UserKeys,
}

impl<F: Clone, H: Clone> Clone for HttpFallback<F, H> {
    fn clone(&self) -> HttpFallback<F, H> {
        HttpFallback { of: self.of.clone(), handlers: self.handlers.clone(), shared: self.shared.clone() }
    }
}

impl<F, H> HttpFallback<F, H> {
    /// Requests seen through `of`, with these cheaper handlers and fixed answers.
    pub fn new(of: F, settings: Settings, handlers: H, fixed: Vec<Fixed>) -> HttpFallback<F, H> {
        let config = store::Config { entries: settings.addresses, ..store::Config::default() };
        let known = Locks::own(vec![Store::new(config)]);
        HttpFallback {
            of,
            handlers,
            shared: Arc::new(Shared {
                settings,
                fixed,
                known,
                knows: AtomicBool::new(false),
                too_large: AtomicU64::new(0),
                keys: UserKeys::new(),
            }),
        }
    }
}

impl<F, H> HttpFallback<F, H> {
    /// What becomes of an answer that is passed on as it is; `None` when there is more to do with it, because it is
    /// an error or to be kept.
    pub fn leaves<B, RB: Body>(&self, request: &Request<B>, response: &Response<RB>) -> Option<Left> {
        if is_error(response.status().as_u16()) {
            return None;
        }
        self.shared.keeps(request.headers(), response).err()
    }

    /// How many answers were not kept because their body is larger than [`Settings::body_max`].
    pub fn too_large(&self) -> u64 {
        self.shared.too_large.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn address<B>(&self, request: &Request<B>) -> Arc<Address> {
        Arc::new(Address::of(request, &self.keys))
    }

    fn known(&self, now: Time, address: &Arc<Address>) -> Known {
        if !self.knows.load(Ordering::Acquire) {
            return Known::default();
        }
        let kept = self.known.with(Key(0), |known| known.kept(now, address.hash, address, Span::MAX));
        kept.map_or_else(Known::default, |kept| kept.value)
    }

    fn learn(&self, now: Time, address: &Arc<Address>, value: Known) {
        let hash = address.hash;
        let freshness = Freshness::for_span(Span::MAX);
        let bytes = 64 + address.text.len() as u64;
        self.known.with(Key(0), |known| {
            let errand = known.ask_alone(now, hash, address.clone());
            known.fill(now, errand, Fill { value, bytes, age: Span::ZERO, freshness, confirmable: false });
        });
        self.knows.store(true, Ordering::Release);
    }

    /// What is kept of this address is older than what it has now.
    fn change(&self, address: &Arc<Address>) {
        let now = now();
        let known = self.known(now, address);
        self.learn(now, address, Known { changes: known.changes + 1, ..known });
    }

    fn key<B>(&self, now: Time, request: &Request<B>) -> Resource {
        let address = self.address(request);
        let known = self.known(now, &address);
        Resource::new(request, address, &known)
    }

    /// How long an answer to this request is fresh that does not say.
    fn unmarked(&self, request: &HeaderMap) -> Option<Span> {
        let is_personal = || self.settings.personal.iter().any(|name| request.contains_key(name));
        self.settings.unmarked.filter(|_| !is_personal())
    }

    /// Whether an ordinary answer to this request is to be kept, as its head says: how long, and what tells it from
    /// others.
    fn keeps<RB: Body>(
        &self,
        request: &HeaderMap,
        response: &Response<RB>,
    ) -> Result<(Freshness, Vec<HeaderName>), Left> {
        let kept = control::keeps(request, response, self.unmarked(request))?;
        if response.body().size_hint().lower() <= self.settings.body_max {
            return Ok(kept);
        }
        self.too_large.fetch_add(1, Ordering::Relaxed);
        Err(Left::Apart)
    }

    /// Takes an answer in. Most are not kept, which their head says: only one that is read is worth an
    /// allocation.
    fn take<'a, B: Sync, RB>(
        &'a self,
        request: &'a Request<B>,
        sought: &'a Resource,
        held: Option<Kept<Arc<Copy>>>,
        response: Response<RB>,
        until: Time,
    ) -> Result<TakenIn<RB>, Reading<'a, RB>>
    where
        RB: Body<Data = Bytes> + Send + 'static,
        RB::Error: Send,
    {
        if let (StatusCode::NOT_MODIFIED, Some(held)) = (response.status(), held) {
            return Err(Box::pin(self.confirmed(request, sought, held, response, until)));
        }
        let (freshness, names) = match self.keeps(request.headers(), &response) {
            Ok(kept) => kept,
            Err(Left::Apart) => return Ok(Taken::Apart(response.map(Replayed::untouched))),
            Err(Left::Unrelated) => return Ok(Taken::Unrelated(response.map(Replayed::untouched))),
        };
        let settings = &self.settings;
        let (head, body) = response.into_parts();
        let status = head.status;
        Err(Box::pin(async move {
            match read(Box::pin(body), settings.body_max, until.min(now() + READING)).await {
                Read::Whole(bytes) => {
                    let age = control::age(&head.headers);
                    let copy = Copy { status, headers: kept_fields(&head.headers), body: bytes.clone() };
                    let key = self.key_of(request, sought, names);
                    let fill = fill(&key, copy, age, freshness);
                    let mut response = Response::from_parts(head, Replayed::whole(bytes));
                    append(response.headers_mut(), CACHE_STATUS, "seawall; fwd=miss; stored");
                    Taken::Keep { key, fill, response: conditional(request, response) }
                }
                Read::Partly(frames, rest) => {
                    let is_large = frames.back().is_some_and(Frame::is_data);
                    self.too_large.fetch_add(u64::from(is_large), Ordering::Relaxed);
                    Taken::Apart(Response::from_parts(head, Replayed::resumed(frames, rest)))
                }
                Read::Late(frames, rest) => {
                    Taken::Unrelated(Response::from_parts(head, Replayed::resumed(frames, rest)))
                }
                Read::Broken => Taken::Broken,
            }
        }))
    }

    /// Under which key an answer to this request is kept, where these fields tell it from others.
    fn key_of<B>(&self, request: &Request<B>, sought: &Resource, names: Vec<HeaderName>) -> Resource {
        // Under the changes that were known when it was asked for: it may be older than the last.
        let known = Known { names: names.into(), changes: sought.changes };
        let key = Resource::new(request, sought.address.clone(), &known);
        let now = now();
        let before = self.known(now, &sought.address);
        if before.names != known.names {
            self.learn(now, &sought.address, Known { changes: before.changes, ..known });
        }
        key
    }

    /// What is kept is still right: with the fields of the confirmation it is as good as new.
    async fn confirmed<B: Sync, RB>(
        &self,
        request: &Request<B>,
        sought: &Resource,
        held: Kept<Arc<Copy>>,
        confirmation: Response<RB>,
        until: Time,
    ) -> TakenIn<RB>
    where
        RB: Body<Data = Bytes> + Send + 'static,
        RB::Error: Send,
    {
        let (mut head, nothing) = confirmation.into_parts();
        // To its end, so that the connection can be used again.
        _ = read(Box::pin(nothing), 0, until).await;
        let Copy { status, headers, body } = &*held.value;
        let (status, headers) = (*status, validate::refreshed(headers, &head.headers));
        let age = control::age(&head.headers);
        (head.status, head.headers) = (status, headers.clone());
        let is_fresh = held.good_for(Span::ZERO) == Use::Fresh;
        let why = if is_fresh { "request" } else { "stale" };
        append(&mut head.headers, CACHE_STATUS, &format!("seawall; fwd={why}; fwd-status=304"));
        head.headers.insert(AGE, HeaderValue::from(age.as_nanos() / 1_000_000_000));
        let response = conditional(request, Response::from_parts(head, Replayed::whole(body.clone())));
        let fresh_for = |request| control::freshness(request, status, &headers, self.unmarked(request));
        match (fresh_for(request.headers()), control::vary(&headers)) {
            (Some(freshness), Some(names)) => {
                let key = self.key_of(request, sought, names);
                let copy = Copy { status, headers, body: body.clone() };
                Taken::Keep { fill: fill(&key, copy, age, freshness), key, response }
            }
            // What others may have confirmed for this one, this one may not have confirmed for them.
            (None, Some(_)) if fresh_for(&HeaderMap::new()).is_some() => Taken::Unrelated(response),
            _ => Taken::Apart(response),
        }
    }
}

/// What is kept of an answer.
fn fill(key: &Resource, copy: Copy, age: Span, freshness: Freshness) -> Fill<Arc<Copy>> {
    let bytes = weight::of(key, &copy);
    let confirmable = validate::is_confirmable(&copy.headers);
    Fill { value: Arc::new(copy), bytes, age, freshness, confirmable }
}

impl<F, H, B, RB, Err> Adapter<Request<B>, Response<RB>, Err> for HttpFallback<F, H>
where
    F: Fn(Time, &Request<B>) -> request::Request + Clone + Send + Sync,
    H: Handlers<Request<B>, Response<RB>, Err> + Send + Sync,
    B: Body + Default + Send + Sync,
    RB: Body<Data = Bytes> + Send + 'static,
    RB::Error: Send,
    Err: Send,
{
    type Key = Resource;
    type Kept = Arc<Copy>;
    type Response = Response<Replayed<RB>>;

    fn request(&self, now: Time, request: &Request<B>) -> request::Request {
        (self.of)(now, request)
    }

    fn seek(&self, now: Time, request: &Request<B>) -> Seek<Resource> {
        let headers = request.headers();
        if !request.method().is_safe() {
            return Seek::Around { outdates: Some(self.shared.key(now, request)) };
        }
        if !request.body().is_end_stream() {
            return Seek::Around { outdates: None };
        }
        let kept = matches!(*request.method(), Method::GET | Method::HEAD);
        // Few heads have any of these: one look at each field costs less than to look for each name.
        let (mut partial, mut has_terms) = (false, false);
        for name in headers.keys() {
            match name.as_str() {
                // It is for a part, or for what may not have changed.
                "range" | "if-match" | "if-unmodified-since" | "if-range" => partial = true,
                "cache-control" | "pragma" => has_terms = true,
                _ => {}
            }
        }
        if kept && !partial && !has_terms {
            return Seek::Cached { key: self.shared.key(now, request), terms: Terms::default() };
        }
        let control = Control::read(headers);
        if !kept || partial || control.no_store {
            let only_kept = control.terms(headers).only_kept;
            // Nothing kept will do, and nobody is to be asked.
            let terms = Terms { anew: true, only_kept, ..Terms::default() };
            return if only_kept {
                Seek::Cached { key: self.shared.key(now, request), terms }
            } else {
                Seek::Chain
            };
        }
        let key = self.shared.key(now, request);
        Seek::Cached { key, terms: control.terms(headers) }
    }

    fn outdated(&self, key: &Resource, response: &Response<RB>) {
        self.shared.change(&key.address);
        for name in [LOCATION, CONTENT_LOCATION] {
            let named = response.headers().get(name).and_then(|value| value.to_str().ok());
            if let Some(other) = named.and_then(|named| key.address.named(named, &self.shared.keys)) {
                self.shared.change(&Arc::new(other));
            }
        }
    }

    fn copy(&self, request: &Request<B>, sending: Sending) -> Request<B> {
        let mut copy = Request::new(B::default());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        if sending == Sending::Shared {
            copy.headers_mut().remove(IF_NONE_MATCH);
            copy.headers_mut().remove(IF_MODIFIED_SINCE);
        }
        copy
    }

    fn confirming(&self, request: &Request<B>, held: &Arc<Copy>) -> Option<Request<B>> {
        let mut question = self.copy(request, Sending::Alone);
        validate::ask_whether(question.headers_mut(), &held.headers)?;
        Some(question)
    }

    fn trouble(&self, result: Result<&Response<RB>, &Err>) -> Option<Trouble> {
        match result {
            Err(_) => Some(Trouble::NoAnswer),
            Ok(response) if response.status() == StatusCode::GATEWAY_TIMEOUT => Some(Trouble::NoAnswer),
            Ok(response) => is_error(response.status().as_u16()).then_some(Trouble::Failed),
        }
    }

    fn take<'a>(
        &'a self,
        request: &'a Request<B>,
        sought: &'a Resource,
        held: Option<Kept<Arc<Copy>>>,
        response: Response<RB>,
        until: Time,
    ) -> Result<TakenIn<RB>, impl Future<Output = TakenIn<RB>> + Send> {
        self.shared.take(request, sought, held, response, until)
    }

    fn cheaper(
        &self,
        place: u8,
        request: Request<B>,
    ) -> Option<impl Future<Output = Result<Response<RB>, Err>> + Send> {
        self.handlers.ask(place, request)
    }

    fn kept(&self, request: &Request<B>, kept: Kept<Arc<Copy>>, source: Source) -> Self::Response {
        let Copy { status, headers, body } = &*kept.value;
        let mut response = Response::new(Replayed::whole(body.clone()));
        *response.status_mut() = *status;
        *response.version_mut() = Version::HTTP_11;
        *response.headers_mut() = headers.clone();
        let age = kept.age.as_nanos() / 1_000_000_000;
        response.headers_mut().insert(AGE, HeaderValue::from(age));
        let status = match source {
            Source::Joined => "seawall; fwd=miss; collapsed".to_owned(),
            _ => format!("seawall; hit; ttl={}", kept.ttl_secs()),
        };
        append(response.headers_mut(), CACHE_STATUS, &status);
        conditional(request, mark(response, source))
    }

    fn fixed(&self, _: &Request<B>, place: u8) -> Option<Self::Response> {
        let Fixed { status, headers, body } = self.shared.fixed.get(usize::from(place))?;
        let mut response = Response::new(Replayed::whole(body.clone()));
        *response.status_mut() = *status;
        *response.headers_mut() = headers.clone();
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        Some(mark(response, Source::Fixed(place)))
    }

    fn answer(&self, response: Response<RB>, source: Source) -> Self::Response {
        mark(response.map(Replayed::untouched), source)
    }

    fn unkept(&self, _: &Request<B>) -> Self::Response {
        bare(StatusCode::GATEWAY_TIMEOUT, NOT_KEPT)
    }

    fn lost(&self, _: &Request<B>, trouble: Trouble) -> Self::Response {
        match trouble {
            Trouble::NoAnswer => bare(StatusCode::GATEWAY_TIMEOUT, "upstream"),
            Trouble::Failed => bare(StatusCode::BAD_GATEWAY, "upstream"),
            Trouble::Refused(reason) => bare(StatusCode::SERVICE_UNAVAILABLE, reason.name()),
        }
    }
}

/// An answer of this layer's own, with the word for why there is no other.
fn bare<B>(status: StatusCode, reason: &'static str) -> Response<Replayed<B>> {
    let mut response = Response::new(Replayed::whole(Bytes::new()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
    response.headers_mut().insert(REASON, HeaderValue::from_static(reason));
    response
}

/// Says where the answer came from: to layers outside, and to the client when it is worth less.
fn mark<B>(mut response: Response<B>, source: Source) -> Response<B> {
    if source != Source::Upstream {
        response.extensions_mut().insert(Served(source));
    }
    if source.is_degraded() {
        response.headers_mut().insert(FALLBACK, HeaderValue::from_static(source.name()));
    }
    response
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}
