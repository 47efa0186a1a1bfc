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

#[test]
fn time_that_says_nothing_of_the_host_is_neither_latency_nor_slow() {
    let slow = breaker::Slow { after: ms(100), rate_ppm: 1 };
    let settings = breaker::Settings {
        slow: Some(slow),
        window: breaker::Extent::Calls(1),
        min_calls: 1,
        ..breaker::Settings::default()
    };
    let settings = gate::Settings {
        breaker: Some(breaker::Config::new(settings).unwrap()),
        ramp: Span::ZERO,
        limit: None,
    };
    for (connecting, opens) in [(0, true), (400, true), (450, false)] {
        #[expect(
            clippy::arc_with_non_send_sync,
            reason = "hosts take their gates in an `Arc`, also on one thread"
        )]
        let gate = Arc::new(Gate::new(settings, Door::default(), at(0)));
        let mut bench = Bench::new(config(), 1_000).hosts(vec![gate.clone()]);
        bench.drain(at(0));
        bench.call.spare(Lane(1), ms(connecting));
        bench.take(at(500), OK);
        let is_open =
            gate.snapshot(at(500)).breaker.is_some_and(|breaker| breaker.mode == breaker::Mode::Open);
        assert_eq!(is_open, opens, "{connecting}");
    }
}
