use super::*;

fn arrivals(seed: u64) -> Vec<Span> {
    let legs = [Leg { rate: 100.0, seconds: 50 }, Leg { rate: 1_000.0, seconds: 50 }];
    Arrivals::new(Rng::new(seed, 0), &legs).collect()
}

#[test]
fn arrivals_keep_the_rate_of_their_leg() {
    let all = arrivals(1);
    let first = all.iter().filter(|&&at| at < Span::from_secs(50)).count() as f64;
    let second = all.len() as f64 - first;
    // Four standard deviations of a Poisson count.
    assert!((first - 5_000.0).abs() < 4.0 * 5_000_f64.sqrt(), "{first}");
    assert!((second - 50_000.0).abs() < 4.0 * 50_000_f64.sqrt(), "{second}");
    assert!(all.is_sorted() && all.last() < Some(&Span::from_secs(100)));
}

#[test]
fn arrivals_depend_on_the_seed_alone() {
    assert_eq!(arrivals(7), arrivals(7));
    assert_ne!(arrivals(7), arrivals(8));
}

#[test]
fn every_end_is_counted_once() {
    let mut counter = Counter::new().unwrap();
    let millis = Duration::from_millis;
    counter.count(End::Answered(Answer::Served), millis(12), millis(1));
    counter.count(End::Answered(Answer::Refused(Hint::RetryAfter)), millis(2), millis(1));
    counter.count(End::Answered(Answer::Refused(Hint::Nothing)), millis(2), millis(1));
    counter.count(End::Late, millis(250), millis(1));
    counter.count(End::Failed("connection refused".to_owned()), millis(1), millis(1));
    let tally = counter.finish();
    assert_eq!(
        (tally.served, tally.refused, tally.with_retry_after, tally.late, tally.failed),
        (1, 2, 1, 1, 1)
    );
    assert_eq!(tally.scheduled, tally.served + tally.refused + tally.late + tally.failed);
    // Refusals are quick; they must not flatter the latency of what was served.
    assert!(tally.p50_ms.is_some_and(|p50| (11.9..12.1).contains(&p50)), "{:?}", tally.p50_ms);
}

#[test]
fn what_comes_after_the_counted_load_is_told_by_the_tenth() {
    let mut counter = Counter::new().unwrap();
    counter.count_after(Duration::from_millis(99), &End::Late);
    counter.count_after(Duration::from_millis(250), &End::Answered(Answer::Served));
    counter.count_after(Duration::from_millis(299), &End::Answered(Answer::Refused(Hint::Nothing)));
    let tenth = |scheduled, served| Tenth { scheduled, served };
    let tally = counter.finish();
    assert_eq!(tally.after, [tenth(1, 0), tenth(0, 0), tenth(2, 1)]);
    assert_eq!(tally.scheduled, 0);
}
