//! Several attempts at once: who wins, who goes on, who pays, and what the losers teach.

use super::*;
use crate::backpressure;
use crate::hedge::After;

/// Hedges after 30 ms, up to so many.
fn after_30(most: u32) -> Option<hedge::Config> {
    Some(hedge::Config::new(After::Delay(ms(30))).unwrap().up_to(most).unwrap())
}

/// Two hosts with ten places each, of which a hedge finds few taken.
fn hedged(most: u32) -> Bench {
    let bench = Bench::new(config(), 1_000).hosts(vec![host(10), host(10)]);
    Bench { shared: hedging(2, after_30(most)), ..bench }
}

impl Bench {
    fn hedges(&self) -> hedge::Snapshot {
        self.shared.with(ONE, |shared| shared.snapshot().hedge).unwrap()
    }
}

#[test]
fn a_hedge_that_answers_first_wins_and_the_slow_one_is_given_up() {
    let bench = hedged(1).play(
        &[(40, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            30 send 2 to host 1 by 1000
            40 cancel 1
            40 answered
            holds 1, left 1.1
        "#]],
    );
    assert_eq!((bench.call.attempts(), bench.call.hedges()), (2, 1));
    assert_eq!((bench.hedges().sent, bench.hedges().won), (1, 1));
    assert_eq!([bench.blame(0), bench.blame(1)], [0.0, 0.0], "nobody failed");
}

#[test]
fn the_first_may_still_win() {
    let bench = hedged(1).play(
        &[(40, Late(Outcome::Success))],
        expect![[r#"
            0 send 1 to host 0 by 1000
            30 send 2 to host 1 by 1000
            40 cancel 2
            40 answered
            holds 1, left 1.1
        "#]],
    );
    assert_eq!((bench.hedges().sent, bench.hedges().won), (1, 0));
}

#[test]
fn what_answers_in_time_is_never_hedged() {
    let bench = hedged(1).play(
        &[(29, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            29 answered
            holds 1, left 2.1
        "#]],
    );
    assert_eq!(bench.hedges().sent, 0);
}

#[test]
fn a_failing_hedge_never_kills_a_healthy_primary() {
    for fails in [Outcome::Failure, Outcome::Overloaded { retry_after: Some(ms(500)) }, Outcome::TimedOut] {
        let bench = hedged(1).play(
            &[(40, Says(fails)), (80, Late(Outcome::Success))],
            expect![[r#"
                0 send 1 to host 0 by 1000
                30 send 2 to host 1 by 1000
                80 answered
                holds 1, left 1.1
            "#]],
        );
        let blame = if fails.is_refusal() { 0.0 } else { 1.0 };
        assert_eq!([bench.blame(0), bench.blame(1)], [0.0, blame]);
    }
}

#[test]
fn a_failing_primary_lets_the_hedge_win() {
    let bench = hedged(1).play(
        &[(40, Late(Outcome::Failure)), (80, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            30 send 2 to host 1 by 1000
            80 answered
            holds 1, left 1.1
        "#]],
    );
    assert_eq!([bench.blame(0), bench.blame(1)], [1.0, 0.0]);
}

#[test]
fn a_primary_that_takes_too_long_lets_the_hedge_win() {
    let config = Config { per_attempt: Some(ms(60)), ..config() };
    let bench = Bench { call: Call::new(config, until(1_000), Repeat::Safe, at(0)), ..hedged(1) };
    bench.play(
        &[(80, OK)],
        expect![[r#"
            0 send 1 to host 0 by 60
            30 send 2 to host 1 by 90
            60 cancel 1
            80 answered
            holds 1, left 1.1
        "#]],
    );
}

#[test]
fn when_all_fail_the_next_is_a_retry_and_may_be_hedged_if_hedges_are_left() {
    let bench = hedged(2).retries_and_hedges(3, 2).play(
        &[(40, FAILS), (50, Late(Outcome::Failure)), (140, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            30 send 2 to host 1 by 1000
            100 send 3 to host 0 by 1000
            130 send 4 to host 1 by 1000
            140 cancel 3
            140 answered
            holds 1, left 0.1
        "#]],
    );
    assert_eq!((bench.call.attempts(), bench.call.hedges()), (4, 2));
}

impl Bench {
    fn retries_and_hedges(self, retries: u32, most: u32) -> Bench {
        Bench { shared: hedging(retries, after_30(most)), ..self }
    }
}

#[test]
fn hedges_come_one_after_another_and_have_a_most() {
    hedged(3).retries_and_hedges(10, 3).play(
        &[(200, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            30 send 2 to host 1 by 1000
            60 send 3 to host 0 by 1000
            90 send 4 to host 1 by 1000
            200 cancel 3
            200 cancel 2
            200 cancel 1
            200 answered
            holds 1, left 7.1
        "#]],
    );
}

#[test]
fn what_must_not_be_sent_twice_is_not_hedged() {
    let bench = hedged(1);
    let call = Call::new(config(), until(1_000), Repeat::Unsafe, at(0));
    Bench { call, ..bench }.play(
        &[(80, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            80 answered
            holds 1, left 2.1
        "#]],
    );
}

#[test]
fn a_hedge_that_nobody_pays_for_is_not_sent() {
    let bench = hedged(1).retries_and_hedges(0, 1).play(
        &[(80, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            80 answered
            holds 1, left 0.1
        "#]],
    );
    assert_eq!((bench.hedges().sent, bench.hedges().unpaid), (0, 1));
}

#[test]
fn a_busy_upstream_is_not_hedged_and_nobody_pays() {
    let bench = hedged(1);
    let _held: Vec<Admit> = (0..17).map(|n| bench.hosts.gates()[n % 2].admit(at(0), &until(9_000))).collect();
    let bench = bench.play(
        &[(80, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            80 answered
            holds 18, left 2.1
        "#]],
    );
    assert_eq!((bench.hedges().sent, bench.hedges().overload, bench.hedges().busy), (0, 1, 0.9));
}

#[test]
fn a_gate_in_front_under_pressure_is_not_hedged() {
    #[expect(clippy::arc_with_non_send_sync, reason = "as `host`")]
    let front = {
        let limit = Some(limit::Config { ceiling: Ceiling::Fixed(1), queue: 8, ..limit::Config::default() });
        Arc::new(Gate::<Alone<u64>>::new(
            gate::Settings { limit, ..gate::Settings::default() },
            Door::default(),
            at(0),
        ))
    };
    let mut bench = hedged(1);
    let _held = front.admit(at(0), &until(9_000));
    let parts = Parts { front: Some(&front), ..parts(&bench.hosts, &bench.shared) };
    assert!(matches!(bench.call.poll(at(0), &parts, &mut bench.rng), Step::Send(_)));
    assert!(matches!(bench.call.poll(at(0), &parts, &mut bench.rng), Step::WaitUntil(due) if due == at(30)));
    assert!(
        matches!(bench.call.poll(at(30), &parts, &mut bench.rng), Step::WaitUntil(due) if due == at(1_000))
    );
    assert_eq!(bench.hedges().overload, 1);
}

#[test]
fn when_no_host_takes_a_hedge_it_is_refunded_and_the_first_goes_on() {
    let hedge = hedge::Config::new(After::Delay(ms(30))).unwrap().busy_at_most(1.0).unwrap();
    let bench = Bench { shared: hedging(2, Some(hedge)), ..hedged(1).hosts(vec![host(1)]) };
    let bench = bench.play(
        &[(80, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            80 answered
            holds 1, left 2.1
        "#]],
    );
    assert_eq!((bench.hedges().sent, bench.hedges().refused), (0, 1));
}

#[test]
fn a_callee_that_wants_no_other_attempt_gets_none_from_any_lane() {
    let mut bench = hedged(2).retries_and_hedges(9, 2);
    bench.drain(at(0));
    assert_eq!(bench.drain(at(30)), Some(at(60)));
    bench.take_unwanted(40);
    assert_eq!(bench.drain(at(40)), Some(at(1_000)), "no further hedge");
    bench.play(
        &[(50, Late(Outcome::Failure))],
        expect![[r#"
            0 send 1 to host 0 by 1000
            30 send 2 to host 1 by 1000
            50 answered, stop Unwanted
            holds 1, left 8.0
        "#]],
    );
}

impl Bench {
    /// The latest attempt failed and the callee wants no other.
    fn take_unwanted(&mut self, millis: u64) {
        let lane = Lane(self.call.attempts());
        let parts = parts(&self.hosts, &self.shared);
        self.call.on_outcome(at(millis), lane, Outcome::Failure, Repeat::Unwanted, &parts, &mut self.rng);
    }
}

#[test]
fn a_call_alone_that_is_unwanted_again_says_so() {
    let mut bench = Bench::new(config(), 1_000);
    bench.drain(at(0));
    bench.take_unwanted(10);
    bench.play(
        &[],
        expect![[r#"
            0 send 1 to host 0 by 1000
            0 answered, stop Unwanted
            holds 1, left 2.0
        "#]],
    );
}

#[test]
fn the_deadline_ends_all_attempts() {
    let bench = hedged(1).play(
        &[],
        expect![[r#"
            0 send 1 to host 0 by 1000
            30 send 2 to host 1 by 1000
            1000 cancel 1
            1000 cancel 2
            1000 expired
            holds 0, left 1.0
        "#]],
    );
    assert_eq!([bench.blame(0), bench.blame(1)], [1.0, 1.0]);
}

#[test]
fn abandoned_it_gives_all_places_back() {
    let bench = hedged(1).play(
        &[(50, Abandon)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            30 send 2 to host 1 by 1000
            50 expired
            holds 0, left 1.0
        "#]],
    );
    assert_eq!([bench.blame(0), bench.blame(1)], [0.0, 0.0]);
}

#[test]
fn what_could_not_be_sent_costs_nothing_and_the_first_goes_on() {
    let mut bench = hedged(2);
    bench.drain(at(0));
    bench.drain(at(30));
    let lane = Lane(bench.call.attempts());
    bench.call.on_unsent(at(30), lane, &parts(&bench.hosts, &bench.shared));
    assert_eq!((bench.call.attempts(), bench.call.hedges()), (1, 0));
    assert_eq!(bench.drain(at(30)), Some(at(1_000)), "no further hedge");
    bench.play(
        &[(80, FAILS)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            30 send 2 to host 1 by 1000
            130 send 2 to host 0 by 1000
            1000 cancel 2
            1000 expired
            holds 0, left 1.0
        "#]],
    );
}

#[test]
fn losers_teach_their_latency_as_a_lower_bound() {
    // Twenty calls of 10 ms each, then hedges win against attempts that hang for 50 ms.
    let mut bench = hedged(1).retries_and_hedges(20, 1);
    for number in 0..30 {
        bench.call = Call::new(config(), until(1_000), Repeat::Safe, at(0));
        let (slow, parts) = (number >= 20, parts(&bench.hosts, &bench.shared));
        let Step::Send(first) = bench.call.poll(at(0), &parts, &mut bench.rng) else { panic!() };
        let mut last = (at(10), first.lane);
        if slow {
            bench.call.poll(at(0), &parts, &mut bench.rng);
            let Step::Send(hedge) = bench.call.poll(at(40), &parts, &mut bench.rng) else { panic!() };
            last = (at(50), hedge.lane);
        }
        bench.call.on_outcome(last.0, last.1, Outcome::Success, Repeat::Safe, &parts, &mut bench.rng);
        bench.call.abandon(last.0, &parts);
    }
    // A third of the first attempts took at least 50 ms: so says the 95th percentile.
    let usual = bench.shared.with(ONE, |shared| shared.snapshot().usual).unwrap();
    assert!((ms(49)..=ms(50)).contains(&usual), "{usual}");
}

#[test]
fn backpressure_refuses_before_any_host_is_asked() {
    let pressure = Cells::own(vec![backpressure::Backpressure::new(backpressure::Config::default(), at(0))]);
    let bench = hedged(1).hosts(vec![open_host()]);
    let mut rng = Rng::new(1, 1);
    let mut verdicts = [0_u32; 2];
    for number in 0..1_000 {
        let parts = Parts { backpressure: Some(&pressure), ..parts(&bench.hosts, &bench.shared) };
        let mut call = Call::new(Config { attempts: 1, ..config() }, until(1_000), Repeat::Safe, at(0));
        match call.poll(at(0), &parts, &mut rng) {
            Step::Send(attempt) => {
                verdicts[0] += 1;
                call.on_outcome(at(0), attempt.lane, Outcome::Failure, Repeat::Safe, &parts, &mut rng);
            }
            Step::Finish(Verdict::Rejected(rejection)) => {
                verdicts[1] += 1;
                assert_eq!(rejection.policy, Policy::Backpressure, "call {number}");
            }
            step => panic!("{step:?}"),
        }
        call.abandon(at(0), &parts);
    }
    // The cap leaves one in ten.
    assert!((60..140).contains(&verdicts[0]), "{verdicts:?}");
    let counted = pressure.with(ONE, |pressure| pressure.snapshot());
    assert_eq!((counted.requests, counted.accepts), (1_000, 0));
}

#[test]
fn backpressure_obeys_the_stance_of_its_upstream() {
    for (enforcement, asked) in [(Enforcement::Shadow, 1_000), (Enforcement::Off, 0)] {
        let pressure =
            Cells::own(vec![backpressure::Backpressure::new(backpressure::Config::default(), at(0))]);
        let bench = hedged(1).hosts(vec![open_host()]);
        let stance = Stance::default().with(Policy::Backpressure, enforcement);
        let mut rng = Rng::new(1, 1);
        for number in 0..1_000 {
            let parts = Parts { backpressure: Some(&pressure), stance, ..parts(&bench.hosts, &bench.shared) };
            let mut call = Call::new(Config { attempts: 1, ..config() }, until(1_000), Repeat::Safe, at(0));
            let Step::Send(attempt) = call.poll(at(0), &parts, &mut rng) else { panic!("call {number}") };
            call.on_outcome(at(0), attempt.lane, Outcome::Failure, Repeat::Safe, &parts, &mut rng);
            call.abandon(at(0), &parts);
        }
        let counted = pressure.with(ONE, |pressure| pressure.snapshot());
        assert_eq!((counted.requests, counted.refused), (asked, 0), "{enforcement:?}");
        assert_eq!(counted.shadowed > 800, enforcement == Enforcement::Shadow, "{counted:?}");
    }
}

#[test]
fn retries_in_shadow_or_off_are_not_made_and_those_that_would_be_are_counted() {
    for (enforcement, balance_of, stop, counted) in [
        (Enforcement::Shadow, 3, Stop::Unenforced, 3),
        (Enforcement::Shadow, 0, Stop::Budget, 0),
        (Enforcement::Off, 3, Stop::Unenforced, 0),
    ] {
        let bench = Bench::new(config(), 1_000).hosts(vec![open_host()]).retries(balance_of);
        let stance = Stance::default().with(Policy::Retry, enforcement);
        let parts = Parts { stance, ..parts(&bench.hosts, &bench.shared) };
        let mut rng = Rng::new(1, 1);
        for _ in 0..3 {
            let mut call = Call::new(config(), until(1_000), Repeat::Safe, at(0));
            let Step::Send(attempt) = call.poll(at(0), &parts, &mut rng) else { panic!("the first is sent") };
            call.on_outcome(at(0), attempt.lane, Outcome::Failure, Repeat::Safe, &parts, &mut rng);
            assert_eq!(call.verdict(), Some(&Verdict::Answered { stop: Some(stop) }), "{enforcement:?}");
            call.abandon(at(0), &parts);
        }
        let shared = bench.shared.with(ONE, |shared| shared.snapshot());
        assert_eq!(shared.shadowed, counted, "{enforcement:?}");
        let budget = shared.budget.unwrap();
        assert_eq!(budget.withdrawn - budget.refunded, 0, "nobody pays for what is not sent");
    }
}

#[test]
fn hedges_in_shadow_or_off_are_not_sent_and_those_that_would_be_are_counted() {
    for (enforcement, counted) in [(Enforcement::Shadow, 1), (Enforcement::Off, 0)] {
        let bench = hedged(2);
        let stance = Stance::default().with(Policy::Hedge, enforcement);
        let parts = Parts { stance, ..parts(&bench.hosts, &bench.shared) };
        let (mut call, mut rng) = (bench.call, bench.rng);
        assert!(matches!(call.poll(at(0), &parts, &mut rng), Step::Send(_)));
        for millis in [29, 30, 31, 60, 90] {
            assert!(matches!(call.poll(at(millis), &parts, &mut rng), Step::WaitUntil(_)), "at {millis} ms");
        }
        call.abandon(at(90), &parts);
        let hedges = bench.shared.with(ONE, |shared| shared.snapshot()).hedge.unwrap();
        assert_eq!((hedges.sent, hedges.shadowed), (0, counted), "{enforcement:?}");
    }
}
