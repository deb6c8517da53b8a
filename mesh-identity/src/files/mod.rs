//! Identities, roots and revocation lists from files, read again when they change.

mod credential_files;
mod error;
mod read;
mod retry;
mod revocation_file;
mod settle;
mod source;
mod watch;

pub use credential_files::CredentialFiles;
pub use error::FileError;
pub use revocation_file::RevocationFile;
pub use source::{FileSource, FileStatus};
pub use watch::FileWatch;
