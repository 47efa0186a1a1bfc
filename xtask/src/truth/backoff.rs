//! Clients that write optimistically: the comparison of jitters that AWS published in 2015.
//!
//! N clients begin at once. Each reads, writes, and begins again after a wait when somebody else wrote
//! in between. What lies between the read and the write is the way back of one and the way there of the
//! other: two delays of the network.

use std::path::PathBuf;
use std::sync::Arc;

use seawall_core::time::Time;
use seawall_lab::Phases;
use seawall_lab::scenario::Arrivals;
use seawall_lab::world::{self, Keep, Play};

use rayon::prelude::*;

use super::drawn::{Estimate, Experiment};
use super::table::{Table, number};

/// Means of a hundred runs.
const PUBLISHED: &str = include_str!("backoff.csv");
const RUNS: u64 = 400;

pub(super) fn rows(table: &mut Table) {
    table.section("Optimistic writers: calls within 1 %, time within 3 % or three errors");
    for line in PUBLISHED.lines().skip(1) {
        row(table, line);
    }
}

fn row(table: &mut Table, line: &str) {
    let cells: Vec<&str> = line.split(',').collect();
    let number_in = |column: usize| cells[column].parse::<f64>().expect("the file holds numbers");
    let (clients, name) = (number_in(0) as usize, format!("{} clients, {}", cells[0], cells[1]));
    if !table.wants(&name) || table.fast && clients > 10 {
        return;
    }
    // Their first wait is of the second window: 2 · 5 ms. Decorrelated waits have no windows.
    let backoff = match cells[1] {
        "None" => "kind = \"none\"",
        "Exponential" => "base = \"10ms\", jitter = \"none\"",
        "EqualJitter" => "base = \"10ms\", jitter = \"equal\"",
        "FullJitter" => "base = \"10ms\", jitter = \"full\"",
        _ => "base = \"5ms\", jitter = \"decorrelated\", clamp = true",
    };
    let mut experiment = Experiment::new(&format!(
        "[scenario]\nname = \"writers\"\nduration = \"200s\"\nwarmup = \"1s\"\n\
         network = {{ normal = {{ mean = \"10ms\", sd = \"2ms\" }} }}\n\
         [[clients]]\nname = \"all\"\nrate = \"1/s\"\ncalls = \"store\"\n\
         retry = {{ attempts = 1000, backoff = {{ {backoff} }} }}\n\
         [[service]]\nname = \"store\"\noptimistic = true\n\
         time = {{ normal = {{ mean = \"20ms\", sd = \"2828us\" }} }}\n"
    ));
    let at: Arc<[Time]> = vec![Time::ZERO; clients].into();
    experiment.scenario.clients[0].arrivals = Arrivals::Trace { file: PathBuf::new(), at };
    let scenario = &experiment.scenario;
    let phases = Phases::of(scenario);
    let runs: Vec<(f64, f64)> = (table.seed()..table.seed() + RUNS)
        .into_par_iter()
        .map(|seed| {
            let play = Play { scenario, config: None, phases, release: None, keep: Keep::Sojourns };
            let outcomes = world::run(play, seed);
            assert_eq!(outcomes.sojourns.len(), clients, "everybody writes in the end");
            let last = outcomes.sojourns.iter().max().copied().unwrap_or_default();
            let tries: u64 = outcomes.tries.iter().map(|tries| u64::from(*tries)).sum();
            (last.as_secs_f64() * 1e3, tries as f64)
        })
        .collect();
    let times = Estimate::of(&runs.iter().map(|run| run.0).collect::<Vec<_>>());
    let calls = Estimate::of(&runs.iter().map(|run| run.1).collect::<Vec<_>>());
    // Their standard errors are known: their spread over the root of their runs.
    let error = |column: usize| number_in(column) / number_in(2).sqrt();
    compare(table, &format!("{name} time"), number_in(3), times, 0.03, error(4));
    compare(table, &format!("{name} calls"), number_in(6), calls, 0.01, error(7));
}

fn compare(table: &mut Table, name: &str, published: f64, got: Estimate, share: f64, error: f64) {
    let tolerance = (share * published).max(3.0 * error.hypot(got.error));
    let cells = format!("{} ± {}", number(got.mean), number(got.error));
    table.row(name, &number(published), &cells, (got.mean - published).abs() <= tolerance);
}
