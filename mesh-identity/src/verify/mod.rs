//! Checks a peer's certificate chain: issued by its own trust domain, in date, for this purpose, and
//! expected.

mod chain;
mod error;
#[cfg(any(feature = "files", feature = "istio-ca", feature = "manager", feature = "workload-api"))]
mod own;
mod path;
mod verifier;

pub use chain::{ChainError, ChainFault};
pub use error::VerifyError;
pub use verifier::{PeerVerifier, Role};

#[cfg(feature = "manager")]
pub(crate) use own::CLOCK_SKEW;
#[cfg(any(feature = "files", feature = "istio-ca", feature = "workload-api"))]
pub(crate) use own::check_own;
pub(crate) use verifier::Trust;
