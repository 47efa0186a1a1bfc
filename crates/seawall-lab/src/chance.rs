//! Draws from distributions. Floats go through `libm`, so that every machine draws the same.

use seawall_config::model::{Users, Work, Z99};
use seawall_core::rng::Rng;
use seawall_core::time::Span;

/// A distribution of times, prepared for drawing.
#[derive(Clone, Debug)]
pub(crate) enum Draw {
    Constant(Span),
    Exponential(Span),
    Lognormal { mu: f64, sigma: f64 },
    Bimodal { usual: Span, rare: Span, share: f64 },
    Weibull { scale: f64, inverse_shape: f64 },
    Normal { mean: f64, sd: f64 },
    Gamma { scale: f64, shape: f64 },
    Empirical(std::sync::Arc<[Span]>),
}

impl Draw {
    pub(crate) fn of(work: &Work) -> Draw {
        match work {
            Work::Constant(span) => Draw::Constant(*span),
            Work::Exponential(mean) => Draw::Exponential(*mean),
            Work::Lognormal { median, p99 } => {
                let (median, p99) = (median.as_secs_f64(), p99.as_secs_f64());
                Draw::Lognormal { mu: libm::log(median), sigma: libm::log(p99 / median) / Z99 }
            }
            Work::Bimodal { usual, rare, share_ppm } => {
                Draw::Bimodal { usual: *usual, rare: *rare, share: f64::from(*share_ppm) / 1e6 }
            }
            Work::Weibull { scale, shape } => {
                Draw::Weibull { scale: scale.as_secs_f64(), inverse_shape: 1.0 / shape }
            }
            Work::Normal { mean, sd } => Draw::Normal { mean: mean.as_secs_f64(), sd: sd.as_secs_f64() },
            Work::Gamma { mean, cv2 } => Draw::Gamma { scale: mean.as_secs_f64() * cv2, shape: 1.0 / cv2 },
            Work::Empirical { times, .. } => Draw::Empirical(times.clone()),
        }
    }

    pub(crate) fn draw(&self, rng: &mut Rng) -> Span {
        match self {
            Draw::Constant(span) => *span,
            Draw::Exponential(mean) => rng.exponential(*mean),
            Draw::Lognormal { mu, sigma } => Span::from_secs_f64(libm::exp(mu + sigma * normal(rng))),
            Draw::Bimodal { usual, rare, share } => {
                if rng.unit() < *share {
                    *rare
                } else {
                    *usual
                }
            }
            Draw::Weibull { scale, inverse_shape } => {
                Span::from_secs_f64(scale * libm::pow(-libm::log(1.0 - rng.unit()), *inverse_shape))
            }
            Draw::Normal { mean, sd } => Span::from_secs_f64((mean + sd * normal(rng)).max(0.0)),
            Draw::Gamma { scale, shape } => Span::from_secs_f64(scale * gamma(*shape, rng)),
            Draw::Empirical(times) => {
                times.get(rng.below(times.len() as u64) as usize).copied().unwrap_or_default()
            }
        }
    }
}

/// Normally distributed, by Box and Muller (1958); one of the pair is enough.
fn normal(rng: &mut Rng) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(1.0 - rng.unit()));
    radius * libm::cos(core::f64::consts::TAU * rng.unit())
}

/// Gamma distributed with this shape and a scale of 1 (Marsaglia and Tsang 2000).
fn gamma(shape: f64, rng: &mut Rng) -> f64 {
    if shape < 1.0 {
        let whole = gamma(shape + 1.0, rng);
        return whole * libm::pow(1.0 - rng.unit(), 1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        let x = normal(rng);
        let v = 1.0 + c * x;
        if v > 0.0 {
            let v = v * v * v;
            if libm::log(1.0 - rng.unit()) < x * x / 2.0 + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }
}

/// Which of many users is the one: by Zipf's law, without a table (rejection inversion, Hörmann and
/// Derflinger 1996).
#[derive(Clone, Debug)]
pub(crate) enum Crowd {
    Alike(u64),
    Zipf { count: f64, exponent: f64, first: f64, last: f64, sure: f64 },
}

impl Crowd {
    pub(crate) fn of(users: Users) -> Crowd {
        if users.zipf <= 0.0 || users.count == 1 {
            return Crowd::Alike(users.count);
        }
        let (count, exponent) = (users.count as f64, users.zipf);
        Crowd::Zipf {
            count,
            exponent,
            first: area(exponent, 1.5) - 1.0,
            last: area(exponent, count + 0.5),
            sure: 2.0 - edge(exponent, area(exponent, 2.5) - height(exponent, 2.0)),
        }
    }

    /// The place of a user, the most frequent first.
    pub(crate) fn draw(&self, rng: &mut Rng) -> u64 {
        let (count, exponent, first, last, sure) = match *self {
            Crowd::Alike(count) => return rng.below(count),
            Crowd::Zipf { count, exponent, first, last, sure } => (count, exponent, first, last, sure),
        };
        loop {
            let u = last + rng.unit() * (first - last);
            let x = edge(exponent, u);
            let k = libm::floor(x + 0.5).clamp(1.0, count);
            if k - x <= sure || u >= area(exponent, k + 0.5) - height(exponent, k) {
                return k as u64 - 1;
            }
        }
    }
}

/// The weight of a rank.
fn height(exponent: f64, x: f64) -> f64 {
    libm::exp(-exponent * libm::log(x))
}

/// The integral of the weights up to a rank.
fn area(exponent: f64, x: f64) -> f64 {
    let log = libm::log(x);
    let t = (1.0 - exponent) * log;
    let ratio = if t.abs() > 1e-8 { libm::expm1(t) / t } else { 1.0 + t / 2.0 };
    ratio * log
}

/// The inverse of [`area`].
fn edge(exponent: f64, area: f64) -> f64 {
    let t = (area * (1.0 - exponent)).max(-1.0);
    let ratio = if t.abs() > 1e-8 { libm::log1p(t) / t } else { 1.0 - t / 2.0 };
    libm::exp(ratio * area)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_and_cv2(work: &Work) -> (f64, f64) {
        let (draw, mut rng) = (Draw::of(work), Rng::new(1, 2));
        let times: Vec<f64> = (0..400_000).map(|_| draw.draw(&mut rng).as_secs_f64()).collect();
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let variance =
            times.iter().map(|time| (time - mean) * (time - mean)).sum::<f64>() / times.len() as f64;
        (mean, variance / (mean * mean))
    }

    #[test]
    fn draws_have_the_mean_that_the_model_says() {
        let ms = Span::from_millis;
        for (work, cv2) in [
            (Work::Constant(ms(10)), 0.0),
            (Work::Exponential(ms(10)), 1.0),
            (Work::Weibull { scale: ms(10), shape: 2.0 }, 0.273),
            (Work::Bimodal { usual: ms(10), rare: ms(20), share_ppm: 500_000 }, 0.111),
            (Work::Lognormal { median: ms(20), p99: ms(120) }, 0.81),
            (Work::Normal { mean: ms(10), sd: ms(2) }, 0.04),
            (Work::Normal { mean: ms(1), sd: ms(2) }, 1.137),
            (Work::Gamma { mean: ms(10), cv2: 0.25 }, 0.25),
            (Work::Gamma { mean: ms(10), cv2: 4.0 }, 4.0),
            (Work::Empirical { file: "x".into(), times: [ms(5), ms(15)].into() }, 0.25),
        ] {
            let (mean, got) = mean_and_cv2(&work);
            assert!((mean / work.mean().as_secs_f64() - 1.0).abs() < 0.01, "{work:?}: {mean}");
            assert!((got - cv2).abs() < 0.05 * cv2.max(1.0), "{work:?}: {got}");
        }
    }

    #[test]
    fn users_call_by_zipfs_law() {
        for exponent in [0.7, 1.0, 1.4] {
            let (count, draws) = (1_000_u64, 400_000);
            let (crowd, mut rng) = (Crowd::of(Users { count, zipf: exponent }), Rng::new(3, 4));
            let mut seen = vec![0_u32; count as usize];
            (0..draws).for_each(|_| seen[crowd.draw(&mut rng) as usize] += 1);
            let weight = |rank: u64| (rank as f64).powf(-exponent);
            let whole: f64 = (1..=count).map(weight).sum();
            for rank in [1, 2, 10, 100] {
                let exact = weight(rank) / whole * f64::from(draws);
                let got = f64::from(seen[rank as usize - 1]);
                assert!((got - exact).abs() < 5.0 * exact.sqrt(), "{exponent} {rank}: {got}, not {exact}");
            }
        }
    }
}
