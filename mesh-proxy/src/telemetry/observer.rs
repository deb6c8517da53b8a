use std::{
    fmt::{Debug, Display},
    sync::Arc,
};

use super::{ConnectionMeta, Direction, EarlyDenial, Event, ResetBy, ResponseFlag};

/// Sees everything the proxy does that is worth telling.
///
/// Methods are called on worker threads, between reads and writes of live connections: they must not block, and
/// an implementation shared by workers should avoid locks that all of them take.
pub trait Observer: Debug + Send + Sync {
    /// Called once per connection or tunnel, as soon as both its ends are known.
    fn connection_opened(&self, meta: ConnectionMeta) -> Box<dyn ConnectionObserver>;

    /// Called instead of [`connection_opened`](Self::connection_opened) for a connection that ended earlier.
    fn connection_refused(&self, denial: &EarlyDenial<'_>) {
        let _ = denial;
    }

    /// Called when a socket was accepted, before anything is known about it.
    fn socket_opened(&self, direction: Direction) {
        let _ = direction;
    }

    /// Called when an accepted socket is closed, once per [`socket_opened`](Self::socket_opened).
    fn socket_closed(&self, direction: Direction) {
        let _ = direction;
    }

    /// Called for what happens to the proxy as a whole.
    fn event(&self, event: &Event<'_>) {
        let _ = event;
    }
}

impl<T: Observer + ?Sized> Observer for Arc<T> {
    fn connection_opened(&self, meta: ConnectionMeta) -> Box<dyn ConnectionObserver> {
        (**self).connection_opened(meta)
    }

    fn connection_refused(&self, denial: &EarlyDenial<'_>) {
        (**self).connection_refused(denial);
    }

    fn socket_opened(&self, direction: Direction) {
        (**self).socket_opened(direction);
    }

    fn socket_closed(&self, direction: Direction) {
        (**self).socket_closed(direction);
    }

    fn event(&self, event: &Event<'_>) {
        (**self).event(event);
    }
}

/// Follows one connection to its end.
///
/// The byte methods are called for every chunk relayed: they should cost no more than an atomic addition.
pub trait ConnectionObserver: Send + Sync {
    /// Counts bytes that went from the client towards the server.
    fn received(&self, bytes: u64);

    /// Counts bytes that went from the server towards the client.
    fn sent(&self, bytes: u64);

    /// Called once before [`closed`](Self::closed) if an end reset the connection, which is no failure of ours.
    fn reset(&self, by: ResetBy) {
        let _ = by;
    }

    /// Called once, at the end; `error` is the text for operators where something went wrong.
    fn closed(self: Box<Self>, flag: ResponseFlag, error: Option<&dyn Display>);
}

/// An [`Observer`] that ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn connection_opened(&self, _: ConnectionMeta) -> Box<dyn ConnectionObserver> {
        Box::new(Self)
    }
}

impl ConnectionObserver for NoopObserver {
    fn received(&self, _: u64) {}

    fn sent(&self, _: u64) {}

    fn closed(self: Box<Self>, _: ResponseFlag, _: Option<&dyn Display>) {}
}
