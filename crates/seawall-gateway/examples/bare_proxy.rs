//! A proxy without policies, for measuring what the data plane itself costs:
//! `bare_proxy LISTEN UPSTREAM [WORKERS]`, e.g. `bare_proxy 127.0.0.1:8080 127.0.0.1:3000 1`.

#[path = "../tests/bare/mod.rs"]
mod bare;

use std::time::Duration;

use seawall_gateway::proxy::listen::{Phase, serve};
use seawall_gateway::proxy::upstream::{Protocol, Target};
use tokio::sync::watch;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "bare_proxy LISTEN UPSTREAM [WORKERS]";
    let listen = arguments.next().ok_or(usage)?.parse()?;
    let target = Target {
        authority: arguments.next().ok_or(usage)?,
        protocol: Protocol::Http1,
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(60),
    };
    let workers = arguments.next().map_or(Ok(1), |workers| workers.parse())?;
    let (_phase, phase) = watch::channel(Phase::Serve);
    let make = move || bare::Bare::new(target.clone());
    let serving = serve(listen, workers, Duration::from_secs(1), phase, make)?;
    println!("http://{}", serving.address());
    serving.join();
    Ok(())
}
