mod occ;

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const KINDS: [Kind; 7] =
    [Kind::None, Kind::Fixed, Kind::Exponential, Kind::Equal, Kind::Full, Kind::Decorrelated, Kind::Additive];

fn backoff(kind: Kind, base_ms: u64, cap_ms: u64) -> Backoff {
    Backoff::new(kind, Span::from_millis(base_ms), Span::from_millis(cap_ms)).unwrap()
}

/// The bounds of each kind's range before retry `n`, in ms, with base 5 and cap 100.
fn range(kind: Kind, n: u32, previous: f64) -> (f64, f64) {
    let v = f64::min(100.0, 5.0 * 2_f64.powi(n as i32));
    match kind {
        Kind::None => (0.0, 0.0),
        Kind::Fixed => (5.0, 5.0),
        Kind::Exponential => (v, v),
        Kind::Equal => (v / 2.0, v),
        Kind::Full => (0.0, v),
        Kind::Decorrelated => (5.0, f64::min(100.0, 3.0 * previous.max(5.0))),
        Kind::Additive => (5.0, f64::min(100.0, 5.0 + 3.0 * v)),
    }
}

#[test]
fn every_kind_fills_its_range() {
    for kind in KINDS {
        let backoff = backoff(kind, 5, 100);
        for n in 0..10 {
            let previous = Span::from_millis(7 * u64::from(n));
            let (low, high) = range(kind, n, previous.as_secs_f64() * 1e3);
            let mut rng = Rng::new(7, u64::from(n));
            let draws: Vec<f64> =
                (0..4_000).map(|_| backoff.wait(n, previous, &mut rng).as_secs_f64() * 1e3).collect();
            let (mean, width) = (draws.iter().sum::<f64>() / 4_000.0, high - low);
            assert!(draws.iter().all(|draw| *draw >= low - 1e-6 && *draw <= high + 1e-5), "{kind:?} {n}");
            // The standard error of a uniform mean over 4 000 draws is width / 219.
            assert!((mean - (low + high) / 2.0).abs() <= width / 50.0 + 1e-6, "{kind:?} {n}: {mean}");
        }
    }
}

#[test]
fn spread_survives_at_the_cap() {
    for kind in [Kind::Equal, Kind::Full, Kind::Decorrelated, Kind::Additive] {
        let (backoff, mut rng) = (backoff(kind, 5, 100), Rng::new(3, 3));
        let at_cap = (0..1_000)
            .filter(|_| backoff.wait(60, Span::from_millis(100), &mut rng) >= Span::from_millis(99))
            .count();
        assert!((1..200).contains(&at_cap), "{kind:?}: {at_cap} of 1 000 within 1 % of the cap");
    }
}

#[test]
fn calls_of_one_process_never_share_a_sequence() {
    let backoff = backoff(Kind::Full, 50, 2_000);
    let draw = |call| {
        let mut rng = Rng::new(42, call);
        (0..4).map(|n| backoff.wait(n, Span::ZERO, &mut rng)).collect::<Vec<_>>()
    };
    let mut sequences: Vec<_> = (0..1_000).map(draw).collect();
    sequences.sort();
    sequences.dedup();
    assert_eq!(sequences.len(), 1_000);
    assert_eq!(draw(5), draw(5));
}

#[test]
fn no_wait_leaves_its_bounds() {
    for kind in KINDS {
        let (backoff, mut rng) = (backoff(kind, 5, 100), Rng::new(4, 4));
        for _ in 0..100 {
            let mut previous = Span::ZERO;
            for retries in 0..8 {
                previous = backoff.wait(retries, previous, &mut rng);
                let (least, most) = backoff.bounds(retries);
                assert!((least..=most).contains(&previous), "{kind:?} {retries}");
            }
        }
    }
}

#[test]
fn a_cap_below_the_base_is_refused() {
    assert_eq!(Backoff::new(Kind::Full, Span::from_millis(2), Span::from_millis(1)), Err(CapBelowBase));
}

proptest! {
    #[test]
    fn no_wait_exceeds_the_cap_and_nothing_overflows(
        kind in prop::sample::select(KINDS.to_vec()),
        base in 0_u64..=u64::MAX, extra in any::<u64>(), retries in any::<u32>(),
        previous in any::<u64>(), seed in any::<u64>(),
    ) {
        let cap = Span::from_nanos(base.saturating_add(extra));
        let backoff = Backoff::new(kind, Span::from_nanos(base), cap).unwrap();
        let wait = backoff.wait(retries, Span::from_nanos(previous), &mut Rng::new(seed, 0));
        prop_assert!(wait <= cap);
    }
}
