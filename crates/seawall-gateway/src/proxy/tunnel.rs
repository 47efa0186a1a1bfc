//! What comes after `101 Switching Protocols`: bytes in both directions, WebSocket's above all.
//!
//! **Mechanics.** The request goes the ordinary way through the gates; when the upstream agrees, its
//! guards are released with the (empty) body of the answer, since how long people stay connected
//! says nothing of the service. From then on bytes are copied until either side ends.
//!
//! **Edges.** A tunnel keeps its place among the connections of the gateway, which bounds them. Its client
//! may be silent, but must take what is sent to it. A drain gives it the grace, no more.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::pulse::{Order, Pulse};
use super::wire::Wire;

/// Where a connection finds the other end that its last request agreed on.
pub(super) type Agreed = Rc<RefCell<Option<OnUpgrade>>>;

/// Notes the other end of an answer that agrees.
pub(super) fn note<B>(agreed: &Agreed, response: &mut Response<B>) {
    *agreed.borrow_mut() = response.extensions_mut().remove::<OnUpgrade>();
}

/// Copies until either side ends. `read` came from the client already.
pub(super) async fn run(mut client: Wire, read: Bytes, other: OnUpgrade, pulse: &Rc<Pulse>) {
    pulse.multiplex();
    let Some(_busy) = pulse.begin() else { return };
    let copy = async {
        let Ok(upstream) = other.await else { return };
        let mut upstream = TokioIo::new(upstream);
        if upstream.write_all(&read).await.is_ok() {
            let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        }
    };
    let mut copy = pin!(copy);
    poll_fn(|cx| match pulse.heed(cx) {
        Order::Run | Order::Finish => copy.as_mut().poll(cx),
        Order::TimeOut | Order::End => Poll::Ready(()),
    })
    .await;
}
