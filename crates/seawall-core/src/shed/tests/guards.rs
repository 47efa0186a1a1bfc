//! The guards over time.

use std::fmt::Write as _;
use std::string::String;

use expect_test::expect;

use super::*;

fn guarded() -> Shed {
    let percent = |percent| Some(Mark::percent(percent).unwrap());
    let guards = Guards {
        cpu: percent(90),
        stall: percent(50),
        memory: percent(80),
        lag: Some(Span::from_millis(100)),
    };
    seasoned(&Tier::ALL, Config { guards, ..Config::default() })
}

fn cpu(cpu: f64) -> Reading {
    Reading { cpu: Some(cpu), ..Reading::default() }
}

/// The shares of the tiers that pass with nothing waiting.
fn passing(shed: &Shed, now: Time) -> [f64; 4] {
    Tier::ALL.map(|tier| {
        let passes = |step: &u32| {
            let request = placed(tier, (f64::from(*step) + 0.5) / 100.0);
            shed.clone().admit(now, &request, &Pressure::default()).is_ok()
        };
        f64::from((0..100).filter(passes).count() as u32) / 100.0
    })
}

#[test]
fn the_share_halves_above_the_mark_stays_between_and_comes_back_below() {
    let mut shed = guarded();
    let mut table = String::new();
    let readings = [0.5, 0.85, 0.95, 0.95, 0.95, 0.85, 0.82, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8];
    for (second, reading) in readings.into_iter().enumerate() {
        let now = at(2_000 + 1_000 * second as u64);
        shed.observe(now, &cpu(reading));
        let share = shed.snapshot(Time::ZERO).guard;
        writeln!(table, "cpu {reading:.2} → share {share:.2}, tiers {:?}", passing(&shed, now)).unwrap();
    }
    expect![[r#"
        cpu 0.50 → share 1.00, tiers [1.0, 1.0, 1.0, 1.0]
        cpu 0.85 → share 1.00, tiers [1.0, 1.0, 1.0, 1.0]
        cpu 0.95 → share 0.50, tiers [1.0, 1.0, 0.0, 0.0]
        cpu 0.95 → share 0.25, tiers [1.0, 0.0, 0.0, 0.0]
        cpu 0.95 → share 0.12, tiers [0.5, 0.0, 0.0, 0.0]
        cpu 0.85 → share 0.12, tiers [0.5, 0.0, 0.0, 0.0]
        cpu 0.82 → share 0.12, tiers [0.5, 0.0, 0.0, 0.0]
        cpu 0.80 → share 0.18, tiers [0.71, 0.0, 0.0, 0.0]
        cpu 0.80 → share 0.25, tiers [1.0, 0.0, 0.0, 0.0]
        cpu 0.80 → share 0.35, tiers [1.0, 0.41, 0.0, 0.0]
        cpu 0.80 → share 0.50, tiers [1.0, 1.0, 0.0, 0.0]
        cpu 0.80 → share 0.71, tiers [1.0, 1.0, 0.83, 0.0]
        cpu 0.80 → share 1.00, tiers [1.0, 1.0, 1.0, 1.0]
    "#]]
    .assert_eq(&table);
}

#[test]
fn each_reading_has_its_mark() {
    let late = |ms| Reading { lag: Some(Span::from_millis(ms)), ..Reading::default() };
    let holds = |reading: Reading| {
        let mut shed = guarded();
        shed.observe(at(2_000), &reading);
        shed.observe(at(3_000), &reading);
        shed.snapshot(Time::ZERO).guard < 1.0
    };
    assert!(!holds(Reading::default()), "what is not known says nothing");
    assert!(!holds(cpu(0.89)) && holds(cpu(0.9)));
    assert!(!holds(Reading { stall: Some(0.49), ..Reading::default() }));
    assert!(holds(Reading { stall: Some(0.5), ..Reading::default() }));
    assert!(!holds(Reading { memory: Some(0.79), ..Reading::default() }));
    assert!(holds(Reading { memory: Some(0.8), ..Reading::default() }));
    assert!(!holds(late(99)) && holds(late(100)));
    assert!(!holds(cpu(f64::NAN)), "nonsense says nothing");
}

#[test]
fn without_marks_no_reading_holds_anything_back() {
    let mut shed = seasoned(&Tier::ALL, Config::default());
    let worst =
        Reading { cpu: Some(1.0), stall: Some(1.0), memory: Some(1.0), lag: Some(Span::from_secs(10)) };
    for second in 2..10 {
        shed.observe(at(1_000 * second), &worst);
    }
    assert_eq!(passing(&shed, at(9_000)), [1.0; 4]);
    assert_eq!(shed.dimmer(at(9_000)), 0.0);
}

#[test]
fn a_driver_that_stopped_sampling_cannot_shed_for_ever() {
    let mut shed = guarded();
    for second in 2..8 {
        shed.observe(at(1_000 * second), &cpu(1.0));
    }
    let [.., least] = passing(&shed, at(7_000));
    assert_eq!(least, 0.0);
    assert_eq!(passing(&shed, at(10_001)), [1.0; 4]);
    shed.observe(at(60_000), &cpu(0.85));
    assert_eq!(shed.snapshot(Time::ZERO).guard, 1.0, "what was held back long ago is forgotten");
}

#[test]
fn the_share_begins_at_what_the_queue_lets_through() {
    let mut shed = guarded();
    shed.observe(at(1_020), &cpu(0.5));
    for step in 0..1_000 {
        let request = placed(Tier::Critical, (step * 619 % 1_000) as f64 / 1_000.0);
        let _ = shed.admit(at(1_020 + step), &request, &standing(14.4, 10.0));
    }
    shed.observe(at(2_020), &cpu(1.0));
    let share = shed.snapshot(Time::ZERO).guard;
    assert!(share < 0.3, "{share}");
}

#[test]
fn while_few_arrive_the_tiers_are_told_apart_all_the_same() {
    let guards = Guards { memory: Some(Mark::percent(80).unwrap()), ..Guards::default() };
    let mut shed = Shed::new(Config { guards, ..Config::default() });
    let full = Reading { memory: Some(0.99), ..Reading::default() };
    for second in 0..3 {
        shed.observe(at(1_000 * second), &full);
    }
    assert_eq!(passing(&shed, at(2_000)), [1.0, 0.0, 0.0, 0.0]);
}
