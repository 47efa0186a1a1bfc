//! What came of a run: counts by the second, latencies by phase, and where every call and attempt went.

use seawall_core::rng::mix;
use seawall_core::time::{Span, Time};

use crate::decisions::{Decided, Decision};
use crate::latencies::Latencies;
use crate::scenario::{PHASES, Phase, Quantity, Scenario};

/// What became of calls in one second: of their beginning for those offered, of their end for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Begun.
    pub offered: u32,
    /// Answered in time, and in full.
    pub ok: u32,
    /// Answered in time, with less than was asked for.
    pub degraded: u32,
    /// Failed.
    pub failed: u32,
    /// Refused for want of quota.
    pub throttled: u32,
    /// Refused for want of capacity.
    pub shed: u32,
    /// The client gave up waiting.
    pub abandoned: u32,
}

impl Counts {
    pub(crate) fn ended(&self) -> u64 {
        let ends = [self.ok, self.degraded, self.failed, self.throttled, self.shed, self.abandoned];
        ends.iter().map(|count| u64::from(*count)).sum()
    }
}

/// Where attempts went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Sent.
    pub sent: u64,
    /// Ended with an answer, whether or not anybody still waited for it.
    pub answered: u64,
    /// Ended with a failure.
    pub failed: u64,
    /// Refused.
    pub refused: u64,
    /// Given up before Seawall had an answer.
    pub withdrawn: u64,
    /// Lost on the way there.
    pub lost: u64,
    /// Under way at the end.
    pub in_flight: u64,
}

/// The parts of a run, in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases {
    /// The end of the warm-up.
    pub warm: u64,
    /// The beginning of the trigger.
    pub begins: u64,
    /// Its end, rounded up.
    pub ends: u64,
    /// From when on it counts as after.
    pub settled: u64,
    /// The end.
    pub end: u64,
}

impl Phases {
    /// Those of a scenario; without events all of it is before, during and after.
    pub fn of(scenario: &Scenario) -> Phases {
        let second = |time: Time| time.as_nanos() / 1_000_000_000;
        let end = second(scenario.end);
        let warm = scenario.warmup.as_secs_ceil().min(end.saturating_sub(1));
        match scenario.trigger() {
            None => Phases { warm, begins: warm, ends: end, settled: warm, end },
            Some((begins, ends)) => {
                let ends = ends.since(Time::ZERO).as_secs_ceil().max(second(begins) + 1).min(end);
                Phases { warm, begins: second(begins), ends, settled: ends + (end - ends) / 2, end }
            }
        }
    }

    /// The seconds of a phase.
    pub fn seconds(&self, phase: Phase) -> (u64, u64) {
        match phase {
            Phase::Before if self.begins > self.warm => (self.warm, self.begins),
            Phase::Before => (self.warm, self.end),
            Phase::During => (self.begins, self.ends),
            Phase::After => (self.settled, self.end),
            Phase::Whole => (self.warm, self.end),
            // Where it lies only the scenario knows.
            Phase::Window(_) => (self.end, self.end),
        }
    }

    /// The seconds of all that is measured, in the order of [`Phase::place`].
    fn measured(&self, scenario: &Scenario) -> Vec<(u64, u64)> {
        let phases = PHASES.iter().map(|(_, phase)| self.seconds(*phase));
        let windows =
            scenario.windows.iter().map(|window| (window.from.min(self.end), window.to.min(self.end)));
        phases.chain(windows).collect()
    }
}

/// What a run is made of that changes slowly, once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Gauge {
    /// Requests in the replicas.
    pub inside: u32,
    /// Requests that wait in front of them, in Seawall.
    pub waiting: u32,
    /// Seawall's limit; 0 for none.
    pub limit: u32,
    /// Replicas that are up.
    pub up: u32,
    /// Replicas that Seawall calls.
    pub usable: u32,
}

/// What came of one population.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Population {
    /// By the second.
    pub seconds: Vec<Counts>,
    /// Of answers in time, by [`Phase`] in the order before, during, after, whole, and windows.
    pub latencies: Vec<Latencies>,
    /// Under way at the end.
    pub in_flight: u64,
}

/// What became of the calls over a link in one second: of their beginning for those made and attempted,
/// of their end for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Calls begun.
    pub made: u32,
    /// Attempts of them that the caller sent.
    pub attempts: u32,
    /// Answered, in full or with less.
    pub answered: u32,
    /// Failed.
    pub failed: u32,
    /// Refused for want of quota or capacity.
    pub refused: u32,
    /// Given up by the caller, who waited as long as it would.
    pub expired: u32,
}

/// From a caller to a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edge {
    /// The clients or the service that calls.
    pub from: String,
    /// The service that is called, by its place.
    pub to: usize,
    /// By the second.
    pub seconds: Vec<Passed>,
    /// Under way at the end.
    pub in_flight: u64,
}

impl Edge {
    pub(crate) fn new(from: &str, to: u32, seconds: usize) -> Edge {
        Edge {
            from: from.to_owned(),
            to: to as usize,
            seconds: vec![Passed::default(); seconds],
            in_flight: 0,
        }
    }

    /// A count a second, over the seconds from `from` to `to`.
    pub fn rate(&self, from: u64, to: u64, count: fn(&Passed) -> u32) -> f64 {
        mean(self.seconds.iter().map(count), from, to)
    }

    fn is_conserved(&self) -> bool {
        let made: u64 = self.seconds.iter().map(|passed| u64::from(passed.made)).sum();
        let ended = |passed: &Passed| {
            [passed.answered, passed.failed, passed.refused, passed.expired]
                .map(u64::from)
                .iter()
                .sum::<u64>()
        };
        made == self.seconds.iter().map(ended).sum::<u64>() + self.in_flight
    }
}

/// What happened in the queue of a service, from the end of the warm-up on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queueing {
    /// Requests that came.
    pub came: u64,
    /// Of these, those that found no place.
    pub refused: u64,
    /// And those that left before a worker was free.
    pub left: u64,
    /// How long those that were begun had waited for a worker, and those that left until then.
    pub waits: Latencies,
    /// How many of them had waited at all.
    pub waited: u64,
    /// The time that workers were busy, summed over them, in seconds.
    pub busy_s: f64,
}

impl Queueing {
    /// Adds that of another run.
    pub fn join(&mut self, other: &Queueing) {
        self.came += other.came;
        self.refused += other.refused;
        self.left += other.left;
        self.waits.join(&other.waits);
        self.waited += other.waited;
        self.busy_s += other.busy_s;
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcomes {
    /// Each population, in the order of the scenario.
    pub populations: Vec<Population>,
    /// Requests that reached each service, by the second.
    pub load: Vec<Vec<u32>>,
    /// Requests that Seawall refused for want of capacity while a worker of the service was idle, by the
    /// second.
    pub needless: Vec<Vec<u32>>,
    /// Answers in time by the tenth of a second, if an assertion asks for that.
    pub tenths: Vec<u32>,
    /// The queue of each service.
    pub queues: Vec<Queueing>,
    /// Each service once a second, if that was asked for.
    pub gauges: Vec<Vec<Gauge>>,
    /// Where attempts went.
    pub attempts: Attempts,
    /// Attempts made for calls of clients, by themselves and by Seawall in front of what they call, by the
    /// second.
    pub tries: Vec<u32>,
    /// What became of the calls over each link: those of populations first, in their order.
    pub edges: Vec<Edge>,
    /// Sojourn times of answers in time, in their order, if they were asked for.
    pub sojourns: Vec<Span>,
    /// What Seawall decided, if that was asked for.
    pub decisions: Vec<Decision>,
    /// A hash over all events.
    pub fingerprint: u64,
    /// Events.
    pub events: u64,
    pub(crate) phases: Vec<(u64, u64)>,
    /// Whether decisions are noted.
    pub(crate) notes: bool,
    /// Where phases begin and end, in order: no phase begins or ends inside the parts between them.
    pub(crate) cuts: Vec<u64>,
    /// The part of now.
    pub(crate) part: usize,
    /// Latencies by population and part, until the end.
    pub(crate) parts: Vec<Latencies>,
}

impl Outcomes {
    pub(crate) fn new(scenario: &Scenario, phases: &Phases) -> Outcomes {
        let seconds = scenario.end.as_nanos().div_ceil(1_000_000_000) as usize + 1;
        let phases = phases.measured(scenario);
        let population = || Population {
            seconds: vec![Counts::default(); seconds],
            latencies: vec![Latencies::default(); phases.len()],
            in_flight: 0,
        };
        let tenths = if scenario.asks_for(Quantity::Dip) { seconds * 10 } else { 0 };
        let mut cuts: Vec<u64> = phases.iter().flat_map(|(from, to)| [*from, *to]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        Outcomes {
            populations: scenario.clients.iter().map(|_| population()).collect(),
            parts: vec![Latencies::default(); scenario.clients.len() * (cuts.len() - 1)],
            cuts,
            phases,
            tenths: vec![0; tenths],
            needless: scenario.services.iter().map(|_| vec![0; seconds]).collect(),
            load: scenario.services.iter().map(|_| vec![0; seconds]).collect(),
            queues: scenario.services.iter().map(|_| Queueing::default()).collect(),
            gauges: scenario.services.iter().map(|_| Vec::new()).collect(),
            tries: vec![0; seconds],
            ..Outcomes::default()
        }
    }

    /// Notes a decision, if that was asked for.
    #[inline]
    pub(crate) fn note(&mut self, at: Time, call: u64, what: impl FnOnce() -> Decided) {
        if self.notes {
            self.decisions.push(Decision { at, call, what: what() });
        }
    }

    /// Takes an event into the fingerprint: each step is one-to-one in what came before, so that runs that
    /// once differed stay different.
    #[inline]
    pub(crate) fn hash(&mut self, now: Time, word: u64) {
        let event =
            now.as_nanos().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ word.wrapping_mul(0xd1b5_4a32_d192_ed03);
        self.fingerprint = (self.fingerprint.rotate_left(29) ^ event).wrapping_mul(0xa076_1d64_78bd_642f);
        self.events += 1;
    }

    pub(crate) fn answered(&mut self, population: usize, second: u64, latency: Span) {
        while self.cuts.get(self.part + 1).is_some_and(|next| *next <= second) {
            self.part += 1;
        }
        if self.cuts[self.part] <= second && self.part + 1 < self.cuts.len() {
            let parts = self.cuts.len() - 1;
            self.parts[population * parts + self.part].add(latency);
        }
    }

    #[inline]
    pub(crate) fn answered_in_tenth(&mut self, now: Time) {
        if let Some(count) = self.tenths.get_mut((now.as_nanos() / 100_000_000) as usize) {
            *count += 1;
        }
    }

    /// Takes the latencies of parts together for the phases.
    pub(crate) fn finish(&mut self) {
        let parts = self.cuts.len() - 1;
        for (place, population) in self.populations.iter_mut().enumerate() {
            for ((from, to), latencies) in self.phases.iter().zip(&mut population.latencies) {
                for (part, begins) in self.cuts[..parts].iter().enumerate() {
                    if (*from..*to).contains(begins) {
                        latencies.join(&self.parts[place * parts + part]);
                    }
                }
            }
        }
        self.parts = Vec::new();
        self.fingerprint = mix(self.fingerprint);
    }

    /// A count a second, over the seconds from `from` to `to`, of one population or all.
    pub fn rate(&self, of: Option<usize>, from: u64, to: u64, count: fn(&Counts) -> u32) -> f64 {
        let all = self.populations.iter().enumerate().filter(|(place, _)| of.is_none_or(|of| of == *place));
        all.map(|(_, population)| mean(population.seconds.iter().map(count), from, to)).sum()
    }

    /// Answers in time and in full, per second.
    pub fn goodput(&self, from: u64, to: u64) -> f64 {
        self.rate(None, from, to, |counts| counts.ok)
    }

    /// Answers in time, full or degraded, per second.
    pub fn served(&self, from: u64, to: u64) -> f64 {
        self.rate(None, from, to, |counts| counts.ok + counts.degraded)
    }

    /// Calls begun, per second.
    pub fn offered(&self, from: u64, to: u64) -> f64 {
        self.rate(None, from, to, |counts| counts.offered)
    }

    /// Requests that reached a service, or all of them, per second.
    pub fn load(&self, of: Option<usize>, from: u64, to: u64) -> f64 {
        let all = self.load.iter().enumerate().filter(|(place, _)| of.is_none_or(|of| of == *place));
        all.map(|(_, seconds)| mean(seconds.iter().copied(), from, to)).sum()
    }

    /// Needless refusals, in front of a service or of all, per second.
    pub(crate) fn needless(&self, of: usize, from: u64, to: u64) -> f64 {
        mean(self.needless[of].iter().copied(), from, to)
    }

    /// Seawall's limit in front of a service, on average; `None` where it was not kept.
    pub(crate) fn limit(&self, of: usize, from: u64, to: u64) -> Option<f64> {
        // A gauge is read at the end of its second.
        let read = self.gauges[of].get(from as usize..(to as usize).min(self.gauges[of].len()))?;
        let sum: u64 = read.iter().map(|gauge| u64::from(gauge.limit)).sum();
        (!read.is_empty()).then(|| sum as f64 / read.len() as f64)
    }

    /// Attempts made for calls of clients, per second.
    pub fn tries(&self, from: u64, to: u64) -> f64 {
        mean(self.tries.iter().copied(), from, to)
    }

    /// Calls begun in all.
    pub fn calls(&self) -> u64 {
        self.sum(|counts| counts.offered)
    }

    /// What became of calls in one second, of all populations.
    pub fn in_second(&self, second: usize) -> Counts {
        self.populations.iter().fold(Counts::default(), |sum, population| {
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

    /// A count over the whole run.
    pub fn sum(&self, count: fn(&Counts) -> u32) -> u64 {
        let seconds = self.populations.iter().flat_map(|population| &population.seconds);
        seconds.map(|counts| u64::from(count(counts))).sum()
    }

    /// Whether every call and every attempt is accounted for, once.
    pub fn is_conserved(&self) -> bool {
        let calls = self.populations.iter().all(|population| {
            let offered: u64 = population.seconds.iter().map(|counts| u64::from(counts.offered)).sum();
            offered == population.seconds.iter().map(Counts::ended).sum::<u64>() + population.in_flight
        });
        let Attempts { sent, answered, failed, refused, withdrawn, lost, in_flight } = self.attempts;
        let attempts = sent == answered + failed + refused + withdrawn + lost + in_flight;
        calls && attempts && self.edges.iter().all(Edge::is_conserved)
    }
}

fn mean(counts: impl Iterator<Item = u32>, from: u64, to: u64) -> f64 {
    let sum: u64 = counts.skip(from as usize).take(to.saturating_sub(from) as usize).map(u64::from).sum();
    sum as f64 / to.saturating_sub(from).max(1) as f64
}
