//! What happens in a scenario, in words.

use seawall_core::time::Span;

use crate::scenario::{Event, Link, Scenario, What};

/// An event in words: `surge of web ×2, for 5s`.
pub(crate) fn event(scenario: &Scenario, event: &Event) -> String {
    let service = |place: usize| scenario.services[place].name.as_str();
    let some = |place: usize, replicas: u32| {
        let of = &scenario.services[place];
        match of.replicas {
            all if replicas >= all => of.name.clone(),
            all => format!("{replicas} of {all} replicas of {}", of.name),
        }
    };
    let way = |link: &Link| match &link.from {
        Some(from) => format!("from {from} to {}", service(link.to)),
        None => format!("to {}", service(link.to)),
    };
    let what = match &event.what {
        What::Surge { clients, factor } => {
            format!("surge of {} ×{}", scenario.clients[*clients].name, short(*factor))
        }
        What::Crash { service, replicas } => format!("crash of {}", some(*service, *replicas)),
        What::Slow { service, replicas, factor } => {
            format!("{} slower ×{}", some(*service, *replicas), short(*factor))
        }
        What::Errors { service, replicas, share_ppm } => {
            format!("{} fails {}", some(*service, *replicas), percent(*share_ppm))
        }
        What::Pause { service, replicas } => format!("pause of {}", some(*service, *replicas)),
        What::Capacity { service: place, from, to } => {
            let rise = if from == to { String::new() } else { format!(" to {} %", short(to * 1e2)) };
            format!("capacity of {} at {} %{rise}", service(*place), short(from * 1e2))
        }
        What::Workers { service: place, count } => format!("{} with {count} workers", service(*place)),
        What::Loss { link, share_ppm } => format!("{} of messages {} lost", percent(*share_ppm), way(link)),
        What::Latency { link, add } => format!("messages {} later by {add}", way(link)),
        What::Partition { link } => format!("no message {} arrives", way(link)),
        What::Flush { service: place } => format!("caches of {} flushed", service(*place)),
        What::Block { service: place, .. } => format!("{} blocked by hand", service(*place)),
        What::Scale { service: place, add } => format!("{add} more replicas of {}", service(*place)),
    };
    match event.ends {
        Some(ends) => format!("{what}, for {}", span(ends.since(event.at))),
        None => what,
    }
}

fn span(span: Span) -> String {
    format!("{} s", short(span.as_secs_f64()))
}

/// Parts per million as a percentage.
pub(crate) fn percent(ppm: u32) -> String {
    format!("{} %", short(f64::from(ppm) / 1e4))
}

/// A number with at most two decimals.
pub(crate) fn short(number: f64) -> String {
    let rounded = libm::round(number * 100.0) / 100.0;
    format!("{rounded}")
}
