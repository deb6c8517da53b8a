//! How tunnels end: each direction by itself, in order or by a reset.

mod support;

use std::{future::poll_fn, io::ErrorKind};

use bytes::Bytes;
use hbone::{ResetReason, Tunnel, TunnelError};
use support::{
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, STATUS_200},
    tunnel, tunnel_to_peer,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Each end of a tunnel once as the one that acts.
async fn both_ways() -> [(Tunnel, Tunnel, impl Sized); 2] {
    let (near, far, send) = tunnel().await;
    let (other_near, other_far, other_send) = tunnel().await;
    [(near, far, send), (other_far, other_near, other_send)]
}

fn code(reason: ResetReason) -> [u8; 4] {
    reason.code().to_be_bytes()
}

// hbone#52, hbone#53
#[tokio::test(start_paused = true)]
async fn one_direction_ends_and_the_other_goes_on() {
    for (mut here, mut there, _send) in both_ways().await {
        here.write_all(b"request").await.unwrap();
        here.shutdown().await.unwrap();
        let mut text = String::new();
        there.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "request");
        for _ in 0..3 {
            there.write_all(b"more").await.unwrap();
            let mut buffer = [0; 4];
            here.read_exact(&mut buffer).await.unwrap();
        }
        there.shutdown().await.unwrap();
        assert_eq!(here.read(&mut [0]).await.unwrap(), 0);
    }
}

// hbone#61
#[tokio::test(start_paused = true)]
async fn everything_sent_before_the_end_arrives_before_it() {
    for (here, mut there, _send) in both_ways().await {
        let (recv, mut half) = here.into_split();
        let data = Bytes::from((0..=u8::MAX).cycle().take(3_000_000).collect::<Vec<_>>());
        let sent = data.clone();
        let sender = tokio::spawn(async move {
            half.send(sent).await.unwrap();
            half.finish().unwrap();
            half
        });
        let mut received = Vec::new();
        there.read_to_end(&mut received).await.unwrap();
        assert!(received == data);
        drop((sender.await, recv));
    }
}

#[tokio::test(start_paused = true)]
async fn writing_after_the_end_is_an_error() {
    let (mut near, _far, _send) = tunnel().await;
    near.shutdown().await.unwrap();
    near.shutdown().await.unwrap();
    assert_eq!(near.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

// hbone#54, hbone#55
#[tokio::test(start_paused = true)]
async fn reset_before_the_end_is_an_error_whatever_its_code() {
    for reason in
        [ResetReason::NoError, ResetReason::Cancel, ResetReason::StreamClosed, ResetReason::ConnectError]
    {
        let (tunnel, mut peer) = tunnel_to_peer(&[]).await;
        peer.send_all(&[(DATA, 0, 1, b"truncated"), (RST_STREAM, 0, 1, &code(reason))]).await;
        let (mut recv, mut send) = tunnel.into_split();
        assert_eq!(recv.data().await.unwrap().unwrap(), "truncated", "what arrived before comes first");
        let error = recv.data().await.unwrap().unwrap_err();
        assert!(matches!(error, TunnelError::Reset(found) if found == reason), "{error:?}");
        let error = send.send(Bytes::from_static(b"x")).await.unwrap_err();
        assert!(matches!(error, TunnelError::Reset(found) if found == reason), "{error:?}");
        assert!(send.finish().unwrap_err().is_reset());
    }
}

// hbone#55
#[tokio::test(start_paused = true)]
async fn reset_after_the_end_is_none() {
    for reason in [ResetReason::NoError, ResetReason::Cancel] {
        let (tunnel, mut peer) = tunnel_to_peer(&[]).await;
        peer.send_all(&[(DATA, 0, 1, b"all"), (DATA, END_STREAM, 1, b""), (RST_STREAM, 0, 1, &code(reason))])
            .await;
        let (mut recv, mut send) = tunnel.into_split();
        assert_eq!(recv.data().await.unwrap().unwrap(), "all");
        assert!(recv.data().await.is_none());
        assert!(recv.data().await.is_none());
        send.finish().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn sender_with_nothing_to_send_learns_of_a_reset() {
    let (tunnel, mut peer) = tunnel_to_peer(&[]).await;
    let (mut recv, mut send) = tunnel.into_split();
    peer.send(DATA, END_STREAM, 1, b"").await;
    assert!(recv.data().await.is_none());
    let stopped = tokio::spawn(async move { send.stopped().await });
    peer.send(RST_STREAM, 0, 1, &code(ResetReason::ConnectError)).await;
    let error = stopped.await.unwrap();
    assert!(matches!(error, TunnelError::Reset(ResetReason::ConnectError)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn reset_carries_its_reason_to_the_far_end() {
    for (here, mut there, _send) in both_ways().await {
        here.reset(ResetReason::ConnectError);
        let (recv, send) = there.split();
        let error = recv.data().await.unwrap().unwrap_err();
        assert!(matches!(error, TunnelError::Reset(ResetReason::ConnectError)), "{error:?}");
        let error = send.send(Bytes::from_static(b"x")).await.unwrap_err();
        assert!(matches!(error, TunnelError::Reset(ResetReason::ConnectError)), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn own_reset_closes_the_other_half() {
    let (near, _far, _send) = tunnel().await;
    let (mut recv, mut send) = near.into_split();
    send.reset(ResetReason::Cancel);
    assert!(matches!(recv.data().await, Some(Err(TunnelError::Closed))));
    assert!(matches!(send.send(Bytes::from_static(b"x")).await, Err(TunnelError::Closed)));
    assert!(matches!(send.finish(), Err(TunnelError::Closed)));
    assert!(matches!(send.stopped().await, TunnelError::Closed));
}

#[tokio::test(start_paused = true)]
async fn dropping_an_unfinished_tunnel_is_a_reset() {
    for (mut here, mut there, _send) in both_ways().await {
        here.write_all(b"truncated").await.unwrap();
        let mut buffer = [0; 9];
        there.read_exact(&mut buffer).await.unwrap();
        drop(here);
        assert_eq!(there.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(there.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test(start_paused = true)]
async fn finished_half_can_go_before_the_other() {
    for (here, mut there, _send) in both_ways().await {
        let (mut recv, mut send) = here.into_split();
        send.finish().unwrap();
        drop(send);
        assert_eq!(there.read(&mut [0]).await.unwrap(), 0);
        there.write_all(b"still here").await.unwrap();
        assert_eq!(recv.data().await.unwrap().unwrap(), "still here");
        there.shutdown().await.unwrap();
        assert!(recv.data().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn receiving_half_dropped_early_lets_the_other_finish() {
    for (here, mut there, _send) in both_ways().await {
        let (recv, mut send) = here.into_split();
        drop(recv);
        send.send(Bytes::from_static(b"hello")).await.unwrap();
        let mut buffer = [0; 5];
        there.read_exact(&mut buffer).await.unwrap();
        drop(send);
        assert_eq!(there.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

// hbone#56
#[tokio::test(start_paused = true)]
async fn lost_connection_ends_its_tunnels_and_no_others() {
    let (tunnel, peer) = tunnel_to_peer(&[]).await;
    let (mut near, mut far, _send) = support::tunnel().await;
    let (mut recv, mut send) = tunnel.into_split();
    drop(peer);
    assert!(matches!(recv.data().await, Some(Err(TunnelError::Lost(_)))));
    assert!(matches!(send.send(Bytes::from_static(b"x")).await, Err(TunnelError::Lost(_))));
    near.write_all(b"fine").await.unwrap();
    let mut buffer = [0; 4];
    far.read_exact(&mut buffer).await.unwrap();
}

// hbone#58
#[tokio::test(start_paused = true)]
async fn empty_frames_are_harmless() {
    let (tunnel, mut peer) = tunnel_to_peer(&[]).await;
    let (mut recv, _half) = tunnel.into_split();
    for _ in 0..99 {
        peer.send(DATA, 0, 1, b"").await;
    }
    peer.send(DATA, 0, 1, b"hello").await;
    assert_eq!(recv.data().await.unwrap().unwrap(), "hello");
}

// hbone#58, hbone#60
#[tokio::test(start_paused = true)]
async fn only_data_is_sent_and_it_is_empty_only_at_the_end() {
    let (tunnel, mut peer) = tunnel_to_peer(&[]).await;
    let (_recv, mut half) = tunnel.into_split();
    half.send(Bytes::new()).await.unwrap();
    half.write_all(b"").await.unwrap();
    assert_eq!(half.write(b"").await.unwrap(), 0);
    assert_eq!(half.write_vectored(&[]).await.unwrap(), 0);
    assert_eq!(poll_fn(|cx| half.poll_send(cx, &mut Bytes::new())).await.unwrap(), 0);
    tokio::task::yield_now().await;
    half.send(Bytes::from_static(b"hello")).await.unwrap();
    half.finish().unwrap();
    let mut frames = Vec::new();
    while frames.last().is_none_or(|(_, _, end)| !end) {
        let frame = peer.next().await.unwrap();
        if frame.stream == 1 {
            frames.push((frame.kind, frame.payload.clone(), frame.kind == DATA && frame.is_end_stream()));
        }
    }
    let data = |payload: &[u8], end| (DATA, payload.to_vec(), end);
    let expected = [vec![data(b"hello", true)], vec![data(b"hello", false), data(b"", true)]];
    assert!(expected.contains(&frames), "{frames:?}");
}

// hbone#92
#[tokio::test(start_paused = true)]
async fn answer_and_end_read_together_are_told_apart() {
    let (send, mut peer) = support::client_and_peer(&[]).await;
    let connecting = tokio::spawn(async move { send.connect(support::request()).await });
    peer.next_of(HEADERS).await;
    let reset = code(ResetReason::NoError);
    peer.send_all(&[
        (HEADERS, END_HEADERS, 1, &[STATUS_200]),
        (DATA, END_STREAM, 1, b"bye"),
        (RST_STREAM, 0, 1, &reset),
    ])
    .await;
    let mut tunnel = connecting.await.unwrap().unwrap();
    let mut text = String::new();
    tunnel.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "bye");
}
