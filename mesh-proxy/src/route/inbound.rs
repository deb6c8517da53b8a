//! What a connection that arrives for a local workload is handed to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hbone::{Destination, Host};

use super::{InboundError, ListenerPorts, waypoint};
use crate::state::{
    AddressOwner, ApplicationTunnelProtocol, GatewayReference, NetworkAddress, PortMap, Service, Snapshot,
    Workload,
};

/// What is known of a tunnel when its end is chosen.
#[derive(Clone, Copy, Debug)]
pub struct InboundRequest<'a> {
    /// The workload that the proxy stands in front of.
    pub workload: &'a Workload,
    /// The address on which the tunnel's connection was accepted.
    pub local_address: IpAddr,
    /// What the tunnel is to lead to, as the peer says.
    pub authority: &'a Destination,
    /// The host that the peer says the client meant; a hint for telemetry, never more.
    pub forwarded_host: Option<&'a str>,
    /// The proxy's own ports.
    pub ports: &'a ListenerPorts,
}

/// What an inbound connection is handed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundRoute {
    /// What to dial.
    pub target: SocketAddr,
    /// The service that the client meant, as far as can be told.
    pub service: Option<Arc<Service>>,
}

/// Chooses the end of a tunnel: always the local workload, on the port that the authority stands for.
///
/// # Errors
///
/// If the authority does not belong to the local workload, or stands for no port that may be dialled.
pub fn resolve(snapshot: &Snapshot, request: &InboundRequest<'_>) -> Result<InboundRoute, InboundError> {
    let local = request.local_address.to_canonical();
    let workload = request.workload;
    let (port, service) = match request.authority.host() {
        Host::Ip(address) => {
            let address = address.to_canonical();
            if address != local && !may_receive_for(snapshot, request, address) {
                return Err(InboundError::IpMismatch { authority: address, local });
            }
            let port = request.authority.port();
            (port, guess_service(snapshot, workload, port, request.forwarded_host).cloned())
        }
        Host::Name(hostname) => {
            let (port, service) = by_hostname(snapshot, request, hostname)?;
            (port, Some(Arc::clone(service)))
        }
    };
    // The peer's port and the one finally dialled: a tunnel port must not be a way around the check, nor into
    // it.
    let target = SocketAddr::new(local, application_port(workload, port)?);
    if request.ports.contains(port) || request.ports.contains(target.port()) {
        return Err(InboundError::SelfCall);
    }
    Ok(InboundRoute { target, service })
}

/// Chooses the end of a connection that arrived in plaintext: its original destination.
///
/// # Errors
///
/// If that is one of the proxy's own ports.
pub fn resolve_plaintext(
    snapshot: &Snapshot,
    workload: &Workload,
    original_destination: SocketAddr,
    ports: &ListenerPorts,
) -> Result<InboundRoute, InboundError> {
    if ports.contains(original_destination.port()) {
        return Err(InboundError::SelfCall);
    }
    let target = SocketAddr::new(original_destination.ip().to_canonical(), original_destination.port());
    Ok(InboundRoute { target, service: guess_service(snapshot, workload, target.port(), None).cloned() })
}

/// Whether a tunnel to another address may end here: at an application that takes tunnels to anywhere, or at
/// the waypoint of whatever owns the address.
fn may_receive_for(snapshot: &Snapshot, request: &InboundRequest<'_>, address: IpAddr) -> bool {
    if request.workload.application_tunnel.is_some() {
        return true;
    }
    let address = NetworkAddress::new(Arc::clone(&request.workload.network), address);
    match snapshot.owner_of(&address, None) {
        Some(AddressOwner::Service(service)) => is_waypoint_of(snapshot, request, service),
        Some(AddressOwner::Workload(owner)) => {
            owner.waypoint.as_ref().is_some_and(|waypoint| is_waypoint(snapshot, request, waypoint))
        }
        None => false,
    }
}

fn is_waypoint_of(snapshot: &Snapshot, request: &InboundRequest<'_>, service: &Service) -> bool {
    service.waypoints().any(|waypoint| is_waypoint(snapshot, request, waypoint))
}

fn is_waypoint(snapshot: &Snapshot, request: &InboundRequest<'_>, waypoint: &GatewayReference) -> bool {
    waypoint::is_behind(snapshot, waypoint, |workload| workload.uid == request.workload.uid)
}

/// The service with a host name, and the local workload's port for it.
///
/// The local workload must be an endpoint of the service or stand in front of it, lest a peer label its
/// traffic as some other service's.
fn by_hostname<'a>(
    snapshot: &'a Snapshot,
    request: &InboundRequest<'_>,
    hostname: &str,
) -> Result<(u16, &'a Arc<Service>), InboundError> {
    let workload = request.workload;
    let own_ports = |service: &Service| workload.ports_for(&service.id);
    let service = snapshot
        .service_by_hostname(hostname, Some(workload.namespace()))
        .filter(|service| {
            own_ports(service).is_some()
                || workload.application_tunnel.is_some()
                || is_waypoint_of(snapshot, request, service)
        })
        .ok_or_else(|| InboundError::NoHostname { hostname: hostname.to_owned() })?;
    let port = request.authority.port();
    let target = |ports: &PortMap| ports.get(port).filter(|&target| target != 0);
    own_ports(service)
        .and_then(target)
        .or_else(|| target(&service.ports))
        .map(|port| (port, service))
        .ok_or_else(|| InboundError::NoPort { hostname: Arc::clone(service.hostname()), port })
}

/// The port of the application: all connections go to one if it takes tunnelled connections there.
fn application_port(workload: &Workload, port: u16) -> Result<u16, InboundError> {
    match workload.application_tunnel {
        None => Ok(port),
        Some(tunnel) if tunnel.protocol == ApplicationTunnelProtocol::None => Ok(tunnel.port.unwrap_or(port)),
        Some(_) => Err(InboundError::ProxyProtocol),
    }
}

/// The service that a connection to a port of the workload was probably meant for: the one that the peer
/// names among the workload's own, or else the first that is served on this port.
fn guess_service<'a>(
    snapshot: &'a Snapshot,
    workload: &Workload,
    port: u16,
    forwarded_host: Option<&str>,
) -> Option<&'a Arc<Service>> {
    let own = || workload.services.iter().filter_map(|(name, ports)| Some((snapshot.service(name)?, ports)));
    let named = forwarded_host
        .and_then(|host| own().find(|(service, _)| service.hostname().eq_ignore_ascii_case(host)));
    let served = |(service, ports): &(&Arc<Service>, &PortMap)| {
        ports.iter().chain(service.ports.iter()).any(|(_, target)| target == port)
    };
    named.or_else(|| own().find(served)).map(|(service, _)| service)
}
