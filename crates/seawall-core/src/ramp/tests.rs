use std::vec::Vec;

use super::*;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// Asks `per_interval` times in each interval and returns the shares.
fn shares(ramp: &mut Ramp, healths: &[Health], per_interval: u32) -> Vec<u32> {
    healths
        .iter()
        .map(|health| {
            (0..per_interval).for_each(|_| _ = ramp.admit(ramp.next_step()));
            ramp.step(ramp.next_step(), *health);
            (ramp.share() * 100.0 + 0.5) as u32
        })
        .collect()
}

#[test]
fn doubles_to_a_half_then_adds() {
    let mut ramp = Ramp::new(Span::from_secs(14), at(0));
    let shares = shares(&mut ramp, &[Health::Healthy; STEPS as usize], 1);
    assert_eq!(shares, [10, 20, 40, 50, 55, 60, 65, 70, 75, 80, 85, 90, 95, 100]);
    assert!(ramp.is_over());
}

#[test]
fn holds_when_unwell_and_halves_when_bad() {
    let mut ramp = Ramp::new(Span::from_secs(14), at(0));
    let healths =
        [Health::Healthy, Health::Healthy, Health::Unhealthy, Health::Bad, Health::Bad, Health::Bad];
    assert_eq!(shares(&mut ramp, &healths, 1), [10, 20, 20, 10, 5, 5]);
}

#[test]
fn an_interval_without_requests_proves_nothing() {
    let mut ramp = Ramp::new(Span::from_secs(14), at(0));
    assert_eq!(shares(&mut ramp, &[Health::Healthy; 3], 0), [5, 5, 5]);
}

#[test]
fn the_share_is_exact() {
    let mut ramp = Ramp::new(Span::from_secs(14), at(0));
    let passed = (0..1_000).filter(|_| ramp.admit(at(0))).count();
    assert_eq!(passed, 50);
}

#[test]
fn at_least_one_request_a_second_passes() {
    let mut ramp = Ramp::new(Span::from_secs(1_000), at(0));
    let passed = (0..10).filter(|second| ramp.admit(at(second * 1_000))).count();
    assert_eq!(passed, 10);
}
