//! The report: a scenario over many seeds, naive and protected, as text or JSON.
//!
//! Both are views of one struct, and the same seeds give the same bytes. Seeds are added, twenty at
//! a time and up to [`SEEDS_MAX`], until the protected verdict is decided.

use std::fmt::Write as _;

use rayon::prelude::*;
use seawall_core::rng::mix;
use serde_json::{Value, json};

use crate::scenario::Scenario;
use crate::verdict::{Fate, Interval, Verdict, fate, verdict};
use crate::world::{self, Outcomes, Protection};

/// The most seeds that are added on the way to a verdict.
pub const SEEDS_MAX: u32 = 100;

/// How many seeds, from which on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Seeds to begin with, at least 1.
    pub seeds: u32,
    /// The first.
    pub first_seed: u64,
}

/// A configuration over all seeds.
#[derive(Clone, Debug)]
pub struct Config {
    /// `naive` or `protected`.
    pub name: &'static str,
    /// The verdict.
    pub verdict: Verdict,
    /// The share of seeds that stay down.
    pub collapse: Interval,
    /// In-deadline answers a second before, during and after the trigger, mean over seeds.
    pub goodput: [f64; 3],
    /// Attempts for each call.
    pub amplification: f64,
    /// Seconds until it was back, one for each seed that came back, sorted.
    pub recovery: Vec<u64>,
    /// How many seeds there are.
    pub seeds: u32,
}

/// A scenario's result.
#[derive(Clone, Debug)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// Seeds played, from `first_seed` on.
    pub seeds: u32,
    /// The first seed.
    pub first_seed: u64,
    /// A hash over all events of all runs.
    pub fingerprint: u64,
    /// Naive first, then protected.
    pub configs: Vec<Config>,
}

struct Seed {
    fates: [Fate; 2],
    runs: [Summary; 2],
    fingerprint: u64,
}

struct Summary {
    goodput: [f64; 3],
    attempts: u64,
    calls: u64,
}

/// Plays a scenario; `on_progress` is told how many seeds are done.
pub fn run(scenario: &Scenario, options: Options, on_progress: &(dyn Fn(u32) + Sync)) -> Report {
    let mut seeds: Vec<Seed> = Vec::new();
    let mut wanted = options.seeds.max(1);
    loop {
        let from = seeds.len() as u32;
        seeds.par_extend((from..wanted).into_par_iter().map(|seed| {
            let seed = play(scenario, options.first_seed.wrapping_add(u64::from(seed)));
            on_progress(1);
            seed
        }));
        let fates: Vec<Fate> = seeds.iter().map(|seed| seed.fates[1]).collect();
        if verdict(&fates).0 != Verdict::Inconclusive || wanted >= SEEDS_MAX {
            break;
        }
        wanted = (wanted + 20).min(SEEDS_MAX.max(options.seeds));
    }
    let fingerprint = seeds.iter().fold(0, |hash, seed| mix(hash ^ seed.fingerprint));
    let configs =
        ["naive", "protected"].into_iter().enumerate().map(|(index, name)| config(name, index, &seeds));
    Report {
        scenario: scenario.name.clone(),
        seeds: seeds.len() as u32,
        first_seed: options.first_seed,
        fingerprint,
        configs: configs.collect(),
    }
}

fn play(scenario: &Scenario, seed: u64) -> Seed {
    let end = scenario.seconds();
    let second = |time: seawall_core::time::Time| time.as_nanos() / 1_000_000_000;
    let (warmup, at) = (second(scenario.warmup), second(scenario.surge.at));
    let trigger_end = scenario.surge.end.as_nanos().div_ceil(1_000_000_000);
    let mut fingerprint = 0;
    let played = [Protection::default(), Scenario::protection()].map(|protection| {
        let control = world::run(&scenario.play(protection.clone(), None), seed);
        let run = world::run(&scenario.play(protection, Some(scenario.surge)), seed);
        for outcomes in [&control, &run] {
            assert!(outcomes.is_conserved(), "seed {seed}: calls are lost or counted twice");
            fingerprint = mix(fingerprint ^ outcomes.fingerprint);
        }
        let after = trigger_end + (end - trigger_end) / 2;
        let goodput = [run.goodput(warmup, at), run.goodput(at, trigger_end), run.goodput(after, end)];
        (fate(&control, &run, warmup, trigger_end, end), summary(&run, goodput))
    });
    let [(naive, naive_run), (protected, protected_run)] = played;
    Seed { fates: [naive, protected], runs: [naive_run, protected_run], fingerprint }
}

fn summary(run: &Outcomes, goodput: [f64; 3]) -> Summary {
    let calls = run.offered.iter().map(|count| u64::from(*count)).sum();
    Summary { goodput, attempts: run.attempts, calls }
}

fn config(name: &'static str, index: usize, seeds: &[Seed]) -> Config {
    let fates: Vec<Fate> = seeds.iter().map(|seed| seed.fates[index]).collect();
    let (verdict, collapse) = verdict(&fates);
    let mean = |of: &dyn Fn(&Summary) -> f64| {
        seeds.iter().map(|seed| of(&seed.runs[index])).sum::<f64>() / seeds.len() as f64
    };
    let mut recovery: Vec<u64> = fates
        .iter()
        .filter_map(|fate| match fate {
            Fate::Stable => Some(0),
            Fate::SlowRecovery(seconds) => Some(*seconds),
            Fate::Overloaded | Fate::Metastable => None,
        })
        .collect();
    recovery.sort_unstable();
    Config {
        name,
        verdict,
        collapse,
        goodput: [0, 1, 2].map(|phase| mean(&|run| run.goodput[phase])),
        amplification: mean(&|run| run.attempts as f64 / run.calls.max(1) as f64),
        recovery,
        seeds: seeds.len() as u32,
    }
}

impl Config {
    /// The recovery time that so many hundredths of all seeds reach; `None` when they never do.
    fn recovered(&self, percent: u32) -> Option<u64> {
        let rank = (self.seeds * percent).div_ceil(100).max(1) as usize;
        self.recovery.get(rank - 1).copied()
    }

    fn json(&self) -> Value {
        let [before, during, after] = self.goodput;
        let Interval { estimate, low, high } = self.collapse;
        json!({
            "name": self.name,
            "verdict": self.verdict.name(),
            "collapse": { "estimate": estimate, "low": low, "high": high, "seeds": self.seeds },
            "goodput": { "before": before, "during": during, "after": after },
            "amplification": self.amplification,
            "recovery_s": { "p50": self.recovered(50), "p95": self.recovered(95) },
            "assertions": [],
        })
    }
}

impl Report {
    /// As one JSON object.
    pub fn json(&self) -> String {
        let configs: Vec<Value> = self.configs.iter().map(Config::json).collect();
        let object = json!({
            "schema": 1,
            "scenario": self.scenario,
            "seeds": self.seeds,
            "fingerprint": format!("{:016x}", self.fingerprint),
            "configs": configs,
        });
        format!("{object:#}\n")
    }

    /// As text; the last line is the command that plays it again. `file` is the scenario's.
    pub fn text(&self, file: &str) -> String {
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| _ = writeln!(text, "{line}");
        line(format_args!("{}: {} seeds, fingerprint {:016x}", self.scenario, self.seeds, self.fingerprint));
        line(format_args!(""));
        line(format_args!(
            "{:10} {:13} {:>22}  {:>9} {:>9} {:>9}  {:>9}",
            "", "verdict", "stays down (95 %)", "before/s", "during/s", "after/s", "attempts"
        ));
        for config in &self.configs {
            let Interval { estimate, low, high } = config.collapse;
            let down = format!("{:.0} % ({:.0}–{:.0} %)", estimate * 1e2, low * 1e2, high * 1e2);
            let [before, during, after] = config.goodput;
            line(format_args!(
                "{:10} {:13} {down:>22}  {before:>9.1} {during:>9.1} {after:>9.1}  {:>8.2}×",
                config.name,
                config.verdict.name(),
                config.amplification,
            ));
        }
        line(format_args!(""));
        line(format_args!("goodput: answers in time, per second, before, during and after the trigger"));
        line(format_args!("seawall lab run {file} --seeds {} --seed {}", self.seeds, self.first_seed));
        text
    }

    /// 0 when the protected configuration is stable, 1 when it fails, 3 when the seeds do not tell.
    pub fn exit_code(&self) -> u8 {
        match self.configs.last().map(|config| config.verdict) {
            Some(Verdict::Stable) => 0,
            Some(Verdict::Inconclusive) | None => 3,
            Some(Verdict::Overloaded | Verdict::Metastable | Verdict::Vulnerable) => 1,
        }
    }
}

#[cfg(test)]
mod tests;
