//! What queueing theory knows, by its own formulas.

/// Erlang B: the share refused by `c` workers without a queue, at an offered load of `a`.
pub(super) fn erlang_b(c: u32, a: f64) -> f64 {
    (1..=c).fold(1.0, |b, k| a * b / (f64::from(k) + a * b))
}

/// Erlang C: the share that waits for one of `c` workers, each busy for a share `rho` of the time.
pub(super) fn erlang_c(c: u32, rho: f64) -> f64 {
    let b = erlang_b(c, f64::from(c) * rho);
    b / (1.0 - rho * (1.0 - b))
}

/// The chances of 0..=k requests in M/M/c/K, whose workers do one a second.
pub(super) fn mmck(c: u32, k: u32, lambda: f64) -> Vec<f64> {
    let mut weights = vec![1.0];
    for n in 1..=k {
        weights.push(weights[n as usize - 1] * lambda / f64::from(n.min(c)));
    }
    let all: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / all).collect()
}

/// The chance that a sum of `n` exponential times, of mean 1 each, is at most `t`.
pub(super) fn erlang_below(n: u32, t: f64) -> f64 {
    let mut term = (-t).exp();
    let mut above = term;
    for k in 1..n {
        term *= t / f64::from(k);
        above += term;
    }
    1.0 - above
}

/// Answers within `deadline` a second, from M/M/1/K.
pub(super) fn in_deadline(k: u32, lambda: f64, deadline: f64) -> f64 {
    let chances = mmck(1, k, lambda);
    let of = |n: u32| chances[n as usize] * erlang_below(n + 1, deadline);
    lambda * (0..k).map(of).sum::<f64>()
}

/// Where a falling function of time is `share`.
pub(super) fn quantile_of(above: impl Fn(f64) -> f64, share: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        *if above(middle) > share { &mut low } else { &mut high } = middle;
    }
    (low + high) / 2.0
}
