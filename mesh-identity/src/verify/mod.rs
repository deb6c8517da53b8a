//! Checks a peer's certificate chain: issued by its own trust domain, in date, for this purpose, and
//! expected.

mod chain;
mod error;
mod path;
mod verifier;

pub use chain::{ChainError, ChainFault};
pub use error::VerifyError;
pub use verifier::{PeerVerifier, Role};

pub(crate) use verifier::Trust;
