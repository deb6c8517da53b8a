//! A table by id.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::SpiffeId;

/// An id brings its hash with it.
pub(crate) type IdMap<V> = HashMap<SpiffeId, V, BuildHasherDefault<Hashed>>;

/// Takes hashes for what they are.
#[derive(Debug, Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only ever asked for `u64`; anything else would still be a hash, if a poor one.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        // All are hashes already; this only tells one after another from the other way round.
        self.0 = self.0.rotate_left(1) ^ hash;
    }
}
