//! Legs: logical calls, from whoever waits for the answer.

use seawall_core::call::{Attempt, Call, Lane, Parts, Repeat, Step, Verdict};
use seawall_core::enforcement::Stance;
use seawall_core::gate::Alone;
use seawall_core::outcome::Outcome;
use seawall_core::request::Request;
use seawall_core::rng::Rng;
use seawall_core::time::{Span, Time};

use super::link::Habit;
use super::station::Passage;
use super::{Event, Keep, Message, Owner, Reply, Stream, Who, World};
use crate::slab::Id;

/// A logical call.
pub(super) struct Leg {
    pub(super) owner: Owner,
    pub(super) who: Who,
    /// The service that is called.
    pub(super) service: u32,
    /// The link that it goes over; a station's own calls have none.
    pub(super) link: Option<u32>,
    pub(super) deadline: Time,
    pub(super) begun: Time,
    pub(super) kind: Kind,
    /// What it sent that has not answered.
    pub(super) sent: Sent,
    /// How the last attempt went.
    pub(super) last: Reply,
}

/// Messages that have not been answered: one as a rule, which then needs no memory of its own.
#[derive(Default)]
pub(super) struct Sent {
    first: Option<(Option<Lane>, Message)>,
    others: Vec<(Option<Lane>, Message)>,
}

impl Sent {
    fn add(&mut self, lane: Option<Lane>, message: Message) {
        match &mut self.first {
            None => self.first = Some((lane, message)),
            Some(_) => self.others.push((lane, message)),
        }
    }

    /// Takes the one of this lane.
    fn take(&mut self, lane: Option<Lane>) -> Option<Message> {
        if let Some((_, message)) = self.first.take_if(|(sent, _)| *sent == lane) {
            return Some(message);
        }
        let place = self.others.iter().position(|(sent, _)| *sent == lane)?;
        Some(self.others.swap_remove(place).1)
    }

    pub(super) fn into_all(self) -> impl Iterator<Item = Message> {
        self.first.into_iter().chain(self.others).map(|(_, message)| message)
    }
}

/// How a leg is made.
pub(super) enum Kind {
    /// One attempt.
    Plain,
    /// By the caller's own habit.
    Own(Box<Course>),
    /// Through a station.
    Station(Box<Passage>),
}

/// A call's course through its attempts.
pub(super) struct Course {
    pub(super) call: Call,
    pub(super) rng: Rng,
    /// When it is next woken.
    pub(super) wake_at: Time,
}

impl Leg {
    pub(super) fn is_attempt(&self) -> bool {
        matches!(self.kind, Kind::Station(_))
    }

    /// Whether it is one attempt of a client. Its messages, where they take no time and nothing else is due,
    /// are handled at once instead of by way of the queue: it calls nobody back.
    fn is_plain_of_client(&self) -> bool {
        matches!((&self.kind, self.owner), (Kind::Plain, Owner::Client { .. }))
    }

    pub(super) fn is_of(&self, place: usize) -> bool {
        matches!(self.owner, Owner::Client { population } if population as usize == place)
    }
}

impl Reply {
    /// As policies are told; `heeds` says whether a `Retry-After` is read.
    pub(super) fn outcome(self, heeds: bool) -> Outcome {
        match self {
            Reply::Ok | Reply::Degraded => Outcome::Success,
            Reply::Failed | Reply::Unreached => Outcome::Failure,
            Reply::TimedOut => Outcome::TimedOut,
            Reply::Shed { retry_after } | Reply::Throttled { retry_after } => {
                Outcome::Overloaded { retry_after: retry_after.filter(|_| heeds) }
            }
        }
    }

    /// Whether the request may be sent again.
    pub(super) fn repeat(self) -> Repeat {
        if self == Reply::Unreached { Repeat::Unreached } else { Repeat::Safe }
    }
}

fn parts(habit: &Habit) -> Parts<'_, Alone<u64>> {
    Parts {
        hosts: &habit.hosts,
        shared: &habit.shared,
        backpressure: None,
        front: None,
        stance: Stance::default(),
    }
}

impl World<'_> {
    /// A number of its own for each call with retries.
    pub(super) fn call_rng(&mut self) -> Rng {
        self.begun += 1;
        Stream::Calls.rng(self.seed, self.begun)
    }

    /// Begins a call over a link.
    pub(super) fn call(&mut self, link: u32, owner: Owner, who: Who) {
        let (of, now) = (&self.links[link as usize], self.now);
        let (service, deadline) = (of.to, of.deadline.map_or(Time::MAX, |span| now + span));
        let config = of.habit.as_ref().map(|habit| habit.config);
        let kind = match config {
            None => Kind::Plain,
            Some(config) => {
                let request = Request { deadline, tier: who.tier, ..Request::new(who.user) };
                let call = Call::new(config, request, Repeat::Safe, now);
                Kind::Own(Box::new(Course { call, rng: self.call_rng(), wake_at: Time::MAX }))
            }
        };
        let plain = matches!(kind, Kind::Plain);
        let second = self.second();
        self.outcomes.edges[link as usize].seconds[second].made += 1;
        let link = Some(link);
        let (sent, last) = (Sent::default(), Reply::TimedOut);
        let leg = self.legs.add(Leg { owner, who, service, link, deadline, begun: now, kind, sent, last });
        if plain {
            self.schedule(deadline, Event::Wake { leg });
            self.send(leg, None, None);
        } else {
            self.step(leg);
        }
    }

    /// It may be time for something.
    pub(super) fn wake(&mut self, id: Id) {
        let now = self.now;
        let Some(leg) = self.legs.get(id) else { return };
        match &mut leg.kind {
            Kind::Plain if leg.deadline <= now => self.end(id, Reply::TimedOut),
            Kind::Plain => {}
            Kind::Own(course) => {
                course.wake_at = Time::MAX;
                self.step(id);
            }
            Kind::Station(_) => self.wake_in_station(id),
        }
    }

    /// Does what the course of a caller's own call says until it has nothing to say.
    fn step(&mut self, id: Id) {
        loop {
            let Some(leg) = self.legs.get(id) else { return };
            let (Kind::Own(course), Some(link)) = (&mut leg.kind, leg.link) else { return };
            let Some(habit) = &self.links[link as usize].habit else { return };
            match course.call.poll(self.now, &parts(habit), &mut course.rng) {
                Step::Send(attempt) => self.send(id, Some(attempt), None),
                Step::Cancel { lane } => self.forget(id, lane),
                Step::WaitUntil(until) => return self.wait(id, until),
                Step::Finish(verdict) => {
                    course.call.abandon(self.now, &parts(habit));
                    let reply = match verdict {
                        Verdict::Answered { stop: None } | Verdict::Answered { stop: Some(_) } => leg.last,
                        Verdict::Rejected(_) => Reply::Shed { retry_after: None },
                        Verdict::Expired => Reply::TimedOut,
                    };
                    return self.end(id, reply);
                }
            }
        }
    }

    /// Wakes a call then, once.
    pub(super) fn wait(&mut self, id: Id, until: Time) {
        let Some(leg) = self.legs.get(id) else { return };
        let wake_at = match &mut leg.kind {
            Kind::Own(course) => &mut course.wake_at,
            Kind::Station(passage) => &mut passage.wake_at,
            Kind::Plain => return,
        };
        // A wake that is already on its way asks anew by itself.
        if until < *wake_at {
            *wake_at = until;
            self.schedule(until, Event::Wake { leg: id });
        }
    }

    /// Sends an attempt of a leg: to the station of its service, or to a replica.
    pub(super) fn send(&mut self, id: Id, attempt: Option<Attempt>, host: Option<u32>) {
        let Some(leg) = self.legs.get(id) else { return };
        let (service, who, link, lane) =
            (leg.service, leg.who, leg.link, attempt.map(|attempt| attempt.lane));
        let route = link.and_then(|link| self.links[link as usize].route);
        let counted = match leg.owner {
            Owner::Client { .. } => true,
            Owner::Attempt { leg, .. } => {
                self.legs.get(leg).is_some_and(|of| matches!(of.owner, Owner::Client { .. }))
            }
            _ => false,
        };
        let owner = Owner::Attempt { leg: id, lane };
        self.outcomes.attempts.sent += 1;
        // Of what a station sends for a client only that is counted that comes on top.
        let again = link.is_some() || attempt.is_some_and(|attempt| attempt.number > 1);
        let second = self.second();
        self.outcomes.tries[second] += u32::from(counted && again);
        if let Some(link) = link {
            self.outcomes.edges[link as usize].seconds[second].attempts += 1;
        }
        let Some(later) = self.leaves(link, service, route.is_some()) else {
            self.outcomes.attempts.lost += 1;
            return;
        };
        let message = match route {
            Some(route) => Message::Leg(self.enter(owner, who, service, route)),
            None => Message::Task(self.task(owner, who, service, host)),
        };
        let Some(leg) = self.legs.get(id) else { return };
        leg.sent.add(lane, message);
        let direct = later == Span::ZERO && leg.is_plain_of_client() && self.due.is_empty();
        let event = Event::Reach { message };
        if direct {
            self.outcomes.hash(self.now, event.word());
            return self.reach(message);
        }
        self.schedule(self.now + later, event);
    }

    /// How long a message takes over a link, or `None` when it is lost. What is wrong with all ways to a
    /// service is wrong with its last stretch: behind the station, if there is one.
    fn leaves(&mut self, link: Option<u32>, service: u32, to_station: bool) -> Option<Span> {
        let mut ways = [None, None];
        if let Some(link) = link {
            ways[0] = Some(self.links[link as usize].way);
        }
        if !to_station {
            ways[1] = Some(self.services[service as usize].way);
        }
        let mut delay = Span::ZERO;
        for way in ways.into_iter().flatten() {
            let lost =
                way.cuts > 0 || way.lost_ppm > 0 && self.network.below(1_000_000) < u64::from(way.lost_ppm);
            if lost {
                return None;
            }
            delay += way.later;
        }
        match &self.delay {
            // The station stands beside its service.
            Some(draw) if link.is_some() => Some(delay + draw.draw(&mut self.network)),
            _ => Some(delay),
        }
    }

    pub(super) fn reach(&mut self, message: Message) {
        match message {
            Message::Task(task) => self.arrive_at_replica(task),
            Message::Leg(leg) => self.admit(leg),
        }
    }

    /// Sends an answer to whoever waits for it.
    pub(super) fn reply(&mut self, owner: Owner, reply: Reply) {
        match owner {
            Owner::Attempt { leg, lane } => {
                let Some(of) = self.legs.get(leg) else { return };
                let (link, service) = (of.link, of.service);
                let to_station = link.is_some_and(|link| self.links[link as usize].route.is_some());
                let plain = of.is_plain_of_client();
                let Some(later) = self.leaves(link, service, to_station) else { return };
                let event = Event::Answer { leg, lane, reply };
                if plain && later == Span::ZERO && self.due.is_empty() {
                    self.outcomes.hash(self.now, event.word());
                    return self.answer(leg, lane, reply);
                }
                self.schedule(self.now + later, event);
            }
            Owner::Task { task, edge, more } => self.called(task, edge, more, reply),
            Owner::Client { population } => {
                self.think(population, population);
            }
            Owner::Check { check } => self.checked(check, reply == Reply::Ok),
            Owner::Liveness | Owner::Nobody => {}
        }
    }

    pub(super) fn answer(&mut self, id: Id, lane: Option<Lane>, reply: Reply) {
        let Some(leg) = self.legs.get(id) else { return };
        if leg.sent.take(lane).is_none() {
            return;
        }
        leg.last = reply;
        match (&mut leg.kind, lane) {
            (Kind::Own(course), Some(lane)) => {
                let Some(habit) = leg.link.and_then(|link| self.links[link as usize].habit.as_ref()) else {
                    return;
                };
                let (outcome, parts) = (reply.outcome(habit.heeds), parts(habit));
                course.call.on_outcome(self.now, lane, outcome, reply.repeat(), &parts, &mut course.rng);
                self.step(id);
            }
            (Kind::Station(_), Some(lane)) => self.answer_in_station(id, lane, reply),
            _ => self.end(id, reply),
        }
    }

    /// Nobody waits any more for the attempt in this lane.
    pub(super) fn forget(&mut self, id: Id, lane: Lane) {
        let Some(leg) = self.legs.get(id) else { return };
        if let Some(message) = leg.sent.take(Some(lane)) {
            self.disown(message);
        }
    }

    /// Closes the connection: a replica does its work all the same, a station does not.
    pub(super) fn disown(&mut self, message: Message) {
        match message {
            Message::Task(task) => {
                if let Some(task) = self.tasks.get(task) {
                    task.owner = Owner::Nobody;
                }
            }
            Message::Leg(leg) => self.withdraw(leg),
        }
    }

    /// A leg is over.
    fn end(&mut self, id: Id, reply: Reply) {
        let Some(leg) = self.legs.get(id) else { return };
        let (owner, link, begun) = (leg.owner, leg.link, leg.begun);
        let sent = std::mem::take(&mut leg.sent);
        self.legs.remove(id);
        for message in sent.into_all() {
            self.disown(message);
        }
        if let Some(link) = link {
            self.count_over(link as usize, reply);
        }
        if let Owner::Client { population } = owner {
            self.count(population as usize, begun, reply);
        }
        self.reply(owner, reply);
    }

    fn count_over(&mut self, link: usize, reply: Reply) {
        let second = self.second();
        let passed = &mut self.outcomes.edges[link].seconds[second];
        *match reply {
            Reply::Ok | Reply::Degraded => &mut passed.answered,
            Reply::Failed | Reply::Unreached => &mut passed.failed,
            Reply::Shed { .. } | Reply::Throttled { .. } => &mut passed.refused,
            Reply::TimedOut => &mut passed.expired,
        } += 1;
    }

    fn count(&mut self, population: usize, begun: Time, reply: Reply) {
        let (second, latency) = (self.second(), self.now.since(begun));
        let counts = &mut self.outcomes.populations[population].seconds[second];
        let in_time = matches!(reply, Reply::Ok | Reply::Degraded);
        *match reply {
            Reply::Ok => &mut counts.ok,
            Reply::Degraded => &mut counts.degraded,
            Reply::Failed | Reply::Unreached => &mut counts.failed,
            Reply::Shed { .. } => &mut counts.shed,
            Reply::Throttled { .. } => &mut counts.throttled,
            Reply::TimedOut => &mut counts.abandoned,
        } += 1;
        if in_time {
            self.outcomes.answered(population, second as u64, latency);
            self.outcomes.answered_in_tenth(self.now);
            if self.play.keep == Keep::Sojourns {
                self.outcomes.sojourns.push(latency);
            }
        }
    }
}
