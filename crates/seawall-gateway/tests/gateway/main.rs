//! The gateway as its users meet it: the real binary, real sockets, signals.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A running gateway; ended when dropped.
struct Gateway {
    child: Child,
    address: String,
    admin: String,
    log: Receiver<String>,
}

impl Gateway {
    fn start(arguments: &[&str]) -> Gateway {
        let mut child = Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let mut greeting = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
        let between = |from: &str, to: char| {
            let rest = greeting.split_once(from).unwrap_or_else(|| panic!("no address: {greeting}")).1;
            rest.split(to).next().unwrap().trim().to_owned()
        };
        let (address, admin) = (between("serves http://", ' '), between("admin: http://", ')'));
        Gateway { child, address, admin, log }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Reads the log until a line contains `wanted`.
    fn await_log(&self, wanted: &str) {
        while !self.log.recv().expect("the log ended before it said so").contains(wanted) {}
    }

    fn state(&self) -> String {
        get(&self.admin, "/api/state", "").body
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        get(&self.address, path, headers)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("(none)")
    }
}

fn get(address: &str, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// An origin that answers every request with 200 and what it was sent; says its address.
fn origin() -> String {
    origin_saying("200 OK")
}

/// An origin that answers every request with this status and what it was sent; says its address.
fn origin_saying(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = BufReader::new(stream.unwrap());
                loop {
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if stream.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{head}", head.len());
                    if stream.get_mut().write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn config(name: &str, text: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn quota(origin: &str, rate: &str, burst: u32) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\n[identity]\nuser = [\"header:x-api-key\"]\n\
         [upstream.orders]\nhosts = [\"http://{origin}\"]\n\
         [route.orders]\nupstream = \"orders\"\nthrottle = [{{ per = \"user\", rate = \"{rate}\", burst = {burst} }}]\n"
    )
}

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
    gateway.signal("-TERM");
    assert!(gateway.child.wait().unwrap().success());
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
    assert_eq!(ask(), 429);
    assert_eq!(gateway.get("/", "x-api-key: two\r\n").status, 200);
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
    // After enough failures the breaker answers, without asking the upstream.
    let statuses: Vec<u16> = (0..40).map(|_| gateway.get("/", "").status).collect();
    assert!(statuses.ends_with(&[503; 5]), "{statuses:?}");
    assert_eq!(gateway.get("/", "").field("x-seawall-reason"), "open");
}

#[test]
fn a_host_that_is_not_well_is_not_asked() {
    let (well, unwell) = (origin(), origin_saying("503 Service Unavailable"));
    let file = config(
        "health.toml",
        &format!(
            "[upstream.u]\nhosts = [\"http://{well}\", \"http://{unwell}\"]\n\
             health = {{ every = \"20ms\", within = \"1s\" }}\n[route.r]\nupstream = \"u\"\nretry = false\n"
        ),
    );
    let gateway = Gateway::start(&[&file]);
    gateway.await_log("host_unhealthy");
    assert!((0..40).all(|_| gateway.get("/", "").status == 200));
    assert!(gateway.state().contains("\"health\":\"unwell\""));
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
fn a_bad_config_is_refused_with_its_place() {
    let file = config("bad.toml", &quota("127.0.0.1:1", "50", 1));
    let output = Command::new(env!("CARGO_BIN_EXE_seawall")).args(["run", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("bad.toml:8:") && error.contains("50/s"), "{error}");
}

#[test]
fn a_full_disk_under_its_output_stops_nothing() {
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (address, admin) = (free(), free());
    let file = config("full.toml", &quota(&origin(), "1/h", 2));
    let child = Command::new(env!("CARGO_BIN_EXE_seawall"))
        .args(["run", &file, "--listen", &address, "--admin", &admin])
        .stdout(full())
        .stderr(full())
        .spawn()
        .unwrap();
    let mut gateway = Gateway { child, address, admin, log: channel().1 };
    while TcpStream::connect(&gateway.address).is_err() {
        assert!(gateway.child.try_wait().unwrap().is_none(), "it ended before it served");
    }
    // The reason of a refused reload cannot be written either.
    config("full.toml", "nonsense = 1");
    gateway.signal("-HUP");
    assert_eq!(gateway.get("/", "x-api-key: one\r\n").status, 200);
    gateway.signal("-TERM");
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
}
