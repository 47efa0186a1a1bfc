//! The parts of a gate that all its requests share, under one short lock.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use super::{BlockSnapshot, Lane, Line, Passage, Refused, Snapshot, Ticket};
use crate::breaker::{self, Breaker, Front, Mode, Pass};
use crate::decision::Policy;
use crate::enforcement::{Enforcement, Policies, Stance};
use crate::event::{Change, Event, Events};
use crate::limit::{self, Answer, Limit, Slot, Turn};
use crate::outcome::Outcome;
use crate::pressure::Reading;
use crate::ramp::{Ramp, Strain};
use crate::request::Request;
use crate::rng::Rng;
use crate::shed::{self, Shed};
use crate::throttle;
use crate::time::{Span, Time};

/// What the shared part of a gate holds. Everything is off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// A breaker.
    pub breaker: Option<breaker::Config>,
    /// The time in which traffic comes back after the breaker closed; zero for at once.
    pub ramp: Span,
    /// A limit on concurrency.
    pub limit: Option<limit::Config>,
}

/// A limit that limits nothing.
const UNLIMITED: limit::Config = limit::Config {
    ceiling: limit::Ceiling::Fixed(u32::MAX),
    queue: 0,
    discipline: limit::Discipline::Fifo,
    bulkhead: None,
};

/// The stream of chance of the ramps.
const RAMPS: u64 = 1;

/// Breaker, ramp, limit and shedding. `W` is whatever wakes the driver's waiter.
#[derive(Debug)]
pub struct Shared<W> {
    pub(super) breaker: Option<Breaker>,
    ramp_over: Span,
    pub(super) ramp: Option<Ramp>,
    limit: Option<Limit<W>>,
    /// Shedding, by lane.
    sheds: Vec<Option<Shed>>,
    lanes: Vec<limit::Lane>,
    /// Requests that policies in shadow would have refused, by lane.
    shadowed: Vec<[u64; Policy::ALL.len()]>,
    pub(super) events: Events,
    /// Whether anybody is due; read without the lock.
    hint: Arc<AtomicBool>,
    /// Whether there are events; read without the lock.
    news: Arc<AtomicBool>,
    /// What is known of the breaker without the lock, where it is all that has to be asked.
    front: Arc<Front>,
}

impl<W> Shared<W> {
    /// Without lanes.
    pub fn new(settings: Settings, now: Time) -> Shared<W> {
        Shared {
            breaker: settings.breaker.map(|config| Breaker::new(config, now)),
            ramp_over: settings.ramp,
            ramp: None,
            limit: settings.limit.map(|config| Limit::new(config, now)),
            sheds: Vec::new(),
            lanes: Vec::new(),
            shadowed: Vec::new(),
            events: Events::default(),
            hint: Arc::default(),
            news: Arc::default(),
            front: Arc::default(),
        }
    }

    /// Set while anybody is due, so that those who pull in vain need no lock.
    pub(super) fn hint(&self) -> Arc<AtomicBool> {
        self.hint.clone()
    }

    /// Set while there are events, so that those who pull in vain need no lock.
    pub(super) fn news(&self) -> Arc<AtomicBool> {
        self.news.clone()
    }

    /// What is known of the breaker without the lock.
    pub(super) fn front(&self) -> Arc<Front> {
        self.front.clone()
    }

    /// Takes in, before any verb, what was counted without the lock.
    pub(super) fn hear(&mut self) {
        if let Some(breaker) = &mut self.breaker {
            self.front.tell(breaker);
        }
    }

    /// Says, after any verb, what those without the lock must know.
    pub(super) fn tell(&self) {
        match &self.breaker {
            Some(breaker) if self.limit.is_none() && self.ramp.is_none() => self.front.publish(breaker),
            _ => self.front.hide(),
        }
        if self.limit.as_ref().is_some_and(Limit::is_anyone_due) {
            self.hint.store(true, Ordering::Release);
        }
        if !self.events.is_empty() {
            self.news.store(true, Ordering::Release);
        }
    }

    pub(super) fn add_lane(&mut self, lane: Lane) -> usize {
        self.sheds.push(lane.shed.map(Shed::new));
        self.lanes.push(lane.limit);
        self.shadowed.push([0; Policy::ALL.len()]);
        match &mut self.limit {
            Some(limit) => _ = limit.add_lane(lane.limit),
            None => self.measure_for(&lane, Time::ZERO),
        }
        self.lanes.len() - 1
    }

    /// What a lane sheds by is measured at a limit: where there is none, at one that limits nothing.
    fn measure_for(&mut self, lane: &Lane, now: Time) {
        if lane.shed.is_some() && self.limit.is_none() {
            self.begin_limit(UNLIMITED, now);
        }
    }

    fn begin_limit(&mut self, config: limit::Config, now: Time) {
        let mut limit = Limit::new(config, now);
        self.lanes.iter().for_each(|lane| _ = limit.add_lane(*lane));
        self.limit = Some(limit);
    }

    /// Changes the settings; state stays.
    pub fn configure(&mut self, settings: Settings, now: Time) {
        self.hear();
        self.ramp_over = settings.ramp;
        match (&mut self.breaker, settings.breaker) {
            (Some(breaker), Some(config)) => breaker.configure(now, config),
            (breaker, config) => {
                *breaker = config.map(|config| Breaker::new(config, now));
                self.ramp = None; // Nobody would move its share.
            }
        }
        match (&mut self.limit, settings.limit) {
            (Some(limit), Some(config)) => limit.configure(config, now),
            (None, Some(config)) => self.begin_limit(config, now),
            // Those in flight and in line must still find it: it only stops limiting.
            (Some(limit), None) => limit.configure(UNLIMITED, now),
            (None, None) => {}
        }
        self.tell();
    }

    pub(super) fn configure_lane(&mut self, now: Time, lane: usize, config: Lane) {
        match (&mut self.sheds[lane], config.shed) {
            (Some(shed), Some(config)) => shed.configure(config),
            (shed, config) => *shed = config.map(Shed::new),
        }
        self.lanes[lane] = config.limit;
        match &mut self.limit {
            Some(limit) => limit.configure_lane(now, lane, config.limit),
            None => self.measure_for(&config, now),
        }
    }

    /// Takes in how the machine is doing, for the shedding of every lane.
    pub fn observe(&mut self, now: Time, reading: &Reading) {
        self.sheds.iter_mut().flatten().for_each(|shed| shed.observe(now, reading));
    }

    pub(super) fn dimmer(&self, now: Time, lane: usize) -> f64 {
        self.sheds[lane].as_ref().map_or(0.0, |shed| shed.dimmer(now))
    }

    /// Asks the policies in their order.
    #[inline]
    pub(super) fn admit(
        &mut self,
        now: Time,
        lane: usize,
        request: &Request,
        passage: &mut Passage<'_>,
    ) -> Result<(), Refused> {
        let answer = self.try_admit(now, lane, request, passage);
        if !passage.shadowed.is_empty() {
            self.count_shadowed(lane, &passage.shadowed);
        }
        answer
    }

    pub(super) fn count_shadowed(&mut self, lane: usize, by: &Policies) {
        by.iter().for_each(|policy| self.shadowed[lane][policy as usize] += 1);
    }

    #[inline]
    fn try_admit(
        &mut self,
        now: Time,
        lane: usize,
        request: &Request,
        passage: &mut Passage<'_>,
    ) -> Result<(), Refused> {
        if let Some(breaker) = &mut self.breaker
            && passage.stance.of(Policy::Breaker) != Enforcement::Off
        {
            match breaker.admit(now, &mut self.events) {
                Ok(pass) => passage.ticket.pass = Some(pass),
                Err(rejection) => passage.overrule(rejection)?,
            }
        }
        let answer = match self.ramp.is_some() {
            true => self.ask_behind_ramp(now, lane, request, passage),
            false => self.ask_limit(now, lane, request, passage),
        };
        if let (Err(_), Some(pass)) = (&answer, &passage.ticket.pass) {
            self.give_pass_back(now, pass);
        }
        answer
    }

    /// A refusal behind the ramp spends none of its share. The ramp is enforced no more than the breaker:
    /// one that refuses nobody would otherwise refuse most once it has closed.
    fn ask_behind_ramp(
        &mut self,
        now: Time,
        lane: usize,
        request: &Request,
        passage: &mut Passage<'_>,
    ) -> Result<(), Refused> {
        let enforcements = [Policy::Breaker, Policy::Ramp].map(|policy| passage.stance.of(policy));
        if enforcements.contains(&Enforcement::Off) {
            return self.ask_limit(now, lane, request, passage);
        }
        if enforcements.contains(&Enforcement::Shadow) {
            passage.stance = passage.stance.with(Policy::Ramp, Enforcement::Shadow);
        }
        let before = self.ramp.clone();
        let passed = self.ramp.as_mut().map_or(Ok(()), |ramp| ramp.admit(now));
        passed.or_else(|rejection| passage.overrule(rejection))?;
        let answer = self.ask_limit(now, lane, request, passage);
        if answer.is_err() {
            self.ramp = before;
        }
        answer
    }

    #[inline]
    fn ask_limit(
        &mut self,
        now: Time,
        lane: usize,
        request: &Request,
        passage: &mut Passage<'_>,
    ) -> Result<(), Refused> {
        let Some(limit) = &mut self.limit else { return Ok(()) };
        let pressure = limit.arrive(now, lane, &mut self.events);
        if let Some(shed) = &mut self.sheds[lane]
            && passage.stance.of(Policy::Shed) != Enforcement::Off
            && let Some(wait) = shed.drops(now, request, &pressure)
        {
            passage.overrule(shed::refusal(wait))?;
        }
        let enforcement = passage.stance.of(Policy::Limit);
        if enforcement != Enforcement::Enforced {
            let (slot, refusal) = limit.admit_beyond(now, lane, request.user);
            if let (Enforcement::Shadow, Some(refusal)) = (enforcement, refusal) {
                passage.overrule(refusal)?;
            }
            passage.ticket.slot = Some(slot);
            return Ok(());
        }
        // Nearly all find a place at once.
        if let Some(slot) = limit.take_place(now, lane, request) {
            passage.ticket.slot = Some(slot);
            return Ok(());
        }
        match limit.line_up(now, lane, request, pressure.delay) {
            // A gate with a breaker never waits: a probe must not grow old in a line.
            Ok(turn) if self.breaker.is_some() => {
                limit.leave(now, turn);
                return passage.refuse(limit::full());
            }
            Ok(turn) => passage.line = Some(Line::Turn(turn)),
            Err(reason) => return passage.refuse(limit::refusal(reason)),
        }
        Ok(())
    }

    /// A local refusal behind the breaker: the probe comes back, nothing counts.
    fn give_pass_back(&mut self, now: Time, pass: &Pass) {
        if let Some(breaker) = &mut self.breaker {
            breaker.report(now, pass, Outcome::Ignored, &mut self.events);
        }
    }

    pub(super) fn claim(&mut self, now: Time, turn: Turn, waiter: W) -> Answer {
        match &mut self.limit {
            Some(limit) => limit.claim(now, turn, waiter),
            None => unreachable!("a place is handed out by a limit, and a limit is never taken away"),
        }
    }

    pub(super) fn leave(&mut self, now: Time, turn: Turn) {
        if let Some(limit) = &mut self.limit {
            limit.leave(now, turn);
        }
    }

    #[inline]
    pub(super) fn report(&mut self, now: Time, ticket: &Ticket, outcome: Outcome) {
        if let (Some(limit), Some(slot)) = (&mut self.limit, &ticket.slot) {
            let outcome =
                if ticket.hedged && outcome == Outcome::Success { Outcome::Ignored } else { outcome };
            limit.report(now, slot, outcome, ticket.waited, &mut self.events);
        }
        let (Some(breaker), Some(pass)) = (&mut self.breaker, &ticket.pass) else { return };
        if !breaker.is_current(pass) {
            return;
        }
        let before = breaker.mode();
        breaker.report(now, pass, outcome, &mut self.events);
        self.follow(now, before, outcome);
    }

    /// An answer broke off whose call began then and was reported as a success.
    pub(super) fn broke(&mut self, now: Time, begun: Time) {
        let Some(breaker) = &mut self.breaker else { return };
        let (before, is_of_ramp) = (breaker.mode(), begun >= breaker.since());
        breaker.broke(now, begun, &mut self.events);
        if is_of_ramp || breaker.mode() != before {
            self.follow(now, before, Outcome::Failure);
        }
    }

    /// The ramp follows the breaker, which was in this mode before it was told of this outcome.
    fn follow(&mut self, now: Time, before: Mode, outcome: Outcome) {
        match (before, self.breaker.as_ref().map_or(before, Breaker::mode)) {
            (Mode::HalfOpen, Mode::Closed) => self.begin_ramp(now),
            (_, Mode::Open) => self.ramp = None,
            _ => {}
        }
        if let Some(ramp) = &mut self.ramp {
            ramp.report(now, outcome, Strain::NONE);
            self.ramp.take_if(|ramp| ramp.is_over());
        }
    }

    /// Traffic that was refused comes back.
    pub(super) fn begin_ramp(&mut self, now: Time) {
        // The instant of closing is chance enough: no two instances share it.
        let ramp = || Ramp::new(self.ramp_over, now, &mut Rng::new(now.as_nanos(), RAMPS));
        self.ramp = (self.ramp_over > Span::ZERO).then(ramp);
    }

    pub(super) fn release(&mut self, now: Time, slot: Slot) {
        if let Some(limit) = &mut self.limit {
            limit.release(now, slot);
        }
    }

    pub(super) fn turn(&mut self) -> Option<W> {
        let turn = self.limit.as_mut().and_then(Limit::turn);
        if turn.is_none() {
            self.hint.store(false, Ordering::Release);
        }
        turn
    }

    pub(super) fn event(&mut self) -> Option<Event> {
        let event = self.events.pull();
        if event.is_none() {
            self.news.store(false, Ordering::Release);
        }
        event
    }

    pub(super) fn say(&mut self, now: Time, change: Change) {
        self.events.push(now, change);
    }

    /// How late the queue of a lane is; none without a limit or a target.
    pub(super) fn strain(&self, now: Time, lane: usize) -> Strain {
        match (&self.limit, &self.sheds[lane]) {
            (Some(limit), Some(shed)) => {
                Strain::of(limit.snapshot(now).delay, shed.snapshot(now).target).bounded()
            }
            _ => Strain::NONE,
        }
    }

    pub(super) fn wake_at(&self) -> Option<Time> {
        self.breaker.as_ref()?.wake_at()
    }

    pub(super) fn limit_snapshot(&self, now: Time) -> Option<limit::Snapshot> {
        self.limit.as_ref().map(|limit| limit.snapshot(now))
    }

    pub(super) fn snapshot(
        &self,
        now: Time,
        lane: usize,
        throttles: Vec<throttle::Snapshot>,
        stance: Stance,
        block: BlockSnapshot,
    ) -> Snapshot {
        Snapshot {
            block,
            throttles,
            shed: self.sheds[lane].as_ref().map(|shed| shed.snapshot(now)),
            limit: self.limit_snapshot(now),
            breaker: self.breaker.as_ref().map(Breaker::snapshot),
            share: self.ramp.as_ref().map_or(1.0, Ramp::share),
            stance,
            shadowed: self.shadowed[lane],
        }
    }
}
