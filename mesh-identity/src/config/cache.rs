//! Configurations made once per identity and peer, and again after a rotation.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::UNIX_EPOCH,
};

use rustls::{
    ClientConfig, ServerConfig,
    crypto::CryptoProvider,
    time_provider::{DefaultTimeProvider, TimeProvider},
};

use super::{ClientConfigBuilder, ConfigError, ServerConfigBuilder, provider::narrowed};
use crate::{ExpectedPeer, IdentityError, IdentitySource, SpiffeId, TrustBundles, X509Svid};

/// TLS configurations for many identities, built when first needed and kept until what they are made of
/// changes.
///
/// While the source's generation stands, a look-up costs a hash of the key and an uncontended lock. When it
/// has moved, the certificate and bundles are asked for again, and a configuration is built anew only if its
/// own changed. Clones share the contents; give each worker its own so that they share no lock.
///
/// At most [`capacity`](Self::capacity) configurations per side are kept; past it the one unused for longest
/// goes, which costs the next connection that needs it a rebuild.
#[derive(Clone)]
pub struct TlsConfigs {
    identities: Arc<dyn IdentitySource>,
    provider: Arc<CryptoProvider>,
    time: Arc<dyn TimeProvider>,
    servers: Arc<Mutex<Cache<ServerConfig>>>,
    clients: Arc<Mutex<Cache<ClientConfig>>>,
}

impl TlsConfigs {
    /// Makes configurations for the identities of `identities`, computing with `provider`.
    ///
    /// # Errors
    ///
    /// If the provider lacks what a mesh connection needs.
    pub fn new(identities: Arc<dyn IdentitySource>, provider: &CryptoProvider) -> Result<Self, ConfigError> {
        Ok(Self {
            identities,
            provider: narrowed(provider)?,
            time: Arc::new(DefaultTimeProvider),
            servers: Arc::new(Mutex::new(Cache::new(Self::DEFAULT_CAPACITY))),
            clients: Arc::new(Mutex::new(Cache::new(Self::DEFAULT_CAPACITY))),
        })
    }

    /// Forgets everything made so far and keeps at most so many configurations per side, each of about 1 KiB.
    /// Raise it above the number of peer identities that a worker talks to.
    #[must_use]
    pub fn capacity(self, capacity: usize) -> Self {
        Self {
            servers: Arc::new(Mutex::new(Cache::new(capacity))),
            clients: Arc::new(Mutex::new(Cache::new(capacity))),
            ..self
        }
    }

    /// Reads the time, for the validity of certificates, from here instead of the system's clock.
    #[must_use]
    pub fn time_provider(self, time: Arc<dyn TimeProvider>) -> Self {
        Self { time, ..self }
    }

    /// Where the identities come from.
    pub fn identities(&self) -> &Arc<dyn IdentitySource> {
        &self.identities
    }

    /// The configuration for accepting connections as `identity` from `expected` peers.
    ///
    /// # Errors
    ///
    /// If there is no valid certificate for the identity.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn server(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
    ) -> Result<Arc<ServerConfig>, TlsConfigError> {
        self.look_up(&self.servers, identity, expected, |svid, bundles| {
            ServerConfigBuilder::new(Arc::clone(&self.provider))
                .svid(svid, bundles)
                .expect_peer(expected.clone())
                .time_provider(Arc::clone(&self.time))
                .build()
        })
        .await
    }

    /// The configuration for opening connections as `identity` to `expected` peers.
    ///
    /// # Errors
    ///
    /// If there is no valid certificate for the identity.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn client(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
    ) -> Result<Arc<ClientConfig>, TlsConfigError> {
        self.look_up(&self.clients, identity, expected, |svid, bundles| {
            ClientConfigBuilder::new(Arc::clone(&self.provider))
                .svid(svid, bundles)
                .expect_peer(expected.clone())
                .time_provider(Arc::clone(&self.time))
                .build()
        })
        .await
    }

    async fn look_up<C>(
        &self,
        cache: &Mutex<Cache<C>>,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
        build: impl FnOnce(Arc<X509Svid>, Arc<TrustBundles>) -> Result<Arc<C>, ConfigError>,
    ) -> Result<Arc<C>, TlsConfigError> {
        // Read first: what is fetched below may be newer than this says, never older.
        let generation = self.identities.generation();
        let key = Key { identity: identity.clone(), expected: expected.clone() };
        if let Some(entry) = lock(cache).get(&key)
            && entry.generation == generation
        {
            self.check_in_date(&entry.svid)?;
            return Ok(Arc::clone(&entry.config));
        }
        let svid = match self.identities.try_svid(identity) {
            Some(svid) => svid,
            None => self.identities.svid(identity).await?,
        };
        self.check_in_date(&svid)?;
        let bundles = self.identities.bundles();
        if let Some(entry) = lock(cache).get(&key)
            && Arc::ptr_eq(&entry.svid, &svid)
            && Arc::ptr_eq(&entry.bundles, &bundles)
        {
            entry.generation = generation;
            return Ok(Arc::clone(&entry.config));
        }
        let config = build(Arc::clone(&svid), Arc::clone(&bundles))?;
        let entry = Entry { config: Arc::clone(&config), svid, bundles, generation, used: 0 };
        lock(cache).insert(key, entry);
        Ok(config)
    }

    /// A source keeps the last good certificate; one past its time is of no use to anybody.
    fn check_in_date(&self, svid: &X509Svid) -> Result<(), IdentityError> {
        let now = self.time.current_time().map_or(u64::MAX, |now| now.as_secs());
        let last = svid.not_after().duration_since(UNIX_EPOCH).map_or(0, |last| last.as_secs());
        if now > last {
            return Err(IdentityError::Expired { id: svid.id().clone(), not_after: svid.not_after() });
        }
        Ok(())
    }

    /// How many configurations per side are kept by default: more identities than a node's workloads usually
    /// talk to, in a few MiB.
    pub const DEFAULT_CAPACITY: usize = 4096;
}

impl fmt::Debug for TlsConfigs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfigs").field("identities", &self.identities).finish_non_exhaustive()
    }
}

/// Why there is no TLS configuration for an identity.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// The provider lacks what a mesh connection needs.
    #[error("tls configuration cannot be built")]
    Config(#[from] ConfigError),
    /// There is no valid certificate for the identity.
    #[error("identity is unavailable")]
    Identity(#[from] IdentityError),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    identity: SpiffeId,
    expected: ExpectedPeer,
}

struct Entry<C> {
    config: Arc<C>,
    svid: Arc<X509Svid>,
    bundles: Arc<TrustBundles>,
    generation: u64,
    used: u64,
}

struct Cache<C> {
    entries: HashMap<Key, Entry<C>>,
    capacity: usize,
    uses: u64,
}

impl<C> Cache<C> {
    fn new(capacity: usize) -> Self {
        Self { entries: HashMap::new(), capacity, uses: 0 }
    }

    fn get(&mut self, key: &Key) -> Option<&mut Entry<C>> {
        let entry = self.entries.get_mut(key)?;
        self.uses += 1;
        entry.used = self.uses;
        Some(entry)
    }

    fn insert(&mut self, key: Key, mut entry: Entry<C>) {
        if self.entries.len() >= self.capacity && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
            }
        }
        self.uses += 1;
        entry.used = self.uses;
        self.entries.insert(key, entry);
    }
}

/// A panic while the lock was held leaves the cache consistent, at worst with an entry too few.
fn lock<C>(cache: &Mutex<Cache<C>>) -> MutexGuard<'_, Cache<C>> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
