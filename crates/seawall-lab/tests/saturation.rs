//! The default protection under load, its capacity not told: figures of overload (S1) and of the
//! learned limit (S8). `cargo test -p seawall-lab --test saturation -- --nocapture` prints them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use seawall_core::gate::{Admit, Alone, Gate, Lane, Place, Settings, Ticket};
use seawall_core::limit;
use seawall_core::outcome::Outcome;
use seawall_core::request::{Key, Request};
use seawall_core::rng::{Rng, mix};
use seawall_core::shed;
use seawall_core::time::{Span, Time};

/// How long a client waits, in lengths of the work.
const PATIENCE: u64 = 25;

/// What the source and the callee are like for a while.
#[derive(Clone, Copy, Debug)]
struct Phase {
    seconds: u64,
    /// Arrivals a second.
    rate: f64,
    workers: u32,
    service: Span,
    /// What each call takes besides, where it keeps no worker busy: a slow network, a busy machine.
    besides: Span,
}

/// What came of a phase.
#[derive(Clone, Debug, Default)]
struct Met {
    offered: u64,
    refused: u64,
    /// Refused while a worker was idle.
    falsely: u64,
    in_time: u64,
    sojourns: Vec<Span>,
    /// The limit, ten times a second.
    limits: Vec<u32>,
}

impl Met {
    fn mean(&self) -> f64 {
        self.limits.iter().map(|limit| f64::from(*limit)).sum::<f64>() / self.limits.len() as f64
    }

    /// The share of the time that the limit was within 0..+20 % of the workers.
    fn within(&self, workers: u32) -> f64 {
        let good = |limit: &&u32| (workers..=workers * 6 / 5).contains(*limit);
        self.limits.iter().filter(good).count() as f64 / self.limits.len() as f64
    }

    fn falsely_refused(&self) -> f64 {
        self.falsely as f64 / self.offered as f64
    }

    fn p99(&mut self) -> f64 {
        self.sojourns.sort_unstable();
        self.sojourns[self.sojourns.len() * 99 / 100].as_secs_f64() * 1e3
    }
}

struct Job {
    arrived: Time,
    ticket: Ticket,
    /// Whether its work is done, and only its answer is on the way.
    answered: bool,
}

/// Poisson arrivals, the default gate, and workers with a line inside.
struct Course {
    gate: Gate<Alone<u64>>,
    arrivals: Rng,
    work: Rng,
    now: Time,
    busy: u32,
    inside: VecDeque<Job>,
    done: BTreeMap<(Time, u64), Job>,
    waiting: BTreeMap<u64, (Place, Time)>,
    number: u64,
}

impl Course {
    fn new(seed: u64) -> Course {
        let settings = Settings { limit: Some(limit::Config::default()), ..Settings::default() };
        let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
        Course {
            gate: Gate::new(settings, lane, Time::ZERO),
            arrivals: Rng::new(seed, 1),
            work: Rng::new(seed, 2),
            now: Time::ZERO,
            busy: 0,
            inside: VecDeque::new(),
            done: BTreeMap::new(),
            waiting: BTreeMap::new(),
            number: 0,
        }
    }

    fn play(&mut self, phase: Phase) -> Met {
        let mut met = Met::default();
        let end = self.now + Span::from_secs(phase.seconds);
        let gap = Span::from_secs_f64(1.0 / phase.rate);
        let mut arrival = self.now + self.arrivals.exponential(gap);
        let mut look = self.now;
        while self.now < end {
            let done = self.done.first_key_value().map_or(Time::MAX, |((at, _), _)| *at);
            if done <= arrival {
                self.complete(phase, &mut met);
            } else {
                self.now = arrival;
                self.arrive(phase, &mut met);
                arrival = self.now + self.arrivals.exponential(gap);
            }
            while self.now >= look {
                met.limits.push(self.gate.snapshot(self.now).limit.map_or(0, |limit| limit.limit));
                look += Span::from_millis(100);
            }
        }
        met
    }

    fn arrive(&mut self, phase: Phase, met: &mut Met) {
        met.offered += 1;
        self.number += 1;
        let deadline = self.now + phase.service.times(PATIENCE);
        let request = Request { deadline, ..Request::new(Key(mix(self.number))) };
        let admit = self.gate.admit(self.now, &request);
        self.admitted(phase, admit, self.now, met);
        self.turns(phase, met);
    }

    fn admitted(&mut self, phase: Phase, admit: Admit, arrived: Time, met: &mut Met) {
        match admit {
            Admit::Ticket(ticket) => {
                self.inside.push_back(Job { arrived, ticket, answered: false });
                self.work(phase);
            }
            Admit::Wait(place) => {
                self.number += 1;
                match self.gate.claim(self.now, place, self.number) {
                    Admit::Wait(place) => _ = self.waiting.insert(self.number, (place, arrived)),
                    answered => self.admitted(phase, answered, arrived, met),
                }
            }
            Admit::Reject(_) => {
                met.refused += 1;
                met.falsely += u64::from(self.busy < phase.workers);
            }
        }
    }

    fn turns(&mut self, phase: Phase, met: &mut Met) {
        while let Some(number) = self.gate.turn() {
            let (place, arrived) = self.waiting.remove(&number).expect("told once");
            let answered = self.gate.claim(self.now, place, number);
            self.admitted(phase, answered, arrived, met);
        }
    }

    fn work(&mut self, phase: Phase) {
        while self.busy < phase.workers
            && let Some(job) = self.inside.pop_front()
        {
            self.busy += 1;
            self.number += 1;
            self.done.insert((self.now + self.work.exponential(phase.service), self.number), job);
        }
    }

    fn complete(&mut self, phase: Phase, met: &mut Met) {
        let ((now, number), job) = self.done.pop_first().expect("somebody is done");
        self.now = now;
        if !job.answered {
            self.busy -= 1;
            if phase.besides > Span::ZERO {
                self.done.insert((now + phase.besides, number), Job { answered: true, ..job });
                return self.work(phase);
            }
        }
        let sojourn = now.since(job.arrived);
        met.in_time += u64::from(sojourn <= phase.service.times(PATIENCE));
        met.sojourns.push(sojourn);
        self.work(phase);
        self.gate.settle(now, job.ticket, Outcome::Success);
        self.turns(phase, met);
    }
}

const CAPACITY: f64 = 800.0;

fn eight(seconds: u64, factor: f64) -> Phase {
    Phase {
        seconds,
        rate: CAPACITY * factor,
        workers: 8,
        service: Span::from_millis(10),
        besides: Span::ZERO,
    }
}

/// Half the capacity for ten seconds, then `factor` times it for a minute, over these seeds.
fn overload(factor: f64, seeds: Range<u64>) -> (f64, f64, f64, f64) {
    let (mut refused, mut goodput, mut p99, mut limit) = (0.0, 0.0, 0.0, 0.0);
    let runs = (seeds.end - seeds.start) as f64;
    for seed in seeds {
        let mut course = Course::new(seed);
        course.play(eight(10, 0.5));
        course.play(eight(3, factor));
        let mut met = course.play(eight(60, factor));
        refused += met.refused as f64 / met.offered as f64 / runs;
        goodput += met.in_time as f64 / 60.0 / CAPACITY / runs;
        p99 += met.p99() / runs;
        limit += met.mean() / runs;
    }
    (refused, goodput, p99, limit)
}

#[test]
fn figures_of_overload() {
    println!("offered  refused  goodput  p99 ms  limit");
    for factor in [0.9, 1.2, 2.0, 5.0, 10.0] {
        let (refused, goodput, p99, limit) = overload(factor, 0..4);
        let (refused_percent, goodput_percent) = (refused * 100.0, goodput * 100.0);
        println!("{factor:>6}x  {refused_percent:>6.2}%  {goodput_percent:>6.2}%  {p99:>6.1}  {limit:>5.2}");
        assert!(factor > 1.0 || refused <= 0.005, "{refused} refused at {factor}");
        assert!(factor < 1.0 || goodput >= 0.98, "{goodput} of the capacity at {factor}");
        assert!(factor < 2.0 || p99 <= 66.0, "p99 of {p99} ms at {factor}");
    }
}

/// The clock of a service with few workers, or with slow work, is slower: what is chance for it would be
/// a standing queue for one with many.
#[test]
fn small_and_slow_services_may_queue_as_long_as_chance_makes_them() {
    println!("workers  work ms  offered  refused  goodput  p99 in works");
    for (workers, service_ms, refused_most, goodput_least) in [
        (1, 10, 0.045, 0.92),
        (2, 10, 0.03, 0.93),
        (4, 10, 0.015, 0.96),
        (8, 40, 0.005, 0.98),
        (8, 200, 0.015, 0.98),
    ] {
        let service = Span::from_millis(service_ms);
        let capacity = f64::from(workers) / service.as_secs_f64();
        let phase = |seconds, factor: f64| Phase {
            seconds: seconds * service_ms / 10,
            rate: capacity * factor,
            workers,
            service,
            besides: Span::ZERO,
        };
        for factor in [0.9, 1.2, 2.0] {
            let (mut refused, mut goodput, mut p99) = (0.0, 0.0, 0.0);
            for seed in 0..4 {
                let mut course = Course::new(seed);
                course.play(phase(10, 0.5));
                course.play(phase(10, factor));
                let long = phase(60, factor);
                let mut met = course.play(long);
                refused += met.refused as f64 / met.offered as f64 / 4.0;
                goodput += met.in_time as f64 / long.seconds as f64 / capacity / 4.0;
                p99 += met.p99() / service_ms as f64 / 4.0;
            }
            let (refused_percent, goodput_percent) = (refused * 100.0, goodput * 100.0);
            println!(
                "{workers:>7}  {service_ms:>7}  {factor:>6}x  {refused_percent:>6.2}%  {goodput_percent:>6.2}%  {p99:>6.1}"
            );
            assert!(
                factor > 1.0 || refused <= refused_most,
                "{workers} of {service_ms} ms: {refused} refused"
            );
            assert!(
                factor < 1.0 || goodput >= goodput_least,
                "{workers} of {service_ms} ms: {goodput} served"
            );
        }
    }
}

fn tell(what: &str, met: &Met, workers: u32) {
    let (least, most) = (met.limits.iter().min(), met.limits.iter().max());
    println!(
        "{what:<34} workers {workers:>3}  limit {:>6.2} ({}..{})  in 0..+20 % {:>5.1}%  falsely refused {:>6.3}%",
        met.mean(),
        least.unwrap_or(&0),
        most.unwrap_or(&0),
        met.within(workers) * 100.0,
        met.falsely_refused() * 100.0,
    );
}

#[test]
fn an_hour_of_saturation_teaches_the_limit_nothing() {
    for seed in 0..1 {
        let mut course = Course::new(seed);
        course.play(eight(10, 0.5));
        course.play(eight(5, 2.0));
        let parts: Vec<Met> = (0..6).map(|_| course.play(eight(600, 2.0))).collect();
        for (part, met) in parts.iter().enumerate() {
            tell(&format!("seed {seed}, 2x, ten minutes {}", part + 1), met, 8);
            assert!((8.0..=9.6).contains(&met.mean()), "seed {seed}: {}", met.mean());
            assert!(met.within(8) >= 0.9, "seed {seed}: only {} of the time", met.within(8));
        }
        let falsely = parts.iter().map(Met::falsely_refused).sum::<f64>() / 6.0;
        assert!(falsely <= 0.001, "seed {seed}: {falsely} refused while a worker was idle");
        let drift = parts[5].mean() / parts[0].mean();
        assert!((0.95..=1.05).contains(&drift), "seed {seed}: {drift} of where it was");
    }
}

/// The no-load latency was learned without that time. To believe it then is to take every call for
/// one that queued, and to shrink the limit for as long as the overload lasts.
#[test]
fn time_that_is_spent_elsewhere_is_not_taken_for_a_queue() {
    let besides = [1, 2, 4, 8];
    let mut sum = 0.0;
    for seed in 0..4 {
        let mut course = Course::new(seed);
        course.play(eight(10, 0.5));
        course.play(eight(10, 2.0));
        for millis in besides {
            let met = course.play(Phase { besides: Span::from_millis(millis), ..eight(60, 5.0) });
            let goodput = met.in_time as f64 / 60.0 / CAPACITY;
            tell(&format!("seed {seed}, {millis} ms besides, {:.1} %", goodput * 100.0), &met, 8);
            assert!(goodput >= 0.75, "seed {seed}, {millis} ms besides: {goodput} of the capacity");
            sum += goodput / 4.0 / besides.len() as f64;
        }
    }
    assert!(sum >= 0.9, "{sum} of the capacity on average");
}

/// Loads of a callee that changes, each for twenty seconds before it is looked at.
struct Change {
    /// The load, in parts of what the workers can do at first.
    load: f64,
    /// What changed, the workers as a multiple of those at first, and the milliseconds of work.
    steps: &'static [(&'static str, f64, u64)],
}

const CHANGES: [Change; 3] = [
    Change { load: 2.0, steps: &[("workers halved", 0.5, 10), ("workers back", 1.0, 10)] },
    Change { load: 4.0, steps: &[("workers doubled", 2.0, 10)] },
    Change { load: 0.7, steps: &[("work twice as slow", 1.0, 20)] },
];

/// The limit over the truth for each step: what it is at all times, and what it is for every seed on average.
fn follow(change: &Change, workers: u32, seeds: Range<u64>) {
    let phase = |seconds, load: f64, factor: f64, service_ms| Phase {
        seconds,
        rate: load * f64::from(workers) * 100.0,
        workers: (f64::from(workers) * factor) as u32,
        service: Span::from_millis(service_ms),
        besides: Span::ZERO,
    };
    let runs = (seeds.end - seeds.start) as f64;
    let mut sums = vec![(0.0, 0.0, 0.0); change.steps.len()];
    for seed in seeds {
        let mut course = Course::new(seed);
        course.play(phase(10, 0.5, 1.0, 10));
        course.play(phase(20, change.load, 1.0, 10));
        for ((name, factor, service_ms), (ratios, within, falsely)) in change.steps.iter().zip(&mut sums) {
            let stepped = phase(20, change.load, *factor, *service_ms);
            course.play(stepped);
            let met = course.play(stepped);
            tell(&format!("seed {seed}, {name}"), &met, stepped.workers);
            let ratio = met.mean() / f64::from(stepped.workers);
            assert!((0.95..=1.35).contains(&ratio), "{workers}, seed {seed}, {name}: {ratio} of the truth");
            *ratios += ratio / runs;
            *within += met.within(stepped.workers) / runs;
            *falsely += met.falsely_refused() / runs;
        }
    }
    for ((name, factor, _), (ratio, within, falsely)) in change.steps.iter().zip(&sums) {
        println!(
            "{name:<34} of {workers:>3}  limit {ratio:>5.3} of the truth, within 0..+20 % {:>5.1} % of the time, falsely refused {:.3} %",
            within * 100.0,
            falsely * 100.0
        );
        assert!((1.0..=1.2).contains(ratio), "{workers}, {name}: {ratio} of the truth");
        // Of four workers one place more is a quarter more, and at just four, growth has to be looked for.
        let least = if f64::from(workers) * factor < 5.0 { 0.8 } else { 0.9 };
        assert!(*within >= least, "{workers}, {name}: {within} of the time");
        assert!(*falsely <= 0.001, "{workers}, {name}: {falsely} refused while a worker was idle");
    }
}

#[test]
fn the_limit_follows_a_callee_that_changes() {
    for change in CHANGES {
        for workers in [8, 16, 50, 100] {
            follow(&change, workers, 0..12);
        }
    }
}
