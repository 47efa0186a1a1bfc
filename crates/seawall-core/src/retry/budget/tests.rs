use std::vec;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// A budget that holds so many whole attempts since the origin, and no floor.
fn holding(attempts: u32) -> Budget {
    let mut budget = Budget::new(Config::new(1_000_000).unwrap().without_floor(), at(0));
    (0..attempts).for_each(|_| budget.deposit(at(0)));
    budget
}

/// Whether it pays.
fn pays(budget: &mut Budget, millis: u64) -> bool {
    budget.withdraw(at(millis)).is_some()
}

/// Load and success of calls whose attempts fail independently with `p`, without limit on
/// attempts but the budget.
fn run(config: Config, p: f64, calls: u32) -> (f64, f64) {
    let (mut budget, mut rng) = (Budget::new(config, Time::ZERO), Rng::new(1, 1));
    let (mut attempts, mut successes) = (0_u32, 0_u32);
    for _ in 0..calls {
        loop {
            attempts += 1;
            if rng.unit() >= p {
                successes += 1;
                budget.deposit(Time::ZERO);
                break;
            }
            if budget.withdraw(Time::ZERO).is_none() {
                break;
            }
        }
    }
    (f64::from(attempts) / f64::from(calls), f64::from(successes) / f64::from(calls))
}

#[test]
fn funded_by_successes_as_in_ground_truth() {
    let config = Config::default().without_floor();
    // f = 10 %: p = .5 gives load 1.052632 and success .526316; p = 1 gives 1.0 and 0.
    let (load, success) = run(config, 0.5, 400_000);
    assert!((load - 1.052_632).abs() < 0.003, "{load}");
    assert!((success - 0.526_316).abs() < 0.003, "{success}");
    assert_eq!(run(config, 1.0, 10_000), (1.0, 0.0));
}

#[test]
fn the_ratio_is_not_rounded() {
    for percent in [1, 10, 34, 60] {
        let mut budget = Budget::new(Config::new(percent * 10_000).unwrap().without_floor(), Time::ZERO);
        let mut paid = 0;
        for _ in 0..1_000 {
            budget.deposit(Time::ZERO);
            paid += u32::from(budget.withdraw(Time::ZERO).is_some());
        }
        assert_eq!(paid, percent * 10);
    }
}

#[test]
fn the_floor_is_one_retry_in_ten_seconds() {
    let mut budget = Budget::new(Config::default(), Time::ZERO);
    let paid = (0..100_000).filter(|step| budget.withdraw(at(*step)).is_some()).count();
    assert_eq!(paid, 10);
}

#[test]
fn hours_of_success_pay_for_no_storm() {
    let mut budget = Budget::new(Config::default().without_floor(), Time::ZERO);
    (0..1_000_000).for_each(|_| budget.deposit(Time::ZERO));
    let paid = (0..1_000).filter(|_| budget.withdraw(Time::ZERO).is_some()).count();
    assert_eq!(paid, BALANCE_MAX as usize);
}

#[test]
fn funded_by_first_tries_as_in_ground_truth() {
    // A bucket of f = .1 for each first try, p above 1/11: load 1.1 and success 1.1(1 − p).
    for p in [0.3, 0.5, 0.9, 1.0] {
        let (mut budget, mut rng) = (Budget::new(Config::default().without_floor(), at(0)), Rng::new(1, 1));
        let (calls, mut attempts, mut successes) = (200_000_u32, 0_u32, 0_u32);
        for _ in 0..calls {
            budget.deposit(at(0));
            loop {
                attempts += 1;
                if rng.unit() >= p {
                    successes += 1;
                    break;
                }
                if !pays(&mut budget, 0) {
                    break;
                }
            }
        }
        let [load, success] = [attempts, successes].map(|count| f64::from(count) / f64::from(calls));
        assert!((load - 1.1).abs() < 0.001, "p {p}: {load}");
        assert!((success - 1.1 * (1.0 - p)).abs() < 0.005, "p {p}: {success}");
    }
}

#[test]
fn a_deposit_lives_as_long_as_it_should_also_without_traffic() {
    for (last, paid) in [(10_000, true), (11_001, false)] {
        // Nobody looks in between, or somebody looks all the time.
        for looks in [0, 100] {
            let mut budget = holding(1);
            (0..looks).for_each(|look| budget.expire(at(last * look / looks)));
            assert_eq!(pays(&mut budget, last), paid, "after {last} ms and {looks} looks");
        }
    }
}

#[test]
fn a_client_of_one_success_a_second_saves_up_for_a_retry() {
    let mut budget = Budget::new(Config::default().without_floor(), at(0));
    (1..=100).for_each(|second| budget.deposit(at(second * 1_000)));
    assert!(pays(&mut budget, 100_000));
    assert!(!pays(&mut budget, 100_000), "what is older than ten seconds is gone");
}

#[test]
fn the_oldest_deposits_are_spent_first() {
    let mut budget = holding(1);
    budget.deposit(at(9_000));
    assert!(pays(&mut budget, 9_500));
    assert!(pays(&mut budget, 18_000), "the younger one is left");
}

#[test]
fn a_refund_goes_back_to_where_it_came_from() {
    let mut budget = holding(1);
    let payment = budget.withdraw(at(5_000)).unwrap();
    budget.refund(at(6_000), payment);
    assert_eq!((budget.snapshot().withdrawn, budget.snapshot().refunded), (1, 1));
    assert!(pays(&mut budget, 10_000));
    // It grows no younger by being withdrawn and refunded.
    let mut budget = holding(1);
    for second in 1..=9 {
        let payment = budget.withdraw(at(second * 1_000)).unwrap();
        budget.refund(at(second * 1_000), payment);
    }
    assert!(!pays(&mut budget, 11_001));
    // What outlives its deposit comes back to nobody.
    let mut budget = holding(1);
    let payment = budget.withdraw(at(5_000)).unwrap();
    budget.refund(at(12_000), payment);
    assert!(!pays(&mut budget, 12_000));
}

#[test]
fn a_refund_of_the_floor_mints_no_balance() {
    let mut budget = Budget::new(Config::default(), at(0));
    let payment = budget.withdraw(at(0)).unwrap();
    budget.refund(at(1), payment);
    assert_eq!(budget.snapshot().balance, 0.0);
    assert!(pays(&mut budget, 2), "the floor is free again");
    assert!(!pays(&mut budget, 3));
}

#[test]
fn counters_never_fall() {
    let (mut budget, mut rng) = (Budget::new(Config::default(), at(0)), Rng::new(5, 5));
    let (mut before, mut paid) = (budget.snapshot(), vec![]);
    for step in 0..10_000 {
        match rng.below(4) {
            0 | 1 => budget.deposit(at(step * 7)),
            2 => paid.extend(budget.withdraw(at(step * 7))),
            _ => {
                if let Some(payment) = paid.pop() {
                    budget.refund(at(step * 7), payment);
                }
            }
        }
        let after = budget.snapshot();
        assert!(after.withdrawn >= before.withdrawn && after.refunded >= before.refunded);
        assert!(after.refused >= before.refused && after.refunded <= after.withdrawn);
        before = after;
    }
}

#[test]
fn another_lifetime_keeps_the_balance_and_a_lower_ratio_too() {
    let mut budget = holding(3);
    budget.configure(Config::default().without_floor().lasting(Span::from_secs(60)).unwrap(), at(9_000));
    assert_eq!(budget.snapshot().balance, 3.0);
    assert!(pays(&mut budget, 69_000));
}

#[test]
fn a_lifetime_is_a_second_to_an_hour() {
    for lifetime in [Span::ZERO, Span::from_millis(999), Span::from_secs(3_601), Span::MAX] {
        assert_eq!(Config::default().lasting(lifetime), Err(LifetimeOutOfRange(lifetime)));
    }
    assert!(Config::default().lasting(LIFETIME_MIN).and(Config::default().lasting(LIFETIME_MAX)).is_ok());
}

#[test]
fn a_ratio_above_one_is_refused() {
    assert_eq!(Config::new(1_000_001), Err(RatioAboveOne));
}

proptest! {
    #[test]
    fn never_pays_more_than_was_earned(ratio in 0_u32..=1_000_000, steps in prop::collection::vec(any::<bool>(), 1..500)) {
        let mut budget = Budget::new(Config::new(ratio).unwrap().without_floor(), Time::ZERO);
        let (mut earned, mut paid) = (0_u64, 0_u64);
        for success in steps {
            if success {
                budget.deposit(Time::ZERO);
                earned += u64::from(ratio);
            } else {
                paid += u64::from(budget.withdraw(Time::ZERO).is_some()) * WHOLE;
            }
            prop_assert!(paid <= earned);
        }
    }

    #[test]
    fn pays_as_a_list_of_deposits_would(
        ratio in 1_u32..=1_000_000,
        steps in prop::collection::vec((0_u64..4_000, any::<bool>()), 1..300),
    ) {
        let config = Config::new(ratio).unwrap().without_floor();
        let mut budget = Budget::new(config, at(0));
        let (mut deposits, mut millis) = (vec![], 0);
        for (pause, success) in steps {
            millis += pause;
            // A second is the tenth part of the lifetime.
            deposits.retain(|(second, _): &(u64, u64)| millis / 1_000 - second <= 10);
            if success {
                budget.deposit(at(millis));
                let held: u64 = deposits.iter().map(|(_, parts)| parts).sum();
                deposits.push((millis / 1_000, u64::from(ratio).min(100 * WHOLE - held)));
            } else {
                let held: u64 = deposits.iter().map(|(_, parts)| parts).sum();
                prop_assert_eq!(pays(&mut budget, millis), held >= WHOLE);
                let mut missing = if held >= WHOLE { WHOLE } else { 0 };
                for (_, parts) in &mut deposits {
                    let taken = missing.min(*parts);
                    *parts -= taken;
                    missing -= taken;
                }
            }
        }
    }
}
