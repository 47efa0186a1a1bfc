//! The hyper example over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[allow(dead_code, reason = "its main is not called here")]
#[path = "../examples/hyper.rs"]
mod example;

/// The first line and all fields of the answer.
async fn get(address: SocketAddr, path: &str, tier: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-tier: {tier}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_flood_is_shed_and_told_when_to_come_back_while_probes_are_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(example::serve(listener));
    assert!(get(address, "/", "critical").await.starts_with("HTTP/1.1 200"));

    let flood: Vec<_> = (0..600)
        .map(|number| {
            let tier = if number % 4 == 0 { "critical_plus" } else { "sheddable" };
            tokio::spawn(async move { (tier, get(address, "/slow", tier).await) })
        })
        .collect();
    let mut refused = [0, 0];
    for answer in flood {
        let (tier, answer) = answer.await.unwrap();
        if answer.starts_with("HTTP/1.1 200") {
            continue;
        }
        assert!(answer.starts_with("HTTP/1.1 50"), "{answer}");
        assert!(answer.contains("retry-after: ") && answer.contains("x-seawall-reason: "), "{answer}");
        if refused == [0, 0] {
            assert!(get(address, "/healthz", "sheddable").await.starts_with("HTTP/1.1 200"));
        }
        refused[usize::from(tier == "sheddable")] += 1;
    }
    assert!(refused[1] > 0, "nothing was shed");
    serving.abort();
}
