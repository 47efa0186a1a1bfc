use std::vec::Vec;

use super::*;

fn ramp(over: Span) -> Ramp {
    Ramp {
        interval: Span::from_nanos(over.as_nanos() / u64::from(STEPS)),
        ..Ramp::new(over, at(0), &mut Rng::new(1, 1))
    }
}

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// Reports ten outcomes in each interval, so many of them failures, and returns the shares.
fn shares(failures: &[usize]) -> Vec<u32> {
    let mut ramp = ramp(Span::from_secs(14));
    ramp.next_step = at(1_000);
    let share = |(interval, failed): (usize, &usize)| {
        (0..10).for_each(|call| {
            let now = at(interval as u64 * 1_000 + if call == 9 { 1_000 } else { 500 });
            let outcome = if call < *failed { Outcome::Failure } else { Outcome::Success };
            ramp.report(now, outcome, Strain::NONE);
        });
        (ramp.share() * 100.0 + 0.5) as u32
    };
    failures.iter().enumerate().map(share).collect()
}

#[test]
fn doubles_to_a_half_then_adds() {
    let expected = [10, 20, 40, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100, 100];
    assert_eq!(shares(&[0; STEPS as usize + 1]), expected);
}

#[test]
fn holds_when_unwell_and_halves_when_bad() {
    assert_eq!(shares(&[0, 0, 1, 2, 3, 10, 10, 0]), [10, 20, 20, 20, 10, 5, 5, 10]);
}

#[test]
fn what_was_reached_is_regained_sooner() {
    let mut failures = [0; 13];
    failures[10] = 10;
    assert_eq!(shares(&failures)[9..], [80, 40, 60, 65]);
}

#[test]
fn who_is_refused_until_then_holds_it_and_never_halves_it() {
    let mut ramp = ramp(Span::from_secs(14));
    let before = ramp.share();
    let refusal = Outcome::Overloaded { retry_after: Some(Span::from_secs(1)) };
    for second in 1..10 {
        (0..9).for_each(|_| ramp.report(at(second * 1_000), refusal, Strain::NONE));
        ramp.report(at(second * 1_000), Outcome::Success, Strain::NONE);
        assert_eq!(ramp.share(), before);
    }
}

#[test]
fn what_is_refused_behind_it_holds_and_never_halves() {
    let mut ramp = ramp(Span::from_secs(14));
    ramp.next_step = at(1_000);
    for (second, refused) in [(1, 0), (2, 1), (3, 100), (4, 0)] {
        (0..refused).for_each(|_| ramp.refused());
        ramp.report(at(second * 1_000), Outcome::Success, Strain::NONE);
    }
    assert_eq!(ramp.share(), 0.2);
}

#[test]
fn cancelled_and_ignored_calls_move_nothing() {
    let mut ramp = ramp(Span::from_secs(14));
    for outcome in [Outcome::Cancelled, Outcome::Ignored, Outcome::Superseded] {
        (0..100).for_each(|second| ramp.report(at(second * 1_000), outcome, Strain::NONE));
    }
    assert_eq!(ramp.share(), 0.05);
}

#[test]
fn the_share_is_exact() {
    let mut ramp = ramp(Span::from_secs(14));
    let passed = (0..1_000).filter(|_| ramp.admit(at(0)).is_ok()).count();
    assert_eq!(passed, 50);
}

#[test]
fn at_least_one_request_a_second_passes() {
    let mut ramp = ramp(Span::from_secs(1_000));
    let passed = (0..10).filter(|second| ramp.admit(at(second * 1_000)).is_ok()).count();
    assert_eq!(passed, 10);
}

#[test]
fn a_delay_at_its_target_holds_and_at_twice_halves() {
    let mut ramp = ramp(Span::from_secs(14));
    let mut shares = Vec::new();
    for (second, delay) in [(2, 0), (4, 9), (6, 10), (8, 19), (10, 20), (12, 200), (14, 0)] {
        let strain = Strain::of(Span::from_millis(delay), Span::from_millis(10));
        ramp.report(at(second * 1_000), Outcome::Success, strain);
        shares.push((ramp.share() * 100.0 + 0.5) as u32);
    }
    assert_eq!(shares, [10, 20, 20, 20, 10, 5, 8]);
    assert_eq!(Strain::of(Span::from_millis(10), Span::ZERO), Strain::NONE);
}

#[test]
fn the_strain_is_a_mean_over_the_interval() {
    let mut ramp = ramp(Span::from_secs(14));
    let millis = Span::from_millis;
    for delay in [0, 0, 0, 30] {
        ramp.report(at(500), Outcome::Success, Strain::of(millis(delay), millis(10)));
    }
    ramp.report(at(2_000), Outcome::Success, Strain::NONE);
    assert_eq!(ramp.share(), 0.1, "one late answer of five is not a strain of three");
}

#[test]
fn a_refusal_never_says_at_once() {
    for over in [1, 14, 1_000] {
        let mut ramp = Ramp::new(Span::from_secs(over), at(0), &mut Rng::new(1, 1));
        for millis in 0..5_000 {
            if let Err(rejection) = ramp.admit(at(millis)) {
                assert!(rejection.retry_after > Span::ZERO, "at {millis} ms of a ramp over {over} s");
                assert!(rejection.retry_after <= Span::from_secs(1), "one a second passes");
            }
        }
    }
}

#[test]
fn a_ramp_may_end_below_all() {
    let mut ramp = ramp(Span::from_secs(14)).up_to(300_000);
    (1..20).for_each(|second| ramp.report(at(second * 1_100), Outcome::Success, Strain::NONE));
    assert_eq!((ramp.share(), ramp.is_over()), (0.3, false));
    assert_eq!(Ramp::new(Span::ZERO, at(0), &mut Rng::new(1, 1)).up_to(10_000).share(), 0.01);
}

#[test]
fn two_ramps_do_not_step_together() {
    let mut rng = Rng::new(1, 1);
    let intervals: Vec<u64> =
        (0..100).map(|_| Ramp::new(Span::from_secs(14), at(0), &mut rng).interval.as_millis()).collect();
    assert!(intervals.iter().all(|interval| (900..=1_100).contains(interval)));
    assert!(intervals.iter().max().unwrap() - intervals.iter().min().unwrap() > 100);
}
