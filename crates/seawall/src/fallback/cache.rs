//! The cache: core's store behind a lock, with guards that settle when they are dropped.

use std::future::poll_fn;
use std::hash::Hash;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker, ready};

use seawall_core::fallback::Store;
use seawall_core::fallback::store::{Asked, Claimed, Config, Errand, Fill, Kept, Place, Snapshot};
use seawall_core::gate::Own as _;
use seawall_core::request::Key;
use seawall_core::time::{Span, Time};

use crate::clock::{instant, now};
use crate::identity::UserKeys;
use crate::threads::Locks;

/// The key under which the store is reached: it is in one piece.
const ONE: Key = Key(0);

struct Inner<K, V> {
    store: Locks<Store<K, V, Waker>>,
    keys: UserKeys,
    window: Span,
}

/// Kept answers, shared by all clones.
pub struct Cache<K, V>(Arc<Inner<K, V>>);

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Cache<K, V> {
        Cache(self.0.clone())
    }
}

/// What asking the cache came to.
pub(super) enum Found<K: Hash + Eq + Clone, V: Clone> {
    /// As good as a new one.
    Hit(Kept<V>),
    /// Good enough; whoever holds the flight asks anew.
    Stale(Kept<V>, Option<Flight<K, V>>),
    /// Ask.
    Ask(Flight<K, V>),
    /// Somebody is asking.
    Wait(Seat<K, V>),
}

/// How waiting ended.
pub(super) enum Waited<K: Hash + Eq + Clone, V: Clone> {
    Hit(Kept<V>),
    Ask(Flight<K, V>),
    Failed,
    Late,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// An empty cache with these bounds, for answers that are used at most `window` after their
    /// freshness ended.
    pub fn new(config: Config, window: Span) -> Cache<K, V> {
        let store = Locks::own(vec![Store::new(config)]);
        Cache(Arc::new(Inner { store, keys: UserKeys::new(), window }))
    }

    /// Plain values.
    pub fn snapshot(&self) -> Snapshot {
        self.0.store.with(ONE, |store| store.snapshot())
    }

    /// Forgets the answer of this key.
    pub fn forget(&self, key: &K) {
        self.0.store.with(ONE, |store| store.forget(self.hash(key), key));
    }

    fn hash(&self, key: &K) -> Key {
        self.0.keys.of(key)
    }

    pub(super) fn window(&self) -> Span {
        self.0.window
    }

    /// What is kept and good for something.
    pub(super) fn kept(&self, now: Time, key: &K) -> Option<Kept<V>> {
        let hash = self.hash(key);
        self.0.store.with(ONE, |store| store.kept(now, hash, key, self.0.window))
    }

    pub(super) fn ask(&self, now: Time, key: &K, deadline: Time) -> Found<K, V> {
        let hash = self.hash(key);
        match self.0.store.with(ONE, |store| store.ask(now, hash, key, self.0.window, deadline)) {
            Asked::Hit(kept) => Found::Hit(kept),
            Asked::Stale(kept, errand) => Found::Stale(kept, errand.map(|errand| self.flight(errand))),
            Asked::Ask(errand, _) => Found::Ask(self.flight(errand)),
            Asked::Wait(place, _) => Found::Wait(Seat { cache: self.clone(), place: Some(place) }),
        }
    }

    /// A flight that nobody waits for.
    pub(super) fn alone(&self, now: Time, key: &K) -> Flight<K, V> {
        let hash = self.hash(key);
        self.flight(self.0.store.with(ONE, |store| store.ask_alone(now, hash, key.clone())))
    }

    fn flight(&self, errand: Errand<K>) -> Flight<K, V> {
        Flight { cache: self.clone(), errand: Some(errand) }
    }

    /// Does something in the store, then wakes whoever became due.
    fn settle(&self, verb: impl FnOnce(&mut Store<K, V, Waker>)) {
        let mut due = self.0.store.with(ONE, |store| {
            verb(store);
            store.turn()
        });
        while let Some(waker) = due {
            waker.wake();
            due = self.0.store.with(ONE, Store::turn);
        }
    }
}

/// A request under way for a key; others may wait for it. Dropped, it hands over.
pub(super) struct Flight<K: Hash + Eq + Clone, V: Clone> {
    cache: Cache<K, V>,
    errand: Option<Errand<K>>,
}

impl<K: Hash + Eq + Clone, V: Clone> Flight<K, V> {
    /// Whether others may wait for it.
    pub(super) fn leads(&self) -> bool {
        self.errand.as_ref().is_some_and(Errand::leads)
    }

    /// Whether it is nobody's but the caller's: none may wait for it, and it has nothing to confirm.
    pub(super) fn is_alone(&self) -> bool {
        self.errand.as_ref().is_some_and(|errand| !errand.leads() && !errand.may_confirm())
    }

    /// What it is for.
    pub(super) fn key(&self) -> Option<&K> {
        self.errand.as_ref().map(Errand::key)
    }

    /// What is kept and can be confirmed.
    pub(super) fn confirmable(&self) -> Option<Kept<V>> {
        let errand = self.errand.as_ref().filter(|errand| errand.may_confirm())?;
        self.cache.0.store.with(ONE, |store| store.confirmable(errand))
    }

    /// Keeps the answer under the key that was sought.
    pub(super) fn fill(mut self, fill: Fill<V>) {
        if let Some(errand) = self.errand.take() {
            self.cache.settle(|store| store.fill(now(), errand, fill));
        }
    }

    /// Nobody can share the answer.
    pub(super) fn pass(mut self) {
        if let Some(errand) = self.errand.take() {
            self.cache.settle(|store| store.pass(now(), errand));
        }
    }

    /// Nobody can share the answer, and it says nothing about what is kept.
    pub(super) fn single(mut self) {
        if let Some(errand) = self.errand.take() {
            self.cache.settle(|store| store.single(errand));
        }
    }

    /// There is no answer.
    pub(super) fn fail(mut self) {
        if let Some(errand) = self.errand.take() {
            self.cache.settle(|store| store.fail(errand));
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Drop for Flight<K, V> {
    fn drop(&mut self) {
        if let Some(errand) = self.errand.take() {
            self.cache.settle(|store| store.abandon(errand));
        }
    }
}

/// A place among those who wait for a flight, left when dropped.
pub(super) struct Seat<K: Hash + Eq + Clone, V: Clone> {
    cache: Cache<K, V>,
    place: Option<Place<K>>,
}

impl<K: Hash + Eq + Clone, V: Clone> Drop for Seat<K, V> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.cache.settle(|store| store.leave(place));
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Seat<K, V> {
    /// Waits for the flight to land, or for the lead.
    pub(super) async fn wait(mut self) -> Waited<K, V> {
        let mut sleep = pin!(tokio::time::sleep_until(instant(now())));
        poll_fn(|cx| {
            loop {
                let place = self.place.take().expect("a finished future is not polled again");
                let claim = |store: &mut Store<K, V, Waker>| store.claim(now(), place, cx.waker().clone());
                let place = match self.cache.0.store.with(ONE, claim) {
                    Claimed::Hit(kept) => return Poll::Ready(Waited::Hit(kept)),
                    Claimed::Ask(errand) => return Poll::Ready(Waited::Ask(self.cache.flight(errand))),
                    Claimed::Failed => return Poll::Ready(Waited::Failed),
                    Claimed::Late => return Poll::Ready(Waited::Late),
                    Claimed::Wait(place) => place,
                };
                let wake_at = instant(place.wake_at());
                self.place = Some(place);
                if sleep.deadline() != wake_at {
                    sleep.as_mut().reset(wake_at);
                }
                ready!(sleep.as_mut().poll(cx));
            }
        })
        .await
    }
}
