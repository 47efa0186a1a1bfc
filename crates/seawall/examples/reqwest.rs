//! A reqwest client: two hosts, retries paid for by a budget, a breaker for each host, a deadline.
//!
//! `cargo run -p seawall --example reqwest -- http://127.0.0.1:3000/ http://127.0.0.1:3001/`

use std::sync::Arc;

use reqwest::{Client, Response};
use seawall::call::{Judgement, Upstream};
use seawall::core::breaker;
use seawall::core::call::{Config, Repeat, Settings as CallSettings};
use seawall::core::gate::{Gate, Lane, Settings};
use seawall::core::outcome::Outcome;
use seawall::core::time::Span;
use seawall::http;
use seawall::now;
use seawall::pipeline::{Attempts, CallError, Pipeline};

/// How a status or an error speaks of the host: `Retry-After`, 429 and the rest are read by Seawall.
fn judge(result: &Result<Response, reqwest::Error>, repeat: Repeat) -> Judgement {
    match result {
        Ok(response) => http::judge(response.status(), response.headers(), repeat),
        // Nothing was sent, so sending it is not sending it twice.
        Err(error) if error.is_connect() => {
            Judgement { outcome: Outcome::Failure, repeat: Repeat::Unreached }
        }
        Err(_) => Judgement { outcome: Outcome::Failure, repeat },
    }
}

type Judge = fn(&Result<Response, reqwest::Error>, Repeat) -> Judgement;

/// A service of several hosts, asked by GET.
pub(crate) struct Orders {
    client: Client,
    hosts: Vec<String>,
    calls: Pipeline<Attempts, Judge>,
}

impl Orders {
    /// Behind these addresses.
    pub(crate) fn new(hosts: Vec<String>) -> Orders {
        let back = Settings {
            breaker: Some(breaker::Config::default()),
            ramp: Span::from_secs(5),
            ..Settings::default()
        };
        let gates = hosts.iter().map(|_| Arc::new(Gate::new(back, Lane::default(), now()))).collect();
        // Retries may be a tenth of what succeeds.
        let upstream = Arc::new(Upstream::to(gates, CallSettings::default()));
        // Both times end when the head of an answer has come; its body is read outside of the call.
        let config = Config { per_attempt: Some(Span::from_millis(800)), ..Config::default() };
        let calls = Pipeline::calls(upstream, config, Repeat::Safe).within(Span::from_secs(2));
        Orders { client: Client::new(), hosts, calls: calls.judged_by(judge as Judge) }
    }

    /// Asks whichever host will answer.
    pub(crate) async fn get(&self, path: &str) -> Result<Response, CallError<reqwest::Error>> {
        let send = |host: usize| self.client.get(format!("{}{path}", self.hosts[host])).send();
        self.calls.call(|attempt| send(attempt.host)).await
    }

    /// What the calls share.
    pub(crate) fn upstream(&self) -> &Upstream {
        self.calls.upstream()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let hosts: Vec<String> = std::env::args().skip(1).collect();
    if hosts.is_empty() {
        eprintln!("name the hosts to ask, such as http://127.0.0.1:3000/ http://127.0.0.1:3001/");
        return;
    }
    let orders = Orders::new(hosts);
    for _ in 0..10 {
        match orders.get("").await {
            Ok(response) => println!("{}", response.status()),
            Err(CallError::Failed { error, stop }) => println!("failed: {error} ({stop:?})"),
            Err(error) => println!("{error}"),
        }
    }
    println!("{:?}", orders.upstream().snapshot(now()).calls.budget);
}
