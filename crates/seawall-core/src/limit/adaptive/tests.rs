use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::string::String;
use std::vec::Vec;

use expect_test::expect;

use super::*;
use crate::rng::Rng;

/// A callee with workers and a line inside, driven by a source that keeps the limit full, or by
/// arrivals of a rate with a line in front.
struct Callee {
    now: Time,
    workers: usize,
    service: Span,
    busy: usize,
    line: VecDeque<(Time, u32)>,
    done: BTreeMap<(Time, u64), (Time, u32)>,
    number: u64,
    in_flight: u32,
    rng: Rng,
}

impl Callee {
    fn new(workers: usize, service_ms: u64, seed: u64) -> Callee {
        Callee {
            now: Time::ZERO,
            workers,
            service: Span::from_millis(service_ms),
            busy: 0,
            line: VecDeque::new(),
            done: BTreeMap::new(),
            number: 0,
            in_flight: 0,
            rng: Rng::new(seed, 0),
        }
    }

    fn send(&mut self) {
        self.in_flight += 1;
        self.line.push_back((self.now, self.in_flight));
        self.work();
    }

    fn work(&mut self) {
        while self.busy < self.workers
            && let Some(job) = self.line.pop_front()
        {
            self.busy += 1;
            self.number += 1;
            let ends = self.now + self.rng.exponential(self.service);
            self.done.insert((ends, self.number), job);
        }
    }

    fn next_done(&self) -> Time {
        self.done.first_key_value().map_or(Time::MAX, |((at, _), _)| *at)
    }

    fn complete(&mut self, adaptive: &mut Adaptive) {
        let ((at, _), (sent, in_flight)) = self.done.pop_first().unwrap();
        self.now = at;
        self.busy = self.busy.saturating_sub(1);
        self.in_flight -= 1;
        adaptive.sample(at, in_flight, at.since(sent), Outcome::Success);
        self.work();
    }

    /// Runs with arrivals of `rate` a second; whoever finds the limit reached waits in front.
    /// Returns the limits seen, second by second.
    fn run(&mut self, adaptive: &mut Adaptive, rate: f64, seconds: u64) -> Vec<u32> {
        let end = self.now + Span::from_secs(seconds);
        let gap = Span::from_secs_f64(1.0 / rate);
        let mut arrival = self.now + self.rng.exponential(gap);
        let (mut waiting, mut limits, mut next) = (0_u32, Vec::new(), self.now);
        while self.now < end {
            if self.next_done() <= arrival {
                self.complete(adaptive);
            } else {
                self.now = arrival;
                waiting = (waiting + 1).min(adaptive.limit() * 2);
                arrival = self.now + self.rng.exponential(gap);
            }
            while waiting > 0 && self.in_flight < adaptive.limit() {
                waiting -= 1;
                self.send();
            }
            if self.now >= next {
                limits.push(adaptive.limit());
                next += Span::from_secs(1);
            }
        }
        limits
    }
}

fn mean(limits: &[u32]) -> f64 {
    limits.iter().map(|limit| f64::from(*limit)).sum::<f64>() / limits.len() as f64
}

fn ceiling() -> Adaptive {
    Adaptive::new(Config::default(), Time::ZERO)
}

/// Whether the mean of `limits` after ten seconds is within 0 to +25 % of `truth`, or one place more, and what
/// looking for more adds.
fn assert_near(limits: &[u32], truth: f64, what: &str) {
    let mean = mean(&limits[10..]);
    let most = (truth * 1.25).max(truth + 1.1);
    assert!((truth..=most).contains(&mean), "{what}: {mean} is not near {truth}: {limits:?}");
}

#[test]
fn finds_the_workers_at_every_load() {
    for seed in 0..3 {
        let (mut callee, mut adaptive) = (Callee::new(8, 10, seed), ceiling());
        callee.run(&mut adaptive, 400.0, 10);
        for factor in [0.9, 1.2, 2.0, 5.0, 10.0] {
            let limits = callee.run(&mut adaptive, 800.0 * factor, 40);
            assert_near(&limits, 8.0, &std::format!("seed {seed} at {factor}"));
        }
    }
}

#[test]
fn a_callee_that_slows_gently_keeps_the_places_that_pay() {
    let latency = |in_flight: u32| Span::from_millis(20 + 5 * u64::from(in_flight));
    let (mut adaptive, mut now) = (ceiling(), Time::ZERO);
    for call in 0..1_000 {
        now += Span::from_millis(10);
        let in_flight = 1 + call % 4;
        adaptive.sample(now, in_flight, latency(in_flight), Outcome::Success);
    }
    let mut limits = Vec::new();
    while now < Time::ZERO + Span::from_secs(100) {
        let full = adaptive.limit();
        now += latency(full).scaled(1.0 / f64::from(full));
        adaptive.sample(now, full, latency(full), Outcome::Success);
        limits.push(full);
    }
    // Four would do half of what it can at most, and eight do two thirds.
    let least = limits.iter().skip(limits.len() / 2).min();
    assert!(least >= Some(&7), "{least:?}");
}

#[test]
fn an_hour_of_saturation_teaches_nothing() {
    let (mut callee, mut adaptive) = (Callee::new(8, 10, 1), ceiling());
    callee.run(&mut adaptive, 400.0, 10);
    let limits = callee.run(&mut adaptive, 1_600.0, 3_600);
    assert_near(&limits[3_000..], 8.0, "the last ten minutes");
}

#[test]
fn started_under_overload_it_finds_the_workers_too() {
    for seed in 0..3 {
        let (mut callee, mut adaptive) = (Callee::new(8, 10, seed), ceiling());
        assert_near(&callee.run(&mut adaptive, 4_000.0, 60), 8.0, "cold");
    }
}

#[test]
fn follows_workers_that_leave_and_come() {
    let (mut callee, mut adaptive) = (Callee::new(8, 10, 2), ceiling());
    callee.run(&mut adaptive, 400.0, 10);
    callee.workers = 4;
    assert_near(&callee.run(&mut adaptive, 4_000.0, 60), 4.0, "halved");
    callee.workers = 8;
    assert_near(&callee.run(&mut adaptive, 4_000.0, 60)[20..], 8.0, "back");
}

#[test]
fn a_callee_that_became_slow_does_not_shrink_it_to_nothing() {
    for seed in 0..3 {
        let (mut callee, mut adaptive) = (Callee::new(8, 10, seed), ceiling());
        callee.run(&mut adaptive, 560.0, 20);
        callee.service = Span::from_millis(20);
        let limits = callee.run(&mut adaptive, 560.0, 60);
        let mean = mean(&limits[30..]);
        assert!((8.0..12.0).contains(&mean), "{mean}: {limits:?}");
    }
}

/// It comes back five times as slow after a pause: what calls took before says nothing of that.
#[test]
fn after_a_silence_the_no_load_latency_is_learned_anew() {
    let slow_after = |silence: Span| {
        let (mut callee, mut adaptive) = (Callee::new(8, 10, 1), ceiling());
        callee.run(&mut adaptive, 560.0, 30);
        while callee.in_flight > 0 {
            callee.complete(&mut adaptive);
        }
        callee.now += silence;
        callee.service = Span::from_millis(50);
        callee.run(&mut adaptive, 40.0, 5);
        adaptive.baseline().unwrap()
    };
    assert!(slow_after(SILENCE) > Span::from_millis(35));
    assert!(slow_after(Span::ZERO) < Span::from_millis(20), "few calls do not outweigh many");
}

#[test]
fn sequential_calls_never_raise_it() {
    let mut adaptive = ceiling();
    for call in 0..10_000_u64 {
        adaptive.sample(Time::from_nanos(call * 1_000_000), 1, Span::from_micros(900), Outcome::Success);
    }
    assert_eq!(adaptive.limit(), 16);
    assert_eq!(adaptive.baseline(), Some(Span::from_micros(900)));
}

#[test]
fn quick_failures_teach_nothing_and_refusals_cut() {
    let mut adaptive = ceiling();
    let mut feed = |outcome, millis: u64, from: u64| {
        (0..400).for_each(|call| {
            let now = Time::ZERO + Span::from_millis(from + call);
            adaptive.sample(now, 16, Span::from_millis(millis), outcome);
        });
        adaptive.limit()
    };
    assert_eq!(feed(Outcome::Failure, 0, 0), 16);
    assert_eq!(feed(Outcome::Overloaded { retry_after: None }, 0, 1_000), 16);
    (0..30).for_each(|call| {
        adaptive.sample(Time::from_nanos(call), 1, Span::from_millis(10), Outcome::Success);
    });
    (0..100).for_each(|call| {
        let now = Time::ZERO + Span::from_millis(2_000 + call);
        adaptive.sample(now, 16, Span::from_millis(10), Outcome::Success);
    });
    assert_eq!(adaptive.limit(), 14, "a tenth less, though latency says more");
}

fn bounds(initial: u32, max: u32) -> Config {
    Config::new(Settings { initial, max }).unwrap()
}

#[test]
fn stays_within_its_bounds() {
    let mut adaptive = Adaptive::new(bounds(8, 8), Time::ZERO);
    assert_eq!(adaptive.limit(), 8);
    adaptive.configure(bounds(4, 4));
    assert_eq!(adaptive.limit(), 4);
    let (mut callee, mut adaptive) = (Callee::new(64, 10, 3), Adaptive::new(bounds(16, 20), Time::ZERO));
    assert!(callee.run(&mut adaptive, 9_000.0, 10).iter().all(|limit| *limit <= 20));
}

#[test]
fn the_constructor_names_key_value_and_bound() {
    let error = Config::new(Settings { initial: 900, max: 8 }).unwrap_err();
    assert_eq!(error, SettingError { key: "initial", range: "1 to `max`" });
    let error = Config::new(Settings { initial: 1, max: 0 }).unwrap_err();
    assert_eq!(error, SettingError { key: "max", range: "at least 1" });
}

/// A ceiling that knows a no-load latency of 10 ms, in this state.
fn in_state(limit: f64, state: State) -> Adaptive {
    let mut adaptive = ceiling();
    adaptive.baseline.restart(Time::ZERO, 0.010, 1_000);
    adaptive.stand_at(limit);
    adaptive.state = state;
    adaptive.has_climbed = true;
    adaptive
}

/// One full window of calls that all took so many milliseconds.
fn window(adaptive: &mut Adaptive, millis: f64) {
    let seconds = millis / 1e3;
    let latencies = Sums { calls: 1_000, sum: 1e3 * seconds, squares: 1e3 * seconds * seconds };
    adaptive.window = Window { latencies, ..adaptive.window };
    adaptive.end_window(adaptive.window.from + Span::from_secs(1));
}

fn point(limit: f64, millis: f64) -> Point {
    Point {
        limit,
        latency: millis / 1e3,
        throughput: limit / millis * 1e3,
        doubt: 0.0,
        spread: 0.0,
        calls: 1_000,
    }
}

fn few(limit: f64, millis: f64) -> Point {
    Point { doubt: 0.002, ..point(limit, millis) }
}

/// A ceiling that follows at nine places and has something to do.
fn due(is_check: bool, unmeasured: u32) -> Adaptive {
    Adaptive { is_check, unmeasured, ..in_state(9.0, State::Following(None)) }
}

fn name(state: &State) -> &'static str {
    match state {
        State::Settling => "settling",
        State::Climbing(..) => "climbing",
        State::Searching(_) => "searching",
        State::Following(_) => "following",
        State::Returning(_) => "returning",
        State::Measuring(_) => "measuring",
    }
}

#[test]
fn the_transitions_are_these() {
    let mut table = String::new();
    let mut note = |mut adaptive: Adaptive, millis: f64, what: &str| {
        let (before, limit) = (name(&adaptive.state), adaptive.limit());
        window(&mut adaptive, millis);
        let (after, now) = (name(&adaptive.state), adaptive.limit());
        writeln!(table, "{before:<9} {limit:>2}, {what:<38} -> {after:<9} {now:>2}").unwrap();
    };
    let from = |limit, millis| Some(point(limit, millis));
    note(in_state(16.0, State::Settling), 10.0, "whatever it says");
    note(in_state(16.0, State::Climbing(None, 0)), 10.0, "first window");
    note(in_state(24.0, State::Climbing(from(16.0, 10.0), 0)), 10.0, "throughput followed");
    note(in_state(24.0, State::Climbing(from(16.0, 10.0), 0)), 15.0, "throughput stayed");
    note(
        Adaptive { baseline: Baseline::new(), ..in_state(16.0, State::Climbing(None, 0)) },
        20.0,
        "no baseline",
    );
    let searching =
        |limit, best| Adaptive { baseline: Baseline::new(), ..in_state(limit, State::Searching(best)) };
    note(searching(8.0, from(16.0, 20.0)), 10.0, "throughput stayed");
    note(searching(4.0, from(8.0, 10.0)), 10.0, "throughput fell");
    note(in_state(8.0, State::Following(None)), 10.0, "no queue inside");
    note(in_state(16.0, State::Following(None)), 20.0, "a queue inside");
    note(in_state(8.0, State::Following(from(16.0, 20.0))), 10.0, "cut, throughput stayed");
    note(in_state(8.0, State::Following(from(16.0, 20.0))), 20.0, "cut, throughput fell along");
    note(in_state(16.0, State::Following(from(8.0, 10.0))), 10.0, "grew, throughput followed");
    note(in_state(16.0, State::Following(from(8.0, 5.0))), 10.0, "grew, throughput stayed");
    note(due(true, 0), 11.25, "check due");
    note(due(false, MEASURE_EVERY), 11.25, "measurement due");
    note(in_state(16.0, State::Returning(point(8.0, 10.0))), 20.0, "throughput stayed");
    note(in_state(16.0, State::Returning(point(8.0, 20.0))), 20.0, "throughput rose as much");
    note(in_state(16.0, State::Returning(point(8.0, 20.0))), 25.0, "throughput rose by less");
    note(in_state(16.0, State::Returning(point(8.0, 20.0))), 32.0, "throughput rose by little");
    note(in_state(16.0, State::Returning(few(8.0, 20.0))), 32.0, "so few said");
    note(in_state(8.0, State::Measuring(point(12.0, 20.0))), 13.3, "throughput stayed");
    note(in_state(5.0, State::Measuring(point(9.0, 22.5))), 20.0, "throughput fell");
    let never_climbed = in_state(5.0, State::Measuring(point(9.0, 22.5)));
    note(Adaptive { has_climbed: false, ..never_climbed }, 20.0, "measured before any climb");
    note(in_state(3.0, State::Measuring(point(4.0, 20.0))), 13.3, "nothing lower");
    note(in_state(5.0, State::Measuring(point(10.0, 50.0))), 10.0, "throughput rose");
    expect![[r#"
        settling  16, whatever it says                       -> climbing  16
        climbing  16, first window                           -> climbing  24
        climbing  24, throughput followed                    -> climbing  36
        climbing  24, throughput stayed                      -> following 16
        climbing  16, no baseline                            -> climbing  24
        searching  8, throughput stayed                      -> searching  4
        searching  4, throughput fell                        -> measuring  4
        following  8, no queue inside                        -> following  9
        following 16, a queue inside                         -> following 11
        following  8, cut, throughput stayed                 -> following  9
        following  8, cut, throughput fell along             -> returning 16
        following 16, grew, throughput followed              -> following 18
        following 16, grew, throughput stayed                -> measuring  5
        following  9, check due                              -> returning 12
        following  9, measurement due                        -> measuring  5
        returning 16, throughput stayed                      -> following  8
        returning 16, throughput rose as much                -> climbing  24
        returning 16, throughput rose by less                -> measuring  8
        returning 16, throughput rose by little              -> following 11
        returning 16, so few said                            -> measuring 10
        measuring  8, throughput stayed                      -> measuring  5
        measuring  5, throughput fell                        -> following  9
        measuring  5, measured before any climb              -> climbing   9
        measuring  3, nothing lower                          -> following  3
        measuring  5, throughput rose                        -> following 10
    "#]]
    .assert_eq(&table);
}

#[test]
fn a_few_quick_calls_do_not_collapse_it() {
    for seed in 0..3 {
        let (mut callee, mut adaptive) = (Callee::new(8, 10, seed), ceiling());
        (0..25).for_each(|call| {
            adaptive.sample(Time::from_nanos(call), 1, Span::from_micros(100), Outcome::Success);
        });
        let limits = callee.run(&mut adaptive, 1_600.0, 60);
        let mean = mean(&limits[20..]);
        assert!((8.0..=10.0).contains(&mean), "{mean}: {limits:?}");
    }
}

/// The limit, window by window, under a full source whose calls take this long, however many there
/// are: each entry is a latency in µs and for how long.
fn paced(adaptive: &mut Adaptive, mut now: Time, stretches: &[(u64, Span)]) -> Vec<u32> {
    let mut limits = Vec::new();
    for (micros, span) in stretches {
        let (latency, end) = (Span::from_micros(*micros), now + *span);
        while now < end {
            now += latency.scaled(1.0 / f64::from(adaptive.limit()));
            adaptive.sample(now, adaptive.limit(), latency, Outcome::Success);
            limits.push(adaptive.limit());
        }
    }
    limits
}

#[test]
fn noise_in_the_latency_of_tiny_calls_does_not_collapse_it() {
    let mut adaptive = ceiling();
    (0..1_000).for_each(|call| {
        adaptive.sample(Time::from_nanos(call), 1, Span::from_micros(200), Outcome::Success);
    });
    let second = Span::from_secs(1);
    // Five times as long, and for a moment fifty times, is what a loaded machine does.
    let limits = paced(&mut adaptive, Time::ZERO, &[(1_000, second), (10_000, second), (1_000, second)]);
    assert!(limits.iter().all(|limit| *limit >= 8), "{:?}", limits.iter().min());
}

#[test]
fn calls_from_before_a_measurement_do_not_change_it() {
    let measured = Time::ZERO + Span::from_secs(1);
    let mut adaptive = in_state(16.0, State::Following(None));
    adaptive.baseline.restart(measured, 0.010, 1_000);
    let mut answer = |sent: Time, latency: Span| {
        (0..100).for_each(|_| adaptive.sample(sent + latency, 1, latency, Outcome::Success));
        adaptive.baseline().unwrap()
    };
    // Of those under way at any moment most are long ones.
    let long = Span::from_millis(50);
    assert_eq!(answer(measured - Span::from_millis(1), long), Span::from_millis(10));
    assert!(answer(measured, long) > Span::from_millis(13));
}

#[test]
fn a_small_change_of_the_callee_is_told_from_chance() {
    let mut rng = Rng::new(1, 0);
    let mut window = |millis: u64| {
        let mut latencies = Sums::default();
        (0..200).for_each(|_| latencies.add(rng.exponential(Span::from_millis(millis)).as_secs_f64()));
        latencies
    };
    let mut stays = Stays::default();
    let by_chance = (0..1_000).filter(|_| !stays.add(9.0, &window(100))).count();
    assert!(by_chance <= 5, "{by_chance} of 1000 windows");
    let steady = stays.last().unwrap();
    assert!((steady.latency / 0.100 - 1.0).abs() < 0.03, "{steady:?}");
    let noticed = (0..20).position(|_| !stays.add(9.0, &window(112)));
    assert!(noticed.is_some_and(|windows| windows > 1), "{noticed:?}");
    assert!(stays.last().unwrap().latency > 0.106, "what came before is forgotten");
}

/// Calls that take 10 ms while at most `workers` are in flight, and longer in proportion beyond that.
fn calls(adaptive: &mut Adaptive, now: &mut Time, count: u32, in_flight: u32, workers: u32) {
    let latency = Span::from_millis(10).scaled(f64::from(in_flight.max(workers)) / f64::from(workers));
    (0..count).for_each(|_| {
        *now += latency.scaled(1.0 / f64::from(in_flight));
        adaptive.sample(*now, in_flight, latency, Outcome::Success);
    });
}

#[test]
fn what_calls_took_before_it_was_found_is_learned_once_it_is() {
    let (mut adaptive, mut now) = (ceiling(), Time::ZERO);
    // By chance the few calls that count at once are long ones.
    (0..50).for_each(|_| adaptive.sample(now, 1, Span::from_millis(14), Outcome::Success));
    calls(&mut adaptive, &mut now, 2_000, 6, 16);
    assert_eq!(adaptive.baseline(), Some(Span::from_millis(14)));
    while !adaptive.is_found() {
        let full = adaptive.limit();
        calls(&mut adaptive, &mut now, 1, full, 16);
    }
    for _ in 0..10_000 {
        let full = adaptive.limit();
        calls(&mut adaptive, &mut now, 1, full, 16);
    }
    let known = adaptive.baseline().unwrap().as_secs_f64();
    assert!((0.0099..0.0102).contains(&known), "{known}");
    assert!((16..=19).contains(&adaptive.limit()), "{}", adaptive.limit());
}

#[test]
fn calls_count_for_the_classes_that_are_surely_below() {
    let mut early = Early::default();
    for in_flight in [1, 2, 3, 4, 7, 8, 5_000] {
        early.add(in_flight, 0.010);
    }
    let calls: Vec<u32> = [0.5, 1.0, 2.9, 3.0, 7.0, 15.0].map(|low| early.up_to(low).calls).to_vec();
    assert_eq!(calls, [0, 1, 1, 3, 5, 6]);
}

/// Of a callee that answers 12 calls a second, 200 a window would take 16 s.
#[test]
fn a_slow_callee_is_climbed_to_in_seconds() {
    let (mut adaptive, mut now) = (ceiling(), Time::ZERO);
    let second = Span::from_secs(1);
    while adaptive.limit() < 81 {
        let full = adaptive.limit();
        now += second.scaled(1.0 / f64::from(full));
        adaptive.sample(now, full, second, Outcome::Success);
    }
    assert!(now < Time::ZERO + Span::from_secs(40), "{now:?}");
}

#[test]
fn a_check_is_as_long_as_it_takes_to_tell() {
    let window = |millis: f64| {
        let mut adaptive = in_state(13.0, State::Returning(point(10.0, 11.0)));
        adaptive.window.latencies = Sums { calls: 1_000, sum: millis, squares: 2.0 * millis * millis / 1e3 };
        adaptive.wanted()
    };
    // Throughput at the lower limit is 909 a second.
    assert_eq!(window(14.3), 400, "909: it stayed");
    assert_eq!(window(13.5), 1_000, "963: it may have risen");
    assert_eq!(window(13.3), 4_000, "977: it likely rose");
    assert_eq!(window(12.0), 1_000, "1083: it rose");
}
