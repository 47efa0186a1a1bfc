//! The verdict: does the service come back when the trigger has gone?
//!
//! For each seed a *control* run without the trigger is compared with the run that has it, on the
//! same arrivals. Whoever stays down is played once more, with a time in which no client comes: what
//! that heals was kept down by its load alone, and is metastable; what it does not heal is broken. Over
//! seeds, the share that stays down is given with its Wilson 95 % interval.

use crate::outcomes::{Outcomes, Phases};

/// The seconds over which recovery is judged at a time.
const BIN: u64 = 5;
/// The share of the control's goodput that counts as recovered.
const RECOVERED: f64 = 0.95;
/// The share of its own offered load below which the control itself fails.
const HEALTHY: f64 = 0.9;
/// Bins in which a recovery still counts as immediate.
const PROMPT: u64 = 2 * BIN;

/// How one seed went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The control fails by itself.
    Overloaded,
    /// It comes back at once.
    Stable,
    /// It comes back after so many seconds.
    SlowRecovery(u64),
    /// It stays down, and comes back when the load is taken away.
    Metastable,
    /// It stays down even then.
    Broken,
}

impl Fate {
    /// Whether it stays down.
    pub const fn is_down(self) -> bool {
        matches!(self, Fate::Metastable | Fate::Broken)
    }

    /// Seconds until it was back; `None` when it never was.
    pub const fn recovery(self) -> Option<u64> {
        match self {
            Fate::Stable => Some(0),
            Fate::SlowRecovery(seconds) => Some(seconds),
            Fate::Overloaded | Fate::Metastable | Fate::Broken => None,
        }
    }
}

/// The verdict over all seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The control fails by itself in most seeds.
    Overloaded,
    /// It stays down in at most 5 % of cases, surely.
    Stable,
    /// It stays down in half of the cases or more, surely.
    Metastable,
    /// It stays down in more than 5 % of cases, surely.
    Vulnerable,
    /// The seeds do not tell.
    Inconclusive,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 5] = [
        Verdict::Overloaded,
        Verdict::Stable,
        Verdict::Metastable,
        Verdict::Vulnerable,
        Verdict::Inconclusive,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Overloaded => "OVERLOADED",
            Verdict::Stable => "STABLE",
            Verdict::Metastable => "METASTABLE",
            Verdict::Vulnerable => "VULNERABLE",
            Verdict::Inconclusive => "INCONCLUSIVE",
        }
    }
}

/// A share of seeds with its Wilson 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The share.
    pub estimate: f64,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

/// The Wilson score interval of `hits` among `trials`.
pub fn wilson(hits: u32, trials: u32) -> Interval {
    const Z: f64 = 1.959_963_984_540_054;
    let (k, n) = (f64::from(hits), f64::from(trials.max(1)));
    let p = k / n;
    let (z2, scale) = (Z * Z, 1.0 + Z * Z / n);
    let centre = (p + z2 / (2.0 * n)) / scale;
    let half = Z / scale * libm::sqrt(p * (1.0 - p) / n + z2 / (4.0 * n * n));
    Interval { estimate: p, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
}

/// How a run with the trigger compares with its control. Degraded answers count as served; whoever is
/// throttled was served as agreed.
pub fn fate(control: &Outcomes, run: &Outcomes, phases: &Phases) -> Fate {
    let Phases { warm, ends, end, .. } = *phases;
    let agreed = control.offered(warm, end) - control.rate(None, warm, end, |counts| counts.throttled);
    if control.served(warm, end) < HEALTHY * agreed {
        return Fate::Overloaded;
    }
    // Nothing happened, so there is nothing to come back from.
    if ends >= end {
        return Fate::Stable;
    }
    match recovery(control, run, ends, end) {
        None => Fate::Metastable,
        Some(seconds) if seconds <= PROMPT => Fate::Stable,
        Some(seconds) => Fate::SlowRecovery(seconds),
    }
}

/// Seconds from `from` until a run serves what its control does, most of the time until `end`.
pub fn recovery(control: &Outcomes, run: &Outcomes, from: u64, end: u64) -> Option<u64> {
    let well = |from: u64| run.served(from, from + BIN) >= RECOVERED * control.served(from, from + BIN);
    let bins: Vec<bool> = (from..end.saturating_sub(BIN - 1)).step_by(BIN as usize).map(well).collect();
    // Back is the first bin from which on most are well: noise may dip below for a moment.
    let back = (0..bins.len()).find(|index| {
        let rest = &bins[*index..];
        let good = rest.iter().filter(|well| **well).count();
        rest[0] && good * 4 >= rest.len() * 3
    });
    back.map(|bins| bins as u64 * BIN)
}

/// The verdict over the fates of all seeds, and the share that stays down.
pub fn verdict(fates: &[Fate]) -> (Verdict, Interval) {
    let count = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count() as u32;
    let trials = fates.len() as u32;
    let down = fates.iter().filter(|fate| fate.is_down()).count() as u32;
    let collapse = wilson(down, trials);
    let verdict = if count(Fate::Overloaded) * 2 > trials {
        Verdict::Overloaded
    } else if collapse.low >= 0.5 {
        Verdict::Metastable
    } else if collapse.high <= 0.05 {
        Verdict::Stable
    } else if collapse.low > 0.05 {
        Verdict::Vulnerable
    } else {
        Verdict::Inconclusive
    };
    (verdict, collapse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcomes::{Counts, Population};

    #[test]
    fn wilson_intervals() {
        let rounded = |hits, trials| {
            let interval = wilson(hits, trials);
            [interval.low, interval.high].map(|bound| (bound * 1e4 + 0.5) as u32)
        };
        // 15 of 20 is the interval that the collapse spike quotes: 53–89 %.
        assert_eq!(rounded(15, 20), [5_313, 8_881]);
        assert_eq!(rounded(0, 20), [0, 1_611]);
        assert_eq!(rounded(20, 20), [8_389, 10_000]);
        assert_eq!(rounded(0, 100), [0, 370]);
    }

    #[test]
    fn verdicts_follow_the_bounds() {
        let of = |down: usize, seeds: usize| {
            let fates: Vec<Fate> =
                (0..seeds).map(|seed| if seed < down { Fate::Metastable } else { Fate::Stable }).collect();
            verdict(&fates).0
        };
        assert_eq!(of(0, 100), Verdict::Stable);
        assert_eq!(of(0, 20), Verdict::Inconclusive);
        assert_eq!(of(15, 20), Verdict::Metastable);
        assert_eq!(of(6, 20), Verdict::Vulnerable);
        assert_eq!(verdict(&[Fate::Overloaded; 3]).0, Verdict::Overloaded);
    }

    fn outcomes(ok: impl Fn(u64) -> u32) -> Outcomes {
        let seconds = (0..100).map(|second| Counts { offered: 100, ok: ok(second), ..Counts::default() });
        let population = Population { seconds: seconds.collect(), ..Population::default() };
        Outcomes { populations: vec![population], ..Outcomes::default() }
    }

    #[test]
    fn fates() {
        let phases = Phases { warm: 10, begins: 20, ends: 25, settled: 60, end: 100 };
        let control = outcomes(|_| 100);
        let fate = |ok: fn(u64) -> u32| fate(&control, &outcomes(ok), &phases);
        assert_eq!(fate(|_| 100), Fate::Stable);
        assert_eq!(fate(|second| if second < 50 { 10 } else { 100 }), Fate::SlowRecovery(25));
        assert_eq!(fate(|second| if second < 20 { 100 } else { 10 }), Fate::Metastable);
        let calm = Phases { ends: 100, ..phases };
        assert_eq!(super::fate(&control, &control, &calm), Fate::Stable, "without a trigger");
        let failing = outcomes(|_| 50);
        assert_eq!(super::fate(&failing, &failing, &phases), Fate::Overloaded);
    }
}
