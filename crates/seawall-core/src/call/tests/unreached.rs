//! Attempts that never came to their hosts.

use super::*;
use crate::hedge::After;

fn three() -> Vec<Arc<Gate<Alone<u64>>>> {
    vec![host(1), host(1), host(1)]
}

#[test]
fn other_hosts_have_what_did_not_reach_one_at_once_and_unpaid() {
    let bench = Bench::new(config(), 1_000).hosts(three()).retries(0).play(
        &[(1, Misses), (2, Misses), (3, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            1 send 2 to host 1 by 1000
            2 send 3 to host 2 by 1000
            3 answered
            holds 1, left 0.1
        "#]],
    );
    assert_eq!([bench.blame(0), bench.blame(1), bench.blame(2)], [1.0, 1.0, 0.0]);
}

#[test]
fn where_no_other_host_is_left_it_waits_and_is_paid_for() {
    let config = Config { attempts: 4, ..config() };
    Bench::new(config, 1_000).retries(1).play(
        &[(1, Misses), (2, Misses), (60, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            1 send 2 to host 1 by 1000
            52 send 3 to host 0 by 1000
            60 answered
            holds 1, left 0.1
        "#]],
    );
    Bench::new(config, 1_000).retries(0).play(
        &[(1, Misses), (2, Misses)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            1 send 2 to host 1 by 1000
            2 answered, stop Budget
            holds 0, left 0.0
        "#]],
    );
    Bench::new(config, 1_000).hosts(vec![host(1)]).retries(0).play(
        &[(1, Misses)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            1 answered, stop Budget
            holds 1, left 0.0
        "#]],
    );
}

#[test]
fn where_the_others_refuse_it_waits_and_is_paid_for_too() {
    let bench = Bench::new(config(), 1_000).retries(1);
    let _held = bench.hosts.gates()[1].admit(at(0), &until(1_000));
    bench.play(
        &[(1, Misses), (60, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            51 send 2 to host 0 by 1000
            60 answered
            holds 2, left 0.1
        "#]],
    );
}

#[test]
fn who_closes_in_peace_is_not_blamed() {
    let mut bench = Bench::new(config(), 1_000).retries(0);
    bench.drain(at(0));
    let parts = parts(&bench.hosts, &bench.shared);
    let (gone, here) = (Lane(1), Lane(2));
    bench.call.on_outcome(at(1), gone, Outcome::Ignored, Repeat::Unreached, &parts, &mut bench.rng);
    let step = bench.call.poll(at(1), &parts, &mut bench.rng);
    assert!(matches!(step, Step::Send(Attempt { lane, host: 1, .. }) if lane == here), "{step:?}");
    bench.call.on_outcome(at(2), here, Outcome::Success, Repeat::Safe, &parts, &mut bench.rng);
    assert_eq!(bench.call.verdict(), Some(&Verdict::Answered { stop: None }));
    assert_eq!(bench.blame(0), 0.0);
}

#[test]
fn it_is_one_of_the_attempts_of_its_call() {
    Bench::new(Config { attempts: 2, ..config() }, 1_000).hosts(three()).play(
        &[(1, Misses), (2, Misses)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            1 send 2 to host 1 by 1000
            2 answered, stop Attempts
            holds 1, left 2.0
        "#]],
    );
    Bench::new(Config { attempts: 1, ..config() }, 1_000).hosts(three()).play(
        &[(1, Misses)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            1 answered, stop Attempts
            holds 1, left 2.0
        "#]],
    );
}

#[test]
fn once_it_has_waited_any_host_may_have_it() {
    Bench::new(Config { attempts: 4, ..config() }, 1_000).play(
        &[(1, Misses), (2, FAILS), (60, OK)],
        expect![[r#"
            0 send 1 to host 0 by 1000
            1 send 2 to host 1 by 1000
            52 send 3 to host 0 by 1000
            60 answered
            holds 1, left 1.1
        "#]],
    );
}

#[test]
fn what_another_attempt_was_told_holds_for_a_hedge_that_came_to_nobody() {
    let hedge = hedge::Config::new(After::Delay(ms(30))).unwrap();
    let mut bench = Bench { shared: hedging(5, Some(hedge)), ..Bench::new(config(), 1_000).hosts(three()) };
    bench.drain(at(0));
    bench.drain(at(30));
    let parts = parts(&bench.hosts, &bench.shared);
    for (lane, repeat) in [(1, Repeat::Unsafe), (2, Repeat::Unreached)] {
        bench.call.on_outcome(at(40), Lane(lane), Outcome::Failure, repeat, &parts, &mut bench.rng);
    }
    assert_eq!(bench.call.verdict(), Some(&Verdict::Answered { stop: Some(Stop::Unsafe) }));
}

#[test]
fn after_the_deadline_no_other_host_has_it() {
    let mut bench = Bench::new(config(), 100).hosts(three());
    bench.drain(at(0));
    bench.take(at(50), Misses);
    assert_eq!(bench.drain(at(100)), None);
    assert_eq!(bench.call.verdict(), Some(&Verdict::Expired));
}

#[test]
fn in_shadow_no_other_host_has_it() {
    let bench = Bench::new(config(), 1_000).hosts(three());
    let stance = Stance::default().with(Policy::Retry, Enforcement::Shadow);
    let parts = Parts { stance, ..parts(&bench.hosts, &bench.shared) };
    let (mut call, mut rng) = (Call::new(config(), until(1_000), Repeat::Safe, at(0)), Rng::new(1, 1));
    let Step::Send(attempt) = call.poll(at(0), &parts, &mut rng) else { panic!("it is sent") };
    call.on_outcome(at(1), attempt.lane, Outcome::Failure, Repeat::Unreached, &parts, &mut rng);
    assert_eq!(call.verdict(), Some(&Verdict::Answered { stop: Some(Stop::Unenforced) }));
}
