use std::{net::IpAddr, sync::Arc};

use mesh_identity::{ExpectedPeer, SpiffeId, SpiffeIdError, TrustDomain};
use mesh_policy::PolicyName;

use super::{GatewayReference, PortMap, ServiceName};

/// A workload: something with a service account that sends or receives traffic, usually a pod.
///
/// Trust domain, namespace and service account are fixed at construction, because the identity made of them
/// must agree.
#[derive(Clone, Debug)]
pub struct Workload {
    identity: SpiffeId,
    expected_peer: ExpectedPeer,
    namespace: Arc<str>,
    service_account: Arc<str>,
    /// The primary key, opaque but for `//Pod/`, which marks pods.
    pub uid: Arc<str>,
    /// Its own name, for a pod the pod's.
    pub name: Arc<str>,
    /// The name of what it belongs to, for instance a deployment's.
    pub workload_name: Arc<str>,
    /// What it belongs to.
    pub workload_type: WorkloadType,
    /// The name it goes by in telemetry.
    pub canonical_name: Arc<str>,
    /// The version it goes by in telemetry.
    pub canonical_revision: Arc<str>,
    /// Its cluster.
    pub cluster_id: Arc<str>,
    /// Its network, empty for the default network.
    pub network: Arc<str>,
    /// Its node.
    pub node: Arc<str>,
    /// Its addresses, the preferred one first.
    pub addresses: Vec<IpAddr>,
    /// A name to resolve where it has no address.
    pub hostname: Arc<str>,
    /// How it is reached.
    pub protocol: Protocol,
    /// Whether it has addresses of its own.
    pub network_mode: NetworkMode,
    /// Whether it is fit to receive traffic.
    pub status: Health,
    /// Where it runs.
    pub locality: Locality,
    /// Its share of the load, relative to other endpoints; 0 means none.
    pub capacity: u32,
    /// Whether it speaks HBONE itself.
    pub native_tunnel: bool,
    /// How tunnelled connections are handed to it.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// The waypoint for connections to its own addresses.
    pub waypoint: Option<GatewayReference>,
    /// The gateway through which other networks reach it.
    pub network_gateway: Option<GatewayReference>,
    /// The services it is an endpoint of, each with the ports it serves, in order of importance.
    pub services: Vec<(ServiceName, PortMap)>,
    /// Policies attached to it by selector.
    pub authorization_policies: Vec<PolicyName>,
}

impl Workload {
    /// A workload without addresses, reached in plaintext; everything else is set through the fields.
    ///
    /// An empty trust domain means [`Self::DEFAULT_TRUST_DOMAIN`], an empty service account
    /// [`Self::DEFAULT_SERVICE_ACCOUNT`].
    ///
    /// # Errors
    ///
    /// If trust domain, namespace and service account do not make a SPIFFE ID.
    pub fn new(
        uid: impl Into<Arc<str>>,
        trust_domain: &str,
        namespace: impl Into<Arc<str>>,
        service_account: impl Into<Arc<str>>,
    ) -> Result<Self, WorkloadError> {
        let uid = uid.into();
        let trust_domain = if trust_domain.is_empty() { Self::DEFAULT_TRUST_DOMAIN } else { trust_domain };
        let namespace = namespace.into();
        let mut service_account: Arc<str> = service_account.into();
        if service_account.is_empty() {
            service_account = Self::DEFAULT_SERVICE_ACCOUNT.into();
        }
        let identity = SpiffeId::for_service_account(trust_domain, &namespace, &service_account)
            .map_err(|source| WorkloadError::Identity { uid: Arc::clone(&uid), source })?;
        let empty: Arc<str> = Arc::default();
        Ok(Self {
            expected_peer: ExpectedPeer::exact([identity.clone()]),
            identity,
            namespace,
            service_account,
            uid,
            name: Arc::clone(&empty),
            workload_name: Arc::clone(&empty),
            workload_type: WorkloadType::default(),
            canonical_name: Arc::clone(&empty),
            canonical_revision: Arc::clone(&empty),
            cluster_id: Self::DEFAULT_CLUSTER_ID.into(),
            network: Arc::clone(&empty),
            node: Arc::clone(&empty),
            addresses: Vec::new(),
            hostname: empty,
            protocol: Protocol::default(),
            network_mode: NetworkMode::default(),
            status: Health::default(),
            locality: Locality::default(),
            capacity: Self::DEFAULT_CAPACITY,
            native_tunnel: false,
            application_tunnel: None,
            waypoint: None,
            network_gateway: None,
            services: Vec::new(),
            authorization_policies: Vec::new(),
        })
    }

    /// The SPIFFE ID of its service account.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// Expects exactly this workload's identity; shared by all connections to it.
    pub fn expected_peer(&self) -> &ExpectedPeer {
        &self.expected_peer
    }

    /// Its trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.identity.trust_domain()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// Its service account.
    pub fn service_account(&self) -> &Arc<str> {
        &self.service_account
    }

    /// The ports on which it serves a service, if it is an endpoint of it.
    pub fn ports_for(&self, service: &ServiceName) -> Option<&PortMap> {
        self.services.iter().find(|(name, _)| name == service).map(|(_, ports)| ports)
    }

    /// Whether it is a pod rather than an entry made by hand or a stand-in for a gateway.
    pub fn is_pod(&self) -> bool {
        self.uid.contains("//Pod/")
    }

    /// The trust domain where none is given.
    pub const DEFAULT_TRUST_DOMAIN: &'static str = "cluster.local";
    /// The service account where none is given, as in Kubernetes.
    pub const DEFAULT_SERVICE_ACCOUNT: &'static str = "default";
    /// The cluster where none is given.
    pub const DEFAULT_CLUSTER_ID: &'static str = "Kubernetes";
    /// The capacity where none is given.
    pub const DEFAULT_CAPACITY: u32 = 1;
}

/// Why a workload cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// Trust domain, namespace and service account do not make a SPIFFE ID.
    #[error("workload {uid} has no valid identity")]
    Identity {
        /// The workload.
        uid: Arc<str>,
        /// What is wrong with the identity.
        source: SpiffeIdError,
    },
}

/// How a workload is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "local-config",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "UPPERCASE")
)]
pub enum Protocol {
    /// Through an HBONE tunnel.
    Hbone,
    /// In plaintext.
    #[default]
    Tcp,
}

/// Whether a workload has addresses of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "local-config", derive(serde::Serialize, serde::Deserialize))]
pub enum NetworkMode {
    /// It shares its node's, so an address does not name it.
    HostNetwork,
    /// It has.
    #[default]
    Standard,
}

/// Whether a workload is fit to receive traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "local-config", derive(serde::Serialize, serde::Deserialize))]
pub enum Health {
    /// It is.
    #[default]
    Healthy,
    /// It is not.
    Unhealthy,
}

/// What a workload belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "local-config",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum WorkloadType {
    /// A recurring job.
    CronJob,
    /// A deployment.
    #[default]
    Deployment,
    /// A job.
    Job,
    /// Nothing but itself.
    Pod,
}

impl WorkloadType {
    /// The word used on the wire, in labels and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CronJob => "cronjob",
            Self::Deployment => "deployment",
            Self::Job => "job",
            Self::Pod => "pod",
        }
    }
}

/// Where a workload runs; empty where unknown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone within the region.
    pub zone: Arc<str>,
    /// The subzone within the zone.
    pub subzone: Arc<str>,
}

/// How tunnelled connections are handed to an application that wants them itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplicationTunnel {
    /// What is sent ahead of the payload.
    pub protocol: ApplicationTunnelProtocol,
    /// The application's port, if all connections go to one.
    pub port: Option<u16>,
}

/// What an application is told ahead of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "local-config",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "UPPERCASE")
)]
pub enum ApplicationTunnelProtocol {
    /// Nothing.
    None,
    /// The connection's addresses and the client's identity, in a PROXY protocol header.
    Proxy,
}

#[cfg(test)]
mod tests {
    use super::*;

    // control-plane#43, identity#6
    #[test]
    fn empty_names_mean_the_defaults() {
        let workload = Workload::new("u", "", "shop", "").unwrap();
        assert_eq!(workload.identity().to_string(), "spiffe://cluster.local/ns/shop/sa/default");
        assert_eq!(&*workload.cluster_id, "Kubernetes");
        assert_eq!(workload.capacity, 1);
    }

    #[test]
    fn invalid_identity_is_refused() {
        assert!(matches!(
            Workload::new("u", "exa mple", "shop", "cart"),
            Err(WorkloadError::Identity { .. })
        ));
        assert!(matches!(Workload::new("u", "", "", "cart"), Err(WorkloadError::Identity { .. })));
    }
}
