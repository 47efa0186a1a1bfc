//! Listening: one current-thread runtime per core, each with a listener of its own.
//!
//! **Prevents** the cost of handing connections between threads, and one slow or hostile client
//! from holding what others need.
//!
//! **Mechanics.** `SO_REUSEPORT` lets the kernel spread connections over the workers; a connection
//! lives and dies on one thread. HTTP/1.1 and HTTP/2 with prior knowledge share the port.
//!
//! **Edges.** Open connections are bounded ([`Shares`](crate::descriptors::Shares)): one more takes the place of the one that has
//! waited for a request for longest, and where none waits it is let in when one has ended. How
//! long a client may take is said in [`super::pulse`]; when accepting fails (no file descriptors
//! left) the worker pauses instead of spinning, and says so once in a second at most. On shutdown a worker
//! takes in who was connected already, stops accepting, lets every connection finish the request it is serving,
//! and ends when all have or when the grace is over. The next answer on each connection says that it is the last: one that
//! is closed while a request is on its way would lose it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use seawall::core::time::{Span, Time};
use seawall::now;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::connection::{self, Protocols};
use super::greeting::Greeting;
use super::headers::Client;
use super::pulse::Pulses;
use super::wire::Wire;

/// How often a worker looks for slow clients: the unit of [`super::pulse`].
const TICK: Duration = Duration::from_secs(1);
/// How many tasks a worker polls before it asks the system what has come: rather many, because each time it asks costs
/// as much as a tenth of a request, and what comes waits behind those tasks anyway.
const POLLS_MAX: u32 = 256;
/// The pause after a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const BACKLOG: i32 = 4_096;

/// What is said once in a second at most, however often it happens.
#[derive(Debug)]
pub(crate) struct Seldom(AtomicU64);

impl Seldom {
    /// Not said yet.
    pub(crate) const fn new() -> Seldom {
        Seldom(AtomicU64::new(u64::MAX))
    }

    /// Whether it is to be said now.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        let second = now.as_nanos() / Span::from_secs(1).as_nanos();
        self.0.swap(second, Ordering::Relaxed) != second
    }
}

/// Of all workers together.
static CANNOT_ACCEPT: Seldom = Seldom::new();

/// How far a shutdown has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Serving.
    Serve,
    /// Serving still, but no longer ready for more.
    LameDuck,
    /// No new connections; those that are open finish their requests, for so long at the most.
    Drain(Duration),
    /// End at once.
    Stop,
}

impl Phase {
    /// Whether connections are accepted.
    pub(crate) const fn accepts(self) -> bool {
        matches!(self, Phase::Serve | Phase::LameDuck)
    }
}

/// How something is refused that could not be read as a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The status of the answer.
    pub(crate) status: StatusCode,
    /// The word for it in `x-seawall-reason`.
    pub(crate) reason: &'static str,
}

/// What the workers serve: one handler for each, made on its thread.
pub(crate) trait Handler: 'static {
    /// The body of a response.
    type Body: Body<Data = bytes::Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static;

    /// Answers one request of this client.
    fn handle(
        self: Rc<Self>,
        client: Client,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;

    /// Something of this client was refused that could not be read as a request.
    fn refused(&self, _client: &Client, _refusal: Refusal) {}
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

/// Sockets on `address`, one for each of so many workers: those that are there, and new ones.
pub(crate) fn open(
    address: SocketAddr,
    before: Vec<std::net::TcpListener>,
    workers: usize,
) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners = before;
    let first = listeners.pop().map_or_else(|| bind(address), Ok)?;
    // Port 0 is resolved by the first.
    let address = first.local_addr()?;
    listeners.push(first);
    while listeners.len() < workers {
        listeners.push(bind(address)?);
    }
    listeners.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
    Ok(listeners)
}

/// Serves these sockets, with a worker for each, until `phase` says otherwise; a worker has `most`
/// connections. `make` is called once on each worker's thread.
pub(crate) fn serve<H: Handler>(
    listeners: Vec<std::net::TcpListener>,
    phase: watch::Receiver<Phase>,
    greeting: Greeting,
    most: usize,
    make: impl Fn() -> H + Clone + Send + 'static,
) -> io::Result<Serving> {
    let address =
        listeners.first().map_or_else(|| Err(io::ErrorKind::NotFound.into()), |first| first.local_addr())?;
    let workers = listeners
        .into_iter()
        .enumerate()
        .map(|(number, listener)| {
            let (make, phase) = (make.clone(), phase.clone());
            let greeting = greeting.clone();
            std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let mut builder = Builder::new_current_thread();
                builder.enable_all().event_interval(POLLS_MAX);
                let runtime = builder.build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => runtime.block_on(async {
                        Worker::new(make(), most, greeting).run(listener, phase).await;
                    }),
                    Err(error) => tracing::error!(%error, "a worker found no runtime"),
                }
            })
        })
        .collect::<io::Result<Vec<_>>>()?;
    Ok(Serving { address, workers })
}

/// Refuses an address on which another process listens, which would get a part of the connections. Those that
/// are ending there are no hindrance.
pub(crate) fn vacant(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
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

/// What the connections of a worker share.
struct Worker<H> {
    handler: Rc<H>,
    protocols: Rc<Protocols>,
    pulses: Rc<Pulses>,
    /// How many there may be.
    most: usize,
    greeting: Rc<Greeting>,
}

impl<H: Handler> Worker<H> {
    fn new(handler: H, most: usize, greeting: Greeting) -> Worker<H> {
        let protocols = Rc::new(Protocols::new());
        Worker {
            handler: Rc::new(handler),
            protocols,
            pulses: Rc::default(),
            most,
            greeting: Rc::new(greeting),
        }
    }

    async fn run(self, listener: std::net::TcpListener, mut phase: watch::Receiver<Phase>) {
        let pulses = self.pulses.clone();
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                pulses.tick();
            }
        });
        if let Err(error) = self.accept(listener, &mut phase).await {
            return tracing::error!(%error, "a worker cannot listen");
        }
        self.pulses.finish();
        let grace = match *phase.borrow() {
            Phase::Drain(grace) => grace,
            Phase::Serve | Phase::LameDuck | Phase::Stop => Duration::ZERO,
        };
        tokio::select! {
            () = self.pulses.empty() => {}
            () = tokio::time::sleep(grace) => tracing::warn!("the grace is over, connections are cut"),
            _ = phase.wait_for(|phase| *phase == Phase::Stop) => {}
        }
    }

    /// Accepts until the phase says otherwise.
    async fn accept(
        &self,
        listener: std::net::TcpListener,
        phase: &mut watch::Receiver<Phase>,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        while phase.borrow_and_update().accepts() {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                changed = phase.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break, // nobody is left who could say when to end
                },
            };
            match accepted {
                Ok((stream, client)) => {
                    self.make_room(phase).await;
                    self.connection(stream, client);
                }
                Err(error) => {
                    if CANNOT_ACCEPT.is_due(now()) {
                        tracing::warn!(%error, "cannot accept");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Who was let in by the kernel already would be reset when the listener closes.
        let listener = listener.into_std()?;
        while let Ok((stream, client)) = listener.accept() {
            stream.set_nonblocking(true)?;
            self.connection(TcpStream::from_std(stream)?, client);
        }
        Ok(())
    }

    /// Has the connection that has waited for longest closed, or waits until one ends; not beyond the serving.
    async fn make_room(&self, phase: &watch::Receiver<Phase>) {
        while self.pulses.count() >= self.most && phase.borrow().accepts() {
            if self.pulses.give_way() {
                tokio::task::yield_now().await;
            } else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        if self.pulses.count() >= self.most {
            return;
        }
        let _ = stream.set_nodelay(true);
        let member = self.pulses.join();
        let (handler, protocols) = (self.handler.clone(), self.protocols.clone());
        let greeting = self.greeting.clone();
        tokio::task::spawn_local(async move {
            let pulse = member.pulse.clone();
            if let Some((stream, client)) = connection::begin(&greeting, stream, peer, &pulse).await {
                let wire = Wire::new(stream, pulse.clone());
                connection::run(wire, pulse, client, handler, &protocols).await;
            }
            drop(member);
        });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_said_once_in_a_second() {
        let (seldom, at) = (Seldom::new(), |millis| Time::ZERO + Span::from_millis(millis));
        let said = (0..3_000).filter(|millis| seldom.is_due(at(*millis)));
        assert_eq!(said.collect::<Vec<_>>(), [0, 1_000, 2_000]);
    }

    #[test]
    fn an_address_on_which_another_listens_is_refused_until_it_ends() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let others = open(local, Vec::new(), 2).unwrap();
        let address = others[0].local_addr().unwrap();
        assert_eq!(vacant(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        // One connection goes on, and one was closed from here.
        let accepted: Vec<_> = {
            let clients: Vec<_> = (0..32).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            let mut accepted = Vec::new();
            for other in &others {
                other.set_nonblocking(true).unwrap();
                accepted.extend(std::iter::from_fn(|| other.accept().ok()));
            }
            let closed = accepted.split_off(accepted.len() / 2);
            drop(closed);
            drop(clients);
            accepted
        };
        drop(others);
        vacant(address).unwrap();
        drop(accepted);
    }
}
