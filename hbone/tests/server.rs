//! The server's end: what is accepted, what is refused, and how.

mod support;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hbone::{Baggage, ConnectResponse, HandshakeError, Refusal, ResetReason, TunnelError, client, server};
use http::{HeaderValue, Request};
use support::{
    PIPE, assert_echoes, echo,
    frames::{self, DATA, END_HEADERS, HEADERS, Peer, RST_STREAM, SETTINGS, WINDOW_UPDATE},
    pair, poll_once, raw_client, raw_connect, request, serve, server_and_peer,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex},
    time::timeout,
};

// hbone#15, hbone#16
#[tokio::test(start_paused = true)]
async fn settings_are_announced() {
    let tuned = server::Builder::new()
        .stream_window(70_000)
        .connection_window(900_000)
        .max_frame_size(20_000)
        .max_header_list_size(5_000)
        .max_tunnels(7);
    let table = [
        (server::Builder::new(), [1 << 20, 16 << 20, 64 << 10, 64 << 10, 200]),
        (tuned, [70_000, 900_000, 20_000, 5_000, 7]),
    ];
    for (builder, [stream, connection, frame, headers, tunnels]) in table {
        let (near, far) = duplex(PIPE);
        let (server, mut peer) = tokio::join!(builder.handshake(near), Peer::client(far));
        serve(server.unwrap(), echo);
        let settings = peer.next_of(SETTINGS).await;
        assert_eq!(settings.setting(frames::INITIAL_WINDOW_SIZE), Some(stream));
        assert_eq!(settings.setting(frames::MAX_FRAME_SIZE), Some(frame));
        assert_eq!(settings.setting(frames::MAX_HEADER_LIST_SIZE), Some(headers));
        assert_eq!(settings.setting(frames::MAX_CONCURRENT_STREAMS), Some(tunnels));
        // Plain CONNECT needs no extension (RFC 8441 §3).
        assert_eq!(settings.setting(0x8), None);
        let update = peer.next_of(WINDOW_UPDATE).await;
        assert_eq!((update.stream, update.number()), (0, connection - 65_535));
    }
}

#[tokio::test(start_paused = true)]
async fn extreme_settings_work() {
    let client = client::Builder::new()
        .stream_window(0)
        .connection_window(0)
        .max_frame_size(0)
        .keepalive(Duration::MAX, Duration::MAX);
    let server = server::Builder::new()
        .stream_window(0)
        .connection_window(0)
        .max_frame_size(u32::MAX)
        .keepalive(Duration::MAX, Duration::MAX)
        .first_request_timeout(Some(Duration::MAX))
        .idle_timeout(Some(Duration::MAX));
    let (send, connection) = support::pair_with(client, server).await;
    serve(connection, echo);
    let mut tunnel = send.connect(request()).await.unwrap();
    // Windows of a byte each: more than that at once would wait for an echo that waits for its reader.
    for byte in 0..3 {
        tunnel.write_u8(byte).await.unwrap();
        assert_eq!(tunnel.read_u8().await.unwrap(), byte);
    }
}

#[tokio::test(start_paused = true)]
async fn peer_that_speaks_something_else_fails_the_handshake() {
    let (near, mut far) = duplex(PIPE);
    far.write_all(b"GET / HTTP/1.1\r\nhost: example.org\r\n\r\n").await.unwrap();
    let error = server::handshake(near).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Protocol(_)), "{error:?}");

    let (near, far) = duplex(PIPE);
    drop(far);
    let error = server::handshake(near).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Io(_)), "{error:?}");
}

// hbone#34, hbone#35, routing#55, routing#56
#[tokio::test(start_paused = true)]
async fn other_requests_are_answered_with_400_and_disturb_nobody() {
    let (near, far) = duplex(PIPE);
    let refusals = server::Refusals::new();
    let builder = server::Builder::new().refusals(refusals.clone());
    let (server, mut client) = tokio::join!(builder.handshake(near), raw_client(far));
    serve(server.unwrap(), echo);
    let get = Request::get("https://example.org/").body(()).unwrap();
    let post = Request::post("https://example.org/").body(()).unwrap();
    for request in
        [get, post, raw_connect("example.org"), raw_connect("user@example.org:80"), raw_connect("[::1]")]
    {
        let text = format!("{request:?}");
        let (response, _body) = client.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 400, "{text}");
        assert!(response.headers().is_empty());
        assert!(response.into_body().is_end_stream());
    }
    let (response, _body) = client.send_request(raw_connect("example.org:80"), false).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    assert_eq!(refusals.count(), 5);
}

// hbone#35, hbone#87, hbone#88, hbone#90: there is no UDP mode, and none is negotiated
#[tokio::test(start_paused = true)]
async fn malformed_requests_get_an_error_and_never_a_tunnel() {
    let (server, mut peer) = server_and_peer().await;
    serve(server, echo);
    let authority = (":authority", "192.0.2.7:80");
    let method = (":method", "CONNECT");
    let table: [&[(&str, &str)]; 6] = [
        &[method],
        &[method, (":authority", "")],
        &[method, (":authority", "exa mple:80")],
        &[method, authority, (":scheme", "https")],
        &[method, authority, (":path", "/")],
        &[method, authority, (":protocol", "connect-udp"), (":scheme", "https"), (":path", "/")],
    ];
    let mut stream = 1;
    for fields in table {
        peer.request(stream, fields).await;
        let answer = loop {
            let frame = peer.next().await.unwrap();
            if frame.stream == stream {
                break frame;
            }
        };
        match answer.kind {
            RST_STREAM => assert_eq!(answer.number(), ResetReason::Protocol.code(), "{fields:?}"),
            HEADERS => {
                assert_ne!(answer.payload[0], frames::STATUS_200, "{fields:?}");
                assert!(answer.is_end_stream());
            }
            kind => panic!("frame {kind} for {fields:?}"),
        }
        stream += 2;
    }
    peer.request(stream, &[method, authority]).await;
    loop {
        let frame = peer.next_of(HEADERS).await;
        if frame.stream == stream {
            assert_eq!(frame.payload[0], frames::STATUS_200);
            break;
        }
    }
}

// hbone#31, hbone#32, routing#70
#[tokio::test(start_paused = true)]
async fn metadata_is_optional_and_never_fatal() {
    let (near, far) = duplex(PIPE);
    let (server, mut client) = tokio::join!(server::handshake(near), raw_client(far));
    let mut server = server.unwrap();
    let bare = raw_connect("192.0.2.7:80");
    let mut malformed = raw_connect("192.0.2.7:80");
    let values: [(&'static str, &[u8]); 5] = [
        ("baggage", b"\xff,=;;=,"),
        ("forwarded", b"for=;;\""),
        ("traceparent", b"00-0000000000000000000000000000000000000000000000000000"),
        ("x-forwarded-network", b"\xff"),
        ("x-envoy-whatever", b"x"),
    ];
    for (name, value) in values {
        malformed.headers_mut().insert(name, HeaderValue::from_bytes(value).unwrap());
    }
    for (request, present) in [(bare, false), (malformed, true)] {
        let (response, _body) = client.send_request(request, false).unwrap();
        let incoming = server.accept().await.unwrap().unwrap();
        assert_eq!(incoming.baggage().is_some(), present);
        assert!(incoming.baggage().is_none_or(|baggage| baggage.is_empty()));
        assert_eq!(incoming.forwarded().is_some(), present);
        assert_eq!(incoming.forwarded_network(), None);
        assert_eq!(incoming.traceparent(), None);
        let _tunnel = incoming.accept().unwrap();
        let (response, _) = tokio::join!(response, timeout(Duration::from_millis(1), server.accept()));
        assert_eq!(response.unwrap().status(), 200);
    }
}

// hbone#42
#[tokio::test(start_paused = true)]
async fn refusals_have_their_status_and_nothing_else() {
    let (near, far) = duplex(PIPE);
    let (server, mut client) = tokio::join!(server::handshake(near), raw_client(far));
    serve(server.unwrap(), |incoming| async {
        let refusal = match incoming.destination().port() {
            1 => Refusal::BadRequest,
            2 => Refusal::Denied,
            3 => Refusal::Unavailable,
            _ => Refusal::Unprocessed,
        };
        incoming.refuse(refusal);
    });
    for (port, status) in [(1, 400), (2, 401), (3, 503)] {
        let (response, _body) =
            client.send_request(raw_connect(&format!("192.0.2.7:{port}")), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), status);
        assert!(response.headers().is_empty());
        assert!(response.into_body().is_end_stream());
    }
    let (response, _body) = client.send_request(raw_connect("192.0.2.7:4"), false).unwrap();
    assert_eq!(response.await.unwrap_err().reason(), Some(h2::Reason::REFUSED_STREAM));
}

#[tokio::test(start_paused = true)]
async fn dropped_request_is_refused_as_unavailable() {
    let (send, connection) = pair().await;
    serve(connection, |incoming| async { drop(incoming) });
    let error = send.connect(request()).await.unwrap_err();
    assert_eq!(error.status().unwrap(), 503);
}

// hbone#41, hbone#42, routing#65
#[tokio::test(start_paused = true)]
async fn success_is_sent_when_accepted_and_not_before() {
    let (mut server, mut peer) = server_and_peer().await;
    peer.request(1, &[(":method", "CONNECT"), (":authority", "192.0.2.7:80")]).await;
    let incoming = server.accept().await.unwrap().unwrap();
    let driver = tokio::spawn(async move { while server.accept().await.is_some() {} });
    assert!(timeout(Duration::from_secs(5), peer.next_of(HEADERS)).await.is_err());
    let response = ConnectResponse::new().with_baggage(Baggage::new().with_zone("z"));
    let _tunnel = incoming.accept_with(response).unwrap();
    let answer = peer.next_of(HEADERS).await;
    assert_eq!(answer.payload[0], frames::STATUS_200);
    assert!(!answer.is_end_stream());
    driver.abort();
}

#[tokio::test(start_paused = true)]
async fn early_bytes_are_delivered_after_accept() {
    let (mut server, mut peer) = server_and_peer().await;
    let head = frames::encode_fields(&[(":method", "CONNECT"), (":authority", "192.0.2.7:80")]);
    peer.send_all(&[(HEADERS, END_HEADERS, 1, &head), (DATA, 0, 1, b"early")]).await;
    let incoming = server.accept().await.unwrap().unwrap();
    let mut tunnel = incoming.accept().unwrap();
    tokio::spawn(async move { while server.accept().await.is_some() {} });
    peer.send(DATA, 0, 1, b" late").await;
    let mut buffer = [0; 10];
    tunnel.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"early late");
}

#[tokio::test(start_paused = true)]
async fn early_bytes_are_discarded_on_refusal_and_cost_the_connection_nothing() {
    let (near, far) = duplex(PIPE);
    let builder = server::Builder::new().connection_window(65_535);
    let (server, mut client) = tokio::join!(builder.handshake(near), raw_client(far));
    serve(server.unwrap(), |incoming| async {
        match incoming.destination().port() {
            1 => incoming.refuse(Refusal::Denied),
            _ => echo(incoming).await,
        }
    });
    let early = Bytes::from(vec![0; 60_000]);
    // Ten times what the connection allows without getting credit back.
    for _ in 0..10 {
        let (response, mut body) = client.send_request(raw_connect("192.0.2.7:1"), false).unwrap();
        body.send_data(early.clone(), false).unwrap();
        assert_eq!(response.await.unwrap().status(), 401);
    }
    let (response, mut body) = client.send_request(raw_connect("192.0.2.7:2"), false).unwrap();
    body.send_data(early.clone(), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    let mut echoed = 0;
    while let Some(data) = timeout(Duration::from_secs(60), body.data()).await.expect("no credit left") {
        echoed += data.unwrap().len();
    }
    assert_eq!(echoed, early.len());
}

#[tokio::test(start_paused = true)]
async fn request_taken_back_cannot_be_accepted() {
    let (mut server, mut peer) = server_and_peer().await;
    peer.request(1, &[(":method", "CONNECT"), (":authority", "192.0.2.7:80")]).await;
    let incoming = server.accept().await.unwrap().unwrap();
    peer.send(RST_STREAM, 0, 1, &ResetReason::Cancel.code().to_be_bytes()).await;
    assert!(timeout(Duration::from_secs(1), server.accept()).await.is_err());
    let error = incoming.accept().unwrap_err();
    assert!(matches!(error, TunnelError::Reset(ResetReason::Cancel)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn request_taken_back_is_noticed_before_it_is_answered() {
    let cancel = ResetReason::Cancel.code().to_be_bytes();
    let (mut server, mut peer) = server_and_peer().await;
    peer.request(1, &[(":method", "CONNECT"), (":authority", "192.0.2.7:80")]).await;
    let mut incoming = server.accept().await.unwrap().unwrap();
    let waiting = tokio::spawn(async move { incoming.taken_back().await });
    // Also behind an end of what it has to say; and one taken back before anybody has seen it is not shown.
    let head = frames::encode_fields(&[(":method", "CONNECT"), (":authority", "192.0.2.7:80")]);
    peer.send_all(&[
        (DATA, frames::END_STREAM, 1, b"bye"),
        (RST_STREAM, 0, 1, &cancel),
        (HEADERS, END_HEADERS, 3, &head),
        (RST_STREAM, 0, 3, &cancel),
    ])
    .await;
    assert!(timeout(Duration::from_secs(1), server.accept()).await.is_err());
    let error = waiting.await.unwrap();
    assert!(matches!(error, TunnelError::Reset(ResetReason::Cancel)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn response_header_of_the_connection_itself_refuses_the_request() {
    let (near, far) = duplex(PIPE);
    let (server, mut client) = tokio::join!(server::handshake(near), raw_client(far));
    serve(server.unwrap(), |incoming| async {
        let (name, value) = match incoming.destination().port() {
            1 => (http::header::TRANSFER_ENCODING, "chunked"),
            _ => (http::header::CONTENT_LENGTH, "0"),
        };
        let response = ConnectResponse::new().with_header(name, HeaderValue::from_static(value));
        assert!(matches!(incoming.accept_with(response), Err(TunnelError::Closed)));
    });
    for port in [1, 2] {
        let request = raw_connect(&format!("192.0.2.7:{port}"));
        let (response, _body) = client.send_request(request, false).unwrap();
        assert_eq!(response.await.unwrap_err().reason(), Some(h2::Reason::INTERNAL_ERROR));
    }
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_limit_are_refused_as_unprocessed() {
    let (near, far) = duplex(PIPE);
    let builder = server::Builder::new().max_tunnels(1);
    let (server, mut peer) = tokio::join!(builder.handshake(near), Peer::client(far));
    serve(server.unwrap(), echo);
    for stream in [1, 3] {
        peer.request(stream, &[(":method", "CONNECT"), (":authority", "192.0.2.7:80")]).await;
    }
    let reset = peer.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number()), (3, ResetReason::Refused.code()));
}

#[tokio::test(start_paused = true)]
async fn client_that_leaves_ends_the_connection() {
    let (send, mut connection) = pair().await;
    assert!(timeout(Duration::from_secs(1), connection.accept()).await.is_err());
    drop(send);
    assert!(connection.accept().await.is_none());
    assert!(connection.accept().await.is_none());
}

// hbone#60
#[tokio::test(start_paused = true)]
async fn trailers_end_the_direction_like_end_stream() {
    let (near, far) = duplex(PIPE);
    let (server, mut client) = tokio::join!(server::handshake(near), raw_client(far));
    serve(server.unwrap(), echo);
    let (response, mut body) = client.send_request(raw_connect("192.0.2.7:80"), false).unwrap();
    body.send_data(Bytes::from_static(b"hello"), false).unwrap();
    body.send_trailers(http::HeaderMap::new()).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "hello");
    // END_STREAM comes in a frame of its own.
    while let Some(data) = body.data().await {
        assert!(data.unwrap().is_empty());
    }
    assert!(body.trailers().await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn connection_polled_again_for_nothing_does_nothing_and_misses_nothing() {
    let (near, far) = duplex(PIPE);
    let near = CountReads { io: near, reads: Arc::default() };
    let reads = Arc::clone(&near.reads);
    let (server, mut peer) = tokio::join!(server::handshake(near), Peer::client(far));
    let mut server = server.unwrap();
    let connect = [(":method", "CONNECT"), (":authority", "192.0.2.7:80")];
    for stream in [1, 3, 5] {
        peer.request(stream, &connect).await;
    }
    for _ in 0..3 {
        server.accept().await.unwrap().unwrap().refuse(Refusal::Denied);
    }
    // Writes the answers.
    assert!(poll_once(server.accept()).await.is_none());
    let before = reads.load(Ordering::Relaxed);
    for _ in 0..100 {
        assert!(poll_once(server.accept()).await.is_none());
    }
    assert_eq!(reads.load(Ordering::Relaxed), before);
    // Arrives while nobody polls, and the task that is woken polls for another reason first.
    peer.request(7, &connect).await;
    assert!(poll_once(server.accept()).await.is_some());
}

/// Counts how often it is read.
struct CountReads {
    io: DuplexStream,
    reads: Arc<AtomicUsize>,
}

impl AsyncRead for CountReads {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for CountReads {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn tunnels_of_one_connection_are_independent() {
    let (send, connection) = pair().await;
    serve(connection, echo);
    let mut first = send.connect(request()).await.unwrap();
    let mut second = send.connect(request()).await.unwrap();
    assert_echoes(&mut first).await;
    drop(first);
    assert_echoes(&mut second).await;
}
