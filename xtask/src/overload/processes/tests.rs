use super::*;

#[test]
fn processor_time_is_found_behind_any_name() {
    let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 31 0 0 20 0 9 0 1000 0 0";
    assert_eq!(ticks(stat), Some(281));
    assert_eq!(ticks("42 (cut"), None);
}
