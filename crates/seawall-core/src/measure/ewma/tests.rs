use super::*;

#[test]
fn plain_mean_while_warming_up() {
    let mut ewma = Ewma::new(100, 10);
    (10..20).for_each(|sample| ewma.add(f64::from(sample)));
    assert_eq!(ewma.mean(), Some(14.5));
}

#[test]
fn forgets_exponentially_after_the_window() {
    let mut ewma = Ewma::new(9, 1);
    (0..100).for_each(|_| ewma.add(1.0));
    (0..100).for_each(|_| ewma.add(2.0));
    assert!(ewma.mean().is_some_and(|mean| (mean - 2.0).abs() < 1e-6));
    assert_eq!(Ewma::new(9, 1).mean(), None);
}
