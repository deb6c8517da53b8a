//! Mesh state in a YAML file, in the format that Istio's node proxy reads.
//!
//! [`LocalConfig`] is the content of one file as changes to apply; [`LocalConfigFile`] re-reads a file when
//! it changes. The documents ([`WorkloadDocument`], [`ServiceDocument`], [`PolicyDocument`]) are the objects
//! as written in such a file, and as shown in a configuration dump.
//!
//! Reading is strict: an unknown key anywhere, a bad value or a contradiction is an error, because a typing
//! error in a policy would otherwise widen it unnoticed.

mod document;
mod error;
mod file;
mod names;
mod policy;
mod service;
mod string_match;
mod text;
mod workload;

pub use document::{LocalConfig, LocalDocument};
pub use error::LocalConfigError;
pub use file::LocalConfigFile;
pub use policy::PolicyDocument;
pub use service::{EndpointDocument, ServiceDocument};
pub use workload::WorkloadDocument;
