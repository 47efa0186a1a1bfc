//! Breakers side by side, closed and all well: `cargo bench -p seawall-benches --bench breaker [-- REPEATS]`.
//!
//! One operation is an admission and a success. `recloser` has no window by time.

use std::hint::black_box;
use std::time::Instant;

use circuitbreaker_rs::{BreakerError, DefaultPolicy};
use failsafe::CircuitBreaker as _;
use seawall::Threads;
use seawall::core::breaker::{Concurrent, Config, Extent, Settings};
use seawall::core::outcome::Outcome;
use seawall::core::time::{Span, Time};
use seawall_benches::{Contender, compare, measure};

const CALLS: u64 = 1 << 20;

fn contender<'a>(name: &'static str, threads: usize, call: impl Fn() -> bool + Sync + 'a) -> Contender<'a> {
    Contender::new(name, move || {
        measure(threads, |_| {
            let passed = (0..CALLS).filter(|_| black_box(call())).count();
            assert_eq!(passed as u64, CALLS, "it stays closed");
            CALLS
        })
    })
}

fn ours(window: Extent) -> Concurrent<Threads> {
    let config = Config::new(Settings { window, ..Settings::default() }).expect("within bounds");
    Concurrent::new(config, Time::ZERO)
}

fn call(breaker: &Concurrent<Threads>, now: Time) -> bool {
    let passed = breaker.admit(now);
    passed.is_ok_and(|pass| {
        breaker.report(now, &pass, Outcome::Success);
        true
    })
}

fn main() {
    let repeats = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let origin = Instant::now();
    let by_count = ours(Extent::Calls(100));
    let by_time = ours(Extent::Time(Span::from_secs(10)));
    let clocked = ours(Extent::Time(Span::from_secs(10)));
    let breaker = breaker::CircuitBreaker::new(breaker::CircuitBreakerConfig::standard());
    let recloser = recloser::Recloser::default();
    let failsafe = failsafe::Config::new().build();
    let circuitbreaker =
        circuitbreaker_rs::CircuitBreaker::<DefaultPolicy, std::io::Error>::builder().build();
    let mut alone = [0.0; 6];
    for threads in [1, 2, 8] {
        let now = Time::from_nanos(1);
        let costs = compare(
            &format!("closed, {threads} threads"),
            repeats,
            &[
                contender("seawall by count, `now` given", threads, || call(&by_count, now)),
                contender("seawall by time, `now` given", threads, || call(&by_time, now)),
                contender("seawall by time, std clock", threads, || {
                    call(&clocked, Time::from_nanos(origin.elapsed().as_nanos() as u64))
                }),
                contender("breaker", threads, || {
                    let passed = !breaker.is_open();
                    breaker.record_success();
                    passed
                }),
                contender("recloser", threads, || recloser.call(|| Ok::<(), ()>(())).is_ok()),
                contender("failsafe", threads, || failsafe.call(|| Ok::<(), ()>(())).is_ok()),
                contender("circuitbreaker-rs", threads, || {
                    let done: Result<(), BreakerError<std::io::Error>> = circuitbreaker.call(|| Ok(()));
                    done.is_ok()
                }),
            ],
        );
        for (name, cost) in ["breaker", "recloser", "failsafe", "circuitbreaker-rs"].iter().zip(&costs[3..]) {
            println!("  {name} over seawall by time: {:.2}", cost.cpu / costs[1].cpu);
        }
        if threads == 1 {
            alone = std::array::from_fn(|at| costs[at].rate);
        } else {
            println!(
                "  calls of all threads over those of one: seawall {:.2}, breaker {:.2}",
                costs[1].rate / alone[1],
                costs[3].rate / alone[3]
            );
        }
    }
}
