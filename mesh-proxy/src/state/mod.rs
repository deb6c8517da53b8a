//! What the mesh looks like: workloads, services, endpoints and policies, in one immutable [`Snapshot`].
//!
//! A [`StateStore`] holds the current snapshot. Sources (a local file, a control plane) describe what
//! happened as [`Change`]s; [`StateStore::apply`] turns a batch of them into the next snapshot and publishes
//! it in one step. A connection loads one snapshot and takes every decision from it, so that no decision
//! mixes two states.
//!
//! Snapshots share structure, so a batch costs what it changes and not what there is, and readers never wait
//! for a writer.

mod apply;
mod change;
mod cidr_index;
mod endpoints;
mod gateway;
mod index;
mod local_identities;
mod network_address;
mod port_map;
mod service;
mod service_name;
mod snapshot;
mod store;
#[cfg(test)]
mod tests;
mod workload;
mod workload_key;

pub use change::Change;
pub use endpoints::{Endpoint, EndpointTable};
pub use gateway::{GatewayDestination, GatewayReference, ParseGatewayDestinationError, WeightedWaypoint};
pub use local_identities::follow_local_identities;
pub use network_address::{NetworkAddress, ParseNetworkAddressError};
pub use port_map::PortMap;
pub use service::{
    CidrVip, HealthPolicy, IpFamilies, LoadBalancer, LoadBalancerMode, Scope, Service, Visibility,
};
pub use service_name::{ParseServiceNameError, ServiceName};
pub use snapshot::{AddressOwner, Snapshot};
pub use store::{NotSynced, StateStore, UnknownWorkload};
pub use workload::{
    ApplicationTunnel, ApplicationTunnelProtocol, Health, Locality, NetworkMode, Protocol, Workload,
    WorkloadError, WorkloadType,
};
pub use workload_key::WorkloadKey;
