//! What was measured, for whoever compares it with a theory: counts a second and latencies by phase and
//! population, and the queue of each service.

use serde_json::{Map, Value, json};

use crate::Latencies;
use crate::experiment::{ConfigResult, Total};
use crate::scenario::{Phase, Quantity, Scenario};

const PHASES: [(&str, Phase); 4] =
    [("whole", Phase::Whole), ("before", Phase::Before), ("during", Phase::During), ("after", Phase::After)];

/// Shares of latencies and their names.
const SHARES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

/// Of all clients, by phase.
pub(super) fn phases(config: &ConfigResult) -> Value {
    let phases = PHASES.iter().map(|(name, phase)| {
        let mut measured = measured(&config.run, *phase, None);
        measured["latency_s"]["mean_se"] = json!(standard_error(config.run.mean_latencies(*phase)));
        ((*name).to_owned(), measured)
    });
    Value::Object(phases.collect())
}

/// Of each population, from the end of the warm-up on.
pub(super) fn clients(scenario: &Scenario, config: &ConfigResult) -> Value {
    let all = scenario.clients.iter().enumerate();
    let all =
        all.map(|(place, clients)| (clients.name.clone(), measured(&config.run, Phase::Whole, Some(place))));
    Value::Object(all.collect())
}

/// The queue of each service, from the end of the warm-up on.
pub(super) fn services(scenario: &Scenario, config: &ConfigResult) -> Value {
    let (queues, seconds) = config.run.queues();
    let all = scenario.services.iter().zip(queues).map(|(service, queue)| {
        let per_second = |count: f64| count / seconds.max(1.0);
        let share = |count: u64, of: u64| (of > 0).then(|| count as f64 / of as f64);
        let begun = queue.waits.count();
        let waiting = queue.waits.mean().unwrap_or_default() * begun as f64;
        let measured = json!({
            "load": per_second(queue.came as f64),
            "refused": share(queue.refused, queue.came),
            "left": share(queue.left, queue.came),
            "waited": share(queue.waited, begun),
            "wait_s": latencies(&queue.waits),
            "busy": per_second(queue.busy_s),
            "waiting": per_second(waiting),
        });
        (service.name.clone(), measured)
    });
    Value::Object(all.collect())
}

fn measured(total: &Total, phase: Phase, of: Option<usize>) -> Value {
    let counts = [
        ("offered", Quantity::Offered),
        ("goodput", Quantity::Goodput),
        ("degraded", Quantity::Degraded),
        ("failed", Quantity::Failed),
        ("throttled", Quantity::Throttled),
        ("shed", Quantity::Shed),
        ("abandoned", Quantity::Abandoned),
    ];
    let counts =
        counts.iter().map(|(name, count)| ((*name).to_owned(), json!(total.rate(*count, phase, of))));
    let mut measured: Map<String, Value> = counts.collect();
    measured.insert("latency_s".to_owned(), latencies(&total.latencies(phase, of)));
    Value::Object(measured)
}

fn latencies(of: &Latencies) -> Value {
    let shares = SHARES.iter().map(|(name, share)| ((*name).to_owned(), json!(of.quantile(*share))));
    let mut all: Map<String, Value> = shares.collect();
    all.insert("mean".to_owned(), json!(of.mean()));
    Value::Object(all)
}

/// That of the mean over runs; `None` with fewer than two.
fn standard_error(means: &[f64]) -> Option<f64> {
    let count = means.len() as f64;
    let mean = means.iter().sum::<f64>() / count;
    let square: f64 = means.iter().map(|other| (other - mean) * (other - mean)).sum();
    (means.len() > 1).then(|| libm::sqrt(square / (count - 1.0) / count))
}
