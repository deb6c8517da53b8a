use std::{net::SocketAddr, sync::Arc};

use hbone::Destination;
use mesh_identity::ExpectedPeer;

use crate::state::{Service, Workload};

/// Where a connection goes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Route {
    /// Through a tunnel.
    Hbone(HboneRoute),
    /// Where the application wanted it to go, which is not part of the mesh.
    Passthrough {
        /// The original destination.
        address: SocketAddr,
    },
    /// In plaintext to a workload that does not speak HBONE.
    Tcp(TcpRoute),
}

/// A tunnel to a workload or to the waypoint in front of it.
#[derive(Clone, Debug)]
pub struct HboneRoute {
    /// What to dial.
    pub next_hop: SocketAddr,
    /// What the tunnel is to lead to, as the next hop is told.
    pub authority: Destination,
    /// The workload that is dialled: the destination itself or a waypoint.
    pub workload: Arc<Workload>,
    /// The service that the application meant, if it dialled one.
    pub service: Option<Arc<Service>>,
    /// Who may answer.
    pub expected_peer: ExpectedPeer,
    /// Whether the next hop is a waypoint rather than the destination.
    pub via_waypoint: bool,
}

/// A workload reached in plaintext.
#[derive(Clone, Debug)]
pub struct TcpRoute {
    /// What to dial.
    pub address: SocketAddr,
    /// The workload that is dialled.
    pub workload: Arc<Workload>,
    /// The service that the application meant, if it dialled one.
    pub service: Option<Arc<Service>>,
}
