mod pools;

use std::vec::Vec;

use super::*;
use pools::{Host, Play};

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn balance(config: Config, hosts: usize) -> Balance {
    let mut balance = Balance::new(config);
    (0..hosts).for_each(|host| balance.join(host));
    balance
}

/// How often each host is chosen in a thousand picks.
fn chosen(balance: &mut Balance, now: Time, hosts: usize) -> Vec<u32> {
    let mut rng = Rng::new(1, 0);
    let mut counts = std::vec![0; hosts];
    (0..1_000).for_each(|_| counts[balance.pick(now, hosts, Some, &mut rng).unwrap()] += 1);
    counts
}

#[test]
fn each_host_in_turn_also_when_their_number_changes() {
    let mut balance = balance(Config::IN_TURN, 3);
    let mut rng = Rng::new(1, 0);
    let turns = [3, 3, 3, 3, 2, 2, 0, 1].map(|hosts| balance.pick(at(0), hosts, Some, &mut rng));
    assert_eq!(turns, [Some(0), Some(1), Some(2), Some(0), Some(1), Some(0), None, Some(0)]);
}

#[test]
fn of_two_the_one_with_less_in_flight_is_chosen() {
    let mut balance = balance(Config::default(), 2);
    balance.begin(0);
    assert_eq!(chosen(&mut balance, at(0), 2), [0, 1_000]);
    balance.begin(1);
    balance.begin(1);
    assert_eq!(chosen(&mut balance, at(0), 2), [1_000, 0]);
}

#[test]
fn who_is_unusable_is_never_chosen() {
    let mut balance = balance(Config::default(), 64);
    let mut rng = Rng::new(1, 0);
    for alone in 0..64 {
        let only = |host: usize| (host == alone).then_some(host);
        assert_eq!(balance.pick(at(0), 64, only, &mut rng), Some(alone));
    }
    assert_eq!(balance.pick(at(0), 64, |_| None, &mut rng), None);
    assert_eq!(balance.pick(at(0), 0, Some, &mut rng), None);
}

#[test]
fn equal_hosts_get_equal_shares() {
    let counts = chosen(&mut balance(Config::default(), 10), at(0), 10);
    assert!(counts.iter().all(|count| (60..140).contains(count)), "{counts:?}");
}

/// A pool of two in which the second has answered like this, in 10 ms steps, the first in 10 ms each.
fn after(outcome: Outcome, elapsed: Span) -> Balance {
    let mut balance = balance(Config::default(), 2);
    for step in 1..=200 {
        for (host, outcome, elapsed) in [(0, Outcome::Success, ms(10)), (1, outcome, elapsed)] {
            balance.begin(host);
            balance.report(at(step * 10), host, outcome, elapsed);
        }
    }
    balance
}

fn latency(balance: &Balance, now: Time, host: usize) -> f64 {
    balance.snapshot(now, host).latency.unwrap().as_secs_f64() * 1e3
}

#[test]
fn failures_count_as_slow_however_fast_they_come() {
    for failure in [Outcome::Failure, Outcome::TimedOut, Outcome::Overloaded { retry_after: None }] {
        let mut balance = after(failure, ms(1));
        assert!(latency(&balance, at(2_000), 1) > 900.0);
        // It has nothing in flight, its neighbour fifty.
        (0..50).for_each(|_| balance.begin(0));
        assert_eq!(chosen(&mut balance, at(2_000), 2), [1_000, 0], "{failure:?}");
    }
}

#[test]
fn what_was_cut_off_took_at_least_so_long() {
    for outcome in [Outcome::Superseded, Outcome::Cancelled] {
        assert!(latency(&after(outcome, ms(500)), at(2_000), 1) > 400.0);
        let mut short = after(Outcome::Success, ms(10));
        short.begin(1);
        short.report(at(2_000), 1, outcome, ms(1));
        assert_eq!(latency(&short, at(2_000), 1), 10.0);
    }
}

#[test]
fn what_says_nothing_changes_nothing() {
    let balance = after(Outcome::Ignored, ms(1));
    assert_eq!(balance.snapshot(at(2_000), 1), Snapshot { in_flight: 0, latency: None });
}

#[test]
fn a_host_that_is_left_alone_is_forgiven() {
    let balance = after(Outcome::Failure, ms(1));
    let then = |secs: u64| latency(&balance, at(2_000 + secs * 1_000), 1);
    assert!(then(5) > 900.0, "not while its last samples are young");
    assert!(then(15) < 100.0, "{}", then(15));
    assert!((10.0..10.1).contains(&then(60)), "{}", then(60));
}

#[test]
fn a_new_host_at_an_old_place_begins_anew() {
    let mut balance = after(Outcome::Failure, ms(1));
    balance.begin(1);
    balance.join(1);
    assert_eq!(balance.snapshot(at(2_000), 1), Snapshot { in_flight: 0, latency: None });
    balance.undo(1);
    assert_eq!(balance.snapshot(at(2_000), 1).in_flight, 0, "what its predecessor had under way is not its");
}

#[test]
fn another_config_keeps_what_is_known() {
    let mut balance = after(Outcome::Failure, ms(1));
    balance.configure(Config::power_of_two(ms(100)).unwrap());
    assert_eq!(chosen(&mut balance, at(2_000), 2), [1_000, 0]);
    assert_eq!(
        std::string::ToString::to_string(&Config::power_of_two(Span::ZERO).unwrap_err()),
        "`decay` must be longer than zero"
    );
}

/// The second host's share of 20 000 calls of which each begins when the one before has ended, 10 ms apart: the
/// first host answers in about a millisecond, the second in so many times that, each a little earlier or later.
fn share_alone(outcome: Outcome, times: f64) -> f64 {
    let mut balance = balance(Config::default(), 2);
    let (mut rng, mut chance) = (Rng::new(5, 1), Rng::new(5, 2));
    let mut count = 0;
    for call in 0..20_000 {
        let begun = at(call * 10);
        let host = balance.pick(begun, 2, Some, &mut rng).unwrap();
        balance.begin(host);
        let (outcome, times) = if host == 1 { (outcome, times) } else { (Outcome::Success, 1.0) };
        let elapsed = Span::from_micros(950 + chance.below(101)).scaled(times);
        balance.report(begun + elapsed, host, outcome, elapsed);
        count += host;
    }
    count as f64 / 20_000.0
}

#[test]
fn hosts_that_are_nearly_equal_share_calls_that_come_one_at_a_time() {
    for times in [0.95, 1.0, 1.05] {
        let share = share_alone(Outcome::Success, times);
        assert!((0.35..0.65).contains(&share), "{share} at {times}");
    }
}

#[test]
fn a_host_that_is_clearly_slower_gets_less_of_calls_that_come_one_at_a_time() {
    let share = share_alone(Outcome::Success, 2.0);
    assert!(share < 0.1, "{share}");
    let share = share_alone(Outcome::Success, 0.5);
    assert!(share > 0.9, "{share}");
}

#[test]
fn a_host_that_fails_gets_few_of_calls_that_come_one_at_a_time() {
    let share = share_alone(Outcome::Failure, 0.1);
    assert!(share < 0.01, "{share}");
}

#[test]
fn two_choices_reach_the_mean_field() {
    // Mitzenmacher: Σ ρ^(2^i − 2) for i ≥ 1 at ρ = 0.9; one choice is M/M/1.
    let exact: f64 = (1..12).map(|i| 0.9_f64.powi((1 << i) - 2)).sum();
    assert!((exact - 2.614).abs() < 1e-3, "{exact}");
    let play = Play { hosts: std::vec![Host::default(); 300], load: 0.9, blind: true, ..Play::default() };
    let two = play.run(Config::default()).mean();
    assert!((two / exact - 1.0).abs() < 0.02, "{two} instead of {exact}");
}

#[test]
fn knowing_latencies_costs_nothing_among_equals() {
    let play = Play { hosts: std::vec![Host::default(); 300], load: 0.9, ..Play::default() };
    let mean = play.run(Config::default()).mean();
    assert!(mean < 2.75, "{mean}");
}

#[test]
fn a_host_that_fails_fast_attracts_nothing() {
    let mut hosts = std::vec![Host::default(); 10];
    hosts[0].fails = true;
    let outcome = Play { hosts, load: 0.6, jobs: 60_000, ..Play::default() }.run(Config::default());
    let share = outcome.failed as f64 / 60_000.0;
    assert!(share < 0.005, "{share}");
}
