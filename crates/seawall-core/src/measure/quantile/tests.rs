use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;

const HOUR: Span = Span::from_secs(3600);

fn at(millis: u64) -> Time {
    Time::ZERO + Span::from_millis(millis)
}

fn histogram(window: u32) -> Histogram {
    Histogram::new(window, HOUR, at(0))
}

fn share(share: f64) -> Quantile {
    Quantile::new(share).unwrap()
}

fn millis(span: Span) -> f64 {
    span.as_secs_f64() * 1e3
}

#[test]
fn a_share_is_between_0_and_1() {
    for wrong in [0.0, -0.5, 1.0, 0.99999, f64::NAN, f64::INFINITY] {
        assert_eq!(Quantile::new(wrong), Err(NoQuantile), "{wrong}");
    }
    assert_eq!(share(0.95), Quantile::P95);
}

#[test]
fn each_bucket_ends_where_the_next_begins() {
    for bucket in 0..OCTAVES * SUB - 1 {
        let (low, high) = (lower_edge(bucket), lower_edge(bucket + 1));
        assert_eq!([low, high - 1].map(|nanos| bucket_of(Span::from_nanos(nanos))), [bucket; 2]);
        assert!((high - low) * SUB as u64 <= low, "{low} to {high}");
    }
    assert_eq!(bucket_of(Span::ZERO), 0);
    assert_eq!(bucket_of(Span::MAX), OCTAVES * SUB - 1);
}

#[test]
fn nothing_is_told_of_too_few_samples() {
    let mut histogram = histogram(1_000);
    for sample in 1..=100 {
        histogram.add(at(0), Span::from_millis(10));
        assert_eq!(histogram.quantile(Quantile::P95).is_some(), sample >= 20, "{sample}");
        assert_eq!(histogram.quantile(share(0.99)).is_some(), sample >= 100, "{sample}");
    }
    // Lower bounds alone say nothing either.
    let mut bounds = Histogram::new(1_000, HOUR, at(0));
    (0..1_000).for_each(|_| bounds.add_censored(at(0), Span::from_millis(10)));
    assert_eq!(bounds.quantile(share(0.5)), None);
}

#[test]
fn who_always_takes_the_same_time_is_never_beyond_the_quantile() {
    let mut histogram = histogram(1_000);
    (0..1_000).for_each(|_| histogram.add(at(0), Span::from_millis(10)));
    let p95 = millis(histogram.quantile(Quantile::P95).unwrap());
    assert!((10.0..10.32).contains(&p95), "{p95}");
}

#[test]
fn losers_count_as_what_they_are_known_to_be() {
    // Exponential with mean 100 ms, and nobody waits longer than a limit that is itself random.
    let (mut all, mut lost, mut wrong) = (histogram(100_000), histogram(100_000), histogram(100_000));
    let mut rng = Rng::new(3, 3);
    for _ in 0..100_000 {
        let (latency, limit) =
            (rng.exponential(Span::from_millis(100)), rng.exponential(Span::from_millis(150)));
        all.add(at(0), latency);
        if latency <= limit {
            lost.add(at(0), latency);
            wrong.add(at(0), latency);
        } else {
            lost.add_censored(at(0), limit);
            wrong.add(at(0), limit);
        }
    }
    for q in [0.5, 0.9, 0.95] {
        let exact = -100.0 * libm::log(1.0 - q);
        let of = |histogram: &Histogram| millis(histogram.quantile(share(q)).unwrap());
        assert!((of(&all) / exact - 1.0).abs() < 0.04, "{q}: {} of {exact}", of(&all));
        assert!((of(&lost) / exact - 1.0).abs() < 0.05, "{q}: {} of {exact}", of(&lost));
        assert!(of(&wrong) < 0.7 * exact, "{q}: counting them as they ended gives {}", of(&wrong));
    }
}

#[test]
fn when_too_many_are_known_only_by_a_bound_the_largest_bound_is_told() {
    let mut histogram = histogram(1_000);
    (0..90).for_each(|_| histogram.add(at(0), Span::from_millis(10)));
    (0..10).for_each(|_| histogram.add_censored(at(0), Span::from_millis(50)));
    let p95 = millis(histogram.quantile(Quantile::P95).unwrap());
    assert!((48.0..=50.0).contains(&p95), "{p95}: never above the bound itself");
}

#[test]
fn it_forgets_by_samples_and_by_time() {
    let mut histogram = Histogram::new(100, Span::from_secs(60), at(0));
    (0..200).for_each(|_| histogram.add(at(0), Span::from_millis(100)));
    (0..1_000).for_each(|_| histogram.add(at(0), Span::from_millis(10)));
    assert!(millis(histogram.quantile(Quantile::P95).unwrap()) < 11.0);
    // Sixty minutes later not even the memory of a thousand samples is left.
    histogram.add(at(3_600_000), Span::from_millis(10));
    assert_eq!(histogram.quantile(share(0.5)), None);
    assert!(histogram.total <= 2 * WHOLE);
}

#[test]
fn a_tracked_quantile_follows_within_a_few_samples() {
    let (mut histogram, mut tracked) = (histogram(1_000), Tracked::new(share(0.5)));
    assert_eq!(tracked.of(&histogram), None);
    for sample in 0..1_000 {
        histogram.add(at(0), Span::from_millis(sample + 1));
        let (told, exact) = (tracked.of(&histogram), histogram.quantile(share(0.5)));
        if sample >= 40 {
            let (told, exact) = (millis(told.unwrap()), millis(exact.unwrap()));
            assert!(
                told <= exact && told >= exact - 31.0 / 2.0 - 0.04 * exact,
                "{sample}: {told} of {exact}"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_quantile_is_at_most_one_part_in_32_above_the_sample_at_its_rank(
        samples in prop::collection::vec(1_024_u64..10_000_000_000, 100..400), q in 0.01_f64..0.99,
    ) {
        let mut histogram = histogram(1_000);
        samples.iter().for_each(|nanos| histogram.add(at(0), Span::from_nanos(*nanos)));
        let mut sorted: Vec<u64> = samples;
        sorted.sort_unstable();
        let rank = (q * sorted.len() as f64 - 1e-6).ceil() as usize;
        let (exact, told) = (sorted[rank.max(1) - 1], histogram.quantile(share(q)).unwrap().as_nanos());
        prop_assert!(told >= exact && told as f64 <= exact as f64 * (1.0 + 1.0 / 32.0), "{told} of {exact}");
    }

    #[test]
    fn octaves_that_are_passed_over_change_nothing(
        samples in prop::collection::vec((1_024_u64..10_000_000_000, 0..4_u8), 100..400), q in 0.01_f64..0.99,
    ) {
        let mut histogram = histogram(1_000);
        for (nanos, kind) in samples {
            let latency = Span::from_nanos(nanos);
            if kind > 0 { histogram.add(at(0), latency) } else { histogram.add_censored(at(0), latency) }
        }
        let (mut survival, mut at_risk, mut last) = (1.0, f64::from(histogram.total), 0);
        let mut product = None;
        for (bucket, held) in histogram.buckets.iter().enumerate().filter(|(_, bucket)| bucket.all() > 0) {
            survival *= 1.0 - f64::from(held.exact) / at_risk;
            if survival <= 1.0 - q + 1e-9 {
                product = Some(lower_edge(bucket + 1) - 1);
                break;
            }
            (at_risk, last) = (at_risk - f64::from(held.all()), bucket);
        }
        let enough = histogram.exact >= share(q).samples_min() * WHOLE;
        let told = histogram.quantile(share(q)).map(Span::as_nanos);
        prop_assert_eq!(told, enough.then(|| product.unwrap_or(lower_edge(last))));
    }

    #[test]
    fn weights_always_add_up(
        samples in prop::collection::vec((0_u64..100_000, any::<u64>(), any::<bool>()), 1..500),
    ) {
        let mut histogram = Histogram::new(10, Span::from_secs(20), at(0));
        let mut now = at(0);
        for (pause, nanos, exact) in samples {
            now += Span::from_millis(pause);
            let latency = Span::from_nanos(nanos);
            if exact { histogram.add(now, latency) } else { histogram.add_censored(now, latency) }
            let sum = |of: fn(&Bucket) -> u32| histogram.buckets.iter().map(of).sum::<u32>();
            prop_assert_eq!(histogram.total, sum(|bucket| bucket.exact + bucket.censored));
            for (octave, all) in histogram.octaves.iter().enumerate() {
                let held = &histogram.buckets[octave * SUB..][..SUB];
                prop_assert_eq!(all.exact, held.iter().map(|bucket| bucket.exact).sum::<u32>());
                prop_assert_eq!(all.censored, held.iter().map(|bucket| bucket.censored).sum::<u32>());
            }
            prop_assert_eq!(histogram.exact, sum(|bucket| bucket.exact));
            prop_assert!(histogram.total <= histogram.full + WHOLE);
        }
    }
}
