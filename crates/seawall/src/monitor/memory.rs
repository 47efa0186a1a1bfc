//! Memory: in use against the limit of the cgroup, and of the machine.

use std::path::Path;

use super::group::Groups;
use super::{Files, field, higher, share};

/// Version 1 says "no limit" by a number near the highest; nothing has so much.
const NO_LIMIT: u64 = 1 << 60;

/// The names of one version's files.
struct Names {
    limit: &'static str,
    usage: &'static str,
    cache: &'static str,
}

const UNIFIED: Names = Names { limit: "memory.max", usage: "memory.current", cache: "inactive_file" };
const LEGACY: Names =
    Names { limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", cache: "total_inactive_file" };

/// The share of memory in use: of the tightest group around this process, or of the machine.
pub(super) fn sample(files: &Files, groups: &Groups) -> Option<f64> {
    let unified = groups.unified.iter().map(|group| of_group(files, group, &UNIFIED));
    let legacy = groups.memory.iter().map(|group| of_group(files, group, &LEGACY));
    let of_machine = files.text("/proc/meminfo").and_then(|text| machine(&text));
    unified.chain(legacy).fold(of_machine, higher)
}

/// What the kernel could drop at once, unused file cache, does not count.
fn of_group(files: &Files, group: &Path, names: &Names) -> Option<f64> {
    let limit = files.number(group.join(names.limit)).filter(|limit| *limit < NO_LIMIT)?;
    let usage = files.number(group.join(names.usage))?;
    let cache = files.text(group.join("memory.stat")).and_then(|text| field(&text, names.cache));
    share(usage.saturating_sub(cache.unwrap_or(0)) as f64, limit as f64)
}

fn machine(text: &str) -> Option<f64> {
    let (total, available) = (field(text, "MemTotal")?, field(text, "MemAvailable")?);
    share(total.saturating_sub(available) as f64, total as f64)
}
