use std::{net::SocketAddr, sync::Arc, time::Duration};

use ::hbone::{
    ConnectResponse, Refusal, TraceParent,
    server::{self, Incoming},
};
use mesh_identity::{ExpectedPeer, SpiffeId};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};

use super::application::dial_application;
use crate::{
    connections::{Admitted, InboundFacts},
    context::WorkerContext,
    drain::FAREWELL,
    error::{self, ConnectionError, Report, close},
    relay::relay_tunnel,
    route::inbound::{self, InboundRequest},
    socket::canonical,
    state::Workload,
    telemetry::{ConnectionMeta, ConnectionRecord, Direction, Event, HboneFailure, Transport},
    tls::{Accepted, ServerEntry, ServerStream},
};

/// Serves a connection to the HBONE port and all tunnels in it.
///
/// `permit` is kept until the last tunnel has delivered what it brought, which may be after the connection.
pub(crate) async fn serve_hbone(
    context: &Arc<WorkerContext>,
    stream: TcpStream,
    source: SocketAddr,
    permit: OwnedSemaphorePermit,
) {
    // This port is never redirected, so the local address is the workload's.
    let Ok(local) = stream.local_addr().map(canonical) else { return };
    let Ok(stranger) = context.handshakes.try_acquire() else {
        let error = ConnectionError::Handshakes { limit: context.settings.handshakes() };
        return context.refuse_early(Direction::Inbound, source, local, &error);
    };
    let mut drain = context.drain.clone();
    let handshake = tokio::select! {
        biased;
        handshake = handshake(context, stream) => handshake,
        // Peers are let in to hear the goodbye, since they take it better than a reset; who says nothing holds up nobody.
        () = drain.lasted(HANDSHAKE_GRACE) => return,
    };
    drop(stranger);
    match handshake {
        Ok(Established { connection, peer, entry }) => {
            serve_tunnels(
                context,
                connection,
                Peer { source, local, identity: peer, _permit: permit },
                &entry,
            )
            .await
        }
        Err(error) => context.refuse_early(Direction::Inbound, source, local, &error),
    }
}

/// How long, once a drain has begun, peers may take for the rest of their handshakes.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

type Connection = server::Connection<ServerStream>;

/// A connection, who made it, and what we proved ourselves with.
struct Established {
    connection: Connection,
    peer: SpiffeId,
    entry: ServerEntry,
}

async fn handshake(context: &WorkerContext, stream: TcpStream) -> Result<Established, ConnectionError> {
    let (_, workload) = context.local_workload().await?;
    let expected = ExpectedPeer::trust_domain(workload.identity().trust_domain().clone());
    let Accepted { stream, peer, entry } = context.tls.accept(workload.identity(), &expected, stream).await?;
    let limit = context.settings.handshake_timeout;
    let server = server::Builder::new()
        .first_request_timeout(Some(context.settings.first_connect_timeout))
        .budget(context.settings.budget.clone())
        .refusals(context.settings.refusals.clone());
    match timeout(limit, server.handshake(stream)).await {
        Ok(connection) => {
            Ok(Established { connection: connection.map_err(ConnectionError::http2)?, peer, entry })
        }
        Err(_elapsed) => Err(ConnectionError::Stalled { step: "http2 handshake", limit }),
    }
}

/// Both ends of an HBONE connection.
#[derive(Debug)]
struct Peer {
    source: SocketAddr,
    local: SocketAddr,
    identity: SpiffeId,
    _permit: OwnedSemaphorePermit,
}

async fn serve_tunnels(
    context: &Arc<WorkerContext>,
    mut connection: Connection,
    peer: Peer,
    entry: &ServerEntry,
) {
    let peer = Arc::new(peer);
    let handle = connection.handle();
    let mut drain = context.drain.clone();
    let (mut draining, mut retired) = (false, false);
    let outdated = context.tls.outdated(entry);
    tokio::pin!(outdated);
    loop {
        tokio::select! {
            incoming = connection.accept() => match incoming {
                Some(Ok(incoming)) => {
                    tokio::spawn(serve_tunnel(Arc::clone(context), incoming, Arc::clone(&peer)));
                }
                Some(Err(error)) => return report(context, peer.source, &error),
                None => return,
            },
            deadline = drain.started(), if !draining => {
                draining = true;
                // A request may be on its way to a connection without tunnels, too: it learns that it was not heard.
                // At the deadline itself the tunnels are reset; the connection has until after that to say so.
                handle.drain(deadline + FAREWELL / 2);
            }
            // The peer makes another connection for what comes; what is open goes on here for as long as it likes.
            () = &mut outdated, if !retired => {
                retired = true;
                handle.drain_without_deadline();
            }
        }
    }
}

/// Tells how a connection ended, unless that is in order.
fn report(context: &WorkerContext, source: SocketAddr, error: &::hbone::ConnectionError) {
    if let Some(failure) = HboneFailure::of(error) {
        context.observer.event(&Event::HboneConnectionFailed { source, failure, error: &Report(error) });
    }
}

async fn serve_tunnel(context: Arc<WorkerContext>, incoming: Incoming, peer: Arc<Peer>) {
    let Ok(_place) = context.tunnels.try_acquire() else {
        let error = ConnectionError::Tunnels { limit: context.settings.max_tunnels_per_worker };
        context.refuse_early(Direction::Inbound, peer.source, peer.local, &error);
        return incoming.refuse(Refusal::Unavailable);
    };
    let (record, facts) = match open(&context, &incoming, &peer).await {
        Ok(opened) => opened,
        Err((error, refusal)) => {
            context.refuse_early(Direction::Inbound, peer.source, peer.local, &error);
            incoming.refuse(refusal);
            return;
        }
    };
    let result = relay(&context, incoming, facts, &record).await;
    close(record, result);
}

/// Finds out where a tunnel leads and reports it as open.
async fn open(
    context: &WorkerContext,
    incoming: &Incoming,
    peer: &Peer,
) -> Result<(ConnectionRecord, InboundFacts), (ConnectionError, Refusal)> {
    let (snapshot, workload) =
        context.local_workload().await.map_err(|error| (error.into(), Refusal::Unavailable))?;
    let forwarded = incoming.forwarded();
    let route = inbound::resolve(
        &snapshot,
        &InboundRequest {
            workload: &workload,
            local_address: peer.local.ip(),
            authority: incoming.destination(),
            forwarded_host: forwarded.as_ref().and_then(|forwarded| forwarded.host()),
            ports: &context.ports,
        },
    )
    .map_err(|error| {
        let refusal = error.refusal();
        (ConnectionError::Inbound(error), refusal)
    })?;
    // Behind a gateway of another network the address is the gateway's and says nothing about the client.
    let is_near = incoming.is_from_network(&context.settings.network);
    let source_workload = is_near.then(|| context.workload_at(&snapshot, peer.source.ip())).flatten();
    let source_baggage = context.settings.baggage.then(|| incoming.baggage()).flatten();
    let record = ConnectionRecord::open(
        &*context.observer,
        ConnectionMeta {
            source_workload,
            source_identity: Some(peer.identity.clone()),
            source_baggage,
            hbone_destination: Some(incoming.destination().clone()),
            destination_service: route.service,
            destination_identity: Some(workload.identity().clone()),
            destination_workload: Some(Arc::clone(&workload)),
            // One that says none begins here (W3C Trace Context §4.3).
            trace: Some(incoming.traceparent().unwrap_or_else(TraceParent::random)),
            ..ConnectionMeta::new(Direction::Inbound, Transport::Hbone, peer.source, peer.local)
        },
    );
    let facts = InboundFacts {
        source: peer.source,
        peer: Some(peer.identity.clone()),
        destination: route.target,
        workload,
    };
    Ok((record, facts))
}

async fn relay(
    context: &WorkerContext,
    mut incoming: Incoming,
    facts: InboundFacts,
    record: &ConnectionRecord,
) -> Result<(), ConnectionError> {
    let (source, destination, workload) = (facts.source, facts.destination, Arc::clone(&facts.workload));
    let admitted = tokio::select! {
        admitted = context.admit(facts) => admitted,
        _ = incoming.taken_back() => return Err(ConnectionError::GaveUp),
    };
    let mut admitted = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            incoming.refuse(Refusal::Denied);
            return Err(error);
        }
    };
    let (refusal, error) = tokio::select! {
        dialled = dial_application(context, source.ip(), destination) => match dialled {
            Ok(application) => return tunnel(context, incoming, application, admitted, &workload, record).await,
            Err(error) => (Refusal::Unavailable, ConnectionError::Dial(error)),
        },
        _ = incoming.taken_back() => return Err(ConnectionError::GaveUp),
        () = admitted.denied() => (Refusal::Denied, ConnectionError::DeniedLate),
        () = context.cut() => (Refusal::Unavailable, ConnectionError::Drained),
    };
    incoming.refuse(refusal);
    Err(error)
}

/// Accepts the tunnel and carries bytes for as long as policy allows it.
async fn tunnel(
    context: &WorkerContext,
    incoming: Incoming,
    mut application: TcpStream,
    mut admitted: Admitted<'_>,
    workload: &Arc<Workload>,
    record: &ConnectionRecord,
) -> Result<(), ConnectionError> {
    let response = response(context, workload);
    let tunnel = incoming.accept_with(response).map_err(ConnectionError::http2)?;
    let half_open = context.settings.half_open_timeout;
    tokio::select! {
        biased;
        relayed = relay_tunnel(&mut application, tunnel, Direction::Inbound, half_open, record) => {
            error::relayed(relayed, record)
        }
        () = admitted.denied() => Err(ConnectionError::DeniedLate),
        () = context.cut() => Err(ConnectionError::Drained),
    }
}

fn response(context: &WorkerContext, workload: &Arc<Workload>) -> ConnectResponse {
    if context.settings.baggage {
        ConnectResponse::new().with_baggage(context.baggage.header(workload))
    } else {
        ConnectResponse::new()
    }
}
