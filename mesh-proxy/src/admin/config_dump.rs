use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use mesh_identity::{IdentitySource, SpiffeId};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::certificate::CertificateView;
use crate::{
    config::local::{EndpointDocument, LocalDocument, PolicyDocument, ServiceDocument, WorkloadDocument},
    state::{Snapshot, StateStore},
};

/// What the proxy knows of the mesh and of itself, in the shape that `istioctl` and Kiali read.
///
/// It reads one snapshot of the state, so writing a large dump takes no lock and delays no connection.
pub struct ConfigDump {
    state: Arc<StateStore>,
    static_config: ArcSwap<LocalDocument>,
    config: Value,
    version: BuildInfo,
    certificates: Option<(Arc<dyn IdentitySource>, Identities)>,
}

/// Whose certificates are shown.
type Identities = Box<dyn Fn(&Snapshot) -> Vec<SpiffeId> + Send + Sync>;

impl ConfigDump {
    /// Starts with what is shown always.
    pub fn builder(state: Arc<StateStore>) -> ConfigDumpBuilder {
        ConfigDumpBuilder(Self {
            state,
            static_config: ArcSwap::default(),
            config: Value::Object(serde_json::Map::new()),
            version: BuildInfo::default(),
            certificates: None,
        })
    }

    /// Replaces what is shown as the local configuration.
    pub fn replace_static_config(&self, document: Arc<LocalDocument>) {
        self.static_config.store(document);
    }

    /// Writes the dump as indented JSON. Costs time and memory in proportion to the state.
    pub(super) fn render(&self) -> serde_json::Result<Vec<u8>> {
        let snapshot = self.state.load();
        serde_json::to_vec_pretty(&Document {
            certificates: self.certificates(&snapshot),
            config: &self.config,
            policies: Policies(&snapshot),
            services: Services(&snapshot),
            staged_services: StagedServices(&snapshot),
            static_config: &self.static_config.load(),
            version: &self.version,
            workloads: Workloads(&snapshot),
        })
    }

    fn certificates(&self, snapshot: &Snapshot) -> Vec<CertificateView> {
        let Some((source, identities)) = &self.certificates else { return Vec::new() };
        // A source that knows how its identities are shows them all, those without a certificate and why included.
        if let Some(mut statuses) = source.statuses() {
            statuses.sort_unstable_by(|a, b| a.id.cmp(&b.id));
            return statuses.iter().map(|status| CertificateView::with_status(status, &**source)).collect();
        }
        let mut identities = identities(snapshot);
        identities.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        identities.dedup();
        identities.iter().map(|id| CertificateView::new(id, &**source)).collect()
    }
}

impl fmt::Debug for ConfigDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigDump").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Builds a [`ConfigDump`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ConfigDumpBuilder(ConfigDump);

impl ConfigDumpBuilder {
    /// Shows the settings the process runs with. Leave out what is secret.
    ///
    /// Settings that cannot be written as JSON are shown as their error.
    pub fn config(mut self, config: &impl Serialize) -> Self {
        self.0.config = serde_json::to_value(config).unwrap_or_else(|error| Value::String(error.to_string()));
        self
    }

    /// Shows what was built. Default: nothing is known about it.
    pub fn version(mut self, version: BuildInfo) -> Self {
        self.0.version = version;
        self
    }

    /// Shows the certificates of `source`: of all its identities if it lists them, or of those that `identities` picks.
    /// Private keys are never shown.
    pub fn certificates(
        mut self,
        source: Arc<dyn IdentitySource>,
        identities: impl Fn(&Snapshot) -> Vec<SpiffeId> + Send + Sync + 'static,
    ) -> Self {
        self.0.certificates = Some((source, Box::new(identities)));
        self
    }

    /// Builds the dump.
    pub fn build(self) -> ConfigDump {
        self.0
    }
}

/// What a binary was built from; empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    /// The version of the program.
    pub version: String,
    /// The revision of its sources.
    pub git_revision: String,
    /// The version of the compiler.
    pub rust_version: String,
    /// The profile, `release` for instance.
    pub build_profile: String,
    /// Whether the sources differed from that revision: `Clean` or `Modified`.
    pub build_status: String,
    /// The version of the mesh it is part of.
    pub istio_version: String,
    /// The cryptography it uses.
    pub crypto_provider: String,
}

impl fmt::Display for BuildInfo {
    /// Writes one line, as the `version` command does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "version.BuildInfo{{Version:{:?}, GitRevision:{:?}, RustVersion:{:?}, BuildProfile:{:?}, BuildStatus:{:?}, \
             IstioVersion:{:?}, CryptoProvider:{:?}}}",
            self.version,
            self.git_revision,
            self.rust_version,
            self.build_profile,
            self.build_status,
            self.istio_version,
            self.crypto_provider
        )
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    certificates: Vec<CertificateView>,
    config: &'a Value,
    policies: Policies<'a>,
    services: Services<'a>,
    staged_services: StagedServices<'a>,
    static_config: &'a LocalDocument,
    version: &'a BuildInfo,
    workloads: Workloads<'a>,
}

/// Policies by name, one at a time.
struct Policies<'a>(&'a Snapshot);

impl Serialize for Policies<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut policies: Vec<_> = self.0.policies().iter().collect();
        policies.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        serializer.collect_seq(policies.into_iter().map(PolicyDocument::from))
    }
}

/// Services by host name, then namespace, one at a time.
struct Services<'a>(&'a Snapshot);

impl Serialize for Services<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut services: Vec<_> = self.0.services().collect();
        services.sort_unstable_by_key(|service| (service.hostname(), service.namespace()));
        let view = |service| ServiceDocument::new(service, self.0.endpoints(&service.id));
        serializer.collect_seq(services.into_iter().map(|service| view(service)))
    }
}

/// Endpoints whose service is not known yet.
struct StagedServices<'a>(&'a Snapshot);

impl Serialize for StagedServices<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let staged: BTreeMap<_, _> = self.0.staged_endpoints().collect();
        let view = |(service, endpoints): (&_, &_)| {
            (ToString::to_string(service), EndpointDocument::table(endpoints))
        };
        serializer.collect_map(staged.into_iter().map(view))
    }
}

/// Workloads by uid, one at a time.
struct Workloads<'a>(&'a Snapshot);

impl Serialize for Workloads<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut workloads: Vec<_> = self.0.workloads().collect();
        workloads.sort_unstable_by_key(|workload| &workload.uid);
        serializer.collect_seq(workloads.into_iter().map(|workload| WorkloadDocument::from(&**workload)))
    }
}
