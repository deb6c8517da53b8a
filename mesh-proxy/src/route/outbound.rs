//! Where a connection that a local application opened is sent.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use fastrand::Rng;

use super::{
    HboneRoute, ListenerPorts, Route, RouteError, TcpRoute,
    balance::{Balance, NoEndpoint, Purpose},
    upstream::Upstream,
    waypoint,
};
use crate::state::{
    AddressOwner, GatewayReference, LoadBalancerMode, NetworkAddress, Protocol, Service, Snapshot, Workload,
};

/// What is known of a connection when its route is chosen.
#[derive(Clone, Copy, Debug)]
pub struct OutboundRequest<'a> {
    /// The workload that opened it.
    pub source: &'a Workload,
    /// The address it was opened from.
    pub source_address: IpAddr,
    /// Where the application wanted it to go.
    pub original_destination: SocketAddr,
    /// Addresses of this host besides loopback and the source workload's, such as the one the connection was
    /// accepted on.
    pub own_addresses: &'a [IpAddr],
    /// The proxy's own ports.
    pub ports: &'a ListenerPorts,
}

/// Chooses the route of a connection.
///
/// Deterministic for a given snapshot, request and `seed`, which decides between endpoints. Destinations that the mesh knows are never
/// passed through: if they cannot be reached as they should be, that is an error.
///
/// # Errors
///
/// If there is no way to where the connection should go; the text says why.
pub fn resolve(snapshot: &Snapshot, request: &OutboundRequest<'_>, seed: u64) -> Result<Route, RouteError> {
    let destination = canonical(request.original_destination);
    let is_own = |own| request.ports.is_self_call(destination, own);
    if is_own(&request.source.addresses) || is_own(request.own_addresses) {
        return Err(RouteError::SelfCall);
    }
    if !snapshot.is_synced() {
        return Err(RouteError::NotSynced);
    }
    Resolver { snapshot, request, destination, rng: Rng::with_seed(seed) }.resolve()
}

struct Resolver<'a> {
    snapshot: &'a Snapshot,
    request: &'a OutboundRequest<'a>,
    destination: SocketAddr,
    rng: Rng,
}

impl<'a> Resolver<'a> {
    fn resolve(&mut self) -> Result<Route, RouteError> {
        let source = self.request.source;
        let address = NetworkAddress::new(Arc::clone(&source.network), self.destination.ip());
        // An address that is a workload's own is that workload here, even if a service claims it as well: a
        // waypoint that calls the workload it stands in front of would otherwise be sent to itself.
        if let Some(AddressOwner::Service(service)) =
            self.snapshot.owner_of(&address, Some(source.namespace()))
            && let Some(waypoint) = waypoint::choose(service, &mut self.rng)
        {
            return self.through_waypoint(waypoint, Some(service));
        }
        let workload = self.snapshot.workload_at(&address);
        let Some(upstream) = self.upstream(&address, workload)? else {
            return Ok(Route::Passthrough { address: self.destination });
        };
        if upstream.workload.network != source.network {
            return Err(RouteError::NoService { destination: self.destination });
        }
        if upstream.service.is_none()
            && let Some(waypoint) = &upstream.workload.waypoint
            && !self.comes_from(waypoint)
        {
            return self.through_waypoint(waypoint, None);
        }
        self.direct(&upstream)
    }

    /// What to reach at an address: an endpoint of the service there, or else the workload there; `None` if
    /// the connection is to go where it was sent.
    ///
    /// A service that passes connections through or has no use for this one leaves it to the workload, if
    /// there is one: traffic to a workload that speaks HBONE never travels in plaintext.
    fn upstream(
        &mut self,
        address: &NetworkAddress,
        workload: Option<&'a Arc<Workload>>,
    ) -> Result<Option<Upstream<'a>>, RouteError> {
        let destination = self.destination;
        let source = self.request.source;
        let direct = workload.map(|workload| Upstream { workload, port: destination.port(), service: None });
        let Some(service) = self.snapshot.service_at(address, Some(source.namespace())) else {
            return Ok(direct);
        };
        if service.mode() == LoadBalancerMode::Passthrough {
            return Ok(direct.filter(|upstream| upstream.workload.protocol == Protocol::Hbone));
        }
        let purpose = Purpose::Application;
        let balance = Balance { source, service, service_port: destination.port(), purpose };
        match balance.choose(self.snapshot.endpoints(&service.id), &mut self.rng) {
            Ok(chosen) => {
                let workload = &chosen.endpoint.workload;
                Ok(Some(Upstream { workload, port: chosen.port, service: Some(service) }))
            }
            Err(_) if direct.is_some() => Ok(direct),
            Err(NoEndpoint::OtherNetwork) => Err(RouteError::CrossNetwork { destination }),
            Err(NoEndpoint::Unfit) => Err(RouteError::NoHealthyUpstream { destination }),
        }
    }

    /// The waypoint is told the destination as the application dialled it, for it does its own balancing.
    fn through_waypoint(
        &mut self,
        waypoint: &GatewayReference,
        service: Option<&Arc<Service>>,
    ) -> Result<Route, RouteError> {
        let hop = waypoint::locate(self.snapshot, waypoint, self.request.source, &mut self.rng);
        let hop = hop.map_err(|why| match why {
            NoEndpoint::OtherNetwork => RouteError::CrossNetwork { destination: self.destination },
            NoEndpoint::Unfit => RouteError::UnknownWaypoint { waypoint: waypoint.clone() },
        })?;
        let asked = waypoint.address().map_or_else(|| self.destination.ip(), NetworkAddress::address);
        Ok(Route::Hbone(HboneRoute {
            next_hop: hop.socket_address(asked)?,
            authority: self.destination.into(),
            expected_peer: hop.expected_peer(),
            workload: Arc::clone(hop.workload),
            service: service.cloned(),
            via_waypoint: true,
        }))
    }

    fn direct(&self, upstream: &Upstream<'_>) -> Result<Route, RouteError> {
        let address = upstream.socket_address(self.destination.ip())?;
        let workload = Arc::clone(upstream.workload);
        let service = upstream.service.cloned();
        Ok(match workload.protocol {
            Protocol::Hbone => Route::Hbone(HboneRoute {
                next_hop: SocketAddr::new(address.ip(), self.request.ports.inbound_hbone),
                authority: address.into(),
                expected_peer: upstream.expected_peer(),
                workload,
                service,
                via_waypoint: false,
            }),
            Protocol::Tcp => Route::Tcp(TcpRoute { address, workload, service }),
        })
    }

    /// Whether the connection was opened by the waypoint itself: then it must not go through it again.
    ///
    /// Identity and address must both agree: one alone can be shared with a workload that is not the
    /// waypoint.
    fn comes_from(&self, waypoint: &GatewayReference) -> bool {
        let address = self.request.source_address.to_canonical();
        waypoint::is_behind(self.snapshot, waypoint, |workload| {
            workload.identity() == self.request.source.identity() && workload.addresses.contains(&address)
        })
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
