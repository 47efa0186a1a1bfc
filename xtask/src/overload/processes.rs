//! The bench's processes: the origin, the gateway and the generator, each a child of its own, so
//! that their processor time is counted apart and each point begins with fresh state.
//!
//! Each dies with its handle, also when the bench fails or is interrupted. When the bench itself is
//! killed outright, the origin and the generator see their input end; a gateway would be left.

use std::fs::File;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{interval, sleep, timeout};

use super::generator::{Plan, Said};
use super::origin::{Listening, Stats};
use crate::{Result, root};

#[cfg(test)]
mod tests;

/// The unit of processor time in `/proc`, the same on every Linux that matters: 1/100 s.
pub(crate) const TICKS_PER_S: f64 = 100.0;
/// How long a child may take until it serves.
const START_WITHIN: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(50);

/// Where cargo put this program and puts the others, by profile.
pub(crate) fn built(profile: &str, program: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let target = this.parent().and_then(Path::parent).ok_or("this program lies in no target folder")?;
    Ok(target.join(profile).join(program))
}

/// Builds `package` as it would be shipped.
pub(crate) async fn build(package: &str) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--release", "--package", package]).current_dir(root());
    let status = cargo.kill_on_drop(true).status().await?;
    if status.success() { Ok(()) } else { Err(format!("{package} does not build: {status}").into()) }
}

/// Lets this process and its children open as many sockets as the system permits.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What remains is enough for small loads; a real lack shows as failed requests.
    setrlimit(Resource::Nofile, limit).ok();
}

/// A child and what it says.
struct Speaking {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Speaking {
    /// The optimised build of this program, with one of its hidden commands.
    fn start(arguments: &[&str]) -> Result<Speaking> {
        let mut command = Command::new(built("release", "xtask")?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().ok_or("the child has no input")?;
        let stdout = child.stdout.take().ok_or("the child has no output")?;
        Ok(Speaking { child, stdin, lines: BufReader::new(stdout).lines() })
    }

    /// The next thing it says.
    async fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.lines.next_line().await?.ok_or("a process of the bench ended too early")?;
        Ok(serde_json::from_str(&line)?)
    }
}

pub(super) struct Origin {
    speaking: Speaking,
    pub(super) address: SocketAddr,
}

impl Origin {
    pub(super) async fn start(port: u16, seed: u64) -> Result<Origin> {
        let (port, seed) = (port.to_string(), seed.to_string());
        let mut speaking = Speaking::start(&["overload-origin", "--port", &port, "--seed", &seed])?;
        let Listening { address } = speaking.hear().await?;
        Ok(Origin { speaking, address })
    }

    pub(super) async fn stats(&mut self) -> Result<Stats> {
        self.speaking.stdin.write_all(b"\n").await?;
        self.speaking.hear().await
    }

    pub(super) fn cpu(&self) -> Result<f64> {
        cpu_seconds(&self.speaking.child)
    }
}

pub(super) struct Generator(Speaking);

impl Generator {
    pub(super) fn start(plan: &Plan) -> Result<Generator> {
        let plan = serde_json::to_string(plan)?;
        Speaking::start(&["overload-generator", "--plan", &plan]).map(Generator)
    }

    /// The next thing it says; meanwhile `progress` is shown, on a terminal.
    pub(super) async fn hear(&mut self, progress: &str) -> Result<Said> {
        if !std::io::stderr().is_terminal() {
            return self.0.hear().await;
        }
        let mut second = interval(Duration::from_secs(1));
        let mut seconds = 0_u32;
        loop {
            tokio::select! {
                said = self.0.hear() => {
                    eprint!("\r\x1b[K");
                    return said;
                }
                _ = second.tick() => eprint!("\r\x1b[K{progress}, {seconds} s"),
            }
            seconds += 1;
        }
    }

    pub(super) fn cpu(&self) -> Result<f64> {
        cpu_seconds(&self.0.child)
    }
}

pub(super) struct Gateway {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Gateway {
    /// In front of `upstream`, told nothing but where that is.
    pub(super) async fn start(upstream: SocketAddr) -> Result<Gateway> {
        let (address, admin) = (free_address()?, free_address()?);
        let log_path = built("release", "overload-gateway.log")?;
        let log = File::create(&log_path)?;
        let mut command = Command::new(built("release", "seawall")?);
        command.args(["run", "--upstream", &format!("http://{upstream}")]);
        command.args(["--listen", &address.to_string(), "--admin", &admin.to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let mut gateway = Gateway { child: command.spawn()?, address };
        timeout(START_WITHIN, gateway.ready(admin))
            .await
            .map_err(|_| "not ready in time".into())
            .flatten()
            .map_err(|error| format!("the gateway did not start: {error}; see {}", log_path.display()))?;
        Ok(gateway)
    }

    async fn ready(&mut self, admin: SocketAddr) -> Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("it ended with {status}").into());
            }
            if says_ready(admin).await.unwrap_or(false) {
                return Ok(());
            }
            sleep(START_POLL).await;
        }
    }

    pub(super) fn cpu(&self) -> Result<f64> {
        cpu_seconds(&self.child)
    }

    /// Kills and reaps it, so that the next point's gateway has the machine to itself.
    pub(super) async fn end(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Whether `GET /readyz` answers 200.
async fn says_ready(admin: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect(admin).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    Ok(start == *b"HTTP/1.1 200")
}

/// A port that nobody listens on just now.
fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The processor time of a running child so far, user and system, in seconds.
fn cpu_seconds(child: &Child) -> Result<f64> {
    let pid = child.id().ok_or("a process of the bench has ended")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(ticks(&stat).ok_or("/proc/PID/stat is not as proc(5) says")? as f64 / TICKS_PER_S)
}

/// `utime + stime` of a line of `/proc/PID/stat`.
pub(crate) fn ticks(stat: &str) -> Option<u64> {
    // The name before the last parenthesis may hold anything, even parentheses.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}
