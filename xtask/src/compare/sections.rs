//! The sections of the comparison: what is measured, and which targets stand over it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Args;
use super::figures::{Table, median, target};
use super::paced::Paced;
use super::peers::{Does, LOAD_CORE, Proxy, Stage};
use crate::Result;
use crate::overload::processes::built;

/// The rate of the refused, and of the probes meanwhile.
const FLOOD: f64 = 20_000.0;
const PROBES: f64 = 100.0;
/// How long a proxy is loaded to see what it can do, before it is loaded with half of that.
const GAUGE_S: u64 = 2;

/// How long nothing comes on connections that count as idle.
const IDLE_FOR: Duration = Duration::from_secs(5);
/// How long idle connections are opened: some proxies take their time for each.
const OPEN_WITHIN: Duration = Duration::from_secs(20);

const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

/// One run of the generator that asks as fast as it is answered.
#[derive(Clone, Copy)]
struct Run {
    per_s: f64,
    /// Processor seconds for each 100 000 requests.
    cpu: f64,
}

fn wrk(proxy: &Proxy, args: &Args, seconds: u64) -> Result<Run> {
    let before = proxy.process.cpu()?;
    let output = Command::new("taskset")
        .args(["-c", &LOAD_CORE.to_string(), "wrk", "-t1"])
        .args([
            format!("-c{}", args.connections),
            format!("-d{seconds}s"),
            format!("http://{}/", proxy.address),
        ])
        .output()?;
    let cpu = proxy.process.cpu()? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let field = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let per_s = field("Requests/sec:").and_then(|value| value.parse::<f64>().ok());
    let requests = text
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "))
        .and_then(|(number, _)| number.parse::<f64>().ok());
    let (Some(per_s), Some(requests)) = (per_s, requests) else {
        return Err(format!("wrk against {} said: {text}", proxy.name).into());
    };
    let others =
        field("Non-2xx or 3xx responses:").and_then(|value| value.parse::<f64>().ok()).unwrap_or(0.0);
    let wanted = if proxy.does == Does::Refuse { requests - others } else { others };
    // The first of a quota is served.
    if wanted > 1.0 || text.contains("Socket errors") {
        return Err(format!("{} answered with the wrong status: {text}", proxy.name).into());
    }
    Ok(Run { per_s, cpu: cpu * 100_000.0 / requests })
}

/// Which proxies take part.
fn taking_part<'a>(stage: &'a Stage, args: &Args, does: &[Does]) -> Vec<&'a Proxy> {
    let is_asked = |proxy: &Proxy| {
        args.only.is_empty() || args.only.iter().any(|name| proxy.name.starts_with(name.as_str()))
    };
    stage.proxies.iter().filter(|proxy| does.contains(&proxy.does) && is_asked(proxy)).collect()
}

/// Interleaved rounds of full load, and their medians.
fn medians(proxies: &[&Proxy], args: &Args) -> Result<Vec<Run>> {
    let mut runs: Vec<Vec<Run>> = vec![Vec::new(); proxies.len()];
    for proxy in proxies {
        wrk(proxy, args, 1)?;
    }
    for _ in 0..args.rounds {
        for (proxy, runs) in proxies.iter().zip(&mut runs) {
            runs.push(wrk(proxy, args, args.seconds)?);
        }
    }
    let of = |runs: &Vec<Run>, value: fn(&Run) -> f64| median(runs.iter().map(value).collect());
    Ok(runs
        .iter()
        .map(|runs| Run { per_s: of(runs, |run| run.per_s), cpu: of(runs, |run| run.cpu) })
        .collect())
}

/// The cost of the proxy with this name.
fn cost_of(name: &str, proxies: &[&Proxy], runs: &[Run]) -> f64 {
    let found = proxies.iter().zip(runs).find(|(proxy, _)| proxy.name == name);
    found.map_or(f64::NAN, |(_, run)| run.cpu)
}

pub(super) fn cost(stage: &Stage, args: &Args) -> Result<()> {
    let proxies = taking_part(stage, args, &[Does::Pass, Does::Limit]);
    let runs = medians(&proxies, args)?;
    let of = |name: &str| cost_of(name, &proxies, &runs);
    let mut table = Table::new(&["requests/s", "CPU s/100k", "x nginx+limit"]);
    for (proxy, run) in proxies.iter().zip(&runs) {
        table.row(&proxy.name, vec![run.per_s, run.cpu, run.cpu / of("nginx-limit_req")]);
    }
    table.print("Served requests");
    target("every policy on, of nginx with limit_req", of("gateway-all") / of("nginx-limit_req"), 1.25);
    target("every policy on, of Envoy with its rate limit", of("gateway-all") / of("envoy-ratelimit"), 0.57);
    target("every policy on, of the bare gateway", of("gateway-all") / of("gateway-bare"), 1.10);
    Ok(())
}

pub(super) fn rejections(stage: &Stage, args: &Args) -> Result<()> {
    let mut proxies = taking_part(stage, args, &[Does::Refuse]);
    proxies.extend(stage.proxies.iter().filter(|proxy| proxy.name == "gateway-bare"));
    let runs = medians(&proxies, args)?;
    let of = |name: &str| cost_of(name, &proxies, &runs);
    let mut table = Table::new(&["answers/s", "CPU s/100k", "x nginx 429"]);
    for (proxy, run) in proxies.iter().zip(&runs) {
        table.row(&proxy.name, vec![run.per_s, run.cpu, run.cpu / of("nginx-return-429")]);
    }
    table.print("Refused requests");
    target("a refusal, of nginx's 429", of("gateway-refusing") / of("nginx-return-429"), 1.5);
    target(
        "a refusal, of a request through the bare gateway",
        of("gateway-refusing") / of("gateway-bare"),
        0.5,
    );
    Ok(())
}

/// Starts the generator that asks at a given rate.
fn paced(
    address: SocketAddr,
    path: &str,
    rate: f64,
    connections: u32,
    seconds: u64,
) -> Result<std::process::Child> {
    let mut command = Command::new("taskset");
    command.args(["-c", &LOAD_CORE.to_string()]).arg(built("release", "xtask")?).arg("compare-paced");
    command.args(["--address", &address.to_string(), "--path", path, "--rate", &rate.to_string()]);
    command.args(["--connections", &connections.to_string(), "--seconds", &seconds.to_string()]);
    Ok(command.stdout(Stdio::piped()).spawn()?)
}

fn ended(paced: std::process::Child) -> Result<Paced> {
    let output = paced.wait_with_output()?;
    if !output.status.success() {
        return Err("the generator failed".into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

pub(super) fn latency(stage: &Stage, args: &Args) -> Result<()> {
    let proxies = taking_part(stage, args, &[Does::Pass, Does::Limit]);
    let rates: Vec<f64> =
        proxies.iter().map(|proxy| Ok(wrk(proxy, args, GAUGE_S)?.per_s / 2.0)).collect::<Result<_>>()?;
    let mut found = vec![[Vec::new(), Vec::new(), Vec::new()]; proxies.len()];
    for _ in 0..args.rounds {
        for ((proxy, rate), [p50, p99, p99_direct]) in proxies.iter().zip(&rates).zip(&mut found) {
            let run = |address| ended(paced(address, "/", *rate, args.connections, args.seconds)?);
            let (through, direct) = (run(proxy.address)?, run(stage.origin)?);
            if through.unanswered > 0 {
                return Err(format!("{}: {} without an answer", proxy.name, through.unanswered).into());
            }
            p50.push(through.p50_us as f64);
            p99.push(through.p99_us as f64);
            p99_direct.push(direct.p99_us as f64);
        }
    }
    let mut table = Table::new(&["requests/s", "p50 us", "p99 us", "p99 added us"]);
    for ((proxy, rate), [p50, p99, p99_direct]) in proxies.iter().zip(&rates).zip(found) {
        let p99 = median(p99);
        table.row(&proxy.name, vec![*rate, median(p50), p99, p99 - median(p99_direct)]);
    }
    table.print("Latency at half of what each can do");
    Ok(())
}

pub(super) fn memory(stage: &Stage, args: &Args) -> Result<()> {
    let mut table = Table::new(&["idle MiB", "connections", "MiB then", "KiB each"]);
    for proxy in taking_part(stage, args, &[Does::Pass, Does::Limit]) {
        let before = proxy.process.resident()?;
        let (mut streams, until) = (Vec::new(), Instant::now() + OPEN_WITHIN);
        while streams.len() < args.idle as usize && Instant::now() < until {
            // Each has been served once: what a client of a mobile app leaves behind.
            let Some(stream) = asked_once(proxy.address)? else { break };
            streams.push(stream);
        }
        if let Some(last) = streams.last_mut() {
            last.set_read_timeout(Some(IDLE_FOR))?;
            let _ = last.read(&mut [0]);
        }
        let after = proxy.process.resident()?;
        let each = (after - before) * 1024.0 / streams.len() as f64;
        table.row(&proxy.name, vec![before, streams.len() as f64, after, each]);
    }
    table.print("Resident memory");
    Ok(())
}

/// A connection on which one request was served; `None` when it was not.
fn asked_once(address: SocketAddr) -> Result<Option<TcpStream>> {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, ANSWERED_WITHIN) else { return Ok(None) };
    stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
    // In one piece: what follows a first piece waits for its acknowledgement.
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = [0; 4096];
    let served = stream.read(&mut answer).is_ok_and(|read| answer[..read].starts_with(b"HTTP/1.1 200"));
    Ok(served.then_some(stream))
}

pub(super) fn flood(stage: &Stage, args: &Args) -> Result<()> {
    let mut table = Table::new(&["refused/s", "probe p50 us", "probe p99 us", "probe max us"]);
    for proxy in taking_part(stage, args, &[Does::Refuse]) {
        let Some(probes) = proxy.probes else { continue };
        for rate in [0.0, FLOOD] {
            let refused = (rate > 0.0)
                .then(|| paced(proxy.address, "/", rate, args.connections, args.seconds))
                .transpose()?;
            let probe = ended(paced(probes, "/livez", PROBES, 1, args.seconds)?)?;
            let refused = refused.map(ended).transpose()?.unwrap_or_default();
            let per_s = refused.statuses.get(&429).copied().unwrap_or(0) as f64 / args.seconds as f64;
            let micros = [probe.p50_us, probe.p99_us, probe.max_us].map(|micros| micros as f64);
            table.row(&proxy.name, [&[per_s][..], &micros].concat());
        }
    }
    table.print("Probes, without and with a flood of refusals");
    Ok(())
}
