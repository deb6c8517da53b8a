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

use super::{RelayError, ResetUnlessDone, buffer::ReadBuffer, failed};
use crate::telemetry::{ConnectionRecord, Direction};

/// How long what came before a reset may take to be delivered.
const DELIVERY_GRACE: Duration = Duration::from_secs(1);

/// Relays between a TCP connection and a tunnel until both directions ended.
///
/// `direction` tells which of the two ends is the client's, for the byte counters.
///
/// # Cancel safety
///
/// Dropping the future resets the tunnel, and `stream` closes with a reset.
pub(crate) async fn relay_tunnel(
    stream: &mut TcpStream,
    tunnel: Tunnel,
    direction: Direction,
    record: &ConnectionRecord,
) -> Result<(), RelayError> {
    let (mut recv, mut send) = tunnel.into_split();
    // Told when everything the tunnel brought has been delivered.
    let delivered = Notify::new();
    let mut stream = ResetUnlessDone::new(stream);
    let result = {
        let (read, write) = stream.stream.split();
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
    }
    stream.done = result.is_ok();
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
            stopped = to.stopped() => {
                let has_ended = to.is_peer_finished();
                return nobody_listens(stopped, has_ended, &mut from, &mut buffer, delivered).await;
            }
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
            let has_ended = to.is_peer_finished();
            return nobody_listens(error, has_ended, &mut from, &mut buffer, delivered).await;
        }
        count(length);
    }
    to.finish()?;
    // Whoever does not read at the moment would not notice that there is nothing more to come.
    tokio::select! {
        biased;
        () = delivered.notified() => Ok(()),
        stopped = to.stopped() => cut_short(stopped, delivered).await,
    }
}

/// The far end takes no more bytes.
///
/// Having ended its own direction first it has closed, as a socket would: whoever is silent may end in peace, whoever
/// goes on talking is reset. Otherwise the connection is over.
async fn nobody_listens(
    stopped: TunnelError,
    has_ended: bool,
    from: &mut ReadHalf<'_>,
    buffer: &mut ReadBuffer,
    delivered: &Notify,
) -> Result<(), RelayError> {
    if !has_ended || !matches!(stopped, TunnelError::Reset(ResetReason::NoError | ResetReason::Cancel)) {
        return cut_short(stopped, delivered).await;
    }
    if buffer.read(from).await?.is_empty() { Ok(()) } else { Err(RelayError::Reset) }
}

/// The tunnel is gone. What it brought before is delivered, if that does not take long.
async fn cut_short(stopped: TunnelError, delivered: &Notify) -> Result<(), RelayError> {
    // The other direction meets the same end as soon as it has delivered all; a reader that stalls ends it too.
    let _ = timeout(DELIVERY_GRACE, delivered.notified()).await;
    Err(stopped.into())
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

    use bytes::Bytes;
    use hbone::{ConnectRequest, client, server};
    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::telemetry::{ConnectionMeta, NoopObserver, Transport};

    /// A tunnel, the client's end and the server's.
    async fn tunnel() -> (Tunnel, Tunnel) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (client, server) = tokio::join!(client::handshake(near), server::handshake(far));
        let ((send, connection), mut server) = (client.unwrap(), server.unwrap());
        tokio::spawn(connection);
        let destination: hbone::Destination = "192.0.2.7:8080".parse().unwrap();
        let (tunnel, incoming) = tokio::join!(send.connect(ConnectRequest::new(destination)), async {
            let tunnel = server.accept().await.unwrap().unwrap().accept().unwrap();
            tokio::spawn(async move { while server.accept().await.is_some() {} });
            tunnel
        });
        (tunnel.unwrap(), incoming)
    }

    /// A TCP connection, the application's end and ours.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (application, stream) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (application.unwrap(), stream.unwrap().0)
    }

    fn record() -> ConnectionRecord {
        let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let meta = ConnectionMeta::new(Direction::Outbound, Transport::Hbone, anywhere, anywhere);
        ConnectionRecord::open(&NoopObserver, meta)
    }

    /// Relays while the far end of the tunnel sends a little and resets it for `reason`.
    async fn reset_for(reason: ResetReason) -> (Result<(), RelayError>, std::io::Result<usize>) {
        let (tunnel, mut incoming) = tunnel().await;
        incoming.split().1.send("half of it".into()).await.unwrap();
        let (mut application, mut stream) = connection().await;
        let record = record();
        let mut received = [0; 32];
        tokio::join!(
            async {
                let ended = relay_tunnel(&mut stream, tunnel, Direction::Outbound, &record).await;
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

    /// hbone#56: an application that does not read, and has nothing to say or has said all, is no reason to keep what a
    /// peer has given up.
    #[tokio::test]
    async fn a_reset_is_noticed_beside_an_application_that_does_not_read() {
        for application_finishes in [false, true] {
            let (tunnel, incoming) = tunnel().await;
            let (mut application, mut stream) = connection().await;
            let record = record();
            let relayed = relay_tunnel(&mut stream, tunnel, Direction::Outbound, &record);
            let ended = tokio::join!(relayed, async {
                if application_finishes {
                    application.shutdown().await.unwrap();
                }
                let (mut recv, mut send) = incoming.into_split();
                // More than all buffers hold, until the tunnel's window is full.
                let chunk = Bytes::from(vec![7; 1 << 20]);
                while timeout(Duration::from_millis(100), send.send(chunk.clone())).await.is_ok() {}
                if application_finishes {
                    assert!(recv.data().await.is_none());
                }
                send.reset(ResetReason::Cancel);
            })
            .0;
            assert!(matches!(ended, Err(RelayError::Reset)), "{ended:?}");
        }
    }

    /// Whatever ends a relay early, a drain among others, the application does not take what it has for all.
    #[tokio::test]
    async fn a_relay_that_is_dropped_resets_the_application() {
        let (tunnel, incoming) = tunnel().await;
        let (mut application, mut stream) = connection().await;
        let record = record();
        let (_recv, mut send) = incoming.into_split();
        send.send("half of it".into()).await.unwrap();
        let mut received = [0; 32];
        tokio::select! {
            ended = relay_tunnel(&mut stream, tunnel, Direction::Outbound, &record) => panic!("{ended:?}"),
            read = application.read(&mut received) => assert_eq!(read.unwrap(), 10),
        }
        drop(stream);
        let error = application.read(&mut received).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
