//! Tasks: requests in a replica, from their arrival to the end of their script.

use std::collections::BTreeMap;

use seawall_config::model::{self, Order, Step};
use seawall_core::rng::Rng;
use seawall_core::time::{Span, Time};

use super::link::Way;
use super::replica::{Replica, Room};
use super::{Course, Event, Owner, Reply, Stream, Who, World};
use crate::chance::Draw;
use crate::scenario;
use crate::slab::Id;

/// A request in a replica, or on its way there.
pub(super) struct Task {
    pub(super) owner: Owner,
    /// Whether it is an attempt of a call, and not a probe.
    attempt: bool,
    who: Who,
    /// When it came to its replica.
    came: Time,
    pub(super) service: u32,
    pub(super) replica: u32,
    /// The next step of its script.
    step: u32,
    /// Calls of the current step that have not ended.
    open: u32,
    /// What it answers, unless all went well: the refusal of what it needs is passed on.
    failure: Option<Reply>,
    /// How much its replica had stood still when its sleep began.
    stalled: Span,
    /// How many requests had succeeded when its sleep began, where that matters.
    version: u64,
}

impl Task {
    pub(super) fn is_attempt(&self) -> bool {
        self.attempt
    }
}

/// A service at work.
pub(super) struct Service {
    pub(super) model: model::Service,
    /// What a step does: sleep, or calls over these links.
    script: Vec<Option<Vec<u32>>>,
    draw: Draw,
    /// How long the next work takes: drawn ahead, so that nobody waits for the draw.
    work: Span,
    patience: Option<Draw>,
    /// Requests that have succeeded, where those between fail.
    version: u64,
    rng: Rng,
    tempers: Rng,
    pauses: Rng,
    pub(super) faults: Rng,
    pub(super) replicas: Vec<Replica>,
    /// Workers of each replica; no bound as a rule of its own.
    workers: u32,
    /// The replica after the one that was called last, where no Seawall chooses.
    next: u32,
    /// A capacity that is not whole: from when to when, from which share to which.
    pub(super) capacity: Option<(Time, Time, f64, f64)>,
    /// Whether its traffic is blocked by hand, where no Seawall does it.
    pub(super) blocked: bool,
    pub(super) way: Way,
}

impl Service {
    pub(super) fn new(
        service: &scenario::Service,
        links: &[u32],
        measured_from: Time,
        seed: u64,
        place: usize,
    ) -> Service {
        let mut links = links.iter().copied();
        let step = |step: &Step| match step {
            Step::Sleep => None,
            Step::Calls(calls) => Some(links.by_ref().take(calls.len()).collect()),
        };
        let number = place as u64;
        let (draw, mut rng) = (Draw::of(&service.model.time), Stream::Work.rng(seed, number));
        Service {
            script: service.model.script.iter().map(step).collect(),
            work: draw.draw(&mut rng),
            draw,
            patience: service.model.patience.as_ref().map(Draw::of),
            version: 0,
            tempers: Stream::Patience.rng(seed, number),
            rng,
            pauses: Stream::Pauses.rng(seed, number),
            faults: Stream::Faults.rng(seed, number),
            replicas: (0..service.replicas).map(|_| Replica::warm(measured_from)).collect(),
            workers: service.model.workers.unwrap_or(u32::MAX),
            model: service.model.clone(),
            next: 0,
            capacity: None,
            blocked: false,
            way: Way::default(),
        }
    }

    /// Whether a replica that is up has a worker with nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.replicas.iter().any(|replica| replica.up && replica.busy() < self.workers)
    }

    /// The next replica in turn that is up; or, when none is, the next.
    fn in_turn(&mut self) -> u32 {
        let count = self.replicas.len() as u32;
        let at = |step: u32| (self.next + step) % count;
        let up = (0..count).map(at).find(|place| self.replicas[*place as usize].up);
        let chosen = up.unwrap_or(self.next % count);
        self.next = (chosen + 1) % count;
        chosen
    }

    /// How many times as long work takes because the capacity is not whole.
    fn shortage(&self, now: Time) -> f64 {
        let Some((begins, ends, from, to)) = self.capacity else { return 1.0 };
        let share = now.since(begins).as_secs_f64() / ends.since(begins).as_secs_f64().max(1e-9);
        1.0 / (from + (to - from) * share.min(1.0))
    }
}

impl World<'_> {
    /// A request for a service, on its way to a host or to whichever replica is next.
    pub(super) fn task(&mut self, owner: Owner, who: Who, service: u32, host: Option<u32>) -> Id {
        let replica = host.unwrap_or_else(|| self.services[service as usize].in_turn());
        let attempt = matches!(owner, Owner::Attempt { .. });
        let (step, open, failure, stalled, version) = (0, 0, None, Span::ZERO, 0);
        let came = self.now;
        self.tasks.add(Task {
            owner,
            attempt,
            who,
            came,
            service,
            replica,
            step,
            open,
            failure,
            stalled,
            version,
        })
    }

    pub(super) fn arrive_at_replica(&mut self, id: Id) {
        let second = self.second();
        let Some(task) = self.tasks.get(id) else { return };
        task.came = self.now;
        let (place, number, attempt) = (task.service, task.replica, task.attempt);
        let service = &mut self.services[place as usize];
        if attempt {
            self.outcomes.load[place as usize][second] += 1;
        }
        if service.blocked && attempt {
            return self.finish_task(id, Reply::Shed { retry_after: None });
        }
        let (workers, queue) = (service.workers, service.model.queue);
        let Some(replica) = service.replicas.get_mut(number as usize).filter(|replica| replica.up) else {
            return self.finish_task(id, Reply::Unreached);
        };
        let room = replica.room(self.now, workers, queue.unwrap_or(u32::MAX), id);
        if attempt && self.is_measured() {
            let queue = &mut self.outcomes.queues[place as usize];
            queue.came += 1;
            queue.refused += u64::from(room == Room::None);
        }
        match room {
            Room::Worker => self.begin_work(id),
            Room::Queue => {
                let service = &mut self.services[place as usize];
                if let Some(patience) = service.patience.as_ref().filter(|_| attempt) {
                    let tired = self.now + patience.draw(&mut service.tempers);
                    self.schedule(tired, Event::Tired { task: id });
                }
            }
            Room::None => {
                let service = &mut self.services[place as usize];
                service.replicas[number as usize].owed += service.model.refusal;
                self.finish_task(id, Reply::Shed { retry_after: None });
            }
        }
        let service = &self.services[place as usize];
        if let Some(death) = service.model.death
            && service.replicas[number as usize].inside() > death.above
        {
            self.fall(place, number, Some(death.restart));
        }
    }

    /// Whoever still waits for a worker goes away.
    pub(super) fn tired(&mut self, id: Id) {
        let Some(task) = self.tasks.get(id) else { return };
        let (place, number, came) = (task.service as usize, task.replica as usize, task.came);
        if self.services[place].replicas[number].leave(id) {
            if self.is_measured() {
                let queue = &mut self.outcomes.queues[place];
                queue.left += 1;
                queue.waited += 1;
                queue.waits.add(self.now.since(came));
            }
            self.finish_task(id, Reply::TimedOut);
        }
    }

    /// A worker has taken it.
    fn begin_work(&mut self, id: Id) {
        let measured = self.is_measured();
        if let Some(task) = self.tasks.get(id)
            && task.attempt
            && measured
        {
            let wait = self.now.since(task.came);
            let queue = &mut self.outcomes.queues[task.service as usize];
            queue.waits.add(wait);
            queue.waited += u64::from(wait > Span::ZERO);
        }
        self.advance(id);
    }

    fn is_measured(&self) -> bool {
        self.now >= Time::ZERO + self.play.scenario.warmup
    }

    /// Takes the next step of the script, or ends the task.
    fn advance(&mut self, id: Id) {
        loop {
            let Some(task) = self.tasks.get(id) else { return };
            let service = &mut self.services[task.service as usize];
            let step = task.step as usize;
            if task.failure.is_some() || step >= service.script.len() || !task.attempt {
                return self.leave_worker(id);
            }
            task.step += 1;
            match &service.script[step] {
                None => return self.sleep(id),
                Some(links) => {
                    let links = links.clone();
                    if self.make_calls(id, &links) {
                        return;
                    }
                }
            }
        }
    }

    /// Makes the calls of a step, without those that a cache answers or that this request does not need;
    /// says whether any is left.
    fn make_calls(&mut self, id: Id, links: &[u32]) -> bool {
        let Some(task) = self.tasks.get(id) else { return true };
        let (who, place) = (task.who, task.service as usize);
        let mut made = Vec::with_capacity(links.len());
        for link in links {
            let of = &self.links[*link as usize];
            let needed = of.share_ppm >= 1_000_000
                || self.services[place].faults.below(1_000_000) < u64::from(of.share_ppm);
            if needed && !self.links[*link as usize].serves(self.now, who.member) {
                made.push((*link, self.links[*link as usize].times - 1));
            }
        }
        if let Some(task) = self.tasks.get(id) {
            task.open = made.len() as u32;
        }
        for (link, more) in &made {
            self.call(*link, Owner::Task { task: id, edge: *link, more: *more }, who);
        }
        !made.is_empty()
    }

    /// A call of a task has ended.
    pub(super) fn called(&mut self, id: Id, edge: u32, more: u32, reply: Reply) {
        let now = self.now;
        let Some(task) = self.tasks.get(id) else { return };
        let who = task.who;
        let link = &mut self.links[edge as usize];
        let good = matches!(reply, Reply::Ok | Reply::Degraded);
        if good && more > 0 {
            return self.call(edge, Owner::Task { task: id, edge, more: more - 1 }, who);
        }
        if reply == Reply::Ok {
            link.keep(now, who.member);
        }
        if !good && !link.optional {
            task.failure = Some(match reply {
                Reply::Shed { .. } => reply,
                _ => Reply::Failed,
            });
        }
        task.open -= 1;
        if task.open == 0 {
            self.advance(id);
        }
    }

    /// Works for as long as that takes.
    fn sleep(&mut self, id: Id) {
        let now = self.now;
        let Some(task) = self.tasks.get(id) else { return };
        let service = &mut self.services[task.service as usize];
        let owed = std::mem::take(&mut service.replicas[task.replica as usize].owed);
        let replica = &service.replicas[task.replica as usize];
        task.version = service.version;
        let slowness = replica.slowness(now, service.model.cold) * service.shortage(now);
        let work = std::mem::replace(&mut service.work, service.draw.draw(&mut service.rng));
        let work = if slowness == 1.0 { work } else { work.scaled(slowness) };
        let crowd = service.model.slope.times(u64::from(replica.inside()));
        task.stalled = replica.stalled;
        let ends = now + work + crowd + owed + replica.standstill(now);
        self.schedule(ends, Event::Done { task: id });
    }

    pub(super) fn slept(&mut self, id: Id) {
        let now = self.now;
        let Some(task) = self.tasks.get(id) else { return };
        let service = &mut self.services[task.service as usize];
        let replica = &service.replicas[task.replica as usize];
        let missed = replica.stalled.minus(task.stalled);
        if missed > Span::ZERO {
            task.stalled = replica.stalled;
            return self.schedule(now + missed, Event::Done { task: id });
        }
        let share = replica.errors_ppm.max(service.model.failures_ppm);
        if share > 0 && service.faults.below(1_000_000) < u64::from(share) {
            task.failure = Some(Reply::Failed);
        }
        if service.model.optimistic && task.failure.is_none() {
            match task.version == service.version {
                true => service.version += 1,
                false => task.failure = Some(Reply::Failed),
            }
        }
        self.advance(id);
    }

    /// The script is over: the worker goes to the next, the answer to whoever waits for it.
    fn leave_worker(&mut self, id: Id) {
        let Some(task) = self.tasks.get(id) else { return };
        let reply = task.failure.unwrap_or(Reply::Ok);
        let service = &mut self.services[task.service as usize];
        let (order, workers): (Order, u32) = (service.model.order, service.workers);
        let next = service.replicas[task.replica as usize].next(self.now, order, workers);
        self.finish_task(id, reply);
        if let Some(next) = next {
            self.begin_work(next);
        }
    }

    /// Each replica of a service has so many workers, or as many as it says itself. Who is too many finishes
    /// what it has begun; who is new takes what waits.
    pub(super) fn set_workers(&mut self, service: u32, count: Option<u32>) {
        let now = self.now;
        let of = &mut self.services[service as usize];
        of.workers = count.or(of.model.workers).unwrap_or(u32::MAX);
        let (order, workers) = (of.model.order, of.workers);
        let mut begun = Vec::new();
        for replica in &mut of.replicas {
            begun.extend(std::iter::from_fn(|| replica.another(now, order, workers)));
        }
        begun.into_iter().for_each(|task| self.begin_work(task));
    }

    /// A task is over.
    fn finish_task(&mut self, id: Id, reply: Reply) {
        let Some(task) = self.tasks.get(id) else { return };
        let (attempt, owner) = (task.attempt, task.owner);
        self.tasks.remove(id);
        if attempt {
            let attempts = &mut self.outcomes.attempts;
            *match reply {
                Reply::Ok | Reply::Degraded => &mut attempts.answered,
                Reply::Shed { .. } | Reply::Throttled { .. } => &mut attempts.refused,
                Reply::Failed | Reply::Unreached | Reply::TimedOut => &mut attempts.failed,
            } += 1;
        }
        self.reply(owner, reply);
    }

    /// A replica falls down: whoever is in it gets an error at once.
    pub(super) fn fall(&mut self, service: u32, number: u32, back_after: Option<Span>) {
        let now = self.now;
        let replica = &mut self.services[service as usize].replicas[number as usize];
        if !replica.up {
            return;
        }
        replica.fall(now);
        let epoch = replica.epoch;
        let mut lost = self.tasks.ids(|task| task.service == service && task.replica == number);
        // Places in the slab say nothing about time; their order is the same on every machine.
        lost.sort_unstable_by_key(|id| id.number());
        for task in lost {
            self.finish_task(task, Reply::Failed);
        }
        if let Some(after) = back_after {
            let what = Course::Restart { epoch };
            self.schedule(now + after, Event::Replica { service, replica: number, what });
        }
    }

    pub(super) fn begin_replicas(&mut self, service: u32) {
        for replica in 0..self.services[service as usize].replicas.len() as u32 {
            self.begin_replica(service, replica);
        }
    }

    /// Begins a replica's own course: its pauses, and the probes of its orchestrator.
    pub(super) fn begin_replica(&mut self, service: u32, replica: u32) {
        self.schedule_pause(service, replica);
        let of = &mut self.services[service as usize];
        if let Some(liveness) = of.model.liveness {
            let first = of.pauses.span(Span::ZERO, liveness.every);
            self.schedule(self.now + first, Event::Replica { service, replica, what: Course::Live });
        }
    }

    fn schedule_pause(&mut self, service: u32, replica: u32) {
        let of = &mut self.services[service as usize];
        if let Some(gc) = of.model.gc {
            let at = self.now + of.pauses.exponential(gc.every);
            self.schedule(at, Event::Replica { service, replica, what: Course::Pause });
        }
    }

    pub(super) fn replica(&mut self, service: u32, replica: u32, what: Course) {
        let now = self.now;
        let of = &mut self.services[service as usize];
        let Some(it) = of.replicas.get_mut(replica as usize) else { return };
        match what {
            Course::Pause => {
                if let Some(gc) = of.model.gc {
                    it.stall(now, gc.pause);
                }
                self.schedule_pause(service, replica);
            }
            Course::Restart { epoch } if it.epoch == epoch && !it.up => it.rise(now),
            Course::Restart { .. } => {}
            Course::Live => self.ask_whether_it_lives(service, replica),
            Course::Lives { task } => self.may_be_dead(service, replica, task),
        }
    }

    fn ask_whether_it_lives(&mut self, service: u32, replica: u32) {
        let Some(liveness) = self.services[service as usize].model.liveness else { return };
        self.schedule(self.now + liveness.every, Event::Replica { service, replica, what: Course::Live });
        if !self.services[service as usize].replicas[replica as usize].up {
            return;
        }
        let task = self.task(Owner::Liveness, Who::NOBODY, service, Some(replica));
        let what = Course::Lives { task };
        self.schedule(self.now + liveness.timeout, Event::Replica { service, replica, what });
        self.arrive_at_replica(task);
    }

    /// The time of a probe is over: an answer that is not there is a failure.
    fn may_be_dead(&mut self, service: u32, replica: u32, task: Id) {
        let waits = self.tasks.get(task).is_some();
        let of = &mut self.services[service as usize];
        let (Some(liveness), it) = (of.model.liveness, &mut of.replicas[replica as usize]) else { return };
        if !it.up {
            return;
        }
        it.fails = if waits { it.fails + 1 } else { 0 };
        if it.fails >= liveness.fall {
            self.fall(service, replica, Some(liveness.restart));
        }
    }

    /// Forgets what the caches of a service hold.
    pub(super) fn flush(&mut self, service: u32) {
        let links: BTreeMap<u32, ()> = self.services[service as usize]
            .script
            .iter()
            .flatten()
            .flatten()
            .map(|link| (*link, ()))
            .collect();
        for link in links.into_keys() {
            self.links[link as usize].flush();
        }
    }
}
