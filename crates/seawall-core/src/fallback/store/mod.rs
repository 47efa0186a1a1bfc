//! The store: kept answers, bounded in entries and bytes, and one flight for each key.
//!
//! **Prevents** two things: a cache that takes the memory, and the stampede, in which everybody who
//! wants the same missing answer asks for it at once.
//!
//! ```text
//!   ask ─▶ Hit
//!       ─▶ Stale ─ with an errand for the first, who revalidates; without for the others
//!       ─▶ Ask   ─ with an errand: the leader, and whoever asks alone
//!       ─▶ Wait  ─▶ claim ─▶ Hit │ Ask │ Failed │ Wait
//!
//!   errand ─▶ fill │ fail │ pass │ abandon ─▶ those who wait are due (`turn`)
//! ```
//!
//! **Mechanics.** The first who asks for a key that is not kept leads; the rest wait for its answer.
//! A full shelf makes room by SIEVE (Zhang et al., NSDI 2024): a hand goes from the oldest entry to
//! the newest, spares once what was used since it came by, and evicts what was not.
//!
//! **Edges.** Nobody hangs. A leader that goes away hands over to whoever has waited longest; one that
//! hangs loses its lease, and the next who asks leads; whoever has waited for half of its time asks for itself, so
//! that to wait costs nobody its answer. A failed errand
//! has failed for all who wait, so that a dying upstream is not asked once for each of them. Whoever
//! waited for an answer gets it even if it is stale on arrival: it was made after they asked. When an answer turns out to belong
//! to one user alone, those who wait ask for themselves, and for [`Config::apart`] nobody waits for
//! that key again, or requests that can share nothing would stand in line. The same holds for an
//! answer that was never fresh. When there are too many flights or too many wait for one, a
//! newcomer asks alone. Keys are compared whole: a collision of hashes finds nothing. An answer that is
//! good for nothing goes, unless the driver can have it confirmed.

mod flight;
mod shelf;

use alloc::collections::VecDeque;

use crate::request::Key;
use crate::time::{Span, Time};

use super::freshness::{Freshness, Use};
use flight::{Ended, Flights};
use shelf::Shelf;

/// The bounds of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The most entries, 1 to 2³¹ (what is outside counts as the nearest); default 10 000.
    pub entries: u32,
    /// The most bytes of all entries together, as the driver counts them; default 64 MiB.
    pub bytes: u64,
    /// The most keys that are being fetched at a time; default 1024.
    pub flights: u32,
    /// The most that wait for one key; default 1024.
    pub waiting: u32,
    /// How long a leader may take before another one leads; longer than the deadline of a call.
    /// Default 30 s.
    pub lease: Span,
    /// How long everybody asks alone after an answer that could not be shared; default 2 min. Once in that
    /// time those who come together wait for one of them in vain.
    pub apart: Span,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            entries: 10_000,
            bytes: 64 << 20,
            flights: 1_024,
            waiting: 1_024,
            lease: Span::from_secs(30),
            apart: Span::from_secs(120),
        }
    }
}

/// A kept answer, as it is when asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<V> {
    /// The answer.
    pub value: V,
    /// Its age when it was asked for.
    pub age: Span,
    /// How long it may be used.
    pub freshness: Freshness,
}

impl<V> Kept<V> {
    /// What it is good for, when the route allows `window` of staleness.
    pub fn good_for(&self, window: Span) -> Use {
        self.freshness.at(self.age, window)
    }

    /// Whole seconds until it is stale, or negative, since it is: the `ttl` of RFC 9211.
    pub fn ttl_secs(&self) -> i64 {
        let secs = |span: Span| (span.as_nanos() / 1_000_000_000) as i64;
        secs(self.freshness.fresh) - secs(self.age)
    }
}

/// What the driver found out, to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill<V> {
    /// The answer.
    pub value: V,
    /// What it weighs.
    pub bytes: u64,
    /// Its age when it arrived (`Age`).
    pub age: Span,
    /// How long it may be used.
    pub freshness: Freshness,
    /// Whether the driver can ask if it is still right without having it sent again. Then it stays when
    /// it is good for nothing else, until its room is needed.
    pub confirmable: bool,
}

/// A request under way for a key. It has no `Drop`: [`Store::fill`], [`Store::fail`], [`Store::pass`],
/// [`Store::single`] or [`Store::abandon`] ends it.
#[derive(Debug)]
#[must_use = "others may wait for an errand until it is ended"]
pub struct Errand<K> {
    hash: Key,
    key: K,
    begun: Time,
    lead: Option<flight::Lead>,
    /// Whether something may be kept that can be confirmed, as far as was known when it began.
    may_confirm: bool,
}

impl<K> Errand<K> {
    /// What it is for.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Whether something may be kept that can be confirmed ([`Store::confirmable`]).
    pub fn may_confirm(&self) -> bool {
        self.may_confirm
    }

    /// Whether others may wait for it.
    pub fn leads(&self) -> bool {
        self.lead.is_some()
    }
}

/// A place among those who wait for a key. It has no `Drop`: claim it or leave it.
#[derive(Debug)]
#[must_use = "a place is kept until it is claimed or left"]
pub struct Place<K> {
    hash: Key,
    key: K,
    seat: flight::Seat,
    wake_at: Time,
    /// When it asks for itself.
    patience: Time,
    deadline: Time,
}

impl<K> Place<K> {
    /// When asking again gives another answer even if nobody is woken.
    pub fn wake_at(&self) -> Time {
        self.wake_at
    }
}

/// The answer to who asks for a key.
#[derive(Debug)]
pub enum Asked<K, V> {
    /// Kept and fresh.
    Hit(Kept<V>),
    /// Kept, stale and usable while one request asks anew: this one, if there is an errand.
    Stale(Kept<V>, Option<Errand<K>>),
    /// Ask for it; what is kept is good in place of an error.
    Ask(Errand<K>, Option<Kept<V>>),
    /// Somebody is asking: wait here. What is kept is good in place of an error.
    Wait(Place<K>, Option<Kept<V>>),
}

/// What became of a wait.
#[derive(Debug)]
pub enum Claimed<K, V> {
    /// The answer is there.
    Hit(Kept<V>),
    /// Ask for it: the leader has gone or takes too long, or its answer belongs to it alone.
    Ask(Errand<K>),
    /// The leader's errand failed.
    Failed,
    /// The deadline has come.
    Late,
    /// Not yet.
    Wait(Place<K>),
}

/// Counters and sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Entries kept.
    pub entries: u64,
    /// Bytes kept.
    pub bytes: u64,
    /// Keys being fetched.
    pub flights: u64,
    /// Answers given from what was fresh.
    pub hits: u64,
    /// Answers given while one request asked anew.
    pub stale: u64,
    /// Requests that found nothing to use.
    pub misses: u64,
    /// Requests that waited for the answer of another one.
    pub joined: u64,
    /// Entries that made room for others.
    pub evicted: u64,
}

/// Kept answers of type `V` by keys of type `K`; `W` wakes those who wait.
#[derive(Debug)]
pub struct Store<K, V, W> {
    config: Config,
    shelf: Shelf<K, Slot<V>>,
    flights: Flights<K, V, W>,
    due: VecDeque<W>,
    counts: Snapshot,
}

/// An answer, and when it had which age.
#[derive(Clone, Debug)]
struct Answer<V> {
    value: V,
    at: Time,
    age: Span,
    freshness: Freshness,
    confirmable: bool,
}

impl<V: Clone> Answer<V> {
    fn kept(&self, now: Time) -> Kept<V> {
        let age = self.age + now.since(self.at);
        Kept { value: self.value.clone(), age, freshness: self.freshness }
    }
}

#[derive(Clone, Debug)]
enum Slot<V> {
    Answer(Answer<V>),
    /// Nobody waits for this key until then.
    Apart {
        until: Time,
    },
}

/// What looking for a key came to.
struct Seen<V> {
    /// What is kept and still good for something.
    kept: Option<Kept<V>>,
    /// Whether everybody asks alone.
    apart: bool,
    /// Whether something is kept that can be confirmed, whatever it is good for.
    may_confirm: bool,
}

impl<K: Eq + Clone, V: Clone, W> Store<K, V, W> {
    /// An empty store.
    pub fn new(config: Config) -> Store<K, V, W> {
        Store {
            config,
            shelf: Shelf::new(),
            flights: Flights::new(),
            due: VecDeque::new(),
            counts: Snapshot::default(),
        }
    }

    /// Asks for `key`, when the route allows `window` of staleness. `hash` is a well-mixed hash of
    /// the key. Whoever has to wait does so for half of the time until `deadline` at most.
    pub fn ask(&mut self, now: Time, hash: Key, key: &K, window: Span, deadline: Time) -> Asked<K, V> {
        let Seen { kept, apart, may_confirm } = self.look(now, hash, key, window);
        let errand = |lead| Errand { hash, key: key.clone(), begun: now, lead, may_confirm };
        match kept.as_ref().map(|kept| kept.good_for(window)) {
            Some(Use::Fresh) => {
                self.counts.hits += 1;
                return Asked::Hit(kept.expect("looked at above"));
            }
            Some(Use::Revalidate) => {
                self.counts.stale += 1;
                let lead = self.flights.lead(now, hash, key, &self.config);
                return Asked::Stale(kept.expect("looked at above"), lead.map(|lead| errand(Some(lead))));
            }
            _ => self.counts.misses += 1,
        }
        if !apart && let Some(seat) = self.flights.join(now, hash, key, &self.config) {
            self.counts.joined += 1;
            let patience = now + Span::from_nanos(deadline.since(now).as_nanos() / 2);
            let wake_at = self.flights.lease_ends(&seat).min(patience);
            return Asked::Wait(Place { hash, key: key.clone(), seat, wake_at, patience, deadline }, kept);
        }
        let lead = if apart { None } else { self.flights.lead(now, hash, key, &self.config) };
        Asked::Ask(errand(lead), kept)
    }

    /// Begins an errand that nobody waits for, whatever is kept.
    pub fn ask_alone(&mut self, now: Time, hash: Key, key: K) -> Errand<K> {
        Errand { hash, key, begun: now, lead: None, may_confirm: true }
    }

    /// Looks whether something is kept for `key` that is still good for something.
    fn look(&mut self, now: Time, hash: Key, key: &K, window: Span) -> Seen<V> {
        let nothing = Seen { kept: None, apart: false, may_confirm: false };
        match self.shelf.get(hash, key) {
            None => nothing,
            Some(Slot::Apart { until }) => {
                let apart = now < *until;
                if !apart {
                    self.shelf.remove(hash, key);
                }
                Seen { apart, ..nothing }
            }
            Some(Slot::Answer(answer)) => {
                let (kept, may_confirm) = (answer.kept(now), answer.confirmable);
                let apart = kept.freshness.fresh == Span::ZERO;
                match kept.good_for(window) {
                    Use::Dead if may_confirm => Seen { apart, may_confirm, ..nothing },
                    Use::Dead => {
                        self.shelf.remove(hash, key);
                        nothing
                    }
                    _ => Seen { kept: Some(kept), apart, may_confirm },
                }
            }
        }
    }

    /// What is kept for `key` and good for something, without asking for it.
    pub fn kept(&mut self, now: Time, hash: Key, key: &K, window: Span) -> Option<Kept<V>> {
        self.look(now, hash, key, window).kept
    }

    /// What is kept for the key of this errand and can be confirmed, whatever else it is good for, as it was
    /// when the errand began.
    pub fn confirmable(&mut self, errand: &Errand<K>) -> Option<Kept<V>> {
        match self.shelf.get(errand.hash, &errand.key) {
            Some(Slot::Answer(answer)) if answer.confirmable => Some(answer.kept(errand.begun)),
            _ => None,
        }
    }

    /// "Is the answer there?" Parks the waiter if not.
    pub fn claim(&mut self, now: Time, place: Place<K>, waiter: W) -> Claimed<K, V> {
        let Place { hash, key, seat, patience, deadline, .. } = place;
        let landed = match self.flights.ended(&seat) {
            None => None,
            Some(Ended::Filled(answer)) => Some(Claimed::Hit(answer.kept(now))),
            Some(Ended::Failed) => Some(Claimed::Failed),
            Some(Ended::Apart) => {
                let key = key.clone();
                Some(Claimed::Ask(Errand { hash, key, begun: now, lead: None, may_confirm: true }))
            }
        };
        if let Some(claimed) = landed {
            self.go(seat);
            return claimed;
        }
        if now >= deadline {
            self.go(seat);
            return Claimed::Late;
        }
        if let Some(lead) = self.flights.take_over(now, &seat, &self.config) {
            return Claimed::Ask(Errand { hash, key, begun: now, lead: Some(lead), may_confirm: true });
        }
        if now >= patience {
            self.go(seat);
            return Claimed::Ask(Errand { hash, key, begun: now, lead: None, may_confirm: true });
        }
        let wake_at = self.flights.lease_ends(&seat).min(patience);
        self.flights.park(&seat, waiter);
        Claimed::Wait(Place { hash, key, seat, wake_at, patience, deadline })
    }

    /// Whoever waited here has gone.
    pub fn leave(&mut self, place: Place<K>) {
        self.go(place.seat);
    }

    fn go(&mut self, seat: flight::Seat) {
        if let Some(next) = self.flights.leave(seat) {
            self.due.push_back(next);
        }
    }

    /// The errand brought an answer that can be kept. One that is too large for the store is not.
    pub fn fill(&mut self, now: Time, errand: Errand<K>, fill: Fill<V>) {
        let Errand { hash, key, begun, lead, .. } = errand;
        let Fill { value, bytes, age, freshness, confirmable } = fill;
        // The answer was made when it was asked for, at the earliest: the transfer counts as age.
        let answer = Answer { value, at: now, age: age + now.since(begun), freshness, confirmable };
        let ended = if freshness.fresh > age { Ended::Filled(answer.clone()) } else { Ended::Apart };
        let made = |answer: &Answer<V>| answer.at - answer.age;
        let outdated = match self.shelf.get(hash, &key) {
            Some(Slot::Answer(other)) => made(&answer) < made(other),
            _ => false,
        };
        if !outdated {
            self.counts.evicted += self.shelf.put(hash, key, Slot::Answer(answer), bytes, &self.config);
        }
        self.end(lead, ended);
    }

    /// The errand failed. What is kept stays.
    pub fn fail(&mut self, errand: Errand<K>) {
        self.end(errand.lead, Ended::Failed);
    }

    /// The errand brought an answer that cannot be kept. What was kept before is outdated.
    pub fn pass(&mut self, now: Time, errand: Errand<K>) {
        let slot = Slot::Apart { until: now + self.config.apart };
        self.counts.evicted += self.shelf.put(errand.hash, errand.key, slot, 0, &self.config);
        self.end(errand.lead, Ended::Apart);
    }

    /// The errand brought an answer for itself alone, which says nothing about what is kept.
    pub fn single(&mut self, errand: Errand<K>) {
        self.end(errand.lead, Ended::Apart);
    }

    /// Whoever ran the errand has gone: another one leads.
    pub fn abandon(&mut self, errand: Errand<K>) {
        if let Some(next) = errand.lead.and_then(|lead| self.flights.hand_over(lead)) {
            self.due.push_back(next);
        }
    }

    fn end(&mut self, lead: Option<flight::Lead>, ended: Ended<V>) {
        if let Some(lead) = lead {
            self.flights.end(lead, ended, &mut self.due);
        }
    }

    /// The next waiter that became due.
    pub fn turn(&mut self) -> Option<W> {
        self.due.pop_front()
    }

    /// Forgets what is kept for `key`: a write went by (RFC 9111, section 4.4).
    pub fn forget(&mut self, hash: Key, key: &K) {
        self.shelf.remove(hash, key);
    }

    /// Plain values.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            entries: self.shelf.len(),
            bytes: self.shelf.bytes(),
            flights: self.flights.len(),
            ..self.counts
        }
    }
}

#[cfg(test)]
mod tests;
