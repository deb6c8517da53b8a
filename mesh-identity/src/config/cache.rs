//! Configurations made once per identity and peer, and again after a rotation.

use std::{fmt, sync::Arc};

use rustls::{ClientConfig, ServerConfig, crypto::CryptoProvider, time_provider::TimeProvider};

use super::{
    Complete, ConfigBuilder, ConfigError, TlsEntry, TlsSettings,
    lookup::{Entry, Lookup, seconds},
    provider::narrowed,
};
use crate::{
    ExpectedPeer, IdentityError, IdentitySource, PeerVerifier, Revocation, SpiffeId, TrustBundles, X509Svid,
    clock::SystemClock,
};

/// TLS configurations for many identities, built when first needed and kept until what they are made of
/// changes.
///
/// This is how a server that serves many workloads chooses its certificate by the workload a connection is for: it knows
/// the destination before the handshake begins, and asks for that identity's configuration. An embedder with one identity,
/// or one per server name, uses [`ServerConfigBuilder`](crate::ServerConfigBuilder) with a
/// [`CertSelector`](crate::CertSelector).
///
/// While the source's generation stands, a look-up costs a hash of the key: no lock, no allocation.
/// When it has moved, the certificate and bundles are asked for again, and a configuration is built anew only if its
/// own changed. Revocation lists are read in each handshake and need no new configuration. Clones share the contents; give
/// each worker its own so that they share no cache line.
///
/// At most [`capacity`](Self::capacity) configurations per side are kept; past it one unused for long
/// goes, which costs the next connection that needs it a rebuild.
#[derive(Clone)]
pub struct TlsConfigs {
    identities: Arc<dyn IdentitySource>,
    provider: Arc<CryptoProvider>,
    settings: TlsSettings,
    time: Arc<dyn TimeProvider>,
    servers: Arc<Lookup<ServerConfig>>,
    clients: Arc<Lookup<ClientConfig>>,
}

impl TlsConfigs {
    /// Makes configurations for the identities of `identities`, computing with `provider`.
    ///
    /// # Errors
    ///
    /// If the provider lacks what a mesh connection needs.
    pub fn new(identities: Arc<dyn IdentitySource>, provider: &CryptoProvider) -> Result<Self, ConfigError> {
        Self::with_settings(identities, provider, TlsSettings::default())
    }

    /// Makes configurations as `settings` say.
    ///
    /// # Errors
    ///
    /// If the provider lacks what a mesh connection or the settings need.
    pub fn with_settings(
        identities: Arc<dyn IdentitySource>,
        provider: &CryptoProvider,
        settings: TlsSettings,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            identities,
            provider: narrowed(provider, &settings)?,
            settings,
            time: Arc::new(SystemClock),
            servers: Arc::new(Lookup::new(Self::DEFAULT_CAPACITY)),
            clients: Arc::new(Lookup::new(Self::DEFAULT_CAPACITY)),
        })
    }

    /// Forgets everything made so far and keeps at most so many configurations per side, each of about 1 KiB.
    /// Raise it above the number of peer identities that a worker talks to.
    #[must_use]
    pub fn capacity(self, capacity: usize) -> Self {
        Self { servers: Arc::new(Lookup::new(capacity)), clients: Arc::new(Lookup::new(capacity)), ..self }
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

    /// The revocation lists that peers are checked against, if any.
    pub fn revocation(&self) -> Option<&Revocation> {
        self.settings.lists()
    }

    /// A verifier of `expected` peers that knows what the configurations know, at the time it is asked: for connections
    /// that stand, when bundles or revocation lists have changed.
    pub fn verifier(&self, expected: ExpectedPeer) -> PeerVerifier {
        self.settings.apply(PeerVerifier::live(&self.provider, Arc::clone(&self.identities), expected))
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
        self.server_with(identity, expected, |entry| Arc::clone(entry.config())).await
    }

    /// The same with what it was made of.
    ///
    /// # Errors
    ///
    /// As [`server`](Self::server).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn server_entry(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
    ) -> Result<Arc<TlsEntry<ServerConfig>>, TlsConfigError> {
        self.server_with(identity, expected, Arc::clone).await
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
        self.client_with(identity, expected, |entry| Arc::clone(entry.config())).await
    }

    /// The same with what it was made of.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn client_entry(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
    ) -> Result<Arc<TlsEntry<ClientConfig>>, TlsConfigError> {
        self.client_with(identity, expected, Arc::clone).await
    }

    /// Whether a configuration would be made of the same today. One that would not is for no new connection, and
    /// connections that were made with it are to take nothing new. Costs two look-ups at the source.
    pub fn is_current<C>(&self, entry: &TlsEntry<C>) -> bool {
        entry.is_current(&*self.identities)
    }

    async fn server_with<T>(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
        pick: impl Fn(&Arc<TlsEntry<ServerConfig>>) -> T,
    ) -> Result<T, TlsConfigError> {
        self.look_up(&self.servers, identity, expected, pick, |svid, bundles| {
            self.builder::<ServerConfig>(svid, bundles, expected).build()
        })
        .await
    }

    async fn client_with<T>(
        &self,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
        pick: impl Fn(&Arc<TlsEntry<ClientConfig>>) -> T,
    ) -> Result<T, TlsConfigError> {
        self.look_up(&self.clients, identity, expected, pick, |svid, bundles| {
            self.builder::<ClientConfig>(svid, bundles, expected).build()
        })
        .await
    }

    /// What a configuration of either side is made with.
    fn builder<Side>(
        &self,
        svid: Arc<X509Svid>,
        bundles: Arc<TrustBundles>,
        expected: &ExpectedPeer,
    ) -> ConfigBuilder<Side, Complete> {
        ConfigBuilder::new(Arc::clone(&self.provider))
            .svid(svid, bundles)
            .expect_peer(expected.clone())
            .time_provider(Arc::clone(&self.time))
            .settings(self.settings.clone())
    }

    /// Finds or makes an entry, of which the caller gets what `pick` takes.
    async fn look_up<C, T>(
        &self,
        cache: &Lookup<C>,
        identity: &SpiffeId,
        expected: &ExpectedPeer,
        pick: impl Fn(&Arc<TlsEntry<C>>) -> T,
        build: impl FnOnce(Arc<X509Svid>, Arc<TrustBundles>) -> Result<Arc<C>, ConfigError>,
    ) -> Result<T, TlsConfigError> {
        // Read first: what is fetched below may be newer than this says, never older.
        let generation = self.identities.generation();
        let found = cache.find(identity, expected, |entry| {
            (entry.generation() == generation && self.now() <= entry.last).then(|| pick(&entry.made))
        });
        if let Some(picked) = found {
            return Ok(picked);
        }
        match self.fetch(identity).await {
            Ok((svid, bundles)) => {
                let unchanged = cache.find(identity, expected, |entry| {
                    entry.made.is_made_of(&svid, &bundles).then(|| {
                        entry.renew(generation);
                        pick(&entry.made)
                    })
                });
                if let Some(picked) = unchanged {
                    return Ok(picked);
                }
                let config = build(Arc::clone(&svid), Arc::clone(&bundles))?;
                let made = Arc::new(TlsEntry::new(config, svid, bundles));
                let picked = pick(&made);
                cache.insert(identity.clone(), expected.clone(), Entry::new(made, generation));
                Ok(picked)
            }
            Err(error) => {
                // The key of an identity that is gone goes with it, whomever it was to connect with.
                self.servers.remove(identity);
                self.clients.remove(identity);
                Err(error.into())
            }
        }
    }

    async fn fetch(&self, identity: &SpiffeId) -> Result<(Arc<X509Svid>, Arc<TrustBundles>), IdentityError> {
        let svid = match self.identities.try_svid(identity) {
            Some(svid) => svid,
            None => self.identities.svid(identity).await?,
        };
        self.check_in_date(&svid)?;
        Ok((svid, self.identities.bundles()))
    }

    /// A source keeps the last good certificate; one past its time is of no use to anybody.
    fn check_in_date(&self, svid: &X509Svid) -> Result<(), IdentityError> {
        if self.now() > seconds(svid.not_after()) {
            return Err(IdentityError::Expired { id: svid.id().clone(), not_after: svid.not_after() });
        }
        Ok(())
    }

    /// Seconds since the epoch. Without a clock everything has expired.
    fn now(&self) -> u64 {
        self.time.current_time().map_or(u64::MAX, |now| now.as_secs())
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
