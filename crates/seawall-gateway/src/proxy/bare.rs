//! The data plane without policies: every request goes to one host. What the tests drive.

use std::cell::OnceCell;
use std::rc::Rc;

use super::headers::{self, Client};
use super::listen::Handler;
use super::outbound::Outbound;
use super::outgoing::Outgoing;
use super::room::Room;
use super::told::Told;
use super::upstream::{Answered, Lease, Pool, Target};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use seawall::http::{Full, Held};

/// Sends everything to one host.
pub(super) struct Bare {
    target: Target,
    pool: OnceCell<Rc<Pool>>,
}

impl Bare {
    pub(super) fn new(target: Target) -> Bare {
        Bare { target, pool: OnceCell::new() }
    }
}

impl Handler for Bare {
    type Body = Held<Incoming, Lease>;

    async fn handle(self: Rc<Self>, client: Client, request: Request<Incoming>) -> Response<Self::Body> {
        let pool = self.pool.get_or_init(|| Pool::new(self.target.clone(), &Room::new(usize::MAX)));
        let mut request = request.map(Outbound::new);
        headers::strip_hop_by_hop(request.headers_mut());
        let hop = headers::Hop {
            client: &client,
            trusted: false,
            scheme: headers::Scheme::Http,
            says_forwarded: false,
        };
        headers::forwarded(request.headers_mut(), &hop);
        match pool.send(Outgoing::new(request), Told::default()).await {
            Ok(answered) => {
                let Answered { response, connection, .. } = *answered;
                let mut response = response.map(|body| Held::new(body, connection));
                headers::strip_hop_by_hop(response.headers_mut());
                response
            }
            Err(failure) => {
                let text = Bytes::from_static(failure.kind.token().as_bytes());
                let mut response = Response::new(Held::full(Full::new(text)));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }
        }
    }
}
