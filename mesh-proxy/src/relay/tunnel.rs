use std::time::Duration;

use hbone::{RecvHalf, ResetReason, SendHalf, Tunnel, TunnelError};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::Notify,
    time::timeout,
};

use super::{RelayError, buffer::ReadBuffer, failed};
use crate::{
    socket::reset_on_close,
    telemetry::{ConnectionRecord, Direction},
};

/// How long what came before a reset may take to be delivered.
const DELIVERY_GRACE: Duration = Duration::from_secs(1);

/// Relays between a TCP connection and a tunnel until both directions ended.
///
/// `direction` tells which of the two ends is the client's, for the byte counters.
///
/// # Cancel safety
///
/// Dropping the future resets the tunnel; the caller decides how to close `stream`.
pub(crate) async fn relay_tunnel(
    stream: &mut TcpStream,
    tunnel: Tunnel,
    direction: Direction,
    record: &ConnectionRecord,
) -> Result<(), RelayError> {
    let (mut recv, mut send) = tunnel.into_split();
    // Told when everything the tunnel brought has been delivered.
    let delivered = Notify::new();
    let result = {
        let (read, write) = stream.split();
        let (from_client, from_server) = (|count| record.received(count), |count| record.sent(count));
        match direction {
            Direction::Outbound => tokio::try_join!(
                to_tunnel(read, &mut send, &delivered, from_client),
                from_tunnel(&mut recv, write, &delivered, from_server),
            ),
            Direction::Inbound => tokio::try_join!(
                to_tunnel(read, &mut send, &delivered, from_server),
                from_tunnel(&mut recv, write, &delivered, from_client),
            ),
        }
    };
    if result.is_err() {
        send.reset(ResetReason::ConnectError);
        reset_on_close(stream);
    }
    result.map(|_| ())
}

async fn to_tunnel(
    mut from: ReadHalf<'_>,
    to: &mut SendHalf,
    delivered: &Notify,
    count: impl Fn(u64),
) -> Result<(), RelayError> {
    let mut buffer = ReadBuffer::new();
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = buffer.read(&mut from) => chunk?,
            stopped = to.stopped() => return nobody_listens(stopped, &mut from, &mut buffer, delivered).await,
        };
        if chunk.is_empty() {
            break;
        }
        let length = chunk.len() as u64;
        let sent = tokio::select! {
            biased;
            sent = to.send(chunk) => sent,
            () = failed(from.as_ref()) => return Err(RelayError::Reset),
        };
        if let Err(error) = sent {
            return nobody_listens(error, &mut from, &mut buffer, delivered).await;
        }
        count(length);
    }
    Ok(to.finish()?)
}

/// The far end takes no more bytes.
///
/// Having ended its own direction first it has closed, as a socket would: whoever is silent may end in peace, whoever
/// goes on talking is reset. (Had it not, the other direction fails with the same reset.) For any other reason the
/// connection is over, once what came before that has been delivered.
async fn nobody_listens(
    stopped: TunnelError,
    from: &mut ReadHalf<'_>,
    buffer: &mut ReadBuffer,
    delivered: &Notify,
) -> Result<(), RelayError> {
    if !matches!(stopped, TunnelError::Reset(ResetReason::NoError | ResetReason::Cancel)) {
        // The other direction meets the same end as soon as it has delivered all; a reader that stalls ends it too.
        let _ = timeout(DELIVERY_GRACE, delivered.notified()).await;
        return Err(stopped.into());
    }
    if buffer.read(from).await?.is_empty() { Ok(()) } else { Err(RelayError::Reset) }
}

async fn from_tunnel(
    from: &mut RecvHalf,
    mut to: WriteHalf<'_>,
    delivered: &Notify,
    count: impl Fn(u64),
) -> Result<(), RelayError> {
    while let Some(chunk) = from.data().await {
        let chunk = chunk?;
        to.write_all(&chunk).await?;
        // Only bytes that the socket took make room for more: a reader that stalls stalls its sender, nobody else.
        from.release(chunk.len());
        count(chunk.len() as u64);
    }
    to.shutdown().await?;
    delivered.notify_one();
    Ok(())
}

impl From<TunnelError> for RelayError {
    fn from(error: TunnelError) -> Self {
        match error {
            // How applications' resets and impatient peers look; all else is worth an operator's attention.
            TunnelError::Reset(
                ResetReason::Cancel
                | ResetReason::ConnectError
                | ResetReason::NoError
                | ResetReason::StreamClosed,
            ) => Self::Reset,
            error => Self::Tunnel(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use hbone::{ConnectRequest, client, server};
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::telemetry::{ConnectionMeta, NoopObserver, Transport};

    /// Relays while the far end of the tunnel sends a little and resets it for `reason`.
    async fn reset_for(reason: ResetReason) -> (Result<(), RelayError>, std::io::Result<usize>) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (client, server) = tokio::join!(client::handshake(near), server::handshake(far));
        let ((send, connection), mut server) = (client.unwrap(), server.unwrap());
        tokio::spawn(connection);
        let destination: hbone::Destination = "192.0.2.7:8080".parse().unwrap();
        let (tunnel, incoming) = tokio::join!(send.connect(ConnectRequest::new(destination)), async {
            let mut tunnel = server.accept().await.unwrap().unwrap().accept().unwrap();
            tokio::spawn(async move { while server.accept().await.is_some() {} });
            tunnel.split().1.send("half of it".into()).await.unwrap();
            tunnel
        });

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (application, stream) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut application, mut stream) = (application.unwrap(), stream.unwrap().0);
        let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let meta = ConnectionMeta::new(Direction::Outbound, Transport::Hbone, anywhere, anywhere);
        let record = ConnectionRecord::open(&NoopObserver, meta);
        let mut received = [0; 32];
        tokio::join!(
            async {
                let ended = relay_tunnel(&mut stream, tunnel.unwrap(), Direction::Outbound, &record).await;
                drop(stream);
                ended
            },
            async {
                assert_eq!(application.read(&mut received).await.unwrap(), 10);
                incoming.reset(reason);
                application.read(&mut received).await
            },
        )
    }

    /// hbone#54: a truncated transfer never looks complete, and a fault of the peer is told from its application's.
    #[tokio::test]
    async fn a_reset_over_a_fault_is_a_reset_with_a_reason() {
        for (reason, at_fault) in [
            (ResetReason::Cancel, false),
            (ResetReason::ConnectError, false),
            (ResetReason::Internal, true),
            (ResetReason::Protocol, true),
        ] {
            let (ended, read) = reset_for(reason).await;
            assert_eq!(matches!(ended, Err(RelayError::Tunnel(_))), at_fault, "{ended:?}");
            assert!(ended.is_err());
            assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
}
