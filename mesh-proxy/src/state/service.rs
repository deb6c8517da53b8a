use std::sync::Arc;

use ipnet::IpNet;
use mesh_identity::SpiffeId;

use super::{GatewayReference, NetworkAddress, PortMap, ServiceName, WeightedWaypoint};

/// A service: a host name and addresses that stand for a changing set of endpoints.
///
/// Endpoints are not part of it: workloads say which services they belong to, and
/// [`Snapshot::endpoints`](super::Snapshot::endpoints) has them per service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and host name, the primary key.
    pub id: ServiceName,
    /// The short name.
    pub name: Arc<str>,
    /// Virtual addresses.
    pub vips: Vec<NetworkAddress>,
    /// Ranges of virtual addresses, consulted where no single address matches.
    pub cidr_vips: Vec<CidrVip>,
    /// Service ports with their targets.
    pub ports: PortMap,
    /// Identities that serve this service besides its endpoints' own.
    pub subject_alt_names: Vec<SpiffeId>,
    /// The waypoint that connections to this service pass.
    pub waypoint: Option<GatewayReference>,
    /// Waypoints that share the connections by weight; where the weights sum to zero, `waypoint` counts.
    pub weighted_waypoints: Vec<WeightedWaypoint>,
    /// How an endpoint is chosen; unset means any healthy one.
    pub load_balancer: Option<LoadBalancer>,
    /// Address families the service is meant for; unset means both.
    pub ip_families: Option<IpFamilies>,
    /// Whether it wins over others with the same host name or address.
    pub canonical: bool,
    /// Who may see it.
    pub visibility: Visibility,
}

impl Service {
    /// A public service without addresses and ports.
    pub fn new(id: ServiceName, name: impl Into<Arc<str>>) -> Self {
        Self {
            id,
            name: name.into(),
            vips: Vec::new(),
            cidr_vips: Vec::new(),
            ports: PortMap::default(),
            subject_alt_names: Vec::new(),
            waypoint: None,
            weighted_waypoints: Vec::new(),
            load_balancer: None,
            ip_families: None,
            canonical: false,
            visibility: Visibility::Public,
        }
    }

    /// The namespace.
    pub fn namespace(&self) -> &Arc<str> {
        self.id.namespace()
    }

    /// The fully qualified host name.
    pub fn hostname(&self) -> &Arc<str> {
        self.id.hostname()
    }

    /// Whether clients in a namespace may use it; without one, anybody may.
    pub(crate) fn is_visible_to(&self, client_namespace: Option<&str>) -> bool {
        self.visibility == Visibility::Public
            || client_namespace.is_none_or(|namespace| namespace == &**self.namespace())
    }

    /// Every waypoint that connections to this service may pass.
    pub fn waypoints(&self) -> impl Iterator<Item = &GatewayReference> {
        self.waypoint.iter().chain(self.weighted_waypoints.iter().map(|weighted| &weighted.destination))
    }

    /// How endpoints are chosen.
    pub fn mode(&self) -> LoadBalancerMode {
        self.load_balancer.as_ref().map_or(LoadBalancerMode::Standard, |balancer| balancer.mode)
    }
}

/// A range of virtual addresses within a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CidrVip {
    /// The network's name, empty for the default network.
    pub network: Arc<str>,
    /// The range.
    pub cidr: IpNet,
}

/// How an endpoint of a service is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LoadBalancer {
    /// Scopes in which an endpoint should agree with the client, most important first.
    pub preferences: Vec<Scope>,
    /// What the preferences mean.
    pub mode: LoadBalancerMode,
    /// Which endpoints are candidates.
    pub health_policy: HealthPolicy,
}

/// What the preferences of a [`LoadBalancer`] mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "local-config", derive(serde::Serialize, serde::Deserialize))]
pub enum LoadBalancerMode {
    /// Endpoints that match most preferences.
    Failover,
    /// No endpoint is chosen; connections go where the application dialled.
    Passthrough,
    /// All endpoints alike.
    #[default]
    Standard,
    /// Only endpoints that match every preference.
    Strict,
}

/// What an endpoint may have in common with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "local-config", derive(serde::Serialize, serde::Deserialize))]
pub enum Scope {
    /// The same cluster.
    Cluster,
    /// The same network.
    Network,
    /// The same node.
    Node,
    /// The same region.
    Region,
    /// The same subzone.
    Subzone,
    /// The same zone.
    Zone,
}

/// Which endpoints of a service are candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "local-config", derive(serde::Serialize, serde::Deserialize))]
pub enum HealthPolicy {
    /// All of them.
    AllowAll,
    /// Only healthy ones.
    #[default]
    OnlyHealthy,
}

/// Address families a service is meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "local-config", derive(serde::Serialize, serde::Deserialize))]
pub enum IpFamilies {
    /// IPv4 and IPv6.
    Dual,
    /// IPv4 only.
    #[cfg_attr(feature = "local-config", serde(rename = "IPv4"))]
    V4,
    /// IPv6 only.
    #[cfg_attr(feature = "local-config", serde(rename = "IPv6"))]
    V6,
}

/// Who may see a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "local-config", derive(serde::Serialize, serde::Deserialize))]
pub enum Visibility {
    /// Clients in the service's namespace.
    Namespace,
    /// Everybody.
    #[default]
    Public,
}
