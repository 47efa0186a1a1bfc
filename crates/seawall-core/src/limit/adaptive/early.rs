//! What calls took before the ceiling was found, by how many were in flight.
//!
//! Which of them were sent without load is known only once it is found: beside seven others a call queues nowhere
//! if the callee has sixteen workers, and waits if it has four. Those that a careful guess counts at once can be so
//! few that their mean is off by a tenth.

use super::point::Sums;

/// Classes of calls, each up to twice as many in flight as the one before.
const CLASSES: usize = 10;

/// The sums of each class.
#[derive(Clone, Debug, Default)]
pub(super) struct Early([Sums; CLASSES]);

impl Early {
    /// Takes in a successful call that was sent when `in_flight` were under way, itself included.
    pub(super) fn add(&mut self, in_flight: u32, seconds: f64) {
        if let Some(class) = self.0.get_mut(in_flight.max(1).ilog2() as usize) {
            class.make_room(1);
            class.add(seconds);
        }
    }

    /// The classes of calls that were sent when at most `low` were in flight.
    pub(super) fn up_to(&self, low: f64) -> Sums {
        let mut all = Sums::default();
        let classes = self.0.iter().enumerate();
        classes
            .filter(|(class, _)| f64::from(2_u32 << class) - 1.0 <= low)
            .for_each(|(_, sums)| all.merge(sums));
        all
    }
}
