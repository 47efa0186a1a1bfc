//! gRPC over HTTP/2, and HTTP/2 over TLS, with real frames.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Channel, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::harness::{Gateway, config, get, origin_that_says};

type Body = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A service that speaks HTTP/2: `/s/Echo` returns each message as it comes, and ends with a status in the
/// trailers, which `x-status` gives; `/s/Promise` returns them together at the end, `/s/Gather` begins its answer
/// only then, and `/s/Silent` never. `/s/Never` is not available, and wants no other attempt. It counts its calls.
async fn service(calls: Arc<AtomicU32>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let stream = listener.accept().await.unwrap().0;
            let calls = calls.clone();
            let serve = service_fn(move |request: Request<Incoming>| {
                calls.fetch_add(1, Ordering::SeqCst);
                async move { Ok::<_, Infallible>(answer(request).await) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), serve));
        }
    });
    address
}

async fn answer(request: Request<Incoming>) -> Response<Body> {
    let response = Response::builder().header("content-type", "application/grpc");
    if request.uri().path() == "/s/Never" {
        let response = response.header("grpc-status", "14").header("grpc-retry-pushback-ms", "-1");
        return response.body(whole("")).unwrap();
    }
    let given = request.headers().get("grpc-timeout").cloned();
    let status = request.headers().get("x-status").cloned().unwrap_or_else(|| "0".parse().unwrap());
    let path = request.uri().path().to_owned();
    let mut asked = request.into_body().map_err(Into::into).boxed();
    if matches!(&*path, "/s/Gather" | "/s/Silent") {
        asked = whole(asked.collect().await.map(|all| all.to_bytes()).unwrap_or_default());
    }
    if path == "/s/Silent" {
        std::future::pending::<()>().await;
    }
    let (mut to_client, body) = Channel::<Bytes, Box<dyn std::error::Error + Send + Sync>>::new(1);
    tokio::spawn(async move {
        if path == "/s/Promise" {
            asked = whole(asked.collect().await.map(|all| all.to_bytes()).unwrap_or_default());
        }
        while let Some(Ok(frame)) = asked.frame().await {
            // Who asked may have gone, which is no fault: a panic here would halt the test while it is printed.
            if let Ok(data) = frame.into_data() {
                let _ = to_client.send_data(data).await;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status);
        let _ = to_client.send_trailers(trailers).await;
    });
    let response = given.into_iter().fold(response, |response, given| response.header("x-given", given));
    response.body(body.boxed()).unwrap()
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

async fn connect(address: &str) -> SendRequest<Body> {
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn before(name: &str, service: &str, route: &str) -> Gateway {
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{service}\"]\nprotocol = \"h2c\"\n[route.r]\nupstream = \"u\"\n{route}\n"
    );
    Gateway::start(&[&config(name, &file)])
}

fn call(path: &str, body: Body) -> Request<Body> {
    let request = Request::post(format!("http://a.example{path}")).header("content-type", "application/grpc");
    request.header("te", "trailers").header("grpc-timeout", "5S").body(body).unwrap()
}

#[tokio::test]
async fn a_stream_of_messages_goes_both_ways_at_once_and_ends_with_trailers() {
    let gateway = before("grpc-stream.toml", &service(Arc::default()).await, "");
    let (mut to_service, body) = Channel::<Bytes, Box<dyn std::error::Error + Send + Sync>>::new(1);
    let response = connect(&gateway.address).await.send_request(call("/s/Echo", body.boxed())).await.unwrap();
    assert_eq!(response.status(), 200);
    let given = response.headers()["x-given"].to_str().unwrap();
    let micros: u64 = given.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1..5_000_000).contains(&micros), "{given}");
    let mut answer = response.into_body();
    for message in ["one", "two", "three"] {
        to_service.send_data(Bytes::from_static(message.as_bytes())).await.unwrap();
        // The answer to each comes before the next is asked.
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), message);
    }
    drop(to_service);
    let trailers = answer.frame().await.unwrap().map(Frame::into_trailers).unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn a_stream_that_has_begun_outlives_the_deadline_of_its_route() {
    let deadline = Duration::from_millis(200);
    let gateway = before("grpc-long.toml", &service(Arc::default()).await, "deadline = \"200ms\"");
    let (mut to_service, body) = Channel::<Bytes, Box<dyn std::error::Error + Send + Sync>>::new(1);
    let response = connect(&gateway.address).await.send_request(call("/s/Echo", body.boxed())).await.unwrap();
    let given = response.headers()["x-given"].to_str().unwrap().strip_suffix('u').unwrap();
    assert!(given.parse::<u128>().unwrap() > deadline.as_micros(), "what the client gave: {given}");
    let (began, mut answer) = (Instant::now(), response.into_body());
    while began.elapsed() < 2 * deadline {
        to_service.send_data(Bytes::from_static(b"on")).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "on");
    }
    drop(to_service);
    let trailers = answer.frame().await.unwrap().map(Frame::into_trailers).unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

#[tokio::test]
async fn a_call_whose_client_gives_no_time_is_given_none() {
    let gateway = before("grpc-no-time.toml", &service(Arc::default()).await, "");
    let mut request = call("/s/Echo", whole("x"));
    request.headers_mut().remove("grpc-timeout");
    let response = connect(&gateway.address).await.send_request(request).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("x-given")), (200, None));
}

#[tokio::test]
async fn who_pushes_back_is_not_asked_again() {
    let calls = Arc::<AtomicU32>::default();
    let retry = "retry = { idempotency_key = true, backoff = { kind = \"none\" } }";
    let gateway = before("grpc-push-back.toml", &service(calls.clone()).await, retry);
    let mut request = call("/s/Never", whole("x"));
    request.headers_mut().insert("idempotency-key", "\"k\"".parse().unwrap());
    let response = connect(&gateway.address).await.send_request(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"14".parse().unwrap())
    );
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refusal_asks_for_a_wait_as_grpc_says_it() {
    let throttle = "throttle = [{ per = \"user\", rate = \"10/s\", burst = 1 }]";
    let gateway = before("grpc-throttled.toml", &service(Arc::default()).await, throttle);
    let mut sender = connect(&gateway.address).await;
    let mut refused = HeaderMap::new();
    // As often as it takes to be quicker than the quota.
    while !refused.contains_key("x-seawall-reason") {
        let request = call("/s/Never", Full::default().map_err(|never| match never {}).boxed());
        refused = sender.send_request(request).await.unwrap().into_parts().0.headers;
    }
    assert_eq!(refused["grpc-status"], "8");
    let millis: u64 = refused["grpc-retry-pushback-ms"].to_str().unwrap().parse().unwrap();
    assert!((1..=110).contains(&millis), "{millis}");
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_asks_for_a_wait_too() {
    let gateway = before("grpc-unreached.toml", "127.0.0.1:1", "");
    let request = call("/s/Echo", Full::default().map_err(|never| match never {}).boxed());
    let response = connect(&gateway.address).await.send_request(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "14");
    let millis: u64 = response.headers()["grpc-retry-pushback-ms"].to_str().unwrap().parse().unwrap();
    assert!((1_000..=1_100).contains(&millis), "{millis}");
}

#[tokio::test]
async fn a_method_that_no_route_takes_is_not_implemented() {
    let gateway = before("grpc-no-route.toml", &service(Arc::default()).await, "path = \"/s/*\"");
    let request = call("/other/Echo", whole("x"));
    let response = connect(&gateway.address).await.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let headers = response.headers();
    assert_eq!(
        (&headers["grpc-status"], &headers["grpc-message"]),
        (&"12".parse().unwrap(), &"no_route".parse().unwrap())
    );
    assert_eq!(headers["content-type"], "application/grpc");
    assert!(response.into_body().frame().await.is_none());
}

/// A call without a time of its own.
fn timeless(path: &str, body: Body) -> Request<Body> {
    let mut request = call(path, body);
    request.headers_mut().remove("grpc-timeout");
    request
}

#[tokio::test]
async fn what_a_client_streams_outlives_the_deadline_of_its_route_and_gives_its_place_back() {
    let deadline = Duration::from_millis(200);
    let file = format!(
        "[upstream.u]\nhosts = [\"http://{}\"]\nprotocol = \"h2c\"\n\
         limit = {{ adaptive = false, max = 1, queue = 0 }}\n\
         [route.r]\nupstream = \"u\"\ndeadline = \"200ms\"\n",
        service(Arc::default()).await
    );
    let gateway = Gateway::start(&[&config("grpc-client-stream.toml", &file)]);
    let mut client = connect(&gateway.address).await;
    let (mut to_service, body) = Channel::<Bytes, Box<dyn std::error::Error + Send + Sync>>::new(1);
    let mut answer = std::pin::pin!(client.send_request(timeless("/s/Gather", body.boxed())));
    assert!(timeout(2 * deadline, &mut answer).await.is_err(), "it has not begun");
    to_service.send_data(Bytes::from_static(b"one, ")).await.unwrap();
    assert!(timeout(2 * deadline, &mut answer).await.is_err(), "it has not ended");
    assert!(get(&gateway.admin, "/metrics", "").body.contains("seawall_streams{route=\"r\"} 1.0"));
    let other = timeless("/s/Echo", whole("x"));
    let other = connect(&gateway.address).await.send_request(other).await.unwrap();
    assert_eq!(other.headers().get("grpc-status"), None, "there is a place");
    drop(other);
    to_service.send_data(Bytes::from_static(b"two")).await.unwrap();
    drop(to_service);
    let all = answer.await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(all.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(all.to_bytes(), "one, two");
}

#[tokio::test]
async fn a_call_that_came_as_a_whole_is_under_the_deadline_of_its_route() {
    let gateway = before("grpc-unary.toml", &service(Arc::default()).await, "deadline = \"200ms\"");
    let request = timeless("/s/Silent", whole("x"));
    let response = connect(&gateway.address).await.send_request(request).await.unwrap();
    let headers = response.headers();
    assert_eq!(
        (&headers["grpc-status"], &headers["grpc-message"]),
        (&"4".parse().unwrap(), &"expired".parse().unwrap())
    );
}

#[tokio::test]
async fn a_stream_is_silent_when_nothing_comes_from_either_side() {
    let idle = Duration::from_millis(500);
    let route = "deadline = \"100ms\"\nstreams = { idle = \"500ms\" }";
    let gateway = before("grpc-idle.toml", &service(Arc::default()).await, route);
    let (mut to_service, body) = Channel::<Bytes, Box<dyn std::error::Error + Send + Sync>>::new(1);
    let request = timeless("/s/Promise", body.boxed());
    let response = connect(&gateway.address).await.send_request(request).await.unwrap();
    let (began, mut answer) = (Instant::now(), response.into_body());
    while began.elapsed() < 2 * idle {
        to_service.send_data(Bytes::from_static(b"on")).await.unwrap();
        assert!(timeout(idle / 10, answer.frame()).await.is_err(), "after {:?}", began.elapsed());
    }
    assert!(answer.frame().await.unwrap().is_err(), "nothing came for too long");

    let (mut to_service, body) = Channel::<Bytes, Box<dyn std::error::Error + Send + Sync>>::new(1);
    let mut client = connect(&gateway.address).await;
    let mut answer = std::pin::pin!(client.send_request(timeless("/s/Gather", body.boxed())));
    to_service.send_data(Bytes::from_static(b"on")).await.unwrap();
    assert!(timeout(idle / 2, &mut answer).await.is_err(), "it may rest");
    let headers = answer.await.unwrap().headers().clone();
    assert_eq!(
        (&headers["grpc-status"], &headers["grpc-message"]),
        (&"4".parse().unwrap(), &"slow".parse().unwrap())
    );
}

#[tokio::test]
async fn an_answer_that_never_has_a_body_has_no_length() {
    let origin = origin_that_says("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n");
    let gateway = Gateway::start(&["--upstream", &format!("http://{origin}")]);
    let request =
        Request::get("http://a.example/").body(Full::default().map_err(|never| match never {}).boxed());
    let response = connect(&gateway.address).await.send_request(request.unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("content-length")), (204, None));
}

#[tokio::test]
async fn a_status_in_the_trailers_counts_as_one_in_the_head() {
    for (status, statuses) in [("13", ["13", "13", "13", "13", "14"]), ("7", ["7"; 5])] {
        let file = format!(
            "[upstream.u]\nhosts = [\"http://{}\"]\nprotocol = \"h2c\"\n\
             breaker = {{ failure_rate = \"100%\", window = 9, min_calls = 4, open = \"1m\" }}\n\
             [route.r]\nupstream = \"u\"\nretry = false\n",
            service(Arc::default()).await
        );
        let gateway = Gateway::start(&[&config(&format!("grpc-trailers-{status}.toml"), &file)]);
        let mut client = connect(&gateway.address).await;
        for expected in statuses {
            let mut request = call("/s/Echo", whole("x"));
            request.headers_mut().insert("x-status", status.parse().unwrap());
            let response = client.send_request(request).await.unwrap();
            let in_head = response.headers().get("grpc-status").cloned();
            let trailers = response.into_body().collect().await.unwrap().trailers().cloned();
            let came = in_head.or_else(|| trailers?.get("grpc-status").cloned());
            assert_eq!(came, Some(expected.parse().unwrap()));
        }
        let metrics = get(&gateway.admin, "/metrics", "").body;
        assert!(metrics.contains("seawall_answers_broken_total{route=\"r\"} 0"));
        let availability = if status == "7" { "1.0" } else { "0.0" };
        assert!(
            metrics.contains(&format!("seawall_availability{{route=\"r\"}} {availability}")),
            "{metrics}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_a_failure_by_its_head_is_bad() {
    let gateway = before("grpc-head-bad.toml", &service(Arc::default()).await, "retry = false");
    let response = connect(&gateway.address).await.send_request(call("/s/Never", whole("x"))).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "14");
    let metrics = get(&gateway.admin, "/metrics", "").body;
    assert!(metrics.contains("seawall_availability{route=\"r\"} 0.0"), "{metrics}");
}
