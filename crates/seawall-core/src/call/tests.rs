mod blame;
mod chain;
mod hedging;
mod leaks;
mod received;
mod table;
mod tail;
mod unreached;

use alloc::sync::Arc;
use std::fmt::Write as _;
use std::string::String;
use std::vec;
use std::vec::Vec;

use expect_test::{Expect, expect};

use super::*;
use crate::breaker;
use crate::gate::{self, Admit, Alone, Cells, Lane as Door};
use crate::hedge;
use crate::limit::{self, Ceiling};
use crate::retry::backoff::Kind;
use crate::retry::budget;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

/// What happens to a call, from outside.
#[derive(Clone, Copy, Debug)]
enum Input {
    /// The latest attempt went so.
    Says(Outcome),
    /// The same, and it must not be sent again.
    Spoils(Outcome),
    /// The same, and it shall be sent again.
    Wants(Outcome),
    /// The latest attempt failed, for it never came to its host.
    Misses,
    /// An earlier attempt went so.
    Late(Outcome),
    /// The caller went away.
    Abandon,
}

use Input::{Abandon, Late, Misses, Says, Spoils, Wants};

const OK: Input = Says(Outcome::Success);
const FAILS: Input = Says(Outcome::Failure);

fn asks_for(millis: u64) -> Input {
    Says(Outcome::Overloaded { retry_after: Some(ms(millis)) })
}

/// A call and all it touches.
struct Bench {
    hosts: Hosts<Alone<u64>>,
    shared: Cells<Shared>,
    call: Call,
    rng: Rng,
    log: String,
}

/// Waits of 50 ms, three attempts.
fn config() -> Config {
    Config { attempts: 3, per_attempt: None, backoff: Backoff::new(Kind::Fixed, ms(50), ms(50)).unwrap() }
}

fn until(deadline: u64) -> Request {
    Request { deadline: at(deadline), ..Request::new(Key(1)) }
}

/// A host that takes this many at a time, behind a breaker that opens at the tenth failure.
#[expect(clippy::arc_with_non_send_sync, reason = "hosts take their gates in an `Arc`, also on one thread")]
fn host(places: u32) -> Arc<Gate<Alone<u64>>> {
    let breaker = breaker::Settings {
        window: breaker::Extent::Calls(10),
        min_calls: 10,
        ..breaker::Settings::default()
    };
    let settings = gate::Settings {
        breaker: Some(breaker::Config::new(breaker).unwrap()),
        ramp: Span::ZERO,
        limit: Some(limit::Config { ceiling: Ceiling::Fixed(places), queue: 0, ..limit::Config::default() }),
    };
    Arc::new(Gate::new(settings, Door::default(), at(0)))
}

/// A balance of so many retries, with which successes start; it lasts for as long as a test.
fn balance(retries: u32) -> Cells<Shared> {
    hedging(retries, None)
}

/// The same, with hedges.
fn hedging(retries: u32, hedge: Option<hedge::Config>) -> Cells<Shared> {
    let budget = budget::Config::default().without_floor().lasting(budget::LIFETIME_MAX).unwrap();
    let mut shared = Shared::new(Settings { budget: Some(budget), hedge }, at(0));
    (0..retries * 10).for_each(|_| shared.deposit(at(0)));
    Cells::own(vec![shared])
}

/// Attempts that nobody pays for.
fn unpaid() -> Cells<Shared> {
    Cells::own(vec![Shared::new(Settings { budget: None, ..Settings::default() }, at(0))])
}

/// Parts without backpressure and without a gate in front.
fn parts<'a>(hosts: &'a Hosts<Alone<u64>>, shared: &'a Cells<Shared>) -> Parts<'a, Alone<u64>> {
    Parts { hosts, shared, backpressure: None, front: None, stance: Stance::default() }
}

impl Bench {
    fn new(config: Config, deadline: u64) -> Bench {
        Bench {
            hosts: Hosts::new(vec![host(1), host(1)]),
            shared: balance(2),
            call: Call::new(config, until(deadline), Repeat::Safe, at(0)),
            rng: Rng::new(1, 1),
            log: String::new(),
        }
    }

    fn hosts(self, hosts: Vec<Arc<Gate<Alone<u64>>>>) -> Bench {
        Bench { hosts: Hosts::new(hosts), ..self }
    }

    fn retries(self, retries: u32) -> Bench {
        Bench { shared: balance(retries), ..self }
    }

    fn poll(&mut self, now: Time) -> Step {
        let parts = parts(&self.hosts, &self.shared);
        self.call.poll(now, &parts, &mut self.rng)
    }

    /// Polls, as a driver does, until there is nothing to do; says until when.
    fn drain(&mut self, now: Time) -> Option<Time> {
        loop {
            let step = self.poll(now);
            let millis = now.as_nanos() / 1_000_000;
            let line = match step {
                Step::WaitUntil(until) => return Some(until),
                Step::Send(attempt) => std::format!(
                    "send {} to host {} by {}",
                    attempt.number,
                    attempt.host,
                    attempt.deadline.as_nanos() / 1_000_000
                ),
                Step::Cancel { lane } => std::format!("cancel {}", lane.0),
                Step::Finish(verdict) => {
                    let verdict = match verdict {
                        Verdict::Answered { stop: None } => String::from("answered"),
                        Verdict::Answered { stop: Some(Stop::Rejected(rejection)) } => {
                            std::format!("answered, because {rejection}")
                        }
                        Verdict::Answered { stop: Some(stop) } => std::format!("answered, stop {stop:?}"),
                        Verdict::Rejected(rejection) => std::format!("{rejection}"),
                        Verdict::Expired => String::from("expired"),
                    };
                    writeln!(self.log, "{millis} {verdict}").unwrap();
                    return None;
                }
            };
            writeln!(self.log, "{millis} {line}").unwrap();
        }
    }

    fn take(&mut self, now: Time, input: Input) {
        let parts = parts(&self.hosts, &self.shared);
        let latest = Lane(self.call.attempts());
        let (lane, outcome, repeat) = match input {
            Says(outcome) => (latest, outcome, Repeat::Safe),
            Spoils(outcome) => (latest, outcome, Repeat::Unsafe),
            Wants(outcome) => (latest, outcome, Repeat::Wanted),
            Misses => (latest, Outcome::Failure, Repeat::Unreached),
            Late(outcome) => (Lane(latest.0 - 1), outcome, Repeat::Safe),
            Abandon => return self.call.abandon(now, &parts),
        };
        self.call.on_outcome(now, lane, outcome, repeat, &parts, &mut self.rng);
    }

    /// Plays a script of (time in ms, input) and lets timers fire in between. Logs every step, and
    /// at the end what is still held and what is left to pay retries with.
    fn play(mut self, script: &[(u64, Input)], expect: Expect) -> Bench {
        let mut wake = self.drain(at(0));
        for (millis, input) in script {
            while let Some(now) = wake.filter(|wake| *wake <= at(*millis)) {
                wake = self.drain(now);
            }
            self.take(at(*millis), *input);
            wake = self.drain(at(*millis));
        }
        while let Some(now) = wake {
            wake = self.drain(now);
        }
        let held = self.held();
        let left =
            self.shared.with(ONE, |shared| shared.snapshot().budget).map_or(0.0, |budget| budget.balance);
        writeln!(self.log, "holds {held}, left {left:.1}").unwrap();
        expect.assert_eq(&self.log);
        self
    }

    fn held(&self) -> u32 {
        let held = |gate: &Arc<Gate<Alone<u64>>>| gate.snapshot(at(0)).limit.unwrap().in_flight;
        self.hosts.gates().iter().map(held).sum()
    }

    /// Failures that the breaker of this host counted, as a share.
    fn blame(&self, host: usize) -> f64 {
        self.hosts.gates()[host].snapshot(at(0)).breaker.unwrap().failure_rate
    }
}

#[test]
fn success_at_the_first_attempt() {
    let mut bench = Bench::new(config(), 1_000).play(
        &[(10, OK)],
        expect![[r#"
        0 send 1 to host 0 by 1000
        10 answered
        holds 1, left 2.1
    "#]],
    );
    let (host, ticket) = bench.call.take_ticket().unwrap();
    assert!(bench.call.take_ticket().is_none());
    bench.hosts.gates()[host].release(at(20), ticket);
    assert_eq!(bench.held(), 0);
}

#[test]
fn a_failure_is_sent_again_after_its_wait() {
    let bench = Bench::new(config(), 1_000).play(
        &[(10, FAILS), (70, OK)],
        expect![[r#"
        0 send 1 to host 0 by 1000
        60 send 2 to host 1 by 1000
        70 answered
        holds 1, left 1.1
    "#]],
    );
    assert_eq!((bench.call.attempts(), bench.call.waited()), (2, ms(50)));
}

#[test]
fn what_must_not_be_sent_again_is_not() {
    Bench::new(config(), 1_000).play(
        &[(10, Spoils(Outcome::Failure))],
        expect![[r#"
        0 send 1 to host 0 by 1000
        10 answered, stop Unsafe
        holds 1, left 2.0
    "#]],
    );
}

#[test]
fn a_timeout_is_sent_again_only_if_the_call_may_be() {
    let config = Config { per_attempt: Some(ms(100)), ..config() };
    let mut bench = Bench::new(config, 1_000);
    bench.call = Call::new(config, until(1_000), Repeat::Unsafe, at(0));
    bench.play(
        &[],
        expect![[r#"
        0 send 1 to host 0 by 100
        100 cancel 1
        100 answered, stop Unsafe
        holds 0, left 2.0
    "#]],
    );
}

#[test]
fn an_outcome_that_is_no_failure_stands() {
    for outcome in [Outcome::Ignored, Outcome::Cancelled, Outcome::Superseded] {
        let expect = expect![[r#"
            0 send 1 to host 0 by 1000
            10 answered
            holds 1, left 2.0
        "#]];
        Bench::new(config(), 1_000).play(&[(10, Says(outcome))], expect);
    }
}

#[test]
fn what_is_no_failure_is_sent_again_if_that_is_wanted_as_long_as_it_is_paid_for() {
    let mut bench = Bench::new(config(), 1_000).retries(1);
    for (sent, answered) in [(0, 10), (60, 70)] {
        bench.drain(at(sent));
        assert!(bench.call.verdict().is_none() && bench.held() == 1, "{sent}");
        bench.take(at(answered), Wants(Outcome::Success));
    }
    bench.drain(at(70));
    let stands = Verdict::Answered { stop: Some(Stop::Budget) };
    assert_eq!((bench.call.verdict(), bench.call.attempts()), (Some(&stands), 2));
    assert!(bench.blame(0) + bench.blame(1) <= 0.0);
}

#[test]
fn without_budget_left_the_answer_stands() {
    let bench = Bench::new(config(), 1_000).retries(0).play(
        &[(10, FAILS)],
        expect![[r#"
        0 send 1 to host 0 by 1000
        10 answered, stop Budget
        holds 1, left 0.0
    "#]],
    );
    assert_eq!(bench.blame(0), 1.0);
}

#[test]
fn attempts_count_the_first() {
    Bench::new(config(), 1_000).play(
        &[(10, FAILS), (70, FAILS), (130, FAILS)],
        expect![[r#"
        0 send 1 to host 0 by 1000
        60 send 2 to host 1 by 1000
        120 send 3 to host 0 by 1000
        130 answered, stop Attempts
        holds 1, left 0.0
    "#]],
    );
    let once = Config { attempts: 1, ..config() };
    Bench::new(once, 1_000).play(
        &[(10, FAILS)],
        expect![[r#"
        0 send 1 to host 0 by 1000
        10 answered, stop Attempts
        holds 1, left 2.0
    "#]],
    );
}

#[test]
fn a_wait_that_outlasts_the_deadline_is_not_begun() {
    Bench::new(config(), 60).play(
        &[(10, FAILS)],
        expect![[r#"
        0 send 1 to host 0 by 60
        10 answered, stop Deadline
        holds 1, left 2.0
    "#]],
    );
    Bench::new(config(), 61).play(
        &[(10, FAILS)],
        expect![[r#"
        0 send 1 to host 0 by 61
        60 send 2 to host 1 by 61
        61 cancel 2
        61 expired
        holds 0, left 1.0
    "#]],
    );
}

#[test]
fn retry_after_is_obeyed_up_to_five_minutes() {
    Bench::new(config(), 10_000).play(
        &[(10, asks_for(700)), (720, OK)],
        expect![[r#"
        0 send 1 to host 0 by 10000
        710 send 2 to host 1 by 10000
        720 answered
        holds 1, left 1.1
    "#]],
    );
    Bench::new(config(), 10_000).play(
        &[(10, asks_for(7)), (70, OK)],
        expect![[r#"
        0 send 1 to host 0 by 10000
        60 send 2 to host 1 by 10000
        70 answered
        holds 1, left 1.1
    "#]],
    );
    let day = 86_400_000;
    Bench::new(config(), day).play(
        &[(10, asks_for(day / 2)), (310_000, OK)],
        expect![[r#"
        0 send 1 to host 0 by 86400000
        300010 send 2 to host 1 by 86400000
        310000 answered
        holds 1, left 1.1
    "#]],
    );
    Bench::new(config(), 200_000).play(
        &[(10, asks_for(day / 2))],
        expect![[r#"
        0 send 1 to host 0 by 200000
        10 answered, stop Deadline
        holds 1, left 2.0
    "#]],
    );
}

#[test]
fn an_attempt_that_takes_too_long_is_cancelled_and_sent_again() {
    let config = Config { per_attempt: Some(ms(100)), ..config() };
    let bench = Bench::new(config, 1_000).play(
        &[(160, OK)],
        expect![[r#"
        0 send 1 to host 0 by 100
        100 cancel 1
        150 send 2 to host 1 by 250
        160 answered
        holds 1, left 1.1
    "#]],
    );
    assert_eq!([bench.blame(0), bench.blame(1)], [1.0, 0.0]);
}

#[test]
fn when_every_attempt_takes_too_long_nothing_is_held() {
    let config = Config { per_attempt: Some(ms(100)), ..config() };
    let mut bench = Bench::new(config, 1_000).play(
        &[],
        expect![[r#"
        0 send 1 to host 0 by 100
        100 cancel 1
        150 send 2 to host 1 by 250
        250 cancel 2
        300 send 3 to host 0 by 400
        400 cancel 3
        400 answered, stop Attempts
        holds 0, left 0.0
    "#]],
    );
    assert!(bench.call.take_ticket().is_none());
}

#[test]
fn the_deadline_of_the_call_ends_it() {
    let bench = Bench::new(config(), 100).play(
        &[],
        expect![[r#"
        0 send 1 to host 0 by 100
        100 cancel 1
        100 expired
        holds 0, left 2.0
    "#]],
    );
    assert_eq!(bench.blame(0), 1.0, "it had all the time there was");
    Bench::new(config(), 0).play(
        &[],
        expect![[r#"
        0 expired
        holds 0, left 2.0
    "#]],
    );
}

#[test]
fn a_driver_that_wakes_too_late_sends_nothing_and_pays_nothing() {
    let mut bench = Bench::new(config(), 100);
    bench.drain(at(0));
    bench.take(at(10), FAILS);
    assert_eq!(bench.drain(at(10)), Some(at(60)));
    assert_eq!(bench.drain(at(100)), None);
    bench.play(
        &[],
        expect![[r#"
        0 send 1 to host 0 by 100
        100 expired
        0 expired
        holds 0, left 2.0
    "#]],
    );
}

#[test]
fn outcomes_after_the_end_or_of_earlier_attempts_are_ignored() {
    let config = Config { per_attempt: Some(ms(100)), ..config() };
    let script = [(160, Late(Outcome::Success)), (170, OK), (180, FAILS), (190, OK)];
    let bench = Bench::new(config, 1_000).play(
        &script,
        expect![[r#"
        0 send 1 to host 0 by 100
        100 cancel 1
        150 send 2 to host 1 by 250
        170 answered
        180 answered
        190 answered
        holds 1, left 1.1
    "#]],
    );
    assert_eq!(bench.blame(1), 0.0);
    // While it waits, nobody is under way.
    Bench::new(config, 1_000).play(
        &[(10, FAILS), (20, OK), (30, FAILS), (70, OK)],
        expect![[r#"
        0 send 1 to host 0 by 100
        60 send 2 to host 1 by 160
        70 answered
        holds 1, left 1.1
    "#]],
    );
}

#[test]
fn a_refusal_by_one_back_gate_tries_the_other_and_costs_nothing() {
    let bench = Bench::new(config(), 1_000).hosts(vec![host(1), host(1)]);
    let Admit::Ticket(held) = bench.hosts.gates()[0].admit(at(0), &until(1_000)) else { panic!() };
    let bench = bench.play(
        &[(10, OK)],
        expect![[r#"
        0 send 1 to host 1 by 1000
        10 answered
        holds 2, left 2.1
    "#]],
    );
    bench.hosts.gates()[0].release(at(20), held);
}

#[test]
fn when_every_host_refuses_the_first_attempt_the_call_is_refused() {
    let bench = Bench::new(config(), 1_000);
    let _held: Vec<Admit> = bench.hosts.gates().iter().map(|gate| gate.admit(at(0), &until(1_000))).collect();
    bench.play(
        &[],
        expect![[r#"
        0 refused by limit: full, ask again in 1s
        holds 2, left 2.0
    "#]],
    );
    Bench::new(config(), 1_000).hosts(vec![]).play(
        &[],
        expect![[r#"
        0 refused by balance: no_host
        holds 0, left 2.0
    "#]],
    );
}

#[test]
fn when_every_host_refuses_a_retry_the_answer_stands_and_the_budget_is_repaid() {
    let mut bench = Bench::new(config(), 1_000);
    bench.drain(at(0));
    bench.take(at(10), FAILS);
    let _held: Vec<Admit> =
        bench.hosts.gates().iter().map(|gate| gate.admit(at(20), &until(1_000))).collect();
    bench.play(
        &[],
        expect![[r#"
        0 send 1 to host 0 by 1000
        60 answered, because refused by limit: full, ask again in 1s
        holds 2, left 2.0
    "#]],
    );
}

#[test]
fn the_refusal_that_ends_soonest_is_told() {
    let breaker = |open| {
        let settings = breaker::Settings {
            window: breaker::Extent::Calls(1),
            min_calls: 1,
            open,
            ..breaker::Settings::default()
        };
        let breaker = Some(breaker::Config::new(settings).unwrap());
        let limit = Some(limit::Config { ceiling: Ceiling::Fixed(1), queue: 8, ..limit::Config::default() });
        gate::Settings { breaker, limit, ..gate::Settings::default() }
    };
    let gate = |settings| {
        #[expect(clippy::arc_with_non_send_sync, reason = "as `host`")]
        Arc::new(Gate::<Alone<u64>>::new(settings, Door::default(), at(0)))
    };
    let waits = gate(gate::Settings { breaker: None, ..breaker(ms(1)) });
    let gates = vec![gate(breaker(ms(300))), gate(breaker(ms(200))), waits.clone()];
    for gate in &gates[..2] {
        let Admit::Ticket(ticket) = gate.admit(at(0), &until(1_000)) else { panic!() };
        gate.settle(at(0), ticket, Outcome::Failure);
    }
    let _held = waits.admit(at(0), &until(1_000));
    let hosts = Hosts::new(gates);
    for _ in 0..3 {
        let soonest = hosts.pick(at(0), &until(1_000), None, &mut Rng::new(1, 1)).unwrap_err();
        assert_eq!((soonest.policy, soonest.retry_after), (Policy::Breaker, ms(200)));
    }
    assert_eq!(waits.snapshot(at(0)).limit.unwrap().waiting, 0, "nobody is left in a back gate's line");
}

#[test]
fn nobody_is_blamed_for_an_attempt_that_began_just_before_the_deadline() {
    let short = Bench::new(config(), 1_000).play(
        &[(800, FAILS)],
        expect![[r#"
        0 send 1 to host 0 by 1000
        850 send 2 to host 1 by 1000
        1000 cancel 2
        1000 expired
        holds 0, left 1.0
    "#]],
    );
    assert_eq!([short.blame(0), short.blame(1)], [1.0, 0.0]);
    let long = Bench::new(config(), 1_000).play(
        &[(600, FAILS)],
        expect![[r#"
        0 send 1 to host 0 by 1000
        650 send 2 to host 1 by 1000
        1000 cancel 2
        1000 expired
        holds 0, left 1.0
    "#]],
    );
    assert_eq!([long.blame(0), long.blame(1)], [1.0, 1.0]);
}

#[test]
fn abandoned_in_any_state_it_gives_everything_back() {
    Bench::new(config(), 1_000).play(
        &[(10, Abandon), (20, OK)],
        expect![[r#"
        0 send 1 to host 0 by 1000
        10 expired
        20 expired
        holds 0, left 2.0
    "#]],
    );
    Bench::new(config(), 1_000).play(
        &[(10, FAILS), (20, Abandon)],
        expect![[r#"
        0 send 1 to host 0 by 1000
        20 expired
        holds 0, left 2.0
    "#]],
    );
    Bench::new(config(), 1_000).play(
        &[(10, OK), (20, Abandon), (30, Abandon)],
        expect![[r#"
        0 send 1 to host 0 by 1000
        10 answered
        20 expired
        30 expired
        holds 0, left 2.1
    "#]],
    );
    let mut unsent = Bench::new(config(), 1_000);
    unsent.take(at(0), Abandon);
    let bench = unsent.play(
        &[],
        expect![[r#"
        0 expired
        holds 0, left 2.0
    "#]],
    );
    assert_eq!([bench.blame(0), bench.blame(1)], [0.0, 0.0]);
}

#[test]
fn attempts_have_a_most() {
    let config = Config { attempts: u32::MAX, backoff: Backoff::NONE, per_attempt: None };
    let hosts = Hosts::new(vec![open_host()]);
    let mut bench = Bench { shared: unpaid(), hosts, ..Bench::new(config, 1_000) };
    while bench.drain(at(0)).is_some() {
        bench.take(at(0), FAILS);
    }
    assert_eq!(bench.call.attempts(), PERSISTENT_MAX);
}

/// The load on the callee and the share of calls that succeed, when attempts fail with chance `p`.
fn load(p: f64, attempts: u32, shared: &Cells<Shared>) -> (f64, f64) {
    const CALLS: u64 = 100_000;
    let config = Config { attempts, per_attempt: None, backoff: Backoff::NONE };
    let hosts: Hosts<Alone<u64>> = Hosts::new(vec![open_host()]);
    let parts = parts(&hosts, shared);
    let (mut sent, mut succeeded, mut luck) = (0_u64, 0_u64, Rng::new(7, 0));
    for number in 0..CALLS {
        let mut rng = Rng::new(1, number);
        let mut call = Call::new(config, until(1_000), Repeat::Safe, at(0));
        while let Step::Send(attempt) = call.poll(at(0), &parts, &mut rng) {
            let outcome = if luck.unit() < p { Outcome::Failure } else { Outcome::Success };
            succeeded += u64::from(outcome == Outcome::Success);
            call.on_outcome(at(0), attempt.lane, outcome, Repeat::Safe, &parts, &mut rng);
        }
        sent += u64::from(call.attempts());
        call.abandon(at(0), &parts);
    }
    (sent as f64 / CALLS as f64, succeeded as f64 / CALLS as f64)
}

#[expect(clippy::arc_with_non_send_sync, reason = "as `host`")]
fn open_host() -> Arc<Gate<Alone<u64>>> {
    Arc::new(Gate::new(gate::Settings::default(), Door::default(), at(0)))
}

#[test]
fn retries_load_the_callee_as_the_closed_forms_say() {
    for (p, attempts, shared, exact) in [
        (0.5, 4, unpaid(), (1.875, 0.9375)),
        (1.0, 4, unpaid(), (4.0, 0.0)),
        (0.5, 4, balance(0), (1.052632, 0.526316)),
        (1.0, 4, balance(0), (1.0, 0.0)),
        (0.0, 4, balance(0), (1.0, 1.0)),
    ] {
        let (load, success) = load(p, attempts, &shared);
        // Three standard errors of 100 000 calls.
        let near = |value: f64, exact: f64| (value - exact).abs() <= 0.01 * exact.min(1.0);
        assert!(near(load, exact.0) && near(success, exact.1), "p {p}: {load} {success}, not {exact:?}");
    }
}
