//! What becomes of connections when certificates, roots and peers come and go, between assembled proxies.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use hbone::{Tunnel, client};
use mesh_identity::{
    CertSelector, ExpectedPeer, IdentitySource, IdentityStore, Revocation, RevocationPolicy,
    ServerConfigBuilder, SpiffeId, TlsSettings,
    testing::{Authority, provider},
};
use mesh_proxy::{
    Settings,
    state::{Change, Workload},
    telemetry::{Direction, ResponseFlag},
};
use support::{CLIENT, CLIENT_ID, Mesh, Node, PATIENCE, SERVER, SERVER_ID, Seen, application, settings};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// A pool and nothing beside it.
fn one_worker() -> (Settings, TlsSettings) {
    (settings().workers(NonZeroUsize::MIN), TlsSettings::default())
}

fn with_lists(revocation: &Revocation) -> (Settings, TlsSettings) {
    (settings(), TlsSettings::default().revocation(revocation.clone()))
}

async fn echoes(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"ping").await.unwrap();
    let mut ping = [0; 4];
    timeout(PATIENCE, server.read_exact(&mut ping)).await.unwrap().unwrap();
    server.write_all(&ping).await.unwrap();
    timeout(PATIENCE, client.read_exact(&mut ping)).await.unwrap().unwrap();
}

/// Waits until the server's proxy has closed a connection and so many are left.
async fn left(mesh: &Mesh, connections: usize) {
    let closed = |seen: &Seen| {
        matches!(seen, Seen::SocketClosed { direction: Direction::Inbound, open } if *open == connections)
            .then_some(())
    };
    mesh.server.seen.until(closed).await;
}

fn revoke(authority: &Authority, store: &IdentityStore, id: &str) -> String {
    let svid = store.try_svid(&id.parse().unwrap()).unwrap();
    authority.revocation_list().revoke(svid.chain().first().unwrap()).pem()
}

// hbone#74, identity#68
#[tokio::test]
async fn after_the_clients_renewal_connections_take_no_tunnels_and_close_with_their_last() {
    let mesh = Mesh::start_each(one_worker(), one_worker());
    let application = application().await;
    let (mut open, mut served) = mesh.open(&application).await;
    drop(mesh.open(&application).await);
    mesh.client.identities.insert(mesh.authority.svid(CLIENT_ID));
    drop(mesh.open(&application).await);
    let sources = mesh.server.seen.source_addresses();
    assert!(sources[0] == sources[1] && sources[1] != sources[2], "{sources:?}");
    echoes(&mut open, &mut served).await;
    // It does not wait for the pool's idle timeout, and the new one stays.
    drop((open, served));
    left(&mesh, 1).await;
}

// hbone#74, identity#68
#[tokio::test]
async fn after_the_servers_renewal_connections_take_no_tunnels_and_open_ones_live_on() {
    let mesh = Mesh::start_each(one_worker(), one_worker());
    let application = application().await;
    let (mut open, mut served) = mesh.open(&application).await;
    mesh.server.identities.insert(mesh.authority.svid(SERVER_ID));
    let another = async {
        loop {
            // None of them fails.
            drop(mesh.open(&application).await);
            let sources = mesh.server.seen.source_addresses();
            if sources.first() != sources.last() {
                return;
            }
        }
    };
    timeout(PATIENCE, another).await.expect("another connection");
    echoes(&mut open, &mut served).await;
    drop((open, served));
    left(&mesh, 1).await;
}

/// A client that the mesh knows, without a proxy, and what drives its connection.
async fn bare_client(mesh: &Mesh) -> (client::SendConnect, JoinHandle<Result<(), hbone::ConnectionError>>) {
    let (send, connection) = client::handshake(mesh.known_peer().await).await.unwrap();
    (send, tokio::spawn(connection))
}

// hbone#62, hbone#91: a request on its way to it would learn that it was not heard, and be made again.
#[tokio::test]
async fn a_connection_without_tunnels_ends_with_a_goodbye_when_a_drain_begins() {
    let mesh = Mesh::start_with(|settings| settings.drain_deadline(PATIENCE * 2));
    let (send, connection) = bare_client(&mesh).await;
    let request = || hbone::ConnectRequest::new("192.0.2.7:80".parse::<hbone::Destination>().unwrap());
    // Refused, since it is no address of the server's; so its proxy serves the connection by now.
    assert!(send.connect(request()).await.unwrap_err().status().is_some());
    mesh.server.drain.drain();
    timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
    assert!(send.connect(request()).await.unwrap_err().is_retryable());
    timeout(PATIENCE, mesh.server.running).await.unwrap().unwrap().unwrap();
}

// hbone#62, hbone#63: a client takes a goodbye better than a reset, and dials again.
#[tokio::test]
async fn a_handshake_under_way_at_a_drain_ends_in_a_goodbye() {
    let mesh = Mesh::start_with(|settings| settings.drain_deadline(PATIENCE * 2));
    let address = mesh.server.listening.inbound_hbone.unwrap();
    let accepted = TcpStream::connect(address).await.unwrap();
    let waiting = TcpStream::connect(address).await.unwrap();
    mesh.server.drain.drain();
    for stream in [accepted, waiting] {
        let stream = mesh.shake_hands_over(stream).await.unwrap();
        let (send, connection) = client::handshake(stream).await.unwrap();
        timeout(PATIENCE, connection).await.unwrap().unwrap();
        let request = hbone::ConnectRequest::new("192.0.2.7:80".parse::<hbone::Destination>().unwrap());
        assert!(send.connect(request).await.unwrap_err().is_retryable());
    }
    timeout(PATIENCE, mesh.server.running).await.unwrap().unwrap().unwrap();
}

// hbone#83
#[tokio::test]
async fn an_address_on_another_network_says_nothing_about_the_client() {
    let mesh = Mesh::start_with(|settings| settings.network("Net-A".into()));
    let mut client = Workload::clone(mesh.state.load().workload("c//Pod/shop/client").unwrap());
    client.network = "Net-A".into();
    client.addresses = vec!["127.0.0.1".parse().unwrap()];
    mesh.state.apply([Change::UpsertWorkload(Arc::new(client))]);
    let application = application().await;
    let to = hbone::Destination::from(application.local_addr().unwrap());
    for (network, is_known) in [(None, true), (Some("net-a"), true), (Some("net-b"), false)] {
        let (send, _driven) = bare_client(&mesh).await;
        let mut request = hbone::ConnectRequest::new(to.clone());
        if let Some(network) = network {
            request = request.with_forwarded_network(network.parse().unwrap());
        }
        let (tunnel, accepted) = tokio::join!(send.connect(request), application.accept());
        drop((tunnel.unwrap(), accepted.unwrap()));
        let opened = mesh.server.seen.all().into_iter().filter_map(|seen| match seen {
            Seen::Opened(meta) => Some(meta.source_workload.is_some()),
            _ => None,
        });
        assert_eq!(opened.last(), Some(is_known), "{network:?}");
    }
}

// hbone#12
#[tokio::test]
async fn a_connection_that_is_never_used_ends_with_a_goodbye() {
    let mesh = Mesh::start_with(|settings| settings.first_connect_timeout(Duration::from_millis(50)));
    let (_send, connection) = bare_client(&mesh).await;
    timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
}

// identity#67, identity#68
#[tokio::test]
async fn the_withdrawal_of_its_root_closes_an_open_tunnel() {
    let mesh = Mesh::start();
    let application = application().await;
    let (mut client, mut server) = mesh.open(&application).await;
    let next = Authority::new("example.org");
    mesh.server.identities.replace([next.svid(SERVER_ID)], next.bundles());
    for end in [&mut client, &mut server] {
        let read = timeout(PATIENCE, end.read(&mut [0; 1])).await.unwrap();
        assert!(read.is_err(), "a cut connection must not look complete");
    }
    let (flag, error) = mesh.server.seen.closed().await;
    let text = "connection closed: root of peer certificate withdrawn";
    assert_eq!((flag, error.as_deref()), (ResponseFlag::CertRevoked, Some(text)));
}

// identity#70, identity#72, hbone#66, telemetry#23
#[tokio::test]
async fn a_client_that_is_revoked_loses_what_is_open_and_gets_nothing_new() {
    let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
    let mesh = Mesh::start_each((settings(), TlsSettings::default()), with_lists(&revocation));
    let application = application().await;
    let (mut client, _server) = mesh.open(&application).await;
    revocation.load(revoke(&mesh.authority, &mesh.client.identities, CLIENT_ID).as_bytes()).unwrap();
    assert!(timeout(PATIENCE, client.read(&mut [0; 1])).await.unwrap().is_err());
    let (flag, error) = mesh.server.seen.closed().await;
    let text = "connection closed: peer certificate revoked by CRL";
    assert_eq!((flag, error.as_deref()), (ResponseFlag::CertRevoked, Some(text)));
    assert_eq!(revocation.counts().refused_clients, 1);

    let (_stream, reply) = mesh.connect(CLIENT, application.local_addr().unwrap()).await;
    assert_ne!(reply, 0);
    let refused = mesh.server.seen.refused().await;
    assert!(refused.contains("is revoked"), "{refused}");
    // A client of TLS 1.3 has done its part before it is refused, and tries again.
    assert!(revocation.counts().refused_clients > 1);
}

// identity#70, telemetry#23
#[tokio::test]
async fn a_server_that_is_revoked_is_left_and_not_dialled_again() {
    let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
    let mesh = Mesh::start_each(with_lists(&revocation), (settings(), TlsSettings::default()));
    let application = application().await;
    let (mut client, _server) = mesh.open(&application).await;
    revocation.load(revoke(&mesh.authority, &mesh.server.identities, SERVER_ID).as_bytes()).unwrap();
    assert!(timeout(PATIENCE, client.read(&mut [0; 1])).await.unwrap().is_err());
    let (flag, error) = mesh.client.seen.closed().await;
    let text = "connection closed: peer certificate revoked by CRL";
    assert_eq!((flag, error.as_deref()), (ResponseFlag::CertRevoked, Some(text)));

    let (_stream, reply) = mesh.connect(CLIENT, application.local_addr().unwrap()).await;
    assert_ne!(reply, 0);
    let failed = mesh.client.seen.until(|seen| match seen {
        Seen::Closed { flag: ResponseFlag::Connect, error, .. } => error.clone(),
        _ => None,
    });
    let error = failed.await;
    assert!(error.contains("is revoked"), "{error}");
    // Ended, and refused in a handshake.
    assert_eq!(revocation.counts().refused_servers, 2);
}

// identity §8: what the reference does not detect.
#[tokio::test]
async fn an_own_certificate_that_is_revoked_is_told_of() {
    let revocation = Revocation::new(RevocationPolicy::FAIL_OPEN);
    let mesh = Mesh::start_each((settings(), TlsSettings::default()), with_lists(&revocation));
    revocation.load(revoke(&mesh.authority, &mesh.server.identities, SERVER_ID).as_bytes()).unwrap();
    let told = |seen: &Seen| match seen {
        Seen::Event(event) if event.starts_with("OwnCertificateRevoked") => Some(event.clone()),
        _ => None,
    };
    let event = mesh.server.seen.until(told).await;
    assert!(event.contains(SERVER_ID), "{event}");
}

#[tokio::test]
async fn a_connection_ends_at_its_age_and_nobody_failed() {
    let aged = (settings().max_connection_age(Some(Duration::ZERO)), TlsSettings::default());
    let mesh = Mesh::start_each((settings(), TlsSettings::default()), aged);
    let application = application().await;
    let asked = async {
        loop {
            let (stream, reply) = mesh.connect(CLIENT, application.local_addr().unwrap()).await;
            // A connection of this age may have ended before it carried anything.
            if reply == 0 {
                break stream;
            }
        }
    };
    let mut client = timeout(PATIENCE, asked).await.unwrap();
    assert!(timeout(PATIENCE, client.read(&mut [0; 1])).await.unwrap().is_err());
    let text = "connection closed: as old as connections may be";
    let ended = mesh.server.seen.until(|seen| match seen {
        Seen::Closed { flag, error: Some(error), .. } if error == text => Some(*flag),
        _ => None,
    });
    assert_eq!(ended.await, ResponseFlag::None);
}

// design §5
#[tokio::test]
async fn a_workload_that_is_removed_takes_its_pooled_connections_along() {
    let mesh = Mesh::start_each(one_worker(), one_worker());
    let application = application().await;
    drop(mesh.open(&application).await);
    mesh.state.apply([Change::RemoveWorkload("c//Pod/shop/server".into())]);
    left(&mesh, 0).await;
}

/// The far end of an HBONE connection, under the test's control.
struct Peer {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Peer {
    /// Starts a client's proxy, and a peer at the place where it dials.
    async fn of(authority: &Authority, settings: Settings) -> (Self, Node) {
        let id: SpiffeId = SERVER_ID.parse().unwrap();
        let config = ServerConfigBuilder::new(provider())
            .identity(authority.store([SERVER_ID]), CertSelector::fixed(id))
            .expect_peer(ExpectedPeer::trust_domain("example.org".parse().unwrap()))
            .build()
            .unwrap();
        loop {
            let client = Node::client_alone(authority, settings.clone());
            let port = client.listening.inbound_hbone.unwrap().port();
            if let Ok(listener) = TcpListener::bind((SERVER, port)).await {
                return (Self { listener, acceptor: TlsAcceptor::from(Arc::clone(&config)) }, client);
            }
        }
    }

    /// A tunnel that an application opens, both ends of it, and the new connection it came on: that one goes on only if
    /// it is polled.
    async fn serve(&self, client: &Node) -> (TcpStream, Tunnel, Connection) {
        let (stream, tunnel, connection, _) = self.serve_tapped(client).await;
        (stream, tunnel, connection)
    }

    /// The same with what the client sends on the connection, up to its end.
    async fn serve_tapped(&self, client: &Node) -> (TcpStream, Tunnel, Connection, JoinHandle<Vec<u8>>) {
        let to = format!("{SERVER}:8080").parse().unwrap();
        let mut ends = None;
        let mut received = None;
        let serve = async {
            let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("a dial").unwrap();
            let (near, far) = tokio::io::duplex(1 << 16);
            received = Some(tokio::spawn(tap(self.acceptor.accept(stream).await.unwrap(), far)));
            let mut connection = hbone::server::handshake(near).await.unwrap();
            let tunnel = connection.accept().await.unwrap().unwrap().accept().unwrap();
            let (_, connection) = ends.insert((tunnel, connection));
            // Until the client has its answer.
            let _ = connection.accept().await;
        };
        let (stream, reply) = tokio::select! {
            connected = client.connect(CLIENT, to) => connected,
            () = serve => panic!("the connection ended"),
        };
        assert_eq!(reply, 0);
        let (tunnel, connection) = ends.unwrap();
        (stream, tunnel, connection, received.unwrap())
    }
}

type Connection = hbone::server::Connection<DuplexStream>;

/// Carries bytes between two streams until the first ends, and returns what that sent.
async fn tap(stream: impl AsyncRead + AsyncWrite, other: DuplexStream) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(stream);
    let (mut from_other, mut to_other) = tokio::io::split(other);
    let mut sent = Vec::new();
    let there = async {
        let mut piece = bytes::BytesMut::new();
        while let Ok(1..) = from.read_buf(&mut piece).await {
            sent.extend_from_slice(&piece);
            if to_other.write_all_buf(&mut piece).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let _ = tokio::io::copy(&mut from_other, &mut to).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
    sent
}

// hbone#73
#[tokio::test]
async fn a_peer_that_falls_silent_is_left_for_another_connection() {
    let authority = Authority::new("example.org");
    let silence = Duration::from_millis(100);
    let (peer, client) = Peer::of(&authority, one_worker().0.pool_keepalive(silence, silence)).await;
    let (mut stream, _tunnel, _connection) = peer.serve(&client).await;
    assert!(timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap().is_err());
    // The other connection is still there as far as the network is concerned.
    let _another = peer.serve(&client).await;
}

// hbone#62
#[tokio::test]
async fn a_drained_proxy_takes_leave_of_the_peers_in_its_pool() {
    let authority = Authority::new("example.org");
    let (peer, client) = Peer::of(&authority, one_worker().0).await;
    let (stream, tunnel, connection, received) = peer.serve_tapped(&client).await;
    drop((stream, tunnel));
    tokio::spawn(async move {
        let mut connection = connection;
        while connection.accept().await.is_some() {}
    });
    client.drain.drain();
    timeout(PATIENCE, client.running).await.unwrap().unwrap().unwrap();
    let received = timeout(PATIENCE, received).await.unwrap().unwrap();
    assert!(frames(&received).contains(&GOAWAY), "{:?}", frames(&received));
}

/// The types of the frames that a client sent (RFC 9113 §3.4, §4.1).
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    bytes = bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    while let Some((header, rest)) = bytes.split_first_chunk::<9>() {
        types.push(header[3]);
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        bytes = rest.get(usize::try_from(length).unwrap()..).unwrap_or_default();
    }
    types
}

const GOAWAY: u8 = 0x07;
