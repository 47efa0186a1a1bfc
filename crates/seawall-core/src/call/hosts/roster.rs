//! Who is in the pool, and who of them may be called.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Config, Forced, Happening};
use crate::eject::{self, Eject};
use crate::enforcement::Enforcement;
use crate::event::{Change, EVENTS_MAX, Event};
use crate::health::{self, Check, Health, Probe};
use crate::outcome::Outcome;
use crate::ramp::{Ramp, Strain};
use crate::rng::Rng;
use crate::stripes::{Stripe, Stripes};
use crate::time::{Span, Time};

/// Where the state of a host is: its place, and its number, which is never used twice.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) name: Arc<str>,
    place: usize,
    number: u64,
    /// Calls under way that began while the host was alone.
    alone: Arc<Stripes>,
}

impl Seat {
    /// A call goes to the host, which is alone.
    #[inline]
    pub(super) fn begin_alone(&self, stripe: Stripe) {
        self.alone.add_one(stripe);
    }

    /// A call that went to the host, which was alone, is over.
    #[inline]
    pub(super) fn end_alone(&self, stripe: Stripe) {
        self.alone.take_one(stripe);
    }

    /// How many of those are under way.
    pub(super) fn alone(&self) -> u32 {
        u32::try_from(self.alone.sum().max(0)).unwrap_or(u32::MAX)
    }
}

/// Who sits at a place.
#[derive(Debug)]
struct Sitter {
    name: Arc<str>,
    number: u64,
    listed: bool,
    alone: Arc<Stripes>,
    /// While it comes back, and since when.
    ramp: Option<(Ramp, Time)>,
    /// How it is held by hand.
    forced: Option<Forced>,
}

/// What is known of a host.
pub(super) struct Look {
    pub(super) ejection: Option<eject::Snapshot>,
    pub(super) forced: Option<Forced>,
    pub(super) health: Option<health::Mode>,
    pub(super) share: f64,
}

/// How many hosts can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Hosts on the list that are not held out by hand.
    pub(super) listed: u64,
    /// Those of them that are neither ejected nor unwell.
    pub(super) usable: u64,
    /// So many are out that all are used.
    pub(super) panics: bool,
    /// So little is back that ramps would leave too few.
    outgrown: bool,
}

/// The hosts at their places.
#[derive(Debug)]
pub(super) struct Roster {
    config: Config,
    sitters: Vec<Sitter>,
    numbers: u64,
    eject: Option<Eject>,
    health: Option<Health>,
    standing: Standing,
    /// How often a host would have been ejected.
    shadowed: u64,
    happened: VecDeque<Happening>,
}

impl Roster {
    pub(super) fn new(config: Config) -> Roster {
        Roster {
            config,
            sitters: Vec::new(),
            numbers: 0,
            eject: ejects(&config).map(Eject::new),
            health: config.health.map(Health::new),
            standing: Standing::default(),
            shadowed: 0,
            happened: VecDeque::new(),
        }
    }

    /// Other settings. State stays; what is turned on knows nothing yet, and whom only what is turned off
    /// left out comes back by its ramp.
    pub(super) fn configure(&mut self, now: Time, config: Config, rng: &mut Rng) {
        let listed = |(place, sitter): (usize, &Sitter)| sitter.listed.then_some(place);
        let places: Vec<usize> = self.sitters.iter().enumerate().filter_map(listed).collect();
        let out = places.iter().filter(|place| !self.is_in(**place));
        let out: Vec<(usize, bool)> = out.map(|place| (*place, self.is_ejected(*place))).collect();
        if self.config.ejection == Enforcement::Shadow && config.ejection == Enforcement::Enforced {
            self.forget_ejections(now);
        }
        self.config = config;
        match (&mut self.eject, ejects(&config)) {
            (Some(eject), Some(config)) => eject.configure(config),
            (eject, None) => *eject = None,
            (None, Some(config)) => {
                let mut eject = Eject::new(config);
                let free = places.iter().filter(|place| self.sitters[**place].forced.is_none());
                free.for_each(|place| eject.join(now, *place));
                self.eject = Some(eject);
            }
        }
        match (&mut self.health, config.health) {
            (Some(health), Some(config)) => health.configure(config),
            (health, None) => *health = None,
            (None, Some(config)) => {
                let mut health = Health::new(config);
                places.iter().for_each(|place| health.join(now, *place, rng));
                self.health = Some(health);
            }
        }
        for (place, was_ejected) in out {
            if self.is_in(place) {
                self.begin_ramp(now, place, rng);
                self.say(
                    now,
                    Some(place),
                    if was_ejected { Change::HostReturned } else { Change::HostHealthy },
                );
            }
        }
        self.stand(now);
    }

    /// Whoever would have been out begins anew, so that nobody goes by a decision that did not hold.
    fn forget_ejections(&mut self, now: Time) {
        let Some(eject) = &mut self.eject else { return };
        for place in 0..self.sitters.len() {
            if eject.is_out(place) {
                eject.join(now, place);
            }
        }
    }

    /// The places of hosts with these names; `join` is told of each that is new. Those that are not
    /// named lose theirs.
    pub(super) fn seat(
        &mut self,
        now: Time,
        names: &[&Arc<str>],
        rng: &mut Rng,
        mut join: impl FnMut(usize),
    ) -> Vec<Seat> {
        for (place, sitter) in self.sitters.iter_mut().enumerate() {
            if sitter.listed && !names.contains(&&sitter.name) {
                (sitter.listed, sitter.ramp) = (false, None);
                if let Some(eject) = &mut self.eject {
                    eject.leave(place);
                }
                if let Some(health) = &mut self.health {
                    health.leave(place);
                }
            }
        }
        // The first hosts of all have nobody to leave their traffic to.
        let joins_others = self.sitters.iter().any(|sitter| sitter.listed);
        let seats = names.iter().map(|name| {
            let seated = self.sitters.iter().position(|sitter| sitter.listed && sitter.name == **name);
            let place = seated.unwrap_or_else(|| {
                let place = self.join(now, name, rng);
                if joins_others {
                    self.begin_ramp(now, place, rng);
                }
                join(place);
                place
            });
            let Sitter { number, alone, .. } = &self.sitters[place];
            Seat { name: (*name).clone(), place, number: *number, alone: alone.clone() }
        });
        let seats: Vec<Seat> = seats.collect();
        if let [seat] = &*seats {
            self.leave_alone(now, seat.place);
        }
        self.stand(now);
        seats
    }

    /// Gives a new host the first free place.
    fn join(&mut self, now: Time, name: &Arc<str>, rng: &mut Rng) -> usize {
        let free = self.sitters.iter().position(|sitter| !sitter.listed);
        let place = free.unwrap_or(self.sitters.len());
        let (name, number) = (name.clone(), self.numbers);
        let sitter = Sitter { name, number, listed: true, alone: Arc::default(), ramp: None, forced: None };
        self.numbers += 1;
        match self.sitters.get_mut(place) {
            Some(free) => *free = sitter,
            None => self.sitters.push(sitter),
        }
        if let Some(eject) = &mut self.eject {
            eject.join(now, place);
        }
        if let Some(health) = &mut self.health {
            health.join(now, place, rng);
        }
        place
    }

    /// The host at this place is the only one that is left: whatever held its traffic back ends, for
    /// nobody else could take it. Probes may still find it unwell.
    fn leave_alone(&mut self, now: Time, place: usize) {
        self.sitters[place].ramp = None;
        if self.is_ejected(place) {
            self.say(now, Some(place), Change::HostRecalled);
        }
        if let Some(eject) = self.eject.as_mut().filter(|eject| eject.is_out(place)) {
            eject.join(now, place);
        }
        // It is not asked for any more, but by its probes.
        if !self.checks() && self.sitters[place].forced.take().is_some() {
            self.eject.iter_mut().for_each(|eject| eject.join(now, place));
            self.say(now, Some(place), Change::HostReleased);
        }
    }

    /// Holds the host at this place by hand, or lets it go. Who comes back comes by its ramp.
    pub(super) fn force(&mut self, now: Time, place: usize, how: Option<Forced>, rng: &mut Rng) {
        let was_in = self.is_in(place);
        let before = core::mem::replace(&mut self.sitters[place].forced, how);
        if let Some(eject) = &mut self.eject {
            match (before, how) {
                (None, Some(_)) => eject.leave(place),
                (Some(_), None) => eject.join(now, place),
                _ => {}
            }
        }
        match (was_in, self.is_in(place)) {
            (false, true) => self.begin_ramp(now, place, rng),
            (true, true) => {}
            (_, false) => self.sitters[place].ramp = None,
        }
        match (before, how) {
            (_, Some(how)) => self.say(now, Some(place), Change::HostForced { mode: how.name() }),
            (Some(_), None) => self.say(now, Some(place), Change::HostReleased),
            (None, None) => {}
        }
        self.stand(now);
    }

    /// Whether hosts are probed.
    pub(super) fn checks(&self) -> bool {
        self.health.is_some()
    }

    /// The place of a host that is still listed.
    pub(super) fn place(&self, seat: &Seat) -> Option<usize> {
        let sitter = self.sitters.get(seat.place)?;
        (sitter.listed && sitter.number == seat.number).then_some(seat.place)
    }

    /// The place of a host that may be called.
    pub(super) fn usable(&self, seat: &Seat) -> Option<usize> {
        let may = |place: &usize| self.is_in(*place) || self.standing.panics && !self.is_out(*place);
        self.place(seat).filter(may)
    }

    /// Whether a host is held out by hand.
    pub(super) fn is_held_out(&self, seat: &Seat) -> bool {
        self.place(seat).is_some_and(|place| self.is_out(place))
    }

    /// Whether the host at this place is held out by hand.
    fn is_out(&self, place: usize) -> bool {
        self.sitters[place].forced == Some(Forced::Out)
    }

    /// Whether a host is left out for being slow alone.
    pub(super) fn is_slow(&self, seat: &Seat) -> bool {
        let slow = |place: usize| {
            self.is_ejected(place) && self.eject.as_ref().is_some_and(|eject| eject.is_slow(place))
        };
        let well = |place: usize| self.health.as_ref().is_none_or(|health| health.is_well(place));
        self.place(seat).is_some_and(|place| slow(place) && well(place))
    }

    /// Whether the host at this place is neither ejected nor unwell, unless it is held by hand.
    fn is_in(&self, place: usize) -> bool {
        if let Some(how) = self.sitters[place].forced {
            return how == Forced::In;
        }
        !self.is_ejected(place) && self.health.as_ref().is_none_or(|health| health.is_well(place))
    }

    fn is_ejected(&self, place: usize) -> bool {
        self.ejects() && self.eject.as_ref().is_some_and(|eject| eject.is_out(place))
    }

    /// Whether ejections hold.
    fn ejects(&self) -> bool {
        self.config.ejection == Enforcement::Enforced
    }

    /// Whether the ramp of the host at this place, if it has one, lets a call pass.
    pub(super) fn passes(&mut self, now: Time, place: usize) -> bool {
        match &mut self.sitters[place].ramp {
            Some((ramp, _)) if !self.standing.outgrown => ramp.admit(now).is_ok(),
            _ => true,
        }
    }

    /// Something else brings the host at this place back.
    pub(super) fn end_ramp(&mut self, now: Time, place: usize) {
        if self.sitters[place].ramp.take().is_some() {
            self.stand(now);
        }
    }

    fn begin_ramp(&mut self, now: Time, place: usize, rng: &mut Rng) {
        if self.config.slow_start > Span::ZERO && self.is_in(place) {
            self.sitters[place].ramp = Some((Ramp::new(self.config.slow_start, now, rng), now));
        }
    }

    /// Brings back the hosts whose ejection is over.
    pub(super) fn expire(&mut self, now: Time, rng: &mut Rng) {
        let Some(eject) = self.eject.as_mut().filter(|eject| eject.wake_at() <= now) else { return };
        eject.expire(now);
        self.take_ejections(now, Some(rng));
    }

    /// Takes in how a call to the host at this place went; `target` says what one that comes back may
    /// take.
    #[inline]
    pub(super) fn report(
        &mut self,
        now: Time,
        place: usize,
        outcome: Outcome,
        elapsed: Span,
        target: impl FnOnce() -> Span,
    ) {
        if let Some(eject) = &mut self.eject {
            eject.report(now, place, outcome, elapsed);
            if eject.has_turned() {
                self.take_ejections(now, None);
            }
        }
        // A call that began before the ramp did says nothing of what it lets pass.
        if let Some((ramp, since)) = &mut self.sitters[place].ramp
            && now - elapsed >= *since
        {
            let before = ramp.share();
            ramp.report(now, outcome, Strain::of(elapsed, target()));
            if ramp.is_over() {
                self.end_ramp(now, place);
            } else if ramp.share() != before {
                self.stand(now);
            }
        }
    }

    /// An answer broke off whose call began then and was reported as a success.
    pub(super) fn broke(&mut self, now: Time, place: usize, begun: Time) {
        if let Some(eject) = &mut self.eject {
            eject.broke(now, place, begun);
            if eject.has_turned() {
                self.take_ejections(now, None);
            }
        }
        if let Some((ramp, since)) = &mut self.sitters[place].ramp
            && begun >= *since
        {
            let before = ramp.share();
            ramp.report(now, Outcome::Failure, Strain::NONE);
            if ramp.share() != before {
                self.stand(now);
            }
        }
    }

    /// Does what follows from ejections and their ends. Only [`Roster::expire`] meets ends.
    fn take_ejections(&mut self, now: Time, mut rng: Option<&mut Rng>) {
        let mut turned = false;
        while let Some(turn) = self.eject.as_mut().and_then(Eject::turn) {
            if !self.ejects() {
                self.shadowed += u64::from(matches!(turn, eject::Turn::Out { .. }));
                continue;
            }
            turned = true;
            match turn {
                eject::Turn::Out { place, cause } => {
                    self.sitters[place].ramp = None;
                    self.say(now, Some(place), Change::HostEjected { cause });
                }
                eject::Turn::Recalled { place } => self.say(now, Some(place), Change::HostRecalled),
                eject::Turn::In { place } => {
                    if let Some(rng) = &mut rng {
                        self.begin_ramp(now, place, rng);
                    }
                    self.say(now, Some(place), Change::HostReturned);
                }
            }
        }
        if turned {
            self.stand(now);
        }
    }

    /// When somebody is to be probed.
    pub(super) fn probe_at(&self) -> Time {
        self.health.as_ref().map_or(Time::MAX, Health::wake_at)
    }

    /// Whom to probe now, by its place among `seats`. Probes of others, who are on a younger list, are
    /// lost and fail.
    pub(super) fn due(&mut self, now: Time, seats: &[Seat], rng: &mut Rng) -> Option<(usize, Probe)> {
        let probe = self.health.as_mut()?.due(now, rng);
        self.take_checks(now, rng);
        let probe = probe?;
        let host = seats.iter().position(|seat| self.place(seat) == Some(probe.place))?;
        Some((host, probe))
    }

    /// Takes in how a probe went.
    pub(super) fn probed(&mut self, now: Time, probe: &Probe, check: Check, rng: &mut Rng) {
        if let Some(health) = &mut self.health {
            health.report(probe, check);
            self.take_checks(now, rng);
        }
    }

    /// Does what follows from hosts that became unwell or well.
    fn take_checks(&mut self, now: Time, rng: &mut Rng) {
        let mut turned = false;
        while let Some(turn) = self.health.as_mut().and_then(Health::turn) {
            turned = true;
            match turn {
                health::Turn::Unwell { place } => {
                    self.sitters[place].ramp = None;
                    self.say(now, Some(place), Change::HostUnhealthy);
                }
                health::Turn::Well { place } => {
                    self.begin_ramp(now, place, rng);
                    self.say(now, Some(place), Change::HostHealthy);
                }
            }
        }
        if turned {
            self.stand(now);
        }
    }

    /// Counts anew who can be used.
    fn stand(&mut self, now: Time) {
        let mut standing = Standing::default();
        let mut shares = 0.0;
        for place in 0..self.sitters.len() {
            if !self.sitters[place].listed || self.is_out(place) {
                continue;
            }
            standing.listed += 1;
            if self.is_in(place) {
                standing.usable += 1;
                shares += self.share(place);
            }
        }
        let panic_ppm = u64::from(self.config.panic_ppm);
        let out = standing.listed - standing.usable;
        standing.panics = out * 1_000_000 > panic_ppm * standing.listed;
        let least = standing.listed as f64 * (1.0 - panic_ppm as f64 / 1e6);
        standing.outgrown = standing.panics || shares < least;
        match (self.standing.panics, standing.panics) {
            (false, true) => self.say(now, None, Change::PanicBegan),
            (true, false) => self.say(now, None, Change::PanicEnded),
            _ => {}
        }
        self.standing = standing;
    }

    fn share(&self, place: usize) -> f64 {
        self.sitters[place].ramp.as_ref().map_or(1.0, |(ramp, _)| ramp.share())
    }

    fn say(&mut self, at: Time, place: Option<usize>, change: Change) {
        if self.happened.len() == EVENTS_MAX {
            self.happened.pop_front();
        }
        let host = place.map(|place| self.sitters[place].name.clone());
        self.happened.push_back(Happening { host, event: Event { at, change } });
    }

    /// The next change that nobody has pulled.
    pub(super) fn event(&mut self) -> Option<Happening> {
        self.happened.pop_front()
    }

    /// When a host may come back, if none can be used.
    pub(super) fn back_in(&self, now: Time) -> Span {
        let ejected = self.eject.as_ref().map_or(Time::MAX, Eject::wake_at);
        match ejected.min(self.probe_at()) {
            Time::MAX => Span::MAX,
            at => at.since(now).max(Span::from_nanos(1)),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether ejections hold, and how often one would have.
    pub(super) fn shadowed(&self) -> (Enforcement, u64) {
        (self.config.ejection, self.shadowed)
    }

    /// How often a host was spared.
    pub(super) fn spared(&self) -> u64 {
        self.eject.as_ref().map_or(0, Eject::spared)
    }

    /// Until when nobody is ejected.
    pub(super) fn held_until(&self) -> Time {
        self.eject.as_ref().map_or(Time::ZERO, Eject::held_until)
    }

    /// What is known of the host at this place.
    pub(super) fn look(&self, now: Time, place: usize) -> Look {
        Look {
            ejection: self.eject.as_ref().and_then(|eject| eject.snapshot(now, place)),
            forced: self.sitters[place].forced,
            health: self.health.as_ref().and_then(|health| health.mode(place)),
            share: self.share(place),
        }
    }
}

/// By what hosts are ejected, in shadow or not.
fn ejects(config: &Config) -> Option<eject::Config> {
    config.eject.filter(|_| config.ejection != Enforcement::Off)
}
