//! An origin of the storm: well most of the time, then slow, failing, or gone for some seconds.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use seawall_core::rng::Rng;
use seawall_core::time::Span;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Marks what an origin says itself.
pub(super) const MARK: &str = "x-storm-origin";
/// How long it is well, and how long it is not.
const WELL: Duration = Duration::from_secs(9);
const UNWELL: Duration = Duration::from_secs(4);
/// The mean time that an answer takes.
const SERVICE: Span = Span::from_millis(5);
const BACKLOG: u32 = 1_024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Slow,
    Failing,
    Gone,
}

/// Stands at this address for as long as it is polled.
pub(super) async fn stand(address: SocketAddr, seed: u64) {
    let mood = Rc::new(Cell::new(Mood::Well));
    let rng = Rc::new(Cell::new(Some(Rng::new(seed, 1))));
    let moods = [Mood::Slow, Mood::Gone, Mood::Failing, Mood::Gone];
    // The two are not unwell in step.
    sleep(WELL * seed as u32 / 2).await;
    for next in moods.into_iter().cycle() {
        mood.set(Mood::Well);
        serve(address, &mood, &rng, Instant::now() + WELL).await;
        mood.set(next);
        let until = Instant::now() + UNWELL;
        if next == Mood::Gone {
            sleep_until(until).await;
        } else {
            serve(address, &mood, &rng, until).await;
        }
    }
}

/// Serves until then; what is open is cut off.
async fn serve(address: SocketAddr, mood: &Rc<Cell<Mood>>, rng: &Rc<Cell<Option<Rng>>>, until: Instant) {
    let Ok(socket) = TcpSocket::new_v4() else { return };
    let bound = socket.set_reuseaddr(true).and_then(|()| socket.bind(address));
    let Ok(listener) = bound.and_then(|()| socket.listen(BACKLOG)) else { return sleep_until(until).await };
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    open.spawn_local(connection(stream, mood.clone(), rng.clone()));
                }
            }
            Some(_) = open.join_next(), if !open.is_empty() => {}
            () = sleep_until(until) => return,
        }
    }
}

async fn connection(stream: TcpStream, mood: Rc<Cell<Mood>>, rng: Rc<Cell<Option<Rng>>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (mood, rng) = (mood.clone(), rng.clone());
        async move {
            let mut drawn = SERVICE;
            if let Some(mut chance) = rng.take() {
                drawn = chance.exponential(SERVICE);
                rng.set(Some(chance));
            }
            let _ = request.into_body().collect().await;
            let slow = if mood.get() == Mood::Slow { 100 } else { 1 };
            sleep(Duration::from(drawn) * slow).await;
            let mut response = Response::new(Full::new(Bytes::from_static(b"ok\n")));
            if mood.get() == Mood::Failing {
                *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            }
            response.headers_mut().insert(MARK, hyper::header::HeaderValue::from_static("1"));
            Ok::<_, Infallible>(response)
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
