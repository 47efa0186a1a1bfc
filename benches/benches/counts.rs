//! Instructions of each hot path, counted by Valgrind: the same on every run of one toolchain, so that
//! a change shows that no clock would. `cargo xtask counts` runs this and compares with `counts.txt`.
//!
//! Each benchmark does [`TIMES`] operations on state that has been in use.

#![expect(missing_docs, reason = "the macros make public items without a word")]

mod stack;

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use gungraun::{library_benchmark, library_benchmark_group, main};
use seawall::admission::{AdmissionLayer, Stack};
use seawall::core::breaker::{self, Concurrent};
use seawall::core::event::Events;
use seawall::core::gate::{Gate, Rule, Ticket};
use seawall::core::limit::{self, Answer, Limit};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::retry::backoff::Backoff;
use seawall::core::rng::{Rng, mix};
use seawall::core::throttle;
use seawall::core::time::{Span, Time};
use seawall::{Threads, now};
use stack::{Back, Front, Nothing, Scene, calls, front, plenty};
use tokio::runtime::{EnterGuard, Runtime};
use tower::{Layer as _, Service as _};

const TIMES: u64 = 1_000;
const USERS: u64 = 100;

fn of(user: u64) -> Request {
    Request::new(Key(mix(user % USERS)))
}

fn rule() -> Rule<Threads> {
    let rule = Rule::new(throttle::Config::per_user(plenty()), Time::ZERO);
    (0..USERS).for_each(|user| rule.take(Time::ZERO, &of(user)).expect("there are plenty"));
    rule
}

#[library_benchmark(setup = rule)]
fn throttle_passes(rule: Rule<Threads>) -> Rule<Threads> {
    (0..TIMES).for_each(|user| black_box(rule.take(Time::ZERO, &of(user))).expect("there are plenty"));
    rule
}

fn closed() -> Concurrent<Threads> {
    let breaker = Concurrent::new(breaker::Config::default(), Time::ZERO);
    (0..TIMES).for_each(|_| breaker_call(&breaker));
    breaker
}

fn breaker_call(breaker: &Concurrent<Threads>) {
    let pass = breaker.admit(Time::ZERO).expect("it is closed");
    breaker.report(Time::ZERO, black_box(&pass), Outcome::Success);
}

#[library_benchmark(setup = closed)]
fn breaker_admits_and_is_told(breaker: Concurrent<Threads>) -> Concurrent<Threads> {
    (0..TIMES).for_each(|_| breaker_call(&breaker));
    breaker
}

fn limit() -> (Limit<Waker>, Events) {
    let mut limit = Limit::new(limit::Config::default(), Time::ZERO);
    limit.add_lane(limit::Lane::default());
    let mut used = (limit, Events::default());
    (0..TIMES).for_each(|call| limit_call(call, &mut used));
    used
}

fn limit_call(call: u64, (limit, events): &mut (Limit<Waker>, Events)) {
    let begun = Time::ZERO + Span::from_millis(10 * call);
    limit.arrive(begun, 0, events);
    let Answer::Slot(slot) = limit.admit(begun, 0, &of(call)) else { unreachable!("there is room") };
    let ended = begun + Span::from_millis(5);
    limit.report(ended, &slot, Outcome::Success, Span::ZERO, events);
    limit.release(ended, slot);
}

#[library_benchmark(setup = limit)]
fn limit_arrives_admits_reports_releases(mut used: (Limit<Waker>, Events)) -> (Limit<Waker>, Events) {
    (TIMES..2 * TIMES).for_each(|call| limit_call(call, &mut used));
    used
}

fn throttled() -> Scene {
    let users: Vec<Key> = (0..USERS).map(|user| of(user).user).collect();
    Scene::throttled(&users)
}

#[library_benchmark]
#[bench::throttle(throttled())]
#[bench::shed(Scene::overloaded())]
#[bench::limit(Scene::full())]
#[bench::limit_and_queue(Scene::queued())]
#[bench::breaker(Scene::open())]
fn gate_refuses(scene: Scene) -> Scene {
    for user in 0..TIMES {
        let mut ticket = Ticket::blank();
        match black_box(scene.gate.fill(scene.now, &of(user), &mut ticket)) {
            Ok(Some(place)) => scene.gate.leave(scene.now, place),
            refused => assert!(refused.is_err(), "nobody passes"),
        }
    }
    scene
}

fn used_front() -> Arc<Gate<Threads>> {
    let gate = front(plenty(), limit::Config::default());
    (0..TIMES).for_each(|user| gate_call(&gate, user));
    gate
}

fn gate_call(gate: &Gate<Threads>, user: u64) {
    let mut ticket = Ticket::blank();
    assert!(matches!(gate.fill(Time::ZERO, &of(user), &mut ticket), Ok(None)), "there is room");
    gate.end(Time::ZERO, &mut ticket, Outcome::Success);
}

#[library_benchmark(setup = used_front)]
fn gate_admits_and_settles(gate: Arc<Gate<Threads>>) -> Arc<Gate<Threads>> {
    (0..TIMES).for_each(|user| gate_call(&gate, user));
    gate
}

type Six = Stack<Nothing, Front<fn(u64) -> Key>, Back>;

fn six() -> (Runtime, Six) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let key: fn(u64) -> Key = |user| of(user).user;
    let admission = AdmissionLayer::new(front(plenty(), limit::Config::default()), Front(key));
    let mut six = admission.around(calls()).layer(Nothing);
    let entered = runtime.enter();
    (0..TIMES).for_each(|user| stack_call(&mut six, user, &entered));
    drop(entered);
    (runtime, six)
}

fn stack_call(six: &mut Six, user: u64, _: &EnterGuard<'_>) {
    let answer = pin!(six.call(user)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(black_box(answer), Poll::Ready(Ok(_))), "it answers at once");
}

#[library_benchmark(setup = six)]
fn stack_of_six_policies((runtime, mut six): (Runtime, Six)) -> (Runtime, Six) {
    let entered = runtime.enter();
    (0..TIMES).for_each(|user| stack_call(&mut six, user, &entered));
    drop(entered);
    (runtime, six)
}

#[library_benchmark]
fn backoff_delay() -> Span {
    let (backoff, mut rng) = (Backoff::default(), Rng::new(7, 0));
    (0..TIMES).fold(Span::ZERO, |last, retry| black_box(backoff.wait((retry % 5) as u32, last, &mut rng)))
}

#[library_benchmark]
fn clock_reading() {
    (0..TIMES).for_each(|_| _ = black_box(now()));
}

library_benchmark_group!(
    name = counts,
    benchmarks = [
        throttle_passes,
        breaker_admits_and_is_told,
        limit_arrives_admits_reports_releases,
        gate_refuses,
        gate_admits_and_settles,
        stack_of_six_policies,
        backoff_delay,
        clock_reading
    ]
);

main!(library_benchmark_groups = counts);
