//! Breakers: what other libraries get wrong.

use seawall::core::breaker::{Breaker, Config, Extent, Forced, Keyed, Mode, Pass, Settings};
use seawall::core::event::Events;
use seawall::core::gate::{Admit, Alone, Gate, Lane, Settings as Parts};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::rng::mix;
use seawall::core::time::{Span, Time};

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn settings() -> Settings {
    Settings { window: Extent::Calls(20), min_calls: 5, probes: 2, ..Settings::default() }
}

struct Bench {
    breaker: Breaker,
    events: Events,
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        Bench { breaker: Breaker::new(Config::new(settings).unwrap(), at(0)), events: Events::default() }
    }

    fn admit(&mut self, now: Time) -> Option<Pass> {
        self.breaker.admit(now, &mut self.events).ok()
    }

    fn report(&mut self, now: Time, pass: &Pass, outcome: Outcome) {
        self.breaker.report(now, pass, outcome, &mut self.events);
    }

    fn call(&mut self, now: Time, outcome: Outcome) -> bool {
        self.admit(now).map(|pass| self.report(now, &pass, outcome)).is_some()
    }

    /// Fails until it is open.
    fn open(mut self, now: Time) -> Bench {
        while self.call(now, Outcome::Failure) {}
        self
    }
}

#[test]
fn a_count_window_slides() {
    let mut bench = Bench::new(settings());
    (0..10_000).for_each(|_| assert!(bench.call(at(0), Outcome::Success)));
    let needed = (1..).find(|_| {
        bench.call(at(0), Outcome::Failure);
        bench.breaker.mode() == Mode::Open
    });
    assert_eq!(needed, Some(10));
}

#[test]
fn a_late_result_from_before_the_trip_does_not_flip_half_open() {
    for late in [Outcome::Success, Outcome::Failure] {
        let mut bench = Bench::new(settings());
        let before: Vec<Pass> = (0..50).filter_map(|_| bench.admit(at(0))).collect();
        let mut bench = bench.open(at(0));
        assert!(bench.call(at(5_000), Outcome::Ignored));
        before.iter().for_each(|pass| bench.report(at(5_000), pass, late));
        assert_eq!(bench.breaker.mode(), Mode::HalfOpen, "{late:?}");
    }
}

#[test]
fn half_open_does_not_admit_everything() {
    let mut bench = Bench::new(settings()).open(at(0));
    assert_eq!((0..1_000).filter_map(|_| bench.admit(at(5_000))).count(), 2);
}

#[test]
fn a_cancelled_a_lost_and_a_hanging_probe_do_not_lock_half_open() {
    let mut bench = Bench::new(settings()).open(at(0));
    assert!(bench.call(at(5_000), Outcome::Cancelled));
    let _lost = bench.admit(at(5_000)).unwrap();
    let hanging = bench.admit(at(5_000)).unwrap();
    assert!(bench.admit(at(14_999)).is_none());
    (0..2).for_each(|_| assert!(bench.call(at(15_000), Outcome::Success)));
    assert_eq!(bench.breaker.mode(), Mode::Closed);
    bench.report(at(60_000), &hanging, Outcome::Failure);
    assert_eq!(bench.breaker.snapshot().failure_rate, 0.0);
}

#[test]
fn a_probe_that_reports_twice_or_late_underflows_nothing() {
    let mut bench = Bench::new(settings()).open(at(0));
    let probe = bench.admit(at(5_000)).unwrap();
    (0..10).for_each(|_| bench.report(at(5_000), &probe, Outcome::Ignored));
    let late = bench.admit(at(5_000)).unwrap();
    assert_eq!((0..10).filter_map(|_| bench.admit(at(15_000))).count(), 2);
    (0..10).for_each(|_| bench.report(at(15_000), &late, Outcome::Success));
    assert_eq!(bench.breaker.mode(), Mode::HalfOpen);
    assert!(bench.admit(at(15_000)).is_none());
}

#[test]
fn calls_that_timed_out_are_recorded() {
    let mut bench = Bench::new(settings());
    (0..5).for_each(|_| assert!(bench.call(at(0), Outcome::TimedOut)));
    assert_eq!(bench.breaker.mode(), Mode::Open);
}

#[test]
fn a_reset_is_honoured_in_every_state() {
    let reset = |mut bench: Bench, now| {
        bench.breaker.reset(now, &mut bench.events);
        assert_eq!(bench.breaker.mode(), Mode::Closed);
        assert!(bench.call(now, Outcome::Success));
    };
    reset(Bench::new(settings()), at(0));
    reset(Bench::new(settings()).open(at(0)), at(1));
    let mut probing = Bench::new(settings()).open(at(0));
    assert!(probing.admit(at(5_000)).is_some());
    reset(probing, at(5_000));
    for how in [Forced::Open, Forced::Closed, Forced::MetricsOnly] {
        let mut forced = Bench::new(settings());
        forced.breaker.force(at(0), how, &mut forced.events);
        reset(forced, at(1));
    }
}

#[test]
fn not_all_traffic_is_back_at_once_when_it_closes() {
    let breaker = Some(Config::new(settings()).unwrap());
    let parts = Parts { breaker, ramp: Span::from_secs(60), ..Parts::default() };
    let gate: Gate<Alone<()>> = Gate::new(parts, Lane::default(), at(0));
    let call = |now, outcome| match gate.admit(now, &Request::new(Key(1))) {
        Admit::Ticket(ticket) => {
            gate.settle(now, ticket, outcome);
            true
        }
        _ => false,
    };
    while call(at(0), Outcome::Failure) {}
    (0..2).for_each(|_| assert!(call(at(5_000), Outcome::Success)));
    let passed = (0..1_000).filter(|_| call(at(5_001), Outcome::Success)).count();
    assert!((1..=100).contains(&passed), "{passed}");
}

#[test]
fn instances_do_not_probe_in_step() {
    let wakes = |seed| {
        let bench = Bench::new(Settings { seed: Some(seed), ..settings() }).open(at(0));
        bench.breaker.wake_at().unwrap()
    };
    let mut seen: Vec<Time> = (0..100).map(wakes).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100);
}

#[test]
fn a_breaker_for_each_shard_keeps_a_partial_outage_partial() {
    let mut shards = Keyed::new(Config::new(settings()).unwrap(), 100);
    let mut events = Events::default();
    let mut answered = 0;
    for call in 0..1_000_u64 {
        let shard = call % 10;
        if let Ok(pass) = shards.admit(at(call), Key(mix(shard)), &mut events) {
            let outcome = if shard == 3 { Outcome::Failure } else { Outcome::Success };
            answered += u32::from(shard != 3);
            shards.report(at(call), &pass, outcome, &mut events);
        }
    }
    assert_eq!((answered, shards.snapshot().open), (900, 1));
}
