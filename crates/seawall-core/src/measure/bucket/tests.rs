use proptest::prelude::*;

use std::vec::Vec;

use super::*;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn quota(rate: Rate, burst: u64) -> Quota {
    Quota::new(rate, burst).unwrap()
}

/// Takes one token at a time until refused.
fn drain(bucket: &mut Bucket, quota: &Quota, now: Time) -> u64 {
    (0..).find(|_| bucket.take(quota, now, 1).is_err()).unwrap()
}

#[test]
fn per_user_bucket_of_ground_truth() {
    let quota = quota(Rate::per_second(5), 8);
    let mut bucket = Bucket::full(&quota, at(0));
    let passed: Vec<u64> =
        [0, 1002, 2004, 4004].into_iter().map(|now| drain(&mut bucket, &quota, at(now))).collect();
    assert_eq!(passed, [8, 5, 5, 8]);
}

#[test]
fn wait_is_exact_to_the_nanosecond() {
    let quota = quota(Rate::per_second(3), 1);
    let mut bucket = Bucket::full(&quota, at(0));
    assert_eq!(bucket.take(&quota, at(0), 1), Ok(()));
    let wait = bucket.wait(&quota, at(0), 1);
    assert_eq!(wait, Span::from_nanos(333_333_334));
    assert!(bucket.take(&quota, at(0) + wait - Span::from_nanos(1), 1).is_err());
    assert_eq!(bucket.take(&quota, at(0) + wait, 1), Ok(()));
}

#[test]
fn years_of_idleness_do_not_overflow() {
    let quota = quota(Rate { count: 1_000_000_007, per: Span::from_secs(86_400) }, 1_000);
    let mut bucket = Bucket::full(&quota, at(0));
    drain(&mut bucket, &quota, at(0));
    assert_eq!(bucket.tokens(&quota, Time::MAX), 1_000);
    assert!(bucket.is_full(&quota, Time::MAX));
}

#[test]
fn time_running_backwards_adds_nothing() {
    let quota = quota(Rate::per_second(5), 8);
    let mut bucket = Bucket::full(&quota, at(1_000));
    drain(&mut bucket, &quota, at(1_000));
    assert!(bucket.take(&quota, at(0), 1).is_err());
    assert_eq!(bucket.tokens(&quota, at(1_000)), 0);
}

#[test]
fn a_cost_above_the_burst_never_passes() {
    let quota = quota(Rate::per_second(5), 8);
    assert_eq!(Bucket::full(&quota, at(0)).take(&quota, at(0), 9), Err(Span::MAX));
}

#[test]
fn impossible_quotas_are_refused() {
    assert_eq!(Quota::new(Rate::per_second(0), 1), Err(QuotaError::EmptyRate));
    assert_eq!(Quota::new(Rate { count: 1, per: Span::ZERO }, 1), Err(QuotaError::EmptyRate));
    assert_eq!(Quota::new(Rate::per_second(1), 0), Err(QuotaError::EmptyBurst));
    assert!(matches!(Quota::new(Rate::per_second(1), u64::MAX), Err(QuotaError::BurstAbove(_))));
    let longest = Span::from_nanos(u64::MAX / 2);
    assert!(Quota::new(Rate { count: 1, per: longest }, 1).is_ok());
    let too_long = Rate { count: 1, per: longest + Span::from_nanos(1) };
    assert_eq!(Quota::new(too_long, 1), Err(QuotaError::PeriodAbove(longest)));
    assert!(matches!(Quota::new(Rate::per_second(u64::MAX), 1), Err(QuotaError::RateAbove(_))));
}

#[test]
fn rescaling_keeps_the_share_and_never_refills() {
    let (before, after) = (quota(Rate::per_second(10), 10), quota(Rate::per_second(100), 40));
    let mut bucket = Bucket::full(&before, at(0));
    bucket.take(&before, at(0), 5).unwrap();
    bucket.rescale(&before, &after, at(0));
    assert_eq!(bucket.tokens(&after, at(0)), 20);
    drain(&mut bucket, &after, at(0));
    bucket.rescale(&after, &before, at(0));
    assert_eq!(bucket.tokens(&before, at(0)), 0);
}

proptest! {
    /// In any window `t`, a bucket of size `b` and rate `r` admits at most `b + r·t`; and an
    /// adversary who asks all the time gets at least `r·t`.
    #[test]
    fn admits_at_most_burst_plus_rate_times_time(
        count in 1_u64..5_000,
        per in 1_u64..5_000_000_000,
        burst in 1_u64..200,
        steps in prop::collection::vec((0_u64..3_000_000_000, 1_u64..5), 1..200),
    ) {
        let quota = quota(Rate { count, per: Span::from_nanos(per) }, burst);
        let (mut bucket, mut now) = (Bucket::full(&quota, Time::ZERO), Time::ZERO);
        let mut taken: Vec<(Time, u64)> = Vec::new();
        for (pause, cost) in steps {
            now += Span::from_nanos(pause);
            if bucket.take(&quota, now, cost).is_ok() {
                taken.push((now, cost));
            }
        }
        for (first, &(start, _)) in taken.iter().enumerate() {
            let mut sum = 0_u128;
            for &(end, cost) in &taken[first..] {
                sum += u128::from(cost);
                let refill = u128::from(end.since(start).as_nanos()) * u128::from(count);
                prop_assert!(sum * u128::from(per) <= u128::from(burst) * u128::from(per) + refill);
            }
        }
    }

    #[test]
    fn waiting_as_told_is_enough_and_no_less_is(
        count in 1_u64..5_000, per in 1_u64..5_000_000_000, burst in 1_u64..200, cost in 1_u64..200,
        pause in 0_u64..1_000_000_000,
    ) {
        let quota = quota(Rate { count, per: Span::from_nanos(per) }, burst);
        let mut bucket = Bucket::full(&quota, Time::ZERO);
        bucket.take(&quota, Time::ZERO, burst).unwrap();
        let now = Time::from_nanos(pause);
        let cost = cost.min(burst);
        let wait = bucket.wait(&quota, now, cost);
        if wait > Span::ZERO {
            prop_assert!(bucket.take(&quota, now + wait - Span::from_nanos(1), cost).is_err());
        }
        prop_assert!(bucket.take(&quota, now + wait, cost).is_ok());
    }
}
