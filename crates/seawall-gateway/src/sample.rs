//! The embedded sample service: something to protect when nothing else is at hand.
//!
//! Eight workers of exponential 10 ms work, a bounded queue in front of them, and a few paths to
//! try: `/` answers, `/slow?ms=500` takes its time, `/fail` fails, `/echo` returns what it is sent.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use seawall::core::rng::Rng;
use seawall::core::time::Span;
use seawall::http::{Full, Held};
use std::cell::RefCell;
use tokio::sync::{Semaphore, watch};

use crate::proxy::greeting::Greeting;
use crate::proxy::headers::Client;
use crate::proxy::listen::{Handler, Phase, Serving, open, serve};

const WORKERS: usize = 8;
/// The most connections; the gateway makes them.
const CONNECTIONS_MAX: usize = 4_096;
const QUEUE: usize = 1_024;
const MEAN: Span = Span::from_millis(10);
const SLOW_MAX: u64 = 10_000;

/// Starts the sample service on a free loopback port.
pub(crate) fn start(phase: watch::Receiver<Phase>) -> std::io::Result<Serving> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sockets = open(address, Vec::new(), 1)?;
    serve(sockets, phase, Greeting::default(), CONNECTIONS_MAX, Sample::new)
}

struct Sample {
    workers: Semaphore,
    waiting: RefCell<usize>,
    rng: RefCell<Rng>,
}

impl Sample {
    fn new() -> Sample {
        Sample {
            workers: Semaphore::new(WORKERS),
            waiting: RefCell::new(0),
            rng: RefCell::new(Rng::new(1, 1)),
        }
    }

    /// Waits for a worker and keeps it for `work`; `false` when too many wait already.
    async fn work(&self, work: Span) -> bool {
        if *self.waiting.borrow() >= QUEUE {
            return false;
        }
        *self.waiting.borrow_mut() += 1;
        let worker = self.workers.acquire().await;
        *self.waiting.borrow_mut() -= 1;
        tokio::time::sleep(work.into()).await;
        worker.is_ok()
    }
}

impl Handler for Sample {
    type Body = Held<Incoming, ()>;

    async fn handle(self: Rc<Self>, _: Client, request: Request<Incoming>) -> Response<Self::Body> {
        let work = self.rng.borrow_mut().exponential(MEAN);
        let (status, text) = match request.uri().path() {
            "/echo" => return Response::new(Held::new(request.into_body(), ())),
            "/fail" => (StatusCode::INTERNAL_SERVER_ERROR, "failed, as asked\n"),
            "/slow" => {
                let asked = request.uri().query().and_then(|query| query.strip_prefix("ms="));
                let millis = asked.and_then(|millis| millis.parse().ok()).unwrap_or(1_000).min(SLOW_MAX);
                tokio::time::sleep(Duration::from_millis(millis)).await;
                (StatusCode::OK, "slow, as asked\n")
            }
            _ if self.work(work).await => (StatusCode::OK, "hello from the sample service\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "the sample service is full\n"),
        };
        let mut response = Response::new(Held::full(Full::new(Bytes::from_static(text.as_bytes()))));
        *response.status_mut() = status;
        response
    }
}
