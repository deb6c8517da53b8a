//! What tunnels take, counted by the allocator.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::{future::Future, time::Duration};

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use hbone::{client, server};
use support::{
    PIPE, echo,
    frames::{
        DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, Peer, SETTINGS, WINDOW_UPDATE,
        encode, encode_fields,
    },
    raw_client, raw_connect, request, serve,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, DuplexStream, duplex},
    runtime::{Builder, Runtime},
    time::timeout,
};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// What a future allocates, and what it leaves.
fn allocated(runtime: &Runtime, future: impl Future<Output = ()>) -> AllocationInfo {
    let mut future = Some(future);
    measure(|| runtime.block_on(future.take().unwrap()))
}

// hbone#57
#[test]
fn four_million_tiny_frames_nobody_reads_take_little_more_than_their_bytes() {
    const FRAMES: usize = 4_000_000;
    const ROUNDS: usize = 40;
    const NEIGHBOURS: u32 = 32;
    let runtime = runtime();
    let (mut peer, mut stalled, server) = runtime.block_on(async {
        let (near, far) = duplex(PIPE);
        let builder = server::Builder::new().stream_window(4 << 20);
        let (server, mut peer) = tokio::join!(builder.handshake(near), Peer::client(far));
        let mut server = server.unwrap();
        let head = encode_fields(&[(":method", "CONNECT"), (":authority", "example.org:1")]);
        peer.send(HEADERS, END_HEADERS, 1, &head).await;
        let stalled = server.accept().await.unwrap().unwrap().accept().unwrap();
        let server = serve(server, echo);
        for index in 1..=NEIGHBOURS {
            peer.send(HEADERS, END_HEADERS, 2 * index + 1, &head).await;
        }
        // Acknowledged, the windows are what they say.
        peer.next_of(SETTINGS).await;
        (peer, stalled, server)
    });
    let burst: Vec<(u8, u8, u32, &[u8])> = vec![(DATA, 0, 1, b"x"); 1_000];
    let info = allocated(&runtime, async {
        for round in 0..ROUNDS {
            for _ in 0..FRAMES / ROUNDS / burst.len() {
                peer.send_all(&burst).await;
            }
            let message = [u8::try_from(round).unwrap(); 64];
            for index in 1..=NEIGHBOURS {
                peer.send(DATA, 0, 2 * index + 1, &message).await;
            }
            let credit = NEIGHBOURS * 64;
            peer.send(WINDOW_UPDATE, 0, 0, &credit.to_be_bytes()).await;
            let mut echoes = 0;
            while echoes < NEIGHBOURS {
                let frame = peer.next().await.unwrap();
                assert_ne!(frame.kind, GOAWAY);
                if frame.kind == DATA {
                    assert_eq!(frame.payload, message);
                    echoes += 1;
                }
            }
        }
    });
    // Twice the bytes, and what a turn leaves in h2.
    assert!(info.bytes_max < 12 << 20, "{info:?}");
    runtime.block_on(async {
        let mut received = vec![0; FRAMES];
        stalled.read_exact(&mut received).await.unwrap();
        assert!(received.iter().all(|byte| *byte == b'x'));
        server.abort();
    });
}

#[test]
fn tiny_writes_that_cannot_leave_take_little_more_than_their_bytes() {
    let (near, far) = duplex(PIPE);
    write_tiny_pieces_into(near, far);
    // As TLS does: it takes what is written, and does not get rid of it.
    let (near, far) = duplex(PIPE);
    write_tiny_pieces_into(BufWriter::with_capacity(PIPE, near), far);
}

fn write_tiny_pieces_into<T>(near: T, far: DuplexStream)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    const SEND_BUFFER: usize = 256 << 10;
    let runtime = runtime();
    let (mut half, kept) = runtime.block_on(async {
        let (send, connection) = client::handshake(near).await.unwrap();
        tokio::spawn(connection);
        let mut peer = Peer::server(far, &[(INITIAL_WINDOW_SIZE, 1 << 20)]).await;
        peer.send(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes()).await;
        let mut halves = Vec::new();
        for stream in [1, 3] {
            let send = send.clone();
            let connecting = tokio::spawn(async move { send.connect(request()).await.unwrap() });
            peer.next_of(HEADERS).await;
            peer.accept(stream).await;
            halves.push(connecting.await.unwrap().into_split());
        }
        // As much as the stream below takes, which nobody reads.
        let chunk = Bytes::from(vec![0; 16 << 10]);
        let (recv, half) = halves.pop().unwrap();
        let (_, first) = halves.last_mut().unwrap();
        while timeout(Duration::from_secs(1), first.send(chunk.clone())).await.is_ok() {}
        (half, (send, peer, halves, recv))
    });
    let mut written = 0;
    let info = allocated(&runtime, async {
        while let Ok(sent) = timeout(Duration::from_secs(1), half.send(Bytes::from_static(b"x"))).await {
            sent.unwrap();
            written += 1;
            // Each in a turn of the driver's own.
            tokio::task::yield_now().await;
        }
    });
    assert!((SEND_BUFFER - 1..=SEND_BUFFER).contains(&written), "{written}");
    assert!(info.bytes_max < 2 * SEND_BUFFER as u64 + (64 << 10), "{info:?}");
    drop(kept);
}

// h2 answers a frame on a stream that it does not know with a reset, which it keeps until it is written.
#[test]
fn frames_on_streams_long_gone_take_bounded_memory_though_no_answer_is_read() {
    let runtime = runtime();
    let mut peer = runtime.block_on(async {
        let (near, far) = duplex(PIPE);
        let (server, mut peer) = tokio::join!(server::handshake(near), Peer::client(far));
        serve(server.unwrap(), echo);
        let head = encode_fields(&[(":method", "CONNECT"), (":authority", "example.org:1")]);
        // All lower ones may have been streams.
        peer.send(HEADERS, END_HEADERS, (1 << 31) - 3, &head).await;
        peer.into_io()
    });
    let mut stream = 1;
    let info = allocated(&runtime, async {
        // Until the server has hung up.
        for _ in 0..1_000 {
            let frames: Vec<_> = (0..1_000).flat_map(|at| encode(DATA, 0, stream + 2 * at, b"x")).collect();
            stream += 2_000;
            if peer.write_all(&frames).await.is_err() {
                return;
            }
        }
        panic!("a million frames were taken");
    });
    assert!(info.bytes_max < 100 << 20, "{info:?}");
}

// They mean nothing here, and a tunnel may go on in the other direction for weeks.
#[test]
fn trailers_are_not_kept() {
    const TUNNELS: u32 = 100;
    let runtime = runtime();
    let (mut peer, mut tunnels) = runtime.block_on(async {
        let (near, far) = duplex(PIPE);
        let (server, mut peer) = tokio::join!(server::handshake(near), Peer::client(far));
        let mut server = server.unwrap();
        let head = encode_fields(&[(":method", "CONNECT"), (":authority", "example.org:1")]);
        let mut tunnels = Vec::new();
        for index in 0..TUNNELS {
            peer.send(HEADERS, END_HEADERS, 2 * index + 1, &head).await;
            tunnels.push(server.accept().await.unwrap().unwrap().accept().unwrap());
        }
        // Acknowledged, a frame may be as long as that.
        peer.next_of(SETTINGS).await;
        serve(server, echo);
        (peer, tunnels)
    });
    let value = "v".repeat(120);
    let trailers = encode_fields(&vec![("a", &*value); 300]);
    let info = allocated(&runtime, async {
        for index in 0..TUNNELS {
            peer.send(HEADERS, END_HEADERS | END_STREAM, 2 * index + 1, &trailers).await;
        }
        for tunnel in &mut tunnels {
            assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
        }
    });
    assert!(info.bytes_current < 1 << 20, "{info:?}");
}

#[test]
fn each_side_opens_a_tunnel_with_three_allocations_more_than_h2() {
    const ROUNDS: u64 = 1_000;
    let runtime = runtime();
    let raw = |hbone_server: bool| {
        let client = runtime.block_on(async {
            let (near, far) = duplex(PIPE);
            start_server(far, hbone_server);
            raw_client(near).await
        });
        let open = async || {
            let (response, body) = client.clone().send_request(raw_connect("192.0.2.7:8080"), false).unwrap();
            drop((response.await.unwrap(), body));
        };
        count(&runtime, ROUNDS, open)
    };
    let (bare, accepting) = (raw(false), raw(true));
    let send = runtime.block_on(async {
        let (near, far) = duplex(PIPE);
        start_server(far, false);
        let (send, connection) = client::handshake(near).await.unwrap();
        tokio::spawn(connection);
        send
    });
    let connecting = count(&runtime, ROUNDS, async || drop(send.connect(request()).await.unwrap()));
    println!("allocations of {ROUNDS}: h2 {bare}, client ours {connecting}, server ours {accepting}");
    for ours in [connecting, accepting] {
        assert!(ours <= bare + 3 * ROUNDS, "{ours} instead of {bare}");
    }
}

fn start_server(io: DuplexStream, ours: bool) {
    if ours {
        tokio::spawn(async move { serve(server::handshake(io).await.unwrap(), echo).await });
        return;
    }
    tokio::spawn(async move {
        let mut server = h2::server::handshake(io).await.unwrap();
        while let Some(Ok((request, mut respond))) = server.accept().await {
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut send = respond.send_response(http::Response::new(()), false).unwrap();
                while let Some(Ok(_)) = body.data().await {}
                let _ = send.send_data(Bytes::new(), true);
            });
        }
    });
}

/// How much is allocated for so many tunnels, once the first have made room.
fn count(runtime: &Runtime, rounds: u64, open: impl AsyncFn()) -> u64 {
    let repeat = |rounds| {
        runtime.block_on(async {
            for _ in 0..rounds {
                open().await
            }
        })
    };
    repeat(10);
    measure(|| repeat(rounds)).count_total
}

#[test]
fn ten_thousand_idle_tunnels_take_three_kib_each_on_either_side() {
    const CONNECTIONS: usize = 100;
    const TUNNELS: usize = 100;
    let runtime = runtime();
    let mut held = Vec::with_capacity(CONNECTIONS * TUNNELS);
    let mut accepted = Vec::with_capacity(CONNECTIONS * TUNNELS);
    let mut drivers = Vec::with_capacity(CONNECTIONS);
    let info = allocated(&runtime, async {
        for _ in 0..CONNECTIONS {
            // Without what the pipe between them takes.
            let (near, far) = duplex(4 << 10);
            let (client, server) = tokio::join!(client::handshake(near), server::handshake(far));
            let ((send, connection), mut server) = (client.unwrap(), server.unwrap());
            tokio::spawn(connection);
            let opened = async {
                for _ in 0..TUNNELS {
                    held.push(send.connect(request()).await.unwrap());
                }
            };
            let accepting = async {
                for _ in 0..TUNNELS {
                    accepted.push(server.accept().await.unwrap().unwrap().accept().unwrap());
                }
                // Has the last answer sent.
                drivers.push(tokio::spawn(async move { while server.accept().await.is_some() {} }));
            };
            tokio::join!(opened, accepting);
        }
    });
    let each = info.bytes_current / i64::try_from(CONNECTIONS * TUNNELS).unwrap();
    println!("an idle tunnel takes {each} bytes, both sides and a hundredth of the connection together");
    assert!(each <= 2 * 3 * 1024, "{each}");
}
