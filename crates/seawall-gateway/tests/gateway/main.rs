//! The gateway as its users meet it: the real binary, real sockets, signals.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod blocks;
mod broken;
mod browser;
mod cache;
mod frames;
mod grpc;
mod harness;
mod lab;
mod lossless;
mod metrics;
mod openapi;
mod operation;
mod paths;
mod readme;
mod resilience;
mod secure;
mod streams;
mod strict;
mod throttle;
mod uploads;
mod wire;

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use harness::{Answer, Gateway, ask, config, get, origin, origin_silent, quota, token};

#[test]
fn without_anything_it_serves_a_sample_and_drains_on_a_signal() {
    let mut gateway = Gateway::start(&[]);
    let answer = gateway.get("/", "");
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello from the sample service\n"));
    for (path, status) in
        [("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/api/state", 200), ("/", 404)]
    {
        assert_eq!(get(&gateway.admin, path, "").status, status, "{path}");
    }
    assert!(get(&gateway.admin, "/metrics", "").body.contains("seawall_requests_total{route=\"default\"} 1"));
    gateway.signal("-INT");
    assert!(gateway.child.wait().unwrap().success());
}

#[test]
fn on_a_signal_it_says_that_it_is_not_ready_while_it_still_serves() {
    let text = |lame_duck: &str| format!("{}[drain]\nlame_duck = {lame_duck}\n", quota(&origin(), "1/h", 99));
    let mut gateway = Gateway::start(&[&config("duck.toml", &text("\"5m\""))]);
    gateway.signal("-TERM");
    gateway.await_log("no longer ready");
    let probe = |path: &str| get(&gateway.admin, path, "").status;
    assert_eq!((probe("/readyz"), probe("/livez")), (503, 200));
    assert_eq!(gateway.get("/", "").status, 200, "on a new connection");
    assert_eq!(ask(&gateway.admin, "PUT", "/api/drain", &token(&gateway), "").status, 409);
    gateway.signal("-TERM");
    assert!(gateway.child.wait().unwrap().success(), "a second signal ends at once");
    for lame_duck in ["\"10ms\"", "false"] {
        let mut gateway = Gateway::start(&[&config("duck.toml", &text(lame_duck))]);
        gateway.signal("-TERM");
        gateway.await_log("draining");
        assert!(gateway.child.wait().unwrap().success());
    }
}

/// Its grace is longer than nothing, and shorter than the test would wait.
#[test]
fn a_drain_lets_go_of_what_is_under_way_when_its_grace_is_over() {
    let text = format!(
        "[upstream.u]\nhosts = [\"http://{}\"]\n[route.r]\nupstream = \"u\"\ndeadline = \"1h\"\n\
         [drain]\nlame_duck = false\ngrace = \"100ms\"\n",
        origin_silent()
    );
    let mut gateway = Gateway::start(&[&config("grace.toml", &text)]);
    let mut stream = TcpStream::connect(&gateway.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    while !gateway.state().contains("\"requests\":1") {}
    gateway.signal("-TERM");
    gateway.await_log("the grace is over");
    assert!(gateway.child.wait().unwrap().success());
    let checked = Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args(["check", "--lint", &config("grace.toml", &text)])
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("deadline-past-grace"), "{said}");
}

#[test]
fn two_hundred_at_once_and_exactly_a_hundred_pass() {
    let file = config("quota.toml", &quota(&origin(), "1/h", 100));
    let gateway = Gateway::start(&[&file]);
    let address = gateway.address.as_str();
    let answers: Vec<Answer> = thread::scope(|scope| {
        let asking: Vec<_> =
            (0..200).map(|_| scope.spawn(|| get(address, "/", "x-api-key: one\r\n"))).collect();
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(passed, 100);
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(refused.status, 429);
        let seconds: u64 = refused.field("retry-after").parse().unwrap();
        assert!(seconds >= 3_590, "{seconds}");
        assert_eq!(refused.field("ratelimit"), format!("\"user\";r=0;t={seconds}"));
        assert_eq!(refused.field("ratelimit-policy"), "\"user\";q=100;w=360000");
        assert_eq!(refused.field("x-seawall-reason"), "throttled");
        assert_eq!(refused.field("content-type"), "application/problem+json");
        assert!(refused.body.contains("#quota-exceeded"), "{}", refused.body);
    }
    let other = gateway.get("/", "x-api-key: two\r\n");
    assert_eq!((other.status, other.field("ratelimit")), (200, "\"user\";r=99"));
}

#[test]
fn a_reload_is_no_amnesty_and_a_broken_file_changes_nothing() {
    let origin = origin();
    let file = config("reload.toml", &quota(&origin, "1/h", 2));
    let gateway = Gateway::start(&[&file]);
    let ask = || gateway.get("/", "x-api-key: one\r\n").status;
    assert_eq!([ask(), ask(), ask()], [200, 200, 429]);
    config("reload.toml", &quota(&origin, "1/h", 20));
    gateway.signal("-HUP");
    gateway.await_log("reloaded");
    assert_eq!(ask(), 429, "a larger burst is no new one");
    assert_eq!(gateway.get("/", "x-api-key: two\r\n").field("ratelimit"), "\"user\";r=19");
    config("reload.toml", &quota(&origin, "1/h", 20).replace("hosts", "hots"));
    gateway.await_log("unknown key `hots`");
    gateway.await_log("the old one stays");
    let metric = |name: &str| {
        let metrics = get(&gateway.admin, "/metrics", "").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned)).unwrap();
        line.trim().parse::<f64>().unwrap()
    };
    assert_eq!(metric("seawall_config_reload_ok "), 0.0);
    assert!(metric("seawall_config_reload_seconds ") > 1.6e9);
    assert_eq!(ask(), 429);
    assert_eq!(gateway.get("/", "x-api-key: two\r\n").status, 200);
    config("reload.toml", &quota(&origin, "1/h", 30));
    gateway.await_log("reloaded");
    while metric("seawall_config_reload_ok ") < 1.0 {}
}

/// Kubernetes mounts a ConfigMap like this: only a link beside the file's own is replaced.
#[test]
fn a_config_behind_links_is_reloaded_when_one_of_them_is_replaced() {
    let folder = std::path::PathBuf::from(format!("{}/mounted", env!("CARGO_TARGET_TMPDIR")));
    let _ = std::fs::remove_dir_all(&folder);
    let version = |name: &str, text: &str| {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join("seawall.toml"), text).unwrap();
        symlink(name, folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    let text = quota(&origin(), "1/h", 2);
    version("..1", &text);
    symlink("..data/seawall.toml", folder.join("seawall.toml")).unwrap();
    let gateway = Gateway::start(&[folder.join("seawall.toml").to_str().unwrap()]);
    for burst in [20, 30] {
        version(&format!("..{burst}"), &text.replace("burst = 2", &format!("burst = {burst}")));
        gateway.await_log("reloaded");
        let standing = format!("\"user\";r={}", burst - 1);
        assert_eq!(gateway.get("/", &format!("x-api-key: {burst}\r\n")).field("ratelimit"), standing);
    }
}

#[test]
fn a_config_behind_links_into_other_folders_is_reloaded_wherever_they_lead() {
    let folder = std::path::PathBuf::from(format!("{}/linked", env!("CARGO_TARGET_TMPDIR")));
    let _ = std::fs::remove_dir_all(&folder);
    ["etc", "one", "two"].iter().for_each(|name| std::fs::create_dir_all(folder.join(name)).unwrap());
    let file = folder.join("etc/seawall.toml");
    let lead_to = |target: &str| {
        symlink(target, folder.join("etc/new")).unwrap();
        std::fs::rename(folder.join("etc/new"), &file).unwrap();
    };
    let text = quota(&origin(), "1/h", 2);
    let write = |name: &str, burst: u32| {
        let text = text.replace("burst = 2", &format!("burst = {burst}"));
        std::fs::write(folder.join(name), text).unwrap();
    };
    write("one/a.toml", 2);
    lead_to("../one/a.toml");
    let gateway = Gateway::start(&[file.to_str().unwrap()]);
    let reloaded = |burst: u32| {
        gateway.await_log("reloaded");
        let standing = format!("\"user\";r={}", burst - 1);
        assert_eq!(gateway.get("/", &format!("x-api-key: {burst}\r\n")).field("ratelimit"), standing);
    };
    write("one/a.toml", 20);
    reloaded(20);
    write("two/b.toml", 30);
    lead_to("../two/b.toml");
    reloaded(30);
    write("two/b.toml", 40);
    reloaded(40);
}

#[test]
fn a_dead_upstream_is_told_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = listener.local_addr().unwrap().to_string();
    drop(listener);
    let gateway = Gateway::start(&["--upstream", &format!("http://{dead}")]);
    let answer = gateway.get("/", "");
    assert_eq!((answer.status, answer.field("x-seawall-reason")), (502, "upstream"));
    assert_eq!(answer.field("proxy-status"), "seawall; error=connection_refused");
    assert!(answer.field("retry-after").parse::<u64>().unwrap() >= 1);
    let told =
        format!("route=\"default\" host=\"{dead}\" reason=\"connection_refused\" cause=\"Connection refused");
    gateway.await_log(&told);
    // After enough failures the breaker answers, without asking the upstream.
    let statuses: Vec<u16> = (0..40).map(|_| gateway.get("/", "").status).collect();
    assert!(statuses.ends_with(&[503; 5]), "{statuses:?}");
    assert_eq!(gateway.get("/", "").field("x-seawall-reason"), "open");
    gateway.signal("-KILL");
    assert!(!gateway.log.iter().any(|line| line.contains("refused")), "once in a minute is enough");
}

#[test]
fn what_a_client_claims_of_itself_is_not_forwarded() {
    let gateway = Gateway::start(&["--upstream", &format!("http://{}", origin())]);
    let seen =
        gateway.get("/path?q=1", "te: gzip\r\nkeep-alive: 5\r\nx-own: 1\r\n").body.to_ascii_lowercase();
    assert!(seen.starts_with("get /path?q=1 http/1.1\r\n"), "{seen}");
    assert!(seen.contains("x-own: 1") && seen.contains("x-forwarded-for: 127.0.0.1"), "{seen}");
    assert!(!seen.contains("te: gzip") && !seen.contains("keep-alive"), "{seen}");
}

#[test]
fn a_listener_for_both_families_knows_its_clients_by_their_own_addresses() {
    let gateway = Gateway::start_on("[::]:0", &["--upstream", &format!("http://{}", origin())]);
    let port = gateway.address.rsplit(':').next().unwrap();
    let seen = |ip: &str| get(&format!("{ip}:{port}"), "/", "x-forwarded-for: 192.0.2.7\r\n").body;
    for ip in ["127.0.0.1", "[::1]"] {
        let wanted = format!("x-forwarded-for: 192.0.2.7, {}", ip.trim_matches(['[', ']']));
        assert!(seen(ip).contains(&wanted), "{}", seen(ip));
    }
}

#[test]
fn a_bad_config_is_refused_with_its_place() {
    let file = config("bad.toml", &quota("127.0.0.1:1", "50", 1));
    let output = Command::new(env!("CARGO_BIN_EXE_seawall")).args(["run", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("bad.toml:8:") && error.contains("50/s"), "{error}");
}

/// A gateway that writes there what it says.
fn saying(file: &str, stdout: Stdio, stderr: Stdio) -> Gateway {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (address, admin) = (free(), free());
    let child = Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args(["run", file, "--listen", &address, "--admin", &admin])
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut gateway = Gateway { child, address, admin, log: channel().1 };
    while TcpStream::connect(&gateway.address).is_err() {
        assert!(gateway.child.try_wait().unwrap().is_none(), "it ended before it served");
    }
    gateway
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let text = format!("{}[log]\naccess = \"100%\"\n", quota(&origin(), "1000/s", 1_000));
    let mut gateway = saying(&config("unread.toml", &text), Stdio::null(), Stdio::piped());
    // More than a pipe holds, on each worker.
    let path = format!("/{}", "x".repeat(4_000));
    for _ in 0..100 {
        assert_eq!(gateway.get(&path, "").status, 200);
    }
    gateway.signal("-INT");
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_full_disk_under_its_output_stops_nothing() {
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let file = config("full.toml", &quota(&origin(), "1/h", 2));
    let mut gateway = saying(&file, full(), full());
    // The reason of a refused reload cannot be written either.
    config("full.toml", "nonsense = 1");
    gateway.signal("-HUP");
    assert_eq!(gateway.get("/", "x-api-key: one\r\n").status, 200);
    gateway.signal("-INT");
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
}

#[test]
fn whoever_can_connect_can_signal() {
    for number in 0..20 {
        let file = config(&format!("signal-{number}.toml"), &quota(&origin(), "1/h", 2));
        let mut gateway = saying(&file, Stdio::null(), Stdio::null());
        // At once: by the time that a command has been started to do it, all is set up.
        kill_process(Pid::from_child(&gateway.child), Signal::HUP).unwrap();
        gateway.signal("-INT");
        assert_eq!(gateway.child.wait().unwrap().code(), Some(0), "the {number}th");
    }
}
