//! What is known about a connection.

use std::net::{IpAddr, SocketAddr};

use mesh_identity::SpiffeId;

use crate::PolicyName;

/// What an enforcement point knows about a connection to one of its workloads.
///
/// IPv4 addresses mapped into IPv6 count as IPv4. The last two fields come from the record of the workload
/// that the connection *arrived at*, never from what the peer says it wants to reach.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts<'a> {
    /// Where the connection comes from.
    pub source: IpAddr,
    /// The identity the peer proved, if it proved one. A SPIFFE ID that names no Kubernetes service account
    /// counts as none.
    pub peer: Option<&'a SpiffeId>,
    /// The workload's address and port, after any mapping from service ports.
    pub destination: SocketAddr,
    /// The workload's namespace.
    pub namespace: &'a str,
    /// The policies that the workload lists.
    pub policies: &'a [PolicyName],
}
