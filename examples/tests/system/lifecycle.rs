//! The end of a proxy.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use examples::lab::{Behaviour, Workspace};

use crate::{
    fixture::{MeshBuilder, is_closed, ping},
    runner::{Family, cases},
};

cases![
    a_policy_that_comes_during_a_drain_counts,
    a_silent_peer_does_not_delay_the_end,
    open_connections_are_closed_at_the_deadline,
    open_connections_may_finish_after_sigterm,
];

const PATIENCE: Duration = Duration::from_secs(15);

// sockets#52, sockets#53
fn open_connections_may_finish_after_sigterm(workspace: &Workspace, family: Family) {
    let builder = MeshBuilder::new(workspace, family);
    let mut mesh = builder.variable("CONNECTION_TERMINATION_DEADLINE", "60s").start();
    let _app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.connect(mesh.app());
    ping(&mut stream, b"before");
    mesh.server.proxy.process().terminate().unwrap();
    let hbone = (mesh.address(&mesh.server.host), 15008).into();
    let refusal = refused_within(PATIENCE, || mesh.outside.connect(hbone).map(drop));
    assert_eq!(refusal, Some(ErrorKind::ConnectionRefused));
    ping(&mut stream, b"after");
    drop(stream);
    let status = mesh.server.proxy.process().wait(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
    mesh.server.access(|record| record.message() == "connection complete" && record.level() == "info");
}

// sockets#52
fn open_connections_are_closed_at_the_deadline(workspace: &Workspace, family: Family) {
    let builder = MeshBuilder::new(workspace, family);
    let mut mesh = builder.variable("CONNECTION_TERMINATION_DEADLINE", "500ms").start();
    let _app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.connect(mesh.app());
    ping(&mut stream, b"before");
    mesh.server.proxy.process().terminate().unwrap();
    assert!(is_closed(&mut stream));
    let status = mesh.server.proxy.process().wait(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
    let record = mesh.server.access(|record| record.message() == "connection complete");
    assert_eq!(record.field("error"), Some("connection closed due to connection drain"));
}

// sockets#71
fn a_policy_that_comes_during_a_drain_counts(workspace: &Workspace, family: Family) {
    const DENY: &str = "name: late\nnamespace: default\nscope: Namespace\naction: Deny\ndryRun: false\n\
                        rules:\n- - - destinationPorts: [8080]";
    let builder = MeshBuilder::new(workspace, family);
    let mut mesh = builder.variable("CONNECTION_TERMINATION_DEADLINE", "60s").start();
    let _app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.connect(mesh.app());
    ping(&mut stream, b"before");
    mesh.server.proxy.process().terminate().unwrap();
    let hbone = (mesh.address(&mesh.server.host), 15008).into();
    let refusal = refused_within(PATIENCE, || mesh.outside.connect(hbone).map(drop));
    assert_eq!(refusal, Some(ErrorKind::ConnectionRefused));
    ping(&mut stream, b"drains");
    mesh.add_policy(DENY);
    assert!(is_closed(&mut stream));
    let record = mesh.server.access(|record| record.level() == "error");
    assert_eq!(record.field("error"), Some("connection closed due to policy change"));
    assert!(mesh.server.proxy.process().wait(PATIENCE).unwrap().success());
}

// sockets#63
fn a_silent_peer_does_not_delay_the_end(workspace: &Workspace, family: Family) {
    let builder = MeshBuilder::new(workspace, family);
    let mut mesh = builder.variable("CONNECTION_TERMINATION_DEADLINE", "60s").start();
    let silent = mesh.outside.connect((mesh.address(&mesh.server.host), 15008).into()).unwrap();
    mesh.server.proxy.process().terminate().unwrap();
    let status = mesh.server.proxy.process().wait(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
    drop(silent);
}

/// Tries again until it is refused; how, or `None` if it never is.
fn refused_within(patience: Duration, mut attempt: impl FnMut() -> std::io::Result<()>) -> Option<ErrorKind> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        match attempt() {
            // Taken by the kernel and dropped as the listener closed: the next one is refused.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => return Some(error.kind()),
            Ok(()) => {}
        }
    }
    None
}
