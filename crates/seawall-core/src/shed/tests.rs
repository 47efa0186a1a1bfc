use std::vec::Vec;

use super::*;
use crate::request::Key;

fn pressure(delay_ms: u64, least_ms: u64, stands: bool) -> Pressure {
    Pressure {
        delay: Span::from_millis(delay_ms),
        least_delay: Span::from_millis(least_ms),
        stands,
        load: 0.0,
    }
}

fn of(tier: Tier) -> Request {
    Request { tier, ..Request::new(Key(1)) }
}

/// Which tiers pass, most important first.
fn passed(pressure: Pressure) -> Vec<bool> {
    let mut shed = Shed::new(Config::default());
    Tier::ALL.into_iter().map(|tier| shed.admit(Time::ZERO, &of(tier), &pressure).is_ok()).collect()
}

#[test]
fn the_least_important_goes_first() {
    assert_eq!(passed(pressure(4, 0, true)), [true, true, true, true]);
    assert_eq!(passed(pressure(5, 0, true)), [true, true, true, false]);
    assert_eq!(passed(pressure(9, 0, true)), [true, true, false, false]);
    assert_eq!(passed(pressure(17, 0, true)), [true, false, false, false]);
    assert_eq!(passed(pressure(33, 0, true)), [false, false, false, false]);
}

#[test]
fn a_burst_may_queue() {
    assert_eq!(passed(pressure(60, 60, false)), [true; 4]);
}

#[test]
fn nothing_but_the_most_important_outlives_the_hard_drop() {
    assert_eq!(passed(pressure(70, 65, false)), [true, false, false, false]);
}

#[test]
fn an_empty_queue_drops_nothing() {
    assert_eq!(passed(pressure(0, 100, true)), [true; 4]);
}

#[test]
fn a_drop_is_counted_by_tier_and_says_until_when() {
    let mut shed = Shed::new(Config::default());
    let rejection = shed.admit(Time::ZERO, &of(Tier::Sheddable), &pressure(17, 0, true)).unwrap_err();
    assert_eq!((rejection.policy, rejection.reason), (Policy::Shed, Reason::Shed));
    assert_eq!(rejection.retry_after, Span::from_secs(1));
    assert_eq!(shed.snapshot().dropped, [0, 0, 0, 1]);
}
