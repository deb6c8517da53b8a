use std::{io, path::PathBuf};

use crate::state::WorkloadError;

/// Why a local configuration is refused. The last good one stays in force.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalConfigError {
    /// Two objects of one kind have the same key.
    #[error("{kind} {name} is there twice")]
    Duplicate {
        /// The kind of the objects.
        kind: &'static str,
        /// Their key.
        name: String,
    },
    /// A file that had content has none any more; an operator who means that removes what is in it by name.
    #[error("the file is empty")]
    Empty,
    /// An endpoint listed with a service is not the workload it names.
    #[error("service {service}: endpoints.{uid}: {problem}")]
    Endpoint {
        /// The service.
        service: String,
        /// The endpoint's key.
        uid: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A workload has neither uid nor name.
    #[error("a workload in namespace {namespace} has neither uid nor name")]
    Nameless {
        /// Its namespace.
        namespace: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The text is not a configuration: malformed, or with an unknown key or a bad value.
    #[error("{problem}")]
    Syntax {
        /// The path of the field, the value and its place in the text.
        problem: String,
    },
    /// A workload cannot be built.
    #[error("workloads: {workload}")]
    Workload {
        /// The workload.
        workload: String,
        /// What is wrong with it.
        source: WorkloadError,
    },
}
