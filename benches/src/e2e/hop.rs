use std::{env, io, path::Path, sync::Arc, time::Duration};

use examples::lab::{
    Envoy, EnvoyConfig, EnvoyError, Host, MeshFile, Pod, Process, Program, StartError, Workspace, Ztunnel,
    ZtunnelSpec,
};
use mesh_identity::{DevCa, PemSvid};
use rustls::crypto::aws_lc_rs;

use super::{
    options,
    proxy::{LOG, PROGRAM},
    relay,
};

/// Bound on the start of a relay.
const PATIENCE: Duration = Duration::from_secs(10);

/// One proxy between the applications. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Hop {
    id: u32,
    _process: Alive,
}

/// Kept for its end.
#[derive(Debug)]
enum Alive {
    Envoy { _proxy: Envoy },
    Relay { _process: Process },
    Ztunnel { _proxy: Ztunnel },
}

impl Hop {
    /// Starts a relay.
    pub(super) fn relay(host: &Host, workers: usize) -> io::Result<Self> {
        let mut command = host.command(env::current_exe()?)?;
        command.args([options::RELAY, &workers.to_string()]);
        let process = host.spawn(command)?;
        if process.output().wait_for(PATIENCE, |line| (line == relay::READY).then_some(())).is_none() {
            return Err(io::Error::other(process.output().lines().join("; ")));
        }
        Ok(Self { id: process.id(), _process: Alive::Relay { _process: process } })
    }

    /// Starts a node proxy for a pod.
    pub(super) fn ztunnel(host: &Host, pod: &Pod, setup: &ZtunnelSetup<'_>) -> Result<Self, StartError> {
        let program = Program::this(options::PROXY).map_err(StartError::Launch)?;
        let mut spec = ZtunnelSpec::new(&program, pod, setup.mesh)
            .variable("ZTUNNEL_WORKER_THREADS", setup.workers.to_string())
            .variable("RUST_LOG", if setup.access_log { "info" } else { "warn" })
            .variable(LOG, setup.log);
        if let Some(program) = setup.program {
            spec = spec.variable(PROGRAM, program);
        }
        let mut proxy = Ztunnel::start(host, &spec)?;
        Ok(Self { id: proxy.process().id(), _process: Alive::Ztunnel { _proxy: proxy } })
    }

    /// Starts an Envoy.
    pub(super) fn envoy(
        program: &Path,
        host: &Host,
        config: &EnvoyConfig,
        workspace: &Workspace,
    ) -> Result<Self, EnvoyError> {
        let mut proxy = Envoy::start(program, host, config, workspace)?;
        Ok(Self { id: proxy.process().id(), _process: Alive::Envoy { _proxy: proxy } })
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.id
    }
}

/// How to run a node proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct ZtunnelSetup<'a> {
    /// Which program, if not ours.
    pub(super) program: Option<&'a Path>,
    /// Whether it writes its access log.
    pub(super) access_log: bool,
    /// Threads.
    pub(super) workers: usize,
    /// The state of the mesh.
    pub(super) mesh: &'a Path,
    /// Where to write what it writes.
    pub(super) log: &'a Path,
}

/// The mesh of a bed: its two pods, an ALLOW that lets the client in and a DENY that fits nobody.
pub(super) fn mesh(pods: [&Pod; 2]) -> MeshFile {
    let policy = |name: &str, action: &str, principal: &str| {
        format!(
            "name: {name}\nnamespace: default\nscope: Namespace\naction: {action}\ndryRun: false\n\
             rules:\n- - - principals: [!Exact {principal}]\n"
        )
    };
    let [client, server] = pods;
    let identity = client.identity();
    let principal = identity.trim_start_matches("spiffe://");
    MeshFile::default()
        .pod(client.clone())
        .pod(server.clone())
        .policy(&policy("let-the-client-in", "Allow", principal))
        .policy(&policy("keep-nobody-out", "Deny", "cluster.local/ns/default/sa/nobody"))
}

/// How two Envoys are to be the two ends: the client's and the server's.
pub(super) fn envoys(pods: [&Pod; 2], workers: usize) -> io::Result<[EnvoyConfig; 2]> {
    let authority = DevCa::new(Arc::new(aws_lc_rs::default_provider()));
    let identity = |pod: &Pod| -> io::Result<PemSvid> {
        let id = pod.identity().parse().map_err(io::Error::other)?;
        authority.export(&id).map_err(io::Error::other)
    };
    let [client, server] = pods;
    let root = DevCa::root_pem();
    Ok([
        EnvoyConfig::client(root, &server.identity()).identity(identity(client)?).workers(workers),
        EnvoyConfig::server(root, &client.identity()).identity(identity(server)?).workers(workers),
    ])
}
