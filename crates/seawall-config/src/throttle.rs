//! `throttle` of a route: the quotas that a request spends.

use seawall_core::measure::bucket::{Quota, QuotaError, Rate};
use seawall_core::throttle::{self, Per, Plans, PlansError};

use super::identity::Table;
use super::reader::{Field, Named, Section, check_name};
use super::report::{Malformed, quoted};
use super::units;

/// The most throttles of a route.
const THROTTLES_MAX: usize = 8;

/// A quota under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// What responses and metrics call it; unique within its route. Default: what it is per,
    /// numbered from the second on: `user`, `user-2`.
    pub name: String,
    /// The quota and the table of its users.
    pub config: throttle::Config,
}

/// The quotas of a route.
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

/// Reads the list; what cannot be read is reported.
pub(super) fn read(field: &Field<'_>, table: Table) -> Result<Throttles, Malformed> {
    let mut read: Vec<Unnamed> = Vec::new();
    let mut plans: Vec<String> = Vec::new();
    for item in field.items(0..=THROTTLES_MAX)? {
        let Some(throttle) = item.section().and_then(|section| read_one(section, table)) else { continue };
        if let Some(name) = &throttle.name
            && read.iter().any(|other| other.name.as_ref() == Some(name))
        {
            item.reject(Malformed::new(format!("two throttles of this route have the name `{name}`")));
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
    Ok(Throttles { throttles: named(read), plans })
}

impl Unnamed {
    /// Its plans by the numbers that they have in the whole route; where it has none, its own quota counts.
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

fn read_one(mut section: Section<'_>, table: Table) -> Option<Unnamed> {
    let pers = [("user", Per::User), ("route", Per::Route)];
    let per = section.value("per", Per::default(), |field| field.word(&pers));
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

/// Gives a name to those without, around the names that the user chose.
fn named(read: Vec<Unnamed>) -> Vec<Throttle> {
    let mut taken: Vec<String> = read.iter().filter_map(|throttle| throttle.name.clone()).collect();
    let mut name_of = |throttle: &Unnamed| {
        let per = match throttle.config.per {
            Per::User => "user",
            Per::Route => "route",
        };
        let numbered = |number: usize| if number == 1 { per.to_owned() } else { format!("{per}-{number}") };
        let free = (1..).map(numbered).find(|name| !taken.contains(name)).expect("a finite list is taken");
        taken.push(free.clone());
        free
    };
    read.into_iter()
        .map(|throttle| Throttle {
            name: throttle.name.clone().unwrap_or_else(|| name_of(&throttle)),
            config: throttle.config,
        })
        .collect()
}
