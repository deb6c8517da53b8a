use std::{
    io,
    net::TcpListener,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
};

use tokio::{
    runtime,
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{Instant, timeout_at},
};

use super::{Capture, Handoff, accept};
use crate::{connections, context::WorkerContext, drain::FAREWELL, outbound, tls};

/// A worker about to run: its share of the listeners and the sockets that others hand to it.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) context: Arc<WorkerContext>,
    pub(crate) listeners: Vec<(Capture, TcpListener)>,
    pub(crate) handoffs: mpsc::Receiver<Handoff>,
}

/// How a worker ended: with what it panicked, if it did.
pub(crate) type Ended = thread::Result<()>;

/// Starts a worker on a thread with a runtime of its own; it ends when the proxy has drained, and says how.
pub(crate) fn spawn(worker: Worker, ended: mpsc::UnboundedSender<Ended>) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = thread::Builder::new().name(format!("mesh-worker-{}", worker.context.index));
    thread.spawn(move || {
        // Whatever the deadline cut short is dropped, and by that closed and reported, with the runtime. Nothing of
        // it is looked at after a panic.
        let how = panic::catch_unwind(AssertUnwindSafe(move || runtime.block_on(worker.run())));
        // Nobody may be waiting any more.
        let _ = ended.send(how);
    })?;
    Ok(())
}

/// A worker whose duties have ended would leave open what policy or a revocation closes: better no worker.
fn fulfilled(duty: Result<(), JoinError>) {
    if let Err(error) = duty
        && let Ok(panicked) = error.try_into_panic()
    {
        panic::resume_unwind(panicked);
    }
}

impl Worker {
    async fn run(mut self) {
        let context = self.context;
        let mut duties = JoinSet::new();
        duties.spawn(connections::recheck_on_change(Arc::clone(&context)));
        duties.spawn(outbound::evict_on_change(Arc::clone(&context)));
        duties.spawn(tls::follow_identities(Arc::clone(&context)));
        let mut accepting = JoinSet::new();
        for (capture, listener) in self.listeners {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    drop(accepting.spawn(accept::accept(listener, capture, Arc::clone(&context))))
                }
                Err(error) => tracing::error!(%error, ?capture, "listener lost"),
            }
        }
        let mut drain = context.drain.clone();
        loop {
            tokio::select! {
                _ = drain.started() => break,
                Some(duty) = duties.join_next() => fulfilled(duty),
                Some(handoff) = self.handoffs.recv() => accept::receive(handoff, &context),
            }
        }
        let finished = async {
            while accepting.join_next().await.is_some() {}
            loop {
                tokio::select! {
                    biased;
                    Some(duty) = duties.join_next() => fulfilled(duty),
                    Some(handoff) = self.handoffs.recv() => accept::receive(handoff, &context),
                    () = context.capacity.unused() => return,
                }
            }
        };
        let all_ended = tokio::select! {
            () = finished => true,
            () = drain.expired() => false,
        };
        // Nobody asks the pool for anything any more, or may: its connections end in good order.
        let farewell = Instant::now() + FAREWELL;
        let pool = context.pool.drain(farewell);
        if all_ended {
            let _ = timeout_at(farewell, pool).await;
        } else {
            // Connections end as resets, not as ends of streams, and peers hear of it.
            context.cut.send_replace(true);
            let _ = timeout_at(farewell, async { tokio::join!(context.capacity.unused(), pool) }).await;
        }
    }
}
