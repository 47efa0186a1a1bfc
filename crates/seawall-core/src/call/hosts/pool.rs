//! What the hosts of one upstream share, under one short lock.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::roster::{Look, Roster, Seat};
use super::{Config, Forced, Happening, HostSnapshot, Snapshot};
use crate::balance::Balance;
use crate::decision::Policy;
use crate::health::{Check, Probe};
use crate::outcome::Outcome;
use crate::rng::Rng;
use crate::time::{Span, Time};

/// Choices of the balance before those that are left are asked in order.
const CHOICES: usize = 4;
/// How many times the pool's typical latency holds a host that comes back.
const RAMP_TARGET: u64 = 4;

/// Whom an attempt shall not have, if it can be helped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Avoid {
    /// Where another attempt of the same call is or was: asked last.
    pub(in super::super) last: Option<usize>,
    /// Who could not be reached by another attempt of the same call: not asked. A bit each, of the first 64.
    pub(super) unreached: u64,
}

impl Avoid {
    /// An attempt of the same call could not reach the host.
    pub(in super::super) fn unreached(&mut self, host: usize) {
        self.unreached |= bit(host);
    }

    /// Who could not be reached may be asked again.
    pub(in super::super) fn forgive(&mut self) {
        self.unreached = 0;
    }

    fn is_reached(&self, host: usize) -> bool {
        self.unreached & bit(host) == 0
    }

    /// Whether the host may be asked before all others were.
    fn allows(&self, host: usize) -> bool {
        self.last != Some(host) && self.is_reached(host)
    }
}

/// The bit of a host; none for one beyond the 64th, which is not noted.
fn bit(host: usize) -> u64 {
    u32::try_from(host).ok().and_then(|host| 1_u64.checked_shl(host)).unwrap_or(0)
}

/// A search for a host that takes the call: whom it has asked.
#[derive(Debug)]
pub(super) struct Search {
    avoid: Avoid,
    asked: [(usize, Asked); CHOICES],
    choices: usize,
    walk: Option<Walk>,
    /// Who refused last, by which policy.
    pub(super) refused: Option<(usize, Policy)>,
}

/// What became of a choice of the balance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Its back gate was asked.
    Gate,
    /// Its ramp held it back; still better than none.
    Held,
}

/// A walk through those that are left: those that were not asked, those that were held back, and those
/// that are left out for being slow, for a slow answer is better than none.
#[derive(Clone, Copy, Debug)]
struct Walk {
    begin: usize,
    steps: usize,
    /// The whole list has been replaced meanwhile: an old list is better than none.
    all_gone: bool,
}

impl Search {
    pub(super) fn new(avoid: Avoid) -> Search {
        Search { avoid, asked: [(usize::MAX, Asked::Gate); CHOICES], choices: 0, walk: None, refused: None }
    }

    fn asked(&self, host: usize) -> Option<Asked> {
        self.asked[..self.choices].iter().find(|(asked, _)| *asked == host).map(|(_, how)| *how)
    }

    /// Notes a choice of the balance, and whether its ramp lets it pass, which it returns.
    fn note(&mut self, host: usize, passes: bool) -> bool {
        self.asked[self.choices] = (host, if passes { Asked::Gate } else { Asked::Held });
        self.choices += 1;
        passes
    }

    fn may_choose(&self, host: usize) -> bool {
        self.asked(host).is_none() && self.avoid.allows(host)
    }
}

/// The state that outlives a list of hosts.
#[derive(Debug)]
pub(super) struct Pool {
    balance: Balance,
    roster: Roster,
}

impl Pool {
    pub(super) fn new(config: Config) -> Pool {
        Pool { balance: Balance::new(config.balance), roster: Roster::new(config) }
    }

    pub(super) fn configure(&mut self, now: Time, config: Config, rng: &mut Rng) {
        self.balance.configure(config.balance);
        self.roster.configure(now, config, rng);
    }

    /// The places of hosts with these names.
    pub(super) fn seat(&mut self, now: Time, names: &[&Arc<str>], rng: &mut Rng) -> Vec<Seat> {
        let balance = &mut self.balance;
        self.roster.seat(now, names, rng, |place| balance.join(place))
    }

    /// Whether one of so many hosts is the only one, and is called whatever is known of it.
    pub(super) fn is_alone(&self, hosts: usize) -> bool {
        hosts == 1 && !self.roster.checks()
    }

    /// The next host to ask; the one before has refused. `None` when all have.
    pub(super) fn pick(
        &mut self,
        now: Time,
        seats: &[Seat],
        search: &mut Search,
        rng: &mut Rng,
    ) -> Option<usize> {
        if let Some((refused, policy)) = search.refused.take()
            && let Some(place) = self.roster.place(&seats[refused])
        {
            self.balance.undo(place);
            if matches!(policy, Policy::Breaker | Policy::Ramp) {
                self.roster.end_ramp(now, place); // Its breaker brings it back: one ramp is enough.
            }
        }
        self.roster.expire(now, rng);
        let host = self.choose(now, seats, search, rng)?;
        if let Some(place) = self.roster.place(&seats[host]) {
            self.balance.begin(place);
        }
        Some(host)
    }

    fn choose(&mut self, now: Time, seats: &[Seat], search: &mut Search, rng: &mut Rng) -> Option<usize> {
        let Pool { balance, roster } = self;
        while search.choices < CHOICES && search.walk.is_none() {
            let candidate = |host: usize| roster.usable(&seats[host]).filter(|_| search.may_choose(host));
            let Some(host) = balance.pick(now, seats.len(), candidate, rng) else { break };
            let passes = roster.place(&seats[host]).is_none_or(|place| roster.passes(now, place));
            if search.note(host, passes) {
                return Some(host);
            }
        }
        self.walk(seats, search, rng)
    }

    /// Goes through those that are left, from anywhere.
    fn walk(&self, seats: &[Seat], search: &mut Search, rng: &mut Rng) -> Option<usize> {
        let mut walk = search.walk.unwrap_or_else(|| Walk {
            begin: rng.below(seats.len() as u64) as usize,
            steps: 0,
            all_gone: seats.iter().all(|seat| self.roster.place(seat).is_none()),
        });
        let mut found = None;
        while found.is_none() && walk.steps < 3 * seats.len() {
            let host = (walk.begin + walk.steps) % seats.len();
            let usable = walk.all_gone || self.roster.usable(&seats[host]).is_some();
            let wanted = match walk.steps / seats.len() {
                0 => usable && search.asked(host).is_none(),
                1 => usable && search.asked(host) == Some(Asked::Held),
                _ => !usable && self.roster.is_slow(&seats[host]),
            };
            walk.steps += 1;
            if wanted && search.avoid.allows(host) {
                found = Some(host);
            }
        }
        search.walk = Some(walk);
        // Better the host to avoid than none; once.
        found.or_else(|| {
            let last = search.avoid.last.take()?;
            (search.avoid.is_reached(last) && !self.roster.is_held_out(&seats[last])).then_some(last)
        })
    }

    #[inline]
    pub(super) fn report(&mut self, now: Time, seat: &Seat, outcome: Outcome, elapsed: Span) {
        if let Some(place) = self.roster.place(seat) {
            self.balance.report(now, place, outcome, elapsed);
            let target = || self.balance.typical_latency().times(RAMP_TARGET);
            self.roster.report(now, place, outcome, elapsed, target);
        }
    }

    pub(super) fn broke(&mut self, now: Time, seat: &Seat, begun: Time) {
        if let Some(place) = self.roster.place(seat) {
            self.roster.broke(now, place, begun);
        }
    }

    pub(super) fn due(&mut self, now: Time, seats: &[Seat], rng: &mut Rng) -> Option<(usize, Probe)> {
        self.roster.due(now, seats, rng)
    }

    pub(super) fn probed(&mut self, now: Time, probe: &Probe, check: Check, rng: &mut Rng) {
        self.roster.probed(now, probe, check, rng);
    }

    /// Holds a host by hand, or lets it go.
    pub(super) fn force(&mut self, now: Time, seat: &Seat, how: Option<Forced>, rng: &mut Rng) -> Option<()> {
        let place = self.roster.place(seat)?;
        self.roster.force(now, place, how, rng);
        Some(())
    }

    pub(super) fn probe_at(&self) -> Time {
        self.roster.probe_at()
    }

    pub(super) fn back_in(&self, now: Time) -> Span {
        self.roster.back_in(now)
    }

    pub(super) fn event(&mut self) -> Option<Happening> {
        self.roster.event()
    }

    pub(super) fn snapshot(&self, now: Time, seats: &[Seat]) -> Snapshot {
        let host = |seat: &Seat| {
            let place = self.roster.place(seat)?;
            let Look { ejection, forced, health, share } = self.roster.look(now, place);
            let mut load = self.balance.snapshot(now, place);
            load.in_flight += seat.alone();
            Some(HostSnapshot { name: seat.name.clone(), load, ejection, forced, health, share })
        };
        let standing = self.roster.standing();
        let (ejection, shadowed) = self.roster.shadowed();
        Snapshot {
            hosts: seats.iter().map(host).collect(),
            usable: standing.usable,
            panics: standing.panics,
            spared: self.roster.spared(),
            ejection,
            shadowed,
            held_until: self.roster.held_until(),
        }
    }
}
