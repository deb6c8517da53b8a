//! The laboratory itself: what the proxies will find on a host.

use std::{
    env,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    process,
    time::Duration,
};

use examples::lab::{self, App, Behaviour, Capture, Host, Network, Tool, Workspace};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use socket2::{Domain, SockRef, Socket, Type};

use crate::runner::{Family, cases, is_required};

const PATIENCE: Duration = Duration::from_secs(10);

cases![
    connections_from_the_host_go_to_15001,
    connections_to_the_host_go_to_15006,
    hbone_and_marked_connections_pass,
    iptables_rules_do_the_same,
    killing_the_process_leaves_nothing,
    the_wire_shows_plaintext,
];

fn connections_from_the_host_go_to_15001(workspace: &Workspace, family: Family) {
    let hosts = Hosts::new(workspace, &Capture::find().unwrap());
    let proxy = hosts.captured.listen(15001).unwrap();
    // Nothing listens there and no such host exists: only the redirection can answer.
    let destination = SocketAddr::new(nowhere(family), 443);
    let _client = hosts.captured.connect(destination).unwrap();
    let (accepted, _) = proxy.accept().unwrap();
    assert_eq!(original_destination(&accepted), destination);
}

fn connections_to_the_host_go_to_15006(workspace: &Workspace, family: Family) {
    let hosts = Hosts::new(workspace, &Capture::find().unwrap());
    let proxy = hosts.captured.listen(15006).unwrap();
    let destination = SocketAddr::new(address(&hosts.captured, family), 8080);
    let client = hosts.plain.connect(destination).unwrap();
    let (accepted, peer) = proxy.accept().unwrap();
    assert_eq!(original_destination(&accepted), destination);
    assert_eq!(peer.ip().to_canonical(), client.local_addr().unwrap().ip());
}

fn hbone_and_marked_connections_pass(workspace: &Workspace, family: Family) {
    let hosts = Hosts::new(workspace, &Capture::find().unwrap());
    pass_unredirected(&hosts, family);
}

fn iptables_rules_do_the_same(workspace: &Workspace, family: Family) {
    if Tool::Iptables.find().is_none() {
        assert!(!is_required("netns"), "iptables is not installed, and MESH_REQUIRE wants every case to run");
        eprintln!("iptables is not installed: nothing to compare");
        return;
    }
    let hosts = Hosts::new(workspace, &Capture::iptables());
    pass_unredirected(&hosts, family);
    let proxy = hosts.captured.listen(15001).unwrap();
    let destination = SocketAddr::new(nowhere(family), 443);
    let _client = hosts.captured.connect(destination).unwrap();
    assert_eq!(original_destination(&proxy.accept().unwrap().0), destination);
}

fn killing_the_process_leaves_nothing(workspace: &Workspace, _family: Family) {
    let network = Network::new(workspace).unwrap();
    let host = network.host("outer", 10).unwrap();
    let mut command = host.command(env::current_exe().unwrap()).unwrap();
    command.arg(NESTED);
    let nested = host.spawn(command).unwrap();
    let inner = nested.output().wait_for(PATIENCE, |line| Pid::from_raw(line.parse().ok()?)).unwrap();
    let inner = pidfd_open(inner, PidfdFlags::empty()).unwrap();
    // Dropping it is a SIGKILL.
    drop(nested);
    let ended = poll(&mut [PollFd::new(&inner, PollFlags::IN)], Some(&PATIENCE.try_into().unwrap())).unwrap();
    assert_eq!(ended, 1);
}

/// Hidden argument that makes this program the victim of the case above.
pub(crate) const NESTED: &str = "__nested";

/// Starts a program on a host, tells its process id, and waits.
pub(crate) fn nested() -> ! {
    let workspace = lab::enter().unwrap();
    let network = Network::new(&workspace).unwrap();
    let host = network.host("inner", 10).unwrap();
    let mut command = host.command("sleep").unwrap();
    command.arg("1000");
    let mut sleeping = host.spawn(command).unwrap();
    println!("{}", sleeping.id());
    let _ = sleeping.wait(Duration::from_secs(1000));
    process::exit(0)
}

fn the_wire_shows_plaintext(workspace: &Workspace, family: Family) {
    let network = Network::new(workspace).unwrap();
    let [client, server] = [network.host("client", 10).unwrap(), network.host("server", 20).unwrap()];
    let app = App::start(&server, 8080, Behaviour::Echo).unwrap();
    let wire = network.wire().unwrap();
    let mut stream = client.connect((address(&server, family), app.port()).into()).unwrap();
    stream.write_all(b"in the clear").unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    drop(stream);
    assert_eq!(app.finished(1).len(), 1);
    let report = wire.stop();
    // There and back.
    assert_eq!(report.flows_containing(b"in the clear").len(), 2);
    assert_eq!(report.ports().into_iter().collect::<Vec<_>>(), [8080]);
    assert!(report.flows_with(8080).all(|flow| flow.tls().foreign));
}

struct Hosts {
    captured: Host,
    plain: Host,
    _network: Network,
}

impl Hosts {
    fn new(workspace: &Workspace, capture: &Capture) -> Self {
        let network = Network::new(workspace).unwrap();
        let [captured, plain] = [network.host("captured", 10).unwrap(), network.host("plain", 20).unwrap()];
        captured.capture(capture).unwrap();
        Self { captured, plain, _network: network }
    }
}

/// What a proxy does: it serves on 15008, it dials with its mark, and it dials its own application from the client's
/// address, whose answers must come back to it.
fn pass_unredirected(hosts: &Hosts, family: Family) {
    let hbone = App::start(&hosts.captured, 15008, Behaviour::Echo).unwrap();
    let app = App::start(&hosts.captured, 8080, Behaviour::Echo).unwrap();
    let outside = App::start(&hosts.plain, 8080, Behaviour::Echo).unwrap();
    let captured = address(&hosts.captured, family);
    let plain = address(&hosts.plain, family);
    let marked = hosts.captured.namespace();

    ping(hosts.plain.connect((captured, 15008).into()).unwrap().into());
    assert_eq!(hbone.peers()[0].ip(), plain);

    ping(marked.run(|| dial(None, (plain, 8080).into())).unwrap().unwrap());
    assert_eq!(outside.peers()[0].ip(), captured);

    ping(marked.run(|| dial(Some(plain), (captured, 8080).into())).unwrap().unwrap());
    assert_eq!(app.peers()[0].ip(), plain);
}

fn dial(source: Option<IpAddr>, destination: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(destination), Type::STREAM, None)?;
    socket.set_mark(0x539)?;
    if let Some(source) = source {
        socket.set_ip_transparent_v4(true)?;
        socket.set_freebind_v4(true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    socket.connect_timeout(&destination.into(), Duration::from_secs(5))?;
    Ok(socket)
}

fn ping(mut stream: Socket) {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"ping").unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}

fn original_destination(stream: &TcpStream) -> SocketAddr {
    let socket = SockRef::from(stream);
    let found = socket.original_dst_v4().or_else(|_| socket.original_dst_v6()).unwrap();
    found.as_socket().unwrap()
}

fn address(host: &Host, family: Family) -> IpAddr {
    match family {
        Family::V4 => host.v4(),
        Family::V6 => host.v6(),
    }
}

fn nowhere(family: Family) -> IpAddr {
    match family {
        Family::V4 => [203, 0, 113, 1].into(),
        Family::V6 => [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1].into(),
    }
}
