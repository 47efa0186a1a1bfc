//! Links: who calls which service, how, and what the way there is like.

use std::sync::Arc;

use seawall_config::model;
use seawall_core::call::{self, Hosts, Shared};
use seawall_core::gate::{self, Alone, Cells, Gate, Own as _};
use seawall_core::rng::mix;
use seawall_core::time::{Span, Time};

use super::station::Station;
use crate::scenario::Scenario;

/// A caller's own way of calling, with its own retries.
pub(super) struct Habit {
    pub(super) config: call::Config,
    /// Whether a `Retry-After` is heeded; only by those who have a budget, too.
    pub(super) heeds: bool,
    pub(super) hosts: Hosts<Alone<u64>>,
    pub(super) shared: Cells<Shared>,
}

/// From a caller to a service.
pub(super) struct Link {
    /// The clients or the service that calls.
    pub(super) from: String,
    /// The service, by its place.
    pub(super) to: u32,
    /// The route of the station that takes it, if one stands there.
    pub(super) route: Option<u32>,
    /// How long its caller waits.
    pub(super) deadline: Option<Span>,
    /// The caller's own retries; `None` where it makes one attempt and waits for it.
    pub(super) habit: Option<Habit>,
    pub(super) optional: bool,
    pub(super) times: u32,
    pub(super) share_ppm: u32,
    /// How long answers are kept, by user.
    pub(super) cache: Option<Span>,
    /// When what is kept for each user ends to be good; zero for those of whom nothing has been said.
    pub(super) kept: Vec<Time>,
    /// Whether what was kept in the beginning is gone.
    pub(super) flushed: bool,
    pub(super) way: Way,
}

impl Link {
    /// Whether a kept answer serves this user. A run begins with warm caches, whose answers end one after
    /// the other.
    pub(super) fn serves(&self, now: Time, member: u32) -> bool {
        let Some(ttl) = self.cache else { return false };
        let said = self.kept.get(member as usize).copied().filter(|kept| *kept > Time::ZERO);
        let spread = || Time::ZERO + Span::from_nanos(mix(u64::from(member)) % ttl.as_nanos().max(1));
        now < said.unwrap_or_else(|| if self.flushed { Time::ZERO } else { spread() })
    }

    /// Keeps an answer for this user.
    pub(super) fn keep(&mut self, now: Time, member: u32) {
        let Some(ttl) = self.cache else { return };
        let place = member as usize;
        if self.kept.len() <= place {
            self.kept.resize(place + 1, Time::ZERO);
        }
        self.kept[place] = now + ttl;
    }

    /// Forgets all that is kept.
    pub(super) fn flush(&mut self) {
        self.kept.clear();
        self.flushed = true;
    }
}

/// What the way of messages is like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Way {
    pub(super) lost_ppm: u32,
    pub(super) later: Span,
    /// How many partitions hold.
    pub(super) cuts: u32,
}

/// All links; which is each population's; and which are each service's, in the order of its calls.
pub(super) fn all(scenario: &Scenario, stations: &[Option<Station>]) -> (Vec<Link>, Vec<u32>, Vec<Vec<u32>>) {
    let mut links = Vec::new();
    let mut add = |link: Link| {
        links.push(link);
        links.len() as u32 - 1
    };
    let populations = scenario.clients.iter().map(|clients| {
        let station = stations[clients.calls].as_ref();
        let settings = call::Settings { budget: clients.budget, hedge: None };
        add(Link {
            from: clients.name.clone(),
            to: clients.calls as u32,
            route: station.map(|station| station.route(clients.route.as_deref())),
            deadline: clients.deadline,
            habit: habit(clients.retry, settings),
            optional: false,
            times: 1,
            share_ppm: 1_000_000,
            cache: None,
            kept: Vec::new(),
            flushed: false,
            way: Way::default(),
        })
    });
    let of_populations = populations.collect();
    let of_services = scenario.services.iter().map(|service| {
        let calls = service.model.callees().map(|call| {
            let to = scenario.service(&call.to).unwrap_or_default();
            let station = stations[to].as_ref();
            // Where Seawall stands in front, retrying is its own: one layer retries.
            let retry = if station.is_some() { model::ONCE } else { call.retry };
            add(Link {
                from: service.name.clone(),
                to: to as u32,
                route: station.map(|station| station.route(None)),
                deadline: call.deadline,
                habit: habit(retry, call::Settings { budget: None, hedge: None }),
                optional: call.optional,
                times: call.times,
                share_ppm: call.share_ppm,
                cache: call.cache,
                kept: Vec::new(),
                flushed: false,
                way: Way::default(),
            })
        });
        calls.collect()
    });
    let of_services = of_services.collect();
    (links, of_populations, of_services)
}

#[expect(clippy::arc_with_non_send_sync, reason = "core shares gates by Arc; a run has one thread")]
fn habit(config: call::Config, settings: call::Settings) -> Option<Habit> {
    if config.attempts == 1 && config.per_attempt.is_none() {
        return None;
    }
    let open = Gate::new(gate::Settings::default(), gate::Lane::default(), Time::ZERO);
    let shared = Cells::own(vec![Shared::new(settings, Time::ZERO)]);
    Some(Habit { config, heeds: settings.budget.is_some(), hosts: Hosts::new(vec![Arc::new(open)]), shared })
}
