//! The axum example over a real socket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[allow(dead_code, reason = "its main is not called here")]
#[path = "../examples/axum.rs"]
mod example;

async fn get(address: SocketAddr, user: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-api-key: {user}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn each_user_has_a_quota_and_a_refusal_says_all_about_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = example::app(3).into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });

    for left in [2, 1] {
        let answer = get(address, "one").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(&format!("ratelimit: \"user\";r={left}\r\n")), "{answer}");
        assert!(answer.contains("ratelimit-policy: \"user\";q=3;w=180\r\n"), "{answer}");
    }
    assert!(get(address, "one").await.starts_with("HTTP/1.1 200"));
    let refused = get(address, "one").await;
    assert!(refused.starts_with("HTTP/1.1 429"), "{refused}");
    for part in [
        "retry-after: 6",
        "ratelimit: \"user\";r=0;t=6",
        "x-seawall-reason: throttled\r\n",
        "content-type: application/problem+json\r\n",
        "\"violated-policies\":[\"user\"]",
    ] {
        assert!(refused.contains(part), "no {part} in {refused}");
    }
    assert!(get(address, "two").await.starts_with("HTTP/1.1 200"));
}
