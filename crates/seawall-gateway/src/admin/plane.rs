//! Connections of operators and probes: bounded in number and in time.
//!
//! **Prevents** clients that never end a request from taking up every file descriptor, which requests on the
//! road need as well.
//!
//! **Mechanics.** One connection more than there may be takes the place of the oldest: a probe is
//! answered in no time, so whoever has been there for longest is no probe.
//!
//! **Edges.** A connection is closed on which no request comes for [`HEAD`], and one in the midst of it. Those
//! that are open outlive the listener: what was asked is answered.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use seawall::now;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tower_service::Service as _;

use crate::proxy::headers::HEADER_BYTES_MAX;
use crate::proxy::listen::Seldom;

/// How long the head of a request may take, the wait for it included.
const HEAD: Duration = Duration::from_secs(30);
/// The pause after a failure to accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

static CANNOT_ACCEPT: Seldom = Seldom::new();

/// Serves connections, at most so many, until it is dropped.
pub(super) async fn serve(listener: TcpListener, router: Router, most: usize) -> io::Result<()> {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if open.len() >= most {
                    open.retain(|connection| !connection.is_finished());
                }
                if open.len() >= most
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                open.push_back(tokio::spawn(connection(stream, router.clone())).abort_handle());
            }
            Err(error) => {
                if CANNOT_ACCEPT.is_due(now()) {
                    tracing::warn!(%error, "cannot accept an operator or a probe");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection. How it ends is no news.
async fn connection(stream: TcpStream, router: Router) {
    let mut http1 = http1::Builder::new();
    http1.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEADER_BYTES_MAX);
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| router.clone().call(request));
    let _ = http1.serve_connection(TokioIo::new(stream), service).await;
}
