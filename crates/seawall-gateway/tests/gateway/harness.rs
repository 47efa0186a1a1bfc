//! A running gateway, clients and origins.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A running gateway; ended when dropped.
pub(crate) struct Gateway {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) admin: String,
    pub(crate) log: Receiver<String>,
}

impl Gateway {
    pub(crate) fn start(arguments: &[&str]) -> Gateway {
        Gateway::start_on("127.0.0.1:0", arguments)
    }

    pub(crate) fn start_on(listen: &str, arguments: &[&str]) -> Gateway {
        let command = &mut Command::new(env!("CARGO_BIN_EXE_seawall"));
        Gateway::begin(command, listen, arguments, Some(env!("CARGO_TARGET_TMPDIR")))
    }

    /// One that may have so many descriptors.
    pub(crate) fn start_with(descriptors: u32, arguments: &[&str]) -> Gateway {
        let limited = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.args(["-c", &limited, env!("CARGO_BIN_EXE_seawall")]);
        Gateway::begin(&mut shell, "127.0.0.1:0", arguments, Some(env!("CARGO_TARGET_TMPDIR")))
    }

    /// One that has few descriptors: room for one client, and for one connection to an upstream, in each worker.
    pub(crate) fn start_narrow(arguments: &[&str]) -> Gateway {
        let workers = thread::available_parallelism().map_or(1, |workers| workers.get() as u32);
        Gateway::start_with(40 + 10 * workers, arguments)
    }

    /// One that leaves its token in this folder.
    pub(crate) fn begin(
        command: &mut Command,
        listen: &str,
        arguments: &[&str],
        folder: Option<&str>,
    ) -> Gateway {
        let mut child = command
            .args(["run", "--listen", listen, "--admin", "127.0.0.1:0"])
            .args(arguments)
            .env_remove("XDG_RUNTIME_DIR")
            .envs(folder.map(|folder| ("XDG_RUNTIME_DIR", folder)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let mut greeting = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
        if greeting.is_empty() {
            let said: Vec<String> = log.iter().collect();
            panic!("it ended before it greeted ({}):\n{}", child.wait().unwrap(), said.join("\n"));
        }
        let between = |from: &str, to: char| {
            let rest = greeting.split_once(from).unwrap_or_else(|| panic!("no address: {greeting}")).1;
            rest.split(to).next().unwrap().trim().to_owned()
        };
        let address = between("serves http", ' ').split_once("://").unwrap().1.to_owned();
        let admin = between("admin: http://", ')');
        Gateway { child, address, admin, log }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// Reads the log until a line contains `wanted`.
    pub(crate) fn await_log(&self, wanted: &str) {
        while !self.log.recv().expect("the log ended before it said so").contains(wanted) {}
    }

    pub(crate) fn state(&self) -> String {
        get(&self.admin, "/api/state", "").body
    }

    /// Runs a command of the binary against it: whether it succeeded, and what it said.
    pub(crate) fn command(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_seawall"))
            .args(arguments)
            .args(["--admin", &self.admin])
            .env("XDG_RUNTIME_DIR", env!("CARGO_TARGET_TMPDIR"))
            .output()
            .unwrap();
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    pub(crate) fn get(&self, path: &str, headers: &str) -> Answer {
        get(&self.address, path, headers)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("(none)")
    }
}

pub(crate) fn get(address: &str, path: &str, headers: &str) -> Answer {
    ask(address, "GET", path, &format!("host: localhost\r\n{headers}"), "")
}

pub(crate) fn ask(address: &str, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    write!(stream, "{method} {path} HTTP/1.1\r\nconnection: close\r\n{length}{headers}\r\n{body}").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// An origin that answers every request with 200 and what it was sent; says its address.
pub(crate) fn origin() -> String {
    origin_saying("200 OK")
}

/// An origin that says one thing to every request, whatever that is; says its address.
pub(crate) fn origin_that_says(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).unwrap_or(0) > 0 {}
            _ = stream.get_mut().write_all(answer.as_bytes());
        }
    });
    address
}

/// An origin that answers every request with this status and what it was sent; says its address.
pub(crate) fn origin_saying(status: &'static str) -> String {
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

pub(crate) fn config(name: &str, text: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

pub(crate) fn quota(origin: &str, rate: &str, burst: u32) -> String {
    format!(
        "listen = \"127.0.0.1:0\"\n[identity]\nuser = [\"header:x-api-key\"]\n\
         [upstream.orders]\nhosts = [\"http://{origin}\"]\n\
         [route.orders]\nupstream = \"orders\"\nthrottle = [{{ per = \"user\", rate = \"{rate}\", burst = {burst} }}]\n"
    )
}

/// An origin that answers the first request, and then is no more; says its address.
pub(crate) fn origin_once() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        drop(listener);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).unwrap() > 0);
        }
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
    });
    address
}

/// An origin that accepts, reads and never answers; says its address.
pub(crate) fn origin_silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let streams: Vec<_> = listener.incoming().collect();
        drop(streams);
    });
    address
}

/// What a request to the admin plane needs to change something.
pub(crate) fn token(gateway: &Gateway) -> String {
    let port = gateway.admin.rsplit(':').next().unwrap();
    let file = format!("{}/seawall/admin-{port}.token", env!("CARGO_TARGET_TMPDIR"));
    format!("host: localhost\r\nauthorization: Bearer {}\r\n", std::fs::read_to_string(file).unwrap())
}
