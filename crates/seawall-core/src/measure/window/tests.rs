use std::vec::Vec;

use super::*;

#[test]
fn failure_window_by_count_of_ground_truth() {
    let mut window = Window::new(4);
    let rates: Vec<f64> = [true, false, false, false, false]
        .into_iter()
        .map(|failed| {
            window.add(failed);
            100.0 * f64::from(window.failed()) / f64::from(window.held())
        })
        .collect();
    let expected = [100.0, 50.0, 100.0 / 3.0, 25.0, 0.0];
    rates.iter().zip(expected).for_each(|(got, want)| assert!((got - want).abs() < 1e-9, "{rates:?}"));
}

#[test]
fn slides_after_ten_thousand_successes() {
    let mut window = Window::new(100);
    (0..10_000).for_each(|_| window.add(false));
    (0..100).for_each(|_| window.add(true));
    assert_eq!((window.held(), window.failed()), (100, 100));
}

#[test]
fn agrees_with_a_plain_list() {
    let mut rng = crate::rng::Rng::new(1, 1);
    for size in [1, 2, 63, 64, 65, 130] {
        let (mut window, mut list) = (Window::new(size), Vec::new());
        for _ in 0..500 {
            let failed = rng.below(3) == 0;
            window.add(failed);
            list.push(failed);
            let held = &list[list.len().saturating_sub(size as usize)..];
            assert_eq!(window.failed() as usize, held.iter().filter(|failed| **failed).count());
        }
    }
}
