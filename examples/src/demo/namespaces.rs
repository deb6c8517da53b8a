//! The demo on two hosts made of network namespaces.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use super::{
    ZTUNNEL,
    applications::Applications,
    error::{DemoError, during},
    progress::Progress,
    report::{Cost, Mode, Report, WireRow},
    story::{Ports, Story},
    tour::{self, Mesh, Side},
};
use crate::lab::{
    self, Capture, Flow, Host, Metric, Network, Output, Privilege, Program, Tool, ToolError, Workspace,
    Ztunnel, ZtunnelSpec,
};

/// Bound on the end of a proxy that has nothing left to do.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What the demo stands on: private namespaces, and the tools to furnish them.
#[derive(Debug)]
pub(super) struct Ground {
    workspace: Workspace,
    capture: Capture,
}

impl Ground {
    /// Brings the loopback interface of the private namespace up, for what is to run there without hosts.
    pub(super) fn raise_loopback(&self) -> Result<(), DemoError> {
        self.workspace.raise_loopback().map_err(DemoError::Tool)
    }
}

/// Enters the namespaces. Call it before any thread is started.
pub(super) fn prepare() -> Result<Ground, DemoError> {
    // Asked first: there is no way back to the machine's own network.
    if Tool::Ip.find().is_none() {
        return Err(DemoError::Tool(ToolError::NotInstalled { tool: Tool::Ip }));
    }
    let capture = Capture::find().map_err(DemoError::Capture)?;
    Ok(Ground { workspace: lab::enter()?, capture })
}

/// Runs the demo.
pub(super) fn run(ground: &Ground, progress: &Progress) -> Result<Report, DemoError> {
    let stage =
        progress.step("two hosts, a switch between them, an application on one", || Stage::new(ground))?;
    let bare = progress.step("the applications talk without a mesh, seen on the wire", || {
        stage.watched(|| tour::talk_bare(|to| stage.client.connect(to), stage.orders(), &stage.story))
    })?;
    let without_mesh = progress.step("latency and throughput without the mesh", || {
        tour::measure(|to| stage.client.connect(to), stage.server.v4(), stage.story.ports)
    })?;

    let mut mesh =
        progress.step("a node proxy on each host, all traffic redirected to it", || stage.mesh(ground))?;
    let mut requests = Vec::new();
    let watched = progress.step("the same applications talk through the mesh", || {
        stage.watched(|| {
            for destination in stage.destinations() {
                requests.push(tour::talk(&mesh, destination, &stage.applications, &stage.story)?);
            }
            Ok(())
        })
    })?;
    let decisions = progress.step("connections that policies allow and deny", || {
        tour::decide(&mesh, stage.client.v4(), stage.server.v4(), &stage.story)
    })?;
    let with_mesh = progress.step("latency and throughput with the mesh", || {
        tour::measure(|to| mesh.connect(to), stage.server.v4(), stage.story.ports)
    })?;
    let evidence = tour::collect(&mesh)?;
    let ended = progress.step("the proxies drain and end", || mesh.end());

    let mode = Mode::Namespaces {
        privilege: match ground.workspace.privilege() {
            Privilege::Capabilities => "the capabilities of this user",
            Privilege::UserNamespace => "an unprivileged user namespace",
        },
        capture: ground.capture.backend().to_string(),
    };
    let mut report = Report {
        mode,
        pods: evidence.pods(&stage.story),
        requests,
        wire: [bare, watched],
        decisions,
        access_log: evidence.access_log,
        metrics: evidence.metrics,
        cost: Cost { without_mesh, with_mesh },
        checks: Vec::new(),
    };
    report.judge();
    report.promise("the proxies drain and end on SIGTERM", ended);
    Ok(report)
}

/// The hosts and their applications, before there is a mesh.
#[derive(Debug)]
struct Stage {
    network: Network,
    client: Host,
    server: Host,
    applications: Applications,
    story: Story,
}

impl Stage {
    fn new(ground: &Ground) -> Result<Self, DemoError> {
        let network = Network::new(&ground.workspace)?;
        let client = network.host(Side::Client.pod(), 10)?;
        let server = network.host(Side::Server.pod(), 20)?;
        let applications = Applications::start(Ports::default(), |port| server.listen(port))
            .map_err(during("starting the applications"))?;
        let story = Story::new([client.v4(), client.v6()], [server.v4(), server.v6()], applications.ports());
        Ok(Self { network, client, server, applications, story })
    }

    fn orders(&self) -> SocketAddr {
        (self.server.v4(), self.story.ports.orders).into()
    }

    /// What the client dials through the mesh: the service by its address, and the pod by the other family.
    fn destinations(&self) -> Vec<SocketAddr> {
        let service = self.story.service_address().into_iter();
        service.chain([SocketAddr::new(self.server.v6(), self.story.ports.orders)]).collect()
    }

    /// Captures what crosses the switch meanwhile.
    fn watched(&self, work: impl FnOnce() -> Result<(), DemoError>) -> Result<WireRow, DemoError> {
        let wire = self.network.wire().map_err(during("capturing packets"))?;
        work()?;
        let report = wire.stop();
        let streams: Vec<_> = report.flows().map(Flow::bytes).collect();
        Ok(WireRow::new(report.ports(), &streams, &self.story.marker))
    }

    fn mesh(&self, ground: &Ground) -> Result<Hosts, DemoError> {
        let path = ground.workspace.scratch().join("mesh.yaml");
        self.story.file.write(&path).map_err(during("writing the state of the mesh"))?;
        let program = Program::this(ZTUNNEL).map_err(during("finding this program"))?;
        let mut proxies = Vec::new();
        for (host, pod) in [(&self.client, &self.story.client), (&self.server, &self.story.server)] {
            host.capture(&ground.capture)?;
            proxies.push(Ztunnel::start(host, &ZtunnelSpec::new(&program, pod, &path))?);
        }
        let [client, server] = <[Ztunnel; 2]>::try_from(proxies)
            .map_err(|_| during("starting two proxies")(io::ErrorKind::Other.into()))?;
        Ok(Hosts { host: self.client.clone(), client, server })
    }
}

/// The mesh of two hosts.
#[derive(Debug)]
struct Hosts {
    host: Host,
    client: Ztunnel,
    server: Ztunnel,
}

impl Hosts {
    /// Ends both proxies as an operator would; whether they did in good order.
    fn end(&mut self) -> bool {
        [&mut self.client, &mut self.server].into_iter().all(|proxy| {
            let process = proxy.process();
            process.terminate().is_ok() && process.wait(END_PATIENCE).is_ok_and(|status| status.success())
        })
    }
}

impl Mesh for Hosts {
    fn connect(&self, destination: SocketAddr) -> io::Result<TcpStream> {
        // The application dials as it always did; the rules of its host do the rest.
        self.host.connect(destination)
    }

    fn output(&self, side: Side) -> &Output {
        match side {
            Side::Client => self.client.output(),
            Side::Server => self.server.output(),
        }
    }

    fn metrics(&self, side: Side) -> io::Result<Vec<Metric>> {
        match side {
            Side::Client => self.client.metrics(),
            Side::Server => self.server.metrics(),
        }
    }
}
