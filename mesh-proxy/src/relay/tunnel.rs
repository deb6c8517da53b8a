use hbone::{RecvHalf, ResetReason, SendHalf, Tunnel, TunnelError};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use super::{RelayError, buffer::ReadBuffer, failed};
use crate::{
    socket::reset_on_close,
    telemetry::{ConnectionRecord, Direction},
};

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
    let result = {
        let (read, write) = stream.split();
        let (from_client, from_server) = (|count| record.received(count), |count| record.sent(count));
        match direction {
            Direction::Outbound => {
                tokio::try_join!(
                    to_tunnel(read, &mut send, from_client),
                    from_tunnel(&mut recv, write, from_server)
                )
            }
            Direction::Inbound => {
                tokio::try_join!(
                    to_tunnel(read, &mut send, from_server),
                    from_tunnel(&mut recv, write, from_client)
                )
            }
        }
    };
    if result.is_err() {
        send.reset(ResetReason::ConnectError);
        reset_on_close(stream);
    }
    result.map(|_| ())
}

async fn to_tunnel(mut from: ReadHalf<'_>, to: &mut SendHalf, count: impl Fn(u64)) -> Result<(), RelayError> {
    let mut buffer = ReadBuffer::new();
    loop {
        let chunk = tokio::select! {
            biased;
            chunk = buffer.read(&mut from) => chunk?,
            stopped = to.stopped() => return nobody_listens(stopped, &mut from, &mut buffer).await,
        };
        if chunk.is_empty() {
            break;
        }
        let length = chunk.len() as u64;
        tokio::select! {
            biased;
            sent = to.send(chunk) => sent?,
            () = failed(&from) => return Err(RelayError::Reset),
        }
        count(length);
    }
    Ok(to.finish()?)
}

/// The far end takes no more bytes.
///
/// Having ended its own direction first it has closed, as a socket would: whoever is silent may end in peace, whoever
/// goes on talking is reset. (Had it not, the other direction fails with the same reset.)
async fn nobody_listens(
    stopped: TunnelError,
    from: &mut ReadHalf<'_>,
    buffer: &mut ReadBuffer,
) -> Result<(), RelayError> {
    if !matches!(stopped, TunnelError::Reset(ResetReason::NoError | ResetReason::Cancel)) {
        return Err(stopped.into());
    }
    if buffer.read(from).await?.is_empty() { Ok(()) } else { Err(RelayError::Reset) }
}

async fn from_tunnel(
    from: &mut RecvHalf,
    mut to: WriteHalf<'_>,
    count: impl Fn(u64),
) -> Result<(), RelayError> {
    while let Some(chunk) = from.data().await {
        let chunk = chunk?;
        to.write_all(&chunk).await?;
        // Only bytes that the socket took make room for more: a reader that stalls stalls its sender, nobody else.
        from.release(chunk.len());
        count(chunk.len() as u64);
    }
    Ok(to.shutdown().await?)
}

impl From<TunnelError> for RelayError {
    fn from(error: TunnelError) -> Self {
        if error.is_reset() { Self::Reset } else { Self::Lost(error) }
    }
}
