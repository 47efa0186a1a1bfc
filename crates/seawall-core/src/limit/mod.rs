//! Limit: how many may be in flight, and a short bounded line for those who must wait.
//!
//! **Prevents** a callee from taking on more work than it can do at a time, where every further
//! request makes all of them slower; and an unbounded queue, in which every answer is a late one.
//!
//! **Mechanics.** A [`Ceiling`] is fixed or learned: by drops ([`aimd`]), by the queue inside the
//! callee ([`vegas`]), or by the gradient of latency with a veto for throughput ([`adaptive`], the
//! default). Several *lanes* (the routes to one upstream) may share it, each with a bound and a
//! queue of its own. Who in line goes first is the [`Discipline`]; a [`bulkhead`] shares the
//! places between tenants. The queue tells a *burst* from a *standing* queue: a burst may fill
//! [`BURST`] × the limit, or what drains in [`BURST_DELAY`] if that is more; a standing queue is cut to
//! [`STAND`] × the limit, or to what drains in [`STAND_DELAY`]. Lanes that wait for the ceiling share that; one that waits for
//! its own bound takes nothing from the others. When a newcomer finds no place and a less important
//! request waits, that one gives way.
//!
//! **Edges.** A place in flight that becomes free is kept for the next in line, who is told and
//! comes to claim it; if that one has gone, it goes to the next. Deadlines are checked when a
//! place is granted and when it is claimed: work whose answer nobody waits for is not begun. Who would
//! spend more than half of its time in line, at the present pace, does not join it.
//! Nothing here is reserved for those who have not asked, and the ceiling may shrink while requests
//! wait: nothing is granted until fewer are in flight. With a bulkhead, finding the next in line
//! looks at all who wait, which `queue` bounds.

pub mod adaptive;
pub mod aimd;
mod baseline;
pub mod bulkhead;
mod ceiling;
pub mod codel;
mod config;
mod delay;
mod judge;
mod queue;
pub mod vegas;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

use crate::decision::{Policy, Reason, Rejection};
use crate::event::{Change, Events};
use crate::outcome::Outcome;
use crate::pressure::Pressure;
use crate::request::{Key, Request, Tier};
use crate::time::{Span, Time};
use bulkhead::{Bulkhead, Held, Tenant};
use ceiling::Limiter;
use codel::Codel;
use judge::{Judge, Wanted};
use queue::{End, Entry, Queue, State};

pub use ceiling::Ceiling;
pub use config::{Config, Discipline, Lane};
pub use judge::{BURST, BURST_DELAY, STAND, STAND_DELAY};
pub use queue::Turn;

#[derive(Debug)]
struct LaneState {
    config: Lane,
    in_flight: u32,
    /// What one of the places is that it may hold.
    part: f64,
}

impl LaneState {
    /// Whether its own bound lets another one in.
    fn has_room(&self) -> bool {
        self.in_flight < self.config.max
    }
}

/// What one of so many places is.
fn part(places: u32) -> f64 {
    1.0 / f64::from(places.max(1))
}

/// A place in flight.
#[derive(Debug)]
pub struct Slot {
    lane: u32,
    in_flight: u32,
    since: Time,
    tenant: Option<Tenant>,
}

/// How an asking ended.
#[derive(Debug)]
pub enum Answer {
    /// A place in flight.
    Slot(Slot),
    /// A place in the queue.
    Wait(Turn),
    /// Neither.
    Reject(Rejection),
}

/// Plain values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// The ceiling now.
    pub limit: u32,
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests waiting.
    pub waiting: u32,
    /// Tenants with something in flight or waiting; 0 without a bulkhead.
    pub tenants: u32,
    /// Whether more arrives than drains, in all lanes together or in any.
    pub stands: bool,
    /// The delay that a newcomer would meet, in the lane where it is longest.
    pub delay: Span,
    /// The learned no-load latency.
    pub baseline: Option<Span>,
    /// Requests refused because neither place was free.
    pub full: u64,
    /// Requests dropped from the line because waits were long (CoDel).
    pub dropped: u64,
    /// Requests whose deadline passed in the queue.
    pub expired: u64,
}

/// A limit on concurrency, its lanes and its queue. `W` is whatever wakes the driver's waiter.
#[derive(Debug)]
pub struct Limit<W> {
    limiter: Limiter,
    /// Its ceiling now: every request asks for it.
    places: u32,
    part: f64,
    queue_max: u32,
    discipline: Discipline,
    /// The state of [`Discipline::Codel`].
    codel: Codel,
    bulkhead: Option<Bulkhead>,
    /// How often a bulkhead was set up or taken down.
    epoch: u32,
    in_flight: u32,
    lanes: Vec<LaneState>,
    queue: Queue<W>,
    due: VecDeque<W>,
    judge: Judge,
    full: u64,
    dropped: u64,
    expired: u64,
}

impl<W> Limit<W> {
    /// A limit without lanes: add one for each route.
    pub fn new(config: Config, now: Time) -> Limit<W> {
        let limiter = Limiter::new(config.ceiling, now);
        Limit {
            places: limiter.limit(),
            part: part(limiter.limit()),
            limiter,
            queue_max: config.queue,
            discipline: config.discipline,
            codel: Codel::new(config.discipline.codel()),
            bulkhead: config.bulkhead.map(|config| Bulkhead::new(config, 0)),
            epoch: 0,
            in_flight: 0,
            lanes: Vec::new(),
            queue: Queue::new(),
            due: VecDeque::new(),
            judge: Judge::new(now),
            full: 0,
            dropped: 0,
            expired: 0,
        }
    }

    /// Adds a lane and says its number.
    pub fn add_lane(&mut self, config: Lane) -> usize {
        self.lanes.push(LaneState { config, in_flight: 0, part: part(config.max.min(self.places)) });
        self.judge.add_lane();
        self.queue.add_lane();
        self.lanes.len() - 1
    }

    /// Changes the bounds of a lane; what is in flight and in line stays.
    pub fn configure_lane(&mut self, now: Time, lane: usize, config: Lane) {
        self.lanes[lane].config = config;
        self.lanes[lane].part = part(config.max.min(self.places));
        self.grant(now);
    }

    /// Changes ceiling, queue and sharing; what was learned, is in flight or in line stays. A
    /// bulkhead that is new begins with those who come.
    pub fn configure(&mut self, config: Config, now: Time) {
        self.queue_max = config.queue;
        self.discipline = config.discipline;
        self.codel.configure(config.discipline.codel());
        match (&mut self.bulkhead, config.bulkhead) {
            (Some(bulkhead), Some(config)) => bulkhead.configure(config),
            (bulkhead, config) => {
                self.epoch += 1;
                *bulkhead = config.map(|config| Bulkhead::new(config, self.epoch));
            }
        }
        self.limiter.configure(config.ceiling, now);
        self.offer(self.limiter.limit());
        self.grant(now);
    }

    /// Counts an arrival in this lane and says how the queue stands for it.
    #[inline]
    pub fn arrive(&mut self, now: Time, lane: usize, events: &mut Events) -> Pressure {
        self.judge.arrive(now, lane);
        if self.judge.is_due(now) {
            let lanes = self.lanes.iter().enumerate();
            let lanes =
                lanes.map(|(lane, state)| (&state.config, state.in_flight + self.queue.waiting_in(lane)));
            self.judge.judge(now, self.places, lanes, events);
        }
        let (least_delay, (stands, load)) = (self.judge.least_delay(), self.judge.burden_of(lane));
        let is_late = stands || least_delay > Span::ZERO || self.queue.waiting() > 0;
        let (delay, pace) = if is_late {
            let paces = self.paces(lane);
            (self.delay(now, lane, &paces), self.pace(&paces))
        } else {
            (Span::ZERO, Span::ZERO)
        };
        let (has_room, grows) = (self.has_room(lane), self.judge.grows());
        Pressure { delay, has_room, least_delay, grows, stands, pace, load }
    }

    /// Asks for a place in flight, or in the queue.
    #[inline]
    pub fn admit(&mut self, now: Time, lane: usize, request: &Request) -> Answer {
        match self.take_place(now, lane, request) {
            Some(slot) => Answer::Slot(slot),
            None => match self.line_up(now, lane, request, self.delay(now, lane, &self.paces(lane))) {
                Ok(turn) => Answer::Wait(turn),
                Err(reason) => Answer::Reject(refusal(reason)),
            },
        }
    }

    /// A place in flight, if there is one.
    #[inline]
    pub(crate) fn take_place(&mut self, now: Time, lane: usize, request: &Request) -> Option<Slot> {
        debug_assert!(self.next_in_line().is_none(), "every verb leaves nobody waiting who could be served");
        if request.deadline <= now || !self.has_room(lane) {
            return None;
        }
        // Nearly always nobody has places of its own.
        let tenant = if self.bulkhead.is_none() { None } else { Some(self.tenant_with_room(request.user)?) };
        self.judge.note_delay(Span::ZERO);
        Some(self.occupy(now, lane, tenant))
    }

    /// A place in the queue, for who finds none in flight and would meet this delay.
    #[inline]
    pub(crate) fn line_up(
        &mut self,
        now: Time,
        lane: usize,
        request: &Request,
        delay: Span,
    ) -> Result<Turn, Reason> {
        if request.deadline <= now {
            self.expired += 1;
            return Err(Reason::Expired);
        }
        let tenant = self.tenant(request.user);
        let gives_way = match self.place_in_line(now, lane, request, tenant) {
            Ok(gives_way) if !self.is_too_late(now, lane, request.deadline, delay) => gives_way,
            _ => {
                self.full += 1;
                return Err(Reason::Full);
            }
        };
        if let Some(turn) = gives_way {
            self.full += 1;
            self.settle(turn, State::Refused(full()));
        }
        Ok(self.join(now, lane, tenant, request))
    }

    /// Who gives way for a newcomer to this lane's line; nobody has to where there is room.
    fn place_in_line(
        &self,
        now: Time,
        lane: usize,
        request: &Request,
        tenant: Option<Tenant>,
    ) -> Result<Option<Turn>, Reason> {
        let waiting = self.queue.waiting();
        if waiting == 0 && self.queue_max == 0 {
            return Err(Reason::Full);
        }
        let queue_has_room = waiting < self.queue_max;
        // Of a lone lane nobody need know whether it is it that is full.
        let lane_has_room =
            (queue_has_room || self.lanes.len() > 1) && self.lane_queue_has_room(now, lane, request);
        if lane_has_room && queue_has_room {
            return Ok(None);
        }
        // A lane that is full makes room itself; only a full queue takes from any.
        let lanes = if lane_has_room { 0..self.lanes.len() } else { lane..lane + 1 };
        let gives_way = (waiting > 0).then(|| self.who_gives_way(lanes, request.tier, tenant)).flatten();
        gives_way.map(Some).ok_or(Reason::Full)
    }

    /// A place in flight whatever the limit, and the refusal that it stands for: what is in flight
    /// beyond the limit counts as if it waited. Those who still wait in the lane go first.
    pub fn admit_beyond(&mut self, now: Time, lane: usize, user: Key) -> (Slot, Option<Rejection>) {
        while let Some((turn, Entry { tenant, .. })) = self.queue.oldest_in(lane) {
            let tenant = *tenant;
            let slot = self.occupy(now, lane, tenant);
            self.settle(turn, State::Granted { at: now, in_flight: slot.in_flight });
        }
        let beyond = self.in_flight.saturating_sub(self.places);
        let refused = !self.has_room(lane) && beyond >= self.lane_queue_places(lane).min(self.queue_max);
        let tenant = self.tenant(user);
        (self.occupy(now, lane, tenant), refused.then(full))
    }

    /// Asks whether it is this one's turn, and parks its waiter if not.
    pub fn claim(&mut self, now: Time, turn: Turn, waiter: W) -> Answer {
        let Some(entry) = self.queue.get(turn) else { return Answer::Reject(expired()) };
        let is_refused = matches!(entry.state, State::Refused(_));
        if entry.request.deadline <= now && !is_refused {
            self.expired += 1;
            self.leave(now, turn);
            return Answer::Reject(expired());
        }
        match entry.state {
            State::Waiting => {
                entry.waiter = Some(waiter);
                Answer::Wait(turn)
            }
            State::Refused(rejection) => {
                self.queue.forget(turn);
                Answer::Reject(rejection)
            }
            State::Granted { at, in_flight } => {
                let (lane, tenant) = (entry.lane, entry.tenant);
                self.queue.forget(turn);
                Answer::Slot(Slot { lane: lane as u32, tenant, since: at, in_flight })
            }
        }
    }

    /// The one who waited here has gone; a place kept for it goes to the next.
    pub fn leave(&mut self, now: Time, turn: Turn) {
        if let Some(entry) = self.queue.forget(turn) {
            match entry.state {
                State::Waiting => self.change_tenant(entry.tenant, |held| held.waiting -= 1),
                State::Granted { .. } => self.vacate(entry.lane, entry.tenant),
                State::Refused(_) => {}
            }
        }
        self.grant(now);
    }

    /// Takes in how an admitted call went; `waited` is time that it spent in backoff.
    #[inline]
    pub fn report(&mut self, now: Time, slot: &Slot, outcome: Outcome, waited: Span, events: &mut Events) {
        self.limiter.sample(now, slot.in_flight, now.since(slot.since).minus(waited), outcome);
        let limit = self.limiter.limit();
        if limit != self.places {
            self.offer(limit);
            events.push(now, Change::LimitChanged { limit });
            self.grant(now);
        }
    }

    /// Gives a place in flight back; it goes to the first in line.
    #[inline]
    pub fn release(&mut self, now: Time, slot: Slot) {
        let lane = slot.lane as usize;
        let wanted = if self.queue.waiting() > 0 { Wanted::ByOthers } else { Wanted::ByNone };
        self.judge.drain(now, lane, slot.since, wanted);
        self.vacate(lane, slot.tenant);
        self.grant(now);
    }

    /// Whether [`Limit::turn`] has a waiter.
    pub fn is_anyone_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// The next waiter that became due.
    pub fn turn(&mut self) -> Option<W> {
        self.due.pop_front()
    }

    /// Plain values.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let delay = |lane: usize| self.delay(now, lane, &self.paces(lane));
        Snapshot {
            limit: self.places,
            in_flight: self.in_flight,
            waiting: self.queue.waiting(),
            tenants: self.bulkhead.as_ref().map_or(0, Bulkhead::tenants),
            stands: self.judge.stands(),
            delay: (0..self.lanes.len()).map(delay).max().unwrap_or(Span::ZERO),
            baseline: self.limiter.baseline(),
            full: self.full,
            dropped: self.dropped,
            expired: self.expired,
        }
    }

    /// There are so many places.
    fn offer(&mut self, places: u32) {
        (self.places, self.part) = (places, part(places));
        self.lanes.iter_mut().for_each(|lane| lane.part = part(lane.config.max.min(places)));
    }

    fn has_room(&self, lane: usize) -> bool {
        self.in_flight < self.places && self.lanes[lane].has_room()
    }

    fn tenant(&self, user: Key) -> Option<Tenant> {
        self.bulkhead.as_ref().map(|bulkhead| bulkhead.tenant(user))
    }

    /// Whose places this user takes, if there is one for it.
    #[inline(never)]
    fn tenant_with_room(&self, user: Key) -> Option<Tenant> {
        self.tenant(user).filter(|tenant| self.tenant_has_room(Some(*tenant)))
    }

    fn tenant_has_room(&self, tenant: Option<Tenant>) -> bool {
        let Some((bulkhead, tenant)) = self.bulkhead.as_ref().zip(tenant) else { return true };
        bulkhead.has_room(tenant, self.places)
    }

    #[inline]
    fn change_tenant(&mut self, tenant: Option<Tenant>, change: impl FnOnce(&mut Held)) {
        if let (Some(tenant), Some(bulkhead)) = (tenant, &mut self.bulkhead) {
            bulkhead.change(tenant, change);
        }
    }

    fn held(&self, tenant: Option<Tenant>) -> Held {
        self.bulkhead.as_ref().zip(tenant).map_or(Held::default(), |(bulkhead, tenant)| bulkhead.held(tenant))
    }

    /// Whether one who joins this lane's line now may be served too late: the line takes no more than half of
    /// its time, since pace and work are known on average only.
    fn is_too_late(&self, now: Time, lane: usize, deadline: Time, delay: Span) -> bool {
        let most = delay.times(2).max(Span::from_secs_near(self.judge.held_in(lane)));
        !self.serves_newest() && deadline <= now + most
    }

    fn lane_queue_has_room(&self, now: Time, lane: usize, request: &Request) -> bool {
        let waiting = self.queue.waiting_in(lane);
        if waiting >= self.lanes[lane].config.queue {
            return false;
        }
        if waiting < self.lane_queue_places(lane) {
            return true;
        }
        let patience = request.deadline.since(now);
        !self.judge.stands_in(lane)
            && waiting < judge::places_for_chance(self.pace(&self.paces(lane)), patience)
    }

    /// The most that may wait in this lane, as its queue stands now.
    fn lane_queue_places(&self, lane: usize) -> u32 {
        let state = &self.lanes[lane];
        let limit = self.places;
        let mut allowed = self.judge.line_in(lane, limit.min(state.config.max));
        if self.shares(state) {
            // It waits for the ceiling, in a queue that is shared with whoever else does.
            let waits = |other: usize| self.lanes[other].has_room() && self.queue.waiting_in(other) > 0;
            let others = (0..self.lanes.len()).filter(|other| *other != lane && waits(*other)).count();
            let all = self.judge.line_of_all(lane, limit);
            allowed = allowed.min(judge::ceil(all / (others + 1) as f64));
        }
        state.config.queue.min(allowed as u32)
    }

    #[inline]
    fn occupy(&mut self, now: Time, lane: usize, tenant: Option<Tenant>) -> Slot {
        self.in_flight += 1;
        self.lanes[lane].in_flight += 1;
        self.change_tenant(tenant, |held| held.in_flight += 1);
        Slot { lane: lane as u32, tenant, since: now, in_flight: self.in_flight }
    }

    #[inline]
    fn vacate(&mut self, lane: usize, tenant: Option<Tenant>) {
        debug_assert!(self.in_flight > 0 && self.lanes[lane].in_flight > 0);
        self.in_flight -= 1;
        self.lanes[lane].in_flight -= 1;
        self.change_tenant(tenant, |held| held.in_flight -= 1);
    }

    fn join(&mut self, now: Time, lane: usize, tenant: Option<Tenant>, request: &Request) -> Turn {
        self.change_tenant(tenant, |held| held.waiting += 1);
        self.queue.join(lane, tenant, *request, now)
    }

    /// Takes one out of line and settles its fate.
    fn settle(&mut self, turn: Turn, state: State) {
        let Some(tenant) = self.queue.get(turn).map(|entry| entry.tenant) else { return };
        self.change_tenant(tenant, |held| held.waiting -= 1);
        let waiter = self.queue.settle(turn, state);
        self.due.extend(waiter);
    }

    /// Keeps free places for those whose turn it is.
    #[inline]
    fn grant(&mut self, now: Time) {
        if self.queue.waiting() > 0 {
            self.grant_waiting(now);
        }
    }

    fn grant_waiting(&mut self, now: Time) {
        while let Some((turn, entry)) = self.next_in_line() {
            let (lane, tenant, arrived) = (entry.lane, entry.tenant, entry.arrived);
            let state = if entry.request.deadline <= now {
                self.expired += 1;
                State::Refused(expired())
            } else if self.is_thinned(now, now.since(arrived)) {
                self.dropped += 1;
                State::Refused(Rejection::new(Policy::Limit, Reason::Shed, Span::from_secs(1)))
            } else {
                self.judge.note_delay(self.judge.waited(now, arrived));
                let slot = self.occupy(now, lane, tenant);
                State::Granted { at: now, in_flight: slot.in_flight }
            };
            self.settle(turn, state);
        }
    }

    /// Whether the line is thinned by the one who waited this long. Dropping the last in line would
    /// serve nobody.
    fn is_thinned(&mut self, now: Time, waited: Span) -> bool {
        matches!(self.discipline, Discipline::Codel(_))
            && self.queue.waiting() > 1
            && self.codel.drops(now, waited)
    }

    /// Whether those who came last are served first.
    fn serves_newest(&self) -> bool {
        self.discipline == Discipline::AdaptiveLifo && self.judge.stands()
    }

    /// The one in line whose turn it is, if there is a place for anyone.
    fn next_in_line(&self) -> Option<(Turn, &Entry<W>)> {
        let limit = self.places;
        if self.queue.waiting() == 0 || self.in_flight >= limit {
            return None;
        }
        let lanes = (0..self.lanes.len()).filter(|lane| self.lanes[*lane].has_room());
        let newest = self.serves_newest();
        let end = if newest { End::Last } else { End::First };
        let by_tier = self.discipline == Discipline::ByTier;
        let rank = |turn: Turn, entry: &Entry<W>| {
            let tier = if by_tier { entry.request.tier } else { Tier::CriticalPlus };
            (tier, self.held(entry.tenant).in_flight, if newest { !turn.id } else { turn.id })
        };
        if self.bulkhead.is_none() {
            return self.queue.ends_in(lanes, end).min_by_key(|(turn, entry)| rank(*turn, entry));
        }
        let ready = self.queue.all_in(lanes).filter(|(_, entry)| self.tenant_has_room(entry.tenant));
        ready.min_by_key(|(turn, entry)| rank(*turn, entry))
    }

    /// The one in these lanes' lines who makes room for a newcomer: the last of the least important,
    /// if less important; else the last of the tenant who holds the most, if more than the newcomer's;
    /// else, where the newest is served first, the oldest whose tenant holds no less than the newcomer's.
    fn who_gives_way(&self, lanes: Range<usize>, tier: Tier, tenant: Option<Tenant>) -> Option<Turn> {
        let below = self.queue.last_below(lanes.clone(), tier);
        let greediest = || {
            self.bulkhead.as_ref()?;
            let equals = self.queue.all_in(lanes.clone()).filter(|(_, entry)| entry.request.tier == tier);
            let held = equals.map(|(turn, entry)| (self.held(entry.tenant).places(), turn.id, turn));
            let (most, _, turn) = held.max_by_key(|(places, id, _)| (*places, *id))?;
            (most > self.held(tenant).places() + 1).then_some(turn)
        };
        let oldest = || match self.bulkhead {
            _ if !self.serves_newest() => None,
            None => oldest_of(tier, self.queue.ends_in(lanes.clone(), End::First)),
            Some(_) => {
                let least = self.held(tenant).places();
                let holds = |(_, entry): &(Turn, &Entry<W>)| self.held(entry.tenant).places() >= least;
                oldest_of(tier, self.queue.all_in(lanes.clone()).filter(holds))
            }
        };
        below.or_else(greediest).or_else(oldest)
    }
}

/// The one of this tier among these who has waited longest.
fn oldest_of<'a, W: 'a>(tier: Tier, line: impl Iterator<Item = (Turn, &'a Entry<W>)>) -> Option<Turn> {
    line.filter(|(_, entry)| entry.request.tier == tier).map(|(turn, _)| turn).min_by_key(|turn| turn.id)
}

/// The refusal of a limit that has neither place.
pub(crate) const fn full() -> Rejection {
    Rejection::new(Policy::Limit, Reason::Full, Span::from_secs(1))
}

/// The refusal of a limit for this reason.
pub(crate) const fn refusal(reason: Reason) -> Rejection {
    match reason {
        Reason::Expired => expired(),
        _ => full(),
    }
}

const fn expired() -> Rejection {
    Rejection::new(Policy::Deadline, Reason::Expired, Span::MAX)
}

#[cfg(test)]
mod tests;
