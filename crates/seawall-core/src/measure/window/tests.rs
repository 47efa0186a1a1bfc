use std::collections::VecDeque;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const E: Mark = Mark { failed: true, slow: false };
const S: Mark = Mark::FINE;
const SLOW: Mark = Mark { failed: false, slow: true };

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn rate(tally: Tally) -> f64 {
    f64::from(tally.failed) / f64::from(tally.calls) * 100.0
}

#[test]
fn by_count_the_share_is_over_what_it_holds_until_it_is_full() {
    let mut window = Window::new(Extent::Calls(4), at(0));
    let rates: Vec<f64> =
        [E, S, S, S, S].map(|mark| (window.add(at(0), mark), rate(window.tally())).1).to_vec();
    for (got, expected) in rates.into_iter().zip([100.0, 50.0, 100.0 / 3.0, 25.0, 0.0]) {
        assert!((got - expected).abs() < 1e-9, "{got} {expected}");
    }
}

#[test]
fn slow_calls_have_a_share_of_their_own() {
    let mut window = Window::new(Extent::Calls(5), at(0));
    [SLOW, SLOW, S, S, S].into_iter().for_each(|mark| window.add(at(0), mark));
    assert_eq!(window.tally(), Tally { calls: 5, failed: 0, slow: 2 });
}

#[test]
fn by_time_calls_leave_with_their_second() {
    for start in [0, 1_000, 86_400_000] {
        let mut window = Window::new(Extent::Time(Span::from_secs(5)), at(start));
        let mut now = start;
        let steps = [
            (E, 0),
            (S, 100),
            (S, 100),
            (S, 1000),
            (S, 1000),
            (E, 1000),
            (S, 1000),
            (S, 1000),
            (S, 1000),
            (S, 5000),
        ];
        let seen: Vec<(u32, u32)> = steps
            .into_iter()
            .map(|(mark, pause)| {
                now += pause;
                window.add(at(now), mark);
                (window.tally().calls, window.tally().failed)
            })
            .collect();
        let calls = [1, 2, 3, 4, 5, 6, 7, 5, 5, 1];
        let failed = [1, 1, 1, 1, 1, 2, 2, 1, 1, 0];
        assert_eq!(seen, calls.into_iter().zip(failed).collect::<Vec<_>>());
    }
}

#[test]
fn it_says_when_time_alone_changes_it() {
    let mut window = Window::new(Extent::Time(Span::from_secs(5)), at(2_500));
    assert_eq!(window.slides_at(), at(3_000));
    window.add(at(3_999), S);
    assert_eq!(window.slides_at(), at(4_000));
    assert_eq!(Window::new(Extent::Calls(5), at(0)).slides_at(), Time::MAX);
    let short = Window::new(Extent::Time(Span::from_millis(500)), at(0));
    assert_eq!(short.slides_at(), at(50));
}

#[test]
fn years_of_quiet_cost_no_more_than_a_moment() {
    let mut window = Window::new(Extent::Time(Span::from_secs(3_600)), at(0));
    window.add(at(0), E);
    window.add(Time::from_nanos(u64::MAX - 1), S);
    assert_eq!(window.tally(), Tally { calls: 1, failed: 0, slow: 0 });
    window.add(at(0), E);
    assert_eq!(window.tally().calls, 2, "time that runs backwards is the newest part");
}

#[test]
fn it_slides_no_later_than_time_ends() {
    let window = Window::new(Extent::Time(Span::from_nanos(1)), Time::MAX);
    assert_eq!(window.slides_at(), Time::MAX);
}

proptest! {
    #[test]
    fn by_count_it_is_the_last_calls(
        size in 1..40_u32,
        calls in prop::collection::vec((any::<bool>(), any::<bool>(), 0..3_u32), 1..200),
    ) {
        let mut window = Window::new(Extent::Calls(size), at(0));
        let mut model: VecDeque<Mark> = VecDeque::new();
        for (failed, slow, fine) in calls {
            let mark = Mark { failed, slow };
            window.add(at(0), mark);
            window.add_fine(fine);
            model.push_back(mark);
            model.extend((0..fine).map(|_| S));
            while model.len() > size as usize {
                model.pop_front();
            }
            let count = |is: fn(&&Mark) -> bool| model.iter().filter(is).count() as u32;
            let expected =
                Tally { calls: model.len() as u32, failed: count(|mark| mark.failed), slow: count(|mark| mark.slow) };
            prop_assert_eq!(window.tally(), expected);
        }
    }

    #[test]
    fn by_time_it_is_the_calls_of_the_last_parts(
        seconds in 2..20_u64,
        calls in prop::collection::vec((any::<bool>(), 0..4_000_u64), 1..200),
    ) {
        let mut window = Window::new(Extent::Time(Span::from_secs(seconds)), at(0));
        let mut model: Vec<(u64, bool)> = Vec::new();
        let mut now = 0;
        for (failed, pause) in calls {
            now += pause;
            window.add(at(now), Mark { failed, slow: false });
            model.push((now / 1_000, failed));
            model.retain(|(second, _)| second + seconds > now / 1_000);
            let failed = model.iter().filter(|(_, failed)| *failed).count() as u32;
            prop_assert_eq!((window.tally().calls, window.tally().failed), (model.len() as u32, failed));
        }
    }
}

#[test]
fn one_that_fails_after_all_is_the_youngest_or_a_call_more() {
    for extent in [Extent::Calls(4), Extent::Time(Span::from_secs(5))] {
        let mut window = Window::new(extent, at(0));
        [S, SLOW, E].into_iter().for_each(|mark| window.add(at(0), mark));
        let mut fail = |millis| (window.fail_one(at(millis)), window.tally()).1;
        assert_eq!(fail(0), Tally { calls: 3, failed: 2, slow: 1 });
        assert_eq!(fail(1_500), Tally { calls: 3, failed: 3, slow: 1 }, "it is in an older part");
        assert_eq!(fail(1_500), Tally { calls: 4, failed: 4, slow: 1 });
        assert_eq!(window.tally().calls, 4);
    }
    let mut full = Window::new(Extent::Calls(2), at(0));
    [S, S, E].into_iter().for_each(|mark| full.add(at(0), mark));
    full.fail_one(at(0));
    full.add(at(0), S);
    assert_eq!(full.tally(), Tally { calls: 2, failed: 1, slow: 0 }, "the one that failed after all stays");
}
