use std::vec::Vec;

use proptest::prelude::*;

use super::super::{Extent, Mode, Settings, Slow};
use super::*;
use crate::own::Alone;
use crate::time::Span;

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn config(window: Extent, slow: bool, consecutive: bool) -> Config {
    let open = Span::from_millis(500);
    let slow = slow.then_some(Slow { after: Span::from_millis(20), rate_ppm: 600_000 });
    let consecutive = consecutive.then_some(4);
    Config::new(Settings { window, slow, consecutive, min_calls: 5, open, probes: 2, ..Settings::default() })
        .unwrap()
}

/// Those that threads own, and those that they share.
fn stripe(nth: usize) -> Stripe {
    let place = nth / 2;
    if nth.is_multiple_of(2) { Stripe::own(place) } else { Stripe::common(place) }
}

#[test]
fn while_all_is_well_nobody_takes_the_lock() {
    let breaker: Concurrent<Alone<()>> = Concurrent::new(config(Extent::Calls(10), false, false), at(0));
    for call in 0..5 {
        assert!(breaker.front.admit(at(call)).is_none(), "too few calls yet");
        let pass = breaker.admit(at(call)).unwrap();
        breaker.report(at(call), &pass, Outcome::Success);
    }
    for call in 5..1_000 {
        let pass = breaker.front.admit(at(call)).unwrap();
        assert!(breaker.front.report(stripe(call as usize), at(call), &pass, Outcome::Success));
    }
    let pass = breaker.admit(at(1_000)).unwrap();
    breaker.report(at(1_000), &pass, Outcome::Failure);
    assert!(breaker.front.admit(at(1_000)).is_none(), "a failure came last");
    assert_eq!(breaker.snapshot().failure_rate, 0.1);
}

#[test]
fn a_success_of_an_earlier_epoch_counts_for_nothing() {
    let breaker: Concurrent<Alone<()>> = Concurrent::new(config(Extent::Calls(10), false, false), at(0));
    let call = |now, outcome| breaker.admit(now).map(|pass| breaker.report(now, &pass, outcome)).is_ok();
    (0..10).for_each(|_| assert!(call(at(0), Outcome::Success)));
    let late = breaker.admit(at(0)).unwrap();
    (0..5).for_each(|_| assert!(call(at(0), Outcome::Failure)));
    assert_eq!(breaker.snapshot().mode, Mode::Open);
    (0..2).for_each(|_| assert!(call(at(500), Outcome::Success)));
    breaker.report(at(500), &late, Outcome::Success);
    (0..4).for_each(|_| assert!(call(at(500), Outcome::Success)));
    assert!(breaker.front.admit(at(500)).is_none(), "four calls of this epoch, and not five");
}

#[derive(Clone, Debug)]
enum Op {
    Admit,
    Report { which: usize, outcome: Outcome },
    Broke { begun: u64 },
    Pass(u64),
    Reset,
    Force(Forced),
}

fn op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![
        8 => Just(Outcome::Success),
        3 => Just(Outcome::Failure),
        1 => Just(Outcome::Cancelled),
        1 => Just(Outcome::Superseded),
        1 => Just(Outcome::Ignored),
    ];
    prop_oneof![
        20 => Just(Op::Admit),
        20 => (any::<usize>(), outcome).prop_map(|(which, outcome)| Op::Report { which, outcome }),
        6 => (0..600_u64).prop_map(|begun| Op::Broke { begun }),
        6 => (0..30_u64).prop_map(Op::Pass),
        1 => (0..1_500_u64).prop_map(Op::Pass),
        1 => Just(Op::Reset),
        1 => prop_oneof![Just(Forced::Open), Just(Forced::Closed), Just(Forced::MetricsOnly)].prop_map(Op::Force),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    /// It decides as a breaker does that is told of everything in its turn.
    #[test]
    fn it_decides_as_the_plain_breaker(
        by_time in any::<bool>(),
        slow in any::<bool>(),
        consecutive in any::<bool>(),
        ops in prop::collection::vec(op(), 1..400),
    ) {
        let window = if by_time { Extent::Time(Span::from_millis(400)) } else { Extent::Calls(12) };
        let config = config(window, slow, consecutive);
        let shared: Concurrent<Alone<()>> = Concurrent::new(config, at(0));
        let (mut plain, mut events) = (Breaker::new(config, at(0)), Events::default());
        let (mut now, mut passes) = (at(0), Vec::new());
        for (nth, op) in ops.into_iter().enumerate() {
            match op {
                Op::Admit => match (shared.admit(now), plain.admit(now, &mut events)) {
                    (Ok(one), Ok(two)) => passes.push((one, two)),
                    (Err(one), Err(two)) => prop_assert_eq!(one, two),
                    (one, two) => prop_assert!(false, "{one:?} {two:?}"),
                },
                Op::Report { which, outcome } if !passes.is_empty() => {
                    let (one, two) = passes.swap_remove(which % passes.len());
                    if !shared.front.report(stripe(nth), now, &one, outcome) {
                        shared.report(now, &one, outcome);
                    }
                    plain.report(now, &two, outcome, &mut events);
                }
                Op::Report { .. } => {}
                Op::Broke { begun } => {
                    let begun = Time::from_nanos(now.as_nanos().saturating_sub(begun * 1_000_000));
                    shared.broke(now, begun);
                    plain.broke(now, begun, &mut events);
                }
                Op::Pass(millis) => now += Span::from_millis(millis),
                Op::Reset => {
                    shared.reset(now);
                    plain.reset(now, &mut events);
                }
                Op::Force(how) => {
                    shared.force(now, how);
                    plain.force(now, how, &mut events);
                }
            }
        }
        prop_assert_eq!(shared.snapshot(), plain.snapshot());
        loop {
            let (one, two) = (shared.event(), events.pull());
            prop_assert_eq!(one, two);
            if one.is_none() {
                break;
            }
        }
    }
}
