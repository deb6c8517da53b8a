//! Between pods and hosts that are not in the mesh.

use examples::lab::{App, Behaviour, Workspace};

use crate::{
    fixture::{APP_PORT, Mesh, ping},
    runner::{Family, cases},
};

cases![a_pod_reaches_a_host_outside, a_host_outside_reaches_a_pod];

// sockets#20
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

// sockets#18
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
