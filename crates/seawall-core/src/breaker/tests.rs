use std::fmt::Write as _;
use std::string::String;
use std::vec::Vec;

use expect_test::expect;
use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// A breaker with its events, driven in one line.
struct Bench {
    breaker: Breaker,
    events: Events,
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        Bench { breaker: Breaker::new(Config::new(settings).unwrap()), events: Events::default() }
    }

    fn admit(&mut self, now: Time) -> Result<Pass, Rejection> {
        self.breaker.admit(now, &mut self.events)
    }

    fn report(&mut self, now: Time, pass: &Pass, outcome: Outcome) {
        self.breaker.report(now, pass, outcome, &mut self.events);
    }

    /// One call that is admitted and ends at once.
    fn call(&mut self, now: Time, outcome: Outcome) -> bool {
        match self.admit(now) {
            Ok(pass) => {
                self.report(now, &pass, outcome);
                true
            }
            Err(_) => false,
        }
    }

    fn mode(&self) -> Mode {
        self.breaker.snapshot().mode
    }

    fn open(&mut self, now: Time) {
        while self.mode() != Mode::Open {
            assert!(self.call(now, Outcome::Failure));
        }
    }
}

fn settings() -> Settings {
    Settings { window: 20, min_calls: 5, open: Span::from_secs(5), probes: 4, ..Settings::default() }
}

#[test]
fn opens_at_the_fifth_call_and_lets_probes_through_later() {
    let mut bench = Bench::new(settings());
    for outcome in [Outcome::Failure, Outcome::Failure, Outcome::Failure, Outcome::Success] {
        assert!(bench.call(at(0), outcome));
        assert_eq!(bench.mode(), Mode::Closed);
    }
    bench.call(at(0), Outcome::Success);
    assert_eq!(bench.mode(), Mode::Open);
    let refused = bench.admit(at(3_000)).unwrap_err();
    assert_eq!((refused.reason, refused.retry_after), (Reason::Open, Span::from_secs(2)));
    assert!(bench.admit(at(6_000)).is_ok());
    assert_eq!(bench.mode(), Mode::HalfOpen);
}

#[test]
fn probes_decide_by_their_own_rate() {
    use Outcome::{Failure as E, Success as S};
    for (outcomes, mode) in [([E, E, S, E], Mode::Open), ([E, S, S, S], Mode::Closed)] {
        let mut bench = Bench::new(settings());
        bench.open(at(0));
        for outcome in outcomes {
            assert!(bench.call(at(6_000), outcome));
        }
        assert_eq!(bench.mode(), mode, "{outcomes:?}");
    }
}

#[test]
fn half_open_admits_no_more_than_its_probes() {
    let mut bench = Bench::new(settings());
    bench.open(at(0));
    let passes: Vec<Pass> = (0..100).filter_map(|_| bench.admit(at(6_000)).ok()).collect();
    assert_eq!(passes.len(), 4);
}

#[test]
fn an_ignored_or_cancelled_probe_comes_back() {
    for outcome in [Outcome::Ignored, Outcome::Cancelled, Outcome::Superseded] {
        let mut bench = Bench::new(settings());
        bench.open(at(0));
        for _ in 0..100 {
            assert!(bench.call(at(6_000), outcome), "{outcome:?}");
        }
        assert_eq!(bench.mode(), Mode::HalfOpen);
    }
}

#[test]
fn lost_probes_cannot_lock_it() {
    let mut bench = Bench::new(settings());
    bench.open(at(0));
    let lost: Vec<Pass> = (0..4).filter_map(|_| bench.admit(at(6_000)).ok()).collect();
    assert!(bench.admit(at(15_999)).is_err());
    for _ in 0..4 {
        assert!(bench.call(at(16_000), Outcome::Success));
    }
    assert_eq!(bench.mode(), Mode::Closed);
    lost.iter().for_each(|pass| bench.report(at(16_001), pass, Outcome::Failure));
    assert_eq!(bench.breaker.snapshot().failure_rate, 0.0);
}

#[test]
fn a_late_lease_counts_for_nothing() {
    let mut bench = Bench::new(settings());
    bench.open(at(0));
    let late = bench.admit(at(6_000)).unwrap();
    let again: Vec<Pass> = (0..8).filter_map(|_| bench.admit(at(16_000)).ok()).collect();
    assert_eq!(again.len(), 4);
    (0..10).for_each(|_| bench.report(at(16_000), &late, Outcome::Failure));
    again.iter().for_each(|pass| bench.report(at(16_000), pass, Outcome::Success));
    assert_eq!(bench.mode(), Mode::Closed);
}

#[test]
fn a_late_result_never_touches_a_newer_state() {
    let mut bench = Bench::new(settings());
    let before: Vec<Pass> = (0..100).map(|_| bench.admit(at(0)).unwrap()).collect();
    bench.open(at(0));
    (0..4).for_each(|_| assert!(bench.call(at(6_000), Outcome::Success)));
    before.iter().for_each(|pass| bench.report(at(6_001), pass, Outcome::Failure));
    assert_eq!(bench.mode(), Mode::Closed);
    assert_eq!(bench.breaker.snapshot().failure_rate, 0.0);
}

#[test]
fn ten_thousand_successes_do_not_hide_a_failure() {
    let mut bench = Bench::new(settings());
    (0..10_000).for_each(|_| assert!(bench.call(at(0), Outcome::Success)));
    let needed = (1..).find(|_| {
        bench.call(at(0), Outcome::Failure);
        bench.mode() == Mode::Open
    });
    assert_eq!(needed, Some(10));
}

#[test]
fn timed_out_calls_count_and_cancelled_ones_do_not() {
    let mut bench = Bench::new(settings());
    (0..100).for_each(|_| assert!(bench.call(at(0), Outcome::Cancelled)));
    assert_eq!(bench.mode(), Mode::Closed);
    (0..5).for_each(|_| assert!(bench.call(at(0), Outcome::TimedOut)));
    assert_eq!(bench.mode(), Mode::Open);
}

#[test]
fn another_number_of_probes_starts_the_probing_anew() {
    for (before, after) in [(2, 1), (2, 5)] {
        let of = |probes| Config::new(Settings { probes, ..settings() }).unwrap();
        let mut bench = Bench::new(Settings { probes: before, ..settings() });
        bench.open(at(0));
        assert!(bench.call(at(6_000), Outcome::Success));
        bench.breaker.configure(of(after));
        let passed = (0..100).filter(|_| bench.call(at(6_000), Outcome::Success)).count();
        assert_eq!((passed, bench.mode()), (100, Mode::Closed), "{before} to {after}");
    }
}

#[test]
fn settings_out_of_range_say_which_and_what_may_be() {
    let refused = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        std::format!("{}", Config::new(settings).unwrap_err())
    };
    assert_eq!(refused(|s| s.min_calls = 101), "`min_calls` must be 1 to `window`");
    assert_eq!(refused(|s| s.probes = 0), "`probes` must be 1 to 100");
    assert_eq!(refused(|s| s.failure_rate_ppm = 0), "`failure_rate` must be above 0 % and at most 100 %");
    assert_eq!(refused(|s| s.open = Span::ZERO), "`open` must be longer than zero");
    assert_eq!(refused(|s| s.window = 0), "`window` must be 1 to 10 000 calls");
}

/// Every state × event, as a table: what the state is afterwards.
#[test]
fn transitions() {
    let outcomes =
        [Outcome::Success, Outcome::Failure, Outcome::TimedOut, Outcome::Cancelled, Outcome::Ignored];
    let mut table = String::new();
    for start in [Mode::Closed, Mode::Open, Mode::HalfOpen] {
        for outcome in outcomes {
            let mut bench = Bench::new(Settings { window: 1, min_calls: 1, probes: 1, ..settings() });
            if start != Mode::Closed {
                bench.open(at(0));
            }
            let now = if start == Mode::HalfOpen { at(5_000) } else { at(1) };
            let admitted = bench.call(now, outcome);
            let end = bench.mode();
            writeln!(
                table,
                "{:9} {:10} admitted {admitted:5} → {}",
                start.name(),
                outcome.name(),
                end.name()
            )
            .unwrap();
        }
    }
    expect![[r#"
        closed    success    admitted true  → closed
        closed    failure    admitted true  → open
        closed    timed_out  admitted true  → open
        closed    cancelled  admitted true  → closed
        closed    ignored    admitted true  → closed
        open      success    admitted false → open
        open      failure    admitted false → open
        open      timed_out  admitted false → open
        open      cancelled  admitted false → open
        open      ignored    admitted false → open
        half_open success    admitted true  → closed
        half_open failure    admitted true  → open
        half_open timed_out  admitted true  → open
        half_open cancelled  admitted true  → half_open
        half_open ignored    admitted true  → half_open
    "#]]
    .assert_eq(&table);
}

proptest! {
    /// However calls are lost, cancelled and reported late: once the callee answers again, the
    /// breaker closes after a lease and at most one more round of probes.
    #[test]
    fn nothing_locks_it(steps in prop::collection::vec((0_u8..6, 0_u64..3_000), 1..300)) {
        let mut bench = Bench::new(settings());
        let (mut now, mut held) = (0, Vec::new());
        for (step, pause) in steps {
            now += pause;
            match step {
                0 | 1 => held.extend(bench.admit(at(now)).ok()),
                2 => drop(held.pop()),
                3 => held.iter().take(1).for_each(|pass| bench.report(at(now), pass, Outcome::TimedOut)),
                4 => _ = bench.call(at(now), Outcome::Failure),
                _ => _ = bench.call(at(now), Outcome::Cancelled),
            }
        }
        drop(held);
        for _ in 0..2 {
            now += 16_000;
            (0..40).for_each(|_| _ = bench.call(at(now), Outcome::Success));
        }
        prop_assert_eq!(bench.mode(), Mode::Closed);
        prop_assert!(bench.call(at(now), Outcome::Success));
    }
}
