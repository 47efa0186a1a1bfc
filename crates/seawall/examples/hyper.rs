//! A hyper server with a limit that finds its own capacity and sheds load, least important first.
//!
//! `cargo run -p seawall --example hyper`, then what it prints.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use seawall::core::request::{self, Tier, Traffic};
use seawall::core::shed::{self, guard::Guards, guard::Mark};
use seawall::core::time::{Span, Time};
use seawall::http::{Families, HttpAdapter, Refusals};
use seawall::monitor::{Sampler, watch};
use seawall::{ShedLayer, UserKeys, seed};
use tokio::net::TcpListener;
use tower::{Layer as _, service_fn};

/// Answers on every connection, behind one gate.
pub(crate) async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let keys = UserKeys::new();
    let refusals = Arc::new(Refusals::new(Vec::new(), Families::default(), seed()));
    let seen = move |now: Time, request: &Request<Incoming>| {
        let field = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        request::Request {
            deadline: now + Span::from_secs(2),
            // Believe this of clients that you trust.
            tier: field("x-tier").and_then(Tier::from_name).unwrap_or_default(),
            traffic: if request.uri().path() == "/healthz" { Traffic::Probe } else { Traffic::User },
            ..request::Request::new(keys.key(field("x-api-key").unwrap_or_default().as_bytes()))
        }
    };
    let guards = Guards { memory: Mark::percent(90).ok(), ..Guards::default() };
    let shed = shed::Config { guards, ..shed::Config::default() };
    let shed = ShedLayer::new(shed, HttpAdapter::new(seen, refusals));

    let gate = shed.gate().clone();
    tokio::spawn(watch(Sampler::new(), move |now, reading| gate.observe(now, reading)));

    let service = shed.layer(service_fn(work));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                eprintln!("a connection broke: {error}");
            }
        });
    }
}

/// What the service is for.
async fn work(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/slow" {
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(Response::new(Full::from("hello\n")))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("try:  curl -i -H 'x-tier: sheddable' http://127.0.0.1:3000/slow");
    serve(listener).await
}
