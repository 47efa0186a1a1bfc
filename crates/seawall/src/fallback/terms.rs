//! On which terms a request takes what is kept.

use seawall_core::fallback::Stale;
use seawall_core::fallback::store::Kept;
use seawall_core::time::Span;

/// What a request asks of a kept answer, while there is hope for a newer one. By default it takes what is
/// fresh, and what is stale while somebody asks anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether it takes none but one that was asked for or confirmed since.
    pub anew: bool,
    /// The greatest age.
    pub oldest: Span,
    /// For how long it stays fresh, at the least.
    pub fresh_for: Span,
    /// For how long it has been stale, at the most, where the answer itself allows that at all.
    pub stale_for: Span,
    /// Whether nobody is asked for a newer one.
    pub only_kept: bool,
}

impl Default for Terms {
    fn default() -> Terms {
        let (fresh_for, stale_for) = (Span::ZERO, Span::ZERO);
        Terms { anew: false, oldest: Span::MAX, fresh_for, stale_for, only_kept: false }
    }
}

impl Terms {
    /// Whether it is too old, or will be stale too soon.
    pub(super) fn refuse<V>(&self, kept: &Kept<V>) -> bool {
        let ends_too_soon = self.fresh_for > Span::ZERO && kept.age + self.fresh_for > kept.freshness.fresh;
        self.anew || kept.age > self.oldest || ends_too_soon
    }

    /// Whether it is taken although it is stale.
    pub(super) fn take_stale<V>(&self, kept: &Kept<V>) -> bool {
        let staleness = kept.age.minus(kept.freshness.fresh);
        matches!(kept.freshness.stale, Stale::Allowed { .. }) && staleness < self.stale_for
    }
}
