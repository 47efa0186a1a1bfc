//! `throttle`: the quotas that a request spends, those of its route and those of the whole gateway.
//!
//! What stands at the top of the file is asked first, by every route, and its users are the same for all: one
//! state. So a plan has one number in the whole file's quotas and in those of each route after them.

use seawall_core::measure::bucket::{Quota, QuotaError, Rate};
use seawall_core::throttle::{self, Per, Plans, PlansError};

use super::identity::Table;
use super::reader::{Field, Named, Section, check_name};
use super::report::{Malformed, quoted};
use super::units;

/// The most throttles of a route, and of the gateway.
const THROTTLES_MAX: usize = 8;

/// A quota under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// What responses and metrics call it; unique among those that a request meets. Default: what it is
    /// per, numbered from the second on: `user`, `user-2`; of the gateway `gateway`, `gateway-user`.
    pub name: String,
    /// Whether the config says so; others have their name from their place.
    pub is_named: bool,
    /// Whether it is the gateway's, one for all routes.
    pub shared: bool,
    /// The quota and the table of its users.
    pub config: throttle::Config,
}

/// The quotas that the requests of a route spend, those of the gateway first; or those alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Throttles {
    pub(super) throttles: Vec<Throttle>,
    /// The names of the plans, by their numbers from 1 on. Plan 0 is what counts without.
    pub(super) plans: Vec<String>,
}

/// A throttle that may still need its name.
struct Unnamed {
    name: Option<String>,
    config: throttle::Config,
    plans: Vec<(String, Quota)>,
}

/// Whose list is read.
#[derive(Clone, Copy)]
enum Owner<'a> {
    Gateway,
    /// A route, behind these of the gateway.
    Route(&'a Throttles),
}

/// Reads the list at the top of the file; what cannot be read is reported.
pub(super) fn of_gateway(field: &Field<'_>, table: Table) -> Result<Throttles, Malformed> {
    read(field, table, Owner::Gateway)
}

/// Reads the list of a route behind that of the gateway; what cannot be read is reported.
pub(super) fn of_route(field: &Field<'_>, table: Table, gateway: &Throttles) -> Result<Throttles, Malformed> {
    read(field, table, Owner::Route(gateway))
}

fn read(field: &Field<'_>, table: Table, owner: Owner<'_>) -> Result<Throttles, Malformed> {
    let mut read: Vec<Unnamed> = Vec::new();
    let Throttles { mut throttles, mut plans } = owner.before();
    for item in field.items(0..=THROTTLES_MAX)? {
        let section = item.section();
        let Some(throttle) = section.and_then(|section| read_one(section, table, owner)) else { continue };
        if let Some(name) = &throttle.name {
            let of = if throttles.iter().any(|other| other.name == *name) {
                Some("a throttle of the gateway has the name")
            } else if read.iter().any(|other| other.name.as_ref() == Some(name)) {
                Some(owner.has_two())
            } else {
                None
            };
            of.into_iter().for_each(|of| item.reject(Malformed::new(format!("{of} `{name}`"))));
        }
        for (name, _) in &throttle.plans {
            if !plans.contains(name) {
                plans.push(name.clone());
            }
        }
        read.push(throttle);
    }
    for throttle in &mut read {
        throttle.number_plans(&plans).map_err(|error| Malformed::new(error.to_string()))?;
    }
    name(read, owner, &mut throttles);
    Ok(Throttles { throttles, plans })
}

impl Owner<'_> {
    /// What a request has met before.
    fn before(self) -> Throttles {
        match self {
            Owner::Gateway => Throttles::default(),
            Owner::Route(gateway) => gateway.clone(),
        }
    }

    fn has_two(self) -> &'static str {
        match self {
            Owner::Gateway => "two throttles of the gateway have the name",
            Owner::Route(_) => "two throttles of this route have the name",
        }
    }

    /// Whose quota it is, in words that make sense here.
    fn per(self, field: &Field<'_>) -> Result<Per, Malformed> {
        let (elsewhere, words, help) = match self {
            Owner::Gateway => (
                "route",
                [("user", Per::User), ("gateway", Per::Gateway)],
                "write `gateway` for one quota of all routes, or move it to `throttle` of `[route.NAME]`",
            ),
            Owner::Route(_) => (
                "gateway",
                [("user", Per::User), ("route", Per::Route)],
                "move it to a `throttle` at the top of the file, before the first table",
            ),
        };
        match field.word(&words) {
            Err(malformed) if field.text() == Some(elsewhere) => Err(malformed.help(help)),
            read => read,
        }
    }

    /// What a throttle is called that has no name.
    fn name_for(self, per: Per) -> &'static str {
        match (per, self) {
            (Per::User, Owner::Gateway) => "gateway-user",
            (Per::User, Owner::Route(_)) => "user",
            (Per::Route, _) => "route",
            (Per::Gateway, _) => "gateway",
        }
    }
}

impl Unnamed {
    /// Its plans by the numbers that they have for every throttle; where it has none, its own quota counts.
    fn number_plans(&mut self, names: &[String]) -> Result<(), PlansError> {
        if self.plans.is_empty() {
            return Ok(());
        }
        let own = *self.config.quota();
        let of =
            |name: &String| self.plans.iter().find(|(plan, _)| plan == name).map_or(own, |(_, quota)| *quota);
        let quotas: Vec<Quota> = std::iter::once(own).chain(names.iter().map(of)).collect();
        self.config.plans = Plans::new(&quotas)?;
        Ok(())
    }
}

fn read_one(mut section: Section<'_>, table: Table, owner: Owner<'_>) -> Option<Unnamed> {
    let per = section.value("per", Per::default(), |field| owner.per(field));
    let quota = quota_in(&mut section);
    let mut plans = Vec::new();
    for Named { name, mut section } in section.named("plans") {
        if let Some(quota) = quota_in(&mut section) {
            plans.push((name.to_owned(), quota));
        }
        section.finish();
    }
    let name = section.optional("name", |field| match field.text() {
        Some(text) => check_name(text),
        None => Err(field.is_not("a name")),
    });
    section.finish();
    let config = throttle::Config {
        per,
        max_users: table.max_users,
        on_full: table.on_full,
        ..throttle::Config::per_user(quota?)
    };
    Some(Unnamed { name, config, plans })
}

/// Reads `rate` and `burst`.
fn quota_in(section: &mut Section<'_>) -> Option<Quota> {
    let rate =
        section.required("rate", "\"50/s\"", |field| field.parsed("a rate such as `50/s`", units::rate));
    let burst = section.optional("burst", |field| {
        let burst = field.count(1..=i64::MAX.unsigned_abs())?;
        match rate {
            Some(rate) => quota(rate, burst).map(|_| burst),
            None => Ok(burst),
        }
    });
    // A burst of one second's worth is within bounds at every rate that can be written.
    rate.and_then(|rate| quota(rate, burst.unwrap_or_else(|| second_of(rate))).ok())
}

fn quota(rate: Rate, burst: u64) -> Result<Quota, Malformed> {
    Quota::new(rate, burst).map_err(|error| match error {
        QuotaError::BurstAbove(most) => {
            Malformed::new(format!("{} is above {most}, the most at this rate", quoted(&burst.to_string())))
        }
        error => Malformed::new(error.to_string()),
    })
}

/// What the rate grants in a second, at least 1.
fn second_of(rate: Rate) -> u64 {
    (rate.count / rate.per.as_secs_ceil().max(1)).max(1)
}

/// Adds them under their names, and those without under names around all others.
fn name(read: Vec<Unnamed>, owner: Owner<'_>, throttles: &mut Vec<Throttle>) {
    let named = read.iter().filter_map(|throttle| throttle.name.clone());
    let mut taken: Vec<String> = throttles.iter().map(|other| other.name.clone()).chain(named).collect();
    let mut name_of = |per: &str| {
        let numbered = |number: usize| if number == 1 { per.to_owned() } else { format!("{per}-{number}") };
        let free = (1..).map(numbered).find(|name| !taken.contains(name)).expect("a finite list is taken");
        taken.push(free.clone());
        free
    };
    throttles.extend(read.into_iter().map(|Unnamed { name, config, .. }| Throttle {
        is_named: name.is_some(),
        name: name.unwrap_or_else(|| name_of(owner.name_for(config.per))),
        shared: matches!(owner, Owner::Gateway),
        config,
    }));
}
