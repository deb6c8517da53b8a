//! Connections of the local workload: where to, through what, and on.

mod establish;
mod pool;

use std::{net::SocketAddr, sync::Arc};

pub(crate) use establish::{Established, Upstream, establish};
pub(crate) use pool::{UpstreamPool, evict_on_change, pool};
use tokio::net::TcpStream;

use crate::{
    context::WorkerContext,
    error::{ConnectionError, close, relayed},
    relay::{relay_tcp, relay_tunnel},
    socket::{canonical, original_destination, reset_on_close},
    telemetry::Direction,
};

/// Serves a captured connection of the local workload.
pub(crate) async fn serve_captured(context: &Arc<WorkerContext>, stream: TcpStream, source: SocketAddr) {
    let Ok(accepted_on) = stream.local_addr().map(canonical) else { return };
    let destination = original_destination(&stream, accepted_on);
    match establish(context, &stream, source, destination, accepted_on.ip()).await {
        Ok(established) => relay(context, stream, established).await,
        // The application's connect has succeeded long ago; only a reset tells it that there is nothing behind.
        Err(_reported) => reset_on_close(&stream),
    }
}

/// Relays between an application and the upstream established for it, and reports the end.
pub(crate) async fn relay(context: &WorkerContext, mut stream: TcpStream, established: Established) {
    let Established { upstream, record } = established;
    let half_open = context.settings.half_open_timeout;
    let result = match upstream {
        Upstream::Tcp(mut upstream) => {
            tokio::select! {
                biased;
                result = relay_tcp(&mut stream, &mut upstream, half_open, &record) => relayed(result, &record),
                () = context.cut() => Err(ConnectionError::Drained),
            }
        }
        Upstream::Tunnel(tunnel) => {
            tokio::select! {
                biased;
                result = relay_tunnel(&mut stream, tunnel, Direction::Outbound, half_open, &record) => {
                    relayed(result, &record)
                }
                () = context.cut() => Err(ConnectionError::Drained),
            }
        }
    };
    close(record, result);
}
