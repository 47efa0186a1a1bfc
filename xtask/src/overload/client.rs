//! The generator's HTTP client: keep-alive connections of its own, and what became of a request.
//!
//! A request takes the connection that was used last, or opens one. When it is dropped (its
//! deadline passed) its connection goes with it, by a reset: the origin and the proxy see the
//! client leave, and no port of this machine stays behind in TIME_WAIT, of which thousands per
//! second would use up all ports within seconds. When a proxy has closed an idle connection just
//! as it was used again, the request is sent once more, on a new one, as browsers do.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::Result;

/// The largest body that an answer may have, in bytes.
const BODY_MAX: usize = 64 * 1024;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    /// The `Host` header.
    pub(super) host: String,
    pub(super) path: String,
}

/// What an answer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200.
    Served,
    /// 503, or 429 made by Seawall itself.
    Refused(Hint),
    /// Any other status.
    Other(StatusCode),
}

/// Whether a refusal said when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    RetryAfter,
    Nothing,
}

pub(super) struct Client {
    address: SocketAddr,
    host: HeaderValue,
    path: Uri,
    idle: Mutex<Vec<Connection>>,
}

/// A connection and the task that moves its bytes, which ends with it.
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    mover: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.mover.abort();
    }
}

impl Client {
    pub(super) fn new(target: &Target) -> Result<Client> {
        Ok(Client {
            address: target.address,
            host: HeaderValue::from_str(&target.host)?,
            path: target.path.parse()?,
            idle: Mutex::default(),
        })
    }

    /// One request and its whole answer. Dropping the future drops the connection.
    pub(super) async fn exchange(&self) -> Result<Answer> {
        if let Some(mut connection) = self.reuse().await {
            match self.ask(&mut connection).await {
                Ok(answer) => return Ok(self.keep(connection, answer)),
                Err(error) if went_stale(&*error) => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.connect().await?;
        let answer = self.ask(&mut connection).await?;
        Ok(self.keep(connection, answer))
    }

    /// The idle connection that was used last and is still open.
    async fn reuse(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection, answer: Answer) -> Answer {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        answer
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        stream.set_zero_linger()?;
        let (sender, moving) = http1::handshake(TokioIo::new(stream)).await?;
        // Its error also reaches the request that was under way.
        let mover = tokio::spawn(async move { drop(moving.await) });
        Ok(Connection { sender, mover })
    }

    async fn ask(&self, connection: &mut Connection) -> Result<Answer> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        let response = connection.sender.send_request(request).await?;
        let answer = Answer::of(&response);
        Limited::new(response.into_body(), BODY_MAX).collect().await?;
        Ok(answer)
    }
}

impl Answer {
    fn of<B>(response: &hyper::Response<B>) -> Answer {
        let by_seawall = response.headers().contains_key("x-seawall-reason");
        match response.status() {
            StatusCode::OK => Answer::Served,
            StatusCode::TOO_MANY_REQUESTS if !by_seawall => Answer::Other(StatusCode::TOO_MANY_REQUESTS),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                let hinted = response.headers().contains_key(RETRY_AFTER);
                Answer::Refused(if hinted { Hint::RetryAfter } else { Hint::Nothing })
            }
            status => Answer::Other(status),
        }
    }
}

/// Whether the connection had been closed before it carried anything of this exchange.
fn went_stale(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error
        .downcast_ref::<hyper::Error>()
        .is_some_and(|error| error.is_canceled() || error.is_closed() || error.is_incomplete_message())
}
