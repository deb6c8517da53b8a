//! The demo where namespaces are impossible: two proxies in this process, on loopback addresses.
//!
//! Without redirection the client asks its proxy by SOCKS5. Without packet capture a relay between the proxies remembers
//! what passes.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use super::{
    applications::Applications,
    error::{DemoError, during},
    node::{self, Node},
    progress::Progress,
    report::{Cost, Mode, Report, WireRow},
    socks5,
    story::{Ports, Story},
    tap::Tap,
    tour::{self, Mesh, Side},
};
use crate::lab::{Metric, Output};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 2));

/// Runs the demo, in this way because of an obstacle, if it was not asked for.
pub(super) fn run(obstacle: Option<&DemoError>, progress: &Progress) -> Result<Report, DemoError> {
    let stage = progress.step("an application on 127.0.1.2", Stage::new)?;
    let bare = progress.step("a client on 127.0.1.1 talks to it without a mesh", || stage.talk_bare())?;
    let without_mesh = progress.step("latency and throughput without the mesh", || {
        tour::measure(socks5::dial_directly(CLIENT), SERVER, stage.story.ports)
    })?;

    let log = node::log();
    let (listener, between) = listen()?;
    let mut mesh = progress
        .step("two proxies in this process, a relay between them that remembers", || {
            Pair::start(&stage.story, &log, Some(between.port()))
        })?;
    let tap = Tap::start(listener, mesh.server.hbone()).map_err(during("starting a relay"))?;
    let requests = progress.step("the same client talks through the mesh, by SOCKS5", || {
        let destinations = stage.story.service_address().into_iter().chain([stage.orders()]);
        destinations
            .map(|destination| tour::talk(&mesh, destination, &stage.applications, &stage.story))
            .collect::<Result<Vec<_>, _>>()
    })?;
    let watched = WireRow::new([between.port()].into(), &tap.streams(), &stage.story.marker);
    let decisions = progress.step("connections that policies allow and deny", || {
        tour::decide(&mesh, CLIENT, SERVER, &stage.story)
    })?;
    let evidence = tour::collect(&mesh)?;
    let ended = progress.step("the proxies drain and end", || mesh.end());
    drop(tap);

    let with_mesh = progress.step("latency and throughput with the mesh, without the relay", || {
        let mut mesh = Pair::start(&stage.story, &log, None)?;
        let figures = tour::measure(|to| mesh.connect(to), SERVER, stage.story.ports);
        mesh.end();
        figures
    })?;

    let mode = Mode::OneProcess {
        because: obstacle.map_or_else(
            || "--one-process was given".to_owned(),
            |error| mesh_proxy::Report(error).to_string(),
        ),
        remedy: obstacle.and_then(DemoError::remedy),
        not_shown: "transparent capture, and that applications see the address of their client",
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
    report.promise("the proxies drain and end", ended);
    Ok(report)
}

/// The applications, before there is a mesh.
#[derive(Debug)]
struct Stage {
    applications: Applications,
    story: Story,
}

impl Stage {
    fn new() -> Result<Self, DemoError> {
        let applications = Applications::start(Ports::ANY, |port| TcpListener::bind((SERVER, port)));
        let applications = applications.map_err(during("starting the applications"))?;
        let story = Story::new([CLIENT], [SERVER], applications.ports());
        Ok(Self { applications, story })
    }

    fn orders(&self) -> SocketAddr {
        (SERVER, self.story.ports.orders).into()
    }

    fn talk_bare(&self) -> Result<WireRow, DemoError> {
        let (listener, relay) = listen()?;
        let tap = Tap::start(listener, self.orders()).map_err(during("starting a relay"))?;
        tour::talk_bare(socks5::dial_directly(CLIENT), relay, &self.story)?;
        Ok(WireRow::new([self.story.ports.orders].into(), &tap.streams(), &self.story.marker))
    }
}

/// The mesh of two proxies in this process.
#[derive(Debug)]
struct Pair {
    client: Node,
    server: Node,
    log: Output,
}

impl Pair {
    /// Starts both proxies. The one of the client dials HBONE at `peer_port`, if that is not the other's own.
    fn start(story: &Story, log: &Output, peer_port: Option<u16>) -> Result<Self, DemoError> {
        let server = Node::start(Side::Server, story, (SERVER, 0).into())?;
        // A proxy dials HBONE at the port where it accepts it.
        let port = peer_port.unwrap_or_else(|| server.hbone().port());
        let client = Node::start(Side::Client, story, (CLIENT, port).into())?;
        Ok(Self { client, server, log: log.clone() })
    }

    /// Drains both; whether they ended in good order.
    fn end(&mut self) -> bool {
        [&mut self.client, &mut self.server].into_iter().all(Node::end)
    }
}

impl Mesh for Pair {
    fn connect(&self, destination: SocketAddr) -> io::Result<TcpStream> {
        socks5::dial(CLIENT, self.client.socks5(), destination)
    }

    fn output(&self, _side: Side) -> &Output {
        &self.log
    }

    fn metrics(&self, side: Side) -> io::Result<Vec<Metric>> {
        match side {
            Side::Client => self.client.metrics(),
            Side::Server => self.server.metrics(),
        }
    }
}

/// A listener for a relay, at a port that the system chooses.
fn listen() -> Result<(TcpListener, SocketAddr), DemoError> {
    let listener = TcpListener::bind((SERVER, 0)).map_err(during("starting a relay"))?;
    let address = listener.local_addr().map_err(during("starting a relay"))?;
    Ok((listener, address))
}
