//! From a user's identity to the key of its bucket.

use std::hash::{BuildHasher as _, RandomState};

use seawall_core::request::Key;

/// Hashes identities with a seed that nobody outside knows, so that keys cannot be crafted to
/// collide. Keep one for the life of the process: with another, every user is a new one.
#[derive(Clone, Debug, Default)]
pub struct UserKeys(RandomState);

impl UserKeys {
    /// A new random seed.
    pub fn new() -> UserKeys {
        UserKeys::default()
    }

    /// The key of this identity.
    pub fn key(&self, identity: &[u8]) -> Key {
        Key(self.0.hash_one(identity))
    }
}
