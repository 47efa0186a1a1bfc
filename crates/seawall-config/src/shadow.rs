//! `shadow`: the policies of a route or an upstream that decide and count, and let everything through.

use seawall_core::decision::Policy;
use seawall_core::enforcement::{Enforcement, Stance};

use super::reader::Section;

/// What can be in shadow on a route.
pub(super) const OF_ROUTE: [Policy; 3] = [Policy::Throttle, Policy::Shed, Policy::Limit];
/// What can be in shadow on an upstream.
pub(super) const OF_UPSTREAM: [Policy; 4] = [Policy::Breaker, Policy::Eject, Policy::Retry, Policy::Hedge];

/// Those of these policies that the table names; all others are enforced.
pub(super) fn stance(section: &mut Section<'_>, policies: &[Policy]) -> Stance {
    let words: Vec<_> = policies.iter().map(|policy| (policy.name(), *policy)).collect();
    section.value("shadow", Stance::default(), |field| {
        let mut stance = Stance::default();
        for item in field.items(0..=words.len())? {
            match item.word(&words) {
                Ok(policy) => stance = stance.with(policy, Enforcement::Shadow),
                Err(malformed) => item.reject(malformed),
            }
        }
        Ok(stance)
    })
}
