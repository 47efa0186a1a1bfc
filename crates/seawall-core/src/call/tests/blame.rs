//! Who is blamed for an answer that did not come before the deadline.

use super::*;

/// What one host's breaker thinks after nine calls with deadlines of `millis` that it never
/// answered, when answers are known to take `usual` or nothing is known.
fn blamed(millis: u64, usual: Option<u64>, per_attempt: Option<u64>) -> f64 {
    let (hosts, shared) = (Hosts::new(vec![host(1)]), unpaid());
    if let Some(usual) = usual {
        shared.with(ONE, |shared| (0..50).for_each(|_| shared.succeeded(at(0), ms(usual))));
    }
    let (parts, mut rng) = (parts(&hosts, &shared), Rng::new(1, 1));
    let config = Config { attempts: 1, per_attempt: per_attempt.map(ms), ..config() };
    for _ in 0..9 {
        let mut call = Call::new(config, until(millis), Repeat::Safe, at(0));
        let Step::Send(attempt) = call.poll(at(0), &parts, &mut rng) else { panic!() };
        assert!(matches!(call.poll(attempt.deadline, &parts, &mut rng), Step::Cancel { .. }));
        call.abandon(attempt.deadline, &parts);
    }
    hosts.gates()[0].snapshot(at(0)).breaker.unwrap().failure_rate
}

#[test]
fn deadlines_of_a_millisecond_open_no_breaker() {
    assert_eq!(blamed(1, None, None), 0.0, "nothing is known");
    assert_eq!(blamed(1, Some(5), None), 0.0, "answers take five");
    assert_eq!(blamed(99, None, None), 0.0);
}

#[test]
fn who_had_the_usual_time_is_blamed_however_short_it_is() {
    assert_eq!(blamed(6, Some(5), None), 1.0);
    assert_eq!(blamed(50, Some(5), None), 1.0);
    assert_eq!(blamed(4, Some(5), None), 0.0);
    assert_eq!(blamed(400, Some(500), None), 0.0);
}

#[test]
fn while_nothing_is_known_a_tenth_of_a_second_is_fair() {
    assert_eq!(blamed(100, None, None), 1.0);
    assert_eq!(blamed(2_000, None, None), 1.0);
}

#[test]
fn an_attempt_that_had_all_its_own_time_is_blamed() {
    assert_eq!(blamed(1_000, None, Some(10)), 1.0);
    assert_eq!(blamed(1_000, Some(500), Some(10)), 1.0, "so the config says");
    assert_eq!(blamed(5, Some(500), Some(10)), 0.0, "the deadline came first");
}
