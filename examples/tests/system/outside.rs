//! Between pods and hosts that are not in the mesh.

use std::{
    fs,
    net::{Ipv6Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use examples::lab::{App, Behaviour, Host, Workspace};
use socket2::{Domain, SockRef, Socket, Type};

use crate::{
    fixture::{APP_PORT, Mesh, ping},
    runner::{Family, cases},
};

cases![
    a_host_outside_reaches_a_pod,
    a_host_outside_that_gives_up_ends_the_dial,
    a_pod_reaches_a_host_outside,
];

// sockets#3, sockets#20, routing#69
fn a_pod_reaches_a_host_outside(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let app = App::start(&mesh.outside, APP_PORT, Behaviour::Echo).unwrap();
    let destination = (mesh.address(&mesh.outside), APP_PORT).into();
    ping(&mut mesh.connect(destination), b"hello outside");
    assert_eq!(app.peers()[0].ip(), mesh.address(&mesh.client.host));

    let record = mesh.client.access(|record| record.message() == "connection complete");
    assert_eq!(record.field("dst.addr"), Some(destination.to_string().as_str()));
    assert_eq!(record.field("src.workload"), Some("client"));
    for absent in ["dst.hbone_addr", "src.identity", "dst.identity", "dst.workload"] {
        assert_eq!(record.field(absent), None, "{absent}");
    }
}

// sockets#18, routing#69
fn a_host_outside_reaches_a_pod(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let app = mesh.serve(Behaviour::Echo);
    ping(&mut mesh.outside.connect(mesh.app()).unwrap(), b"hello inside");
    assert_eq!(app.peers()[0].ip(), mesh.address(&mesh.outside));

    let record = mesh.server.access(|record| record.message() == "connection complete");
    assert_eq!(record.field("direction"), Some("inbound"));
    assert_eq!(record.field("dst.addr"), Some(mesh.app().to_string().as_str()));
    assert_eq!(record.field("dst.workload"), Some("server"));
    for absent in ["dst.hbone_addr", "src.identity", "dst.identity", "src.workload"] {
        assert_eq!(record.field(absent), None, "{absent}");
    }
}

/// A captured plaintext connection is there for its client before its application is dialled. A client that goes away
/// meanwhile takes the dial along, whatever it still waits for.
fn a_host_outside_that_gives_up_ends_the_dial(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let _busy = Busy::start(&mesh.server.host);
    let client = mesh.outside.connect(mesh.app()).unwrap();
    wait_until(|| is_being_dialled(&mesh.server.host));
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let record = mesh.server.access(|record| record.message() == "connection complete");
    assert_eq!(record.field("error"), Some("client gave up before it was answered"));
    assert_eq!(record.field("direction"), Some("inbound"));
    wait_until(|| !is_being_dialled(&mesh.server.host));
}

/// An application that accepts nothing, and whose queue is full.
struct Busy {
    _listener: Socket,
    _queue: Vec<TcpStream>,
}

impl Busy {
    fn start(host: &Host) -> Self {
        let fill = || {
            let listener = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
            listener.set_only_v6(false).unwrap();
            listener.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, APP_PORT)).into()).unwrap();
            listener.listen(0).unwrap();
            let here = SocketAddr::from((Ipv6Addr::LOCALHOST, APP_PORT));
            let mut queue = Vec::new();
            while let Ok(queued) = TcpStream::connect_timeout(&here, QUEUED) {
                queue.push(queued);
            }
            Self { _listener: listener, _queue: queue }
        };
        host.namespace().run(fill).unwrap()
    }
}

/// Whether somebody on the host connects to the application and has no answer.
fn is_being_dialled(host: &Host) -> bool {
    let tables = host.namespace().run(|| {
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap())
    });
    // As the kernel lists it: local address, remote address, state; SYN_SENT is 2.
    let remote = format!(":{APP_PORT:04X}");
    tables.unwrap().iter().flat_map(|table| table.lines()).any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [_, _, to, "02", ..] if to.ends_with(&remote))
    })
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it never comes");
        thread::yield_now();
    }
}

/// Longer than it takes to get into a queue that has room.
const QUEUED: Duration = Duration::from_millis(300);
/// Below the time after which the dial would end by itself.
const PATIENCE: Duration = Duration::from_secs(8);
