//! The proxy's own ports, reached from outside.

use std::net::SocketAddr;

use examples::lab::{Behaviour, Workspace};

use crate::{
    fixture::{Mesh, MeshBuilder, is_refused, ping},
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
        assert!(is_refused(mesh.outside.connect(destination)), "{destination} was not refused");
        let dialled = destination.to_string();
        mesh.server.access(|record| {
            record.message() == "connection failed" && record.field("dst.addr") == Some(&dialled)
        });
    }
    // One refusal each: nothing dialled itself.
    assert_eq!(mesh.server.proxy.access_log().len(), 2, "{:#?}", mesh.server.proxy.access_log());

    // And the proxy goes on serving.
    let app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.outside.connect(mesh.app()).unwrap();
    ping(&mut stream, b"still here");
    drop(stream);
    assert_eq!(app.finished(1).len(), 1);
}
