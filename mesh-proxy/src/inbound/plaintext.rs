use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;

use super::application::dial_application;
use crate::{
    connections::InboundFacts,
    context::WorkerContext,
    error::{self, ConnectionError, close},
    relay::{failed, relay_tcp},
    route::inbound,
    socket::{canonical, original_destination, reset_on_close},
    telemetry::{ConnectionMeta, ConnectionRecord, Direction, Transport},
};

/// Serves a captured plaintext connection to the local workload.
pub(crate) async fn serve_plaintext(context: &Arc<WorkerContext>, mut stream: TcpStream, source: SocketAddr) {
    let Ok(accepted_on) = stream.local_addr().map(canonical) else { return };
    let destination = original_destination(&stream, accepted_on);
    let opened = match open(context, source, destination).await {
        Ok(opened) => opened,
        Err(error) => {
            context.refuse_early(Direction::Inbound, source, destination, &error);
            reset_on_close(&stream);
            return;
        }
    };
    let (record, facts) = opened;
    let result = relay(context, &mut stream, facts, &record).await;
    if result.is_err() {
        reset_on_close(&stream);
    }
    close(record, result);
}

async fn open(
    context: &WorkerContext,
    source: SocketAddr,
    destination: SocketAddr,
) -> Result<(ConnectionRecord, InboundFacts), ConnectionError> {
    let (snapshot, workload) = context.local_workload().await?;
    let route = inbound::resolve_plaintext(&snapshot, &workload, destination, &context.ports)
        .map_err(ConnectionError::Inbound)?;
    let record = ConnectionRecord::open(
        &*context.observer,
        ConnectionMeta {
            source_workload: context.workload_at(&snapshot, source.ip()),
            destination_service: route.service,
            destination_workload: Some(Arc::clone(&workload)),
            ..ConnectionMeta::new(Direction::Inbound, Transport::Tcp, source, destination)
        },
    );
    Ok((record, InboundFacts { source, peer: None, destination: route.target, workload }))
}

async fn relay(
    context: &WorkerContext,
    stream: &mut TcpStream,
    facts: InboundFacts,
    record: &ConnectionRecord,
) -> Result<(), ConnectionError> {
    let (source, destination) = (facts.source, facts.destination);
    let mut admitted = context.admit(facts).await?;
    let mut application = tokio::select! {
        dialled = dial_application(context, source.ip(), destination) => dialled.map_err(ConnectionError::Dial)?,
        () = failed(stream) => return Err(ConnectionError::GaveUp),
        () = admitted.denied() => return Err(ConnectionError::DeniedLate),
        () = context.cut() => return Err(ConnectionError::Drained),
    };
    let half_open = context.settings.half_open_timeout;
    tokio::select! {
        biased;
        relayed = relay_tcp(stream, &mut application, half_open, record) => error::relayed(relayed, record),
        () = admitted.denied() => Err(ConnectionError::DeniedLate),
        () = context.cut() => Err(ConnectionError::Drained),
    }
}
