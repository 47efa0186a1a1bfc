//! A pool in virtual time: Poisson arrivals, each host one server with a queue.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::vec::Vec;

use super::*;

/// The mean of a service time.
const WORK: Span = Span::from_millis(10);
/// How fast a failing host fails.
const FAILS_IN: Span = Span::from_micros(100);

/// What a host is like.
#[derive(Clone, Debug)]
pub(super) struct Host {
    /// By how much its service times are longer.
    pub(super) slow: f64,
    /// It fails at once.
    pub(super) fails: bool,
}

impl Default for Host {
    fn default() -> Host {
        Host { slow: 1.0, fails: false }
    }
}

/// What is played.
#[derive(Clone, Debug)]
pub(super) struct Play {
    pub(super) hosts: Vec<Host>,
    /// Arrivals, as a share of what as many good hosts could do.
    pub(super) load: f64,
    pub(super) jobs: u64,
    /// The balance is told the same latency of all.
    pub(super) blind: bool,
}

impl Default for Play {
    fn default() -> Play {
        Play { hosts: Vec::new(), load: 0.9, jobs: 600_000, blind: false }
    }
}

/// What came of it, after the first tenth.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Sojourn times of what did not fail, in service times.
    pub(super) sojourns: Vec<f64>,
    pub(super) failed: u64,
}

impl Outcomes {
    pub(super) fn mean(&self) -> f64 {
        self.sojourns.iter().sum::<f64>() / self.sojourns.len() as f64
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Done(usize),
}

impl Play {
    pub(super) fn run(&self, config: Config) -> Outcomes {
        let mut balance = balance(config, self.hosts.len());
        let mut lines: Vec<VecDeque<(u64, Time)>> = std::vec![VecDeque::new(); self.hosts.len()];
        let (mut arrivals, mut work, mut picks) = (Rng::new(7, 1), Rng::new(7, 2), Rng::new(7, 3));
        let gap = WORK.scaled(1.0 / (self.load * self.hosts.len() as f64));
        let mut events = BinaryHeap::from([Reverse((Time::ZERO, Event::Arrival))]);
        let (mut outcomes, mut begun) = (Outcomes::default(), 0);
        while let Some(Reverse((now, event))) = events.pop() {
            let mut serves = |host: usize| {
                let Host { slow, fails } = self.hosts[host];
                let span = if fails { FAILS_IN } else { work.exponential(WORK).scaled(slow) };
                Reverse((now + span, Event::Done(host)))
            };
            match event {
                Event::Arrival if begun == self.jobs => {}
                Event::Arrival => {
                    let host = balance.pick(now, lines.len(), Some, &mut picks).unwrap();
                    balance.begin(host);
                    lines[host].push_back((begun, now));
                    begun += 1;
                    if lines[host].len() == 1 {
                        events.push(serves(host));
                    }
                    events.push(Reverse((now + arrivals.exponential(gap), Event::Arrival)));
                }
                Event::Done(host) => {
                    let (number, since) = lines[host].pop_front().unwrap();
                    if !lines[host].is_empty() {
                        events.push(serves(host));
                    }
                    let fails = self.hosts[host].fails;
                    let outcome = if fails { Outcome::Failure } else { Outcome::Success };
                    let elapsed = if self.blind { WORK } else { now.since(since) };
                    balance.report(now, host, outcome, elapsed);
                    if number >= self.jobs / 10 && fails {
                        outcomes.failed += 1;
                    } else if number >= self.jobs / 10 {
                        outcomes.sojourns.push(now.since(since).as_secs_f64() / WORK.as_secs_f64());
                    }
                }
            }
        }
        outcomes
    }
}
