//! `cargo xtask overload`: what is left of a service at 1.2, 2, 5 and 10 times its capacity,
//! with Seawall in front of it or without.
//!
//! The mechanics, per point: a fresh origin (and gateway); 10 s at half the capacity; then the
//! point's rate, of which the first 3 s are dropped and `--seconds` count. The origin's capacity
//! is measured first, with more clients than workers. With `--falls-to`, the load then falls, and it is
//! told how soon clients are served again (see `recovery`). See `origin` for the service and
//! `generator` for the clients.
//!
//! The origin and the generator run as processes of their own, from an *optimised* build of this
//! program, which the bench makes first: the generator must cost little on a machine that it
//! shares with what it measures. An optimised profile for the tool as a whole would instead make
//! every `cargo xtask test` slower to build.

mod client;
pub(crate) mod generator;
pub(crate) mod origin;
pub(crate) mod processes;
mod recovery;
mod report;
mod wire;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use tokio::signal::unix::{SignalKind, signal};

use self::client::Target;
use self::generator::{Leg, Load, Open, Plan, Said, Tally};
use self::origin::{Stats, WORKERS};
use self::processes::{Gateway, Generator, Origin};
use self::report::{Cpu, Point, Refusal, Report};
use crate::Result;

/// How long a client waits for its answer.
const DEADLINE_MS: u64 = 250;
/// The load before each point, as a multiple of the capacity, and for how long.
const WARM_UP: f64 = 0.5;
const WARM_UP_S: u64 = 10;
/// Seconds at the point's rate that do not count.
const DROPPED_S: u64 = 3;
/// Seconds that are watched after the load fell.
const AFTER_S: u64 = 10;
/// Clients who saturate the origin while its capacity is measured, and how long they settle.
const SATURATING_CLIENTS: u32 = 8 * WORKERS as u32;
const SETTLE_S: u64 = 1;

#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask overload --at 0.9,2,10 --through gateway --json overload.json")]
pub(crate) struct Args {
    /// Offered loads, as multiples of the measured capacity
    #[arg(long, value_delimiter = ',', default_value = "0.9,1.2,2,5,10", value_parser = multiple)]
    at: Vec<f64>,
    /// What stands before the origin: `none`, `gateway` (built and started here), or the `http://`
    /// URL of a proxy that you have started, before `127.0.0.1` and the origin's port
    #[arg(long, default_value = "gateway")]
    through: Through,
    /// Seconds that count, per point
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How often a client that was refused, failed or waited in vain asks again, at once
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10))]
    retries: u32,
    /// The load to which each point falls afterwards: says how soon 95 % are served in time again
    #[arg(long, value_parser = multiple)]
    falls_to: Option<f64>,
    /// The seed of arrivals and service times
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the origin listens when `--through` is a URL
    #[arg(long, default_value_t = 3001)]
    origin_port: u16,
    /// Seconds that the origin's capacity is measured for; its error is about 3.5 % / √seconds
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    capacity_seconds: u64,
    /// Also write everything as JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

fn multiple(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 20.0 => Ok(value),
        _ => Err("must be a number above 0 and at most 20".to_owned()),
    }
}

/// What stands before the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Through {
    None,
    Gateway,
    Proxy(Target),
}

impl FromStr for Through {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Through, String> {
        match text {
            "none" => return Ok(Through::None),
            "gateway" => return Ok(Through::Gateway),
            _ => {}
        }
        let url: hyper::Uri = text.parse().map_err(|error| format!("{error}"))?;
        let host = match (url.scheme_str(), url.authority()) {
            (Some("http"), Some(host)) => host,
            _ => return Err("must be `none`, `gateway` or an http:// URL".to_owned()),
        };
        let address = (host.host(), host.port_u16().unwrap_or(80))
            .to_socket_addrs()
            .map_err(|error| format!("{host}: {error}"))?
            .next()
            .ok_or_else(|| format!("{host} has no address"))?;
        Ok(Through::Proxy(Target { address, host: host.to_string(), path: url.path().to_owned() }))
    }
}

impl Through {
    fn name(&self) -> String {
        match self {
            Through::None => "none".to_owned(),
            Through::Gateway => "gateway".to_owned(),
            Through::Proxy(target) => format!("http://{}{}", target.host, target.path),
        }
    }
}

/// Runs the bench until it ends, fails or is interrupted; its children end with it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            done = bench(args) => done,
            _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            _ = terminated.recv() => Err("terminated".into()),
        }
    })
}

async fn bench(args: &Args) -> Result<()> {
    processes::build("xtask").await?;
    if args.through == Through::Gateway {
        processes::build("seawall-gateway").await?;
    }
    processes::raise_descriptor_limit();
    let capacity = capacity(args).await?;
    let mut points = Vec::new();
    for (index, &at) in args.at.iter().enumerate() {
        // Each point has arrivals of its own, the same whatever stands before the origin.
        let seed = args.seed.wrapping_add(1 + index as u64);
        let progress = format!("point {} of {}, {at}x", index + 1, args.at.len());
        points.push(point(args, at, capacity, seed, &progress).await?);
    }
    let report = Report {
        schema: 1,
        through: args.through.name(),
        seed: args.seed,
        deadline_ms: DEADLINE_MS,
        capacity,
        refusal: Refusal::fit(&points),
        points,
    };
    if let Some(path) = &args.json {
        let mut json = serde_json::to_vec_pretty(&report)?;
        json.push(b'\n');
        std::fs::write(path, json).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    print!("{report}");
    Ok(())
}

/// The origin's completions per second when it never lacks work.
async fn capacity(args: &Args) -> Result<f64> {
    let mut origin = Origin::start(0, args.seed).await?;
    let load =
        Load::Closed { clients: SATURATING_CLIENTS, settle_s: SETTLE_S, counted_s: args.capacity_seconds };
    let plan = Plan { target: target(origin.address), load };
    let mut generator = Generator::start(&plan)?;
    let (mut before, mut after) = (None, None);
    loop {
        match generator.hear("measuring the origin's capacity").await? {
            Said::Counting => before = Some(origin.stats().await?),
            Said::Counted => after = Some(origin.stats().await?),
            Said::Done(_) => break,
        }
    }
    let (before, after) = before.zip(after).ok_or("the generator did not say when it counted")?;
    let capacity = completions_per_s(before, after);
    if capacity > 0.0 { Ok(capacity) } else { Err("the origin completed nothing".into()) }
}

async fn point(args: &Args, at: f64, capacity: f64, seed: u64, progress: &str) -> Result<Point> {
    let fixed = matches!(args.through, Through::Proxy(_));
    let mut origin = Origin::start(if fixed { args.origin_port } else { 0 }, seed).await?;
    let (gateway, target) = match &args.through {
        Through::None => (None, target(origin.address)),
        Through::Gateway => {
            let gateway = Gateway::start(origin.address).await?;
            let target = target(gateway.address);
            (Some(gateway), target)
        }
        Through::Proxy(target) => (None, target.clone()),
    };
    let load = Load::Open(Open {
        seed,
        deadline_ms: DEADLINE_MS,
        retries: args.retries,
        warm_up: Leg { rate: WARM_UP * capacity, seconds: WARM_UP_S },
        dropped_s: DROPPED_S,
        counted: Leg { rate: at * capacity, seconds: args.seconds },
        after: args.falls_to.map(|at| Leg { rate: at * capacity, seconds: AFTER_S }),
    });
    let mut generator = Generator::start(&Plan { target, load })?;
    let (mut before, mut after) = (None, None);
    let tally: Tally = loop {
        match generator.hear(progress).await? {
            Said::Counting => before = Some(sample(&mut origin, gateway.as_ref(), &generator).await?),
            Said::Counted => after = Some(sample(&mut origin, gateway.as_ref(), &generator).await?),
            Said::Done(tally) => break tally,
        }
    };
    if let Some(gateway) = gateway {
        gateway.end().await?;
    }
    let ((stats, cpu), (stats_after, cpu_after)) =
        before.zip(after).ok_or("the generator did not say when it counted")?;
    Ok(Point {
        at,
        seconds: args.seconds as f64,
        tally,
        origin_per_s: completions_per_s(stats, stats_after),
        cpu_s: Cpu {
            gateway: cpu_after.gateway.zip(cpu.gateway).map(|(after, before)| after - before),
            generator: cpu_after.generator - cpu.generator,
            origin: cpu_after.origin - cpu.origin,
        },
    })
}

/// Where everyone stands: the origin's figures, and the processor time of each process.
async fn sample(
    origin: &mut Origin,
    gateway: Option<&Gateway>,
    generator: &Generator,
) -> Result<(Stats, Cpu)> {
    let gateway = gateway.map(Gateway::cpu).transpose()?;
    let cpu = Cpu { gateway, generator: generator.cpu()?, origin: origin.cpu()? };
    Ok((origin.stats().await?, cpu))
}

fn completions_per_s(before: Stats, after: Stats) -> f64 {
    (after.completed - before.completed) as f64 / (after.at_s - before.at_s)
}

fn target(address: SocketAddr) -> Target {
    Target { address, host: address.to_string(), path: "/".to_owned() }
}
