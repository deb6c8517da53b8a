//! Whose identities a node's proxy may have.

use std::{collections::HashSet, convert::Infallible, sync::Arc};

use mesh_identity::SpiffeId;

use super::{Protocol, Snapshot, StateStore, Workload};

impl Snapshot {
    /// The identities that the proxy of this node acts with: those of workloads that are known to be on it and speak HBONE.
    /// None where the node is not known, as for a proxy of a single workload.
    ///
    /// Costs a look at each workload of the node.
    pub fn local_identities(&self) -> HashSet<SpiffeId> {
        let Some(node) = self.local_node.as_deref() else { return HashSet::new() };
        let speaks_hbone =
            |workload: &Workload| workload.protocol == Protocol::Hbone || workload.native_tunnel;
        self.local_workloads
            .values()
            // Of those whose node nobody told, this one has no business with their keys.
            .filter(|workload| &*workload.node == node && speaks_hbone(workload))
            .map(|workload| workload.identity().clone())
            .collect()
    }
}

/// Tells `permit` the identities of this node's workloads, at once and whenever they change, for as long as it is polled:
/// for a manager of identities, which asks for these and no others.
///
/// Each call has all of them, so that none is missed however fast they come and go. Changes that leave them as they are
/// cost a look at the node's workloads.
///
/// ```no_run
/// # async fn example(state: std::sync::Arc<mesh_proxy::state::StateStore>) {
/// # struct Manager;
/// # impl Manager { fn permit_only(&self, _: &std::collections::HashSet<mesh_identity::SpiffeId>) {} }
/// # let manager = Manager;
/// mesh_proxy::state::follow_local_identities(state, |ids| manager.permit_only(ids)).await;
/// # }
/// ```
///
/// # Cancel safety
///
/// Dropping the future stops it.
pub async fn follow_local_identities(
    state: Arc<StateStore>,
    mut permit: impl FnMut(&HashSet<SpiffeId>),
) -> Infallible {
    let mut changes = state.subscribe();
    let mut permitted = None;
    loop {
        let identities = state.load().local_identities();
        if permitted.as_ref() != Some(&identities) {
            permit(&identities);
            permitted = Some(identities);
        }
        if changes.changed().await.is_err() {
            // The store is part of this, so it does not end before.
            std::future::pending::<()>().await;
        }
    }
}
