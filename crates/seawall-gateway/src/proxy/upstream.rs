//! Upstream connections: a keep-alive pool for each host on each worker.
//!
//! **Prevents** a connection set-up for each request, and a 502 for a request that met a
//! connection which the host had just closed.
//!
//! **Mechanics.** HTTP/1.1: idle connections are reused last in, first out, so that few stay warm
//! and the rest grow old and go. A connection goes back when its response's body has ended. HTTP/2
//! with prior knowledge: a connection carries many requests ([`super::shared`]). When a reused
//! connection turns out to be closed, hyper hands back what was not sent, and it goes out once more
//! on a fresh one. What was written is the outcome of its attempt: the host may have read it, so whether it is
//! sent again is for the call to say, which counts and pays for that.
//!
//! **Edges.** Idle connections are bounded in number and age, checked when one is asked for; there
//! is no ticker; and all connections of a worker in number, for which idle ones are given up ([`super::room`]). What was written is never sent twice from here.

use std::cell::{Cell, RefCell};
use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use seawall::core::outcome::Outcome;
use seawall::core::time::{Span, Time};
use seawall::now;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::belled::Belled;
use super::dialling::{self, Dialling, PROOF, Stood, Turn};
use super::failures::Cause;
use super::headers;
use super::listen::Local;
use super::outbound::Outbound;
use super::outgoing::Outgoing;
use super::quiet::quietly;
use super::room::{Place, Room};
use super::shared::{Connections, Shared};
use super::told::{Told, Words};
use super::wire::poll_send;
use crate::tls::{self, Secure};
use seawall_config::Protocol;

/// The most idle connections to a host, on one worker.
pub(crate) const IDLE_MAX: usize = 256;
const CHUNKED: HeaderValue = HeaderValue::from_static("chunked");
const TE: HeaderValue = HeaderValue::from_static("te");

/// A host and how to connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) authority: String,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// The time in which a connection must stand.
    pub(crate) connect_timeout: Duration,
    /// The age at which an idle connection is not used again.
    pub(crate) idle_timeout: Duration,
    /// How it is believed, where TLS is spoken.
    pub(crate) secure: Option<Secure>,
}

/// A connection to a host, and its place.
pub(super) enum Link {
    Plain { stream: TcpStream, _place: Option<Place> },
    Tls { stream: Box<TlsStream<TcpStream>>, _place: Option<Place> },
}

impl Target {
    /// How its URLs begin.
    pub(super) fn scheme(&self) -> &'static str {
        if self.secure.is_some() { "https" } else { "http" }
    }

    /// Makes a connection, which keeps this place, however long it takes.
    pub(super) async fn connect(&self, place: Option<Place>) -> io::Result<(TokioIo<Link>, Stood)> {
        let (stream, stood) = dialling::connect(&self.authority).await?;
        let _ = stream.set_nodelay(true);
        dialling::keep_alive(&stream);
        let link = match &self.secure {
            None => Link::Plain { stream, _place: place },
            Some(Secure { name, config }) => {
                let connected = TlsConnector::from(config.clone()).connect(name.clone(), stream).await?;
                Link::Tls { stream: Box::new(connected), _place: place }
            }
        };
        Ok((TokioIo::new(link), stood))
    }
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain { stream, .. } => Pin::new(stream).poll_read(cx, buf),
            Link::Tls { stream, .. } => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Plain { stream, .. } => Pin::new(stream).poll_write(cx, buf),
            Link::Tls { stream, .. } => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Plain { stream, .. } => poll_send(Pin::new(stream), cx, bufs),
            Link::Tls { stream, .. } => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Link::Plain { stream, .. } => stream.is_write_vectored(),
            Link::Tls { stream, .. } => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain { stream, .. } => Pin::new(stream).poll_flush(cx),
            Link::Tls { stream, .. } => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain { stream, .. } => Pin::new(stream).poll_shutdown(cx),
            Link::Tls { stream, .. } => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Why a host did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Nobody listens there.
    Refused,
    /// The connection did not stand in time.
    ConnectTimeout,
    /// Its certificate is not believed.
    Untrusted,
    /// This process has no descriptor, address or memory left for a connection: the host was not asked.
    Exhausted,
    /// The connection could not be made, for another cause.
    Unreachable,
    /// The connection ended before the answer.
    Broken,
    /// What came back is not HTTP.
    Invalid,
}

impl FailureKind {
    /// Why a connection could not be made.
    pub(super) fn of(error: &io::Error) -> FailureKind {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => FailureKind::Refused,
            _ if dialling::is_exhausted(error) => FailureKind::Exhausted,
            _ if tls::is_about_certificate(error) => FailureKind::Untrusted,
            _ => FailureKind::Unreachable,
        }
    }

    /// The error token of RFC 9209.
    pub(crate) const fn token(self) -> &'static str {
        match self {
            FailureKind::Refused => "connection_refused",
            FailureKind::ConnectTimeout => "connection_timeout",
            FailureKind::Untrusted => "tls_certificate_error",
            FailureKind::Exhausted => "connection_limit_reached",
            FailureKind::Unreachable => "destination_unavailable",
            FailureKind::Broken => "connection_terminated",
            FailureKind::Invalid => "http_protocol_error",
        }
    }
}

/// An answer's head, and the connection on which its body comes.
pub(crate) struct Answered {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: Lease,
    /// How it speaks of the service, once it was judged.
    pub(crate) outcome: Cell<Outcome>,
}

/// What became of a request. In a box, because it goes through many hands before it is looked at.
pub(crate) type Answer = Result<Box<Answered>, Failure>;

/// A request that was not answered.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Why.
    pub(crate) kind: FailureKind,
    /// Whose doing it is.
    pub(crate) host: String,
    /// What exactly happened.
    pub(crate) cause: Cause,
    /// The request, when nothing of it was sent.
    pub(crate) unsent: RefCell<Option<Outgoing>>,
    /// What the host says, if it was sent and the host took nothing of it.
    pub(crate) untaken: Option<Untaken>,
}

/// Why a host took nothing of a request (RFC 9113 §8.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Untaken {
    /// The host closes the connection, as it does when it is stopped or has used it for long: no fault of it.
    Closing,
    /// The host refused it.
    Refused,
}

enum Sender {
    Http1(http1::SendRequest<Outbound>),
    H2c(Rc<Shared>),
}

/// A connection that is idle since then.
struct Idle {
    sender: http1::SendRequest<Outbound>,
    since: Time,
}

/// The connections of one worker to one host.
pub(crate) struct Pool {
    target: Target,
    room: Rc<Room>,
    idle: RefCell<Vec<Idle>>,
    shared: Connections,
    dialling: Rc<Dialling>,
    connecting: tokio::sync::Mutex<()>,
    words: Words,
}

/// Keeps a connection for the response's body; returns it to its pool when dropped.
pub(crate) struct Lease {
    pool: Rc<Pool>,
    sender: Option<Sender>,
    connecting: Duration,
}

impl Lease {
    /// How long the request waited for the connection, which says nothing of the service.
    pub(crate) fn connecting(&self) -> Duration {
        self.connecting
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(Sender::Http1(sender)) = self.sender.take()
            && !sender.is_closed()
        {
            let mut idle = self.pool.idle.borrow_mut();
            if idle.len() < IDLE_MAX {
                idle.push(Idle { sender, since: now() });
            }
        }
        self.pool.dialling.freed();
    }
}

impl Pool {
    /// Without connections, which will have their places in this room.
    pub(crate) fn new(target: Target, room: &Rc<Room>) -> Rc<Pool> {
        let pool = Rc::new(Pool {
            target,
            room: room.clone(),
            idle: RefCell::default(),
            shared: Connections::default(),
            dialling: Rc::default(),
            connecting: tokio::sync::Mutex::default(),
            words: Words::default(),
        });
        room.admit(&pool);
        pool
    }

    /// Since when the connection is idle that has been for longest.
    pub(super) fn idle_since(&self) -> Option<Time> {
        self.idle.borrow().first().map(|idle| idle.since)
    }

    /// Has that one closed; says whether there was one.
    pub(super) fn give_up_idle(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        let is_there = !idle.is_empty();
        if is_there {
            idle.remove(0);
        }
        is_there
    }

    /// Whether this is where its connections go.
    pub(super) fn leads_to(&self, target: &Target) -> bool {
        self.target == *target
    }

    /// Its host did not answer a request that is not at hand any more.
    pub(super) fn failure(&self, kind: FailureKind, cause: impl Into<Cause>) -> Failure {
        let host = self.target.authority.clone();
        Failure { kind, host, cause: cause.into(), unsent: RefCell::default(), untaken: None }
    }

    /// Sends a request in origin form and waits for the answer's header.
    pub(super) async fn send(self: &Rc<Self>, mut request: Outgoing, told: Told) -> Answer {
        let now = now();
        if let Some(sender) = self.reuse(now) {
            let answer = self.exchange(sender, request, (told, now)).await;
            match unsent(&answer) {
                Some(again) => request = again,
                None => return answer,
            }
        }
        // In a box, because it is large and rare.
        Box::pin(self.send_fresh(request, told)).await
    }

    /// The same where no idle connection is ready.
    async fn send_fresh(self: &Rc<Self>, mut request: Outgoing, told: Told) -> Answer {
        let began = Instant::now();
        loop {
            let (sender, turn) = match self.sender().await {
                Ok(found) => found,
                Err(failure) => return Err(Failure { unsent: RefCell::new(Some(request)), ..failure }),
            };
            let connecting = began.elapsed();
            let fresh = turn.is_some() || self.target.protocol == Protocol::H2c;
            let mut answer = self.proving(turn, self.exchange(sender, request, (told, now()))).await;
            match if fresh { None } else { unsent(&answer) } {
                Some(again) => request = again,
                None => {
                    answer.iter_mut().for_each(|answered| answered.connection.connecting = connecting);
                    return answer;
                }
            }
        }
    }

    /// An exchange that keeps its connection's turn until it is answered, or as long as that may take.
    async fn proving<T>(&self, turn: Option<Turn>, exchange: impl Future<Output = T>) -> T {
        let Some(turn) = turn else { return exchange.await };
        let mut exchange = std::pin::pin!(exchange);
        let answered = tokio::time::timeout(PROOF, &mut exchange).await;
        drop(turn);
        match answered {
            Ok(answer) => answer,
            Err(_) => exchange.await,
        }
    }

    /// A connection, with its turn if it is fresh: that has come, or another became idle.
    async fn sender(&self) -> Result<(Sender, Option<Turn>), Failure> {
        if self.target.protocol == Protocol::H2c {
            let turn = self.dialling.turn();
            return Ok((self.connect().await?, turn));
        }
        loop {
            if let Some(turn) = self.dialling.turn() {
                return Ok((self.connect().await?, Some(turn)));
            }
            self.dialling.changed().await;
            if let Some(sender) = self.reuse(now()) {
                return Ok((sender, None));
            }
        }
    }

    async fn exchange(
        self: &Rc<Self>,
        mut sender: Sender,
        request: Outgoing,
        (told, now): (Told, Time),
    ) -> Answer {
        let offered = headers::sought(request.headers(), &header::UPGRADE).cloned();
        // What passes once is sent by the last who holds it.
        let Some(mut request) = request.into_owned() else {
            return Err(self.failure(FailureKind::Broken, "what passes once is on its way already"));
        };
        told.write(request.headers_mut(), &self.words, now);
        let sent = match &mut sender {
            Sender::Http1(sender) => sender.try_send_request(self.framed(request)).await,
            Sender::H2c(shared) => {
                let asked = shared.ask(now);
                let sent = shared.sender().try_send_request(self.named(request)).await;
                asked.answered();
                sent
            }
        };
        match sent {
            Ok(mut response) => {
                let place = Box::new_uninit();
                let status = response.status();
                let framed = headers::strip_framing(status, response.headers_mut());
                // What follows would be taken for an answer to the next request.
                let is_astray = status == StatusCode::SWITCHING_PROTOCOLS
                    && !headers::agrees(response.headers(), offered.as_ref());
                if is_astray {
                    return Err(self.failure(FailureKind::Invalid, "it switches to what nobody asked for"));
                }
                framed.map_err(|wrong| self.failure(FailureKind::Invalid, wrong))?;
                let connection =
                    Lease { pool: self.clone(), sender: Some(sender), connecting: Duration::ZERO };
                Ok(Box::write(place, Answered { response, connection, outcome: Cell::new(Outcome::Success) }))
            }
            Err(mut error) => {
                let kind = if error.error().is_parse() { FailureKind::Invalid } else { FailureKind::Broken };
                let unsent = error.take_message().map(|unsent| Outgoing::new(unnamed(unsent)));
                let untaken = untaken(error.error());
                Err(Failure {
                    unsent: RefCell::new(unsent),
                    untaken,
                    ..self.failure(kind, error.into_error())
                })
            }
        }
    }

    /// What HTTP/1.1 asks for besides: a host (of a request of HTTP/1.0, which may have come without, this one), and
    /// that a field for this hop alone is named.
    fn framed(&self, request: Request<Outbound>) -> Request<Outbound> {
        let mut request = chunked(request);
        if headers::first(request.headers(), &header::HOST).is_none_or(HeaderValue::is_empty)
            && let Ok(host) = HeaderValue::from_str(&self.target.authority)
        {
            request.headers_mut().insert(header::HOST, host);
        }
        if headers::sought(request.headers(), &header::TE).is_some() {
            // It may be there already, where it is sent again.
            request.headers_mut().insert(header::CONNECTION, TE);
        }
        request
    }

    /// HTTP/2 names scheme and host in the target.
    fn named(&self, mut request: Request<Outbound>) -> Request<Outbound> {
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.filter(|host| !host.is_empty()).unwrap_or(&self.target.authority);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        if let Ok(uri) =
            Uri::builder().scheme(self.target.scheme()).authority(host).path_and_query(path).build()
        {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(header::HOST);
        request
    }

    fn reuse(&self, now: Time) -> Option<Sender> {
        if self.target.protocol == Protocol::H2c {
            return self.shared.take(now, self.target.idle_timeout.into()).map(Sender::H2c);
        }
        let mut idle = self.idle.borrow_mut();
        let most = Span::from(self.target.idle_timeout);
        if idle.first().is_some_and(|idle| now.since(idle.since) > most) {
            idle.retain(|idle| now.since(idle.since) <= most);
        }
        while idle.last().is_some_and(|idle| idle.sender.is_closed()) {
            idle.pop();
        }
        // The last may still be ending its body; an earlier one is ready.
        let ready = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(Sender::Http1(idle.remove(ready).sender))
    }

    async fn connect(&self) -> Result<Sender, Failure> {
        match self.target.protocol {
            Protocol::Http1 => {
                let io = self.dial().await?;
                let (sender, connection) = http1::handshake(Belled::new(io))
                    .await
                    .map_err(|error| self.failure(FailureKind::Broken, error))?;
                tokio::task::spawn_local(async move { drop(quietly(connection.with_upgrades()).await) });
                Ok(Sender::Http1(sender))
            }
            Protocol::H2c => {
                // One connects for all who wait; whoever comes after finds it.
                let _turn = self.connecting.lock().await;
                if let Some(sender) = self.reuse(now()) {
                    return Ok(sender);
                }
                let io = match self.dial().await {
                    Ok(io) => io,
                    Err(failure) => {
                        self.shared.rest(now());
                        return self.reuse(now()).ok_or(failure);
                    }
                };
                // No pings: gRPC servers close connections that have more than one in five minutes. What tells dead
                // hosts is asked of TCP.
                let made = http2::Builder::new(Local)
                    .timer(TokioTimer::new())
                    .initial_max_send_streams(self.shared.expected())
                    .handshake(Belled::new(io))
                    .await
                    .map_err(|error| self.failure(FailureKind::Broken, error))?;
                Ok(Sender::H2c(self.shared.add(now(), made)))
            }
        }
    }

    async fn dial(&self) -> Result<TokioIo<Link>, Failure> {
        let place = self.room.place().await.map_err(|taken| {
            let full =
                format!("there is no descriptor for more than {taken} upstream connections of a worker");
            self.failure(FailureKind::Exhausted, full)
        })?;
        let made = tokio::time::timeout(self.target.connect_timeout, self.target.connect(Some(place))).await;
        let stood = match &made {
            Ok(Ok((_, stood))) => Some(*stood),
            Ok(Err(_)) => None,
            Err(_) => Some(Stood::Late),
        };
        if let Some(stood) = stood {
            self.dialling.stood(stood, Instant::now());
        }
        let late = |_| {
            let within = Span::from(self.target.connect_timeout);
            self.failure(FailureKind::ConnectTimeout, format!("no connection stands within {within}"))
        };
        let (io, _) = made.map_err(late)?.map_err(|error| self.failure(FailureKind::of(&error), error))?;
        Ok(io)
    }
}

/// Says that a body without a length comes in chunks: with methods that seldom have one, the client would
/// leave it out.
#[inline]
fn chunked(mut request: Request<Outbound>) -> Request<Outbound> {
    if !request.body().is_none()
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && request.body().size_hint().exact().is_none()
    {
        request.headers_mut().insert(header::TRANSFER_ENCODING, CHUNKED);
    }
    request
}

/// What the host says who took nothing of the request.
fn untaken(error: &hyper::Error) -> Option<Untaken> {
    let error = error.source()?.downcast_ref::<h2::Error>().filter(|error| error.is_remote())?;
    // Of the streams that were sent, only those above the last one that was taken see the GOAWAY.
    match error.reason()? {
        h2::Reason::NO_ERROR if error.is_go_away() => Some(Untaken::Closing),
        h2::Reason::REFUSED_STREAM => Some(Untaken::Refused),
        _ => error.is_go_away().then_some(Untaken::Refused),
    }
}

/// What met a connection that its host had closed meanwhile, and was not sent.
fn unsent(answer: &Answer) -> Option<Outgoing> {
    let failure = answer.as_ref().err().filter(|failure| failure.kind == FailureKind::Broken)?;
    failure.unsent.take()
}

/// Back to the origin form that every host understands.
fn unnamed(mut request: Request<Outbound>) -> Request<Outbound> {
    let authority = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(host) = authority {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        (parts.scheme, parts.authority) = (None, None);
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        request.headers_mut().insert(header::HOST, host);
        *request.version_mut() = Version::HTTP_11;
    }
    request
}
