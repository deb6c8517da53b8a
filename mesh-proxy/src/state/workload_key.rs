use std::{fmt, sync::Arc};

/// What a node knows of a workload that runs on it before discovery says more.
///
/// Built once per workload and kept, so that looking the workload up for a connection allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadKey {
    /// The workload's own name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its service account.
    pub service_account: Arc<str>,
}

impl fmt::Display for WorkloadKey {
    /// Writes `service-account.namespace (name)`, the form operators search logs for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} ({})", self.service_account, self.namespace, self.name)
    }
}
