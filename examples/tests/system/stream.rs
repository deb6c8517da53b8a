//! The byte streams: their ends, their content, their refusal.

use std::{io::Read, net::Shutdown};

use examples::lab::{self, Behaviour, Tally, Workspace};

use crate::{
    fixture::{Mesh, is_refused},
    runner::{Family, cases},
};

cases![
    a_port_nobody_serves_closes_the_connection,
    many_bytes_arrive_intact_both_ways,
    the_client_may_finish_first,
    the_server_may_finish_first,
];

// sockets#49
fn the_client_may_finish_first(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let _app = mesh.serve(Behaviour::Count);
    let mut stream = mesh.connect(mesh.app());
    lab::send(&stream, 100_000).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "100000");
}

// sockets#49
fn the_server_may_finish_first(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let app = mesh.serve(Behaviour::Exchange { bytes: 1000 });
    let stream = mesh.connect(mesh.app());
    let mut received = Tally::default();
    lab::read_to_end(&stream, &mut received).unwrap();
    assert_eq!((received.bytes(), received.is_intact()), (1000, true));
    lab::send(&stream, 100_000).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let visits = app.finished(1);
    assert_eq!(visits[0].error, None);
    assert_eq!((visits[0].received.bytes(), visits[0].received.is_intact()), (100_000, true));
}

fn many_bytes_arrive_intact_both_ways(workspace: &Workspace, family: Family) {
    const BYTES: u64 = 64 * 1024 * 1024;
    let mesh = Mesh::start(workspace, family);
    let app = mesh.serve(Behaviour::Exchange { bytes: BYTES });
    let stream = mesh.connect(mesh.app());
    let mut received = Tally::default();
    lab::exchange(&stream, BYTES, &mut received).unwrap();
    assert_eq!((received.bytes(), received.is_intact()), (BYTES, true));
    let visits = app.finished(1);
    assert_eq!(visits[0].error, None);
    assert_eq!((visits[0].received.bytes(), visits[0].received.is_intact()), (BYTES, true));
}

fn a_port_nobody_serves_closes_the_connection(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    assert!(is_refused(mesh.client.host.connect(mesh.app())));
    let record = mesh.client.access(|record| record.level() == "error");
    assert_eq!(record.field("error"), Some("http status: 503 Service Unavailable"));
    let record = mesh.server.access(|record| record.level() == "error");
    assert!(record.field("error").unwrap().starts_with("connection failed: "), "{record:?}");
}
