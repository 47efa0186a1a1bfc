//! An experiment: a scenario over many seeds and several configs, on the same arrivals.
//!
//! **Mechanics.** For each seed and config there is a control run without the trigger, a run with it,
//! and, if that stays down, one in which all clients stay away for a while. Seeds are played in
//! parallel, and their results are taken together in their order. Seeds are added, twenty at a time,
//! until every verdict is decided or there are [`SEEDS_CAP`]. Scenarios that differ only in what happens
//! share their control.

use rayon::prelude::*;
use seawall_config::Config;
use seawall_core::rng::mix;
use seawall_core::time::{Span, Time};

use crate::contender::Contender;
use crate::latencies::Latencies;
use crate::outcomes::{Counts, Gauge, MEASURED, Outcomes, Passed, Phases, Queueing};
use crate::scenario::{Metric, Phase, Quantity, Scenario};
use crate::verdict::{Fate, Verdict, fate, recovery, verdict};
use crate::world::{self, Keep, Play};

/// The most seeds that are added on the way to a verdict.
pub const SEEDS_CAP: u32 = 100;
/// Seeds that are added at a time.
const SEEDS_MORE: u32 = 20;
/// How long all clients stay away in a release run.
const RELEASE: Span = Span::from_secs(30);
/// How long a release run goes on after that.
const RELEASED: Span = Span::from_secs(60);

/// How many seeds, from which on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// Seeds to begin with, at least 1.
    pub count: u32,
    /// The first.
    pub first: u64,
    /// Whether seeds are added until the verdicts are decided.
    pub adds: bool,
}

/// One config over all seeds.
#[derive(Clone, Debug)]
pub struct ConfigResult {
    /// Its name.
    pub name: String,
    /// How each seed went.
    pub fates: Vec<Fate>,
    /// The runs with the trigger, taken together.
    pub run: Total,
    /// The runs without, taken together.
    pub control: Total,
    /// Answers in time a second, by the second, of each seed.
    pub goodput: Vec<Vec<u32>>,
    /// Answers in time a second after the trigger, of each seed.
    pub after: Vec<f64>,
    /// Each service once a second, in the first seed.
    pub gauges: Vec<Vec<Gauge>>,
    /// Calls in the first seed, by the second.
    pub timeline: Vec<Counts>,
    /// Requests that reached each service in the first seed, by the second.
    pub load: Vec<Vec<u32>>,
}

impl ConfigResult {
    fn new(name: &str) -> ConfigResult {
        ConfigResult {
            name: name.to_owned(),
            fates: Vec::new(),
            run: Total::default(),
            control: Total::default(),
            goodput: Vec::new(),
            after: Vec::new(),
            gauges: Vec::new(),
            timeline: Vec::new(),
            load: Vec::new(),
        }
    }
}

/// Runs over seeds, taken together.
#[derive(Clone, Debug, Default)]
pub struct Total {
    runs: u32,
    /// By population and phase, counts a second in the order of [`COUNTS`], summed over runs.
    rates: Vec<[[f64; COUNTS.len()]; MEASURED.len()]>,
    /// By service and phase, requests a second, summed over runs.
    loads: Vec<[f64; MEASURED.len()]>,
    latencies: Vec<[Latencies; MEASURED.len()]>,
    /// By link and phase, counts a second in the order of [`PASSED`], summed over runs.
    edges: Vec<[[f64; PASSED.len()]; MEASURED.len()]>,
    /// By phase, attempts a second for calls of clients, summed over runs.
    tries: [f64; MEASURED.len()],
    /// By phase, the mean latency of each run.
    means: [Vec<f64>; MEASURED.len()],
    /// By service, from the end of the warm-up on.
    queues: Vec<Queueing>,
    /// Seconds for which that was measured, in all runs.
    measured_s: f64,
}

type Count = fn(&Counts) -> u32;

/// What is counted by the second.
const COUNTS: [(Quantity, Count); 7] = [
    (Quantity::Offered, |counts| counts.offered),
    (Quantity::Goodput, |counts| counts.ok),
    (Quantity::Degraded, |counts| counts.degraded),
    (Quantity::Failed, |counts| counts.failed),
    (Quantity::Throttled, |counts| counts.throttled),
    (Quantity::Shed, |counts| counts.shed),
    (Quantity::Abandoned, |counts| counts.abandoned),
];

/// What is counted of each link.
const PASSED: [fn(&Passed) -> u32; 6] = [
    |passed| passed.made,
    |passed| passed.attempts,
    |passed| passed.answered,
    |passed| passed.failed,
    |passed| passed.refused,
    |passed| passed.expired,
];

/// Calls over a link in a phase, a second: the mean over runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// Begun.
    pub made: f64,
    /// Attempts of them that the caller sent.
    pub attempts: f64,
    /// Answered.
    pub answered: f64,
    /// Failed.
    pub failed: f64,
    /// Refused.
    pub refused: f64,
    /// Given up by the caller.
    pub expired: f64,
}

impl Total {
    /// Adds other runs of the same scenario.
    pub fn join(&mut self, other: &Total) {
        self.runs += other.runs;
        self.rates.resize(other.rates.len(), [[0.0; COUNTS.len()]; MEASURED.len()]);
        self.loads.resize(other.loads.len(), [0.0; MEASURED.len()]);
        self.latencies.resize_with(other.latencies.len(), Default::default);
        self.queues.resize_with(other.queues.len(), Queueing::default);
        self.edges.resize(other.edges.len(), [[0.0; PASSED.len()]; MEASURED.len()]);
        let rates = self.rates.as_flattened_mut().as_flattened_mut().iter_mut();
        rates.zip(other.rates.as_flattened().as_flattened()).for_each(|(all, more)| *all += more);
        let loads = self.loads.as_flattened_mut().iter_mut();
        loads.zip(other.loads.as_flattened()).for_each(|(all, more)| *all += more);
        let latencies = self.latencies.as_flattened_mut().iter_mut();
        latencies.zip(other.latencies.as_flattened()).for_each(|(all, more)| all.join(more));
        self.means.iter_mut().zip(&other.means).for_each(|(all, more)| all.extend(more));
        self.queues.iter_mut().zip(&other.queues).for_each(|(all, more)| all.join(more));
        self.measured_s += other.measured_s;
        let edges = self.edges.as_flattened_mut().as_flattened_mut().iter_mut();
        edges.zip(other.edges.as_flattened().as_flattened()).for_each(|(all, more)| *all += more);
        self.tries.iter_mut().zip(other.tries).for_each(|(all, more)| *all += more);
    }

    /// Adds a run.
    pub fn add(&mut self, outcomes: &Outcomes, phases: &Phases) {
        self.runs += 1;
        self.rates.resize(outcomes.populations.len(), [[0.0; COUNTS.len()]; MEASURED.len()]);
        self.latencies.resize_with(outcomes.populations.len(), Default::default);
        self.loads.resize(outcomes.load.len(), [0.0; MEASURED.len()]);
        self.edges.resize(outcomes.edges.len(), [[0.0; PASSED.len()]; MEASURED.len()]);
        for (index, phase) in MEASURED.into_iter().enumerate() {
            let (from, to) = phases.seconds(phase);
            for (place, rates) in self.rates.iter_mut().enumerate() {
                for (rate, (_, count)) in rates[index].iter_mut().zip(COUNTS) {
                    *rate += outcomes.rate(Some(place), from, to, count);
                }
            }
            for (place, loads) in self.loads.iter_mut().enumerate() {
                loads[index] += outcomes.load(Some(place), from, to);
            }
            for (edge, sums) in outcomes.edges.iter().zip(&mut self.edges) {
                for (sum, count) in sums[index].iter_mut().zip(PASSED) {
                    *sum += edge.rate(from, to, count);
                }
            }
            self.tries[index] += outcomes.tries(from, to);
            let mut of_all = Latencies::default();
            for (all, population) in self.latencies.iter_mut().zip(&outcomes.populations) {
                all[index].join(&population.latencies[index]);
                of_all.join(&population.latencies[index]);
            }
            self.means[index].extend(of_all.mean());
        }
        self.queues.resize_with(outcomes.queues.len(), Queueing::default);
        self.queues.iter_mut().zip(&outcomes.queues).for_each(|(all, queue)| all.join(queue));
        self.measured_s += (phases.end - phases.warm) as f64;
    }

    /// The mean over runs of a count a second.
    pub fn rate(&self, quantity: Quantity, phase: Phase, of: Option<usize>) -> Option<f64> {
        let index = MEASURED.iter().position(|measured| *measured == phase)?;
        let counted = COUNTS.iter().position(|(counted, _)| *counted == quantity)?;
        let chosen = self.rates.iter().enumerate().filter(|(place, _)| of.is_none_or(|of| of == *place));
        Some(chosen.map(|(_, rates)| rates[index][counted]).sum::<f64>() / f64::from(self.runs.max(1)))
    }

    /// Requests a second that reached a service, or all.
    pub fn load(&self, phase: Phase, of: Option<usize>) -> Option<f64> {
        let index = MEASURED.iter().position(|measured| *measured == phase)?;
        let chosen = self.loads.iter().enumerate().filter(|(place, _)| of.is_none_or(|of| of == *place));
        Some(chosen.map(|(_, loads)| loads[index]).sum::<f64>() / f64::from(self.runs.max(1)))
    }

    /// What this share of answers in time took at most, in seconds.
    pub fn latency(&self, share: f64, phase: Phase, of: Option<usize>) -> Option<f64> {
        self.latencies(phase, of).quantile(share)
    }

    /// The latencies of answers in time, of one population or all.
    pub fn latencies(&self, phase: Phase, of: Option<usize>) -> Latencies {
        let mut all = Latencies::default();
        let index = MEASURED.iter().position(|measured| *measured == phase);
        for (place, latencies) in self.latencies.iter().enumerate() {
            if of.is_none_or(|of| of == place) {
                index.iter().for_each(|index| all.join(&latencies[*index]));
            }
        }
        all
    }

    /// The mean latency of answers in time, of each run that had any, in seconds.
    pub fn mean_latencies(&self, phase: Phase) -> &[f64] {
        let index = MEASURED.iter().position(|measured| *measured == phase);
        index.map_or(&[], |index| &self.means[index])
    }

    /// The queue of each service, and for how many seconds it was measured in all.
    pub fn queues(&self) -> (&[Queueing], f64) {
        (&self.queues, self.measured_s)
    }

    /// Attempts for each call of a client.
    pub fn amplification(&self, phase: Phase) -> Option<f64> {
        let index = MEASURED.iter().position(|measured| *measured == phase)?;
        let calls = self.rate(Quantity::Offered, phase, None)? * f64::from(self.runs.max(1));
        (calls > 0.0).then(|| self.tries[index] / calls)
    }

    /// Calls over a link, by its place.
    pub fn flow(&self, link: usize, phase: Phase) -> Option<Flow> {
        let index = MEASURED.iter().position(|measured| *measured == phase)?;
        let mean = self.edges.get(link)?[index].map(|sum| sum / f64::from(self.runs.max(1)));
        let [made, attempts, answered, failed, refused, expired] = mean;
        Some(Flow { made, attempts, answered, failed, refused, expired })
    }
}

impl ConfigResult {
    /// The verdict, and the share of seeds that stay down.
    pub fn verdict(&self) -> (Verdict, crate::verdict::Interval) {
        verdict(&self.fates)
    }

    /// Seconds to recovery that so many hundredths of all seeds reach; `None` when they never do.
    pub fn recovery(&self, percent: usize) -> Option<u64> {
        let mut times: Vec<u64> = self.fates.iter().filter_map(|fate| fate.recovery()).collect();
        times.sort_unstable();
        let rank = (self.fates.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).copied()
    }

    /// What an assertion asks for.
    pub fn measured(&self, metric: &Metric) -> Option<f64> {
        let total = if metric.control { &self.control } else { &self.run };
        let latency = |share| total.latency(share, metric.phase, metric.of);
        match metric.quantity {
            Quantity::P50 => latency(0.5),
            Quantity::P95 => latency(0.95),
            Quantity::P99 => latency(0.99),
            Quantity::P999 => latency(0.999),
            Quantity::Load => total.load(metric.phase, metric.of),
            Quantity::Amplification => total.amplification(metric.phase),
            Quantity::Collapse => Some(self.verdict().1.estimate),
            Quantity::RecoveryP50 => self.recovery(50).map(|seconds| seconds as f64),
            Quantity::RecoveryP95 => self.recovery(95).map(|seconds| seconds as f64),
            Quantity::Verdict => {
                let verdict = self.verdict().0;
                Verdict::ALL.iter().position(|other| *other == verdict).map(|place| place as f64)
            }
            counted => total.rate(counted, metric.phase, metric.of),
        }
    }
}

/// All configs over all seeds.
#[derive(Clone, Debug)]
pub struct Results {
    /// How its time was divided.
    pub phases: Phases,
    /// The seeds that were played.
    pub seeds: Seeds,
    /// A hash over all events of all runs.
    pub fingerprint: u64,
    /// Events in all runs.
    pub events: u64,
    /// Each config, in the order given.
    pub configs: Vec<ConfigResult>,
    /// Who calls which service, by its place.
    pub links: Vec<(String, usize)>,
}

/// One seed of one scenario with one config.
pub(crate) struct Played {
    pub(crate) fate: Fate,
    pub(crate) run: Outcomes,
    fingerprint: u64,
    events: u64,
}

/// Plays a scenario with each config; `on_progress` is told of each seed that is done.
pub fn run(
    scenario: &Scenario,
    contenders: &[Contender],
    seeds: Seeds,
    on_progress: &(dyn Fn() + Sync),
) -> Results {
    let mut results = run_all(std::slice::from_ref(scenario), contenders, seeds, on_progress);
    results.pop().expect("a result for each scenario")
}

/// Plays scenarios that differ only in what happens, each with each config.
pub fn run_all(
    scenarios: &[Scenario],
    contenders: &[Contender],
    seeds: Seeds,
    on_progress: &(dyn Fn() + Sync),
) -> Vec<Results> {
    let mut all: Vec<Results> =
        scenarios.iter().map(|scenario| Results::new(scenario, contenders, seeds)).collect();
    let mut wanted = seeds.count.max(1);
    let mut open: Vec<usize> = (0..scenarios.len()).collect();
    let mut played = 0;
    loop {
        // Twenty at a time, so that what is kept of each run stays bounded.
        while played < wanted {
            let until = wanted.min(played + SEEDS_MORE);
            let batch = (played..until).into_par_iter().map(|seed| {
                let keep = if seed == 0 { Keep::Gauges } else { Keep::Counts };
                let seed = seeds.first.wrapping_add(u64::from(seed));
                let done = play_seed(scenarios, &open, contenders, keep, seed);
                on_progress();
                done
            });
            for (controls, runs) in batch.collect::<Vec<_>>() {
                for (place, run) in open.iter().zip(runs) {
                    all[*place].add(&controls, run);
                }
            }
            open.iter().for_each(|place| all[*place].seeds.count = until);
            played = until;
        }
        let undecided = |result: &ConfigResult| result.verdict().0 == Verdict::Inconclusive;
        open.retain(|place| all[*place].configs.iter().any(undecided));
        if !seeds.adds || wanted >= SEEDS_CAP || open.is_empty() {
            return all;
        }
        wanted = (wanted + SEEDS_MORE).min(SEEDS_CAP);
    }
}

/// One seed: the control of each config, and for each scenario its run with each config.
fn play_seed(
    scenarios: &[Scenario],
    open: &[usize],
    contenders: &[Contender],
    keep: Keep,
    seed: u64,
) -> (Vec<Outcomes>, Vec<Vec<Played>>) {
    let first = &scenarios[open[0]];
    let controls: Vec<Outcomes> =
        contenders.iter().map(|contender| control(first, contender.config.as_ref(), seed)).collect();
    let runs = open.iter().map(|place| {
        let with = contenders.iter().zip(&controls);
        with.map(|(contender, control)| {
            play(&scenarios[*place], contender.config.as_ref(), keep, seed, control)
        })
        .collect()
    });
    let runs = runs.collect();
    (controls, runs)
}

impl Results {
    fn new(scenario: &Scenario, contenders: &[Contender], seeds: Seeds) -> Results {
        Results {
            phases: Phases::of(scenario),
            seeds: Seeds { count: 0, ..seeds },
            fingerprint: 0,
            events: 0,
            configs: contenders.iter().map(|contender| ConfigResult::new(&contender.name)).collect(),
            links: Vec::new(),
        }
    }

    fn add(&mut self, controls: &[Outcomes], seed: Vec<Played>) {
        for ((result, control), played) in self.configs.iter_mut().zip(controls).zip(seed) {
            let Played { fate, mut run, fingerprint, events } = played;
            self.fingerprint = mix(self.fingerprint ^ fingerprint);
            self.events += events;
            if self.links.is_empty() {
                self.links = run.edges.iter().map(|edge| (edge.from.clone(), edge.to)).collect();
            }
            result.fates.push(fate);
            result.control.add(control, &self.phases);
            result.run.add(&run, &self.phases);
            let (from, to) = self.phases.seconds(Phase::After);
            result.after.push(run.served(from, to));
            let seconds = (0..self.phases.end as usize).map(|second| {
                let counts = run.populations.iter().map(|population| population.seconds[second]);
                counts.map(|counts| counts.ok + counts.degraded).sum()
            });
            result.goodput.push(seconds.collect());
            if result.fates.len() == 1 {
                result.gauges = std::mem::take(&mut run.gauges);
                result.timeline = (0..self.phases.end as usize).map(|second| run.in_second(second)).collect();
                result.load = std::mem::take(&mut run.load);
            }
        }
    }
}

/// Plays a scenario without what happens in it.
pub(crate) fn control(scenario: &Scenario, config: Option<&Config>, seed: u64) -> Outcomes {
    let calm = Scenario { events: Vec::new(), ..scenario.clone() };
    let phases = Phases::of(scenario);
    let outcomes =
        world::run(Play { scenario: &calm, config, phases, release: None, keep: Keep::Counts }, seed);
    assert!(outcomes.is_conserved(), "seed {seed}: calls are lost or counted twice");
    outcomes
}

/// Plays one seed with one config, against its control.
pub(crate) fn play(
    scenario: &Scenario,
    config: Option<&Config>,
    keep: Keep,
    seed: u64,
    control: &Outcomes,
) -> Played {
    let phases = Phases::of(scenario);
    let play = Play { scenario, config, phases, release: None, keep };
    let run = world::run(play, seed);
    assert!(run.is_conserved(), "seed {seed}: calls are lost or counted twice");
    let fingerprint = mix(mix(control.fingerprint) ^ run.fingerprint);
    let mut events = control.events + run.events;
    let mut fate = fate(control, &run, &phases);
    if fate == Fate::Metastable {
        // The same run goes on, but for a while nobody comes.
        let away = (scenario.end, scenario.end + RELEASE);
        let longer = Scenario { end: away.1 + RELEASED, ..scenario.clone() };
        let calm = Scenario { events: Vec::new(), ..longer.clone() };
        let play = Play { keep: Keep::Counts, ..play };
        let released = world::run(Play { scenario: &longer, release: Some(away), ..play }, seed);
        let reference = world::run(Play { scenario: &calm, ..play }, seed);
        events += released.events + reference.events;
        let second = |time: Time| time.as_nanos() / 1_000_000_000;
        if recovery(&reference, &released, second(away.1) + 5, second(longer.end)).is_none() {
            fate = Fate::Broken;
        }
    }
    Played { fate, run, fingerprint, events }
}
