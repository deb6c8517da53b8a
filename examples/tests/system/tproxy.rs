//! Incoming connections captured by TPROXY instead of redirection.

use std::net::SocketAddr;

use examples::lab::{App, Behaviour, Network, Tproxy, Workspace};
use socket2::SockRef;

use crate::{
    fixture::{APP_PORT, Mesh, MeshBuilder, is_refused, ping},
    runner::{Family, cases},
};

cases![
    a_pod_reaches_a_host_outside,
    a_port_policy_applies,
    connections_to_own_ports_are_refused,
    pod_to_pod_goes_over_hbone,
    the_application_sees_the_address_of_a_host_outside,
    the_proxy_sees_the_original_destination,
];

// sockets#4
fn the_application_sees_the_address_of_a_host_outside(workspace: &Workspace, family: Family) {
    let mesh = start(MeshBuilder::new(workspace, family));
    let app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.outside.connect(mesh.app()).unwrap();
    ping(&mut stream, b"hello inside");
    let client = stream.local_addr().unwrap();
    drop(stream);
    assert_eq!(app.finished(1)[0].peer.ip(), client.ip());

    let record = mesh.server.access(|record| record.message() == "connection complete");
    assert_eq!(record.field("direction"), Some("inbound"));
    assert_eq!(record.field("src.addr"), Some(client.to_string().as_str()));
    assert_eq!(record.field("dst.addr"), Some(mesh.app().to_string().as_str()));
}

/// On a host whose port 15006 we hold ourselves.
fn the_proxy_sees_the_original_destination(workspace: &Workspace, family: Family) {
    let network = Network::new(workspace).unwrap();
    let [captured, plain] = [network.host("captured", 10).unwrap(), network.host("plain", 20).unwrap()];
    Tproxy.capture(&captured).unwrap();
    let proxy = captured.listen(15006).unwrap();
    SockRef::from(&proxy).set_ip_transparent_v4(true).unwrap();
    let address = if family == Family::V4 { captured.v4() } else { captured.v6() };
    let destination = SocketAddr::new(address, APP_PORT);
    let client = plain.connect(destination).unwrap();
    let (accepted, peer) = proxy.accept().unwrap();
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    assert_eq!(canonical(accepted.local_addr().unwrap()), destination);
    assert_eq!(canonical(peer), client.local_addr().unwrap());
}

fn a_port_policy_applies(workspace: &Workspace, family: Family) {
    const POLICY: &str = "name: deny\nnamespace: default\nscope: Namespace\naction: Deny\ndryRun: false\n\
                          rules:\n- - - destinationPorts: [8080]";
    let mesh = start(MeshBuilder::new(workspace, family).policy(POLICY));
    let denied = mesh.serve(Behaviour::Echo);
    let allowed = App::start(&mesh.server.host, 8081, Behaviour::Echo).unwrap();
    assert!(is_refused(mesh.outside.connect(mesh.app())));
    assert!(denied.peers().is_empty());
    let other = SocketAddr::new(mesh.app().ip(), allowed.port());
    ping(&mut mesh.outside.connect(other).unwrap(), b"another port");
}

// sockets#7
fn connections_to_own_ports_are_refused(workspace: &Workspace, family: Family) {
    let mesh = start(MeshBuilder::new(workspace, family));
    for port in [15001, 15006] {
        let destination = SocketAddr::new(mesh.app().ip(), port);
        assert!(is_refused(mesh.outside.connect(destination)), "{destination}");
        mesh.server.access(|record| record.field("dst.addr") == Some(destination.to_string().as_str()));
    }
    // One refusal each: nothing dialled itself.
    let records = mesh.server.proxy.access_log();
    assert_eq!(records.len(), 2, "{records:#?}");
}

fn pod_to_pod_goes_over_hbone(workspace: &Workspace, family: Family) {
    let mesh = start(MeshBuilder::new(workspace, family));
    let app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.connect(mesh.app());
    ping(&mut stream, b"hello world");
    drop(stream);
    assert_eq!(app.finished(1)[0].peer.ip(), mesh.address(&mesh.client.host));
    let record = mesh.server.access(|record| record.message() == "connection complete");
    assert_eq!(record.field("src.identity"), Some(mesh.client.pod.identity().as_str()));
}

/// What answers it must not be taken for a connection to capture.
fn a_pod_reaches_a_host_outside(workspace: &Workspace, family: Family) {
    let mesh = start(MeshBuilder::new(workspace, family));
    let _app = App::start(&mesh.outside, APP_PORT, Behaviour::Echo).unwrap();
    ping(&mut mesh.connect((mesh.address(&mesh.outside), APP_PORT).into()), b"hello outside");
}

fn start(builder: MeshBuilder<'_>) -> Mesh {
    let mesh = builder.without_capture().start();
    for node in [&mesh.client, &mesh.server] {
        Tproxy.capture(&node.host).unwrap();
    }
    mesh
}
