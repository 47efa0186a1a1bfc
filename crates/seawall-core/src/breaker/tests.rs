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
        Bench { breaker: Breaker::new(Config::new(settings).unwrap(), at(0)), events: Events::default() }
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
    let open = Span::from_secs(5);
    Settings {
        window: Extent::Calls(20),
        min_calls: 5,
        open,
        open_max: open,
        probes: 4,
        ..Settings::default()
    }
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
fn refusals_that_say_until_when_neither_open_nor_close_it() {
    let refusal = Outcome::Overloaded { retry_after: Some(Span::from_secs(1)) };
    let mut bench = Bench::new(settings());
    assert!((0..100).all(|_| bench.call(at(0), refusal)));
    assert_eq!((bench.mode(), bench.breaker.snapshot().failure_rate), (Mode::Closed, 0.0));
    (0..5).for_each(|_| _ = bench.call(at(0), Outcome::Overloaded { retry_after: None }));
    assert_eq!(bench.mode(), Mode::Open);
    assert!((0..100).all(|_| bench.call(at(6_000), refusal)), "each probe comes back");
    assert_eq!(bench.mode(), Mode::HalfOpen);
}

#[test]
fn a_call_that_was_given_up_late_counts_as_slow_and_not_as_failed() {
    let slow = Some(Slow { after: Span::from_secs(1), rate_ppm: 500_000 });
    let late = |settings: Settings, outcome| {
        let mut bench = Bench::new(settings);
        for _ in 0..20 {
            let Ok(pass) = bench.admit(at(0)) else { break };
            bench.report(at(1_000), &pass, outcome);
        }
        bench.mode()
    };
    for outcome in [Outcome::Cancelled, Outcome::Superseded] {
        assert_eq!(late(Settings { slow, ..settings() }, outcome), Mode::Open);
        // Without a measure of slowness it says nothing, and it is never one of a row.
        assert_eq!(late(settings(), outcome), Mode::Closed);
        let row = Settings { slow, min_calls: 20, consecutive: Some(3), ..settings() };
        let mut bench = Bench::new(row);
        for outcome in [Outcome::Failure, Outcome::Failure, outcome, Outcome::Failure] {
            assert_eq!(bench.mode(), Mode::Closed);
            let pass = bench.admit(at(0)).unwrap();
            bench.report(at(1_000), &pass, outcome);
        }
        assert_eq!(bench.mode(), Mode::Open);
    }
    assert_eq!(late(Settings { slow, ..settings() }, Outcome::Ignored), Mode::Closed);
}

#[test]
fn another_number_of_probes_starts_the_probing_anew() {
    for (before, after) in [(2, 1), (2, 5)] {
        let of = |probes| Config::new(Settings { probes, ..settings() }).unwrap();
        let mut bench = Bench::new(Settings { probes: before, ..settings() });
        bench.open(at(0));
        assert!(bench.call(at(6_000), Outcome::Success));
        bench.breaker.configure(at(6_000), of(after));
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
    assert_eq!(refused(|s| s.window = Extent::Calls(0)), "`window` must be 1 to 10 000 calls");
}

#[test]
fn by_time_it_opens_at_the_fifth_call_too() {
    use Outcome::{Failure as E, Success as S};
    let window = Extent::Time(Span::from_secs(20));
    let mut bench = Bench::new(Settings { window, ..settings() });
    for (second, outcome) in [E, E, E, S, S].into_iter().enumerate() {
        assert_eq!(bench.mode(), Mode::Closed);
        assert!(bench.call(at(1_000 * second as u64), outcome));
    }
    assert_eq!(bench.mode(), Mode::Open);
    assert!(bench.admit(at(7_000)).is_err());
    for outcome in [E, S, S, S] {
        assert!(bench.call(at(10_000), outcome));
    }
    assert_eq!(bench.mode(), Mode::Closed);
}

#[test]
fn old_successes_that_time_took_away_hide_no_failures() {
    let window = Extent::Time(Span::from_secs(5));
    let mut bench = Bench::new(Settings { window, ..settings() });
    (0..100).for_each(|_| assert!(bench.call(at(0), Outcome::Success)));
    (0..4).for_each(|_| assert!(bench.call(at(4_000), Outcome::Failure)));
    assert_eq!(bench.mode(), Mode::Closed);
    (0..2).for_each(|_| _ = bench.call(at(6_000), Outcome::Success));
    assert_eq!(bench.mode(), Mode::Open);
}

#[test]
fn slow_calls_open_it_though_none_failed() {
    let slow = Some(Slow { after: Span::from_secs(10), rate_ppm: 400_000 });
    let mut bench = Bench::new(Settings { window: Extent::Calls(5), slow, ..settings() });
    for (begun, took) in [(0, 10_000), (0, 10_000), (0, 100), (0, 100), (0, 100)] {
        assert_eq!(bench.mode(), Mode::Closed);
        let pass = bench.admit(at(begun)).unwrap();
        bench.report(at(begun + took), &pass, Outcome::Success);
    }
    assert_eq!(bench.mode(), Mode::Open);
}

#[test]
fn failures_in_a_row_open_it_whatever_their_share() {
    let mut bench = Bench::new(Settings { consecutive: Some(3), window: Extent::Calls(100), ..settings() });
    (0..90).for_each(|_| assert!(bench.call(at(0), Outcome::Success)));
    (0..2).for_each(|_| assert!(bench.call(at(0), Outcome::Failure)));
    assert!(bench.call(at(0), Outcome::Success));
    (0..3).for_each(|_| assert!(bench.call(at(0), Outcome::Failure)));
    assert_eq!(bench.mode(), Mode::Open);
}

#[test]
fn the_open_time_doubles_while_probing_fails_and_falls_back_when_it_has_held() {
    let second = Span::from_secs(1);
    let mut bench = Bench::new(Settings { open: second, open_max: second.times(5), ..settings() });
    bench.open(at(0));
    let mut now = at(0);
    let mut waits = Vec::new();
    for _ in 0..4 {
        let until = bench.breaker.wake_at().unwrap();
        waits.push(until.since(now).as_nanos() / second.as_nanos());
        now = until;
        (0..4).for_each(|_| assert!(bench.call(now, Outcome::Failure)));
    }
    assert_eq!(waits, [1, 2, 4, 5]);
    now = bench.breaker.wake_at().unwrap();
    (0..4).for_each(|_| assert!(bench.call(now, Outcome::Success)));
    bench.open(now + second.times(4));
    assert_eq!(bench.breaker.wake_at(), Some(now + second.times(9)), "a relapse");
    now = bench.breaker.wake_at().unwrap();
    (0..4).for_each(|_| assert!(bench.call(now, Outcome::Success)));
    bench.open(now + second.times(5));
    assert_eq!(bench.breaker.wake_at(), Some(now + second.times(6)), "it had held");
}

#[test]
fn instances_do_not_probe_in_step() {
    let mut seen = Vec::new();
    for seed in 0..100 {
        let mut bench = Bench::new(Settings { seed: Some(seed), ..settings() });
        bench.open(at(0));
        let until = bench.breaker.wake_at().unwrap();
        assert!((at(5_000)..=at(5_500)).contains(&until), "{until:?}");
        seen.push(until);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100);
}

#[test]
fn metrics_only_counts_and_never_opens() {
    let mut bench = Bench::new(settings());
    bench.breaker.force(at(0), Forced::MetricsOnly, &mut bench.events);
    (0..50).for_each(|_| assert!(bench.call(at(0), Outcome::Failure)));
    assert_eq!((bench.mode(), bench.breaker.snapshot().failure_rate), (Mode::MetricsOnly, 1.0));
}

const MODES: [Mode; 6] =
    [Mode::Closed, Mode::Open, Mode::HalfOpen, Mode::ForcedOpen, Mode::ForcedClosed, Mode::MetricsOnly];

/// A breaker in this state, and a time at which it is.
fn in_mode(mode: Mode) -> (Bench, Time) {
    let mut bench = Bench::new(Settings { window: Extent::Calls(1), min_calls: 1, probes: 1, ..settings() });
    let mut now = at(1);
    match mode {
        Mode::Closed => {}
        Mode::Open => bench.open(at(0)),
        Mode::HalfOpen => {
            bench.open(at(0));
            now = at(5_000);
            assert!(bench.call(now, Outcome::Ignored));
        }
        Mode::ForcedOpen => bench.breaker.force(at(0), Forced::Open, &mut bench.events),
        Mode::ForcedClosed => bench.breaker.force(at(0), Forced::Closed, &mut bench.events),
        Mode::MetricsOnly => bench.breaker.force(at(0), Forced::MetricsOnly, &mut bench.events),
    }
    assert_eq!(bench.mode(), mode);
    (bench, now)
}

#[test]
fn a_reset_closes_it_in_every_state() {
    for mode in MODES {
        let (mut bench, now) = in_mode(mode);
        bench.breaker.reset(now, &mut bench.events);
        assert_eq!(bench.mode(), Mode::Closed, "{mode:?}");
        assert!(bench.call(now, Outcome::Success), "{mode:?}");
    }
}

/// Every state × event, as a table: whether a call passes, and what the state is afterwards.
#[test]
fn transitions() {
    let outcomes =
        [Outcome::Success, Outcome::Failure, Outcome::TimedOut, Outcome::Cancelled, Outcome::Ignored];
    let mut table = String::new();
    for mode in MODES {
        for outcome in outcomes {
            let (mut bench, now) = in_mode(mode);
            let passed = if bench.call(now, outcome) { "passes" } else { "refused" };
            let (from, event, to) = (mode.name(), outcome.name(), bench.mode().name());
            writeln!(table, "{from:13} {event:9} {passed:7} → {to}").unwrap();
            if outcome == Outcome::Success {
                bench.breaker.broke(now + Span::from_millis(1), now, &mut bench.events);
                writeln!(table, "{from:13}   that breaks off → {}", bench.mode().name()).unwrap();
            }
        }
        let (mut bench, now) = in_mode(mode);
        _ = bench.admit(now + Span::from_secs(60));
        writeln!(table, "{:13} a minute later    → {}", mode.name(), bench.mode().name()).unwrap();
    }
    expect![[r#"
        closed        success   passes  → closed
        closed          that breaks off → open
        closed        failure   passes  → open
        closed        timed_out passes  → open
        closed        cancelled passes  → closed
        closed        ignored   passes  → closed
        closed        a minute later    → closed
        open          success   refused → open
        open            that breaks off → open
        open          failure   refused → open
        open          timed_out refused → open
        open          cancelled refused → open
        open          ignored   refused → open
        open          a minute later    → half_open
        half_open     success   passes  → closed
        half_open       that breaks off → open
        half_open     failure   passes  → open
        half_open     timed_out passes  → open
        half_open     cancelled passes  → half_open
        half_open     ignored   passes  → half_open
        half_open     a minute later    → half_open
        forced_open   success   refused → forced_open
        forced_open     that breaks off → forced_open
        forced_open   failure   refused → forced_open
        forced_open   timed_out refused → forced_open
        forced_open   cancelled refused → forced_open
        forced_open   ignored   refused → forced_open
        forced_open   a minute later    → forced_open
        forced_closed success   passes  → forced_closed
        forced_closed   that breaks off → forced_closed
        forced_closed failure   passes  → forced_closed
        forced_closed timed_out passes  → forced_closed
        forced_closed cancelled passes  → forced_closed
        forced_closed ignored   passes  → forced_closed
        forced_closed a minute later    → forced_closed
        metrics_only  success   passes  → metrics_only
        metrics_only    that breaks off → metrics_only
        metrics_only  failure   passes  → metrics_only
        metrics_only  timed_out passes  → metrics_only
        metrics_only  cancelled passes  → metrics_only
        metrics_only  ignored   passes  → metrics_only
        metrics_only  a minute later    → metrics_only
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

#[test]
fn successes_whose_answers_break_off_open_it_as_failures_do() {
    let mut bench = Bench::new(settings());
    for call in 1..=5 {
        assert_eq!(bench.mode(), Mode::Closed, "before call {call}");
        assert!(bench.call(at(0), Outcome::Success));
        bench.breaker.broke(at(1), at(0), &mut bench.events);
    }
    assert_eq!(bench.mode(), Mode::Open);
}

#[test]
fn an_answer_from_before_the_epoch_that_breaks_off_says_nothing() {
    let mut bench = Bench::new(Settings { consecutive: Some(1), ..settings() });
    bench.open(at(0));
    let probe = bench.admit(at(5_000)).unwrap();
    bench.report(at(5_000), &probe, Outcome::Success);
    let rate = |bench: &Bench| bench.breaker.snapshot().failure_rate;
    bench.breaker.broke(at(5_001), at(0), &mut bench.events);
    assert_eq!((bench.mode(), rate(&bench)), (Mode::HalfOpen, 0.0));
    bench.breaker.broke(at(5_001), at(5_000), &mut bench.events);
    assert_eq!((bench.mode(), rate(&bench)), (Mode::HalfOpen, 1.0), "a probe counts as what became of it");
    bench.breaker.broke(at(5_001), at(5_000), &mut bench.events);
    assert_eq!(rate(&bench), 1.0, "whose lease had run out does not");
}

#[test]
fn answers_that_break_off_one_after_the_other_are_a_row() {
    let settings = Settings { consecutive: Some(3), min_calls: 20, ..settings() };
    let mut bench = Bench::new(settings);
    for call in 1..=3 {
        assert_eq!(bench.mode(), Mode::Closed, "before call {call}");
        assert!(bench.call(at(call), Outcome::Success));
        bench.breaker.broke(at(call), at(call), &mut bench.events);
    }
    assert_eq!(bench.mode(), Mode::Open);
}

/// A breaker that its probes have closed.
fn proved(probes: u32) -> Bench {
    let mut bench = Bench::new(Settings { probes, ..settings() });
    bench.open(at(0));
    let passes: Vec<Pass> = (0..probes).map(|_| bench.admit(at(6_000)).unwrap()).collect();
    passes.iter().for_each(|pass| bench.report(at(6_010), pass, Outcome::Success));
    assert_eq!(bench.mode(), Mode::Closed);
    bench
}

#[test]
fn probes_whose_answers_break_off_open_it_again() {
    for (probes, needed) in [(1, 1), (4, 2)] {
        let mut bench = proved(probes);
        // What has been served since does not speak for them.
        (0..100).for_each(|_| assert!(bench.call(at(6_011), Outcome::Success)));
        for broken in 1..=needed {
            assert_eq!(bench.mode(), Mode::Closed, "{broken} of {probes}");
            bench.breaker.broke(at(15_999), at(6_000), &mut bench.events);
        }
        assert_eq!(bench.mode(), Mode::Open, "{probes}");
        assert_eq!(bench.breaker.snapshot().opened, 2);
    }
}

#[test]
fn a_probe_that_breaks_off_counts_into_no_other_state() {
    for (now, begun) in [(16_000, 6_000), (6_011, 5_000)] {
        let mut bench = proved(1);
        bench.breaker.broke(at(now), at(begun), &mut bench.events);
        let shown = bench.breaker.snapshot();
        assert_eq!((shown.mode, shown.failure_rate), (Mode::Closed, 0.0), "after its lease, or no probe");
    }
    let mut bench = proved(4);
    bench.breaker.broke(at(6_011), at(6_000), &mut bench.events);
    assert_eq!(bench.breaker.snapshot().failure_rate, 0.0, "it was a call of the probing");
    let settings = Settings { consecutive: Some(2), min_calls: 20, ..settings() };
    bench.breaker.configure(at(6_011), Config::new(settings).unwrap());
    assert!(bench.call(at(6_012), Outcome::Failure));
    assert_eq!(bench.mode(), Mode::Closed, "and none of this row");
    bench.breaker.force(at(6_012), Forced::Closed, &mut bench.events);
    (0..4).for_each(|_| bench.breaker.broke(at(6_013), at(6_000), &mut bench.events));
    assert_eq!(bench.mode(), Mode::ForcedClosed);
}
