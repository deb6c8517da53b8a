use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use mesh_identity::SpiffeId;
use serde::{Deserialize, Serialize};

use super::{names::Names, text::Text, workload::GatewayDocument};
use crate::state::{
    CidrVip, Endpoint, EndpointTable, Health, HealthPolicy, IpFamilies, LoadBalancer, LoadBalancerMode,
    NetworkAddress, Scope, Service, ServiceName, Visibility, WeightedWaypoint,
};

/// A service as written in a file or shown in a dump.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceDocument {
    name: Arc<str>,
    namespace: Arc<str>,
    hostname: Arc<str>,
    vips: Vec<Text<NetworkAddress>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cidr_vips: Vec<CidrVipDocument>,
    ports: BTreeMap<u16, u16>,
    #[serde(default)]
    pub(super) endpoints: BTreeMap<Arc<str>, EndpointDocument>,
    #[serde(default)]
    subject_alt_names: Vec<Text<SpiffeId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waypoint: Option<GatewayDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    weighted_waypoints: Vec<WeightedWaypointDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    load_balancer: Option<LoadBalancerDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip_families: Option<IpFamilies>,
    #[serde(default)]
    canonical: bool,
    #[serde(default)]
    visibility: Visibility,
}

impl ServiceDocument {
    /// The document of a service with its endpoints. Costs a copy of the list of endpoints.
    pub fn new(service: &Service, endpoints: &EndpointTable) -> Self {
        let weighted = |weighted: &WeightedWaypoint| WeightedWaypointDocument {
            destination: GatewayDocument::from(&weighted.destination),
            weight: weighted.weight,
        };
        let cidr_vip =
            |vip: &CidrVip| CidrVipDocument { network: Arc::clone(&vip.network), cidr: Text(vip.cidr) };
        Self {
            name: Arc::clone(&service.name),
            namespace: Arc::clone(service.namespace()),
            hostname: Arc::clone(service.hostname()),
            vips: service.vips.iter().cloned().map(Text).collect(),
            cidr_vips: service.cidr_vips.iter().map(cidr_vip).collect(),
            ports: service.ports.iter().collect(),
            endpoints: EndpointDocument::table(endpoints),
            subject_alt_names: service.subject_alt_names.iter().cloned().map(Text).collect(),
            waypoint: service.waypoint.as_ref().map(GatewayDocument::from),
            weighted_waypoints: service.weighted_waypoints.iter().map(weighted).collect(),
            load_balancer: service.load_balancer.as_ref().map(|balancer| LoadBalancerDocument {
                routing_preferences: balancer.preferences.clone(),
                mode: balancer.mode,
                health_policy: balancer.health_policy,
            }),
            ip_families: service.ip_families,
            canonical: service.canonical,
            visibility: service.visibility,
        }
    }

    /// The name of the service that is meant.
    pub(super) fn id(&self) -> ServiceName {
        ServiceName::new(Arc::clone(&self.namespace), Arc::clone(&self.hostname))
    }

    pub(super) fn build(&self, names: &mut Names) -> Service {
        let mut service = Service::new(names.share_service(&self.id()), Arc::clone(&self.name));
        let mut vip =
            |vip: &Text<NetworkAddress>| NetworkAddress::new(names.share(vip.0.network()), vip.0.address());
        service.vips = self.vips.iter().map(&mut vip).collect();
        let mut cidr_vip =
            |vip: &CidrVipDocument| CidrVip { network: names.share(&vip.network), cidr: vip.cidr.0 };
        service.cidr_vips = self.cidr_vips.iter().map(&mut cidr_vip).collect();
        service.ports = self.ports.iter().map(|(&port, &target)| (port, target)).collect();
        service.subject_alt_names = self.subject_alt_names.iter().map(|name| name.0.clone()).collect();
        service.waypoint = self.waypoint.as_ref().map(GatewayDocument::build);
        let weighted = |weighted: &WeightedWaypointDocument| WeightedWaypoint {
            destination: weighted.destination.build(),
            weight: weighted.weight,
        };
        service.weighted_waypoints = self.weighted_waypoints.iter().map(weighted).collect();
        service.load_balancer = self.load_balancer.as_ref().map(|balancer| LoadBalancer {
            preferences: balancer.routing_preferences.clone(),
            mode: balancer.mode,
            health_policy: balancer.health_policy,
        });
        service.ip_families = self.ip_families;
        service.canonical = self.canonical;
        service.visibility = self.visibility;
        service
    }
}

/// An endpoint of a service, as listed with the service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointDocument {
    pub(super) workload_uid: Arc<str>,
    pub(super) port: BTreeMap<u16, u16>,
    pub(super) status: Health,
}

impl EndpointDocument {
    /// The documents of all endpoints in a table, by workload uid.
    pub fn table(endpoints: &EndpointTable) -> BTreeMap<Arc<str>, Self> {
        endpoints.iter().map(|endpoint| (Arc::clone(&endpoint.workload.uid), Self::from(endpoint))).collect()
    }
}

impl From<&Endpoint> for EndpointDocument {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            workload_uid: Arc::clone(&endpoint.workload.uid),
            port: endpoint.ports.iter().collect(),
            status: endpoint.workload.status,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CidrVipDocument {
    network: Arc<str>,
    cidr: Text<IpNet>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightedWaypointDocument {
    destination: GatewayDocument,
    weight: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoadBalancerDocument {
    routing_preferences: Vec<Scope>,
    mode: LoadBalancerMode,
    health_policy: HealthPolicy,
}
