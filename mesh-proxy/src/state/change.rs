use std::sync::Arc;

use mesh_policy::{Policy, PolicyName};

use super::{Service, ServiceName, Workload};

/// One thing that happened to the mesh, as told by a source of state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Change {
    /// Forgets everything told before; what follows in the batch is all there is.
    Clear,
    /// Removes a policy, if it is there.
    RemovePolicy(PolicyName),
    /// Removes a service, if it is there. Its endpoints are kept for when it comes back.
    RemoveService(ServiceName),
    /// Removes a workload by uid, if it is there, and with it its endpoints.
    RemoveWorkload(Arc<str>),
    /// Says that the source has now told everything it knew when asked.
    Synced,
    /// Adds a policy or replaces the one with its name.
    UpsertPolicy(Policy),
    /// Adds a service or replaces the one with its name.
    UpsertService(Arc<Service>),
    /// Adds a workload or replaces the one with its uid.
    UpsertWorkload(Arc<Workload>),
}
