//! What an admission queue tells of itself.

use crate::time::Span;

/// How hard an admission queue is pressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// The delay that a newcomer would meet.
    pub delay: Span,
    /// The shortest delay that anybody met in the last 100 ms.
    pub least_delay: Span,
    /// Whether more arrives than can drain: a standing queue, not a burst.
    pub stands: bool,
}
