//! Listening: one current-thread runtime per core, each with a listener of its own.
//!
//! **Prevents** the cost of handing connections between threads, and one slow or hostile client
//! from holding what others need.
//!
//! **Mechanics.** `SO_REUSEPORT` lets the kernel spread connections over the workers; a connection
//! lives and dies on one thread. HTTP/1.1 and HTTP/2 with prior knowledge share the port.
//!
//! **Edges.** Open connections are bounded ([`CONNECTIONS_MAX`]); a header must arrive within
//! [`HEADER_TIMEOUT`]; when accepting fails (no file descriptors left) the worker pauses instead of
//! spinning. On shutdown a worker stops accepting, lets every connection finish the request it is
//! serving, and ends when all have or when the grace is over.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;

/// The most connections that are open at a time, over all workers.
pub(crate) const CONNECTIONS_MAX: u32 = 20_000;
/// The time in which the header of a request must arrive.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The most streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;
/// The most bytes of a request's header.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// The pause after a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const BACKLOG: i32 = 4_096;

/// How far a shutdown has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Serving.
    Serve,
    /// No new connections; those that are open finish their requests.
    Drain,
    /// End at once.
    Stop,
}

/// What the workers serve: one handler for each, made on its thread.
pub(crate) trait Handler: 'static {
    /// The body of a response.
    type Body: Body<Data = bytes::Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static;

    /// Answers one request of the client at this address.
    fn handle(
        self: Rc<Self>,
        client: SocketAddr,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;
}

/// Workers that serve an address.
#[derive(Debug)]
pub(crate) struct Serving {
    address: SocketAddr,
    workers: Vec<JoinHandle<()>>,
}

impl Serving {
    /// The address that is really bound (port 0 is resolved).
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the workers to end.
    pub(crate) fn join(self) {
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// Serves `address` with so many workers until `phase` says otherwise. `make` is called once on
/// each worker's thread.
pub(crate) fn serve<H: Handler>(
    address: SocketAddr,
    workers: usize,
    grace: Duration,
    phase: watch::Receiver<Phase>,
    make: impl Fn() -> H + Clone + Send + 'static,
) -> io::Result<Serving> {
    let first = bind(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers.max(1) {
        listeners.push(bind(address)?);
    }
    let open = Arc::new(AtomicU32::new(0));
    let workers = listeners
        .into_iter()
        .enumerate()
        .map(|(number, listener)| {
            let (make, phase, open) = (make.clone(), phase.clone(), open.clone());
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => {
                        let local = LocalSet::new();
                        let handler = Rc::new(make());
                        local.block_on(&runtime, accept(listener, handler, grace, phase, open));
                    }
                    Err(error) => tracing::error!(%error, "a worker found no runtime"),
                }
            })
        })
        .collect::<io::Result<Vec<_>>>()?;
    Ok(Serving { address, workers })
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One open connection, counted until it is dropped.
struct Open(Arc<AtomicU32>);

impl Open {
    fn take(open: &Arc<AtomicU32>) -> Option<Open> {
        let place = Open(open.clone());
        (open.fetch_add(1, Ordering::Relaxed) < CONNECTIONS_MAX).then_some(place)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn accept<H: Handler>(
    listener: std::net::TcpListener,
    handler: Rc<H>,
    grace: Duration,
    mut phase: watch::Receiver<Phase>,
    open: Arc<AtomicU32>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a worker cannot listen"),
    };
    let builder = Rc::new(builder());
    let graceful = GracefulShutdown::new();
    while *phase.borrow_and_update() == Phase::Serve {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = phase.changed() => continue,
        };
        match accepted {
            Ok((stream, client)) => match Open::take(&open) {
                Some(place) => connection(stream, client, place, &builder, &handler, &graceful),
                None => drop(stream),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(grace) => tracing::warn!("the grace is over, connections are cut"),
        _ = phase.wait_for(|phase| *phase == Phase::Stop) => {}
    }
}

/// Runs futures on this thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

fn builder() -> auto::Builder<Local> {
    let mut builder = auto::Builder::new(Local);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .pipeline_flush(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

fn connection<H: Handler>(
    stream: TcpStream,
    client: SocketAddr,
    place: Open,
    builder: &Rc<auto::Builder<Local>>,
    handler: &Rc<H>,
    graceful: &GracefulShutdown,
) {
    let _ = stream.set_nodelay(true);
    let handler = handler.clone();
    let service = hyper::service::service_fn(move |request| {
        let answer = handler.clone().handle(client, request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let watched = graceful.watch(connection);
    tokio::task::spawn_local(async move {
        // A client that goes away or talks nonsense is no news.
        if let Err(error) = watched.await {
            tracing::trace!(%error, "a connection ended");
        }
        drop(place);
    });
}
