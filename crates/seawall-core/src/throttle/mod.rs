//! Throttle: a quota per user, one token bucket each, in a table that never outgrows its cap.
//!
//! **Prevents** one user from taking what belongs to all, and a flood of users from taking the
//! memory. Being throttled is not an error: it is a decision, with the exact wait.
//!
//! **Mechanics.** A bucket is made full when its user is first seen and refilled lazily from the
//! time that passed: no ticker, nothing spent on users who are away. When the table is full, a
//! newcomer takes the place of a user whose bucket is full again, because forgetting that one
//! hands nobody a token. A hand sweeps the table for such places, [`SWEEP`] slots for each
//! newcomer, so a decision never costs more than that.
//!
//! **Edges.** When the hand finds nobody who can go, [`OnFull`] applies and is counted: the
//! newcomer is refused, or shares one overflow bucket with all others in that situation, or
//! (`Evict`) displaces the user who is nearest to full among those seen, which *does* hand that
//! one tokens if it comes back and is therefore never the default. A denied request takes nothing.
//!
//! One `Throttle` is one shard. How many there are depends on the cap alone, never on the
//! machine, so that the lab and production decide alike.

mod table;

use crate::decision::{Policy, Reason, Rejection, Standing};
use crate::measure::bucket::{Bucket, Quota};
use crate::request::Key;
use crate::time::{Span, Time};
use table::{Place, Table};

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
}

/// One quota and the table that holds its buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Rate and burst.
    pub quota: Quota,
    /// Whose bucket a request takes from.
    pub per: Per,
    /// The most users that are remembered, 1 to 2³¹; default 100 000.
    pub max_users: u32,
    /// What happens beyond that.
    pub on_full: OnFull,
}

/// The default of [`Config::max_users`].
pub const MAX_USERS: u32 = 100_000;

/// Users per shard that a table of several shards aims at.
const SHARD_USERS: u32 = 4_096;
const SHARDS_MAX: u32 = 64;

impl Config {
    /// This quota for each user, with the default table.
    pub const fn per_user(quota: Quota) -> Config {
        Config { quota, per: Per::User, max_users: MAX_USERS, on_full: OnFull::Share }
    }

    /// How many shards hold the table: a matter of the cap alone.
    pub const fn shards(&self) -> u32 {
        match self.per {
            Per::Route => 1,
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
    const fn shard_users(&self) -> u32 {
        match self.per {
            Per::Route => 1,
            Per::User => self.max_users / self.shards(),
        }
    }

    /// The key of the bucket that a request of this user takes from.
    pub const fn key(&self, user: Key) -> Key {
        match self.per {
            Per::User => user,
            Per::Route => Key(0),
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
            bytes: self.bytes + other.bytes,
        }
    }
}

/// One shard of a throttle.
#[derive(Debug)]
pub struct Throttle {
    config: Config,
    table: Table,
    overflow: Bucket,
    counts: Snapshot,
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

impl Throttle {
    /// An empty shard.
    pub fn new(config: Config, now: Time) -> Throttle {
        Throttle {
            config,
            table: Table::new(config.shard_users()),
            overflow: Bucket::full(&config.quota, now),
            counts: Snapshot::default(),
        }
    }

    /// Looks whether `key` has `cost` tokens, lets `then` ask all that comes after, and takes the
    /// tokens only if that agrees (`Ok`): check all, then take from all, without undo.
    pub fn admit_if<T>(
        &mut self,
        now: Time,
        key: Key,
        cost: u32,
        then: impl FnOnce(Standing) -> Result<T, T>,
    ) -> Look<T> {
        let quota = self.config.quota;
        let cost = u64::from(cost.max(1));
        let bucket = match self.table.find(key) {
            Some(place) => self.table.bucket(place),
            None => match self.make_room(now, key) {
                Ok(()) => Bucket::full(&quota, now),
                Err(answer) => return answer,
            },
        };
        let mut after = bucket;
        if let Err(wait) = after.take(&quota, now, cost) {
            self.counts.throttled += 1;
            return Look::Refused(throttled(&quota, &bucket, now, wait));
        }
        match then(standing(&quota, &after, now)) {
            Ok(value) => {
                self.table.put(key, after);
                Look::Taken(value)
            }
            Err(value) => Look::Untaken(value),
        }
    }

    /// The same on the one bucket that all share for whom the table has no place.
    pub fn overflow_if<T>(
        &mut self,
        now: Time,
        cost: u32,
        then: impl FnOnce(Standing) -> Result<T, T>,
    ) -> Look<T> {
        let quota = self.config.quota;
        self.counts.shared += 1;
        let mut after = self.overflow;
        if let Err(wait) = after.take(&quota, now, u64::from(cost.max(1))) {
            self.counts.throttled += 1;
            return Look::Refused(throttled(&quota, &self.overflow, now, wait));
        }
        match then(standing(&quota, &after, now)) {
            Ok(value) => {
                self.overflow = after;
                Look::Taken(value)
            }
            Err(value) => Look::Untaken(value),
        }
    }

    /// Returns what a request took that left the queue before its turn.
    pub fn give_back(&mut self, now: Time, key: Key, cost: u32) {
        if let Some(place) = self.table.find(key) {
            let mut bucket = self.table.bucket(place);
            bucket.give_back(&self.config.quota, now, u64::from(cost.max(1)));
            self.table.put(key, bucket);
        }
    }

    /// Changes rate, burst or choice. Every bucket keeps its share: a change never refills. The
    /// cap of a running table stays; it is set when the table is made.
    pub fn configure(&mut self, config: Config, now: Time) {
        let (from, to) = (self.config.quota, config.quota);
        if from != to {
            self.table.each(|bucket| bucket.rescale(&from, &to, now));
            self.overflow.rescale(&from, &to, now);
        }
        self.config = Config { max_users: self.config.max_users, per: self.config.per, ..config };
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

    fn make_room<T>(&mut self, now: Time, key: Key) -> Result<(), Look<T>> {
        let quota = self.config.quota;
        let nearest: Option<Place> = match self.table.make_room(&quota, now) {
            Ok(()) => return Ok(()),
            Err(nearest) => nearest,
        };
        debug_assert!(self.table.find(key).is_none(), "only newcomers need room");
        match (self.config.on_full, nearest) {
            (OnFull::Evict, Some(place)) => {
                self.table.remove(place);
                self.counts.evicted += 1;
                Ok(())
            }
            (OnFull::Share, _) => Err(Look::Overflow),
            (OnFull::Refuse | OnFull::Evict, _) => {
                self.counts.refused += 1;
                let retry_after = quota.time_to_full();
                Err(Look::Refused(Rejection::new(Policy::Throttle, Reason::Throttled, retry_after)))
            }
        }
    }
}

fn standing(quota: &Quota, bucket: &Bucket, now: Time) -> Standing {
    Standing { quota: 0, remaining: bucket.tokens(quota, now), reset: bucket.wait(quota, now, 1) }
}

fn throttled(quota: &Quota, bucket: &Bucket, now: Time, wait: Span) -> Rejection {
    Rejection {
        standing: Some(standing(quota, bucket, now)),
        ..Rejection::new(Policy::Throttle, Reason::Throttled, wait)
    }
}

#[cfg(test)]
mod tests;
