use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture, server::SendResponse};
use http::{HeaderMap, Response, StatusCode};

use super::{Permit, TunnelError, outgoing::Outgoing, send::why_reset};
use crate::{
    client::ConnectError,
    connection::Shared,
    proto::{ReceiveQueue, ResetReason},
};

/// One stream of HTTP/2, as its connection's driver and its users share it.
///
/// h2 wakes it for whatever arrives, whether or not anybody waits: it then stands in the connection's list, and at the
/// end of its turn the driver takes the frames out of h2 and wakes the user, if there is one. So h2 never keeps frames
/// for long, and how much is kept here is bounded.
///
/// The two mutexes are never held together, and both before h2's. h2 calls [`wake`](Wake::wake) and drops the waker with
/// its own held, so neither may call it: a stream is let go of by its users, who take h2's handles with them.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Arc<Shared>,
    /// Whether it stands in the connection's list.
    is_listed: AtomicBool,
    recv: Mutex<Receiving>,
    send: Mutex<Sending>,
    /// Whether END_STREAM has arrived.
    recv_ended: AtomicBool,
    /// Whether the peer has reset it.
    is_reset: AtomicBool,
    users: AtomicUsize,
    permit: Mutex<Option<Permit>>,
}

/// The receiving direction.
#[derive(Debug)]
struct Receiving {
    source: Source,
    answer: Option<Result<(StatusCode, HeaderMap), ConnectError>>,
    queue: ReceiveQueue,
    end: Option<End>,
    /// Bytes released.
    released: u64,
    /// Who waits for bytes or the answer.
    waker: Option<Waker>,
}

#[derive(Debug)]
enum Source {
    Response(ResponseFuture),
    Body(RecvStream),
    Gone,
}

/// How the receiving direction ended, after what is in the queue.
#[derive(Clone, Copy, Debug)]
enum End {
    /// In order.
    Finished,
    /// h2 knows why.
    Failed,
    /// We reset it, since too much was not read.
    OverBudget,
    /// The peer reset it.
    Reset(ResetReason),
}

/// The sending direction.
#[derive(Debug)]
pub(super) enum Sending {
    Respond(SendResponse<Bytes>),
    Open(Outgoing),
    Gone,
}

impl Stream {
    /// A request that a client sent.
    pub(crate) fn requested(
        connection: Arc<Shared>,
        response: ResponseFuture,
        send: SendStream<Bytes>,
        permit: Permit,
    ) -> (Receiver, Sender) {
        Self::start(connection, Source::Response(response), Sending::Open(Outgoing::new(send)), Some(permit))
    }

    /// A request that a server received.
    pub(crate) fn incoming(
        connection: Arc<Shared>,
        body: RecvStream,
        respond: SendResponse<Bytes>,
    ) -> (Receiver, Sender) {
        Self::start(connection, Source::Body(body), Sending::Respond(respond), None)
    }

    fn start(
        connection: Arc<Shared>,
        source: Source,
        send: Sending,
        permit: Option<Permit>,
    ) -> (Receiver, Sender) {
        connection.tunnel_opened();
        let stream = Arc::new(Self {
            connection,
            is_listed: AtomicBool::new(false),
            recv: Mutex::new(Receiving {
                source,
                answer: None,
                queue: ReceiveQueue::default(),
                end: None,
                released: 0,
                waker: None,
            }),
            send: Mutex::new(send),
            recv_ended: AtomicBool::new(false),
            is_reset: AtomicBool::new(false),
            users: AtomicUsize::new(2),
            permit: Mutex::new(permit),
        });
        // Makes h2 know the waker.
        stream.drain();
        (Receiver(User(Arc::clone(&stream))), Sender(User(stream)))
    }

    pub(crate) fn connection(&self) -> &Arc<Shared> {
        &self.connection
    }

    /// Takes out of h2 what has arrived, and wakes who waits for it.
    pub(crate) fn drain(self: &Arc<Self>) {
        self.is_listed.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(self));
        let mut recv = self.receiving();
        let before = recv.queue.cost();
        if !recv.fill(&mut Context::from_waker(&waker), &self.connection) {
            return;
        }
        let is_over_budget = recv.queue.cost() > self.connection.stream_budget() && recv.end.is_none();
        if is_over_budget {
            recv.discard();
            recv.end = Some(End::OverBudget);
            // Were there no sender any more to reset it, h2 would keep what still comes; it resets a stream without users.
            recv.source = Source::Gone;
        }
        match recv.end {
            Some(End::Finished) => self.recv_ended.store(true, Ordering::Release),
            Some(End::Reset(_)) => self.is_reset.store(true, Ordering::Release),
            Some(End::Failed | End::OverBudget) | None => {}
        }
        self.connection.recount(before, recv.queue.cost());
        let user = recv.waker.take();
        drop(recv);
        if is_over_budget {
            self.sending().reset(Reason::ENHANCE_YOUR_CALM);
        }
        if let Some(user) = user {
            user.wake();
        }
    }

    /// Passes what is gathered to be sent on to h2.
    pub(crate) fn flush(&self) {
        if let Sending::Open(outgoing) = &mut *self.sending() {
            outgoing.flush_listed();
        }
    }

    /// Whether END_STREAM has arrived.
    pub(super) fn is_recv_ended(&self) -> bool {
        self.recv_ended.load(Ordering::Acquire)
    }

    /// Whether we reset it because too much was not read.
    pub(super) fn is_over_budget(&self) -> bool {
        matches!(self.receiving().end, Some(End::OverBudget))
    }

    /// Whether the receiving direction ended by a reset of the peer's, as far as it is known.
    pub(super) fn was_reset(&self) -> bool {
        self.is_reset.load(Ordering::Acquire)
    }

    /// Whether one of its two users is left.
    pub(super) fn has_one_user(&self) -> bool {
        self.users.load(Ordering::Acquire) == 1
    }

    fn receiving(&self) -> MutexGuard<'_, Receiving> {
        self.recv.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sending(&self) -> MutexGuard<'_, Sending> {
        self.send.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Stream {
    fn wake(self: Arc<Self>) {
        if self.users.load(Ordering::Acquire) == 0 {
            // Nobody wants it: h2 tells what it does by itself, such as a reset.
            return;
        }
        if !self.is_listed.swap(true, Ordering::AcqRel) {
            let connection = Arc::clone(&self.connection);
            connection.push_ready(self);
        }
    }
}

impl Receiving {
    /// Takes out of h2 what has arrived; says whether anything has. Leaves the waker with h2 unless nothing can come.
    fn fill(&mut self, cx: &mut Context<'_>, connection: &Shared) -> bool {
        let mut progress = false;
        loop {
            match &mut self.source {
                Source::Response(response) => {
                    let Poll::Ready(response) = Pin::new(response).poll(cx) else { return progress };
                    progress = true;
                    match response {
                        Ok(response) => {
                            let (head, body) = response.into_parts();
                            self.answer = Some(Ok((head.status, head.headers)));
                            self.source = Source::Body(body);
                        }
                        Err(error) => {
                            self.answer = Some(Err(ConnectError::sent(error, connection)));
                            self.source = Source::Gone;
                        }
                    }
                }
                Source::Body(body) if self.end.is_none() => match body.poll_data(cx) {
                    Poll::Pending => return progress,
                    Poll::Ready(event) => {
                        progress = true;
                        self.handle(event);
                    }
                },
                Source::Body(_) | Source::Gone => return progress,
            }
        }
    }

    fn handle(&mut self, event: Option<Result<Bytes, h2::Error>>) {
        match event {
            // The frame that carries END_STREAM may have no payload.
            Some(Ok(data)) if data.is_empty() => {}
            Some(Ok(data)) => {
                self.queue.push(data, self.waker.is_some());
            }
            Some(Err(error)) => {
                self.end = Some(match TunnelError::from_h2(error) {
                    TunnelError::Reset(reason) => End::Reset(reason),
                    _ => End::Failed,
                });
            }
            None => {
                self.end = Some(End::Finished);
                // Trailers mean nothing here; h2 would keep them as long as the stream.
                if let Source::Body(body) = &mut self.source {
                    let _ = body.poll_trailers(&mut Context::from_waker(Waker::noop()));
                }
            }
        }
    }

    /// Throws away what nobody has taken.
    fn discard(&mut self) {
        let mut bytes = 0;
        while let Some(data) = self.queue.pop() {
            bytes += data.len();
        }
        self.release(bytes);
    }

    /// Lets the peer send that much more.
    fn release(&mut self, bytes: usize) {
        self.released += bytes as u64;
        if let Source::Body(body) = &mut self.source
            && bytes > 0
        {
            // Fails only for more than was received.
            let _ = body.flow_control().release_capacity(bytes);
        }
    }

    /// What h2 says about a direction that failed.
    fn error(&mut self) -> TunnelError {
        let Source::Body(body) = &mut self.source else { return TunnelError::Closed };
        match body.poll_data(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Err(error))) => TunnelError::from_h2(error),
            _ => TunnelError::Closed,
        }
    }
}

impl Sending {
    /// Whether nothing was ever given to be sent.
    pub(super) fn is_unused(&self) -> bool {
        match self {
            Self::Respond(_) | Self::Gone => false,
            Self::Open(outgoing) => outgoing.is_unused(),
        }
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        match self {
            Self::Respond(respond) => respond.send_reset(reason),
            Self::Open(outgoing) => outgoing.reset(reason),
            Self::Gone => {}
        }
    }
}

/// The one who receives from a stream. Dropped, it stops receiving; what it has taken is to be released before.
#[derive(Debug)]
pub(crate) struct Receiver(User);

impl Receiver {
    /// Polls for the answer to a request, once.
    pub(crate) fn poll_answer(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(StatusCode, HeaderMap), ConnectError>> {
        let mut recv = self.0.0.receiving();
        match recv.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                wait(&mut recv.waker, cx);
                Poll::Pending
            }
        }
    }

    /// Whether the peer has reset the stream, as far as the driver has seen.
    pub(crate) fn was_reset(&self) -> bool {
        self.0.0.was_reset()
    }

    /// Polls for the next bytes.
    pub(super) fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TunnelError>>> {
        let stream = &self.0.0;
        let mut recv = stream.receiving();
        let before = recv.queue.cost();
        if let Some(data) = recv.queue.pop() {
            stream.connection.recount(before, recv.queue.cost() + data.len());
            return Poll::Ready(Some(Ok(data)));
        }
        match recv.end {
            None => {
                wait(&mut recv.waker, cx);
                Poll::Pending
            }
            Some(End::Finished) => Poll::Ready(None),
            Some(End::Failed) => {
                let error = recv.error();
                drop(recv);
                Poll::Ready(Some(Err(error.explain(&stream.connection))))
            }
            Some(End::OverBudget) => Poll::Ready(Some(Err(TunnelError::OverBudget))),
            Some(End::Reset(reason)) => Poll::Ready(Some(Err(TunnelError::Reset(reason)))),
        }
    }

    /// Whether END_STREAM has arrived.
    pub(super) fn is_end_received(&self) -> bool {
        self.0.0.is_recv_ended()
    }

    /// Lets the peer send that many bytes more, which were taken before.
    pub(super) fn release(&self, bytes: usize) {
        let stream = &self.0.0;
        let mut recv = stream.receiving();
        recv.release(bytes);
        stream.connection.recount(bytes, 0);
        if recv.queue.is_empty() {
            stream.connection.note_progress(recv.released);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let stream = &self.0.0;
        let mut recv = stream.receiving();
        let cost = recv.queue.cost();
        // The other half may live on for long, and other tunnels can use the credit.
        recv.discard();
        stream.connection.recount(cost, 0);
        recv.waker = None;
        recv.source = Source::Gone;
    }
}

/// The one who sends on a stream. Dropped, it sends no more; h2 resets a stream that is not finished.
#[derive(Debug)]
pub(crate) struct Sender(User);

impl Sender {
    pub(super) fn stream(&self) -> &Stream {
        &self.0.0
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Sending> {
        self.0.0.sending()
    }

    /// Has the driver pass on what is gathered.
    pub(super) fn list_unsent(&self) {
        self.connection().push_unsent(Arc::clone(&self.0.0));
    }

    pub(crate) fn connection(&self) -> &Shared {
        self.stream().connection()
    }

    /// Answers a request and goes on to send.
    pub(crate) fn respond(&self, head: Response<()>) -> Result<(), TunnelError> {
        let mut sending = self.lock();
        let Sending::Respond(respond) = &mut *sending else { return Err(TunnelError::Closed) };
        match respond.send_response(head, false) {
            Ok(send) => {
                *sending = Sending::Open(Outgoing::new(send));
                Ok(())
            }
            Err(_) => {
                // A stream that takes no response says why.
                let reset = respond.poll_reset(&mut Context::from_waker(Waker::noop()));
                respond.send_reset(Reason::INTERNAL_ERROR);
                drop(sending);
                Err(match reset {
                    Poll::Ready(reset) => why_reset(reset, self.stream()),
                    Poll::Pending => TunnelError::Closed,
                })
            }
        }
    }

    /// Polls a request that was not answered for its being taken back.
    pub(crate) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        let reset = match &mut *self.lock() {
            Sending::Respond(respond) => ready!(respond.poll_reset(cx)),
            Sending::Open(_) | Sending::Gone => return Poll::Ready(TunnelError::Closed),
        };
        Poll::Ready(why_reset(reset, self.stream()))
    }

    /// Answers a request in another way.
    pub(crate) fn with_respond(&self, answer: impl FnOnce(&mut SendResponse<Bytes>)) {
        if let Sending::Respond(respond) = &mut *self.lock() {
            answer(respond);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        *self.lock() = Sending::Gone;
    }
}

/// One of two users of a stream. The last to go gives back its permit, after the stream is gone.
#[derive(Debug)]
struct User(Arc<Stream>);

impl Drop for User {
    fn drop(&mut self) {
        if self.0.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.connection.tunnel_gone();
            let permit = self.0.permit.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(permit);
        }
    }
}

/// Has the task woken later.
fn wait(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}
