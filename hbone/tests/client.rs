//! The client's end: requests, answers, limits.

mod support;

use std::time::Duration;

use hbone::{ConnectError, ConnectionError, ResetReason, client, server};
use support::{
    PIPE, client_and_peer, echo,
    frames::{
        self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    },
    pair, raw_response, raw_server, request, serve, tunnel,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::timeout,
};

// hbone#14, hbone#16
#[tokio::test(start_paused = true)]
async fn settings_are_announced() {
    let tuned = client::Builder::new()
        .stream_window(70_000)
        .connection_window(900_000)
        .max_frame_size(20_000)
        .max_header_list_size(5_000);
    let table = [
        (client::Builder::new(), [1 << 20, 16 << 20, 64 << 10, 16 << 10]),
        (tuned, [70_000, 900_000, 20_000, 5_000]),
    ];
    for (builder, [stream, connection, frame, headers]) in table {
        let (near, far) = duplex(PIPE);
        let (client, mut peer) = tokio::join!(builder.handshake(near), Peer::server(far, &[]));
        let (_send, driver) = client.unwrap();
        tokio::spawn(driver);
        let settings = peer.next_of(SETTINGS).await;
        assert_eq!(settings.setting(frames::INITIAL_WINDOW_SIZE), Some(stream));
        assert_eq!(settings.setting(frames::MAX_FRAME_SIZE), Some(frame));
        assert_eq!(settings.setting(frames::MAX_HEADER_LIST_SIZE), Some(headers));
        assert_eq!(settings.setting(0x2), Some(0), "push");
        let update = peer.next_of(WINDOW_UPDATE).await;
        assert_eq!((update.stream, update.number()), (0, connection - 65_535));
    }
}

// hbone#23
#[tokio::test(start_paused = true)]
async fn request_is_open_and_names_only_an_authority() {
    let (send, mut peer) = client_and_peer(&[]).await;
    tokio::spawn(async move { send.connect(request()).await });
    let headers = peer.next_of(HEADERS).await;
    assert!(!headers.is_end_stream());

    let (near, far) = duplex(PIPE);
    let (send, connection) = client::handshake(near).await.unwrap();
    tokio::spawn(connection);
    tokio::spawn(async move { send.connect(request()).await });
    let (request, _respond) = raw_server(far).await.accept().await.unwrap().unwrap();
    assert_eq!(request.method(), "CONNECT");
    assert_eq!(request.uri().to_string(), "192.0.2.7:8080");
    assert!(request.headers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_answer() {
    let (send, mut peer) = client_and_peer(&[]).await;
    let connecting = tokio::spawn(async move {
        let mut tunnel = send.connect(request()).await.unwrap();
        tunnel.write_all(b"hello").await.unwrap();
        tunnel
    });
    let stream = peer.next_of(HEADERS).await.stream;
    let early = timeout(Duration::from_secs(5), peer.next_of(DATA)).await;
    assert!(early.is_err(), "{early:?}");
    peer.accept(stream).await;
    assert_eq!(peer.next_of(DATA).await.payload, b"hello");
    drop(connecting.await);
}

// hbone#43
#[tokio::test(start_paused = true)]
async fn any_2xx_is_success_and_a_refusal_leaves_the_connection() {
    let (near, far) = duplex(PIPE);
    let (send, connection) = client::handshake(near).await.unwrap();
    tokio::spawn(connection);
    let mut peer = raw_server(far).await;
    tokio::spawn(async move {
        for status in [503, 204, 401, 299, 300, 200] {
            let (_, mut respond) = peer.accept().await.unwrap().unwrap();
            let _ = respond.send_response(raw_response(status), false);
        }
        while peer.accept().await.is_some() {}
    });
    for expected in [Some(503), None, Some(401), None, Some(300), None] {
        let error = send.connect(request()).await.err();
        assert_eq!(error.as_ref().and_then(ConnectError::status).map(|status| status.as_u16()), expected);
        assert!(!error.is_some_and(|error| error.is_retryable()));
    }
}

// hbone#44
#[tokio::test(start_paused = true)]
async fn interim_answers_are_skipped() {
    let (send, mut peer) = client_and_peer(&[]).await;
    let connecting = tokio::spawn(async move { send.connect(request()).await });
    let stream = peer.next_of(HEADERS).await.stream;
    for status in ["100", "103"] {
        peer.send(HEADERS, END_HEADERS, stream, &frames::encode_fields(&[(":status", status)])).await;
    }
    peer.accept(stream).await;
    assert!(connecting.await.unwrap().is_ok());
}

// hbone#92
#[tokio::test(start_paused = true)]
async fn success_that_ends_at_once_is_an_empty_tunnel() {
    let (send, mut peer) = client_and_peer(&[]).await;
    let connecting = tokio::spawn(async move { send.connect(request()).await });
    let stream = peer.next_of(HEADERS).await.stream;
    peer.send(HEADERS, END_HEADERS | END_STREAM, stream, &[frames::STATUS_200]).await;
    let mut tunnel = connecting.await.unwrap().unwrap();
    assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn request_above_the_last_processed_is_retryable() {
    let (send, mut peer) = client_and_peer(&[]).await;
    let connecting = tokio::spawn({
        let send = send.clone();
        async move { send.connect(request()).await }
    });
    peer.next_of(HEADERS).await;
    peer.send(GOAWAY, 0, 0, &[0; 8]).await;
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::GoAway(ResetReason::NoError)), "{error:?}");
    assert!(error.is_retryable());
    assert!(send.is_closed());
    assert!(send.connect(request()).await.unwrap_err().is_retryable());
}

#[tokio::test(start_paused = true)]
async fn open_tunnels_outlive_a_goaway() {
    let (mut tunnel, mut peer) = support::tunnel_to_peer(&[]).await;
    peer.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
    peer.send(DATA, END_STREAM, 1, b"hello").await;
    let mut text = String::new();
    tunnel.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
}

#[tokio::test(start_paused = true)]
async fn reset_tells_whether_the_request_was_processed() {
    let (send, mut peer) = client_and_peer(&[]).await;
    for (code, reason, is_retryable) in [(7u32, ResetReason::Refused, true), (8, ResetReason::Cancel, false)]
    {
        let connecting = tokio::spawn({
            let send = send.clone();
            async move { send.connect(request()).await }
        });
        let stream = peer.next_of(HEADERS).await.stream;
        peer.send(RST_STREAM, 0, stream, &code.to_be_bytes()).await;
        let error = connecting.await.unwrap().unwrap_err();
        assert!(matches!(error, ConnectError::Reset(found) if found == reason), "{error:?}");
        assert_eq!(error.is_retryable(), is_retryable);
    }
}

// hbone#56
#[tokio::test(start_paused = true)]
async fn connection_lost_under_a_request_is_not_retryable() {
    let (send, mut peer) = client_and_peer(&[]).await;
    let connecting = tokio::spawn({
        let send = send.clone();
        async move { send.connect(request()).await }
    });
    peer.next_of(HEADERS).await;
    drop(peer);
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Lost(_)), "{error:?}");
    assert!(!error.is_retryable());
    let error = send.connect(request()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Closed), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn header_of_the_connection_itself_is_an_invalid_request() {
    let (send, _peer) = client_and_peer(&[]).await;
    // The second would end the tunnel at its first byte (RFC 9110 §9.3.6).
    for (name, value) in [(http::header::TRANSFER_ENCODING, "chunked"), (http::header::CONTENT_LENGTH, "0")] {
        let header = http::HeaderValue::from_static(value);
        let error = send.connect(request().with_header(name, header)).await.unwrap_err();
        assert!(matches!(error, ConnectError::InvalidRequest), "{error:?}");
    }
    assert_eq!(send.active_tunnels(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_request_is_taken_back() {
    let (send, mut peer) = client_and_peer(&[]).await;
    let connecting = tokio::spawn({
        let send = send.clone();
        async move { send.connect(request()).await }
    });
    let stream = peer.next_of(HEADERS).await.stream;
    connecting.abort();
    let reset = peer.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number()), (stream, ResetReason::Cancel.code()));
    assert_eq!(send.active_tunnels(), 0);
}

// hbone#22
#[tokio::test(start_paused = true)]
async fn limit_of_the_peer_is_followed() {
    let (send, mut peer) = client_and_peer(&[(frames::MAX_CONCURRENT_STREAMS, 10)]).await;
    assert_eq!(send.peer_limit(), 1, "nothing said yet");
    for limit in [10, 3] {
        if limit != 10 {
            peer.settings(&[(frames::MAX_CONCURRENT_STREAMS, limit)]).await;
        }
        while !peer.next().await.unwrap().is_ack() {}
        assert_eq!(send.peer_limit(), limit as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn request_beyond_the_limit_waits_for_a_tunnel_to_end() {
    let (send, connection) =
        support::pair_with(client::Builder::new(), server::Builder::new().max_tunnels(1)).await;
    serve(connection, echo);
    let first = send.connect(request()).await.unwrap();
    let second = tokio::spawn({
        let send = send.clone();
        async move { send.connect(request()).await }
    });
    tokio::task::yield_now().await;
    assert_eq!(send.active_tunnels(), 2);
    assert!(!second.is_finished());
    drop(first);
    assert!(second.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn connection_closes_once_nobody_uses_it() {
    let (near, far) = duplex(PIPE);
    let (client, server) = tokio::join!(client::handshake(near), server::handshake(far));
    let ((send, connection), server) = (client.unwrap(), server.unwrap());
    let driver = tokio::spawn(connection);
    let server = serve(server, echo);
    let mut tunnel = send.connect(request()).await.unwrap();
    drop(send);
    support::assert_echoes(&mut tunnel).await;
    tunnel.shutdown().await.unwrap();
    assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
    drop(tunnel);
    driver.await.unwrap().unwrap();
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_connection_ends_its_tunnels() {
    let (near, far) = duplex(PIPE);
    let (client, server) = tokio::join!(client::handshake(near), server::handshake(far));
    let ((send, connection), server) = (client.unwrap(), server.unwrap());
    let driver = tokio::spawn(connection);
    serve(server, echo);
    let tunnel = send.connect(request()).await.unwrap();
    driver.abort();
    assert!(driver.await.unwrap_err().is_cancelled());
    support::assert_closed_here(tunnel).await;
    assert!(send.is_closed());
}

#[tokio::test(start_paused = true)]
async fn abort_ends_the_connection_and_its_tunnels_now() {
    let (near, far) = duplex(PIPE);
    let (client, server) = tokio::join!(client::handshake(near), server::handshake(far));
    let ((send, connection), server) = (client.unwrap(), server.unwrap());
    let handle = connection.handle();
    let driver = tokio::spawn(connection);
    let server = serve(server, echo);
    let tunnel = send.connect(request()).await.unwrap();
    handle.abort();
    assert!(send.is_closed());
    let error = send.connect(request()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Closed) && error.is_retryable(), "{error:?}");
    driver.await.unwrap().unwrap();
    support::assert_closed_here(tunnel).await;
    server.await.unwrap();
    // It outlives the connection, and does nothing.
    handle.abort();
    handle.drain(tokio::time::Instant::now());
}

#[tokio::test(start_paused = true)]
async fn request_under_way_learns_that_the_connection_was_aborted() {
    let (near, far) = duplex(PIPE);
    let (client, mut peer) = tokio::join!(client::handshake(near), Peer::server(far, &[]));
    let (send, connection) = client.unwrap();
    let handle = connection.handle();
    tokio::spawn(connection);
    let connecting = tokio::spawn(async move { send.connect(request()).await });
    peer.next_of(HEADERS).await;
    handle.abort();
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectError::Lost(ConnectionError::Closed)), "{error:?}");
    assert!(!error.is_retryable(), "the peer may have acted on it");
}

#[tokio::test(start_paused = true)]
async fn frame_on_a_stream_never_opened_ends_the_connection_with_an_error() {
    let (near, far) = duplex(PIPE);
    let (client, mut peer) = tokio::join!(client::handshake(near), Peer::server(far, &[]));
    let (_send, connection) = client.unwrap();
    let driver = tokio::spawn(connection);
    // DATA on a stream that was never opened.
    peer.send(DATA, 0, 1, b"x").await;
    let error = driver.await.unwrap().unwrap_err();
    assert!(matches!(error, ConnectionError::Protocol(ResetReason::Protocol)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn tunnels_can_be_opened_from_clones() {
    let (send, connection) = pair().await;
    serve(connection, echo);
    let other = send.clone();
    let (first, second) = tokio::join!(send.connect(request()), other.connect(request()));
    assert_eq!(send.active_tunnels(), 2);
    drop((first, second));
}

#[test]
fn types_can_be_sent_between_threads() {
    fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<hbone::Tunnel>();
    send_and_sync::<hbone::RecvHalf>();
    send_and_sync::<hbone::SendHalf>();
    send_and_sync::<client::SendConnect>();
    send_and_sync::<client::Connection<tokio::io::DuplexStream>>();
    send_and_sync::<server::Connection<tokio::io::DuplexStream>>();
    send_and_sync::<server::Incoming>();
    send_and_sync::<server::Handle>();
}

#[tokio::test(start_paused = true)]
async fn peer_that_closes_in_good_order_is_no_error() {
    let (near, _far, send) = tunnel().await;
    drop(near);
    assert!(!send.is_closed());
}
