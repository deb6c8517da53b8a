//! A node proxy as a process: the proxy, its sources of state and identities, its endpoints and signals.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, OnceLock},
};

use mesh_identity::{
    IdentityManager, IdentitySource, IstioCa, IstioCaBuilderError, RevocationFile, RotationSettings,
    TokenSource,
};
use mesh_proxy::{
    BuildError, DrainHandle, Proxy, Report, RunError,
    admin::{
        self, AdminEndpoint, ConfigDump, Endpoint, MetricsEndpoint, PendingTask, Readiness, ReadinessEndpoint,
    },
    config::local::{LocalConfig, LocalConfigError, LocalConfigFile},
    state::{StateStore, WorkloadKey},
    telemetry::{Event, Observer, Telemetry, log::LogHandle},
};
use rustls::crypto::CryptoProvider;
use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use super::{
    TARGET, build,
    environment::{Authority, Environment, Identities, LocalSource, TOKEN_FILE},
};
use crate::crypto;

/// Runs a node proxy until it has been told to end and open connections have drained.
pub(super) async fn serve(
    environment: Environment,
    logging: LogHandle,
    lists: Option<RevocationFile>,
    telemetry: Arc<Telemetry>,
    shown: &Shown,
) -> Result<(), ServeError> {
    let provider = crypto::provider();
    let mut tls = environment.security.tls();
    if let Some(file) = &lists {
        tls = tls.revocation(file.revocation().clone());
    }
    let Sourced { identities, manager } = sourced(&environment, &provider)?;
    if let Some(manager) = &manager {
        shown.manager.get_or_init(|| manager.clone());
    }
    shown.identities.get_or_init(|| Arc::clone(&identities));
    let state = Arc::new(StateStore::new(environment.node_name.clone(), environment.missing_policy));
    let local = environment.workload.clone();
    let dump = ConfigDump::builder(Arc::clone(&state))
        .config(environment.view())
        .version(build::info(&environment.istio_version))
        .certificates(Arc::clone(&identities), move |snapshot| {
            snapshot.local_workload(&local).map(|workload| workload.identity().clone()).into_iter().collect()
        })
        .build();
    let workload = environment.workload.clone();
    let node =
        Node { state, workload, manager, dump: Arc::new(dump), telemetry, readiness: Readiness::new() };
    let starting = node.readiness.pending("proxy");
    let synced = node.readiness.pending("state manager");

    let proxy = Proxy::builder(environment.workload.clone(), Arc::clone(&node.state), identities, &provider)
        .observer(Arc::clone(&node.telemetry) as Arc<dyn Observer>)
        .settings(environment.settings.clone())
        .tls(tls)
        .build()?;
    // It ends with the runtime, for which there is nothing to be left in order.
    if let Some(file) = lists {
        tokio::spawn(async move { file.follow().await });
    }
    let ending = Ending { drain: proxy.drain_handle(), readiness: node.readiness.clone() };
    let endpoints = node.serve_endpoints(&environment, logging, &ending)?;
    let signals = end_on_signals(ending)?;
    let source = node.follow(environment.local, synced).await?;
    drop(starting);

    let result = proxy.run().await;
    source.abort();
    signals.abort();
    // Readiness, metrics and the dump answered until the last connection had ended.
    endpoints.close().await;
    Ok(result?)
}

/// What metrics show, once it is there.
#[derive(Default)]
pub(super) struct Shown {
    pub(super) identities: OnceLock<Arc<dyn IdentitySource>>,
    pub(super) manager: OnceLock<IdentityManager>,
}

/// Where identities come from, and what has to be told whose they may be.
struct Sourced {
    identities: Arc<dyn IdentitySource>,
    manager: Option<IdentityManager>,
}

fn sourced(environment: &Environment, provider: &CryptoProvider) -> Result<Sourced, ServeError> {
    match &environment.identities {
        Identities::Development => Ok(Sourced { identities: development(provider), manager: None }),
        Identities::Authority(authority) => {
            let client = client(authority, environment, provider)?;
            let settings = RotationSettings::default().lifetime(authority.lifetime);
            let manager = IdentityManager::builder(client).settings(settings).spawn();
            Ok(Sourced { identities: Arc::new(manager.clone()), manager: Some(manager) })
        }
    }
}

/// The client of an authority. The proxy is that of one workload, and asks as that workload for itself.
fn client(
    authority: &Authority,
    environment: &Environment,
    provider: &CryptoProvider,
) -> Result<IstioCa, IstioCaBuilderError> {
    let mut client = IstioCa::builder(authority.address.clone(), Arc::new(provider.clone()))
        .roots(authority.roots.clone())
        .tls(environment.security.tls())
        .cluster_id(authority.cluster_id.clone());
    if let Some(name) = &authority.alternate_host_name {
        client = client.alternate_host_name(name);
    }
    if let Some(mark) = environment.packet_mark() {
        client = client.packet_mark(mark);
    }
    // A token that is mounted is used without being asked for.
    let mounted = || Path::new(TOKEN_FILE).exists().then(|| TokenSource::file(TOKEN_FILE));
    if let Some(token) = authority.token.clone().or_else(mounted) {
        client = client.token(token);
    }
    for header in &authority.headers {
        client = client.header(&header.name, &header.value);
    }
    client.build()
}

#[cfg(feature = "dev-ca")]
fn development(provider: &CryptoProvider) -> Arc<dyn IdentitySource> {
    Arc::new(mesh_identity::DevCa::new(Arc::new(provider.clone())))
}

/// Nowhere: the environment is refused in a program without the development root.
#[cfg(not(feature = "dev-ca"))]
fn development(_: &CryptoProvider) -> Arc<dyn IdentitySource> {
    Arc::new(mesh_identity::IdentityStore::new(mesh_identity::TrustBundles::new([])))
}

/// What the parts around the proxy share.
struct Node {
    state: Arc<StateStore>,
    workload: WorkloadKey,
    manager: Option<IdentityManager>,
    dump: Arc<ConfigDump>,
    telemetry: Arc<Telemetry>,
    readiness: Readiness,
}

impl Node {
    /// Reads the state of the mesh, and from then on whenever it changes.
    ///
    /// What is there at start has to be good: there is nothing to fall back on.
    async fn follow(
        &self,
        source: LocalSource,
        synced: PendingTask,
    ) -> Result<tokio::task::AbortHandle, ServeError> {
        let file = match source {
            LocalSource::Text(text) => {
                self.apply(
                    text.parse()
                        .map_err(|source| ServeError::LocalConfig { from: "LOCAL_XDS".to_owned(), source })?,
                );
                None
            }
            LocalSource::File(path) => {
                let from = format!("LOCAL_XDS_PATH {}", path.display());
                let mut file = LocalConfigFile::new(path);
                self.apply(file.next().await.map_err(|source| ServeError::LocalConfig { from, source })?);
                Some(file)
            }
        };
        drop(synced);
        let node = Self {
            state: Arc::clone(&self.state),
            workload: self.workload.clone(),
            manager: self.manager.clone(),
            dump: Arc::clone(&self.dump),
            telemetry: Arc::clone(&self.telemetry),
            readiness: self.readiness.clone(),
        };
        let following = tokio::spawn(async move {
            let Some(mut file) = file else { return };
            loop {
                match file.next().await {
                    Ok(config) => {
                        node.apply(config);
                        node.telemetry.event(&Event::LocalConfigApplied);
                    }
                    Err(error) => {
                        node.telemetry.event(&Event::LocalConfigRejected { error: &Report(&error) })
                    }
                }
            }
        });
        Ok(following.abort_handle())
    }

    fn apply(&self, config: LocalConfig) {
        self.dump.replace_static_config(Arc::clone(config.document()));
        self.state.apply(config.into_changes());
        let Some(manager) = &self.manager else { return };
        // Its trust domain and service account are what the mesh says.
        let own =
            self.state.load().local_workload(&self.workload).map(|workload| workload.identity().clone());
        if let Err(error) = manager.permit_only(&own.into_iter().collect()) {
            tracing::error!(target: TARGET, %error, "identities");
        }
    }

    fn serve_endpoints(
        &self,
        environment: &Environment,
        logging: LogHandle,
        ending: &Ending,
    ) -> Result<Endpoints, ServeError> {
        let mut endpoints = Endpoints::default();
        let quit = ending.clone();
        let admin = AdminEndpoint::new(Arc::clone(&self.dump), logging, move || quit.begin());
        for address in loopback(environment) {
            endpoints.serve(SocketAddr::new(address, environment.admin_port), admin.clone())?;
        }
        let metrics = MetricsEndpoint::new(Arc::clone(&self.telemetry));
        endpoints.serve(SocketAddr::new(any(environment), environment.stats_port), metrics)?;
        let readiness = ReadinessEndpoint::new(self.readiness.clone());
        endpoints.serve(SocketAddr::new(any(environment), environment.readiness_port), readiness)?;
        Ok(endpoints)
    }
}

fn any(environment: &Environment) -> IpAddr {
    if environment.ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// Loopback of both families, unless the kernel or the environment has no IPv6 there.
fn loopback(environment: &Environment) -> Vec<IpAddr> {
    let disabled = std::fs::read_to_string("/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    let ipv6 = environment.ipv6 && disabled.is_ok_and(|value| value.trim() != "1");
    let mut addresses = vec![Ipv4Addr::LOCALHOST.into()];
    addresses.extend(ipv6.then_some(IpAddr::from(Ipv6Addr::LOCALHOST)));
    addresses
}

/// The administrative servers, until they are closed.
#[derive(Default)]
struct Endpoints {
    servers: JoinSet<()>,
    closed: watch::Sender<bool>,
}

impl Endpoints {
    fn serve(&mut self, address: SocketAddr, endpoint: impl Endpoint) -> Result<(), ServeError> {
        let listener = TcpListener::bind(address).map_err(|source| ServeError::Listen { address, source })?;
        let mut closed = self.closed.subscribe();
        self.servers.spawn(async move {
            let shutdown = async move { drop(closed.wait_for(|&closed| closed).await) };
            if let Err(error) = admin::serve(listener, endpoint, shutdown).await {
                tracing::error!(target: TARGET, %address, %error, "administrative endpoint lost");
            }
        });
        Ok(())
    }

    /// Ends the servers once their open connections have.
    async fn close(mut self) {
        self.closed.send_replace(true);
        while self.servers.join_next().await.is_some() {}
    }
}

/// How the process is ended in good order, from wherever.
#[derive(Clone)]
struct Ending {
    drain: DrainHandle,
    readiness: Readiness,
}

impl Ending {
    fn begin(&self) {
        if !self.drain.is_draining() {
            tracing::info!(target: TARGET, "draining");
        }
        self.readiness.drain();
        self.drain.drain();
    }
}

/// Ends the process on SIGTERM and SIGINT; a second SIGINT does not wait.
fn end_on_signals(ending: Ending) -> Result<tokio::task::AbortHandle, ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let handling = tokio::spawn(async move {
        let mut interrupted = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {
                    if std::mem::replace(&mut interrupted, true) {
                        std::process::exit(0);
                    }
                }
            }
            ending.begin();
        }
    });
    Ok(handling.abort_handle())
}

/// Why a node proxy cannot run.
#[derive(Debug, Error)]
pub(super) enum ServeError {
    /// The proxy could not be set up.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The certificate authority cannot be called as the environment says.
    #[error("certificate authority")]
    Authority(#[from] IstioCaBuilderError),
    /// An administrative endpoint could not be set up.
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    /// The state of the mesh could not be read at start.
    #[error("local configuration of {from}")]
    LocalConfig { from: String, source: LocalConfigError },
    /// The proxy ended by itself.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Signals cannot be handled.
    #[error("cannot handle signals")]
    Signals(#[source] io::Error),
}
