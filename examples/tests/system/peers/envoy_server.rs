//! Our outbound opens tunnels to Envoy.

use std::{io::Read, net::Shutdown, thread, time::Duration};

use examples::lab::{self, Behaviour, Tally, Workspace};
use mesh_identity::testing::Authority;

use super::{identity, scene::Pair};
use crate::{
    fixture::ping,
    runner::{Family, cases},
};

cases![
    a_download_cut_short_is_no_clean_end,
    a_port_nobody_serves_closes_the_connection,
    a_server_that_does_not_trust_us_resets_the_connection,
    bytes_are_exchanged,
    many_bytes_arrive_intact_both_ways,
    more_connections_than_one_may_carry_are_open_at_once,
    only_p256_is_agreed_by_a_second_hello,
    the_client_may_finish_first,
    the_wrong_identity_is_refused,
];

/// Bound on a refusal.
const PATIENCE: Duration = Duration::from_secs(10);
const MANY: u64 = 64 * 1024 * 1024;

// hbone#84
fn bytes_are_exchanged(workspace: &Workspace, family: Family) {
    let Some(pair) = Pair::to_envoy(workspace, family) else { return };
    let app = pair.scene.serve(Behaviour::Echo);
    let mut stream = pair.scene.connect();
    ping(&mut stream, b"hello envoy");
    drop(stream);
    assert_eq!(app.finished(1).len(), 1);

    let record = pair.ours.access(|record| record.message() == "connection complete");
    for (field, value) in [
        ("direction", "outbound"),
        ("src.identity", "spiffe://cluster.local/ns/default/sa/client"),
        ("dst.identity", "spiffe://cluster.local/ns/default/sa/server"),
        ("dst.hbone_addr", &pair.scene.app().to_string()),
        ("bytes_sent", "11"),
        ("bytes_recv", "11"),
    ] {
        assert_eq!(record.field(field), Some(value), "{field} in {record:?}");
    }
    for agreed in ["ssl.versions.TLSv1.3", "ssl.curves.X25519MLKEM768"] {
        assert_eq!(pair.envoy.statistic(&format!("listener.inbound.{agreed}")).unwrap(), 1, "{agreed}");
    }
}

/// Up while the same comes down: the client finishes first, so Envoy loses nothing.
// hbone#59
fn many_bytes_arrive_intact_both_ways(workspace: &Workspace, family: Family) {
    let Some(pair) = Pair::to_envoy(workspace, family) else { return };
    let app = pair.scene.serve(Behaviour::Echo);
    let stream = pair.scene.connect();
    let mut received = Tally::default();
    lab::exchange(&stream, MANY, &mut received).unwrap();
    assert_eq!((received.bytes(), received.is_intact()), (MANY, true));
    let visit = &app.finished(1)[0];
    assert_eq!((visit.received.bytes(), visit.received.is_intact()), (MANY, true));
}

// hbone#21
fn more_connections_than_one_may_carry_are_open_at_once(workspace: &Workspace, family: Family) {
    const CONNECTIONS: usize = 250;
    // A waypoint's limit.
    let pair = Pair::to_envoy_as(workspace, family, |it, id| {
        it.identity(identity::trusted(id)).max_concurrent_streams(100)
    });
    let Some(pair) = pair else { return };
    let app = pair.scene.serve(Behaviour::Echo);
    // At once, so that the pool has to share what it is still dialling.
    let mut streams: Vec<_> = thread::scope(|scope| {
        let connecting: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let scene = &pair.scene;
                scope.spawn(move || {
                    let mut stream = scene.connect();
                    ping(&mut stream, format!("number {number}").as_bytes());
                    stream
                })
            })
            .collect();
        connecting.into_iter().map(|stream| stream.join().unwrap()).collect()
    });
    streams.iter_mut().for_each(|stream| ping(stream, b"again"));
    let carriers = pair.envoy.statistic("http.hbone.downstream_cx_active").unwrap();
    assert!((3..=4).contains(&carriers), "{carriers} connections carry {CONNECTIONS} tunnels");
    drop(streams);
    assert_eq!(app.finished(CONNECTIONS).len(), CONNECTIONS);
}

// hbone#43
fn a_port_nobody_serves_closes_the_connection(workspace: &Workspace, family: Family) {
    let Some(pair) = Pair::to_envoy(workspace, family) else { return };
    assert!(pair.scene.is_refused());
    let record = pair.ours.access(|record| record.level() == "error");
    assert_eq!(record.field("error"), Some("http status: 503 Service Unavailable"));

    // The connection that carried the refusal carries what comes next.
    let _app = pair.scene.serve(Behaviour::Echo);
    ping(&mut pair.scene.connect(), b"somebody now");
    assert_eq!(pair.envoy.statistic("http.hbone.downstream_cx_total").unwrap(), 1);
}

// hbone#7, routing#102
fn the_wrong_identity_is_refused(workspace: &Workspace, family: Family) {
    const PRESENTED: &str = "spiffe://cluster.local/ns/default/sa/somebody";
    let pair = Pair::to_envoy_as(workspace, family, |it, _id| it.identity(identity::trusted(PRESENTED)));
    let Some(pair) = pair else { return };
    let app = pair.scene.serve(Behaviour::Echo);
    assert!(pair.scene.is_reset(PATIENCE));
    assert!(app.peers().is_empty());
    let record = pair.ours.access(|record| record.level() == "error");
    let error = record.field("error").unwrap();
    for id in [PRESENTED, "spiffe://cluster.local/ns/default/sa/server"] {
        assert!(error.contains(id), "{error}");
    }
}

fn a_server_that_does_not_trust_us_resets_the_connection(workspace: &Workspace, family: Family) {
    let stranger = Authority::new(identity::TRUST_DOMAIN);
    let pair = Pair::to_envoy_as(workspace, family, |it, id| {
        it.trust(&stranger.root_pem()).identity(identity::trusted(id))
    });
    let Some(pair) = pair else { return };
    let app = pair.scene.serve(Behaviour::Echo);
    assert!(pair.scene.is_reset(PATIENCE));
    assert!(app.peers().is_empty());
    pair.ours.access(|record| record.level() == "error");
    assert_ne!(pair.envoy.statistic("listener.inbound.ssl.fail_verify_error").unwrap(), 0);
}

// hbone#89: our first key share is of another group.
fn only_p256_is_agreed_by_a_second_hello(workspace: &Workspace, family: Family) {
    let pair =
        Pair::to_envoy_as(workspace, family, |it, id| it.identity(identity::trusted(id)).groups(["P-256"]));
    let Some(pair) = pair else { return };
    let _app = pair.scene.serve(Behaviour::Echo);
    ping(&mut pair.scene.connect(), b"another group");
    assert_eq!(pair.envoy.statistic("listener.inbound.ssl.curves.P-256").unwrap(), 1);
}

// hbone#52
fn the_client_may_finish_first(workspace: &Workspace, family: Family) {
    let Some(pair) = Pair::to_envoy(workspace, family) else { return };
    let _app = pair.scene.serve(Behaviour::Count);
    let mut stream = pair.scene.connect();
    lab::send(&stream, MANY).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, MANY.to_string());
}

/// When the application finishes first, Envoy resets the stream and may lose what it still holds.
// hbone#54
fn a_download_cut_short_is_no_clean_end(workspace: &Workspace, family: Family) {
    let Some(pair) = Pair::to_envoy(workspace, family) else { return };
    let _app = pair.scene.serve(Behaviour::Exchange { bytes: MANY });
    let stream = pair.scene.connect();
    let mut received = Tally::default();
    let end = lab::read_to_end(&stream, &mut received);
    assert!(received.is_intact());
    assert!(end.is_err() || received.bytes() == MANY, "a clean end after {} bytes", received.bytes());
}
