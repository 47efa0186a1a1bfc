//! How a request begins, before anything is waited for: what may be done for it, and what is kept.
//!
//! **Mechanics.** Most requests are [`Alone`]: what they ask for was found not to be for all, so nobody waits for
//! their answer, and nothing is kept for want of it. Whoever can send such a request by itself does so, and the
//! course of all others is spared: only an answer that is not ordinary, or to be kept after all, goes on there.

use std::hash::Hash;

use seawall_core::fallback::{Step, dims};
use seawall_core::time::Time;

use super::cache::{Flight, Found};
use super::{Adapter, Seek, Shared, Terms};
use crate::clock::now;

/// A request that has looked into the cache.
pub struct Begun<K: Hash + Eq + Clone, V: Clone> {
    pub(super) began: Time,
    pub(super) seek: Seek<K>,
    pub(super) dimmed: bool,
    /// What it found, unless it has terms of its own.
    pub(super) found: Option<Found<K, V>>,
}

/// A request that is to be sent, and whose ordinary answer is nobody else's.
pub struct Alone<K: Hash + Eq + Clone, V: Clone> {
    began: Time,
    flight: Option<Flight<K, V>>,
}

/// What becomes of an ordinary answer that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It belongs to its request alone. What was kept before is outdated.
    Apart,
    /// It says nothing about what is kept.
    Unrelated,
}

impl<K: Hash + Eq + Clone, V: Clone> Begun<K, V> {
    pub(super) fn new<A, Req, Res, Err>(shared: &Shared<A, K, V>, request: &Req) -> Begun<K, V>
    where
        A: Adapter<Req, Res, Err, Key = K, Kept = V>,
    {
        let began = now();
        let seek = shared.adapter.seek(began, request);
        let only_kept = matches!(&seek, Seek::Cached { terms, .. } if terms.only_kept);
        if only_kept || matches!(seek, Seek::Around { .. }) {
            return Begun { began, seek, dimmed: false, found: None };
        }
        let seen = shared.adapter.request(began, request);
        let dimmed =
            dims(shared.dimmer.level(began), seen.cohort(began)) && is_less_at_hand(shared, began, &seek);
        let found = match &seek {
            Seek::Cached { key, terms } if !dimmed && *terms == Terms::default() => {
                Some(shared.cache.ask(began, key, seen.deadline))
            }
            _ => None,
        };
        Begun { began, seek, dimmed, found }
    }

    /// Whether the caller may send the request by itself, and [`leave`](super::Fallback::leave) its answer.
    #[expect(clippy::result_large_err, reason = "it is no error, and goes on at once")]
    pub fn alone(self) -> Result<Alone<K, V>, Begun<K, V>> {
        match self {
            Begun { began, found: Some(Found::Ask(flight)), .. } if flight.is_alone() => {
                Ok(Alone { began, flight: Some(flight) })
            }
            Begun { began, seek: Seek::Chain, dimmed: false, .. } => Ok(Alone { began, flight: None }),
            begun => Err(begun),
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Alone<K, V> {
    pub(super) fn left(self, left: Left) {
        match (self.flight, left) {
            (Some(flight), Left::Apart) => flight.pass(),
            (Some(flight), Left::Unrelated) => flight.single(),
            (None, _) => {}
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> From<Alone<K, V>> for Begun<K, V> {
    fn from(Alone { began, flight }: Alone<K, V>) -> Begun<K, V> {
        let key = flight.as_ref().and_then(|flight| flight.key().cloned());
        let seek = key.map_or(Seek::Chain, |key| Seek::Cached { key, terms: Terms::default() });
        Begun { began, seek, dimmed: false, found: flight.map(Found::Ask) }
    }
}

/// A request that goes on, and the answer that it had meanwhile.
pub(super) struct Resumed<K: Hash + Eq + Clone, V: Clone, R> {
    pub(super) begun: Begun<K, V>,
    pub(super) answered: Option<R>,
}

impl<K: Hash + Eq + Clone, V: Clone, R> Resumed<K, V, R> {
    /// A request that was not sent yet.
    pub(super) fn at(begun: Begun<K, V>) -> Resumed<K, V, R> {
        Resumed { begun, answered: None }
    }
}

/// Whether there is anything to answer with for less work. Where there is not, the dimmer would only keep a
/// request from waiting for another's answer.
fn is_less_at_hand<A, K: Hash + Eq + Clone, V: Clone>(
    shared: &Shared<A, K, V>,
    now: Time,
    seek: &Seek<K>,
) -> bool {
    let has_cheaper = shared.chain.steps().iter().any(|step| matches!(step, Step::Upstream(_)));
    has_cheaper || matches!(seek, Seek::Cached { key, .. } if shared.cache.kept(now, key).is_some())
}
