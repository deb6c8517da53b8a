//! Who may send how much, and that tunnels do not stand in each other's way.

mod support;

use std::{future::poll_fn, task::Poll, time::Duration};

use bytes::Bytes;
use hbone::{ConnectionError, RecvHalf, ResetReason, Tunnel, TunnelError, client, server};
use support::{
    assert_echoes, echo,
    frames::{DATA, HEADERS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, Peer, RST_STREAM, WINDOW_UPDATE},
    pair, request, serve, tunnel, tunnel_to_peer, tunnel_with,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const STREAM_WINDOW: usize = 1 << 20;

async fn next(recv: &mut RecvHalf) -> Option<Bytes> {
    timeout(Duration::from_secs(1), recv.data()).await.ok()?.map(Result::unwrap)
}

// hbone#57
#[tokio::test(start_paused = true)]
async fn credit_is_returned_for_what_was_released_and_nothing_else() {
    let (near, far, _send) = tunnel().await;
    let (_recv, mut sender) = near.into_split();
    let sending = tokio::spawn(async move { sender.send(Bytes::from(vec![0; 4 * STREAM_WINDOW])).await });
    let (mut recv, _half) = far.into_split();
    let mut received = 0;
    for released in [0, STREAM_WINDOW / 2, STREAM_WINDOW / 2, STREAM_WINDOW] {
        recv.release(released);
        let before = received;
        while let Some(data) = next(&mut recv).await {
            received += data.len();
        }
        let expected = if before == 0 { STREAM_WINDOW } else { released };
        assert_eq!(received - before, expected, "receiving alone returns nothing");
    }
    assert!(!sending.is_finished());
}

// RFC 9113 §6.9.1
#[tokio::test(start_paused = true)]
async fn peer_that_exceeds_the_window_of_a_tunnel_loses_that_tunnel() {
    let builder = client::Builder::new().stream_window(100_000);
    let (near, far) = tokio::io::duplex(support::PIPE);
    let (client, mut peer) = tokio::join!(builder.handshake(near), Peer::server(far, &[]));
    let (send, connection) = client.unwrap();
    tokio::spawn(connection);
    let mut tunnels = Vec::new();
    for stream in [1, 3] {
        let send = send.clone();
        let connecting = tokio::spawn(async move { send.connect(request()).await.unwrap() });
        peer.next_of(HEADERS).await;
        peer.accept(stream).await;
        tunnels.push(connecting.await.unwrap());
    }
    let payload = vec![7; 10_001];
    for _ in 0..10 {
        peer.send(DATA, 0, 1, &payload).await;
    }
    let reset = peer.next_of(RST_STREAM).await;
    assert_eq!((reset.stream, reset.number()), (1, ResetReason::FlowControl.code()));
    peer.send(DATA, 0, 3, b"fine").await;
    let mut buffer = [0; 4];
    tunnels[1].read_exact(&mut buffer).await.unwrap();
    // What was within the window comes first.
    let mut received = vec![0; 9 * payload.len()];
    tunnels[0].read_exact(&mut received).await.unwrap();
    let error = tunnels[0].split().0.data().await.unwrap().unwrap_err();
    assert!(matches!(error, TunnelError::Reset(ResetReason::FlowControl)), "{error:?}");
}

// RFC 9113 §4.2
#[tokio::test(start_paused = true)]
async fn frame_that_is_too_long_ends_the_connection() {
    let (mut tunnel, mut peer) = tunnel_to_peer(&[]).await;
    peer.send(DATA, 0, 1, &vec![0; (64 << 10) + 1]).await;
    let error = tunnel.split().0.data().await.unwrap().unwrap_err();
    let TunnelError::Lost(ConnectionError::Protocol(reason)) = error else { panic!("{error:?}") };
    assert_eq!(reason, ResetReason::FrameSize);
}

#[tokio::test(start_paused = true)]
async fn releasing_more_than_received_releases_what_was_received() {
    let (mut near, far, _send) = tunnel().await;
    let (mut recv, _half) = far.into_split();
    recv.release(usize::MAX);
    near.write_all(b"hello").await.unwrap();
    assert_eq!(recv.data().await.unwrap().unwrap(), "hello");
    recv.release(usize::MAX);
    recv.release(1);
}

#[tokio::test(start_paused = true)]
async fn reading_into_buffers_releases_what_was_copied_out() {
    let (mut near, mut far, _send) = tunnel().await;
    let sent: usize = 5 * STREAM_WINDOW;
    let writer = tokio::spawn(async move {
        near.write_all(&vec![7; sent]).await.unwrap();
        near.shutdown().await.unwrap();
        near
    });
    let mut buffer = [0; 1000];
    let mut received = 0;
    loop {
        let length = far.read(&mut buffer).await.unwrap();
        if length == 0 {
            break;
        }
        received += length;
    }
    assert_eq!(received, sent);
    drop(writer.await);
}

// hbone#20
#[tokio::test(start_paused = true)]
async fn any_number_of_stalled_readers_leaves_the_others_alone() {
    let (send, connection) = pair().await;
    serve(connection, |incoming| async {
        match incoming.destination().port() {
            // Never reads.
            1 => {
                let _tunnel = incoming.accept().unwrap();
                std::future::pending::<()>().await;
            }
            _ => echo(incoming).await,
        }
    });
    let mut neighbour = send.connect(request()).await.unwrap();
    let mut stalled = Vec::new();
    for _ in 0..199 {
        let destination = hbone::Destination::from_name("example.org", 1).unwrap();
        let mut tunnel = send.connect(hbone::ConnectRequest::new(destination)).await.unwrap();
        tunnel.write_all(&vec![0; STREAM_WINDOW]).await.unwrap();
        stalled.push(tunnel);
    }
    for _ in 0..10 {
        timeout(Duration::from_secs(1), assert_echoes(&mut neighbour)).await.expect("stalled as well");
    }
}

// hbone#19
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_unread_one_byte_writes_harm_nothing() {
    let (mut near, mut far, send) = tunnel().await;
    for _ in 0..100_000 {
        near.write_all(b"x").await.unwrap();
    }
    near.shutdown().await.unwrap();
    // All of it is on the reader's side before any is read.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!send.is_closed());
    let mut received = Vec::new();
    far.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), 100_000);
}

// hbone#19: many peers take a flood of small frames for an attack.
#[tokio::test(start_paused = true)]
async fn small_writes_in_a_burst_share_a_frame() {
    let (tunnel, mut peer) = tunnel_to_peer(&[]).await;
    let (_recv, mut half) = tunnel.into_split();
    let mut expected = Vec::new();
    for round in 0..100_u8 {
        for piece in 0..100_u8 {
            half.send(Bytes::from(vec![round ^ piece; 5])).await.unwrap();
            expected.extend([round ^ piece; 5]);
        }
        tokio::task::yield_now().await;
    }
    half.finish().unwrap();
    let (mut received, mut frames) = (Vec::new(), 0);
    while received.len() < expected.len() {
        received.extend(peer.next_of(DATA).await.payload);
        frames += 1;
    }
    assert!(received == expected);
    assert!(frames <= 201, "{frames} frames for 10,000 writes");
}

// What is small does not overtake, nor is it overtaken.
#[tokio::test(start_paused = true)]
async fn writes_of_all_sizes_keep_their_order() {
    let (near, mut far, _send) = tunnel().await;
    let (recv, mut half) = near.into_split();
    let mut expected = Vec::new();
    let pieces: Vec<_> = [1, 5_000, 10, 10, 100_000, 4_095, 4_096, 3, 70_000, 1, 1]
        .into_iter()
        .cycle()
        .take(200)
        .zip((0..=u8::MAX).cycle())
        .map(|(length, fill)| Bytes::from(vec![fill; length]))
        .collect();
    expected.extend(pieces.iter().flatten());
    let sending = tokio::spawn(async move {
        for piece in pieces {
            half.send(piece).await.unwrap();
        }
        half.finish().unwrap();
        half
    });
    let mut received = Vec::new();
    far.read_to_end(&mut received).await.unwrap();
    assert!(received == expected);
    drop((sending.await, recv));
}

#[tokio::test(start_paused = true)]
async fn frames_are_at_most_64_kib_long() {
    let (tunnel, mut peer) =
        tunnel_to_peer(&[(MAX_FRAME_SIZE, 1 << 20), (INITIAL_WINDOW_SIZE, 1 << 20)]).await;
    peer.send(WINDOW_UPDATE, 0, 0, &(1u32 << 20).to_be_bytes()).await;
    let (_recv, mut half) = tunnel.into_split();
    let sender = tokio::spawn(async move {
        half.send(Bytes::from(vec![0; 300_000])).await.unwrap();
        half
    });
    let mut received = 0;
    while received < 300_000 {
        let frame = peer.next_of(DATA).await;
        assert!(frame.payload.len() <= 64 << 10, "{}", frame.payload.len());
        received += frame.payload.len();
    }
    drop(sender.await);
}

// hbone#59
#[tokio::test(start_paused = true)]
async fn bulk_is_unharmed_with_any_frame_size() {
    for frame in [16 << 10, 64 << 10, 1 << 20] {
        let client = client::Builder::new().max_frame_size(frame);
        let server = server::Builder::new().max_frame_size(frame);
        let (near, far, _send) = tunnel_with(client, server).await;
        let data = Bytes::from((0..251).cycle().take(8_000_000).collect::<Vec<_>>());
        let transfer = |from: Tunnel, data: Bytes| {
            let (mut recv, mut send) = from.into_split();
            let sent = data.clone();
            let sending = async move {
                send.send(sent).await.unwrap();
                send.finish().unwrap();
                send
            };
            let receiving = async move {
                let mut received = Vec::new();
                while let Some(chunk) = recv.data().await {
                    let chunk = chunk.unwrap();
                    recv.release(chunk.len());
                    received.extend_from_slice(&chunk);
                }
                assert!(received == data);
            };
            async move { tokio::join!(sending, receiving) }
        };
        tokio::join!(transfer(near, data.clone()), transfer(far, data));
    }
}

#[tokio::test(start_paused = true)]
async fn reservation_waits_for_credit_and_is_capped() {
    let (tunnel, mut peer) = tunnel_to_peer(&[(INITIAL_WINDOW_SIZE, 100)]).await;
    let (_recv, mut half) = tunnel.into_split();
    assert_eq!(poll_fn(|cx| half.poll_reserve(cx, usize::MAX)).await.unwrap(), 100);
    half.send(Bytes::from(vec![0; 100])).await.unwrap();
    let pending = poll_fn(|cx| Poll::Ready(half.poll_reserve(cx, 10).is_pending())).await;
    assert!(pending);
    peer.next_of(DATA).await;
    peer.send(WINDOW_UPDATE, 0, 1, &7u32.to_be_bytes()).await;
    assert_eq!(poll_fn(|cx| half.poll_reserve(cx, 10)).await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn part_of_the_data_is_taken_off_when_sent() {
    let (tunnel, _peer) = tunnel_to_peer(&[(INITIAL_WINDOW_SIZE, 100)]).await;
    let (_recv, mut half) = tunnel.into_split();
    let mut data = Bytes::from(vec![0; 150]);
    assert_eq!(poll_fn(|cx| half.poll_send(cx, &mut data)).await.unwrap(), 100);
    assert_eq!(data.len(), 50);
    let mut empty = Bytes::new();
    assert_eq!(poll_fn(|cx| half.poll_send(cx, &mut empty)).await.unwrap(), 0);
}
