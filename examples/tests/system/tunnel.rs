//! Pod to pod over HBONE.

use examples::lab::{Behaviour, Workspace};

use crate::{
    fixture::{Mesh, ping},
    runner::{Family, cases},
};

cases![
    a_service_address_reaches_its_pod,
    pod_to_pod_goes_over_hbone,
    the_application_sees_the_address_of_the_client,
    the_wire_carries_tls_and_never_the_plaintext,
];

fn pod_to_pod_goes_over_hbone(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.connect(mesh.app());
    ping(&mut stream, b"hello world");
    drop(stream);
    assert_eq!(app.finished(1).len(), 1);

    let [client, server] = [mesh.client.pod.identity(), mesh.server.pod.identity()];
    for (node, direction) in [(&mesh.client, "outbound"), (&mesh.server, "inbound")] {
        let record = node.access(|record| record.message() == "connection complete");
        assert_eq!(record.level(), "info");
        let hbone = format!("{}", std::net::SocketAddr::new(mesh.address(&mesh.server.host), 15008));
        for (field, value) in [
            ("direction", direction),
            ("dst.addr", &hbone),
            ("dst.hbone_addr", &mesh.app().to_string()),
            ("src.workload", "client"),
            ("dst.workload", "server"),
            ("src.identity", &client),
            ("dst.identity", &server),
            ("bytes_sent", "11"),
            ("bytes_recv", "11"),
        ] {
            assert_eq!(record.field(field), Some(value), "{field} in {record:?}");
        }
    }

    for (node, reporter) in [(&mesh.client, "source"), (&mesh.server, "destination")] {
        let labels = [
            ("reporter", reporter),
            ("source_principal", client.as_str()),
            ("destination_principal", server.as_str()),
            ("connection_security_policy", "mutual_tls"),
            ("response_flags", "-"),
        ];
        for (name, value) in [
            ("istio_tcp_connections_opened_total", 1.0),
            ("istio_tcp_connections_closed_total", 1.0),
            ("istio_tcp_received_bytes_total", 11.0),
            ("istio_tcp_sent_bytes_total", 11.0),
        ] {
            assert_eq!(node.proxy.metric(name, &labels).unwrap(), value, "{name} of the {reporter}");
        }
    }
}

fn a_service_address_reaches_its_pod(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let app = mesh.serve(Behaviour::Echo);
    ping(&mut mesh.connect(mesh.service()), b"to the service");
    assert_eq!(app.finished(1).len(), 1);
    let record = mesh.client.access(|record| record.message() == "connection complete");
    assert_eq!(record.field("dst.service"), Some("web.default.svc.cluster.local"));
    assert_eq!(record.field("dst.hbone_addr"), Some(mesh.app().to_string().as_str()));
}

// sockets#5, sockets#23
fn the_wire_carries_tls_and_never_the_plaintext(workspace: &Workspace, family: Family) {
    const MARKER: &[u8] = b"a marker that must not be seen";
    let mesh = Mesh::start(workspace, family);
    let app = mesh.serve(Behaviour::Echo);

    let wire = mesh.network.wire().unwrap();
    let mut stream = mesh.connect(mesh.app());
    ping(&mut stream, MARKER);
    drop(stream);
    assert_eq!(app.finished(1).len(), 1);
    let report = wire.stop();
    assert!(report.flows_containing(MARKER).is_empty());
    assert_eq!(report.ports().into_iter().collect::<Vec<_>>(), [15008]);
    let tunnels: Vec<_> = report.flows_with(15008).collect();
    assert_eq!(tunnels.len(), 2);
    for flow in tunnels {
        assert!(!flow.has_gap());
        assert!(flow.tls().is_tls(), "{:?} from {}", flow.tls(), flow.source());
    }

    // The same bytes from outside the mesh: the capture does see what is there to be seen.
    let wire = mesh.network.wire().unwrap();
    let mut stream = mesh.outside.connect(mesh.app()).unwrap();
    ping(&mut stream, MARKER);
    drop(stream);
    assert_eq!(app.finished(2).len(), 2);
    assert_eq!(wire.stop().flows_containing(MARKER).len(), 2);
}

// sockets#19
fn the_application_sees_the_address_of_the_client(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let app = mesh.serve(Behaviour::Echo);
    ping(&mut mesh.connect(mesh.app()), b"who am I");
    assert_eq!(app.peers()[0].ip(), mesh.address(&mesh.client.host));
}
