//! What can be taken away from a scenario, and what could have been done.

use std::sync::Arc;

use seawall_config::Config;
use seawall_config::model::{self, Step, Users, Work};
use seawall_core::time::Span;

use crate::contender::Contender;
use crate::scenario::{Arrivals, Scenario, What};
use crate::telling;

/// A scenario that differs in one thing.
pub(super) struct Condition {
    pub(super) what: String,
    pub(super) scenario: Scenario,
    /// Another config, if that is the difference.
    pub(super) config: Option<Config>,
}

/// Conditions as they are found.
struct List<'a> {
    scenario: &'a Scenario,
    found: Vec<Condition>,
}

impl List<'_> {
    fn add(&mut self, what: impl Into<String>, change: impl FnOnce(&mut Scenario)) {
        let mut scenario = self.scenario.clone();
        change(&mut scenario);
        self.found.push(Condition { what: what.into(), scenario, config: None });
    }
}

/// The scenario without each of its conditions.
pub(super) fn removable(scenario: &Scenario, config: Option<&Config>) -> Vec<Condition> {
    let mut list = List { scenario, found: Vec::new() };
    for (place, event) in scenario.events.iter().enumerate() {
        let told = telling::event(scenario, event);
        // What is left keeps its time, so that the same seconds are compared.
        list.add(format!("the {told}"), |scenario| scenario.events[place].what = nothing(scenario, place));
    }
    of_clients(&mut list);
    for place in 0..scenario.services.len() {
        of_calls(&mut list, place, config.is_some());
        of_service(&mut list, place);
    }
    if let Some(delay) = &scenario.network {
        list.add(format!("the network's delay of {}", delay.mean()), |scenario| scenario.network = None);
    }
    list.found
}

/// An event that changes nothing.
fn nothing(scenario: &Scenario, place: usize) -> What {
    let service = match &scenario.events[place].what {
        What::Surge { clients, .. } => scenario.clients[*clients].calls,
        What::Crash { service, .. }
        | What::Slow { service, .. }
        | What::Errors { service, .. }
        | What::Pause { service, .. }
        | What::Capacity { service, .. }
        | What::Workers { service, .. }
        | What::Flush { service }
        | What::Block { service, .. }
        | What::Scale { service, .. } => *service,
        What::Loss { link, .. } | What::Latency { link, .. } | What::Partition { link } => link.to,
    };
    What::Slow { service, replicas: 0, factor: 1.0 }
}

fn of_clients(list: &mut List<'_>) {
    for (place, clients) in list.scenario.clients.iter().enumerate() {
        let name = &clients.name;
        if clients.retry.attempts > 1 {
            let times = clients.retry.attempts - 1;
            list.add(format!("the retries of {name} (up to {times})"), |scenario| {
                scenario.clients[place].retry.attempts = 1;
            });
        }
        if clients.deadline.is_some() || clients.retry.per_attempt.is_some() {
            list.add(format!("the impatience of {name}: it waits as long as it takes"), |scenario| {
                scenario.clients[place].deadline = None;
                scenario.clients[place].retry.per_attempt = None;
            });
        }
        if clients.users.zipf > 0.0 {
            list.add(format!("users of {name} that call more than others"), |scenario| {
                scenario.clients[place].users = Users { zipf: 0.0, ..clients.users };
            });
        }
        if list.scenario.clients.len() > 1 {
            list.add(format!("all calls of {name}"), |scenario| {
                let gone = Arrivals::Trace { file: "nobody".into(), at: Arc::new([]) };
                scenario.clients[place].arrivals = gone;
                let surges = scenario.events.iter().enumerate().filter(
                    |(_, event)| matches!(event.what, What::Surge { clients, .. } if clients == place),
                );
                let surges: Vec<usize> = surges.map(|(event, _)| event).collect();
                for event in surges {
                    scenario.events[event].what = nothing(scenario, event);
                }
            });
        }
    }
}

/// A service's calls; where Seawall stands in front of the callee, it retries instead of the caller.
fn of_calls(list: &mut List<'_>, place: usize, protected: bool) {
    let (name, model) = (&list.scenario.services[place].name, &list.scenario.services[place].model);
    let (name, model) = (name.clone(), model.clone());
    for (step, calls) in model.script.iter().enumerate() {
        let Step::Calls(calls) = calls else { continue };
        for (index, call) in calls.iter().enumerate() {
            let mut change = |what: String, change: fn(&mut model::Call)| {
                list.add(what, |scenario| {
                    if let Step::Calls(calls) = &mut scenario.services[place].model.script[step] {
                        change(&mut calls[index]);
                    }
                });
            };
            let to = &call.to;
            if call.retry.attempts > 1 && !protected {
                change(format!("the retries of {name} at {to}"), |call| call.retry.attempts = 1);
            }
            if call.deadline.is_some() || call.retry.per_attempt.is_some() {
                change(format!("the impatience of {name} with {to}"), |call| {
                    call.deadline = None;
                    call.retry.per_attempt = None;
                });
            }
            if call.optional {
                change(format!("the optional call of {name} to {to}"), |call| call.share_ppm = 0);
            }
            if call.cache.is_some() {
                change(format!("the reliance of {name} on a cache before {to}"), |call| call.cache = None);
            }
        }
    }
}

fn of_service(list: &mut List<'_>, place: usize) {
    let service = list.scenario.services[place].clone();
    let (name, model) = (&service.name, &service.model);
    let mut change = |what: String, change: &dyn Fn(&mut model::Service)| {
        list.add(what, |scenario| change(&mut scenario.services[place].model));
    };
    if let Some(workers) = model.workers
        && model.queue.is_none_or(|queue| queue > workers * 2)
    {
        let long =
            model.queue.map_or("a queue without an end".to_owned(), |queue| format!("a queue of {queue}"));
        change(format!("{long} at {name}: {} instead", workers * 2), &|model| {
            model.queue = Some(workers * 2)
        });
    }
    if model.slope > Span::ZERO {
        change(format!("what {name} takes longer for each request inside"), &|model| {
            model.slope = Span::ZERO
        });
    }
    if !matches!(model.time, Work::Constant(_)) {
        change(format!("the spread of the time that {name} takes"), &|model| {
            model.time = Work::Constant(model.time.mean());
        });
    }
    if model.failures_ppm > 0 {
        change(format!("the failures of {name}"), &|model| model.failures_ppm = 0);
    }
    if model.death.is_some() {
        change(format!("the death of {name} of too many requests"), &|model| model.death = None);
    }
    if model.liveness.is_some() {
        change(format!("restarts of {name} by its orchestrator"), &|model| model.liveness = None);
    }
    if model.gc.is_some() {
        change(format!("the pauses of {name}"), &|model| model.gc = None);
    }
    if model.cold.is_some() {
        change(format!("the cold starts of {name}"), &|model| model.cold = None);
    }
}

/// What could have been done about it.
pub(super) fn remedies(scenario: &Scenario, contender: &Contender, others: &[Contender]) -> Vec<Condition> {
    let mut list = List { scenario, found: Vec::new() };
    for other in others.iter().filter(|other| other.name != contender.name) {
        if let Some(config) = &other.config {
            let (what, config) = (format!("Seawall as in {}", other.name), Some(config.clone()));
            list.found.push(Condition { what, scenario: scenario.clone(), config });
        }
    }
    if scenario.services.iter().any(|service| service.model.workers.is_some()) {
        list.add("half as many workers again everywhere", |scenario| {
            for service in &mut scenario.services {
                service.model.workers = service.model.workers.map(|workers| workers + workers.div_ceil(2));
            }
        });
    }
    list.add("half of the load", |scenario| {
        for clients in &mut scenario.clients {
            match &mut clients.arrivals {
                Arrivals::Open(rate) | Arrivals::Even(rate) => *rate /= 2.0,
                Arrivals::Closed { users, .. } => *users = users.div_ceil(2),
                Arrivals::Trace { at, .. } => *at = at.iter().copied().step_by(2).collect(),
            }
        }
    });
    if scenario.clients.iter().any(|clients| clients.retry.attempts > 1 && clients.budget.is_none()) {
        list.add("a retry budget of 10 % in each client", |scenario| {
            for clients in &mut scenario.clients {
                clients.budget = clients.budget.or(Some(Default::default()));
            }
        });
    }
    list.found
}
