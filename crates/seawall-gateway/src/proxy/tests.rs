//! The data plane over real sockets: a client, the bare proxy and an origin, all on loopback.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Notify, watch};

use super::bare::Bare;
use super::greeting::Greeting;
use super::headers::Client;
use super::listen::{Handler, Phase, Serving, open, serve};
use super::upstream::Target;
use seawall_config::Protocol;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// A socket on a free port.
fn any() -> Vec<std::net::TcpListener> {
    open(ANY, Vec::new(), 1).unwrap()
}

const GRACE: Duration = Duration::from_secs(60);

/// What the origin has seen, and what it waits for.
#[derive(Default)]
struct Seen {
    connections: Mutex<BTreeSet<SocketAddr>>,
    arrived: Notify,
    release: Notify,
}

struct Origin(Arc<Seen>);

impl Handler for Origin {
    type Body = UnsyncBoxBody<Bytes, hyper::Error>;

    async fn handle(self: Rc<Self>, client: Client, request: Request<Incoming>) -> Response<Self::Body> {
        self.0.connections.lock().unwrap().insert(client.address);
        let text = match request.uri().path() {
            "/echo" => return Response::new(request.into_body().boxed_unsync()),
            "/headers" => format!("{:?}", request.headers()),
            "/wait" => {
                self.0.arrived.notify_one();
                self.0.release.notified().await;
                "waited".to_owned()
            }
            _ => "hello".to_owned(),
        };
        let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed_unsync());
        if request.uri().path() == "/unchanged" {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert("connection", "x-hop".parse().unwrap());
        headers.insert("x-hop", "1".parse().unwrap());
        response
    }
}

/// A proxy in front of something. Its threads end with it.
struct Proxy {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    serving: Option<Serving>,
    origin: Option<watch::Sender<Phase>>,
    seen: Arc<Seen>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Stop);
        self.origin.iter().for_each(|origin| _ = origin.send_replace(Phase::Stop));
    }
}

impl Proxy {
    fn before(authority: SocketAddr, protocol: Protocol) -> Proxy {
        let (phase, seen_phase) = watch::channel(Phase::Serve);
        let authority = authority.to_string();
        let (connect_timeout, idle_timeout) = (Duration::from_secs(10), Duration::from_secs(60));
        let target = Target { authority, protocol, connect_timeout, idle_timeout, secure: None };
        let serving =
            serve(any(), seen_phase, Greeting::default(), 64, move || Bare::new(target.clone())).unwrap();
        Proxy {
            address: serving.address(),
            phase,
            serving: Some(serving),
            origin: None,
            seen: Arc::default(),
        }
    }

    fn before_origin(protocol: Protocol) -> Proxy {
        let (phase, seen_phase) = watch::channel(Phase::Serve);
        let seen = Arc::<Seen>::default();
        let origin = seen.clone();
        let serving =
            serve(any(), seen_phase, Greeting::default(), 64, move || Origin(origin.clone())).unwrap();
        let mut proxy = Proxy::before(serving.address(), protocol);
        (proxy.origin, proxy.seen) = (Some(phase), seen);
        proxy
    }

    fn connections(&self) -> usize {
        self.seen.connections.lock().unwrap().len()
    }

    async fn get(&self, path: &str) -> (StatusCode, HeaderMap, Bytes) {
        self.ask(Protocol::Http1, Method::GET, path, Bytes::new()).await
    }

    /// One request on a connection of its own.
    async fn ask(
        &self,
        protocol: Protocol,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let io = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        let request = request.header("host", "a.example").body(Full::new(body)).unwrap();
        let response = match protocol {
            Protocol::Http1 => {
                let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await
            }
            Protocol::H2c => {
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
                tokio::spawn(connection);
                sender.send_request(request).await
            }
        };
        let (parts, body) = response.unwrap().into_parts();
        (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
    }

    /// Sends bytes as they are and reads until the proxy closes.
    async fn raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// An origin that follows a script: what it does with each connection.
async fn scripted<F: Future<Output = ()> + Send>(script: impl FnOnce(TcpListener) -> F) -> (SocketAddr, F) {
    let listener = TcpListener::bind(ANY).await.unwrap();
    (listener.local_addr().unwrap(), script(listener))
}

/// Reads one request's head.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn bodies_pass_unchanged_both_ways() {
    let pattern = |len: usize| (0..len).map(|at| (at * 31 % 251) as u8).collect::<Bytes>();
    for upstream in [Protocol::Http1, Protocol::H2c] {
        let proxy = Proxy::before_origin(upstream);
        for client in [Protocol::Http1, Protocol::H2c] {
            for len in [0, 1_024, 10 << 20] {
                let body = pattern(len);
                let (status, headers, echo) = proxy.ask(client, Method::POST, "/echo", body.clone()).await;
                assert_eq!(status, StatusCode::OK);
                assert!(echo == body, "{len} bytes, {client:?} to {upstream:?}");
                // Nothing has no length to say in HTTP/2.
                assert!(len == 0 || headers["content-length"] == len.to_string());
            }
        }
    }
}

#[tokio::test]
async fn chunked_bodies_stay_chunked() {
    let proxy = Proxy::before_origin(Protocol::Http1);
    let request = "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";
    let answer = proxy.raw(request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("transfer-encoding: chunked"), "{answer}");
    let text: String = body.split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(text, "hello world");
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let proxy = Proxy::before_origin(Protocol::Http1);
    let (status, headers, body) = proxy.ask(Protocol::Http1, Method::HEAD, "/", Bytes::new()).await;
    assert_eq!((status, &headers["content-length"], body.len()), (StatusCode::OK, &"5".parse().unwrap(), 0));
    let (status, _, body) = proxy.get("/unchanged").await;
    assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    assert_eq!(proxy.get("/").await.2, "hello", "the connection is still of use");
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn what_belongs_to_one_hop_ends_here() {
    let proxy = Proxy::before_origin(Protocol::Http1);
    let request = "GET /headers HTTP/1.1\r\nhost: a.example\r\nconnection: close, x-private\r\nx-private: 1\r\nte: gzip\r\nx-kept: 1\r\n\r\n";
    let answer = proxy.raw(request).await;
    for gone in ["x-private", "\"te\"", "\"connection\"", "x-hop"] {
        assert!(!answer.contains(gone), "{gone} in {answer}");
    }
    for kept in ["x-kept", "\"host\": \"a.example\"", "\"x-forwarded-for\": \"127.0.0.1\""] {
        assert!(answer.contains(kept), "{kept} not in {answer}");
    }
}

#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let proxy = Proxy::before_origin(Protocol::Http1);
    for request in [
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "GET / HTTP/1.1\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-folded: 1\r\n 2\r\n\r\n",
    ] {
        let answer = proxy.raw(request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer:?}");
    }
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn connections_are_used_again() {
    let proxy = Proxy::before_origin(Protocol::Http1);
    for _ in 0..3 {
        assert_eq!(proxy.get("/").await.2, "hello");
    }
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn one_http2_connection_carries_all() {
    let proxy = Proxy::before_origin(Protocol::H2c);
    let asked: Vec<_> = (0..20).map(|_| proxy.get("/")).collect();
    let asked = futures_all(asked).await;
    assert!(asked.iter().all(|(status, _, body)| (*status, &body[..]) == (StatusCode::OK, b"hello")));
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn more_calls_than_one_connection_takes_go_over_another() {
    let (together, connections) = (Arc::new(Barrier::new(5)), Arc::new(AtomicUsize::new(0)));
    let counted = connections.clone();
    let (origin, script) = scripted(|listener| async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let together = together.clone();
            let serve = service_fn(move |request: Request<Incoming>| {
                let together = together.clone();
                async move {
                    if request.uri().path() == "/together" {
                        together.wait().await;
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
                }
            });
            let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            http2.max_concurrent_streams(2);
            tokio::spawn(http2.serve_connection(TokioIo::new(stream), serve));
        }
    })
    .await;
    let script = tokio::spawn(script);
    let proxy = Proxy::before(origin, Protocol::H2c);
    // From its answer on it is known how many streams a connection takes.
    assert_eq!(proxy.get("/").await.2, "ok");
    let asked = futures_all((0..5).map(|_| proxy.get("/together")).collect()).await;
    assert!(asked.iter().all(|(status, _, body)| (*status, &body[..]) == (StatusCode::OK, b"ok")));
    assert_eq!(connections.load(Ordering::Relaxed), 3);
    script.abort();
}

#[tokio::test]
async fn calls_go_on_where_no_other_connection_can_be_made() {
    let (origin, script) = scripted(|listener| async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let serve = service_fn(async |_: Request<Incoming>| {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
        });
        let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = http2.max_concurrent_streams(1).serve_connection(TokioIo::new(stream), serve).await;
    })
    .await;
    let script = tokio::spawn(script);
    let proxy = Proxy::before(origin, Protocol::H2c);
    assert_eq!(proxy.get("/").await.2, "ok");
    let asked = futures_all((0..5).map(|_| proxy.get("/")).collect()).await;
    assert!(asked.iter().all(|(status, _, body)| (*status, &body[..]) == (StatusCode::OK, b"ok")));
    script.abort();
}

async fn futures_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    let mut done: Vec<_> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if let Some(waiting) = future
                && let std::task::Poll::Ready(output) = waiting.as_mut().poll(cx)
            {
                (*future, *done) = (None, Some(output));
            }
        }
        if futures.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn what_a_host_may_have_read_is_not_sent_again() {
    let (origin, script) = scripted(|listener| async move {
        let (mut first, _) = listener.accept().await.unwrap();
        head(&mut first).await;
        first.write_all(OK).await.unwrap();
        assert!(head(&mut first).await.starts_with("DELETE"));
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        assert!(head(&mut second).await.starts_with("GET"));
        second.write_all(OK).await.unwrap();
    })
    .await;
    let script = tokio::spawn(script);
    let proxy = Proxy::before(origin, Protocol::Http1);
    assert_eq!(proxy.get("/").await.2, "ok");
    let (status, _, reason) = proxy.ask(Protocol::Http1, Method::DELETE, "/", Bytes::new()).await;
    assert_eq!((status, &reason[..]), (StatusCode::BAD_GATEWAY, &b"connection_terminated"[..]));
    assert_eq!(proxy.get("/").await.2, "ok");
    script.await.unwrap();
}

/// Bounds what a test waits for.
async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it should have come long ago")
}

#[tokio::test]
async fn an_idle_connection_is_closed_as_soon_as_its_host_has() {
    let (origin, script) = scripted(|listener| async move {
        let (mut first, _) = listener.accept().await.unwrap();
        head(&mut first).await;
        first.write_all(OK).await.unwrap();
        first.shutdown().await.unwrap();
        assert_eq!(first.read(&mut [0; 1]).await.unwrap(), 0, "the proxy closes its side as well");
        let (mut second, _) = listener.accept().await.unwrap();
        head(&mut second).await;
        second.write_all(OK).await.unwrap();
    })
    .await;
    let script = tokio::spawn(script);
    let proxy = Proxy::before(origin, Protocol::Http1);
    assert_eq!(proxy.get("/").await.2, "ok");
    assert_eq!(soon(proxy.get("/")).await.2, "ok");
    soon(script).await.unwrap();
}

#[tokio::test]
async fn a_body_that_comes_in_parts_is_passed_on_as_it_comes_and_its_connection_used_again() {
    let more = Arc::new(Notify::new());
    let wait = more.clone();
    let (origin, script) = scripted(|listener| async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream.write_all(&OK[..OK.len() - 1]).await.unwrap();
        wait.notified().await;
        stream.write_all(b"k").await.unwrap();
        head(&mut stream).await;
        stream.write_all(OK).await.unwrap();
    })
    .await;
    let script = tokio::spawn(script);
    let proxy = Proxy::before(origin, Protocol::Http1);
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    for request in 0..2 {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        soon(head(&mut client)).await;
        assert_eq!(soon(client.read_u8()).await.unwrap(), b'o');
        if request == 0 {
            more.notify_one();
        }
        assert_eq!(soon(client.read_u8()).await.unwrap(), b'k');
    }
    soon(script).await.unwrap();
}

/// More than sockets take in.
const LARGE: usize = 16 << 20;

#[tokio::test]
async fn an_upload_goes_on_while_its_early_answer_is_not_taken() {
    let (origin, script) = scripted(|listener| async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        let (mut from, mut to) = stream.into_split();
        let answer = tokio::spawn(async move {
            to.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes()).await?;
            to.write_all(&vec![b'a'; LARGE - 1]).await.map(|()| to)
        });
        from.read_exact(&mut vec![0; LARGE]).await.unwrap();
        // Not before: an answer that has ended ends its upload as well.
        answer.await.unwrap().unwrap().write_all(b"a").await.unwrap();
    })
    .await;
    let script = tokio::spawn(script);
    let proxy = Proxy::before(origin, Protocol::Http1);
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LARGE}\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    soon(client.write_all(&vec![b'b'; LARGE])).await.unwrap();
    soon(head(&mut client)).await;
    soon(client.read_exact(&mut vec![0; LARGE])).await.unwrap();
    soon(script).await.unwrap();
}

#[tokio::test]
async fn a_host_that_is_down_is_said_so() {
    let closed = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let (status, _, reason) = Proxy::before(closed, Protocol::Http1).get("/").await;
    assert_eq!((status, &reason[..]), (StatusCode::BAD_GATEWAY, &b"connection_refused"[..]));
}

#[tokio::test]
async fn nonsense_is_an_invalid_answer() {
    let (origin, script) = scripted(|listener| async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream.write_all(b"no http at all\r\n\r\n").await.unwrap();
    })
    .await;
    let script = tokio::spawn(script);
    let (status, _, reason) = Proxy::before(origin, Protocol::Http1).get("/").await;
    assert_eq!((status, &reason[..]), (StatusCode::BAD_GATEWAY, &b"http_protocol_error"[..]));
    script.await.unwrap();
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let (origin, script) = scripted(|listener| async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await.unwrap();
        stream.write_all(OK).await.unwrap();
    })
    .await;
    let script = tokio::spawn(script);
    let (status, _, body) = Proxy::before(origin, Protocol::Http1).get("/").await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"ok"[..]));
    script.await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_exchange_along() {
    let arrived = Arc::new(Notify::new());
    let (origin, script) = scripted(|listener| {
        let arrived = arrived.clone();
        async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            arrived.notify_one();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "the connection ends");
        }
    })
    .await;
    let script = tokio::spawn(script);
    let proxy = Proxy::before(origin, Protocol::Http1);
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    arrived.notified().await;
    drop(client);
    script.await.unwrap();
}

#[tokio::test]
async fn draining_finishes_what_is_in_flight_and_closes_the_rest() {
    let mut proxy = Proxy::before_origin(Protocol::Http1);
    let mut idle = TcpStream::connect(proxy.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(head(&mut idle).await.starts_with("HTTP/1.1 200"));
    let serving = proxy.serving.take().unwrap();
    let (waiting, ()) = tokio::join!(proxy.get("/wait"), async {
        proxy.seen.arrived.notified().await;
        proxy.phase.send_replace(Phase::Drain(GRACE));
        let mut rest = String::new();
        idle.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "hello", "the idle connection ends");
        proxy.seen.release.notify_one();
    });
    assert_eq!(waiting.2, "waited");
    tokio::task::spawn_blocking(|| serving.join()).await.unwrap();
    assert!(TcpStream::connect(proxy.address).await.is_err());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut proxy = Proxy::before_origin(Protocol::Http1);
    let serving = proxy.serving.take().unwrap();
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    client.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    proxy.seen.arrived.notified().await;
    proxy.phase.send_replace(Phase::Drain(GRACE));
    proxy.phase.send_replace(Phase::Stop);
    tokio::task::spawn_blocking(|| serving.join()).await.unwrap();
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await; // an end or a reset
    assert!(rest.is_empty());
}
