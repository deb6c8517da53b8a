//! Certificate authorities: the seam, and those that live in this process.

mod authority;
#[cfg(any(feature = "dev-ca", feature = "testing"))]
mod in_process;

pub use authority::{CertificateAuthority, IssueError, IssueFault, IssueFuture, IssuedSvid};
