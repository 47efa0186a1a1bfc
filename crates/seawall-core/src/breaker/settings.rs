//! When a breaker opens and how it comes back.

use super::Extent;
use crate::setting::{SettingError, check};
use crate::time::Span;

/// The most probes at a time.
pub const PROBES_MAX: u32 = 100;

/// The largest window by count.
pub const WINDOW_MAX: u32 = 10_000;

/// The longest window by time.
pub const WINDOW_SPAN_MAX: Span = Span::from_secs(3_600);

const WHOLE: u32 = 1_000_000;

/// When slow calls open a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// How long a call takes to be slow: this long or longer; longer than zero.
    pub after: Span,
    /// Share of slow calls that opens it, in parts per million, 1 to 1 000 000.
    pub rate_ppm: u32,
}

/// When a breaker opens and how it comes back. [`Breaker::new`](super::Breaker::new) takes only a
/// checked one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Share of failures that opens it, in parts per million, 1 to 1 000 000; default 50 %.
    pub failure_rate_ppm: u32,
    /// When slow calls open it; default `None`, they do not.
    pub slow: Option<Slow>,
    /// Failures in a row that open it whatever their share, at least 1; default `None`, none do.
    pub consecutive: Option<u32>,
    /// How far back it looks: 1 to [`WINDOW_MAX`] calls, or up to [`WINDOW_SPAN_MAX`]; default 100 calls.
    pub window: Extent,
    /// Calls in the window below which their shares say nothing, 1 to the window's size if that is
    /// in calls; default 20.
    pub min_calls: u32,
    /// How long it refuses when it opens; longer than zero, default 5 s.
    pub open: Span,
    /// How long it refuses at most: the open time doubles with every probing that fails, and with
    /// every relapse within the last open time; at least `open`, default 60 s.
    pub open_max: Span,
    /// Draws up to a tenth more of open time, so that instances do not probe in step: a random
    /// number for each breaker. Default `None`, exact times; the layers and pipelines of one breaker, and
    /// breakers by key, then draw one at random, so in tests set it to `Some`.
    pub seed: Option<u64>,
    /// Probes whose outcomes decide, 1 to [`PROBES_MAX`]; default 3.
    pub probes: u32,
    /// How long a probe may take before its lease is lent again; longer than zero, default 10 s.
    pub lease: Span,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            failure_rate_ppm: 500_000,
            slow: None,
            consecutive: None,
            window: Extent::Calls(100),
            min_calls: 20,
            open: Span::from_secs(5),
            open_max: Span::from_secs(60),
            seed: None,
            probes: 3,
            lease: Span::from_secs(10),
        }
    }
}

/// Checked [`Settings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config(pub(super) Settings);

impl Config {
    /// Checks every setting against its range.
    pub fn new(settings: Settings) -> Result<Config, SettingError> {
        let share = |ppm: u32| (1..=WHOLE).contains(&ppm);
        const SHARE: &str = "above 0 % and at most 100 %";
        check(share(settings.failure_rate_ppm), "failure_rate", SHARE)?;
        if let Some(slow) = settings.slow {
            check(share(slow.rate_ppm), "slow_rate", SHARE)?;
            check(slow.after > Span::ZERO, "slow", "longer than zero")?;
        }
        check(settings.consecutive != Some(0), "consecutive", "at least 1")?;
        match settings.window {
            Extent::Calls(calls) => {
                check((1..=WINDOW_MAX).contains(&calls), "window", "1 to 10 000 calls")?;
                check((1..=calls).contains(&settings.min_calls), "min_calls", "1 to `window`")?;
            }
            Extent::Time(span) => {
                let fits = span > Span::ZERO && span <= WINDOW_SPAN_MAX;
                check(fits, "window", "longer than zero and at most an hour")?;
                check(settings.min_calls > 0, "min_calls", "at least 1")?;
            }
        }
        check(settings.open > Span::ZERO, "open", "longer than zero")?;
        check(settings.open_max >= settings.open, "open_max", "at least `open`")?;
        check((1..=PROBES_MAX).contains(&settings.probes), "probes", "1 to 100")?;
        check(settings.lease > Span::ZERO, "lease", "longer than zero")?;
        Ok(Config(settings))
    }

    /// The same with another [`Settings::seed`].
    #[must_use]
    pub fn seeded(self, seed: u64) -> Config {
        Config(Settings { seed: Some(seed), ..self.0 })
    }

    /// What was checked.
    pub fn settings(&self) -> &Settings {
        &self.0
    }
}
