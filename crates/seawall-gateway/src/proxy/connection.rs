//! One client connection from its first byte to its end.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use seawall::Pause;
use tokio::net::TcpStream;

use super::greeting::{Greeting, Stream};
use super::headers::Client;
use super::listen::{Handler, Local};
use super::pulse::{Busy, Order, Pulse};
use super::tunnel::{self, Agreed};
use super::wire::Wire;

/// The most streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// The most bytes of a request's header.
const HEADER_BYTES_MAX: usize = 64 * 1024;

const CLOSE: HeaderValue = HeaderValue::from_static("close");

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nx-seawall-reason: slow\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How connections are served: the same for all of a worker.
pub(super) struct Protocols {
    http1: http1::Builder,
    http2: http2::Builder<Local>,
}

impl Protocols {
    pub(super) fn new() -> Protocols {
        let mut http1 = http1::Builder::new();
        // No header timer: one for each request costs more than the worker's tick, which sees the same.
        http1.header_read_timeout(None).max_buf_size(HEADER_BYTES_MAX);
        let mut http2 = http2::Builder::new(Local);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADER_BYTES_MAX as u32)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        Protocols { http1, http2 }
    }
}

/// Lets a connection begin. How it fails is no news either.
pub(super) async fn begin(
    greeting: &Greeting,
    stream: TcpStream,
    peer: SocketAddr,
    pulse: &Rc<Pulse>,
) -> Option<(Stream, SocketAddr)> {
    let mut begun = pin!(greeting.take(stream, peer));
    poll_fn(|cx| match pulse.heed(cx) {
        Order::Run => begun.as_mut().poll(cx).map(Result::ok),
        Order::Finish | Order::TimeOut | Order::End => Poll::Ready(None),
    })
    .await
}

/// Serves one connection to its end. How it ends is no news: clients go away, or talk nonsense.
pub(super) async fn run<H: Handler>(
    mut wire: Wire,
    pulse: Rc<Pulse>,
    client: Client,
    handler: Rc<H>,
    protocols: &Protocols,
) {
    let first = poll_fn(|cx| match pulse.heed(cx) {
        Order::Run => wire.poll_is_h2(cx).map(Result::ok),
        Order::Finish | Order::TimeOut | Order::End => Poll::Ready(None),
    });
    let Some(is_h2) = first.await else { return };
    let agreed = Agreed::default();
    let service = service(pulse.clone(), client, wire.is_secure(), handler, agreed.clone());
    if is_h2 {
        pulse.multiplex();
        let mut connection = pin!(protocols.http2.serve_connection(TokioIo::new(wire), service));
        poll_fn(|cx| {
            match pulse.heed(cx) {
                Order::Run => {}
                Order::Finish => connection.as_mut().graceful_shutdown(),
                Order::TimeOut | Order::End => return Poll::Ready(()),
            }
            connection.as_mut().poll(cx).map(drop)
        })
        .await;
        return;
    }
    let mut connection = protocols.http1.serve_connection(TokioIo::new(wire), service);
    let late = poll_fn(|cx| {
        // What happens in one poll happens at one time.
        let _pause = Pause::begin();
        match pulse.heed(cx) {
            Order::Run => {}
            Order::Finish => Pin::new(&mut connection).graceful_shutdown(),
            Order::TimeOut => return Poll::Ready(true),
            Order::End => return Poll::Ready(false),
        }
        Pin::new(&mut connection).poll(cx).map(|_| false)
    })
    .await;
    let other = agreed.borrow_mut().take();
    if !late && other.is_none() {
        return;
    }
    let http1::Parts { io, read_buf, .. } = connection.into_parts();
    match other {
        Some(other) => tunnel::run(io.into_inner(), read_buf, other, &pulse).await,
        None => io.inner().try_say(REQUEST_TIMEOUT),
    }
}

/// In the extensions of a request that came over TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Secure;

fn service<H: Handler>(
    pulse: Rc<Pulse>,
    client: Client,
    secure: bool,
    handler: Rc<H>,
    agreed: Agreed,
) -> impl HttpService<Incoming, ResBody = Tracked<H::Body>, Error = Infallible, Future: 'static> + Unpin {
    service_fn(move |mut request: Request<Incoming>| {
        if secure {
            request.extensions_mut().insert(Secure);
        }
        #[expect(clippy::manual_map, reason = "a closure would carry the request once more")]
        let answer = match pulse.begin() {
            // Boxed, because what is not is copied half a dozen times before its first poll.
            Some(busy) => Some((busy, Box::pin(handler.clone().handle(client.clone(), request)))),
            None => None,
        };
        let (agreed, pulse) = (agreed.clone(), pulse.clone());
        async move {
            Ok(match answer {
                Some((busy, answer)) => {
                    let mut response = answer.await;
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        tunnel::note(&agreed, &mut response);
                    } else if pulse.is_drained() {
                        response.headers_mut().insert(header::CONNECTION, CLOSE);
                    }
                    response.map(|body| Tracked { body: Some(body), _busy: Some(busy) })
                }
                None => ambiguous(),
            })
        }
    })
}

/// The answer to a request that could be read in two ways; the connection is not read on.
fn ambiguous<B>() -> Response<Tracked<B>> {
    let mut response = Response::new(Tracked { body: None, _busy: None });
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert("x-seawall-reason", HeaderValue::from_static("malformed"));
    response.headers_mut().insert(header::CONNECTION, CLOSE);
    response
}

pin_project_lite::pin_project! {
    /// A response's body whose request counts as busy until it ends.
    pub(super) struct Tracked<B> {
        #[pin]
        body: Option<B>,
        _busy: Option<Busy>,
    }
}

impl<B> Body for Tracked<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().body.as_pin_mut() {
            Some(body) => body.poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
