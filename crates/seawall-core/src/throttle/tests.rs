use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::measure::bucket::Rate;
use crate::rng::mix;

fn at(secs: u64) -> Time {
    Time::ZERO + Span::from_secs(secs)
}

fn config(rate: Rate, burst: u64, max_users: u32, on_full: OnFull) -> Config {
    Config { max_users, on_full, ..Config::per_user(Quota::new(rate, burst).unwrap()) }
}

fn hourly(burst: u64, max_users: u32, on_full: OnFull) -> Throttle {
    let rate = Rate { count: 1, per: Span::from_secs(3_600) };
    Throttle::new(config(rate, burst, max_users, on_full), at(0))
}

fn user(number: u64) -> Key {
    Key(mix(number))
}

fn admit(throttle: &mut Throttle, now: Time, number: u64) -> Look<()> {
    throttle.admit_if(now, user(number), 1, |_| Ok(()))
}

#[test]
fn exactly_the_burst_passes_and_the_rest_is_told_when() {
    let mut throttle = hourly(100, 10, OnFull::Share);
    let passed = (0..200).filter(|_| admit(&mut throttle, at(0), 1) == Look::Taken(())).count();
    assert_eq!(passed, 100);
    let Look::Refused(rejection) = admit(&mut throttle, at(0), 1) else { panic!("must be refused") };
    assert_eq!(rejection.retry_after, Span::from_secs(3_600));
    assert_eq!(rejection.standing, Some(Standing { quota: 0, remaining: 0, reset: Span::from_secs(3_600) }));
    assert_eq!(admit(&mut throttle, at(0), 2), Look::Taken(()));
}

#[test]
fn a_refusal_further_on_takes_nothing() {
    let mut throttle = hourly(1, 10, OnFull::Share);
    for _ in 0..5 {
        let look: Look<&str> = throttle.admit_if(at(0), user(1), 1, |_| Err("full"));
        assert_eq!(look, Look::Untaken("full"));
    }
    assert_eq!(throttle.snapshot().users, 0);
    assert_eq!(admit(&mut throttle, at(0), 1), Look::Taken(()));
}

#[test]
fn a_flood_of_users_never_resets_a_throttled_one() {
    for on_full in [OnFull::Refuse, OnFull::Share] {
        let mut throttle = hourly(1, 1_000, on_full);
        assert_eq!(admit(&mut throttle, at(0), 0), Look::Taken(()));
        for number in 1..100_000 {
            let _ = admit(&mut throttle, at(1), number);
        }
        assert!(matches!(admit(&mut throttle, at(2), 0), Look::Refused(_)), "{on_full:?}");
        assert_eq!(throttle.snapshot().users, 1_000);
    }
}

#[test]
fn idle_users_go_first() {
    let mut throttle = hourly(1, 10, OnFull::Refuse);
    for number in 0..10 {
        assert_eq!(admit(&mut throttle, at(number), number), Look::Taken(()));
    }
    assert!(matches!(admit(&mut throttle, at(10), 10), Look::Refused(_)));
    // One hour after its only request, user 0 is full again and can go; the others cannot.
    assert_eq!(admit(&mut throttle, at(3_600), 10), Look::Taken(()));
    assert!(matches!(admit(&mut throttle, at(3_600), 11), Look::Refused(_)));
    for number in 1..10 {
        assert!(matches!(admit(&mut throttle, at(3_600), number), Look::Taken(()) | Look::Refused(_)));
    }
    assert_eq!(throttle.snapshot().refused, 2);
}

#[test]
fn without_a_place_all_share_one_bucket() {
    let mut throttle = hourly(3, 1, OnFull::Share);
    assert_eq!(admit(&mut throttle, at(0), 0), Look::Taken(()));
    assert_eq!(admit(&mut throttle, at(0), 1), Look::Overflow);
    let passed = (0..10).filter(|_| throttle.overflow_if(at(0), 1, |_| Ok(())) == Look::Taken(())).count();
    assert_eq!(passed, 3);
    assert_eq!(throttle.snapshot().shared, 10);
}

#[test]
fn evict_displaces_and_counts() {
    let mut throttle = hourly(2, 2, OnFull::Evict);
    (0..5).for_each(|number| assert_eq!(admit(&mut throttle, at(0), number), Look::Taken(())));
    let snapshot = throttle.snapshot();
    assert_eq!((snapshot.users, snapshot.evicted), (2, 3));
}

#[test]
fn one_bucket_for_a_route() {
    let rate = Rate { count: 1, per: Span::from_secs(3_600) };
    let config = Config { per: Per::Route, ..config(rate, 2, 1_000, OnFull::Share) };
    let mut throttle = Throttle::new(config, at(0));
    let passed = (0..5)
        .filter(|&number| {
            throttle.admit_if(at(0), config.key(user(number)), 1, |_| Ok(())) == Look::Taken(())
        })
        .count();
    assert_eq!(passed, 2);
}

#[test]
fn a_change_of_quota_keeps_the_denied_denied() {
    let mut throttle = hourly(10, 10, OnFull::Share);
    (0..10).for_each(|_| assert_eq!(admit(&mut throttle, at(0), 1), Look::Taken(())));
    let rate = Rate { count: 2, per: Span::from_secs(3_600) };
    throttle.configure(config(rate, 1_000, 10, OnFull::Share), at(0));
    assert!(matches!(admit(&mut throttle, at(0), 1), Look::Refused(_)));
    assert_eq!(admit(&mut throttle, at(1_800), 1), Look::Taken(()));
}

#[test]
fn tokens_of_those_who_leave_come_back() {
    let mut throttle = hourly(1, 10, OnFull::Share);
    assert_eq!(admit(&mut throttle, at(0), 1), Look::Taken(()));
    throttle.give_back(at(0), user(1), 1);
    assert_eq!(admit(&mut throttle, at(0), 1), Look::Taken(()));
    throttle.give_back(at(0), user(1), 99);
    let passed = (0..5).filter(|_| admit(&mut throttle, at(0), 1) == Look::Taken(())).count();
    assert_eq!(passed, 1);
}

#[test]
fn shards_follow_from_the_cap_alone() {
    let shards = |max_users| config(Rate::per_second(1), 1, max_users, OnFull::Share).shards();
    let caps = [1, 4_096, 8_192, 100_000, 1_000_000, 100_000_000];
    assert_eq!(caps.map(shards), [1, 1, 2, 24, 64, 64]);
}

proptest! {
    /// Whatever the order of users and pauses, nobody gets more than burst + rate × time, however
    /// often the table had to let somebody go.
    #[test]
    fn eviction_never_hands_out_tokens(
        max_users in 1_u32..8,
        refuse in any::<bool>(),
        steps in prop::collection::vec((0_u64..12, 0_u64..4), 1..400),
    ) {
        let on_full = if refuse { OnFull::Refuse } else { OnFull::Share };
        let (rate, burst) = (Rate { count: 1, per: Span::from_secs(5) }, 3);
        let mut throttle = Throttle::new(config(rate, burst, max_users, on_full), at(0));
        let mut now = 0;
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for (number, pause) in steps {
            now += pause;
            if admit(&mut throttle, at(now), number) == Look::Taken(()) {
                taken.push((number, now));
            }
            prop_assert!(throttle.snapshot().users <= u64::from(max_users));
        }
        for (first, &(number, start)) in taken.iter().enumerate() {
            let mut sum = 0;
            for &(_, end) in taken[first..].iter().filter(|(other, _)| *other == number) {
                sum += 1;
                prop_assert!(sum <= burst + (end - start) / 5, "user {} took {}", number, sum);
            }
        }
    }
}
