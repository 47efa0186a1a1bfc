use std::collections::HashSet;

use seawall_core::gate::shard_of;

use super::*;

/// How uneven `users` keys fall on `bins`: chi square over its degrees of freedom, about 1.
fn unevenness(users: impl Iterator<Item = Key>, bins: usize, bin: impl Fn(Key) -> usize) -> f64 {
    let mut counts = vec![0_f64; bins];
    users.for_each(|key| counts[bin(key)] += 1.0);
    let mean = counts.iter().sum::<f64>() / bins as f64;
    counts.iter().map(|count| (count - mean).powi(2) / mean).sum::<f64>() / (bins - 1) as f64
}

type Number = fn(u64) -> u64;

/// Numbers as they are given out, and numbers that someone made alike in most of their bits.
fn families() -> [(&'static str, Number); 6] {
    [
        ("in order", |number| number),
        ("high bits", |number| number << 44),
        ("middle bits", |number| number << 24),
        ("steps", |number| number.wrapping_mul(0x1_0000_0001)),
        ("reversed", u64::reverse_bits),
        ("powers of a thousand", |number| number * 1_000_000_000),
    ]
}

#[test]
fn keys_fall_evenly_on_shards_and_on_slots_within_a_shard() {
    let keys = UserKeys::new();
    for (family, number) in families() {
        let users = || (0..64_000).map(|user| keys.number(number(user)));
        let on_shards = unevenness(users(), 64, |key| shard_of(key, 64));
        // As the table of a shard does.
        let slot = |key: Key| (((key.0 & 0xffff_ffff) * 97) >> 32) as usize;
        let in_one = users().filter(|key| shard_of(*key, 8) == 5);
        let on_slots = unevenness(in_one, 97, slot);
        assert!(on_shards < 2.5 && on_slots < 2.5, "{family}: {on_shards} {on_slots}");
    }
    let text = (0..64_000_u32).map(|user| keys.key(format!("user-{user}").as_bytes()));
    assert!(unevenness(text, 64, |key| shard_of(key, 64)) < 2.5);
}

#[test]
fn a_change_of_one_bit_changes_half_of_the_key() {
    let keys = UserKeys::new();
    for bit in 0..64 {
        let changed = |user: u64| (keys.number(user).0 ^ keys.number(user ^ (1 << bit)).0).count_ones();
        let mean = f64::from((0..2_000).map(changed).sum::<u32>()) / 2_000.0;
        assert!((22.0..42.0).contains(&mean), "bit {bit}: {mean}");
    }
}

#[test]
fn no_two_numbers_share_a_key_and_no_two_seeds_agree() {
    let (keys, others) = (UserKeys::new(), UserKeys::new());
    let seen: HashSet<Key> = (0..100_000).map(|user| keys.number(user)).collect();
    assert_eq!(seen.len(), 100_000);
    assert_eq!((0..100_000).filter(|user| keys.number(*user) == others.number(*user)).count(), 0);
}

#[test]
fn parts_in_another_order_or_in_other_pieces_have_another_key() {
    let keys = UserKeys::new();
    assert_eq!(keys.of(&(7_u64, "a")), keys.of(&(7_u64, "a")));
    let things =
        [keys.of(&(1_u64, 2_u64)), keys.of(&(2_u64, 1_u64)), keys.of(&3_u64), keys.of(&(3_u64, 0_u64))];
    let texts = [keys.of(&("ab", "c")), keys.of(&("a", "bc")), keys.of(&"abc")];
    let distinct: HashSet<Key> = things.into_iter().chain(texts).collect();
    assert_eq!(distinct.len(), 7);
    let pairs = (0..64_000_u64).map(|pair| keys.of(&(pair / 250, pair % 250)));
    assert!(unevenness(pairs, 64, |key| shard_of(key, 64)) < 2.5);
}

#[test]
fn text_is_hashed_as_the_standard_library_does() {
    let input: Vec<u8> = (0..=255).collect();
    for length in 0..=input.len() {
        // Its key is zero.
        let mut hasher = std::hash::DefaultHasher::new();
        hasher.write(&input[..length]);
        assert_eq!(Sip::new([0, 0]).hash(&input[..length]), hasher.finish(), "{length} bytes");
    }
    // With the key 00 01 … 0f, from the vectors of the reference implementation.
    let sip = Sip::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
    assert_eq!(sip.hash(b""), 0xabac_0158_050f_c4dc);
}
