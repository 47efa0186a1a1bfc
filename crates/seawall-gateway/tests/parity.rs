//! The library's tower driver, on a paused clock, and the lab's event loop decide alike.
//!
//! A script is a scenario and a config made from a seed: users with quotas, a limit with a queue, hosts
//! with breakers, retries, hosts that fail or are slow for a while. The lab plays it and notes what was
//! decided; then the same calls come to the layers of the library, at the same times. Both logs must be
//! the same: who was let in and when, who was refused by what and until when, which attempt went to which
//! host, how calls ended, and how many breakers were not closed then.
//!
//! Tokio's timers are of whole milliseconds, and who is first within one is nobody's business: all
//! times are whole milliseconds here, and scripts in which two things happen in the same one by chance are
//! made anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use seawall::admission::{Adapter, AdmissionLayer, End};
use seawall::call::{self, CallLayer, Ended, Judgement, Outgoing, Upstream};
use seawall::core::breaker::Mode;
use seawall::core::call::{Hosts, Member, Repeat, Shared, Verdict};
use seawall::core::decision::Rejection;
use seawall::core::gate::{self, Gate, Own as _, Rule};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request, Tier};
use seawall::core::rng::{Rng, mix};
use seawall::core::time::{Span, Time};
use seawall::{Guard, Locks, Threads, instant, now};
use seawall_config::Config;
use seawall_lab::scenario::{Arrivals, Scenario};
use seawall_lab::world::{self, Keep, Play};
use seawall_lab::{Decided, Decision, Phases};
use tokio::task::LocalSet;
use tokio::time::sleep_until;
use tower::{Layer as _, Service, ServiceExt as _};

/// How many scripts are compared.
const SCRIPTS: usize = 50;
/// Milliseconds that each has to itself: the library's time begins once in a process, and what some
/// policies decide depends on the hour.
const STRETCH: u64 = 300_000;
/// The streams of the lab's hosts and of its first call.
const HOSTS: u64 = 7 << 40;
const CALLS: u64 = (9 << 40) + 1;

/// A stretch of time in which the first hosts are unwell.
#[derive(Clone, Copy, Debug)]
struct Fault {
    from: u64,
    until: u64,
    hosts: u64,
    /// Times as long; or failures, when it is 0.
    factor: u64,
}

#[derive(Clone, Debug)]
struct Script {
    seed: u64,
    begins: u64,
    replicas: u64,
    work: u64,
    arrivals: Vec<u64>,
    faults: Vec<Fault>,
    config: String,
}

impl Script {
    fn draw(seed: u64, begins: u64) -> Script {
        let rng = &mut Rng::new(seed, 0);
        let mut between = |low: u64, high: u64| low + rng.below(high - low);
        let (replicas, work) = (between(1, 4), between(600, 2_500));
        let mut at = begins + 1_000;
        let gap = between(250, 1_200);
        let arrivals = (0..between(40, 90)).map(|_| {
            at += between(1, 2 * gap);
            at
        });
        let arrivals: Vec<u64> = arrivals.collect();
        let mut faults = Vec::new();
        let mut after = begins + 2_000;
        for _ in 0..between(0, 4) {
            let from = after + between(1_000, 9_000);
            let until = from + between(2_000, 12_000);
            let factor = if between(0, 3) == 0 { between(2, 5) } else { 0 };
            faults.push(Fault { from, until, hosts: between(1, replicas + 1), factor });
            after = until;
        }
        let hosts: Vec<String> = (0..replicas).map(|host| format!("\"http://h{host}:80\"")).collect();
        let attempts = between(1, 5);
        let config = format!(
            "[upstream.q]\nhosts = [{}]\nslow_start = false\neject = false\nbudget = \"{}%\"\n\
             limit = {{ adaptive = false, max = {} , queue = {} }}\n\
             breaker = {{ failure_rate = \"50%\", window = \"10s\", min_calls = {}, open = \"{}ms\", probes = {} }}\n\
             [route.q]\npath = \"/*\"\nupstream = \"q\"\ndeadline = \"{}ms\"\n{}\
             throttle = [{{ per = \"user\", rate = \"{}/m\", burst = {} }}]\n\
             retry = {{ attempts = {attempts}, per_attempt = \"{}ms\", backoff = {{ kind = \"fixed\", base = \"{}ms\" }} }}\n",
            hosts.join(", "),
            between(10, 100),
            between(1, 5),
            between(0, 6),
            between(2, 6),
            between(1_000, 6_000),
            between(1, 4),
            between(3_000, 20_000),
            if between(0, 2) == 0 { "shed = false\n" } else { "" },
            between(6, 60),
            between(1, 6),
            between(1_000, 6_000),
            between(50, 900),
        );
        Script { seed, begins, replicas, work, arrivals, faults, config }
    }

    fn config(&self) -> Config {
        Config::from_toml(&self.config, Path::new("seawall.toml")).unwrap_or_else(|error| panic!("{error}"))
    }

    fn scenario(&self) -> Scenario {
        let mut text = format!(
            "[scenario]\nname = \"script\"\nduration = \"{}ms\"\nwarmup = \"1s\"\n\
             [[clients]]\nname = \"all\"\nrate = \"1/s\"\nusers = 7\ncalls = \"q\"\n\
             [[service]]\nname = \"q\"\nreplicas = {}\ntime = {{ constant = \"{}ms\" }}\n",
            self.begins + STRETCH,
            self.replicas,
            self.work
        );
        for Fault { from, until, hosts, factor } in &self.faults {
            let what = match factor {
                0 => format!("errors = {{ service = \"q\", replicas = {hosts}, share = \"100%\" }}"),
                _ => format!("slow = {{ service = \"q\", replicas = {hosts}, factor = {factor}.0 }}"),
            };
            text += &format!("[[event]]\nat = \"{from}ms\"\nfor = \"{}ms\"\n{what}\n", until - from);
        }
        let mut scenario = Scenario::from_toml(&text, Path::new("script.toml"))
            .unwrap_or_else(|error| panic!("{error}\n{text}"));
        let at: Vec<Time> = self.arrivals.iter().map(|at| millis(*at)).collect();
        scenario.clients[0].arrivals = Arrivals::Trace { file: "script".into(), at: at.into() };
        scenario
    }

    /// Whether a fault of this kind is on for a host.
    fn fault(&self, at: Time, host: u64, is: impl Fn(u64) -> bool) -> Option<u64> {
        let on = |fault: &&Fault| {
            (millis(fault.from)..millis(fault.until)).contains(&at) && host < fault.hosts && is(fault.factor)
        };
        self.faults.iter().find(on).map(|fault| fault.factor)
    }
}

fn millis(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// What the lab decides.
fn lab(script: &Script) -> Vec<Decision> {
    let (scenario, config) = (script.scenario(), script.config());
    let phases = Phases::of(&scenario);
    let play =
        Play { scenario: &scenario, config: Some(&config), phases, release: None, keep: Keep::Decisions };
    let outcomes = world::run(play, script.seed);
    assert!(outcomes.is_conserved());
    outcomes.decisions
}

/// Whether two things that have nothing to do with each other happen in the same millisecond, or within
/// one of a change.
fn collides(script: &Script, log: &[Decision]) -> bool {
    let mut calls: BTreeMap<u64, Vec<(u64, Decided)>> = BTreeMap::new();
    for decision in log {
        if decision.at.as_nanos() % 1_000_000 != 0 {
            return true;
        }
        let at = decision.at.as_nanos() / 1_000_000;
        calls.entry(at).or_default().push((decision.call, decision.what));
    }
    let edges: Vec<u64> = script.faults.iter().flat_map(|fault| [fault.from, fault.until]).collect();
    calls.iter().any(|(at, decided)| {
        let (mut came, mut ended) = (0, 0);
        for (_, what) in decided {
            came += u32::from(matches!(what, Decided::Came { .. }));
            ended += u32::from(matches!(what, Decided::Ended { .. }));
        }
        let resent = decided.iter().any(|(_, what)| matches!(what, Decided::Sent { attempt: 2.., .. }));
        came + ended + u32::from(resent) > 1 || edges.iter().any(|edge| edge.abs_diff(*at) <= 1)
    })
}

/// What the library decides, and what it is asked.
#[derive(Clone)]
struct Log {
    entries: Rc<RefCell<Vec<Decision>>>,
    upstream: Arc<Upstream>,
    deadline: Span,
}

#[derive(Clone, Copy)]
struct Call {
    number: u64,
    user: Key,
    tier: Tier,
}

impl Log {
    fn note(&self, call: u64, what: Decided) {
        self.entries.borrow_mut().push(Decision { at: now(), call, what });
    }

    fn seen(&self, now: Time, call: &Call) -> Request {
        Request { tier: call.tier, deadline: now + self.deadline, ..Request::new(call.user) }
    }
}

/// The end of a call behind the front gate.
struct Answer {
    call: u64,
    outcome: Outcome,
    waited: Span,
}

type Attempted = Result<(u64, bool), Infallible>;

/// The front gate's side of one call.
#[derive(Clone)]
struct Front {
    log: Log,
    call: u64,
}

impl Adapter<Call, Answer, Infallible> for Front {
    type Response = ();

    fn request(&self, now: Time, call: &Call) -> Request {
        self.log.note(call.number, Decided::Came { user: call.user, tier: call.tier });
        self.log.seen(now, call)
    }

    fn outcome(&self, result: Result<&Answer, &Infallible>) -> Outcome {
        match result {
            Ok(answer) => answer.outcome,
            Err(never) => match *never {},
        }
    }

    fn waited(&self, answer: &Answer) -> Span {
        answer.waited
    }

    fn end(&self, _: &Answer) -> End {
        End::WithResponse
    }

    fn answer(&self, answer: Answer, _: Guard) {
        let calm = |gate: &&Arc<Gate<Threads>>| {
            gate.snapshot(now()).breaker.is_some_and(|breaker| breaker.mode != Mode::Closed)
        };
        let open = self.log.upstream.hosts().gates().iter().filter(calm).count() as u64;
        self.log.note(answer.call, Decided::Ended { well: answer.outcome == Outcome::Success, open });
    }

    fn refuse(&self, rejection: Rejection) {
        let Rejection { policy, reason, retry_after, .. } = rejection;
        self.log.note(self.call, Decided::Refused { policy, reason, until: now() + retry_after });
    }
}

/// The call's side.
#[derive(Clone)]
struct Back {
    log: Log,
    call: u64,
}

impl call::Adapter<Call, (u64, bool), Infallible> for Back {
    type Response = Answer;

    fn request(&self, now: Time, call: &Call) -> Request {
        self.log.note(call.number, Decided::Admitted);
        // As the front gate saw it: the deadline counts from when the call came.
        let came = self.log.entries.borrow().iter().find(|entry| entry.call == call.number).unwrap().at;
        Request { deadline: came + self.log.deadline, ..self.log.seen(now, call) }
    }

    fn copy(&self, call: &Call) -> Option<Call> {
        Some(*call)
    }

    fn repeat(&self, _: &Call) -> Repeat {
        Repeat::Safe
    }

    fn judge(&self, result: Result<&(u64, bool), &Infallible>) -> Judgement {
        let well = matches!(result, Ok((_, true)));
        let outcome = if well { Outcome::Success } else { Outcome::Failure };
        Judgement { outcome, repeat: Repeat::Safe }
    }

    fn end(&self, _: &Arc<Upstream>, ended: Ended<Attempted>) -> Result<Answer, Infallible> {
        let outcome = match (&ended.verdict, &ended.answer) {
            (Verdict::Answered { .. }, Some(Ok((_, true)))) => Outcome::Success,
            (Verdict::Answered { .. }, Some(_)) => Outcome::Failure,
            (Verdict::Answered { .. }, None) | (Verdict::Expired, _) => Outcome::TimedOut,
            (Verdict::Rejected(_), _) => Outcome::Ignored,
        };
        Ok(Answer { call: self.call, outcome, waited: ended.waited })
    }
}

/// The hosts of a script.
#[derive(Clone)]
struct Replicas {
    script: Rc<Script>,
    log: Log,
}

impl Service<Outgoing<Call>> for Replicas {
    type Response = (u64, bool);
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Attempted>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, Outgoing { request, attempt }: Outgoing<Call>) -> Self::Future {
        let (script, host) = (self.script.clone(), attempt.host as u64);
        self.log.note(request.number, Decided::Sent { attempt: attempt.number, host });
        let factor = script.fault(now(), host, |factor| factor > 0).unwrap_or(1);
        let until = instant(now() + Span::from_millis(script.work * factor));
        Box::pin(async move {
            sleep_until(until).await;
            Ok((host, script.fault(now(), host, |factor| factor == 0).is_none()))
        })
    }
}

/// What the library decides about the calls that came in the lab.
async fn library(script: &Script, came: &[Decision]) -> Vec<Decision> {
    let config = script.config();
    let (upstream, route) = (&config.upstreams["q"], &config.routes[0]);
    let at = Time::ZERO;
    let pool = Arc::new(Locks::own(vec![gate::Shared::new(upstream.pool(), at)]));
    let gate: Gate<Threads> = Gate::joining(pool, route.lane());
    gate.switch().replace(route.shadow);
    let rules = route.throttle.iter().map(|throttle| Arc::new(Rule::new(throttle.config, at)));
    let gate = Arc::new(gate.throttled(rules.collect()));
    let gates = (0..script.replicas).map(|place| {
        Arc::new(Gate::new(upstream.back_gate(mix(script.seed ^ place)), gate::Lane::default(), at))
    });
    let mut rng = Rng::new(script.seed, HOSTS);
    let hosts = Hosts::balanced(upstream.balance(), Member::numbered(gates.collect()), at, &mut rng);
    let shared = Arc::new(Locks::own(vec![Shared::new(config.calls("q").unwrap(), at)]));
    let calls = Upstream::of(hosts, shared, script.seed).numbered_from(CALLS).behind(gate.clone());
    let calls = Arc::new(calls);
    let log = Log { entries: Rc::default(), upstream: calls.clone(), deadline: route.deadline };
    let retry = route.retry;
    let mut tasks = Vec::new();
    for decision in came {
        let Decided::Came { user, tier } = decision.what else { continue };
        let (number, log, gate) = (decision.call, log.clone(), gate.clone());
        let front = AdmissionLayer::new(gate, Front { log: log.clone(), call: number });
        let back = CallLayer::new(calls.clone(), retry, Back { log: log.clone(), call: number });
        let service = front.around(back).layer(Replicas { script: Rc::new(script.clone()), log });
        let at = instant(decision.at);
        tasks.push(tokio::task::spawn_local(async move {
            sleep_until(at).await;
            service.oneshot(Call { number, user, tier }).await
        }));
    }
    for task in tasks {
        let Ok(()) = task.await.unwrap();
    }
    log.entries.take()
}

/// One after the other, by time and then by call; of one call at one time, in their order.
fn sorted(mut log: Vec<Decision>) -> Vec<Decision> {
    log.sort_by_key(|decision| (decision.at, decision.call));
    log
}

#[test]
fn the_tower_driver_and_the_lab_decide_alike() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let (mut compared, mut seed, mut seen) = (0, 0, BTreeMap::new());
    LocalSet::new().block_on(&runtime.unwrap(), async {
        assert_eq!(now(), Time::ZERO, "the library's time begins with the first question for it");
        while compared < SCRIPTS {
            seed += 1;
            assert!(seed < 20 * SCRIPTS as u64, "most scripts collide: draw times from longer stretches");
            let script = Script::draw(seed, compared as u64 * STRETCH);
            let of_lab = sorted(lab(&script));
            if collides(&script, &of_lab) {
                continue;
            }
            let of_library = sorted(library(&script, &of_lab).await);
            for (place, (lab, library)) in of_lab.iter().zip(&of_library).enumerate() {
                assert_eq!(lab, library, "entry {place} of seed {seed}, lab and library; {script:#?}");
            }
            assert_eq!(of_lab.len(), of_library.len(), "seed {seed}");
            of_lab.iter().for_each(|decision| *seen.entry(kind(decision)).or_insert(0) += 1);
            compared += 1;
        }
    });
    println!("{compared} of {seed} scripts compared: {seen:?}");
    for kind in ["admitted", "quota", "full", "again", "other host", "failed", "open"] {
        assert!(seen.get(kind).is_some_and(|count| *count > 10), "too few `{kind}` in {seen:?}");
    }
}

/// What a log must hold many of, or the scripts say little.
fn kind(decision: &Decision) -> &'static str {
    use seawall::core::decision::{Policy, Reason};
    match decision.what {
        Decided::Came { .. } => "came",
        Decided::Admitted => "admitted",
        Decided::Refused { policy: Policy::Throttle, .. } => "quota",
        Decided::Refused { reason: Reason::Full, .. } => "full",
        Decided::Refused { .. } => "refused",
        Decided::Sent { attempt: 2.., .. } => "again",
        Decided::Sent { host: 1.., .. } => "other host",
        Decided::Sent { .. } => "sent",
        Decided::Ended { open: 1.., .. } => "open",
        Decided::Ended { well: true, .. } => "well",
        Decided::Ended { .. } => "failed",
    }
}
