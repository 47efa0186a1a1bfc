//! Throttle: a quota per user, one token bucket each, in a table that never outgrows its cap.
//!
//! **Prevents** one user from taking what belongs to all, and a flood of users from taking the
//! memory. Being throttled is not an error: it is a decision, with the exact wait.
//!
//! **Mechanics.** A bucket is one word: the instant at which it will be full again, counted without
//! rounding. Taking moves that instant ahead; nothing else ever happens to a bucket, so there is no
//! ticker and nothing is spent on users who are away. A user whose instant has come needs no bucket
//! at all, which is what eviction rests on: when the table is full, a newcomer takes the place of
//! such a user, and nobody is handed a token. A hand sweeps the table for such places, [`SWEEP`]
//! slots for each newcomer, so a decision never costs more than that. Instants are counted from a
//! base that is renewed now and then (every second for the wildest rate, every century for a round
//! one), so nothing overflows, however long a user was away.
//!
//! Users may be on different [`Plans`]; a user who changes over keeps its share.
//!
//! With a [`Shape`], a request without tokens may wait for them instead: it gets a slot, a point in
//! time, in order of arrival.
//!
//! ```text
//!              tokens ──────────────▶ Taken (or Untaken, if the rest refused)
//!              │
//! a request ───┤ none ─▶ no shape, wait too long, line full ─▶ Refused
//!              │    └──▶ a slot in time ─▶ the rest of the gate, at its slot
//!              └ no place in the table ─▶ OnFull: Refused │ Overflow │ the nearest to full goes
//! ```
//!
//! **Edges.** When the hand finds nobody who can go, [`OnFull`] applies and is counted: the
//! newcomer is refused, or shares one overflow bucket with all others in that situation, or
//! (`Evict`) displaces the user who is nearest to full among those seen, which *does* hand that
//! one tokens if it comes back and is therefore never the default. A denied request takes nothing,
//! and displaces nobody.
//!
//! *Tokens given back* may have flowed in again by themselves, if the bucket was full since. So
//! that nobody gets them twice, a taking has a [`Mark`], and what comes back is the less of what was
//! taken and of what is certain to be missing still. After a change of rate or burst nothing is certain
//! of what was taken before.
//!
//! One `Throttle` is one shard. How many there are depends on the cap alone, never on the
//! machine, so that the lab and production decide alike.

mod plans;
mod table;

use alloc::boxed::Box;

use crate::decision::{Policy, Reason, Rejection, Standing};
use crate::measure::bucket::{Gauge, Level, Quota, Ticks};
use crate::request::{Key, Request};
use crate::time::{Span, Time};
use plans::Gauges;
use table::{Place, Room, Table};

pub use plans::{PLANS_MAX, Plans, PlansError};
pub use table::SWEEP;

/// What happens to a newcomer when the table is full and no idle user can go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// It is refused.
    Refuse,
    /// It shares one bucket with all others in that situation.
    #[default]
    Share,
    /// It displaces the user nearest to a full bucket.
    Evict,
}

/// Whose quota it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Per {
    /// Each user has a bucket.
    #[default]
    User,
    /// All requests of the route share one.
    Route,
    /// All requests of all routes share one.
    Gateway,
}

/// Wait mode: who lacks tokens waits for them, in order of arrival, instead of being refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The longest wait; whoever would wait longer is refused.
    pub wait: Span,
    /// How many may wait, over all users.
    pub line: u32,
}

/// The quotas and the table that holds the buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Rate and burst, by plan.
    pub plans: Plans,
    /// Whose bucket a request takes from.
    pub per: Per,
    /// The most users that are remembered, 1 to 2³¹; default 100 000.
    pub max_users: u32,
    /// What happens beyond that.
    pub on_full: OnFull,
    /// Whether requests may wait for tokens; default no.
    pub shape: Option<Shape>,
}

/// The default of [`Config::max_users`].
pub const MAX_USERS: u32 = 100_000;

/// Users per shard that a table of several shards aims at.
const SHARD_USERS: u32 = 4_096;
const SHARDS_MAX: u32 = 64;

impl Config {
    /// This quota for each user, with the default table.
    pub const fn per_user(quota: Quota) -> Config {
        Config {
            plans: Plans::one(quota),
            per: Per::User,
            max_users: MAX_USERS,
            on_full: OnFull::Share,
            shape: None,
        }
    }

    /// Rate and burst of the default plan.
    pub const fn quota(&self) -> &Quota {
        self.plans.quota(0)
    }

    /// How many shards hold the table: a matter of the cap alone.
    pub const fn shards(&self) -> u32 {
        match self.per {
            Per::Route | Per::Gateway => 1,
            Per::User => {
                let wanted = self.max_users / SHARD_USERS;
                if wanted < 2 {
                    1
                } else if wanted > SHARDS_MAX {
                    SHARDS_MAX
                } else {
                    wanted
                }
            }
        }
    }

    /// The cap of one shard.
    pub(crate) const fn shard_users(&self) -> u32 {
        match self.per {
            Per::Route | Per::Gateway => 1,
            Per::User => self.max_users / self.shards(),
        }
    }

    /// The key of the bucket that a request of this user takes from.
    pub const fn key(&self, user: Key) -> Key {
        match self.per {
            Per::User => user,
            Per::Route | Per::Gateway => Key(0),
        }
    }
}

/// How often the table was full, and what followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Users remembered.
    pub users: u64,
    /// Users that may be remembered.
    pub max_users: u64,
    /// Requests denied for want of tokens.
    pub throttled: u64,
    /// Newcomers refused for want of a place.
    pub refused: u64,
    /// Decisions made on the shared overflow bucket.
    pub shared: u64,
    /// Users displaced before their bucket was full.
    pub evicted: u64,
    /// Requests that were given a slot to wait for.
    pub waited: u64,
    /// Requests waiting for theirs.
    pub waiting: u64,
    /// Bytes of the table.
    pub bytes: u64,
}

impl Snapshot {
    /// The sum of two shards.
    pub const fn plus(self, other: Snapshot) -> Snapshot {
        Snapshot {
            users: self.users + other.users,
            max_users: self.max_users + other.max_users,
            throttled: self.throttled + other.throttled,
            refused: self.refused + other.refused,
            shared: self.shared + other.shared,
            evicted: self.evicted + other.evicted,
            waited: self.waited + other.waited,
            waiting: self.waiting + other.waiting,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// What a taking left behind, for giving back: how much was missing before it, and what had been
/// given back to users alike until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(u64);

/// The least mark that says that more was given back since than was missing.
const MARK_SPENT: u64 = 1 << 63;
/// More than is missing in any bucket that is marked.
const MARK_MOST: u64 = 1 << 62;

/// Tokens that are there for a request, while all that comes after is asked.
#[derive(Debug)]
pub struct Offer<'a> {
    throttle: &'a Throttle,
    gauge: &'a Gauge,
    now: Ticks,
    plan: u8,
    user: Key,
    before: Level,
    after: Level,
}

impl Offer<'_> {
    /// What there will be to know once they are taken. Reckoned only for who asks, since that costs as much as
    /// to find the tokens, and who is refused elsewhere takes none.
    #[inline]
    pub fn grant(&self) -> Grant {
        Grant {
            standing: self.throttle.standing(self.plan, self.gauge, self.after, self.now),
            mark: self.throttle.mark(self.user, self.before, self.now),
        }
    }
}

/// Tokens that a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How the user stands once they are taken.
    pub standing: Standing,
    /// For giving them back.
    pub mark: Mark,
}

/// A place in line for tokens. They are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// When they will be there.
    pub at: Time,
    /// How the user stands then.
    pub standing: Standing,
    /// For giving them back.
    pub mark: Mark,
}

/// Tokens that are to be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// How many, of those that the request cost.
    pub tokens: u32,
    /// When they were taken.
    pub taken: Time,
    /// As the taking left it. Without, all that flowed in since may have been too much already.
    pub mark: Option<Mark>,
}

/// Whose tokens a request spends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purse {
    /// Its user's own.
    Own,
    /// Those of all for whom the table has no place; in the first shard.
    Overflow,
}

impl Purse {
    /// The key of its bucket.
    const fn key(self, request: &Request) -> Key {
        match self {
            Purse::Own => request.user,
            Purse::Overflow => Key(0),
        }
    }
}

/// How a look at the bucket ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Look<T> {
    /// There were tokens and the rest agreed: they are taken.
    Taken(T),
    /// There were tokens, but the rest refused: nothing is taken.
    Untaken(T),
    /// No tokens, or no place.
    Refused(Rejection),
    /// The table is full: ask the overflow bucket of the first shard.
    Overflow,
}

/// Kinds of users among whom what is given back is counted apart.
const KINDS: usize = 16;

/// One shard of a throttle.
#[derive(Debug)]
pub struct Throttle {
    table: Table,
    base: Time,
    epoch: Span,
    gauges: Gauges,
    /// The latest instant at which somebody forgotten was full: nobody begins before it.
    forgotten: Level,
    overflow: Level,
    /// When somebody last lined up for tokens.
    lined: Option<Time>,
    /// When rate or burst last changed.
    changed: Option<Time>,
    /// Units given back of takings that others may have followed, by kind of user; wraps.
    returned: [u64; KINDS],
    counts: Snapshot,
    config: Box<Config>,
}

impl Throttle {
    /// An empty shard.
    pub fn new(config: Config, now: Time) -> Throttle {
        let gauges = config.plans.gauges();
        Throttle {
            table: Table::new(config.shard_users()),
            base: now,
            epoch: gauges.unit.epoch(),
            gauges,
            forgotten: Level(0),
            counts: Snapshot::default(),
            overflow: Level(0),
            lined: None,
            changed: None,
            returned: [0; KINDS],
            config: Box::new(config),
        }
    }

    /// Looks whether the user has the tokens that the request costs, lets `then` ask all that comes
    /// after, and takes them only if that agrees (`Ok`): check all, then take from all, without
    /// undo.
    #[inline]
    pub fn admit_if<T>(
        &mut self,
        now: Time,
        request: &Request,
        then: impl FnOnce(&Offer<'_>) -> Result<T, T>,
    ) -> Look<T> {
        let ticks = self.ticks(now);
        let plan = self.gauges.number(request.plan);
        match self.table.find(request.user) {
            Some(place) => {
                let level = self.level(place, plan, request.user, ticks);
                self.take_if(ticks, request, level, then, |shard, after| {
                    shard.table.set(place, shard.gauges.noted(after, plan));
                })
            }
            None => self.admit_newcomer(ticks, request, then),
        }
    }

    /// The same on the one bucket that all share for whom the table has no place. Its quota is that
    /// of the default plan.
    pub fn overflow_if<T>(
        &mut self,
        now: Time,
        request: &Request,
        then: impl FnOnce(&Offer<'_>) -> Result<T, T>,
    ) -> Look<T> {
        let ticks = self.ticks(now);
        self.counts.shared += 1;
        let request = Request { plan: 0, user: Purse::Overflow.key(request), ..*request };
        self.take_if(ticks, &request, self.overflow, then, |shard, after| shard.overflow = after)
    }

    /// What `look` comes to, without counting it.
    pub(crate) fn uncounted<R>(&mut self, look: impl FnOnce(&mut Throttle) -> R) -> R {
        let counts = self.counts;
        let looked = look(self);
        self.counts = counts;
        looked
    }

    /// Takes tokens that will only be there later, after a look that refused the request because
    /// they are not; the caller has made sure that it may wait so long. `None` when there is no
    /// bucket to wait for.
    pub fn line_up(&mut self, now: Time, request: &Request, purse: Purse) -> Option<Slot> {
        let ticks = self.ticks(now);
        let (place, plan, level) = self.bucket(request, purse, ticks)?;
        let gauge = *self.gauges.of(plan);
        let units = gauge.units(u64::from(request.cost.max(1)))?;
        if !Gauge::counts(level, ticks, units) {
            return None;
        }
        let mark = self.mark(purse.key(request), level, ticks);
        let wait = self.gauges.unit.span(gauge.short(level, ticks, units));
        self.write(place, plan, Gauge::after(level, ticks, units));
        self.lined = self.lined.max(Some(now));
        self.counts.throttled = self.counts.throttled.saturating_sub(1);
        self.counts.waited += 1;
        // Whoever waits gets the last token there is.
        let token = gauge.units(1).expect("a burst is at least one");
        let reset = self.gauges.unit.span(token);
        let standing = Standing { quota: 0, plan: request.plan, remaining: 0, reset };
        Some(Slot { at: now.max(self.base) + wait, standing, mark })
    }

    /// Gives back tokens that were taken and not used. None comes back twice: what has flowed in
    /// by itself since stays as it is, as does what those who stand behind in line count on.
    pub fn give_back(&mut self, now: Time, request: &Request, purse: Purse, refund: Refund) {
        // How fast it flowed in by the rate of before is not known any more.
        if self.changed.is_some_and(|changed| refund.taken <= changed) {
            return;
        }
        let ticks = self.ticks(now);
        let Some((place, plan, level)) = self.bucket(request, purse, ticks) else { return };
        let gauge = *self.gauges.of(plan);
        let cost = request.cost.max(1);
        let (Some(whole), Some(part)) =
            (gauge.units(u64::from(cost)), gauge.units(u64::from(refund.tokens.min(cost))))
        else {
            return;
        };
        let kind = kind(purse.key(request));
        let before = refund.mark.map_or(0, |mark| match mark.0.wrapping_sub(self.returned[kind]) {
            spent if spent >= MARK_SPENT => 0,
            before => before,
        });
        // What was missing right after the taking, at the least, is missing still but for what
        // flowed in since.
        let missing = Level(whole + before).since(self.gauges.unit, now.since(refund.taken)).0;
        let is_last = missing == level.missing(ticks);
        // Who lined up later keeps its slot, and so could have taken what would come back now.
        let before_line = self.lined.is_some_and(|lined| refund.taken <= lined);
        let returned = part.min(missing).min(level.missing(ticks));
        if returned == 0 || before_line && !is_last {
            return;
        }
        if !is_last {
            self.returned[kind] = self.returned[kind].wrapping_add(returned);
        }
        let level = Level(level.0 - returned);
        match place {
            Some(place) if level.is_full(ticks) => {
                self.forget(level, ticks);
                self.table.remove(place);
            }
            place => self.write(place, plan, level),
        }
    }

    /// Changes rates, bursts or choices. Every bucket keeps its share: a change never refills. The
    /// cap of a running table stays; it is set when the table is made.
    pub fn configure(&mut self, config: Config, now: Time) {
        let config = Config { max_users: self.config.max_users, per: self.config.per, ..config };
        if config.plans != self.config.plans {
            let ticks = self.ticks(now);
            let (from, to) = (self.gauges.clone(), config.plans.gauges());
            let rescaled = |level: Level| from.rescaled(level, ticks, &to);
            self.table.each(rescaled);
            self.overflow = rescaled(self.overflow);
            // Marks of before are counted in another unit, whatever the clocks of those who took.
            self.changed = self.changed.max(Some(now));
            self.returned.iter_mut().for_each(|returned| *returned = returned.wrapping_add(MARK_MOST));
            (self.base, self.epoch, self.gauges) = (now.max(self.base), to.unit.epoch(), to);
            self.forgotten = Level(0);
        }
        *self.config = config;
    }

    /// The config in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters and sizes of this shard.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            users: self.table.len() as u64,
            max_users: u64::from(self.config.shard_users()),
            bytes: self.table.bytes() as u64,
            ..self.counts
        }
    }

    /// Now, counted from the base, which is renewed when that is long past.
    #[inline]
    fn ticks(&mut self, now: Time) -> Ticks {
        let elapsed = now.since(self.base);
        if elapsed > self.epoch {
            self.rebase(now, elapsed);
            return Ticks(0);
        }
        self.gauges.unit.ticks(elapsed)
    }

    #[cold]
    fn rebase(&mut self, now: Time, elapsed: Span) {
        let (unit, mask) = (self.gauges.unit, self.gauges.mask);
        // Without its plan, a level of zero would be somebody's.
        let since = |level: Level| {
            let later = Level(level.0 & !mask).since(unit, elapsed);
            if later == Level(0) { later } else { Level(later.0 | (level.0 & mask)) }
        };
        self.table.each(since);
        (self.overflow, self.forgotten) = (since(self.overflow), since(self.forgotten));
        self.base = now;
    }

    /// Takes the tokens by `keep` if there are enough and `then` agrees.
    #[inline]
    fn take_if<T>(
        &mut self,
        now: Ticks,
        request: &Request,
        level: Level,
        then: impl FnOnce(&Offer<'_>) -> Result<T, T>,
        keep: impl FnOnce(&mut Throttle, Level),
    ) -> Look<T> {
        let gauge = self.gauges.of(request.plan);
        let units = gauge.units(u64::from(request.cost.max(1)));
        let short = units.map(|units| gauge.short(level, now, units));
        let (Some(units), Some(0)) = (units, short) else {
            self.counts.throttled += 1;
            let wait = short.map_or(Span::MAX, |short| self.gauges.unit.span(short));
            let standing = Some(self.standing(request.plan, gauge, level, now));
            let rejection = Rejection::new(Policy::Throttle, Reason::Throttled, wait);
            return Look::Refused(Rejection { standing, ..rejection });
        };
        let after = Gauge::after(level, now, units);
        let (plan, user) = (request.plan, request.user);
        match then(&Offer { throttle: self, gauge, now, plan, user, before: level, after }) {
            Ok(value) => {
                keep(self, after);
                Look::Taken(value)
            }
            Err(value) => Look::Untaken(value),
        }
    }

    fn admit_newcomer<T>(
        &mut self,
        now: Ticks,
        request: &Request,
        then: impl FnOnce(&Offer<'_>) -> Result<T, T>,
    ) -> Look<T> {
        let (leaves, evicted) = match (self.table.room(now), self.config.on_full) {
            (Room::Free, _) => (None, 0),
            (Room::Idle(place), _) => (Some(place), 0),
            (Room::Nearest(place), OnFull::Evict) => (Some(place), 1),
            (Room::Nearest(_), OnFull::Share) => return Look::Overflow,
            (Room::Nearest(_), OnFull::Refuse) => {
                self.counts.refused += 1;
                let wait = self.config.plans.quota(request.plan).time_to_full();
                return Look::Refused(Rejection::new(Policy::Throttle, Reason::Throttled, wait));
            }
        };
        let plan = self.gauges.number(request.plan);
        let full = Level(self.forgotten.0 & !self.gauges.mask);
        self.take_if(now, request, full, then, |shard, after| {
            if let Some(place) = leaves {
                let level = shard.table.level(place);
                shard.forget(level, now);
                shard.table.remove(place);
                shard.counts.evicted += evicted;
            }
            let level = shard.gauges.noted(after, plan);
            let forgotten = shard.table.insert(request.user, level, now);
            shard.forget(forgotten, now);
        })
    }

    /// Nobody begins before the instant at which one who was forgotten was full; time that runs
    /// backwards between threads would hand out tokens.
    fn forget(&mut self, level: Level, now: Ticks) {
        if level.is_full(now) {
            self.forgotten = self.forgotten.max(level);
        }
    }

    /// The level of a user in its plan of now, without the plan's number.
    #[inline]
    fn level(&mut self, place: Place, plan: u8, key: Key, now: Ticks) -> Level {
        let noted = self.table.level(place);
        let level = Level(noted.0 & !self.gauges.mask);
        let before = (noted.0 & self.gauges.mask) as u8;
        if before == plan { level } else { self.change_plan(level, before, plan, key, now) }
    }

    #[cold]
    fn change_plan(&mut self, level: Level, before: u8, plan: u8, key: Key, now: Ticks) -> Level {
        let missing = self.gauges.of(before).rescaled(level, now, self.gauges.of(plan));
        let missing = missing.next_multiple_of(self.gauges.mask + 1);
        // To a mark of before, a smaller debt looks like tokens that came back.
        let kind = kind(key);
        let less = level.missing(now).saturating_sub(missing);
        self.returned[kind] = self.returned[kind].wrapping_add(less);
        Level(now.0 + missing)
    }

    /// The bucket from which a request took: its place unless it is the overflow bucket, its plan
    /// and its level.
    fn bucket(&mut self, request: &Request, purse: Purse, now: Ticks) -> Option<(Option<Place>, u8, Level)> {
        if purse == Purse::Overflow {
            return Some((None, 0, self.overflow));
        }
        let plan = self.gauges.number(request.plan);
        let place = self.table.find(request.user)?;
        Some((Some(place), plan, self.level(place, plan, request.user, now)))
    }

    fn write(&mut self, place: Option<Place>, plan: u8, level: Level) {
        match place {
            Some(place) => self.table.set(place, self.gauges.noted(level, plan)),
            None => self.overflow = level,
        }
    }

    #[inline]
    fn mark(&self, key: Key, level: Level, now: Ticks) -> Mark {
        Mark(level.missing(now).min(MARK_MOST - 1).wrapping_add(self.returned[kind(key)]))
    }

    #[inline]
    fn standing(&self, plan: u8, gauge: &Gauge, level: Level, now: Ticks) -> Standing {
        let remaining = gauge.tokens(level, now);
        let reset = if remaining > 0 {
            Span::ZERO
        } else {
            let token = gauge.units(1).expect("a burst is at least one");
            self.gauges.unit.span(gauge.short(level, now, token))
        };
        Standing { quota: 0, plan, remaining, reset }
    }
}

/// Which kind of user, by bits that neither shards nor the table go by.
const fn kind(key: Key) -> usize {
    (key.0 >> 60) as usize
}

#[cfg(test)]
mod tests;
