//! Delays side by side: `cargo bench -p seawall-benches --bench backoff [-- REPEATS]`.
//!
//! One operation is the next delay of an exponential backoff with full jitter, from 50 ms to 2 s;
//! each of the five retries of a call counts as one, and so does what setting the call up costs.

use std::hint::black_box;
use std::time::Duration;

use backon::BackoffBuilder as _;
use seawall::core::retry::backoff::{Backoff, Kind};
use seawall::core::rng::Rng;
use seawall::core::time::Span;
use seawall_benches::{Contender, compare, measure};

const CALLS: u64 = 1 << 18;
const RETRIES: u32 = 5;

fn ours(backoff: Backoff) -> u64 {
    for call in 0..CALLS {
        let mut rng = Rng::new(7, call);
        let mut previous = Span::ZERO;
        for retries in 0..RETRIES {
            previous = black_box(backoff.wait(retries, previous, &mut rng));
        }
    }
    CALLS * u64::from(RETRIES)
}

fn backons() -> u64 {
    let builder = backon::ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(RETRIES as usize);
    (0..CALLS).map(|_| builder.build().map(black_box).count() as u64).sum()
}

fn main() {
    let repeats = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(5);
    let (base, cap) = (Span::from_millis(50), Span::from_secs(2));
    let backoff = |kind| Backoff::new(kind, base, cap).expect("the cap is above the base");
    let (full, decorrelated) = (backoff(Kind::Full), backoff(Kind::Decorrelated));
    let costs = compare(
        "one delay",
        repeats,
        &[
            Contender::new("seawall, full jitter", move || measure(1, |_| ours(full))),
            Contender::new("seawall, decorrelated jitter", move || measure(1, |_| ours(decorrelated))),
            Contender::new("backon", || measure(1, |_| backons())),
        ],
    );
    println!("  backon over seawall: {:.2}", costs[2].cpu / costs[0].cpu);
}
