//! The ends that connections come to, in orders that no well-behaved client would choose.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use examples::lab::{self, Behaviour, Host, Tally, Workspace};
use socket2::SockRef;

use crate::{
    fixture::{APP_PORT, Mesh, MeshBuilder},
    runner::{Family, cases},
};

cases![
    a_half_closed_connection_that_falls_silent_is_reset,
    a_reader_that_pauses_gets_every_byte,
    a_reset_after_the_end_of_its_own_direction_is_a_reset,
    a_reset_is_a_reset_and_tells_its_side,
    an_answer_before_a_reset_arrives,
    bytes_may_come_one_at_a_time,
    the_end_of_both_directions_is_no_reset,
];

/// Both ways in: through a tunnel, and as plaintext from outside the mesh.
fn ways(mesh: &Mesh) -> [&Host; 2] {
    [&mesh.client.host, &mesh.outside]
}

// routing#79, sockets#51, hbone#54
fn a_reset_is_a_reset_and_tells_its_side(workspace: &Workspace, family: Family) {
    for (client_resets, side) in [(true, "downstream"), (false, "upstream")] {
        let mesh = Mesh::start(workspace, family);
        let app = mesh.server.host.listen(APP_PORT).unwrap();
        for from in ways(&mesh) {
            let (client, server) = open(&mesh, &app, from);
            let (resetting, mut other) = if client_resets { (client, server) } else { (server, client) };
            reset(resetting);
            assert_eq!(other.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
        mesh.client.access(|record| record.field("reset_by") == Some(side));
        for from in ways(&mesh) {
            let client = mesh.address(from);
            let record = mesh.server.access(|record| {
                let source = record.field("src.addr").and_then(|source| source.parse::<SocketAddr>().ok());
                source.is_some_and(|source| source.ip() == client)
            });
            assert_eq!((record.field("reset_by"), record.level()), (Some(side), "info"), "{record:?}");
        }
    }
}

// routing#79: whoever has finished and is reset later is not read any more, but gone.
fn a_reset_after_the_end_of_its_own_direction_is_a_reset(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let app = mesh.server.host.listen(APP_PORT).unwrap();
    for from in ways(&mesh) {
        for client_resets in [true, false] {
            let (client, server) = open(&mesh, &app, from);
            let (resetting, mut other) = if client_resets { (client, server) } else { (server, client) };
            resetting.shutdown(Shutdown::Write).unwrap();
            assert_eq!(other.read(&mut [0]).unwrap(), 0);
            reset(resetting);
            // It may still write until it hears of it, but not for long.
            let error = (0..10_000).find_map(|_| other.write_all(&[7; 1000]).err());
            let kind = error.map(|error| error.kind());
            assert!(matches!(kind, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)), "{kind:?}");
        }
    }
}

/// routing#105: as a server does that refuses an upload before it has read it.
fn an_answer_before_a_reset_arrives(workspace: &Workspace, family: Family) {
    let answer: Vec<u8> = (0..10_000_u32).map(|index| (index % 251) as u8).collect();
    let mesh = Mesh::start(workspace, family);
    let app = mesh.server.host.listen(APP_PORT).unwrap();
    for from in ways(&mesh) {
        for _ in 0..20 {
            let (mut client, mut server) = open(&mesh, &app, from);
            client.write_all(&[7; 5000]).unwrap();
            assert_eq!(server.peek(&mut [0]).unwrap(), 1);
            server.write_all(&answer).unwrap();
            // With bytes unread the kernel makes a reset of it.
            drop(server);
            let mut received = Vec::new();
            let error = client.read_to_end(&mut received).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(received == answer, "{} of {} bytes", received.len(), answer.len());
        }
    }
}

// sockets#49
fn the_end_of_both_directions_is_no_reset(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let app = mesh.server.host.listen(APP_PORT).unwrap();
    for from in ways(&mesh) {
        for server_first in [true, false] {
            let (client, server) = open(&mesh, &app, from);
            let (mut first, mut second) = if server_first { (server, client) } else { (client, server) };
            first.shutdown(Shutdown::Write).unwrap();
            assert_eq!(second.read(&mut [0]).unwrap(), 0);
            second.write_all(&[7; 100_000]).unwrap();
            drop(second);
            let mut rest = Vec::new();
            first.read_to_end(&mut rest).unwrap();
            assert_eq!(rest.len(), 100_000);
        }
    }
    for node in [&mesh.client, &mesh.server] {
        node.access(|record| record.message() == "connection complete");
        assert!(node.proxy.access_log().iter().all(|record| record.field("reset_by").is_none()));
    }
}

// sockets#62
fn a_half_closed_connection_that_falls_silent_is_reset(workspace: &Workspace, family: Family) {
    let mesh = MeshBuilder::new(workspace, family).variable("HALF_OPEN_TIMEOUT", "300ms").start();
    let app = mesh.server.host.listen(APP_PORT).unwrap();
    for from in ways(&mesh) {
        let (mut client, _server) = open(&mesh, &app, from);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let record = mesh.server.access(|record| record.level() == "error");
    assert_eq!(record.field("error"), Some("half-closed connection silent for 300ms"));
    // One that is open both ways may be silent for as long as it likes.
    let (mut client, mut server) = open(&mesh, &app, &mesh.client.host);
    client.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
    assert!(matches!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    server.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

fn bytes_may_come_one_at_a_time(workspace: &Workspace, family: Family) {
    let mesh = Mesh::start(workspace, family);
    let _app = mesh.serve(Behaviour::Echo);
    for from in ways(&mesh) {
        let mut stream = from.connect(mesh.app()).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let sent: Vec<u8> = (0..20_000_u32).map(|index| (index % 251) as u8).collect();
        let mut received = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                sent.iter().for_each(|byte| writer.write_all(&[*byte]).unwrap());
                writer.shutdown(Shutdown::Write).unwrap();
            });
            stream.read_to_end(&mut received).unwrap();
        });
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    }
}

/// An upload that its server stops reading for a while stops, and goes on.
fn a_reader_that_pauses_gets_every_byte(workspace: &Workspace, family: Family) {
    const BYTES: u64 = 64 << 20;
    let mesh = Mesh::start(workspace, family);
    let app = mesh.server.host.listen(APP_PORT).unwrap();
    let (client, server) = open(&mesh, &app, &mesh.client.host);
    thread::scope(|scope| {
        scope.spawn(|| {
            lab::send(&client, BYTES).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        wait_for_stall(&server);
        // Beside it others get on.
        let (mut other, mut served) = open(&mesh, &app, &mesh.client.host);
        other.write_all(b"x").unwrap();
        served.read_exact(&mut [0]).unwrap();
        let mut received = Tally::default();
        lab::read_to_end(&server, &mut received).unwrap();
        assert_eq!((received.bytes(), received.is_intact()), (BYTES, true));
    });
}

/// Waits until what lies unread here has not grown for a while.
fn wait_for_stall(stream: &TcpStream) {
    let mut before = None;
    let mut unread = vec![0; 16 << 20];
    loop {
        let now = stream.peek(&mut unread).unwrap();
        if before.replace(now) == Some(now) && now > 0 {
            return;
        }
        thread::park_timeout(Duration::from_millis(200));
    }
}

/// A connection from a host to the application, both ends, which has carried something.
fn open(mesh: &Mesh, app: &TcpListener, from: &Host) -> (TcpStream, TcpStream) {
    let mut client = from.connect(mesh.app()).unwrap();
    let (mut server, _) = app.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    server.write_all(b"y").unwrap();
    client.read_exact(&mut [0]).unwrap();
    (client, server)
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

const PATIENCE: Duration = Duration::from_secs(10);
