//! The tonic example, server and client, over a real socket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use http::uri::PathAndQuery;
use seawall::core::measure::bucket::{Quota, Rate};
use seawall::now;
use seawall::pipeline::CallError;
use tokio::net::TcpListener;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

#[allow(dead_code, reason = "its main is not called here")]
#[path = "../examples/tonic.rs"]
mod example;

use example::{Greeter, Greeting, Hello, serve};

async fn server(burst: u64, failures: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let quota = Quota::new(Rate::per_second(5), burst).unwrap();
    tokio::spawn(serve(listener, quota, failures));
    address
}

/// One call without any policy.
async fn plain(address: SocketAddr, path: &'static str) -> Result<Greeting, Status> {
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let request = Request::new(Hello { name: "Ada".into() });
    let path = PathAndQuery::from_static(path);
    let codec = ProstCodec::<Hello, Greeting>::default();
    grpc.unary(request, path, codec).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_refusal_is_a_status_that_any_client_understands() {
    let address = server(1, 0).await;
    assert_eq!(plain(address, "/example.Greeter/Greet").await.unwrap().text, "hello, Ada");
    let refused = plain(address, "/example.Greeter/Greet").await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "quota exceeded"));
    let field = |name: &str| refused.metadata().get(name).unwrap().to_str().unwrap().to_owned();
    let millis: i32 = field("grpc-retry-pushback-ms").parse().unwrap();
    assert!((1..=220).contains(&millis), "{millis}");
    assert!(field("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!((field("x-seawall-reason"), field("x-seawall-policy")), ("throttled".into(), "caller".into()));
}

#[tokio::test]
async fn a_failed_attempt_is_made_again_and_the_budget_pays() {
    let greeter = Greeter::new(server(100, 1).await);
    assert_eq!(greeter.greet("Ada").await.unwrap(), "hello, Ada");
    assert_eq!(greeter.upstream().snapshot(now()).calls.budget.unwrap().withdrawn, 1);
}

#[tokio::test]
async fn the_push_back_of_the_server_is_obeyed() {
    let greeter = Greeter::new(server(1, 0).await);
    assert_eq!(greeter.greet("Ada").await.unwrap(), "hello, Ada");
    // The bucket has another token after 200 ms, and the server says so; a first backoff is shorter.
    assert_eq!(greeter.greet("Grace").await.unwrap(), "hello, Grace");
    assert_eq!(greeter.upstream().snapshot(now()).calls.budget.unwrap().withdrawn, 1);
}

#[tokio::test]
async fn an_error_of_the_caller_is_its_answer() {
    let address = server(1, 0).await;
    let unknown = plain(address, "/example.Greeter/Shout").await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
}

#[tokio::test]
async fn when_nothing_helps_the_real_status_is_returned() {
    let greeter = Greeter::new(server(100, u32::MAX).await);
    let Err(CallError::Failed { error, stop }) = greeter.greet("Ada").await else {
        panic!("it never greets")
    };
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "restarting"));
    assert!(stop.is_some());
}
