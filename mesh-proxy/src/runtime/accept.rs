use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::OwnedSemaphorePermit,
};

use super::{Handoff, balance::Place};
use crate::{
    context::WorkerContext,
    inbound, outbound,
    socket::canonical,
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
    fn direction(self) -> Direction {
        match self {
            Self::InboundHbone | Self::InboundPlaintext => Direction::Inbound,
            Self::Outbound | Self::Socks5 => Direction::Outbound,
        }
    }
}

/// Accepts connections and starts serving them until the proxy drains.
///
/// What the kernel had completed by then is still accepted: closing a listener resets its queue.
pub(super) async fn accept(listener: TcpListener, capture: Capture, context: Arc<WorkerContext>) {
    let mut drain = context.drain.clone();
    let mut pause = SHORTEST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = drain.started() => break,
            accepted = next(&listener, &context) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                pause = SHORTEST_PAUSE;
                start(stream, peer, capture, permit, &context);
            }
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                // Descriptors or memory are short: hammering the listener would only burn a core.
                context
                    .observer
                    .event(&Event::AcceptFailed { direction: capture.direction(), error: &error });
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    while let Some(Ok((stream, peer, permit))) = next(&listener, &context).now_or_never() {
        start(stream, peer, capture, permit, &context);
    }
}

/// Waits until this worker may serve one more connection, then for that connection.
async fn next(
    listener: &TcpListener,
    context: &WorkerContext,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(&context.capacity).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, canonical(peer), permit))
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn start(
    stream: TcpStream,
    peer: SocketAddr,
    capture: Capture,
    permit: OwnedSemaphorePermit,
    context: &Arc<WorkerContext>,
) {
    // A worker that drains may have looked into its queue for the last time.
    let place = if context.drain.has_started() {
        context.balance.place_on(context.index, capture)
    } else {
        context.balance.take_place(context.index, capture)
    };
    if place.worker() == context.index {
        serve(stream, peer, capture, permit, place, context);
        return;
    }
    drop(permit);
    // A socket that cannot leave this runtime is lost with its descriptor; there is nobody left to tell.
    let Ok(stream) = stream.into_std() else { return };
    if let Err(kept) = context.balance.hand_off(Handoff { stream, peer, capture, place }) {
        receive(Handoff { place: context.balance.place_on(context.index, capture), ..kept }, context);
    }
}

/// Serves a connection that another worker accepted.
pub(super) fn receive(handoff: Handoff, context: &Arc<WorkerContext>) {
    let Handoff { stream, peer, capture, place } = handoff;
    // Over its bound a worker takes no more; the peer sees the close and comes again.
    let Ok(permit) = Arc::clone(&context.capacity).try_acquire_owned() else { return };
    match TcpStream::from_std(stream) {
        Ok(stream) => serve(stream, peer, capture, permit, place, context),
        Err(error) => {
            context.observer.event(&Event::AcceptFailed { direction: capture.direction(), error: &error })
        }
    }
}

fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    capture: Capture,
    permit: OwnedSemaphorePermit,
    place: Place,
    context: &Arc<WorkerContext>,
) {
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
