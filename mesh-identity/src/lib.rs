//! SPIFFE identities for a service mesh: ids, X.509-SVIDs, trust bundles, and rustls configurations that
//! prove and verify them.
//!
//! It is not a TLS library. Without optional features it opens no sockets, reads no files and talks to no
//! certificate authority: the caller brings I/O, certificates and a rustls `CryptoProvider`. It never reads the
//! environment.
//!
//! ```
//! # #[cfg(all(feature = "rustls", feature = "testing"))]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # use std::sync::Arc;
//! # use mesh_identity::testing::Authority;
//! # let (ca, provider) = (Authority::new("example.org"), mesh_identity::testing::provider());
//! # let leaf = ca.leaf("spiffe://example.org/ns/shop/sa/cart").issue().pem();
//! # let (root, chain, key) = (ca.root_pem(), leaf.chain().to_owned(), leaf.key().to_owned());
//! use mesh_identity::{
//!     CertSelector, ExpectedPeer, IdentityStore, ServerConfigBuilder, TrustBundle, TrustBundles, TrustDomain,
//!     X509Svid,
//! };
//!
//! let trust_domain: TrustDomain = "example.org".parse()?;
//! let bundle = TrustBundle::from_pem(trust_domain.clone(), root.as_bytes())?;
//! let svid = X509Svid::from_pem(chain.as_bytes(), key.as_bytes(), &provider)?;
//! let id = svid.id().clone();
//!
//! let store = IdentityStore::new(TrustBundles::new([bundle]));
//! store.insert(svid); // again, with the next certificate, to rotate
//!
//! let config: Arc<rustls::ServerConfig> = ServerConfigBuilder::new(provider)
//!     .identity(store, CertSelector::fixed(id))
//!     .expect_peer(ExpectedPeer::trust_domain(trust_domain))
//!     .build()?;
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "rustls", feature = "testing")))]
//! # fn main() {}
//! ```
//!
//! | type | is |
//! |---|---|
//! | [`SpiffeId`], [`TrustDomain`], [`ServiceAccount`] | a name; nothing but `thiserror` is needed for these |
//! | [`ExpectedPeer`] | whom a connection may be with |
#![cfg_attr(
    feature = "rustls",
    doc = "\
| [`X509Svid`] | a certificate chain with its private key |
| [`TrustBundle`], [`TrustBundles`] | the roots of one trust domain, and of all |
| [`IdentitySource`], [`IdentityStore`] | where the current certificates and bundles come from |
| [`CertificateAuthority`] | who issues certificates on request |
| [`ServerConfigBuilder`], [`ClientConfigBuilder`], [`TlsConfigs`] | rustls configurations: one, or many kept over rotations |
| [`PeerVerifier`], [`VerifyError`] | the check of a peer's chain, and which rule it broke |
| [`Revocation`], [`RevocationPolicy`] | revocation lists, and what is done about what they leave open |
| [`TlsSettings`] | what a configuration does beyond identities |
| [`PeerIdentity`] | who the peer of a connection proved to be |"
)]
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `rustls` (default) | everything about certificates and TLS |
//! | `istio-ca` | `IstioCa`: certificates from Istio's certificate API, with keys made here by aws-lc-rs |
//! | `workload-api` | `WorkloadApi` and `DelegatedIdentity`: identities pushed by a SPIFFE agent |
//! | `manager` | certificates obtained from an authority and kept current, on tokio |
//! | `files` | identities, roots and revocation lists from files, read again when they change (tokio) |
//! | `spiffe-bundle` | trust bundles in the SPIFFE format, a JWK set |
//! | `dev-ca` | an authority for development whose private key is public |
//! | `testing` | throwaway authorities for tests, exempt from semver |
//!
//! # Security
//!
//! A configuration cannot be built without naming the peers it is for, and an empty set of them means nobody.
//! A peer's certificate is checked against the roots of the trust domain it names, not against all roots; it
//! must name exactly one SPIFFE ID, and must not be able to issue others. Sessions are never resumed, so that
//! every connection is checked in full. Revocation lists are asked once `TlsSettings` name some.

#[cfg(feature = "rustls")]
mod bundle;
#[cfg(feature = "rustls")]
mod ca;
#[cfg(feature = "rustls")]
mod certificate;
#[cfg(feature = "rustls")]
mod clock;
#[cfg(feature = "rustls")]
mod config;
#[cfg(feature = "rustls")]
mod crl;
#[cfg(any(feature = "manager", feature = "workload-api"))]
mod describe;
#[cfg(feature = "dev-ca")]
mod dev_ca;
mod expected_peer;
#[cfg(feature = "files")]
mod files;
#[cfg(all(any(fuzzing, test), feature = "istio-ca", feature = "testing", feature = "workload-api"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "__grpc")]
mod grpc;
#[cfg(feature = "rustls")]
mod id_map;
#[cfg(any(feature = "dev-ca", feature = "testing"))]
mod issue;
#[cfg(feature = "rustls")]
mod leaf;
#[cfg(feature = "manager")]
mod manager;
#[cfg(feature = "rustls")]
mod peer;
#[cfg(all(feature = "__grpc", not(feature = "__server")))]
mod proto;
#[cfg(all(feature = "__grpc", feature = "__server"))]
#[doc(hidden)]
pub mod proto;
#[cfg(feature = "rustls")]
mod select;
mod service_account;
#[cfg(feature = "rustls")]
mod signed;
#[cfg(feature = "rustls")]
mod source;
#[cfg(feature = "spiffe-bundle")]
mod spiffe_bundle;
mod spiffe_id;
#[cfg(feature = "rustls")]
mod status;
#[cfg(feature = "rustls")]
mod store;
#[cfg(feature = "rustls")]
mod svid;
#[cfg(feature = "testing")]
pub mod testing;
mod trust_domain;
#[cfg(feature = "rustls")]
mod verify;

#[cfg(feature = "workload-api")]
pub use ca::{
    AgentEndpoint, AgentEndpointError, AgentError, DelegatedIdentity, DelegatedIdentityDriver, Subscription,
    WorkloadApi, WorkloadApiDriver, WorkloadSelectors,
};
#[cfg(feature = "istio-ca")]
pub use ca::{
    CaAddress, CaAddressError, IstioCa, IstioCaBuilder, IstioCaBuilderError, IstioCaError, ResponseError,
};
#[cfg(feature = "dev-ca")]
pub use dev_ca::DevCa;
pub use expected_peer::ExpectedPeer;
#[cfg(feature = "files")]
pub use files::{CredentialFiles, FileError, FileSource, FileStatus, FileWatch, RevocationFile};
#[cfg(feature = "__grpc")]
pub use grpc::{ChannelError, DialError};
#[cfg(feature = "istio-ca")]
pub use grpc::{RootSource, RootSourceError, TokenError, TokenSource};
#[cfg(any(feature = "dev-ca", feature = "testing"))]
pub use issue::PemSvid;
#[cfg(feature = "manager")]
pub use manager::{
    FailureCounts, IdentityManager, IdentityManagerBuilder, QueueLengths, RenewalWindow, RenewalWindowError,
    RotationMetrics, RotationSettings, TooManyIdentities,
};
pub use service_account::ServiceAccount;
#[cfg(feature = "spiffe-bundle")]
pub use spiffe_bundle::{SpiffeBundle, SpiffeBundleError};
pub use spiffe_id::{SpiffeId, SpiffeIdError};
pub use trust_domain::{TrustDomain, TrustDomainError};
#[cfg(feature = "rustls")]
pub use {
    bundle::{TrustBundle, TrustBundleError, TrustBundles},
    ca::{CertificateAuthority, IssueError, IssueFault, IssueFuture, IssuedSvid},
    certificate::{ChainCertificate, Place},
    config::{
        ClientConfigBuilder, Complete, ConfigBuilder, ConfigError, KeyExchange, ServerConfigBuilder,
        TlsConfigError, TlsConfigs, TlsEntry, TlsSettings, WantsIdentity, WantsPeer, server_name,
    },
    crl::{
        Revocation, RevocationCounts, RevocationListError, RevocationLists, RevocationPolicy,
        RevocationReason, RevocationStatus, Uncertain,
    },
    leaf::LeafError,
    peer::{PeerIdentity, PeerIdentityError},
    select::CertSelector,
    source::{IdentityError, IdentitySource, SvidFuture},
    status::{IdentityState, IdentityStatus},
    store::IdentityStore,
    svid::{SvidError, X509Svid},
    verify::{ChainError, ChainFault, PeerVerifier, Role, VerifyError},
};

#[cfg(all(doctest, feature = "rustls"))]
#[doc = include_str!("../README.md")]
mod readme {}
