//! The proxy's own ports, reached from outside.

use std::net::SocketAddr;

use examples::lab::{Behaviour, Workspace};

use crate::{
    fixture::{Mesh, MeshBuilder, is_closed, ping},
    runner::{Family, cases},
};

cases![captured_connections_to_own_ports_are_refused, direct_connections_to_own_ports_are_refused];

/// Redirected to 15006 with a port of ours as the original destination: a dial would come back (sockets#7).
fn captured_connections_to_own_ports_are_refused(workspace: &Workspace, family: Family) {
    refuses(&MeshBuilder::new(workspace, family).start());
}

/// Without redirection the original destination is the listener itself: a dial would come back.
fn direct_connections_to_own_ports_are_refused(workspace: &Workspace, family: Family) {
    refuses(&MeshBuilder::new(workspace, family).without_capture().start());
}

fn refuses(mesh: &Mesh) {
    let address = mesh.address(&mesh.server.host);
    for port in [15001, 15006] {
        let destination = SocketAddr::new(address, port);
        let mut stream = mesh.outside.connect(destination).unwrap();
        assert!(is_closed(&mut stream), "{destination} was not refused");
        let client = stream.local_addr().unwrap();
        let about = |record: &examples::lab::AccessRecord| {
            record.message() == "connection failed"
                && record.field("src.addr").and_then(|address| address.parse().ok()) == Some(client)
        };
        mesh.server.access(about);
    }
    // One refusal each: nothing dialled itself.
    assert_eq!(mesh.server.proxy.access_log().len(), 2, "{:#?}", mesh.server.proxy.access_log());

    // And the proxy goes on serving, over HBONE from nowhere but the mesh.
    let app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.outside.connect(mesh.app()).unwrap();
    ping(&mut stream, b"still here");
    drop(stream);
    assert_eq!(app.finished(1).len(), 1);
}
