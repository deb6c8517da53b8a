//! What is done in a mesh, whichever way it was made, and what is collected of it.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use super::{
    applications::Applications,
    error::{DemoError, during},
    report::{Decision, Evidence, Figures, LogLine, MetricSample, Request},
    story::{self, Judge, Ports, Story},
};
use crate::lab::{
    AccessRecord, Metric, Output,
    load::{self, Timing},
};

/// Bound on a log line that has to come.
const LOG_PATIENCE: Duration = Duration::from_secs(5);
/// How long small messages run before they count: the first connection of a proxy pair shakes hands.
const WARM_UP: Duration = Duration::from_millis(50);
/// How long the latency is measured, each time.
const LATENCY_TIME: Duration = Duration::from_millis(400);
/// How long the throughput is measured, each time.
const THROUGHPUT_TIME: Duration = Duration::from_millis(500);

/// Two pods, each with a proxy.
pub(super) trait Mesh {
    /// Connects as the application of the client pod.
    fn connect(&self, destination: SocketAddr) -> io::Result<TcpStream>;

    /// What a proxy has written.
    fn output(&self, side: Side) -> &Output;

    /// What a proxy has counted.
    fn metrics(&self, side: Side) -> io::Result<Vec<Metric>>;
}

/// One of the two pods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    pub(super) const ALL: [Self; 2] = [Self::Client, Self::Server];

    /// Its name.
    pub(super) fn pod(self) -> &'static str {
        match self {
            Self::Client => story::CLIENT,
            Self::Server => story::SERVER,
        }
    }

    /// How its proxy calls the direction of every connection of the demo.
    fn direction(self) -> &'static str {
        match self {
            Self::Client => "outbound",
            Self::Server => "inbound",
        }
    }
}

/// Sends the order without a mesh.
pub(super) fn talk_bare(
    connect: impl Fn(SocketAddr) -> io::Result<TcpStream>,
    destination: SocketAddr,
    story: &Story,
) -> Result<(), DemoError> {
    let answer = connect(destination).and_then(|mut stream| ask(&mut stream, &story.order()));
    answer.map(drop).map_err(during("a request without the mesh"))
}

/// Sends the order through the mesh.
pub(super) fn talk(
    mesh: &impl Mesh,
    destination: SocketAddr,
    applications: &Applications,
    story: &Story,
) -> Result<Request, DemoError> {
    let mut stream = mesh.connect(destination).map_err(during("connecting through the mesh"))?;
    let client = stream.local_addr().map_err(during("connecting through the mesh"))?;
    let answered = ask(&mut stream, &story.order()).is_ok_and(|answer| answer == story.order());
    drop(stream);
    let source = client.to_string();
    let record = wait_for_access(mesh, Side::Client, |record| record.field("src.addr") == Some(&source));
    let field = |name| record.as_ref().and_then(|(_, record)| record.field(name)).map(str::to_owned);
    Ok(Request {
        dialled: destination,
        service: field("dst.service"),
        tunnel: field("dst.addr"),
        application: field("dst.hbone_addr"),
        answered,
        client: client.ip(),
        source_seen: applications.last_client().map(|address| address.ip()),
    })
}

/// Tries what the policies allow and what they deny.
pub(super) fn decide(
    mesh: &impl Mesh,
    client: IpAddr,
    server: IpAddr,
    story: &Story,
) -> Result<Vec<Decision>, DemoError> {
    let judge = Judge::new(story)?;
    let Ports { orders, admin, debug, .. } = story.ports;
    let attempts = [(orders, true), (admin, false), (debug, false)];
    let decided = attempts.into_iter().map(|(port, expected)| {
        let destination = SocketAddr::new(server, port);
        // However a connection fails, it was not allowed.
        let answer = mesh.connect(destination).and_then(|mut stream| ask(&mut stream, "may I?"));
        let tunnelled = destination.to_string();
        let logged =
            wait_for_access(mesh, Side::Server, |record| record.field("dst.hbone_addr") == Some(&tunnelled));
        let logged = logged.and_then(|(_, record)| record.field("error").map(str::to_owned));
        let explanation = judge.explain(client, destination);
        Decision { destination, expected, allowed: answer.is_ok(), explanation, logged }
    });
    Ok(decided.collect())
}

/// Measures small messages and one stream.
pub(super) fn measure(
    connect: impl Fn(SocketAddr) -> io::Result<TcpStream>,
    server: IpAddr,
    ports: Ports,
) -> Result<Figures, DemoError> {
    let connect = |port| connect((server, port).into());
    let (mut no_probe, mut no_other_probe) = (|| {}, || {});
    let timing = Timing { warm_up: WARM_UP, duration: LATENCY_TIME, at_edges: &mut no_probe };
    let latency = connect(ports.orders).and_then(|stream| load::ping_pong_over([stream], timing));
    let timing = Timing { warm_up: Duration::ZERO, duration: THROUGHPUT_TIME, at_edges: &mut no_other_probe };
    let throughput = connect(ports.bulk).and_then(|stream| load::bulk_over(stream, timing));
    let latency = latency.map_err(during("measuring the latency"))?;
    let throughput = throughput.map_err(during("measuring the throughput"))?;
    Figures::new(&latency, &throughput)
        .ok_or_else(|| during("measuring the latency")(io::ErrorKind::TimedOut.into()))
}

/// Collects what the proxies have written and counted.
pub(super) fn collect(mesh: &impl Mesh) -> Result<Evidence, DemoError> {
    let mut evidence = Evidence::default();
    let complete =
        |record: &AccessRecord| record.level() == "info" && record.message() == "connection complete";
    for side in Side::ALL {
        let proxy = side.pod();
        if let Some((line, record)) = wait_for_access(mesh, side, complete) {
            evidence.access_log.push(LogLine { proxy, line });
            // Each proxy tells what it verified: the identity of the other.
            match side {
                Side::Client => evidence.server_identity = record.field("dst.identity").map(str::to_owned),
                Side::Server => evidence.client_identity = record.field("src.identity").map(str::to_owned),
            }
        }
        let metrics = mesh.metrics(side).map_err(during("reading the metrics"))?;
        let told = metrics.into_iter().filter(tells);
        evidence.metrics.extend(told.map(|metric| MetricSample::new(proxy, metric)));
    }
    if let Some((line, _)) = wait_for_access(mesh, Side::Server, |record| record.level() == "error") {
        evidence.access_log.push(LogLine { proxy: Side::Server.pod(), line });
    }
    Ok(evidence)
}

/// Whether a metric says something about the traffic of the demo.
fn tells(metric: &Metric) -> bool {
    let of_the_mesh = metric.label("connection_security_policy") == Some("mutual_tls");
    match metric.name.as_str() {
        "istio_tcp_connections_opened_total"
        | "istio_tcp_received_bytes_total"
        | "istio_tcp_sent_bytes_total" => of_the_mesh,
        "istio_tcp_connections_failed_total" => of_the_mesh && metric.label("response_flags") == Some("DENY"),
        _ => false,
    }
}

fn ask(stream: &mut TcpStream, question: &str) -> io::Result<String> {
    stream.write_all(question.as_bytes())?;
    let mut answer = vec![0; question.len()];
    stream.read_exact(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Waits for a record of a proxy's access log; returns it as it was written as well.
fn wait_for_access(
    mesh: &impl Mesh,
    side: Side,
    wanted: impl Fn(&AccessRecord) -> bool,
) -> Option<(String, AccessRecord)> {
    let ours = |record: &AccessRecord| record.field("direction") == Some(side.direction()) && wanted(record);
    mesh.output(side)
        .wait_for(LOG_PATIENCE, |line| Some((line.to_owned(), AccessRecord::parse(line).filter(ours)?)))
}
