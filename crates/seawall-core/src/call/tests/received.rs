//! Requests that still come while they are under way already.

use super::*;

/// When the call would be polled next after `now`.
fn wakes(bench: &mut Bench, now: u64) -> Option<Time> {
    bench.drain(at(now))
}

#[test]
fn no_time_for_the_answer_passes_while_the_request_comes() {
    let mut bench = Bench::new(config(), 100);
    assert_eq!(wakes(&mut bench, 0), Some(at(100)));
    for comes in [100, 200, 250] {
        bench.call.received(at(comes));
        assert_eq!(wakes(&mut bench, comes), Some(at(comes + 100)));
    }
    bench.call.received(at(50)); // As it knew.
    assert_eq!(wakes(&mut bench, 349), Some(at(350)));
    assert_eq!(wakes(&mut bench, 350), None);
    assert_eq!(bench.call.verdict(), Some(&Verdict::Expired));
}

#[test]
fn each_attempt_has_its_time_after_the_request_has_come() {
    let config = Config { per_attempt: Some(ms(30)), ..config() };
    let mut bench = Bench::new(config, 100);
    assert_eq!(wakes(&mut bench, 0), Some(at(30)));
    bench.call.received(at(30));
    assert_eq!(wakes(&mut bench, 30), Some(at(60)));
    bench.take(at(40), FAILS);
    assert_eq!(wakes(&mut bench, 40), Some(at(90)));
    assert_eq!(wakes(&mut bench, 90), Some(at(120)), "it began when all had come");
    assert_eq!(wakes(&mut bench, 120), None);
    // The wait for a third would end at 170, and its time at 130.
    assert_eq!(bench.call.verdict(), Some(&Verdict::Answered { stop: Some(Stop::Deadline) }));
}

#[test]
fn what_the_client_gave_is_not_exceeded() {
    let mut bench = Bench::new(config(), 100);
    bench.call.end_by(at(150));
    wakes(&mut bench, 0);
    bench.call.received(at(40));
    assert_eq!(wakes(&mut bench, 100), Some(at(140)));
    bench.call.received(at(140));
    assert_eq!(wakes(&mut bench, 140), Some(at(150)));
    bench.call.end_by(at(0));
    bench.call.received(at(150));
    assert_eq!(wakes(&mut bench, 150), None, "a deadline is never taken back");
}
