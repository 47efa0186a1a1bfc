//! A station: Seawall in front of a service, as the gateway puts it together from a config.
//!
//! Front gate → fallback → call { pick a host → its back gate → send }. The station stands beside its
//! service: messages take no time between them.

#![expect(clippy::arc_with_non_send_sync, reason = "core shares gates by Arc; a run has one thread")]

use std::sync::Arc;

use seawall_config::{Config, Throttle};
use seawall_core::breaker::Mode;
use seawall_core::call::{Attempt, Call, Hosts, Lane, Member, Parts, Probe, Repeat, Shared, Step, Verdict};
use seawall_core::decision::{Policy, Reason, Rejection};
use seawall_core::fallback::{self, Decision, State, Trouble, Use, dims};
use seawall_core::gate::{self, Admit, Alone, Cells, Gate, Lane as GateLane, Own as _, Place, Rule, Ticket};
use seawall_core::health;
use seawall_core::outcome::Outcome;
use seawall_core::request::Request;
use seawall_core::rng::{Rng, mix};
use seawall_core::time::{Span, Time};

use super::calls::{Course, Kind, Leg, Sent};
use super::{Event, Message, Owner, Reply, Stream, Who, World};
use crate::decisions::Decided;
use crate::outcomes::Gauge;
use crate::scenario::{self, Scenario};
use crate::slab::{Id, Slab};

/// Seawall in front of one service.
pub(super) struct Station {
    name: String,
    upstream: seawall_config::Upstream,
    routes: Vec<Route>,
    hosts: Hosts<Alone<u64>>,
    shared: Cells<Shared>,
    rng: Rng,
    seed: u64,
    /// When it next asks whom to check.
    probe_at: Time,
}

struct Route {
    config: seawall_config::Route,
    gate: Gate<Alone<u64>>,
    /// When each user last got a full answer, if answers are kept.
    kept: Vec<Time>,
}

/// A call on its way through a station.
pub(super) struct Passage {
    /// Which of all calls it is, in the order in which they came.
    number: u64,
    route: u32,
    place: Option<Place>,
    ticket: Option<Ticket>,
    course: Option<Course>,
    fallback: fallback::Course,
    pub(super) wake_at: Time,
}

/// A health check under way.
pub(super) struct Check {
    service: u32,
    probe: Probe,
    task: Id,
}

/// The upstream of a config that stands in front of a service. One that names none of the services
/// stands, with its first upstream, in front of those that clients call.
pub(crate) fn upstream_of<'c>(config: &'c Config, scenario: &Scenario, place: usize) -> Option<&'c str> {
    let (name, _) = match config.upstreams.get_key_value(&scenario.services[place].name) {
        Some(named) => named,
        None if scenario.services.iter().any(|service| config.upstreams.contains_key(&service.name)) => {
            return None;
        }
        None if scenario.clients.iter().any(|clients| clients.calls == place) => {
            config.upstreams.iter().next()?
        }
        None => return None,
    };
    config.routes.iter().any(|route| route.upstream == *name).then_some(name)
}

/// The throttles of the gateway: the stations of a config are one gateway, and share them.
pub(super) fn over_all(config: &Config) -> Vec<Arc<Rule<Alone<u64>>>> {
    config.throttle.iter().map(rule).collect()
}

fn rule(throttle: &Throttle) -> Arc<Rule<Alone<u64>>> {
    Arc::new(Rule::new(throttle.config, Time::ZERO))
}

impl Station {
    /// What stands in front of a service, if the config has an upstream for it.
    pub(super) fn new(
        config: &Config,
        over_all: &[Arc<Rule<Alone<u64>>>],
        service: &scenario::Service,
        place: usize,
        scenario: &Scenario,
        seed: u64,
    ) -> Option<Station> {
        let name = upstream_of(config, scenario, place)?;
        let upstream = config.upstreams.get(name)?.clone();
        let mut rng = Stream::Hosts.rng(seed, place as u64);
        let pool = Arc::new(Cells::own(vec![gate::Shared::new(upstream.pool(), Time::ZERO)]));
        let routes = config.routes.iter().filter(|route| route.upstream == name).map(|route| {
            let gate = Gate::joining(pool.clone(), route.lane());
            gate.switch().replace(route.shadow);
            let own = route.throttle.iter().filter(|throttle| !throttle.shared).map(rule);
            let rules = over_all.iter().cloned().chain(own);
            Route { config: route.clone(), gate: gate.throttled(rules.collect()), kept: Vec::new() }
        });
        let routes = routes.collect();
        let members = members(&upstream, service.replicas, seed);
        let hosts = Hosts::balanced(upstream.balance(), members, Time::ZERO, &mut rng);
        let calls = config.calls(name).unwrap_or_default();
        let shared = Cells::own(vec![Shared::new(calls, Time::ZERO)]);
        let name = service.name.clone();
        Some(Station { name, upstream, routes, hosts, shared, rng, seed, probe_at: Time::MAX })
    }

    /// The route of this name, or of the service's, or the most general one.
    pub(super) fn route(&self, name: Option<&str>) -> u32 {
        let find = |name: &str| self.routes.iter().position(|route| route.config.name == name);
        let place = name.and_then(find).or_else(|| find(&self.name));
        place.unwrap_or(self.routes.len() - 1) as u32
    }

    /// There are so many replicas now.
    pub(super) fn scale(&mut self, now: Time, replicas: u32) {
        let mut members = members(&self.upstream, replicas, self.seed);
        for (member, gate) in members.iter_mut().zip(self.hosts.gates()) {
            member.gate = gate.clone();
        }
        self.hosts = self.hosts.replaced(self.upstream.balance(), members, now, &mut self.rng);
    }

    /// Stops all of its traffic.
    pub(super) fn block(&self, now: Time) {
        self.routes.iter().for_each(|route| route.gate.block(now, Arc::from("scenario")));
    }

    /// Lets its traffic in again.
    pub(super) fn readmit(&mut self, now: Time, over: Span) {
        for route in &self.routes {
            route.gate.readmit(now, 1_000_000, over, &mut self.rng);
        }
    }

    /// Adds what it shows of itself.
    pub(super) fn look(&self, now: Time, gauge: &mut Gauge) {
        if let Some(limit) = self.routes[0].gate.limit(now) {
            (gauge.limit, gauge.waiting) = (limit.limit, limit.waiting);
        }
        gauge.usable = u32::try_from(self.hosts.snapshot(now).usable).unwrap_or(u32::MAX);
    }

    fn parts(&self, route: u32) -> Parts<'_, Alone<u64>> {
        let front = Some(&self.routes[route as usize].gate);
        Parts {
            hosts: &self.hosts,
            shared: &self.shared,
            backpressure: None,
            front,
            stance: self.upstream.shadow,
        }
    }
}

/// The hosts of an upstream: as many as there are replicas, under the names of the config where it has
/// as many.
fn members(upstream: &seawall_config::Upstream, replicas: u32, seed: u64) -> Vec<Member<Alone<u64>>> {
    let gate = |place: u64| {
        let settings = upstream.back_gate(mix(seed ^ place));
        let gate = Gate::new(settings, GateLane::default(), Time::ZERO);
        gate.switch().replace(upstream.shadow);
        Arc::new(gate)
    };
    Member::numbered((0..u64::from(replicas)).map(gate).collect())
}

impl Passage {
    fn new(route: u32) -> Passage {
        let (place, ticket, course) = (None, None, None);
        let number = 0;
        Passage {
            number,
            route,
            place,
            ticket,
            course,
            fallback: fallback::Course::default(),
            wake_at: Time::MAX,
        }
    }
}

fn refusal(rejection: &Rejection) -> Reply {
    let retry_after = Some(rejection.retry_after);
    match rejection.policy {
        Policy::Throttle => Reply::Throttled { retry_after },
        _ => Reply::Shed { retry_after },
    }
}

impl World<'_> {
    /// A call on its way to a station.
    pub(super) fn enter(&mut self, owner: Owner, who: Who, service: u32, route: u32) -> Id {
        self.legs.add(Leg {
            owner,
            who,
            service,
            link: None,
            deadline: Time::MAX,
            begun: self.now,
            kind: Kind::Station(Box::new(Passage::new(route))),
            sent: Sent::default(),
            last: Reply::TimedOut,
        })
    }

    /// A call reaches a station.
    pub(super) fn admit(&mut self, id: Id) {
        let now = self.now;
        let Some(at) = at(&mut self.legs, &mut self.stations, id) else { return };
        let route = &at.station.routes[at.passage.route as usize];
        *at.deadline = now + route.config.deadline;
        self.came += 1;
        at.passage.number = self.came;
        let request = request(at.who, *at.deadline);
        let came = Decided::Came { user: request.user, tier: request.tier };
        self.outcomes.note(now, at.passage.number, || came);
        let chain = &route.config.fallback.chain;
        if !chain.steps().is_empty() {
            let dimmed = dims(route.gate.dimmer(now), request.cohort(now));
            let state = if dimmed { State::Dimmed } else { State::New };
            match at.passage.fallback.decide(chain, route.good(now, at.who), state) {
                Decision::Fresh | Decision::Revalidate => return self.leave_station(id, Reply::Ok),
                Decision::Stale | Decision::Static(_) => return self.leave_station(id, Reply::Degraded),
                // Cheaper upstreams are not simulated: the ordinary one is asked.
                Decision::Upstream(_) | Decision::Ask | Decision::Stand => {}
            }
        }
        let admit = route.gate.admit(now, &request);
        self.admitted(id, admit);
        self.serve_turns(id);
    }

    fn admitted(&mut self, id: Id, admit: Admit) {
        let now = self.now;
        let Some(at) = at(&mut self.legs, &mut self.stations, id) else { return };
        match admit {
            Admit::Ticket(ticket) => {
                let request = request(at.who, *at.deadline);
                let config = at.station.routes[at.passage.route as usize].config.retry;
                let call = Call::new(config, request, Repeat::Safe, now);
                self.begun += 1;
                let rng = Stream::Calls.rng(self.seed, self.begun);
                self.outcomes.note(now, at.passage.number, || Decided::Admitted);
                at.passage.ticket = Some(ticket);
                at.passage.course = Some(Course { call, rng, wake_at: Time::MAX });
                self.step_in_station(id);
            }
            Admit::Wait(place) => {
                let until = place.wake_at();
                at.passage.place = Some(place);
                self.wait(id, until);
                self.claim(id);
            }
            Admit::Reject(rejection) => {
                let Rejection { policy, reason, retry_after, .. } = rejection;
                let refused = || Decided::Refused { policy, reason, until: now + retry_after };
                self.outcomes.note(now, at.passage.number, refused);
                let service = &self.services[at.service as usize];
                if matches!(policy, Policy::Shed | Policy::Limit) && service.is_idle() {
                    self.outcomes.needless[at.service as usize][self.second] += 1;
                }
                self.troubled(id, refusal(&rejection));
            }
        }
    }

    /// "My turn?" Parks the call's number if not.
    fn claim(&mut self, id: Id) {
        let Some(at) = at(&mut self.legs, &mut self.stations, id) else { return };
        let Some(place) = at.passage.place.take() else { return };
        let known = place.wake_at();
        let gate = &at.station.routes[at.passage.route as usize].gate;
        match gate.claim(self.now, place, id.number()) {
            Admit::Wait(place) => {
                let until = place.wake_at();
                at.passage.place = Some(place);
                // Behind the wait for tokens there may be another one.
                if until != known {
                    self.wait(id, until);
                }
            }
            answered => self.admitted(id, answered),
        }
    }

    /// Calls whoever became due at the station of this service.
    fn serve_turns_of(&mut self, service: u32) {
        loop {
            let Some(station) = &self.stations[service as usize] else { return };
            let Some(waiter) = station.routes[0].gate.turn() else { return };
            self.claim(Id::of(waiter));
        }
    }

    fn serve_turns(&mut self, id: Id) {
        if let Some(service) = self.legs.get(id).map(|leg| leg.service) {
            self.serve_turns_of(service);
        }
    }

    pub(super) fn wake_in_station(&mut self, id: Id) {
        let Some(at) = at(&mut self.legs, &mut self.stations, id) else { return };
        at.passage.wake_at = Time::MAX;
        let service = at.service;
        match &at.passage.place {
            Some(place) if place.wake_at() > self.now => {
                let until = place.wake_at();
                self.wait(id, until);
            }
            Some(_) => self.claim(id),
            None => self.step_in_station(id),
        }
        self.serve_turns_of(service);
    }

    /// Does what the course of a call says until it has nothing to say.
    fn step_in_station(&mut self, id: Id) {
        loop {
            let Some(at) = at(&mut self.legs, &mut self.stations, id) else { return };
            let Some(course) = &mut at.passage.course else { return };
            let parts = at.station.parts(at.passage.route);
            match course.call.poll(self.now, &parts, &mut course.rng) {
                Step::Send(attempt) => {
                    let sent = || Decided::Sent { attempt: attempt.number, host: attempt.host as u64 };
                    self.outcomes.note(self.now, at.passage.number, sent);
                    self.send(id, Some(attempt), Some(host(&attempt)));
                }
                Step::Cancel { lane } => self.forget(id, lane),
                Step::WaitUntil(until) => return self.wait(id, until),
                Step::Finish(verdict) => return self.finish(id, verdict),
            }
        }
    }

    pub(super) fn answer_in_station(&mut self, id: Id, lane: Lane, reply: Reply) {
        let Some(at) = at(&mut self.legs, &mut self.stations, id) else { return };
        let Some(course) = &mut at.passage.course else { return };
        let parts = at.station.parts(at.passage.route);
        let (outcome, repeat) = (reply.outcome(true), reply.repeat());
        course.call.on_outcome(self.now, lane, outcome, repeat, &parts, &mut course.rng);
        self.step_in_station(id);
    }

    /// A call behind the gate is over: its place is free, its answer goes back.
    fn finish(&mut self, id: Id, verdict: Verdict) {
        let now = self.now;
        let Some(at) = at(&mut self.legs, &mut self.stations, id) else { return };
        let (Some(mut course), Some(mut ticket)) = (at.passage.course.take(), at.passage.ticket.take())
        else {
            return;
        };
        let (reply, outcome) = match verdict {
            // Whoever called did reach this station.
            Verdict::Answered { .. } if at.last == Reply::Unreached => (Reply::Failed, Outcome::Failure),
            Verdict::Answered { .. } => (at.last, at.last.outcome(true)),
            Verdict::Rejected(rejection) => (refusal(&rejection), Outcome::Ignored),
            Verdict::Expired => (Reply::TimedOut, Outcome::TimedOut),
        };
        let route = at.passage.route;
        (ticket.waited, ticket.hedged) = (course.call.waited(), course.call.hedges() > 0);
        course.call.abandon(now, &at.station.parts(route));
        let route = &mut at.station.routes[route as usize];
        if reply == Reply::Ok {
            route.keep(now, at.who);
        }
        route.gate.settle(now, ticket, outcome);
        let ended = || Decided::Ended {
            well: matches!(reply, Reply::Ok | Reply::Degraded),
            open: at.station.hosts.gates().iter().filter(|gate| !is_calm(gate, now)).count() as u64,
        };
        self.outcomes.note(now, at.passage.number, ended);
        let service = at.service;
        self.troubled(id, reply);
        self.serve_turns_of(service);
    }

    /// A call has its answer, if the fallback has no better one.
    fn troubled(&mut self, id: Id, reply: Reply) {
        let now = self.now;
        let Some(at) = at(&mut self.legs, &mut self.stations, id) else { return };
        let route = &at.station.routes[at.passage.route as usize];
        let trouble = match reply {
            Reply::Ok | Reply::Degraded | Reply::Throttled { .. } => return self.leave_station(id, reply),
            Reply::Failed | Reply::Unreached => Trouble::Failed,
            Reply::TimedOut => Trouble::NoAnswer,
            Reply::Shed { .. } => Trouble::Refused(Reason::Full),
        };
        let chain = &route.config.fallback.chain;
        let good = route.good(now, at.who);
        for _ in chain.steps() {
            match at.passage.fallback.decide(chain, good, State::Troubled(trouble)) {
                Decision::Stale | Decision::Static(_) => return self.leave_station(id, Reply::Degraded),
                Decision::Stand => break,
                _ => {}
            }
        }
        self.leave_station(id, reply);
    }

    fn leave_station(&mut self, id: Id, reply: Reply) {
        let Some(leg) = self.legs.take(id) else { return };
        for message in leg.sent.into_all() {
            self.disown(message);
        }
        let attempts = &mut self.outcomes.attempts;
        *match reply {
            Reply::Ok | Reply::Degraded => &mut attempts.answered,
            Reply::Shed { .. } | Reply::Throttled { .. } => &mut attempts.refused,
            Reply::Failed | Reply::Unreached | Reply::TimedOut => &mut attempts.failed,
        } += 1;
        self.reply(leg.owner, reply);
    }

    /// The caller has gone: what its call holds is given back.
    pub(super) fn withdraw(&mut self, id: Id) {
        let now = self.now;
        let Some(at) = at(&mut self.legs, &mut self.stations, id) else { return };
        let (route, service) = (at.passage.route, at.service);
        if let Some(mut course) = at.passage.course.take() {
            course.call.abandon(now, &at.station.parts(route));
        }
        let gate = &at.station.routes[route as usize].gate;
        if let Some(place) = at.passage.place.take() {
            gate.leave(now, place);
        }
        if let Some(ticket) = at.passage.ticket.take() {
            gate.settle(now, ticket, Outcome::Cancelled);
        }
        self.outcomes.attempts.withdrawn += 1;
        let sent = self.legs.take(id).map(|leg| leg.sent).unwrap_or_default();
        for message in sent.into_all() {
            self.disown(message);
        }
        self.serve_turns_of(service);
    }

    /// Asks the station when it next wants to check a host.
    pub(super) fn schedule_probe(&mut self, service: u32) {
        let Some(station) = &mut self.stations[service as usize] else { return };
        let at = station.hosts.probe_at().max(self.now);
        if at < station.probe_at {
            station.probe_at = at;
            self.schedule(at, Event::Probe { service });
        }
    }

    pub(super) fn probe(&mut self, service: u32) {
        let now = self.now;
        let Some(station) = &mut self.stations[service as usize] else { return };
        station.probe_at = Time::MAX;
        let mut probes = Vec::new();
        while let Some(probe) = station.hosts.due(now, &mut station.rng) {
            probes.push(probe);
        }
        for probe in probes {
            let (deadline, host) = (probe.deadline, probe.host as u32);
            let task = self.task(Owner::Nobody, Who::NOBODY, service, Some(host));
            let check = self.checks.add(Check { service, probe, task });
            if let Some(task) = self.tasks.get(task) {
                task.owner = Owner::Check { check };
            }
            self.schedule(deadline, Event::Overdue { check });
            // What does not arrive is overdue.
            if self.services[service as usize].way.cuts == 0 {
                self.arrive_at_replica(task);
            }
        }
        self.schedule_probe(service);
    }

    pub(super) fn overdue(&mut self, check: Id) {
        if let Some(Check { task, .. }) = self.checks.get(check) {
            let task = *task;
            self.disown(Message::Task(task));
            self.checked(check, false);
        }
    }

    pub(super) fn checked(&mut self, check: Id, passed: bool) {
        let Some(Check { service, probe, .. }) = self.checks.take(check) else { return };
        if let Some(station) = &mut self.stations[service as usize] {
            let check = if passed { health::Check::Passed } else { health::Check::Failed };
            station.hosts.probed(self.now, &probe, check, &mut station.rng);
        }
        self.schedule_probe(service);
    }
}

impl Route {
    /// What the kept answer of a user is good for, if there is one.
    fn good(&self, now: Time, who: Who) -> Option<Use> {
        let kept = self.kept.get(who.member as usize).copied().filter(|kept| *kept > Time::ZERO)?;
        let fresh = self.config.fallback.unmarked.unwrap_or(Span::ZERO);
        let age = now.since(kept);
        if age < fresh {
            Some(Use::Fresh)
        } else {
            (age <= fresh + self.config.fallback.chain.window()).then_some(Use::IfError)
        }
    }

    /// Keeps a full answer, where the fallback has a use for it.
    fn keep(&mut self, now: Time, who: Who) {
        if self.config.fallback.chain.window() == Span::ZERO {
            return;
        }
        let member = who.member as usize;
        if self.kept.len() <= member {
            self.kept.resize(member + 1, Time::ZERO);
        }
        self.kept[member] = now;
    }
}

/// A call at its station, in parts that can be changed apart.
struct At<'w> {
    who: Who,
    service: u32,
    deadline: &'w mut Time,
    last: Reply,
    passage: &'w mut Passage,
    station: &'w mut Station,
}

fn at<'w>(legs: &'w mut Slab<Leg>, stations: &'w mut [Option<Station>], id: Id) -> Option<At<'w>> {
    let Leg { who, service, deadline, last, kind, .. } = legs.get(id)?;
    let Kind::Station(passage) = kind else { return None };
    let station = stations[*service as usize].as_mut()?;
    Some(At { who: *who, service: *service, deadline, last: *last, passage, station })
}

fn request(who: Who, deadline: Time) -> Request {
    Request { tier: who.tier, deadline, ..Request::new(who.user) }
}

/// Whether the breaker of a host lets everything in.
fn is_calm(gate: &Gate<Alone<u64>>, now: Time) -> bool {
    gate.snapshot(now).breaker.is_none_or(|breaker| breaker.mode == Mode::Closed)
}

fn host(attempt: &Attempt) -> u32 {
    attempt.host as u32
}
