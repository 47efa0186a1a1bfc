use std::fmt::Write;
use std::string::String;
use std::vec::Vec;

use expect_test::expect;

use super::*;

fn at(micros: u64) -> Time {
    Time::ZERO + Span::from_micros(micros)
}

/// When it drops, in µs, if one leaves every 1 µs of these spans after this wait in ms.
fn drops(codel: &mut Codel, from: u64, to: u64, waited: u64) -> Vec<u64> {
    (from..to).filter(|now| codel.drops(at(*now), Span::from_millis(waited))).collect()
}

#[test]
fn drops_ever_faster_while_waits_stay_above_the_target() {
    let mut codel = Codel::new(Config::default());
    let times = drops(&mut codel, 0, 400_000, 5);
    // 100 ms above the target, then t + 100/√n ms.
    let since: Vec<u64> = times.iter().map(|time| time - times[0]).collect();
    assert_eq!(times[0], 100_000);
    assert_eq!(since[..5], [0, 100_000, 170_711, 228_446, 278_446]);
}

#[test]
fn a_wait_below_the_target_ends_it_and_a_soon_return_goes_on_where_it_was() {
    let mut codel = Codel::new(Config::default());
    assert_eq!(drops(&mut codel, 0, 400_000, 6).len(), 5);
    assert!(!codel.drops(at(400_000), Span::from_millis(4)));
    let again = drops(&mut codel, 400_001, 600_001, 6);
    // Four more drops followed the first one, so it goes on with 100/√4 ms.
    assert_eq!(again[..2], [500_001, 550_001]);
    assert!(!codel.drops(at(600_001), Span::ZERO));
    let much_later = drops(&mut codel, 9_000_000, 9_300_000, 6);
    assert_eq!(much_later[..2], [9_100_000, 9_200_000]);
}

#[test]
fn waits_below_the_target_are_never_dropped() {
    let mut codel = Codel::new(Config::default());
    assert_eq!(drops(&mut codel, 0, 1_000_000, 4), []);
}

#[test]
fn the_transitions_are_these() {
    let mut table = String::new();
    for (before, waits) in
        [("watching", [6, 6]), ("dropping", [6, 6]), ("watching", [6, 4]), ("dropping", [6, 4])]
    {
        let mut codel = Codel::new(Config::default());
        let start = if before == "dropping" { 100 } else { 0 };
        codel.drops(at(0), Span::from_millis(waits[0]));
        let first = codel.drops(at(start * 1_000), Span::from_millis(waits[0]));
        let second = codel.drops(at((start + 100) * 1_000), Span::from_millis(waits[1]));
        let after = if codel.is_dropping { "dropping" } else { "watching" };
        writeln!(table, "{before}, then {} ms: dropped {first}, {second} -> {after}", waits[1]).unwrap();
    }
    expect![[r#"
        watching, then 6 ms: dropped false, true -> dropping
        dropping, then 6 ms: dropped true, true -> dropping
        watching, then 4 ms: dropped false, false -> watching
        dropping, then 4 ms: dropped true, false -> watching
    "#]]
    .assert_eq(&table);
}

#[test]
fn the_constructor_names_key_value_and_bound() {
    let said = |settings| Config::new(settings).unwrap_err();
    let error = said(Settings { target: Span::ZERO, ..Settings::default() });
    assert_eq!(error, SettingError { key: "target", range: "longer than zero" });
    let error = said(Settings { interval: Span::from_millis(1), ..Settings::default() });
    assert_eq!(error, SettingError { key: "interval", range: "at least `target`" });
}
