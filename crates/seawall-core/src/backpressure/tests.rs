use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn with(settings: Settings) -> Backpressure {
    Backpressure::new(Config::new(settings).unwrap(), at(0))
}

/// A callee that was asked so often and accepted so much, at the origin.
fn asked(requests: u64, accepts: u64) -> Backpressure {
    let (mut pressure, mut rng) = (with(Settings::default()), Rng::new(1, 1));
    for request in 0..requests {
        let outcome = if request < accepts { Outcome::Success } else { Outcome::Failure };
        if let Ok(pass) = pressure.admit(at(0), &mut rng) {
            pressure.report(at(0), pass, outcome);
        }
    }
    pressure
}

#[test]
fn the_chance_is_that_of_the_book() {
    for (requests, accepts, k, exact) in [
        (100, 40, 2.0, 0.198_020),
        (100, 50, 2.0, 0.0),
        (100, 100, 2.0, 0.0),
        (0, 0, 2.0, 0.0),
        (100, 0, 2.0, 0.990_099),
        (100, 40, 1.1, 0.554_455),
    ] {
        assert!((chance(requests, accepts, k) - exact).abs() < 1e-6, "{requests} {accepts}");
    }
    let pressure = asked(100, 40);
    assert_eq!((pressure.snapshot().requests, pressure.snapshot().accepts), (100, 40));
    assert!((pressure.snapshot().chance - 0.198_020).abs() < 1e-6);
}

#[test]
fn a_healthy_callee_is_left_alone() {
    let (mut pressure, mut rng) = (with(Settings::default()), Rng::new(1, 1));
    for request in 0..10_000_u64 {
        let pass = pressure.admit(at(request), &mut rng).unwrap();
        let outcome =
            if request % 5 < 2 { Outcome::Overloaded { retry_after: None } } else { Outcome::Success };
        pressure.report(at(request), pass, outcome);
    }
}

#[test]
fn about_k_attempts_are_sent_for_each_that_is_accepted() {
    for k in [1.2, 2.0, 3.0] {
        let (mut pressure, mut rng) = (with(Settings { k, ..Settings::default() }), Rng::new(1, 1));
        let (mut sent, mut accepted) = (0_u32, 0_u32);
        // A thousand a second are wanted, a hundred a second are accepted.
        for request in 0..600_000_u64 {
            let Ok(pass) = pressure.admit(at(request), &mut rng) else { continue };
            let accepts = (u64::from(accepted) + 1) * 10 <= request;
            let outcome = if accepts { Outcome::Success } else { Outcome::Overloaded { retry_after: None } };
            pressure.report(at(request), pass, outcome);
            if request >= 300_000 {
                (sent, accepted) = (sent + 1, accepted + u32::from(accepts));
            } else {
                accepted += u32::from(accepts);
            }
        }
        let accepted = accepted - 30_000;
        let ratio = f64::from(sent) / f64::from(accepted);
        assert!((ratio / k - 1.0).abs() < 0.05, "{k}: {sent} sent, {accepted} accepted");
    }
}

#[test]
fn in_a_total_outage_a_probe_passes_each_second() {
    let (mut pressure, mut rng) = (with(Settings::default()), Rng::new(1, 1));
    // Two wanted a second: nearly all that the cap leaves are probes.
    let mut last = at(0);
    for request in 0..2_000_u64 {
        let now = at(request * 500);
        if let Ok(pass) = pressure.admit(now, &mut rng) {
            pressure.report(now, pass, Outcome::Failure);
            assert!(now.since(last) <= Span::from_secs(1), "nothing passed from {last:?} to {now:?}");
            last = now;
        }
    }
}

#[test]
fn a_refusal_says_when_the_next_attempt_passes_in_any_case() {
    let (mut pressure, mut rng) = (asked(1_000, 0), Rng::new(2, 2));
    while pressure.admit(at(0), &mut rng).is_err() {}
    let refused = (0..).find_map(|_| pressure.admit(at(300), &mut rng).err()).unwrap();
    let passed = pressure.probe;
    assert_eq!((refused.policy, refused.reason), (Policy::Backpressure, Reason::Shed));
    assert_eq!(at(300) + refused.retry_after, passed);
    assert!(pressure.admit(passed, &mut rng).is_ok());
}

#[test]
fn the_chance_is_capped() {
    let (mut pressure, mut rng) = (with(Settings::default()), Rng::new(1, 1));
    let passed = (0..100_000).filter(|_| pressure.admit(at(0), &mut rng).is_ok()).count();
    assert!((9_700..=10_300).contains(&passed), "{passed} of 100 000");
    assert_eq!(pressure.snapshot().chance, 0.9);
}

#[test]
fn what_says_nothing_of_the_callee_is_taken_back() {
    for outcome in [Outcome::Cancelled, Outcome::Superseded, Outcome::Ignored] {
        let (mut pressure, mut rng) = (with(Settings::default()), Rng::new(1, 1));
        let pass = pressure.admit(at(0), &mut rng).unwrap();
        pressure.report(at(10), pass, outcome);
        assert_eq!(pressure.snapshot(), Snapshot::default());
    }
}

#[test]
fn the_window_slides() {
    let (mut pressure, mut rng) = (asked(100, 0), Rng::new(1, 1));
    let _ = pressure.admit(at(120_000), &mut rng);
    assert_eq!(pressure.snapshot().requests, 101);
    let late = pressure.admit(at(130_000), &mut rng).unwrap();
    assert_eq!(pressure.snapshot().requests, 2, "a part of five seconds at most is too much");
    // A result that outlives the window counts nowhere.
    pressure.report(at(1_000_000), late, Outcome::Success);
    assert_eq!((pressure.snapshot().requests, pressure.snapshot().accepts), (0, 0));
}

#[test]
fn settings_have_ranges() {
    let default = Settings::default();
    for (settings, key) in [
        (Settings { k: 0.9, ..default }, "k"),
        (Settings { k: f64::NAN, ..default }, "k"),
        (Settings { window: Span::from_millis(999), ..default }, "window"),
        (Settings { window: Span::from_secs(3_601), ..default }, "window"),
        (Settings { most: 0.91, ..default }, "most"),
        (Settings { most: -0.1, ..default }, "most"),
        (Settings { probe_every: Span::ZERO, ..default }, "probe_every"),
        (Settings { probe_every: Span::from_millis(1_001), ..default }, "probe_every"),
    ] {
        assert_eq!(Config::new(settings).unwrap_err().key, key);
    }
}

#[test]
fn what_passed_before_the_window_changed_counts_in_neither() {
    for outcome in [Outcome::Cancelled, Outcome::Success] {
        let (mut pressure, mut rng) = (with(Settings::default()), Rng::new(1, 0));
        let pass = pressure.admit(at(2), &mut rng).unwrap();
        let window = Span::from_secs(60);
        pressure.configure(Config::new(Settings { window, ..Settings::default() }).unwrap(), at(2));
        pressure.report(at(2), pass, outcome);
        let Snapshot { requests, accepts, .. } = pressure.snapshot();
        assert_eq!((requests, accepts), (0, 0), "{}", outcome.name());
    }
}

proptest! {
    #[test]
    fn counts_are_those_of_the_window(
        steps in prop::collection::vec((0_u64..20_000, 0_usize..4), 1..300), seed: u64,
    ) {
        let (mut pressure, mut rng) = (with(Settings::default()), Rng::new(seed, 0));
        let (mut now, mut wanted) = (at(0), std::vec![]);
        for (pause, kind) in steps {
            now += Span::from_millis(pause);
            let outcome =
                [Outcome::Success, Outcome::Failure, Outcome::TimedOut, Outcome::Superseded][kind];
            match pressure.admit(now, &mut rng) {
                Ok(pass) => {
                    pressure.report(now, pass, outcome);
                    if kind < 3 {
                        wanted.push((now, kind == 0));
                    }
                }
                Err(_) => wanted.push((now, false)),
            }
            let Snapshot { requests, accepts, chance, .. } = pressure.snapshot();
            prop_assert!(accepts <= requests && (0.0..=0.9).contains(&chance));
            let within = |span| wanted.iter().filter(|(at, _)| now.since(*at) <= Span::from_secs(span)).count();
            prop_assert!((within(120)..=within(125)).contains(&(requests as usize)));
        }
    }
}

#[test]
fn in_shadow_nobody_is_refused_and_who_would_be_is_counted() {
    let (mut shadow, mut rng) = (with(Settings::default()), Rng::new(1, 1));
    for request in 0..1_000 {
        let outcome = if request % 10 == 0 { Outcome::Success } else { Outcome::Failure };
        let pass = shadow.admit_in_shadow(at(0), &mut rng);
        shadow.report(at(0), pass, outcome);
    }
    let snapshot = shadow.snapshot();
    assert_eq!((snapshot.requests, snapshot.accepts, snapshot.refused), (1_000, 100, 0));
    // One in ten is accepted: about 1 - 2 * 0.1 of them are too many.
    assert!((700..=900).contains(&snapshot.shadowed), "{snapshot:?}");
    assert!((snapshot.chance - chance(1_000, 100, 2.0)).abs() < 1e-9);
}
