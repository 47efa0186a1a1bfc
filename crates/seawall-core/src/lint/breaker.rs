//! Rules on breakers, and on the way back from one.

use alloc::format;
use alloc::vec::Vec;

use crate::ramp;
use crate::time::Span;

use super::{Breaker, Composition, Finding, Number, Percent, Rule, Severity, WHOLE};

/// A ramp that lasts longer than this many times the pause before it is out of proportion.
const RAMP_OPENS_MAX: u64 = 60;

pub(super) fn check(composition: &Composition, findings: &mut Vec<Finding>) {
    if let Some(breaker) = &composition.breaker {
        trips(composition, breaker, findings);
        timing(composition, breaker, findings);
    }
    ramps(composition, findings);
}

/// Whether it can trip at all.
fn trips(composition: &Composition, breaker: &Breaker, findings: &mut Vec<Finding>) {
    let min_calls = breaker.min_calls;
    // A row of failures needs neither a window nor a share.
    let (severity, opens) = match breaker.consecutive {
        Some(row) => (Severity::Warning, format!("only a row of {row} failures opens the breaker")),
        None => (Severity::Error, "the breaker never opens".into()),
    };
    if let Some(window) = breaker.window_calls.filter(|window| min_calls > *window) {
        findings.push(Finding {
            rule: Rule::BreakerMinCallsAboveWindow,
            severity,
            happens: format!("{opens}: it needs {min_calls} calls and its window holds {window}"),
            change: format!("set `min_calls` to at most {window}"),
        });
    }
    if let (Some(window), Some(rate)) = (breaker.window, composition.rate) {
        let hosts = f64::from(composition.hosts.max(1));
        let calls = rate / hosts * window.as_secs_f64();
        if calls < f64::from(min_calls) {
            let enough = Span::from_secs_f64(libm::ceil(2.0 * f64::from(min_calls) * hosts / rate));
            findings.push(Finding {
                rule: Rule::BreakerTooFewCalls,
                severity,
                happens: format!(
                    "{opens}: at {}/s a host sees about {} calls in {window}, it needs {min_calls}",
                    Number(rate),
                    Number(calls),
                ),
                change: format!(
                    "set `min_calls` to at most {}, or `window` to at least {enough}",
                    libm::floor(calls / 2.0).max(1.0),
                ),
            });
        }
    }
    single_failure(composition, breaker, findings);
    if breaker.failure_rate_ppm >= WHOLE && breaker.consecutive.is_none() {
        findings.push(Finding {
            rule: Rule::BreakerTotalFailure,
            severity: Severity::Warning,
            happens: "one success in the window keeps the breaker closed, whatever else fails".into(),
            change: "set `failure_rate` to 50 %".into(),
        });
    }
    if let (Some(slow), Some(timeout)) = (breaker.slow, composition.timeout())
        && slow >= timeout
    {
        findings.push(Finding {
            rule: Rule::BreakerSlowNeverCounts,
            severity: Severity::Warning,
            happens: format!(
                "no call counts as slow: after {timeout} it has timed out, slow begins at {slow}"
            ),
            change: format!("set `slow` below {timeout}"),
        });
    }
}

/// Whether one failure among all the calls that it can look back on opens it.
fn single_failure(composition: &Composition, breaker: &Breaker, findings: &mut Vec<Finding>) {
    let calls = match (breaker.window_calls, breaker.window, composition.rate) {
        (Some(calls), _, _) => f64::from(calls),
        (None, Some(window), Some(rate)) => rate / f64::from(composition.hosts.max(1)) * window.as_secs_f64(),
        _ => return,
    };
    let one = f64::from(WHOLE) / calls;
    if calls >= f64::from(breaker.min_calls) && f64::from(breaker.failure_rate_ppm) <= one {
        findings.push(Finding {
            rule: Rule::BreakerSingleFailure,
            severity: Severity::Warning,
            happens: format!(
                "one failure opens the breaker: among the {} calls of its window it is {}, the rate is {}",
                Number(calls),
                Percent(one as u32),
                Percent(breaker.failure_rate_ppm),
            ),
            change: "set `failure_rate` to several times that, such as 50 %".into(),
        });
    }
}

fn timing(composition: &Composition, breaker: &Breaker, findings: &mut Vec<Finding>) {
    let Some(timeout) = composition.timeout() else { return };
    let Breaker { open, lease, .. } = *breaker;
    if open < timeout {
        findings.push(Finding {
            rule: Rule::BreakerOpenBelowTimeout,
            severity: Severity::Advice,
            happens: format!(
                "probes are sent {open} after the trip, while calls from before it may hold the host for {timeout}"
            ),
            change: format!("set `open` to at least {timeout}, or let calls time out sooner"),
        });
    }
    if lease < timeout {
        findings.push(Finding {
            rule: Rule::BreakerLeaseBelowTimeout,
            severity: Severity::Advice,
            happens: format!(
                "a probe is replaced after {lease} and may run for {timeout}: a slow host gets more probes than configured"
            ),
            change: format!("let calls time out within {lease}, or, in Rust, set `lease` to at least {timeout}"),
        });
    }
}

fn ramps(composition: &Composition, findings: &mut Vec<Finding>) {
    let ramp = composition.ramp;
    if ramp == Span::ZERO {
        return;
    }
    if let Some(open) = composition.breaker.map(|breaker| breaker.open)
        && ramp > open.times(RAMP_OPENS_MAX)
    {
        findings.push(Finding {
            rule: Rule::RampOutlastsOpen,
            severity: Severity::Warning,
            happens: format!(
                "a failure that opens the breaker for {open} costs a part of the traffic for another {ramp}"
            ),
            change: format!("set the ramp to at most {}", open.times(RAMP_OPENS_MAX)),
        });
    }
    let step = Span::from_nanos(ramp.as_nanos() / u64::from(ramp::STEPS));
    if let Some(service) = composition.model.map(|model| model.service).filter(|service| step < *service) {
        findings.push(Finding {
            rule: Rule::RampTooQuick,
            severity: Severity::Warning,
            happens: format!(
                "the ramp takes a step each {step} and a call takes {service}: the share grows before it was seen to be borne"
            ),
            change: format!("set the ramp to at least {}", service.times(u64::from(ramp::STEPS) * 3)),
        });
    }
}
