use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::fallback::Stale;
use crate::rng::{Rng, mix};

const WINDOW: Span = Span::from_secs(300);

fn at(secs: u64) -> Time {
    Time::ZERO + Span::from_secs(secs)
}

/// A store of numbers by numbers; waiters are numbers.
struct Bench(Store<u32, u32, u32>);

impl Bench {
    fn new() -> Bench {
        Bench::with(Config::default())
    }

    fn with(config: Config) -> Bench {
        Bench(Store::new(config))
    }

    fn ask(&mut self, now: Time, key: u32) -> Asked<u32, u32> {
        self.0.ask(now, Key(mix(u64::from(key))), &key, WINDOW, Time::MAX)
    }

    fn lead(&mut self, now: Time, key: u32) -> Errand<u32> {
        match self.ask(now, key) {
            Asked::Ask(errand, _) => errand,
            other => panic!("{other:?}"),
        }
    }

    /// Waits, parked as `waiter`.
    fn wait(&mut self, now: Time, key: u32, waiter: u32) -> Place<u32> {
        let Asked::Wait(place, _) = self.ask(now, key) else { panic!("nobody leads") };
        let Claimed::Wait(place) = self.0.claim(now, place, waiter) else { panic!("due at once") };
        place
    }

    fn fill(&mut self, now: Time, errand: Errand<u32>, value: u32) {
        self.0.fill(now, errand, fill(value, Freshness::for_span(Span::from_secs(60))));
    }

    fn put(&mut self, now: Time, key: u32) {
        let errand = self.lead(now, key);
        self.fill(now, errand, key);
    }

    fn due(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.0.turn()).collect()
    }
}

fn fill(value: u32, freshness: Freshness) -> Fill<u32> {
    Fill { value, bytes: 1, age: Span::ZERO, freshness, confirmable: false }
}

#[test]
fn one_leads_and_all_who_wait_get_its_answer() {
    let mut bench = Bench::new();
    let errand = bench.lead(at(0), 7);
    let places: Vec<_> = (0..3).map(|waiter| bench.wait(at(0), 7, waiter)).collect();
    bench.fill(at(2), errand, 70);
    assert_eq!(bench.due(), [0, 1, 2]);
    for place in places {
        let Claimed::Hit(kept) = bench.0.claim(at(3), place, 9) else { panic!("it is there") };
        assert_eq!((kept.value, kept.age), (70, Span::from_secs(3)));
    }
    assert!(matches!(bench.ask(at(4), 7), Asked::Hit(kept) if kept.ttl_secs() == 56));
    assert_eq!(bench.0.snapshot().flights, 0);
}

#[test]
fn a_leader_that_goes_hands_over_to_whoever_has_waited_longest() {
    let mut bench = Bench::new();
    let errand = bench.lead(at(0), 7);
    let first = bench.wait(at(0), 7, 1);
    let second = bench.wait(at(0), 7, 2);
    bench.0.abandon(errand);
    assert_eq!(bench.due(), [1]);
    bench.0.leave(first); // It goes before its turn comes.
    assert_eq!(bench.due(), [2]);
    assert!(matches!(bench.0.claim(at(1), second, 2), Claimed::Ask(errand) if errand.leads()));
}

#[test]
fn a_leader_that_hangs_loses_its_lease_and_its_late_answer_is_kept_all_the_same() {
    let mut bench = Bench::new();
    let hanging = bench.lead(at(0), 7);
    let place = bench.wait(at(1), 7, 1);
    assert_eq!(place.wake_at(), at(30));
    let Claimed::Ask(second) = bench.0.claim(at(30), place, 1) else { panic!("the lease is over") };
    let waiting = bench.wait(at(31), 7, 2);
    bench.fill(at(32), hanging, 1);
    assert_eq!(bench.due(), [] as [u32; 0]);
    assert!(matches!(bench.ask(at(33), 7), Asked::Hit(kept) if kept.value == 1));
    bench.fill(at(34), second, 2);
    assert!(matches!(bench.0.claim(at(35), waiting, 2), Claimed::Hit(kept) if kept.value == 2));
    assert!(matches!(bench.ask(at(35), 7), Asked::Hit(kept) if kept.value == 2));
}

#[test]
fn an_older_answer_never_replaces_a_newer_one() {
    let mut bench = Bench::new();
    let (old, new) = (bench.lead(at(0), 7), bench.0.ask_alone(at(5), Key(mix(7)), 7));
    bench.fill(at(6), new, 2);
    bench.fill(at(8), old, 1);
    assert!(matches!(bench.ask(at(9), 7), Asked::Hit(kept) if kept.value == 2));
}

#[test]
fn whoever_has_waited_for_half_of_its_time_asks_for_itself() {
    let mut bench = Bench::new();
    let leading = bench.lead(at(0), 7);
    let mut wait = || {
        let asked = bench.0.ask(at(0), Key(mix(7)), &7, WINDOW, at(4));
        let Asked::Wait(place, None) = asked else { panic!("nobody leads") };
        assert_eq!(place.wake_at(), at(2));
        place
    };
    let (impatient, late) = (wait(), wait());
    let Claimed::Wait(impatient) = bench.0.claim(at(1), impatient, 1) else { panic!("it has time") };
    let Claimed::Ask(alone) = bench.0.claim(at(2), impatient, 1) else { panic!("it has half of it left") };
    assert!(!alone.leads());
    assert!(matches!(bench.0.claim(at(4), late, 2), Claimed::Late));
    bench.fill(at(5), alone, 1);
    bench.fill(at(6), leading, 2);
    assert_eq!(bench.due(), [] as [u32; 0]);
    assert_eq!(bench.0.snapshot().flights, 0);
}

#[test]
fn a_failed_errand_has_failed_for_all_who_wait_and_the_next_asks_again() {
    let mut bench = Bench::new();
    let errand = bench.lead(at(0), 7);
    let place = bench.wait(at(0), 7, 1);
    bench.0.fail(errand);
    assert_eq!(bench.due(), [1]);
    assert!(matches!(bench.0.claim(at(0), place, 1), Claimed::Failed));
    assert!(bench.lead(at(0), 7).leads());
}

#[test]
fn answers_that_cannot_be_shared_put_nobody_in_line() {
    let mut bench = Bench::new();
    let errand = bench.lead(at(0), 7);
    let place = bench.wait(at(0), 7, 1);
    bench.0.pass(at(1), errand);
    assert!(matches!(bench.0.claim(at(1), place, 1), Claimed::Ask(errand) if !errand.leads()));
    let (one, other) = (bench.lead(at(2), 7), bench.lead(at(2), 7));
    assert!(!one.leads() && !other.leads());
    bench.fill(at(3), one, 70); // It changed its mind.
    assert!(matches!(bench.ask(at(3), 7), Asked::Hit(_)));
    bench.0.pass(at(4), other);
    assert!(!bench.lead(at(123), 7).leads());
    assert!(bench.lead(at(124), 7).leads());
}

#[test]
fn an_answer_that_was_never_fresh_is_kept_for_errors_and_puts_nobody_in_line() {
    let mut bench = Bench::new();
    let errand = bench.lead(at(0), 7);
    bench.0.fill(at(0), errand, fill(70, Freshness::for_span(Span::ZERO)));
    for _ in 0..2 {
        let Asked::Ask(errand, Some(kept)) = bench.ask(at(299), 7) else { panic!("it is stale") };
        assert!(!errand.leads() && kept.good_for(WINDOW) == Use::IfError);
    }
    assert!(matches!(bench.ask(at(300), 7), Asked::Ask(errand, None) if errand.leads()));
}

#[test]
fn an_answer_stale_on_arrival_still_serves_those_who_waited_for_it() {
    let mut bench = Bench::new();
    let errand = bench.lead(at(0), 7);
    let place = bench.wait(at(0), 7, 1);
    bench.0.fill(at(5), errand, fill(70, Freshness::for_span(Span::from_secs(1))));
    assert!(matches!(bench.0.claim(at(5), place, 1), Claimed::Hit(kept) if kept.value == 70));
    assert!(matches!(bench.ask(at(5), 7), Asked::Ask(_, Some(_))));
}

#[test]
fn one_revalidates_while_the_others_are_served() {
    let mut bench = Bench::new();
    let stale = Stale::Allowed { while_revalidate: Span::from_secs(30), if_error: None };
    let errand = bench.lead(at(0), 7);
    bench.0.fill(at(0), errand, fill(70, Freshness { fresh: Span::from_secs(60), stale }));
    let Asked::Stale(_, Some(errand)) = bench.ask(at(61), 7) else { panic!("the first revalidates") };
    assert!(matches!(bench.ask(at(61), 7), Asked::Stale(kept, None) if kept.ttl_secs() == -1));
    bench.0.fail(errand);
    assert!(matches!(bench.ask(at(62), 7), Asked::Stale(_, Some(_))));
    assert!(matches!(bench.ask(at(90), 7), Asked::Wait(_, Some(_)))); // No longer while revalidating.
}

#[test]
fn too_many_flights_and_too_many_who_wait_ask_alone() {
    let mut bench = Bench::with(Config { flights: 1, waiting: 1, ..Config::default() });
    let _errand = bench.lead(at(0), 7);
    let _place = bench.wait(at(0), 7, 1);
    assert!(!bench.lead(at(0), 7).leads());
    assert!(!bench.lead(at(0), 8).leads());
}

#[test]
fn a_collision_of_hashes_finds_nothing() {
    let mut store: Store<u32, u32, u32> = Store::new(Config::default());
    let Asked::Ask(errand, _) = store.ask(at(0), Key(1), &7, WINDOW, Time::MAX) else { panic!("empty") };
    assert!(
        matches!(store.ask(at(0), Key(1), &8, WINDOW, Time::MAX), Asked::Ask(other, None) if other.leads())
    );
    store.fill(at(0), errand, fill(70, Freshness::for_span(Span::from_secs(60))));
    assert!(store.kept(at(0), Key(1), &8, WINDOW).is_none());
    assert!(store.kept(at(0), Key(1), &7, WINDOW).is_some());
}

#[test]
fn a_hand_spares_once_what_was_used() {
    let mut bench = Bench::with(Config { entries: 3, ..Config::default() });
    (0..3).for_each(|key| bench.put(at(0), key));
    assert!(matches!(bench.ask(at(0), 0), Asked::Hit(_)));
    bench.put(at(0), 3);
    let kept = |bench: &mut Bench| {
        (0..6).filter(|key| bench.0.kept(at(0), Key(mix(u64::from(*key))), key, WINDOW).is_some()).collect()
    };
    let left: Vec<u32> = kept(&mut bench);
    assert_eq!(left, [0, 2, 3]);
    assert_eq!(bench.0.snapshot().evicted, 1);
}

#[test]
fn a_scan_does_not_wash_out_what_is_in_use() {
    let mut bench = Bench::with(Config { entries: 100, ..Config::default() });
    (0..50).for_each(|key| bench.put(at(0), key));
    let mut rng = Rng::new(1, 0);
    let mut hits = 0;
    for scanned in 1_000..6_000 {
        bench.put(at(0), scanned);
        let key = rng.below(50) as u32;
        match bench.ask(at(0), key) {
            Asked::Hit(_) => hits += 1,
            Asked::Ask(errand, _) => bench.fill(at(0), errand, key),
            other => panic!("{other:?}"),
        }
    }
    assert!(hits > 4_000, "{hits} of 5000");
}

#[test]
fn bytes_are_bounded_and_what_is_too_large_is_not_kept() {
    let mut bench = Bench::with(Config { bytes: 10_000, ..Config::default() });
    let put = |bench: &mut Bench, key, bytes| {
        let errand = bench.lead(at(0), key);
        let freshness = Freshness::for_span(Span::from_secs(60));
        bench.0.fill(at(0), errand, Fill { bytes, ..fill(key, freshness) });
    };
    for key in 0..100 {
        put(&mut bench, key, 1_000);
        assert!(bench.0.snapshot().bytes <= 10_000);
    }
    let before = bench.0.snapshot().entries;
    put(&mut bench, 200, u64::MAX);
    assert_eq!(bench.0.snapshot().entries, before);
}

#[test]
fn what_can_be_confirmed_stays_when_it_is_good_for_nothing_else() {
    let freshness = Freshness { fresh: Span::from_secs(60), stale: Stale::Forbidden };
    for confirmable in [false, true] {
        let mut bench = Bench::new();
        let errand = bench.lead(at(0), 7);
        bench.0.fill(at(0), errand, Fill { confirmable, ..fill(70, freshness) });
        // Dead: it is not served, and whoever comes asks.
        let Asked::Ask(errand, None) = bench.ask(at(61), 7) else { panic!("served") };
        let held = bench.0.confirmable(&errand);
        assert_eq!(held.map(|held| (held.value, held.age)), confirmable.then_some((70, Span::from_secs(61))));
        assert_eq!(bench.0.snapshot().entries, u64::from(confirmable));
        // Confirmed, it is as good as new.
        bench.0.fill(at(61), errand, Fill { confirmable, ..fill(70, freshness) });
        assert!(matches!(bench.ask(at(62), 7), Asked::Hit(kept) if kept.age == Span::from_secs(1)));
    }
}

#[derive(Clone, Copy, Debug)]
enum Verb {
    Ask(u32),
    Fill,
    Fail,
    Pass,
    Abandon,
    Claim,
    Leave,
    Pause(u64),
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![
        4 => (0_u32..6).prop_map(Verb::Ask),
        1 => Just(Verb::Fill),
        1 => Just(Verb::Fail),
        1 => Just(Verb::Pass),
        1 => Just(Verb::Abandon),
        3 => Just(Verb::Claim),
        1 => Just(Verb::Leave),
        1 => (0_u64..40).prop_map(Verb::Pause),
    ]
}

proptest! {
    /// Whatever happens: bounds hold, at most one leads a key within its lease, a hit is the key's
    /// own answer, and in the end nothing is left in flight.
    #[test]
    fn nobody_hangs_and_nothing_leaks(verbs in proptest::collection::vec(verb(), 1..200)) {
        let config = Config { entries: 4, bytes: 900, flights: 3, waiting: 3, ..Config::default() };
        let mut bench = Bench::with(config);
        let (mut now, mut errands, mut places) = (at(0), Vec::new(), Vec::new());
        let mut waiter = 0;
        for verb in verbs {
            match verb {
                Verb::Ask(key) => match bench.ask(now, key) {
                    Asked::Hit(kept) | Asked::Stale(kept, None) => prop_assert_eq!(kept.value, key),
                    Asked::Ask(errand, _) | Asked::Stale(_, Some(errand)) => errands.push(errand),
                    Asked::Wait(place, _) => places.push(place),
                },
                Verb::Fill => if let Some(errand) = errands.pop() {
                    let key = errand.key;
                    bench.fill(now, errand, key);
                },
                Verb::Fail => if let Some(errand) = errands.pop() { bench.0.fail(errand) },
                Verb::Pass => if let Some(errand) = errands.pop() { bench.0.pass(now, errand) },
                Verb::Abandon => if let Some(errand) = errands.pop() { bench.0.abandon(errand) },
                Verb::Claim => if !places.is_empty() {
                    let place = places.remove(0);
                    let key = place.key;
                    waiter += 1;
                    match bench.0.claim(now, place, waiter) {
                        Claimed::Hit(kept) => prop_assert_eq!(kept.value, key),
                        Claimed::Ask(errand) => errands.push(errand),
                        Claimed::Wait(place) => { prop_assert!(place.wake_at() > now); places.push(place) }
                        Claimed::Failed | Claimed::Late => {}
                    }
                },
                Verb::Leave => if let Some(place) = places.pop() { bench.0.leave(place) },
                Verb::Pause(secs) => now += Span::from_secs(secs),
            }
            let snapshot = bench.0.snapshot();
            prop_assert!(snapshot.entries <= 4 && snapshot.bytes <= 900 && snapshot.flights <= 3);
        }
        errands.into_iter().for_each(|errand| bench.0.abandon(errand));
        places.into_iter().for_each(|place| bench.0.leave(place));
        prop_assert_eq!(bench.0.snapshot().flights, 0);
        let seats = [bench.lead(at(100_000), 50), bench.lead(at(100_000), 51), bench.lead(at(100_000), 52)];
        prop_assert!(seats.iter().all(Errand::leads));
    }
}
