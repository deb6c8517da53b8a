//! Envoy opens tunnels to our inbound.

use std::{io::Read, net::Shutdown};

use examples::lab::{self, Behaviour, Tally, Workspace};

use super::{identity, scene::Pair};
use crate::{
    fixture::ping,
    runner::{Family, cases},
};

cases![
    a_denied_connection_is_closed,
    a_foreign_certificate_is_refused,
    a_port_nobody_serves_closes_the_connection,
    bytes_are_exchanged,
    many_bytes_arrive_intact_both_ways,
    many_connections_are_open_at_once,
    no_certificate_is_refused,
    the_client_may_finish_first,
    the_server_may_finish_first,
];

// hbone#31, hbone#85
fn bytes_are_exchanged(workspace: &Workspace, family: Family) {
    let Some(pair) = Pair::from_envoy(workspace, family) else { return };
    let app = pair.scene.serve(Behaviour::Echo);
    let mut stream = pair.scene.connect();
    ping(&mut stream, b"hello from envoy");
    drop(stream);
    // Seen by the application as if there were no proxies.
    assert_eq!(app.finished(1)[0].peer.ip(), pair.scene.address(&pair.scene.client));

    let record = pair.ours.access(|record| record.message() == "connection complete");
    for (field, value) in [
        ("direction", "inbound"),
        ("src.identity", "spiffe://cluster.local/ns/default/sa/client"),
        ("dst.hbone_addr", &pair.scene.app().to_string()),
        ("bytes_sent", "16"),
        ("bytes_recv", "16"),
    ] {
        assert_eq!(record.field(field), Some(value), "{field} in {record:?}");
    }
    for agreed in ["ssl.versions.TLSv1.3", "ssl.curves.X25519MLKEM768"] {
        assert_eq!(pair.envoy.statistic(&format!("cluster.upstream.{agreed}")).unwrap(), 1, "{agreed}");
    }
}

// hbone#59
fn many_bytes_arrive_intact_both_ways(workspace: &Workspace, family: Family) {
    const BYTES: u64 = 64 * 1024 * 1024;
    let Some(pair) = Pair::from_envoy(workspace, family) else { return };
    let app = pair.scene.serve(Behaviour::Exchange { bytes: BYTES });
    let stream = pair.scene.connect();
    let mut received = Tally::default();
    lab::exchange(&stream, BYTES, &mut received).unwrap();
    assert_eq!((received.bytes(), received.is_intact()), (BYTES, true));
    let visit = &app.finished(1)[0];
    assert_eq!(visit.error, None);
    assert_eq!((visit.received.bytes(), visit.received.is_intact()), (BYTES, true));
}

fn many_connections_are_open_at_once(workspace: &Workspace, family: Family) {
    const CONNECTIONS: usize = 200;
    let Some(pair) = Pair::from_envoy(workspace, family) else { return };
    let app = pair.scene.serve(Behaviour::Echo);
    let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| pair.scene.connect()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        ping(stream, format!("number {number}").as_bytes());
    }
    // The first still lives when the last does.
    streams.iter_mut().for_each(|stream| ping(stream, b"again"));
    drop(streams);
    assert_eq!(app.finished(CONNECTIONS).len(), CONNECTIONS);
}

// hbone#38
fn a_port_nobody_serves_closes_the_connection(workspace: &Workspace, family: Family) {
    let Some(pair) = Pair::from_envoy(workspace, family) else { return };
    assert!(pair.scene.is_refused());
    let record = pair.ours.access(|record| record.level() == "error");
    assert!(record.field("error").unwrap().starts_with("connection failed: "), "{record:?}");

    // The connection that carried the refusal carries what comes next.
    let _app = pair.scene.serve(Behaviour::Echo);
    ping(&mut pair.scene.connect(), b"somebody now");
    assert_eq!(pair.envoy.statistic("cluster.upstream.upstream_cx_total").unwrap(), 1);
}

// hbone#37
fn a_denied_connection_is_closed(workspace: &Workspace, family: Family) {
    const POLICY: &str = "name: deny\nnamespace: default\nscope: Namespace\naction: Deny\ndryRun: false\n\
                          rules:\n- - - principals: [!Exact cluster.local/ns/default/sa/client]";
    let pair =
        Pair::from_envoy_as(workspace, family, Some(POLICY), |it, id| it.identity(identity::trusted(id)));
    let Some(pair) = pair else { return };
    let app = pair.scene.serve(Behaviour::Echo);
    assert!(pair.scene.is_refused());
    assert!(app.peers().is_empty());
    let record = pair.ours.access(|record| record.level() == "error");
    let error = record.field("error").unwrap();
    assert!(error.ends_with("explicitly denied by: default/deny"), "{error}");
}

// hbone#3
fn no_certificate_is_refused(workspace: &Workspace, family: Family) {
    let Some(pair) = Pair::from_envoy_as(workspace, family, None, |it, _id| it) else { return };
    is_refused_in_tls(&pair);
}

fn a_foreign_certificate_is_refused(workspace: &Workspace, family: Family) {
    let pair = Pair::from_envoy_as(workspace, family, None, |it, id| it.identity(identity::foreign(id)));
    let Some(pair) = pair else { return };
    is_refused_in_tls(&pair);
}

fn is_refused_in_tls(pair: &Pair<'_>) {
    let app = pair.scene.serve(Behaviour::Echo);
    assert!(pair.scene.is_refused());
    assert!(app.peers().is_empty());
    let record = pair.ours.access(|record| record.level() == "error" || record.level() == "warn");
    assert_eq!(record.field("src.identity"), None, "{record:?}");
}

// hbone#52
fn the_client_may_finish_first(workspace: &Workspace, family: Family) {
    let Some(pair) = Pair::from_envoy(workspace, family) else { return };
    let _app = pair.scene.serve(Behaviour::Count);
    let mut stream = pair.scene.connect();
    lab::send(&stream, 100_000).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "100000");
}

// hbone#53
fn the_server_may_finish_first(workspace: &Workspace, family: Family) {
    let Some(pair) = Pair::from_envoy(workspace, family) else { return };
    let app = pair.scene.serve(Behaviour::Exchange { bytes: 1000 });
    let stream = pair.scene.connect();
    let mut received = Tally::default();
    lab::read_to_end(&stream, &mut received).unwrap();
    assert_eq!((received.bytes(), received.is_intact()), (1000, true));
    lab::send(&stream, 100_000).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let visit = &app.finished(1)[0];
    assert_eq!(visit.error, None);
    assert_eq!((visit.received.bytes(), visit.received.is_intact()), (100_000, true));
}
