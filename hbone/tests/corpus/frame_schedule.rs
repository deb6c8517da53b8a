//! A peer that sends any frames in any order, while this side accepts, reads, writes and lets go.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use hbone::{
    Baggage, ConnectRequest, ConnectResponse, RecvHalf, Refusal, ResetReason, SendHalf, Tunnel, client,
    server,
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

/// Runs the schedule that `input` spells, as a server or as a client.
///
/// # Panics
///
/// If this side panics, never comes to rest, holds more than it may, or outlives its peer.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    // All is polled by hand, within what the runtime takes for one turn of a task.
    runtime.block_on(tokio::task::unconstrained(async {
        let (near, peer) = duplex(PIPE);
        let mut world = World { peer: Some(peer), tunnels: Vec::new() };
        if input.byte() & 1 == 0 {
            world.send(PREFACE);
            serve(near, &mut world, &mut input).await;
        } else {
            connect(near, &mut world, &mut input).await;
        }
    }));
}

async fn serve(near: DuplexStream, world: &mut World, input: &mut Input<'_>) {
    let builder = server::Builder::new()
        .max_tunnels(TUNNELS)
        .stream_window(WINDOW)
        .connection_budget(BUDGET)
        .requests_taken_back(20, 1)
        .control_frames(50, 1);
    let mut handshake = pin!(async { builder.handshake(near).await });
    let mut connection = None;
    let mut over = false;
    while let Some(step) = input.step() {
        step.act(world, input).await;
        if connection.is_none() {
            match poll_once(handshake.as_mut()) {
                Poll::Pending => continue,
                Poll::Ready(Ok(server)) => connection = Some(server),
                Poll::Ready(Err(_)) => return,
            }
        }
        let Some(server) = &mut connection else { continue };
        let handle = server.handle();
        over |= rest(|cx| match server.poll_accept(cx) {
            Poll::Pending => Poll::Ready(false),
            Poll::Ready(None) => Poll::Ready(true),
            Poll::Ready(Some(Err(_))) => Poll::Pending,
            Poll::Ready(Some(Ok(incoming))) => {
                let said =
                    (incoming.baggage(), incoming.forwarded(), incoming.traceparent(), incoming.tracestate());
                drop(said);
                match step {
                    Step::Refuse => incoming.refuse(Refusal::Denied),
                    _ => {
                        world.keep(incoming.accept_with(ConnectResponse::new().with_baggage(Baggage::new())))
                    }
                }
                Poll::Pending
            }
        });
        world.receive();
        assert!(handle.held_bytes() <= BUDGET + TUNNELS as usize * (2 * WINDOW as usize + 4096));
    }
    world.peer = None;
    if let Some(mut server) = connection
        && !over
    {
        rest(|cx| {
            if matches!(server.poll_accept(cx), Poll::Ready(None)) { Poll::Ready(()) } else { Poll::Pending }
        });
    }
    world.expect_ends();
}

async fn connect(near: DuplexStream, world: &mut World, input: &mut Input<'_>) {
    let builder = client::Builder::new().stream_window(WINDOW).connection_budget(BUDGET);
    let Poll::Ready(Ok((send, mut connection))) = poll_once(pin!(builder.handshake(near))) else { return };
    let mut over = false;
    let mut opening = Vec::new();
    while let Some(step) = input.step() {
        step.act(world, input).await;
        if opening.len() < TUNNELS as usize && matches!(step, Step::Refuse | Step::Request { .. }) {
            let send = send.clone();
            let request = ConnectRequest::new("192.0.2.7:8080".parse::<hbone::Destination>().unwrap());
            opening.push(Box::pin(async move { send.connect(request).await }));
        }
        opening.retain_mut(|opening| match poll_once(opening.as_mut()) {
            Poll::Pending => true,
            Poll::Ready(tunnel) => {
                world.keep(tunnel);
                false
            }
        });
        if !over {
            over = poll_once(Pin::new(&mut connection)).is_ready();
        }
        world.receive();
    }
    world.peer = None;
    if !over {
        rest(|cx| Pin::new(&mut connection).poll(cx).map(drop));
    }
    for mut opening in opening {
        assert!(matches!(poll_once(opening.as_mut()), Poll::Ready(_)), "a request outlives its connection");
    }
    world.expect_ends();
}

/// The peer, and the tunnels of this side.
struct World {
    peer: Option<DuplexStream>,
    tunnels: Vec<(RecvHalf, Option<SendHalf>)>,
}

impl World {
    fn keep<E>(&mut self, tunnel: Result<Tunnel, E>) {
        if let Ok(tunnel) = tunnel {
            let (recv, send) = tunnel.into_split();
            self.tunnels.push((recv, Some(send)));
        }
    }

    /// The peer sends bytes, as far as there is room.
    fn send(&mut self, bytes: &[u8]) {
        if let Some(peer) = &mut self.peer {
            let _ = Pin::new(peer).poll_write(&mut Context::from_waker(Waker::noop()), bytes);
        }
    }

    /// The peer takes what there is, and looks at none of it.
    fn receive(&mut self) {
        let Some(peer) = &mut self.peer else { return };
        let mut space = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            let read = Pin::new(&mut *peer).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
            if read.is_pending() || buffer.filled().is_empty() {
                return;
            }
        }
    }

    /// The peer is gone: whatever waits must hear of it.
    fn expect_ends(&mut self) {
        for (recv, _) in &mut self.tunnels {
            rest(|cx| match recv.poll_data(cx) {
                Poll::Ready(Some(Ok(_))) => Poll::Pending,
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => panic!("a tunnel outlives its connection"),
            });
        }
    }
}

#[derive(Clone, Copy)]
enum Step {
    Frame {
        kind: u8,
    },
    /// More than the input has bytes.
    Bulk {
        stream: u8,
    },
    Garbage,
    Request {
        stream: u8,
    },
    Refuse,
    Read {
        tunnel: u8,
    },
    Write {
        tunnel: u8,
    },
    Finish {
        tunnel: u8,
    },
    Reset {
        tunnel: u8,
    },
    LetGo {
        tunnel: u8,
    },
    Wait,
}

impl Step {
    async fn act(self, world: &mut World, input: &mut Input<'_>) {
        let count = world.tunnels.len().max(1);
        let at = |tunnel: u8| usize::from(tunnel) % count;
        match self {
            Self::Frame { kind } => {
                let (flags, stream) = (input.byte(), input.byte());
                let payload = input.payload();
                world.send(&frame(kind, flags, stream, payload));
            }
            Self::Bulk { stream } => {
                let (flags, length, times) = (input.byte(), input.byte(), input.byte());
                let frame = frame(DATA, flags, stream, &vec![0; usize::from(length) * LARGEST_DATA / 255]);
                (0..=times % 16).for_each(|_| world.send(&frame));
            }
            Self::Garbage => world.send(input.payload()),
            Self::Request { stream } => world.send(&frame(HEADERS, END_HEADERS, stream | 1, &request())),
            Self::Refuse => {}
            Self::Read { tunnel } => {
                if let Some((recv, _)) = world.tunnels.get_mut(at(tunnel))
                    && let Poll::Ready(Some(Ok(data))) =
                        recv.poll_data(&mut Context::from_waker(Waker::noop()))
                {
                    recv.release(data.len() / 2);
                }
            }
            Self::Write { tunnel } => {
                if let Some((_, Some(send))) = world.tunnels.get_mut(at(tunnel)) {
                    let _ = poll_once(pin!(send.send(Bytes::from_static(&[7; 100]))));
                }
            }
            Self::Finish { tunnel } => {
                if let Some((_, Some(send))) = world.tunnels.get_mut(at(tunnel)) {
                    let _ = send.finish();
                }
            }
            Self::Reset { tunnel } => {
                if let Some((_, send)) = world.tunnels.get_mut(at(tunnel))
                    && let Some(mut send) = send.take()
                {
                    send.reset(ResetReason::ConnectError);
                }
            }
            Self::LetGo { tunnel } => {
                if !world.tunnels.is_empty() {
                    world.tunnels.swap_remove(at(tunnel));
                }
            }
            Self::Wait => tokio::time::advance(Duration::from_secs(1)).await,
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn payload(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (payload, rest) = self.0.split_at(length);
        self.0 = rest;
        payload
    }

    fn step(&mut self) -> Option<Step> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.byte() {
            kind @ 0..=10 => Step::Frame { kind },
            11 => Step::Garbage,
            12..=14 => Step::Request { stream: self.byte() },
            15 => Step::Refuse,
            16 => Step::Read { tunnel: self.byte() },
            17 => Step::Write { tunnel: self.byte() },
            18 => Step::Finish { tunnel: self.byte() },
            19 => Step::Reset { tunnel: self.byte() },
            20 => Step::LetGo { tunnel: self.byte() },
            21 => Step::Wait,
            22 | 23 => Step::Bulk { stream: self.byte() },
            kind => Step::Frame { kind },
        })
    }
}

/// Polls until there is a result, which must not take long.
fn rest<R>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> R {
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..MAX_POLLS {
        if let Poll::Ready(result) = poll(&mut cx) {
            return result;
        }
    }
    panic!("does not come to rest");
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// RFC 9113 §4.1.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A CONNECT request, as literals without indexing (RFC 7541 §6.2.2).
fn request() -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let fields =
        [(":method", "CONNECT"), (":authority", "192.0.2.7:8080"), ("baggage", "service.name=a,b=c;d")];
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PIPE: usize = 512 << 10;
const LARGEST_DATA: usize = 16_384;
const TUNNELS: u32 = 8;
const WINDOW: u32 = 16 << 10;
const BUDGET: usize = 64 << 10;
const MAX_POLLS: usize = 10_000;
