//! Balancing, ejection and slow start.

use std::sync::Arc;

use seawall::Threads;
use seawall::core::balance;
use seawall::core::call::{Hosts, HostsConfig, HostsSnapshot, Member};
use seawall::core::eject;
use seawall::core::event::{Cause, Change};
use seawall::core::gate::{Gate, Lane, Settings};
use seawall::core::health::{self, Check};
use seawall::core::outcome::Outcome;
use seawall::core::request::{Key, Request};
use seawall::core::rng::Rng;
use seawall::core::time::{Span, Time};

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn members(names: &[&str]) -> Vec<Member<Threads>> {
    let gate = || Arc::new(Gate::new(Settings::default(), Lane::default(), at(0)));
    names.iter().map(|name| Member { name: Arc::from(*name), gate: gate() }).collect()
}

/// Hosts asked in turn, so that each gets its share of calls.
fn hosts(count: usize, config: HostsConfig) -> Hosts<Threads> {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    Hosts::balanced(config, members(&names[..count]), at(0), &mut Rng::new(1, 1))
}

fn in_turn() -> HostsConfig {
    HostsConfig { balance: balance::Config::IN_TURN, ..HostsConfig::default() }
}

/// A call each 10 ms that takes 1 ms; `outcome` says how the one of this number at this host goes. Counts
/// the calls to each host.
fn call(hosts: &Hosts<Threads>, from: u64, calls: u64, outcome: impl Fn(usize, u32) -> Outcome) -> Vec<u32> {
    let mut rng = Rng::new(from, 2);
    let mut counts = vec![0; hosts.gates().len()];
    for number in 0..calls {
        let now = at(from + number * 10);
        let (host, ticket) = hosts.pick(now, &Request::new(Key(1)), None, &mut rng).unwrap();
        let outcome = outcome(host, counts[host]);
        counts[host] += 1;
        hosts.settle(now + Span::from_millis(1), host, ticket, outcome, Span::from_millis(1));
    }
    counts
}

fn well(_: usize, _: u32) -> Outcome {
    Outcome::Success
}

fn first_fails(host: usize, _: u32) -> Outcome {
    if host == 0 { Outcome::Failure } else { Outcome::Success }
}

fn changes(hosts: &Hosts<Threads>) -> Vec<Change> {
    std::iter::from_fn(|| hosts.event()).map(|happening| happening.event.change).collect()
}

fn share(snapshot: &HostsSnapshot, host: usize) -> f64 {
    snapshot.hosts[host].as_ref().unwrap().share
}

#[test]
fn fast_failures_attract_no_traffic() {
    let hosts = hosts(10, HostsConfig { eject: None, ..HostsConfig::default() });
    call(&hosts, 0, 1_000, first_fails);
    let counts = call(&hosts, 10_000, 1_000, first_fails);
    assert!(counts[0] <= 5, "{counts:?}");
}

#[test]
fn a_host_that_fails_half_of_its_calls_is_ejected_without_a_run_of_failures() {
    let hosts = hosts(4, in_turn());
    call(&hosts, 0, 200, |host, number| match (host, number % 4) {
        (0, 0..3) => Outcome::Failure,
        _ => Outcome::Success,
    });
    assert_eq!(changes(&hosts), [Change::HostEjected { cause: Cause::FailureRate }]);
}

#[test]
fn the_back_off_of_ejections_decays() {
    let hosts = hosts(4, HostsConfig { slow_start: Span::ZERO, ..in_turn() });
    let strikes = |now| hosts.snapshot(now).hosts[0].as_ref().unwrap().ejection.unwrap().strikes;
    call(&hosts, 0, 40, first_fails);
    assert_eq!(strikes(at(400)), 1);
    call(&hosts, 6_000, 40, first_fails);
    assert_eq!(strikes(at(6_400)), 2);
    // Ten seconds out, then a minute in service: the next ejection is a first one again.
    call(&hosts, 17_000, 6_000, well);
    call(&hosts, 77_000, 100, first_fails);
    assert_eq!(strikes(at(78_000)), 1);
}

#[test]
fn an_ejected_host_does_not_come_back_at_full_traffic() {
    let hosts = hosts(4, in_turn());
    call(&hosts, 0, 40, first_fails);
    let counts = call(&hosts, 6_000, 100, well);
    assert!(counts[0] <= 5, "{counts:?}");
    call(&hosts, 7_000, 1_500, well);
    assert_eq!(call(&hosts, 22_000, 100, well), [25; 4]);
}

#[test]
fn the_cap_on_ejections_holds_for_the_first_host_too() {
    for (count, at_most_ppm) in [(1, 500_000), (4, 200_000), (10, 90_000)] {
        let settings = eject::Settings { at_most_ppm, ..eject::Settings::default() };
        let hosts =
            hosts(count, HostsConfig { eject: Some(eject::Config::new(settings).unwrap()), ..in_turn() });
        call(&hosts, 0, 500, first_fails);
        assert_eq!(changes(&hosts), [], "{count} hosts");
        assert!(count == 1 || hosts.snapshot(at(5_000)).spared > 0, "a lone host is not even judged");
    }
}

#[test]
fn local_rejections_eject_nobody() {
    let hosts = hosts(4, in_turn());
    for outcome in [Outcome::Ignored, Outcome::Superseded, Outcome::Cancelled] {
        call(&hosts, 0, 500, |host, _| if host == 0 { outcome } else { Outcome::Success });
    }
    assert_eq!(changes(&hosts), []);
}

#[test]
fn panic_is_shown() {
    let health = health::Config::new(health::Settings::default()).unwrap();
    let hosts = hosts(3, HostsConfig { health: Some(health), ..in_turn() });
    let mut rng = Rng::new(1, 1);
    while hosts.probe_at() < at(10_000) {
        let now = hosts.probe_at();
        while let Some(probe) = hosts.due(now, &mut rng) {
            let check = if probe.host < 2 { Check::Failed } else { Check::Passed };
            hosts.probed(now, &probe, check, &mut rng);
        }
    }
    let snapshot = hosts.snapshot(at(10_000));
    assert_eq!((snapshot.panics, snapshot.usable), (true, 1));
    assert_eq!(changes(&hosts), [Change::HostUnhealthy, Change::HostUnhealthy, Change::PanicBegan]);
    assert!(call(&hosts, 10_000, 30, well).iter().all(|count| *count == 10), "all are used");
}

#[test]
fn adding_a_host_does_not_end_the_slow_start_of_the_others() {
    let mut rng = Rng::new(1, 1);
    let hosts = hosts(3, in_turn());
    let four = hosts.replaced(in_turn(), members(&["a", "b", "c", "new"]), at(0), &mut rng);
    call(&four, 0, 400, well);
    let reached = share(&four.snapshot(at(4_000)), 3);
    assert!(reached > 0.05 && reached < 1.0, "{reached}");
    let five = four.replaced(in_turn(), members(&["newer", "a", "b", "c", "new"]), at(4_000), &mut rng);
    let snapshot = five.snapshot(at(4_000));
    assert_eq!((share(&snapshot, 4), share(&snapshot, 0), share(&snapshot, 1)), (reached, 0.05, 1.0));
}

/// Many threads pick, settle and replace the list: what is in flight comes back to nothing.
#[test]
fn nothing_is_lost_between_threads() {
    let hosts = Arc::new(hosts(8, HostsConfig::default()));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let hosts = hosts.clone();
            scope.spawn(move || {
                let mut rng = Rng::new(thread, 3);
                for number in 0..5_000_u64 {
                    let now = at(number);
                    let (host, ticket) = hosts.pick(now, &Request::new(Key(1)), None, &mut rng).unwrap();
                    let outcome = if rng.below(10) == 0 { Outcome::Failure } else { Outcome::Success };
                    hosts.settle(now, host, ticket, outcome, Span::from_millis(1));
                    if thread == 0 && number % 500 == 0 {
                        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
                        let shift = rng.below(4) as usize;
                        drop(hosts.replaced(HostsConfig::default(), members(&names[shift..]), now, &mut rng));
                    }
                }
            });
        }
    });
    let snapshot = hosts.snapshot(at(5_000));
    assert!(snapshot.hosts.iter().flatten().all(|host| host.load.in_flight == 0));
}
