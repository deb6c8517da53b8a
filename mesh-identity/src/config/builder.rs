//! The decisions that both sides of a connection have in common.

use std::{marker::PhantomData, sync::Arc};

use rustls::{crypto::CryptoProvider, time_provider::TimeProvider};

use super::{TlsSettings, credentials::Credentials};
use crate::{CertSelector, ExpectedPeer, IdentitySource, TrustBundles, X509Svid, clock::SystemClock};

/// Builds a TLS configuration in two decisions that cannot be left out: as whom ([`identity`](Self::identity)
/// or [`svid`](Self::svid)), and with whom ([`expect_peer`](ConfigBuilder::expect_peer)).
///
/// Used as [`ServerConfigBuilder`](crate::ServerConfigBuilder) and
/// [`ClientConfigBuilder`](crate::ClientConfigBuilder). A configuration costs some microseconds to build and
/// is shared by all connections alike; [`TlsConfigs`](crate::TlsConfigs) keeps many.
#[derive(Debug)]
pub struct ConfigBuilder<Side, State> {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) state: State,
    side: PhantomData<Side>,
}

/// A configuration builder that does not know yet as whom it connects.
#[derive(Debug)]
pub struct WantsIdentity(());

/// A configuration builder that does not know yet with whom it connects.
#[derive(Debug)]
pub struct WantsPeer {
    credentials: Credentials,
}

/// A configuration builder that knows all it must.
#[derive(Debug)]
pub struct Complete {
    pub(super) credentials: Credentials,
    pub(super) expected: ExpectedPeer,
    pub(super) time: Arc<dyn TimeProvider>,
    pub(super) settings: TlsSettings,
}

impl<Side> ConfigBuilder<Side, WantsIdentity> {
    /// Starts a configuration that computes with `provider`.
    pub fn new(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, state: WantsIdentity(()), side: PhantomData }
    }

    /// Presents the certificate that `source` has for the selected identity at the time of each handshake,
    /// and trusts the bundles it has then. While it has none at hand, handshakes fail.
    pub fn identity(
        self,
        source: impl IdentitySource + 'static,
        selector: CertSelector,
    ) -> ConfigBuilder<Side, WantsPeer> {
        let source = Arc::new(source);
        self.with_state(|_| WantsPeer { credentials: Credentials::Live { source, selector } })
    }

    /// Presents `svid` and trusts `bundles`, for as long as the configuration is used.
    pub fn svid(self, svid: Arc<X509Svid>, bundles: Arc<TrustBundles>) -> ConfigBuilder<Side, WantsPeer> {
        self.with_state(|_| WantsPeer { credentials: Credentials::Fixed { svid, bundles } })
    }
}

impl<Side> ConfigBuilder<Side, WantsPeer> {
    /// Has connections with these peers only.
    pub fn expect_peer(self, expected: ExpectedPeer) -> ConfigBuilder<Side, Complete> {
        self.with_state(|state| Complete {
            credentials: state.credentials,
            expected,
            time: Arc::new(SystemClock),
            settings: TlsSettings::default(),
        })
    }
}

impl<Side> ConfigBuilder<Side, Complete> {
    /// Sets everything else, instead of the default.
    #[must_use]
    pub fn settings(mut self, settings: TlsSettings) -> Self {
        self.state.settings = settings;
        self
    }

    /// Reads the time, for the validity of certificates, from here instead of the system's clock.
    #[must_use]
    pub fn time_provider(mut self, time: Arc<dyn TimeProvider>) -> Self {
        self.state.time = time;
        self
    }
}

impl<Side, State> ConfigBuilder<Side, State> {
    fn with_state<Next>(self, next: impl FnOnce(State) -> Next) -> ConfigBuilder<Side, Next> {
        ConfigBuilder { provider: self.provider, state: next(self.state), side: PhantomData }
    }
}
