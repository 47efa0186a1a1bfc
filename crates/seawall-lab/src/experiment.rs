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
use crate::outcomes::{Counts, Gauge, Outcomes, Passed, Phases, Queueing};
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
    /// By phase and window, in the order of [`Phase::place`].
    spans: Vec<SpanTotal>,
    /// Answers in time by the tenth of a second, summed over runs, if an assertion asks for that.
    tenths: Vec<u64>,
    /// Where phases and windows lie, in seconds.
    bounds: Vec<(u64, u64)>,
    /// By service, from the end of the warm-up on.
    queues: Vec<Queueing>,
    /// Seconds for which that was measured, in all runs.
    measured_s: f64,
}

/// Runs over seeds in one phase or window, summed over runs.
#[derive(Clone, Debug, Default)]
struct SpanTotal {
    /// By population, counts a second in the order of [`COUNTS`].
    rates: Vec<[f64; COUNTS.len()]>,
    /// By population.
    latencies: Vec<Latencies>,
    /// By service, requests a second, and those that were refused without need.
    loads: Vec<[f64; 2]>,
    /// By service, Seawall's limit; NaN where it was not kept.
    limits: Vec<f64>,
    /// By link, counts a second in the order of [`PASSED`].
    edges: Vec<[f64; PASSED.len()]>,
    /// Attempts a second for calls of clients.
    tries: f64,
    /// The mean latency of each run.
    means: Vec<f64>,
}

impl SpanTotal {
    fn of(outcomes: &Outcomes, place: usize) -> SpanTotal {
        let (from, to) = outcomes.phases[place];
        let populations = || 0..outcomes.populations.len();
        let services = || 0..outcomes.load.len();
        let latencies: Vec<Latencies> =
            outcomes.populations.iter().map(|population| population.latencies[place].clone()).collect();
        let mut of_all = Latencies::default();
        latencies.iter().for_each(|latencies| of_all.join(latencies));
        SpanTotal {
            rates: populations()
                .map(|of| COUNTS.map(|(_, count)| outcomes.rate(Some(of), from, to, count)))
                .collect(),
            latencies,
            loads: services()
                .map(|of| [outcomes.load(Some(of), from, to), outcomes.needless(of, from, to)])
                .collect(),
            limits: services().map(|of| outcomes.limit(of, from, to).unwrap_or(f64::NAN)).collect(),
            edges: outcomes.edges.iter().map(|edge| PASSED.map(|count| edge.rate(from, to, count))).collect(),
            tries: outcomes.tries(from, to),
            means: of_all.mean().into_iter().collect(),
        }
    }

    fn join(&mut self, other: &SpanTotal) {
        add_each(&mut self.rates, &other.rates);
        add_each(&mut self.loads, &other.loads);
        add_each(&mut self.edges, &other.edges);
        self.limits.resize(other.limits.len(), 0.0);
        self.limits.iter_mut().zip(&other.limits).for_each(|(all, more)| *all += more);
        self.latencies.resize_with(other.latencies.len(), Latencies::default);
        self.latencies.iter_mut().zip(&other.latencies).for_each(|(all, more)| all.join(more));
        self.tries += other.tries;
        self.means.extend(&other.means);
    }
}

fn add_each<const N: usize>(all: &mut Vec<[f64; N]>, more: &[[f64; N]]) {
    all.resize(more.len(), [0.0; N]);
    all.as_flattened_mut().iter_mut().zip(more.as_flattened()).for_each(|(all, more)| *all += more);
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
        self.spans.resize_with(other.spans.len(), SpanTotal::default);
        self.spans.iter_mut().zip(&other.spans).for_each(|(all, more)| all.join(more));
        self.bounds.clone_from(&other.bounds);
        self.queues.resize_with(other.queues.len(), Queueing::default);
        self.queues.iter_mut().zip(&other.queues).for_each(|(all, more)| all.join(more));
        self.measured_s += other.measured_s;
        self.tenths.resize(other.tenths.len(), 0);
        self.tenths.iter_mut().zip(&other.tenths).for_each(|(all, more)| *all += more);
    }

    /// Adds a run.
    pub fn add(&mut self, outcomes: &Outcomes, phases: &Phases) {
        self.join(&Total {
            runs: 1,
            spans: (0..outcomes.phases.len()).map(|place| SpanTotal::of(outcomes, place)).collect(),
            tenths: outcomes.tenths.iter().copied().map(u64::from).collect(),
            bounds: outcomes.phases.clone(),
            queues: outcomes.queues.clone(),
            measured_s: (phases.end - phases.warm) as f64,
        });
    }

    fn span(&self, phase: Phase) -> Option<&SpanTotal> {
        self.spans.get(phase.place())
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / f64::from(self.runs.max(1))
    }

    /// The mean over runs of a count a second.
    pub fn rate(&self, quantity: Quantity, phase: Phase, of: Option<usize>) -> Option<f64> {
        let counted = COUNTS.iter().position(|(counted, _)| *counted == quantity)?;
        let rates = self.span(phase)?.rates.iter().map(|rates| rates[counted]);
        Some(self.mean(chosen(rates, of).sum()))
    }

    /// Requests a second that reached a service, or all.
    pub fn load(&self, phase: Phase, of: Option<usize>) -> Option<f64> {
        let loads = self.span(phase)?.loads.iter().map(|[load, _]| *load);
        Some(self.mean(chosen(loads, of).sum()))
    }

    /// Requests a second that Seawall refused while a worker of the service, or of one of them, was idle.
    pub fn needless(&self, phase: Phase, of: Option<usize>) -> Option<f64> {
        let refused = self.span(phase)?.loads.iter().map(|[_, needless]| *needless);
        Some(self.mean(chosen(refused, of).sum()))
    }

    /// Seawall's limit in front of a service on average, or of all together; `None` where it was not kept.
    pub fn limit(&self, phase: Phase, of: Option<usize>) -> Option<f64> {
        let limits = self.span(phase)?.limits.iter().copied();
        Some(self.mean(chosen(limits, of).sum())).filter(|limit| limit.is_finite())
    }

    /// Answers in time in the worst tenth of a second, as a rate; `None` where that was not counted.
    pub fn dip(&self, phase: Phase) -> Option<f64> {
        let (from, to) = *self.bounds.get(phase.place())?;
        let least = self.tenths.get(from as usize * 10..to as usize * 10)?.iter().min()?;
        Some(self.mean(*least as f64 * 10.0))
    }

    /// What this share of answers in time took at most, in seconds.
    pub fn latency(&self, share: f64, phase: Phase, of: Option<usize>) -> Option<f64> {
        self.latencies(phase, of).quantile(share)
    }

    /// The latencies of answers in time, of one population or all.
    pub fn latencies(&self, phase: Phase, of: Option<usize>) -> Latencies {
        let mut all = Latencies::default();
        let latencies = self.span(phase).map_or(&[][..], |span| &span.latencies);
        chosen(latencies.iter(), of).for_each(|latencies| all.join(latencies));
        all
    }

    /// The mean latency of answers in time, of each run that had any, in seconds.
    pub fn mean_latencies(&self, phase: Phase) -> &[f64] {
        self.span(phase).map_or(&[], |span| &span.means)
    }

    /// The queue of each service, and for how many seconds it was measured in all.
    pub fn queues(&self) -> (&[Queueing], f64) {
        (&self.queues, self.measured_s)
    }

    /// Attempts for each call of a client.
    pub fn amplification(&self, phase: Phase) -> Option<f64> {
        let calls = self.rate(Quantity::Offered, phase, None)?;
        (calls > 0.0).then(|| self.span(phase).map(|span| self.mean(span.tries) / calls))?
    }

    /// Calls over a link, by its place.
    pub fn flow(&self, link: usize, phase: Phase) -> Option<Flow> {
        let mean = self.span(phase)?.edges.get(link)?.map(|sum| self.mean(sum));
        let [made, attempts, answered, failed, refused, expired] = mean;
        Some(Flow { made, attempts, answered, failed, refused, expired })
    }
}

/// One of them, or all.
fn chosen<T>(all: impl Iterator<Item = T>, of: Option<usize>) -> impl Iterator<Item = T> {
    all.enumerate().filter(move |(place, _)| of.is_none_or(|of| of == *place)).map(|(_, value)| value)
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
            Quantity::Limit => total.limit(metric.phase, metric.of),
            Quantity::Needless => total.needless(metric.phase, metric.of),
            Quantity::Dip => total.dip(metric.phase),
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
    let limits = scenarios.iter().any(|scenario| scenario.asks_for(Quantity::Limit));
    let mut open: Vec<usize> = (0..scenarios.len()).collect();
    let mut played = 0;
    loop {
        // Twenty at a time, so that what is kept of each run stays bounded.
        while played < wanted {
            let until = wanted.min(played + SEEDS_MORE);
            let batch = (played..until).into_par_iter().map(|seed| {
                let keep = if seed == 0 || limits { Keep::Gauges } else { Keep::Counts };
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
