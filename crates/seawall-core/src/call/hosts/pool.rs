//! What the hosts of one upstream share, under one short lock.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Config, Snapshot};
use crate::balance::{self, Balance};
use crate::outcome::Outcome;
use crate::rng::Rng;
use crate::time::{Span, Time};

/// Choices of the balance before those that are left are asked in order.
const CHOICES: usize = 3;

/// Where the state of a host is: its place, and its number, which is never used twice.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    name: Arc<str>,
    place: usize,
    number: u64,
}

/// Who sits at a place.
#[derive(Clone, Debug)]
struct Sitter {
    name: Arc<str>,
    number: u64,
    listed: bool,
}

/// A search for a host that takes the call: whom it has asked.
#[derive(Debug)]
pub(super) struct Search {
    avoid: Option<usize>,
    asked: [usize; CHOICES],
    choices: usize,
    walk: Option<Walk>,
    /// Whom it is asking.
    asking: Option<usize>,
}

/// A walk through those that are left.
#[derive(Clone, Copy, Debug)]
struct Walk {
    begin: usize,
    steps: usize,
    /// The whole list has been replaced meanwhile: an old list is better than none.
    all_gone: bool,
}

impl Search {
    pub(super) fn new(avoid: Option<usize>) -> Search {
        Search { avoid, asked: [usize::MAX; CHOICES], choices: 0, walk: None, asking: None }
    }

    fn has_asked(&self, host: usize) -> bool {
        self.asked[..self.choices].contains(&host)
    }
}

/// The state that outlives a list of hosts.
#[derive(Debug)]
pub(super) struct Pool {
    config: Config,
    sitters: Vec<Sitter>,
    numbers: u64,
    balance: Balance,
}

impl Pool {
    pub(super) fn new(config: Config) -> Pool {
        Pool { config, sitters: Vec::new(), numbers: 0, balance: Balance::new(config.balance) }
    }

    pub(super) fn configure(&mut self, config: Config) {
        self.config = config;
        self.balance.configure(config.balance);
    }

    /// The places of hosts with these names. Those that are not named lose theirs.
    pub(super) fn seat(&mut self, names: &[&Arc<str>]) -> Vec<Seat> {
        for sitter in &mut self.sitters {
            sitter.listed = names.contains(&&sitter.name);
        }
        names.iter().map(|name| self.seat_one(name)).collect()
    }

    fn seat_one(&mut self, name: &Arc<str>) -> Seat {
        let seated = self.sitters.iter().position(|sitter| sitter.listed && sitter.name == *name);
        let place = seated.unwrap_or_else(|| {
            let free = self.sitters.iter().position(|sitter| !sitter.listed);
            let place = free.unwrap_or(self.sitters.len());
            let sitter = Sitter { name: name.clone(), number: self.numbers, listed: true };
            self.numbers += 1;
            match self.sitters.get_mut(place) {
                Some(free) => *free = sitter,
                None => self.sitters.push(sitter),
            }
            self.balance.join(place);
            place
        });
        Seat { name: name.clone(), place, number: self.sitters[place].number }
    }

    /// The place of a host that is still listed.
    fn place(&self, seat: &Seat) -> Option<usize> {
        let sitter = self.sitters.get(seat.place)?;
        (sitter.listed && sitter.number == seat.number).then_some(seat.place)
    }

    /// The next host to ask; the one before has refused. `None` when all have.
    pub(super) fn pick(
        &mut self,
        now: Time,
        seats: &[Seat],
        search: &mut Search,
        rng: &mut Rng,
    ) -> Option<usize> {
        if let Some(refused) = search.asking.take()
            && let Some(place) = self.place(&seats[refused])
        {
            self.balance.undo(place);
        }
        let host = self.choose(now, seats, search, rng)?;
        search.asking = Some(host);
        if let Some(place) = self.place(&seats[host]) {
            self.balance.begin(place);
        }
        Some(host)
    }

    fn choose(&mut self, now: Time, seats: &[Seat], search: &mut Search, rng: &mut Rng) -> Option<usize> {
        if search.choices < CHOICES && search.walk.is_none() {
            let Pool { sitters, balance, .. } = self;
            let usable = |host: usize| {
                let Seat { place, number, .. } = seats[host];
                let seated = sitters.get(place).is_some_and(|by| by.listed && by.number == number);
                (seated && !search.has_asked(host) && search.avoid != Some(host)).then_some(place)
            };
            if let Some(host) = balance.pick(now, seats.len(), usable, rng) {
                search.asked[search.choices] = host;
                search.choices += 1;
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
            all_gone: seats.iter().all(|seat| self.place(seat).is_none()),
        });
        let mut found = None;
        while found.is_none() && walk.steps < seats.len() {
            let host = (walk.begin + walk.steps) % seats.len();
            walk.steps += 1;
            let listed = walk.all_gone || self.place(&seats[host]).is_some();
            if listed && !search.has_asked(host) && search.avoid != Some(host) {
                found = Some(host);
            }
        }
        search.walk = Some(walk);
        // Better the host to avoid than none; once.
        found.or_else(|| search.avoid.take())
    }

    pub(super) fn report(&mut self, now: Time, seat: &Seat, outcome: Outcome, elapsed: Span) {
        if let Some(place) = self.place(seat) {
            self.balance.report(now, place, outcome, elapsed);
        }
    }

    pub(super) fn snapshot(&self, now: Time, seat: &Seat) -> Snapshot {
        let load: Option<balance::Snapshot> = self.place(seat).map(|place| self.balance.snapshot(now, place));
        Snapshot { name: seat.name.clone(), load }
    }
}
