//! A bounded map from an identity and its peers to a configuration, read without a lock.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;

use super::TlsEntry;
use crate::{ExpectedPeer, SpiffeId, id_map::Hashed};

/// Readers take the map as it is; a writer copies the part it changes. That suits configurations, which are read for each
/// connection and written when a certificate is replaced.
pub(super) struct Lookup<C> {
    /// As many as a power of two.
    shards: Box<[Shard<C>]>,
    capacity_of_shard: usize,
    uses: AtomicU64,
}

struct Shard<C> {
    entries: ArcSwap<Entries<C>>,
    writing: Mutex<()>,
}

impl<C> Shard<C> {
    fn change(&self, change: impl FnOnce(&mut Entries<C>)) {
        // Nothing but the map is guarded, which is whole whatever happened to another writer.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Entries::clone(&self.entries.load());
        change(&mut entries);
        self.entries.store(Arc::new(entries));
    }
}

/// By the hash of the key; of two keys with the same hash the later one stays.
type Entries<C> = HashMap<u64, Arc<Keyed<C>>, BuildHasherDefault<Hashed>>;

struct Keyed<C> {
    identity: SpiffeId,
    expected: ExpectedPeer,
    used: AtomicU64,
    entry: Entry<C>,
}

/// What is kept under a key.
pub(super) struct Entry<C> {
    pub(super) made: Arc<TlsEntry<C>>,
    /// The last second of its certificate, since the epoch.
    pub(super) last: u64,
    generation: AtomicU64,
}

impl<C> Entry<C> {
    pub(super) fn new(made: Arc<TlsEntry<C>>, generation: u64) -> Self {
        let last = seconds(made.svid().not_after());
        Self { made, last, generation: AtomicU64::new(generation) }
    }

    /// The source's generation at which the entry was last found right.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn renew(&self, generation: u64) {
        self.generation.store(generation, Ordering::Release);
    }
}

impl<C> Lookup<C> {
    pub(super) fn new(capacity: usize) -> Self {
        // A copy stays small in a large map; a small one is exact about which entry is the oldest.
        let shards = if capacity >= SHARDS * SHARDS { SHARDS } else { 1 };
        let shard = || Shard { entries: ArcSwap::default(), writing: Mutex::default() };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            capacity_of_shard: capacity.div_ceil(shards),
            uses: AtomicU64::new(0),
        }
    }

    /// Reads the entry of a key; `None` if there is none or `read` does not want it.
    pub(super) fn find<T>(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
        read: impl FnOnce(&Entry<C>) -> Option<T>,
    ) -> Option<T> {
        let hash = Self::hash(identity, expected);
        let entries = self.shard(hash)?.entries.load();
        let keyed = entries.get(&hash)?;
        if keyed.identity != *identity || keyed.expected != *expected {
            return None;
        }
        keyed.used.store(self.tick(), Ordering::Relaxed);
        read(&keyed.entry)
    }

    pub(super) fn insert(&self, identity: SpiffeId, expected: ExpectedPeer, entry: Entry<C>) {
        let hash = Self::hash(&identity, &expected);
        let Some(shard) = self.shard(hash) else { return };
        shard.change(|entries| {
            if entries.len() >= self.capacity_of_shard && !entries.contains_key(&hash) {
                let used = |keyed: &Keyed<C>| keyed.used.load(Ordering::Relaxed);
                let oldest = entries.iter().min_by_key(|(_, keyed)| used(keyed)).map(|(hash, _)| *hash);
                oldest.and_then(|oldest| entries.remove(&oldest));
            }
            let keyed = Keyed { identity, expected, used: AtomicU64::new(self.tick()), entry };
            entries.insert(hash, Arc::new(keyed));
        });
    }

    /// Removes all entries of an identity. Looks through everything: for what is rare.
    pub(super) fn remove(&self, identity: &SpiffeId) {
        for shard in &self.shards {
            if shard.entries.load().values().any(|keyed| keyed.identity == *identity) {
                shard.change(|entries| entries.retain(|_, keyed| keyed.identity != *identity));
            }
        }
    }

    fn hash(identity: &SpiffeId, expected: &ExpectedPeer) -> u64 {
        BuildHasherDefault::<Hashed>::default().hash_one((identity, expected))
    }

    fn shard(&self, hash: u64) -> Option<&Shard<C>> {
        // The low bits choose within a shard's map.
        let index = usize::try_from(hash >> 32).unwrap_or(0) & (self.shards.len() - 1);
        self.shards.get(index)
    }

    /// Two uses at the same moment may count as one, which matters less than a locked addition for each.
    fn tick(&self) -> u64 {
        let tick = self.uses.load(Ordering::Relaxed).wrapping_add(1);
        self.uses.store(tick, Ordering::Relaxed);
        tick
    }
}

/// Since the epoch, before which no certificate ends.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const SHARDS: usize = 64;
