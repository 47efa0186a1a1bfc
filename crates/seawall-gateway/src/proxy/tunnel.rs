//! What comes after `101 Switching Protocols`: bytes in both directions, WebSocket's above all.
//!
//! **Mechanics.** The request goes the ordinary way through the gates; when the upstream agrees, its
//! guards are released with the (empty) body of the answer, since how long people stay connected
//! says nothing of the service. From then on bytes are copied until the upstream ends, or until the client
//! has and the upstream has had [`LAST_WORDS`] to say the rest: clients that are gone look the same.
//!
//! **Edges.** A tunnel is one of its route's streams, which are bounded, to its end. Its client
//! may be silent, but must take what is sent to it, and be there: the kernel asks both ends, or one that vanished
//! would keep its place for ever. A drain gives it the grace, no more.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::inbound::Stream;
use super::pulse::{Order, Pulse};
use super::wire::Wire;

/// How long an upstream may go on when its client has nothing more to say.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The other end, and the place that it has among its route's streams.
pub(super) struct Other {
    end: OnUpgrade,
    place: Option<Arc<Stream>>,
}

/// Where a connection finds the other end that its last request agreed on.
pub(super) type Agreed = Rc<RefCell<Option<Other>>>;

/// Notes the other end of an answer that agrees.
pub(super) fn note<B>(agreed: &Agreed, response: &mut Response<B>) {
    let place = response.extensions_mut().remove::<Arc<Stream>>();
    *agreed.borrow_mut() = response.extensions_mut().remove::<OnUpgrade>().map(|end| Other { end, place });
}

/// Copies until either side ends. `read` came from the client already.
pub(super) async fn run(client: Wire, read: Bytes, other: Other, pulse: &Rc<Pulse>) {
    pulse.multiplex();
    let Some(_busy) = pulse.begin() else { return };
    let _place = other.place;
    client.keep_alive();
    let copy = async {
        let Ok(upstream) = other.end.await else { return };
        let mut upstream = TokioIo::new(upstream);
        if upstream.write_all(&read).await.is_ok() {
            both_ways(client, upstream).await;
        }
    };
    let mut copy = pin!(copy);
    poll_fn(|cx| match pulse.heed(cx) {
        Order::Run | Order::Rest | Order::Finish => copy.as_mut().poll(cx),
        Order::TimeOut | Order::End => Poll::Ready(()),
    })
    .await;
}

/// Copies until the upstream ends, or the client has for a while.
async fn both_ways(client: impl AsyncRead + AsyncWrite, upstream: impl AsyncRead + AsyncWrite) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_upstream, mut to_upstream) = tokio::io::split(upstream);
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_upstream).await;
        let _ = to_upstream.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_upstream, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    let mut down = pin!(down);
    tokio::select! {
        () = &mut down => return,
        () = up => {}
    }
    let _ = tokio::time::timeout(LAST_WORDS, down).await;
}
