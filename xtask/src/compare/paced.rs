//! Load at a given rate: Poisson arrivals over keep-alive connections, measured from when each was due.
//!
//! One thread waits in `epoll` until the next arrival or answer, to the microsecond: a runtime's timer ticks
//! in milliseconds and would send in bursts. A request that finds no idle connection waits for one, and that
//! counts: a slow proxy cannot slow the arrivals down (coordinated omission).

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use seawall_core::rng::Rng;
use seawall_core::time::Span;
use serde::{Deserialize, Serialize};

use crate::Result;

/// The slowest that is told apart, in microseconds.
const MICROS_MAX: u64 = 60_000_000;
/// How long the last answers may take.
const AFTER: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value = "/")]
    path: String,
    /// Requests per second
    #[arg(long)]
    rate: f64,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    connections: u32,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Paced {
    /// Answers, by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub(super) unanswered: u64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) max_us: u64,
}

/// Loads until the time is over, and prints what came of it.
pub(crate) fn run(args: &Args) -> Result<()> {
    println!("{}", serde_json::to_string(&Load::new(args)?.run(args)?)?);
    Ok(())
}

struct Connection {
    stream: TcpStream,
    /// When its request was due.
    asked: Option<Instant>,
    answer: Vec<u8>,
}

struct Load {
    request: Vec<u8>,
    connections: Vec<Connection>,
    epoll: rustix::fd::OwnedFd,
    idle: Vec<usize>,
    due: VecDeque<Instant>,
    latency: Histogram<u64>,
    done: Paced,
}

impl Load {
    fn new(args: &Args) -> Result<Load> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let connections = (0..args.connections).map(|number| {
            let stream = TcpStream::connect(args.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(u64::from(number)), EventFlags::IN)?;
            Ok(Connection { stream, asked: None, answer: Vec::with_capacity(4096) })
        });
        Ok(Load {
            request: format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", args.path, args.address).into_bytes(),
            connections: connections.collect::<std::io::Result<_>>()?,
            epoll,
            idle: (0..args.connections as usize).collect(),
            due: VecDeque::new(),
            latency: Histogram::new_with_max(MICROS_MAX, 3)?,
            done: Paced::default(),
        })
    }

    fn run(mut self, args: &Args) -> Result<Paced> {
        let (mut rng, mean) = (Rng::new(1, 0), Span::from_nanos((1e9 / args.rate) as u64));
        let mut next = Instant::now();
        let end = next + Duration::from_secs(args.seconds);
        let mut events = Vec::with_capacity(1024);
        loop {
            let now = Instant::now();
            while next <= now && next < end {
                self.due.push_back(next);
                next += Duration::from(rng.exponential(mean));
            }
            self.send()?;
            let waits = next < end;
            if !waits && (self.idle.len() == self.connections.len() || now > end + AFTER) {
                break;
            }
            let wait = if waits { next.saturating_duration_since(now) } else { AFTER };
            let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for Event { data, .. } in events.iter().copied() {
                self.read(data.u64() as usize)?;
            }
        }
        let latency = &self.latency;
        self.done.unanswered = self.connections.iter().filter(|other| other.asked.is_some()).count() as u64
            + self.due.len() as u64;
        (self.done.p50_us, self.done.p99_us) =
            (latency.value_at_quantile(0.5), latency.value_at_quantile(0.99));
        self.done.max_us = latency.max();
        Ok(self.done)
    }

    fn send(&mut self) -> Result<()> {
        while let (Some(due), Some(index)) = (self.due.front(), self.idle.last()) {
            let connection = &mut self.connections[*index];
            connection.asked = Some(*due);
            connection.answer.clear();
            connection.stream.write_all(&self.request)?;
            self.due.pop_front();
            self.idle.pop();
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        let mut part = [0; 4096];
        loop {
            match connection.stream.read(&mut part) {
                Ok(0) => return Err("the proxy closed a connection".into()),
                Ok(read) => connection.answer.extend_from_slice(&part[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
            if read_status(&connection.answer).is_some() {
                break;
            }
        }
        let Some(status) = read_status(&connection.answer) else { return Ok(()) };
        if let Some(asked) = connection.asked.take() {
            let micros = asked.elapsed().as_micros() as u64;
            self.latency.saturating_record(micros);
            *self.done.statuses.entry(status).or_default() += 1;
            self.idle.push(index);
        }
        Ok(())
    }
}

/// The status of an answer that is complete: its head and as many bytes as it announces, or all chunks.
fn read_status(answer: &[u8]) -> Option<u16> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_ascii_lowercase();
    let status = head.get(9..12)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let complete = match length {
        Some(length) => answer.len() >= end + length.trim().parse::<usize>().ok()?,
        None => answer.ends_with(b"0\r\n\r\n"),
    };
    complete.then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_its_body() {
        assert_eq!(read_status(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no"), None);
        assert_eq!(read_status(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), Some(200));
        assert_eq!(read_status(b"HTTP/1.1 429 No\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), Some(429));
    }
}
