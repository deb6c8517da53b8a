use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use super::{RelayError, ResetUnlessDone, buffer::ReadBuffer, failed};
use crate::telemetry::ConnectionRecord;

/// Relays between two TCP connections until both directions ended.
///
/// # Cancel safety
///
/// Dropping the future stops relaying; both connections then close with a reset.
pub(crate) async fn relay_tcp(
    downstream: &mut TcpStream,
    upstream: &mut TcpStream,
    record: &ConnectionRecord,
) -> Result<(), RelayError> {
    let (mut downstream, mut upstream) = (ResetUnlessDone::new(downstream), ResetUnlessDone::new(upstream));
    let result = {
        let (down_read, down_write) = downstream.stream.split();
        let (up_read, up_write) = upstream.stream.split();
        tokio::try_join!(
            copy(down_read, up_write, |count| record.received(count)),
            copy(up_read, down_write, |count| record.sent(count)),
        )
    };
    downstream.done = result.is_ok();
    upstream.done = result.is_ok();
    result.map(|_| ())
}

async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, count: impl Fn(u64)) -> Result<(), RelayError> {
    let mut buffer = ReadBuffer::new();
    loop {
        let chunk = buffer.read(&mut from).await?;
        if chunk.is_empty() {
            break;
        }
        tokio::select! {
            biased;
            written = to.write_all(&chunk) => written?,
            () = failed(from.as_ref()) => return Err(RelayError::Reset),
        }
        count(chunk.len() as u64);
    }
    Ok(to.shutdown().await?)
}
