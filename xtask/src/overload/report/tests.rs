use super::*;

fn point(at: f64, admitted: u64, refused: u64, gateway: Option<f64>) -> Point {
    let tally = Tally { scheduled: admitted + refused, served: admitted, refused, ..Tally::default() };
    Point {
        at,
        seconds: 10.0,
        tally,
        origin_per_s: 800.0,
        cpu_s: Cpu { gateway, generator: 1.0, origin: 1.0 },
    }
}

#[test]
fn the_cost_of_a_refusal_is_found_from_points_of_different_mix() {
    // 50 µs per request let through, 20 µs per refusal.
    let cpu = |admitted: f64, refused: f64| Some((admitted * 50.0 + refused * 20.0) / 1e6);
    let points = [
        point(0.9, 7_200, 0, cpu(7_200.0, 0.0)),
        point(2.0, 8_000, 8_000, cpu(8_000.0, 8_000.0)),
        point(10.0, 8_000, 72_000, cpu(8_000.0, 72_000.0)),
    ];
    let cost = Refusal::fit(&points).unwrap();
    assert!((cost.refused_us - 20.0).abs() < 1e-6 && (cost.admitted_us - 50.0).abs() < 1e-6, "{cost:?}");
    assert!((cost.c - 20.0 / 10_050.0).abs() < 1e-9, "{cost:?}");
}

#[test]
fn points_that_cannot_tell_give_no_cost() {
    assert_eq!(Refusal::fit(&[]), None);
    assert_eq!(Refusal::fit(&[point(0.9, 7_200, 0, Some(0.4))]), None);
    assert_eq!(Refusal::fit(&[point(2.0, 100, 100, Some(0.4)), point(2.0, 200, 200, Some(0.8))]), None);
    assert_eq!(Refusal::fit(&[point(0.9, 7_200, 0, None), point(2.0, 100, 100, None)]), None);
}

#[test]
fn goodput_is_measured_against_what_was_possible() {
    assert_eq!(point(0.5, 4_000, 0, None).goodput_percent(800.0), 100.0);
    assert_eq!(point(2.0, 4_000, 12_000, None).goodput_percent(800.0), 50.0);
}
