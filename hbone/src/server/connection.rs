use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::Request;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{Handle, Incoming};
use crate::{
    connection::{
        Alarm, ConnectionError, Driver, KeepaliveDriver, Metered, Order, Orders, Over, WakeFlag,
        poll_deadline,
    },
    proto::{
        Flood,
        idleness::{Expire, Idleness},
    },
};

/// Drives a server's connection and yields the tunnels that are asked for.
///
/// Nothing happens on the connection, nor on its tunnels, unless [`accept`](Self::accept) is being polled. Dropping it
/// ends all tunnels with [`TunnelError::Lost`](crate::TunnelError::Lost).
#[derive(Debug)]
#[must_use = "a connection does nothing unless tunnels are accepted from it"]
pub struct Connection<T: AsyncRead + AsyncWrite + Unpin> {
    /// `None` once it is over.
    inner: Option<h2::server::Connection<Metered<T>, Bytes>>,
    keepalive: Option<KeepaliveDriver>,
    driver: Driver,
    /// Whether there is anything to do.
    wake_flag: WakeFlag,
    /// Raises it.
    waker: Waker,
    is_draining: bool,
    orders: Orders,
    /// When a drain ends.
    deadline: Option<Alarm>,
    /// Requests that nobody has taken yet.
    waiting: VecDeque<Incoming>,
    max_pending: usize,
    /// How many requests there were.
    requests: u64,
    idleness: Idleness,
    /// When to look at it next.
    look: Option<Alarm>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    pub(super) fn new(
        inner: h2::server::Connection<Metered<T>, Bytes>,
        keepalive: Option<KeepaliveDriver>,
        driver: Driver,
        idleness: Idleness,
        max_pending: usize,
    ) -> Self {
        let wake_flag = WakeFlag::new();
        Self {
            inner: Some(inner),
            keepalive,
            driver,
            waker: wake_flag.waker(),
            wake_flag,
            is_draining: false,
            orders: Orders::default(),
            deadline: None,
            waiting: VecDeque::new(),
            max_pending,
            requests: 0,
            look: idleness.poll_timeout().map(|at| Alarm::new(at.into())),
            idleness,
        }
    }

    /// A handle that ends the connection from elsewhere.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(self.driver.shared()))
    }

    /// Waits for the next request for a tunnel, driving the connection and all its tunnels meanwhile.
    ///
    /// A request that is no CONNECT, or whose authority is no host and port, is answered with 400 and not yielded: it
    /// does not end the connection. Nor is one yielded that the client has taken back. `None` when the connection is
    /// closed in good order, drained or aborted, or was closed since its first request
    /// [did not come](super::Builder::first_request_timeout).
    ///
    /// # Errors
    ///
    /// If the connection fails; it is over then, and the next call yields `None`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no request is lost. But nothing moves until it is called again.
    pub async fn accept(&mut self) -> Option<Result<Incoming, ConnectionError>> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Polls for the next request, see [`accept`](Self::accept).
    ///
    /// Cost, if nothing has happened since it was polled last, as after each request that it yielded: two atomics and a lock.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, ConnectionError>>> {
        if self.wake_flag.take(cx) {
            let waker = std::mem::replace(&mut self.waker, Waker::noop().clone());
            let next = self.drive(&mut Context::from_waker(&waker));
            self.waker = waker;
            return next;
        }
        if self.inner.is_none() { Poll::Ready(None) } else { self.next_waiting() }
    }

    /// Does whatever there is to do.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Incoming, ConnectionError>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        match self.driver.shared().control().poll_order(&mut self.orders, cx) {
            None => {}
            Some(Order::Abort) => return self.abort(None, cx),
            Some(Order::Drain { deadline }) => {
                // Once; repeated, it does nothing.
                inner.graceful_shutdown();
                self.is_draining = true;
                if deadline.is_some_and(|deadline| poll_deadline(&mut self.deadline, deadline, cx).is_ready())
                {
                    return self.abort(None, cx);
                }
            }
        }
        let received = self.driver.shared().received();
        if let Some(Poll::Ready(silence)) =
            self.keepalive.as_mut().map(|keepalive| keepalive.poll(cx, received))
        {
            self.end(Over::Silent(silence));
            return Poll::Ready(Some(Err(ConnectionError::KeepaliveTimeout(silence))));
        }
        if let Poll::Ready(ended) = self.poll_requests(cx) {
            self.end(Over::Ended);
            // A peer that leaves during a drain does what it was asked to, at whatever moment.
            let left = self.is_draining && matches!(ended, Err(ConnectionError::Io(_)));
            return Poll::Ready(ended.err().filter(|_| !left).map(Err));
        }
        if let Some(flood) = self.driver.shared().flood() {
            return self.abort(Some(flood), cx);
        }
        match self.poll_idleness(cx) {
            None => {}
            Some(Expire::Unused) => {
                // No request can cross this goodbye; what else does is read, so that the goodbye is read as well.
                if let Some(inner) = &mut self.inner {
                    inner.abrupt_shutdown(Reason::NO_ERROR);
                }
                let deadline = Some(Instant::now() + FAREWELL);
                self.driver.shared().control().order(Order::Drain { deadline });
            }
            // The task is woken to obey. A request that crosses our goodbye gets its tunnel, for as long as it lasts.
            Some(Expire::Idle) => self.driver.shared().control().order(Order::Drain { deadline: None }),
        }
        self.next_waiting()
    }

    #[inline]
    fn next_waiting(&mut self) -> Poll<Option<Result<Incoming, ConnectionError>>> {
        while let Some(incoming) = self.waiting.pop_front() {
            if !incoming.is_taken_back() {
                return Poll::Ready(Some(Ok(incoming)));
            }
        }
        Poll::Pending
    }

    /// One turn: takes all that has arrived out of h2. Resolves when the connection has ended.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(Ok(())) };
        self.driver.begin();
        let ended = loop {
            match inner.poll_accept(cx) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.requests += 1;
                    let may_wait = self.waiting.len() < self.max_pending;
                    self.waiting.extend(receive(request, respond, may_wait, &self.driver));
                    if self.requests == self.driver.shared().heads() {
                        // The last: h2 has nothing more to do than when it was asked for this one.
                        break Poll::Pending;
                    }
                }
                Poll::Ready(Some(Err(error))) => break Poll::Ready(Err(ConnectionError::from_h2(error))),
                Poll::Ready(None) => break Poll::Ready(Ok(())),
            }
        };
        self.driver.drain();
        if let Some(window) = self.driver.next_window() {
            inner.set_target_window_size(window);
        }
        if let Some(window) = self.driver.next_stream_window()
            && inner.set_initial_window_size(window).is_ok()
        {
            self.driver.stream_window_sent();
        }
        ended
    }

    /// Looks whether the connection is of no use, when it is time to.
    fn poll_idleness(&mut self, cx: &mut Context<'_>) -> Option<Expire> {
        loop {
            let look = self.look.as_mut()?;
            if look.poll(cx).is_pending() {
                return None;
            }
            let (tunnels, now) = (self.driver.shared().tunnels(), Instant::now().into_std());
            let expire = self.idleness.handle_timeout(self.requests, tunnels, now);
            match self.idleness.poll_timeout() {
                Some(at) => look.reset(at.into()),
                None => self.look = None,
            }
            if expire.is_some() {
                return expire;
            }
        }
    }

    /// Drops the connection, saying goodbye if the peer is listening, and why if it floods us.
    fn abort(
        &mut self,
        flood: Option<Flood>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Incoming, ConnectionError>>> {
        let over = flood.map_or(Over::Closed, Over::Flooded);
        if let Some(inner) = &mut self.inner {
            self.driver.shared().end(over);
            inner.abrupt_shutdown(flood.map_or(Reason::NO_ERROR, |_| Reason::ENHANCE_YOUR_CALM));
            let _ = inner.poll_closed(cx);
        }
        self.end(over);
        Poll::Ready(flood.map(|flood| Err(ConnectionError::PeerFlood(flood))))
    }

    fn end(&mut self, cause: Over) {
        let inner = self.inner.take();
        self.driver.end(cause, || drop(inner));
        self.waiting.clear();
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Drop for Connection<T> {
    fn drop(&mut self) {
        if self.inner.is_some() {
            self.end(Over::Closed);
        }
    }
}

/// How long a client that never used its connection has to take leave of it.
const FAREWELL: Duration = Duration::from_secs(5);

/// Whether the client does not want an answer any more.
fn is_taken_back(respond: &mut SendResponse<Bytes>) -> bool {
    respond.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Takes a request, unless too many wait or too much is held already, or it is none for a tunnel.
fn receive(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    may_wait: bool,
    driver: &Driver,
) -> Option<Incoming> {
    let shared = driver.shared();
    if !may_wait && is_taken_back(&mut respond) {
        // Those that may wait are counted when their turn comes.
        shared.note_taken_back();
        return None;
    }
    if !may_wait || shared.is_saturated() || !shared.admit() {
        shared.note_refusal();
        respond.send_reset(Reason::REFUSED_STREAM);
        return None;
    }
    Incoming::check(request, respond, shared)
}
