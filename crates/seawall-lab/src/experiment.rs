//! An experiment: a scenario over many seeds and several configs, on the same arrivals.
//!
//! **Mechanics.** For each seed and config there is a control run without the trigger, a run with it,
//! and, if that stays down, one in which all clients stay away for a while. Seeds are played in
//! parallel, and their results are taken together in their order. Seeds are added, twenty at a time,
//! until every verdict is decided or there are [`SEEDS_CAP`].

use rayon::prelude::*;
use seawall_config::Config;
use seawall_core::rng::mix;
use seawall_core::time::{Span, Time};

use crate::contender::Contender;
use crate::outcomes::{Counts, Gauge, Latencies, MEASURED, Outcomes, Phases};
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
    tries: u64,
    calls: u64,
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

impl Total {
    fn add(&mut self, outcomes: &Outcomes, phases: &Phases) {
        self.runs += 1;
        self.rates.resize(outcomes.populations.len(), [[0.0; COUNTS.len()]; MEASURED.len()]);
        self.latencies.resize_with(outcomes.populations.len(), Default::default);
        self.loads.resize(outcomes.load.len(), [0.0; MEASURED.len()]);
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
            for (all, population) in self.latencies.iter_mut().zip(&outcomes.populations) {
                all[index].join(&population.latencies[index]);
            }
        }
        self.tries += outcomes.tries;
        self.calls += outcomes.calls();
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
        let index = MEASURED.iter().position(|measured| *measured == phase)?;
        let mut all = Latencies::default();
        for (place, latencies) in self.latencies.iter().enumerate() {
            if of.is_none_or(|of| of == place) {
                all.join(&latencies[index]);
            }
        }
        all.quantile(share)
    }

    /// Attempts for each call of a client.
    pub fn amplification(&self) -> f64 {
        self.tries as f64 / self.calls.max(1) as f64
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
            Quantity::Amplification => Some(total.amplification()),
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
}

struct Played {
    fate: Fate,
    control: Outcomes,
    run: Outcomes,
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
    let phases = Phases::of(scenario);
    let result = |contender: &Contender| ConfigResult {
        name: contender.name.clone(),
        fates: Vec::new(),
        run: Total::default(),
        control: Total::default(),
        goodput: Vec::new(),
        after: Vec::new(),
        gauges: Vec::new(),
        timeline: Vec::new(),
    };
    let mut results = Results {
        phases,
        seeds: Seeds { count: 0, ..seeds },
        fingerprint: 0,
        events: 0,
        configs: contenders.iter().map(result).collect(),
    };
    let mut wanted = seeds.count.max(1);
    loop {
        // Twenty at a time, so that what is kept of each run stays bounded.
        while results.seeds.count < wanted {
            let until = wanted.min(results.seeds.count + SEEDS_MORE);
            let batch: Vec<Vec<Played>> = (results.seeds.count..until)
                .into_par_iter()
                .map(|seed| {
                    let keep = if seed == 0 { Keep::Gauges } else { Keep::Counts };
                    let seed = seeds.first.wrapping_add(u64::from(seed));
                    let all = contenders
                        .iter()
                        .map(|contender| play(scenario, contender.config.as_ref(), phases, keep, seed));
                    let all = all.collect();
                    on_progress();
                    all
                })
                .collect();
            batch.into_iter().for_each(|seed| results.add(seed));
            results.seeds.count = until;
        }
        let open = |result: &ConfigResult| result.verdict().0 == Verdict::Inconclusive;
        if !seeds.adds || wanted >= SEEDS_CAP || !results.configs.iter().any(open) {
            return results;
        }
        wanted = (wanted + SEEDS_MORE).min(SEEDS_CAP);
    }
}

impl Results {
    fn add(&mut self, seed: Vec<Played>) {
        for (result, played) in self.configs.iter_mut().zip(seed) {
            self.fingerprint = mix(self.fingerprint ^ played.fingerprint);
            self.events += played.events;
            let Played { fate, control, mut run, .. } = played;
            result.fates.push(fate);
            result.control.add(&control, &self.phases);
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
                result.timeline =
                    (0..self.phases.end as usize).map(|second| in_second(&run, second)).collect();
            }
        }
    }
}

fn in_second(run: &Outcomes, second: usize) -> Counts {
    run.populations.iter().fold(Counts::default(), |sum, population| {
        let counts = population.seconds[second];
        Counts {
            offered: sum.offered + counts.offered,
            ok: sum.ok + counts.ok,
            degraded: sum.degraded + counts.degraded,
            failed: sum.failed + counts.failed,
            throttled: sum.throttled + counts.throttled,
            shed: sum.shed + counts.shed,
            abandoned: sum.abandoned + counts.abandoned,
        }
    })
}

/// Plays one seed with one config.
fn play(scenario: &Scenario, config: Option<&Config>, phases: Phases, keep: Keep, seed: u64) -> Played {
    let calm = Scenario { events: Vec::new(), ..scenario.clone() };
    let calm_play = Play { scenario: &calm, config, phases, release: None, keep: Keep::Counts };
    let control = world::run(calm_play, seed);
    let run = match scenario.events.is_empty() {
        false => world::run(Play { scenario, keep, ..calm_play }, seed),
        true => world::run(Play { keep, ..calm_play }, seed),
    };
    let mut fingerprint = 0;
    for outcomes in [&control, &run] {
        assert!(outcomes.is_conserved(), "seed {seed}: calls are lost or counted twice");
        fingerprint = mix(fingerprint ^ outcomes.fingerprint);
    }
    let mut events = control.events + run.events;
    let mut fate = fate(&control, &run, &phases);
    if fate == Fate::Metastable {
        // The same run goes on, but for a while nobody comes.
        let away = (scenario.end, scenario.end + RELEASE);
        let longer = Scenario { end: away.1 + RELEASED, ..scenario.clone() };
        let calm = Scenario { end: longer.end, ..calm.clone() };
        let release = Play { scenario: &longer, release: Some(away), ..calm_play };
        let released = world::run(release, seed);
        let reference = world::run(Play { scenario: &calm, ..calm_play }, seed);
        events += released.events + reference.events;
        let second = |time: Time| time.as_nanos() / 1_000_000_000;
        if recovery(&reference, &released, second(away.1) + 5, second(longer.end)).is_none() {
            fate = Fate::Broken;
        }
    }
    Played { fate, control, run, fingerprint, events }
}
