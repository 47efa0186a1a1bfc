//! How soon clients are served again once the load has fallen.
//!
//! Requests are counted by the tenth of a second that they were scheduled in. A tenth alone says little of a
//! Poisson process, so the load counts as carried again from the first tenth on after which every whole second
//! has enough answers in time.

use serde::{Deserialize, Serialize};

/// Tenths that are judged together.
const TOGETHER: usize = 10;

/// What was scheduled in a tenth of a second, and how much of that was served in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tenth {
    pub(super) scheduled: u64,
    pub(super) served: u64,
}

impl Tenth {
    pub(super) fn add(&mut self, served: bool) {
        self.scheduled += 1;
        self.served += u64::from(served);
    }
}

/// The part of these that was served in time, 0 to 1.
pub(super) fn share(tenths: &[Tenth]) -> f64 {
    let sum = |of: fn(&Tenth) -> u64| tenths.iter().map(of).sum::<u64>() as f64;
    sum(|tenth| tenth.served) / sum(|tenth| tenth.scheduled).max(1.0)
}

/// After how many seconds this part of the requests was served in time, and stayed so; `None` for never.
pub(super) fn back_after(tenths: &[Tenth], part: f64) -> Option<f64> {
    let seconds: Vec<bool> = tenths.windows(TOGETHER).map(|second| share(second) >= part).collect();
    let last_short = seconds.iter().rposition(|enough| !enough);
    let back = last_short.map_or(0, |last| last + 1);
    (back < seconds.len()).then(|| back as f64 / TOGETHER as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenths(served: &[u64]) -> Vec<Tenth> {
        served.iter().map(|served| Tenth { scheduled: 100, served: *served }).collect()
    }

    #[test]
    fn the_load_is_carried_when_every_second_from_there_on_is() {
        let [none, all] = [[0; 5], [100; 5]].map(|part| part.to_vec());
        assert_eq!(back_after(&tenths(&[100; 20]), 0.95), Some(0.0));
        assert_eq!(
            back_after(&tenths(&[none.clone(), all.clone(), all.clone(), all.clone()].concat()), 0.95),
            Some(0.5)
        );
        // One tenth with half of its answers is a second with 95 %.
        assert_eq!(back_after(&tenths(&[vec![50], vec![100; 19]].concat()), 0.95), Some(0.0));
        // It falls back.
        assert_eq!(
            back_after(&tenths(&[all.clone(), none.clone(), all.clone(), all].concat()), 0.95),
            Some(1.0)
        );
        assert_eq!(back_after(&tenths(&[none.clone(), none.clone(), none].concat()), 0.95), None);
        assert_eq!(back_after(&[], 0.95), None);
    }
}
