use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering,
};

use tokio::net::TcpStream;

use crate::{
    context::WorkerContext,
    socket::{DialError, DialSource, OriginalSource, dial},
    telemetry::Event,
};

/// Connects to the application at `target`, from its client's address where that is possible.
///
/// # Cancel safety
///
/// Dropping the future closes the half-made connection.
pub(super) async fn dial_application(
    context: &WorkerContext,
    client: IpAddr,
    target: SocketAddr,
) -> Result<TcpStream, DialError> {
    let settings = &context.settings;
    let plain = |source| dial(target, source, &settings.sockets, settings.connect_timeout);
    // A workload that calls itself: the answer would never leave its own stack.
    if client == target.ip() || settings.original_source == OriginalSource::Off {
        return plain(DialSource::Any).await;
    }
    let failure = match preserved(context, client, target) {
        Ok(source) => match plain(source).await {
            Err(DialError::SourceAddress { source, .. }) => source,
            done => return done,
        },
        Err(reason) => reason,
    };
    if settings.original_source == OriginalSource::Require {
        return Err(DialError::SourceAddress { address: client, source: failure });
    }
    context.observer.event(&Event::SourceAddressNotPreserved { source: client, error: &failure });
    // Address-based rules of the application no longer hold: worth one line, not one per connection.
    if !context.source_lost.swap(true, Ordering::Relaxed) {
        let workload = &context.local;
        tracing::error!(%workload, error = %failure, "applications do not see their clients' addresses");
    }
    plain(DialSource::Any).await
}

fn preserved(context: &WorkerContext, client: IpAddr, target: SocketAddr) -> io::Result<DialSource> {
    if !context.transparent {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the listeners are not transparent"));
    }
    if client.is_ipv4() != target.is_ipv4() {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "client and application differ in address family",
        ));
    }
    Ok(DialSource::Transparent(client))
}
