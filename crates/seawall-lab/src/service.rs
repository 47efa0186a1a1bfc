//! The service: workers, a queue in front of them, and how long work takes.
//!
//! Work is done whether or not anybody still waits for it, as in most real services: that is what
//! turns an overload into a collapse.

use std::collections::VecDeque;

use seawall_core::rng::Rng;
use seawall_core::time::{Span, Time};

/// How long one piece of work takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Always the same.
    Constant(Span),
    /// Exponentially distributed, by its mean.
    Exponential(Span),
    /// Lognormal, by the logarithm of its median in seconds and its sigma.
    Lognormal {
        /// Natural logarithm of the median in seconds.
        mu: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// One time as a rule and another now and then.
    Mixed {
        /// As a rule.
        usual: Span,
        /// Now and then.
        rare: Span,
        /// The share of the rare ones, 0 to 1.
        share: f64,
    },
}

impl Work {
    /// The lognormal distribution with this median and 99th percentile.
    pub fn lognormal(median: Span, p99: Span) -> Work {
        const Z99: f64 = 2.326_347_874_040_841;
        let (median, p99) = (median.as_secs_f64(), p99.as_secs_f64());
        Work::Lognormal { mu: libm::log(median), sigma: libm::log(p99 / median) / Z99 }
    }

    fn draw(&self, rng: &mut Rng) -> Span {
        match *self {
            Work::Constant(span) => span,
            Work::Exponential(mean) => rng.exponential(mean),
            Work::Lognormal { mu, sigma } => {
                // Box and Muller (1958); one of the pair is enough.
                let radius = libm::sqrt(-2.0 * libm::log(1.0 - rng.unit()));
                let normal = radius * libm::cos(core::f64::consts::TAU * rng.unit());
                Span::from_secs_f64(libm::exp(mu + sigma * normal))
            }
            Work::Mixed { usual, rare, share } => {
                if rng.unit() < share {
                    rare
                } else {
                    usual
                }
            }
        }
    }
}

/// What a service is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// How many work at a time; `usize::MAX` for no bound.
    pub workers: usize,
    /// How many may wait for a worker; `usize::MAX` for no bound.
    pub queue: usize,
    /// How long work takes.
    pub time: Work,
    /// How much longer it takes for each request in the service when it begins.
    pub slope: Span,
}

/// A service at work. `J` names a piece of work.
#[derive(Debug)]
pub struct Service<J> {
    config: Config,
    rng: Rng,
    busy: usize,
    waiting: VecDeque<J>,
}

/// What became of a piece of work that arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It began and ends then.
    Begun(Time),
    /// It waits for a worker.
    Waits,
    /// The queue is full.
    Full,
}

impl<J> Service<J> {
    /// An idle service.
    pub fn new(config: Config, rng: Rng) -> Service<J> {
        Service { config, rng, busy: 0, waiting: VecDeque::new() }
    }

    /// A piece of work arrives.
    pub fn arrive(&mut self, now: Time, job: J) -> Arrival {
        if self.busy < self.config.workers {
            return Arrival::Begun(self.begin(now));
        }
        if self.waiting.len() >= self.config.queue {
            return Arrival::Full;
        }
        self.waiting.push_back(job);
        Arrival::Waits
    }

    /// A worker is done; says who begins now, and when that ends.
    pub fn done(&mut self, now: Time) -> Option<(J, Time)> {
        self.busy -= 1;
        let job = self.waiting.pop_front()?;
        Some((job, self.begin(now)))
    }

    fn begin(&mut self, now: Time) -> Time {
        self.busy += 1;
        let inside = (self.busy + self.waiting.len()) as u64;
        now + self.config.time.draw(&mut self.rng) + self.config.slope.times(inside)
    }
}
