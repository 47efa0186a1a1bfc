use std::fmt::Write as _;
use std::string::String;
use std::vec::Vec;

use expect_test::expect;
use proptest::prelude::*;

use super::*;

const OK: Outcome = Outcome::Success;
const BAD: Outcome = Outcome::Failure;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn eject(settings: Settings, hosts: usize) -> Eject {
    let mut eject = Eject::new(Config::new(settings).unwrap());
    (0..hosts).for_each(|place| eject.join(at(0), place));
    eject
}

fn pool(hosts: usize) -> Eject {
    eject(Settings::default(), hosts)
}

fn turns(eject: &mut Eject) -> Vec<Turn> {
    core::iter::from_fn(|| eject.turn()).collect()
}

fn out(eject: &Eject) -> Vec<usize> {
    (0..eject.records.len()).filter(|place| eject.is_out(*place)).collect()
}

/// A call to each host each 100 ms from `from` to `to`; `call` says how it goes.
fn play(eject: &mut Eject, from: u64, to: u64, call: impl Fn(usize, u64) -> (Outcome, Span)) {
    for step in from / 100..to / 100 {
        for place in 0..eject.records.len() {
            let (outcome, elapsed) = call(place, step);
            eject.report(at(step * 100 + 100), place, outcome, elapsed);
        }
    }
}

/// Each host in this range goes like that, the others well in 10 ms.
fn some(
    range: core::ops::Range<usize>,
    outcome: Outcome,
    elapsed: Span,
) -> impl Fn(usize, u64) -> (Outcome, Span) {
    move |place, _| if range.contains(&place) { (outcome, elapsed) } else { (OK, ms(10)) }
}

/// Fails so many of ten calls.
fn of_ten(failures: u64, step: u64) -> Outcome {
    // Spread, so that no run grows: 3 and 10 have no common divisor.
    if (step * 3) % 10 < failures { BAD } else { OK }
}

#[test]
fn failures_in_a_row_eject_at_once() {
    let mut eject = pool(4);
    play(&mut eject, 0, 5_000, some(0..0, OK, ms(10)));
    play(&mut eject, 5_000, 5_400, some(2..3, BAD, ms(1)));
    assert_eq!(turns(&mut eject), []);
    play(&mut eject, 5_400, 5_500, some(2..3, BAD, ms(1)));
    assert_eq!(turns(&mut eject), [Turn::Out { place: 2, cause: Cause::Consecutive }]);
    assert_eq!(eject.snapshot(at(5_500), 2).unwrap().out_until, Some(at(10_500)));
}

#[test]
fn a_failure_rate_ejects_without_any_run() {
    let mut eject = pool(4);
    play(&mut eject, 0, 3_000, |place, step| (of_ten(if place == 1 { 6 } else { 1 }, step), ms(10)));
    let turned = turns(&mut eject);
    assert_eq!(turned, [Turn::Out { place: 1, cause: Cause::FailureRate }]);
}

#[test]
fn below_the_fewest_calls_no_rate_ejects() {
    let mut eject = pool(2);
    for call in 0..9 {
        eject.report(at(100 + call), 1, if call % 4 == 3 { OK } else { BAD }, ms(1));
    }
    assert_eq!(out(&eject), []);
    eject.report(at(110), 1, BAD, ms(1));
    assert_eq!(out(&eject), [1]);
}

#[test]
fn what_all_hosts_suffer_ejects_nobody() {
    for failures in 1..=10 {
        let mut eject = pool(10);
        play(&mut eject, 1_000, 60_000, |place, step| (of_ten(failures, step + place as u64), ms(10)));
        let many = turns(&mut eject).len();
        assert!(many == 0, "{failures} of ten: {many} ejections");
    }
}

#[test]
fn a_host_ten_times_as_slow_is_ejected_within_two_seconds() {
    let mut eject = pool(10);
    play(&mut eject, 0, 30_000, some(0..0, OK, ms(10)));
    play(&mut eject, 30_000, 32_000, some(7..8, OK, ms(100)));
    assert_eq!(turns(&mut eject), [Turn::Out { place: 7, cause: Cause::Slow }]);
}

#[test]
fn a_few_very_slow_calls_eject_nobody() {
    let mut eject = pool(10);
    let tail = |place: usize, step: u64| {
        (OK, if (step + place as u64 * 7).is_multiple_of(20) { ms(1_000) } else { ms(10) })
    };
    play(&mut eject, 0, 60_000, tail);
    assert_eq!(turns(&mut eject), []);
}

#[test]
fn slow_by_less_than_the_least_is_not_slow() {
    let settings = Settings { slow_least: ms(200), ..Settings::default() };
    let mut eject = eject(settings, 10);
    play(&mut eject, 0, 10_000, some(7..8, OK, ms(100)));
    assert_eq!(turns(&mut eject), []);
    let mut never = self::eject(Settings { slow_times: None, ..Settings::default() }, 10);
    play(&mut never, 0, 10_000, some(7..8, OK, ms(5_000)));
    assert_eq!(turns(&mut never), []);
}

#[test]
fn the_median_is_of_the_pool_so_a_slow_majority_stays() {
    let mut eject = pool(10);
    play(&mut eject, 0, 10_000, some(4..10, OK, ms(100)));
    assert_eq!(turns(&mut eject), []);
    let mut half = pool(10);
    play(&mut half, 0, 4_000, some(5..10, OK, ms(100)));
    assert_eq!(out(&half), [5, 6, 7, 8, 9]);
}

#[test]
fn the_cap_holds_for_the_first_host_too_and_is_rounded_down() {
    for (hosts, at_most_ppm, room) in [
        (1, 500_000, 0),
        (2, 500_000, 1),
        (3, 500_000, 1),
        (10, 500_000, 5),
        (9, 100_000, 0),
        (4, 0, 0),
        (3, 1_000_000, 3),
    ] {
        let mut eject = eject(Settings { at_most_ppm, ..Settings::default() }, hosts);
        let bad = if at_most_ppm == 1_000_000 { 0..hosts } else { 0..hosts * 6 / 10 + 1 };
        // One after the other, so that the last has somebody to be compared with.
        for place in bad {
            (0..5).for_each(|call| eject.report(at(100 + call), place, BAD, ms(1)));
        }
        assert_eq!(eject.out(), room, "{hosts} hosts, at most {at_most_ppm} ppm");
    }
}

#[test]
fn a_host_that_the_cap_spares_is_counted() {
    let mut eject = pool(1);
    (0..20).for_each(|call| eject.report(at(100 + call), 0, BAD, ms(1)));
    assert_eq!((eject.out(), eject.spared()), (0, 16));
}

#[test]
fn local_refusals_and_what_was_cut_off_never_eject() {
    for outcome in [Outcome::Ignored, Outcome::Superseded, Outcome::Cancelled] {
        let mut eject = pool(4);
        play(&mut eject, 5_000, 30_000, some(2..3, outcome, ms(5_000)));
        assert_eq!(turns(&mut eject), [], "{outcome:?}");
    }
}

#[test]
fn losers_of_hedges_make_a_slow_host_look_as_slow_as_it_is() {
    let mut eject = pool(4);
    // Nine of ten calls to it are overtaken by a hedge after 50 ms; the tenth takes 100 ms.
    let call = |place: usize, step: u64| match (place, step % 10) {
        (2, 0) => (OK, ms(100)),
        (2, _) => (Outcome::Superseded, ms(50)),
        _ => (OK, ms(10)),
    };
    play(&mut eject, 1_000, 12_000, call);
    assert_eq!(out(&eject), [2]);
}

#[test]
fn results_of_calls_from_before_a_change_are_ignored() {
    let mut eject = pool(4);
    (0..5).for_each(|call| eject.report(at(100 + call), 0, BAD, ms(1)));
    assert_eq!(out(&eject), [0]);
    eject.expire(at(5_104));
    assert_eq!(turns(&mut eject).last(), Some(&Turn::In { place: 0 }));
    // Ten calls that began while it was out, or before.
    (0..10).for_each(|call| eject.report(at(5_200 + call), 0, BAD, ms(1_000)));
    assert_eq!((out(&eject), eject.snapshot(at(5_210), 0).unwrap().calls), (Vec::new(), 0));
    (0..5).for_each(|call| eject.report(at(5_200 + call), 0, BAD, ms(1)));
    assert_eq!(out(&eject), [0]);
}

/// Ejects the first host at `now`, which is in service; says for how long.
fn again(eject: &mut Eject, now: u64) -> u64 {
    (0..5).for_each(|_| eject.report(at(now), 0, BAD, Span::ZERO));
    let until = eject.snapshot(at(now), 0).unwrap().out_until.unwrap();
    eject.expire(until);
    until.since(at(now)).as_millis()
}

#[test]
fn the_time_doubles_up_to_the_longest_and_decays() {
    let mut eject = eject(Settings { longest: ms(60_000), ..Settings::default() }, 4);
    let mut now = 1_000;
    let mut times = Vec::new();
    for _ in 0..7 {
        let time = again(&mut eject, now);
        times.push(time);
        now += time + 1;
    }
    assert_eq!(times, [5_000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000]);
    // Two windows in service take two of the five strikes back.
    now += 25_000;
    assert_eq!(again(&mut eject, now), 40_000);
    now += 40_000 + 1_000_000;
    assert_eq!(again(&mut eject, now), 5_000);
}

#[test]
fn who_comes_back_is_known_in_time() {
    let mut eject = pool(4);
    assert_eq!(eject.wake_at(), Time::MAX);
    (0..5).for_each(|_| eject.report(at(100), 0, BAD, Span::ZERO));
    (0..5).for_each(|_| eject.report(at(300), 1, BAD, Span::ZERO));
    assert_eq!(eject.wake_at(), at(5_100));
    eject.expire(at(5_099));
    assert_eq!(out(&eject), [0, 1]);
    eject.expire(at(5_100));
    assert_eq!((out(&eject), eject.wake_at()), (std::vec![1], at(5_300)));
}

#[test]
fn when_the_others_drown_all_come_back_and_nobody_is_ejected_for_a_while() {
    let mut eject = pool(10);
    play(&mut eject, 0, 10_000, some(0..0, OK, ms(10)));
    play(&mut eject, 10_000, 10_500, some(0..4, BAD, ms(1)));
    assert_eq!((out(&eject), turns(&mut eject).len()), (std::vec![0, 1, 2, 3], 4));
    // The six that are left take three times as long and 10 ms more than before.
    play(&mut eject, 10_500, 13_000, some(0..10, OK, ms(31)));
    assert_eq!(turns(&mut eject), [0, 1, 2, 3].map(|place| Turn::Recalled { place }));
    let held = eject.held_until();
    assert!(held > at(15_500) && held <= at(18_000), "{held:?}");
    play(&mut eject, 13_000, 15_000, some(0..4, BAD, ms(1)));
    assert_eq!((out(&eject), eject.spared() > 0), (Vec::new(), true));
    // Once more, and for twice as long.
    play(&mut eject, 18_000, 20_000, some(0..4, BAD, ms(1)));
    assert_eq!(out(&eject), [0, 1, 2, 3]);
    play(&mut eject, 20_000, 22_000, some(0..10, OK, ms(100)));
    assert_eq!(out(&eject), []);
    assert!(eject.held_until() >= at(30_000), "{:?}", eject.held_until());
}

#[test]
fn when_most_of_those_left_fail_in_a_row_all_come_back() {
    let mut eject = eject(Settings { at_most_ppm: 300_000, ..Settings::default() }, 10);
    play(&mut eject, 0, 10_000, some(0..0, OK, ms(10)));
    play(&mut eject, 10_000, 10_500, some(0..3, BAD, ms(1)));
    assert_eq!(out(&eject), [0, 1, 2]);
    play(&mut eject, 10_500, 12_000, some(3..10, BAD, ms(1)));
    assert_eq!(out(&eject), []);
}

#[test]
fn who_leaves_makes_room_under_no_cap() {
    let mut eject = pool(4);
    (0..2).for_each(|place| (0..5).for_each(|_| eject.report(at(100), place, BAD, Span::ZERO)));
    assert_eq!(eject.out(), 2);
    eject.leave(0);
    eject.leave(0);
    assert_eq!((eject.out(), eject.snapshot(at(100), 0)), (1, None));
    eject.join(at(200), 0);
    assert!(!eject.is_out(0));
}

/// Where the first host stands, the length of its row, and what turned.
fn standing(eject: &mut Eject) -> String {
    let turned = turns(eject);
    let record = eject.records[0].as_ref().unwrap();
    let state = if record.is_out() { "out" } else { "in" };
    std::format!("{state}, run {}, {turned:?}", record.row.failures())
}

#[test]
fn every_state_meets_every_outcome() {
    let mut table = String::new();
    let outcomes = [
        OK,
        BAD,
        Outcome::TimedOut,
        Outcome::Overloaded { retry_after: None },
        Outcome::Cancelled,
        Outcome::Superseded,
        Outcome::Ignored,
    ];
    for (name, failures, returned) in
        [("in", 0, false), ("in, run 4", 4, false), ("out", 5, false), ("back", 5, true)]
    {
        for outcome in outcomes {
            let mut eject = pool(4);
            (0..failures).for_each(|_| eject.report(at(100), 0, BAD, Span::ZERO));
            if returned {
                eject.expire(at(10_000));
            }
            turns(&mut eject);
            let now = if name == "out" { at(200) } else { at(10_001) };
            eject.report(now, 0, outcome, Span::ZERO);
            writeln!(table, "{name} + {} -> {}", outcome.name(), standing(&mut eject)).unwrap();
            if outcome == OK {
                eject.broke(now, 0, now);
                writeln!(table, "{name} + that breaks off -> {}", standing(&mut eject)).unwrap();
            }
        }
    }
    expect![[r#"
        in + success -> in, run 0, []
        in + that breaks off -> in, run 1, []
        in + failure -> in, run 1, []
        in + timed_out -> in, run 1, []
        in + overloaded -> in, run 1, []
        in + cancelled -> in, run 0, []
        in + superseded -> in, run 0, []
        in + ignored -> in, run 0, []
        in, run 4 + success -> in, run 0, []
        in, run 4 + that breaks off -> out, run 5, [Out { place: 0, cause: Consecutive }]
        in, run 4 + failure -> out, run 5, [Out { place: 0, cause: Consecutive }]
        in, run 4 + timed_out -> out, run 5, [Out { place: 0, cause: Consecutive }]
        in, run 4 + overloaded -> out, run 5, [Out { place: 0, cause: Consecutive }]
        in, run 4 + cancelled -> in, run 4, []
        in, run 4 + superseded -> in, run 4, []
        in, run 4 + ignored -> in, run 4, []
        out + success -> out, run 5, []
        out + that breaks off -> out, run 5, []
        out + failure -> out, run 5, []
        out + timed_out -> out, run 5, []
        out + overloaded -> out, run 5, []
        out + cancelled -> out, run 5, []
        out + superseded -> out, run 5, []
        out + ignored -> out, run 5, []
        back + success -> in, run 0, []
        back + that breaks off -> in, run 1, []
        back + failure -> in, run 1, []
        back + timed_out -> in, run 1, []
        back + overloaded -> in, run 1, []
        back + cancelled -> in, run 0, []
        back + superseded -> in, run 0, []
        back + ignored -> in, run 0, []
    "#]]
    .assert_eq(&table);
}

#[test]
fn settings_have_ranges() {
    let settings = Settings::default();
    let bad = [
        (Settings { failure_rate_ppm: 0, ..settings }, "`failure_rate` must be above 0 % and at most 100 %"),
        (Settings { consecutive: 0, ..settings }, "`consecutive` must be at least 1"),
        (Settings { slow_times: Some(1), ..settings }, "`slow_times` must be 2 to 1000"),
        (Settings { window: Span::ZERO, ..settings }, "`window` must be longer than zero"),
        (Settings { min_calls: 0, ..settings }, "`min_calls` must be at least 1"),
        (Settings { time: Span::ZERO, ..settings }, "`for` must be longer than zero"),
        (Settings { longest: ms(1), ..settings }, "`longest` must be not shorter than `for`"),
        (Settings { at_most_ppm: 1_000_001, ..settings }, "`at_most` must be at most 100 %"),
    ];
    for (settings, message) in bad {
        assert_eq!(std::format!("{}", Config::new(settings).unwrap_err()), message);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn never_more_than_the_cap_and_the_count_is_right(
        hosts in 1..12_usize,
        at_most_ppm in 0..=1_000_000_u32,
        calls in prop::collection::vec((0..12_usize, 0..7_usize, 0..400_u64, 0..3_000_u64), 1..400),
    ) {
        let settings = Settings { at_most_ppm, min_calls: 3, consecutive: 3, time: ms(500), ..Settings::default() };
        let mut eject = eject(settings, hosts);
        let mut now = 0;
        for (place, outcome, gap, elapsed) in calls {
            now += gap;
            let outcome = [OK, BAD, BAD, BAD, Outcome::TimedOut, Outcome::Superseded, Outcome::Ignored][outcome];
            eject.report(at(now), place % hosts, outcome, ms(elapsed));
            prop_assert_eq!(eject.out() as usize, out(&eject).len());
            prop_assert!(u64::from(eject.out()) * 1_000_000 <= hosts as u64 * u64::from(at_most_ppm));
        }
        eject.expire(Time::MAX);
        prop_assert_eq!(eject.out(), 0);
        let (mut left, mut returned) = (0, 0);
        while let Some(turn) = eject.turn() {
            match turn {
                Turn::Out { .. } => left += 1,
                Turn::In { .. } | Turn::Recalled { .. } => returned += 1,
            }
        }
        prop_assert_eq!(left, returned);
    }
}

#[test]
fn a_host_whose_answers_break_off_is_ejected_for_its_rate() {
    let mut eject = eject(Settings { consecutive: 100, ..Settings::default() }, 2);
    for step in 0..10 {
        for place in 0..2 {
            eject.report(at(step * 100 + 10), place, OK, ms(10));
        }
        assert!(!eject.is_out(1), "before answer {step} breaks off");
        eject.broke(at(step * 100 + 20), 1, at(step * 100));
    }
    assert_eq!(turns(&mut eject), [Turn::Out { place: 1, cause: Cause::FailureRate }]);
    eject.expire(at(20_000));
    eject.broke(at(20_001), 1, at(950));
    assert_eq!(eject.snapshot(at(20_001), 1).unwrap().calls, 0, "it began before the host came back");
}

#[test]
fn a_host_whose_answers_break_off_one_after_the_other_is_ejected_for_its_row() {
    let mut eject = eject(Settings { min_calls: 100, ..Settings::default() }, 2);
    for step in 0..5 {
        eject.report(at(step * 100 + 10), 0, OK, ms(10));
        eject.report(at(step * 100 + 10), 1, OK, ms(10));
        assert!(!eject.is_out(1), "before answer {step} breaks off");
        eject.broke(at(step * 100 + 20), 1, at(step * 100));
    }
    assert_eq!(turns(&mut eject), [Turn::Out { place: 1, cause: Cause::Consecutive }]);
}
