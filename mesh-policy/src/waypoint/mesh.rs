//! What policies depend on beside themselves.

use std::collections::BTreeMap;

/// The settings of a mesh that policies at waypoints depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Policies in this namespace may apply to all of the mesh.
    pub root_namespace: String,
    /// The trust domain of the mesh, which `cluster.local` in a principal stands for.
    pub trust_domain: String,
    /// Trust domains whose identities are taken for those of the mesh's own.
    pub trust_domain_aliases: Vec<String>,
    /// Whom policies with the action CUSTOM may ask, by name.
    pub providers: BTreeMap<String, ExtensionProvider>,
    /// Whether policies of one destination may ask more than one provider. Istio denies otherwise; here only
    /// [`Semantics::Istio`](crate::Semantics::Istio) does.
    pub multiple_providers: bool,
    /// Whether policies with a selector apply to gateways that are not waypoints.
    pub gateway_selectors: bool,
}

impl Mesh {
    /// A mesh with Istio's defaults: the root namespace `istio-system`, no aliases, no providers.
    pub fn new(trust_domain: impl Into<String>) -> Self {
        Self {
            root_namespace: "istio-system".to_owned(),
            trust_domain: trust_domain.into(),
            trust_domain_aliases: Vec::new(),
            providers: BTreeMap::new(),
            multiple_providers: false,
            gateway_selectors: true,
        }
    }

    /// The mesh's own trust domain, and then its aliases.
    pub(crate) fn trust_domains(&self) -> impl Iterator<Item = &str> {
        [&self.trust_domain].into_iter().chain(&self.trust_domain_aliases).map(String::as_str)
    }
}

/// An external authorizer that the caller knows how to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionProvider {
    /// How it is asked.
    pub protocol: ProviderProtocol,
    /// Whether a request is let on when the provider gives no answer.
    pub fail_open: bool,
}

/// How an external authorizer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderProtocol {
    /// By gRPC, about requests and streams.
    Grpc,
    /// By a HTTP request of its own, about requests only.
    Http,
}
