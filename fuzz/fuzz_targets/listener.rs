//! Bytes to a running gateway: it answers or closes, nothing in it panics, and the next client is served.
//!
//! The program is named by `SEAWALL`. The first byte of an input says whether it is HTTP/2, and in how many
//! pieces it is sent.
#![no_main]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::sync::Mutex;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// How long a client may be left without a word.
const WITHIN: Duration = Duration::from_secs(15);

struct Gateway {
    child: Child,
    address: String,
    log: Receiver<String>,
}

fn gateway() -> &'static Mutex<Gateway> {
    static GATEWAY: OnceLock<Mutex<Gateway>> = OnceLock::new();
    GATEWAY.get_or_init(|| Mutex::new(start()))
}

fn start() -> Gateway {
    let program = std::env::var("SEAWALL").expect("SEAWALL names the gateway's program");
    let mut child = Command::new(program)
        .args(["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the gateway starts");
    let (lines, log) = channel();
    let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
    let mut greeting = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut greeting).expect("it greets");
    let address = greeting.split("serves http").nth(1).and_then(|rest| rest.split("://").nth(1));
    let address = address.and_then(|rest| rest.split(' ').next()).expect("it says where it listens").to_owned();
    Gateway { child, address, log }
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(&gateway.address).expect("the gateway listens");
    stream.set_read_timeout(Some(WITHIN)).expect("a time is set");
    stream.set_write_timeout(Some(WITHIN)).expect("a time is set");
    stream
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let mut gateway = gateway().lock().expect("one at a time");
    let mut stream = connect(&gateway);
    if kind & 1 == 1 {
        let _ = stream.write_all(PREFACE);
    }
    for piece in bytes.chunks(bytes.len() / usize::from(1 + (kind >> 1 & 3)) + 1) {
        let _ = stream.write_all(piece);
    }
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(error.kind() == std::io::ErrorKind::ConnectionReset, "no end: {error}");
    }
    let mut next = connect(&gateway);
    next.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("it takes a request");
    let mut answer = String::new();
    let _ = next.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    while let Ok(line) = gateway.log.try_recv() {
        assert!(!line.contains("panicked"), "{line}");
    }
    assert!(gateway.child.try_wait().expect("it can be asked").is_none(), "the gateway ended");
});
