//! A tonic server that throttles each caller and bounds its work, and a client that retries as the
//! server asks it to, within a budget and a deadline.
//!
//! The messages and the method are written out here; they would be generated from a `.proto`.
//!
//! `cargo run -p seawall --example tonic`

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::uri::PathAndQuery;
use prost::Message;
use seawall::admission::AdmissionLayer;
use seawall::call::{Judgement, Upstream};
use seawall::core::call::{Attempt, Config, Repeat, Settings as CallSettings};
use seawall::core::gate::{Gate, Lane, Rule, Settings};
use seawall::core::measure::bucket::{Quota, Rate};
use seawall::core::request;
use seawall::core::time::{Span, Time};
use seawall::core::{breaker, limit, throttle};
use seawall::http::{Families, HttpAdapter, NamedQuota, Refusals, grpc};
use seawall::pipeline::{Attempts, CallError, Pipeline};
use seawall::{Threads, UserKeys, now, seed};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

const GREET: &str = "/example.Greeter/Greet";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hello {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Greeting {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
}

/// What the server is told of requests: who calls, and how long the caller waits.
fn admission(
    quota: Quota,
) -> AdmissionLayer<HttpAdapter<impl Fn(Time, &http::Request<Body>) -> request::Request + Clone>> {
    let rule = Rule::<Threads>::new(throttle::Config::per_user(quota), now());
    let settings = Settings { limit: Some(limit::Config::default()), ..Settings::default() };
    let gate = Gate::new(settings, Lane::default(), now()).throttled(vec![Arc::new(rule)]);

    let keys = UserKeys::new();
    let named = NamedQuota::new("caller", quota).expect("a plain name");
    let refusals = Refusals::new(vec![named], Families::default(), seed());
    let seen = move |now: Time, request: &http::Request<Body>| {
        let caller = request.headers().get("x-api-key").map_or(&b""[..], |key| key.as_bytes());
        let deadline = now + grpc::timeout(request.headers()).unwrap_or(Span::from_secs(5));
        request::Request { deadline, ..request::Request::new(keys.key(caller)) }
    };
    AdmissionLayer::new(Arc::new(gate), HttpAdapter::grpc(seen, Arc::new(refusals)))
}

/// Greets each caller as often as its quota allows; the first `failures` of those answers are lost.
pub(crate) async fn serve(
    listener: TcpListener,
    quota: Quota,
    failures: u32,
) -> Result<(), tonic::transport::Error> {
    let failures = Arc::new(AtomicU32::new(failures));
    let greet = service_fn(move |request: Request<Hello>| {
        let count_down = |left: u32| left.checked_sub(1);
        let fails = failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count_down).is_ok();
        let text = format!("hello, {}", request.into_inner().name);
        std::future::ready(match fails {
            true => Err(Status::unavailable("restarting")),
            false => Ok(Response::new(Greeting { text })),
        })
    });
    let service = service_fn(move |request: http::Request<Body>| {
        let greet = greet.clone();
        async move {
            Ok::<_, Infallible>(match request.uri().path() {
                GREET => tonic::server::Grpc::new(ProstCodec::default()).unary(greet, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        }
    });
    Server::builder().layer(admission(quota)).serve_with_incoming(service, TcpIncoming::from(listener)).await
}

/// How a status speaks of the server, also one that came in the trailers.
fn judge(result: &Result<Response<Greeting>, Status>, repeat: Repeat) -> Judgement {
    match result {
        Ok(response) => grpc::judge(grpc::OK, response.metadata().as_ref(), repeat),
        Err(status) => grpc::judge(status.code() as i32, status.metadata().as_ref(), repeat),
    }
}

type Judge = fn(&Result<Response<Greeting>, Status>, Repeat) -> Judgement;

/// A client.
pub(crate) struct Greeter {
    channel: Channel,
    calls: Pipeline<Attempts, Judge>,
}

impl Greeter {
    /// Of the server at this address.
    pub(crate) fn new(address: SocketAddr) -> Greeter {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI");
        let back = Settings { breaker: Some(breaker::Config::default()), ..Settings::default() };
        let gate = Arc::new(Gate::new(back, Lane::default(), now()));
        let upstream = Arc::new(Upstream::to(vec![gate], CallSettings::default()));
        let calls = Pipeline::calls(upstream, Config::default(), Repeat::Safe).within(Span::from_secs(5));
        Greeter { channel: endpoint.connect_lazy(), calls: calls.judged_by(judge as Judge) }
    }

    /// Is greeted.
    pub(crate) async fn greet(&self, name: &str) -> Result<String, CallError<Status>> {
        let attempt = |attempt| self.attempt(attempt, Hello { name: name.into() });
        self.calls.call(attempt).await.map(|response| response.into_inner().text)
    }

    async fn attempt(&self, attempt: Attempt, hello: Hello) -> Result<Response<Greeting>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(hello);
        request.set_timeout(attempt.deadline.since(now()).into()); // What is left, not what there was.
        grpc.unary(request, PathAndQuery::from_static(GREET), ProstCodec::default()).await
    }

    /// What the calls share.
    pub(crate) fn upstream(&self) -> &Upstream {
        self.calls.upstream()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let greeter = Greeter::new(listener.local_addr()?);
    tokio::spawn(serve(listener, Quota::new(Rate::per_second(1), 3)?, 1));
    for name in ["Ada", "Grace", "Edsger", "Barbara"] {
        match greeter.greet(name).await {
            Ok(text) => println!("{text}"),
            Err(CallError::Failed { error, stop }) => {
                println!("{:?}: {} ({stop:?})", error.code(), error.message())
            }
            Err(error) => println!("{error}"),
        }
    }
    println!("{:?}", greeter.upstream().snapshot(now()).calls.budget);
    Ok(())
}
