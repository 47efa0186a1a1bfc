use std::vec::Vec;

use super::*;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// Reports ten outcomes in each interval, so many of them failures, and returns the shares.
fn shares(failures: &[usize]) -> Vec<u32> {
    let mut ramp = Ramp::new(Span::from_secs(14), at(0));
    let share = |(interval, failed): (usize, &usize)| {
        (0..10).for_each(|call| {
            let now = at(interval as u64 * 1_000 + if call == 9 { 1_000 } else { 500 });
            ramp.report(now, if call < *failed { Outcome::Failure } else { Outcome::Success });
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
fn cancelled_and_ignored_calls_move_nothing() {
    let mut ramp = Ramp::new(Span::from_secs(14), at(0));
    for outcome in [Outcome::Cancelled, Outcome::Ignored, Outcome::Superseded] {
        (0..100).for_each(|second| ramp.report(at(second * 1_000), outcome));
    }
    assert_eq!(ramp.share(), 0.05);
}

#[test]
fn the_share_is_exact() {
    let mut ramp = Ramp::new(Span::from_secs(14), at(0));
    let passed = (0..1_000).filter(|_| ramp.admit(at(0)).is_ok()).count();
    assert_eq!(passed, 50);
}

#[test]
fn at_least_one_request_a_second_passes() {
    let mut ramp = Ramp::new(Span::from_secs(1_000), at(0));
    let passed = (0..10).filter(|second| ramp.admit(at(second * 1_000)).is_ok()).count();
    assert_eq!(passed, 10);
}
