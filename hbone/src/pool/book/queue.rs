use std::collections::VecDeque;

use super::{ConnectionId, Ticket};

/// Those who wait for a tunnel with one key, in the order in which they came, which is that of their tickets.
#[derive(Debug)]
pub(super) struct Queue<W> {
    waiters: VecDeque<Waiter<W>>,
    /// How many avoid a connection.
    particular: usize,
}

#[derive(Debug)]
struct Waiter<W> {
    ticket: Ticket,
    avoid: Option<ConnectionId>,
    waiter: W,
}

impl<W> Queue<W> {
    pub(super) fn new() -> Self {
        Self { waiters: VecDeque::new(), particular: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub(super) fn push(&mut self, ticket: Ticket, avoid: Option<ConnectionId>, waiter: W) {
        self.particular += usize::from(avoid.is_some());
        self.waiters.push_back(Waiter { ticket, avoid, waiter });
    }

    /// The connection that the waiter at `index` avoids; `None` if there is no such waiter.
    pub(super) fn avoided_by(&self, index: usize) -> Option<Option<ConnectionId>> {
        self.waiters.get(index).map(|waiter| waiter.avoid)
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<W> {
        let waiter = self.waiters.remove(index)?;
        self.particular -= usize::from(waiter.avoid.is_some());
        Some(waiter.waiter)
    }

    /// Takes someone out who still is there.
    pub(super) fn cancel(&mut self, ticket: Ticket) -> Option<W> {
        let index = self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket).ok()?;
        self.remove(index)
    }

    /// How many avoid `id`, and the place of the first.
    pub(super) fn avoiding(&self, id: ConnectionId) -> (usize, Option<usize>) {
        if self.particular == 0 {
            return (0, None);
        }
        let mut avoiding =
            self.waiters.iter().enumerate().filter(|(_, waiter)| waiter.avoid == Some(id)).map(|(at, _)| at);
        let first = avoiding.next();
        (usize::from(first.is_some()) + avoiding.count(), first)
    }

    pub(super) fn into_waiters(self) -> impl Iterator<Item = W> {
        self.waiters.into_iter().map(|waiter| waiter.waiter)
    }
}
