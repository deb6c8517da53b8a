use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use examples::lab::{
    AccessRecord, App, Behaviour, Capture, Host, MeshFile, Network, Pod, Program, Service, Workspace,
    Ztunnel, ZtunnelSpec,
};

use crate::{control::Control, runner::Family};

/// Port of the server's application.
pub(crate) const APP_PORT: u16 = 8080;
/// Port of the service in front of it.
pub(crate) const SERVICE_PORT: u16 = 80;

const CLIENT: u8 = 10;
const SERVER: u8 = 20;
const CONTROL: u8 = 50;
const OUTSIDE: u8 = 99;

/// Two pods on two nodes, a proxy in each, and a host outside the mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) client: Node,
    pub(crate) server: Node,
    pub(crate) outside: Host,
    pub(crate) network: Network,
    /// The certificate authority, if it is not the development one.
    pub(crate) control: Option<Control>,
    file: MeshFile,
    path: PathBuf,
    family: Family,
}

/// A pod, its host and its proxy.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) pod: Pod,
    pub(crate) proxy: Ztunnel,
}

impl Mesh {
    pub(crate) fn start(workspace: &Workspace, family: Family) -> Self {
        MeshBuilder::new(workspace, family).start()
    }

    /// Address of the server's application.
    pub(crate) fn app(&self) -> SocketAddr {
        (self.address(&self.server.host), APP_PORT).into()
    }

    /// Address of the service in front of it.
    pub(crate) fn service(&self) -> SocketAddr {
        let [v4, v6] = service_addresses();
        (if self.family == Family::V4 { v4 } else { v6 }, SERVICE_PORT).into()
    }

    /// The address that a host has in the family under test.
    pub(crate) fn address(&self, host: &Host) -> IpAddr {
        match self.family {
            Family::V4 => host.v4(),
            Family::V6 => host.v6(),
        }
    }

    /// Starts the server's application.
    pub(crate) fn serve(&self, behaviour: Behaviour) -> App {
        App::start(&self.server.host, APP_PORT, behaviour).unwrap()
    }

    /// Connects from the client pod.
    pub(crate) fn connect(&self, destination: SocketAddr) -> TcpStream {
        self.client.host.connect(destination).unwrap()
    }

    /// Adds a policy while the proxies run.
    pub(crate) fn add_policy(&mut self, policy: &str) {
        self.file = self.file.clone().policy(policy);
        self.file.write(&self.path).unwrap();
    }

    /// Puts these policies in the place of all there are.
    pub(crate) fn replace_policies(&mut self, policies: &[&str]) {
        self.file =
            policies.iter().fold(self.file.clone().without_policies(), |file, policy| file.policy(policy));
        self.file.write(&self.path).unwrap();
    }

    /// The state of the mesh.
    pub(crate) fn file(&self) -> &MeshFile {
        &self.file
    }

    /// Writes something else into its file, as an editor does.
    pub(crate) fn overwrite_file(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
    }
}

/// Waits until something is so, and fails if that takes too long.
pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never comes");
        thread::yield_now();
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Drop for Mesh {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for node in [&mut self.client, &mut self.server] {
            eprintln!("---- what the proxy of {} wrote", node.pod.name);
            node.proxy.process().output().lines().iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Node {
    /// Waits for the record of a connection in the access log.
    pub(crate) fn access(&self, wanted: impl Fn(&AccessRecord) -> bool) -> AccessRecord {
        let found = self.proxy.wait_for_access(wanted);
        found.unwrap_or_else(|| panic!("no such access record; there are {:#?}", self.proxy.access_log()))
    }
}

/// What a mesh starts with.
#[derive(Debug)]
pub(crate) struct MeshBuilder<'a> {
    workspace: &'a Workspace,
    family: Family,
    pods: Vec<Pod>,
    policies: Vec<String>,
    variables: Vec<(&'static str, &'static str)>,
    server_variables: Vec<(&'static str, &'static str)>,
    authority: Option<&'a [&'a str]>,
    captured: bool,
}

impl<'a> MeshBuilder<'a> {
    pub(crate) fn new(workspace: &'a Workspace, family: Family) -> Self {
        Self {
            workspace,
            family,
            pods: Vec::new(),
            policies: Vec::new(),
            variables: Vec::new(),
            server_variables: Vec::new(),
            authority: None,
            captured: true,
        }
    }

    /// Adds a pod to the mesh that has no host.
    pub(crate) fn pod(mut self, pod: Pod) -> Self {
        self.pods.push(pod);
        self
    }

    pub(crate) fn policy(mut self, policy: &str) -> Self {
        self.policies.push(policy.to_owned());
        self
    }

    /// Sets an environment variable of both proxies.
    pub(crate) fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    /// Sets an environment variable of the server's proxy alone.
    pub(crate) fn server_variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.server_variables.push((name, value));
        self
    }

    /// Takes identities from a certificate authority on a host of its own, instead of the development root.
    pub(crate) fn authority(mut self, arguments: &'a [&'a str]) -> Self {
        self.authority = Some(arguments);
        self
    }

    /// Leaves the rules out, so that the proxies' ports are reached as they are.
    pub(crate) fn without_capture(mut self) -> Self {
        self.captured = false;
        self
    }

    pub(crate) fn start(self) -> Mesh {
        let network = Network::new(self.workspace).unwrap();
        let [client, server, outside] = [("client", CLIENT), ("server", SERVER), ("outside", OUTSIDE)]
            .map(|(name, number)| network.host(name, number).unwrap());
        let [client_pod, server_pod] =
            [&client, &server].map(|host| Pod::new("default", host.name(), [host.v4(), host.v6()]));
        let mut file = MeshFile::default().pod(client_pod.clone()).pod(server_pod.clone()).service(Service {
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            vips: service_addresses().to_vec(),
            port: (SERVICE_PORT, APP_PORT),
            backend: "server".to_owned(),
        });
        for pod in &self.pods {
            file = file.pod(pod.clone());
        }
        for policy in &self.policies {
            file = file.policy(policy);
        }
        let path = self.workspace.scratch().join(format!("mesh-{}.yaml", next_number()));
        file.write(&path).unwrap();

        let control = self.authority.map(|arguments| {
            let host = network.host("control", CONTROL).unwrap();
            Control::start(self.workspace, host, &[&client_pod, &server_pod], arguments)
        });
        let program = Program::at(env!("CARGO_BIN_EXE_ztunnel"));
        let node = |host: Host, pod: Pod| {
            if self.captured {
                host.capture(&Capture::find().unwrap()).unwrap();
            }
            let spec = ZtunnelSpec::new(&program, &pod, &path);
            let spec = match &control {
                Some(control) => control.set_up(spec, &pod, self.family),
                None => spec,
            };
            let for_one: &[_] = if pod.name == "server" { &self.server_variables } else { &[] };
            let variables = self.variables.iter().chain(for_one);
            let spec = variables.fold(spec, |spec, (name, value)| spec.variable(name, *value));
            let proxy = Ztunnel::start(&host, &spec).unwrap_or_else(|error| panic!("{error}"));
            Node { host, pod, proxy }
        };
        let (client, server) = (node(client, client_pod), node(server, server_pod));
        Mesh { client, server, outside, network, control, file, path, family: self.family }
    }
}

/// Sends bytes and reads the same number back.
pub(crate) fn ping(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).unwrap();
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, message);
}

/// Whether the other side ends the connection without a byte, in whatever way, instead of letting it hang.
pub(crate) fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// Whether a connection is ended without a byte; that may show before it is noticed to be there.
pub(crate) fn is_refused(connected: io::Result<TcpStream>) -> bool {
    connected
        .map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |mut stream| is_closed(&mut stream))
}

fn service_addresses() -> [IpAddr; 2] {
    [Ipv4Addr::new(198, 51, 100, 10).into(), Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10).into()]
}

pub(crate) fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
