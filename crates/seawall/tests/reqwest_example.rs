//! The reqwest example over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seawall::core::call::Stop;
use seawall::now;
use seawall::pipeline::CallError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[allow(dead_code, reason = "its main is not called here")]
#[path = "../examples/reqwest.rs"]
mod example;

/// A host that gives these answers in turn, the last for ever. Returns its address, and how often it
/// was asked.
async fn host(answers: &'static [&'static str]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counts = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let number = counts.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read(&mut [0; 4_096]).await;
            let answer = answers[number.min(answers.len() - 1)];
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

#[tokio::test]
async fn a_failed_attempt_is_made_again_and_the_budget_pays() {
    let (address, asked) = host(&["200 OK", "503 Busy", "200 OK"]).await;
    let orders = example::Orders::new(vec![address]);
    assert_eq!(orders.get("/").await.unwrap().status(), 200);
    assert_eq!(orders.get("/").await.unwrap().status(), 200);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    assert_eq!(orders.upstream().snapshot(now()).calls.budget.unwrap().withdrawn, 1);
}

#[tokio::test]
async fn another_host_takes_the_call_of_one_that_is_gone() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let (answers, _) = host(&["200 OK"]).await;
    let orders = example::Orders::new(vec![refuses, answers]);
    for _ in 0..20 {
        assert_eq!(orders.get("/").await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_host_that_asks_for_a_long_wait_is_not_asked_again_in_this_call() {
    let (address, asked) = host(&["503 Busy\r\nretry-after: 30"]).await;
    let orders = example::Orders::new(vec![address]);
    assert_eq!(orders.get("/").await.unwrap().status(), 503);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_error_of_the_client_is_its_answer() {
    let (address, asked) = host(&["404 Not Found"]).await;
    let orders = example::Orders::new(vec![address]);
    assert_eq!(orders.get("/").await.unwrap().status(), 404);
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn when_nothing_helps_the_real_error_is_returned_and_why_it_ended() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refuses = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let orders = example::Orders::new(vec![refuses]);
    let Err(CallError::Failed { error, stop }) = orders.get("/").await else { panic!("it is gone") };
    assert!(error.is_connect());
    assert!(matches!(stop, Some(Stop::Attempts | Stop::Budget)), "{stop:?}");
}
