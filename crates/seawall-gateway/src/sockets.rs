//! The sockets that the gateway listens on: taken over from the process before, or made.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;

use seawall_config::Config;

use crate::handover::{Named, Predecessor};
use crate::proxy::listen;

/// The sockets of a config.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// For clients, by the listeners of the config.
    pub(crate) listeners: Vec<Vec<TcpListener>>,
    /// For operators.
    pub(crate) admin: TcpListener,
    /// For probes.
    pub(crate) probes: Option<TcpListener>,
    /// Who has served so far.
    pub(crate) predecessor: Option<Predecessor>,
}

/// What could not be done, and why.
type Problem = (String, io::Error);

impl Sockets {
    /// Opens them; of each address for clients one for each worker.
    pub(crate) fn open(config: &Config, workers: usize) -> Result<Sockets, Problem> {
        let cannot = |address: SocketAddr| move |error| (format!("cannot listen on {address}"), error);
        let find = |path: &Path| Predecessor::find(path);
        let predecessor = config.hand_over.as_deref().map(find).transpose();
        let mut predecessor = predecessor.map_err(|error| ("cannot take over".to_owned(), error))?.flatten();
        let has_predecessor = predecessor.is_some();
        let mut given =
            |name: &str| predecessor.as_mut().map(|before| before.sockets(name)).unwrap_or_default();
        let mut listeners = Vec::new();
        for (number, listener) in config.listeners.iter().enumerate() {
            // The kernel would let any process of this user share it.
            if !has_predecessor {
                listen::vacant(listener.address).map_err(cannot(listener.address))?;
            }
            let before = given(&public(number, listener.address));
            let opened = listen::open(listener.address, before, workers);
            listeners.push(opened.map_err(cannot(listener.address))?);
        }
        let mut one = |name: &str, address: SocketAddr| {
            let opened = given(name).pop().map_or_else(|| TcpListener::bind(address), Ok);
            let ready = opened.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
            ready.map_err(cannot(address))
        };
        let admin = one(&admin_of(config.admin.listen), config.admin.listen)?;
        let probes = config.admin.probes.map(|address| one(&probes_of(address), address)).transpose()?;
        Ok(Sockets { listeners, admin, probes, predecessor })
    }

    /// The same sockets once more, to be handed over. They have the names of the addresses that were asked for:
    /// of port 0 nobody could ask for the one that it became.
    pub(crate) fn copies(&self, config: &Config) -> io::Result<Vec<Named>> {
        let copy = |name: String, socket: &TcpListener| -> io::Result<Named> {
            Ok((name, OwnedFd::from(socket.try_clone()?)))
        };
        let mut copies = vec![copy(admin_of(config.admin.listen), &self.admin)?];
        if let (Some(socket), Some(address)) = (&self.probes, config.admin.probes) {
            copies.push(copy(probes_of(address), socket)?);
        }
        for (number, (sockets, listener)) in self.listeners.iter().zip(&config.listeners).enumerate() {
            for socket in sockets {
                copies.push(copy(public(number, listener.address), socket)?);
            }
        }
        Ok(copies)
    }
}

fn public(number: usize, address: SocketAddr) -> String {
    format!("listen {number} {address}")
}

fn admin_of(address: SocketAddr) -> String {
    format!("admin {address}")
}

fn probes_of(address: SocketAddr) -> String {
    format!("probes {address}")
}
