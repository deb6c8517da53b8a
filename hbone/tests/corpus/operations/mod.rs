//! Operations on both ends of a connection, in an order that bytes decide, checked against what a tunnel promises.
//!
//! * Bytes arrive in order, and an end means all of them: a reset never looks like one.
//! * Nothing fails unless somebody did something that may make it fail.
//! * What one end accepts and the other has not released stays within the window.
//! * Once both ends do their part everything comes to an end: no wake-up is lost, nobody waits for ever.
//!
//! The fuzz target `tunnel_operations` compiles these files as they are; `cargo test` runs them with its stored inputs.

mod end;
mod model;
mod wire;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use hbone::{
    ConnectError, ConnectRequest, Destination, Refusal, ResetReason, Tunnel,
    client::{self, SendConnect},
    server::{self, Incoming},
};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use self::{
    end::{CLIENT, End, SERVER},
    model::Model,
    wire::Wire,
};

/// Tunnels in one schedule, and operations on them: enough to meet, few enough to be quick.
const MAX_TUNNELS: usize = 6;
const MAX_OPERATIONS: usize = 400;
/// Sizes of a write, chosen by the schedule.
const SIZES: [usize; 8] = [1, 9, 100, 1_000, 10_000, 16_384, 65_536, 150_000];
/// On the paused clock: it passes as soon as nothing else can happen.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// Plays the schedule that `input` describes; panics if a promise is broken.
pub(crate) fn run(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut input = input.iter().copied();
        let mut world = World::new(&mut input).await;
        for _ in 0..MAX_OPERATIONS {
            let Some((what, how)) = input.next().zip(input.next()) else { break };
            world.perform(what, how).await;
        }
        world.settle().await;
    });
}

/// A connection, its tunnels and what was done to them.
struct World {
    send: SendConnect,
    client: JoinHandle<Result<(), hbone::ConnectionError>>,
    server: JoinHandle<()>,
    requests: mpsc::UnboundedReceiver<Incoming>,
    wire: Arc<Wire>,
    windows: [u32; 2],
    tunnels: Vec<Slot>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Tunnel, ConnectError>> + Send>>;

/// A tunnel in whatever state each end has it.
struct Slot {
    model: Arc<Model>,
    opening: Option<Opening>,
    incoming: Option<Incoming>,
    ends: [Option<End>; 2],
}

impl World {
    /// A connection whose windows, buffers and pieces the first bytes of the schedule decide.
    async fn new(input: &mut impl Iterator<Item = u8>) -> Self {
        let mut next = || input.next().unwrap_or_default();
        let windows = [window(next()), window(next())];
        let capacity = 1_024 << (next() % 8);
        let pieces = (0..next() % 16).map(|_| next()).collect();
        let (wire, near, far) = Wire::new(capacity, pieces);
        let client = client::Builder::new().stream_window(windows[CLIENT]).without_keepalive();
        let server = server::Builder::new().stream_window(windows[SERVER]).without_keepalive();
        let (client, server) = tokio::join!(client.handshake(near), server.handshake(far));
        let ((send, client), mut server) = (client.expect("a client"), server.expect("a server"));
        let (requested, requests) = mpsc::unbounded_channel();
        let server = tokio::spawn(async move {
            while let Some(Ok(incoming)) = server.accept().await {
                let _ = requested.send(incoming);
            }
        });
        let client = tokio::spawn(client);
        Self { send, client, server, requests, wire, windows, tunnels: Vec::new() }
    }

    async fn perform(&mut self, what: u8, how: u8) {
        let operation = what % 16;
        match operation {
            0 => return self.open(),
            1 if how == u8::MAX => {
                self.tunnels.iter().for_each(|slot| slot.model.disturb());
                return self.wire.cut();
            }
            1 | 2 => {
                for _ in 0..=how % 64 {
                    tokio::task::yield_now().await;
                }
                return self.take_requests();
            }
            _ => {}
        }
        let count = self.tunnels.len();
        let Some(slot) = self.tunnels.get_mut(usize::from(what / 16) % count.max(1)) else { return };
        slot.answer_arrives();
        let (side, how) = (usize::from(how % 2), usize::from(how / 2));
        match operation {
            3 => slot.accept(),
            4 => slot.refuse(how),
            5 => slot.give_up(),
            _ => {
                let Some(end) = &mut slot.ends[side] else { return };
                match operation {
                    6 | 7 => end.write(SIZES[how % SIZES.len()]),
                    8 | 9 => end.read(),
                    10 => end.release(SIZES[how % SIZES.len()]),
                    11 => end.finish(),
                    12 => end.reset(ResetReason::from(u32::try_from(how % 14).expect("small"))),
                    13 => end.drop_recv(),
                    14 => end.drop_send(),
                    _ => end.look_for_reset(),
                }
            }
        }
    }

    fn open(&mut self) {
        if self.tunnels.len() < MAX_TUNNELS {
            // By the port the server's end is matched with the client's.
            let port = u16::try_from(self.tunnels.len() + 1).expect("few tunnels");
            let destination: Destination = format!("192.0.2.7:{port}").parse().expect("a destination");
            let send = self.send.clone();
            let opening = Box::pin(async move { send.connect(ConnectRequest::new(destination)).await });
            let model = Arc::new(Model::new(self.windows));
            if self.wire.is_cut() {
                model.disturb();
            }
            self.tunnels.push(Slot { model, opening: Some(opening), incoming: None, ends: [None, None] });
        }
    }

    fn take_requests(&mut self) {
        while let Ok(incoming) = self.requests.try_recv() {
            let slot = usize::from(incoming.destination().port()) - 1;
            self.tunnels[slot].incoming = Some(incoming);
        }
    }

    /// Both ends do their part: the server answers, everybody finishes and reads to the end.
    async fn settle(self) {
        let Self { send, client, server, mut requests, wire, tunnels, .. } = self;
        let models: Vec<_> = tunnels.iter().map(|slot| Arc::clone(&slot.model)).collect();
        let mut settling = JoinSet::new();
        for slot in tunnels {
            slot.settle(&mut settling);
        }
        let answered = models.clone();
        let answering = tokio::spawn(async move {
            let mut settling = JoinSet::new();
            while let Some(incoming) = requests.recv().await {
                let model = &answered[usize::from(incoming.destination().port()) - 1];
                if let Some(end) = accept(incoming, model) {
                    settling.spawn(end.settle());
                }
            }
            settling.join_all().await;
        });
        timeout(FOR_EVER, settling.join_all()).await.expect("a client's end hangs");
        drop(send);
        let ended = timeout(FOR_EVER, client).await.expect("the client's connection hangs");
        timeout(FOR_EVER, server).await.expect("the server's connection hangs").expect("no panic");
        timeout(FOR_EVER, answering).await.expect("a server's end hangs").expect("no panic");
        // The client closed its connection as soon as it had everything, and took nothing along.
        assert!(models.iter().all(|model| model.is_complete()));
        assert!(wire.is_cut() || ended.expect("no panic").is_ok());
    }
}

impl Slot {
    /// Looks whether the answer is there, as a client that does other things meanwhile.
    fn answer_arrives(&mut self) {
        let Some(opening) = &mut self.opening else { return };
        let Poll::Ready(opened) = opening.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            return;
        };
        self.opening = None;
        self.ends[CLIENT] = opened_as(opened, &self.model);
    }

    fn accept(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.ends[SERVER] = accept(incoming, &self.model);
        }
    }

    fn refuse(&mut self, how: usize) {
        let Some(incoming) = self.incoming.take() else { return };
        self.model.disturb();
        match how % 3 {
            0 => incoming.refuse(Refusal::Denied),
            1 => incoming.refuse(Refusal::Unprocessed),
            _ => drop(incoming),
        }
    }

    fn give_up(&mut self) {
        if self.opening.take().is_some() {
            self.model.disturb();
        }
    }

    fn settle(self, settling: &mut JoinSet<()>) {
        let Self { model, opening, incoming, ends } = self;
        let accepted = incoming.and_then(|incoming| accept(incoming, &model));
        for end in ends.into_iter().chain([accepted]).flatten() {
            settling.spawn(end.settle());
        }
        if let Some(opening) = opening {
            settling.spawn(async move {
                if let Some(end) = opened_as(opening.await, &model) {
                    end.settle().await;
                }
            });
        }
    }
}

fn opened_as(opened: Result<Tunnel, ConnectError>, model: &Arc<Model>) -> Option<End> {
    match opened {
        Ok(tunnel) => Some(End::new(CLIENT, tunnel, Arc::clone(model))),
        Err(error) => {
            assert!(model.is_disturbed(), "{error:?}");
            None
        }
    }
}

fn accept(incoming: Incoming, model: &Arc<Model>) -> Option<End> {
    match incoming.accept() {
        Ok(tunnel) => Some(End::new(SERVER, tunnel, Arc::clone(model))),
        Err(error) => {
            assert!(model.is_disturbed(), "{error:?}");
            None
        }
    }
}

fn window(byte: u8) -> u32 {
    256 << (byte % 11)
}
