use std::fs;

use super::*;

/// A machine of fixture texts, in a directory of its own.
struct Machine {
    root: PathBuf,
    sampler: Option<Sampler>,
}

impl Machine {
    fn new(name: &str, files: &[(&str, &str)]) -> Machine {
        let root = std::env::temp_dir().join(format!("seawall-monitor-{}-{name}", std::process::id()));
        let machine = Machine { root, sampler: None };
        machine.write(files);
        machine
    }

    fn write(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = self.root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    /// A sample at this many milliseconds.
    fn sample(&mut self, ms: u64) -> Reading {
        let sampler = self.sampler.get_or_insert_with(|| Sampler::under(&self.root));
        sampler.sample(Time::ZERO + Span::from_millis(ms))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn near(got: Option<f64>, expected: f64) {
    assert!(got.is_some_and(|got| (got - expected).abs() < 1e-9), "{got:?}, not {expected}");
}

const MEMINFO: (&str, &str) =
    ("proc/meminfo", "MemTotal:  1000000 kB\nMemFree:  100000 kB\nMemAvailable:  700000 kB\n");

#[test]
fn a_machine_without_groups_says_what_all_of_it_does() {
    let mut machine = Machine::new(
        "bare",
        &[
            ("proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\n"),
            ("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n"),
            MEMINFO,
        ],
    );
    let first = machine.sample(0);
    assert_eq!((first.cpu, first.stall, first.lag), (None, None, None));
    near(first.memory, 0.3);
    machine.write(&[
        ("proc/stat", "cpu  130 0 130 840 0 0 0 0 0 0\n"),
        ("proc/pressure/cpu", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1050000\n"),
    ]);
    let second = machine.sample(250);
    near(second.cpu, 0.6);
    near(second.stall, 0.2);
}

#[test]
fn a_quota_counts_more_than_the_machine_around_it() {
    let mut machine = Machine::new(
        "unified",
        &[
            ("proc/self/cgroup", "0::/pods/one\n"),
            ("proc/stat", "cpu  0 0 0 1000 0 0 0 0 0 0\n"),
            MEMINFO,
            ("sys/fs/cgroup/cgroup.controllers", "cpu memory\n"),
            ("sys/fs/cgroup/pods/cgroup.controllers", "cpu memory\n"),
            ("sys/fs/cgroup/pods/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/pods/memory.max", "max\n"),
            ("sys/fs/cgroup/pods/one/cgroup.controllers", "cpu memory\n"),
            ("sys/fs/cgroup/pods/one/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/pods/one/cpu.stat", "usage_usec 1000000\nuser_usec 1\n"),
            ("sys/fs/cgroup/pods/one/cpu.pressure", "some avg10=0.00 total=0\n"),
            ("sys/fs/cgroup/pods/one/memory.max", "1000\n"),
            ("sys/fs/cgroup/pods/one/memory.current", "950\n"),
            ("sys/fs/cgroup/pods/one/memory.stat", "anon 1\ninactive_file 150\n"),
        ],
    );
    near(machine.sample(0).memory, 0.8);
    machine.write(&[
        ("proc/stat", "cpu  25 0 0 1975 0 0 0 0 0 0\n"),
        ("sys/fs/cgroup/pods/one/cpu.stat", "usage_usec 1450000\n"),
        ("sys/fs/cgroup/pods/one/cpu.pressure", "some avg10=0.00 total=750000\n"),
    ]);
    let reading = machine.sample(1_000);
    // .45 s of CPU in a second, under a quota of half a CPU two groups up.
    near(reading.cpu, 0.9);
    near(reading.stall, 0.75);
}

#[test]
fn groups_of_version_one_are_found_by_controller() {
    let mut machine = Machine::new(
        "legacy",
        &[
            ("proc/self/cgroup", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "200000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/docker/x/cpuacct.usage", "0\n"),
            ("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "2000\n"),
            ("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "1500\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "999999\n"),
        ],
    );
    near(machine.sample(0).memory, 0.75);
    machine.write(&[("sys/fs/cgroup/cpu,cpuacct/docker/x/cpuacct.usage", "1000000000\n")]);
    near(machine.sample(1_000).cpu, 0.5);
}

#[test]
fn in_a_container_the_root_of_the_mount_is_the_group() {
    let mut machine = Machine::new(
        "container",
        &[
            ("proc/self/cgroup", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpuacct/cpuacct.usage", "0\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "500\n"),
        ],
    );
    near(machine.sample(0).memory, 0.25);
    assert_eq!(machine.sample(1_000).cpu, None, "there is no quota");
    let climbing = Machine::new("climbing", &[("proc/self/cgroup", "0::/../../etc\n")]);
    assert_eq!(Groups::find(&Files { root: climbing.root.clone() }), Groups::default());
}

#[test]
fn what_cannot_be_read_is_not_known() {
    let mut nothing = Machine::new("nothing", &[]);
    assert_eq!((nothing.sample(0), nothing.sample(250)), (Reading::default(), Reading::default()));
    let mut garbage = Machine::new(
        "garbage",
        &[
            ("proc/self/cgroup", "\u{0}::\n0::/\nx\n"),
            ("proc/stat", "cpu  18446744073709551615 18446744073709551615 1 1 1\n"),
            ("proc/meminfo", "MemTotal: 0 kB\nMemAvailable: 5 kB\n"),
            ("proc/pressure/cpu", "some total=-5\n"),
            ("sys/fs/cgroup/cgroup.controllers", ""),
            ("sys/fs/cgroup/cpu.max", "max max\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec\n"),
            ("sys/fs/cgroup/memory.max", "\n"),
        ],
    );
    garbage.sample(0);
    assert_eq!(garbage.sample(250), Reading::default());
    // Counters that went back: the machine slept, or the group is another one.
    garbage.write(&[("proc/stat", "cpu  5 0 0 5\n")]);
    assert_eq!(garbage.sample(500), Reading::default());
    // No time has passed.
    assert_eq!(garbage.sample(500), Reading::default());
}

#[test]
fn a_long_file_is_read_in_part() {
    let long = format!("MemTotal: 4 kB\nMemAvailable: 1 kB\n{}", "x".repeat(1 << 20));
    let mut machine = Machine::new("long", &[("proc/meminfo", &long)]);
    near(machine.sample(0).memory, 0.75);
}

#[tokio::test(start_paused = true)]
async fn the_lag_is_how_late_the_runtime_is() {
    let (sender, mut readings) = tokio::sync::mpsc::unbounded_channel();
    let machine = Machine::new("lag", &[]);
    let observe = move |_: Time, reading: &Reading| _ = sender.send(*reading);
    let watching = tokio::spawn(watch(Sampler::under(&machine.root), observe));
    let lag = readings.recv().await.unwrap().lag.unwrap();
    assert!(lag <= Span::from_millis(1), "on time: {lag}");
    // Somebody holds the only thread: the clock goes on, the ticks do not.
    tokio::time::advance(std::time::Duration::from_millis(400)).await;
    let lag = readings.recv().await.unwrap().lag.unwrap();
    assert!(lag >= Span::from_millis(300), "late: {lag}");
    watching.abort();
}
