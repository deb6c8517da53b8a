use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_task::{ArcWake, waker_ref};
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
/// Its mutex is taken before h2's. h2 calls [`wake`](ArcWake::wake) and drops the waker with its own held, so neither may
/// call it: a stream is let go of by its users, who take h2's handles with them.
#[derive(Debug)]
pub(crate) struct Stream {
    connection: Arc<Shared>,
    /// Whether it stands in the connection's list.
    is_listed: AtomicBool,
    /// Whether END_STREAM has arrived.
    recv_ended: AtomicBool,
    /// Whether the peer has reset it.
    is_reset: AtomicBool,
    /// Whether both users are gone.
    is_left: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    recv: Receiving,
    pub(super) send: Sending,
    /// Who uses it: the receiver, the sender.
    users: u8,
    permit: Option<Permit>,
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
    /// A request that a client sent, which the connection has counted.
    pub(crate) fn requested(
        connection: Arc<Shared>,
        response: ResponseFuture,
        send: SendStream<Bytes>,
        permit: Option<Permit>,
    ) -> (Receiver, Sender) {
        Self::start(connection, Source::Response(response), Sending::Open(Outgoing::new(send)), permit)
    }

    /// A request that a server received.
    pub(crate) fn incoming(
        connection: Arc<Shared>,
        body: RecvStream,
        respond: SendResponse<Bytes>,
    ) -> (Receiver, Sender) {
        connection.tunnel_opened();
        Self::start(connection, Source::Body(body), Sending::Respond(respond), None)
    }

    fn start(
        connection: Arc<Shared>,
        source: Source,
        send: Sending,
        permit: Option<Permit>,
    ) -> (Receiver, Sender) {
        let recv = Receiving {
            source,
            answer: None,
            queue: ReceiveQueue::default(),
            end: None,
            released: 0,
            waker: None,
        };
        let stream = Arc::new(Self {
            connection,
            is_listed: AtomicBool::new(false),
            recv_ended: AtomicBool::new(false),
            is_reset: AtomicBool::new(false),
            is_left: AtomicBool::new(false),
            state: Mutex::new(State { recv, send, users: 2, permit }),
        });
        // Makes h2 know the waker.
        stream.drain();
        (Receiver(Arc::clone(&stream)), Sender(stream))
    }

    pub(crate) fn connection(&self) -> &Arc<Shared> {
        &self.connection
    }

    /// Takes out of h2 what has arrived, and wakes who waits for it.
    pub(crate) fn drain(self: &Arc<Self>) {
        self.is_listed.store(false, Ordering::Release);
        let mut state = self.lock();
        let State { recv, send, .. } = &mut *state;
        let before = recv.queue.cost();
        if !recv.fill(&mut Context::from_waker(&waker_ref(self)), &self.connection) {
            return;
        }
        if recv.queue.cost() > self.connection.stream_budget() && recv.end.is_none() {
            recv.discard();
            recv.end = Some(End::OverBudget);
            // Were there no sender any more to reset it, h2 would keep what still comes; it resets a stream without users.
            recv.source = Source::Gone;
            send.reset(Reason::ENHANCE_YOUR_CALM);
        }
        match recv.end {
            Some(End::Finished) => self.recv_ended.store(true, Ordering::Release),
            Some(End::Reset(_)) => self.is_reset.store(true, Ordering::Release),
            Some(End::Failed | End::OverBudget) | None => {}
        }
        self.connection.recount(before, recv.queue.cost());
        let user = recv.waker.take();
        drop(state);
        if let Some(user) = user {
            user.wake();
        }
    }

    /// Passes what is gathered to be sent on to h2.
    pub(crate) fn flush(&self) {
        if let Sending::Open(outgoing) = &mut self.lock().send {
            outgoing.flush_listed();
        }
    }

    /// Whether END_STREAM has arrived.
    pub(super) fn is_recv_ended(&self) -> bool {
        self.recv_ended.load(Ordering::Acquire)
    }

    /// Whether we reset it because too much was not read.
    pub(super) fn is_over_budget(&self) -> bool {
        matches!(self.lock().recv.end, Some(End::OverBudget))
    }

    /// Whether the receiving direction ended by a reset of the peer's, as far as it is known.
    pub(super) fn was_reset(&self) -> bool {
        self.is_reset.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of the two users leaves. The last gives back the permit.
    fn leave(&self, mut state: MutexGuard<'_, State>) {
        state.users -= 1;
        if state.users > 0 {
            return;
        }
        self.is_left.store(true, Ordering::Release);
        let permit = state.permit.take();
        drop(state);
        self.connection.tunnel_gone();
        drop(permit);
    }
}

impl ArcWake for Stream {
    fn wake(self: Arc<Self>) {
        if self.is_left.load(Ordering::Acquire) {
            // Nobody wants it: h2 tells what it does by itself, such as a reset.
            return;
        }
        // h2 holds its lock, so nobody else wakes it now; and the driver has seen what came before it asked h2 again.
        if !self.is_listed.load(Ordering::Acquire) {
            self.is_listed.store(true, Ordering::Release);
            let connection = Arc::clone(&self.connection);
            connection.push_ready(self);
        }
    }

    fn wake_by_ref(stream: &Arc<Self>) {
        Arc::clone(stream).wake();
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
pub(crate) struct Receiver(Arc<Stream>);

impl Receiver {
    /// Polls for the answer to a request, once.
    pub(crate) fn poll_answer(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(StatusCode, HeaderMap), ConnectError>> {
        let recv = &mut self.0.lock().recv;
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
        self.0.was_reset()
    }

    /// Polls for the next bytes.
    pub(super) fn poll_data(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TunnelError>>> {
        let stream = &self.0;
        let mut state = stream.lock();
        let recv = &mut state.recv;
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
                drop(state);
                Poll::Ready(Some(Err(error.explain(&stream.connection))))
            }
            Some(End::OverBudget) => Poll::Ready(Some(Err(TunnelError::OverBudget))),
            Some(End::Reset(reason)) => Poll::Ready(Some(Err(TunnelError::Reset(reason)))),
        }
    }

    /// Whether END_STREAM has arrived.
    pub(super) fn is_end_received(&self) -> bool {
        self.0.is_recv_ended()
    }

    /// Lets the peer send that many bytes more, which were taken before.
    pub(super) fn release(&self, bytes: usize) {
        let stream = &self.0;
        let recv = &mut stream.lock().recv;
        recv.release(bytes);
        stream.connection.recount(bytes, 0);
        if recv.queue.is_empty() {
            stream.connection.note_progress(recv.released);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let stream = &*self.0;
        let mut state = stream.lock();
        let recv = &mut state.recv;
        if !recv.queue.is_empty() {
            // The other half may live on for long, and other tunnels can use the credit.
            let cost = recv.queue.cost();
            recv.discard();
            stream.connection.recount(cost, 0);
        }
        recv.waker = None;
        recv.source = Source::Gone;
        stream.leave(state);
    }
}

/// The one who sends on a stream. Dropped before it has finished, it resets the stream.
#[derive(Debug)]
pub(crate) struct Sender(Arc<Stream>);

impl Sender {
    pub(super) fn stream(&self) -> &Stream {
        &self.0
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Has the driver pass on what is gathered.
    pub(super) fn list_unsent(&self) {
        self.connection().push_unsent(Arc::clone(&self.0));
    }

    pub(crate) fn connection(&self) -> &Shared {
        self.stream().connection()
    }

    /// Answers a request and goes on to send.
    pub(crate) fn respond(&self, head: Response<()>) -> Result<(), TunnelError> {
        let mut state = self.lock();
        let Sending::Respond(respond) = &mut state.send else { return Err(TunnelError::Closed) };
        match respond.send_response(head, false) {
            Ok(send) => {
                state.send = Sending::Open(Outgoing::new(send));
                Ok(())
            }
            Err(_) => {
                // A stream that takes no response says why.
                let reset = respond.poll_reset(&mut Context::from_waker(Waker::noop()));
                respond.send_reset(Reason::INTERNAL_ERROR);
                drop(state);
                Err(match reset {
                    Poll::Ready(reset) => why_reset(reset, self.stream()),
                    Poll::Pending => TunnelError::Closed,
                })
            }
        }
    }

    /// Polls a request that was not answered for its being taken back.
    pub(crate) fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<TunnelError> {
        let reset = match &mut self.lock().send {
            Sending::Respond(respond) => ready!(respond.poll_reset(cx)),
            Sending::Open(_) | Sending::Gone => return Poll::Ready(TunnelError::Closed),
        };
        Poll::Ready(why_reset(reset, self.stream()))
    }

    /// Answers a request in another way.
    pub(crate) fn with_respond(&self, answer: impl FnOnce(&mut SendResponse<Bytes>)) {
        if let Sending::Respond(respond) = &mut self.lock().send {
            answer(respond);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let stream = &*self.0;
        let mut state = stream.lock();
        let is_last = state.users == 1;
        if let Sending::Open(outgoing) = &mut state.send {
            outgoing.give_up(is_last, stream.was_reset());
        }
        state.send = Sending::Gone;
        stream.leave(state);
    }
}

/// Has the task woken later.
fn wait(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}
