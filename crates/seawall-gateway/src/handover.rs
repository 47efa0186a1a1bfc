//! Hand-over: a new process takes the sockets that the old one listens on.
//!
//! **Prevents** lost connections when the gateway is replaced: the sockets are the same ones, so whoever the
//! kernel has let in already waits there for the new process.
//!
//! **Mechanics.** The config names a socket file (`hand_over`). A process that starts finds the old one
//! there, gets its sockets, makes everything ready, and says that it takes over. Only then the old one
//! stops accepting and answering operators, says so, and drains; the new one reads which routes are
//! blocked, and serves. The old one does not end, however soon it has drained, before it has said so.
//!
//! **Edges.** Only processes of the same user are answered. A new process that fails before it takes over
//! has changed nothing. A file that nobody answers on was left behind: the sockets are made anew.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::sync::{mpsc, oneshot};

use crate::admin::Order;

/// How long each may keep the other waiting.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a new process may take until it takes over.
const READY: Duration = Duration::from_secs(60);
/// The longest name of a socket, in bytes.
const NAME_MAX: usize = 256;
/// The most sockets.
const SOCKETS_MAX: usize = 4_096;
const END: &[u8] = b"end\n";
const TAKE: &[u8] = b"take\n";
const YOURS: &[u8] = b"yours\n";

/// A socket and what it is for.
pub(crate) type Named = (String, OwnedFd);

/// The process that has served so far.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: UnixStream,
    given: BTreeMap<String, Vec<OwnedFd>>,
}

impl Predecessor {
    /// The one that answers on this file, with its sockets; `None` when nobody does.
    pub(crate) fn find(path: &Path) -> io::Result<Option<Predecessor>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut given: BTreeMap<String, Vec<OwnedFd>> = BTreeMap::new();
        for _ in 0..SOCKETS_MAX {
            match receive(&stream)? {
                Received::Socket(name, socket) => given.entry(name).or_default().push(socket),
                Received::End => return Ok(Some(Predecessor { stream, given })),
                // It is ending by itself.
                Received::Nothing => return Ok(None),
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the process before has too many sockets"))
    }

    /// Its sockets of this name.
    pub(crate) fn sockets(&mut self, name: &str) -> Vec<TcpListener> {
        self.given.remove(name).unwrap_or_default().into_iter().map(TcpListener::from).collect()
    }

    /// From now on this process serves.
    pub(crate) fn take_over(mut self) -> io::Result<()> {
        self.stream.write_all(TAKE)?;
        let mut answer = [0; YOURS.len()];
        self.stream.read_exact(&mut answer)?;
        if answer == *YOURS { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }
}

enum Received {
    Socket(String, OwnedFd),
    End,
    Nothing,
}

fn receive(stream: &UnixStream) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let (mut control, mut text) = (RecvAncillaryBuffer::new(&mut space), [0; NAME_MAX]);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let read = recvmsg(stream, &mut [IoSliceMut::new(&mut text)], &mut control, flags)?.bytes;
    let socket = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    let nonsense = || io::Error::new(io::ErrorKind::InvalidData, "the process before makes no sense");
    match (socket, &text[..read]) {
        (Some(socket), name) => {
            let name = String::from_utf8(name.to_vec()).map_err(|_| nonsense())?;
            Ok(Received::Socket(name.trim_end().to_owned(), socket))
        }
        (None, b"") => Ok(Received::Nothing),
        (None, END) => Ok(Received::End),
        (None, _) => Err(nonsense()),
    }
}

/// A process that takes over, and waits to hear that this one stops.
#[derive(Debug)]
pub(crate) struct Successor {
    stopped: oneshot::Sender<()>,
    told: oneshot::Receiver<()>,
}

impl Successor {
    /// Tells it that this process has stopped, and waits until it could hear so. It may have gone meanwhile.
    pub(crate) async fn tell(self) {
        let _ = self.stopped.send(());
        let _ = self.told.await;
    }
}

/// What this process would hand over.
#[derive(Debug)]
pub(crate) struct Offer {
    path: PathBuf,
    sockets: Arc<Mutex<Vec<Named>>>,
}

impl Offer {
    /// Offers these sockets on this file to whoever comes after; `control` is told when that happens.
    pub(crate) fn make(path: &Path, sockets: Vec<Named>, control: mpsc::Sender<Order>) -> io::Result<Offer> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        let offer = Offer { path: path.to_owned(), sockets: Arc::new(Mutex::new(sockets)) };
        let sockets = offer.sockets.clone();
        std::thread::Builder::new().name("hand-over".to_owned()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok).filter(is_own) {
                match hand_over(stream, &sockets, &control) {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, "a process came to take over and did not"),
                }
            }
        })?;
        Ok(offer)
    }

    /// Nobody gets them any more: another has them, or this process ends.
    pub(crate) fn withdraw(self, has_successor: bool) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if !has_successor {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the other end is a process of the same user.
fn is_own(stream: &UnixStream) -> bool {
    let credentials = rustix::net::sockopt::socket_peercred(stream);
    credentials.is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

fn hand_over(
    mut stream: UnixStream,
    sockets: &Mutex<Vec<Named>>,
    control: &mpsc::Sender<Order>,
) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(READY))?;
    for (name, socket) in &*sockets.lock().unwrap_or_else(PoisonError::into_inner) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let given = [socket.as_fd()];
        rights.push(SendAncillaryMessage::ScmRights(&given));
        sendmsg(&stream, &[IoSlice::new(format!("{name}\n").as_bytes())], &mut rights, SendFlags::empty())?;
    }
    stream.write_all(END)?;
    let mut word = [0; TAKE.len()];
    stream.read_exact(&mut word)?;
    if word != *TAKE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let (stopped, has_stopped) = oneshot::channel();
    // Dropped, which says the same, where it cannot be told.
    let (_tells, told) = oneshot::channel();
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    control.blocking_send(Order::HandOver(Successor { stopped, told })).map_err(|_| gone(()))?;
    has_stopped.blocking_recv().map_err(|_| gone(()))?;
    stream.write_all(YOURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_over_is_told_before_the_process_before_may_end() {
        let path = std::env::temp_dir().join(format!("seawall-{}-told", std::process::id()));
        for _ in 0..100 {
            let (control, mut orders) = mpsc::channel(1);
            let offer = Offer::make(&path, Vec::new(), control).unwrap();
            let Predecessor { mut stream, .. } = Predecessor::find(&path).unwrap().unwrap();
            stream.write_all(TAKE).unwrap();
            let Some(Order::HandOver(successor)) = orders.blocking_recv() else { panic!("another order") };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(successor.tell());
            stream.set_nonblocking(true).unwrap();
            let mut answer = [0; YOURS.len()];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, *YOURS);
            offer.withdraw(false);
        }
    }
}
