//! CPU: time used against the quota, time that the machine was busy, time spent waiting for one.

use seawall_core::time::Time;

use super::group::Groups;
use super::{Files, field, higher, share};

/// Counters at one time. All of them only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    at: Time,
    /// Seconds used by the cgroup.
    used: Option<f64>,
    /// Seconds in which something waited.
    stalled: Option<f64>,
    /// Ticks of the machine: busy, and all.
    machine: Option<(u64, u64)>,
}

/// Shares of CPU between one sample and the next.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    last: Option<Counters>,
}

impl Sampler {
    /// CPU in use and stalls, since the last sample.
    pub(super) fn sample(&mut self, now: Time, files: &Files, groups: &Groups) -> (Option<f64>, Option<f64>) {
        let counters = read(now, files, groups);
        let Some(last) = self.last.replace(counters) else { return (None, None) };
        let elapsed = now.since(last.at).as_secs_f64();
        let grown = |now: Option<f64>, before: Option<f64>| {
            let grown = now? - before?;
            (grown >= 0.0).then_some(grown)
        };
        let of_quota =
            grown(counters.used, last.used).and_then(|used| share(used, elapsed * quota(files, groups)?));
        let of_machine =
            counters.machine.zip(last.machine).and_then(|((busy, all), (busy_then, all_then))| {
                share(busy.checked_sub(busy_then)? as f64, all.checked_sub(all_then)? as f64)
            });
        let stall = grown(counters.stalled, last.stalled).and_then(|stalled| share(stalled, elapsed));
        (higher(of_quota, of_machine), stall)
    }
}

fn read(at: Time, files: &Files, groups: &Groups) -> Counters {
    let unified = groups.unified.first();
    let stat = unified.and_then(|group| files.text(group.join("cpu.stat")));
    let micros = stat.and_then(|text| field(&text, "usage_usec")).map(|micros| micros as f64 / 1e6);
    let nanos = || Some(files.number(groups.usage.first()?.join("cpuacct.usage"))? as f64 / 1e9);
    let pressure = unified.and_then(|group| stalled(&files.text(group.join("cpu.pressure"))?));
    Counters {
        at,
        used: micros.or_else(nanos),
        stalled: pressure.or_else(|| stalled(&files.text("/proc/pressure/cpu")?)),
        machine: files.text("/proc/stat").and_then(|text| machine(&text)),
    }
}

/// CPUs that this group may use: the least of its own quota and of those around it.
fn quota(files: &Files, groups: &Groups) -> Option<f64> {
    let unified = groups.unified.iter().filter_map(|group| max(&files.text(group.join("cpu.max"))?));
    let quotas = groups.cpu.iter().filter_map(|group| {
        let quota = files.number(group.join("cpu.cfs_quota_us"))?;
        share_of_period(quota, files.number(group.join("cpu.cfs_period_us"))?)
    });
    unified.chain(quotas).reduce(f64::min)
}

/// CPUs in a `cpu.max`: `max 100000` is no quota, `150000 100000` one and a half.
fn max(text: &str) -> Option<f64> {
    let mut words = text.split_ascii_whitespace();
    let quota = words.next()?.parse().ok()?;
    let period = words.next().map_or(Some(100_000), |period| period.parse().ok())?;
    share_of_period(quota, period)
}

fn share_of_period(quota: u64, period: u64) -> Option<f64> {
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// Seconds in the `some` line of a pressure file, which end in `total=` microseconds.
fn stalled(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let total = line.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="))?;
    Some(total.parse::<u64>().ok()? as f64 / 1e6)
}

/// Ticks in the `cpu` line of `/proc/stat`: user nice system idle iowait irq softirq steal, and
/// guests, which are in `user` already.
fn machine(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> =
        line.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[user, nice, system, idle, ..] = ticks.as_slice() else { return None };
    let rest = ticks.iter().skip(5).fold(0_u64, |sum, ticks| sum.saturating_add(*ticks));
    let busy = [user, nice, system, rest].into_iter().fold(0_u64, u64::saturating_add);
    let waits = idle.saturating_add(ticks.get(4).copied().unwrap_or(0));
    Some((busy, busy.saturating_add(waits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_in_cpus() {
        assert_eq!(max("150000 100000\n"), Some(1.5));
        assert_eq!(max("50000"), Some(0.5));
        for text in ["max 100000\n", "max", "", "0 100000", "100000 0", "-1 100000", "x y"] {
            assert_eq!(max(text), None, "{text:?}");
        }
    }

    #[test]
    fn stalls_are_in_seconds() {
        let text = "some avg10=1.53 avg60=0.87 avg300=0.73 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(stalled(text), Some(2.5));
        assert_eq!(stalled("full avg10=0.00 total=7\n"), None);
        assert_eq!(stalled("some avg10=1.53"), None);
        assert_eq!(stalled("some total=99999999999999999999999"), None);
    }

    #[test]
    fn waiting_for_a_disk_is_not_busy_and_guests_count_once() {
        let text = "cpu  100 10 50 800 40 5 15 20 60 6\ncpu0 1 2 3 4\nintr 5\n";
        assert_eq!(machine(text), Some((200, 1_040)));
        assert_eq!(machine("cpu  1 2 3 4\n"), Some((6, 10)), "an old kernel says less");
        for text in ["", "cpu0 1 2 3 4", "cpu  1 2 3", "cpu  1 2 x 4 5"] {
            assert_eq!(machine(text), None, "{text:?}");
        }
    }
}
