//! The clients of the storm, ordinary and otherwise.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, sleep, timeout};

use super::origin::MARK;
use super::{Answers, Args};

/// How long a client waits for its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long an ordinary client thinks.
const THINKS: Duration = Duration::from_millis(5);
/// How often an abuser of another kind begins.
const ABUSE: Duration = Duration::from_millis(20);
/// How long a half-open head stays, unless it is closed.
const HALF_OPEN: Duration = Duration::from_secs(15);

/// What all clients were told, by the kind of client.
#[derive(Default)]
pub(super) struct Tally(RefCell<BTreeMap<&'static str, Answers>>);

/// The kind whose requests are all answered.
const ORDINARY: &str = "ordinary";
const UNANSWERED: &str = "no answer: ";

impl Tally {
    fn note(&self, kind: &'static str, answer: io::Result<String>) {
        let answer = answer.unwrap_or_else(|error| format!("{UNANSWERED}{error}"));
        *self.0.borrow_mut().entry(kind).or_default().entry(answer).or_default() += 1;
    }

    pub(super) fn answers(&self) -> BTreeMap<&'static str, Answers> {
        self.0.borrow().clone()
    }

    fn count(&self, wanted: impl Fn(&str, &str) -> bool) -> u64 {
        let all = self.0.borrow();
        let each = all.iter().flat_map(|(kind, answers)| answers.iter().map(move |answer| (*kind, answer)));
        each.filter(|(kind, (answer, _))| wanted(kind, answer)).map(|(_, (_, count))| count).sum()
    }

    pub(super) fn requests(&self) -> u64 {
        self.count(|_, _| true)
    }

    pub(super) fn unanswered(&self) -> u64 {
        self.count(|kind, answer| kind == ORDINARY && answer.starts_with(UNANSWERED))
    }

    pub(super) fn without_reason(&self) -> u64 {
        self.count(|_, answer| answer.ends_with(" without a reason"))
    }
}

/// Lets all clients begin; they end after `end`.
pub(super) fn begin(args: &Args, address: SocketAddr, tally: &Rc<Tally>, end: Instant) {
    for number in 0..args.clients {
        tokio::task::spawn_local(ordinary(address, number, tally.clone(), end));
    }
    for number in 0..args.half_open {
        tokio::task::spawn_local(half_open(address, number, end));
    }
    tokio::task::spawn_local(new_keys(address, args.keys_per_s, tally.clone(), end));
    let abuses: [(&'static str, Vec<u8>); 5] = [
        ("nonsense", b"\x16\x03\x01\x02\0nonsense\r\n\r\n".to_vec()),
        ("nonsense", format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(80_000)).into_bytes()),
        (
            "smuggling",
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_vec(),
        ),
        ("large body", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n".to_vec()),
        ("broken body", b"PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec()),
    ];
    for (kind, bytes) in abuses {
        tokio::task::spawn_local(abuse(address, kind, bytes, tally.clone(), end));
    }
    tokio::task::spawn_local(resets(address, end));
}

/// Asks on a connection that it keeps, each time with its own key.
async fn ordinary(address: SocketAddr, number: u32, tally: Rc<Tally>, end: Instant) {
    let mut kept: Option<BufReader<TcpStream>> = None;
    let post = number.is_multiple_of(4);
    let line = if post { "POST /orders HTTP/1.1\r\ncontent-length: 2" } else { "GET /orders HTTP/1.1" };
    let body = if post { "ok" } else { "" };
    let request = format!("{line}\r\nhost: storm\r\nx-api-key: {number}\r\n\r\n{body}");
    while Instant::now() < end {
        let asked = async {
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => BufReader::new(TcpStream::connect(address).await?),
            };
            stream.get_mut().write_all(request.as_bytes()).await?;
            let (answer, closes) = answer(&mut stream).await?;
            Ok((answer, (!closes).then_some(stream)))
        };
        let asked = timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        tally.note(
            ORDINARY,
            asked.map(|(answer, stream)| {
                kept = stream;
                answer
            }),
        );
        sleep(THINKS).await;
    }
}

/// A key of its own for each request.
async fn new_keys(address: SocketAddr, per_s: u32, tally: Rc<Tally>, end: Instant) {
    let mut tick = interval(Duration::from_millis(10));
    let mut key = 0_u64;
    let streams: Rc<RefCell<Vec<BufReader<TcpStream>>>> = Rc::default();
    while Instant::now() < end {
        tick.tick().await;
        for _ in 0..per_s.div_ceil(100) {
            key += 1;
            let (tally, streams) = (tally.clone(), streams.clone());
            tokio::task::spawn_local(async move {
                let request = format!("GET / HTTP/1.1\r\nhost: storm\r\nx-api-key: new-{key}\r\n\r\n");
                // One that was idle for long may be closed by now.
                let idle = streams.borrow_mut().pop();
                let asked = async {
                    let mut stream = match idle {
                        Some(stream) if is_open(&stream) => stream,
                        Some(_) | None => BufReader::new(TcpStream::connect(address).await?),
                    };
                    stream.get_mut().write_all(request.as_bytes()).await?;
                    let (answer, closes) = answer(&mut stream).await?;
                    if !closes {
                        streams.borrow_mut().push(stream);
                    }
                    Ok(answer)
                };
                let asked = timeout(PATIENCE, asked).await;
                tally.note("new keys", asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())));
            });
        }
    }
}

/// Whether the gateway has not closed a connection while it was idle.
fn is_open(stream: &BufReader<TcpStream>) -> bool {
    let polled = stream.get_ref().try_read(&mut [0]);
    polled.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Begins a head, and adds to it now and then.
async fn half_open(address: SocketAddr, number: u32, end: Instant) {
    sleep(Duration::from_millis(u64::from(number) * 10)).await;
    while Instant::now() < end {
        let open = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await?;
            loop {
                sleep(Duration::from_secs(1)).await;
                stream.write_all(b"x: y\r\n").await?;
            }
        };
        let _: Result<io::Result<()>, _> = timeout(HALF_OPEN, open).await;
        sleep(ABUSE).await;
    }
}

/// Sends the same again and again, on a connection each.
async fn abuse(address: SocketAddr, kind: &'static str, bytes: Vec<u8>, tally: Rc<Tally>, end: Instant) {
    while Instant::now() < end {
        let asked = async {
            let mut stream = BufReader::new(TcpStream::connect(address).await?);
            // It may be closed before all is sent; what was said is there.
            let _ = stream.get_mut().write_all(&bytes).await;
            Ok(answer(&mut stream).await?.0)
        };
        let asked = timeout(PATIENCE, asked).await;
        tally.note(kind, asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())));
        sleep(ABUSE).await;
    }
}

/// Opens streams and resets them at once, until the connection is closed on it.
async fn resets(address: SocketAddr, end: Instant) {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    while Instant::now() < end {
        let storm = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(PREFACE).await?;
            for id in (1_u32..100_000).step_by(2) {
                let mut frames = b"\0\0\x06\x01\x05".to_vec();
                frames.extend(id.to_be_bytes());
                frames.extend(b"\x82\x86\x84\x41\x01a\0\0\x04\x03\0");
                frames.extend(id.to_be_bytes());
                frames.extend(8_u32.to_be_bytes());
                stream.write_all(&frames).await?;
            }
            Ok(())
        };
        let _: Result<io::Result<()>, _> = timeout(PATIENCE, storm).await;
        sleep(Duration::from_millis(200)).await;
    }
}

/// Reads an answer: its status with where it comes from, and whether the connection ends with it.
async fn answer(stream: &mut BufReader<TcpStream>) -> io::Result<(String, bool)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let head = head.to_ascii_lowercase();
    let field =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let status = head.get(9..12).unwrap_or("?");
    let from = match (field("x-seawall-reason"), field(MARK)) {
        _ if status.starts_with('2') => String::new(),
        (Some(reason), _) => format!(" {reason}"),
        (None, Some(_)) => " of the origin".to_owned(),
        (None, None) => " without a reason".to_owned(),
    };
    match field("content-length").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => _ = stream.read_exact(&mut vec![0; length]).await?,
        None if field("transfer-encoding").is_some() => {
            let mut rest = String::new();
            while rest != "0\r\n" {
                rest.clear();
                if stream.read_line(&mut rest).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            stream.read_line(&mut rest).await?;
        }
        None => {}
    }
    Ok((format!("{status}{from}"), field("connection") == Some("close")))
}
