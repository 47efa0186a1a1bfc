use super::*;

fn sum(passed: u64, failed: u64, skipped: u64) -> Option<Sum> {
    Some(Sum { passed, failed, skipped })
}

#[test]
fn reads_the_summary_of_cargo_test() {
    let line =
        "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s";
    assert_eq!(summary(line), sum(5, 2, 1));
}

#[test]
fn reads_the_summary_of_nextest() {
    let line = "     Summary [   0.012s] 7 tests run: 4 passed (1 slow), 1 failed, 1 timed out, 1 exec failed, 2 skipped";
    assert_eq!(summary(line), sum(4, 3, 2));
    assert_eq!(summary("     Summary [   0.012s] 1 test run: 1 passed, 0 skipped"), sum(1, 0, 0));
}

#[test]
fn reads_a_coloured_summary() {
    let line = "\x1b[32;1m     Summary\x1b[0m [   0.012s] \x1b[1m3\x1b[0m tests run: \x1b[1m3\x1b[0m \x1b[32;1mpassed\x1b[0m, \x1b[1m0\x1b[0m skipped";
    assert_eq!(summary(line), sum(3, 0, 0));
}

#[test]
fn reads_no_summary_where_there_is_none() {
    assert_eq!(summary("test breaker::opens ... ok"), None);
    assert_eq!(summary("        PASS [   0.004s] xtask suite::tests::reads"), None);
}

#[test]
fn passes_the_output_on_and_adds_up_what_it_says() {
    let output = "running 1 test\ntest result: ok. 1 passed; 0 failed; 0 ignored\nrest\ntest result: ok. 2 passed; 0 failed; 3 ignored\n";
    let mut copy = Vec::new();
    let found = pass_on(output.as_bytes(), &mut copy).unwrap();
    assert_eq!(Some(found), sum(3, 0, 3));
    assert_eq!(copy, output.as_bytes());
}
