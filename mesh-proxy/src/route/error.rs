use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hbone::Refusal;

use crate::state::GatewayReference;

/// Why a connection to a local workload cannot be handed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InboundError {
    /// The authority's address neither is the local one nor belongs to something the local workload is a
    /// waypoint for.
    #[error("ip mismatch: {authority} != {local}")]
    IpMismatch {
        /// The authority's address.
        authority: IpAddr,
        /// The address on which the connection was accepted.
        local: IpAddr,
    },
    /// No service of the local workload has this host name.
    #[error("no service for hostname: {hostname}")]
    NoHostname {
        /// The host name.
        hostname: String,
    },
    /// The service does not have this port, or nothing says which port of the workload serves it.
    #[error("no port for service: {hostname}:{port}")]
    NoPort {
        /// The service's host name.
        hostname: Arc<str>,
        /// The port asked for.
        port: u16,
    },
    /// The application wants a PROXY header ahead of the payload, which is not written yet.
    #[error("application tunnel with PROXY protocol is not supported")]
    ProxyProtocol,
    /// The port is one of the proxy's own.
    #[error("attempted recursive call to ourselves")]
    SelfCall,
}

impl InboundError {
    /// How the peer is answered: 400 where it named the wrong place, 503 where the right place cannot be
    /// reached.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::IpMismatch { .. } => Refusal::BadRequest,
            Self::NoHostname { .. } | Self::NoPort { .. } | Self::ProxyProtocol | Self::SelfCall => {
                Refusal::Unavailable
            }
        }
    }
}

/// Why a connection cannot be routed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// The destination is on another network, behind a gateway that needs a tunnel within a tunnel.
    #[error("no route to another network: {destination}")]
    CrossNetwork {
        /// What the application dialled.
        destination: SocketAddr,
    },
    /// A known service has no endpoint that is fit, or does not have the port.
    #[error("no healthy upstream: {destination}")]
    NoHealthyUpstream {
        /// What the application dialled.
        destination: SocketAddr,
    },
    /// A workload on another network was dialled by its own address, which only works for services.
    #[error("no service for target address: {destination}")]
    NoService {
        /// What the application dialled.
        destination: SocketAddr,
    },
    /// Nothing was heard from any source of state yet, so an unknown address may be a mesh workload's.
    #[error("no mesh state received yet")]
    NotSynced,
    /// The chosen workload has no address that can be used.
    #[error("no valid destination for workload {uid}")]
    NoValidDestination {
        /// The workload.
        uid: Arc<str>,
    },
    /// The connection would end at this proxy.
    #[error("attempted recursive call to ourselves")]
    SelfCall,
    /// There is no workload behind the waypoint that the connection must pass.
    #[error("unknown waypoint: {waypoint}")]
    UnknownWaypoint {
        /// The waypoint.
        waypoint: GatewayReference,
    },
    /// The chosen workload is known only by a name, and nothing here resolves names.
    #[error("no resolved addresses for workload hostname: {hostname}")]
    UnresolvedHostname {
        /// The name.
        hostname: Arc<str>,
    },
}
