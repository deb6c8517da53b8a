use std::{pin::pin, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
};

use super::{
    RelayError, ResetUnlessDone,
    buffer::ReadBuffer,
    directions::{Progress, Stopped, both},
    failed,
};
use crate::telemetry::{ConnectionRecord, ResetBy};

/// Relays between two TCP connections until both directions ended, or one has and the other is silent for `half_open`.
///
/// # Cancel safety
///
/// Dropping the future stops relaying; both connections then close with a reset.
pub(crate) async fn relay_tcp(
    downstream: &mut TcpStream,
    upstream: &mut TcpStream,
    half_open: Option<Duration>,
    record: &ConnectionRecord,
) -> Result<(), RelayError> {
    let (mut downstream, mut upstream) = (ResetUnlessDone::new(downstream), ResetUnlessDone::new(upstream));
    let progress = Progress::default();
    let result = {
        let (down_read, down_write) = downstream.stream.split();
        let (up_read, up_write) = upstream.stream.split();
        let up = pin!(copy(
            (down_read, ResetBy::Downstream),
            (up_write, ResetBy::Upstream),
            |count| record.received(count),
            &progress
        ));
        let down = pin!(copy(
            (up_read, ResetBy::Upstream),
            (down_write, ResetBy::Downstream),
            |count| record.sent(count),
            &progress
        ));
        tokio::select! {
            biased;
            ended = both(&progress, up, down) => ended,
            limit = progress.silence(half_open) => Err(RelayError::HalfOpen { limit }),
        }
    };
    downstream.done = result.is_ok();
    upstream.done = result.is_ok();
    result
}

async fn copy(
    (mut from, source): (ReadHalf<'_>, ResetBy),
    (mut to, sink): (WriteHalf<'_>, ResetBy),
    count: impl Fn(u64),
    progress: &Progress,
) -> Result<(), Stopped> {
    let not_taken = |error| Stopped::To(RelayError::of(error, sink));
    let mut buffer = ReadBuffer::new();
    loop {
        let read = buffer.read(&mut from).await;
        let chunk = read.map_err(|error| Stopped::From(RelayError::of(error, source)))?;
        if chunk.is_empty() {
            if progress.is_cut() {
                return Err(Stopped::From(RelayError::Reset(source)));
            }
            break;
        }
        tokio::select! {
            biased;
            written = to.write_all(&chunk) => written.map_err(not_taken)?,
            () = failed(from.as_ref()) => return Err(Stopped::From(RelayError::Reset(source))),
        }
        count(chunk.len() as u64);
        progress.moved();
    }
    to.shutdown().await.map_err(not_taken)?;
    // Nobody reads here any more, and so nobody would notice a reset.
    tokio::select! {
        biased;
        () = progress.ended() => Ok(()),
        () = failed(from.as_ref()) => Err(Stopped::From(RelayError::Reset(source))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;
    use crate::telemetry::{ConnectionMeta, Direction, NoopObserver, Transport};

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (far.unwrap(), near.unwrap().0)
    }

    fn record() -> ConnectionRecord {
        let anywhere = "192.0.2.1:80".parse().unwrap();
        let meta = ConnectionMeta::new(Direction::Inbound, Transport::Tcp, anywhere, anywhere);
        ConnectionRecord::open(&NoopObserver, meta)
    }

    /// routing#105: an application that answers and closes without reading all it is sent resets the connection; its answer
    /// had arrived by then.
    #[tokio::test]
    async fn an_answer_before_a_reset_is_delivered() {
        let (mut client, mut downstream) = connection().await;
        let (mut application, mut upstream) = connection().await;
        upstream.write_all(b"nobody reads this").await.unwrap();
        application.readable().await.unwrap();
        application.write_all(b"answer").await.unwrap();
        drop(application);
        failed(&upstream).await;
        client.write_all(b"still talking").await.unwrap();
        let record = record();
        let (relayed, received) = tokio::join!(
            async {
                let relayed = relay_tcp(&mut downstream, &mut upstream, None, &record).await;
                drop((downstream, upstream));
                relayed
            },
            async {
                let mut answer = Vec::new();
                let error = client.read_to_end(&mut answer).await.unwrap_err();
                (answer, error.kind())
            }
        );
        assert!(matches!(relayed, Err(RelayError::Reset(ResetBy::Upstream))), "{relayed:?}");
        assert_eq!(received, (b"answer".to_vec(), ErrorKind::ConnectionReset));
    }

    #[tokio::test]
    async fn a_reset_names_its_side() {
        for side in [ResetBy::Downstream, ResetBy::Upstream] {
            let (client, mut downstream) = connection().await;
            let (application, mut upstream) = connection().await;
            let (resetting, mut other) = match side {
                ResetBy::Downstream => (client, application),
                ResetBy::Upstream => (application, client),
            };
            resetting.set_zero_linger().unwrap();
            drop(resetting);
            let record = record();
            let relayed = relay_tcp(&mut downstream, &mut upstream, None, &record).await;
            assert!(matches!(relayed, Err(RelayError::Reset(by)) if by == side), "{relayed:?}");
            drop((downstream, upstream));
            assert_eq!(other.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }

    /// hbone#56, routing#79
    #[tokio::test]
    async fn a_reset_by_who_has_finished_is_noticed_while_the_other_is_silent() {
        let (mut client, mut downstream) = connection().await;
        let (mut application, mut upstream) = connection().await;
        let record = record();
        let relayed = relay_tcp(&mut downstream, &mut upstream, None, &record);
        let (relayed, ()) = tokio::join!(relayed, async {
            application.shutdown().await.unwrap();
            assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
            application.set_zero_linger().unwrap();
            drop(application);
        });
        assert!(matches!(relayed, Err(RelayError::Reset(ResetBy::Upstream))), "{relayed:?}");
    }

    /// sockets#62
    #[tokio::test]
    async fn a_half_open_connection_that_stays_silent_is_reset() {
        let (mut client, mut downstream) = connection().await;
        let (mut application, mut upstream) = connection().await;
        client.shutdown().await.unwrap();
        let record = record();
        let limit = Duration::from_millis(50);
        let relayed = relay_tcp(&mut downstream, &mut upstream, Some(limit), &record).await;
        assert!(matches!(relayed, Err(RelayError::HalfOpen { limit: silent }) if silent == limit));
        drop((downstream, upstream));
        let mut end = [0; 1];
        assert_eq!(application.read(&mut end).await.unwrap(), 0);
        for end_of in [&mut client, &mut application] {
            while end_of.write_all(b"x").await.is_ok() {}
        }
    }
}
