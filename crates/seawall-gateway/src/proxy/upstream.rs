//! Upstream connections: a keep-alive pool for each host on each worker.
//!
//! **Prevents** a connection set-up for each request, and a 502 for a request that met a
//! connection which the host had just closed.
//!
//! **Mechanics.** HTTP/1.1: idle connections are reused last in, first out, so that few stay warm
//! and the rest grow old and go. A connection goes back when its response's body has ended. HTTP/2
//! with prior knowledge: one connection carries all requests of the worker. When a reused
//! connection turns out to be closed before anything was written, hyper hands the request back and
//! it is sent once more on a fresh one.
//!
//! **Edges.** Idle connections are bounded in number and age, checked when one is asked for; there
//! is no ticker. A request of which something was sent is never sent twice from here.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::listen::Local;

/// The most idle connections to a host, on one worker.
pub(crate) const IDLE_MAX: usize = 256;

/// The protocol that a host speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    H2c,
}

/// A host and how to connect to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// `host:port`.
    pub(crate) authority: String,
    /// What it speaks.
    pub(crate) protocol: Protocol,
    /// The time in which a connection must stand.
    pub(crate) connect_timeout: Duration,
    /// The age at which an idle connection is not used again.
    pub(crate) idle_timeout: Duration,
}

/// A request's body: the client's, or none.
#[derive(Debug, Default)]
pub(crate) struct Outbound(Option<Incoming>);

impl Outbound {
    /// The client's body.
    pub(crate) fn new(body: Incoming) -> Outbound {
        Outbound(Some(body).filter(|body| !body.is_end_stream()))
    }

    /// Whether there is nothing to send.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.get_mut().0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Why a host did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Nobody listens there.
    Refused,
    /// The connection did not stand in time.
    ConnectTimeout,
    /// The connection could not be made, for another cause.
    Unreachable,
    /// The connection ended before the answer.
    Broken,
    /// What came back is not HTTP.
    Invalid,
}

impl FailureKind {
    /// The error token of RFC 9209.
    pub(crate) const fn token(self) -> &'static str {
        match self {
            FailureKind::Refused => "connection_refused",
            FailureKind::ConnectTimeout => "connection_timeout",
            FailureKind::Unreachable => "destination_unavailable",
            FailureKind::Broken => "connection_terminated",
            FailureKind::Invalid => "http_protocol_error",
        }
    }
}

/// A request that was not answered.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Why.
    pub(crate) kind: FailureKind,
    /// The request, when nothing of it was sent.
    pub(crate) unsent: RefCell<Option<Request<Outbound>>>,
}

enum Sender {
    Http1(http1::SendRequest<Outbound>),
    H2c(http2::SendRequest<Outbound>),
}

impl Sender {
    fn is_ready(&self) -> bool {
        match self {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::H2c(sender) => sender.is_ready(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::H2c(sender) => sender.is_closed(),
        }
    }
}

/// A connection that is idle since then.
struct Idle {
    sender: http1::SendRequest<Outbound>,
    since: Instant,
}

/// The connections of one worker to one host.
pub(crate) struct Pool {
    target: Target,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Option<http2::SendRequest<Outbound>>>,
}

/// Keeps a connection for the response's body; returns it to its pool when dropped.
pub(crate) struct Lease {
    pool: Rc<Pool>,
    sender: Option<http1::SendRequest<Outbound>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take()
            && !sender.is_closed()
        {
            let mut idle = self.pool.idle.borrow_mut();
            if idle.len() < IDLE_MAX {
                idle.push(Idle { sender, since: Instant::now() });
            }
        }
    }
}

impl Pool {
    /// Without connections.
    pub(crate) fn new(target: Target) -> Rc<Pool> {
        Rc::new(Pool { target, idle: RefCell::default(), shared: RefCell::default() })
    }

    /// Sends a request in origin form and waits for the answer's header.
    pub(crate) async fn send(
        self: &Rc<Self>,
        mut request: Request<Outbound>,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        loop {
            let reused = self.reuse();
            let fresh = reused.is_none();
            let mut sender = match reused {
                Some(sender) => sender,
                None => match self.connect().await {
                    Ok(sender) => sender,
                    Err(kind) => return Err(Failure { kind, unsent: RefCell::new(Some(request)) }),
                },
            };
            let sent = match &mut sender {
                Sender::Http1(sender) => sender.try_send_request(request).await,
                Sender::H2c(sender) => {
                    self.address(&mut request);
                    sender.try_send_request(request).await
                }
            };
            match sent {
                Ok(response) => return Ok((response, self.lease(sender))),
                Err(mut error) => {
                    let kind =
                        if error.error().is_parse() { FailureKind::Invalid } else { FailureKind::Broken };
                    match error.take_message() {
                        Some(unsent) if !fresh => request = unsent,
                        unsent => return Err(Failure { kind, unsent: RefCell::new(unsent) }),
                    }
                }
            }
        }
    }

    /// HTTP/2 names scheme and host in the target.
    fn address(&self, request: &mut Request<Outbound>) {
        let host = request.headers().get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or(&self.target.authority);
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        if let Ok(uri) = Uri::builder().scheme("http").authority(host).path_and_query(path).build() {
            *request.uri_mut() = uri;
        }
        *request.version_mut() = http::Version::HTTP_2;
        request.headers_mut().remove(http::header::HOST);
    }

    fn lease(self: &Rc<Self>, sender: Sender) -> Lease {
        let sender = match sender {
            Sender::Http1(sender) => Some(sender),
            Sender::H2c(sender) => {
                *self.shared.borrow_mut() = Some(sender);
                None
            }
        };
        Lease { pool: self.clone(), sender }
    }

    fn reuse(&self) -> Option<Sender> {
        if let Some(sender) = self.shared.borrow().as_ref()
            && !sender.is_closed()
        {
            return Some(Sender::H2c(sender.clone()));
        }
        let mut idle = self.idle.borrow_mut();
        let oldest_allowed = Instant::now().checked_sub(self.target.idle_timeout);
        if idle.first().is_some_and(|idle| Some(idle.since) < oldest_allowed) {
            idle.retain(|idle| Some(idle.since) >= oldest_allowed);
        }
        // The last may still be ending its body; an earlier one is ready.
        let ready = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        Some(Sender::Http1(idle.remove(ready).sender))
            .filter(|sender| !sender.is_closed() && sender.is_ready())
    }

    async fn connect(self: &Rc<Self>) -> Result<Sender, FailureKind> {
        let connecting = TcpStream::connect(&self.target.authority);
        let stream = tokio::time::timeout(self.target.connect_timeout, connecting)
            .await
            .map_err(|_| FailureKind::ConnectTimeout)?
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::ConnectionRefused => FailureKind::Refused,
                _ => FailureKind::Unreachable,
            })?;
        let _ = stream.set_nodelay(true);
        let io = TokioIo::new(stream);
        match self.target.protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(|_| FailureKind::Broken)?;
                tokio::task::spawn_local(async move { drop(connection.await) });
                Ok(Sender::Http1(sender))
            }
            Protocol::H2c => {
                let mut builder = http2::Builder::new(Local);
                builder.timer(TokioTimer::new());
                let (sender, connection) = builder.handshake(io).await.map_err(|_| FailureKind::Broken)?;
                tokio::task::spawn_local(async move { drop(connection.await) });
                *self.shared.borrow_mut() = Some(sender.clone());
                Ok(Sender::H2c(sender))
            }
        }
    }
}
