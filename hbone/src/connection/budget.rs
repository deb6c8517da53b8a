use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

/// How much memory all connections of a process together may hold in bytes that nobody has read.
///
/// Give clones of one to all builders. While it is used up, new tunnels are refused: by servers with REFUSED_STREAM, by
/// clients with [`ConnectError::OverBudget`](crate::ConnectError::OverBudget). Open tunnels go on, each within its
/// window, so that the sum can be exceeded by what they are still entitled to.
///
/// Cost: connections report changes of 64 KiB or more.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    held: AtomicUsize,
    refused: AtomicU64,
}

impl Budget {
    /// Allows that many bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, held: AtomicUsize::new(0), refused: AtomicU64::new(0) }))
    }

    /// How many bytes are allowed.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// How many bytes are held now, less up to 64 KiB or more up to 128 KiB on each connection.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// How many tunnels have been refused because of it.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn admit(&self) -> bool {
        let admitted = self.held() < self.0.limit;
        if !admitted {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("limit", &self.limit())
            .field("held", &self.held())
            .field("refused", &self.refused())
            .finish()
    }
}

/// What one connection has reported to a budget.
#[derive(Debug, Default)]
pub(super) struct Charge(usize);

impl Charge {
    /// The connection holds `held` bytes now.
    pub(super) fn settle(&mut self, budget: &Budget, held: usize) {
        let whole = held - held % STEP;
        if whole > self.0 {
            budget.0.held.fetch_add(whole - self.0, Ordering::Relaxed);
            self.0 = whole;
        } else if held == 0 || whole + STEP < self.0 {
            budget.0.held.fetch_sub(self.0 - whole, Ordering::Relaxed);
            self.0 = whole;
        }
    }
}

/// Changes below this are not reported, so that connections on different processors do not contend for the count.
pub(super) const STEP: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_follows_the_connections_in_steps() {
        let budget = Budget::new(3 * STEP);
        let (mut one, mut other) = (Charge::default(), Charge::default());
        let table = [
            (STEP - 1, 0, 0),
            (2 * STEP + 1, 0, 2 * STEP),
            (2 * STEP + 1, STEP, 3 * STEP),
            (STEP, STEP, 3 * STEP),
            (STEP - 1, STEP, STEP),
            (0, 0, 0),
        ];
        for (held, other_held, sum) in table {
            one.settle(&budget, held);
            other.settle(&budget, other_held);
            assert_eq!(budget.held(), sum, "{held} and {other_held}");
        }
    }

    #[test]
    fn refusals_are_counted() {
        let budget = Budget::new(STEP);
        assert!(budget.admit());
        Charge::default().settle(&budget, STEP);
        assert!(!budget.admit());
        assert_eq!(budget.refused(), 1);
    }
}
