use std::fmt::Write as _;
use std::string::String;
use std::vec;
use std::vec::Vec;

use expect_test::expect;
use proptest::prelude::*;

use super::*;

fn secs(secs: u64) -> Span {
    Span::from_secs(secs)
}

/// Stale, then a cheaper handler, then a fixed answer.
fn chain() -> Chain {
    Chain::new(vec![Step::Stale(secs(300)), Step::Upstream(0), Step::Static(0)]).unwrap()
}

const FAILED: State = State::Troubled(Trouble::Failed);

#[test]
fn every_state_and_every_age_decides_as_written_here() {
    let kepts = [None, Some(Use::Fresh), Some(Use::Revalidate), Some(Use::IfError), Some(Use::Dead)];
    let states = [
        State::New,
        State::Dimmed,
        FAILED,
        State::Troubled(Trouble::NoAnswer),
        State::Troubled(Trouble::Refused(Reason::Full)),
        State::Troubled(Trouble::Refused(Reason::Throttled)),
    ];
    let mut table = String::new();
    for state in states {
        for kept in kepts {
            // Trouble comes after asking; then each failure of a fallback leads one step further.
            let mut course = Course::default();
            if let State::Troubled(_) = state {
                course.decide(&chain(), None, State::New);
            }
            let mut decision = course.decide(&chain(), kept, state);
            write!(table, "{state:?} {kept:?}: {decision:?}").unwrap();
            for _ in 0..8 {
                if matches!(decision, Decision::Fresh | Decision::Revalidate | Decision::Stand) {
                    break;
                }
                decision = course.decide(&chain(), kept, FAILED);
                write!(table, " → {decision:?}").unwrap();
            }
            table.push('\n');
        }
    }
    expect![[r#"
        New None: Ask → Upstream(0) → Static(0) → Stand
        New Some(Fresh): Fresh
        New Some(Revalidate): Revalidate
        New Some(IfError): Ask → Stale → Upstream(0) → Static(0) → Stand
        New Some(Dead): Ask → Upstream(0) → Static(0) → Stand
        Dimmed None: Upstream(0) → Ask → Static(0) → Stand
        Dimmed Some(Fresh): Fresh
        Dimmed Some(Revalidate): Revalidate
        Dimmed Some(IfError): Stale → Ask → Upstream(0) → Static(0) → Stand
        Dimmed Some(Dead): Upstream(0) → Ask → Static(0) → Stand
        Troubled(Failed) None: Upstream(0) → Static(0) → Stand
        Troubled(Failed) Some(Fresh): Stale → Upstream(0) → Static(0) → Stand
        Troubled(Failed) Some(Revalidate): Stale → Upstream(0) → Static(0) → Stand
        Troubled(Failed) Some(IfError): Stale → Upstream(0) → Static(0) → Stand
        Troubled(Failed) Some(Dead): Upstream(0) → Static(0) → Stand
        Troubled(NoAnswer) None: Upstream(0) → Static(0) → Stand
        Troubled(NoAnswer) Some(Fresh): Stale → Upstream(0) → Static(0) → Stand
        Troubled(NoAnswer) Some(Revalidate): Stale → Upstream(0) → Static(0) → Stand
        Troubled(NoAnswer) Some(IfError): Stale → Upstream(0) → Static(0) → Stand
        Troubled(NoAnswer) Some(Dead): Upstream(0) → Static(0) → Stand
        Troubled(Refused(Full)) None: Upstream(0) → Static(0) → Stand
        Troubled(Refused(Full)) Some(Fresh): Stale → Upstream(0) → Static(0) → Stand
        Troubled(Refused(Full)) Some(Revalidate): Stale → Upstream(0) → Static(0) → Stand
        Troubled(Refused(Full)) Some(IfError): Stale → Upstream(0) → Static(0) → Stand
        Troubled(Refused(Full)) Some(Dead): Upstream(0) → Static(0) → Stand
        Troubled(Refused(Throttled)) None: Stand
        Troubled(Refused(Throttled)) Some(Fresh): Stand
        Troubled(Refused(Throttled)) Some(Revalidate): Stand
        Troubled(Refused(Throttled)) Some(IfError): Stand
        Troubled(Refused(Throttled)) Some(Dead): Stand
    "#]]
    .assert_eq(&table);
}

#[test]
fn dimmed_requests_get_the_cheaper_handler_but_never_a_fixed_answer() {
    let lite = Chain::new(vec![Step::Upstream(3), Step::Static(0)]).unwrap();
    assert_eq!(Course::default().decide(&lite, None, State::Dimmed), Decision::Upstream(3));
    let fixed = Chain::new(vec![Step::Static(0)]).unwrap();
    let mut course = Course::default();
    assert_eq!(course.decide(&fixed, None, State::Dimmed), Decision::Ask);
    assert_eq!(course.decide(&fixed, None, FAILED), Decision::Static(0));
}

#[test]
fn a_broken_cheaper_handler_does_not_turn_dimming_into_an_outage() {
    let mut course = Course::default();
    assert_eq!(course.decide(&chain(), None, State::Dimmed), Decision::Upstream(0));
    assert_eq!(course.decide(&chain(), None, FAILED), Decision::Ask);
    assert_eq!(course.decide(&chain(), None, FAILED), Decision::Static(0));
}

#[test]
fn without_a_chain_the_error_stands() {
    let mut course = Course::default();
    assert_eq!(course.decide(&Chain::default(), Some(Use::IfError), State::New), Decision::Ask);
    assert_eq!(course.decide(&Chain::default(), Some(Use::IfError), FAILED), Decision::Stand);
}

#[test]
fn chains_that_cannot_work_are_refused() {
    let stale = Step::Stale(secs(1));
    let refused = [
        (vec![stale, Step::Upstream(0), stale], ChainError::StaleTwice),
        (vec![Step::Static(0), stale], ChainError::AfterStatic),
        (vec![Step::Upstream(0); STEPS_MAX + 1], ChainError::TooLong),
    ];
    for (steps, error) in refused {
        assert_eq!(Chain::new(steps), Err(error));
    }
    assert!(Chain::new(vec![Step::Upstream(0); STEPS_MAX]).is_ok());
}

#[test]
fn only_four_statuses_are_errors() {
    let errors: Vec<u16> = (100..600).filter(|status| is_error(*status)).collect();
    assert_eq!(errors, [500, 502, 503, 504]);
}

#[test]
fn what_forbids_stale_use_is_dead_when_it_is_no_longer_fresh() {
    let strict = Freshness { fresh: secs(60), stale: Stale::Forbidden };
    assert_eq!(strict.at(secs(59), Span::MAX), Use::Fresh);
    assert_eq!(strict.at(secs(60), Span::MAX), Use::Dead);
}

#[test]
fn the_answers_windows_never_exceed_that_of_the_route() {
    let stale = Stale::Allowed { while_revalidate: secs(30), if_error: Some(secs(86_400)) };
    let freshness = Freshness { fresh: secs(600), stale };
    for (age, window, good_for) in [
        (629, 300, Use::Revalidate),
        (630, 300, Use::IfError),
        (899, 300, Use::IfError),
        (900, 300, Use::Dead),
        (610, 10, Use::Dead),
        (609, 10, Use::Revalidate),
        (600, 0, Use::Dead),
        (87_000, 1_000_000, Use::Dead),
        (86_999, 1_000_000, Use::IfError),
    ] {
        assert_eq!(freshness.at(secs(age), secs(window)), good_for, "{age} {window}");
    }
    let silent = Freshness::for_span(secs(600));
    assert_eq!(silent.at(secs(899), secs(300)), Use::IfError);
}

#[test]
fn the_dimmer_takes_the_same_users_and_adds_to_them() {
    let dimmed = |level| (0..20_000).filter(|user| dims(level, Cohort(*user))).collect::<Vec<u16>>();
    let (some, more) = (dimmed(0.3), dimmed(0.31));
    assert_eq!(some, dimmed(0.3));
    assert!(some.iter().all(|user| more.contains(user)));
    assert!(some.len().abs_diff(6_000) < 300);
    assert!(dimmed(f64::NAN).is_empty());
}

proptest! {
    #[test]
    fn age_only_makes_worse(
        fresh in 0_u64..100, swr in 0_u64..100, sie in proptest::option::of(0_u64..100), window in 0_u64..100,
        age in 0_u64..400, more in 0_u64..100,
    ) {
        let stale = Stale::Allowed { while_revalidate: secs(swr), if_error: sie.map(secs) };
        let freshness = Freshness { fresh: secs(fresh), stale };
        let (now, later) = (secs(age), secs(age + more));
        prop_assert!(freshness.at(now, secs(window)) <= freshness.at(later, secs(window)));
        prop_assert_eq!(freshness.at(now, secs(window)) == Use::Dead, now >= freshness.dead_at(secs(window)));
    }

    #[test]
    fn a_course_ends(kept in proptest::option::of(0_usize..4), dimmed: bool, steps in 0_usize..8) {
        let kept = kept.map(|kept| [Use::Fresh, Use::Revalidate, Use::IfError, Use::Dead][kept]);
        let chain = Chain::new(vec![Step::Upstream(0); steps]).unwrap();
        let mut course = Course::default();
        let mut decision = course.decide(&chain, kept, if dimmed { State::Dimmed } else { State::New });
        for _ in 0..=steps {
            decision = course.decide(&chain, kept, FAILED);
        }
        prop_assert!(matches!(decision, Decision::Stand | Decision::Ask | Decision::Upstream(_)));
        course.decide(&chain, kept, FAILED);
        prop_assert_eq!(course.decide(&chain, kept, FAILED), Decision::Stand);
    }
}
