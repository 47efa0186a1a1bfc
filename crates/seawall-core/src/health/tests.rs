use std::fmt::Write as _;
use std::string::String;
use std::vec::Vec;

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn health(hosts: usize) -> (Health, Rng) {
    let (mut health, mut rng) = (Health::new(Config::default()), Rng::new(1, 1));
    (0..hosts).for_each(|place| health.join(at(0), place, &mut rng));
    (health, rng)
}

/// The one host's next probe, whenever it is due.
fn probe(health: &mut Health, rng: &mut Rng) -> Probe {
    let now = health.wake_at();
    health.due(now, rng).unwrap()
}

/// A host in each state, and how many checks in a row spoke against it.
fn states() -> Vec<(&'static str, &'static [Check])> {
    use Check::{Failed, Passed};
    std::vec![
        ("unknown", &[]),
        ("well", &[Passed]),
        ("well 1", &[Passed, Failed]),
        ("well 2", &[Passed, Failed, Failed]),
        ("unwell", &[Failed]),
        ("unwell 1", &[Failed, Passed]),
    ]
}

#[test]
fn a_check_that_was_not_made_says_nothing_and_the_next_is_due_in_its_turn() {
    for (name, history) in states() {
        let (mut health, mut rng) = health(1);
        for check in history {
            let probe = probe(&mut health, &mut rng);
            health.report(&probe, *check);
        }
        while health.turn().is_some() {}
        let Patient { mode, against, .. } = health.patients[0].unwrap();
        for _ in 0..9 {
            let now = health.wake_at();
            let probe = health.due(now, &mut rng).unwrap();
            health.report(&probe, Check::Unmade);
            assert!(health.wake_at() > now, "{name}");
        }
        let after = health.patients[0].unwrap();
        assert_eq!((after.mode, after.against, health.turn()), (mode, against, None), "{name}");
    }
}

#[test]
fn every_state_meets_every_check() {
    let mut table = String::new();
    for (name, history) in states() {
        for check in [Check::Passed, Check::Failed] {
            let (mut health, mut rng) = health(1);
            for check in history {
                let probe = probe(&mut health, &mut rng);
                health.report(&probe, *check);
            }
            while health.turn().is_some() {}
            let probe = probe(&mut health, &mut rng);
            health.report(&probe, check);
            let Patient { mode, against, .. } = health.patients[0].unwrap();
            let turn = match health.turn() {
                Some(Turn::Well { .. }) => ", says well",
                Some(Turn::Unwell { .. }) => ", says unwell",
                None => "",
            };
            writeln!(table, "{name} + {check:?} -> {} {against}{turn}", mode.name()).unwrap();
        }
    }
    expect![[r#"
        unknown + Passed -> well 0
        unknown + Failed -> unwell 0, says unwell
        well + Passed -> well 0
        well + Failed -> well 1
        well 1 + Passed -> well 0
        well 1 + Failed -> well 2
        well 2 + Passed -> well 0
        well 2 + Failed -> unwell 0, says unwell
        unwell + Passed -> unwell 1
        unwell + Failed -> unwell 0
        unwell 1 + Passed -> well 0, says well
        unwell 1 + Failed -> unwell 0
    "#]]
    .assert_eq(&table);
}

#[test]
fn hosts_are_not_checked_in_step() {
    let (mut health, mut rng) = health(100);
    let mut times = std::vec![Vec::new(); 100];
    while health.wake_at() < at(20_000) {
        let now = health.wake_at();
        let probe = health.due(now, &mut rng).unwrap();
        health.report(&probe, Check::Passed);
        times[probe.place].push(now);
    }
    for times in &times {
        assert!(times[0] < at(2_000));
        for pair in times.windows(2) {
            assert!((1_800..=2_200).contains(&pair[1].since(pair[0]).as_millis()));
        }
    }
    let early = times.iter().filter(|times| times[0] < at(1_000)).count();
    assert!((30..70).contains(&early), "{early} of 100 in the first half");
    let spread: std::collections::BTreeSet<_> = times.iter().map(|times| times[5]).collect();
    assert_eq!(spread.len(), 100);
}

#[test]
fn one_probe_at_a_time_and_a_lost_one_has_failed() {
    let (mut health, mut rng) = health(1);
    let lost = probe(&mut health, &mut rng);
    assert_eq!(health.due(lost.deadline - Span::from_nanos(1), &mut rng), None);
    assert_eq!(health.wake_at(), lost.deadline);
    health.due(lost.deadline, &mut rng);
    assert_eq!(health.turn(), Some(Turn::Unwell { place: 0 }));
    health.report(&lost, Check::Passed);
    assert_eq!(health.patients[0].unwrap().against, 0, "too late to count");
}

#[test]
fn a_probe_of_a_host_that_has_gone_says_nothing_of_its_successor() {
    let (mut health, mut rng) = health(1);
    let old = probe(&mut health, &mut rng);
    health.leave(0);
    health.report(&old, Check::Failed);
    assert_eq!((health.mode(0), health.wake_at()), (None, Time::MAX));
    health.join(at(5_000), 0, &mut rng);
    health.report(&old, Check::Failed);
    assert_eq!(health.mode(0), Some(Mode::Unknown));
    assert!(health.is_well(0), "unknown passes for well");
}

#[test]
fn settings_have_ranges() {
    let bad = [
        (Settings { every: Span::ZERO, ..Settings::default() }, "`every` must be longer than zero"),
        (Settings { within: Span::ZERO, ..Settings::default() }, "`within` must be longer than zero"),
        (Settings { fall: 0, ..Settings::default() }, "`fall` must be 1 to 100"),
        (Settings { rise: 101, ..Settings::default() }, "`rise` must be 1 to 100"),
    ];
    for (settings, message) in bad {
        assert_eq!(std::format!("{}", Config::new(settings).unwrap_err()), message);
    }
    assert_eq!(Config::new(Settings::default()), Ok(Config::default()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Against the rule itself: unwell after `fall` failed in a row, well after `rise` passed.
    #[test]
    fn the_mode_follows_the_rule(fall in 1..5_u32, rise in 1..5_u32, checks in prop::collection::vec(any::<bool>(), 1..60)) {
        let settings = Settings { fall, rise, ..Settings::default() };
        let (mut health, mut rng) = (Health::new(Config::new(settings).unwrap()), Rng::new(1, 1));
        health.join(at(0), 0, &mut rng);
        let mut well = checks[0];
        let ends_with = |seen: &[bool], what: bool, times: u32| {
            seen.len() >= times as usize && seen[seen.len() - times as usize..].iter().all(|check| *check == what)
        };
        for (index, passed) in checks.iter().enumerate() {
            let probe = probe(&mut health, &mut rng);
            health.report(&probe, if *passed { Check::Passed } else { Check::Failed });
            let seen = &checks[..=index];
            if index > 0 {
                well = if well { !ends_with(seen, false, fall) } else { ends_with(seen, true, rise) };
            }
            prop_assert_eq!(health.is_well(0), well);
        }
    }
}
