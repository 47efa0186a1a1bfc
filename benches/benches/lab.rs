//! The lab's speed: `cargo bench -p seawall-benches --bench lab [-- REPEATS]`.
//!
//! A *logical event* is an arrival or a departure: two for each request, however many the simulator makes
//! of them. Time is the processor's, of one thread. SimPy plays the same M/M/1 where Python has it
//! (`python3 -m pip install simpy`); else it is left out.

use std::path::Path;
use std::process::Command;

use seawall_benches::{Contender, Cost, compare, measure};
use seawall_config::Config;
use seawall_lab::Phases;
use seawall_lab::scenario::Scenario;
use seawall_lab::world::{self, Keep, Play};

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
    match simpy() {
        Some(nanos) => println!(
            "SimPy      {:.2} M logical events/s; the lab is {:.0} × as fast",
            1e3 / nanos,
            nanos / costs[0].cpu
        ),
        None => println!("SimPy      not there: python3 -m pip install simpy"),
    }
}
