use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use mesh_policy::PolicyName;
use serde::{Deserialize, Deserializer, Serialize};

use super::{LocalConfigError, names::Names, text::Text};
use crate::state::{
    ApplicationTunnel, ApplicationTunnelProtocol, GatewayDestination, GatewayReference, Health, Locality,
    NetworkMode, Protocol, ServiceName, Workload, WorkloadType,
};

/// A workload as written in a file, or as shown in a dump, where services are listed without ports.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadDocument {
    workload_ips: Vec<Text<IpAddr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    waypoint: Option<GatewayDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network_gateway: Option<GatewayDocument>,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    network_mode: NetworkMode,
    #[serde(default, skip_serializing_if = "is_empty")]
    uid: Arc<str>,
    #[serde(default)]
    name: Arc<str>,
    pub(super) namespace: Arc<str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    trust_domain: Arc<str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    service_account: Arc<str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    network: Arc<str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    workload_name: Arc<str>,
    #[serde(default)]
    workload_type: WorkloadType,
    #[serde(default, skip_serializing_if = "is_empty")]
    canonical_name: Arc<str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    canonical_revision: Arc<str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    hostname: Arc<str>,
    #[serde(default, skip_serializing_if = "is_empty")]
    node: Arc<str>,
    #[serde(default, skip_serializing_if = "is_false")]
    native_tunnel: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    application_tunnel: Option<TunnelDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    authorization_policies: Vec<Text<PolicyName>>,
    #[serde(default)]
    status: Health,
    #[serde(default)]
    cluster_id: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locality: Option<LocalityDocument>,
    #[serde(deserialize_with = "memberships_with_ports", skip_serializing_if = "Memberships::is_hidden")]
    services: Memberships,
    #[serde(default = "default_capacity")]
    capacity: u32,
}

impl WorkloadDocument {
    /// The name under which errors speak of it.
    pub(super) fn label(&self) -> String {
        if self.uid.is_empty() { format!("{}/{}", self.namespace, self.name) } else { self.uid.to_string() }
    }

    pub(super) fn build(&self, names: &mut Names) -> Result<Workload, LocalConfigError> {
        let uid = self.uid_or_default()?;
        let namespace = names.share(&self.namespace);
        let account = names.share(&self.service_account);
        let mut workload = Workload::new(uid, &self.trust_domain, namespace, account)
            .map_err(|source| LocalConfigError::Workload { workload: self.label(), source })?;
        if !self.cluster_id.is_empty() {
            workload.cluster_id = names.share(&self.cluster_id);
        }
        workload.name = Arc::clone(&self.name);
        workload.workload_name = names.share(&self.workload_name);
        workload.workload_type = self.workload_type;
        workload.canonical_name = names.share(&self.canonical_name);
        workload.canonical_revision = names.share(&self.canonical_revision);
        workload.network = names.share(&self.network);
        workload.node = names.share(&self.node);
        workload.addresses = self.workload_ips.iter().map(|address| address.0.to_canonical()).collect();
        workload.hostname = Arc::clone(&self.hostname);
        workload.protocol = self.protocol;
        workload.network_mode = self.network_mode;
        workload.status = self.status;
        workload.capacity = self.capacity;
        workload.native_tunnel = self.native_tunnel;
        workload.waypoint = self.waypoint.as_ref().map(GatewayDocument::build);
        workload.network_gateway = self.network_gateway.as_ref().map(GatewayDocument::build);
        workload.application_tunnel = self.application_tunnel.as_ref().map(|tunnel| ApplicationTunnel {
            protocol: tunnel.protocol,
            port: tunnel.port.filter(|&p| p != 0),
        });
        if let Some(LocalityDocument { region, zone, subzone }) = &self.locality {
            workload.locality = Locality {
                region: names.share(region),
                zone: names.share(zone),
                subzone: names.share(subzone),
            };
        }
        if let Memberships::Ports(services) = &self.services {
            let member = |(name, ports): (&Text<ServiceName>, &BTreeMap<u16, u16>)| {
                (names.share_service(&name.0), ports.iter().map(|(&port, &target)| (port, target)).collect())
            };
            workload.services = services.iter().map(member).collect();
        }
        workload.authorization_policies =
            self.authorization_policies.iter().map(|policy| policy.0.clone()).collect();
        Ok(workload)
    }

    /// A workload needs a key of its own; one made by hand may leave it to its name.
    fn uid_or_default(&self) -> Result<Arc<str>, LocalConfigError> {
        if !self.uid.is_empty() {
            return Ok(Arc::clone(&self.uid));
        }
        if self.name.is_empty() {
            return Err(LocalConfigError::Nameless { namespace: self.namespace.to_string() });
        }
        let cluster =
            if self.cluster_id.is_empty() { Workload::DEFAULT_CLUSTER_ID } else { &self.cluster_id };
        Ok(format!("{cluster}//Pod/{}/{}", self.namespace, self.name).into())
    }
}

impl From<&Workload> for WorkloadDocument {
    fn from(workload: &Workload) -> Self {
        let locality = &workload.locality;
        Self {
            workload_ips: workload.addresses.iter().copied().map(Text).collect(),
            waypoint: workload.waypoint.as_ref().map(GatewayDocument::from),
            network_gateway: workload.network_gateway.as_ref().map(GatewayDocument::from),
            protocol: workload.protocol,
            network_mode: workload.network_mode,
            uid: Arc::clone(&workload.uid),
            name: Arc::clone(&workload.name),
            namespace: Arc::clone(workload.namespace()),
            trust_domain: workload.trust_domain().as_str().into(),
            service_account: Arc::clone(workload.service_account()),
            network: Arc::clone(&workload.network),
            workload_name: Arc::clone(&workload.workload_name),
            workload_type: workload.workload_type,
            canonical_name: Arc::clone(&workload.canonical_name),
            canonical_revision: Arc::clone(&workload.canonical_revision),
            hostname: Arc::clone(&workload.hostname),
            node: Arc::clone(&workload.node),
            native_tunnel: workload.native_tunnel,
            application_tunnel: workload
                .application_tunnel
                .map(|ApplicationTunnel { protocol, port }| TunnelDocument { protocol, port }),
            authorization_policies: workload.authorization_policies.iter().cloned().map(Text).collect(),
            status: workload.status,
            cluster_id: Arc::clone(&workload.cluster_id),
            locality: (*locality != Locality::default()).then(|| LocalityDocument {
                region: Arc::clone(&locality.region),
                zone: Arc::clone(&locality.zone),
                subzone: Arc::clone(&locality.subzone),
            }),
            services: Memberships::Names(
                workload.services.iter().map(|(name, _)| Text(name.clone())).collect(),
            ),
            capacity: workload.capacity,
        }
    }
}

/// The services of a workload: with ports in a file, without in a dump.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Memberships {
    Names(Vec<Text<ServiceName>>),
    Ports(BTreeMap<Text<ServiceName>, BTreeMap<u16, u16>>),
}

impl Memberships {
    fn is_hidden(&self) -> bool {
        matches!(self, Self::Names(names) if names.is_empty())
    }
}

fn memberships_with_ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Memberships, D::Error> {
    BTreeMap::deserialize(deserializer).map(Memberships::Ports)
}

/// A reference to a waypoint or to a network gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GatewayDocument {
    destination: Text<GatewayDestination>,
    hbone_mtls_port: u16,
}

impl GatewayDocument {
    pub(super) fn build(&self) -> GatewayReference {
        GatewayReference { destination: self.destination.0.clone(), port: self.hbone_mtls_port }
    }
}

impl From<&GatewayReference> for GatewayDocument {
    fn from(reference: &GatewayReference) -> Self {
        Self { destination: Text(reference.destination.clone()), hbone_mtls_port: reference.port }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TunnelDocument {
    protocol: ApplicationTunnelProtocol,
    #[serde(default)]
    port: Option<u16>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalityDocument {
    region: Arc<str>,
    zone: Arc<str>,
    subzone: Arc<str>,
}

fn is_empty(text: &Arc<str>) -> bool {
    text.is_empty()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

fn default_capacity() -> u32 {
    Workload::DEFAULT_CAPACITY
}
