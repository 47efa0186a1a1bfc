//! `cargo xtask storm`: mixed load with faults and abuse for as long as one likes.
//!
//! **Mechanics.** Two origins in this process serve ordinary clients through an optimised gateway. Meanwhile
//! they are stopped and come back, are slow or fail for a while ([`origin`]); the config is reloaded;
//! and abusers send floods of new keys, half-open heads, heads and bodies that are too large, nonsense, and
//! HTTP/2 streams that they reset at once ([`clients`]).
//!
//! **The verdict.** Memory is flat: in the last third of the time it is at most a quarter, or 16 MiB, above that of the
//! second. Whatever was not answered with 2xx carries the gateway's reason or comes from an origin.
//! No ordinary request is left without an answer. Nothing panicked.

mod clients;
mod origin;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::LocalSet;
use tokio::time::{Instant, interval, sleep_until};

use self::clients::Tally;
use crate::Result;
use crate::compare::process::Process;
use crate::overload::processes;

/// The core of the gateway.
const GATEWAY_CORE: u32 = 1;
/// How often the config is reloaded.
const RELOAD_S: u64 = 7;
/// How much memory may grow by between thirds, as a share and in MiB.
const GROWTH: f64 = 1.25;
const GROWTH_MIB: f64 = 16.0;

#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask storm --minutes 30")]
pub(crate) struct Args {
    /// How long it lasts
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Ordinary clients, who ask one after another
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    clients: u32,
    /// Requests with a new key each, per second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    keys_per_s: u32,
    /// Half-open heads at a time
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=8_000))]
    half_open: u32,
}

/// Runs it to its end, and fails if the verdict does.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(processes::build("seawall-gateway"))?;
    processes::raise_descriptor_limit();
    let folder = std::env::temp_dir().join(format!("seawall-storm-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let done = LocalSet::new().block_on(&runtime, storm(args, &folder));
    let _ = std::fs::remove_dir_all(&folder);
    done
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

async fn storm(args: &Args, folder: &Path) -> Result<()> {
    let (address, admin) = (free_address()?, free_address()?);
    let origins = [free_address()?, free_address()?];
    for (number, origin) in origins.into_iter().enumerate() {
        tokio::task::spawn_local(origin::stand(origin, number as u64));
    }
    let file = folder.join("seawall.toml");
    std::fs::write(&file, config(address, admin, origins, 0))?;
    let program = processes::built("release", "seawall")?;
    let command = [program.to_str().ok_or("no path")?, "run", file.to_str().ok_or("no path")?];
    let mut gateway = Process::start("gateway", GATEWAY_CORE, folder, &command)?;
    gateway.serves(address)?;
    let (tally, end) =
        (Rc::new(Tally::default()), Instant::now() + Duration::from_secs_f64(args.minutes * 60.0));
    clients::begin(args, address, &tally, end);
    let mut second = interval(Duration::from_secs(1));
    let (mut memory, mut reloads) = (Vec::new(), 0);
    while Instant::now() < end {
        second.tick().await;
        memory.push(gateway.resident()?);
        if (memory.len() as u64).is_multiple_of(RELOAD_S) {
            reloads += 1;
            std::fs::write(&file, config(address, admin, origins, reloads))?;
            gateway.signal(Signal::HUP)?;
        }
    }
    // Those who wait for an answer get it.
    sleep_until(end + clients::PATIENCE + Duration::from_secs(1)).await;
    let said = gateway.said();
    let panics = said.lines().filter(|line| line.contains("panicked")).count();
    println!("{reloads} reloads, {} requests", tally.requests());
    verdict(&tally, &memory, panics)
}

fn verdict(tally: &Tally, memory: &[f64], panics: usize) -> Result<()> {
    for (kind, answers) in tally.answers() {
        println!("{kind}:");
        answers.iter().for_each(|(answer, count)| println!("  {count:>9}  {answer}"));
    }
    let third = memory.len() / 3;
    let median = |part: &[f64]| {
        let mut part = part.to_vec();
        part.sort_by(f64::total_cmp);
        part.get(part.len() / 2).copied().unwrap_or(0.0)
    };
    let (middle, last) = (median(&memory[third..2 * third]), median(&memory[2 * third..]));
    let most = memory.iter().copied().fold(0.0, f64::max);
    println!("resident MiB: {middle:.1} in the second third, {last:.1} in the last, {most:.1} at most");
    let mut wrong = Vec::new();
    if last > (middle * GROWTH).max(middle + GROWTH_MIB) {
        wrong.push(format!("memory grew from {middle:.1} to {last:.1} MiB"));
    }
    if tally.without_reason() > 0 {
        wrong.push(format!("{} refusals without a reason", tally.without_reason()));
    }
    if tally.unanswered() > 0 {
        wrong.push(format!("{} ordinary requests without an answer", tally.unanswered()));
    }
    if panics > 0 {
        wrong.push(format!("{panics} panics"));
    }
    if wrong.is_empty() {
        println!("holds");
        return Ok(());
    }
    Err(wrong.join(", ").into())
}

/// The config, which is another one with each reload.
fn config(address: SocketAddr, admin: SocketAddr, origins: [SocketAddr; 2], reload: u64) -> String {
    let rate = 200 + reload % 7;
    let [first, second] = origins;
    format!(
        "listen = \"{address}\"\n[admin]\nlisten = \"{admin}\"\n\
         [identity]\nuser = [\"header:x-api-key\", \"client-ip\"]\nmax_users = 100_000\n\
         [upstream.origin]\nhosts = [\"http://{first}\", \"http://{second}\"]\n\
         health = {{ path = \"/healthz\", every = \"1s\" }}\nbreaker = {{ slow = \"1s\", slow_rate = \"80%\" }}\n\
         [route.all]\nupstream = \"origin\"\ndeadline = \"2s\"\nmax_body = \"64KiB\"\n\
         throttle = [{{ per = \"user\", rate = \"{rate}/s\", burst = 400 }}]\n\
         shed = {{ queue_delay = \"16ms\" }}\nretry = {{ attempts = 3 }}\nhedge = {{ after = \"p95\" }}\n\
         fallback = [{{ stale = \"5s\" }}]\n"
    )
}

/// Counts by what was answered.
type Answers = BTreeMap<String, u64>;
