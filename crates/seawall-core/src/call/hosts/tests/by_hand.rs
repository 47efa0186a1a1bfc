//! Hosts that are held by hand, and ejection in shadow.

use super::*;
use crate::call::HostForced as Forced;
use crate::enforcement::Enforcement;

fn force(hosts: &Pooled, now: u64, host: usize, how: Forced) -> Option<()> {
    hosts.force(at(now), host, how, &mut Rng::new(4, 4))
}

fn reset(hosts: &Pooled, now: u64, host: usize) -> Option<()> {
    hosts.reset(at(now), host, &mut Rng::new(4, 4))
}

fn forced(hosts: &Pooled, host: usize) -> Option<Forced> {
    hosts.snapshot(at(0)).hosts[host].as_ref().unwrap().forced
}

#[test]
fn who_is_held_out_is_not_called_and_comes_back_by_its_ramp() {
    let hosts = configured(ejecting(), 4);
    let mut rng = Rng::new(1, 1);
    force(&hosts, 0, 1, Forced::Out).unwrap();
    assert_eq!((forced(&hosts, 1), hosts.snapshot(at(0)).usable), (Some(Forced::Out), 3));
    assert_eq!(call(&hosts, 0, 400, &mut rng, well)[1], 0);
    reset(&hosts, 10_000, 1).unwrap();
    assert_eq!((forced(&hosts, 1), share(&hosts, at(10_000), 1)), (None, 0.05));
    let counts = call(&hosts, 10_000, 400, &mut rng, well);
    assert!(counts[1] > 0 && counts[1] < counts[0], "{counts:?}");
    assert_eq!(events(&hosts), ["h1 host_forced", "h1 host_released"]);
    reset(&hosts, 20_000, 1).unwrap();
    assert_eq!(events(&hosts), Vec::<String>::new(), "it was not held");
}

#[test]
fn nobody_who_is_held_out_is_called_even_if_nobody_else_is_left() {
    let hosts = configured(checked(), 4);
    let mut rng = Rng::new(1, 1);
    force(&hosts, 0, 0, Forced::Out).unwrap();
    probe(&hosts, 1_000, 0..4, &mut rng);
    assert!(hosts.snapshot(at(1_000)).panics, "all but the one that is held are unwell");
    let counts = call(&hosts, 1_000, 90, &mut rng, well);
    assert!(counts[0] == 0 && counts[1..].iter().all(|count| *count > 5), "{counts:?}");
    (1..4).for_each(|host| force(&hosts, 2_000, host, Forced::Out).unwrap());
    for avoid in [None, Some(0)] {
        let rejection = pick(&hosts, at(2_000), avoid, &mut rng).unwrap_err();
        assert_eq!((rejection.policy, rejection.reason), (Policy::Balance, Reason::NoHost));
    }
    assert!(!hosts.snapshot(at(2_000)).panics, "there is nobody who could be used");
}

#[test]
fn holding_most_hosts_out_is_no_panic() {
    let hosts = configured(ejecting(), 10);
    let mut rng = Rng::new(1, 1);
    (0..8).for_each(|host| force(&hosts, 0, host, Forced::Out).unwrap());
    let snapshot = hosts.snapshot(at(0));
    assert_eq!((snapshot.usable, snapshot.panics), (2, false));
    let counts = call(&hosts, 0, 100, &mut rng, bad(9..10));
    assert_eq!(counts[..8], [0; 8]);
    assert!(counts[8] > 80, "one of the two that are left may be ejected: {counts:?}");
}

#[test]
fn who_is_held_in_is_neither_ejected_nor_unwell() {
    let hosts = configured(Config { balance: balance::Config::IN_TURN, ..checked() }, 4);
    let mut rng = Rng::new(1, 1);
    force(&hosts, 0, 1, Forced::In).unwrap();
    probe(&hosts, 1_000, 1..2, &mut rng);
    assert_eq!(call(&hosts, 1_000, 100, &mut rng, bad(1..2)), [25; 4]);
    assert_eq!(events(&hosts), ["h1 host_forced", "h1 host_unhealthy"]);
    reset(&hosts, 2_000, 1).unwrap();
    assert_eq!(call(&hosts, 2_000, 100, &mut rng, well)[1], 0, "its checks decide again");
}

#[test]
fn an_ejected_host_that_is_held_in_comes_back_by_its_ramp() {
    let hosts = configured(ejecting(), 4);
    let mut rng = Rng::new(1, 1);
    call(&hosts, 0, 20, &mut rng, bad(1..2));
    force(&hosts, 200, 1, Forced::In).unwrap();
    assert_eq!((share(&hosts, at(200), 1), hosts.snapshot(at(200)).usable), (0.05, 4));
    assert_eq!(events(&hosts), ["h1 host_ejected", "h1 host_forced"]);
    // The time of its ejection changes nothing any more.
    call(&hosts, 60_000, 20, &mut rng, well);
    assert_eq!(events(&hosts), Vec::<String>::new());
}

#[test]
fn an_override_outlives_another_list_and_ends_with_its_host() {
    let hosts = configured(Config::default(), 3);
    force(&hosts, 0, 2, Forced::Out).unwrap();
    let other = replaced(&hosts, at(0), &["h2", "h0"]);
    assert_eq!((forced(&other, 0), forced(&other, 1)), (Some(Forced::Out), None));
    let gone = replaced(&other, at(0), &["h0", "h1"]);
    assert_eq!(force(&other, 0, 0, Forced::In), None, "it is not listed any more");
    let back = replaced(&gone, at(0), &["h0", "h1", "h2"]);
    assert_eq!(forced(&back, 2), None);
}

#[test]
fn a_lone_host_cannot_be_held_and_who_is_left_alone_is_let_go() {
    let alone = configured(Config::default(), 1);
    assert_eq!((force(&alone, 0, 0, Forced::Out), reset(&alone, 0, 0)), (None, None));
    assert_eq!(force(&alone, 0, 7, Forced::Out), None);
    let hosts = configured(Config::default(), 2);
    force(&hosts, 0, 1, Forced::Out).unwrap();
    let left = replaced(&hosts, at(0), &["h1"]);
    assert_eq!(events(&left), ["h1 host_forced", "h1 host_released"]);
    assert_eq!((forced(&left, 0), left.snapshot(at(0)).usable), (None, 1));
}

#[test]
fn a_lone_host_that_is_probed_can_be_held_out() {
    let hosts = configured(checked(), 1);
    let mut rng = Rng::new(1, 1);
    force(&hosts, 0, 0, Forced::Out).unwrap();
    assert_eq!(pick(&hosts, at(0), None, &mut rng).unwrap_err().reason, Reason::NoHost);
    reset(&hosts, 0, 0).unwrap();
    assert_eq!(call(&hosts, 0, 10, &mut rng, well), [10]);
}

fn shadowing(ejection: Enforcement) -> Config {
    Config { ejection, ..ejecting() }
}

#[test]
fn in_shadow_a_failing_host_stays_and_is_counted() {
    let hosts = configured(shadowing(Enforcement::Shadow), 4);
    let mut rng = Rng::new(1, 1);
    assert_eq!(call(&hosts, 0, 400, &mut rng, bad(1..2)), [100; 4]);
    assert_eq!(events(&hosts), Vec::<String>::new());
    let snapshot = hosts.snapshot(at(4_000));
    assert_eq!((snapshot.usable, snapshot.shadowed, snapshot.ejection), (4, 1, Enforcement::Shadow));
    let would_be_out =
        |host: &Option<HostSnapshot>| host.as_ref().unwrap().ejection.unwrap().out_until.is_some();
    assert_eq!(snapshot.hosts.iter().map(would_be_out).collect::<Vec<_>>(), [false, true, false, false]);
    // Its time is over, and it still fails.
    call(&hosts, 6_000, 400, &mut rng, bad(1..2));
    assert_eq!((hosts.snapshot(at(10_000)).shadowed, share(&hosts, at(10_000), 1)), (2, 1.0));
}

#[test]
fn off_nobody_is_ejected_or_counted() {
    let hosts = configured(shadowing(Enforcement::Off), 4);
    let mut rng = Rng::new(1, 1);
    assert_eq!(call(&hosts, 0, 400, &mut rng, bad(1..2)), [100; 4]);
    let snapshot = hosts.snapshot(at(4_000));
    assert_eq!((snapshot.shadowed, snapshot.hosts[1].as_ref().unwrap().ejection), (0, None));
}

#[test]
fn from_shadow_to_enforced_everybody_begins_anew_and_back_comes_by_a_ramp() {
    let mut rng = Rng::new(1, 1);
    let hosts = configured(shadowing(Enforcement::Shadow), 4);
    call(&hosts, 0, 20, &mut rng, bad(1..2));
    let hosts = reconfigured(&hosts, shadowing(Enforcement::Enforced), at(200));
    assert_eq!((hosts.snapshot(at(200)).usable, events(&hosts)), (4, Vec::new()));
    call(&hosts, 200, 20, &mut rng, bad(1..2));
    assert_eq!(events(&hosts), ["h1 host_ejected"]);
    let hosts = reconfigured(&hosts, shadowing(Enforcement::Shadow), at(400));
    assert_eq!((events(&hosts), share(&hosts, at(400), 1)), (vec!["h1 host_returned".into()], 0.05));
}
