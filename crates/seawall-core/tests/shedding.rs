//! The front gate under overload, in virtual time: eight workers of exponential 10 ms behind it,
//! nobody told the capacity. What shedding by rank is for: the critical last, whole requests first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use seawall_core::gate::{Admit, Alone, Gate, Lane, Place, Settings, Ticket};
use seawall_core::outcome::Outcome;
use seawall_core::request::{Key, Request, Tier};
use seawall_core::rng::{Rng, mix};
use seawall_core::time::{Span, Time};
use seawall_core::{limit, shed};

const CALM: Time = at(10);
const MEASURED: Time = at(13);
const END: Time = at(43);

const fn at(second: u64) -> Time {
    Time::from_nanos(second * 1_000_000_000)
}

/// What is played: calm at half of the capacity for 10 s, then `load` times the capacity.
#[derive(Clone, Copy)]
struct Play {
    workers: usize,
    /// Requests a second over those that could be served if all of them were served whole.
    load: f64,
    /// Calls that a request makes, one after the other.
    calls: u32,
    /// The share of requests in the first tier, and both tiers.
    critical: f64,
    tiers: [Tier; 2],
    seed: u64,
}

const PLAY: Play = Play {
    workers: 8,
    load: 2.0,
    calls: 1,
    critical: 0.0,
    tiers: [Tier::CriticalPlus, Tier::Critical],
    seed: 1,
};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Expire(usize),
    Done(usize),
}

struct Job {
    user: u64,
    tier: Tier,
    calls: u32,
    begun: Time,
    place: Option<Place>,
    ticket: Option<Ticket>,
}

/// Requests that arrived, and those that were served whole, by tier; sojourn times of the latter.
#[derive(Default)]
struct Ends {
    asked: [u32; 2],
    served: [u32; 2],
    sojourns: Vec<Span>,
}

impl Ends {
    fn served(&self) -> f64 {
        f64::from(self.served[0] + self.served[1])
    }

    fn refused(&self) -> f64 {
        1.0 - self.served() / f64::from(self.asked[0] + self.asked[1])
    }

    fn p99(&mut self) -> Span {
        self.sojourns.sort();
        self.sojourns[self.sojourns.len() * 99 / 100]
    }
}

struct World {
    play: Play,
    now: Time,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    scheduled: u64,
    gate: Gate<Alone<usize>>,
    jobs: Vec<Job>,
    busy: usize,
    line: VecDeque<usize>,
    arrivals: Rng,
    users: Rng,
    work: Rng,
    ends: Ends,
}

impl World {
    fn run(play: Play) -> Ends {
        let settings = Settings { limit: Some(limit::Config::default()), ..Settings::default() };
        let lane = Lane { shed: Some(shed::Config::default()), ..Lane::default() };
        let mut world = World {
            play,
            now: Time::ZERO,
            events: BinaryHeap::new(),
            scheduled: 0,
            gate: Gate::new(settings, lane, Time::ZERO),
            jobs: Vec::new(),
            busy: 0,
            line: VecDeque::new(),
            arrivals: Rng::new(play.seed, 1),
            users: Rng::new(play.seed, 2),
            work: Rng::new(play.seed, 3),
            ends: Ends::default(),
        };
        world.schedule(Time::ZERO, Event::Arrive);
        while let Some(Reverse((now, _, event))) = world.events.pop() {
            if now >= END {
                break;
            }
            world.now = now;
            match event {
                Event::Arrive => world.arrive(),
                Event::Expire(job) => world.claim(job),
                Event::Done(job) => world.done(job),
            }
            while let Some(job) = world.gate.turn() {
                world.claim(job);
            }
        }
        world.ends
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    fn arrive(&mut self) {
        let capacity = self.play.workers as f64 * 100.0 / f64::from(self.play.calls);
        let rate = capacity * if self.now < CALM { 0.5 } else { self.play.load };
        let gap = self.arrivals.exponential(Span::from_secs_f64(1.0 / rate));
        self.schedule(self.now + gap, Event::Arrive);
        let tier = usize::from(self.users.unit() >= self.play.critical);
        self.ends.asked[tier] += u32::from(self.now >= MEASURED);
        self.jobs.push(Job {
            user: self.users.below(100_000),
            tier: self.play.tiers[tier],
            calls: self.play.calls,
            begun: self.now,
            place: None,
            ticket: None,
        });
        self.ask(self.jobs.len() - 1);
    }

    fn ask(&mut self, number: usize) {
        let job = &self.jobs[number];
        let deadline = self.now + Span::from_millis(250);
        let request = Request { tier: job.tier, deadline, ..Request::new(Key(mix(job.user))) };
        let admit = self.gate.admit(self.now, &request);
        self.go_on(number, admit);
    }

    fn go_on(&mut self, number: usize, admit: Admit) {
        match admit {
            Admit::Ticket(ticket) => {
                self.jobs[number].ticket = Some(ticket);
                if self.busy < self.play.workers { self.begin(number) } else { self.line.push_back(number) }
            }
            Admit::Wait(place) => {
                self.schedule(place.wake_at(), Event::Expire(number));
                self.jobs[number].place = Some(place);
                self.claim(number);
            }
            Admit::Reject(_) => {}
        }
    }

    fn claim(&mut self, number: usize) {
        let Some(place) = self.jobs[number].place.take() else { return };
        match self.gate.claim(self.now, place, number) {
            Admit::Wait(place) => self.jobs[number].place = Some(place),
            admit => self.go_on(number, admit),
        }
    }

    fn begin(&mut self, number: usize) {
        self.busy += 1;
        let ends = self.now + self.work.exponential(Span::from_millis(10));
        self.schedule(ends, Event::Done(number));
    }

    fn done(&mut self, number: usize) {
        self.busy -= 1;
        if let Some(next) = self.line.pop_front() {
            self.begin(next);
        }
        let job = &mut self.jobs[number];
        let ticket = job.ticket.take().expect("work is begun with a ticket");
        self.gate.settle(self.now, ticket, Outcome::Success);
        job.calls -= 1;
        if job.calls > 0 {
            return self.ask(number);
        }
        if job.begun >= MEASURED {
            let tier = usize::from(job.tier != self.play.tiers[0]);
            self.ends.served[tier] += 1;
            self.ends.sojourns.push(self.now.since(job.begun));
        }
    }
}

fn capacity(play: Play) -> f64 {
    play.workers as f64 * 100.0 / f64::from(play.calls) * END.since(MEASURED).as_secs_f64()
}

#[test]
fn goodput_holds_and_the_queue_stays_short() {
    for seed in 0..3 {
        let calm = World::run(Play { load: 0.9, seed, ..PLAY });
        assert!(calm.refused() <= 0.005, "seed {seed}: {} refused at .9", calm.refused());
        for load in [1.2, 2.0, 5.0, 10.0] {
            let play = Play { load, seed, ..PLAY };
            let mut ends = World::run(play);
            let (goodput, p99) = (ends.served() / capacity(play), ends.p99());
            assert!(goodput >= 0.97, "seed {seed} at {load}: {goodput} of the capacity");
            assert!(load < 2.0 || p99 <= Span::from_millis(66), "seed {seed} at {load}: p99 is {p99}");
        }
    }
}

#[test]
fn the_critical_pass_at_ten_times_the_capacity() {
    for tiers in [
        [Tier::CriticalPlus, Tier::Critical],
        [Tier::Critical, Tier::Sheddable],
        [Tier::SheddablePlus, Tier::Sheddable],
    ] {
        let play = Play { load: 10.0, critical: 0.05, tiers, ..PLAY };
        let ends = World::run(play);
        // What was under way at the end counts as asked.
        let passed = f64::from(ends.served[0] + 20) / f64::from(ends.asked[0]);
        assert!(passed >= 0.999, "{tiers:?}: {passed}");
        assert!(ends.served() / capacity(play) >= 0.98);
    }
}

#[test]
fn requests_of_several_calls_are_served_whole_or_not_at_all() {
    for workers in [8, 32] {
        for calls in 1..=4 {
            // Twice the calls that can be served, and twice the requests if each made one call.
            for load in [2.0, 2.0 * f64::from(calls)] {
                let part = |seed| {
                    let play = Play { workers, calls, load, seed, ..PLAY };
                    World::run(play).served() / capacity(play)
                };
                let part = (0..4).map(part).sum::<f64>() / 4.0;
                assert!(part >= 0.95, "{workers} workers, {calls} calls at {load}: {part} of what could be");
            }
        }
    }
}
