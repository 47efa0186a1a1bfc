use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Put(u64, u64),
    Remove(u64),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..60_u64, 1..50_u64).prop_map(|(key, missing)| Op::Put(key, missing)),
        2 => (0..60_u64).prop_map(Op::Remove),
        1 => (0..20_u64).prop_map(Op::Pass),
    ]
}

/// Keys whose homes crowd at both ends of any table, so that runs wrap around.
fn crowded(number: u64) -> Key {
    Key(if number.is_multiple_of(2) { number << 32 } else { (number << 32) | 0xffff_fff0 })
}

proptest! {
    #[test]
    fn finds_what_a_map_finds(ops in prop::collection::vec(op(), 1..300), max in 1_u32..40) {
        let (mut table, mut model, mut now) = (Table::new(max), BTreeMap::new(), 0_u64);
        for op in ops {
            match op {
                Op::Put(number, missing) => {
                    let (key, level) = (crowded(number), Level(now + missing));
                    if let Some(place) = table.find(key) {
                        table.set(place, level);
                    } else {
                        match table.room(Ticks(now)) {
                            Room::Free => {}
                            Room::Idle(place) | Room::Nearest(place) => {
                                model.retain(|key, _| table.find(*key) != Some(place));
                                table.remove(place);
                            }
                        }
                        table.insert(key, level, Ticks(now));
                    }
                    model.insert(key, level);
                }
                Op::Remove(number) => {
                    if let Some(place) = table.find(crowded(number)) {
                        table.remove(place);
                    }
                    model.remove(&crowded(number));
                }
                Op::Pass(time) => now += time,
            }
            prop_assert!(table.len() <= max as usize);
            for number in 0..60 {
                let found = table.find(crowded(number)).map(|place| table.level(place));
                let expected = model.get(&crowded(number)).copied();
                // Only who is full may have been left behind.
                let forgotten = found.is_none() && expected.is_some_and(|level| level.is_full(Ticks(now)));
                prop_assert!(found == expected || forgotten, "{} {:?} {:?}", number, found, expected);
            }
        }
    }
}

proptest! {
    /// As many as a table of the least size has, also where their runs wrap around.
    #[test]
    fn forgetting_who_is_full_loses_nobody_else(levels in prop::collection::vec(1_u64..100, 1..=51), now in 0_u64..100) {
        let mut table = Table::new(u32::MAX);
        for (number, level) in (0_u64..).zip(&levels) {
            table.insert(crowded(number), Level(*level), Ticks(0));
        }
        table.forget_full(Ticks(now));
        let stays = |level: &u64| !Level(*level).is_full(Ticks(now));
        for (number, level) in (0_u64..).zip(&levels) {
            let found = table.find(crowded(number)).map(|place| table.level(place));
            prop_assert_eq!(found, stays(level).then_some(Level(*level)), "{}", number);
        }
        prop_assert_eq!(table.len(), levels.iter().filter(|level| stays(level)).count());
        prop_assert_eq!(table.bytes(), 16 * 64);
    }
}

#[test]
fn no_more_than_thirty_two_bytes_a_user_once_it_has_grown() {
    let mut table = Table::new(u32::MAX);
    let mut worst = Vec::new();
    for number in 0..200_000_u64 {
        table.insert(Key(crate::rng::mix(number)), Level(10), Ticks(0));
        if number >= 64 {
            worst.push(table.bytes() as f64 / table.len() as f64);
        }
    }
    assert!(worst.iter().all(|bytes| *bytes <= 32.0), "{:?}", worst.iter().copied().reduce(f64::max));
}

#[test]
fn a_capped_table_ends_at_twenty_bytes_a_user() {
    let mut table = Table::new(10_000);
    (0..10_000_u64).for_each(|number| {
        table.insert(Key(crate::rng::mix(number)), Level(10), Ticks(0));
    });
    assert_eq!(table.bytes(), 16 * 12_501);
}

#[test]
fn a_table_of_idle_users_stays_small() {
    let mut table = Table::new(u32::MAX);
    for number in 0..100_000_u64 {
        // Each is full again after a hundred others came.
        table.insert(Key(crate::rng::mix(number)), Level(number + 100), Ticks(number));
    }
    assert!(table.bytes() < 16 * SLOTS_FREELY * 3 / 2, "{}", table.bytes());
}
