use std::{
    future::Future,
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hbone::{
    ConnectError, client,
    pool::{self, Pool, PoolError},
};
use mesh_identity::TlsEntry;
use rustls::ClientConfig;
use tower::Service;

use crate::{
    context::WorkerContext,
    error::ConnectionError,
    route::HboneRoute,
    settings::Settings,
    socket::{DialError, DialSource, dial},
    state::{Snapshot, Workload},
    tls::{ClientEntry, ClientStream, TlsContexts},
};

/// The HBONE connections of one worker.
pub(crate) type UpstreamPool = Pool<UpstreamKey, Dialer>;

/// What two tunnels must agree on to share a connection.
///
/// The receiver takes the connection's source for the client's address and its certificate for the client's
/// identity, so two workloads never share one, not even with one service account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamKey {
    next_hop: SocketAddr,
    source: IpAddr,
    workload: Arc<str>,
    /// The workload that is dialled: an address may go from one to another.
    upstream: Arc<str>,
    tls: Configuration,
    /// Whether the dial leaves from `source`: it does if that is the workload's own.
    bind_source: bool,
    /// Whether `next_hop` is the upstream's own, rather than one that leads to it.
    is_direct: bool,
}

impl UpstreamKey {
    pub(crate) fn new(source: IpAddr, workload: &Workload, route: &HboneRoute, tls: ClientEntry) -> Self {
        let (next_hop, upstream) = (route.next_hop, &route.workload);
        Self {
            next_hop,
            source,
            workload: Arc::clone(&workload.uid),
            upstream: Arc::clone(&upstream.uid),
            tls: Configuration(tls),
            bind_source: workload.addresses.contains(&source) && source.is_ipv4() == next_hop.is_ipv4(),
            is_direct: upstream.addresses.contains(&next_hop.ip()),
        }
    }

    /// What connections are made with.
    pub(crate) fn tls(&self) -> &TlsEntry<ClientConfig> {
        &self.tls.0
    }

    /// Whether both ends are still where they were.
    pub(crate) fn is_current(&self, snapshot: &Snapshot) -> bool {
        let upstream = snapshot.workload(&self.upstream);
        snapshot.workload(&self.workload).is_some()
            && upstream
                .is_some_and(|upstream| !self.is_direct || upstream.addresses.contains(&self.next_hop.ip()))
    }
}

/// Evicts from a worker's pool what a change of state has removed: nothing is sent to the former holder of an address.
///
/// Ends with the state. Costs two look-ups per pooled key after a change by which a workload has gone or left an address,
/// nothing after others; changes that come meanwhile are taken together.
pub(crate) async fn evict_on_change(context: Arc<WorkerContext>) {
    let mut epoch = context.state.subscribe();
    let mut departed = 0;
    while epoch.changed().await.is_ok() {
        let snapshot = context.state.load();
        if std::mem::replace(&mut departed, snapshot.departed()) != snapshot.departed() {
            context.pool.retain(|key| key.is_current(&snapshot));
        }
    }
}

/// A TLS configuration, equal only to itself.
///
/// There is one per own identity and set of expected peers, and a new one after each change of certificate or trust:
/// connections made with the old one get no new tunnels.
#[derive(Clone, Debug)]
struct Configuration(ClientEntry);

impl PartialEq for Configuration {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Configuration {}

impl Hash for Configuration {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// Makes authenticated connections to next hops, for the pool.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    settings: Arc<Settings>,
    tls: TlsContexts,
}

impl Service<UpstreamKey> for Dialer {
    type Response = ClientStream;
    type Error = ConnectionError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    /// Always ready: the pool bounds how many dials run.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, key: UpstreamKey) -> Self::Future {
        let Self { settings, tls } = self.clone();
        Box::pin(async move {
            let source = if key.bind_source { DialSource::Own(key.source) } else { DialSource::Any };
            let stream = dial(key.next_hop, source, &settings.sockets, settings.connect_timeout)
                .await
                .map_err(|error| describe(error, key.next_hop))?;
            tls.connect(&key.tls.0, stream).await
        })
    }
}

/// Silence on the HBONE port has a usual suspect, which the reference names too.
fn describe(error: DialError, next_hop: SocketAddr) -> ConnectionError {
    match error {
        DialError::Timeout { .. } => ConnectionError::NetworkPolicy { port: next_hop.port(), source: error },
        error => ConnectionError::Dial(error),
    }
}

/// The pool of one worker.
pub(crate) fn pool(settings: &Arc<Settings>, tls: &TlsContexts) -> UpstreamPool {
    // Each step of a dial has a bound of its own, with a better explanation; the pool's is behind them all.
    let steps = settings.connect_timeout.saturating_add(settings.handshake_timeout.saturating_mul(2));
    let client = client::Builder::new()
        .keepalive(settings.keepalive_interval, settings.keepalive_timeout)
        .budget(settings.budget.clone());
    pool::Builder::new()
        .max_tunnels(settings.max_tunnels_per_connection)
        .max_total(settings.max_pooled_connections)
        .client(client)
        .idle_timeout(settings.pool_idle_timeout)
        .max_age(settings.pool_max_age)
        .connect_timeout(steps)
        .response_timeout(settings.response_timeout)
        .build(Dialer { settings: Arc::clone(settings), tls: tls.clone() })
}

/// What a failure of the pool means for a connection.
pub(super) fn failure(error: PoolError<ConnectionError>) -> ConnectionError {
    match error {
        PoolError::Connect(error @ ConnectError::OverBudget) => ConnectionError::Pool(Box::new(error)),
        PoolError::Connect(error) => match error.status() {
            Some(status) => ConnectionError::HttpStatus(status),
            None => ConnectionError::http2(error),
        },
        PoolError::Backoff { cause, at, .. } => {
            ConnectionError::Remembered { ago: at.elapsed(), source: Arc::new(dial_failure(cause)) }
        }
        PoolError::ConnectTimeout(limit) => ConnectionError::Stalled { step: "connection setup", limit },
        PoolError::Dial(error) => dial_failure(error),
        PoolError::ResponseTimeout(limit) => ConnectionError::Stalled { step: "answer to CONNECT", limit },
        error => ConnectionError::Pool(Box::new(error)),
    }
}

fn dial_failure(error: pool::DialError<ConnectionError>) -> ConnectionError {
    match error {
        pool::DialError::Connector(error) => ConnectionError::Shared(error),
        pool::DialError::Handshake(error) => ConnectionError::http2(error),
        pool::DialError::Timeout(limit) => ConnectionError::Stalled { step: "connection setup", limit },
        error => ConnectionError::Pool(Box::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use mesh_identity::{ExpectedPeer, testing::Authority};
    use mesh_policy::MissingPolicy;

    use super::*;
    use crate::state::{Change, StateStore};

    const CART: &str = "spiffe://example.org/ns/shop/sa/cart";

    fn cart(pod: &str, address: IpAddr) -> Workload {
        let mut workload =
            Workload::new(format!("c//Pod/shop/{pod}"), "example.org", "shop", "cart").unwrap();
        workload.addresses = vec![address];
        workload
    }

    async fn config(tls: &TlsContexts) -> ClientEntry {
        let peers = ExpectedPeer::exact([CART.parse().unwrap()]);
        tls.client(&CART.parse().unwrap(), &peers).await.unwrap()
    }

    fn route_to(next_hop: &str, upstream: &Arc<Workload>) -> HboneRoute {
        let next_hop: SocketAddr = next_hop.parse().unwrap();
        HboneRoute {
            next_hop,
            authority: next_hop.into(),
            workload: Arc::clone(upstream),
            service: None,
            expected_peer: ExpectedPeer::exact([CART.parse().unwrap()]),
            via_waypoint: false,
        }
    }

    /// hbone#68, routing#52
    #[tokio::test]
    async fn two_pods_with_one_service_account_never_share_a_connection() {
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let upstream = Arc::new(cart("upstream-0", "192.0.2.9".parse().unwrap()));
        let authority = Authority::new("example.org");
        let tls = TlsContexts::for_tests(Arc::new(authority.store([CART])));
        let route = route_to("192.0.2.9:15008", &upstream);
        let key = |source, pod: &str, config| UpstreamKey::new(source, &cart(pod, source), &route, config);

        let first = key(one, "cart-0", config(&tls).await);
        assert_eq!(first, key(one, "cart-0", config(&tls).await));
        assert_ne!(first, key(other, "cart-1", config(&tls).await));
        // An address that went from one pod to another does not bring the old one's connections along.
        assert_ne!(first, key(one, "cart-1", config(&tls).await));
        let successor = Arc::new(cart("upstream-1", "192.0.2.9".parse().unwrap()));
        let later = route_to("192.0.2.9:15008", &successor);
        assert_ne!(first, UpstreamKey::new(one, &cart("cart-0", one), &later, config(&tls).await));
    }

    /// hbone#74
    #[tokio::test]
    async fn a_rotated_certificate_retires_connections() {
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let authority = Authority::new("example.org");
        let store = authority.store([CART]);
        let tls = TlsContexts::for_tests(Arc::new(store.clone()));
        let workload = cart("cart-0", source);
        let route = route_to("192.0.2.9:15008", &Arc::new(cart("upstream-0", "192.0.2.9".parse().unwrap())));
        let before = UpstreamKey::new(source, &workload, &route, config(&tls).await);
        store.insert(authority.svid(CART));
        assert_ne!(before, UpstreamKey::new(source, &workload, &route, config(&tls).await));
    }

    #[tokio::test]
    async fn a_key_is_current_while_both_ends_are_where_they_were() {
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let state = StateStore::new(None, MissingPolicy::default());
        let (own, upstream) = (cart("cart-0", source), cart("upstream-0", "192.0.2.9".parse().unwrap()));
        let upsert = |workload: &Workload| Change::UpsertWorkload(Arc::new(workload.clone()));
        state.apply([upsert(&own), upsert(&upstream)]);
        let tls = TlsContexts::for_tests(Arc::new(Authority::new("example.org").store([CART])));
        let upstream = Arc::new(upstream);
        let key = |next_hop, config| UpstreamKey::new(source, &own, &route_to(next_hop, &upstream), config);
        let direct = key("192.0.2.9:15008", config(&tls).await);
        // Dialled by an address that leads to it.
        let indirect = key("192.0.2.77:15008", config(&tls).await);
        assert!(direct.is_current(&state.load()) && indirect.is_current(&state.load()));

        let mut moved = Workload::clone(&upstream);
        moved.addresses = vec!["192.0.2.10".parse().unwrap()];
        state.apply([upsert(&moved)]);
        assert!(!direct.is_current(&state.load()) && indirect.is_current(&state.load()));
        state.apply([upsert(&upstream), Change::RemoveWorkload(Arc::clone(&own.uid))]);
        assert!(!direct.is_current(&state.load()));
        state.apply([upsert(&own), Change::RemoveWorkload(Arc::clone(&upstream.uid))]);
        assert!(!direct.is_current(&state.load()) && !indirect.is_current(&state.load()));
    }

    #[test]
    fn an_answer_is_reported_by_its_status() {
        let limit = std::time::Duration::from_secs(10);
        assert!(matches!(failure(PoolError::ResponseTimeout(limit)), ConnectionError::Stalled { .. }));
        let denied = Arc::new(ConnectionError::Denied { reason: String::new() });
        let dial = pool::DialError::Connector(denied);
        assert!(matches!(failure(PoolError::Dial(dial.clone())), ConnectionError::Shared(_)));
        let at = std::time::Instant::now();
        let error = failure(PoolError::Backoff { cause: dial, at, retry_in: limit });
        assert!(matches!(error, ConnectionError::Remembered { .. }));
        assert_eq!(error.flag(), crate::telemetry::ResponseFlag::Deny);
    }
}
