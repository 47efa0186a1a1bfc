//! Measures ways to choose a host against each other, on the same arrivals and the same work.
//!
//! ```text
//! cargo run --release -p seawall-core --example balancing
//! ```
//!
//! Each host is one server with a FIFO queue and exponential work of mean 1; arrivals are Poisson.
//! With several balancers each knows only of its own calls, except for probing, which asks the hosts.
//! Probing is Prequal (Wydrowski et al., NSDI 2024) with its published defaults, and flattered: a
//! probe takes no time and costs nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use seawall_core::balance::{Balance, Config};
use seawall_core::outcome::Outcome;
use seawall_core::rng::Rng;
use seawall_core::time::{Span, Time};

/// The mean of a service time.
const WORK: Span = Span::from_millis(10);
/// How fast a failing host fails.
const FAILS_IN: Span = Span::from_micros(100);
const JOBS: u64 = 600_000;
const SEEDS: u64 = 3;
/// Requests in flight that a probe tells apart.
const IN_FLIGHT_MAX: usize = 64;

fn main() {
    let equal = |hosts: usize| vec![Host::default(); hosts];
    let with = |first: Host| {
        let mut hosts = equal(10);
        hosts[0] = first;
        hosts
    };
    let mut halves = equal(20);
    halves[..10].iter_mut().for_each(|host| host.slow = 3.0);
    let scenarios = [
        ("100 equal hosts, 1 balancer, load .9", equal(100), 1, 0.9),
        ("100 equal hosts, 20 balancers, load .9", equal(100), 20, 0.9),
        ("1 of 10 is 10 x slow, load .6", with(Host { slow: 10.0, fails: false }), 1, 0.6),
        ("the same, 10 balancers", with(Host { slow: 10.0, fails: false }), 10, 0.6),
        ("10 of 20 are 3 x slow, load .5", halves.clone(), 1, 0.5),
        ("the same, 10 balancers", halves, 10, 0.5),
        ("1 of 10 fails at once, load .6", with(Host { slow: 1.0, fails: true }), 1, 0.6),
    ];
    println!("{:<42}{:<26}{:>8}{:>8}{:>9}", "", "", "mean", "p99", "failed %");
    for (name, hosts, balancers, load) in scenarios {
        for (kind, make) in KINDS {
            let mut sum = Figures::default();
            for seed in 0..SEEDS {
                let choosers = (0..balancers).map(|_| make(hosts.len())).collect();
                sum.add(&World::new(&hosts, load, choosers, seed).run());
            }
            let [mean, p99, failed] = [sum.mean, sum.p99, sum.failed].map(|figure| figure / SEEDS as f64);
            println!("{name:<42}{kind:<26}{mean:>8.3}{p99:>8.2}{:>9.3}", failed * 100.0);
        }
    }
}

type Make = fn(usize) -> Box<dyn Choose>;

const KINDS: [(&str, Make); 6] = [
    ("random", |_| Box::new(AtRandom)),
    ("two choices, blind", |hosts| Box::new(Core::new(hosts, true))),
    ("two choices", |hosts| Box::new(Core::new(hosts, false))),
    ("two choices, peak EWMA", |hosts| Box::new(Peak(vec![Known::default(); hosts]))),
    ("hot/cold of 2, own calls", |hosts| Box::new(HotCold(vec![Known::default(); hosts]))),
    ("probing (Prequal)", |_| Box::new(Prequal::default())),
];

/// A way to choose a host.
trait Choose {
    fn pick(&mut self, now: Time, hosts: &[Server], rng: &mut Rng) -> usize;
    fn done(&mut self, now: Time, host: usize, outcome: Outcome, elapsed: Span);
}

struct AtRandom;

impl Choose for AtRandom {
    fn pick(&mut self, _: Time, hosts: &[Server], rng: &mut Rng) -> usize {
        rng.below(hosts.len() as u64) as usize
    }

    fn done(&mut self, _: Time, _: usize, _: Outcome, _: Span) {}
}

/// The policy itself; blind, it is told the same latency of all.
struct Core {
    balance: Balance,
    blind: bool,
}

impl Core {
    fn new(hosts: usize, blind: bool) -> Core {
        let mut balance = Balance::new(Config::default());
        (0..hosts).for_each(|host| balance.join(host));
        Core { balance, blind }
    }
}

impl Choose for Core {
    fn pick(&mut self, now: Time, hosts: &[Server], rng: &mut Rng) -> usize {
        let host = self.balance.pick(now, hosts.len(), Some, rng).expect("there are hosts");
        self.balance.begin(host);
        host
    }

    fn done(&mut self, now: Time, host: usize, outcome: Outcome, elapsed: Span) {
        match self.blind {
            true => self.balance.report(now, host, Outcome::Success, WORK),
            false => self.balance.report(now, host, outcome, elapsed),
        }
    }
}

/// What a balancer knows of a host from its own calls.
#[derive(Clone, Copy, Default)]
struct Known {
    in_flight: u32,
    latency: f64,
    at: Time,
}

fn two(hosts: usize, rng: &mut Rng) -> (usize, usize) {
    let one = rng.below(hosts as u64) as usize;
    let other = rng.below(hosts as u64 - 1) as usize;
    (one, other + usize::from(other >= one))
}

/// Finagle's and tower's load: jumps to the peak, falls over ten seconds; failures are answers.
struct Peak(Vec<Known>);

impl Choose for Peak {
    fn pick(&mut self, now: Time, hosts: &[Server], rng: &mut Rng) -> usize {
        let (one, other) = two(hosts.len(), rng);
        let cost = |host: usize| {
            let Known { in_flight, latency, at } = self.0[host];
            let faded = latency * (-now.since(at).as_secs_f64() / 10.0).exp();
            (f64::from(in_flight) + 1.0) * faded
        };
        let host = if cost(other) < cost(one) { other } else { one };
        self.0[host].in_flight += 1;
        host
    }

    fn done(&mut self, now: Time, host: usize, _: Outcome, elapsed: Span) {
        let known = &mut self.0[host];
        let old = (-now.since(known.at).as_secs_f64() / 10.0).exp();
        let sample = elapsed.as_secs_f64();
        known.latency = sample.max(old * known.latency + (1.0 - old) * sample);
        (known.at, known.in_flight) = (now, known.in_flight - 1);
    }
}

/// Hot or cold by requests in flight, then latency; of two hosts, by the balancer's own calls.
struct HotCold(Vec<Known>);

impl Choose for HotCold {
    fn pick(&mut self, _: Time, hosts: &[Server], rng: &mut Rng) -> usize {
        let mut in_flight: Vec<u32> = self.0.iter().map(|known| known.in_flight).collect();
        let limit = quantile(&mut in_flight);
        let (one, other) = two(hosts.len(), rng);
        let rank = |host: usize| {
            let Known { in_flight, latency, .. } = self.0[host];
            if in_flight > limit { (1, f64::from(in_flight)) } else { (0, latency) }
        };
        let host = if rank(other) < rank(one) { other } else { one };
        self.0[host].in_flight += 1;
        host
    }

    fn done(&mut self, now: Time, host: usize, outcome: Outcome, elapsed: Span) {
        let known = &mut self.0[host];
        known.in_flight -= 1;
        let sample = if outcome.is_failure() { 100.0 * WORK.as_secs_f64() } else { elapsed.as_secs_f64() };
        let gap = now.since(known.at).as_secs_f64();
        known.latency += gap / (gap + 1.0) * (sample - known.latency);
        known.at = now;
    }
}

/// The quantile above which a host is hot.
fn quantile(in_flight: &mut [u32]) -> u32 {
    let at = ((in_flight.len() as f64 * 0.84) as usize).min(in_flight.len() - 1);
    *in_flight.select_nth_unstable(at).1
}

#[derive(Clone, Copy)]
struct Probed {
    host: usize,
    in_flight: u32,
    latency: f64,
    uses: u32,
}

/// Prequal: a pool of 16 probes, three new ones for each call, one removed, each used twice at most.
#[derive(Default)]
struct Prequal {
    pool: VecDeque<Probed>,
    worst_next: bool,
}

impl Prequal {
    fn limit(&self) -> u32 {
        quantile(&mut self.pool.iter().map(|probed| probed.in_flight).collect::<Vec<_>>())
    }

    fn rank(probed: &Probed, limit: u32) -> (u8, f64) {
        if probed.in_flight > limit { (1, f64::from(probed.in_flight)) } else { (0, probed.latency) }
    }

    fn place(&self, by: impl Fn((u8, f64), (u8, f64)) -> bool) -> usize {
        let limit = self.limit();
        let rank = |place: usize| Prequal::rank(&self.pool[place], limit);
        (1..self.pool.len()).fold(0, |best, place| if by(rank(place), rank(best)) { place } else { best })
    }
}

impl Choose for Prequal {
    fn pick(&mut self, _: Time, hosts: &[Server], rng: &mut Rng) -> usize {
        for _ in 0..3 {
            let host = rng.below(hosts.len() as u64) as usize;
            let (in_flight, latency) = (hosts[host].line.len(), hosts[host].latency());
            self.pool.push_back(Probed { host, in_flight: in_flight as u32, latency, uses: 0 });
            if self.pool.len() > 16 {
                self.pool.pop_front();
            }
        }
        let place = self.place(|one, best| one < best);
        let probed = &mut self.pool[place];
        (probed.in_flight, probed.uses) = (probed.in_flight + 1, probed.uses + 1);
        let Probed { host, uses, .. } = *probed;
        if uses >= 2 {
            self.pool.remove(place);
        }
        self.worst_next = !self.worst_next;
        if self.pool.len() > 1 {
            let gone = if self.worst_next { self.place(|one, worst| one > worst) } else { 0 };
            self.pool.remove(gone);
        }
        host
    }

    fn done(&mut self, _: Time, _: usize, _: Outcome, _: Span) {}
}

/// What a host is like.
#[derive(Clone, Copy)]
struct Host {
    /// By how much its service times are longer.
    slow: f64,
    /// It fails at once.
    fails: bool,
}

impl Default for Host {
    fn default() -> Host {
        Host { slow: 1.0, fails: false }
    }
}

/// Its number, whose it is, when it came, and how many were before it.
type Job = (u64, usize, Time, usize);

/// A host at work, and what it says to probes.
struct Server {
    host: Host,
    line: VecDeque<Job>,
    /// By requests in flight when it arrived, as a probe is told.
    latencies: [f64; IN_FLIGHT_MAX],
}

impl Server {
    /// The latency at the requests in flight, or at the nearest number that is known.
    fn latency(&self) -> f64 {
        let now = self.line.len().min(IN_FLIGHT_MAX - 1);
        let near = |at: &usize| self.latencies[*at] > 0.0;
        let nearest = (0..=now).rev().find(near).or((now..IN_FLIGHT_MAX).find(near));
        nearest.map_or(0.0, |at| self.latencies[at])
    }
}

/// In service times.
#[derive(Default)]
struct Figures {
    mean: f64,
    p99: f64,
    failed: f64,
}

impl Figures {
    fn add(&mut self, other: &Figures) {
        self.mean += other.mean;
        self.p99 += other.p99;
        self.failed += other.failed;
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Done(usize),
}

struct World {
    servers: Vec<Server>,
    choosers: Vec<Box<dyn Choose>>,
    gap: Span,
    seed: u64,
    events: BinaryHeap<Reverse<(Time, Event)>>,
    work: Rng,
}

impl World {
    fn new(hosts: &[Host], load: f64, choosers: Vec<Box<dyn Choose>>, seed: u64) -> World {
        let server =
            |host: &Host| Server { host: *host, line: VecDeque::new(), latencies: [0.0; IN_FLIGHT_MAX] };
        World {
            servers: hosts.iter().map(server).collect(),
            choosers,
            gap: WORK.scaled(1.0 / (load * hosts.len() as f64)),
            seed,
            events: BinaryHeap::from([Reverse((Time::ZERO, Event::Arrival))]),
            work: Rng::new(seed, 2),
        }
    }

    fn run(mut self) -> Figures {
        let (mut arrivals, mut picks) = (Rng::new(self.seed, 1), Rng::new(self.seed, 3));
        let (mut sojourns, mut begun, mut failed) = (Vec::new(), 0, 0_u64);
        while let Some(Reverse((now, event))) = self.events.pop() {
            match event {
                Event::Arrival if begun == JOBS => {}
                Event::Arrival => {
                    let by = picks.below(self.choosers.len() as u64) as usize;
                    let host = self.choosers[by].pick(now, &self.servers, &mut picks);
                    let before = self.servers[host].line.len();
                    self.servers[host].line.push_back((begun, by, now, before));
                    begun += 1;
                    if self.servers[host].line.len() == 1 {
                        self.serve(now, host);
                    }
                    self.events.push(Reverse((now + arrivals.exponential(self.gap), Event::Arrival)));
                }
                Event::Done(host) => {
                    let server = &mut self.servers[host];
                    let (number, by, since, before) = server.line.pop_front().expect("it was served");
                    let (elapsed, fails) = (now.since(since), server.host.fails);
                    let known = &mut server.latencies[before.min(IN_FLIGHT_MAX - 1)];
                    let weight = if *known > 0.0 { 0.05 } else { 1.0 };
                    *known += weight * (elapsed.as_secs_f64() - *known);
                    if !server.line.is_empty() {
                        self.serve(now, host);
                    }
                    let outcome = if fails { Outcome::Failure } else { Outcome::Success };
                    self.choosers[by].done(now, host, outcome, elapsed);
                    match (number >= JOBS / 10, fails) {
                        (true, true) => failed += 1,
                        (true, false) => sojourns.push(elapsed.as_secs_f64() / WORK.as_secs_f64()),
                        (false, _) => {}
                    }
                }
            }
        }
        sojourns.sort_by(f64::total_cmp);
        Figures {
            mean: sojourns.iter().sum::<f64>() / sojourns.len() as f64,
            p99: sojourns[sojourns.len() * 99 / 100],
            failed: failed as f64 / (failed as f64 + sojourns.len() as f64),
        }
    }

    fn serve(&mut self, now: Time, host: usize) {
        let Host { slow, fails } = self.servers[host].host;
        let span = if fails { FAILS_IN } else { self.work.exponential(WORK).scaled(slow) };
        self.events.push(Reverse((now + span, Event::Done(host))));
    }
}
