//! Rules on limits, queues, shedding, quotas, fallbacks and shadow.

use alloc::format;
use alloc::vec::Vec;

use crate::time::Span;

use super::{Ceiling, Composition, Fallback, Finding, Model, Number, Quota, Rule, Scope, Severity};

pub(super) fn check(composition: &Composition, findings: &mut Vec<Finding>) {
    if let Some(model) = composition.model {
        queues(composition, model, findings);
        limits(composition, model, findings);
    }
    shed(composition, findings);
    quotas(composition, findings);
    bursts(composition, findings);
    fallbacks(composition, findings);
    let guards = composition.guards;
    if guards.configured > 0 && guards.shadowed >= guards.configured {
        findings.push(Finding {
            rule: Rule::ShadowEverything,
            severity: Severity::Warning,
            happens: "nothing protects this route: every policy decides and counts, but lets through".into(),
            change: "take at least `limit` and `shed` out of `shadow` once their counts look right".into(),
        });
    }
}

/// The longest queue that still answers in time: ½·μ·T.
fn longest(model: Model, deadline: Span) -> f64 {
    libm::floor(0.5 * model.capacity() * deadline.as_secs_f64())
}

fn queues(composition: &Composition, model: Model, findings: &mut Vec<Finding>) {
    let Some(deadline) = composition.deadline else { return };
    let longest = longest(model, deadline);
    let too_late = |places: u32| {
        let wait = Span::from_secs_f64(f64::from(places) / model.capacity());
        format!("whoever joins its end waits {wait} of a deadline of {deadline}, and is answered too late")
    };
    // A queue that is shed by its delay in time does not grow that long.
    let stands = composition.shed.is_none_or(|target| target >= deadline);
    if composition.limit.is_some() && stands && f64::from(composition.queue) > longest {
        let shed = if composition.shed.is_some() { "lower `queue_delay`" } else { "turn `shed` on" };
        findings.push(Finding {
            rule: Rule::QueuePastDeadline,
            severity: Severity::Error,
            happens: format!(
                "under overload the queue of {} is full: {}",
                composition.queue,
                too_late(composition.queue)
            ),
            change: format!(
                "set `queue` to at most {longest} (half of what drains in a deadline), or {shed}"
            ),
        });
    }
    if let Some(Ceiling::Fixed(max)) = composition.limit {
        let inside = max.saturating_sub(model.workers);
        if f64::from(inside) > longest {
            findings.push(Finding {
                rule: Rule::LimitPastDeadline,
                severity: Severity::Error,
                happens: format!(
                    "a limit of {max} lets {inside} calls queue inside an upstream of {} workers: {}",
                    model.workers,
                    too_late(inside),
                ),
                change: format!(
                    "set `max` to about {} and let the rest wait in `queue`, or set `adaptive`",
                    model.workers.saturating_add(model.workers / 8).max(1),
                ),
            });
        }
    }
}

fn limits(composition: &Composition, model: Model, findings: &mut Vec<Finding>) {
    let Some(max) = composition.limit.map(Ceiling::max) else { return };
    let needed = composition.rate.map_or(0.0, |rate| libm::ceil(rate * model.service.as_secs_f64()));
    if f64::from(max) < needed {
        findings.push(Finding {
            rule: Rule::LimitBelowLoad,
            severity: Severity::Error,
            happens: format!(
                "{}/s of {} each keep {needed} calls in flight; a limit of {max} refuses the rest at every load",
                Number(composition.rate.unwrap_or(0.0)),
                model.service,
            ),
            change: format!("set `max` to at least {}", libm::ceil(needed * 1.5)),
        });
    } else if max < model.workers {
        findings.push(Finding {
            rule: Rule::LimitBelowWorkers,
            severity: Severity::Warning,
            happens: format!(
                "{} of {} workers stay idle while others are refused",
                model.workers - max,
                model.workers
            ),
            change: format!("set `max` to at least {}", model.workers),
        });
    }
}

fn shed(composition: &Composition, findings: &mut Vec<Finding>) {
    let Some(target) = composition.shed else { return };
    if composition.limit.is_none() {
        if composition.shed_guards == 0 {
            findings.push(Finding {
                rule: Rule::ShedWithoutQueue,
                severity: Severity::Error,
                happens:
                    "nothing is ever shed: there is neither a limit, whose queue could be long, nor a guard"
                        .into(),
                change: "set `limit`, or a guard of `shed`, such as `cpu`".into(),
            });
        }
        return;
    }
    let Some(deadline) = composition.deadline else { return };
    if target.times(2) < deadline {
        return;
    }
    findings.push(Finding {
        rule: Rule::ShedPastDeadline,
        severity: if target >= deadline { Severity::Error } else { Severity::Warning },
        happens: format!(
            "a request may wait {target} in the queue (twice that if it is `critical_plus`) of a deadline of {deadline}: \
             it is answered too late before anything is shed"
        ),
        change: format!("set `queue_delay` to at most {}", Span::from_millis((deadline.as_millis() / 10).max(1))),
    });
}

fn quotas(composition: &Composition, findings: &mut Vec<Finding>) {
    for (place, quota) in composition.throttles.iter().enumerate() {
        let cost = composition.cost.max(1);
        if quota.burst < cost {
            findings.push(Finding {
                rule: Rule::BurstBelowCost,
                severity: Severity::Error,
                happens: format!("a request of cost {cost} can never pass a quota of burst {}", quota.burst),
                change: format!("set `burst` to at least {cost}"),
            });
        }
        let others = composition.throttles.iter().enumerate().filter(|(other, _)| *other != place);
        // Of two equal ones, the later is the one too many.
        let tighter = |(other, rule): &(usize, &Quota)| {
            binds_before(rule, quota) && !(binds_before(quota, rule) && *other > place)
        };
        if let Some((_, tighter)) = others.into_iter().find(tighter) {
            findings.push(never_binds(quota, tighter));
        }
    }
}

/// Whether whatever `other` lets through, `quota` would refuse first.
fn binds_before(quota: &Quota, other: &Quota) -> bool {
    // Rates are compared across the periods: a/p ≤ b/q exactly when a·q ≤ b·p.
    let [a, p] = [quota.count, quota.per.as_nanos()].map(u128::from);
    let [b, q] = [other.count, other.per.as_nanos()].map(u128::from);
    quota.scope.covers(other.scope) && quota.burst <= other.burst && a * q <= b * p
}

fn never_binds(quota: &Quota, tighter: &Quota) -> Finding {
    let text = |quota: &Quota| format!("{}/s with burst {}", Number(quota.per_second()), quota.burst);
    let (happens, change) = if quota.scope == tighter.scope {
        let change = format!(
            "remove it, or set the other's `burst` above {} so that each limits something of its own",
            quota.burst
        );
        (
            format!("the quota of {} never refuses: {} is always spent first", text(quota), text(tighter)),
            change,
        )
    } else {
        let (one, own) = match (quota.scope, tighter.scope) {
            (Scope::User, Scope::Everywhere) => ("route", "the route's own for each user"),
            (Scope::Route, _) => ("route", "the route's own"),
            _ => ("user", "the user's own"),
        };
        let whole = match tighter.scope {
            Scope::User | Scope::Route => "the route's quota",
            Scope::Everywhere => "a user's quota over all routes",
            Scope::Gateway => "the quota of all routes",
        };
        let happens = format!(
            "one {one} alone may spend {whole} of {}: {own} of {} never refuses",
            text(tighter),
            text(quota),
        );
        (happens, format!("set {own} to a part of {whole}"))
    };
    Finding { rule: Rule::QuotaNeverBinds, severity: Severity::Warning, happens, change }
}

fn bursts(composition: &Composition, findings: &mut Vec<Finding>) {
    let Some(max) = composition.limit.map(Ceiling::max) else { return };
    let room = u64::from(max) + u64::from(composition.queue);
    // What all routes share is no matter of this one's room.
    let own = composition.throttles.iter().filter(|quota| !quota.scope.is_shared());
    let Some(burst) = own.map(|quota| quota.burst).min() else { return };
    if burst > room {
        findings.push(Finding {
            rule: Rule::BurstAboveLimit,
            severity: Severity::Warning,
            happens: format!(
                "a burst of {burst} within the quota does not fit: {max} in flight and {} waiting, the rest is refused as full",
                composition.queue,
            ),
            change: format!("set `burst` to at most {room}, so that the rest is told its quota, or make room"),
        });
    }
}

fn fallbacks(composition: &Composition, findings: &mut Vec<Finding>) {
    if composition.fallback.contains(&Fallback::Stale(None)) {
        findings.push(Finding {
            rule: Rule::StaleUnbounded,
            severity: Severity::Warning,
            happens: "an outage is hidden for as long as answers are kept: users see data of any age".into(),
            change: "set `stale` to the oldest that is still worth more than an error, such as 5m".into(),
        });
    }
    if composition.fallback.contains(&Fallback::SameUpstream) {
        findings.push(Finding {
            rule: Rule::FallbackToItself,
            severity: Severity::Error,
            happens: "the fallback asks the upstream that has just failed: a retry that no budget pays for"
                .into(),
            change: "name another upstream, or raise `attempts`".into(),
        });
    }
}
