use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::balance::Config as Balancing;
use crate::gate::{Alone, Lane, Settings};
use crate::limit::Ceiling;

type Pooled = Hosts<Alone<u64>>;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

/// A host with so many places.
#[expect(clippy::arc_with_non_send_sync, reason = "hosts take their gates in an `Arc`, also on one thread")]
fn member(name: &str, places: u32) -> Member<Alone<u64>> {
    let limit = Some(limit::Config { ceiling: Ceiling::Fixed(places), queue: 0 });
    let settings = Settings { limit, ..Settings::default() };
    Member { name: Arc::from(name), gate: Arc::new(Gate::new(settings, Lane::default(), at(0))) }
}

fn members(names: &[&str]) -> Vec<Member<Alone<u64>>> {
    names.iter().map(|name| member(name, 1_000)).collect()
}

fn hosts(names: &[&str]) -> Pooled {
    Hosts::balanced(Config::default(), members(names))
}

fn pick(
    hosts: &Pooled,
    now: Time,
    avoid: Option<usize>,
    rng: &mut Rng,
) -> Result<(usize, Ticket), Rejection> {
    hosts.pick(now, &Request::new(Key(1)), avoid, rng)
}

fn in_flight(hosts: &Pooled) -> Vec<u32> {
    hosts.snapshot(at(0)).iter().map(|host| host.load.map_or(u32::MAX, |load| load.in_flight)).collect()
}

#[test]
fn a_refusal_by_a_back_gate_tries_every_other_host() {
    let members = (0..20).map(|host| member(&format!("h{host}"), 1));
    let hosts = Hosts::balanced(Config::default(), members.collect());
    let full = hosts.gates().iter().enumerate().filter(|(host, _)| *host != 13);
    let _held: Vec<_> = full.map(|(_, gate)| gate.admit(at(0), &Request::new(Key(1)))).collect();
    let mut rng = Rng::new(1, 1);
    for avoid in [None, Some(13), Some(4)] {
        let (host, ticket) = pick(&hosts, at(0), avoid, &mut rng).unwrap();
        assert_eq!(host, 13);
        assert!(pick(&hosts, at(0), None, &mut rng).is_err(), "full");
        assert_eq!(in_flight(&hosts).iter().sum::<u32>(), 1, "nobody who refused has it");
        hosts.settle(at(1), host, ticket, Outcome::Success, ms(1));
    }
    assert_eq!(in_flight(&hosts), vec![0; 20]);
}

#[test]
fn the_host_to_avoid_is_asked_last() {
    let hosts = hosts(&["a", "b", "c"]);
    let mut rng = Rng::new(1, 1);
    for _ in 0..100 {
        let (host, ticket) = pick(&hosts, at(0), Some(1), &mut rng).unwrap();
        assert_ne!(host, 1);
        hosts.settle(at(0), host, ticket, Outcome::Success, ms(1));
    }
    let alone = self::hosts(&["a"]);
    assert_eq!(pick(&alone, at(0), Some(0), &mut rng).unwrap().0, 0);
}

#[test]
fn what_is_picked_is_counted_until_its_first_report() {
    let hosts = hosts(&["a"]);
    let mut rng = Rng::new(1, 1);
    let (host, mut ticket) = pick(&hosts, at(0), None, &mut rng).unwrap();
    assert_eq!(in_flight(&hosts), [1]);
    hosts.report(at(10), host, &mut ticket, Outcome::Success, ms(10));
    hosts.report(at(20), host, &mut ticket, Outcome::Failure, ms(20));
    hosts.release(at(30), host, ticket);
    assert_eq!(hosts.snapshot(at(30))[0].load.unwrap().latency, Some(ms(10)));
    let (host, ticket) = pick(&hosts, at(40), None, &mut rng).unwrap();
    hosts.release(at(50), host, ticket);
    assert_eq!(in_flight(&hosts), [0], "never reported is cancelled");
}

#[test]
fn those_that_stay_keep_their_state() {
    let hosts = hosts(&["a", "b", "c"]);
    let mut rng = Rng::new(1, 1);
    let tickets: Vec<_> = (0..30).map(|_| pick(&hosts, at(0), None, &mut rng).unwrap()).collect();
    let before = in_flight(&hosts);
    let after = hosts.replaced(Config::default(), members(&["c", "d", "a"]));
    assert_eq!(in_flight(&after), [before[2], 0, before[0]]);
    assert_eq!(in_flight(&hosts), [before[0], u32::MAX, before[2]], "`b` has gone");
    // What was picked from the old list settles there, also at the host that has gone.
    tickets.into_iter().for_each(|(host, ticket)| {
        hosts.settle(at(10), host, ticket, Outcome::Success, ms(10));
    });
    assert_eq!(in_flight(&after), [0, 0, 0]);
    assert!(hosts.gates().iter().all(|gate| gate.snapshot(at(10)).limit.unwrap().in_flight == 0));
    // One that comes back is another.
    let again = after.replaced(Config::default(), members(&["a", "b"]));
    assert_eq!(again.snapshot(at(10))[1].load.unwrap().latency, None);
    assert_eq!(again.snapshot(at(10))[0].load.unwrap().latency, Some(ms(10)));
}

#[test]
fn an_old_list_goes_on_with_the_hosts_that_stay_and_alone_with_its_own() {
    let old = hosts(&["a", "b"]);
    let mut rng = Rng::new(1, 1);
    let new = old.replaced(Config::default(), members(&["b"]));
    for _ in 0..20 {
        let (host, ticket) = pick(&old, at(0), None, &mut rng).unwrap();
        assert_eq!(host, 1);
        old.settle(at(0), host, ticket, Outcome::Success, ms(1));
    }
    new.replaced(Config { balance: Balancing::IN_TURN }, members(&["x", "y"]));
    let (host, ticket) = pick(&old, at(0), None, &mut rng).unwrap();
    old.settle(at(0), host, ticket, Outcome::Success, ms(1));
}

#[test]
fn without_hosts_there_is_none() {
    let rejection = pick(&hosts(&[]), at(0), None, &mut Rng::new(1, 1)).unwrap_err();
    assert_eq!((rejection.policy, rejection.reason), (Policy::Balance, Reason::NoHost));
}
