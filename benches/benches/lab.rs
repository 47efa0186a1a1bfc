//! The lab's speed: `cargo bench -p seawall-benches --bench lab [-- REPEATS]`.
//!
//! A *logical event* is an arrival or a departure: two for each request, however many the simulator makes
//! of them. Time is the processor's, of one thread. NeXosim plays the same M/M/1, with a source and a server
//! as models and on one thread; so does SimPy where Python has it (`python3 -m pip install simpy`), else it is
//! left out. How seeds scale with threads is by the wall clock.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nexosim::model::{Context, Model, schedulable};
use nexosim::ports::Output;
use nexosim::simulation::{Mailbox, SimInit};
use nexosim::time::MonotonicTime;
use rayon::ThreadPoolBuilder;
use seawall_benches::{Contender, Cost, compare, measure};
use seawall_config::Config;
use seawall_core::rng::Rng;
use seawall_core::time::Span;
use seawall_lab::experiment::{self, Seeds};
use seawall_lab::scenario::Scenario;
use seawall_lab::world::{self, Keep, Play};
use seawall_lab::{Contender as Side, Phases};
use serde::{Deserialize, Serialize};

/// M/M/1 at .7, or eight workers behind Seawall at .875.
fn scenario(workers: u32, micros: u32, users: u32, seconds: u32) -> Scenario {
    let text = format!(
        "[scenario]\nname = \"speed\"\nduration = \"{seconds}s\"\nwarmup = \"1s\"\n\
         [[clients]]\nname = \"all\"\nrate = \"7000/s\"\nusers = {users}\ncalls = \"q\"\n\
         [[service]]\nname = \"q\"\nworkers = {workers}\ntime = {{ exponential = \"{micros}us\" }}\n"
    );
    Scenario::from_toml(&text, Path::new("speed.toml")).expect("a scenario")
}

/// Throttle, shed, limit, breaker and retry.
const PROTECTED: &str = "[upstream.q]\nhosts = [\"http://q:80\"]\n\
    [route.q]\npath = \"/*\"\nupstream = \"q\"\nshed = {}\nthrottle = [{ per = \"user\", rate = \"50/s\" }]\n";

/// A million users, each with a bucket of its own, all of whom call.
fn crowd() -> (Scenario, Config) {
    let text = "[scenario]\nname = \"crowd\"\nduration = \"75s\"\nwarmup = \"1s\"\n\
         [[clients]]\nname = \"all\"\nrate = \"100000/s\"\nusers = 1000000\ncalls = \"q\"\n\
         [[service]]\nname = \"q\"\ntime = { exponential = \"1ms\" }\n";
    let config = format!("[identity]\nmax_users = 1000000\n{PROTECTED}").replace("50/s", "1/h");
    let scenario = Scenario::from_toml(text, Path::new("crowd.toml")).expect("a scenario");
    (scenario, Config::from_toml(&config, Path::new("seawall.toml")).expect("a config"))
}

/// The most memory that this process has had, in MiB.
fn peak() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok().map(|kib| kib / 1024.0)
}

/// Plays one run and says how many logical events it had.
fn events(scenario: &Scenario, config: Option<&Config>) -> u64 {
    let phases = Phases::of(scenario);
    let play = Play { scenario, config, phases, release: None, keep: Keep::Counts };
    2 * world::run(play, 1).calls()
}

fn contender<'a>(name: &'static str, scenario: &'a Scenario, config: Option<&'a Config>) -> Contender<'a> {
    Contender::new(name, move || measure(1, |_| events(scenario, config)))
}

/// Requests that NeXosim plays.
const REQUESTS: u64 = 400_000;

/// Draws on a stream of their own, from an exponential distribution with this mean.
struct Draws {
    mean: Span,
    rng: Rng,
}

impl Draws {
    fn new(rate: u64, stream: u64) -> Draws {
        Draws { mean: Span::from_nanos(1_000_000_000 / rate), rng: Rng::new(1, stream) }
    }

    /// Not zero, which NeXosim refuses.
    fn draw(&mut self) -> Duration {
        Duration::from_nanos(self.rng.exponential(self.mean).as_nanos().max(1))
    }
}

fn gaps() -> Draws {
    Draws::new(7_000, 1)
}

fn work() -> Draws {
    Draws::new(10_000, 2)
}

#[derive(Serialize, Deserialize)]
struct Source {
    requests: Output<()>,
    left: u64,
    #[serde(skip, default = "gaps")]
    gaps: Draws,
}

#[Model]
impl Source {
    #[nexosim(init)]
    async fn init(&mut self, context: &Context<Self>) {
        self.wait(context);
    }

    fn wait(&mut self, context: &Context<Self>) {
        context.schedule_event(self.gaps.draw(), schedulable!(Self::send), ()).expect("later than now");
    }

    #[nexosim(schedulable)]
    async fn send(&mut self, (): (), context: &Context<Self>) {
        self.left -= 1;
        if self.left > 0 {
            self.wait(context);
        }
        self.requests.send(()).await;
    }
}

#[derive(Serialize, Deserialize)]
struct Server {
    inside: u64,
    #[serde(skip, default = "work")]
    work: Draws,
}

#[Model]
impl Server {
    fn arrive(&mut self, (): (), context: &Context<Self>) {
        self.inside += 1;
        if self.inside == 1 {
            self.begin(context);
        }
    }

    fn begin(&mut self, context: &Context<Self>) {
        context.schedule_event(self.work.draw(), schedulable!(Self::depart), ()).expect("later than now");
    }

    #[nexosim(schedulable)]
    fn depart(&mut self, (): (), context: &Context<Self>) {
        self.inside -= 1;
        if self.inside > 0 {
            self.begin(context);
        }
    }
}

/// Plays the M/M/1 in NeXosim until all have departed, and says how many logical events it had.
fn nexosim() -> u64 {
    let mut source = Source { requests: Output::default(), left: REQUESTS, gaps: gaps() };
    let server = Server { inside: 0, work: work() };
    let (of_source, of_server) = (Mailbox::new(), Mailbox::new());
    source.requests.connect(Server::arrive, &of_server);
    let models = SimInit::with_num_threads(1);
    let models = models.add_model(source, of_source, "source").add_model(server, of_server, "server");
    let mut simulation = models.init(MonotonicTime::EPOCH).expect("the models fit together");
    simulation.run().expect("it ends when nothing is left to come");
    let lasted = simulation.time().duration_since(MonotonicTime::EPOCH).as_secs_f64();
    let expected = REQUESTS as f64 / 7_000.0;
    assert!((lasted / expected - 1.0).abs() < 0.02, "{lasted} s, not {expected}");
    2 * REQUESTS
}

/// How many times as fast two threads play seeds as one does: the best of each, in turns.
fn scaling(scenario: &Scenario, repeats: usize) -> f64 {
    let sides = [Side { name: "naive".to_owned(), config: None }];
    let seeds = Seeds { count: 8, first: 1, adds: false };
    let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let pools = [pool(1), pool(2)];
    let mut best = [f64::MAX; 2];
    for _ in 0..repeats {
        for (pool, best) in pools.iter().zip(&mut best) {
            let begun = Instant::now();
            pool.install(|| experiment::run(scenario, &sides, seeds, &|| {}));
            *best = best.min(begun.elapsed().as_secs_f64());
        }
    }
    best[0] / best[1]
}

const SIMPY: &str = "
import random, time, simpy
env, rng, done = simpy.Environment(), random.Random(1), 0
server = simpy.Resource(env, capacity=1)
def request():
    global done
    with server.request() as place:
        yield place
        yield env.timeout(rng.expovariate(10000))
    done += 1
def source():
    for _ in range(100000):
        yield env.timeout(rng.expovariate(7000))
        env.process(request())
env.process(source())
begun = time.process_time()
env.run()
print((time.process_time() - begun) * 1e9 / (2 * done))
";

/// Nanoseconds of a logical event in SimPy.
fn simpy() -> Option<f64> {
    let out = Command::new("python3").args(["-c", SIMPY]).output().ok()?;
    String::from_utf8(out.stdout).ok()?.trim().parse().ok()
}

fn main() {
    let repeats = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(7);
    let bare = scenario(1, 100, 1_000, 60);
    let served = scenario(8, 1_000, 1_000, 60);
    let config = Config::from_toml(PROTECTED, Path::new("seawall.toml")).expect("a config");
    let short = scenario(1, 100, 1_000, 10);
    let long = scenario(1, 100, 1_000, 3_600);
    let contenders = [
        contender("M/M/1", &bare, None),
        contender("protected", &served, Some(&config)),
        contender("M/M/1, 10 s", &short, None),
        Contender::new("M/M/1 in NeXosim", || measure(1, |_| nexosim())),
    ];
    let costs: Vec<Cost> = compare("A logical event of the lab", repeats, &contenders);
    let rate = |cost: &Cost| 1e3 / cost.cpu;
    println!("M/M/1      {:.1} M logical events/s", rate(&costs[0]));
    println!("protected  {:.1} M logical events/s", rate(&costs[1]));
    let hour = measure(1, |_| events(&long, None));
    println!("an event of 1 h costs {:.2} × one of 10 s", hour.cpu / costs[2].cpu);
    let (scenario, config) = crowd();
    let play = measure(1, |_| events(&scenario, Some(&config)));
    let peak = peak().map_or_else(|| "?".to_owned(), |mib| format!("{mib:.0} MiB"));
    println!("1 M users  {:.1} M logical events/s, {peak} at most", rate(&play));
    println!("seeds      {:.2} × as fast on two threads as on one", scaling(&bare, repeats));
    println!(
        "NeXosim    {:.2} M logical events/s; the lab is {:.1} × as fast",
        rate(&costs[3]),
        costs[3].cpu / costs[0].cpu
    );
    match simpy() {
        Some(nanos) => println!(
            "SimPy      {:.2} M logical events/s; the lab is {:.0} × as fast",
            1e3 / nanos,
            nanos / costs[0].cpu
        ),
        None => println!("SimPy      not there: python3 -m pip install simpy"),
    }
}
