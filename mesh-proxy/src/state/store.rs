use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use mesh_policy::MissingPolicy;
use tokio::sync::watch;

use super::{Change, Snapshot, Workload, WorkloadKey};

/// Holds the current [`Snapshot`] and publishes the next one.
///
/// Any number of readers and writers may use it at once. Writers take turns; readers wait for nobody.
pub struct StateStore {
    current: ArcSwap<Snapshot>,
    /// Held by the writer whose turn it is; readers never take it.
    turn: Mutex<()>,
    epoch: watch::Sender<u64>,
}

impl StateStore {
    /// An empty store that has not heard of anything yet.
    ///
    /// `local_node` keeps workloads that are known to be on another node out of [`Snapshot::local_workload`].
    pub fn new(local_node: Option<Arc<str>>, missing: MissingPolicy) -> Self {
        let empty = Snapshot::empty(local_node, missing);
        let epoch = watch::Sender::new(empty.epoch());
        Self { current: ArcSwap::from_pointee(empty), turn: Mutex::new(()), epoch }
    }

    /// The current snapshot. Costs one shared reference count; never blocks.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// The epoch of the current snapshot. Costs no reference count.
    pub(crate) fn epoch(&self) -> u64 {
        self.current.load().epoch()
    }

    /// Applies a batch and publishes the result as one snapshot with the next epoch, which is returned.
    ///
    /// Costs O(changes · log n). Nobody sees a state between two changes of a batch.
    pub fn apply(&self, batch: impl IntoIterator<Item = Change>) -> u64 {
        // A panic elsewhere cannot leave a half-made state behind: only whole snapshots are ever stored.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&self.current.load());
        for change in batch {
            next.apply(change);
        }
        next.epoch += 1;
        let epoch = next.epoch;
        self.current.store(Arc::new(next));
        self.epoch.send_replace(epoch);
        epoch
    }

    /// Follows the epoch: changes after each new snapshot is visible to [`load`](Self::load).
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }

    /// Waits until `find` finds something in the current snapshot, looking again at each new one; `None`
    /// after `patience`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: it holds no state but its own subscription.
    pub async fn wait_for<T>(
        &self,
        patience: Duration,
        mut find: impl FnMut(&Arc<Snapshot>) -> Option<T>,
    ) -> Option<T> {
        // The usual case, which writes to nothing that threads share.
        if let Some(found) = find(&self.current.load()) {
            return Some(found);
        }
        // Subscribed before the next look, so that nothing falls between that look and the wait.
        let mut epoch = self.subscribe();
        if let Some(found) = find(&self.load()) {
            return Some(found);
        }
        let search = async {
            while epoch.changed().await.is_ok() {
                if let Some(found) = find(&self.load()) {
                    return Some(found);
                }
            }
            None
        };
        tokio::time::timeout(patience, search).await.ok().flatten()
    }

    /// Waits until the sources have told all they know; at once if they have.
    ///
    /// # Errors
    ///
    /// If they have not within `patience`.
    ///
    /// # Cancel safety
    ///
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_until_synced(&self, patience: Duration) -> Result<Arc<Snapshot>, NotSynced> {
        let synced = |snapshot: &Arc<Snapshot>| snapshot.is_synced().then(|| Arc::clone(snapshot));
        self.wait_for(patience, synced).await.ok_or(NotSynced)
    }

    /// Waits for the first sync and for a workload on this node to become known; at once if both are past.
    /// Returns the snapshot that has it as well.
    ///
    /// # Errors
    ///
    /// If it is not known within `patience`.
    ///
    /// # Cancel safety
    ///
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_for_local_workload(
        &self,
        key: &WorkloadKey,
        patience: Duration,
    ) -> Result<(Arc<Snapshot>, Arc<Workload>), UnknownWorkload> {
        let find = |snapshot: &Arc<Snapshot>| {
            let workload = snapshot.local_workload(key).filter(|_| snapshot.is_synced())?;
            Some((Arc::clone(snapshot), Arc::clone(workload)))
        };
        self.wait_for(patience, find).await.ok_or_else(|| UnknownWorkload { key: key.clone() })
    }
}

impl fmt::Debug for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateStore").field("epoch", &*self.epoch.borrow()).finish_non_exhaustive()
    }
}

/// No source has told anything yet, so nothing can be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mesh state received yet")]
pub struct NotSynced;

/// A workload on this node did not become known in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to fetch information about local workload: {key}")]
pub struct UnknownWorkload {
    /// The workload.
    pub key: WorkloadKey,
}
