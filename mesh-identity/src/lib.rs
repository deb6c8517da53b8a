//! SPIFFE identities for a service mesh.

mod expected_peer;
mod service_account;
mod spiffe_id;
mod trust_domain;

pub use expected_peer::ExpectedPeer;
pub use service_account::ServiceAccount;
pub use spiffe_id::{SpiffeId, SpiffeIdError};
pub use trust_domain::{TrustDomain, TrustDomainError};
