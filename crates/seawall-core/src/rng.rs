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
        // By way of a signed number, which processors turn into a float in one step.
        (self.word() >> 11) as i64 as f64 * (1.0 / (1_u64 << 53) as f64)
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
        mean.scaled(-logarithm(1.0 - self.unit()))
    }
}

/// Pieces into which [1, 2) is cut, in bits.
const PIECES: u32 = 7;

/// For each piece the inverse of its middle, and the logarithm of the middle.
const MIDDLES: [(f64, f64); 1 << PIECES] = {
    let mut middles = [(0.0, 0.0); 1 << PIECES];
    let mut piece = 0;
    while piece < middles.len() {
        let inverse = 1.0 / (1.0 + (piece as f64 + 0.5) / middles.len() as f64);
        // ln y = 2 artanh((y − 1) / (y + 1)), of the inverse as it is kept.
        let s = (1.0 - inverse) / (1.0 + inverse);
        let (mut term, mut sum, mut odd) = (s, 0.0, 1.0);
        while odd < 60.0 {
            sum += term / odd;
            term *= s * s;
            odd += 2.0;
        }
        middles[piece] = (inverse, 2.0 * sum);
        piece += 1;
    }
    middles
};

/// The natural logarithm of a normal number in (0, 1], to 2⁻⁵⁰: by a table and sums and products
/// alone, so that it is the same everywhere, and in a third of the time of one for every number.
fn logarithm(x: f64) -> f64 {
    let bits = x.to_bits();
    let exponent = (bits >> 52) as i64 - 1_023;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1_023 << 52);
    let (inverse, middle) = MIDDLES[(bits >> (52 - PIECES)) as usize & ((1 << PIECES) - 1)];
    // Within 2⁻⁸ of zero, where six terms are enough.
    let r = mantissa * inverse - 1.0;
    let rest =
        r * (1.0 - r * (1.0 / 2.0 - r * (1.0 / 3.0 - r * (1.0 / 4.0 - r * (1.0 / 5.0 - r * (1.0 / 6.0))))));
    exponent as f64 * core::f64::consts::LN_2 + (middle + rest)
}

/// The finaliser of SplitMix64: every input bit changes about half of the output bits.
pub const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_that_of_the_library() {
        let mut rng = Rng::new(1, 2);
        let draws = (0..200_000).map(|_| 1.0 - rng.unit());
        let edges = [1.0, 1.0 - f64::EPSILON / 2.0, 0.5, 0.5 + f64::EPSILON, 1.0 / (1_u64 << 53) as f64];
        for x in draws.chain(edges) {
            let (got, exact) = (logarithm(x), libm::log(x));
            assert!((got - exact).abs() <= 8.8e-16 * exact.abs().max(1.0), "ln {x}: {got}, not {exact}");
        }
    }
}
