use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

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
                budget.deposit();
                break;
            }
            if !budget.withdraw(Time::ZERO) {
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
            budget.deposit();
            paid += u32::from(budget.withdraw(Time::ZERO));
        }
        assert_eq!(paid, percent * 10);
    }
}

#[test]
fn the_floor_is_one_retry_in_ten_seconds() {
    let mut budget = Budget::new(Config::default(), Time::ZERO);
    let paid = (0..100_000).filter(|step| budget.withdraw(Time::ZERO + Span::from_millis(*step))).count();
    assert_eq!(paid, 10);
}

#[test]
fn hours_of_success_pay_for_no_storm() {
    let mut budget = Budget::new(Config::default().without_floor(), Time::ZERO);
    (0..1_000_000).for_each(|_| budget.deposit());
    let paid = (0..1_000).filter(|_| budget.withdraw(Time::ZERO)).count();
    assert_eq!(paid, BALANCE_MAX as usize);
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
                budget.deposit();
                earned += u64::from(ratio);
            } else {
                paid += u64::from(budget.withdraw(Time::ZERO)) * WHOLE;
            }
            prop_assert!(paid <= earned);
        }
    }
}
