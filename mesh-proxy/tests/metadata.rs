//! What two proxies tell each other beside the payload, and what a tunnel's client is answered.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use hbone::{ConnectError, ConnectRequest, TraceId, client};
use http::{HeaderName, HeaderValue};
use mesh_proxy::telemetry::ConnectionMeta;
use support::{CLIENT, Mesh, Recorder, Seen, application, silent_application};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn opened(seen: &Recorder) -> Vec<ConnectionMeta> {
    let metas = seen.all().into_iter().filter_map(|seen| match seen {
        Seen::Opened(meta) => Some(*meta),
        _ => None,
    });
    metas.collect()
}

fn traces(seen: &Recorder) -> Vec<TraceId> {
    opened(seen).iter().map(|meta| meta.trace.unwrap().trace_id()).collect()
}

/// hbone#28
#[tokio::test]
async fn both_proxies_know_a_connection_by_the_same_trace_and_no_other_by_that() {
    let mesh = Mesh::start();
    let application = application().await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(mesh.open(&application).await);
    }
    let client = traces(&mesh.client.seen);
    assert_eq!(client, traces(&mesh.server.seen));
    assert_eq!(client.iter().collect::<HashSet<_>>().len(), 3);
}

/// A tunnel that a client without a proxy asks of the server's, and what that was answered with.
async fn ask(mesh: &Mesh, to: SocketAddr, traceparent: Option<&str>) -> Result<hbone::Tunnel, ConnectError> {
    let (send, connection) = client::handshake(mesh.known_peer().await).await.unwrap();
    tokio::spawn(connection);
    let mut request = ConnectRequest::new(to);
    if let Some(text) = traceparent {
        let name = HeaderName::from_static("traceparent");
        request = request.with_header(name, HeaderValue::from_str(text).unwrap());
    }
    send.connect(request).await
}

/// hbone#32, telemetry#67
#[tokio::test]
async fn connection_without_a_valid_trace_gets_one() {
    let mesh = Mesh::start();
    let application = application().await;
    let to = application.local_addr().unwrap();
    for traceparent in [None, Some("00-0000000000000000000000000000000000000000000000000000")] {
        let _tunnel = ask(&mesh, to, traceparent).await.unwrap();
    }
    assert_eq!(traces(&mesh.server.seen).iter().collect::<HashSet<_>>().len(), 2);
}

/// hbone#42
#[tokio::test]
async fn answer_says_which_workload_it_is_unless_that_is_switched_off() {
    for enabled in [true, false] {
        let mesh = Mesh::start_with(|settings| settings.baggage(enabled));
        let application = application().await;
        let tunnel = ask(&mesh, application.local_addr().unwrap(), None).await.unwrap();
        let baggage = tunnel.response().baggage();
        assert_eq!(baggage.as_ref().and_then(|baggage| baggage.namespace()), enabled.then_some("shop"));
        assert_eq!(tunnel.response().headers().len(), usize::from(enabled));

        // What the client's proxy says of itself counts as little.
        let (_stream, _accepted) = mesh.open(&application).await;
        let metas = opened(&mesh.server.seen);
        let said = metas.iter().filter_map(|meta| meta.source_baggage.as_ref()).count();
        assert_eq!(said, usize::from(enabled));
    }
}

/// hbone#38: 10 s by default.
#[tokio::test]
async fn application_that_does_not_answer_is_unavailable() {
    let mesh = Mesh::start_with(|settings| settings.connect_timeout(Duration::from_millis(50)));
    let (silent, _queue) = silent_application().await;
    let error = ask(&mesh, silent, None).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 503);
}

/// hbone#92: the peer has accepted before it knew, and ends what it accepted.
#[tokio::test]
async fn tunnel_that_ends_at_once_is_a_connection_that_closes() {
    let mesh = Mesh::start();
    let application = application().await;
    let connecting = mesh.connect(CLIENT, application.local_addr().unwrap());
    let ((mut stream, reply), accepted) = tokio::join!(connecting, application.accept());
    drop(accepted.unwrap());
    assert_eq!((reply, stream.read(&mut [0]).await.unwrap()), (0, 0));
    stream.shutdown().await.unwrap();
    let bytes = mesh.client.seen.until(|seen| match seen {
        Seen::Closed { received, sent, .. } => Some((*received, *sent)),
        _ => None,
    });
    assert_eq!(bytes.await, (0, 0));
}
