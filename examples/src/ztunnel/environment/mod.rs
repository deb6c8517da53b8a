//! What the environment variables of Istio's node proxy ask for, as checked values.
//!
//! Parsing is a pure function of the variables and of the machine's number of CPUs. A wrong value is an error that names the
//! variable, the value and what is accepted; a variable of Istio's that has no effect here yet is a [`Warning`].

mod authority;
mod drain;
mod error;
mod proxy_config;
mod security;
#[cfg(test)]
mod tests;
mod unsupported;
mod variables;
mod view;
mod workers;

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use mesh_policy::MissingPolicy;
use mesh_proxy::{
    Keepalive, Settings,
    state::WorkloadKey,
    telemetry::log::{LogFormat, LogLevels},
};

pub(crate) use authority::{Authority, Identities, TOKEN_FILE};
pub(crate) use error::EnvironmentError;
pub(crate) use security::Security;
pub(crate) use unsupported::Warning;
pub(crate) use view::EnvironmentView;

use proxy_config::ProxyConfig;
use variables::Variables;
use workers::Workers;

/// Where `kubelet` asks for readiness; there is no variable for it.
const READINESS_PORT: u16 = 15021;
/// Where metrics are scraped unless `PROXY_CONFIG` says otherwise.
const STATS_PORT: u16 = 15020;
/// Where operators' tools look unless `PROXY_CONFIG` says otherwise.
const ADMIN_PORT: u16 = 15000;

/// Tunnels on one connection, as in Istio.
const POOL_MAX_STREAMS: NonZeroUsize = NonZeroUsize::new(100).expect("100 is not 0");
/// How long an unused connection is kept, as in Istio.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Connections in each direction, and inbound tunnels, of a worker; Istio's node proxy has no such limits.
const MAX_PER_WORKER: NonZeroUsize = NonZeroUsize::new(65_536).expect("65,536 is not 0");
/// How long a half-closed connection may be silent; Istio's node proxy has no such limit.
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(3600);

/// What all tunnels may hold in bytes that nobody has read; Istio's node proxy has no such limit.
const UNREAD_BYTES: usize = 1 << 30;

/// Everything a node proxy is told by its environment.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    /// The workload the proxy stands in front of.
    pub(crate) workload: WorkloadKey,
    /// Where the state of the mesh comes from.
    pub(crate) local: LocalSource,
    /// Where identities come from.
    pub(crate) identities: Identities,
    /// How connections are made secure.
    pub(crate) security: Security,
    /// How the proxy listens, dials and waits.
    pub(crate) settings: Settings,
    /// The node it runs on, preferred when an endpoint is chosen.
    pub(crate) node_name: Option<Arc<str>>,
    /// What is done about a policy that a workload lists and that has not arrived.
    pub(crate) missing_policy: MissingPolicy,
    /// Whether to listen on IPv6 too.
    pub(crate) ipv6: bool,
    /// The port of the administration endpoint, on loopback.
    pub(crate) admin_port: u16,
    /// The port of the metrics endpoint.
    pub(crate) stats_port: u16,
    /// The port of the readiness endpoint.
    pub(crate) readiness_port: u16,
    /// The version of the mesh, for telemetry.
    pub(crate) istio_version: String,
    /// What is logged.
    pub(crate) log_levels: LogLevels,
    /// How it is written.
    pub(crate) log_format: LogFormat,
    /// What an operator should be told at start.
    pub(crate) warnings: Vec<Warning>,
    view: EnvironmentView,
}

impl Environment {
    /// Reads variables, for a machine with so many CPUs.
    ///
    /// # Errors
    ///
    /// If a value is wrong, something is missing, or something is asked for that does not exist yet.
    pub(crate) fn parse(
        variables: &BTreeMap<String, String>,
        cpus: NonZeroUsize,
    ) -> Result<Self, EnvironmentError> {
        let variables = Variables::new(variables);
        let workload = dedicated_workload(&variables)?;
        let local = local_source(&variables)?;
        let cluster_id = variables.either("ISTIO_META_CLUSTER_ID", "CLUSTER_ID").unwrap_or("Kubernetes");
        let (identities, warning) = Identities::parse(&variables, cluster_id)?;
        let mut warnings = Warning::unsupported(&variables, identities.address().is_some());
        warnings.extend(warning);
        let (security, warning) = Security::parse(&variables)?;
        warnings.extend(warning);
        let proxy_config = ProxyConfig::parse(&variables)?;
        let ipv6 = variables.boolean("IPV6_ENABLED")?.unwrap_or(true);
        let view = EnvironmentView {
            workload: workload.clone(),
            admin_port: proxy_config.proxy_admin_port.unwrap_or(ADMIN_PORT),
            stats_port: proxy_config.stats_port.unwrap_or(STATS_PORT),
            readiness_port: READINESS_PORT,
            ipv6,
            socks5: variables.boolean("UNSTABLE_ENABLE_SOCKS5")?.unwrap_or(false),
            network: variables.text("NETWORK").unwrap_or_default().into(),
            cluster_id: cluster_id.into(),
            ca_address: identities.address().map(Into::into),
            node_name: variables.text("NODE_NAME").map(Into::into),
            workers: Workers::parse(&variables)?.count(proxy_config.concurrency, cpus),
            drain_deadline: drain::deadline(&variables)?,
            packet_mark: variables.number("PACKET_MARK")?,
            original_source: variables.boolean("ENABLE_ORIG_SRC")?,
            keepalive: keepalive(&variables)?,
            user_timeout: variables.boolean("USER_TIMEOUT_ENABLED")?.unwrap_or(false),
            pool_max_streams: variables
                .positive("POOL_MAX_STREAMS_PER_CONNECTION")?
                .unwrap_or(POOL_MAX_STREAMS),
            pool_idle_timeout: variables
                .duration("POOL_UNUSED_RELEASE_TIMEOUT")?
                .unwrap_or(POOL_IDLE_TIMEOUT),
            baggage: variables.boolean("ENABLE_RESPONSE_BAGGAGE")?.unwrap_or(true),
            half_open_timeout: half_open_timeout(&variables)?,
            max_connections: variables.positive("MAX_CONNECTIONS_PER_WORKER")?.unwrap_or(MAX_PER_WORKER),
            max_tunnels: variables.positive("MAX_TUNNELS_PER_WORKER")?.unwrap_or(MAX_PER_WORKER),
            unread_bytes: variables.bytes("HBONE_MEMORY_LIMIT")?.unwrap_or(UNREAD_BYTES),
        };
        Ok(Self {
            workload,
            local,
            identities,
            settings: view.settings().max_connection_age(security.max_connection_age),
            security,
            node_name: view.node_name.clone(),
            missing_policy: missing_policy(&variables)?,
            ipv6,
            admin_port: view.admin_port,
            stats_port: view.stats_port,
            readiness_port: view.readiness_port,
            istio_version: variables.text("ISTIO_META_ISTIO_VERSION").unwrap_or("unknown").to_owned(),
            log_levels: variables.parsed("RUST_LOG", ACCEPTED_LEVELS)?.unwrap_or_default(),
            log_format: variables.parsed("LOG_FORMAT", "json or plain")?.unwrap_or_default(),
            warnings,
            view,
        })
    }

    /// The mark of the proxy's own packets.
    pub(crate) fn packet_mark(&self) -> Option<u32> {
        self.view.packet_mark
    }

    /// What is in force, without secrets, for a configuration dump.
    pub(crate) fn view(&self) -> &EnvironmentView {
        &self.view
    }
}

/// Where the state of the mesh comes from, without a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LocalSource {
    /// A file, re-read when it changes.
    File(PathBuf),
    /// The text itself.
    Text(String),
}

const ACCEPTED_LEVELS: &str =
    "a level (off, error, warn, info, debug, trace) or target=level, joined by commas";

/// The workload of `PROXY_WORKLOAD_INFO`, in the only mode there is.
fn dedicated_workload(variables: &Variables<'_>) -> Result<WorkloadKey, EnvironmentError> {
    match variables.text("PROXY_MODE") {
        Some("dedicated") => {}
        None => return Err(EnvironmentError::missing("PROXY_MODE", ONLY_DEDICATED)),
        Some("shared") => return Err(EnvironmentError::unavailable("PROXY_MODE", "shared", ONLY_DEDICATED)),
        Some(other) => return Err(EnvironmentError::invalid("PROXY_MODE", other, "dedicated or shared")),
    }
    let accepted = "namespace/name/service-account";
    let Some(info) = variables.text("PROXY_WORKLOAD_INFO") else {
        return Err(EnvironmentError::missing("PROXY_WORKLOAD_INFO", accepted));
    };
    let mut parts = info.split('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next(), parts.next(), info.matches('/').count()) {
        (Some(namespace), Some(name), Some(service_account), 2) => Ok(WorkloadKey {
            namespace: namespace.into(),
            name: name.into(),
            service_account: service_account.into(),
        }),
        _ => Err(EnvironmentError::invalid("PROXY_WORKLOAD_INFO", info, accepted)),
    }
}

const ONLY_DEDICATED: &str = "set PROXY_MODE=dedicated and PROXY_WORKLOAD_INFO=namespace/name/service-account; \
                              the shared mode needs in-pod redirection, which is not there yet";

/// The state has to be local as long as there is no client of a control plane.
fn local_source(variables: &Variables<'_>) -> Result<LocalSource, EnvironmentError> {
    match variables.raw("XDS_ADDRESS") {
        Some("") => {}
        Some(address) => return Err(EnvironmentError::unavailable("XDS_ADDRESS", address, ONLY_LOCAL)),
        None => return Err(EnvironmentError::missing("XDS_ADDRESS", ONLY_LOCAL)),
    }
    match (variables.text("LOCAL_XDS_PATH"), variables.text("LOCAL_XDS")) {
        (Some(path), None) => Ok(LocalSource::File(path.into())),
        (None, Some(text)) => Ok(LocalSource::Text(text.to_owned())),
        (Some(_), Some(_)) => Err(EnvironmentError::Both { first: "LOCAL_XDS_PATH", second: "LOCAL_XDS" }),
        (None, None) => Err(EnvironmentError::missing("LOCAL_XDS_PATH", ONLY_LOCAL)),
    }
}

const ONLY_LOCAL: &str = "set XDS_ADDRESS to the empty text and LOCAL_XDS_PATH (a file) or LOCAL_XDS (its text); \
                          state from a control plane is not there yet";

fn missing_policy(variables: &Variables<'_>) -> Result<MissingPolicy, EnvironmentError> {
    match variables.text("MISSING_POLICY") {
        None | Some("deny") => Ok(MissingPolicy::Deny),
        Some("skip") => Ok(MissingPolicy::Skip),
        Some(other) => Err(EnvironmentError::invalid("MISSING_POLICY", other, "deny or skip")),
    }
}

/// A duration of nothing stands for no limit.
fn half_open_timeout(variables: &Variables<'_>) -> Result<Option<Duration>, EnvironmentError> {
    let limit = variables.duration("HALF_OPEN_TIMEOUT")?.unwrap_or(HALF_OPEN_TIMEOUT);
    Ok((!limit.is_zero()).then_some(limit))
}

fn keepalive(variables: &Variables<'_>) -> Result<Option<Keepalive>, EnvironmentError> {
    let default = Keepalive::default();
    let keepalive = Keepalive {
        time: variables.duration("KEEPALIVE_TIME")?.unwrap_or(default.time),
        interval: variables.duration("KEEPALIVE_INTERVAL")?.unwrap_or(default.interval),
        retries: variables.number("KEEPALIVE_RETRIES")?.unwrap_or(default.retries),
    };
    Ok(variables.boolean("KEEPALIVE_ENABLED")?.unwrap_or(true).then_some(keepalive))
}
