use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use hbone::{ConnectRequest, Forwarded, TraceParent, Tunnel};
use tokio::net::TcpStream;

use super::pool::{UpstreamKey, failure};
use crate::{
    context::WorkerContext,
    error::{ConnectionError, close},
    relay::failed,
    route::{
        HboneRoute, Route,
        outbound::{self, OutboundRequest},
    },
    socket::{DialSource, dial},
    state::{Service, Workload},
    telemetry::{ConnectionMeta, ConnectionRecord, Direction, Transport},
};

/// An upstream connection, ready to relay to, and the record that counts it.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) upstream: Upstream,
    pub(crate) record: ConnectionRecord,
}

/// What carries a connection onwards.
#[derive(Debug)]
pub(crate) enum Upstream {
    Tcp(TcpStream),
    Tunnel(Tunnel),
}

/// Makes the upstream connection for what `client`, a connection of the local workload, dialled as `destination`.
///
/// `accepted_on` is the address it came in on, one of our own. Gives up when the client has, and at the deadline of a
/// drain. An error has been reported to the observer already.
///
/// # Cancel safety
///
/// Dropping the future gives up the connection, not a shared dial that others wait for.
pub(crate) async fn establish(
    context: &Arc<WorkerContext>,
    client: &TcpStream,
    source: SocketAddr,
    destination: SocketAddr,
    accepted_on: IpAddr,
) -> Result<Established, ConnectionError> {
    let Resolved { epoch, workload, route } = match resolve(context, source, destination, accepted_on).await {
        Ok(resolved) => resolved,
        Err(error) => {
            context.refuse_early(Direction::Outbound, source, destination, &error);
            return Err(error);
        }
    };
    let trace = TraceParent::random();
    let record = ConnectionRecord::open(&*context.observer, describe(source, &workload, &route, trace));
    let dialled = async {
        match &route {
            Route::Hbone(route) => tunnel(context, source, &workload, route, epoch, trace).await,
            Route::Passthrough { address } => plaintext(context, *address).await,
            Route::Tcp(route) => plaintext(context, route.address).await,
        }
    };
    let upstream = tokio::select! {
        biased;
        upstream = dialled => upstream,
        () = failed(client) => Err(ConnectionError::GaveUp),
        () = context.cut() => Err(ConnectionError::Drained),
    };
    match upstream {
        Ok(upstream) => Ok(Established { upstream, record }),
        Err(error) => {
            let error = Arc::new(error);
            close(record, Err(ConnectionError::Shared(Arc::clone(&error))));
            Err(ConnectionError::Shared(error))
        }
    }
}

/// Where a connection goes, and by which state.
struct Resolved {
    epoch: u64,
    workload: Arc<Workload>,
    route: Route,
}

async fn resolve(
    context: &WorkerContext,
    source: SocketAddr,
    destination: SocketAddr,
    accepted_on: IpAddr,
) -> Result<Resolved, ConnectionError> {
    let (snapshot, workload) = context.local_workload().await?;
    let request = OutboundRequest {
        source: &workload,
        source_address: source.ip(),
        original_destination: destination,
        own_addresses: &[accepted_on],
        ports: &context.ports,
    };
    let route = outbound::resolve(&snapshot, &request, fastrand::u64(..)).map_err(ConnectionError::Route)?;
    Ok(Resolved { epoch: snapshot.epoch(), workload, route })
}

fn describe(
    source: SocketAddr,
    workload: &Arc<Workload>,
    route: &Route,
    trace: TraceParent,
) -> ConnectionMeta {
    let meta = |transport, destination| ConnectionMeta {
        source_workload: Some(Arc::clone(workload)),
        trace: Some(trace),
        ..ConnectionMeta::new(Direction::Outbound, transport, source, destination)
    };
    match route {
        Route::Hbone(route) => ConnectionMeta {
            source_identity: Some(workload.identity().clone()),
            hbone_destination: Some(route.authority.clone()),
            destination_identity: Some(route.workload.identity().clone()),
            destination_workload: Some(Arc::clone(&route.workload)),
            destination_service: route.service.clone(),
            ..meta(Transport::Hbone, route.next_hop)
        },
        Route::Passthrough { address } => meta(Transport::Tcp, *address),
        Route::Tcp(route) => ConnectionMeta {
            destination_workload: Some(Arc::clone(&route.workload)),
            destination_service: route.service.clone(),
            ..meta(Transport::Tcp, route.address)
        },
    }
}

async fn tunnel(
    context: &WorkerContext,
    source: SocketAddr,
    workload: &Arc<Workload>,
    route: &HboneRoute,
    epoch: u64,
    trace: TraceParent,
) -> Result<Upstream, ConnectionError> {
    let config = context.tls.client(workload.identity(), &route.expected_peer).await?;
    let key = UpstreamKey::new(source.ip(), workload, route, config);
    // From here on whatever evicts finds the key, but the certificate may have been waited for.
    if context.state.epoch() != epoch && !key.is_current(&context.state.load()) {
        return Err(ConnectionError::Gone);
    }
    let request = ConnectRequest::new(route.authority.clone())
        .with_baggage(context.baggage.header(workload))
        .with_forwarded(forwarded(source, route.service.as_deref()))
        .with_traceparent(trace);
    context.pool.connect(key, request).await.map(Upstream::Tunnel).map_err(failure)
}

fn forwarded(source: SocketAddr, service: Option<&Service>) -> Forwarded {
    let forwarded = Forwarded::new(source);
    match service {
        Some(service) => forwarded.with_host(Arc::clone(service.hostname())),
        None => forwarded,
    }
}

async fn plaintext(context: &WorkerContext, address: SocketAddr) -> Result<Upstream, ConnectionError> {
    let settings = &context.settings;
    let stream = dial(address, DialSource::Any, &settings.sockets, settings.connect_timeout).await;
    stream.map(Upstream::Tcp).map_err(ConnectionError::Dial)
}
