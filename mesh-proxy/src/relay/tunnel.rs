use std::{pin::pin, time::Duration};

use hbone::{RecvHalf, ResetReason, SendHalf, Tunnel, TunnelError};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    task::yield_now,
};

use super::{
    RelayError, ResetUnlessDone,
    buffer::ReadBuffer,
    directions::{Progress, Stopped, both},
    failed,
};
use crate::telemetry::{ConnectionRecord, Direction, ResetBy};

/// Relays between a TCP connection and a tunnel until both directions ended, or one has and the other is silent for
/// `half_open`.
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
    half_open: Option<Duration>,
    record: &ConnectionRecord,
) -> Result<(), RelayError> {
    let (mut recv, mut send) = tunnel.into_split();
    let shared = Shared { ends: Ends::of(direction), progress: Progress::default() };
    let mut stream = ResetUnlessDone::new(stream);
    let result = {
        let (read, write) = stream.stream.split();
        let (towards, back) = match direction {
            Direction::Outbound => (Count::Received, Count::Sent),
            Direction::Inbound => (Count::Sent, Count::Received),
        };
        let to_tunnel = pin!(to_tunnel(read, &mut send, &shared, |count| towards.add(record, count)));
        let from_tunnel = pin!(from_tunnel(&mut recv, write, &shared, |count| back.add(record, count)));
        tokio::select! {
            biased;
            ended = both(&shared.progress, to_tunnel, from_tunnel) => ended,
            limit = shared.progress.silence(half_open) => Err(RelayError::HalfOpen { limit }),
        }
    };
    if result.is_err() {
        // A reset drops what the connection's driver has not had its turn to send.
        yield_now().await;
        send.reset(ResetReason::ConnectError);
    }
    stream.done = result.is_ok();
    result
}

/// What the two directions know together.
struct Shared {
    ends: Ends,
    progress: Progress,
}

/// Who resets what.
struct Ends {
    socket: ResetBy,
    tunnel: ResetBy,
}

impl Ends {
    fn of(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self { socket: ResetBy::Upstream, tunnel: ResetBy::Downstream },
            Direction::Outbound => Self { socket: ResetBy::Downstream, tunnel: ResetBy::Upstream },
        }
    }

    /// What a failure of the tunnel means.
    fn tunnel_error(&self, error: TunnelError) -> RelayError {
        match error {
            // How applications' resets and impatient peers look; all else is worth an operator's attention.
            TunnelError::Reset(
                ResetReason::Cancel
                | ResetReason::ConnectError
                | ResetReason::NoError
                | ResetReason::StreamClosed,
            ) => RelayError::Reset(self.tunnel),
            error => RelayError::Tunnel(error),
        }
    }
}

/// A counter of a record.
#[derive(Clone, Copy)]
enum Count {
    Received,
    Sent,
}

impl Count {
    fn add(self, record: &ConnectionRecord, bytes: u64) {
        match self {
            Self::Received => record.received(bytes),
            Self::Sent => record.sent(bytes),
        }
    }
}

async fn to_tunnel(
    mut from: ReadHalf<'_>,
    to: &mut SendHalf,
    shared: &Shared,
    count: impl Fn(u64),
) -> Result<(), Stopped> {
    let mut buffer = ReadBuffer::new();
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = buffer.read(&mut from) => {
                chunk.map_err(|error| Stopped::From(RelayError::of(error, shared.ends.socket)))?
            }
            stopped = to.stopped() => {
                let has_ended = to.is_peer_finished();
                return Box::pin(nobody_listens(stopped, has_ended, &mut from, &mut buffer, shared)).await;
            }
        };
        if chunk.is_empty() {
            if shared.progress.is_cut() {
                return Err(Stopped::From(RelayError::Reset(shared.ends.socket)));
            }
            break;
        }
        let length = chunk.len() as u64;
        let sent = tokio::select! {
            biased;
            sent = to.send(chunk) => sent,
            () = failed(from.as_ref()) => return Err(Stopped::From(RelayError::Reset(shared.ends.socket))),
        };
        if let Err(error) = sent {
            let has_ended = to.is_peer_finished();
            return Box::pin(nobody_listens(error, has_ended, &mut from, &mut buffer, shared)).await;
        }
        count(length);
        shared.progress.moved();
    }
    to.finish().map_err(|error| Stopped::To(shared.ends.tunnel_error(error)))?;
    // Neither is read or written here any more, and so nobody would notice what becomes of them.
    tokio::select! {
        biased;
        () = shared.progress.ended() => Ok(()),
        () = failed(from.as_ref()) => Err(Stopped::From(RelayError::Reset(shared.ends.socket))),
        stopped = to.stopped() => Err(Stopped::To(shared.ends.tunnel_error(stopped))),
    }
}

/// The far end takes no more bytes. To be put on the heap, as it is seldom.
///
/// Having ended its own direction first it has closed, as a socket would: whoever is silent may end in peace, whoever
/// goes on talking is reset. Otherwise the connection is over.
async fn nobody_listens(
    stopped: TunnelError,
    has_ended: bool,
    from: &mut ReadHalf<'_>,
    buffer: &mut ReadBuffer,
    shared: &Shared,
) -> Result<(), Stopped> {
    let ends = &shared.ends;
    if !has_ended || !matches!(stopped, TunnelError::Reset(ResetReason::NoError | ResetReason::Cancel)) {
        return Err(Stopped::To(ends.tunnel_error(stopped)));
    }
    match buffer.read(from).await {
        Ok(chunk) if chunk.is_empty() => {
            shared.progress.ended().await;
            Ok(())
        }
        Ok(_) => Err(Stopped::To(RelayError::Reset(ends.tunnel))),
        Err(error) => Err(Stopped::From(RelayError::of(error, ends.socket))),
    }
}

async fn from_tunnel(
    from: &mut RecvHalf,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    count: impl Fn(u64),
) -> Result<(), Stopped> {
    let not_taken = |error| Stopped::To(RelayError::of(error, shared.ends.socket));
    while let Some(chunk) = from.data().await {
        let chunk = chunk.map_err(|error| Stopped::From(shared.ends.tunnel_error(error)))?;
        to.write_all(&chunk).await.map_err(not_taken)?;
        // Only bytes that the socket took make room for more: a reader that stalls stalls its sender, nobody else.
        from.release(chunk.len());
        count(chunk.len() as u64);
        shared.progress.moved();
    }
    to.shutdown().await.map_err(not_taken)?;
    shared.progress.ended().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use bytes::Bytes;
    use hbone::{ConnectRequest, client, server};
    use tokio::{io::AsyncReadExt, net::TcpListener, time::timeout};

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
                let ended = relay_tunnel(&mut stream, tunnel, Direction::Outbound, None, &record).await;
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
            let relayed = relay_tunnel(&mut stream, tunnel, Direction::Outbound, None, &record);
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
            assert!(matches!(ended, Err(RelayError::Reset(ResetBy::Upstream))), "{ended:?}");
        }
    }

    /// As a peer does that closes a socket it has read from to the end: it neither hears nor says any more.
    #[tokio::test]
    async fn an_application_may_end_in_peace_after_a_peer_that_has_closed() {
        let (tunnel, incoming) = tunnel().await;
        let (mut application, mut stream) = connection().await;
        let record = record();
        let relayed = relay_tunnel(&mut stream, tunnel, Direction::Outbound, None, &record);
        let (relayed, ()) = tokio::join!(timeout(Duration::from_secs(20), relayed), async {
            let (recv, mut send) = incoming.into_split();
            send.send("all of it".into()).await.unwrap();
            send.finish().unwrap();
            drop((recv, send));
            let mut received = Vec::new();
            application.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"all of it");
            application.shutdown().await.unwrap();
        });
        assert!(matches!(relayed, Ok(Ok(()))), "{relayed:?}");
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
            ended = relay_tunnel(&mut stream, tunnel, Direction::Outbound, None, &record) => panic!("{ended:?}"),
            read = application.read(&mut received) => assert_eq!(read.unwrap(), 10),
        }
        drop(stream);
        let error = application.read(&mut received).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}
