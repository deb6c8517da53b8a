//! Who may do what.

use std::fmt;

use super::{Extent, Metadata, Selector, TargetRef};

/// An AuthorizationPolicy.
///
/// It matches if any of its rules does. Without rules it never matches, so an ALLOW policy without rules denies
/// everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// What it is called.
    pub metadata: Metadata,
    /// The workloads it applies to; if absent, and no target is named, all of its namespace or, in the root
    /// namespace, of the mesh.
    pub selector: Option<Selector>,
    /// The one target of `targetRef`, which `targetRefs` replaced.
    pub target_ref: Option<TargetRef>,
    /// The gateways and services it applies to.
    pub target_refs: Vec<TargetRef>,
    /// What a match leads to.
    pub action: Action,
    /// Whom an action of CUSTOM asks.
    pub provider: Option<Provider>,
    /// Any of them has to match.
    pub rules: Vec<Rule>,
    /// Whether it applies further than it says.
    pub extent: Extent,
}

impl AuthorizationPolicy {
    /// All targets, whichever field names them.
    pub fn targets(&self) -> impl Iterator<Item = &TargetRef> {
        self.target_ref.iter().chain(&self.target_refs)
    }
}

/// What an AuthorizationPolicy does to what it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "UPPERCASE"))]
pub enum Action {
    /// Allows it. The first ALLOW policy also denies what none of them matches.
    #[default]
    Allow,
    /// Notes it, and decides nothing.
    Audit,
    /// Asks the provider, which may deny.
    Custom,
    /// Denies it.
    Deny,
}

/// Displayed as it is written in objects.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Audit => "AUDIT",
            Self::Custom => "CUSTOM",
            Self::Deny => "DENY",
        })
    }
}

/// Whom a policy with the action CUSTOM asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Provider {
    /// The name of an extension provider of the mesh.
    pub name: String,
}

/// Matches if any source does, any operation does, and all conditions do. A list that is empty does not
/// restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Where the request may come from: `from[].source`.
    pub from: Vec<Source>,
    /// What it may do: `to[].operation`.
    pub to: Vec<Operation>,
    /// What else has to hold.
    pub when: Vec<Condition>,
}

/// Where a request comes from. All fields have to match: one of the values of a field, none of those of its
/// negation. A field that is empty does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Source {
    /// Identities of the peer, written without `spiffe://`.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub principals: Vec<String>,
    /// Not those identities of the peer.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_principals: Vec<String>,
    /// Issuer and subject of a validated token, joined by a slash.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub request_principals: Vec<String>,
    /// Not those issuers and subjects.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_request_principals: Vec<String>,
    /// Namespaces of the peer.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub namespaces: Vec<String>,
    /// Not those namespaces of the peer.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_namespaces: Vec<String>,
    /// Service accounts of the peer: `name`, or `namespace/name`.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub service_accounts: Vec<String>,
    /// Not those service accounts of the peer.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_service_accounts: Vec<String>,
    /// Trust domains of the peer.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub trust_domains: Vec<String>,
    /// Not those trust domains of the peer.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_trust_domains: Vec<String>,
    /// Addresses and ranges of the peer.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub ip_blocks: Vec<String>,
    /// Not those addresses and ranges of the peer.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_ip_blocks: Vec<String>,
    /// Addresses and ranges of the client, as trusted proxies tell.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub remote_ip_blocks: Vec<String>,
    /// Not those addresses and ranges of the client.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_remote_ip_blocks: Vec<String>,
}

/// What a request does. Fields combine as those of a [`Source`] do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Operation {
    /// The authority that the request names, with its port if it has one.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub hosts: Vec<String>,
    /// Not those authorities.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_hosts: Vec<String>,
    /// The port of the destination.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub ports: Vec<String>,
    /// Not those ports of the destination.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_ports: Vec<String>,
    /// The method of the request.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub methods: Vec<String>,
    /// Not those methods.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_methods: Vec<String>,
    /// The path of the request, without its query.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub paths: Vec<String>,
    /// Not those paths.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_paths: Vec<String>,
}

/// A further attribute: one of the values has to match, and none of the negated ones may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "crd", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Condition {
    /// The name of the attribute, such as `request.headers[x-tenant]`.
    pub key: String,
    /// One of them has to match.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub values: Vec<String>,
    /// None of them may match.
    #[cfg_attr(feature = "crd", serde(skip_serializing_if = "Vec::is_empty"))]
    pub not_values: Vec<String>,
}
