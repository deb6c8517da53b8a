//! What is bounded, and what becomes of one too many.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{io::ErrorKind, num::NonZeroUsize, time::Duration};

use hbone::{Budget, Refusal, client};
use mesh_proxy::telemetry::Direction;
use support::{CLIENT, Mesh, PATIENCE, SERVER, Seen, application};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

async fn assert_passes(near: &mut TcpStream, far: &mut TcpStream) {
    near.write_all(b"ping").await.unwrap();
    let mut received = [0; 4];
    timeout(PATIENCE, far.read_exact(&mut received)).await.unwrap().unwrap();
    assert_eq!(&received, b"ping");
}

/// Writes until nobody reads and the budget is used up.
async fn fill(stream: &mut TcpStream, budget: &Budget) -> usize {
    let (chunk, mut written) = (vec![7; 1 << 16], 0);
    let filled = async {
        while budget.held() < budget.limit() {
            if let Ok(count) = timeout(Duration::from_millis(20), stream.write(&chunk)).await {
                written += count.unwrap();
            }
        }
    };
    timeout(PATIENCE, filled).await.unwrap();
    written
}

#[tokio::test]
async fn a_process_over_its_memory_budget_refuses_new_tunnels_and_cuts_none() {
    let budget = Budget::new(1 << 19);
    let given = budget.clone();
    let mesh = Mesh::start_with(|settings| settings.budget(given));
    let application = application().await;
    let (mut stalled, mut unread) = mesh.open(&application).await;
    let (mut client, mut server) = mesh.open(&application).await;
    let written = fill(&mut stalled, &budget).await;
    let (_refused, reply) = mesh.connect(CLIENT, application.local_addr().unwrap()).await;
    assert_ne!(reply, 0);
    assert!(budget.refused() > 0);
    // Whoever is there goes on, the one to blame included.
    assert_passes(&mut client, &mut server).await;
    assert_passes(&mut server, &mut client).await;
    unread.read_exact(&mut vec![0; written]).await.unwrap();
    stalled.shutdown().await.unwrap();
    assert_eq!(unread.read(&mut [0; 1]).await.unwrap(), 0);
    mesh.open(&application).await;
}

#[tokio::test]
async fn one_tunnel_too_many_on_a_worker_is_refused_and_reported() {
    let mesh = Mesh::start_with(|settings| settings.workers(NonZeroUsize::MIN).max_tunnels_per_worker(2));
    let application = application().await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(mesh.open(&application).await);
    }
    let (_refused, reply) = mesh.connect(CLIENT, application.local_addr().unwrap()).await;
    assert_ne!(reply, 0);
    assert_eq!(mesh.server.seen.refused().await, "more than 2 tunnels on one worker");
    let (_, error) = mesh.client.seen.closed().await;
    let status = Refusal::Unavailable.status().unwrap();
    assert_eq!(error.unwrap(), format!("http status: {status}"));
    let (client, server) = &mut open[0];
    assert_passes(client, server).await;
    // One that ends makes room.
    drop(open.pop());
    mesh.server.seen.closed().await;
    mesh.open(&application).await;
}

/// Strangers, in whatever number, take nothing from the workload's own connections, nor all from known peers.
#[tokio::test]
async fn a_full_hbone_port_stops_neither_outbound_connections_nor_known_peers() {
    let mesh = Mesh::start_with(|settings| {
        settings
            .workers(NonZeroUsize::MIN)
            .max_connections_per_worker(2)
            .max_handshakes_per_worker(2)
            .handshake_timeout(PATIENCE * 2)
    });
    let port = mesh.server.listening.inbound_hbone.unwrap();
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.push(TcpStream::connect(port).await.unwrap());
    }
    // All but one who holds the place there is for strangers.
    for stranger in &mut strangers[1..] {
        assert_eq!(timeout(PATIENCE, stranger.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    }
    let outside = TcpListener::bind("127.0.1.9:0").await.unwrap();
    let (_out, reply) = mesh.server.connect(SERVER, outside.local_addr().unwrap()).await;
    assert_eq!(reply, 0);
    drop(strangers);
    let application = application().await;
    let (mut client, mut server) = mesh.open(&application).await;
    assert_passes(&mut client, &mut server).await;
}

/// A listener that waits takes no place.
#[tokio::test]
async fn a_bound_below_the_number_of_listeners_leaves_none_of_them_deaf() {
    let mesh = Mesh::start_with(|settings| settings.workers(NonZeroUsize::MIN).max_connections_per_worker(1));
    let (application, outside) = (application().await, TcpListener::bind("127.0.1.9:0").await.unwrap());
    let (mut client, mut server) = mesh.open(&application).await;
    let outbound = mesh.server.connect(SERVER, outside.local_addr().unwrap());
    assert_eq!(timeout(PATIENCE, outbound).await.unwrap().1, 0);
    assert_passes(&mut client, &mut server).await;
}

/// Accepting pauses at the bound: whoever waits is served when there is room.
#[tokio::test]
async fn a_connection_too_many_waits_for_a_place() {
    let mesh = Mesh::start_with(|settings| {
        settings.workers(NonZeroUsize::new(2).unwrap()).max_connections_per_worker(1)
    });
    let outside = TcpListener::bind("127.0.1.9:0").await.unwrap();
    let to = outside.local_addr().unwrap();
    // One for each worker, wherever the kernel puts them.
    let first = mesh.server.connect(SERVER, to).await;
    let second = timeout(PATIENCE, mesh.server.connect(SERVER, to)).await.unwrap();
    assert_eq!((first.1, second.1), (0, 0));
    let mut third = Box::pin(mesh.server.connect(SERVER, to));
    assert!(timeout(Duration::from_millis(100), &mut third).await.is_err());
    drop((first, second));
    // Both ends of those are gone for the proxy once the far ends are.
    drop((outside.accept().await, outside.accept().await));
    assert_eq!(timeout(PATIENCE, third).await.unwrap().1, 0);
}

#[tokio::test]
async fn a_connection_that_waits_for_a_place_is_turned_away_by_a_drain() {
    let mesh = Mesh::start_with(|settings| {
        settings.workers(NonZeroUsize::MIN).max_connections_per_worker(1).drain_deadline(PATIENCE * 2)
    });
    let outside = TcpListener::bind("127.0.1.9:0").await.unwrap();
    let (open, reply) = mesh.server.connect(SERVER, outside.local_addr().unwrap()).await;
    assert_eq!(reply, 0);
    let mut waiting = TcpStream::connect(mesh.server.listening.socks5.unwrap()).await.unwrap();
    mesh.server.drain.drain();
    let error = timeout(PATIENCE, waiting.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let refused = mesh.server.seen.until(|seen| match seen {
        Seen::Refused { direction, .. } => Some(*direction),
        _ => None,
    });
    assert_eq!(refused.await, Direction::Outbound);
    drop((open, outside));
    timeout(PATIENCE, mesh.server.running).await.unwrap().unwrap().unwrap();
}

/// What a peer that skips the library sends first: the preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Waits for the server's proxy to tell of an HBONE connection that failed, and says what it told.
async fn failure(mesh: &Mesh) -> String {
    let told = mesh.server.seen.until(|seen| match seen {
        Seen::Event(event) if event.starts_with("HboneConnectionFailed") => Some(event.clone()),
        _ => None,
    });
    told.await
}

/// hbone#48: an operator can tell a flood from a deploy.
#[tokio::test]
async fn a_connection_that_fails_is_reported_by_its_kind() {
    let ping: &[u8] = b"\0\0\x08\x06\0\0\0\0\0pingpong";
    let data_without_a_stream: &[u8] = b"\0\0\x01\0\0\0\0\0\0x";
    for (frames, kind) in [(ping.repeat(5000), "Flood"), (data_without_a_stream.to_vec(), "Protocol")] {
        let mesh = Mesh::start();
        let mut peer = mesh.known_peer().await;
        peer.write_all(PREFACE).await.unwrap();
        // It may have been cut off by the end of that.
        let _ = peer.write_all(&frames).await;
        let told = failure(&mesh).await;
        assert!(told.contains(&format!(": {kind}: ")), "{told}");
    }
    let mesh = Mesh::start();
    let peer = mesh.known_peer().await;
    // So that it ends with a reset.
    peer.get_ref().0.set_zero_linger().unwrap();
    let (send, connection) = client::handshake(peer).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = hbone::ConnectRequest::new("192.0.2.7:80".parse::<hbone::Destination>().unwrap());
    assert!(send.connect(request).await.unwrap_err().status().is_some());
    connection.abort();
    let told = failure(&mesh).await;
    assert!(told.contains(": Io: "), "{told}");
}

#[tokio::test]
async fn an_end_in_good_order_is_no_failure() {
    let mesh = Mesh::start();
    let application = application().await;
    drop(mesh.open(&application).await);
    mesh.client.drain.drain();
    timeout(PATIENCE, mesh.client.running).await.unwrap().unwrap().unwrap();
    mesh.server.seen.until(|seen| matches!(seen, Seen::SocketClosed { open: 0, .. }).then_some(())).await;
    let seen = mesh.server.seen.all();
    assert!(!seen.iter().any(|seen| matches!(seen, Seen::Event(_))), "{seen:?}");
}
