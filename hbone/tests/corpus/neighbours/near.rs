use std::{
    collections::BTreeMap,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use hbone::{
    ConnectError, ConnectRequest, Destination, RecvHalf, Refusal, ResetReason, SendHalf, Tunnel, TunnelError,
    client, server,
};
use tokio::io::DuplexStream;

use super::{
    hpack::STREAM,
    lane::{Fate, Lane},
    peer::Peer,
};

type Opening = Pin<Box<dyn Future<Output = Result<Tunnel, ConnectError>>>>;

/// This side: a connection of the crate and its tunnels.
pub(super) struct Near {
    connection: Connection,
    tunnels: BTreeMap<u32, Ends>,
}

enum Connection {
    Server(server::Connection<DuplexStream>),
    Client { connection: client::Connection<DuplexStream>, send: client::SendConnect, opening: Vec<Opening> },
}

/// The halves of a tunnel, as far as they are kept.
#[derive(Default)]
struct Ends {
    recv: Option<RecvHalf>,
    send: Option<SendHalf>,
    held: usize,
    failed: bool,
}

impl Near {
    pub(super) fn server(io: DuplexStream) -> Self {
        let builder = server::Builder::new()
            .max_tunnels(TUNNELS as u32)
            .stream_window(WINDOW)
            .stream_window_limit(2 * WINDOW)
            .connection_window(CONNECTION_WINDOW)
            .requests_taken_back(LIMITLESS, LIMITLESS)
            .control_frames(LIMITLESS, LIMITLESS);
        let Poll::Ready(Ok(connection)) = poll_once(pin!(builder.handshake(io))) else {
            panic!("no preface")
        };
        Self { connection: Connection::Server(connection), tunnels: BTreeMap::new() }
    }

    pub(super) fn client(io: DuplexStream) -> Self {
        let builder = client::Builder::new()
            .stream_window(WINDOW)
            .stream_window_limit(2 * WINDOW)
            .connection_window(CONNECTION_WINDOW)
            .control_frames(LIMITLESS, LIMITLESS);
        let Poll::Ready(Ok((send, connection))) = poll_once(pin!(builder.handshake(io))) else {
            panic!("a client waits for nobody")
        };
        let opening = Vec::new();
        Self { connection: Connection::Client { connection, send, opening }, tunnels: BTreeMap::new() }
    }

    pub(super) fn open(&mut self) {
        if let Connection::Client { send, opening, .. } = &mut self.connection
            && self.tunnels.len() + opening.len() < TUNNELS
        {
            let (send, to) = (send.clone(), "192.0.2.7:8080".parse::<Destination>().expect("a destination"));
            opening.push(Box::pin(async move { send.connect(ConnectRequest::new(to)).await }));
        }
    }

    /// Takes back all requests that are not answered.
    pub(super) fn give_up(&mut self, peer: &mut Peer) {
        if let Connection::Client { opening, .. } = &mut self.connection {
            opening.clear();
            peer.is_uncertain = true;
            let tunnels = &self.tunnels;
            let unknown = peer.lanes.iter_mut().filter(|(stream, _)| !tunnels.contains_key(stream));
            unknown.for_each(|(_, lane)| lane.disturb());
        }
    }

    pub(super) fn drain(&self) {
        match &self.connection {
            Connection::Server(server) => server.handle().drain_without_deadline(),
            Connection::Client { connection, .. } => connection.handle().drain_without_deadline(),
        }
    }

    /// Does all there is to do. What one tunnel does must not end the connection.
    pub(super) fn rest(&mut self, peer: &mut Peer) {
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        for _ in 0..MAX_TURNS {
            flag.0.store(false, Ordering::Relaxed);
            let moved = self.turn(peer, &mut Context::from_waker(&waker));
            let came = peer.receive();
            if !moved && !came && !flag.0.load(Ordering::Relaxed) {
                let live = peer.lanes.len().min(TUNNELS);
                assert!(self.held_bytes() <= (live + 1) * (4 * WINDOW as usize + 4096), "too much is held");
                assert!(peer.is_answered(), "settings or pings are not answered");
                return;
            }
        }
        panic!("does not come to rest");
    }

    fn turn(&mut self, peer: &mut Peer, cx: &mut Context<'_>) -> bool {
        match &mut self.connection {
            Connection::Server(server) => match server.poll_accept(cx) {
                Poll::Pending => false,
                Poll::Ready(Some(Ok(incoming))) => {
                    let stream = u32::from(incoming.destination().port());
                    let said = (incoming.baggage(), incoming.forwarded(), incoming.traceparent());
                    drop(said);
                    match peer.lanes[&stream].fate {
                        Fate::Accept => {
                            let accepted = incoming.accept();
                            assert!(accepted.is_ok() || peer.lanes[&stream].disturbed, "{accepted:?}");
                            self.tunnels.extend(accepted.ok().map(|tunnel| (stream, Ends::new(tunnel))));
                        }
                        Fate::Refuse => incoming.refuse(Refusal::Denied),
                        Fate::Unprocessed => incoming.refuse(Refusal::Unprocessed),
                        Fate::Drop => drop(incoming),
                    }
                    true
                }
                ended => panic!("the connection ended by what one tunnel did: {ended:?}"),
            },
            Connection::Client { connection, opening, .. } => {
                let ended = Pin::new(&mut *connection).poll(cx);
                assert!(ended.is_pending(), "the connection ended by what one tunnel did: {ended:?}");
                let before = opening.len();
                opening.retain_mut(|opening| match opening.as_mut().poll(cx) {
                    Poll::Pending => true,
                    Poll::Ready(Err(_)) => false,
                    Poll::Ready(Ok(tunnel)) => {
                        let stream = tunnel.response().headers()[STREAM].to_str().expect("digits");
                        self.tunnels.insert(stream.parse().expect("a number"), Ends::new(tunnel));
                        false
                    }
                });
                opening.len() < before
            }
        }
    }

    /// Memory taken by what is received and not released. A client does not say.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.connection {
            Connection::Server(server) => server.handle().held_bytes(),
            Connection::Client { .. } => 0,
        }
    }

    /// The stream of a tunnel that is not the first.
    pub(super) fn pick(&self, which: u8) -> Option<u32> {
        let others: Vec<u32> = self.tunnels.keys().copied().filter(|stream| *stream != FIRST).collect();
        others.get(usize::from(which) % others.len().max(1)).copied()
    }

    pub(super) fn has(&self, stream: u32) -> bool {
        self.tunnels.contains_key(&stream)
    }

    /// Receives what there is, up to so many pieces. Says how many bytes.
    pub(super) fn read(&mut self, stream: u32, lane: &mut Lane, pieces: usize) -> usize {
        let Some(ends) = self.tunnels.get_mut(&stream) else { return 0 };
        let Some(recv) = &mut ends.recv else { return 0 };
        let mut count = 0;
        for _ in 0..pieces {
            match recv.poll_data(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(data))) => {
                    assert!(!data.is_empty() && !ends.failed);
                    lane.to_near.receive(stream, &data);
                    ends.held += data.len();
                    count += data.len();
                }
                Poll::Ready(Some(Err(error))) => {
                    assert!(lane.disturbed, "{error:?}");
                    assert!(
                        !matches!(error, TunnelError::OverBudget),
                        "a window of anything is within the budget"
                    );
                    ends.failed = true;
                    break;
                }
                Poll::Ready(None) => {
                    assert!(!ends.failed, "an end after an error");
                    let is_whole = lane.to_near.has_end && lane.to_near.received == lane.to_near.sent;
                    assert!(is_whole, "an end that is none");
                    break;
                }
            }
        }
        count
    }

    pub(super) fn release(&mut self, stream: u32, length: usize) {
        let Some(ends) = self.tunnels.get_mut(&stream) else { return };
        if let Some(recv) = &mut ends.recv {
            recv.release(length);
            ends.held -= length.min(ends.held);
        }
    }

    /// Sends as much of `length` as is taken now; says how much.
    pub(super) fn write(&mut self, stream: u32, lane: &mut Lane, length: usize) -> usize {
        let Some(send) = self.tunnels.get_mut(&stream).and_then(|ends| ends.send.as_mut()) else { return 0 };
        let before = lane.from_near.sent;
        let mut data = Bytes::from(lane.from_near.send(!stream, length));
        match send.poll_send(&mut Context::from_waker(Waker::noop()), &mut data) {
            Poll::Ready(Ok(sent)) => {
                assert!(sent > 0 && !lane.is_finished);
                lane.from_near.sent = before + sent;
                sent
            }
            Poll::Ready(Err(error)) => {
                assert!(lane.disturbed || lane.is_finished, "{error:?}");
                lane.from_near.sent = before;
                0
            }
            Poll::Pending => {
                // Whoever gives up has to say so.
                send.cancel_reserve();
                lane.from_near.sent = before;
                0
            }
        }
    }

    pub(super) fn finish(&mut self, stream: u32, lane: &mut Lane) {
        let Some(send) = self.tunnels.get_mut(&stream).and_then(|ends| ends.send.as_mut()) else { return };
        match send.finish() {
            Ok(()) => lane.is_finished = true,
            Err(error) => assert!(lane.disturbed, "{error:?}"),
        }
    }

    pub(super) fn reset(&mut self, stream: u32, lane: &mut Lane, code: u32) {
        let Some(send) = self.tunnels.get_mut(&stream).and_then(|ends| ends.send.as_mut()) else { return };
        lane.disturb();
        send.reset(ResetReason::from(code));
    }

    pub(super) fn drop_recv(&mut self, stream: u32, lane: &mut Lane) {
        lane.disturb();
        let Some(ends) = self.tunnels.get_mut(&stream) else { return };
        ends.recv = None;
        lane.is_abandoned = ends.send.is_none();
    }

    pub(super) fn drop_send(&mut self, stream: u32, lane: &mut Lane) {
        lane.disturb();
        let Some(ends) = self.tunnels.get_mut(&stream) else { return };
        ends.send = None;
        lane.is_abandoned = ends.recv.is_none();
    }

    /// Lets go of all tunnels but the first.
    pub(super) fn let_go(&mut self, peer: &mut Peer) {
        self.give_up(peer);
        peer.lanes.range_mut(FIRST + 1..).for_each(|(_, lane)| lane.disturb());
        self.tunnels.retain(|stream, _| *stream == FIRST);
    }

    /// The peer is gone. Whatever waits hears of it.
    pub(super) fn end(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..MAX_TURNS {
            let is_over = match &mut self.connection {
                Connection::Server(server) => matches!(server.poll_accept(&mut cx), Poll::Ready(None)),
                Connection::Client { connection, .. } => Pin::new(connection).poll(&mut cx).is_ready(),
            };
            if is_over {
                for recv in self.tunnels.values_mut().filter_map(|ends| ends.recv.as_mut()) {
                    while let Poll::Ready(event) = recv.poll_data(&mut cx) {
                        if !matches!(event, Some(Ok(_))) {
                            break;
                        }
                    }
                    assert!(recv.poll_data(&mut cx).is_ready(), "a tunnel outlives its connection");
                }
                return;
            }
        }
        panic!("a connection outlives its peer");
    }
}

impl Ends {
    fn new(tunnel: Tunnel) -> Self {
        let (recv, send) = tunnel.into_split();
        Self { recv: Some(recv), send: Some(send), ..Self::default() }
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The stream whose tunnel nobody disturbs.
pub(super) const FIRST: u32 = 1;
pub(super) const TUNNELS: usize = 8;
const WINDOW: u32 = 8 << 10;
/// The least there is, so that little has to be lost for it to be seen.
const CONNECTION_WINDOW: u32 = 65_535;
const LIMITLESS: u32 = u32::MAX;
const MAX_TURNS: usize = 10_000;
