use std::sync::Arc;

use super::{
    Change, Endpoint, NetworkAddress, NetworkMode, Service, ServiceName, Snapshot, Workload, WorkloadKey,
};

impl Snapshot {
    /// Takes one change into account; O(log n) per key and endpoint that it touches.
    pub(super) fn apply(&mut self, change: Change) {
        let next_epoch = self.epoch + 1;
        match change {
            Change::Clear => self.clear(next_epoch),
            Change::RemovePolicy(name) => {
                self.policies.remove(&name);
                self.policies_changed = next_epoch;
            }
            Change::RemoveService(name) => {
                let old = self.services.get(&name).cloned();
                self.services.remove_mut(&name);
                self.index_service(old.as_ref(), None);
            }
            Change::RemoveWorkload(uid) => {
                let old = self.workloads.get(&uid).cloned();
                self.workloads.remove_mut(&uid);
                if old.is_some() {
                    self.departed = next_epoch;
                }
                self.index_workload(old.as_ref(), None);
            }
            Change::Synced => self.synced = true,
            Change::UpsertPolicy(policy) => {
                self.policies.insert(policy);
                self.policies_changed = next_epoch;
            }
            Change::UpsertService(service) => {
                let old = self.services.get(&service.id).cloned();
                self.services.insert_mut(service.id.clone(), Arc::clone(&service));
                self.index_service(old.as_ref(), Some(&service));
            }
            Change::UpsertWorkload(workload) => {
                let old = self.workloads.get(&workload.uid).cloned();
                self.workloads.insert_mut(Arc::clone(&workload.uid), Arc::clone(&workload));
                let keeps =
                    |old: &Arc<Workload>| old.addresses.iter().all(|at| workload.addresses.contains(at));
                if !old.as_ref().is_none_or(keeps) {
                    self.departed = next_epoch;
                }
                self.index_workload(old.as_ref(), Some(&workload));
            }
        }
    }

    fn clear(&mut self, next_epoch: u64) {
        let empty = Self::empty(self.local_node.clone(), self.policies.missing());
        *self = Self {
            epoch: self.epoch,
            synced: self.synced,
            policies_changed: next_epoch,
            departed: next_epoch,
            ..empty
        };
    }

    fn index_service(&mut self, old: Option<&Arc<Service>>, new: Option<&Arc<Service>>) {
        self.services_by_hostname.replace(old, new, |service| vec![Arc::clone(service.hostname())]);
        self.services_by_vip.replace(old, new, |service| service.vips.clone());
        self.services_by_cidr.replace(old, new);
    }

    fn index_workload(&mut self, old: Option<&Arc<Workload>>, new: Option<&Arc<Workload>>) {
        let local_node = self.local_node.clone();
        self.workloads_by_address.replace(old, new, own_addresses);
        self.workloads_by_hostname.replace(old, new, own_hostname);
        self.local_workloads.replace(old, new, |workload| local_key(workload, local_node.as_deref()));
        if let Some(old) = old {
            self.remove_endpoints(old, new);
        }
        if let Some(new) = new {
            self.upsert_endpoints(new);
        }
    }

    /// Takes a workload out of the services that its next version does not name.
    fn remove_endpoints(&mut self, old: &Workload, new: Option<&Arc<Workload>>) {
        for (service, _) in &old.services {
            if new.is_some_and(|new| new.ports_for(service).is_some()) {
                continue;
            }
            let Some(table) = self.endpoints.get_mut(service) else { continue };
            table.remove(&old.uid);
            if table.is_empty() {
                self.endpoints.remove_mut(service);
            }
        }
    }

    fn upsert_endpoints(&mut self, workload: &Arc<Workload>) {
        for (service, ports) in &workload.services {
            let endpoint = Endpoint { workload: Arc::clone(workload), ports: ports.clone() };
            if !self.endpoints.contains_key(service) {
                self.endpoints.insert_mut(service.clone(), Default::default());
            }
            if let Some(table) = self.endpoints.get_mut(service) {
                table.upsert(endpoint);
            }
        }
    }
}

/// The addresses that name a workload; one that shares its node's has none of its own.
fn own_addresses(workload: &Workload) -> Vec<NetworkAddress> {
    if workload.network_mode == NetworkMode::HostNetwork {
        return Vec::new();
    }
    let named = |&address| NetworkAddress::new(Arc::clone(&workload.network), address);
    workload.addresses.iter().map(named).collect()
}

fn own_hostname(workload: &Workload) -> Vec<ServiceName> {
    if workload.hostname.is_empty() {
        return Vec::new();
    }
    vec![ServiceName::new(Arc::clone(workload.namespace()), Arc::clone(&workload.hostname))]
}

/// The key of a workload that may be on this node: unless both nodes are known and differ, it may.
fn local_key(workload: &Workload, local_node: Option<&str>) -> Vec<WorkloadKey> {
    if local_node.is_some_and(|node| !workload.node.is_empty() && node != &*workload.node) {
        return Vec::new();
    }
    vec![WorkloadKey {
        name: Arc::clone(&workload.name),
        namespace: Arc::clone(workload.namespace()),
        service_account: Arc::clone(workload.service_account()),
    }]
}
