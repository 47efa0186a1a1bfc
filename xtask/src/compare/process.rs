//! A process with its children: started on one core, ended with its handle, its time and memory read.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::overload::processes::{TICKS_PER_S, ticks};

/// How long a process may take until it serves.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A running process.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program on one core; it ends when this process does, however that happens.
    pub(crate) fn start(name: &str, core: u32, folder: &Path, command: &[&str]) -> Result<Process> {
        let log_path = folder.join(format!("{name}.log"));
        let log = File::create(&log_path)?;
        let mut pinned = Command::new("setpriv");
        pinned.args(["--pdeathsig", "TERM", "taskset", "-c", &core.to_string()]).args(command);
        pinned.current_dir(folder).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = pinned.spawn().map_err(|error| format!("setpriv (package util-linux): {error}"))?;
        Ok(Process { name: name.to_owned(), child, log: log_path })
    }

    /// Waits until somebody listens at this address.
    pub(crate) fn serves(&mut self, address: SocketAddr) -> Result<()> {
        let until = Instant::now() + START_WITHIN;
        while TcpStream::connect(address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(format!("{} ended with {status}: {said}", self.name).into());
            }
            if Instant::now() > until {
                return Err(format!("{} does not listen", self.name).into());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Processor time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let all = self.family()?;
        let sum = all.iter().filter_map(|pid| ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?));
        Ok(sum.sum::<u64>() as f64 / TICKS_PER_S)
    }

    /// Resident memory, in MiB.
    pub(crate) fn resident(&self) -> Result<f64> {
        let all = self.family()?;
        let sum = all
            .iter()
            .filter_map(|pid| resident_kib(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?));
        Ok(sum.sum::<u64>() as f64 / 1024.0)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        Ok(rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)?)
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its own id and those of all its descendants.
    fn family(&self) -> Result<Vec<u32>> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // It may have ended since the folder was read.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            if let Some(parent) = parent(&stat) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut family = vec![self.child.id()];
        let mut next = 0;
        while let Some(of) = family.get(next) {
            let more = children.remove(of).unwrap_or_default();
            family.extend(more);
            next += 1;
        }
        Ok(family)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // A master ends its workers only when it is asked to end.
        let asked = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let until = Instant::now() + Duration::from_secs(5);
        while asked.is_ok() && Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fourth field of `/proc/PID/stat`.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        assert_eq!(parent("7 (a) b) S 42 7 7 0"), Some(42));
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t    1536 kB\nThreads:\t1\n"), Some(1536));
    }
}
