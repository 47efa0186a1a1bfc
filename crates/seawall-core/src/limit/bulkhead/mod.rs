//! Bulkhead: no tenant takes the whole ship.
//!
//! **Prevents** one tenant, by many calls or by slow ones, from leaving no place for the others.
//!
//! **Mechanics.** A tenant (the request's user) holds at most `share_percent` of the places in
//! flight. Below that, a place that becomes free goes to the waiting tenant with the fewest places,
//! and when the line is full the tenant with the most makes room for one with less. Both together
//! are *max-min fair*: whoever asks for less than an equal share gets it all, and the rest is
//! shared equally by those who ask for more ([`max_min`]).
//!
//! **Edges.** Only tenants with something in flight or in line are remembered, `tenants` of them
//! at most; whoever comes when the table is full shares one bulkhead with all others who do. A call
//! that runs is never taken its place: only the share bounds a tenant who came first with slow
//! calls, so leave it below 100 where calls are long.

use alloc::vec::Vec;

use hashbrown::HashTable;

use crate::request::Key;
use crate::setting::{SettingError, check};

/// The largest table of tenants.
pub const TENANTS_MAX: u32 = 1_000_000;

/// How places are shared between tenants. Only a checked one is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The share of the limit that one tenant may hold, 1 to 100 percent; default 50.
    pub share_percent: u32,
    /// Tenants that are told apart at a time, 1 to [`TENANTS_MAX`]; default 10 000.
    pub tenants: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { share_percent: 50, tenants: 10_000 }
    }
}

/// Checked [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config(Settings);

impl Config {
    /// Checks every setting against its range.
    pub fn new(settings: Settings) -> Result<Config, SettingError> {
        check((1..=100).contains(&settings.share_percent), "share_percent", "1 to 100")?;
        check((1..=TENANTS_MAX).contains(&settings.tenants), "tenants", "1 to 1 000 000")?;
        Ok(Config(settings))
    }
}

/// Whose bulkhead a request is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tenant {
    user: Key,
    /// Whether it has one of its own, rather than that of all who found the table full.
    own: bool,
    /// Of the table in which it counts.
    epoch: u32,
}

impl Tenant {
    /// The user whose own bulkhead it is.
    fn user(self) -> Option<Key> {
        self.own.then_some(self.user)
    }
}

/// What a tenant holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) in_flight: u32,
    pub(super) waiting: u32,
}

impl Held {
    pub(super) fn places(self) -> u32 {
        self.in_flight + self.waiting
    }
}

/// The tenants who hold something.
#[derive(Debug)]
pub(super) struct Bulkhead {
    config: Settings,
    epoch: u32,
    table: HashTable<(Key, Held)>,
    /// Of those who came when the table was full.
    overflow: Held,
}

impl Bulkhead {
    /// An empty table; places that were handed out in another epoch do not count in it.
    pub(super) fn new(config: Config, epoch: u32) -> Bulkhead {
        Bulkhead { config: config.0, epoch, table: HashTable::new(), overflow: Held::default() }
    }

    /// New settings; what tenants hold stays.
    pub(super) fn configure(&mut self, config: Config) {
        self.config = config.0;
    }

    /// Whose bulkhead a newcomer is in.
    pub(super) fn tenant(&self, user: Key) -> Tenant {
        let own = self.find(user).is_some() || self.table.len() < self.config.tenants as usize;
        Tenant { user, own, epoch: self.epoch }
    }

    pub(super) fn held(&self, tenant: Tenant) -> Held {
        match tenant.user() {
            _ if tenant.epoch != self.epoch => Held::default(),
            Some(user) => self.find(user).unwrap_or_default(),
            None => self.overflow,
        }
    }

    /// Changes what a tenant holds; who holds nothing is forgotten.
    pub(super) fn change(&mut self, tenant: Tenant, change: impl FnOnce(&mut Held)) {
        if tenant.epoch != self.epoch {
            return;
        }
        let Some(user) = tenant.user() else { return change(&mut self.overflow) };
        match self.table.find_entry(user.0, |(key, _)| *key == user) {
            Ok(mut entry) => {
                change(&mut entry.get_mut().1);
                if entry.get().1 == Held::default() {
                    entry.remove();
                }
            }
            Err(_) => {
                let mut held = Held::default();
                change(&mut held);
                self.table.insert_unique(user.0, (user, held), |(key, _)| key.0);
            }
        }
    }

    fn find(&self, user: Key) -> Option<Held> {
        self.table.find(user.0, |(key, _)| *key == user).map(|(_, held)| *held)
    }

    /// Whether the tenant's share of `limit` has a place left.
    pub(super) fn has_room(&self, tenant: Tenant, limit: u32) -> bool {
        self.held(tenant).in_flight < self.share(limit)
    }

    /// The places in flight that one tenant may hold, at least one.
    fn share(&self, limit: u32) -> u32 {
        let share = (u64::from(limit) * u64::from(self.config.share_percent)).div_ceil(100);
        (share as u32).max(1)
    }

    /// Tenants who hold something, those who share one bulkhead counted once.
    pub(super) fn tenants(&self) -> u32 {
        self.table.len() as u32 + u32::from(self.overflow != Held::default())
    }
}

/// Max-min fair shares of `capacity`: nobody gets more than they ask for, and what some leave is
/// shared equally by those who ask for more.
///
/// ```
/// use seawall_core::limit::bulkhead::max_min;
///
/// assert_eq!(max_min(9.0, &[1.0, 4.0, 10.0]), [1.0, 4.0, 4.0]);
/// ```
pub fn max_min(capacity: f64, demands: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by(|a, b| demands[*a].total_cmp(&demands[*b]));
    let mut shares = alloc::vec![0.0; demands.len()];
    let mut left = capacity.max(0.0);
    for (served, index) in order.into_iter().enumerate() {
        let equal = left / (demands.len() - served) as f64;
        shares[index] = demands[index].clamp(0.0, equal);
        left -= shares[index];
    }
    shares
}

#[cfg(test)]
mod tests;
