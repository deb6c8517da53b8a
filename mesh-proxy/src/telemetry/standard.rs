use std::{
    array,
    fmt::{self, Debug, Display},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use mesh_identity::{IdentitySource, Revocation, RotationMetrics};
use prometheus_client::{collector::Collector, encoding::text, registry::Registry};
use tokio::time::Instant;

use super::{
    ConnectionMeta, ConnectionObserver, Direction, EarlyDenial, Event, Observer, ResetBy, ResponseFlag,
    access_log,
    exposition::{BuildMetrics, CustomCounter, EventMetrics, SocketMetrics, TrafficMetrics},
    identities::{CertificateMetrics, RotationCollector},
    process::ProcessMetrics,
    revocation::RevocationMetrics,
    series::{Series, Shard, per_direction},
    tunnels::TunnelMetrics,
};
use crate::Settings;

/// More than machines usually have cores; threads beyond it share.
const SHARDS: usize = 32;
/// Ten times the services most meshes have beyond what discovery tells a node about.
const BAGGAGE_LIMIT: usize = 1000;

/// Counts connections as Istio's standard metrics do and writes Istio's access log.
///
/// Threads are spread over shards, so that workers share no lock and no counter; [`encode`](Self::encode) adds the
/// shards up, away from the data path.
///
/// # Metrics
///
/// The standard ones: `istio_tcp_connections_{opened,closed,failed}_total`,
/// `istio_tcp_{received,sent}_bytes_total`, `istio_tcp_sockets_open`, `istio_build`, `process_{open,max}_fds`.
/// The `tokio_*` series of Istio's proxy are left out: they describe a runtime of another kind.
///
/// Our own count what the standard ones do not see:
///
/// | name | labels | counts |
/// |---|---|---|
/// | `mesh_accept_failures_total` | reporter | connections that a listener could not take |
/// | `mesh_dry_run_denials_total` | | connections that a policy in dry-run mode would have denied |
/// | `mesh_early_denials_total` | reporter | connections that ended before their ends were known |
/// | `mesh_hbone_connection_failures_total` | kind | HBONE connections of peers that ended other than in good order: `flood`, `goaway`, `io`, `keepalive`, `protocol` or `untrusted` |
/// | `mesh_folded_sources_total` | | new self-descriptions of peers past the limit, labelled `unknown` |
/// | `mesh_local_config_applied_total` | | changes of the local configuration that took effect |
/// | `mesh_local_config_rejected_total` | | changes of the local configuration that did not |
/// | `mesh_missing_policy_denials_total` | | connections denied since a listed policy never arrived |
/// | `mesh_own_certificate_revocations_total` | | certificates of ours found revoked |
/// | `mesh_source_address_not_preserved_total` | | connections on which the application sees an address of ours |
///
/// With [`identities`](TelemetryBuilder::identities), of certificates, wherever they come from:
///
/// | name | labels | is |
/// |---|---|---|
/// | `mesh_identity_certificate_expiry_timestamp_seconds` | | when the first certificate ends |
/// | `mesh_identity_identities` | state | identities with and without a certificate |
/// | `mesh_identity_root_expiry_timestamp_seconds` | trust_domain | when the first root ends |
///
/// With [`rotation`](TelemetryBuilder::rotation), of the calls for certificates:
///
/// | name | labels | is |
/// |---|---|---|
/// | `mesh_identity_authority_up` | | 0 while the authority is not reached |
/// | `mesh_identity_calls_in_flight` | | calls under way |
/// | `mesh_identity_calls_queued` | priority | calls that wait for those to end |
/// | `mesh_identity_issuances_total` | result | certificates issued, and attempts by what failed |
/// | `mesh_identity_last_issuance_timestamp_seconds` | | when a certificate was last issued |
///
/// With [`tunnels`](TelemetryBuilder::tunnels), of what tunnels hold:
///
/// | name | labels | is |
/// |---|---|---|
/// | `mesh_hbone_over_budget_total` | | tunnels refused, either way, while unread bytes were at their limit |
/// | `mesh_hbone_refused_requests_total` | | requests that a connection refused by itself: none for a tunnel, or beyond its bounds |
/// | `mesh_hbone_unread_bytes` | | bytes held that nobody has read |
/// | `mesh_hbone_unread_bytes_limit` | | how many are allowed |
///
/// With [`revocation`](TelemetryBuilder::revocation), of revocation lists:
///
/// | name | labels | is |
/// |---|---|---|
/// | `istio_crl_policy_rejections_total` | reporter | peers refused in a handshake, or cut off later, for a revoked certificate |
/// | `istio_crl_untracked_connections_total` | reporter | 0: who cannot be watched over is refused |
/// | `mesh_revocation_lists` | | lists in use |
/// | `mesh_revocation_loads_total` | result | lists replaced, and attempts at it that failed |
/// | `mesh_revocation_next_update_timestamp_seconds` | | when the first list should be replaced |
/// | `mesh_revocation_revoked_certificates` | | certificates that the lists name |
/// | `mesh_revocation_uncertain_peers_total` | standing | peers taken though a list is `stale` or the issuer `unknown` to all lists |
///
/// # Cardinality
///
/// Label values come from discovery and from proved identities, which the mesh's operator controls, and from the
/// baggage of peers that discovery does not know, which anybody may choose. Of the latter, each shard labels
/// [`baggage_limit`](TelemetryBuilder::baggage_limit) different ones and counts further ones as `unknown`.
#[derive(Debug)]
pub struct Telemetry {
    shards: Arc<Shards>,
    registry: Registry,
}

impl Telemetry {
    /// Starts from the defaults.
    pub fn builder() -> TelemetryBuilder {
        TelemetryBuilder::default()
    }

    /// Writes every metric as OpenMetrics text.
    ///
    /// Costs O(series); connections go on meanwhile.
    ///
    /// # Errors
    ///
    /// If a value cannot be written, such as a gauge beyond what the format can say.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut body = String::new();
        text::encode(&mut body, &self.registry)?;
        Ok(body)
    }
}

impl Observer for Telemetry {
    fn connection_opened(&self, meta: ConnectionMeta) -> Box<dyn ConnectionObserver> {
        let series = self.shards.current().open(&meta);
        access_log::opened(&meta);
        Box::new(OpenConnection {
            meta,
            series,
            since: Instant::now(),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            reset: OnceLock::new(),
        })
    }

    fn connection_refused(&self, denial: &EarlyDenial<'_>) {
        increment(per_direction(&self.shards.current().events.early_denials, denial.direction));
        access_log::refused(denial);
    }

    fn socket_opened(&self, direction: Direction) {
        self.shards.current().socket_opened(direction);
    }

    fn socket_closed(&self, direction: Direction) {
        self.shards.current().socket_closed(direction);
    }

    fn event(&self, event: &Event<'_>) {
        let events = &self.shards.current().events;
        match *event {
            Event::AcceptFailed { direction, error } => {
                increment(per_direction(&events.accept_failures, direction));
                tracing::warn!(direction = direction.as_str(), %error, "connection could not be accepted");
            }
            Event::DryRunDenied { source, destination, policy } => {
                increment(&events.dry_run_denials);
                if let Some(left_out) = events.lines.dry_run_denied.admit(Instant::now()) {
                    tracing::info!(
                        src.addr = %source, dst.addr = %destination, %policy, left_out, "dry run: policy would deny"
                    );
                }
            }
            Event::HboneConnectionFailed { source, failure, error } => {
                events.hbone_failures(failure).into_iter().for_each(increment);
                if !failure.is_misbehaviour() {
                    tracing::debug!(src.addr = %source, %error, "hbone connection failed");
                } else if let Some(left_out) = events.lines.hbone_failed.admit(Instant::now()) {
                    tracing::warn!(src.addr = %source, %error, left_out, "peer misbehaves on an hbone connection");
                }
            }
            Event::LocalConfigApplied => {
                increment(&events.local_config_applied);
                tracing::info!("local configuration applied");
            }
            Event::LocalConfigRejected { error } => {
                increment(&events.local_config_rejected);
                tracing::error!(%error, "local configuration rejected, the last good one stays in force");
            }
            Event::OwnCertificateRevoked { identity, error } => {
                increment(&events.own_certificates_revoked);
                tracing::warn!(%identity, %error, "own certificate is revoked: peers that have the list refuse it");
            }
            Event::PolicyMissing { policy } => {
                increment(&events.missing_policies);
                if let Some(left_out) = events.lines.policy_missing.admit(Instant::now()) {
                    tracing::warn!(
                        %policy, left_out, "connection denied: a policy of its workload has not arrived"
                    );
                }
            }
            Event::SourceAddressNotPreserved { source, error } => {
                increment(&events.sources_not_preserved);
                if tracing::enabled!(tracing::Level::DEBUG)
                    && let Some(left_out) = events.lines.source_not_preserved.admit(Instant::now())
                {
                    tracing::debug!(%source, %error, left_out, "source address not preserved");
                }
            }
        }
    }
}

/// Builds [`Telemetry`].
#[must_use]
#[derive(Debug)]
pub struct TelemetryBuilder {
    component: String,
    version: String,
    baggage_limit: usize,
    counters: Vec<CustomCounter>,
    identities: Option<CertificateMetrics>,
    rotation: Option<RotationCollector>,
    revocation: Option<Revocation>,
    tunnels: Option<TunnelMetrics>,
}

impl Default for TelemetryBuilder {
    fn default() -> Self {
        Self {
            component: "ztunnel".to_owned(),
            version: "unknown".to_owned(),
            baggage_limit: BAGGAGE_LIMIT,
            counters: Vec::new(),
            identities: None,
            rotation: None,
            revocation: None,
            tunnels: None,
        }
    }
}

impl TelemetryBuilder {
    /// Names what runs, for `istio_build`. Default `ztunnel`.
    pub fn component(mut self, component: impl Into<String>) -> Self {
        self.component = component.into();
        self
    }

    /// Names the version of the mesh, for `istio_build`. Default `unknown`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Bounds how many sources a shard labels by their own words; further ones are `unknown`. Default 1000.
    pub fn baggage_limit(mut self, baggage_limit: usize) -> Self {
        self.baggage_limit = baggage_limit;
        self
    }

    /// Adds a counter kept elsewhere; `read` is called for each scrape. `name` comes without `_total`.
    pub fn counter(
        mut self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        self.counters.push(CustomCounter::new(name, help, read));
        self
    }

    /// Shows the certificates and roots of a source, if it tells [how they are](IdentitySource::statuses); `read` is called for
    /// each scrape, and may have nothing yet.
    pub fn identities(
        mut self,
        read: impl Fn() -> Option<Arc<dyn IdentitySource>> + Send + Sync + 'static,
    ) -> Self {
        self.identities = Some(CertificateMetrics(Box::new(read)));
        self
    }

    /// Shows the calls for certificates; `read` is called for each scrape, and may have nothing yet.
    pub fn rotation(mut self, read: impl Fn() -> Option<RotationMetrics> + Send + Sync + 'static) -> Self {
        self.rotation = Some(RotationCollector(Box::new(read)));
        self
    }

    /// Shows what the tunnels of proxies with these settings, or clones of them, hold, and what they refuse for it.
    pub fn tunnels(mut self, settings: &Settings) -> Self {
        let (budget, refusals) = (settings.budget.clone(), settings.refusals.clone());
        self.tunnels = Some(TunnelMetrics { budget, refusals });
        self
    }

    /// Shows revocation lists and what came of them.
    pub fn revocation(mut self, revocation: Revocation) -> Self {
        self.revocation = Some(revocation);
        self
    }

    /// Builds the observer.
    pub fn build(self) -> Telemetry {
        let shards = Arc::new(Shards { all: array::from_fn(|_| Shard::new(self.baggage_limit)) });
        let mut registry = Registry::default();
        let collectors: [Box<dyn Collector>; 5] = [
            Box::new(ProcessMetrics),
            Box::new(BuildMetrics::new(&self.component, &self.version)),
            Box::new(TrafficMetrics(Arc::clone(&shards))),
            Box::new(SocketMetrics(Arc::clone(&shards))),
            Box::new(EventMetrics(Arc::clone(&shards))),
        ];
        for collector in collectors {
            registry.register_collector(collector);
        }
        for counter in self.counters {
            registry.register_collector(Box::new(counter));
        }
        if let Some(identities) = self.identities {
            registry.register_collector(Box::new(identities));
        }
        if let Some(rotation) = self.rotation {
            registry.register_collector(Box::new(rotation));
        }
        if let Some(tunnels) = self.tunnels {
            registry.register_collector(Box::new(tunnels));
        }
        if let Some(revocation) = self.revocation {
            registry.register_collector(Box::new(RevocationMetrics(revocation)));
        }
        Telemetry { shards, registry }
    }
}

/// Every shard; each thread counts in one.
#[derive(Debug)]
pub(super) struct Shards {
    all: [Shard; SHARDS],
}

impl Shards {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.all.iter()
    }

    /// The shard of this thread.
    fn current(&self) -> &Shard {
        let [first, ..] = &self.all;
        self.all.get(thread_number() % SHARDS).unwrap_or(first)
    }
}

/// Numbers threads in the order in which they first ask.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One connection being counted.
struct OpenConnection {
    meta: ConnectionMeta,
    series: Arc<Series>,
    since: Instant,
    received: AtomicU64,
    sent: AtomicU64,
    reset: OnceLock<ResetBy>,
}

impl ConnectionObserver for OpenConnection {
    fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.series.received(bytes);
    }

    fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.series.sent(bytes);
    }

    fn reset(&self, by: ResetBy) {
        // The first stays.
        let _ = self.reset.set(by);
    }

    fn closed(self: Box<Self>, flag: ResponseFlag, error: Option<&dyn Display>) {
        self.series.closed(flag);
        let end = access_log::End {
            received: self.received.into_inner(),
            sent: self.sent.into_inner(),
            duration: self.since.elapsed(),
            reset: self.reset.into_inner(),
        };
        access_log::closed(&self.meta, &end, error);
    }
}
