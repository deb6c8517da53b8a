//! What travels through a tunnel.

mod support;

use bytes::Bytes;
use hbone::{Baggage, ConnectResponse, Forwarded, TraceParent};
use http::{HeaderName, HeaderValue};
use support::{assert_echoes, echo, pair, request, serve, tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(start_paused = true)]
async fn bytes_travel_both_ways() {
    let (send, connection) = pair().await;
    serve(connection, echo);
    let mut tunnel = send.connect(request()).await.unwrap();
    assert_echoes(&mut tunnel).await;
    assert_echoes(&mut tunnel).await;
    tunnel.shutdown().await.unwrap();
    assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn halves_pass_bytes() {
    let (send, connection) = pair().await;
    serve(connection, echo);
    let (mut recv, mut send) = send.connect(request()).await.unwrap().into_split();
    send.send(Bytes::from_static(b"hello")).await.unwrap();
    send.finish().unwrap();
    let data = recv.data().await.unwrap().unwrap();
    recv.release(data.len());
    assert_eq!(data, "hello");
    assert!(recv.data().await.is_none());
    assert!(recv.is_finished());
}

#[tokio::test(start_paused = true)]
async fn reading_by_bytes_and_by_buffer_mixes() {
    let (mut near, mut far, _send) = tunnel().await;
    far.write_all(b"hello").await.unwrap();
    let mut first = [0; 2];
    near.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"he");
    let (recv, _) = near.split();
    assert_eq!(recv.data().await.unwrap().unwrap(), "llo");
}

// hbone#28, hbone#29, hbone#42
#[tokio::test(start_paused = true)]
async fn metadata_travels_beside_the_payload() {
    let (send, mut connection) = pair().await;
    let source = Baggage::new().with_namespace("shop");
    let target = Baggage::new().with_namespace("stock");
    let forwarded = Forwarded::new("[2001:db8::1]:4321".parse().unwrap()).with_host("stock.example.org");
    let trace = TraceParent::random();
    let other = HeaderName::from_static("x-istio-source");
    let request = request()
        .with_baggage(&source)
        .with_forwarded(forwarded.clone())
        .with_forwarded_network(HeaderValue::from_static("east"))
        .with_traceparent(trace)
        .with_header(other.clone(), HeaderValue::from_static("waypoint"));
    let response = ConnectResponse::new()
        .with_baggage(&target)
        .with_header(other.clone(), HeaderValue::from_static("back"));
    let server = async {
        let incoming = connection.accept().await.unwrap().unwrap();
        assert_eq!(*incoming.destination(), support::destination());
        assert_eq!(incoming.baggage(), Some(source.clone()));
        assert_eq!(incoming.forwarded(), Some(forwarded.clone()));
        assert_eq!(incoming.forwarded_network(), Some("east"));
        assert_eq!(incoming.traceparent(), Some(trace));
        assert_eq!(incoming.headers()[&other], "waypoint");
        let far = incoming.accept_with(response).unwrap();
        assert!(far.response().headers().is_empty());
        serve(connection, echo);
        far
    };
    let (near, _far) = tokio::join!(send.connect(request), server);
    let near = near.unwrap();
    assert_eq!(near.response().baggage(), Some(target));
    assert_eq!(near.response().headers()[&other], "back");
}

#[tokio::test(start_paused = true)]
async fn several_buffers_become_one_frame() {
    let (mut near, far, _send) = tunnel().await;
    let written = near.write_vectored(&[std::io::IoSlice::new(b"he"), std::io::IoSlice::new(b"llo")]).await;
    assert_eq!(written.unwrap(), 5);
    let (mut recv, _send_half) = far.into_split();
    assert_eq!(recv.data().await.unwrap().unwrap(), "hello");
}

#[tokio::test(start_paused = true)]
async fn active_tunnels_are_counted() {
    let (near, far, send) = tunnel().await;
    assert_eq!(send.active_tunnels(), 1);
    let (recv, send_half) = near.into_split();
    drop(recv);
    assert_eq!(send.active_tunnels(), 1);
    drop(send_half);
    assert_eq!(send.active_tunnels(), 0);
    drop(far);
}
