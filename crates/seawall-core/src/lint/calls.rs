//! Rules on deadlines, attempts, budgets and hedges.

use alloc::format;
use alloc::vec::Vec;

use crate::call::ATTEMPTS_MAX;
use crate::time::Span;

use super::{Composition, Finding, Hedge, Number, Percent, Retry, Rule, Severity, WHOLE};

/// Retries each second that a budget may pay for without successes, for each client: .1.
const FLOOR_PPM_MAX: u64 = 100_000;

pub(super) fn check(composition: &Composition, findings: &mut Vec<Finding>) {
    deadline(composition, findings);
    if let Some(retry) = &composition.retry {
        ranges(retry, findings);
    }
    if let Some(retry) = composition.retry.as_ref().filter(|retry| retry.attempts > 1) {
        attempts(composition, retry, findings);
        backoff(composition, retry, findings);
        budget(composition, retry, findings);
        layers(composition, retry, findings);
    }
    if let Some(hedge) = composition.hedge {
        hedged(composition, hedge, findings);
    }
}

fn deadline(composition: &Composition, findings: &mut Vec<Finding>) {
    let Some(deadline) = composition.deadline else {
        findings.push(Finding {
            rule: Rule::DeadlineMissing,
            severity: Severity::Error,
            happens: "a call without a deadline holds its place until the upstream answers, if ever".into(),
            change: "set `deadline`, to the longest that a user waits".into(),
        });
        return;
    };
    if let Some(grace) = composition.grace.filter(|grace| *grace < deadline) {
        findings.push(Finding {
            rule: Rule::DeadlinePastGrace,
            severity: Severity::Warning,
            happens: format!("a drain cuts off what takes longer than {grace}: the deadline is {deadline}"),
            change: format!("set `grace` to {deadline} at least, or lower the deadline"),
        });
    }
    let Some(service) = composition.model.map(|model| model.service) else { return };
    if deadline < service {
        findings.push(Finding {
            rule: Rule::DeadlineBelowService,
            severity: Severity::Error,
            happens: format!("most calls expire: they take {service}, the deadline is {deadline}"),
            change: format!("set `deadline` to several times {service}, such as {}", service.times(5)),
        });
    }
    let per_attempt = composition.retry.as_ref().and_then(Retry::timeout);
    if let Some(timeout) = per_attempt.filter(|timeout| *timeout < service) {
        findings.push(Finding {
            rule: Rule::TimeoutBelowService,
            severity: Severity::Error,
            happens: format!("most attempts are given up after {timeout}: a call takes {service}"),
            change: format!("raise `per_attempt` to several times {service}, or leave it out"),
        });
    }
}

/// What [`call::Config`](crate::call::Config) does not refuse.
fn ranges(retry: &Retry, findings: &mut Vec<Finding>) {
    if retry.per_attempt == Some(Span::ZERO) {
        findings.push(Finding {
            rule: Rule::TimeoutZero,
            severity: Severity::Error,
            happens: "every attempt is given up when it begins".into(),
            change: "set `per_attempt` to several times what a call takes, or leave it out".into(),
        });
    }
    let attempts = retry.attempts;
    if !(1..=ATTEMPTS_MAX).contains(&attempts) {
        let happens = match attempts {
            0 => "`attempts = 0` means 1: the first is always made".into(),
            _ => format!("each call may ask a dead upstream {attempts} times"),
        };
        findings.push(Finding {
            rule: Rule::AttemptsOutOfRange,
            severity: Severity::Warning,
            happens,
            change: format!("set `attempts` to 1 to {ATTEMPTS_MAX}"),
        });
    }
}

/// When each attempt begins if those before it time out.
fn begins(retry: &Retry, per_attempt: Span, wait: impl Fn(super::Wait) -> Span) -> Vec<Span> {
    let mut begin = Span::ZERO;
    let mut begins = Vec::from([begin]);
    for attempt in 1..retry.attempts as usize {
        begin += per_attempt + retry.waits.get(attempt - 1).copied().map_or(Span::ZERO, &wait);
        begins.push(begin);
    }
    begins
}

fn attempts(composition: &Composition, retry: &Retry, findings: &mut Vec<Finding>) {
    let (Some(deadline), Some(per_attempt)) = (composition.deadline, retry.timeout()) else { return };
    let usual = begins(retry, per_attempt, super::Wait::mean);
    let fit = usual.iter().filter(|begin| **begin < deadline).count();
    if fit == usual.len() {
        return;
    }
    let at_best = begins(retry, per_attempt, |wait| wait.least);
    let never = at_best.last().is_some_and(|begin| *begin >= deadline);
    let waits = usual[fit].minus(per_attempt.times(fit as u64));
    let room = Span::from_nanos(deadline.minus(waits).as_nanos() / (fit as u64 + 1));
    let less = if room == Span::ZERO {
        "shorten the backoff, or set".into()
    } else {
        format!("set `per_attempt` to at most {}, or", round(room))
    };
    findings.push(Finding {
        rule: Rule::AttemptsPastDeadline,
        severity: if never { Severity::Error } else { Severity::Warning },
        happens: format!(
            "when attempts time out, attempt {} would begin after {}, past the deadline of {deadline}: {fit} of {} are made",
            fit + 1,
            usual[fit],
            retry.attempts,
        ),
        change: format!(
            "{less} `attempts` to {fit}, or `deadline` above {}",
            usual[usual.len() - 1],
        ),
    });
}

/// Down to whole milliseconds, where there are any.
fn round(span: Span) -> Span {
    if span.as_millis() == 0 { span } else { Span::from_millis(span.as_millis()) }
}

fn backoff(composition: &Composition, retry: &Retry, findings: &mut Vec<Finding>) {
    let Some(first) = retry.waits.first() else { return };
    if let Some(deadline) = composition.deadline.filter(|deadline| first.mean() >= *deadline) {
        findings.push(Finding {
            rule: Rule::BackoffPastDeadline,
            severity: if first.least >= deadline { Severity::Error } else { Severity::Warning },
            happens: format!(
                "the wait before the first retry, {} on average, outlasts the deadline of {deadline}: no retry is made",
                first.mean(),
            ),
            change: format!("set the backoff's `base` below {}", round(deadline.scaled(0.1))),
        });
    } else if let Some(timeout) = retry.timeout().filter(|timeout| first.mean() > *timeout) {
        findings.push(Finding {
            rule: Rule::BackoffAboveTimeout,
            severity: Severity::Warning,
            happens: format!(
                "a call waits longer before a retry ({} on average) than it gives an attempt ({timeout})",
                first.mean(),
            ),
            change: format!("set the backoff's `base` to at most {timeout}, or raise `per_attempt`"),
        });
    }
}

fn budget(composition: &Composition, retry: &Retry, findings: &mut Vec<Finding>) {
    let amplified = match (composition.rate, composition.model) {
        (Some(rate), Some(model)) if rate * f64::from(retry.attempts) >= model.capacity() => format!(
            ", and {}/s can become {}/s against a capacity of {}/s: an overload that keeps itself going",
            Number(rate),
            Number(rate * f64::from(retry.attempts)),
            Number(model.capacity()),
        ),
        _ => ".".into(),
    };
    match composition.budget_ppm {
        None => findings.push(Finding {
            rule: Rule::RetryWithoutBudget,
            severity: Severity::Error,
            happens: format!(
                "in an outage the upstream gets {} times the load{}",
                retry.attempts,
                amplified.trim_end_matches('.')
            ),
            change: "set `budget`, such as 10 % (then it gets 1.0 times)".into(),
        }),
        Some(0) => findings.push(Finding {
            rule: Rule::BudgetZero,
            severity: Severity::Warning,
            happens: format!(
                "`attempts = {}` has no effect: a budget of 0 % pays for no retry",
                retry.attempts
            ),
            change: "set `budget` to 10 %, or `attempts` to 1".into(),
        }),
        Some(_) => {}
    }
    if composition.budget_ppm.is_some() && composition.budget_floor_ppm > FLOOR_PPM_MAX {
        let floor = composition.budget_floor_ppm as f64 / f64::from(WHOLE);
        findings.push(Finding {
            rule: Rule::BudgetFloor,
            severity: Severity::Error,
            happens: format!(
                "the floor of {}/s defeats the budget: in an outage a client of 1/s sends {} times its load",
                Number(floor),
                Number((1.0 + floor).min(f64::from(retry.attempts))),
            ),
            change: "set the floor to at most 0.1/s for each client".into(),
        });
    }
}

fn layers(composition: &Composition, retry: &Retry, findings: &mut Vec<Finding>) {
    let layers = composition.retrying_layers;
    if layers < 2 {
        return;
    }
    let of = |base: f64| libm::pow(base, f64::from(layers));
    let budgeted = composition.budget_ppm.map(|ppm| 1.0 + f64::from(ppm) / f64::from(WHOLE));
    let most = of(f64::from(retry.attempts));
    let (severity, happens) = match budgeted {
        Some(budgeted) => (
            Severity::Warning,
            format!(
                "{layers} layers retry: with a dead leaf up to {} times the load while the budgets last, {} after",
                Number(most),
                Number(of(budgeted)),
            ),
        ),
        None => (
            Severity::Error,
            format!("{layers} layers retry: a dead leaf gets {} times the load", Number(most)),
        ),
    };
    let change =
        "let one layer retry, the one next to the failure, and set `attempts` to 1 in the others".into();
    findings.push(Finding { rule: Rule::RetryLayers, severity, happens, change });
}

fn hedged(composition: &Composition, hedge: Hedge, findings: &mut Vec<Finding>) {
    if composition.budget_ppm.is_none() {
        findings.push(Finding {
            rule: Rule::HedgeWithoutBudget,
            severity: Severity::Error,
            happens: "when the upstream is slow every call is sent twice, which makes it slower".into(),
            change: "set `budget`, such as 10 %, which hedges share with retries".into(),
        });
    }
    if composition.hosts == 1 {
        findings.push(Finding {
            rule: Rule::HedgeAlone,
            severity: Severity::Advice,
            happens: "there is one host: what is slow there is sent there again, unless several stand behind its name"
                .into(),
            change: "add a host, or leave `hedge` out".into(),
        });
    }
    let Hedge::After(after) = hedge else { return };
    let per_attempt = composition.retry.as_ref().and_then(Retry::timeout);
    if let Some(deadline) = composition.deadline.filter(|deadline| after >= *deadline) {
        findings.push(Finding {
            rule: Rule::HedgePastDeadline,
            severity: Severity::Error,
            happens: format!("no call is hedged: it would be after {after}, the deadline is {deadline}"),
            change: format!("set `hedge.after` below {deadline}, best to \"p95\""),
        });
    } else if let Some(timeout) = per_attempt.filter(|timeout| after >= *timeout) {
        findings.push(Finding {
            rule: Rule::HedgePastTimeout,
            severity: Severity::Warning,
            happens: format!(
                "no call is hedged: an attempt is given up after {timeout}, a hedge waits {after}"
            ),
            change: format!("set `hedge.after` below {timeout}, best to \"p95\""),
        });
    }
    let (Some(model), Some(budget)) = (composition.model, composition.budget_ppm) else { return };
    // Exponential service: the share that is still under way after `after`.
    let share = libm::exp(-after.as_secs_f64() / model.service.as_secs_f64());
    let paid = f64::from(budget) / f64::from(WHOLE);
    if share > paid {
        let enough = model.service.scaled(-libm::log(paid.max(0.001)));
        findings.push(Finding {
            rule: Rule::HedgeTooEarly,
            severity: Severity::Warning,
            happens: format!(
                "about {} % of the calls are still under way after {after}, and the budget of {} is spent on ordinary ones",
                libm::round(share * 100.0),
                Percent(budget),
            ),
            change: format!("set `hedge.after` to at least {}, best to \"p95\"", round(enough)),
        });
    }
}
