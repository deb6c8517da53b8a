use super::{ConnectionId, backoff::Failure};

/// What is to be done after an event, without the book's lock.
#[derive(Debug)]
#[must_use = "whoever is named in it waits for it"]
pub(in crate::pool) struct Outcome<K, C, W, F> {
    /// Who gets a tunnel on which connection.
    pub(in crate::pool) grants: Vec<(W, C)>,
    /// Who gets none.
    pub(in crate::pool) refusals: Vec<(W, Refusal<F>)>,
    /// Connections to be dialled.
    pub(in crate::pool) dials: Vec<(K, ConnectionId)>,
    /// Connections that the book let go of, to be dropped.
    pub(in crate::pool) dropped: Vec<C>,
}

/// Why someone who wants a tunnel gets none.
#[derive(Clone, Debug)]
pub(in crate::pool) enum Refusal<F> {
    /// The last dial failed a short while ago.
    Backoff(Failure<F>),
    /// Too many wait already.
    Busy,
    /// The dial failed that was waited for.
    Dial(F),
    /// The pool is draining.
    Draining,
    /// The key was evicted.
    Evicted,
    /// No further connection is allowed, and none is there to wait for.
    Exhausted,
}

impl<K, C, W, F> Default for Outcome<K, C, W, F> {
    fn default() -> Self {
        Self { grants: Vec::new(), refusals: Vec::new(), dials: Vec::new(), dropped: Vec::new() }
    }
}
