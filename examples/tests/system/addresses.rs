//! Addresses of both families, own ones, nobody's, and those that mean something else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use examples::lab::{Behaviour, Pod, Workspace};

use crate::{
    fixture::{Mesh, MeshBuilder, is_closed, is_refused, ping, wait_until},
    runner::{Family, cases},
};

cases![
    a_destination_that_does_not_answer_delays_no_other,
    a_mapped_address_is_the_address_it_carries,
    a_pod_reaches_itself_through_its_service,
    applications_see_the_proxy_where_source_addresses_are_not_kept,
    no_tunnel_leads_to_a_port_of_a_proxy,
    without_ipv6_only_ipv4_is_listened_on,
];

// sockets#1
fn without_ipv6_only_ipv4_is_listened_on(workspace: &Workspace, family: Family) {
    let mesh = MeshBuilder::new(workspace, family).server_variable("IPV6_ENABLED", "false").start();
    let hbone = |host| mesh.outside.connect((mesh.address(host), 15008).into());
    assert_eq!(hbone(&mesh.server.host).is_ok(), family == Family::V4);
    // The default listens on both.
    hbone(&mesh.client.host).unwrap();
}

// sockets#2, hbone#49
fn a_mapped_address_is_the_address_it_carries(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let _app = mesh.serve(Behaviour::Echo);
    let mapped = match mesh.app() {
        SocketAddr::V4(v4) => SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port()),
        v6 @ SocketAddr::V6(_) => v6,
    };
    ping(&mut mesh.client.host.connect(mapped).unwrap(), b"from a socket of IPv6");
    for node in [&mesh.client, &mesh.server] {
        let record = node.access(|record| record.message() == "connection complete");
        assert_eq!(record.field("dst.hbone_addr"), Some(mesh.app().to_string().as_str()));
        let source: SocketAddr = record.field("src.addr").unwrap().parse().unwrap();
        assert_eq!(source.ip(), mesh.address(&mesh.client.host));
    }
}

// sockets#21
fn a_pod_reaches_itself_through_its_service(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let app = mesh.serve(Behaviour::Echo);
    ping(&mut mesh.server.host.connect(mesh.service()).unwrap(), b"is that me");
    assert_eq!(app.peers()[0].ip(), mesh.address(&mesh.server.host));
    let record = mesh.server.access(|record| record.field("direction") == Some("inbound"));
    assert_eq!(record.field("src.identity"), Some(mesh.server.pod.identity().as_str()));
}

// sockets#22
fn applications_see_the_proxy_where_source_addresses_are_not_kept(workspace: &Workspace, family: Family) {
    let mesh = MeshBuilder::new(workspace, family).server_variable("ENABLE_ORIG_SRC", "false").start();
    let app = mesh.serve(Behaviour::Echo);
    for from in [&mesh.client.host, &mesh.outside] {
        ping(&mut from.connect(mesh.app()).unwrap(), b"who am I");
        assert_eq!(app.peers().last().unwrap().ip(), mesh.address(&mesh.server.host));
    }
}

// sockets#8, hbone#39
fn no_tunnel_leads_to_a_port_of_a_proxy(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    for port in [15001, 15006, 15008] {
        let destination = SocketAddr::new(mesh.app().ip(), port);
        assert!(is_refused(mesh.client.host.connect(destination)), "{destination}");
        let hbone = destination.to_string();
        let record = mesh.client.access(|record| record.field("dst.hbone_addr") == Some(&hbone));
        assert_eq!(record.field("error"), Some("http status: 503 Service Unavailable"));
    }
    wait_until(|| mesh.server.proxy.access_log().len() == 3);
    for record in mesh.server.proxy.access_log() {
        assert_eq!(record.field("error"), Some("attempted recursive call to ourselves"));
    }
}

// sockets#64, hbone#76
fn a_destination_that_does_not_answer_delays_no_other(workspace: &Workspace, family: Family) {
    let nobody = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)),
        Family::V6 => "2001:db8::77".parse().unwrap(),
    };
    let mesh = MeshBuilder::new(workspace, family).pod(Pod::new("default", "ghost", [nobody])).start();
    let _app = mesh.serve(Behaviour::Echo);
    let connect = || mesh.connect((nobody, 80).into());
    let mut waiting: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    for _ in 0..20 {
        ping(&mut mesh.connect(mesh.app()), b"meanwhile");
    }
    assert!(mesh.client.proxy.access_log().iter().all(|record| record.level() == "info"));
    assert!(waiting.iter_mut().all(is_closed));
    let failed = || mesh.client.proxy.access_log().into_iter().filter(|record| record.level() == "error");
    wait_until(|| failed().count() == waiting.len());
    assert!(failed().all(|record| {
        let error = record.field("error").unwrap();
        error.starts_with("connection failed: ") || error.contains("HBONE port 15008")
    }));
}
