//! One client connection from its first byte to its end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use seawall::Pause;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;

use super::belled::Belled;
use super::greeting::{Greeting, Named, Secure, Stream};
use super::headers::{Client, HEADER_BYTES_MAX};
use super::listen::{Handler, Local, Refusal};
use super::outbound::Broken;
use super::pulse::{Order, Pulse};
use super::tracked::Tracked;
use super::tunnel::{self, Agreed};
use super::wire::Wire;

/// The most streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// The most bytes that are read past behind the last answer.
const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;

const CLOSE: HeaderValue = HeaderValue::from_static("close");

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nx-seawall-reason: slow\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A request did not come to its end in time.
const SLOW: Refusal = Refusal { status: StatusCode::REQUEST_TIMEOUT, reason: "slow" };
/// A request could be read in two ways.
const AMBIGUOUS: Refusal = Refusal { status: StatusCode::BAD_REQUEST, reason: "malformed" };

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
) -> Option<(Stream, Client)> {
    let mut begun = pin!(greeting.take(stream));
    let begun = poll_fn(|cx| match pulse.heed(cx) {
        Order::Run | Order::Rest => begun.as_mut().poll(cx).map(Result::ok),
        Order::Finish | Order::TimeOut | Order::End => Poll::Ready(None),
    });
    let (stream, named) = begun.await?;
    Some((stream, named.map_or_else(|| Client::at(peer), |Named(client)| Client::behind(peer, client))))
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
        Order::Run | Order::Rest => wire.poll_is_h2(cx).map(Result::ok),
        Order::Finish | Order::TimeOut | Order::End => Poll::Ready(None),
    });
    let Some(is_h2) = first.await else { return };
    let agreed = Agreed::default();
    // The service keeps it.
    let counts = Rc::downgrade(&handler);
    let service = service(pulse.clone(), client.clone(), wire.secure(), handler, agreed.clone());
    if is_h2 {
        pulse.multiplex();
        let mut connection = pin!(protocols.http2.serve_connection(Belled::new(TokioIo::new(wire)), service));
        poll_fn(|cx| {
            match pulse.heed(cx) {
                Order::Run | Order::Rest => {}
                Order::Finish => connection.as_mut().graceful_shutdown(),
                Order::TimeOut | Order::End => return Poll::Ready(()),
            }
            connection.as_mut().poll(cx).map(drop)
        })
        .await;
        return;
    }
    loop {
        let over = serve(wire, &pulse, service.clone(), &agreed, protocols).await;
        if let (Some(refusal), Some(handler)) = (pulse.refusal(), counts.upgrade()) {
            handler.refused(&client, refusal);
        }
        wire = match over {
            Some(Left::Resting(waiting)) => waiting,
            Some(Left::CutOff(sending)) => return linger(sending, &pulse).await,
            None => return,
        };
        let woken = poll_fn(|cx| match pulse.heed(cx) {
            Order::Run | Order::Rest => wire.poll_wakes(cx).map(|woken| woken.unwrap_or(false)),
            Order::Finish | Order::TimeOut | Order::End => Poll::Ready(false),
        });
        if !woken.await {
            return shut_down(&mut wire).await;
        }
    }
}

/// Ends what is written, as far as the client takes it at once.
async fn shut_down(wire: &mut Wire) {
    poll_fn(|cx| {
        let _ = Pin::new(&mut *wire).poll_shutdown(cx);
        Poll::Ready(())
    })
    .await;
}

/// Reads past what a client still sends: a socket that is closed before that is reset, and the client may lose the
/// answer (RFC 9112 §9.6).
async fn linger(mut wire: Wire, pulse: &Pulse) {
    pulse.linger();
    shut_down(&mut wire).await;
    let mut left = LINGER_BYTES_MAX;
    poll_fn(|cx| match pulse.heed(cx) {
        Order::Run | Order::Rest => wire.poll_discard(cx, &mut left),
        Order::Finish | Order::TimeOut | Order::End => Poll::Ready(()),
    })
    .await;
}

/// How serving HTTP/1.1 came to an end.
enum Over {
    Ended,
    /// It was ended from here.
    Cut,
    /// A request took too long to arrive.
    Late,
    /// It rests until the next request.
    Resting,
}

/// What is left of a connection.
enum Left {
    /// It rests until the next request.
    Resting(Wire),
    /// The last answer came before the end of its request.
    CutOff(Wire),
}

/// Serves HTTP/1.1; returns the socket if it is not to be closed at once.
async fn serve<S>(
    wire: Wire,
    pulse: &Rc<Pulse>,
    service: S,
    agreed: &Agreed,
    protocols: &Protocols,
) -> Option<Left>
where
    S: HttpService<Incoming, Error = Infallible, ResBody: Body<Error: Into<Broken>> + 'static> + Unpin,
{
    let mut connection = protocols.http1.serve_connection(Belled::new(TokioIo::new(wire)), service);
    let over = poll_fn(|cx| {
        // What happens in one poll happens at one time.
        let _pause = Pause::begin();
        match pulse.heed(cx) {
            Order::Run => {}
            Order::Rest => return Poll::Ready(Over::Resting),
            Order::Finish => Pin::new(&mut connection).graceful_shutdown(),
            Order::TimeOut => return Poll::Ready(Over::Late),
            Order::End => return Poll::Ready(Over::Cut),
        }
        Pin::new(&mut connection).poll(cx).map(|_| Over::Ended)
    })
    .await;
    let other = agreed.borrow_mut().take();
    match (other, over) {
        (Some(other), _) => {
            let http1::Parts { io, read_buf, .. } = connection.into_parts();
            tunnel::run(io.into_inner().into_inner(), read_buf, other, pulse).await;
            None
        }
        (None, Over::Resting) => {
            let http1::Parts { io, read_buf, .. } = connection.into_parts();
            Some(Left::Resting(io.into_inner().into_inner().unread(&read_buf)))
        }
        (None, Over::Late) => {
            pulse.refuse(SLOW);
            connection.into_parts().io.into_inner().inner().try_say(REQUEST_TIMEOUT);
            None
        }
        (None, Over::Ended) if pulse.is_cut_off() => {
            Some(Left::CutOff(connection.into_parts().io.into_inner().into_inner()))
        }
        (None, Over::Ended | Over::Cut) => None,
    }
}

fn service<H: Handler>(
    pulse: Rc<Pulse>,
    client: Client,
    secure: Option<Secure>,
    handler: Rc<H>,
    agreed: Agreed,
) -> impl HttpService<Incoming, ResBody = Tracked<H::Body>, Error = Infallible, Future: 'static> + Clone + Unpin
{
    service_fn(move |mut request: Request<Incoming>| {
        let version = request.version();
        if let Some(secure) = secure {
            request.extensions_mut().insert(secure);
        }
        let answer = match pulse.begin() {
            // Boxed, because what is not is copied half a dozen times before its first poll; and made in its
            // box, because most of it is yet to be set.
            Some(busy) => {
                let place = Box::new_uninit();
                let answer = Box::write(place, handler.clone().handle(client.clone(), request));
                Some((busy, Box::into_pin(answer)))
            }
            None => None,
        };
        let (agreed, pulse) = (agreed.clone(), pulse.clone());
        let is_old = version == Version::HTTP_10;
        async move {
            Ok(match answer {
                Some((busy, answer)) => {
                    let mut response = answer.await;
                    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                        tunnel::note(&agreed, &mut response);
                    } else if pulse.is_drained() {
                        response.headers_mut().insert(header::CONNECTION, CLOSE);
                    }
                    if is_old && is_endless(&response) {
                        // For a client of HTTP/1.0 it ends where the connection does. It would be told that this is
                        // kept, were it not known before the head is written.
                        pulse.finish();
                        tokio::task::yield_now().await;
                    }
                    response.map(|body| Tracked::new(body, busy, &pulse))
                }
                None => {
                    pulse.refuse(AMBIGUOUS);
                    ambiguous()
                }
            })
        }
    })
}

/// Whether nothing in its head says where an answer ends.
fn is_endless<B: Body>(response: &Response<B>) -> bool {
    !response.headers().contains_key(header::CONTENT_LENGTH) && response.body().size_hint().exact().is_none()
}

/// The answer to a request that could be read in two ways; the connection is not read on.
fn ambiguous<B>() -> Response<Tracked<B>> {
    let mut response = Response::new(Tracked::none());
    *response.status_mut() = AMBIGUOUS.status;
    response.headers_mut().insert("x-seawall-reason", HeaderValue::from_static(AMBIGUOUS.reason));
    response.headers_mut().insert(header::CONNECTION, CLOSE);
    response
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use bytes::Bytes;
    use http_body_util::Full;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::{JoinHandle, LocalSet, yield_now};

    use super::super::pulse::{HEAD_TICKS, IDLE_TICKS, LINGER_SILENT_TICKS, Pulses, REST_TICKS};
    use super::*;

    #[derive(Default)]
    struct Hello(Cell<Option<Refusal>>);

    impl Handler for Hello {
        type Body = Full<Bytes>;

        async fn handle(self: Rc<Self>, _: Client, request: Request<Incoming>) -> Response<Full<Bytes>> {
            Response::new(Full::from(request.uri().path().to_owned()))
        }

        fn refused(&self, _: &Client, refusal: Refusal) {
            self.0.set(Some(refusal));
        }
    }

    /// A client's end of a connection, whose seconds pass as the test says.
    struct Scene {
        client: TcpStream,
        pulses: Rc<Pulses>,
        handler: Rc<Hello>,
        ended: JoinHandle<()>,
    }

    impl Scene {
        async fn new() -> Scene {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stream, peer) = listener.accept().await.unwrap();
            let (pulses, handler) = (Rc::<Pulses>::default(), Rc::new(Hello::default()));
            let (member, served) = (pulses.join(), handler.clone());
            let ended = tokio::task::spawn_local(async move {
                let pulse = member.pulse.clone();
                let wire = Wire::new(Stream::Plain(stream), pulse.clone());
                run(wire, pulse, Client::at(peer), served, &Protocols::new()).await;
                drop(member);
            });
            Scene { client, pulses, handler, ended }
        }

        async fn send(&mut self, part: &str) {
            self.client.write_all(part.as_bytes()).await.unwrap();
        }

        async fn answered(&mut self, path: &str) {
            let mut answer = String::new();
            while !answer.ends_with(&format!("\r\n\r\n{path}")) {
                let mut room = [0; 1024];
                let read = self.client.read(&mut room).await.unwrap();
                assert!(read > 0, "closed after {answer:?}");
                answer.push_str(std::str::from_utf8(&room[..read]).unwrap());
            }
        }

        /// Lets seconds pass, until so many hold on to the handler: the test, the connection, and what serves.
        async fn wait(&self, ticks: u32, holders: usize) {
            (0..ticks).for_each(|_| self.pulses.tick());
            while Rc::strong_count(&self.handler) != holders {
                yield_now().await;
            }
        }
    }

    fn local(scene: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            tokio::time::timeout(Duration::from_secs(20), scene).await.expect("it does not take so long");
        });
    }

    #[test]
    fn who_rests_holds_nothing_that_serves_and_misses_nothing() {
        local(async {
            let mut scene = Scene::new().await;
            for path in ["/first", "/second", "/third"] {
                scene.send(&format!("GET {path} HTTP/1.1\r\n")).await;
                scene.wait(0, 3).await;
                scene.send("host: a\r\n\r\n").await;
                scene.answered(path).await;
                scene.wait(REST_TICKS - 1, 3).await;
                scene.wait(1, 2).await;
            }
            scene.wait(IDLE_TICKS, 1).await;
            scene.ended.await.unwrap();
            assert_eq!(scene.client.read(&mut [0]).await.unwrap(), 0);
        });
    }

    #[test]
    fn a_head_that_does_not_come_to_its_end_is_refused_and_told() {
        local(async {
            let mut scene = Scene::new().await;
            scene.send("GET / HTTP/1.1\r\nhost: a\r\n").await;
            scene.wait(0, 3).await;
            scene.wait(HEAD_TICKS, 1).await;
            assert_eq!(scene.handler.0.get(), Some(SLOW));
            let mut answer = String::new();
            scene.client.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        });
    }

    #[test]
    fn a_client_that_leaves_while_its_connection_rests_is_let_go() {
        local(async {
            let mut scene = Scene::new().await;
            scene.send("GET /only HTTP/1.1\r\nhost: a\r\n\r\n").await;
            scene.answered("/only").await;
            scene.wait(REST_TICKS, 2).await;
            drop(scene.client);
            scene.ended.await.unwrap();
        });
    }

    #[test]
    fn who_is_answered_is_waited_for_only_if_it_has_not_sent_all() {
        local(async {
            for (length, has_sent_all) in [(5, true), (100_000, false)] {
                let mut scene = Scene::new().await;
                let head = format!("POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n");
                scene.send(&format!("{head}connection: close\r\n\r\nhello")).await;
                scene.answered("/one").await;
                assert_eq!(scene.client.read(&mut [0]).await.unwrap(), 0);
                if !has_sent_all {
                    scene.send("more").await;
                    yield_now().await;
                    assert!(!scene.ended.is_finished());
                    (0..LINGER_SILENT_TICKS).for_each(|_| scene.pulses.tick());
                }
                scene.ended.await.unwrap();
            }
        });
    }

    #[test]
    fn blank_lines_behind_a_request_are_no_harm() {
        local(async {
            let mut scene = Scene::new().await;
            // Blank lines are no request, but stay with the parser.
            scene.send("GET /one HTTP/1.1\r\nhost: a\r\n\r\n\r\n").await;
            scene.answered("/one").await;
            scene.wait(REST_TICKS, 3).await;
            scene.send("GET /two HTTP/1.1\r\nhost: a\r\n\r\n").await;
            scene.answered("/two").await;
        });
    }
}
