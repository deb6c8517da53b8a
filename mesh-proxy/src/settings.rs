use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use hbone::{Budget, server::Refusals};
use tokio::sync::Semaphore;

use crate::{
    route::ListenerPorts,
    socket::{OriginalSource, SocketOptions},
};

/// Port of the outbound listener in Istio's redirection rules.
pub const OUTBOUND_PORT: u16 = 15001;
/// Port of the plaintext inbound listener in Istio's redirection rules.
pub const INBOUND_PLAINTEXT_PORT: u16 = 15006;
/// Port on which every ambient workload accepts HBONE.
pub const HBONE_PORT: u16 = 15008;
/// Port of the SOCKS5 listener, on loopback only.
pub const SOCKS5_PORT: u16 = 15080;

/// Bound on each step that a peer could stall: the reference's bound on a connect.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a node proxy may hold in bytes that nobody has read: four connections at hbone's bound on each, or a thousand
/// tunnels that stall at the window they begin with.
const BUDGET: usize = 1 << 30;

/// Longer times are the same to everybody, and can be added to any instant.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// How a [`Proxy`](crate::Proxy) listens, dials and waits.
///
/// Every setting has a default that suits a node proxy. Times longer than ten years count as ten years. Clones share one
/// [`budget`](Self::budget).
#[derive(Clone, Debug)]
pub struct Settings {
    pub(crate) listen: ListenAddresses,
    pub(crate) workers: NonZeroUsize,
    pub(crate) original_source: OriginalSource,
    pub(crate) sockets: SocketOptions,
    pub(crate) network: Arc<str>,
    pub(crate) baggage: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) first_connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) local_workload_wait: Duration,
    pub(crate) missing_policy_wait: Duration,
    pub(crate) drain_deadline: Duration,
    pub(crate) half_open_timeout: Option<Duration>,
    pub(crate) max_connections_per_worker: u32,
    pub(crate) max_handshakes_per_worker: usize,
    pub(crate) max_tunnels_per_worker: usize,
    pub(crate) budget: Budget,
    pub(crate) refusals: Refusals,
    pub(crate) max_tunnels_per_connection: usize,
    pub(crate) max_pooled_connections: usize,
    pub(crate) pool_idle_timeout: Duration,
    pub(crate) pool_max_age: Duration,
    pub(crate) keepalive_interval: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) max_connection_age: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: ListenAddresses::redirected(true),
            workers: NonZeroUsize::MIN,
            original_source: OriginalSource::default(),
            sockets: SocketOptions::default(),
            network: Arc::default(),
            baggage: true,
            connect_timeout: STEP_TIMEOUT,
            handshake_timeout: STEP_TIMEOUT,
            first_connect_timeout: Duration::from_secs(360),
            response_timeout: STEP_TIMEOUT,
            local_workload_wait: Duration::from_secs(5),
            missing_policy_wait: Duration::from_secs(2),
            drain_deadline: Duration::from_secs(5),
            half_open_timeout: Some(Duration::from_secs(3600)),
            max_connections_per_worker: 65_536,
            max_handshakes_per_worker: 1024,
            max_tunnels_per_worker: 65_536,
            budget: Budget::new(BUDGET),
            refusals: Refusals::new(),
            max_tunnels_per_connection: 100,
            max_pooled_connections: 8192,
            pool_idle_timeout: Duration::from_secs(300),
            pool_max_age: Duration::from_secs(3600),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(20),
            max_connection_age: None,
        }
    }
}

impl Settings {
    /// Sets where to listen. Default: Istio's redirection ports on every address of both families.
    #[must_use]
    pub fn listen(mut self, listen: ListenAddresses) -> Self {
        self.listen = listen;
        self
    }

    /// Sets the number of worker threads, each with a runtime, listeners and a connection pool of its own. Default 1.
    #[must_use]
    pub fn workers(mut self, workers: NonZeroUsize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets whether applications see the client's own address. Default: where possible.
    #[must_use]
    pub fn original_source(mut self, original_source: OriginalSource) -> Self {
        self.original_source = original_source;
        self
    }

    /// Sets the options of every socket.
    #[must_use]
    pub fn sockets(mut self, sockets: SocketOptions) -> Self {
        self.sockets = sockets;
        self
    }

    /// Names the network this proxy is on; addresses are looked up in it. Default: the empty name.
    #[must_use]
    pub fn network(mut self, network: Arc<str>) -> Self {
        self.network = network;
        self
    }

    /// Sets whether peers' `baggage` is read and ours is sent in responses. Default on.
    #[must_use]
    pub fn baggage(mut self, baggage: bool) -> Self {
        self.baggage = baggage;
        self
    }

    /// Bounds an upstream TCP connect. Default 10 s, the reference's.
    #[must_use]
    pub fn connect_timeout(mut self, connect_timeout: Duration) -> Self {
        self.connect_timeout = connect_timeout.min(FOR_EVER);
        self
    }

    /// Bounds a TLS handshake and an HTTP/2 handshake, each. Default 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, handshake_timeout: Duration) -> Self {
        self.handshake_timeout = handshake_timeout.min(FOR_EVER);
        self
    }

    /// Bounds the wait for the first CONNECT of an inbound connection, which then ends in good order. Default 6 minutes.
    ///
    /// Peers make connections before they need them, and keep them: the reference's pool and ours for 5 minutes.
    #[must_use]
    pub fn first_connect_timeout(mut self, first_connect_timeout: Duration) -> Self {
        self.first_connect_timeout = first_connect_timeout.min(FOR_EVER);
        self
    }

    /// Bounds the wait for the answer to our CONNECT, during which the far proxy dials its application. Default 10 s.
    #[must_use]
    pub fn response_timeout(mut self, response_timeout: Duration) -> Self {
        self.response_timeout = response_timeout.min(FOR_EVER);
        self
    }

    /// Bounds how long a connection waits for its own workload to be known. Default 5 s, the reference's.
    #[must_use]
    pub fn local_workload_wait(mut self, local_workload_wait: Duration) -> Self {
        self.local_workload_wait = local_workload_wait.min(FOR_EVER);
        self
    }

    /// Bounds how long a connection waits for a policy that its workload lists and that has not arrived. Default 2 s.
    #[must_use]
    pub fn missing_policy_wait(mut self, missing_policy_wait: Duration) -> Self {
        self.missing_policy_wait = missing_policy_wait.min(FOR_EVER);
        self
    }

    /// Bounds how long open connections may go on once draining began. Default 5 s, the reference's.
    #[must_use]
    pub fn drain_deadline(mut self, drain_deadline: Duration) -> Self {
        self.drain_deadline = drain_deadline.min(FOR_EVER);
        self
    }

    /// Bounds how long a connection may be silent once one of its directions has ended, for as long or up to twice as long; it
    /// is then reset both ways. Default: an hour. `None`: for ever, as long as both ends are there.
    ///
    /// Such connections pile up behind applications that do not notice their clients' ends. Where connections are captured by
    /// redirection no honest one comes near the default: Linux forgets the redirection of a half-closed connection after
    /// two minutes of silence (`nf_conntrack_tcp_timeout_fin_wait`, `_close_wait`).
    #[must_use]
    pub fn half_open_timeout(mut self, half_open_timeout: Option<Duration>) -> Self {
        self.half_open_timeout = half_open_timeout.map(|limit| limit.min(FOR_EVER));
        self
    }

    /// Bounds the open downstream connections of a worker, inbound and outbound ones apart, beyond which accepting
    /// pauses. Default 65,536.
    ///
    /// From 1 to `u32::MAX`, which is for as many as there are descriptors.
    #[must_use]
    pub fn max_connections_per_worker(mut self, max_connections_per_worker: usize) -> Self {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        self.max_connections_per_worker =
            u32::try_from(max_connections_per_worker).unwrap_or(u32::MAX).clamp(1, most);
        self
    }

    /// Bounds the HBONE connections of a worker whose peers have not proved yet who they are. Default 1024, and never
    /// more than half of [`max_connections_per_worker`](Self::max_connections_per_worker).
    ///
    /// One more is closed at once, so that strangers cannot take the places of known peers.
    #[must_use]
    pub fn max_handshakes_per_worker(mut self, max_handshakes_per_worker: usize) -> Self {
        self.max_handshakes_per_worker = max_handshakes_per_worker.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Bounds the inbound tunnels of a worker. Default 65,536.
    ///
    /// A request for one more is refused with 503 and reported as an early denial; those that are open go on. Each tunnel
    /// takes a task and a connection to the application.
    #[must_use]
    pub fn max_tunnels_per_worker(mut self, max_tunnels_per_worker: usize) -> Self {
        self.max_tunnels_per_worker = max_tunnels_per_worker.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Bounds the memory that all tunnels of all workers hold in bytes that nobody has read yet. Default: one of 1 GiB.
    ///
    /// While it is used up new tunnels are refused, inbound with REFUSED_STREAM, which sends the peer elsewhere, and
    /// outbound by a failed connection. Open tunnels go on, each within its window.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Bounds the tunnels that share one pooled connection. Default 100, the reference's.
    #[must_use]
    pub fn max_tunnels_per_connection(mut self, max_tunnels_per_connection: usize) -> Self {
        self.max_tunnels_per_connection = max_tunnels_per_connection;
        self
    }

    /// Bounds the pooled connections of a worker. Default 8192.
    ///
    /// Past it the one that has been idle for longest is closed; if none is idle, a connection to a new next hop fails.
    #[must_use]
    pub fn max_pooled_connections(mut self, max_pooled_connections: usize) -> Self {
        self.max_pooled_connections = max_pooled_connections;
        self
    }

    /// Sets how long a pooled connection takes new tunnels, a tenth more or less. Default an hour.
    #[must_use]
    pub fn pool_max_age(mut self, pool_max_age: Duration) -> Self {
        self.pool_max_age = pool_max_age.min(FOR_EVER);
        self
    }

    /// Asks the peer of a pooled connection for a sign of life when it has sent nothing for `interval`, and gives it up
    /// without an answer within `timeout`. Default 10 s and 20 s, the reference's.
    #[must_use]
    pub fn pool_keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        (self.keepalive_interval, self.keepalive_timeout) = (interval.min(FOR_EVER), timeout.min(FOR_EVER));
        self
    }

    /// Sets the age at which an HBONE connection ends with all its tunnels, open ones included. Default: none, since a
    /// database session may last for weeks.
    #[must_use]
    pub fn max_connection_age(mut self, max_connection_age: Option<Duration>) -> Self {
        self.max_connection_age = max_connection_age.map(|age| age.min(FOR_EVER));
        self
    }

    /// Sets how long an unused pooled connection is kept. Default 5 minutes, the reference's.
    #[must_use]
    pub fn pool_idle_timeout(mut self, pool_idle_timeout: Duration) -> Self {
        self.pool_idle_timeout = pool_idle_timeout.min(FOR_EVER);
        self
    }
}

impl Settings {
    /// How many peers of a worker may be in their handshakes: known peers keep half of the places.
    pub(crate) fn handshakes(&self) -> usize {
        let half = usize::try_from(self.max_connections_per_worker / 2).unwrap_or(usize::MAX).max(1);
        self.max_handshakes_per_worker.min(half)
    }
}

/// Addresses a proxy listens on; an absent one switches that way in off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenAddresses {
    /// Captured connections of local applications.
    pub outbound: Option<SocketAddr>,
    /// Captured plaintext connections to local applications.
    pub inbound_plaintext: Option<SocketAddr>,
    /// HBONE to local applications.
    pub inbound_hbone: Option<SocketAddr>,
    /// SOCKS5, for local applications that cannot be captured.
    pub socks5: Option<SocketAddr>,
}

impl ListenAddresses {
    /// The ports of Istio's redirection rules on every address, of both families or of IPv4 only.
    ///
    /// SOCKS5 stays off.
    pub fn redirected(ipv6: bool) -> Self {
        let any = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        Self {
            outbound: Some(SocketAddr::new(any, OUTBOUND_PORT)),
            inbound_plaintext: Some(SocketAddr::new(any, INBOUND_PLAINTEXT_PORT)),
            inbound_hbone: Some(SocketAddr::new(any, HBONE_PORT)),
            socks5: None,
        }
    }

    /// Turns SOCKS5 on at its usual port, on loopback only.
    #[must_use]
    pub fn with_socks5(mut self) -> Self {
        self.socks5 = Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), SOCKS5_PORT));
        self
    }

    /// The ports in use, for the rules about connections to ourselves. Peers accept HBONE where we do.
    pub(crate) fn ports(&self) -> ListenerPorts {
        let port = |address: Option<SocketAddr>, default| address.map_or(default, |address| address.port());
        ListenerPorts {
            outbound: port(self.outbound, OUTBOUND_PORT),
            inbound_plaintext: port(self.inbound_plaintext, INBOUND_PLAINTEXT_PORT),
            inbound_hbone: port(self.inbound_hbone, HBONE_PORT),
            socks5: self.socks5.map(|address| address.port()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_at_least_one_and_at_most_what_can_be_counted() {
        let none = Settings::default()
            .max_connections_per_worker(0)
            .max_handshakes_per_worker(0)
            .max_tunnels_per_worker(0);
        assert_eq!(
            (none.max_connections_per_worker, none.handshakes(), none.max_tunnels_per_worker),
            (1, 1, 1)
        );
        let all = Settings::default()
            .max_connections_per_worker(usize::MAX)
            .max_handshakes_per_worker(usize::MAX)
            .max_tunnels_per_worker(usize::MAX);
        for permits in [all.handshakes(), all.max_tunnels_per_worker] {
            Semaphore::new(permits);
        }
    }

    #[test]
    fn strangers_get_half_of_the_places_at_most() {
        let handshakes =
            |connections| Settings::default().max_connections_per_worker(connections).handshakes();
        assert_eq!((handshakes(100), handshakes(2048), handshakes(1_000_000)), (50, 1024, 1024));
    }
}
