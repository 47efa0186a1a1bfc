use super::*;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

#[test]
fn counts_the_last_span_and_forgets_the_rest() {
    let mut flow = Flow::new(at(0));
    (0..100).for_each(|step| flow.add(at(step * 10)));
    assert_eq!(flow.total(at(999)), 100);
    assert_eq!(flow.total(at(1_499)), 100);
    assert_eq!(flow.total(at(1_500)), 90);
    assert_eq!(flow.total(at(2_450)), 0);
    assert_eq!(flow.total(at(1_000_000)), 0);
}

#[test]
fn time_running_backwards_counts_in_the_newest_bucket() {
    let mut flow = Flow::new(at(5_000));
    flow.add(at(0));
    assert_eq!(flow.total(at(5_000)), 1);
}

#[test]
fn a_steady_stream_has_its_rate() {
    let mut flow = Flow::new(at(0));
    (0..3_000).for_each(|step| flow.add(at(step)));
    let rate = flow.per_second(at(2_999));
    assert!((rate - 1_000.0).abs() < 1.0, "{rate}");
}
