//! One run: clients, Seawall, services and what happens to them, in virtual time.
//!
//! Whatever decides is core's: the course of a call is a [`Call`](seawall_core::call::Call), what stands
//! in front of a service is a [`Gate`](seawall_core::gate::Gate). The world carries messages and lets time
//! pass.
//!
//! ```text
//! population ──leg──▶ station (front gate → call → hosts, each behind its back gate) ──▶ replica
//!                     └ only where the config has an upstream of that name                 │
//!                                                      script: sleep, then legs of its own ┘
//! ```
//!
//! **Mechanics.** A *leg* is one logical call of somebody who waits for it; its attempts are messages
//! that become *tasks* in a replica, or legs of the *station* in front of the service. A client that
//! gives up closes its connection: the station forgets the call, a replica does its work all the same.
//!
//! **Edges.** Draws are on streams of their own (arrivals, users, each call's retries, each service's
//! work), so that two configs meet the same arrivals. The same seed gives the same events in the same
//! order on every machine; the fingerprint is a hash over them.

mod arrivals;
mod calls;
mod faults;
mod link;
mod replica;
mod station;
mod tasks;

use std::collections::VecDeque;

use seawall_config::Config;
use seawall_core::call::Lane;
use seawall_core::request::{Key, Tier};
use seawall_core::rng::Rng;
use seawall_core::time::{Span, Time};

use crate::chance::Draw;
use crate::outcomes::{Edge, Gauge, Outcomes, Phases};
use crate::queue::Queue;
use crate::scenario::Scenario;
use crate::slab::{Id, Slab};
use arrivals::Source;
use calls::Leg;
use link::Link;
use station::Station;
use tasks::{Service, Task};

/// Streams of chance: kinds of them, each with room for 2³² of its own.
#[derive(Clone, Copy)]
enum Stream {
    Arrivals = 1,
    Surge,
    Users,
    Work,
    Pauses,
    Network,
    Hosts,
    Faults,
    Calls,
    Patience,
}

impl Stream {
    fn rng(self, seed: u64, number: u64) -> Rng {
        Rng::new(seed, (self as u64) << 40 | number)
    }
}

/// How a run is played.
#[derive(Clone, Copy, Debug)]
pub struct Play<'a> {
    /// The experiment; what is in `events` happens.
    pub scenario: &'a Scenario,
    /// What stands in front of its services; `None` for nothing.
    pub config: Option<&'a Config>,
    /// How its time is divided.
    pub phases: Phases,
    /// When all clients stay away, if they do.
    pub release: Option<(Time, Time)>,
    /// How much is kept.
    pub keep: Keep,
}

/// How much of a run is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Counts.
    #[default]
    Counts,
    /// Gauges once a second besides.
    Gauges,
    /// Every sojourn time besides.
    Sojourns,
    /// Every decision of Seawall instead of those.
    Decisions,
}

/// What is the same for a request and all that it causes.
#[derive(Clone, Copy, Debug)]
struct Who {
    user: Key,
    /// The user's place among all users of the scenario.
    member: u32,
    tier: Tier,
}

impl Who {
    /// No user at all.
    const NOBODY: Who = Who { user: Key(0), member: 0, tier: Tier::Critical };
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug)]
enum Owner {
    /// Nobody waits for it any more.
    Nobody,
    /// A client.
    Client { population: u32 },
    /// A leg whose attempt this is.
    Attempt { leg: Id, lane: Option<Lane> },
    /// A task, for the call of its current step; so many more follow one after the other.
    Task { task: Id, edge: u32, more: u32 },
    /// The orchestrator of a replica.
    Liveness,
    /// A health check of Seawall.
    Check { check: Id },
}

/// How something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Ok,
    Degraded,
    Failed,
    /// Nobody listens there.
    Unreached,
    /// Refused for want of capacity, perhaps until then.
    Shed {
        retry_after: Option<Span>,
    },
    /// Refused for want of quota.
    Throttled {
        retry_after: Option<Span>,
    },
    /// Nobody answered in time.
    TimedOut,
}

/// Something that was sent.
#[derive(Clone, Copy, Debug)]
enum Message {
    Task(Id),
    Leg(Id),
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A client begins a call.
    Arrive { source: u32 },
    /// A leg may have something to do.
    Wake { leg: Id },
    /// A message is there.
    Reach { message: Message },
    /// An answer is there.
    Answer { leg: Id, lane: Option<Lane>, reply: Reply },
    /// A task has slept.
    Done { task: Id },
    /// A task has waited for a worker as long as it would.
    Tired { task: Id },
    /// Something happens, or is over.
    Fault { event: u32, ends: bool },
    /// A replica's own course.
    Replica { service: u32, replica: u32, what: Course },
    /// Seawall asks which host to check.
    Probe { service: u32 },
    /// A health check has failed unless it is over.
    Overdue { check: Id },
    /// Gauges are read.
    Look,
}

#[derive(Clone, Copy, Debug)]
enum Course {
    /// It stands still for a while.
    Pause,
    /// It is back.
    Restart { epoch: u32 },
    /// It is asked whether it lives.
    Live,
    /// The answer to that should be there.
    Lives { task: Id },
}

impl Event {
    /// A word that tells events apart.
    fn word(&self) -> u64 {
        match self {
            Event::Arrive { source } => 1 | u64::from(*source) << 4,
            Event::Wake { leg } => 2 | leg.number() << 4,
            Event::Reach { message: Message::Task(id) | Message::Leg(id) } => 3 | id.number() << 4,
            Event::Answer { leg, .. } => 4 | leg.number() << 4,
            Event::Done { task } => 5 | task.number() << 4,
            Event::Fault { event, .. } => 6 | u64::from(*event) << 4,
            Event::Replica { service, replica, .. } => {
                7 | u64::from(*service) << 4 | u64::from(*replica) << 36
            }
            Event::Probe { service } => 8 | u64::from(*service) << 4,
            Event::Overdue { check } => 9 | check.number() << 4,
            Event::Look => 10,
            Event::Tired { task } => 11 | task.number() << 4,
        }
    }
}

struct World<'a> {
    play: Play<'a>,
    seed: u64,
    now: Time,
    /// The second of now, and when it is over.
    second: usize,
    second_ends: Time,
    queue: Queue<Event>,
    /// Events of this very moment, in their order.
    due: VecDeque<Event>,
    network: Rng,
    delay: Option<Draw>,
    sources: Vec<Source>,
    links: Vec<Link>,
    /// The links of each population.
    of_population: Vec<u32>,
    legs: Slab<Leg>,
    tasks: Slab<Task>,
    checks: Slab<station::Check>,
    services: Vec<Service>,
    stations: Vec<Option<Station>>,
    /// Calls that came to a station.
    came: u64,
    /// Calls begun, which number the streams of their retries.
    begun: u64,
    outcomes: Outcomes,
}

/// Plays a run.
pub fn run(play: Play<'_>, seed: u64) -> Outcomes {
    World::new(play, seed).run()
}

impl<'a> World<'a> {
    fn new(play: Play<'a>, seed: u64) -> World<'a> {
        let scenario = play.scenario;
        let over_all = play.config.map(station::over_all).unwrap_or_default();
        let stations: Vec<Option<Station>> = (scenario.services.iter().enumerate())
            .map(|(place, service)| Station::new(play.config?, &over_all, service, place, scenario, seed))
            .collect();
        let (links, of_population, of_services) = link::all(scenario, &stations);
        let measured_from = Time::ZERO + scenario.warmup;
        let services = (scenario.services.iter().zip(of_services).enumerate())
            .map(|(place, (service, links))| Service::new(service, &links, measured_from, seed, place));
        let mut outcomes = Outcomes::new(scenario, &play.phases);
        outcomes.notes = play.keep == Keep::Decisions;
        let seconds = outcomes.tries.len();
        outcomes.edges = links.iter().map(|link| Edge::new(&link.from, link.to, seconds)).collect();
        World {
            seed,
            now: Time::ZERO,
            second: 0,
            second_ends: Time::from_nanos(1_000_000_000),
            queue: Queue::new(),
            due: VecDeque::new(),
            network: Stream::Network.rng(seed, 0),
            delay: scenario.network.as_ref().map(Draw::of),
            sources: arrivals::sources(scenario, seed),
            links,
            of_population,
            legs: Slab::new(),
            tasks: Slab::new(),
            checks: Slab::new(),
            services: services.collect(),
            stations,
            came: 0,
            begun: 0,
            outcomes,
            play,
        }
    }

    fn run(mut self) -> Outcomes {
        self.begin();
        let end = self.play.scenario.end;
        while let Some(event) = self.next(end) {
            self.outcomes.hash(self.now, event.word());
            match event {
                Event::Arrive { source } => self.arrive(source),
                Event::Wake { leg } => self.wake(leg),
                Event::Reach { message } => self.reach(message),
                Event::Answer { leg, lane, reply } => self.answer(leg, lane, reply),
                Event::Done { task } => self.slept(task),
                Event::Tired { task } => self.tired(task),
                Event::Fault { event, ends } => self.fault(event, ends),
                Event::Replica { service, replica, what } => self.replica(service, replica, what),
                Event::Probe { service } => self.probe(service),
                Event::Overdue { check } => self.overdue(check),
                Event::Look => self.look(),
            }
        }
        self.count_what_is_under_way();
        self.outcomes.finish();
        self.outcomes
    }

    fn begin(&mut self) {
        for source in 0..self.sources.len() as u32 {
            self.begin_source(source);
        }
        for (place, event) in self.play.scenario.events.iter().enumerate() {
            let place = place as u32;
            self.schedule(event.at, Event::Fault { event: place, ends: false });
            if let Some(ends) = event.ends {
                self.schedule(ends, Event::Fault { event: place, ends: true });
            }
        }
        for service in 0..self.services.len() as u32 {
            self.begin_replicas(service);
            self.schedule_probe(service);
        }
        if !matches!(self.play.keep, Keep::Counts | Keep::Decisions) {
            self.schedule(Time::ZERO + Span::from_secs(1), Event::Look);
        }
    }

    fn schedule(&mut self, at: Time, event: Event) {
        if at <= self.now {
            self.due.push_back(event);
        } else if at < Time::MAX {
            match event {
                // Deadlines, for the most part, and those of one kind of call are equally long.
                Event::Wake { .. } => self.queue.schedule_in_line(at, event),
                _ => self.queue.schedule(at, event),
            }
        }
    }

    fn next(&mut self, end: Time) -> Option<Event> {
        if let Some(event) = self.due.pop_front() {
            return Some(event);
        }
        let (at, event) = self.queue.next(end)?;
        self.now = at;
        if at >= self.second_ends {
            self.second = (at.as_nanos() / 1_000_000_000) as usize;
            self.second_ends = Time::from_nanos((self.second as u64 + 1) * 1_000_000_000);
        }
        Some(event)
    }

    #[inline]
    fn second(&self) -> usize {
        self.second
    }

    /// Reads the gauges of every service.
    fn look(&mut self) {
        for (place, gauges) in self.outcomes.gauges.iter_mut().enumerate() {
            let service = &self.services[place];
            let mut gauge = Gauge {
                inside: service.replicas.iter().map(|replica| replica.inside()).sum(),
                up: service.replicas.iter().map(|replica| u32::from(replica.up)).sum(),
                ..Gauge::default()
            };
            gauge.usable = gauge.up;
            if let Some(station) = &self.stations[place] {
                station.look(self.now, &mut gauge);
            }
            gauges.push(gauge);
        }
        self.schedule(self.now + Span::from_secs(1), Event::Look);
    }

    fn count_what_is_under_way(&mut self) {
        let attempts = self.tasks.count(Task::is_attempt) + self.legs.count(Leg::is_attempt);
        self.outcomes.attempts.in_flight = attempts;
        for (place, population) in self.outcomes.populations.iter_mut().enumerate() {
            population.in_flight = self.legs.count(|leg| leg.is_of(place));
        }
        for (place, edge) in self.outcomes.edges.iter_mut().enumerate() {
            edge.in_flight = self.legs.count(|leg| leg.link == Some(place as u32));
        }
        for (service, queue) in self.services.iter_mut().zip(&mut self.outcomes.queues) {
            queue.busy_s =
                service.replicas.iter_mut().map(|replica| replica.busy_s(self.play.scenario.end)).sum();
        }
    }
}
