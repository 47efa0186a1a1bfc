use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// After these calls: `f` failed, `s` succeeded, `b` is a success that breaks off.
fn after(calls: &str) -> u32 {
    let mut row = Row::default();
    for call in calls.chars() {
        match call {
            'f' => row.fail(),
            's' => row.succeed(1),
            _ => row.break_off(),
        }
    }
    row.failures()
}

/// All calls, of which the youngest success breaks off; failures since the last success.
fn known(calls: &str) -> u32 {
    let mut failed = Vec::new();
    for call in calls.chars() {
        let youngest = failed.iter().rposition(|failed| !failed);
        match (call, youngest) {
            ('s', _) => failed.push(false),
            ('b', Some(youngest)) => failed[youngest] = true,
            _ => failed.push(true),
        }
    }
    failed.iter().rev().take_while(|failed| **failed).count() as u32
}

#[test]
fn what_breaks_off_never_ended_the_row() {
    let all = [("ff", 2), ("ffs", 0), ("ffsb", 3), ("sbsbsb", 3), ("ffssb", 1), ("ffssbb", 4), ("sfsb", 2)];
    for (calls, failures) in all {
        assert_eq!(after(calls), failures, "{calls}");
    }
}

proptest! {
    #[test]
    fn it_is_never_longer_than_with_all_known_at_once(calls in "[fsb]{0,60}") {
        prop_assert!(after(&calls) <= known(&calls));
    }

    #[test]
    fn it_is_as_long_when_each_breaks_off_before_the_next_call(calls in "(f|s|sb){0,60}") {
        prop_assert_eq!(after(&calls), known(&calls));
    }
}
