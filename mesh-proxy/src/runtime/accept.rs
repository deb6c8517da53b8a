use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
};

use super::{Handoff, balance::Place};
use crate::{
    context::WorkerContext,
    drain::DrainWatch,
    error::ConnectionError,
    inbound, outbound,
    socket::{canonical, reset_on_close},
    socks5,
    telemetry::{Direction, Event, SocketRecord},
};

/// First pause after a failed accept; doubled up to [`LONGEST_PAUSE`] while it keeps failing.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capture {
    InboundHbone,
    InboundPlaintext,
    Outbound,
    Socks5,
}

impl Capture {
    pub(super) fn direction(self) -> Direction {
        match self {
            Self::InboundHbone | Self::InboundPlaintext => Direction::Inbound,
            Self::Outbound | Self::Socks5 => Direction::Outbound,
        }
    }
}

/// Accepts connections and starts serving them until the proxy drains.
///
/// What the kernel had completed by then is still accepted, since closing a listener resets its queue, and served; on the
/// HBONE port that is to say goodbye, and its peers dial again. At the bound of all workers one more is accepted and waits.
pub(super) async fn accept(listener: TcpListener, capture: Capture, context: Arc<WorkerContext>) {
    let mut drain = context.drain.clone();
    let mut pause = SHORTEST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = drain.started() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = SHORTEST_PAUSE;
                start(Accepted { stream, peer: canonical(peer), capture }, &mut drain, &context).await;
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                // Descriptors or memory are short: hammering the listener would only burn a core.
                report(&context, capture, &error);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    if let Err(error) = take_the_rest(listener, capture, &context) {
        report(&context, capture, &error);
    }
}

/// Takes what is in the kernel's queue, whether or not the runtime has heard of it.
fn take_the_rest(listener: TcpListener, capture: Capture, context: &Arc<WorkerContext>) -> io::Result<()> {
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(true)?;
                let stream = TcpStream::from_std(stream)?;
                serve_or_turn_away(Accepted { stream, peer: canonical(peer), capture }, context);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// A connection that nobody serves yet.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    capture: Capture,
}

/// Finds a worker that serves one more connection, if need be by waiting for this one.
async fn start(accepted: Accepted, drain: &mut DrainWatch, context: &Arc<WorkerContext>) {
    let (own, capture) = (context.index, accepted.capture);
    // A worker that drains may have looked into its queue for the last time.
    if context.drain.has_started() {
        return serve_or_turn_away(accepted, context);
    }
    // Not before there is a connection: a listener that waits takes no place that another needs.
    let place = context.balance.take_place(own, capture);
    if place.worker() == own
        && let Some(permit) = context.capacity.try_take(capture.direction())
    {
        return serve(accepted, permit, place, context);
    }
    drop(place);
    let Some(accepted) = pass_on(accepted, context) else { return };
    tokio::select! {
        biased;
        permit = context.capacity.take(capture.direction()) => {
            serve(accepted, permit, context.balance.place_on(own, capture), context);
        }
        _ = drain.started() => serve_or_turn_away(accepted, context),
    }
}

/// Gives a connection to another worker, if one takes it.
fn pass_on(accepted: Accepted, context: &Arc<WorkerContext>) -> Option<Accepted> {
    let Some((place, permit)) = context.balance.take_place_elsewhere(context.index, accepted.capture) else {
        return Some(accepted);
    };
    let Accepted { stream, peer, capture } = accepted;
    let passed = stream.into_std().and_then(|stream| {
        match context.balance.hand_off(Handoff { stream, peer, capture, place, permit }) {
            Ok(()) => Ok(None),
            Err(kept) => TcpStream::from_std(kept.stream).map(Some),
        }
    });
    match passed {
        Ok(kept) => kept.map(|stream| Accepted { stream, peer, capture }),
        Err(error) => {
            report(context, capture, &error);
            None
        }
    }
}

/// Serves a connection here if that is possible at once.
fn serve_or_turn_away(accepted: Accepted, context: &Arc<WorkerContext>) {
    let (direction, peer) = (accepted.capture.direction(), accepted.peer);
    if let Some(permit) = context.capacity.try_take(direction) {
        let place = context.balance.place_on(context.index, accepted.capture);
        return serve(accepted, permit, place, context);
    }
    let destination = accepted.stream.local_addr().map_or(peer, canonical);
    context.refuse_early(direction, peer, destination, &ConnectionError::Drained);
    reset_on_close(&accepted.stream);
}

/// Serves a connection that another worker accepted.
pub(super) fn receive(handoff: Handoff, context: &Arc<WorkerContext>) {
    let Handoff { stream, peer, capture, place, permit } = handoff;
    match TcpStream::from_std(stream) {
        Ok(stream) => serve(Accepted { stream, peer, capture }, permit, place, context),
        Err(error) => report(context, capture, &error),
    }
}

fn report(context: &WorkerContext, capture: Capture, error: &io::Error) {
    context.observer.event(&Event::AcceptFailed { direction: capture.direction(), error });
}

fn serve(accepted: Accepted, permit: OwnedSemaphorePermit, place: Place, context: &Arc<WorkerContext>) {
    let Accepted { stream, peer, capture } = accepted;
    let open = SocketRecord::open(Arc::clone(&context.observer), capture.direction());
    let context = Arc::clone(context);
    tokio::spawn(async move {
        match capture {
            Capture::InboundHbone => inbound::serve_hbone(&context, stream, peer, permit).await,
            Capture::InboundPlaintext => {
                inbound::serve_plaintext(&context, stream, peer).await;
                drop(permit);
            }
            Capture::Outbound => {
                outbound::serve_captured(&context, stream, peer).await;
                drop(permit);
            }
            Capture::Socks5 => {
                socks5::serve(&context, stream, peer).await;
                drop(permit);
            }
        }
        drop((open, place));
    });
}
