//! Health: asks the hosts of an upstream whether they are well, for as long as it is polled.
//!
//! **Prevents** calls that are spent on finding out that a host cannot answer, and a host that is
//! back and that nobody calls.
//!
//! **Mechanics.** [`Hosts`] says whom to ask and when ([`health`](seawall_core::health)); [`watch`]
//! is a future that never ends and puts the question, which is the caller's: a connection, a request,
//! a look at a file. Each question is a task of its own, so that a slow host holds up no other.
//!
//! **Edges.** A host is well that said so within the time of its [`Probe`]; one whose question says no,
//! takes longer or panics has failed its check. A question that could not be put for want of something of one's
//! own ([`Check::Unmade`]) says nothing of its host. A question that takes too long is dropped, and so are all
//! with the future itself; a host is asked again only after that, so that one question for each host is
//! under way at most. It must not block its thread. Where nobody is checked
//! ([`HostsConfig::health`](seawall_core::call::HostsConfig::health) is `None`) nobody is asked.
//! Hosts that were [replaced](Hosts::replaced) need another watch, in the place of the one before.
//!
//! ```
//! use seawall::call::Upstream;
//! use seawall::core::call::{Hosts, HostsConfig, Member, Settings, Shared};
//! use seawall::core::gate::{self, Gate, Lane, Own};
//! use seawall::core::health;
//! use seawall::core::rng::Rng;
//! use seawall::core::time::Span;
//! use seawall::health::watch;
//! use seawall::{Locks, Threads, now, seed};
//! use std::sync::Arc;
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! # let up = TcpListener::bind("127.0.0.1:0").await.unwrap();
//! # let down = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
//! let addresses = [up.local_addr().unwrap(), down];
//! let member = |address: &std::net::SocketAddr| Member {
//!     name: address.to_string().into(),
//!     gate: Arc::new(Gate::<Threads>::new(gate::Settings::default(), Lane::default(), now())),
//! };
//! let every = Span::from_millis(10);
//! let checks = health::Config::new(health::Settings { every, ..health::Settings::default() }).unwrap();
//! let config = HostsConfig { health: Some(checks), ..HostsConfig::default() };
//! let mut rng = Rng::new(seed(), 0);
//! let hosts = Hosts::balanced(config, addresses.iter().map(member).collect(), now(), &mut rng);
//! let shared = Arc::new(Locks::own(vec![Shared::new(Settings::default(), now())]));
//! let upstream = Arc::new(Upstream::of(hosts, shared, seed())); // For `CallLayer` or `Pipeline`.
//!
//! let ask = move |host: usize| async move { TcpStream::connect(addresses[host]).await.is_ok().into() };
//! let watching = tokio::spawn(watch(upstream.hosts().clone(), ask, rng));
//! # let health = |host: usize| upstream.snapshot(now()).hosts.hosts[host].clone().unwrap().health;
//! # while [health(0), health(1)].contains(&Some(health::Mode::Unknown)) {
//! #     tokio::task::yield_now().await;
//! # }
//! # assert_eq!([health(0), health(1)], [Some(health::Mode::Well), Some(health::Mode::Unwell)]);
//! assert_eq!(upstream.snapshot(now()).hosts.usable, 1); // Once both have been asked.
//! watching.abort();
//! # });
//! ```

use std::collections::HashMap;
use std::future::{Future, pending};
use std::sync::Arc;

use seawall_core::call::{Hosts, Probe};
use seawall_core::health::Check;
use seawall_core::rng::Rng;
use tokio::task::{Id, JoinSet};
use tokio::time::timeout_at;

use crate::clock::{instant, now};
use crate::threads::Threads;

/// Asks the hosts whenever they are due, for ever: spawn it on a runtime with timers. `ask` is given the
/// host's place among the hosts and says how the check went; of whether a host is well a [`Check`] is made by
/// `into`.
pub async fn watch<A, F>(hosts: Hosts<Threads>, ask: A, mut rng: Rng)
where
    A: Fn(usize) -> F + Send + Sync + 'static,
    F: Future<Output = Check> + Send,
{
    let ask = Arc::new(ask);
    let mut asked = Asked::default();
    loop {
        while let Some(probe) = hosts.due(now(), &mut rng) {
            let ask = ask.clone();
            asked.put(probe, async move { ask(probe.host).await });
        }
        if let Ok((probe, check)) = timeout_at(instant(hosts.probe_at()), asked.next()).await {
            hosts.probed(now(), &probe, check, &mut rng);
        }
    }
}

/// Questions under way.
#[derive(Default)]
struct Asked {
    tasks: JoinSet<Check>,
    probes: HashMap<Id, Probe>,
}

impl Asked {
    fn put(&mut self, probe: Probe, question: impl Future<Output = Check> + Send + 'static) {
        let question = timeout_at(instant(probe.deadline), question);
        let task = self.tasks.spawn(async { question.await.unwrap_or(Check::Failed) });
        self.probes.insert(task.id(), probe);
    }

    /// The next that is over. May be dropped and asked again.
    async fn next(&mut self) -> (Probe, Check) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let (id, check) = ended.unwrap_or_else(|panicked| (panicked.id(), Check::Failed));
            if let Some(probe) = self.probes.remove(&id) {
                return (probe, check);
            }
        }
        pending().await
    }
}
