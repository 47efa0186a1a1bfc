//! `seawall run`: from a config to a gateway that serves, reloads and drains.
//!
//! **Reload** on SIGHUP and when the file changes: a valid config becomes the new road, on which the
//! next request begins; requests under way finish on theirs; state is kept, and what was kept is
//! said. A broken file is refused with its reason and the old config stays. Addresses are bound once: a
//! new one is announced as needing a restart, for as long as it does. `PUT /api/config` does the same without
//! the file, which is not written.
//!
//! **Hand-over** where the config names a file for it ([`handover`](crate::handover)): a process that starts
//! takes the sockets of the one that runs, which then drains.
//!
//! **Drain** on SIGTERM, on Ctrl-C or by the admin API: `/readyz` turns to 503 while all is served as before, for as
//! long as `lame_duck` says, so that nobody is sent here any more. Then no connection is accepted, and each open one
//! finishes the request that it is serving, for `grace` at the most. Who presses Ctrl-C and who takes over need not
//! be told: both begin with the second part. A second signal ends at once.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use seawall::monitor::{Sampler, watch as watch_machine};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::admin::auth::Auth;
use crate::admin::events::Readers;
use crate::admin::{self, Order, Waits};
use crate::blocks::{Blocks, Notice};
use crate::check::ground;
use crate::cli::{Addresses, RunArgs, Target};
use crate::descriptors::Shares;
use crate::handover::{Offer, Successor};
use crate::otlp::Exports;
use crate::proxy::greeting::Greeting;
use crate::proxy::listen::{Phase, Serving, serve};
use crate::proxy::road::{Kept, Road};
use crate::proxy::stack::Stack;
use crate::sample;
use crate::sockets::Sockets;
use crate::tls::{self, Certificates};
use crate::watched::Watched;
use seawall_config::{Colour, Config, ConfigError, Hosts, Listener, Url};

/// How long a file must rest after a change: an editor writes in several steps.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the changes inside the gates are logged.
const EVENTS_EVERY: Duration = Duration::from_millis(250);

/// How often certificates are looked at.
const FILES_EVERY: Duration = Duration::from_secs(10);

/// Why the gateway cannot run.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The config is wrong.
    Config(ConfigError),
    /// The system refused: what was tried, and its answer.
    System(String, io::Error),
}

impl From<ConfigError> for RunError {
    fn from(error: ConfigError) -> RunError {
        RunError::Config(error)
    }
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> RunError {
    let what = what.into();
    move |error| RunError::System(what, error)
}

/// Runs the gateway until it is told to end.
pub(crate) fn run(args: &RunArgs, colour: Colour) -> Result<ExitCode, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("cannot start"))?;
    // Beside what follows: it takes a moment, and until then the system's clock does.
    std::thread::spawn(seawall::use_time_stamp_counter);
    let (to_phase, phase) = watch::channel(Phase::Serve);
    let (config, text, sample) = configure(args, &phase)?;
    if let Err(error) = tls::check(&config) {
        return Err(system("cannot speak TLS")(io::Error::other(error)));
    }
    warn_of_untimely(&config);
    // Before anything is taken from a process that serves: whether it can be read at all.
    Blocks::restored(state_file(args, &config)).map_err(system("cannot read the state file"))?;
    // Before anybody can connect: who does, may signal at once, and would end a process that does not listen to it.
    let signals = {
        let _within = runtime.enter();
        Signals::new().map_err(system("cannot listen to signals"))?
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let shares = Shares::new(workers * config.listeners.len()).map_err(system("cannot serve"))?;
    let mut sockets =
        Sockets::open(&config, workers).map_err(|(what, error)| RunError::System(what, error))?;
    let exports = config.otlp.as_ref().map(Exports::new).transpose();
    let exports = exports.map_err(|error| system("cannot export by OTLP")(io::Error::other(error)))?;
    let mut kept = Kept::default();
    kept.deliveries = exports.as_ref().map(Exports::deliveries);
    let road = kept.road(&config);
    if let Some(before) = sockets.predecessor.take() {
        before.take_over().map_err(system("cannot take over"))?;
        tracing::info!("taken over from the process before, which finishes what it has begun");
    }
    let blocks = Blocks::restored(state_file(args, &config)).map_err(system("cannot read the state file"))?;
    blocks.prepare(&road);
    let plan = Plan {
        road: Arc::new(ArcSwap::from_pointee(road)),
        text: Arc::new(ArcSwap::from_pointee(text)),
        config,
        kept,
        blocks,
        sockets,
        shares,
        signals,
        has_sample: sample.is_some(),
        exports: exports.clone(),
    };
    let code = runtime.block_on(plan.carry_out(args, colour, phase, &to_phase));
    to_phase.send_replace(Phase::Stop);
    exports.iter().for_each(Exports::finish);
    if let Some(sample) = sample {
        sample.join();
    }
    code
}

/// What is there before anything is served.
struct Plan {
    road: Arc<ArcSwap<Road>>,
    text: Arc<ArcSwap<String>>,
    config: Config,
    kept: Kept,
    blocks: Blocks,
    sockets: Sockets,
    shares: Shares,
    signals: Signals,
    has_sample: bool,
    exports: Option<Exports>,
}

impl Plan {
    async fn carry_out(
        self,
        args: &RunArgs,
        colour: Colour,
        phase: watch::Receiver<Phase>,
        to_phase: &watch::Sender<Phase>,
    ) -> Result<ExitCode, RunError> {
        let Plan { road, text, config, kept, blocks, sockets, shares, signals, has_sample, exports } = self;
        let (control, mut orders) = mpsc::channel(1);
        let offer = config.hand_over.as_deref().map(|path| {
            let copies = sockets.copies(&config)?;
            Offer::make(path, copies, control.clone())
        });
        let offer = offer.transpose().map_err(system("cannot offer a hand-over"))?;
        let admin = sockets.admin.local_addr().map_err(system("cannot listen"))?;
        let (serving, certificates) = listen(&config, sockets.listeners, shares, &phase, &road, &exports)?;
        let (readers, waits) = (Readers::default(), Waits::default());
        let view = admin::View {
            road: road.clone(),
            phase,
            config: text.clone(),
            waits: waits.clone(),
            blocks: blocks.clone(),
            readers: readers.clone(),
            control,
        };
        let mut admins = JoinSet::new();
        let listener = |socket| TcpListener::from_std(socket).map_err(system("cannot listen"));
        if let Some(probes) = sockets.probes {
            admins.spawn(admin::serve_probes(listener(probes)?, view.clone(), shares.operators));
        }
        let auth = Auth::new(admin, config.admin.token_file.clone());
        admins.spawn(admin::serve(listener(sockets.admin)?, view, auth, shares.operators));
        greet(&serving, &config, admin, has_sample);
        let (addresses, attendants) = (args.addresses.clone(), JoinSet::new());
        let mut control = Control {
            kept,
            begun: config.clone(),
            waits,
            road,
            config,
            text,
            blocks,
            readers,
            certificates,
            addresses,
            colour,
            attendants,
            exports,
        };
        control.attend();
        let successor = control.until_drain(signals, &mut orders, file(args), to_phase).await;
        drop(orders);
        offer.into_iter().for_each(|offer| offer.withdraw(successor.is_some()));
        if let Some(successor) = successor {
            admins.shutdown().await;
            successor.tell().await;
        }
        let ended = tokio::task::spawn_blocking(move || serving.into_iter().for_each(Serving::join)).await;
        admins.abort_all();
        Ok(if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Serves every listener; says which certificates they show.
fn listen(
    config: &Config,
    sockets: Vec<Vec<std::net::TcpListener>>,
    shares: Shares,
    phase: &watch::Receiver<Phase>,
    stack: &Arc<ArcSwap<Road>>,
    exports: &Option<Exports>,
) -> Result<(Vec<Serving>, Vec<Arc<Certificates>>), RunError> {
    let (mut serving, mut certificates) = (Vec::new(), Vec::new());
    for (listener, sockets) in config.listeners.iter().zip(sockets) {
        let tls = listener.tls.as_ref().map(tls::server).transpose();
        let tls = tls.map_err(|error| system("cannot speak TLS")(io::Error::other(error)))?;
        certificates.extend(tls.clone());
        let greeting = Greeting { tls, proxy_protocol: listener.proxy_protocol };
        let (stack, address) = (stack.clone(), listener.address);
        let tracer = exports.as_ref().map(Exports::tracer);
        let make = move || Stack::new(stack.clone(), shares.upstreams, tracer.clone());
        let started = serve(sockets, phase.clone(), greeting, shares.clients, make);
        serving.push(started.map_err(system(format!("cannot listen on {address}")))?);
    }
    Ok((serving, certificates))
}

/// Where blocked routes are remembered: if the config does not say, under the name of its file, in the folder that a
/// service manager gives for state or beside it.
fn state_file(args: &RunArgs, config: &Config) -> Option<PathBuf> {
    config.state.clone().or_else(|| state_of(file(args)?, std::env::var_os("STATE_DIRECTORY")))
}

fn state_of(config: PathBuf, folders: Option<OsString>) -> Option<PathBuf> {
    let mut name = config.file_name()?.to_owned();
    name.push(".state");
    // There may be several.
    let folder = folders.and_then(|folders| std::env::split_paths(&folders).next());
    Some(match folder.filter(|folder| folder.is_absolute()) {
        Some(folder) => folder.join(name),
        None => config.with_file_name(name),
    })
}

/// The config that was asked for, its text, and the sample service if it stands in for an upstream.
fn configure(
    args: &RunArgs,
    phase: &watch::Receiver<Phase>,
) -> Result<(Config, String, Option<Serving>), RunError> {
    let (config, text, sample) = match &args.target {
        Target::File(path) => {
            let text = Config::text(path)?;
            (Config::from_toml(&text, path)?, text, None)
        }
        Target::Upstreams(hosts) => (Config::for_upstreams(hosts.clone()), hosts.config(), None),
        Target::Sample => {
            // It outlives the drain: requests under way need it to the end.
            let phase = phase.clone();
            let sample = sample::start(phase).map_err(system("cannot start the sample service"))?;
            let hosts = Hosts::from(Url::from(sample.address()));
            let text = hosts.config();
            (Config::for_upstreams(hosts), text, Some(sample))
        }
    };
    Ok((args.addresses.over(config), text, sample))
}

fn file(args: &RunArgs) -> Option<PathBuf> {
    match &args.target {
        Target::File(path) => Some(path.clone()),
        Target::Upstreams(_) | Target::Sample => None,
    }
}

fn greet(serving: &[Serving], config: &Config, admin: std::net::SocketAddr, sample: bool) {
    let of = |(serving, listener): (&Serving, &Listener)| {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", serving.address())
    };
    let addresses: Vec<String> = serving.iter().zip(&config.listeners).map(of).collect();
    let mut text = format!("seawall serves {} (admin: http://{admin})\n", addresses.join(" "));
    let address = &addresses[0];
    if sample {
        text += &format!(
            "in front of an embedded sample service; try:\n  \
             curl -i {address}/\n  \
             curl -i {address}/fail\n  \
             curl -s http://{admin}/api/state\n"
        );
    }
    // A service goes on also where nobody can read what it says, as on a full disk.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// The signals that ask for something.
struct Signals {
    ending: Ending,
    reload: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        let ending = Ending {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        Ok(Signals { ending, reload: signal(SignalKind::hangup())? })
    }
}

/// Those that ask for the end.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

/// How an end begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Others are told first, and get the time to hear it.
    Announced,
    /// Nobody needs to be told.
    Sudden,
}

impl Ending {
    async fn asked(&mut self) -> End {
        tokio::select! {
            _ = self.terminate.recv() => End::Announced,
            _ = self.interrupt.recv() => End::Sudden,
        }
    }
}

/// What a reload changes.
struct Control {
    kept: Kept,
    /// The config with which the process began, whose addresses and files it uses.
    begun: Config,
    waits: Waits,
    road: Arc<ArcSwap<Road>>,
    config: Config,
    text: Arc<ArcSwap<String>>,
    blocks: Blocks,
    readers: Readers,
    certificates: Vec<Arc<Certificates>>,
    addresses: Addresses,
    colour: Colour,
    /// What goes on beside the road in force.
    attendants: JoinSet<()>,
    exports: Option<Exports>,
}

impl Control {
    /// Reloads and logs until a signal asks for the end, or another process takes over; then drains. Says
    /// who waits to hear that it has begun.
    async fn until_drain(
        &mut self,
        Signals { mut ending, mut reload }: Signals,
        orders: &mut mpsc::Receiver<Order>,
        file: Option<PathBuf>,
        to_phase: &watch::Sender<Phase>,
    ) -> Option<Successor> {
        let (changed, mut changes) = mpsc::channel(1);
        let mut watched = file.as_deref().and_then(|file| Watched::new(file, changed));
        let mut events = tokio::time::interval(EVENTS_EVERY);
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut files = tokio::time::interval(FILES_EVERY);
        files.set_missed_tick_behavior(MissedTickBehavior::Delay);
        events.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ends_at = None;
        let successor = loop {
            let ends = ends_at.unwrap_or_else(Instant::now);
            tokio::select! {
                end = ending.asked() => match (end, ends_at) {
                    (End::Announced, None) => ends_at = Some(self.announce(to_phase)),
                    (End::Sudden, None) => break None,
                    (_, Some(_)) => {
                        to_phase.send_replace(Phase::Stop);
                        return None;
                    }
                },
                () = tokio::time::sleep_until(ends), if ends_at.is_some() => break None,
                _ = reload.recv() => self.reload(file.as_deref(), &mut watched),
                Some(()) = changes.recv() => {
                    tokio::time::sleep(SETTLE).await;
                    while changes.try_recv().is_ok() {}
                    self.reload(file.as_deref(), &mut watched);
                }
                Some(order) = orders.recv() => match order {
                    Order::Configure { text, answer } => {
                        let done = self.configure(text, Path::new("the config"));
                        // Who asked may have gone.
                        let _ = answer.send(done.map_err(|error| error.render(Colour::Never)));
                    }
                    Order::Drain => ends_at = ends_at.or_else(|| Some(self.announce(to_phase))),
                    Order::HandOver(successor) => break Some(successor),
                },
                _ = events.tick() => self.log_events(),
                _ = seconds.tick() => {
                    self.exports.iter().for_each(|exports| exports.discover(&self.road));
                    self.road.load().routes.iter().for_each(|route| route.stats.second(seawall::now()));
                }
                _ = files.tick() => self.refresh(),
            }
        };
        tracing::info!("draining: finishing what is under way; a second signal ends at once");
        to_phase.send_replace(Phase::Drain(self.config.drain.grace.into()));
        let to_phase = to_phase.clone();
        tokio::spawn(async move {
            ending.asked().await;
            to_phase.send_replace(Phase::Stop);
        });
        successor
    }

    /// Says that the end is near; returns when it begins.
    fn announce(&self, to_phase: &watch::Sender<Phase>) -> Instant {
        let lame_duck = self.config.drain.lame_duck;
        if lame_duck > seawall::core::time::Span::ZERO {
            tracing::info!(%lame_duck, "no longer ready; serving on until everybody knows");
        }
        to_phase.send_replace(Phase::LameDuck);
        Instant::now() + lame_duck.into()
    }

    /// Begins what goes on beside the road in force, and ends what went on beside the last.
    fn attend(&mut self) {
        self.attendants.abort_all();
        for check in self.road.load().health_checks() {
            self.attendants.spawn(check);
        }
        if self.road.load().has_guards() {
            let road = self.road.load_full();
            self.attendants
                .spawn(watch_machine(Sampler::new(), move |now, reading| road.observe(now, reading)));
        }
    }

    fn reload(&mut self, file: Option<&Path>, watched: &mut Option<Watched>) {
        let Some(file) = file else {
            return tracing::warn!("nothing to reload: there is no config file");
        };
        watched.iter_mut().for_each(Watched::follow);
        let text = Config::text(file);
        if let Err(error) = text.and_then(|text| self.configure(text, file)) {
            self.kept.reloads.failed();
            let _ = writeln!(io::stderr(), "{}", error.render(self.colour));
            tracing::error!(file = %file.display(), "the config is refused, the old one stays");
        }
    }

    /// Puts a config in force, and says what was kept.
    fn configure(&mut self, text: String, name: &Path) -> Result<Value, ConfigError> {
        let config = self.addresses.over(Config::from_toml(&text, name)?);
        ground::has_files(&config, &text, name)?;
        self.certificates.iter().for_each(|certificates| _ = certificates.refresh());
        warn_of_untimely(&config);
        let mut kept = config.compared_with(&self.config);
        kept["throttles"] = self.kept.quotas_compared_with(&config);
        let waits = waits_for_restart(&config, &self.begun);
        kept["waits_for_restart"] = waits.clone().into();
        self.waits.store(Arc::new(waits));
        self.text.store(Arc::new(text));
        self.kept.reloads.succeeded();
        if config == self.config && !self.kept.is_outdated() {
            return Ok(kept);
        }
        if !self.waits.load().is_empty() {
            tracing::warn!("`listen`, `admin`, `otlp`, `state` and `hand_over` change with a restart only");
        }
        let quotas = &kept["throttles"];
        if [&quotas["new"], &quotas["gone"]].iter().all(|list| list.get(0).is_some()) {
            let (new, gone) = (&quotas["new"], &quotas["gone"]);
            tracing::warn!(%new, %gone, "new quotas in place of others: nothing is spent of them");
        }
        self.config = config;
        self.pave();
        tracing::info!(config = %name.display(), %kept, "reloaded; what is kept goes on with its state");
        Ok(kept)
    }

    /// Puts the road of the config in force.
    fn pave(&mut self) {
        let road = self.kept.road(&self.config);
        self.blocks.prepare(&road);
        self.road.store(Arc::new(road));
        self.attend();
    }

    /// Reads certificates again that have changed.
    fn refresh(&mut self) {
        let refreshed = self.certificates.iter().filter(|certificates| certificates.refresh());
        if refreshed.count() > 0 {
            warn_of_untimely(&self.config);
        }
        if self.kept.is_outdated() {
            self.pave();
        }
    }

    fn log_events(&self) {
        let road = self.road.load();
        for (about, event) in road.events() {
            tracing::info!(about, change = ?event.change, "{}", event.change.name());
            self.readers.tell(&about, &event);
        }
        for notice in self.blocks.tidy(&road) {
            let Notice { route, change, percent, who, why } = &notice;
            let (who, why) = (who.name(), why.as_deref());
            tracing::info!(route, percent, who, why, "{}", change.name());
            self.readers.notice(&notice);
        }
    }
}

/// Says which certificates of the gateway nobody believes now.
fn warn_of_untimely(config: &Config) {
    for (file, what) in tls::untimely(config) {
        tracing::warn!(file = %file.display(), what, "nobody believes this certificate now");
    }
}

/// Which parts of a config are not in force before a restart.
fn waits_for_restart(config: &Config, begun: &Config) -> Vec<&'static str> {
    let parts = [
        ("listen", config.listeners != begun.listeners),
        ("admin", config.admin != begun.admin),
        ("otlp", config.otlp != begun.otlp),
        ("state", config.state != begun.state),
        ("hand_over", config.hand_over != begun.hand_over),
    ];
    parts.into_iter().filter_map(|(part, is_other)| is_other.then_some(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_stands_in_the_folder_for_it_or_beside_the_config() {
        let of = |folders: Option<&str>| {
            state_of("/etc/seawall/a.toml".into(), folders.map(OsString::from)).unwrap().display().to_string()
        };
        assert_eq!(of(None), "/etc/seawall/a.toml.state");
        assert_eq!(of(Some("")), "/etc/seawall/a.toml.state");
        assert_eq!(of(Some("/var/lib/seawall:/var/lib/other")), "/var/lib/seawall/a.toml.state");
    }
}
