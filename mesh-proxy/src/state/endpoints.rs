use std::sync::Arc;

use rpds::{HashTrieMapSync, VectorSync};

use super::{PortMap, Workload};

/// The workloads behind one service; cheap to clone, O(log n) to change.
///
/// Holds every endpoint, fit or not: which are candidates is decided when one is chosen, so that a change of
/// the service's health policy counts at once. It exists independently of its service: endpoints may be known
/// first.
#[derive(Clone, Debug, Default)]
pub struct EndpointTable {
    entries: VectorSync<Endpoint>,
    positions: HashTrieMapSync<Arc<str>, usize>,
    highest_capacity: u32,
}

impl EndpointTable {
    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The endpoint at a position below [`len`](Self::len), in no particular order.
    pub fn at(&self, position: usize) -> Option<&Endpoint> {
        self.entries.get(position)
    }

    /// The endpoint of a workload.
    pub fn get(&self, uid: &str) -> Option<&Endpoint> {
        self.positions.get(uid).and_then(|&position| self.entries.get(position))
    }

    /// All endpoints, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Endpoint> {
        self.entries.iter()
    }

    /// At least the capacity of every endpoint; does not shrink when the largest leaves.
    pub(crate) fn highest_capacity(&self) -> u32 {
        self.highest_capacity
    }

    /// Adds an endpoint or replaces the one of the same workload.
    pub(super) fn upsert(&mut self, endpoint: Endpoint) {
        self.highest_capacity = self.highest_capacity.max(endpoint.workload.capacity);
        let uid = Arc::clone(&endpoint.workload.uid);
        if let Some(&position) = self.positions.get(&uid) {
            self.entries.set_mut(position, endpoint);
        } else {
            self.positions.insert_mut(uid, self.entries.len());
            self.entries.push_back_mut(endpoint);
        }
    }

    /// Removes the endpoint of a workload; the last one takes its place.
    pub(super) fn remove(&mut self, uid: &str) {
        let Some(&position) = self.positions.get(uid) else { return };
        self.positions.remove_mut(uid);
        let Some(last) = self.entries.last().cloned() else { return };
        self.entries.drop_last_mut();
        if position < self.entries.len() {
            self.positions.insert_mut(Arc::clone(&last.workload.uid), position);
            self.entries.set_mut(position, last);
        }
    }
}

/// One workload as part of one service.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The workload.
    pub workload: Arc<Workload>,
    /// The ports on which it serves the service's.
    pub ports: PortMap,
}
