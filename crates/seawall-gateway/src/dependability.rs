//! Availability, error budget and time to recover of a route: computed from what it answered.
//!
//! **Mechanics.** Bad is what was answered with 5xx, refusals for want of capacity among them, and what its
//! upstream broke off; who
//! was throttled, or took only what is kept, was served as agreed and counts on neither side. A second is bad when half of its answers
//! were; an outage lasts from the first bad second to the first with answers that is not.
//!
//! **Edges.** Seconds without answers say nothing. What happened before the process began is not known.

use seawall::core::time::{Span, Time};

const WHOLE: f64 = 1e6;

/// Answers so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// All that count.
    pub(crate) all: u64,
    /// The bad ones among them.
    pub(crate) bad: u64,
}

impl Answers {
    /// The share of good ones; 1 without any.
    pub(crate) fn availability(self) -> f64 {
        if self.all == 0 { 1.0 } else { 1.0 - self.bad as f64 / self.all as f64 }
    }

    /// What is left of the bad answers that the objective allows: 1 untouched, 0 spent, below that overdrawn.
    pub(crate) fn budget_left(self, objective_ppm: u32) -> f64 {
        let allowed = 1.0 - f64::from(objective_ppm) / WHOLE;
        if allowed > 0.0 {
            1.0 - (1.0 - self.availability()) / allowed
        } else {
            f64::from(u8::from(self.bad == 0))
        }
    }
}

/// The outages of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outages {
    seen: Answers,
    down_since: Option<Time>,
    /// Outages that are over.
    pub(crate) over: u32,
    /// How long the last of them took.
    pub(crate) last: Span,
    total: Span,
}

impl Outages {
    /// A second has passed.
    pub(crate) fn observe(&mut self, now: Time, answers: Answers) {
        let (all, bad) =
            (answers.all.saturating_sub(self.seen.all), answers.bad.saturating_sub(self.seen.bad));
        self.seen = answers;
        match self.down_since {
            _ if all == 0 => {}
            None if bad * 2 >= all => self.down_since = Some(now),
            Some(since) if bad * 2 < all => {
                self.down_since = None;
                self.last = now.since(since);
                self.total += self.last;
                self.over += 1;
            }
            None | Some(_) => {}
        }
    }

    /// Whether it is down.
    pub(crate) fn is_down(&self) -> bool {
        self.down_since.is_some()
    }

    /// The mean time to recover; `None` before the first outage is over.
    pub(crate) fn mean(&self) -> Option<Span> {
        self.total.as_nanos().checked_div(u64::from(self.over)).map(Span::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use seawall_config::OBJECTIVE;

    use super::*;

    #[test]
    fn availability_and_what_is_left_of_the_budget() {
        let answers = Answers { all: 10_000, bad: 5 };
        assert!((answers.availability() - 0.9995).abs() < 1e-9);
        assert!((answers.budget_left(OBJECTIVE) - 0.5).abs() < 1e-9);
        assert!(Answers { all: 100, bad: 50 }.budget_left(OBJECTIVE) < 0.0);
        assert_eq!(Answers::default().availability(), 1.0);
        assert_eq!(Answers { all: 9, bad: 0 }.budget_left(1_000_000), 1.0);
    }

    #[test]
    fn an_outage_lasts_to_the_first_good_second_with_answers() {
        let mut outages = Outages::default();
        let mut answers = Answers::default();
        let mut second = |number: u64, all, bad| {
            answers = Answers { all: answers.all + all, bad: answers.bad + bad };
            outages.observe(Time::ZERO + Span::from_secs(number), answers);
            (outages.is_down(), outages.over, outages.mean())
        };
        assert_eq!(second(1, 10, 1), (false, 0, None));
        assert_eq!(second(2, 10, 5), (true, 0, None));
        assert_eq!(second(3, 0, 0), (true, 0, None));
        assert_eq!(second(4, 10, 4), (false, 1, Some(Span::from_secs(2))));
        assert_eq!(second(5, 1, 1), (true, 1, Some(Span::from_secs(2))));
        assert_eq!(second(9, 1, 0), (false, 2, Some(Span::from_secs(3))));
    }
}
