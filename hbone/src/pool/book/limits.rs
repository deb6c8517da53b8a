use std::time::Duration;

/// What the bookkeeping may not exceed.
#[derive(Clone, Copy, Debug)]
pub(in crate::pool) struct Limits {
    /// Tunnels per connection.
    pub(in crate::pool) tunnels: usize,
    /// Connections per key that take tunnels, including those being dialled.
    pub(in crate::pool) connections: usize,
    /// Connections per key that are opened because the others are busy rather than full.
    pub(in crate::pool) relief: usize,
    /// Connections of all keys, including those being dialled and those that wait for their last tunnel to end.
    pub(in crate::pool) total: usize,
    /// Waiters per key.
    pub(in crate::pool) waiters: usize,
    pub(in crate::pool) sharing: Sharing,
    /// How long a connection stays without tunnels.
    pub(in crate::pool) idle_timeout: Duration,
    /// How long a connection takes tunnels, a tenth more or less.
    pub(in crate::pool) max_age: Option<Duration>,
    /// The first pause after a failed dial, and the longest.
    pub(in crate::pool) backoff: (Duration, Duration),
}

/// How tunnels are distributed over a key's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sharing {
    /// The oldest connection is filled first, so that later ones can fall idle. The default.
    Fill,
    /// Each tunnel has a connection to itself until there are as many as allowed; then the one with the fewest takes
    /// the next, among equals the one that has waited longest. For peers behind a balancer, which sees connections only.
    Spread,
}

/// How well a connection would serve one more tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::pool) enum Load {
    /// As well as a new one.
    Free,
    /// Bytes queue up: a new one would do better, but this one does.
    Busy,
    /// It does not move, or is not known to: only if there is no other.
    Stalled,
}

/// What can say how loaded it is. Asked under the book's lock, so an answer costs a few loads at most.
pub(in crate::pool) trait MeasureLoad {
    fn load(&self) -> Load;
}
