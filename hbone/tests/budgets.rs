//! What unread bytes may take, of a tunnel, a connection and the process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{io::ErrorKind, time::Duration};

use hbone::{Budget, ConnectError, ResetReason, Side, Tunnel, TunnelError, client, server};
use support::{
    assert_echoes, client_and_peer, echo,
    frames::{self, DATA, HEADERS, Peer, SETTINGS},
    pair, pair_with, request, serve, tunnel, tunnel_with,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    time::timeout,
};

const STALL: u16 = 1;

fn stalling() -> hbone::ConnectRequest {
    hbone::ConnectRequest::new(hbone::Destination::from_name("example.org", STALL).unwrap())
}

/// Echoes, but does not read from tunnels to one port.
fn serve_some(connection: server::Connection<tokio::io::DuplexStream>) {
    serve(connection, |incoming| async {
        if incoming.destination().port() == STALL {
            let (_unread, mut send) = incoming.accept().unwrap().into_split();
            send.stopped().await;
        } else {
            echo(incoming).await;
        }
    });
}

/// A client's connection to a server with small budgets for tunnels: both ends of one that is not being read, and echoes
/// for whatever else is opened.
async fn with_an_unread_tunnel() -> (client::SendConnect, server::Handle, Tunnel, Tunnel) {
    let server = server::Builder::new().stream_budget(100_000);
    let (send, mut connection) = pair_with(client::Builder::new(), server).await;
    let handle = connection.handle();
    let (stalled, unread) = tokio::join!(send.connect(request()), async {
        let unread = connection.accept().await.unwrap().unwrap().accept().unwrap();
        serve(connection, echo);
        unread
    });
    (send, handle, stalled.unwrap(), unread)
}

async fn fill(tunnel: &mut Tunnel) {
    let chunk = vec![0; 64 << 10];
    while let Ok(written) = timeout(Duration::from_secs(1), tunnel.write(&chunk)).await {
        if written.is_err() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tunnel_over_its_budget_is_reset_alone() {
    let (send, handle, mut stalled, unread) = with_an_unread_tunnel().await;
    let mut neighbour = send.connect(request()).await.unwrap();
    let error = stalled.write_all(&vec![0; 1 << 20]).await.unwrap_err();
    let cause = error.get_ref().unwrap().downcast_ref().unwrap();
    assert!(matches!(cause, TunnelError::Reset(ResetReason::EnhanceYourCalm)), "{error:?}");
    assert_echoes(&mut neighbour).await;

    assert_eq!(handle.held_bytes(), 0, "what was not read is gone");
    let (mut recv, mut half) = unread.into_split();
    let error = recv.data().await.unwrap().unwrap_err();
    assert!(matches!(error, TunnelError::OverBudget) && error.side() == Side::Local, "{error:?}");
    assert!(matches!(half.stopped().await, TunnelError::OverBudget));
    let error = half.send(bytes::Bytes::from_static(b"x")).await.unwrap_err();
    assert!(matches!(error, TunnelError::OverBudget), "{error:?}");
    assert_eq!(std::io::Error::from(error).kind(), ErrorKind::BrokenPipe);
}

// What h2 still has of such a tunnel nobody would take.
#[tokio::test(start_paused = true)]
async fn tunnel_over_its_budget_is_reset_also_when_this_side_has_finished() {
    let (send, handle, mut stalled, unread) = with_an_unread_tunnel().await;
    let (mut recv, mut half) = unread.into_split();
    half.finish().unwrap();
    drop(half);
    let data = vec![0; 1 << 20];
    let sent = timeout(Duration::from_secs(60), stalled.write_all(&data)).await;
    assert!(sent.expect("it is told").unwrap_err().kind() == ErrorKind::ConnectionReset);
    assert_eq!(handle.held_bytes(), 0);
    let error = recv.data().await.unwrap().unwrap_err();
    assert!(matches!(error, TunnelError::OverBudget), "{error:?}");
    assert_echoes(&mut send.connect(request()).await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn full_window_is_within_the_budget_however_it_was_filled() {
    for size in [1, 100, 15_000, 16_384, 65_536] {
        let (send, mut peer) = client_and_peer(&[]).await;
        let connecting = tokio::spawn({
            let send = send.clone();
            async move { send.connect(request()).await.unwrap() }
        });
        peer.next_of(HEADERS).await;
        peer.accept(1).await;
        let mut tunnel = connecting.await.unwrap();
        let payload = vec![7; size];
        let batch: Vec<(u8, u8, u32, &[u8])> = vec![(DATA, 0, 1, &payload); (64 << 10) / size];
        for _ in 0..(1 << 20) / (batch.len() * size) {
            peer.send_all(&batch).await;
        }
        let rest = vec![7; (1 << 20) % (batch.len() * size)];
        for chunk in rest.chunks(size) {
            peer.send(DATA, 0, 1, chunk).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        // hbone#57: nothing more than the window, and not twice that in memory.
        assert!((1 << 20..2 << 20).contains(&send.held_bytes()), "{} in frames of {size}", send.held_bytes());
        let mut received = vec![0; 1 << 20];
        tunnel.read_exact(&mut received).await.unwrap();
        assert!(received.iter().all(|byte| *byte == 7));
        assert_eq!(send.held_bytes(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn connection_over_its_budget_takes_no_new_tunnels() {
    let client = client::Builder::new().connection_budget(1 << 20);
    let server = server::Builder::new().connection_budget(1 << 20);
    let (send, connection) = pair_with(client, server).await;
    serve_some(connection);
    let mut neighbour = send.connect(request()).await.unwrap();
    let mut stalled = send.connect(stalling()).await.unwrap();
    fill(&mut stalled).await;
    let error = send.connect(request()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Reset(ResetReason::Refused)) && error.is_retryable(), "{error:?}");
    assert_echoes(&mut neighbour).await;
    drop(stalled);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_echoes(&mut send.connect(request()).await.unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn client_tells_when_new_tunnels_should_go_elsewhere() {
    let client = client::Builder::new().connection_budget(500_000);
    let (mut near, mut far, send) = tunnel_with(client, server::Builder::new()).await;
    assert!(!send.is_saturated());
    far.write_all(&vec![0; 600_000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(send.is_saturated());
    assert!((600_000..1_200_000).contains(&send.held_bytes()), "{}", send.held_bytes());
    near.read_exact(&mut vec![0; 600_000]).await.unwrap();
    assert!(!send.is_saturated());
    assert_eq!(send.held_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn process_over_its_budget_refuses_new_tunnels_and_counts_them() {
    let budget = Budget::new(1 << 20);
    let refusals = server::Refusals::new();
    let server = server::Builder::new().budget(budget.clone()).refusals(refusals.clone());
    let (send, connection) = pair_with(client::Builder::new(), server.clone()).await;
    let (other, other_connection) = pair_with(client::Builder::new(), server).await;
    serve_some(connection);
    serve_some(other_connection);
    let mut neighbour = send.connect(request()).await.unwrap();
    let mut stalled = send.connect(stalling()).await.unwrap();
    fill(&mut stalled).await;
    assert!(budget.held() >= budget.limit(), "{budget:?}");
    for send in [&send, &other] {
        let error = send.connect(request()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Reset(ResetReason::Refused)), "{error:?}");
    }
    assert_eq!((budget.refused(), refusals.count()), (2, 2));
    assert_echoes(&mut neighbour).await;
    // Its end makes room again.
    drop((send, stalled, neighbour));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(budget.held(), 0);
    assert_echoes(&mut other.connect(request()).await.unwrap()).await;
    assert_eq!(budget.refused(), 2);
}

#[tokio::test(start_paused = true)]
async fn client_keeps_to_the_budget_of_the_process() {
    let budget = Budget::new(1 << 19);
    let client = client::Builder::new().budget(budget.clone());
    let (near, mut far, send) = tunnel_with(client, server::Builder::new()).await;
    far.write_all(&vec![0; 1 << 20]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let error = send.connect(request()).await.unwrap_err();
    assert!(matches!(error, ConnectError::OverBudget), "{error:?}");
    assert_eq!((error.side(), error.is_retryable(), budget.refused()), (Side::Local, false, 1));
    drop((near, far, send));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.held(), 0);
}

// Nothing else happens on the connection, which would make its driver look.
#[tokio::test(start_paused = true)]
async fn what_is_read_is_off_the_account_at_once() {
    const HELD: usize = 400_000;
    let budget = Budget::new(1 << 19);
    let server = server::Builder::new().budget(budget.clone()).without_keepalive();
    let (mut near, mut far, _send) = tunnel_with(client::Builder::new().without_keepalive(), server).await;
    near.write_all(&vec![0; HELD]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(budget.held() >= HELD - (64 << 10), "{budget:?}");
    far.read_exact(&mut vec![0; HELD]).await.unwrap();
    assert_eq!(budget.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn dropped_tunnels_hold_nothing() {
    let (send, mut connection) = pair().await;
    let handle = connection.handle();
    let (near, far) = tokio::join!(send.connect(request()), async {
        let far = connection.accept().await.unwrap().unwrap().accept().unwrap();
        serve(connection, echo);
        far
    });
    let mut near = near.unwrap();
    near.write_all(&vec![0; 500_000]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut recv, half) = far.into_split();
    // One chunk with the consumer, the rest not taken.
    let _chunk = recv.data().await.unwrap().unwrap();
    assert!(handle.held_bytes() >= 500_000);
    drop(recv);
    assert_eq!(handle.held_bytes(), 0);
    drop(half);
}

#[tokio::test(start_paused = true)]
async fn windows_grow_once_a_tunnel_is_in_bulk() {
    for (tunnels, grows) in [(1, true), (65, false)] {
        let (near, far) = duplex(support::PIPE);
        let (server, mut peer) = tokio::join!(server::handshake(near), Peer::client(far));
        serve(server.unwrap(), |incoming| async {
            let (mut recv, _send) = incoming.accept().unwrap().into_split();
            while let Some(Ok(data)) = recv.data().await {
                recv.release(data.len());
            }
        });
        assert_eq!(peer.next_of(SETTINGS).await.setting(frames::INITIAL_WINDOW_SIZE), Some(1 << 20));
        peer.next_of(frames::WINDOW_UPDATE).await;
        for index in 0..tunnels {
            peer.request(2 * index + 1, &[(":method", "CONNECT"), (":authority", "example.org:1")]).await;
        }
        // In fourths of the window, for each of which credit comes back in time.
        let payload = vec![0; 16 << 10];
        for _ in 0..80 {
            peer.send_all(&[(DATA, 0, 1, payload.as_slice()); 4]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        peer.send(frames::PING, 0, 0, &[9; 8]).await;
        let mut grown = None;
        loop {
            let frame = peer.next().await.unwrap();
            match frame.kind {
                SETTINGS if !frame.is_ack() => grown = frame.setting(frames::INITIAL_WINDOW_SIZE),
                frames::PING if frame.is_ack() => break,
                _ => {}
            }
        }
        assert_eq!(grown, grows.then_some(4 << 20), "with {tunnels}");
    }
}

#[tokio::test(start_paused = true)]
async fn window_that_is_set_does_not_grow() {
    let server = server::Builder::new().stream_window(100_000);
    let (mut near, mut far, _send) = tunnel_with(client::Builder::new(), server).await;
    let reading = tokio::spawn(async move {
        let mut received = vec![0; 2_000_000];
        far.read_exact(&mut received).await.unwrap();
        far
    });
    near.write_all(&vec![0; 2_000_000]).await.unwrap();
    let far = reading.await.unwrap();
    // The window, and what the sender buffers.
    let mut more = 0;
    while let Ok(written) = timeout(Duration::from_secs(1), near.write(&[0; 10_000])).await {
        more += written.unwrap();
    }
    assert!((100_000..=100_000 + (256 << 10)).contains(&more), "{more}");
    drop(far);
    drop(tunnel().await);
}
