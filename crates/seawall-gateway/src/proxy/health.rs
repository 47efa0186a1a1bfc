//! Health checks over real sockets: the library asks whom and when core says, here is what is asked.
//!
//! **Mechanics.** Each check has a connection of its own, since what it shall find out is whether
//! one can be made. A host is well that answers `GET` with 200 to 399, accepts a connection, or
//! says SERVING to `grpc.health.v1.Health/Check`, within the time that core gives it.
//!
//! **Edges.** Checks pass by every gate, and no gate learns from them. At most [`READ_MAX`] bytes of
//! an answer are looked at.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use seawall::core::call::Hosts;
use seawall::core::health::Check;
use seawall::core::rng::Rng;
use seawall::http::Full;
use seawall::{Threads, health};

use super::failures;
use super::upstream::{FailureKind, Link, Target};
use seawall_config::{Protocol, Question};

/// The most that is read of an answer.
const READ_MAX: usize = 4_096;
/// `HealthCheckResponse { status: SERVING }`, behind the five bytes of its frame.
const SERVING: &[u8] = &[0x08, 0x01];

/// What a check sends.
type Ask = seawall::http::Held<Incoming, ()>;

/// Asks the hosts whenever core says so, for ever.
pub(crate) async fn watch(hosts: Hosts<Threads>, targets: Arc<[Target]>, question: Question, rng: Rng) {
    let ask = move |host: usize| {
        let (target, question) = (targets[host].clone(), question.clone());
        async move { check(&target, &question).await }
    };
    health::watch(hosts, ask, rng).await;
}

async fn check(target: &Target, question: &Question) -> Check {
    match target.connect(None).await {
        Ok((io, _)) => is_well(io, target, question).await.is_some().into(),
        Err(error) => {
            let kind = FailureKind::of(&error);
            failures::tell(None, &target.authority, kind, &error);
            if kind == FailureKind::Exhausted { Check::Unmade } else { Check::Failed }
        }
    }
}

/// `Some` when it is well.
async fn is_well(io: TokioIo<Link>, target: &Target, question: &Question) -> Option<()> {
    match question {
        Question::Tcp => Some(()),
        Question::Http { path } => {
            let request = request(target, Method::GET, path, target.protocol, Bytes::new())?;
            let response = match target.protocol {
                Protocol::Http1 => over_http1(io, request).await?,
                Protocol::H2c => over_http2(io, request).await?,
            };
            (200..400).contains(&response.status().as_u16()).then_some(())
        }
        Question::Grpc { service } => {
            let path = "/grpc.health.v1.Health/Check";
            let mut request = request(target, Method::POST, path, Protocol::H2c, check_of(service))?;
            request.headers_mut().insert(header::CONTENT_TYPE, "application/grpc".parse().ok()?);
            request.headers_mut().insert(header::TE, "trailers".parse().ok()?);
            let response = over_http2(io, request).await?;
            let serves = response.status() == StatusCode::OK && serving(response.into_body()).await?;
            serves.then_some(())
        }
    }
}

fn request(
    target: &Target,
    method: Method,
    path: &str,
    protocol: Protocol,
    body: Bytes,
) -> Option<Request<Ask>> {
    let uri = match protocol {
        Protocol::Http1 => path.to_owned(),
        Protocol::H2c => format!("{}://{}{path}", target.scheme(), target.authority),
    };
    let request = Request::builder().method(method).uri(uri).header(header::USER_AGENT, "seawall-health");
    let request = match protocol {
        Protocol::Http1 => request.header(header::HOST, &target.authority),
        Protocol::H2c => request,
    };
    request.body(Ask::full(Full::new(body))).ok()
}

async fn over_http1(io: TokioIo<Link>, request: Request<Ask>) -> Option<Response<Incoming>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    tokio::spawn(connection);
    sender.send_request(request).await.ok()
}

async fn over_http2(io: TokioIo<Link>, request: Request<Ask>) -> Option<Response<Incoming>> {
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut sender, connection) = handshake.await.ok()?;
    tokio::spawn(connection);
    sender.send_request(request).await.ok()
}

/// A `HealthCheckRequest` as gRPC frames it.
fn check_of(service: &str) -> Bytes {
    let name = service.as_bytes();
    let length = name.len() as u8; // the config allows 127
    let message = if name.is_empty() { Vec::new() } else { [&[0x0a, length], name].concat() };
    let frame = [&[0, 0, 0, 0, message.len() as u8][..], &message].concat();
    frame.into()
}

/// Whether a `HealthCheckResponse` says SERVING.
async fn serving(body: Incoming) -> Option<bool> {
    let (mut body, mut read) = (pin!(body), Vec::new());
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() > READ_MAX {
            return None;
        }
    }
    Some(read.get(5..) == Some(SERVING))
}
