//! Not one request is lost: over reloads, over restarts that hand the sockets over, and while upstreams
//! are restarted one after the other.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::{Gateway, ask, config, origin, token};

/// Clients that ask all the time, on connections that they keep as long as they may.
struct Load {
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    fn on(address: &str, clients: usize) -> Load {
        let (over, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |_| {
            let (over, answered, address) = (over.clone(), answered.clone(), address.to_owned());
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let stream =
                        TcpStream::connect(&address).map_err(|error| format!("connecting: {error}"))?;
                    while_kept(BufReader::new(stream), &over, &answered)?;
                }
                Ok(())
            })
        };
        Load { clients: (0..clients).map(client).collect(), over, answered }
    }

    /// Waits until so many more were answered.
    fn goes_on(&self, requests: u64) {
        let until = self.answered.load(Ordering::Relaxed) + requests;
        while self.answered.load(Ordering::Relaxed) < until {
            assert!(!self.clients.iter().any(JoinHandle::is_finished), "a client has given up");
            thread::yield_now();
        }
    }

    /// Ends it; how many requests were answered, all with 200.
    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        for client in self.clients {
            assert_eq!(client.join().unwrap(), Ok(()), "a request was lost");
        }
        self.answered.load(Ordering::Relaxed)
    }
}

/// Asks on this connection until it is told that it is over.
fn while_kept(
    mut stream: BufReader<TcpStream>,
    over: &AtomicBool,
    answered: &AtomicU64,
) -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    while !over.load(Ordering::Relaxed) {
        let asking = b"GET /path HTTP/1.1\r\nhost: a.example\r\n\r\n";
        stream.get_mut().write_all(asking).map_err(|error| failed("asking", error))?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = stream.read_line(&mut head).map_err(|error| failed("listening", error))?;
            if read == 0 {
                return Err(format!("closed with a request under way, after {head:?}"));
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next());
        let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
        stream.read_exact(&mut body).map_err(|error| failed("reading", error))?;
        if !head.starts_with("http/1.1 200 ") {
            return Err(head);
        }
        answered.fetch_add(1, Ordering::Relaxed);
        if head.contains("connection: close") {
            return Ok(());
        }
    }
    Ok(())
}

fn hand_over(name: &str) -> PathBuf {
    // The path of a socket must be short.
    std::env::temp_dir().join(format!("seawall-{}-{name}", std::process::id()))
}

/// Restarts and reloads under load.
fn restarts_and_reloads(name: &str, restarts: u32, reloads: u32) {
    let socket = hand_over(name);
    let text = |deadline: u32| {
        format!(
            "hand_over = \"{}\"\n[upstream.u]\nhosts = [\"http://{}\"]\n[route.r]\nupstream = \"u\"\ndeadline = \"{deadline}s\"\n",
            socket.display(),
            origin()
        )
    };
    let file = config(name, &text(10));
    let mut gateway = Gateway::start(&[&file]);
    let load = Load::on(&gateway.address, 8);
    for _ in 0..restarts {
        load.goes_on(100);
        let next = Gateway::start(&[&file]);
        assert_eq!((&next.address, &next.admin), (&gateway.address, &gateway.admin));
        let mut old = std::mem::replace(&mut gateway, next);
        assert!(old.child.wait().unwrap().success());
    }
    let headers = format!("content-type: text/plain\r\n{}", token(&gateway));
    for number in 0..reloads {
        let text = text(11 + number % 7);
        let answer = ask(&gateway.admin, "PUT", "/api/config", &headers, &text);
        assert_eq!(answer.status, 200, "{}", answer.body);
        load.goes_on(1);
    }
    println!("{} requests, none lost, over {restarts} restarts and {reloads} reloads", load.end());
    gateway.signal("-INT");
    assert!(gateway.child.wait().unwrap().success());
    assert!(!socket.exists(), "nobody would answer there");
}

#[test]
fn no_request_is_lost_over_restarts_and_reloads() {
    restarts_and_reloads("lossless.toml", 3, 20);
}

#[test]
#[ignore = "takes minutes: the same at length"]
fn no_request_is_lost_over_20_restarts_and_1000_reloads() {
    restarts_and_reloads("lossless-long.toml", 20, 1_000);
}

#[test]
fn a_block_survives_a_hand_over() {
    let socket = hand_over("block");
    let file = config(
        "hand-over-block.toml",
        &format!(
            "hand_over = \"{}\"\n[upstream.u]\nhosts = [\"http://{}\"]\n[route.r]\nupstream = \"u\"\n",
            socket.display(),
            origin()
        ),
    );
    let _ = std::fs::remove_file(format!("{file}.state"));
    let gateway = Gateway::start(&[&file]);
    assert!(gateway.command(&["block", "r"]).0);
    let next = Gateway::start(&[&file]);
    assert_eq!(next.address, gateway.address);
    assert_eq!(next.get("/", "").field("x-seawall-reason"), "blocked");
    assert!(next.command(&["admit", "r", "--over", "1ms"]).0);
    // Left behind, as by a process that was killed.
    drop((gateway, next));
    assert!(socket.exists());
    let anew = Gateway::start(&[&file]);
    while anew.get("/", "").status != 200 {}
    drop(anew);
    let _ = std::fs::remove_file(socket);
}

/// A listener on an address that was in use a moment ago. It may be still: a process that another test starts
/// has a copy of every socket until it runs its own program.
fn bind(address: &str) -> TcpListener {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                thread::yield_now();
            }
            bound => return bound.unwrap(),
        }
    }
}

/// A service that can be restarted: it ends the answers that it began, and closes every connection.
struct Service {
    address: String,
    over: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<Arc<Mutex<TcpStream>>>>>,
    listening: Option<JoinHandle<()>>,
}

impl Service {
    fn start(address: &str) -> Service {
        let listener = bind(address);
        let address = listener.local_addr().unwrap().to_string();
        let (over, connections) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (ends, open) = (over.clone(), connections.clone());
        let listening = thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let answers = Arc::new(Mutex::new(stream.try_clone().unwrap()));
                open.lock().unwrap().push(answers.clone());
                thread::spawn(move || {
                    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
                    while lines.any(|line| line.is_empty()) {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                        if answers.lock().unwrap().write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Service { address, over, connections, listening: Some(listening) }
    }

    fn restart(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(&self.address);
        self.listening.take().unwrap().join().unwrap();
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.lock().unwrap().shutdown(Shutdown::Both);
        }
        *self = Service::start(&self.address);
    }
}

#[test]
fn no_request_is_lost_while_upstreams_are_restarted_in_turn() {
    let mut services: Vec<Service> = (0..3).map(|_| Service::start("127.0.0.1:0")).collect();
    let hosts: Vec<String> =
        services.iter().map(|service| format!("\"http://{}\"", service.address)).collect();
    let file = format!("[upstream.u]\nhosts = [{}]\n[route.r]\nupstream = \"u\"\n", hosts.join(", "));
    let gateway = Gateway::start(&[&config("rolling.toml", &file)]);
    let load = Load::on(&gateway.address, 8);
    for _ in 0..3 {
        for service in &mut services {
            load.goes_on(200);
            service.restart();
        }
    }
    load.goes_on(200);
    load.end();
}
