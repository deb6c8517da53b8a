//! The end of a proxy.

use std::{
    io::ErrorKind,
    net::Shutdown,
    thread,
    time::{Duration, Instant},
};

use examples::lab::{self, Behaviour, Tally, Workspace};

use crate::{
    fixture::{APP_PORT, MeshBuilder, is_closed, ping},
    runner::{Family, cases},
};

cases![
    a_policy_that_comes_during_a_drain_counts,
    a_silent_peer_does_not_delay_the_end,
    open_connections_are_closed_at_the_deadline,
    open_connections_may_finish_after_sigterm,
    the_second_interrupt_does_not_wait,
    what_has_arrived_is_delivered_while_it_drains,
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

// sockets#55
fn the_second_interrupt_does_not_wait(workspace: &Workspace, family: Family) {
    let builder = MeshBuilder::new(workspace, family);
    let mut mesh = builder.variable("CONNECTION_TERMINATION_DEADLINE", "60s").start();
    let _app = mesh.serve(Behaviour::Echo);
    let mut stream = mesh.connect(mesh.app());
    ping(&mut stream, b"before");
    let proxy = mesh.server.proxy.process();
    proxy.interrupt().unwrap();
    assert!(proxy.output().wait_for(PATIENCE, |line| line.contains("draining").then_some(())).is_some());
    ping(&mut stream, b"drains");
    let proxy = mesh.server.proxy.process();
    proxy.interrupt().unwrap();
    let status = proxy.wait(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
}

/// routing#98: the client and its tunnel are gone; what they brought is still on its way to a slow application.
fn what_has_arrived_is_delivered_while_it_drains(workspace: &Workspace, family: Family) {
    // More than a socket's buffers hold, and less than a tunnel's window.
    const BYTES: u64 = 8 << 20;
    let builder = MeshBuilder::new(workspace, family);
    let mut mesh = builder.variable("CONNECTION_TERMINATION_DEADLINE", "60s").start();
    let app = mesh.server.host.listen(APP_PORT).unwrap();
    let client = mesh.connect(mesh.app());
    let (served, _) = app.accept().unwrap();
    served.shutdown(Shutdown::Write).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            lab::send(&client, BYTES).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        mesh.server.proxy.process().terminate().unwrap();
        let hbone = (mesh.address(&mesh.server.host), 15008).into();
        let refusal = refused_within(PATIENCE, || mesh.outside.connect(hbone).map(drop));
        assert_eq!(refusal, Some(ErrorKind::ConnectionRefused));
        let mut received = Tally::default();
        lab::read_to_end(&served, &mut received).unwrap();
        assert_eq!((received.bytes(), received.is_intact()), (BYTES, true));
    });
    let status = mesh.server.proxy.process().wait(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
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
