//! Chance as an argument: one small seeded generator (PCG XSL 128/64).
//!
//! Each call owns its generator, seeded from `(seed, stream)` with the call's number as the
//! stream. So no two calls of a process draw the same jitter, and two configurations that are
//! compared on the same calls see the same draws.

use rand_core::Rng as _;
use rand_pcg::Pcg64;

use crate::time::Span;

/// A seeded generator. The same seed and stream give the same draws on every machine. It is set up
/// with its first draw: most calls draw nothing.
#[derive(Clone, Debug)]
pub struct Rng(State);

#[derive(Clone, Debug)]
enum State {
    Seeded { seed: u64, stream: u64 },
    Drawing(Pcg64),
}

impl Rng {
    /// The generator for one `stream` (a call, a client, a service) of a run with this `seed`.
    pub const fn new(seed: u64, stream: u64) -> Rng {
        Rng(State::Seeded { seed, stream })
    }

    #[cold]
    fn set_up(seed: u64, stream: u64) -> Pcg64 {
        // Neighbouring streams of a linear generator resemble each other, so both words are mixed.
        let state = (u128::from(mix(seed)) << 64) | u128::from(mix(stream ^ 0x9e37_79b9_7f4a_7c15));
        Pcg64::new(state, u128::from(mix(seed ^ mix(stream))))
    }

    /// A uniform 64-bit word.
    pub fn word(&mut self) -> u64 {
        if let State::Seeded { seed, stream } = self.0 {
            self.0 = State::Drawing(Rng::set_up(seed, stream));
        }
        match &mut self.0 {
            State::Drawing(generator) => generator.next_u64(),
            State::Seeded { .. } => unreachable!("set up above"),
        }
    }

    /// Uniform in `[0, 1)`, in steps of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Uniform in `0..bound`; 0 when `bound` is 0. The bias is at most `bound` / 2⁶⁴.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(bound)) >> 64) as u64
    }

    /// Uniform in `[low, high)`; `low` when the range is empty.
    pub fn span(&mut self, low: Span, high: Span) -> Span {
        low + Span::from_nanos(self.below(high.minus(low).as_nanos()))
    }

    /// Exponentially distributed with this `mean`.
    pub fn exponential(&mut self, mean: Span) -> Span {
        mean.scaled(-libm::log(1.0 - self.unit()))
    }
}

/// The finaliser of SplitMix64: every input bit changes about half of the output bits.
pub const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
