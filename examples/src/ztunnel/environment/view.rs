use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use hbone::Budget;
use mesh_proxy::{
    HBONE_PORT, INBOUND_PLAINTEXT_PORT, Keepalive, ListenAddresses, OUTBOUND_PORT, OriginalSource,
    SOCKS5_PORT, Settings, SocketOptions, state::WorkloadKey,
};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// The values in force, in the names and shapes of Istio's configuration dump. It contains no secret.
#[derive(Clone, Debug)]
pub(crate) struct EnvironmentView {
    pub(super) workload: WorkloadKey,
    pub(super) admin_port: u16,
    pub(super) stats_port: u16,
    pub(super) readiness_port: u16,
    pub(super) ipv6: bool,
    pub(super) socks5: bool,
    pub(super) network: Arc<str>,
    pub(super) cluster_id: Arc<str>,
    /// None with the development root.
    pub(super) ca_address: Option<Arc<str>>,
    pub(super) node_name: Option<Arc<str>>,
    pub(super) workers: NonZeroUsize,
    pub(super) drain_deadline: Duration,
    pub(super) packet_mark: Option<u32>,
    pub(super) original_source: Option<bool>,
    pub(super) keepalive: Option<Keepalive>,
    pub(super) user_timeout: bool,
    pub(super) pool_max_streams: NonZeroUsize,
    pub(super) pool_idle_timeout: Duration,
    pub(super) baggage: bool,
    /// None without a limit.
    pub(super) half_open_timeout: Option<Duration>,
    pub(super) max_connections: NonZeroUsize,
    pub(super) max_tunnels: NonZeroUsize,
    pub(super) unread_bytes: usize,
}

impl EnvironmentView {
    pub(super) fn settings(&self) -> Settings {
        let listen = ListenAddresses::redirected(self.ipv6);
        let sockets = SocketOptions::default()
            .mark(self.packet_mark)
            .keepalive(self.keepalive)
            .user_timeout(self.user_timeout);
        Settings::default()
            .listen(if self.socks5 { listen.with_socks5() } else { listen })
            .workers(self.workers)
            .original_source(match self.original_source {
                None => OriginalSource::Prefer,
                Some(false) => OriginalSource::Off,
                Some(true) => OriginalSource::Require,
            })
            .sockets(sockets)
            .network(Arc::clone(&self.network))
            .baggage(self.baggage)
            .drain_deadline(self.drain_deadline)
            .half_open_timeout(self.half_open_timeout)
            .max_connections_per_worker(self.max_connections.get())
            .max_tunnels_per_worker(self.max_tunnels.get())
            .max_tunnels_per_connection(self.pool_max_streams.get())
            .pool_idle_timeout(self.pool_idle_timeout)
            .budget(Budget::new(self.unread_bytes))
    }

    fn to_json(&self) -> Value {
        let any = if self.ipv6 { "[::]" } else { "0.0.0.0" };
        let listener = |port: u16| json!(format!("{any}:{port}"));
        let keepalive = self.keepalive.unwrap_or_default();
        json!({
            "adminAddr": { "Localhost": [self.ipv6, self.admin_port] },
            "caAddress": self.ca_address,
            "clusterId": self.cluster_id,
            "dnsProxy": false,
            "enableEnhancedBaggage": self.baggage,
            "halfOpenTimeout": self.half_open_timeout.map(duration),
            "hboneMemoryLimit": self.unread_bytes,
            "maxConnectionsPerWorker": self.max_connections,
            "maxTunnelsPerWorker": self.max_tunnels,
            "fakeCa": self.ca_address.is_none(),
            "inboundAddr": listener(HBONE_PORT),
            "inboundPlaintextAddr": listener(INBOUND_PLAINTEXT_PORT),
            "ipv6Enabled": self.ipv6,
            "localNode": self.node_name,
            "network": self.network,
            "numWorkerThreads": self.workers,
            "outboundAddr": listener(OUTBOUND_PORT),
            "packetMark": self.packet_mark,
            "poolMaxStreamsPerConn": self.pool_max_streams,
            "poolUnusedReleaseTimeout": duration(self.pool_idle_timeout),
            "proxyMode": "Dedicated",
            "proxyWorkloadInformation": {
                "name": self.workload.name,
                "namespace": self.workload.namespace,
                "serviceAccount": self.workload.service_account,
            },
            "readinessAddr": { "SocketAddr": listener(self.readiness_port) },
            "requireOriginalSource": self.original_source,
            "selfTerminationDeadline": duration(self.drain_deadline),
            "socketConfig": {
                "keepaliveEnabled": self.keepalive.is_some(),
                "keepaliveInterval": duration(keepalive.interval),
                "keepaliveRetries": keepalive.retries,
                "keepaliveTime": duration(keepalive.time),
                "userTimeoutEnabled": self.user_timeout,
            },
            "socks5Addr": self.socks5.then(|| json!({ "Localhost": [self.ipv6, SOCKS5_PORT] })),
            "statsAddr": { "SocketAddr": listener(self.stats_port) },
            "xdsAddress": null,
        })
    }
}

impl Serialize for EnvironmentView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

fn duration(duration: Duration) -> Value {
    json!({ "secs": duration.as_secs(), "nanos": duration.subsec_nanos() })
}
