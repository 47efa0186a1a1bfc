//! One run: clients, network, protection and service in virtual time.
//!
//! Everything that decides is core's: a client's course of attempts is a [`Call`], the protection
//! in front of the service is a [`Gate`]. The world only carries messages and lets time pass. The
//! same seed gives the same events in the same order; the fingerprint is a hash over all of them.
//!
//! Draws are on streams of their own (arrivals, work, network, each call), so that two configs are
//! compared on the same arrivals.

use std::sync::Arc;

use seawall_core::call::{
    self, Attempt, Call, Config as CallConfig, Hosts, Lane, Parts, Repeat, Shared, Step, Verdict,
};
use seawall_core::gate::{self, Admit, Alone, Cells, Gate, Own as _, Place, Ticket};
use seawall_core::hedge;
use seawall_core::outcome::Outcome;
use seawall_core::request::{Key, Request};
use seawall_core::retry::budget;
use seawall_core::rng::{Rng, mix};
use seawall_core::time::{Span, Time};

use crate::queue::Queue;
use crate::service::{Arrival, Config as ServiceConfig, Service};

/// Streams of chance; calls have the streams from [`CALLS`] on.
const ARRIVALS: u64 = 1;
const WORK: u64 = 2;
const NETWORK: u64 = 3;
const USERS: u64 = 4;
const SURGE: u64 = 5;
const CALLS: u64 = 1 << 32;

/// More arrivals for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Surge {
    /// When it begins.
    pub at: Time,
    /// When it ends.
    pub end: Time,
    /// By how much the rate is multiplied; above 1.
    pub factor: f64,
}

/// What stands in front of the service, and what pays for retries.
#[derive(Clone, Debug, Default)]
pub struct Protection {
    /// The gate in front of the service.
    pub gate: Option<(gate::Settings, gate::Lane)>,
    /// The clients' retry budget.
    pub budget: Option<budget::Config>,
    /// How clients hedge.
    pub hedge: Option<hedge::Config>,
}

/// What one run plays.
#[derive(Clone, Debug)]
pub struct Play {
    /// Arrivals a second.
    pub rate: f64,
    /// How many users there are.
    pub users: u64,
    /// How a client makes a call.
    pub call: CallConfig,
    /// How long a client waits for its answer in all; `Span::MAX` for ever.
    pub deadline: Span,
    /// The mean of the exponential delay of a message; zero for none.
    pub network: Span,
    /// The service.
    pub service: ServiceConfig,
    /// The trigger; `None` in the control run.
    pub surge: Option<Surge>,
    /// The protection.
    pub protection: Protection,
    /// When the run ends.
    pub end: Time,
}

/// What came of a run, counted in calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    /// Calls begun, by second.
    pub offered: Vec<u32>,
    /// Calls answered in time, by the second of the answer.
    pub ok: Vec<u32>,
    /// Calls that ended with a failure.
    pub failed: u64,
    /// Calls that ended with a refusal for want of quota.
    pub throttled: u64,
    /// Calls that ended with a refusal for want of capacity.
    pub shed: u64,
    /// Calls whose client gave up waiting.
    pub abandoned: u64,
    /// Calls under way at the end.
    pub in_flight: u64,
    /// Attempts that reached the service's side.
    pub attempts: u64,
    /// The sojourn times of calls answered in time, in order of the answers, if they were asked for.
    pub sojourns: Vec<Span>,
    /// A hash over all events.
    pub fingerprint: u64,
    /// Events processed.
    pub events: u64,
}

impl Outcomes {
    /// Calls answered in time per second, over the seconds from `from` to `to`.
    pub fn goodput(&self, from: u64, to: u64) -> f64 {
        mean(&self.ok, from, to)
    }

    /// Calls begun per second, over the seconds from `from` to `to`.
    pub fn offered(&self, from: u64, to: u64) -> f64 {
        mean(&self.offered, from, to)
    }

    /// Whether every call is accounted for, once.
    pub fn is_conserved(&self) -> bool {
        let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        let ended = self.failed + self.throttled + self.shed + self.abandoned;
        sum(&self.offered) == sum(&self.ok) + ended + self.in_flight
    }
}

fn mean(counts: &[u32], from: u64, to: u64) -> f64 {
    let to = (to as usize).min(counts.len());
    let from = (from as usize).min(to);
    let sum: u64 = counts[from..to].iter().map(|count| u64::from(*count)).sum();
    sum as f64 / ((to - from).max(1)) as f64
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A client begins a call.
    Begin {
        /// Whether it belongs to the surge.
        surge: bool,
    },
    /// A call may have something to do.
    Wake { call: u64 },
    /// An attempt reaches the service's side.
    Reach { call: u64, lane: Lane, deadline: Time },
    /// The deadline of an attempt that waits in the gate.
    Expire { job: u64 },
    /// The service has done a piece of work.
    Done { job: u64 },
    /// An answer reaches the client.
    Answer { call: u64, lane: Lane, outcome: Outcome },
}

struct Under {
    call: Call,
    rng: Rng,
    begun: Time,
    refused: bool,
}

/// An attempt on the service's side.
struct Job {
    call: u64,
    lane: Lane,
    place: Option<Place>,
    ticket: Option<Ticket>,
}

/// Things under way, by a number that is never used twice.
struct Slab<T> {
    first: u64,
    items: std::collections::VecDeque<Option<T>>,
}

impl<T> Slab<T> {
    fn new() -> Slab<T> {
        Slab { first: 0, items: std::collections::VecDeque::new() }
    }

    fn add(&mut self, item: T) -> u64 {
        self.items.push_back(Some(item));
        self.first + self.items.len() as u64 - 1
    }

    fn get(&mut self, number: u64) -> Option<&mut T> {
        let index = number.checked_sub(self.first)?;
        self.items.get_mut(index as usize)?.as_mut()
    }

    fn take(&mut self, number: u64) -> Option<T> {
        let index = number.checked_sub(self.first)?;
        let item = self.items.get_mut(index as usize)?.take();
        while let Some(None) = self.items.front() {
            self.items.pop_front();
            self.first += 1;
        }
        item
    }

    fn len(&self) -> u64 {
        self.items.iter().filter(|item| item.is_some()).count() as u64
    }
}

struct World<'a> {
    play: &'a Play,
    seed: u64,
    now: Time,
    queue: Queue<Event>,
    arrivals: Rng,
    surging: Rng,
    network: Rng,
    users: Rng,
    calls: Slab<Under>,
    begun: u64,
    jobs: Slab<Job>,
    service: Service<u64>,
    gate: Option<Gate<Alone<u64>>>,
    hosts: Hosts<Alone<u64>>,
    shared: Cells<Shared>,
    outcomes: Outcomes,
    keep_sojourns: bool,
}

/// Plays a run.
pub fn run(play: &Play, seed: u64) -> Outcomes {
    World::new(play, seed, false).run()
}

/// Plays a run and keeps every sojourn time.
pub fn run_with_sojourns(play: &Play, seed: u64) -> Outcomes {
    World::new(play, seed, true).run()
}

impl<'a> World<'a> {
    #[expect(clippy::arc_with_non_send_sync, reason = "core shares gates by Arc; a run has one thread")]
    fn new(play: &'a Play, seed: u64, keep_sojourns: bool) -> World<'a> {
        let open = Gate::new(gate::Settings::default(), gate::Lane::default(), Time::ZERO);
        let seconds = play.end.as_nanos().div_ceil(1_000_000_000) as usize + 1;
        let Protection { budget, hedge, .. } = play.protection;
        let shared = Cells::own(vec![Shared::new(call::Settings { budget, hedge }, Time::ZERO)]);
        World {
            play,
            seed,
            now: Time::ZERO,
            queue: Queue::new(),
            arrivals: Rng::new(seed, ARRIVALS),
            surging: Rng::new(seed, SURGE),
            network: Rng::new(seed, NETWORK),
            users: Rng::new(seed, USERS),
            calls: Slab::new(),
            begun: 0,
            jobs: Slab::new(),
            service: Service::new(play.service, Rng::new(seed, WORK)),
            gate: play.protection.gate.map(|(settings, lane)| Gate::new(settings, lane, Time::ZERO)),
            hosts: Hosts::new(vec![Arc::new(open)]),
            shared,
            outcomes: Outcomes { offered: vec![0; seconds], ok: vec![0; seconds], ..Outcomes::default() },
            keep_sojourns,
        }
    }

    fn run(mut self) -> Outcomes {
        self.schedule_arrival();
        if let Some(surge) = self.play.surge {
            self.schedule_surge(surge);
        }
        while let Some((at, event)) = self.queue.next(self.play.end) {
            self.now = at;
            self.note(event);
            match event {
                Event::Begin { surge } => self.begin(surge),
                Event::Wake { call } => self.step(call),
                Event::Reach { call, lane, deadline } => self.reach(call, lane, deadline),
                Event::Expire { job } => self.claim(job),
                Event::Done { job } => self.done(job),
                Event::Answer { call, lane, outcome } => self.answer(call, lane, outcome),
            }
            self.serve_turns();
        }
        self.outcomes.in_flight = self.calls.len();
        self.outcomes
    }

    fn note(&mut self, event: Event) {
        let (kind, id) = match event {
            Event::Begin { .. } => (1, self.begun),
            Event::Wake { call } => (2, call),
            Event::Reach { call, .. } => (3, call),
            Event::Expire { job } => (4, job),
            Event::Done { job } => (5, job),
            Event::Answer { call, .. } => (6, call),
        };
        let word = mix(self.now.as_nanos() ^ mix(id << 3 | kind));
        self.outcomes.fingerprint = mix(self.outcomes.fingerprint ^ word);
        self.outcomes.events += 1;
    }

    fn second(&self) -> usize {
        (self.now.as_nanos() / 1_000_000_000) as usize
    }

    /// Schedules the next arrival of the steady stream, which is the same with and without trigger.
    fn schedule_arrival(&mut self) {
        let gap = self.arrivals.exponential(Span::from_secs_f64(1.0 / self.play.rate));
        self.queue.schedule(self.now + gap, Event::Begin { surge: false });
    }

    /// Schedules the next arrival of the surge, which comes on top.
    fn schedule_surge(&mut self, surge: Surge) {
        let rate = self.play.rate * (surge.factor - 1.0);
        let gap = self.surging.exponential(Span::from_secs_f64(1.0 / rate));
        let at = self.now.max(surge.at) + gap;
        if at < surge.end {
            self.queue.schedule(at, Event::Begin { surge: true });
        }
    }

    fn begin(&mut self, of_surge: bool) {
        match self.play.surge.filter(|_| of_surge) {
            Some(surge) => self.schedule_surge(surge),
            None => self.schedule_arrival(),
        }
        let second = self.second();
        self.outcomes.offered[second] += 1;
        let user = Key(mix(self.users.below(self.play.users)));
        let request = Request { deadline: self.now + self.play.deadline, ..Request::new(user) };
        let call = Call::new(self.play.call, request, Repeat::Safe, self.now);
        let rng = Rng::new(self.seed, CALLS + self.begun);
        self.begun += 1;
        let call = self.calls.add(Under { call, rng, begun: self.now, refused: false });
        self.step(call);
    }

    /// Does what a call says until it has nothing to say.
    fn step(&mut self, number: u64) {
        loop {
            let parts = parts(&self.hosts, &self.shared);
            let Some(under) = self.calls.get(number) else { return };
            match under.call.poll(self.now, &parts, &mut under.rng) {
                Step::Send(attempt) => self.send(number, attempt),
                Step::Cancel { .. } => {}
                Step::WaitUntil(Time::MAX) => return,
                Step::WaitUntil(until) => return self.queue.schedule(until, Event::Wake { call: number }),
                Step::Finish(verdict) => return self.finish(number, verdict),
            }
        }
    }

    fn send(&mut self, call: u64, attempt: Attempt) {
        let reach = Event::Reach { call, lane: attempt.lane, deadline: attempt.deadline };
        let at = self.now + self.delay();
        self.queue.schedule(at, reach);
    }

    fn delay(&mut self) -> Span {
        match self.play.network {
            Span::ZERO => Span::ZERO,
            mean => self.network.exponential(mean),
        }
    }

    fn finish(&mut self, number: u64, verdict: Verdict) {
        let parts = parts(&self.hosts, &self.shared);
        let Some(mut under) = self.calls.take(number) else { return };
        under.call.abandon(self.now, &parts);
        let second = self.second();
        match verdict {
            Verdict::Answered { stop: None } => {
                self.outcomes.ok[second] += 1;
                if self.keep_sojourns {
                    self.outcomes.sojourns.push(self.now.since(under.begun));
                }
            }
            Verdict::Answered { stop: Some(_) } if under.refused => self.outcomes.shed += 1,
            Verdict::Answered { stop: Some(_) } => self.outcomes.failed += 1,
            Verdict::Rejected(_) => self.outcomes.throttled += 1,
            Verdict::Expired => self.outcomes.abandoned += 1,
        }
    }

    fn reach(&mut self, call: u64, lane: Lane, deadline: Time) {
        self.outcomes.attempts += 1;
        let Some(gate) = &self.gate else {
            let job = self.jobs.add(Job { call, lane, place: None, ticket: None });
            return self.work(job);
        };
        // The deadline travels with the request; its network delay back is not known here.
        let request = Request { deadline, ..Request::new(Key(mix(call))) };
        let admit = gate.admit(self.now, &request);
        let job = self.jobs.add(Job { call, lane, place: None, ticket: None });
        self.admitted(job, admit);
    }

    fn admitted(&mut self, number: u64, admit: Admit) {
        let Some(job) = self.jobs.get(number) else { return };
        match admit {
            Admit::Ticket(ticket) => {
                job.ticket = Some(ticket);
                self.work(number);
            }
            Admit::Wait(place) => {
                let wake_at = place.wake_at();
                job.place = Some(place);
                if wake_at < Time::MAX {
                    self.queue.schedule(wake_at, Event::Expire { job: number });
                }
                self.claim(number);
            }
            Admit::Reject(_) => {
                let (call, lane) = (job.call, job.lane);
                self.jobs.take(number);
                self.reply(call, lane, Outcome::Overloaded { retry_after: None });
            }
        }
    }

    /// Asks whether it is this job's turn; parks its number if not.
    fn claim(&mut self, number: u64) {
        let Some(gate) = &self.gate else { return };
        let Some(place) = self.jobs.get(number).and_then(|job| job.place.take()) else { return };
        let known = place.wake_at();
        match gate.claim(self.now, place, number) {
            Admit::Wait(place) => {
                // Behind the wait for tokens there may be another one.
                if place.wake_at() != known && place.wake_at() < Time::MAX {
                    self.queue.schedule(place.wake_at(), Event::Expire { job: number });
                }
                if let Some(job) = self.jobs.get(number) {
                    job.place = Some(place);
                }
            }
            answered => self.admitted(number, answered),
        }
    }

    fn serve_turns(&mut self) {
        while let Some(job) = self.gate.as_ref().and_then(Gate::turn) {
            self.claim(job);
        }
    }

    fn work(&mut self, number: u64) {
        match self.service.arrive(self.now, number) {
            Arrival::Begun(ends) => self.queue.schedule(ends, Event::Done { job: number }),
            Arrival::Waits => {}
            Arrival::Full => self.end_job(number, Outcome::Overloaded { retry_after: None }),
        }
    }

    fn done(&mut self, number: u64) {
        if let Some((next, ends)) = self.service.done(self.now) {
            self.queue.schedule(ends, Event::Done { job: next });
        }
        self.end_job(number, Outcome::Success);
    }

    fn end_job(&mut self, number: u64, outcome: Outcome) {
        let Some(job) = self.jobs.take(number) else { return };
        if let (Some(gate), Some(ticket)) = (&self.gate, job.ticket) {
            gate.settle(self.now, ticket, outcome);
        }
        self.reply(job.call, job.lane, outcome);
    }

    fn reply(&mut self, call: u64, lane: Lane, outcome: Outcome) {
        let at = self.now + self.delay();
        self.queue.schedule(at, Event::Answer { call, lane, outcome });
    }

    fn answer(&mut self, number: u64, lane: Lane, outcome: Outcome) {
        let parts = parts(&self.hosts, &self.shared);
        let Some(under) = self.calls.get(number) else { return };
        under.refused = matches!(outcome, Outcome::Overloaded { .. });
        under.call.on_outcome(self.now, lane, outcome, Repeat::Safe, &parts, &mut under.rng);
        self.step(number);
    }
}

fn parts<'a>(hosts: &'a Hosts<Alone<u64>>, shared: &'a Cells<Shared>) -> Parts<'a, Alone<u64>> {
    Parts { hosts, shared, backpressure: None, front: None }
}

#[cfg(test)]
mod tests;
