//! Two assembled proxies over loopback: what travels, who is let in, and how everything ends.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{
    io::ErrorKind,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use mesh_identity::{
    IdentitySource, IdentityStore, SpiffeId, SvidFuture, TrustBundles, X509Svid,
    testing::{self, Authority},
};
use mesh_policy::{Action, Clause, Match, MissingPolicy, Policy, PolicyName, Rule, Scope, StringMatch};
use mesh_proxy::{
    ListenAddresses, Proxy, RunError, Settings,
    state::{Change, ServiceName, StateStore, Workload},
    telemetry::{DRAIN_TEXT, Direction, ResetBy, ResponseFlag, Transport},
};
use support::{
    CLIENT, CLIENT_ID, CLIENT_TOO, HOSTNAME, Mesh, PATIENCE, SERVER_ID, Seen, VIP, application, dialled, key,
    silent_application, silent_application_at,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpListener, TcpStream},
    time::timeout,
};

fn policy(name: &str, action: Action, principal: &str) -> Policy {
    Policy {
        name: PolicyName::new("shop", name),
        scope: Scope::Namespace,
        action,
        dry_run: false,
        rules: vec![Rule {
            clauses: vec![Clause {
                matches: vec![Match {
                    principals: vec![StringMatch::Exact(principal.into())],
                    ..Match::default()
                }],
            }],
        }],
    }
}

fn deny_client() -> Policy {
    policy("deny-client", Action::Deny, "example.org/ns/shop/sa/client")
}

#[tokio::test]
async fn bytes_and_identities_travel_in_both_directions() {
    let mesh = Mesh::start();
    let application = application().await;
    let (mut client, mut server) = mesh.open(&application).await;
    client.write_all(b"question").await.unwrap();
    let mut question = [0; 8];
    server.read_exact(&mut question).await.unwrap();
    server.write_all(b"answer").await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!((&question, &answer), (b"question", b"answer"));
    drop((client, server));

    for node in [&mesh.client, &mesh.server] {
        assert_eq!(node.seen.closed().await, (ResponseFlag::None, None));
        let meta = node.seen.until(|seen| match seen {
            Seen::Opened(meta) => Some(meta.clone()),
            _ => None,
        });
        let meta = meta.await;
        assert_eq!(meta.source_identity.unwrap().as_str(), CLIENT_ID);
        assert_eq!(meta.destination_identity.unwrap().as_str(), SERVER_ID);
        assert_eq!(
            meta.hbone_destination.unwrap().to_string(),
            application.local_addr().unwrap().to_string()
        );
        assert_eq!(meta.source.ip().to_string(), CLIENT);
        // telemetry#9, telemetry#10: received is from the client on both sides.
        let counts = node.seen.until(|seen| match seen {
            Seen::Closed { received, sent, .. } => Some((*received, *sent)),
            _ => None,
        });
        assert_eq!(counts.await, (8, 6));
    }
}

/// routing#78, sockets#49
#[tokio::test]
async fn each_direction_ends_on_its_own() {
    let mesh = Mesh::start();
    let application = application().await;
    let (mut client, mut server) = mesh.open(&application).await;
    client.write_all(b"all of it").await.unwrap();
    client.shutdown().await.unwrap();
    let mut request = Vec::new();
    server.read_to_end(&mut request).await.unwrap();
    assert_eq!(request, b"all of it");
    server.write_all(b"still here").await.unwrap();
    server.shutdown().await.unwrap();
    let mut response = Vec::new();
    client.read_to_end(&mut response).await.unwrap();
    assert_eq!(response, b"still here");
}

/// routing#79, hbone#54
#[tokio::test]
async fn a_reset_stays_a_reset() {
    let mesh = Mesh::start();
    let application = application().await;
    let (mut client, server) = mesh.open(&application).await;
    server.set_zero_linger().unwrap();
    drop(server);
    let error = client.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // telemetry#24: an end like any other.
    assert_eq!(mesh.client.seen.closed().await, (ResponseFlag::None, None));
    for node in [&mesh.client, &mesh.server] {
        assert_eq!(node.seen.reset().await, ResetBy::Upstream);
    }
}

#[tokio::test]
async fn a_reset_by_the_client_is_told_as_such_on_both_sides() {
    let mesh = Mesh::start();
    let application = application().await;
    let (client, mut server) = mesh.open(&application).await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(server.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    for node in [&mesh.client, &mesh.server] {
        assert_eq!(node.seen.reset().await, ResetBy::Downstream);
    }
}

/// routing#105: as a server does that refuses an upload before it has read it.
#[tokio::test]
async fn an_answer_arrives_though_its_server_closes_without_having_read_all() {
    let mesh = Mesh::start();
    let application = application().await;
    for _ in 0..20 {
        let (mut client, mut server) = mesh.open(&application).await;
        client.write_all(&[7; 1000]).await.unwrap();
        assert_eq!(server.peek(&mut [0; 1]).await.unwrap(), 1);
        server.write_all(b"too large").await.unwrap();
        // With bytes unread the kernel makes a reset of it.
        drop(server);
        let mut answer = Vec::new();
        let error = timeout(PATIENCE, client.read_to_end(&mut answer)).await.unwrap().unwrap_err();
        assert_eq!((&*answer, error.kind()), (&b"too large"[..], ErrorKind::ConnectionReset));
    }
}

/// hbone#56: otherwise what has closed at one end stays open at the other until that speaks.
#[tokio::test]
async fn a_reset_by_who_has_finished_reaches_a_silent_client() {
    let mesh = Mesh::start();
    let application = application().await;
    let (mut client, mut server) = mesh.open(&application).await;
    server.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    server.set_zero_linger().unwrap();
    drop(server);
    for node in [&mesh.server, &mesh.client] {
        assert_eq!(node.seen.reset().await, ResetBy::Upstream);
    }
    timeout(PATIENCE, client.ready(Interest::ERROR)).await.unwrap().unwrap();
}

/// sockets#62
#[tokio::test]
async fn a_half_open_connection_that_stays_silent_is_reset_at_both_ends() {
    let limit = Duration::from_millis(50);
    let mesh = Mesh::start_with(|settings| settings.half_open_timeout(Some(limit)));
    let application = application().await;
    let (mut client, mut server) = mesh.open(&application).await;
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    let error = timeout(PATIENCE, client.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    while server.write_all(b"x").await.is_ok() {}
    let (flag, error) = mesh.server.seen.closed().await;
    assert_eq!(
        (flag, error.unwrap()),
        (ResponseFlag::None, "half-closed connection silent for 50ms".to_owned())
    );
}

/// hbone#37, telemetry#19, routing#64
#[tokio::test]
async fn a_denied_client_reaches_nothing_and_the_record_says_why() {
    let mesh = Mesh::start();
    mesh.state.apply([Change::UpsertPolicy(deny_client())]);
    let application = application().await;
    let (_stream, reply) = mesh.connect(CLIENT, application.local_addr().unwrap()).await;
    assert_eq!(reply, 2, "not allowed, but {:?}", mesh.client.seen.all());
    let (flag, error) = mesh.server.seen.closed().await;
    assert_eq!(flag, ResponseFlag::Deny);
    assert_eq!(
        error.unwrap(),
        "connection closed due to policy rejection: explicitly denied by: shop/deny-client"
    );
    let (flag, error) = mesh.client.seen.closed().await;
    assert_eq!((flag, error.unwrap().as_str()), (ResponseFlag::Connect, "http status: 401 Unauthorized"));
}

/// hbone#65, policy#48, routing#73
#[tokio::test]
async fn a_policy_that_comes_later_closes_what_it_denies() {
    let mesh = Mesh::start();
    let application = application().await;
    let (mut client, _server) = mesh.open(&application).await;
    mesh.state.apply([Change::UpsertPolicy(policy("other", Action::Deny, "example.org/ns/shop/sa/other"))]);
    mesh.state.apply([Change::UpsertPolicy(deny_client())]);
    let error = timeout(PATIENCE, client.read(&mut [0; 1])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let (flag, error) = mesh.server.seen.closed().await;
    assert_eq!(
        (flag, error.unwrap().as_str()),
        (ResponseFlag::Deny, "connection closed due to policy change")
    );
}

/// hbone#65: also while the application has not answered yet.
#[tokio::test]
async fn a_policy_that_comes_while_the_application_is_dialled_ends_the_dial() {
    let mesh = Mesh::start();
    let (silent, _queue) = silent_application().await;
    let denied = async {
        dialled(silent).await;
        mesh.state.apply([Change::UpsertPolicy(deny_client())]);
    };
    let ((_stream, reply), ()) = tokio::join!(mesh.connect(CLIENT, silent), denied);
    assert_eq!(reply, 2, "not allowed");
    let (flag, error) = mesh.server.seen.closed().await;
    assert_eq!(
        (flag, error.unwrap().as_str()),
        (ResponseFlag::Deny, "connection closed due to policy change")
    );
}

/// telemetry#24
#[tokio::test]
async fn a_client_that_gives_up_ends_the_dial() {
    let mesh = Mesh::start();
    let (silent, _queue) = silent_application().await;
    let _application = mesh.ask(CLIENT, silent).await;
    dialled(silent).await;
    mesh.client.drain.drain_within(Duration::ZERO);
    let error = Some("client gave up before it was answered".to_owned());
    assert_eq!(mesh.server.seen.closed().await, (ResponseFlag::None, error));
}

/// telemetry#24: through a tunnel, where both proxies give up, and in plain text.
#[tokio::test]
async fn an_application_that_resets_ends_the_dial_for_it() {
    let mesh = Mesh::start();
    let given_up = (ResponseFlag::None, Some("client gave up before it was answered".to_owned()));
    let (silent, _queue) = silent_application().await;
    let application = mesh.ask(CLIENT, silent).await;
    dialled(silent).await;
    application.set_zero_linger().unwrap();
    drop(application);
    assert_eq!(mesh.client.seen.closed().await, given_up);
    assert_eq!(mesh.server.seen.closed().await, given_up);

    let mesh = Mesh::start();
    let (silent, _queue) = silent_application_at("127.0.0.77").await;
    let application = mesh.ask(CLIENT, silent).await;
    dialled(silent).await;
    application.set_zero_linger().unwrap();
    drop(application);
    assert_eq!(mesh.client.seen.closed().await, given_up);
}

/// policy#21, policy#49
#[tokio::test]
async fn a_listed_policy_that_never_arrives_denies_by_name() {
    let mesh = Mesh::start_with(|settings| settings.missing_policy_wait(Duration::from_millis(50)));
    let mut server = Workload::clone(mesh.state.load().workload("c//Pod/shop/server").unwrap());
    server.authorization_policies = vec![PolicyName::new("shop", "in-flight")];
    mesh.state.apply([Change::UpsertWorkload(Arc::new(server))]);
    let application = application().await;
    let (_stream, reply) = mesh.connect(CLIENT, application.local_addr().unwrap()).await;
    assert_eq!(reply, 2, "not allowed");
    let (flag, error) = mesh.server.seen.closed().await;
    assert_eq!(flag, ResponseFlag::Deny);
    assert!(error.unwrap().contains("shop/in-flight"));
}

#[tokio::test]
async fn a_listed_policy_that_arrives_in_time_decides() {
    let mesh = Mesh::start_with(|settings| settings.missing_policy_wait(PATIENCE));
    let mut server = Workload::clone(mesh.state.load().workload("c//Pod/shop/server").unwrap());
    server.authorization_policies = vec![PolicyName::new("shop", "allow-client")];
    mesh.state.apply([Change::UpsertWorkload(Arc::new(server))]);
    let application = application().await;
    let to = application.local_addr().unwrap();
    let arrives = async {
        let opened = mesh.server.seen.until(|seen| matches!(seen, Seen::Opened(_)).then_some(()));
        opened.await;
        let mut allow = policy("allow-client", Action::Allow, "example.org/ns/shop/sa/client");
        allow.scope = Scope::WorkloadSelector;
        mesh.state.apply([Change::UpsertPolicy(allow)]);
    };
    let ((_stream, reply), ()) = tokio::join!(mesh.connect(CLIENT, to), arrives);
    assert_eq!(reply, 0);
}

/// hbone#38, routing#46, routing#64
#[tokio::test]
async fn a_closed_port_is_refused_at_once() {
    let mesh = Mesh::start();
    let closed = application().await;
    let to = closed.local_addr().unwrap();
    drop(closed);
    let (_stream, reply) = mesh.connect(CLIENT, to).await;
    assert_eq!(reply, 5, "connection refused");
    let (flag, error) = mesh.server.seen.closed().await;
    assert_eq!(flag, ResponseFlag::Connect);
    assert!(error.unwrap().starts_with("connection failed: Connection refused"));
    let (_, error) = mesh.client.seen.closed().await;
    assert_eq!(error.unwrap(), "http status: 503 Service Unavailable");
}

/// hbone#68: the receiver sees each client address as the source of a connection of its own.
#[tokio::test]
async fn two_client_addresses_never_share_a_connection() {
    let mesh = Mesh::start();
    let application = application().await;
    let to = application.local_addr().unwrap();
    for source in [CLIENT, CLIENT_TOO] {
        let (_stream, reply) = mesh.connect(source, to).await;
        assert_eq!(reply, 0);
    }
    let sources: Vec<_> = mesh.server.seen.sources().iter().map(ToString::to_string).collect();
    assert_eq!(sources, [CLIENT, CLIENT_TOO]);
}

/// hbone#12, sockets#63, routing#99
#[tokio::test]
async fn a_silent_peer_is_closed() {
    let mesh = Mesh::start_with(|settings| settings.handshake_timeout(Duration::from_millis(50)));
    let mut silent = TcpStream::connect(mesh.server.listening.inbound_hbone.unwrap()).await.unwrap();
    assert_eq!(timeout(PATIENCE, silent.read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    assert!(mesh.server.seen.refused().await.starts_with("tls handshake not finished"));
}

/// hbone#93: there is no certificate to choose, so nothing is said at all; the wait is 5 s by default.
#[tokio::test]
async fn a_peer_of_a_workload_that_discovery_does_not_know_gets_no_handshake() {
    let mesh = Mesh::start_with(|settings| settings.local_workload_wait(Duration::from_millis(50)));
    mesh.state.apply([Change::RemoveWorkload("c//Pod/shop/server".into())]);
    assert!(timeout(PATIENCE, mesh.shake_hands()).await.unwrap().is_err());
    let refused = mesh.server.seen.refused().await;
    assert!(refused.starts_with("failed to fetch information about local workload"), "{refused}");
}

/// hbone#12: strangers take none of the places of the workload's own connections.
#[tokio::test]
async fn a_stranger_too_many_is_closed_at_once() {
    let mesh = Mesh::start_with(|settings| {
        settings.workers(NonZeroUsize::MIN).max_handshakes_per_worker(2).handshake_timeout(PATIENCE * 2)
    });
    let listener = mesh.server.listening.inbound_hbone.unwrap();
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(TcpStream::connect(listener).await.unwrap());
    }
    assert_eq!(timeout(PATIENCE, strangers[2].read(&mut [0; 1])).await.unwrap().unwrap(), 0);
    assert_eq!(mesh.server.seen.refused().await, "more than 2 handshakes under way");
    // One who leaves makes room.
    strangers.remove(0);
    let application = application().await;
    let accept = async { while application.accept().await.is_ok() {} };
    let connect = async { while mesh.connect(CLIENT, application.local_addr().unwrap()).await.1 != 0 {} };
    tokio::select! {
        connected = timeout(PATIENCE, connect) => connected.unwrap(),
        () = accept => {}
    }
}

/// Identities whose source breaks at a moment of our choice.
#[derive(Debug)]
struct Breaking {
    identities: IdentityStore,
    broken: AtomicBool,
}

impl IdentitySource for Breaking {
    fn svid<'a>(&'a self, id: &'a SpiffeId) -> SvidFuture<'a> {
        self.identities.svid(id)
    }

    fn try_svid(&self, id: &SpiffeId) -> Option<Arc<X509Svid>> {
        self.identities.try_svid(id)
    }

    fn bundles(&self) -> Arc<TrustBundles> {
        self.identities.bundles()
    }

    fn generation(&self) -> u64 {
        assert!(!self.broken.load(Ordering::Relaxed), "a panic that this test wants");
        self.identities.generation()
    }
}

/// Or it would go on without anybody who closes what a policy or a revocation forbids.
#[tokio::test]
async fn a_proxy_whose_watch_over_open_connections_panics_ends() {
    let identities = Authority::new("example.org").store([SERVER_ID]);
    let identities = Arc::new(Breaking { identities, broken: AtomicBool::new(false) });
    let state = Arc::new(StateStore::new(None, MissingPolicy::Deny));
    let source = Arc::clone(&identities) as Arc<dyn IdentitySource>;
    let settings = Settings::default().workers(NonZeroUsize::new(2).unwrap()).listen(ListenAddresses {
        socks5: Some("127.0.0.1:0".parse().unwrap()),
        ..ListenAddresses::default()
    });
    let proxy = Proxy::builder(key("server"), state, source, &testing::provider()).settings(settings).build();
    let proxy = proxy.unwrap();
    let drain = proxy.drain_handle();
    let running = tokio::spawn(proxy.run());
    identities.broken.store(true, Ordering::Relaxed);
    let ended = timeout(PATIENCE, running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RunError::Panic)));
    // Nothing of it is left behind.
    assert!(drain.is_draining());
}

#[tokio::test]
async fn a_silent_peer_does_not_delay_the_drain() {
    let mesh = Mesh::start_with(|settings| settings.drain_deadline(PATIENCE * 2));
    let mut silent = TcpStream::connect(mesh.server.listening.inbound_hbone.unwrap()).await.unwrap();
    let plain = TcpStream::connect(mesh.server.listening.inbound_hbone.unwrap()).await.unwrap();
    mesh.server.drain.drain();
    timeout(PATIENCE, mesh.server.running).await.unwrap().unwrap().unwrap();
    // Closed in whatever way: nobody is there any more.
    let _ = silent.read(&mut [0; 1]).await;
    drop(plain);
}

/// routing#42, sockets#6: without redirection the proxy is its own destination.
#[tokio::test]
async fn a_connection_made_to_a_capture_port_itself_is_refused() {
    let mesh = Mesh::start();
    for address in [mesh.client.listening.outbound, mesh.client.listening.inbound_plaintext] {
        // The reset may overtake the news of the connection.
        if let Ok(mut stream) = TcpStream::connect(address.unwrap()).await {
            let read = timeout(PATIENCE, stream.read(&mut [0; 1])).await.unwrap();
            assert!(matches!(read, Ok(0) | Err(_)));
        }
    }
    for direction in [Direction::Outbound, Direction::Inbound] {
        let error = mesh.client.seen.until(|seen| match seen {
            Seen::Refused { direction: refused, error } if *refused == direction => Some(error.clone()),
            _ => None,
        });
        assert_eq!(error.await, "attempted recursive call to ourselves");
    }
}

/// sockets#52, hbone#62, routing#98
#[tokio::test]
async fn a_drain_waits_for_open_connections_and_takes_no_new_ones() {
    let mesh = Mesh::start_with(|settings| settings.drain_deadline(PATIENCE * 2));
    let application = application().await;
    let (mut client, mut server) = mesh.open(&application).await;
    mesh.server.drain.drain();
    let to = application.local_addr().unwrap();
    let refused = async {
        loop {
            // Until the listeners are gone a connection may still slip in; it must be served or refused, never lost.
            let (_stream, reply) = mesh.connect(CLIENT, to).await;
            if reply != 0 {
                return;
            }
        }
    };
    let accept_what_slips_in = async {
        loop {
            drop(application.accept().await);
        }
    };
    tokio::select! {
        done = timeout(PATIENCE, refused) => done.unwrap(),
        () = accept_what_slips_in => {}
    }
    client.write_all(b"ping").await.unwrap();
    let mut ping = [0; 4];
    server.read_exact(&mut ping).await.unwrap();
    drop((client, server));
    timeout(PATIENCE, mesh.server.running).await.unwrap().unwrap().unwrap();
}

/// telemetry#25, routing#107, routing#98
#[tokio::test]
async fn what_outlives_the_drain_is_cut_and_reported() {
    let mesh = Mesh::start_with(|settings| settings.drain_deadline(Duration::from_millis(50)));
    let application = application().await;
    let (mut client, mut server) = mesh.open(&application).await;
    mesh.server.drain.drain();
    timeout(PATIENCE, mesh.server.running).await.unwrap().unwrap().unwrap();
    assert_eq!(mesh.server.seen.closed().await, (ResponseFlag::None, Some(DRAIN_TEXT.to_owned())));
    for end in [&mut client, &mut server] {
        let read = timeout(PATIENCE, end.read(&mut [0; 1])).await.unwrap();
        assert!(read.is_err(), "a cut connection must not look complete");
    }
}

/// The same on the side of the client's proxy, for a tunnel and for a connection passed through.
#[tokio::test]
async fn a_cut_resets_what_the_local_application_opened() {
    for outside in ["127.0.1.2:0", "127.0.1.9:0"] {
        let mesh = Mesh::start();
        let application = TcpListener::bind(outside).await.unwrap();
        let (mut client, mut server) = mesh.open(&application).await;
        mesh.client.drain.drain_within(Duration::from_millis(50));
        timeout(PATIENCE, mesh.client.running).await.unwrap().unwrap().unwrap();
        for end in [&mut client, &mut server] {
            let read = timeout(PATIENCE, end.read(&mut [0; 1])).await.unwrap();
            assert!(read.is_err(), "a cut connection must not look complete");
        }
    }
}

/// routing#79
#[tokio::test]
async fn a_reset_is_seen_while_the_other_side_does_not_read() {
    let mesh = Mesh::start();
    let application = application().await;
    let (mut client, _server) = mesh.open(&application).await;
    let piece = vec![0; 1 << 20];
    while timeout(Duration::from_millis(200), client.write_all(&piece)).await.is_ok() {}
    client.set_zero_linger().unwrap();
    drop(client);
    for node in [&mesh.client, &mesh.server] {
        assert_eq!(node.seen.closed().await, (ResponseFlag::None, None));
    }
}

/// routing#3, telemetry#8
#[tokio::test]
async fn an_unknown_address_is_passed_through() {
    let mesh = Mesh::start();
    let outside = TcpListener::bind("127.0.1.9:0").await.unwrap();
    let (_stream, reply) = mesh.connect(CLIENT, outside.local_addr().unwrap()).await;
    assert_eq!(reply, 0);
    let meta = mesh.client.seen.until(|seen| match seen {
        Seen::Opened(meta) => Some(meta.clone()),
        _ => None,
    });
    let meta = meta.await;
    assert_eq!((meta.transport, meta.destination), (Transport::Tcp, outside.local_addr().unwrap()));
    assert!(meta.destination_workload.is_none());
}

/// routing#1, routing#80
#[tokio::test]
async fn a_service_is_reached_by_address_and_by_name() {
    let mesh = Mesh::start();
    let application = application().await;
    mesh.serve(application.local_addr().unwrap().port());
    let by_address = mesh.connect(CLIENT, format!("{VIP}:80").parse().unwrap());
    let ((_stream, reply), _) = tokio::join!(by_address, application.accept());
    assert_eq!(reply, 0);
    let ((_stream, reply), _) = tokio::join!(mesh.connect_by_name(HOSTNAME, 80), application.accept());
    assert_eq!(reply, 0);
    let services = mesh.client.seen.all().into_iter().filter_map(|seen| match seen {
        Seen::Opened(meta) => Some(meta.destination_service.unwrap().hostname().to_string()),
        _ => None,
    });
    assert_eq!(services.collect::<Vec<_>>(), [HOSTNAME, HOSTNAME]);
}

/// hbone#79, routing#22: what only a tunnel within a tunnel would reach is not reached at all, as long as there is none.
#[tokio::test]
async fn a_service_of_another_network_is_never_dialled_directly() {
    let mesh = Mesh::start();
    let far = TcpListener::bind("127.0.1.9:0").await.unwrap();
    mesh.serve(far.local_addr().unwrap().port());
    let name = ServiceName::new("shop", HOSTNAME);
    let mut remote = Workload::new("c//Pod/shop/remote", "example.org", "shop", "server").unwrap();
    remote.network = "net-b".into();
    remote.addresses = vec![far.local_addr().unwrap().ip()];
    remote.services = vec![(name, [(80, far.local_addr().unwrap().port())].into_iter().collect())];
    let server = mesh.state.load().workload("c//Pod/shop/server").cloned().unwrap();
    let mut server = Workload::clone(&server);
    server.services.clear();
    let changes = [remote, server].map(|workload| Change::UpsertWorkload(Arc::new(workload)));
    mesh.state.apply(changes);
    let (_stream, reply) = mesh.connect(CLIENT, format!("{VIP}:80").parse().unwrap()).await;
    assert_ne!(reply, 0);
    assert_eq!(mesh.client.seen.refused().await, format!("no route to another network: {VIP}:80"));
    assert!(far.accept().now_or_never().is_none());
}

/// routing#5
#[tokio::test]
async fn a_port_that_a_service_lacks_is_never_passed_through() {
    let mesh = Mesh::start();
    mesh.serve(application().await.local_addr().unwrap().port());
    let (_stream, reply) = mesh.connect(CLIENT, format!("{VIP}:81").parse().unwrap()).await;
    assert_eq!(reply, 1, "general failure");
    assert_eq!(mesh.client.seen.refused().await, format!("no healthy upstream: {VIP}:81"));
}

#[tokio::test]
async fn a_name_the_mesh_does_not_know_is_no_host() {
    let mesh = Mesh::start();
    let (_stream, reply) = mesh.connect_by_name("unknown.example.org", 80).await;
    assert_eq!(reply, 4, "host unreachable");
}
