mod by_hand;
mod storm;

use std::string::String;
use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::gate::{Alone, Lane, Settings};
use crate::limit::Ceiling;
use crate::stripes::Stripe;

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
    let limit = Some(limit::Config { ceiling: Ceiling::Fixed(places), queue: 0, ..limit::Config::default() });
    let settings = Settings { limit, ..Settings::default() };
    Member { name: Arc::from(name), gate: Arc::new(Gate::new(settings, Lane::default(), at(0))) }
}

fn members(names: &[&str]) -> Vec<Member<Alone<u64>>> {
    names.iter().map(|name| member(name, 1_000)).collect()
}

fn hosts(names: &[&str]) -> Pooled {
    Hosts::balanced(Config::default(), members(names), at(0), &mut Rng::new(2, 2))
}

fn pick(
    hosts: &Pooled,
    now: Time,
    avoid: Option<usize>,
    rng: &mut Rng,
) -> Result<(usize, Ticket), Rejection> {
    hosts.pick(now, &Request::new(Key(1)), avoid, rng)
}

fn replaced(hosts: &Pooled, now: Time, names: &[&str]) -> Pooled {
    hosts.replaced(Config::default(), members(names), now, &mut Rng::new(3, 3))
}

fn latency(hosts: &Pooled, host: usize) -> Option<Span> {
    hosts.snapshot(at(30)).hosts[host].as_ref().unwrap().load.latency
}

fn in_flight(hosts: &Pooled) -> Vec<u32> {
    let hosts = hosts.snapshot(at(0)).hosts;
    hosts.iter().map(|host| host.as_ref().map_or(u32::MAX, |host| host.load.in_flight)).collect()
}

#[test]
fn a_refusal_by_a_back_gate_tries_every_other_host() {
    let members = (0..20).map(|host| member(&format!("h{host}"), 1));
    let hosts = Hosts::balanced(Config::default(), members.collect(), at(0), &mut Rng::new(2, 2));
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
    for names in [&["a"][..], &["a", "a"]] {
        counts_until_the_first_report(&hosts(names));
    }
}

fn counts_until_the_first_report(hosts: &Pooled) {
    let mut rng = Rng::new(1, 1);
    let (host, mut ticket) = pick(hosts, at(0), None, &mut rng).unwrap();
    assert_eq!(in_flight(hosts)[0], 1);
    hosts.report(at(10), host, &mut ticket, Outcome::Success, ms(10));
    hosts.report(at(20), host, &mut ticket, Outcome::Failure, ms(20));
    hosts.release(at(30), host, ticket);
    let weighs = hosts.gates().len() > 1;
    assert_eq!(latency(hosts, 0), weighs.then_some(ms(10)), "a lone host is not weighed");
    let (host, ticket) = pick(hosts, at(40), None, &mut rng).unwrap();
    hosts.release(at(50), host, ticket);
    assert_eq!(in_flight(hosts)[0], 0, "never reported is cancelled");
}

#[test]
fn those_that_stay_keep_their_state() {
    let hosts = hosts(&["a", "b", "c"]);
    let mut rng = Rng::new(1, 1);
    let tickets: Vec<_> = (0..30).map(|_| pick(&hosts, at(0), None, &mut rng).unwrap()).collect();
    let before = in_flight(&hosts);
    let after = replaced(&hosts, at(0), &["c", "d", "a"]);
    assert_eq!(in_flight(&after), [before[2], 0, before[0]]);
    assert_eq!(in_flight(&hosts), [before[0], u32::MAX, before[2]], "`b` has gone");
    // What was picked from the old list settles there, also at the host that has gone.
    tickets.into_iter().for_each(|(host, ticket)| {
        hosts.settle(at(10), host, ticket, Outcome::Success, ms(10));
    });
    assert_eq!(in_flight(&after), [0, 0, 0]);
    assert!(hosts.gates().iter().all(|gate| gate.snapshot(at(10)).limit.unwrap().in_flight == 0));
    // One that comes back is another.
    let again = replaced(&after, at(10), &["a", "b"]);
    assert_eq!(latency(&again, 1), None);
    assert_eq!(latency(&again, 0), Some(ms(10)));
}

#[test]
fn an_old_list_goes_on_with_the_hosts_that_stay_and_alone_with_its_own() {
    let old = hosts(&["a", "b"]);
    let mut rng = Rng::new(1, 1);
    let new = replaced(&old, at(0), &["b"]);
    for _ in 0..20 {
        let (host, ticket) = pick(&old, at(0), None, &mut rng).unwrap();
        assert_eq!(host, 1);
        old.settle(at(0), host, ticket, Outcome::Success, ms(1));
    }
    replaced(&new, at(0), &["x", "y"]);
    let (host, ticket) = pick(&old, at(0), None, &mut rng).unwrap();
    old.settle(at(0), host, ticket, Outcome::Success, ms(1));
}

#[test]
fn without_hosts_there_is_none() {
    let rejection = pick(&hosts(&[]), at(0), None, &mut Rng::new(1, 1)).unwrap_err();
    assert_eq!((rejection.policy, rejection.reason), (Policy::Balance, Reason::NoHost));
}

/// Calls so many times, 10 ms apart; `outcome` says how a call to a host goes. Counts the calls to each.
fn call(
    hosts: &Pooled,
    from: u64,
    calls: u64,
    rng: &mut Rng,
    outcome: impl Fn(usize) -> Outcome,
) -> Vec<u32> {
    let mut counts = vec![0; hosts.gates().len()];
    for number in 0..calls {
        let now = at(from + number * 10);
        if let Ok((host, ticket)) = pick(hosts, now, None, rng) {
            counts[host] += 1;
            hosts.settle(now + ms(5), host, ticket, outcome(host), ms(5));
        }
    }
    counts
}

fn well(_: usize) -> Outcome {
    Outcome::Success
}

fn bad(range: core::ops::Range<usize>) -> impl Fn(usize) -> Outcome {
    move |host| if range.contains(&host) { Outcome::Failure } else { Outcome::Success }
}

fn events(hosts: &Pooled) -> Vec<String> {
    core::iter::from_fn(|| hosts.event())
        .map(|happening| {
            format!("{} {}", happening.host.as_deref().unwrap_or("all"), happening.event.change.name())
        })
        .collect()
}

fn share(hosts: &Pooled, now: Time, host: usize) -> f64 {
    hosts.snapshot(now).hosts[host].as_ref().unwrap().share
}

fn names(hosts: usize) -> Vec<String> {
    (0..hosts).map(|host| format!("h{host}")).collect()
}

fn configured(config: Config, count: usize) -> Pooled {
    let members = names(count).iter().map(|name| member(name, 1_000)).collect();
    Hosts::balanced(config, members, at(0), &mut Rng::new(2, 2))
}

/// In turn, so that failing hosts get enough calls to be noticed soon.
fn ejecting() -> Config {
    Config { balance: balance::Config::IN_TURN, ..Config::default() }
}

#[test]
fn a_failing_host_is_left_out_and_comes_back_by_its_ramp() {
    let hosts = configured(ejecting(), 4);
    let mut rng = Rng::new(1, 1);
    call(&hosts, 0, 20, &mut rng, bad(1..2));
    assert_eq!(events(&hosts), ["h1 host_ejected"]);
    let snapshot = hosts.snapshot(at(200));
    assert_eq!((snapshot.usable, snapshot.panics), (3, false));
    assert_eq!(call(&hosts, 200, 400, &mut rng, well)[1], 0);
    // Its five seconds are over: first a twentieth of a quarter, then more, then all.
    let first = call(&hosts, 6_000, 100, &mut rng, well);
    assert_eq!(events(&hosts), ["h1 host_returned"]);
    assert!((1..=4).contains(&first[1]), "{first:?}");
    call(&hosts, 7_000, 1_000, &mut rng, well);
    let last = call(&hosts, 20_000, 400, &mut rng, well);
    assert_eq!((share(&hosts, at(24_000), 1), last), (1.0, vec![100; 4]));
}

#[test]
fn the_ramp_of_one_host_is_not_that_of_another() {
    let hosts = configured(ejecting(), 4);
    let mut rng = Rng::new(1, 1);
    let list = |names: &[&str]| names.iter().map(|name| member(name, 1_000)).collect();
    let five = hosts.replaced(ejecting(), list(&["h0", "h1", "h2", "h3", "new"]), at(0), &mut rng);
    assert_eq!(share(&five, at(0), 4), 0.05);
    call(&five, 0, 400, &mut rng, well);
    let reached = share(&five, at(4_000), 4);
    assert!(reached > 0.3, "{reached}");
    let six = five.replaced(ejecting(), list(&["newer", "new", "h0", "h1", "h2", "h3"]), at(4_000), &mut rng);
    assert_eq!((share(&six, at(4_000), 1), share(&six, at(4_000), 0)), (reached, 0.05));
    assert_eq!(share(&six, at(4_000), 2), 1.0);
}

#[test]
fn a_list_that_is_all_new_starts_whole() {
    let hosts = configured(Config::default(), 4);
    let mut rng = Rng::new(1, 1);
    let list = ["a", "b", "c", "d"].iter().map(|name| member(name, 1_000)).collect();
    let new = hosts.replaced(Config::default(), list, at(0), &mut rng);
    assert_eq!(share(&new, at(0), 0), 1.0, "there is nobody to leave the traffic to");
    // Three of four new: too little would be left for the fourth to take.
    let list = ["a", "x", "y", "z"].iter().map(|name| member(name, 1_000)).collect();
    let new = new.replaced(Config::default(), list, at(0), &mut rng);
    let counts = call(&new, 0, 100, &mut rng, well);
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
}

#[test]
fn a_failing_lone_host_is_never_left_out() {
    let hosts = configured(Config::default(), 1);
    let mut rng = Rng::new(1, 1);
    assert_eq!(call(&hosts, 0, 100, &mut rng, bad(0..1)), [100]);
    assert_eq!(events(&hosts), Vec::<String>::new());
}

#[test]
fn who_is_left_alone_comes_back_at_once() {
    let hosts = configured(ejecting(), 2);
    let mut rng = Rng::new(1, 1);
    call(&hosts, 0, 100, &mut rng, bad(1..2));
    assert_eq!(events(&hosts), ["h1 host_ejected"]);
    let name = names(2)[1].clone();
    let alone = replaced(&hosts, at(1_000), &[&name]);
    assert_eq!(events(&alone), ["h1 host_recalled"]);
    let snapshot = alone.snapshot(at(1_000));
    assert_eq!((snapshot.usable, snapshot.panics), (1, false));
    assert_eq!(share(&alone, at(1_000), 0), 1.0);
    assert_eq!(call(&alone, 1_000, 100, &mut rng, well), [100]);
}

#[test]
fn calls_under_way_at_a_lone_host_are_counted_whatever_becomes_of_the_list() {
    let alone = hosts(&["a"]);
    let mut rng = Rng::new(1, 1);
    let (host, ticket) = pick(&alone, at(0), None, &mut rng).unwrap();
    let (same, both) = (replaced(&alone, at(0), &["a"]), replaced(&alone, at(0), &["b", "a"]));
    assert_eq!((in_flight(&same), in_flight(&both)), (vec![1], vec![0, 1]));
    alone.settle(at(10), host, ticket, Outcome::Success, ms(10));
    assert_eq!((in_flight(&same), in_flight(&both)), (vec![0], vec![0, 0]));
}

#[test]
fn an_end_that_is_heard_of_before_its_beginning_leaves_nothing_under_way() {
    let alone = hosts(&["a"]);
    alone.seats[0].end_alone(Stripe::own(1));
    assert_eq!(in_flight(&alone), vec![0]);
    [0, 2].into_iter().for_each(|other| alone.seats[0].begin_alone(Stripe::own(other)));
    assert_eq!(in_flight(&alone), vec![1]);
}

#[test]
fn at_most_half_are_ejected_and_the_others_stay_as_they_are() {
    let hosts = configured(ejecting(), 10);
    let mut rng = Rng::new(1, 1);
    call(&hosts, 0, 300, &mut rng, bad(0..6));
    let snapshot = hosts.snapshot(at(3_000));
    assert_eq!((snapshot.usable, snapshot.panics), (5, false));
    assert!(snapshot.spared > 0);
}

fn checked() -> Config {
    let health = health::Settings { every: ms(100), within: ms(50), ..health::Settings::default() };
    Config { health: Some(health::Config::new(health).unwrap()), ..Config::default() }
}

/// Probes all hosts until `until`; those in the range fail.
fn probe(hosts: &Pooled, until: u64, sick: core::ops::Range<usize>, rng: &mut Rng) {
    while hosts.probe_at() < at(until) {
        let now = hosts.probe_at();
        while let Some(probe) = hosts.due(now, rng) {
            let check = if sick.contains(&probe.host) { Check::Failed } else { Check::Passed };
            hosts.probed(now, &probe, check, rng);
        }
    }
}

#[test]
fn an_unwell_host_is_not_called_and_comes_back_by_its_ramp() {
    let hosts = configured(checked(), 3);
    let mut rng = Rng::new(1, 1);
    probe(&hosts, 1_000, 2..3, &mut rng);
    assert_eq!(events(&hosts), ["h2 host_unhealthy"]);
    assert_eq!(call(&hosts, 1_000, 100, &mut rng, well)[2], 0);
    probe(&hosts, 2_500, 0..0, &mut rng);
    assert_eq!((events(&hosts), share(&hosts, at(2_500), 2)), (vec!["h2 host_healthy".into()], 0.05));
}

/// The same hosts with another config.
fn reconfigured(hosts: &Pooled, config: Config, now: Time) -> Pooled {
    let members = names(hosts.gates().len()).iter().map(|name| member(name, 1_000)).collect();
    hosts.replaced(config, members, now, &mut Rng::new(3, 3))
}

#[test]
fn who_was_left_out_by_what_is_turned_off_comes_back_by_its_ramp() {
    let mut rng = Rng::new(1, 1);
    let ejected = configured(ejecting(), 4);
    call(&ejected, 0, 20, &mut rng, bad(1..2));
    let unwell = configured(checked(), 4);
    probe(&unwell, 1_000, 1..2, &mut rng);
    for (hosts, left, back) in
        [(ejected, "h1 host_ejected", "h1 host_returned"), (unwell, "h1 host_unhealthy", "h1 host_healthy")]
    {
        assert_eq!(events(&hosts), [left]);
        let neither = Config { eject: None, health: None, ..Config::default() };
        let hosts = reconfigured(&hosts, neither, at(1_000));
        assert_eq!(events(&hosts), [back]);
        assert_eq!((share(&hosts, at(1_000), 1), share(&hosts, at(1_000), 0)), (0.05, 1.0));
        assert_eq!(hosts.snapshot(at(1_000)).usable, 4);
    }
}

#[test]
fn who_is_out_for_two_reasons_stays_out_when_one_is_turned_off() {
    let mut rng = Rng::new(1, 1);
    let hosts =
        configured(Config { eject: ejecting().eject, balance: balance::Config::IN_TURN, ..checked() }, 4);
    call(&hosts, 0, 20, &mut rng, bad(1..2));
    probe(&hosts, 1_000, 1..2, &mut rng);
    assert_eq!(events(&hosts), ["h1 host_ejected", "h1 host_unhealthy"]);
    let hosts = reconfigured(&hosts, Config { eject: None, ..checked() }, at(1_000));
    assert_eq!((events(&hosts), hosts.snapshot(at(1_000)).usable), (Vec::new(), 3));
}

#[test]
fn when_too_many_are_out_all_are_used_and_it_is_said() {
    let hosts = configured(checked(), 4);
    let mut rng = Rng::new(1, 1);
    probe(&hosts, 1_000, 0..2, &mut rng);
    assert!(!hosts.snapshot(at(1_000)).panics, "half is not more than half");
    events(&hosts);
    probe(&hosts, 2_000, 0..3, &mut rng);
    assert_eq!(events(&hosts), ["h2 host_unhealthy", "all panic_began"]);
    assert_eq!((hosts.snapshot(at(2_000)).usable, hosts.snapshot(at(2_000)).panics), (1, true));
    let counts = call(&hosts, 2_000, 100, &mut rng, well);
    assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
    probe(&hosts, 4_000, 0..2, &mut rng);
    assert_eq!(events(&hosts), ["h2 host_healthy", "all panic_ended"]);
}

#[test]
fn without_panic_no_host_is_left_and_the_refusal_says_until_when() {
    let hosts = configured(Config { panic_ppm: 1_000_000, ..checked() }, 2);
    let mut rng = Rng::new(1, 1);
    probe(&hosts, 1_000, 0..2, &mut rng);
    let rejection = pick(&hosts, at(1_000), None, &mut rng).unwrap_err();
    assert_eq!((rejection.policy, rejection.reason), (Policy::Balance, Reason::NoHost));
    assert!(rejection.retry_after > Span::ZERO && rejection.retry_after < ms(120), "{rejection}");
}

#[test]
fn who_comes_back_behind_its_breaker_has_one_ramp() {
    let breaker = crate::breaker::Settings {
        window: crate::breaker::Extent::Calls(5),
        min_calls: 5,
        ..Default::default()
    };
    let settings = Settings {
        breaker: Some(crate::breaker::Config::new(breaker).unwrap()),
        ramp: Span::from_secs(5),
        ..Settings::default()
    };
    let member = |name: String| {
        #[expect(clippy::arc_with_non_send_sync, reason = "as `member`")]
        let gate = Arc::new(Gate::new(settings, Lane::default(), at(0)));
        Member { name: Arc::from(name), gate }
    };
    let members = names(4).into_iter().map(member).collect();
    let hosts: Pooled = Hosts::balanced(ejecting(), members, at(0), &mut Rng::new(2, 2));
    let mut rng = Rng::new(1, 1);
    call(&hosts, 0, 20, &mut rng, bad(1..2));
    assert_eq!(events(&hosts), ["h1 host_ejected"]);
    call(&hosts, 6_000, 400, &mut rng, well);
    let of_gate = hosts.gates()[1].snapshot(at(10_000)).share;
    assert!(of_gate < 1.0 && share(&hosts, at(10_000), 1) == 1.0, "{of_gate}");
}
