use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::request::{Cohort, Key};
use guard::{Mark, SHARE_LEAST};

fn pressure(delay_ms: u64, least_ms: u64, stands: bool) -> Pressure {
    Pressure {
        delay: Span::from_millis(delay_ms),
        least_delay: Span::from_millis(least_ms),
        stands,
        grows: true,
        ..Pressure::default()
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

/// One worker of 10 ms at nine tenths of what it can do makes 48 wait now and then, by chance.
#[test]
fn the_target_is_as_long_as_twelve_take_to_drain() {
    let slow = |least_ms| Pressure { pace: Span::from_millis(10), ..pressure(least_ms, least_ms, false) };
    assert_eq!(passed(slow(480)), [true; 4]);
    assert_eq!(passed(slow(481)), [true, false, false, false]);
    assert_eq!(passed(Pressure { stands: true, ..slow(119) }), [true, true, false, false]);
    let mut none = Shed::new(Config { target: Span::ZERO, ..Config::default() });
    none.admit(Time::ZERO, &of(Tier::Critical), &Pressure { stands: true, ..slow(1) }).unwrap_err();
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
    assert_eq!(shed.snapshot(Time::ZERO).dropped, [0, 0, 0, 1]);
}

fn at(ms: u64) -> Time {
    Time::ZERO + Span::from_millis(ms)
}

/// A user's request at this place of the cohorts, 0 to 1.
fn placed(tier: Tier, place: f64) -> Request {
    Request { cohort: Some(Cohort((place * 65_535.0) as u16)), ..of(tier) }
}

/// Shedding that has seen `each` of these tiers equally often, over all cohorts, for a second.
fn seasoned(tiers: &[Tier], config: Config) -> Shed {
    let mut shed = Shed::new(config);
    for step in 0..1_000 {
        for tier in tiers {
            let request = placed(*tier, (step * 619 % 1_000) as f64 / 1_000.0);
            shed.admit(at(step), &request, &Pressure::default()).unwrap();
        }
    }
    shed
}

/// The share of the cohorts that passes, in steps of a thousandth.
fn share(shed: &Shed, tier: Tier, pressure: &Pressure) -> f64 {
    let passes = |step: &u32| {
        let request = placed(tier, (f64::from(*step) + 0.5) / 1_000.0);
        shed.clone().admit(at(1_020), &request, pressure).is_ok()
    };
    f64::from((0..1_000).filter(passes).count() as u32) / 1_000.0
}

fn standing(delay_ms: f64, load: f64) -> Pressure {
    let delay = Span::from_secs_f64(delay_ms / 1_000.0);
    Pressure { delay, stands: true, load, ..Pressure::default() }
}

#[test]
fn what_drains_passes_at_the_set_point_and_more_below_it() {
    let shed = seasoned(&[Tier::Critical], Config::default());
    // One tick at the set point of 14.4 ms, before the integral has moved.
    for (delay, load, expected) in [
        (14.4, 2.0, 0.5),
        (14.4, 10.0, 0.1),
        (7.2, 2.0, 0.575),
        (0.0, 2.0, 0.65),
        (28.8, 2.0, 0.35),
        // The first half of what drains passes whatever the delay.
        (200.0, 2.0, 0.25),
        (14.4, 0.9, 1.0),
    ] {
        let got = share(&shed, Tier::Critical, &standing(delay, load));
        assert!((got - expected).abs() < 0.015, "{delay} ms at {load}: {got}, not {expected}");
    }
}

#[test]
fn the_same_users_pass_at_every_service() {
    let config = Config { target: Span::from_millis(50), ..Config::default() };
    let (near, far) = (seasoned(&[Tier::Critical], Config::default()), seasoned(&[Tier::Critical], config));
    for step in (0..49).chain(52..100) {
        let request = placed(Tier::Critical, f64::from(step) / 100.0);
        let near = near.clone().admit(at(1_020), &request, &standing(14.4, 2.0));
        let far = far.clone().admit(at(1_020), &request, &standing(45.0, 2.0));
        assert_eq!(near.is_ok(), far.is_ok(), "cohort {step} %");
        assert_eq!(near.is_ok(), step <= 50, "cohort {step} %");
    }
}

#[test]
fn the_critical_tiers_go_last() {
    let shed = seasoned(&Tier::ALL, Config::default());
    let shares = |delay, load| Tier::ALL.map(|tier| share(&shed, tier, &standing(delay, load)));
    assert_eq!(shares(2.0, 0.95), [1.0; 4]);
    let [first, second, third, fourth] = shares(3.6, 2.0);
    assert!(first == 1.0 && second > 0.98 && third < 0.02 && fourth == 0.0, "half of it drains");
    let [first, second, third, fourth] = shares(14.0, 4.0);
    assert_eq!(first, 1.0, "a quarter drains");
    assert!(second < 0.1, "{second}");
    assert_eq!([third, fourth], [0.0, 0.0]);
}

#[test]
fn the_integral_finds_the_set_point() {
    let mut shed = seasoned(&[Tier::Critical], Config::default());
    let before = share(&shed, Tier::Critical, &standing(10.0, 2.0));
    let request = placed(Tier::Critical, 0.0);
    for step in 0..500 {
        // The queue stays shorter than it may be.
        let _ = shed.admit(at(1_020 + step), &request, &standing(10.0, 2.0));
    }
    assert!(shed.integral > 0.05 && shed.integral < 0.2, "{}", shed.integral);
    assert!(before < 0.56);
    for step in 0..100_000 {
        let _ = shed.admit(at(1_520 + step), &request, &standing(200.0, 2.0));
    }
    assert_eq!(shed.integral, -INTEGRAL_MOST, "it is bounded");
}

#[test]
fn who_finds_a_place_is_not_dropped() {
    let shed = seasoned(&Tier::ALL, Config::default());
    let shares = |pressure| Tier::ALL.map(|tier| share(&shed, tier, &pressure));
    assert!(shares(standing(0.0, 10.0))[3] < 0.01);
    assert_eq!(shares(Pressure { has_room: true, ..standing(0.0, 10.0) }), [1.0; 4]);
}

/// What drains is counted over a second and a half: when capacity comes back, that is wrong for as long.
#[test]
fn a_queue_that_stays_empty_opens_at_once() {
    let mut shed = seasoned(&[Tier::Critical], Config::default());
    let mut now = 1_000;
    let mut stand = |ms: u64, delay: f64| {
        let pressure = standing(delay, 10.0);
        for _ in 0..ms {
            now += 1;
            let _ =
                shed.admit(at(now), &placed(Tier::Critical, (now * 619 % 1_000) as f64 / 1_000.0), &pressure);
        }
        share(&shed, Tier::Critical, &pressure)
    };
    let before = stand(100, 14.4);
    assert!((before - 0.1).abs() < 0.02, "{before}");
    let by_chance = stand(15, 0.0);
    assert!(by_chance < 0.15, "a queue that was empty for a moment opens nothing: {by_chance}");
    let opened = stand(400, 0.0);
    assert!(opened > 0.99, "{opened}");
    let long = stand(1_000, 20.0);
    assert!(long < 0.1, "who waits again closes it: {long}");
}

#[test]
fn a_cohort_changes_by_the_hour() {
    let hour = |hour: u64| Time::ZERO + Span::from_secs(3_600 * hour);
    let (request, given) = (of(Tier::Critical), placed(Tier::Critical, 0.5));
    assert_eq!(request.cohort(hour(7)), request.cohort(hour(7) + Span::from_secs(3_599)));
    assert_ne!(request.cohort(hour(7)), request.cohort(hour(8)));
    assert_eq!(given.cohort(hour(7)), given.cohort(hour(8)), "what the driver gave stays");
}

#[test]
fn the_dimmer_rises_before_anything_is_dropped_and_falls_slowly() {
    let mut shed = seasoned(&[Tier::Critical], Config::default());
    let request = placed(Tier::Critical, 0.99);
    let mut level = |ms: u64, load: f64| {
        shed.admit(at(ms), &request, &Pressure { load, ..Pressure::default() }).unwrap();
        shed.dimmer(at(ms))
    };
    assert_eq!(level(2_000, 0.9), 0.0);
    assert!((level(2_000, 0.995) - 0.5).abs() < 0.01);
    assert_eq!(level(2_000, 1.04), 1.0, "and nothing was dropped");
    assert!((level(4_000, 0.5) - 0.5).abs() < 0.01, "half of it after 2 s");
    assert_eq!(level(20_000, 0.5), 0.0);
}

mod guards;

proptest! {
    #[test]
    fn whatever_is_dropped_was_dimmed_first(
        steps in prop::collection::vec(
            (0_u64..200, 0_usize..4, any::<u16>(), 0_u64..200, 0_u64..200, any::<bool>(), 0.0_f64..20.0, 0_u8..110),
            1..400,
        ),
    ) {
        let mark = Mark::percent(90).unwrap();
        let guards = Guards { cpu: Some(mark), ..Guards::default() };
        let mut shed = Shed::new(Config { guards, ..Config::default() });
        let mut now = Time::ZERO;
        for (gap, tier, cohort, delay, least, stands, load, cpu) in steps {
            now += Span::from_millis(gap);
            let reading = Reading { cpu: Some(f64::from(cpu) / 100.0), ..Reading::default() };
            shed.observe(now, &reading);
            let pressure = Pressure {
                delay: Span::from_millis(delay),
                least_delay: Span::from_millis(least),
                stands,
                load,
                grows: true,
                ..Pressure::default()
            };
            let request = Request { cohort: Some(Cohort(cohort)), ..of(Tier::ALL[tier]) };
            let dropped = shed.admit(now, &request, &pressure).is_err();
            let level = shed.dimmer(now);
            prop_assert!((0.0..=1.0).contains(&level));
            prop_assert!(!dropped || level == 1.0, "dropped at {level}");
            let snapshot = shed.snapshot(now);
            prop_assert!((SHARE_LEAST..=1.0).contains(&snapshot.guard));
        }
    }

    #[test]
    fn whoever_is_more_important_passes_if_another_does(
        delay in 0.0_f64..60.0, load in 0.5_f64..20.0, one in (0_usize..4, any::<u16>()), two in (0_usize..4, any::<u16>()),
    ) {
        let shed = seasoned(&Tier::ALL, Config::default());
        let (one, two) = (one.min(two), one.max(two));
        let passes = |(tier, cohort): (usize, u16)| {
            let request = Request { cohort: Some(Cohort(cohort)), ..of(Tier::ALL[tier]) };
            shed.clone().admit(at(1_020), &request, &standing(delay, load)).is_ok()
        };
        prop_assert!(passes(one) || !passes(two));
    }
}
