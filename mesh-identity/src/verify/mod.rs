//! Checks a peer's certificate chain: issued by its own trust domain, in date, for this purpose, and
//! expected.

mod error;
mod verifier;

pub use error::{ChainError, VerifyError};
pub use verifier::{PeerVerifier, Role};

pub(crate) use verifier::Trust;
