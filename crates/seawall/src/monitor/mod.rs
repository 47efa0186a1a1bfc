//! Monitor: how the machine is doing, for the guards of load shedding.
//!
//! **Prevents** what no queue shows: a CPU that is all in use, memory near the limit at which the
//! process is killed, a runtime that is late with everything.
//!
//! **Mechanics.** A [`Sampler`] reads what Linux says of CPU and memory: the cgroup's own usage
//! against its quota or limit (version 2 or 1, and those of the groups around it), and the whole machine's; the higher of
//! the two counts. `stall` is the share of time in which something waited for a CPU (PSI), of the
//! cgroup or else of the machine. [`watch`] is a future that never ends: it ticks on the runtime
//! that drives it, so that it feels how late that is, and hands a [`Reading`] to the gates
//! every [`EVERY`].
//!
//! **Edges.** What cannot be read is not known and holds nothing back: elsewhere than on Linux that
//! is everything but the lag. The first sample knows no CPU, which is a difference between two. At
//! most [`READ_MAX`] bytes of a file are read, from `/proc` and `/sys`, which answer from
//! memory. A runtime that stopped altogether cannot say so; its gates then see no readings, which
//! says nothing either.
//!
//! ```
//! use std::sync::Arc;
//! use seawall::core::gate::{Gate, Lane, Settings};
//! use seawall::core::limit;
//! use seawall::core::shed::{self, guard::{Guards, Mark}};
//! use seawall::monitor::{Sampler, watch};
//! use seawall::{Threads, now};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let guards = Guards { memory: Mark::percent(90).ok(), ..Guards::default() };
//! let lane = Lane { shed: Some(shed::Config { guards, ..shed::Config::default() }), ..Lane::default() };
//! let settings = Settings { limit: Some(limit::Config::default()), ..Settings::default() };
//! let gate = Arc::new(Gate::<Threads>::new(settings, lane, now()));
//! let watched = gate.clone();
//! let watching = tokio::spawn(watch(Sampler::new(), move |now, reading| watched.observe(now, reading)));
//! # watching.abort();
//! # });
//! ```

mod cpu;
mod group;
mod memory;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use seawall_core::pressure::Reading;
use seawall_core::time::{Span, Time};
use tokio::time::sleep_until;

use crate::clock::{instant, now};
use group::Groups;

/// How often a [`Reading`] is handed out.
pub const EVERY: Span = Span::from_millis(250);
/// How often [`watch`] looks how late its runtime is.
pub const TICK: Span = Span::from_millis(25);
/// The most that is read of a file.
pub const READ_MAX: u64 = 64 * 1_024;

/// Reads CPU and memory. Keep it: the CPU in use is a difference between two samples.
#[derive(Debug)]
pub struct Sampler {
    files: Files,
    groups: Groups,
    cpu: cpu::Sampler,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler::new()
    }
}

impl Sampler {
    /// Of this machine.
    pub fn new() -> Sampler {
        Sampler::under("/")
    }

    /// Of the machine whose `/proc` and `/sys` are found under `root`.
    pub fn under(root: impl Into<PathBuf>) -> Sampler {
        let files = Files { root: root.into() };
        let groups = Groups::find(&files);
        Sampler { files, groups, cpu: cpu::Sampler::default() }
    }

    /// CPU since the last sample, and memory now. It does not know the lag.
    pub fn sample(&mut self, now: Time) -> Reading {
        let (cpu, stall) = self.cpu.sample(now, &self.files, &self.groups);
        Reading { cpu, stall, memory: memory::sample(&self.files, &self.groups), lag: None }
    }
}

/// Hands out a reading every [`EVERY`], for ever: spawn it on the runtime whose lag matters.
pub async fn watch(mut sampler: Sampler, mut observe: impl FnMut(Time, &Reading)) {
    let (mut latest, mut sampled) = (Span::ZERO, now());
    sampler.sample(sampled);
    loop {
        let due = now() + TICK;
        sleep_until(instant(due)).await;
        let now = now();
        latest = latest.max(now.since(due));
        if now.since(sampled) >= EVERY {
            let reading = Reading { lag: Some(latest), ..sampler.sample(now) };
            observe(now, &reading);
            (latest, sampled) = (Span::ZERO, now);
        }
    }
}

/// The files of one machine.
#[derive(Debug)]
struct Files {
    root: PathBuf,
}

impl Files {
    /// The beginning of a file as text; `None` when there is none.
    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let path = path.as_ref();
        let file = File::open(self.root.join(path.strip_prefix("/").unwrap_or(path))).ok()?;
        let mut bytes = Vec::new();
        file.take(READ_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A file that holds one number.
    fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }

    fn has(&self, path: &Path) -> bool {
        self.root.join(path.strip_prefix("/").unwrap_or(path)).exists()
    }
}

/// The number behind `key` in lines of `key number` or `key: number unit`.
fn field(text: &str, key: &str) -> Option<u64> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let found = words.next()?.trim_end_matches(':') == key;
        found.then(|| words.next()?.parse().ok()).flatten()
    };
    text.lines().find_map(line)
}

/// `part` of `whole`, 0 to 1; `None` when there is no whole.
fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| (part / whole).clamp(0.0, 1.0))
}

/// The higher of two shares, as far as they are known.
fn higher(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    [one, other].into_iter().flatten().reduce(f64::max)
}

#[cfg(test)]
mod tests;
