//! SPIFFE identities for a service mesh.

#[cfg(feature = "rustls")]
mod bundle;
#[cfg(feature = "rustls")]
mod config;
#[cfg(feature = "dev-ca")]
mod dev_ca;
mod expected_peer;
#[cfg(any(feature = "dev-ca", feature = "testing"))]
mod issue;
#[cfg(feature = "rustls")]
mod leaf;
#[cfg(feature = "rustls")]
mod peer;
#[cfg(feature = "rustls")]
mod select;
mod service_account;
#[cfg(feature = "rustls")]
mod source;
mod spiffe_id;
#[cfg(feature = "rustls")]
mod store;
#[cfg(feature = "rustls")]
mod svid;
#[cfg(feature = "testing")]
pub mod testing;
mod trust_domain;
#[cfg(feature = "rustls")]
mod verify;

#[cfg(feature = "dev-ca")]
pub use dev_ca::DevCa;
pub use expected_peer::ExpectedPeer;
#[cfg(any(feature = "dev-ca", feature = "testing"))]
pub use issue::PemSvid;
pub use service_account::ServiceAccount;
pub use spiffe_id::{SpiffeId, SpiffeIdError};
pub use trust_domain::{TrustDomain, TrustDomainError};
#[cfg(feature = "rustls")]
pub use {
    bundle::{TrustBundle, TrustBundleError, TrustBundles},
    config::{
        ClientConfigBuilder, Complete, ConfigError, ServerConfigBuilder, TlsConfigError, TlsConfigs,
        WantsIdentity, WantsPeer, server_name,
    },
    leaf::LeafError,
    peer::{PeerIdentity, PeerIdentityError},
    select::CertSelector,
    source::{IdentityError, IdentitySource, SvidFuture},
    store::IdentityStore,
    svid::{SvidError, X509Svid},
    verify::{ChainError, PeerVerifier, Role, VerifyError},
};
