//! Certificate revocation lists (RFC 5280 §5): read, kept current, and asked during verification.

mod check;
mod list;
mod policy;
mod revocation;

pub use check::RevocationReason;
pub use list::{RevocationListError, RevocationLists};
pub use policy::{RevocationPolicy, Uncertain};
pub use revocation::{Revocation, RevocationCounts, RevocationStatus};

pub(crate) use check::{Finding, Standing};
