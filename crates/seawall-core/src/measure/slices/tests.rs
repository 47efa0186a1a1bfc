use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

/// What leaves when time passes until then.
fn leaving(slices: &mut Slices<u32, 5>, millis: u64) -> Vec<u32> {
    let mut gone = vec![];
    slices.slide(at(millis), |value| gone.push(value));
    gone.retain(|value| *value > 0);
    gone
}

#[test]
fn a_value_stays_for_the_span_and_at_most_one_part_longer() {
    for written in [0, 99, 100, 250] {
        let mut slices: Slices<u32, 5> = Slices::new(Span::from_millis(400), at(0));
        assert!(leaving(&mut slices, written).is_empty());
        *slices.newest() = 7;
        assert!(leaving(&mut slices, written + 400).is_empty(), "written at {written}");
        assert_eq!(leaving(&mut slices, written + 500), [7], "written at {written}");
    }
}

#[test]
fn a_part_is_found_by_its_number_while_it_lives() {
    let mut slices: Slices<u32, 5> = Slices::new(Span::from_millis(400), at(1_000));
    let number = slices.number();
    *slices.newest() = 3;
    slices.slide(at(1_400), |_| {});
    assert_eq!(slices.at(number), Some(&mut 3));
    assert_eq!(slices.numbers().collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
    assert_eq!(slices.at(15), None);
    slices.slide(at(1_500), |_| {});
    assert_eq!(slices.at(number), None);
}

#[test]
fn time_that_runs_backwards_changes_nothing() {
    let mut slices: Slices<u32, 5> = Slices::new(Span::from_millis(400), at(1_000));
    *slices.newest() = 3;
    assert!(leaving(&mut slices, 0).is_empty());
    assert_eq!(*slices.newest(), 3);
}

proptest! {
    #[test]
    fn nothing_is_lost_and_everything_leaves_in_its_time(
        span in 1_u64..1_000,
        steps in prop::collection::vec((0_u64..300, 1_u32..10), 1..60),
    ) {
        let mut slices: Slices<u32, 5> = Slices::new(Span::from_millis(span), at(0));
        let part = Span::from_millis(span).as_nanos().div_ceil(4);
        let (mut now, mut written, mut held) = (at(0), vec![], 0_u32);
        for (pause, value) in steps {
            now += Span::from_millis(pause);
            slices.slide(now, |gone| held -= gone);
            *slices.newest() += value;
            held += value;
            written.push((now, value));
            let younger = |limit: u64| -> u32 {
                written.iter().filter(|(at, _)| now.since(*at).as_nanos() <= limit).map(|(_, value)| value).sum()
            };
            prop_assert!(held >= younger(4 * part) && held <= younger(5 * part));
        }
        slices.slide(Time::MAX, |gone| held -= gone);
        prop_assert_eq!(held, 0);
    }
}
