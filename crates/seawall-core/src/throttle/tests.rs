use std::string::ToString as _;
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

fn of(number: u64) -> Request {
    Request::new(user(number))
}

fn admit(throttle: &mut Throttle, now: Time, number: u64) -> Look<()> {
    throttle.admit_if(now, &of(number), |_| Ok(()))
}

#[test]
fn a_refusal_says_when_no_asking_again_would_help() {
    let said = |wait| Rejection::new(Policy::Throttle, Reason::Throttled, wait).to_string();
    assert_eq!(said(Span::MAX), "refused by throttle: throttled for ever, as it costs more than the burst");
    assert_eq!(said(Span::from_secs(2)), "refused by throttle: throttled, ask again in 2s");
}

#[test]
fn exactly_the_burst_passes_and_the_rest_is_told_when() {
    let mut throttle = hourly(100, 10, OnFull::Share);
    let passed = (0..200).filter(|_| admit(&mut throttle, at(0), 1) == Look::Taken(())).count();
    assert_eq!(passed, 100);
    let Look::Refused(rejection) = admit(&mut throttle, at(0), 1) else { panic!("must be refused") };
    assert_eq!(rejection.retry_after, Span::from_secs(3_600));
    assert_eq!(
        rejection.standing,
        Some(Standing { quota: 0, plan: 0, remaining: 0, reset: Span::from_secs(3_600) })
    );
    assert_eq!(admit(&mut throttle, at(0), 2), Look::Taken(()));
}

#[test]
fn a_refusal_further_on_takes_nothing() {
    let mut throttle = hourly(1, 10, OnFull::Share);
    for _ in 0..5 {
        let look: Look<&str> = throttle.admit_if(at(0), &of(1), |_| Err("full"));
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
    let passed =
        (0..10).filter(|_| throttle.overflow_if(at(0), &of(1), |_| Ok(())) == Look::Taken(())).count();
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
fn who_is_nearest_to_full_goes_first() {
    let mut throttle = hourly(9, 3, OnFull::Evict);
    for (number, cost) in [(0, 5), (1, 2), (2, 9)] {
        assert_eq!(throttle.admit_if(at(0), &Request { cost, ..of(number) }, |_| Ok(())), Look::Taken(()));
    }
    assert_eq!(admit(&mut throttle, at(0), 3), Look::Taken(()));
    let left = [0, 2, 3].map(|number| remaining(&mut throttle, at(0), &of(number)));
    assert_eq!(left, [Some(4), Some(0), Some(8)], "user 1 went");
}

#[test]
fn nobody_is_displaced_for_one_whom_the_rest_refuses() {
    let mut throttle = hourly(1, 1, OnFull::Evict);
    assert_eq!(admit(&mut throttle, at(0), 0), Look::Taken(()));
    assert_eq!(throttle.admit_if(at(0), &of(1), |_| Err(())), Look::Untaken(()));
    assert_eq!(throttle.snapshot().evicted, 0);
    assert!(matches!(admit(&mut throttle, at(0), 0), Look::Refused(_)));
}

/// Tokens that a look finds, none if it is refused; `None` without a place.
fn remaining(throttle: &mut Throttle, now: Time, request: &Request) -> Option<u64> {
    match throttle.admit_if(now, request, |offer| Err::<Grant, _>(offer.grant())) {
        Look::Untaken(grant) => Some(grant.standing.remaining + 1),
        Look::Refused(_) => Some(0),
        _ => None,
    }
}

#[test]
fn one_bucket_for_a_route() {
    let rate = Rate { count: 1, per: Span::from_secs(3_600) };
    let config = Config { per: Per::Route, ..config(rate, 2, 1_000, OnFull::Share) };
    let mut throttle = Throttle::new(config, at(0));
    let passed = (0..5)
        .filter(|&number| {
            throttle.admit_if(at(0), &Request::new(config.key(user(number))), |_| Ok(())) == Look::Taken(())
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

/// Takes for one request, and says how to give it back.
fn take(throttle: &mut Throttle, now: Time, request: &Request) -> Refund {
    match throttle.admit_if(now, request, |offer| Ok(offer.grant())) {
        Look::Taken(grant) => Refund { tokens: request.cost, taken: now, mark: Some(grant.mark) },
        other => panic!("{other:?}"),
    }
}

#[test]
fn tokens_of_those_who_leave_come_back() {
    let mut throttle = hourly(1, 10, OnFull::Share);
    let refund = take(&mut throttle, at(0), &of(1));
    throttle.give_back(at(0), &of(1), Purse::Own, refund);
    let _refund = take(&mut throttle, at(0), &of(1));
    throttle.give_back(at(0), &of(1), Purse::Own, Refund { tokens: 99, ..refund });
    let passed = (0..5).filter(|_| admit(&mut throttle, at(0), 1) == Look::Taken(())).count();
    assert_eq!(passed, 1);
}

#[test]
fn shards_follow_from_the_cap_alone() {
    let shards = |max_users| config(Rate::per_second(1), 1, max_users, OnFull::Share).shards();
    let caps = [1, 4_096, 8_192, 100_000, 1_000_000, 100_000_000];
    assert_eq!(caps.map(shards), [1, 1, 2, 24, 64, 64]);
}

fn plans() -> Plans {
    let free = Quota::new(Rate::per_second(3), 4).unwrap();
    let paid = Quota::new(Rate::per_second(700), 1_000).unwrap();
    let slow = Quota::new(Rate { count: 7, per: Span::from_secs(86_400) }, 10).unwrap();
    Plans::new(&[free, paid, slow]).unwrap()
}

fn planned(max_users: u32) -> Throttle {
    let config = Config { plans: plans(), max_users, ..Config::per_user(*plans().quota(0)) };
    Throttle::new(config, at(0))
}

#[test]
fn each_plan_has_its_own_quota_in_one_table() {
    let mut throttle = planned(10);
    let passed = [0, 1, 2, 200].map(|plan| {
        let request = Request { plan, ..of(u64::from(plan)) };
        (0..).take_while(|_| throttle.admit_if(at(0), &request, |_| Ok(())) == Look::Taken(())).count()
    });
    assert_eq!(passed, [4, 1_000, 10, 4]);
    assert_eq!(throttle.snapshot().users, 4);
    let wait = |throttle: &mut Throttle, plan: u8| match throttle.admit_if(
        at(0),
        &Request { plan, ..of(u64::from(plan)) },
        |_| Ok(()),
    ) {
        Look::Refused(rejection) => rejection.retry_after,
        other => panic!("{other:?}"),
    };
    let waits = [0, 1, 2].map(|plan| wait(&mut throttle, plan).as_nanos());
    assert_eq!(waits, [333_333_334, 1_428_572, 86_400_000_000_000_u64.div_ceil(7)]);
}

#[test]
fn a_change_of_plan_keeps_the_share_and_never_refills() {
    let mut throttle = planned(10);
    let on = |plan| Request { plan, ..of(1) };
    (0..2).for_each(|_| _ = take(&mut throttle, at(0), &on(0)));
    assert_eq!(remaining(&mut throttle, at(0), &on(1)), Some(500));
    assert_eq!(remaining(&mut throttle, at(0), &on(2)), Some(5));
    (0..5).for_each(|_| _ = take(&mut throttle, at(0), &on(2)));
    for plan in [0, 1, 2, 0, 1, 0] {
        assert_eq!(remaining(&mut throttle, at(0), &on(plan)), Some(0), "plan {plan}");
        // Asking on another plan does not move the bucket there; taking would.
    }
}

#[test]
fn users_of_every_plan_go_when_they_are_full() {
    let mut throttle = planned(3);
    for plan in 0..3 {
        let _taken = take(&mut throttle, at(0), &Request { plan, ..of(u64::from(plan)) });
    }
    // Two milliseconds refill one token of the paid plan, and none of the others.
    let later = at(0) + Span::from_millis(2);
    let _taken = take(&mut throttle, later, &of(9));
    assert_eq!(remaining(&mut throttle, later, &of(0)), Some(3));
    assert_eq!(remaining(&mut throttle, later, &Request { plan: 2, ..of(2) }), Some(9));
    assert_eq!(throttle.snapshot().evicted, 0);
}

#[test]
fn plans_that_cannot_be_counted_together_are_refused() {
    let per_second = |count| Quota::new(Rate::per_second(count), 1).unwrap();
    assert_eq!(Plans::new(&[]), Err(PlansError::Count(0)));
    assert_eq!(Plans::new(&[per_second(1); 9]), Err(PlansError::Count(9)));
    let uneven = [per_second(99_991), per_second(99_989), per_second(99_971)];
    assert_eq!(Plans::new(&uneven), Err(PlansError::NoUnit(1)));
    let long = Quota::new(Rate { count: 1, per: Span::from_secs(86_400) }, 100_000).unwrap();
    assert_eq!(Plans::new(&[long, per_second(7)]), Err(PlansError::NoUnit(1)));
}

#[test]
fn years_of_idleness_refill_and_overflow_nothing() {
    let year = 365 * 86_400;
    for rate in [
        Rate::per_second(1),
        Rate::per_second(999_999_937),
        Rate { count: 999_999_937, per: at(86_400).since(at(0)) },
    ] {
        let mut throttle = Throttle::new(config(rate, 1_000, 10, OnFull::Share), at(0));
        let all = Request { cost: 1_000, ..of(1) };
        for years in [0, 1, 2, 50, 500] {
            let now = at(years * year);
            let _taken = take(&mut throttle, now, &all);
            assert_eq!(remaining(&mut throttle, now, &of(1)), Some(0), "{rate:?}, after {years} years");
        }
        let _taken = take(&mut throttle, Time::MAX, &all);
    }
}

#[test]
fn time_that_runs_backwards_between_threads_hands_out_nothing() {
    let rate = Rate::per_second(1);
    let mut throttle = Throttle::new(config(rate, 1, 1, OnFull::Refuse), at(0));
    assert_eq!(admit(&mut throttle, at(10), 1), Look::Taken(()));
    // Full again at 11, user 1 gives way to user 2; a thread that is late brings user 1 back.
    assert_eq!(admit(&mut throttle, at(11), 2), Look::Taken(()));
    assert!(matches!(admit(&mut throttle, at(10), 1), Look::Refused(_)));
    assert_eq!(admit(&mut throttle, at(12), 3), Look::Taken(()));
    assert!(matches!(admit(&mut throttle, at(11), 3), Look::Refused(_)));
}

#[test]
fn who_waits_gets_the_next_slots_in_order() {
    let mut throttle = Throttle::new(config(Rate::per_second(10), 1, 10, OnFull::Share), at(0));
    let _taken = take(&mut throttle, at(0), &of(1));
    let slots: Vec<u64> = (0..3)
        .map(|_| throttle.line_up(at(0), &of(1), Purse::Own).unwrap().at.as_nanos() / 1_000_000)
        .collect();
    assert_eq!(slots, [100, 200, 300]);
    assert!(matches!(admit(&mut throttle, at(0) + Span::from_millis(399), 1), Look::Refused(_)));
    assert_eq!(admit(&mut throttle, at(0) + Span::from_millis(400), 1), Look::Taken(()));
}

#[test]
fn who_stands_last_in_line_gives_everything_back() {
    let mut throttle = Throttle::new(config(Rate::per_second(10), 1, 10, OnFull::Share), at(0));
    let _taken = take(&mut throttle, at(0), &of(1));
    let line_up = |throttle: &mut Throttle| throttle.line_up(at(0), &of(1), Purse::Own).unwrap();
    let [first, last] = [line_up(&mut throttle), line_up(&mut throttle)];
    let refund = |slot: Slot| Refund { tokens: 1, taken: at(0), mark: Some(slot.mark) };
    // With a burst of one, what the first gives back would let another pass beside the last.
    throttle.give_back(at(0), &of(1), Purse::Own, refund(first));
    assert_eq!(line_up(&mut throttle).at, at(0) + Span::from_millis(300));
    let mut throttle = Throttle::new(config(Rate::per_second(10), 1, 10, OnFull::Share), at(0));
    let _taken = take(&mut throttle, at(0), &of(1));
    let [_, again] = [line_up(&mut throttle), line_up(&mut throttle)];
    assert_eq!(again, last);
    throttle.give_back(at(0), &of(1), Purse::Own, refund(again));
    assert_eq!(line_up(&mut throttle).at, last.at);
}

#[test]
fn tokens_that_flowed_in_again_do_not_come_back_as_well() {
    let mut throttle = Throttle::new(config(Rate::per_second(1), 1, 10, OnFull::Share), at(0));
    let unused = take(&mut throttle, at(0), &of(1));
    let _used = take(&mut throttle, at(1), &of(1));
    throttle.give_back(at(1), &of(1), Purse::Own, unused);
    assert!(matches!(admit(&mut throttle, at(1), 1), Look::Refused(_)));
}

#[test]
fn what_was_taken_before_a_change_of_rate_does_not_come_back() {
    let fast = config(Rate::per_second(10), 10, 10, OnFull::Share);
    let slow = config(Rate { count: 1, per: Span::from_secs(60) }, 10, 10, OnFull::Share);
    let all = Request { cost: 10, ..of(1) };
    for changes in 1..=5 {
        let mut throttle = Throttle::new(fast, at(0));
        let unused = take(&mut throttle, at(0), &all);
        // It has all flowed in again when the rate changes.
        for change in 1..=changes {
            throttle.configure(if (changes - change) % 2 == 0 { slow } else { fast }, at(10));
        }
        let _used = take(&mut throttle, at(10), &all);
        throttle.give_back(at(11), &all, Purse::Own, unused);
        assert!(matches!(admit(&mut throttle, at(11), 1), Look::Refused(_)), "after {changes} changes");
    }
}

#[test]
fn what_was_taken_from_the_overflow_bucket_comes_back_there() {
    let mut throttle = hourly(2, 1, OnFull::Share);
    assert_eq!(admit(&mut throttle, at(0), 0), Look::Taken(()));
    let taken = |throttle: &mut Throttle| match throttle.overflow_if(at(0), &of(1), |offer| Ok(offer.grant()))
    {
        Look::Taken(grant) => Some(Refund { tokens: 1, taken: at(0), mark: Some(grant.mark) }),
        _ => None,
    };
    let refund = taken(&mut throttle).unwrap();
    assert!(taken(&mut throttle).is_some() && taken(&mut throttle).is_none());
    throttle.give_back(at(0), &of(1), Purse::Overflow, refund);
    assert!(taken(&mut throttle).is_some() && taken(&mut throttle).is_none());
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

    /// Against a model in 128 bits: every look says what the model says, to the nanosecond, through
    /// changes of base, eviction of the idle, costs and several plans.
    #[test]
    fn agrees_with_an_exact_model(
        rates in prop::collection::vec((1_u64..2_000, 1_u64..3), 1..4),
        max_users in 2_u32..6,
        steps in prop::collection::vec((0_u64..12, 1_u32..4, 0_u64..3_000_000_000, any::<bool>()), 1..200),
    ) {
        let quotas: Vec<Quota> = rates
            .iter()
            .map(|(count, per)| Quota::new(Rate { count: *count, per: Span::from_millis(*per) }, 5).unwrap())
            .collect();
        let plans = Plans::new(&quotas);
        prop_assume!(plans.is_ok());
        let config = Config {
            plans: plans.unwrap(), max_users, on_full: OnFull::Refuse, ..Config::per_user(quotas[0])
        };
        let mut throttle = Throttle::new(config, at(0));
        // Each user keeps to one plan. Missing tokens, in parts of count × nanoseconds.
        let mut missing: [(u128, u64); 12] = [(0, 0); 12];
        let mut now = 0;
        for (number, cost, pause, long) in steps {
            now += if long { pause * 100_000 } else { pause / 1_000 };
            let plan = number as usize % quotas.len();
            let (count, per) = (u128::from(rates[plan].0), u128::from(rates[plan].1) * 1_000_000);
            let (debt, since) = missing[number as usize];
            let debt = debt.saturating_sub(u128::from(now - since) * count);
            let after = debt + u128::from(cost) * per;
            let request = Request { cost, plan: plan as u8, ..of(number) };
            match throttle.admit_if(Time::from_nanos(now), &request, |_| Ok(())) {
                Look::Taken(()) => {
                    prop_assert!(after <= 5 * per);
                    missing[number as usize] = (after, now);
                }
                Look::Refused(refusal) if refusal.standing.is_some() => {
                    prop_assert!(after > 5 * per);
                    let wait = (after - 5 * per).div_ceil(count);
                    prop_assert_eq!(u128::from(refusal.retry_after.as_nanos()), wait);
                }
                Look::Refused(_) => prop_assert_eq!(debt, 0, "who owes has a place"),
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    /// Whoever takes, waits, leaves and gives back as it likes: what is kept never exceeds the burst
    /// and the rate over any window.
    #[test]
    fn no_window_holds_more_than_burst_and_rate(
        burst in 1_u64..5,
        shaped in any::<bool>(),
        steps in prop::collection::vec((0_u64..2, 1_u32..3, 0_u64..1_500, 0_usize..6), 1..120),
    ) {
        let mut throttle = Throttle::new(config(Rate::per_second(1), burst, 4, OnFull::Share), at(0));
        let mut now = Time::ZERO;
        // Each that may still give back, and each that is kept: user, tokens, when it counts.
        let mut open: Vec<(u64, Refund, u32, Time)> = Vec::new();
        let mut kept: Vec<(u64, u64, Time)> = Vec::new();
        for (number, cost, pause, give_back) in steps {
            now += Span::from_millis(pause);
            let request = Request { cost, ..of(number) };
            let counted = match throttle.admit_if(now, &request, |offer| Ok(offer.grant())) {
                Look::Taken(grant) => Some((grant.mark, now)),
                Look::Refused(_) if shaped && u64::from(cost) <= burst => {
                    throttle.line_up(now, &request, Purse::Own).map(|slot| (slot.mark, slot.at))
                }
                _ => None,
            };
            if let Some((mark, counts)) = counted {
                open.push((number, Refund { tokens: cost, taken: now, mark: Some(mark) }, cost, counts));
            }
            if give_back < open.len() {
                let (number, refund, cost, _) = open.swap_remove(give_back);
                throttle.give_back(now, &Request { cost, ..of(number) }, Purse::Own, refund);
            }
        }
        kept.extend(open.iter().map(|(number, _, cost, counts)| (*number, u64::from(*cost), *counts)));
        for user in 0..2 {
            let mut of_user: Vec<_> = kept.iter().filter(|(number, ..)| *number == user).collect();
            of_user.sort_by_key(|(_, _, counts)| *counts);
            for (first, (_, _, start)) in of_user.iter().enumerate() {
                let mut sum = 0;
                for (_, cost, end) in &of_user[first..] {
                    sum += cost;
                    let most = u128::from(burst) * 1_000_000_000 + u128::from(end.since(*start).as_nanos());
                    prop_assert!(u128::from(sum) * 1_000_000_000 <= most, "{} in {:?}", sum, end.since(*start));
                }
            }
        }
    }
}
