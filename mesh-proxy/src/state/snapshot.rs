use std::sync::Arc;

use mesh_policy::{MissingPolicy, PolicySet};
use rpds::HashTrieMapSync;

use super::{
    EndpointTable, NetworkAddress, Protocol, Service, ServiceName, Workload, WorkloadKey,
    cidr_index::CidrIndex, index::Index,
};

/// The mesh at one moment; immutable, and cheap to derive the next one from.
///
/// Look-ups neither allocate nor block. Those that take a client namespace hide services which that
/// namespace may not see; without one nothing is hidden.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) epoch: u64,
    pub(super) synced: bool,
    pub(super) local_node: Option<Arc<str>>,
    pub(super) workloads: HashTrieMapSync<Arc<str>, Arc<Workload>>,
    pub(super) workloads_by_address: Index<NetworkAddress, Workload>,
    pub(super) workloads_by_hostname: Index<ServiceName, Workload>,
    pub(super) local_workloads: Index<WorkloadKey, Workload>,
    pub(super) services: HashTrieMapSync<ServiceName, Arc<Service>>,
    pub(super) services_by_hostname: Index<Arc<str>, Service>,
    pub(super) services_by_vip: Index<NetworkAddress, Service>,
    pub(super) services_by_cidr: CidrIndex,
    pub(super) endpoints: HashTrieMapSync<ServiceName, EndpointTable>,
    pub(super) no_endpoints: EndpointTable,
    pub(super) policies: PolicySet,
    /// The epoch by which policies changed last.
    pub(super) policies_changed: u64,
    /// The epoch by which a workload went or left an address last.
    pub(super) departed: u64,
}

impl Snapshot {
    /// How many snapshots were published before this one.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the sources have told all they knew at least once.
    ///
    /// Until then an unknown address may still turn out to be a mesh workload's.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// The workload with this uid.
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The workload that owns an address.
    ///
    /// Among several, pods that speak HBONE come before other pods, those before other workloads that speak
    /// HBONE, and among equals the one that came last counts: an address is reused only after its former
    /// owner is gone.
    pub fn workload_at(&self, address: &NetworkAddress) -> Option<&Arc<Workload>> {
        self.workloads_by_address.get(address).iter().max_by_key(|workload| {
            let speaks_hbone = workload.protocol == Protocol::Hbone;
            (workload.is_pod(), speaks_hbone)
        })
    }

    /// The workload with this namespace and host name.
    pub fn workload_by_hostname(&self, name: &ServiceName) -> Option<&Arc<Workload>> {
        self.workloads_by_hostname.get(name).first()
    }

    /// The workload on this node that the node knows by `key`.
    pub fn local_workload(&self, key: &WorkloadKey) -> Option<&Arc<Workload>> {
        self.local_workloads.get(key).last()
    }

    /// The service with this name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// The service that a host name, in lower case, means to a client in `client_namespace`.
    ///
    /// That is the one in the client's namespace, or else the canonical one, or else the one that came first.
    pub fn service_by_hostname(
        &self,
        hostname: &str,
        client_namespace: Option<&str>,
    ) -> Option<&Arc<Service>> {
        preferred(self.services_by_hostname.get(hostname), client_namespace)
    }

    /// The service that an address means to a client in `client_namespace`: one with exactly this address,
    /// chosen as by [`service_by_hostname`](Self::service_by_hostname), or else one with a range around it.
    ///
    /// Among ranges those of services in the client's namespace come first, then longer prefixes, then
    /// canonical services.
    pub fn service_at(
        &self,
        address: &NetworkAddress,
        client_namespace: Option<&str>,
    ) -> Option<&Arc<Service>> {
        preferred(self.services_by_vip.get(address), client_namespace)
            .or_else(|| self.services_by_cidr.get(address, client_namespace))
    }

    /// What an address names: a workload, or else a service.
    pub fn owner_of(
        &self,
        address: &NetworkAddress,
        client_namespace: Option<&str>,
    ) -> Option<AddressOwner<'_>> {
        if let Some(workload) = self.workload_at(address) {
            return Some(AddressOwner::Workload(workload));
        }
        self.service_at(address, client_namespace).map(AddressOwner::Service)
    }

    /// The endpoints of a service; empty where there are none, whether or not the service is known.
    pub fn endpoints(&self, service: &ServiceName) -> &EndpointTable {
        self.endpoints.get(service).unwrap_or(&self.no_endpoints)
    }

    /// The authorization policies.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// The epoch by which policies changed last.
    pub(crate) fn policies_changed(&self) -> u64 {
        self.policies_changed
    }

    /// The epoch by which a workload went or left an address last.
    pub(crate) fn departed(&self) -> u64 {
        self.departed
    }

    /// Every workload, in no particular order.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values()
    }

    /// Every service, in no particular order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Endpoints that wait for a service not known yet, in no particular order. Costs a look at every
    /// service's name.
    pub fn staged_endpoints(&self) -> impl Iterator<Item = (&ServiceName, &EndpointTable)> {
        self.endpoints.iter().filter(|(name, _)| !self.services.contains_key(*name))
    }

    pub(super) fn empty(local_node: Option<Arc<str>>, missing: MissingPolicy) -> Self {
        Self {
            epoch: 0,
            synced: false,
            local_node,
            workloads: HashTrieMapSync::default(),
            workloads_by_address: Index::default(),
            workloads_by_hostname: Index::default(),
            local_workloads: Index::default(),
            services: HashTrieMapSync::default(),
            services_by_hostname: Index::default(),
            services_by_vip: Index::default(),
            services_by_cidr: CidrIndex::default(),
            endpoints: HashTrieMapSync::default(),
            no_endpoints: EndpointTable::default(),
            policies: PolicySet::empty(missing),
            policies_changed: 0,
            departed: 0,
        }
    }
}

/// What an address names.
#[derive(Clone, Copy, Debug)]
pub enum AddressOwner<'a> {
    /// A service, of which it is a virtual address.
    Service(&'a Arc<Service>),
    /// A workload, of which it is an own address.
    Workload(&'a Arc<Workload>),
}

/// The service among several with one key that a client means: one in its namespace, or else canonical, or
/// else the first.
fn preferred<'a>(candidates: &'a [Arc<Service>], client_namespace: Option<&str>) -> Option<&'a Arc<Service>> {
    let visible = || candidates.iter().filter(|service| service.is_visible_to(client_namespace));
    visible()
        .find(|service| client_namespace == Some(service.namespace()))
        .or_else(|| visible().find(|service| service.canonical))
        .or_else(|| visible().next())
}
