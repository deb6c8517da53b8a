//! Who is in the mesh of the demo, what they may do, and what they try.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

use mesh_identity::SpiffeId;
use mesh_policy::{ConnectionFacts, MissingPolicy};
use mesh_proxy::{config::local::LocalConfig, state::StateStore};

use super::{error::DemoError, tour::Side};
use crate::lab::{MeshFile, Pod, Service};

/// Port of the service in front of the orders.
const SERVICE: u16 = 80;

pub(super) const CLIENT: &str = "frontend";
pub(super) const SERVER: &str = "cart";

/// Where the applications of the server listen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ports {
    /// Takes orders from the client.
    pub(super) orders: u16,
    /// Takes bulk data from the client, for the measurement.
    pub(super) bulk: u16,
    /// For administrators: a DENY policy keeps everybody else out.
    pub(super) admin: u16,
    /// For nobody in particular: no ALLOW policy mentions it.
    pub(super) debug: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { orders: 8080, bulk: 8081, admin: 9090, debug: 7070 }
    }
}

impl Ports {
    /// Ports that the system chooses.
    pub(super) const ANY: Self = Self { orders: 0, bulk: 0, admin: 0, debug: 0 };

    fn policies(self) -> [String; 2] {
        let Self { orders, bulk, admin, .. } = self;
        [
            format!(
                "name: callers
namespace: shop
scope: Namespace
action: Allow
dryRun: false
rules:
- - - principals: [!Exact cluster.local/ns/web/sa/frontend]
  - - destinationPorts: [{orders}, {bulk}]"
            ),
            format!(
                "name: no-admin
namespace: shop
scope: Namespace
action: Deny
dryRun: false
rules:
- - - destinationPorts: [{admin}]"
            ),
        ]
    }
}

/// The mesh: two pods, one service, two policies.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) client: Pod,
    pub(super) server: Pod,
    pub(super) ports: Ports,
    pub(super) file: MeshFile,
    service: Service,
    /// A secret that nobody between the pods may see.
    pub(super) marker: String,
}

impl Story {
    pub(super) fn new(
        client: impl IntoIterator<Item = IpAddr>,
        server: impl IntoIterator<Item = IpAddr>,
        ports: Ports,
    ) -> Self {
        let client = Pod::new("web", CLIENT, client);
        let server = Pod::new("shop", SERVER, server);
        let service = Service {
            name: SERVER.to_owned(),
            namespace: server.namespace.clone(),
            vips: vec![
                Ipv4Addr::new(198, 51, 100, 10).into(),
                Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10).into(),
            ],
            port: (SERVICE, ports.orders),
            backend: server.name.clone(),
        };
        let file = MeshFile::default().pod(client.clone()).pod(server.clone()).service(service.clone());
        let file = ports.policies().iter().fold(file, |file, policy| file.policy(policy));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let marker = format!("secret-{:08x}{:08x}", process::id(), now.subsec_nanos());
        Self { client, server, ports, file, service, marker }
    }

    /// The pod on a side.
    pub(super) fn pod(&self, side: Side) -> &Pod {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// Where the client dials the service.
    pub(super) fn service_address(&self) -> Option<SocketAddr> {
        self.service.vips.first().map(|address| (*address, SERVICE).into())
    }

    /// What the client sends.
    pub(super) fn order(&self) -> String {
        format!("one teapot please, charged to {}", self.marker)
    }
}

/// The policies as the proxies read them, to explain what the proxies decide.
#[derive(Debug)]
pub(super) struct Judge {
    state: StateStore,
    client: SpiffeId,
    namespace: String,
}

impl Judge {
    pub(super) fn new(story: &Story) -> Result<Self, DemoError> {
        let config: LocalConfig = story.file.to_yaml().parse().map_err(DemoError::Mesh)?;
        let state = StateStore::new(None, MissingPolicy::default());
        state.apply(config.into_changes());
        let client = story
            .client
            .identity()
            .parse()
            .map_err(|error| DemoError::Proxy { pod: CLIENT, source: Box::new(error) })?;
        Ok(Self { state, client, namespace: story.server.namespace.clone() })
    }

    /// Why a connection of the client is allowed or denied: the reason first, then its proof.
    pub(super) fn explain(&self, source: IpAddr, destination: SocketAddr) -> Vec<String> {
        let snapshot = self.state.load();
        let facts = ConnectionFacts {
            source,
            peer: Some(&self.client),
            destination,
            namespace: &self.namespace,
            policies: &[],
        };
        let explanation = snapshot.policies().explain(&facts).to_string();
        explanation.lines().map(|line| line.trim().to_owned()).collect()
    }
}
