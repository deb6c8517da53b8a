use std::{
    io::{ErrorKind, Read},
    net::{IpAddr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use examples::lab::{
    App, Behaviour, Capture, Envoy, EnvoyConfig, Host, MeshFile, Network, Pod, Program, Workspace, Ztunnel,
    ZtunnelSpec,
};
use mesh_identity::DevCa;

use super::{identity, program};
use crate::{
    fixture::{APP_PORT, Node, is_refused},
    runner::Family,
};

/// Two pods, of which a program of others serves one and our proxy the other.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    pub(super) client: Host,
    pub(super) server: Host,
    workspace: &'a Workspace,
    family: Family,
    mesh: PathBuf,
    _network: Network,
}

impl<'a> Scene<'a> {
    pub(super) fn new(workspace: &'a Workspace, family: Family, policy: Option<&str>) -> Self {
        let network = Network::new(workspace).unwrap();
        let [client, server] =
            [("client", 10), ("server", 20)].map(|(name, number)| network.host(name, number).unwrap());
        let file = MeshFile::default().pod(pod(&client)).pod(pod(&server));
        let file = policy.into_iter().fold(file, MeshFile::policy);
        let mesh = program::file(workspace, file.to_yaml().as_bytes());
        Self { client, server, workspace, family, mesh, _network: network }
    }

    /// Starts our proxy for the pod on a host.
    pub(super) fn proxy(&self, host: &Host) -> Node {
        host.capture(&Capture::find().unwrap()).unwrap();
        let (program, pod) = (Program::at(env!("CARGO_BIN_EXE_ztunnel")), pod(host));
        let proxy = Ztunnel::start(host, &ZtunnelSpec::new(&program, &pod, &self.mesh));
        Node { host: host.clone(), pod, proxy: proxy.unwrap_or_else(|error| panic!("{error}")) }
    }

    /// Starts Envoy on a host.
    pub(super) fn envoy(&self, program: &Path, host: &Host, config: &EnvoyConfig) -> Envoy {
        let envoy = Envoy::start(program, host, config, self.workspace);
        envoy.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The address that a host has in the family under test.
    pub(super) fn address(&self, host: &Host) -> IpAddr {
        match self.family {
            Family::V4 => host.v4(),
            Family::V6 => host.v6(),
        }
    }

    /// Address of the server's application.
    pub(super) fn app(&self) -> SocketAddr {
        (self.address(&self.server), APP_PORT).into()
    }

    /// Starts the server's application.
    pub(super) fn serve(&self, behaviour: Behaviour) -> App {
        App::start(&self.server, APP_PORT, behaviour).unwrap()
    }

    /// Connects from the client pod to the server's application.
    pub(super) fn connect(&self) -> TcpStream {
        self.client.connect(self.app()).unwrap()
    }

    /// Whether such a connection ends without a byte.
    pub(super) fn is_refused(&self) -> bool {
        is_refused(self.client.connect(self.app()))
    }

    /// Whether such a connection ends without a byte, by a reset, within `patience`.
    pub(super) fn is_reset(&self, patience: Duration) -> bool {
        let read = self.client.connect(self.app()).and_then(|mut stream| {
            stream.set_read_timeout(Some(patience))?;
            stream.read(&mut [0])
        });
        read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    }
}

/// A scene with Envoy at one end and our proxy at the other.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) scene: Scene<'a>,
    pub(super) envoy: Envoy,
    pub(super) ours: Node,
}

impl<'a> Pair<'a> {
    /// Envoy for the client's pod, unless Envoy is missing.
    pub(super) fn from_envoy(workspace: &'a Workspace, family: Family) -> Option<Self> {
        Self::from_envoy_as(workspace, family, None, |config, id| config.identity(identity::trusted(id)))
    }

    /// The same with a policy at the server, and with Envoy configured by the caller.
    pub(super) fn from_envoy_as(
        workspace: &'a Workspace,
        family: Family,
        policy: Option<&str>,
        configure: impl FnOnce(EnvoyConfig, &str) -> EnvoyConfig,
    ) -> Option<Self> {
        let program = program::envoy()?;
        let scene = Scene::new(workspace, family, policy);
        let config = EnvoyConfig::client(DevCa::root_pem(), &pod(&scene.server).identity());
        let config = configure(config, &pod(&scene.client).identity());
        scene.client.capture(&Capture::find().unwrap()).unwrap();
        let envoy = scene.envoy(&program, &scene.client, &config);
        let ours = scene.proxy(&scene.server);
        Some(Self { scene, envoy, ours })
    }

    /// Envoy for the server's pod, unless Envoy is missing.
    pub(super) fn to_envoy(workspace: &'a Workspace, family: Family) -> Option<Self> {
        Self::to_envoy_as(workspace, family, |config, id| config.identity(identity::trusted(id)))
    }

    /// The same with Envoy configured by the caller.
    pub(super) fn to_envoy_as(
        workspace: &'a Workspace,
        family: Family,
        configure: impl FnOnce(EnvoyConfig, &str) -> EnvoyConfig,
    ) -> Option<Self> {
        let program = program::envoy()?;
        let scene = Scene::new(workspace, family, None);
        let config = EnvoyConfig::server(DevCa::root_pem(), "spiffe://cluster.local/");
        let config = configure(config, &pod(&scene.server).identity());
        let envoy = scene.envoy(&program, &scene.server, &config);
        let ours = scene.proxy(&scene.client);
        Some(Self { scene, envoy, ours })
    }
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for (whose, process) in [("envoy", self.envoy.process()), ("our proxy", self.ours.proxy.process())] {
            eprintln!("---- what {whose} wrote");
            process.output().lines().iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn pod(host: &Host) -> Pod {
    Pod::new("default", host.name(), [host.v4(), host.v6()])
}
