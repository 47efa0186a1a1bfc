use super::*;

#[test]
fn students_quantiles_are_those_of_the_tables() {
    for (degrees, exact) in [(1, 12.706), (4, 2.776), (5, 2.571), (9, 2.262), (19, 2.093), (99, 1.984)] {
        let got = student(degrees);
        assert!((got - exact).abs() < 4e-3, "{degrees}: {got}");
    }
}

#[test]
fn the_interval_of_a_mean() {
    assert_eq!(mean_interval(&[]), None);
    assert_eq!(mean_interval(&[3.0]), None);
    // Five values around 2, their standard deviation is 1: 2.776 / √5 on each side.
    let interval = mean_interval(&[1.0, 1.0, 2.0, 3.0, 3.0]).unwrap();
    let half = 2.776 / 5.0_f64.sqrt();
    assert!((interval.estimate - 2.0).abs() < 1e-9);
    assert!((interval.high - 2.0 - half).abs() < 1e-3 && (2.0 - half - interval.low).abs() < 1e-3);
}
