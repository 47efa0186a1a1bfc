//! The cgroup that this process belongs to, and those around it.

use std::path::{Path, PathBuf};

use super::Files;

/// The most groups inside each other that are looked at.
const DEPTH_MAX: usize = 32;

/// Where a controller keeps its files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    /// The directories of version 2, innermost first; empty where there is none.
    pub(super) unified: Vec<PathBuf>,
    /// The same of version 1, for CPU quotas and usage.
    pub(super) cpu: Vec<PathBuf>,
    pub(super) usage: Vec<PathBuf>,
    /// The same of version 1, for memory.
    pub(super) memory: Vec<PathBuf>,
}

impl Groups {
    pub(super) fn find(files: &Files) -> Groups {
        let Some(text) = files.text("/proc/self/cgroup") else { return Groups::default() };
        let first = |controller: &str, names: &[&str], mark: &str| {
            let path = path_of(&text, controller)?;
            names.iter().map(|name| Path::new("/sys/fs/cgroup").join(name)).find_map(|mount| {
                let groups = inside_out(&mount, path, |group| files.has(&group.join(mark)));
                (!groups.is_empty()).then_some(groups)
            })
        };
        Groups {
            unified: first("", &["", "unified"], "cgroup.controllers").unwrap_or_default(),
            cpu: first("cpu", &["cpu,cpuacct", "cpu"], "cpu.cfs_quota_us").unwrap_or_default(),
            usage: first("cpuacct", &["cpu,cpuacct", "cpuacct"], "cpuacct.usage").unwrap_or_default(),
            memory: first("memory", &["memory"], "memory.usage_in_bytes").unwrap_or_default(),
        }
    }
}

/// The path of this controller in a `/proc/self/cgroup`; version 2 has no name.
fn path_of<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        names.split(',').any(|name| name == controller).then_some(path)
    })
}

/// The group's directory and those above it, up to the mount, as far as they are there. In a
/// container the path may be one of the host, while only the mount's root is seen.
fn inside_out(mount: &Path, path: &str, exists: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let relative = path.trim_start_matches('/');
    let climbs = relative.split('/').any(|part| part == "..");
    let group = if climbs { mount.to_owned() } else { mount.join(relative) };
    let ancestors = group.ancestors().take_while(|group| group.starts_with(mount)).take(DEPTH_MAX);
    ancestors.map(Path::to_owned).filter(|group| exists(group)).collect()
}
