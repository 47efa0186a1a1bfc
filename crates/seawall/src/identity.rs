//! From a user's identity to the key of its bucket.
//!
//! **Prevents** crafted identities from colliding: keys whose buckets all stand in one place make a
//! table slow, and two users with one key share a quota. Both take the seed, which is random and
//! never leaves the process.

mod sip;

use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::net::IpAddr;

use seawall_core::request::Key;
use sip::Sip;

/// Makes keys of identities, with a seed that nobody outside knows. Keep one for the life of the
/// process: with another, every user is a new one.
///
/// Text and bytes go through SipHash. Numbers have a cheaper way of their own, on which two numbers
/// never have the same key.
///
/// ```
/// use seawall::UserKeys;
///
/// let keys = UserKeys::new();
/// assert_eq!(keys.key(b"alice"), keys.key(b"alice"));
/// assert_ne!(keys.number(1), keys.number(2));
/// ```
#[derive(Clone, Debug)]
pub struct UserKeys {
    text: Sip,
    rounds: [Round; 2],
}

/// Two secrets of a round that mixes a number.
#[derive(Clone, Copy, Debug)]
struct Round {
    add: u64,
    /// Odd, so that multiplication loses nothing.
    times: u64,
}

impl Round {
    const fn mix(self, number: u64) -> u64 {
        let product = (number ^ self.add).wrapping_mul(self.times);
        product ^ (product >> 32)
    }
}

impl Default for UserKeys {
    fn default() -> UserKeys {
        UserKeys::new()
    }
}

impl UserKeys {
    /// A new random seed.
    pub fn new() -> UserKeys {
        let hasher = RandomState::new();
        let secret = |at: u8| hasher.hash_one(at);
        let round = |at: u8| Round { add: secret(at), times: secret(at + 1) | 1 };
        UserKeys { rounds: [round(0), round(2)], text: Sip::new([secret(4), secret(5)]) }
    }

    /// The key of this identity.
    pub fn key(&self, identity: &[u8]) -> Key {
        Key(self.text.hash(identity))
    }

    /// The key of a user who is known only by an address: IPv6 by its /64, all of which one household
    /// has; a mapped IPv4 address is IPv4.
    ///
    /// ```
    /// use seawall::UserKeys;
    ///
    /// let keys = UserKeys::new();
    /// let key = |address: &str| keys.address(address.parse().unwrap());
    /// assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
    /// assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    /// assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    /// ```
    pub fn address(&self, address: IpAddr) -> Key {
        match address.to_canonical() {
            IpAddr::V4(address) => self.key(&address.octets()),
            IpAddr::V6(address) => self.key(&address.octets()[..8]),
        }
    }

    /// The key of a user who is known by a number.
    #[inline]
    pub fn number(&self, user: u64) -> Key {
        let [first, second] = self.rounds;
        // A multiplication carries only upwards: numbers that differ in their high bits alone need
        // those further down first. No number is lost by it.
        let user = user ^ (user >> 23) ^ (user >> 47);
        // The low half of a product says little of the high half of its factors: swap before the last.
        Key(second.mix(first.mix(user).swap_bytes()))
    }
}

impl UserKeys {
    /// The key of what is made of several parts.
    pub(crate) fn of(&self, parts: &impl Hash) -> Key {
        let mut sum = Sum { keys: self, sum: 0 };
        parts.hash(&mut sum);
        Key(sum.sum)
    }
}

/// The key of the parts so far.
struct Sum<'a> {
    keys: &'a UserKeys,
    sum: u64,
}

impl Hasher for Sum<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.write_u64(self.keys.key(bytes).0);
    }

    fn write_u64(&mut self, number: u64) {
        self.sum = self.keys.number(self.sum ^ number).0;
    }

    fn finish(&self) -> u64 {
        self.sum
    }
}

/// A random number: for jitter that no two processes, and no two upstreams, have in common.
pub fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests;
