use std::{
    future::{Future, pending, poll_fn},
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    task::Poll,
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::RelayError;

/// How long what came before the end of a connection may take to be delivered.
const DELIVERY_GRACE: Duration = Duration::from_secs(1);

/// What kept a direction from its orderly end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// There is nothing more to be had where the bytes come from, nor to be brought there.
    From(RelayError),
    /// Nobody takes the bytes any more, though there may be some of the other direction left.
    To(RelayError),
}

/// Carries both directions to their ends.
///
/// One that fails ends both. If that is for want of a taker, the other still delivers what had arrived by then, if it does
/// not take long: an application that answers and closes while it is being talked to is heard. It must not end in order
/// then, see [`Progress::is_cut`].
pub(super) async fn both(
    progress: &Progress,
    mut first: Pin<&mut impl Future<Output = Result<(), Stopped>>>,
    mut second: Pin<&mut impl Future<Output = Result<(), Stopped>>>,
) -> Result<(), RelayError> {
    let (ended, is_first) = tokio::select! {
        biased;
        ended = &mut first => (ended, true),
        ended = &mut second => (ended, false),
    };
    let other = async { if is_first { second.await } else { first.await } };
    match ended {
        Ok(()) => other.await.map_err(|stopped| match stopped {
            Stopped::From(error) | Stopped::To(error) => error,
        }),
        Err(Stopped::From(error)) => Err(error),
        Err(Stopped::To(error)) => {
            progress.is_cut.store(true, Ordering::Relaxed);
            // On the heap, as it is seldom: every relay has room for whatever is in here.
            let _ = Box::pin(timeout(DELIVERY_GRACE, other)).await;
            Err(error)
        }
    }
}

/// What a relay knows of its own progress. One task has it, so that nothing here waits for another.
#[derive(Debug, Default)]
pub(super) struct Progress {
    chunks: AtomicU64,
    ended: AtomicU8,
    is_cut: AtomicBool,
}

impl Progress {
    /// Some bytes arrived.
    pub(super) fn moved(&self) {
        self.chunks.store(self.chunks().wrapping_add(1), Ordering::Relaxed);
    }

    /// A direction came to its end. Resolves once the other has, too, or the connection [is cut](Self::is_cut).
    ///
    /// Poll it beside the other direction, in the same task: it is not woken by it.
    pub(super) async fn ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        poll_fn(|_| ready_if(self.directions_ended() > 1 || self.is_cut())).await;
    }

    /// Whether the connection is over but for what had arrived.
    ///
    /// Then the end of a stream is none: the kernel tells of a reset once, and to whoever wrote.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// Resolves when nothing has moved for `limit`, or for up to twice as long, after one direction had ended.
    ///
    /// Poll it after the directions, in the same task: it is not woken by them.
    pub(super) async fn silence(&self, limit: Option<Duration>) -> Duration {
        let Some(limit) = limit else { return pending().await };
        poll_fn(|_| ready_if(self.directions_ended() > 0)).await;
        loop {
            let seen = self.chunks();
            // On the heap, so that it takes no room while both directions are open.
            Box::pin(sleep(limit)).await;
            if self.chunks() == seen {
                return limit;
            }
        }
    }

    fn chunks(&self) -> u64 {
        self.chunks.load(Ordering::Relaxed)
    }

    fn directions_ended(&self) -> u8 {
        self.ended.load(Ordering::Relaxed)
    }
}

fn ready_if(condition: bool) -> Poll<()> {
    if condition { Poll::Ready(()) } else { Poll::Pending }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::{FutureExt, poll};
    use tokio::time::Instant;

    use super::*;
    use crate::telemetry::ResetBy;

    const LIMIT: Duration = Duration::from_secs(3600);

    fn reset() -> RelayError {
        RelayError::Reset(ResetBy::Upstream)
    }

    /// routing#105
    #[tokio::test(start_paused = true)]
    async fn what_has_arrived_is_delivered_when_nobody_takes_the_other_direction() {
        let mut delivered = false;
        let refused = async { Err(Stopped::To(reset())) };
        let other = async {
            sleep(DELIVERY_GRACE / 2).await;
            delivered = true;
            Ok(())
        };
        let ended = both(&Progress::default(), pin!(refused), pin!(other)).await;
        assert!(matches!(ended, Err(RelayError::Reset(_))));
        assert!(delivered);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_waited_for_without_end_nor_where_it_leads_nowhere() {
        let begun = Instant::now();
        let ended =
            both(&Progress::default(), pin!(async { Err(Stopped::To(reset())) }), pin!(pending())).await;
        assert!(matches!(ended, Err(RelayError::Reset(_))));
        assert_eq!(begun.elapsed(), DELIVERY_GRACE);
        let ended =
            both(&Progress::default(), pin!(pending()), pin!(async { Err(Stopped::From(reset())) })).await;
        assert!(matches!(ended, Err(RelayError::Reset(_))));
        assert_eq!(begun.elapsed(), DELIVERY_GRACE);
    }

    /// sockets#62, sockets#49
    #[tokio::test(start_paused = true)]
    async fn only_a_half_open_connection_is_ever_silent_for_too_long() {
        let progress = Progress::default();
        let mut silence = pin!(progress.silence(Some(LIMIT)));
        assert!(poll!(silence.as_mut()).is_pending());
        tokio::time::advance(10 * LIMIT).await;
        assert!(poll!(silence.as_mut()).is_pending());
        let mut ended = pin!(progress.ended());
        assert!(poll!(ended.as_mut()).is_pending());
        assert!(poll!(silence.as_mut()).is_pending());
        for _ in 0..5 {
            tokio::time::advance(LIMIT - Duration::from_secs(1)).await;
            progress.moved();
            assert!(poll!(silence.as_mut()).is_pending());
        }
        let begun = Instant::now();
        silence.await;
        assert!(begun.elapsed() <= 2 * LIMIT, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_a_half_open_connection_lives_for_ever() {
        let progress = Progress::default();
        assert!(progress.ended().now_or_never().is_none());
        tokio::time::advance(100 * LIMIT).await;
        assert!(progress.silence(None).now_or_never().is_none());
    }
}
