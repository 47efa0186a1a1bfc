//! The origin: a service with 8 workers and an unbounded queue that does all work it is given.
//!
//! It behaves like the services that collapse: requests wait in one FIFO, each takes an
//! exponentially distributed 10 ms of a worker, and a client that leaves changes nothing, its
//! request is still worked on. Answers go over HTTP/1.1 with keep-alive.
//!
//! **The work is a sleep**, so that the origin's capacity does not depend on the processor that
//! it shares with the gateway and the generator. Tokio's timer ticks in whole milliseconds, which
//! would add about 10 % to such a service; so each worker is a thread of its own that parks until
//! its finish time (late by the kernel's slack, about 60 µs). A worker that found work waiting counts it
//! from when the one before *should* have ended, so that lateness does not add up either: 8
//! workers with a mean of 10 ms complete 800/s when they are saturated.
//!
//! The queue has no bound, on purpose; a run's length times its rate bounds it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use seawall_core::rng::Rng;
use seawall_core::time::Span;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::wire;
use crate::Result;

/// How many requests are worked on at once.
pub(super) const WORKERS: u64 = 8;
/// The mean service time.
pub(super) const SERVICE: Span = Span::from_millis(10);
/// Connections that may wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 4096;
/// The pause after the process has run out of something that accepting needs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The port on loopback; 0 lets the system choose
    #[arg(long)]
    port: u16,
    /// The seed of the service times
    #[arg(long)]
    seed: u64,
}

/// The first line that the origin prints.
#[derive(Serialize, Deserialize)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
}

/// What the origin prints for each line that it reads.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Stats {
    /// Seconds since it started.
    pub(super) at_s: f64,
    /// Requests worked off, whether or not anyone still waited.
    pub(super) completed: u64,
    /// Requests waiting for a worker.
    pub(super) queued: usize,
}

struct Job {
    arrived: Instant,
    /// Where the answer goes; sending fails silently when the client has left.
    answer: oneshot::Sender<()>,
}

/// The FIFO between the connections and the workers.
#[derive(Default)]
struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    filled: Condvar,
    completed: AtomicU64,
}

impl Queue {
    fn push(&self) -> oneshot::Receiver<()> {
        let (answer, answered) = oneshot::channel();
        let job = Job { arrived: Instant::now(), answer };
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
        self.filled.notify_one();
        answered
    }

    fn pop(&self) -> Job {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match jobs.pop_front() {
                Some(job) => return job,
                None => jobs = self.filled.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn len(&self) -> usize {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Serves until its standard input ends, which it does when the bench ends, however that happens.
pub(crate) fn run(args: &Args) -> Result<()> {
    let queue = Arc::new(Queue::default());
    for worker in 0..WORKERS {
        let queue = Arc::clone(&queue);
        let rng = Rng::new(args.seed, worker);
        thread::spawn(move || work(&queue, rng));
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)))?;
        let listener = socket.listen(BACKLOG)?;
        wire::say(&Listening { address: listener.local_addr()? })?;
        let telling = Arc::clone(&queue);
        thread::spawn(move || tell(&telling));
        accept(listener, queue).await
    })
}

/// One worker: the next job, its sleep, its answer.
fn work(queue: &Queue, mut rng: Rng) {
    let mut free_since = Instant::now();
    loop {
        let job = queue.pop();
        let finish = job.arrived.max(free_since) + Duration::from(rng.exponential(SERVICE));
        wire::wait_until(finish);
        free_since = finish;
        queue.completed.fetch_add(1, Ordering::Relaxed);
        // The client may have left; the work was done all the same.
        job.answer.send(()).ok();
    }
}

/// Answers every line on standard input with the figures so far, and ends the process at its end.
fn tell(queue: &Queue) {
    let began = Instant::now();
    for line in std::io::stdin().lock().lines() {
        let stats = Stats {
            at_s: began.elapsed().as_secs_f64(),
            completed: queue.completed.load(Ordering::Relaxed),
            queued: queue.len(),
        };
        if line.is_err() || wire::say(&stats).is_err() {
            break;
        }
    }
    std::process::exit(0);
}

async fn accept(listener: TcpListener, queue: Arc<Queue>) -> Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, Arc::clone(&queue)))),
            // Out of descriptors: those of clients that leave come back.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve(stream: TcpStream, queue: Arc<Queue>) {
    stream.set_nodelay(true).ok();
    let service = service_fn(move |_request| {
        let answered = queue.push();
        async move {
            // The workers never drop a job, so this ends when the work is done.
            answered.await.ok();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok\n"))))
        }
    });
    // A client that resets its connection is the normal case under overload, not an error.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}
