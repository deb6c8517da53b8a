use std::{
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use examples::lab::{
    Capture, CaptureError, EnvoyError, Host, Network, NetworkError, Pod, StartError, Workspace,
    load::{self, LoadServer},
};
use thiserror::Error;

use super::{
    contender::Contender,
    hop::{self, Hop, ZtunnelSetup},
    negotiated::Negotiated,
};

/// Settings of a host's network that its size asks for: without them a client runs out of ports before a proxy does.
const SYSCTLS: [(&str, &str); 3] = [
    ("net/ipv4/ip_local_port_range", "18000 65000"),
    ("net/ipv4/tcp_tw_reuse", "1"),
    ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "2"),
];
/// Bound on the first connection, and pause between attempts.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
const FIRST_INTERVAL: Duration = Duration::from_millis(20);
/// Bound on the end of every connection after a measurement.
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// Two hosts, the applications on them, and a contender between.
#[derive(Debug)]
pub(super) struct Bed {
    // Fields are dropped in this order: the hops before the hosts on which they live.
    hops: Vec<Hop>,
    load: LoadServer,
    negotiated: Option<Negotiated>,
    client: Host,
    _server: Host,
    _network: Network,
}

impl Bed {
    /// Builds a bed and sends one message across; `number` tells its files from those of others.
    pub(super) fn start(
        workspace: &Workspace,
        contender: &Contender,
        workers: usize,
        number: usize,
    ) -> Result<Self, BedError> {
        let network = Network::new(workspace)?;
        let (client, server) = (network.host("client", 10)?, network.host("server", 20)?);
        for host in [&client, &server] {
            tune(host);
            if contender.has_hops() {
                host.capture(&Capture::find()?)?;
            }
        }
        let load = LoadServer::start(&server).map_err(BedError::Application)?;
        let wire =
            if contender.is_encrypted() { Some(network.wire().map_err(BedError::Wire)?) } else { None };
        let hops = start_hops(workspace, contender, workers, number, [&client, &server])?;
        connect_first(&client, &load).map_err(BedError::Unreachable)?;
        let negotiated = match wire {
            None => None,
            Some(wire) => Some(Negotiated::find(&wire.stop()).ok_or(BedError::NotEncrypted)?),
        };
        Ok(Self { hops, load, negotiated, client, _server: server, _network: network })
    }

    /// The host from which load comes.
    pub(super) fn client(&self) -> &Host {
        &self.client
    }

    /// The applications at the other end.
    pub(super) fn load(&self) -> &LoadServer {
        &self.load
    }

    /// What the proxies agreed on, if they encrypt.
    pub(super) fn negotiated(&self) -> Option<Negotiated> {
        self.negotiated
    }

    /// The proxies' processes: the client's and the server's.
    pub(super) fn hops(&self) -> Vec<u32> {
        self.hops.iter().map(Hop::id).collect()
    }

    /// Waits until every connection has ended, so that the next measurement begins with none.
    pub(super) fn settle(&self) -> io::Result<()> {
        self.load
            .settle(SETTLE_PATIENCE)
            .map_err(|_| io::Error::other("connections stay open after their clients have gone"))
    }
}

/// Why a bed cannot be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum BedError {
    /// The applications.
    #[error("the applications cannot be started")]
    Application(#[source] io::Error),
    /// Redirection.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// An Envoy.
    #[error("an Envoy cannot be started")]
    Envoy(#[from] EnvoyError),
    /// The proxies' configuration.
    #[error("the configuration of the proxies cannot be written")]
    Files(#[source] io::Error),
    /// The hosts.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No TLS on the wire.
    #[error("no TLS handshake was seen between the hosts")]
    NotEncrypted,
    /// A proxy.
    #[error("a proxy cannot be started; it wrote: {written}")]
    Proxy {
        /// What it wrote.
        written: String,
        /// Why.
        source: StartError,
    },
    /// A relay.
    #[error("a relay cannot be started")]
    Relay(#[source] io::Error),
    /// A first connection.
    #[error("a first connection does not get through")]
    Unreachable(#[source] io::Error),
    /// Seeing what travels.
    #[error("the wire cannot be observed")]
    Wire(#[source] io::Error),
}

impl BedError {
    fn proxy(source: StartError, log: &Path) -> Self {
        let written = fs::read_to_string(log).unwrap_or_default();
        Self::Proxy { written: written.trim().replace('\n', "; "), source }
    }
}

/// Starts what is between: first the client's, then the server's.
fn start_hops(
    workspace: &Workspace,
    contender: &Contender,
    workers: usize,
    number: usize,
    hosts: [&Host; 2],
) -> Result<Vec<Hop>, BedError> {
    let pods = hosts.map(|host| Pod::new("default", host.name(), [host.v4(), host.v6()]));
    let path = |suffix: &str| workspace.scratch().join(format!("bed-{number}-{suffix}"));
    match contender {
        Contender::Direct => Ok(Vec::new()),
        Contender::Envoy { program } => {
            let configs = hop::envoys(pods.each_ref(), workers).map_err(BedError::Files)?;
            let pairs = hosts.into_iter().zip(&configs);
            pairs.map(|(host, config)| Ok(Hop::envoy(program, host, config, workspace)?)).collect()
        }
        Contender::Relay => {
            hosts.into_iter().map(|host| Hop::relay(host, workers).map_err(BedError::Relay)).collect()
        }
        Contender::Ztunnel { program, access_log } => {
            let mesh = path("mesh.yaml");
            hop::mesh(pods.each_ref()).write(&mesh).map_err(BedError::Files)?;
            let start = |(host, pod): (&Host, &Pod)| {
                let log = path(host.name());
                let setup = ZtunnelSetup {
                    program: program.as_deref(),
                    access_log: *access_log,
                    workers,
                    mesh: &mesh,
                    log: &log,
                };
                Hop::ztunnel(host, pod, &setup).map_err(|source| BedError::proxy(source, &log))
            };
            hosts.into_iter().zip(&pods).map(start).collect()
        }
    }
}

/// Makes a first connection. Not every proxy listens when it says so: failures count only after a while.
fn connect_first(client: &Host, load: &LoadServer) -> io::Result<()> {
    let deadline = Instant::now() + FIRST_PATIENCE;
    loop {
        match load::hold(client, load, 1) {
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(FIRST_INTERVAL),
            Ok(_) => return Ok(()),
        }
    }
}

fn tune(host: &Host) {
    // Where one may not be written, churn may fail for want of ports and then says so.
    let _ = host.namespace().run(|| {
        for (name, value) in SYSCTLS {
            let _ = fs::write(format!("/proc/sys/{name}"), value);
        }
    });
}
