//! The map of verdicts: how often a config stays down, by load and by the size of the trigger.
//!
//! **Edges.** A map is many experiments, so each of its cells has few seeds, and it has fewer cells where a run
//! is long: as many as `EVENTS_MAX` simulated events allow, which is the same on every machine. A trigger
//! without a size has one row.

use std::sync::Arc;

use rayon::prelude::*;

use crate::contender::Contender;
use crate::experiment::{Results, control, play};
use crate::margin::scaled;
use crate::scenario::{Arrivals, Scenario};
use crate::verdict::Fate;
use crate::world::Keep;

/// The most events that a map may take.
const EVENTS_MAX: f64 = 3e7;
/// Loads in times of the scenario's own, the most telling first.
const LOADS: [f64; 7] = [1.0, 0.75, 1.25, 0.5, 1.5, 0.9, 1.1];
/// Triggers in times of the scenario's own.
const TRIGGERS: [f64; 7] = [1.0, 0.5, 2.0, 0.25, 3.0, 0.75, 1.5];
/// The most seeds of a cell.
const SEEDS_MAX: u32 = 4;

/// What came of a load and a trigger.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// The share of seeds that stayed down.
    pub down: f64,
    /// Whether most fail without any trigger.
    pub overloaded: bool,
}

/// Verdicts by load and trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Loads, in times of the scenario's own, rising.
    pub loads: Vec<f64>,
    /// Triggers, in times of the scenario's own, rising.
    pub triggers: Vec<f64>,
    /// Seeds of each cell.
    pub seeds: u32,
    /// For each config, for each trigger, for each load.
    pub configs: Vec<Vec<Vec<Cell>>>,
}

/// The scenario at another load; `None` when its calls are recorded.
fn loaded(scenario: &Scenario, scale: f64) -> Option<Scenario> {
    let mut changed = scenario.clone();
    for clients in &mut changed.clients {
        match &mut clients.arrivals {
            Arrivals::Open(rate) | Arrivals::Even(rate) => *rate *= scale,
            Arrivals::Closed { users, .. } => *users = (libm::round(*users as f64 * scale) as u64).max(1),
            Arrivals::Trace { .. } => return None,
        }
    }
    Some(changed)
}

/// The map of an experiment; `None` where nothing happens or calls are recorded.
pub fn map(
    scenario: &Scenario,
    contenders: &[Contender],
    results: &Results,
    on_progress: &(dyn Fn() + Sync),
) -> Option<Map> {
    loaded(scenario, 1.0).filter(|scenario| !scenario.events.is_empty())?;
    let sizable = scaled(scenario, 1.0).is_some();
    let runs = f64::from(results.seeds.count.max(1)) * contenders.len().max(1) as f64;
    // Of each cell a control is shared with those of the same load.
    let cost = results.events as f64 / runs * contenders.len() as f64;
    let afford = EVENTS_MAX / cost.max(1.0);
    let side = |seeds: u32| {
        let cells = afford / f64::from(seeds);
        (3..=LOADS.len()).rev().find(|side| (side * if sizable { *side } else { 1 }) as f64 <= cells)
    };
    let (seeds, side) = (1..=SEEDS_MAX)
        .rev()
        .find_map(|seeds| side(seeds).filter(|side| *side >= 5 || seeds == 1).map(|side| (seeds, side)))
        .unwrap_or((1, 3));
    let rising = |all: &[f64]| {
        let mut some = all[..side].to_vec();
        some.sort_by(f64::total_cmp);
        some
    };
    let (loads, triggers) = (rising(&LOADS), if sizable { rising(&TRIGGERS) } else { vec![1.0] });
    let scenarios: Vec<Vec<Arc<Scenario>>> = (triggers.iter())
        .map(|trigger| {
            let at = |load: &f64| {
                let loaded = loaded(scenario, *load)?;
                Some(Arc::new(scaled(&loaded, *trigger).unwrap_or(loaded)))
            };
            loads.iter().map(at).collect::<Option<Vec<_>>>()
        })
        .collect::<Option<Vec<_>>>()?;
    let cell = |contender: &Contender, scenario: &Scenario| {
        let fates: Vec<Fate> = (0..seeds)
            .map(|seed| {
                let seed = results.seeds.first.wrapping_add(u64::from(seed));
                let config = contender.config.as_ref();
                let control = control(scenario, config, seed);
                play(scenario, config, Keep::Counts, seed, &control).fate
            })
            .collect();
        on_progress();
        let count = |holds: fn(&Fate) -> bool| fates.iter().filter(|fate| holds(fate)).count() as f64;
        Cell {
            down: count(|fate| fate.is_down()) / f64::from(seeds),
            overloaded: count(|fate| *fate == Fate::Overloaded) * 2.0 > f64::from(seeds),
        }
    };
    let of = |contender: &Contender| {
        let row =
            |row: &Vec<Arc<Scenario>>| row.par_iter().map(|scenario| cell(contender, scenario)).collect();
        scenarios.iter().map(row).collect()
    };
    let configs = contenders.iter().map(of).collect();
    Some(Map { loads, triggers, seeds, configs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{self, Seeds};

    /// A server that is 90 % busy, and clients that try again.
    const SMALL: &str = r#"
        [scenario]
        name = "small"
        duration = "30s"
        warmup = "5s"
        [[clients]]
        name = "web"
        rate = "18/s"
        calls = "api"
        deadline = "2s"
        retry = { attempts = 4, per_attempt = "500ms" }
        [[service]]
        name = "api"
        workers = 1
        time = { exponential = "50ms" }
        [[event]]
        at = "10s"
        for = "5s"
        surge = { clients = "web", factor = 3.0 }
    "#;

    fn found(text: &str) -> Option<Map> {
        let scenario = Scenario::from_toml(text, std::path::Path::new("small.toml")).unwrap();
        let contenders = [Contender::naive()];
        let seeds = Seeds { count: 1, first: 1, adds: false };
        let results = experiment::run(&scenario, &contenders, seeds, &|| {});
        map(&scenario, &contenders, &results, &|| {})
    }

    #[test]
    fn more_load_is_not_better() {
        let map = found(SMALL).unwrap();
        assert!(map.loads.is_sorted() && map.triggers.is_sorted());
        let rows = &map.configs[0];
        assert_eq!((rows.len(), rows[0].len()), (map.triggers.len(), map.loads.len()));
        assert_eq!(rows[0][0], Cell { down: 0.0, overloaded: false }, "half of the load, a small trigger");
        assert!(rows.iter().all(|row| row[row.len() - 1].overloaded), "135 % of what it can do");
        assert!(rows.iter().flatten().any(|cell| cell.down >= 0.5));
    }

    #[test]
    fn what_has_no_size_has_one_row_and_what_happens_not_has_no_map() {
        let flush =
            SMALL.replace("surge = { clients = \"web\", factor = 3.0 }", "flush = { service = \"api\" }");
        let flush = flush.replace("for = \"5s\"\n", "");
        assert_eq!(found(&flush).unwrap().triggers, [1.0]);
        assert_eq!(found(SMALL.split("[[event]]").next().unwrap()), None);
    }
}
