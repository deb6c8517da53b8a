//! Tables of routing decisions over small meshes.

use std::{net::IpAddr, sync::Arc};

use mesh_policy::MissingPolicy;

use super::{
    ListenerPorts, Route, RouteError,
    outbound::{self, OutboundRequest},
};
use crate::state::{
    Change, GatewayReference, HealthPolicy, LoadBalancer, LoadBalancerMode, PortMap, Protocol, Scope,
    Service, Snapshot, StateStore, Workload,
};

mod balancing;
mod inbound;
mod outbound_routes;
mod waypoints;

/// A mesh under construction.
#[derive(Default)]
struct Mesh(Vec<Change>);

impl Mesh {
    fn workload(mut self, workload: Workload) -> Self {
        self.0.push(Change::UpsertWorkload(Arc::new(workload)));
        self
    }

    fn service(mut self, service: Service) -> Self {
        self.0.push(Change::UpsertService(Arc::new(service)));
        self
    }

    fn snapshot(self) -> Arc<Snapshot> {
        let store = StateStore::new(None, MissingPolicy::Deny);
        store.apply(self.0.into_iter().chain([Change::Synced]));
        store.load()
    }
}

/// An HBONE workload in namespace `shop` with a service account of its own name.
fn workload(name: &str, addresses: &[&str]) -> Workload {
    let uid = format!("c1//Pod/shop/{name}");
    let mut workload = Workload::new(uid, "example.org", "shop", name).unwrap();
    workload.name = name.into();
    workload.addresses = addresses.iter().map(|address| ip(address)).collect();
    workload.protocol = Protocol::Hbone;
    workload
}

/// The same as an endpoint of `NAME.example.org` without port mappings of its own.
fn endpoint(name: &str, addresses: &[&str], service: &str) -> Workload {
    let mut workload = workload(name, addresses);
    workload.services = vec![(service_name(service), PortMap::default())];
    workload
}

/// A service in namespace `shop` that serves port 80 on 8080.
fn service(name: &str, vips: &[&str]) -> Service {
    let mut service = Service::new(service_name(name), name);
    service.vips = vips.iter().map(|vip| format!("/{vip}").parse().unwrap()).collect();
    service.ports = [(80, 8080)].into_iter().collect();
    service
}

fn service_name(name: &str) -> crate::state::ServiceName {
    format!("shop/{name}.example.org").parse().unwrap()
}

fn gateway(destination: &str) -> Option<GatewayReference> {
    Some(GatewayReference { destination: destination.parse().unwrap(), port: 15008 })
}

fn balancer(mode: LoadBalancerMode, preferences: &[Scope]) -> Option<LoadBalancer> {
    Some(LoadBalancer { preferences: preferences.to_vec(), mode, health_policy: HealthPolicy::OnlyHealthy })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The client that dials in most tests.
fn client() -> Workload {
    workload("client", &["192.0.2.1", "2001:db8::1"])
}

fn resolve_from(
    source: &Workload,
    snapshot: &Snapshot,
    destination: &str,
    seed: u64,
) -> Result<Route, RouteError> {
    let ports = ListenerPorts::default();
    let request = OutboundRequest {
        source,
        source_address: source.addresses[0],
        original_destination: destination.parse().unwrap(),
        own_addresses: &[],
        ports: &ports,
    };
    outbound::resolve(snapshot, &request, seed)
}

fn resolve(snapshot: &Snapshot, destination: &str) -> Result<Route, RouteError> {
    resolve_from(&client(), snapshot, destination, 1)
}

/// A route in one line: `hbone HOP AUTHORITY`, `waypoint HOP AUTHORITY`, `tcp ADDRESS`, `passthrough
/// ADDRESS`, or the error.
fn shown(route: &Result<Route, RouteError>) -> String {
    match route {
        Ok(Route::Hbone(route)) => {
            let kind = if route.via_waypoint { "waypoint" } else { "hbone" };
            format!("{kind} {} {}", route.next_hop, route.authority)
        }
        Ok(Route::Passthrough { address }) => format!("passthrough {address}"),
        Ok(Route::Tcp(route)) => format!("tcp {}", route.address),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn assert_route(snapshot: &Snapshot, destination: &str, expected: &str) {
    assert_eq!(shown(&resolve(snapshot, destination)), expected);
}

/// How many of `rounds` connections each workload gets, by name.
fn shares(snapshot: &Snapshot, destination: &str, rounds: u64) -> std::collections::BTreeMap<String, u64> {
    let mut shares = std::collections::BTreeMap::new();
    for seed in 0..rounds {
        let name = match resolve_from(&client(), snapshot, destination, seed) {
            Ok(Route::Hbone(route)) => route.workload.name.to_string(),
            other => shown(&other),
        };
        *shares.entry(name).or_default() += 1;
    }
    shares
}
